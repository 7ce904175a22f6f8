//! Normalisations, norms and softmax as layers: the function is the operator's formula, and relevance takes what is divided
//! by as a constant.

use approx::assert_abs_diff_eq;
use relprop::canonical::{Options, canonicalize};
use relprop::composite::Composite;
use relprop::graph::{Elementary, Normalization, Op, Padding, Reduction, Sliding, ValueId};
use relprop::{ErrorKind, Network, reference};

use crate::writer::{ADD, DIV, MUL, SOFTMAX, SUB, Writer, numbers};
use crate::{kinds, run};

/// Relevance at the first input of one sample.
fn relevance(network: &Network, preset: &str, x: &[f64], start: &[f64]) -> Vec<f64> {
    let rules = Composite::preset(preset).unwrap().assign(network).unwrap();
    reference::explain(network, &rules, &[x], start).unwrap().at(network.inputs()[0].value).to_vec()
}

fn sample(count: usize) -> Vec<f64> {
    numbers(count).into_iter().map(|x| 1.5 * f64::from(x) + 0.25).collect()
}

/// Four channels of three places.
const SHAPE: [usize; 2] = [4, 3];
const COUNT: usize = 12;
const EPSILON: f32 = 0.0625;
const SCALE: [f32; 4] = [1.5, -0.5, 2.0, 0.75];

/// What an operator makes of x, with all that it divides by taken from another x: linear in the first.
type Held = Box<dyn Fn(&[f64], &[f64]) -> Vec<f64>>;

/// (x − μ) / √(variance + ε) in groups of `width`, the deviation that of `at`.
fn normal(width: usize, is_centred: bool) -> Held {
    let mean = move |group: &[f64]| if is_centred { group.iter().sum::<f64>() / width as f64 } else { 0.0 };
    Box::new(move |x, at| {
        let one = |(x, at): (&[f64], &[f64])| {
            let variance = at.iter().map(|a| (a - mean(at)).powi(2)).sum::<f64>() / width as f64;
            x.iter().map(|element| (element - mean(x)) / (variance + f64::from(EPSILON)).sqrt()).collect::<Vec<f64>>()
        };
        x.chunks(width).zip(at.chunks(width)).flat_map(one).collect()
    })
}

/// x / ‖x‖ₚ in groups of `width`.
fn by_norm(width: usize, p: i32) -> Held {
    Box::new(move |x, at| {
        let norm = |at: &[f64]| at.iter().map(|a| a.abs().powi(p)).sum::<f64>().powf(1.0 / f64::from(p));
        let groups = x.chunks(width).zip(at.chunks(width));
        groups.flat_map(|(x, at)| x.iter().map(|x| x / norm(at)).collect::<Vec<f64>>()).collect()
    })
}

/// ONNX: channels max(0, c − ⌊(size − 1) / 2⌋) to min(C − 1, c + ⌈(size − 1) / 2⌉).
fn local_response(size: usize) -> Held {
    Box::new(move |x, at| {
        let (channels, places) = (SHAPE[0], SHAPE[1]);
        let factor = |c: usize, place: usize| {
            let channels = c.saturating_sub((size - 1) / 2)..=(c + (size - 1).div_ceil(2)).min(channels - 1);
            let squares: f64 = channels.map(|s| at[s * places + place].powi(2)).sum();
            (1.5 + 0.75 / size as f64 * squares).powf(-0.75)
        };
        (0..COUNT).map(|i| x[i] * factor(i / places, i % places)).collect()
    })
}

fn scaled(held: Held, of: fn(usize) -> f32) -> Held {
    Box::new(move |x, at| held(x, at).into_iter().enumerate().map(|(i, y)| y * f64::from(of(i))).collect())
}

/// Each operator with its formula; scale and bias stand in the graph.
fn operators(graph: &mut Writer) -> Vec<(&'static str, Op, Vec<ValueId>, Held)> {
    let op = |normalization| Op::Normalization(normalization);
    let zeros = |graph: &mut Writer, count: usize| graph.float(&[count], &vec![0.0; count]);
    let channels = [graph.float(&[4], &SCALE), zeros(graph, 4)];
    let groups = [graph.float(&[2], &SCALE[..2]), zeros(graph, 2)];
    let places = [graph.float(&[3], &SCALE[..3]), zeros(graph, 3)];
    let all = [graph.float(&[4, 1], &SCALE), zeros(graph, 3)];
    let layer = |axis, centred| op(Normalization::Layer { axis, epsilon: EPSILON, centred });
    let group = |by_group| op(Normalization::Group { groups: 2, epsilon: EPSILON, by_group });
    let response = |size| op(Normalization::LocalResponse { size, alpha: 0.75, beta: 0.75, bias: 1.5 });
    let by_channel: fn(usize) -> f32 = |i| SCALE[i / 3];
    let by_place: fn(usize) -> f32 = |i| SCALE[i % 3];
    vec![
        (
            "instance",
            op(Normalization::Instance { epsilon: EPSILON }),
            channels.to_vec(),
            scaled(normal(3, true), by_channel),
        ),
        ("layer", layer(-1, true), places.to_vec(), scaled(normal(3, true), by_place)),
        ("layer, whole sample", layer(1, true), all.to_vec(), scaled(normal(12, true), by_channel)),
        ("layer, no bias", layer(-1, true), places[..1].to_vec(), scaled(normal(3, true), by_place)),
        ("rms", layer(2, false), places[..1].to_vec(), scaled(normal(3, false), by_place)),
        ("group, by channel", group(false), channels.to_vec(), scaled(normal(6, true), by_channel)),
        ("group, by group", group(true), groups.to_vec(), scaled(normal(6, true), |i| SCALE[i / 6])),
        ("response, one", response(1), vec![], local_response(1)),
        ("response, even", response(2), vec![], local_response(2)),
        ("response, odd", response(3), vec![], local_response(3)),
        ("response, four", response(4), vec![], local_response(4)),
        ("1-norm", op(Normalization::Norm { axis: -1, p: 1 }), vec![], by_norm(3, 1)),
        ("2-norm", op(Normalization::Norm { axis: 2, p: 2 }), vec![], by_norm(3, 2)),
    ]
}

/// x W for the weight that [`Writer::dense`] has.
fn dense(x: &[f64], inputs: usize, outputs: usize) -> Vec<f64> {
    let weight = |i: usize| ((i * 7 + 3) % 11) as f64 / 4.0 - 1.25;
    let row = |x: &[f64]| -> Vec<f64> {
        (0..outputs).map(|o| (0..inputs).map(|i| x[i] * weight(i * outputs + o)).sum()).collect()
    };
    x.chunks(inputs).flat_map(row).collect()
}

/// A dense layer over the places, the operator, a dense layer over all.
fn between_dense_layers(mut graph: Writer, op: Op, parameters: &[ValueId]) -> Network {
    let x = graph.samples("x", &SHAPE);
    let mixed = graph.dense("mixed", x, 3, 3);
    let y = graph.node("y", op, &[&[mixed], parameters].concat());
    let open = graph.integers(&[-1, COUNT as i64]);
    let flat = graph.node("flat", Op::Reshape { zero_copies: true }, &[y, open]);
    let z = graph.dense("z", flat, COUNT, 2);
    graph.network(z)
}

#[test]
fn normalisations_are_their_formulas_and_relevance_holds_the_divisor() {
    let x = sample(COUNT);
    for index in 0..operators(&mut Writer::default()).len() {
        let mut graph = Writer::default();
        let (name, op, parameters, held) = operators(&mut graph).swap_remove(index);
        let network = between_dense_layers(graph, op, &parameters);
        let at = dense(&x, 3, 3);
        let function = |x: &[f64]| dense(&held(&dense(x, 3, 3), &at), COUNT, 2);
        let outputs = function(&x);
        assert_abs_diff_eq!(run(&network, &x)[..], outputs[..], epsilon = 1e-10);

        // A linear map of x where the divisor is held: LRP-0 is x times its Jacobian, each output's row by R / f.
        let start = [2.0, -3.0];
        let unit = |i: usize| (0..COUNT).map(|j| if i == j { 1.0 } else { 0.0 }).collect::<Vec<f64>>();
        let expected: Vec<f64> = (0..COUNT)
            .map(|i| {
                let column = function(&unit(i));
                x[i] * (0..2).map(|o| column[o] * start[o] / outputs[o]).sum::<f64>()
            })
            .collect();
        let found = relevance(&network, "zero", &x, &start);
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert!((found - expected).abs() <= 1e-8, "{name}, element {i}: {found}, not {expected}");
        }
        assert_abs_diff_eq!(found.iter().sum::<f64>(), start.iter().sum::<f64>(), epsilon = 1e-8);

        // With derivatives throughout it is the whole function's, the divisor's part included.
        let gradient = relevance(&network, "gradient", &x, &start);
        for (i, slope) in gradient.iter().enumerate() {
            let moved = |by: f64| {
                let mut moved = x.clone();
                moved[i] += by;
                run(&network, &moved).iter().zip(start).map(|(f, r)| f * r).sum::<f64>()
            };
            let difference = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!((slope - difference).abs() <= 1e-5, "{name}, slope {i}: {slope}, not {difference}");
        }
    }
}

/// Ali et al. 2022: Rᵢ = xᵢ (qᵢ − mean q) with q = R / (x − μ).
#[test]
fn a_layer_norm_follows_the_rule_of_its_paper() {
    let mut graph = Writer::default();
    let x = graph.samples("x", &[4]);
    let ones = graph.float(&[4], &[1.0; 4]);
    let y =
        graph.node("y", Op::Normalization(Normalization::Layer { axis: -1, epsilon: 1e-5, centred: true }), &[x, ones]);
    let network = graph.network(y);
    let (x, r) = ([3.0, -1.0, 0.5, 2.0], [1.0, 2.0, -0.5, 0.25]);
    let mean = x.iter().sum::<f64>() / 4.0;
    let q: Vec<f64> = x.iter().zip(r).map(|(x, r)| r / (x - mean)).collect();
    let q_mean = q.iter().sum::<f64>() / 4.0;
    let expected: Vec<f64> = x.iter().zip(&q).map(|(x, q)| x * (q - q_mean)).collect();
    assert_abs_diff_eq!(relevance(&network, "zero", &x, &r)[..], expected[..], epsilon = 1e-12);
    // A preset adds 1e-6 to the deviations, 0.6 and more, and to the mean.
    assert_abs_diff_eq!(relevance(&network, "epsilon-plus", &x, &r)[..], expected[..], epsilon = 5e-5);
}

/// Means beyond what squares in float32 could be told apart from: the deviations are squared, not the elements.
#[test]
fn a_wide_input_is_centred_before_it_is_squared() {
    let mut graph = Writer::default();
    let x = graph.samples("x", &[2, 64]);
    let parameters = [graph.float(&[2], &[1.0; 2]), graph.float(&[2], &[0.0; 2])];
    let op = Op::Normalization(Normalization::Instance { epsilon: 0.0 });
    let y = graph.node("y", op, &[x, parameters[0], parameters[1]]);
    let network = graph.network(y);
    let explainer =
        relprop::Explainer::new(network, &Composite::preset("epsilon").unwrap(), relprop::Backend::Cpu).unwrap();
    let deviation = |i: usize| if i.is_multiple_of(2) { 1.0 } else { -1.0 };
    let data = relprop::Tensor::from_fn([1, 2, 64], |i| 30_000.0 + deviation(i));
    let found = explainer.forward(&[relprop::Input::from(&data)]).unwrap();
    for (i, &found) in found.data().iter().enumerate() {
        assert_abs_diff_eq!(found, deviation(i), epsilon = 1e-6);
    }
}

#[test]
fn a_normalisation_spelled_out_is_the_operator() {
    let mut graph = Writer::default();
    let parameters = [graph.float(&[3], &SCALE[..3]), graph.float(&[3], &[0.5, -0.25, 1.0])];
    let op = Op::Normalization(Normalization::Layer { axis: -1, epsilon: EPSILON, centred: true });
    let whole = between_dense_layers(graph, op, &parameters);
    assert!(whole.notes()[0].contains("gate and gets no relevance"), "{:?}", whole.notes());
    for spelling in 0..3 {
        let mut graph = Writer::default();
        let x = graph.samples("x", &SHAPE);
        let mixed = graph.dense("mixed", x, 3, 3);
        let (axes, two, epsilon) = (graph.integers(&[-1]), graph.scalar(2.0), graph.scalar(EPSILON));
        let scale = graph.float(&[3], &SCALE[..3]);
        let bias = graph.float(&[3], &[0.5, -0.25, 1.0]);
        let mean = Op::Reduce { reduction: Reduction::Mean, keep_axes: true, empty_is_none: false };
        let middle = graph.node("middle", mean.clone(), &[mixed, axes]);
        let deviation = graph.node("deviation", SUB, &[mixed, middle]);
        let square = match spelling {
            0 => graph.node("square", Op::Pow, &[deviation, two]),
            _ => graph.node("square", MUL, &[deviation, deviation]),
        };
        let variance = graph.node("variance", mean, &[square, axes]);
        let sum = graph.node("sum", ADD, &[variance, epsilon]);
        let root = graph.node("root", Op::Elementary(Elementary::Sqrt), &[sum]);
        let y = match spelling {
            0 | 1 => {
                let y = graph.node("y", DIV, &[deviation, root]);
                graph.node("scaled", MUL, &[y, scale])
            }
            _ => {
                let inverse = graph.node("inverse", Op::Elementary(Elementary::Reciprocal), &[root]);
                let factor = graph.node("factor", MUL, &[inverse, scale]);
                graph.node("scaled", MUL, &[factor, deviation])
            }
        };
        let y = graph.node("moved", ADD, &[y, bias]);
        let open = graph.integers(&[-1, COUNT as i64]);
        let flat = graph.node("flat", Op::Reshape { zero_copies: true }, &[y, open]);
        let z = graph.dense("z", flat, COUNT, 2);
        let network = graph.network(z);
        let x = sample(COUNT);
        assert_abs_diff_eq!(run(&network, &x)[..], run(&whole, &x)[..], epsilon = 1e-10);
        for preset in ["epsilon-plus", "gamma", "gradient"] {
            let found = relevance(&network, preset, &x, &[1.0, 2.0]);
            assert_abs_diff_eq!(found[..], relevance(&whole, preset, &x, &[1.0, 2.0])[..], epsilon = 1e-10);
        }
    }
}

#[test]
fn norms_share_relevance_by_powers() {
    let x = [1.5, -2.0, 0.0, 0.5, 0.25, -1.0];
    for p in 1..4 {
        let mut graph = Writer::default();
        let value = graph.samples("x", &[2, 3]);
        let y = graph.node("y", Op::GlobalPool(Reduction::Norm { p }), &[value]);
        let network = graph.network(y);
        let power = |x: &f64| x.abs().powi(p as i32);
        let sums: Vec<f64> = x.chunks(3).map(|row| row.iter().map(power).sum()).collect();
        let norms: Vec<f64> = sums.iter().map(|sum: &f64| sum.powf(1.0 / p as f64)).collect();
        // 1/3 is rounded to float32.
        assert_abs_diff_eq!(run(&network, &x)[..], norms[..], epsilon = 1e-7);
        let r = [2.0, -1.0];
        let expected: Vec<f64> = (0..6).map(|i| power(&x[i]) / sums[i / 3] * r[i / 3]).collect();
        assert_abs_diff_eq!(relevance(&network, "zero", &x, &r)[..], expected[..], epsilon = 1e-12);
        // Euler: x times the gradient of ‖x‖ shares ‖x‖ in the same way.
        let gradient = relevance(&network, "gradient-x-input", &x, &[r[0] / norms[0], r[1] / norms[1]]);
        assert_abs_diff_eq!(gradient[..], expected[..], epsilon = 1e-6);
    }
    let mut graph = Writer::default();
    let value = graph.samples("x", &[1, 6]);
    let sliding = Sliding {
        kernel: Some(vec![3]),
        strides: Some(vec![2]),
        dilations: None,
        padding: Padding::Explicit(Some(vec![1, 0])),
        ceil: false,
    };
    let y = graph.node("y", Op::LpPool { sliding, p: 2 }, &[value]);
    let network = graph.network(y);
    assert_eq!(kinds(&network), ["power", "average-pool", "power"]);
    let expected = [2.5, 4.25_f64.sqrt(), 1.3125_f64.sqrt()];
    assert_abs_diff_eq!(run(&network, &x)[..], expected[..], epsilon = 1e-12);
    // A window of zeros gets nothing, by rule and by derivative.
    for preset in ["epsilon-plus", "gradient"] {
        assert_eq!(relevance(&network, preset, &[0.0; 6], &[1.0; 3]), [0.0; 6], "{preset}");
    }
}

/// features ⊙ softmax(scores), two branches of x.
fn weighed(graph: &mut Writer, axis: i64, to_end: bool) -> ValueId {
    let x = graph.samples("x", &SHAPE);
    let (scores, features) = (graph.dense("scores", x, 3, 3), graph.dense("features", x, 3, 3));
    let weights = graph.node("weights", Op::Softmax { axis, to_end, log: false }, &[scores]);
    graph.node("weighed", MUL, &[features, weights])
}

fn softmax(x: &[f64]) -> Vec<f64> {
    let greatest = x.iter().copied().fold(f64::MIN, f64::max);
    let powers: Vec<f64> = x.iter().map(|x| (x - greatest).exp()).collect();
    powers.iter().map(|power| power / powers.iter().sum::<f64>()).collect()
}

#[test]
fn a_softmax_is_a_gate_where_it_weighs_something() {
    for (axis, to_end) in [(-1, false), (1, false), (1, true), (2, true)] {
        let mut graph = Writer::default();
        let y = weighed(&mut graph, axis, to_end);
        let network = graph.network(y);
        assert!(network.notes()[0].contains("weights"), "{:?}", network.notes());
        // Scores in the hundreds: exponentials of them alone would overflow.
        let x: Vec<f64> = sample(COUNT).into_iter().map(|x| 300.0 * x).collect();
        let scores = dense(&x, 3, 3);
        let weights: Vec<f64> = match (axis, to_end) {
            (1, true) => softmax(&scores),
            (1, false) => {
                let of_place = |place: usize| softmax(&scores[place..].iter().copied().step_by(3).collect::<Vec<_>>());
                let columns: Vec<Vec<f64>> = (0..3).map(of_place).collect();
                (0..COUNT).map(|i| columns[i % 3][i / 3]).collect()
            }
            _ => scores.chunks(3).flat_map(softmax).collect(),
        };
        let features = dense(&x, 3, 3);
        let expected: Vec<f64> = features.iter().zip(&weights).map(|(f, w)| f * w).collect();
        assert_abs_diff_eq!(run(&network, &x)[..], expected[..], epsilon = 1e-9);
        // All relevance goes to the features, as if the weights were not there.
        let mut alone = Writer::default();
        let value = alone.samples("x", &SHAPE);
        let features = alone.dense("features", value, 3, 3);
        let alone = alone.network(features);
        let start: Vec<f64> = (0..COUNT).map(|i| i as f64 - 4.0).collect();
        let found = relevance(&network, "epsilon-plus", &x, &start);
        assert_abs_diff_eq!(found[..], relevance(&alone, "epsilon-plus", &x, &start)[..], epsilon = 1e-9);
    }
}

#[test]
fn relevance_through_a_softmax_is_refused_by_name_and_its_derivative_is_not() {
    let mut graph = Writer::default();
    let x = graph.samples("x", &[3]);
    let p = graph.node("p", SOFTMAX, &[x]);
    let z = graph.dense("z", p, 3, 2);
    let network = graph.network(z);
    let error = Composite::preset("epsilon-plus").unwrap().assign(&network).unwrap_err();
    assert_eq!((error.kind(), error.node()), (ErrorKind::Unsupported, Some("p/product")));
    assert!(error.advice().is_some_and(|advice| advice.contains("output before it")), "{error}");
    let x = [0.5, -1.0, 0.25];
    let p = softmax(&x);
    // ∂f/∂xⱼ = pⱼ (wⱼ − Σ p w) with w = W R.
    let w: Vec<f64> = (0..3).map(|i| dense(&unit(i), 3, 2).iter().zip([1.0, -2.0]).map(|(w, r)| w * r).sum()).collect();
    let mean: f64 = p.iter().zip(&w).map(|(p, w)| p * w).sum();
    let expected: Vec<f64> = p.iter().zip(&w).map(|(p, w)| p * (w - mean)).collect();
    assert_abs_diff_eq!(relevance(&network, "gradient", &x, &[1.0, -2.0])[..], expected[..], epsilon = 1e-12);

    // Two gates would share.
    let mut graph = Writer::default();
    let y = weighed(&mut graph, -1, false);
    let again = graph.node("again", SOFTMAX, &[y]);
    let product = graph.node("product", MUL, &[again, again]);
    let network = graph.network(product);
    let error = Composite::preset("epsilon").unwrap().assign(&network).unwrap_err();
    assert_eq!(error.node(), Some("again/product"));

    let mut graph = Writer::default();
    let x = graph.samples("x", &[3]);
    let p = graph.node("p", Op::Softmax { axis: -1, to_end: false, log: true }, &[x]);
    let z = graph.dense("z", p, 3, 2);
    let error = canonicalize(&graph.graph(z), &Options::default()).unwrap_err();
    assert_eq!((error.kind(), error.node()), (ErrorKind::Unsupported, Some("p (Op, opset 17)")));
}

fn unit(i: usize) -> [f64; 3] {
    [0, 1, 2].map(|j| if i == j { 1.0 } else { 0.0 })
}

#[test]
fn a_softmax_spelled_out_is_a_gate_too() {
    let mut graph = Writer::default();
    let x = graph.samples("x", &SHAPE);
    let (scores, features) = (graph.dense("scores", x, 3, 3), graph.dense("features", x, 3, 3));
    let powers = graph.node("powers", Op::Elementary(Elementary::Exp), &[scores]);
    let axes = graph.integers(&[-1]);
    let sum = Op::Reduce { reduction: Reduction::Sum, keep_axes: true, empty_is_none: false };
    let total = graph.node("total", sum, &[powers, axes]);
    let weights = graph.node("weights", DIV, &[powers, total]);
    let y = graph.node("y", MUL, &[features, weights]);
    let spelled = graph.network(y);
    let mut graph = Writer::default();
    let y = weighed(&mut graph, -1, false);
    let whole = graph.network(y);
    let x = sample(COUNT);
    let start: Vec<f64> = (0..COUNT).map(|i| i as f64 - 4.0).collect();
    assert_abs_diff_eq!(run(&spelled, &x)[..], run(&whole, &x)[..], epsilon = 1e-12);
    for preset in ["epsilon-plus", "gradient"] {
        let found = relevance(&spelled, preset, &x, &start);
        assert_abs_diff_eq!(found[..], relevance(&whole, preset, &x, &start)[..], epsilon = 1e-9);
    }
}

#[test]
fn what_divides_gets_nothing() {
    let mut graph = Writer::default();
    let (x, y) = (graph.samples("x", &[3]), graph.samples("y", &[3]));
    let quotient = graph.node("quotient", DIV, &[x, y]);
    let network = graph.network(quotient);
    assert_eq!(kinds(&network), ["power", "multiply"]);
    let rules = Composite::preset("epsilon").unwrap().assign(&network).unwrap();
    let found =
        reference::explain(&network, &rules, &[&[1.0, 2.0, 3.0], &[4.0, -5.0, 0.5]], &[1.0, -2.0, 3.0]).unwrap();
    assert_eq!(found.values[network.output().index()], [0.25, -0.4, 6.0]);
    assert_eq!(found.at(network.inputs()[0].value), [1.0, -2.0, 3.0]);
    assert_eq!(found.at(network.inputs()[1].value), [0.0; 3]);
}

#[test]
fn what_has_no_rule_or_makes_no_sense_is_refused_with_a_way_out() {
    let refused = |op: Op, constants: &[&[f32]]| {
        let mut graph = Writer::default();
        let x = graph.samples("x", &SHAPE);
        let mut inputs = vec![x];
        inputs.extend(constants.iter().map(|numbers| graph.float(&[numbers.len()], numbers)).collect::<Vec<_>>());
        let y = graph.node("y", op, &inputs);
        let error = canonicalize(&graph.graph(y), &Options::default()).unwrap_err();
        assert!(error.node() == Some("y (Op, opset 17)") && error.advice().is_some(), "{error}");
        error.message().to_owned()
    };
    let response = |size, beta| Op::Normalization(Normalization::LocalResponse { size, alpha: 1.0, beta, bias: 1.0 });
    let group = |groups| Op::Normalization(Normalization::Group { groups, epsilon: 1e-5, by_group: false });
    let ones: &[f32] = &[1.0; 4];
    for (op, constants, words) in [
        (response(0, 0.75), &[][..], "over 0 channels"),
        (response(3, -0.5), &[], "beta = -0.5"),
        (group(3), &[ones, ones], "4 channels into 3 groups"),
        (group(0), &[ones, ones], "into 0 groups"),
        (group(2), &[ones], "scale and a bias"),
        (Op::Normalization(Normalization::Instance { epsilon: 1e-5 }), &[&ones[..3], ones], "4 channels"),
        (Op::Normalization(Normalization::Layer { axis: 3, epsilon: 1e-5, centred: true }), &[ones], "axis 3"),
        (Op::GlobalPool(Reduction::Norm { p: 0 }), &[], "p = 0"),
        (Op::Pow, &[&ones[..3]], "one constant number"),
        (Op::Pow, &[&[0.0]], "power of 0"),
        (Op::Elementary(Elementary::Log), &[], "not supported"),
    ] {
        let message = refused(op, constants);
        assert!(message.contains(words), "{message}");
    }
}
