//! Whole small networks: the chain rule, LRP-0 as gradient × input, conservation, routing, and each layer's sums.

use relprop::composite::{Composite, Selector};
use relprop::layers::sum::Sign;
use relprop::layers::{Activation, Family, GeluForm, Layer, Sum};
use relprop::network::{InputKind, Network};
use relprop::reference::Explanation;
use relprop::rules::{LinearRule, PointwiseRule, Rule, Stabilizer};
use relprop::{Tensor, reference};

use crate::formulas::{self, Formula};
use crate::linear_map::{LinearMap, output, split};
use crate::numbers::Numbers;
use crate::{assert_close, at_inputs, everywhere, explained};

/// Two inputs, every activation, a value read three times, a skip connection, a difference, and all that moves elements.
fn everything(numbers: &mut Numbers, activations: &[Activation]) -> Network {
    let mut builder = Network::builder();
    let (x, y) = (builder.input("x", [2, 3]), builder.input("y", [4]));
    let scaled = builder.affine("scale", x, numbers.smooth_tensor(&[3]), numbers.smooth_tensor(&[2, 1])).unwrap();
    let (weight, bias) = (numbers.smooth_tensor(&[4, 3]), numbers.smooth_tensor(&[4]));
    let mut left = builder.dense("rows", scaled, weight, Some(bias)).unwrap();
    for (step, &activation) in activations.iter().enumerate() {
        let active = builder.activation(&format!("active{step}"), left, activation).unwrap();
        let (weight, bias) = (numbers.smooth_tensor(&[4, 4]), numbers.smooth_tensor(&[4]));
        let mixed = builder.dense(&format!("mix{step}"), active, weight, Some(bias)).unwrap();
        left = builder.sum(&format!("skip{step}"), &[mixed, active]).unwrap();
    }
    let turned = builder.transpose("turn", left, vec![1, 0]).unwrap();
    let flat = builder.reshape("flat", turned, [8]).unwrap();
    let right = builder.dense("right", y, numbers.smooth_tensor(&[8, 4]), None).unwrap();
    let signs = Sum::new(vec![Sign::Plus, Sign::Minus]).unwrap();
    let difference = builder.layer("difference", Layer::Sum(signs), vec![flat, right]).unwrap();
    let joined = builder.concat("join", &[difference, flat, y], 0).unwrap();
    let (weight, bias) = (numbers.smooth_tensor(&[3, 20]), numbers.smooth_tensor(&[3]));
    let scores = builder.dense("scores", joined, weight, Some(bias)).unwrap();
    builder.build(scores).unwrap()
}

const ACTIVATIONS: [Activation; 21] = [
    Activation::Relu,
    Activation::LeakyRelu { slope: 0.25 },
    Activation::Sigmoid,
    Activation::Tanh,
    Activation::Gelu(GeluForm::Erf),
    Activation::Gelu(GeluForm::Tanh),
    Activation::Erf,
    Activation::Softplus { beta: 1.0 },
    Activation::Softplus { beta: 10.0 },
    Activation::Elu { alpha: 0.75 },
    Activation::Selu { alpha: 1.5, gamma: 1.125 },
    Activation::Celu { alpha: 0.5 },
    Activation::Silu { beta: 1.5 },
    Activation::HardSigmoid { slope: 0.25, offset: 0.5 },
    Activation::HardSwish,
    Activation::Mish,
    Activation::Clip { low: 0.0, high: 1.0 },
    Activation::Clip { low: -0.5, high: f32::INFINITY },
    Activation::ThresholdedRelu { threshold: -0.25 },
    Activation::Softsign,
    Activation::Abs,
];

/// ∂(start · f)/∂x by central differences.
pub fn differences(network: &Network, inputs: &[Vec<f64>], start: &[f64], step: f64) -> Vec<f64> {
    let sizes: Vec<usize> = inputs.iter().map(Vec::len).collect();
    let x = inputs.concat();
    let score = |element: usize, by: f64| {
        let mut moved = x.clone();
        moved[element] += by;
        output(network, &split(&moved, &sizes)).iter().zip(start).map(|(f, r)| f * r).sum::<f64>()
    };
    (0..x.len()).map(|element| (score(element, step) - score(element, -step)) / (2.0 * step)).collect()
}

/// Where an activation has a kink or a jump.
fn kinks(activation: &Activation) -> Vec<f64> {
    match activation {
        Activation::Relu
        | Activation::LeakyRelu { .. }
        | Activation::Elu { .. }
        | Activation::Selu { .. }
        | Activation::Abs => vec![0.0],
        Activation::Power { offset, .. } => vec![f64::from(-offset)],
        Activation::Clip { low, high } => vec![f64::from(*low), f64::from(*high)],
        Activation::HardSigmoid { slope, offset } => {
            [0.0, 1.0].map(|end| (end - f64::from(*offset)) / f64::from(*slope)).to_vec()
        }
        Activation::HardSwish => vec![-3.0, 3.0],
        Activation::ThresholdedRelu { threshold } => vec![f64::from(*threshold)],
        Activation::Sigmoid
        | Activation::Tanh
        | Activation::Gelu(_)
        | Activation::Erf
        | Activation::Softplus { .. }
        | Activation::Celu { .. }
        | Activation::Silu { .. }
        | Activation::Mish
        | Activation::Softsign
        | Activation::Exp => Vec::new(),
    }
}

/// The least distance of a value from its activation's kinks: differences are those of one smooth piece only well
/// within it.
pub fn distance_to_kinks(network: &Network, explanation: &Explanation) -> f64 {
    let mut least = f64::INFINITY;
    for node in network.layers() {
        let Layer::Activation(activation) = &node.layer else { continue };
        for kink in kinks(activation) {
            let values = &explanation.values[node.inputs[0].index()];
            least = values.iter().fold(least, |least, z| least.min((z - kink).abs()));
        }
    }
    least
}

#[test]
fn the_gradient_is_that_of_central_differences() {
    let mut numbers = Numbers(21);
    let network = everything(&mut numbers, &ACTIVATIONS);
    let (inputs, start) = (vec![numbers.smooths(6), numbers.smooths(4)], numbers.smooths(3));
    let explanation = explained(&network, &Composite::preset("gradient").unwrap(), &inputs, &start);
    assert!(distance_to_kinks(&network, &explanation) > 1e-3);
    let gradient = at_inputs(&network, &explanation);
    // Truncation is step²/6 times a third derivative, about 1e-10 here; rounding 1e-16 of values near 10 over the step.
    assert_close(&gradient, &differences(&network, &inputs, &start, 1e-5), 1e-8, "gradient");

    let product = explained(&network, &Composite::preset("gradient-x-input").unwrap(), &inputs, &start);
    let expected: Vec<f64> = gradient.iter().zip(inputs.concat()).map(|(g, x)| g * x).collect();
    assert_close(&at_inputs(&network, &product), &expected, 0.0, "gradient × input");
}

#[test]
fn epsilon_tends_to_gradient_times_input_on_rectifier_networks_with_biases() {
    let mut numbers = Numbers(22);
    // Affine layers pass by default, which is no chain rule; the ε rule is given to them too.
    let network = everything(&mut numbers, &[Activation::Relu, Activation::Relu, Activation::Relu]);
    let (inputs, target) = (vec![numbers.smooths(6), numbers.smooths(4)], 1);
    let score = output(&network, &inputs)[target];
    let one_hot = |value: f64| (0..3).map(|i| if i == target { value } else { 0.0 }).collect::<Vec<f64>>();
    let zero = explained(&network, &everywhere(LinearRule::zero()), &inputs, &one_hot(score));
    assert!(distance_to_kinks(&network, &zero) > 1e-3);
    let product: Vec<f64> = differences(&network, &inputs, &one_hot(1.0), 1e-5)
        .iter()
        .zip(inputs.concat())
        .map(|(gradient, x)| gradient * x)
        .collect();
    // A piecewise linear function has no truncation; rounding 1e-15 over a step of 1e-5 is left.
    assert_close(&at_inputs(&network, &zero), &product, 1e-9, "LRP-0");

    let distance = |epsilon: f32| {
        let composite = everywhere(LinearRule::epsilon(Stabilizer::Absolute(epsilon)));
        let found = at_inputs(&network, &explained(&network, &composite, &inputs, &one_hot(score)));
        found.iter().zip(&product).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    };
    let distances = [1e-4, 1e-5, 1e-6].map(distance);
    // The distance is of first order in ε: each tenth of ε gives a tenth of it, up to second order.
    let ratios = [distances[0] / distances[1], distances[1] / distances[2]];
    assert_close(&ratios, &[10.0, 10.0], 0.5, "decay with ε");
}

fn free_of_biases(numbers: &mut Numbers) -> Network {
    let mut builder = Network::builder();
    let x = builder.input("x", [3, 5]);
    let mut value = x;
    for step in 0..3 {
        let z = builder.dense(&format!("fc{step}"), value, numbers.smooth_tensor(&[5, 5]), None).unwrap();
        let a = builder.relu(&format!("relu{step}"), z).unwrap();
        value = builder.sum(&format!("skip{step}"), &[a, value]).unwrap();
    }
    let turned = builder.transpose("turn", value, vec![1, 0]).unwrap();
    let joined = builder.concat("join", &[turned, turned], 1).unwrap();
    let flat = builder.reshape("flat", joined, [30]).unwrap();
    let scores = builder.dense("scores", flat, numbers.smooth_tensor(&[4, 30]), None).unwrap();
    builder.build(scores).unwrap()
}

#[test]
fn a_network_without_biases_conserves_relevance_at_epsilon_zero() {
    let mut numbers = Numbers(23);
    let network = free_of_biases(&mut numbers);
    for _ in 0..10 {
        let (input, start) = (numbers.smooths(15), numbers.smooths(4));
        let explanation = explained(&network, &Composite::preset("zero").unwrap(), &[input], &start);
        let (started, arrived): (f64, f64) = (start.iter().sum(), at_inputs(&network, &explanation).iter().sum());
        let largest = explanation.relevance.iter().flatten().fold(1.0_f64, |most, r| most.max(r.abs()));
        // Some hundred roundings, each of the largest relevance.
        assert_close(&[arrived], &[started], 1e-13 * largest, "sum at the input");
    }
}

#[test]
fn what_layers_absorb_and_drop_adds_up_to_what_the_inputs_lack() {
    let mut numbers = Numbers(24);
    let network = everything(&mut numbers, &ACTIVATIONS);
    let (inputs, start) = (vec![numbers.smooths(6), numbers.smooths(4)], numbers.smooths(3));
    for formula in formulas::all().into_iter().filter(|formula| !matches!(formula, Formula::Box(_))) {
        let rule = formula.rule(&Tensor::scalar(0.0), &Tensor::scalar(0.0));
        for pointwise in [PointwiseRule::Pass, PointwiseRule::Gradient] {
            let composite =
                everywhere(rule.clone()).with_first(Selector::Family(Family::Pointwise), Rule::Pointwise(pointwise));
            let explanation = explained(&network, &composite, &inputs, &start);
            let mut left = start.iter().sum::<f64>();
            let mut scale = 1.0_f64;
            for (node, sums) in network.layers().iter().zip(&explanation.layers) {
                let Some(sums) = sums else { continue };
                let arrived: f64 = explanation.at(node.output).iter().sum();
                assert_close(&[sums.at_output], &[arrived], 0.0, &node.name);
                let closed = sums.at_input + sums.bias + sums.epsilon + sums.dropped;
                let parts = [sums.at_output, sums.at_input, sums.bias, sums.epsilon, sums.dropped];
                let largest = parts.iter().fold(0.0_f64, |most, part| most.max(part.abs()));
                assert_close(&[closed], &[sums.at_output], 1e-14 * largest, &node.name);
                left -= sums.bias + sums.epsilon + sums.dropped;
                scale = scale.max(largest);
            }
            let arrived: f64 = at_inputs(&network, &explanation).iter().sum();
            // Each of some 20 layers rounds sums of up to 20 relevances of about that size.
            assert_close(&[arrived], &[left], 1e-12 * scale, &format!("{formula:?}, {pointwise:?}"));
        }
    }
}

#[test]
fn a_perceptron_follows_the_papers_formulas_layer_by_layer() {
    let mut numbers = Numbers(25);
    for sizes in [vec![4, 5, 3], vec![7, 1, 6, 2], vec![13, 11, 9, 10]] {
        let mut builder = Network::builder();
        let mut value = builder.input("x", [sizes[0]]);
        let mut maps = Vec::new();
        for (depth, pair) in sizes.windows(2).enumerate() {
            let (weight, bias) = (numbers.dyadic_tensor(&[pair[1], pair[0]]), numbers.dyadic_tensor(&[pair[1]]));
            let mut alone = Network::builder();
            let x = alone.input("x", [pair[0]]);
            let z = alone.dense("fc", x, weight.clone(), Some(bias.clone())).unwrap();
            maps.push(LinearMap::of(&alone.build(z).unwrap()));
            if depth > 0 {
                value = builder.relu(&format!("relu{depth}"), value).unwrap();
            }
            value = builder.dense(&format!("fc{depth}"), value, weight, Some(bias)).unwrap();
        }
        let network = builder.build(value).unwrap();
        let (x, start) = (numbers.dyadics(sizes[0]), numbers.dyadics(*sizes.last().unwrap()));
        let mut read = vec![x.clone()];
        for map in &maps[..maps.len() - 1] {
            let z = map.apply(read.last().unwrap());
            read.push(z.into_iter().map(formulas::p).collect());
        }
        for formula in formulas::all() {
            let mut relevance = start.clone();
            let mut scale = 1.0_f64;
            for (map, x) in maps.iter().zip(&read).rev() {
                // Bounds of −2 and, so that all hidden activations lie within, 1024.
                let (low, high) = (vec![-2.0; x.len()], vec![1024.0; x.len()]);
                let answer = formula.answer(map, x, &relevance, &low, &high);
                scale = scale.max(answer.scale);
                relevance = answer.relevance;
            }
            let composite = everywhere(formula.rule(&Tensor::scalar(-2.0), &Tensor::scalar(1024.0)));
            let found = at_inputs(&network, &explained(&network, &composite, std::slice::from_ref(&x), &start));
            // Sums of 13 terms a layer, over layers that may each enlarge what the one above rounded.
            assert_close(&found, &relevance, 1e-11 * scale, &format!("{formula:?} on {sizes:?}"));
        }
    }
}

#[test]
fn relevances_of_a_value_read_twice_add() {
    let mut numbers = Numbers(26);
    let (first, second) = (numbers.dyadic_tensor(&[3, 4]), numbers.dyadic_tensor(&[3, 4]));
    let mut builder = Network::builder();
    let x = builder.input("x", [4]);
    let a = builder.dense("a", x, first, None).unwrap();
    let b = builder.dense("b", x, second, None).unwrap();
    let joined = builder.concat("join", &[a, b, a], 0).unwrap();
    let network = builder.build(joined).unwrap();
    let (input, start) = (numbers.dyadics(4), numbers.dyadics(9));
    let composite = everywhere(LinearRule::epsilon(Stabilizer::Absolute(0.5)));
    let explain =
        |start: Vec<f64>| at_inputs(&network, &explained(&network, &composite, std::slice::from_ref(&input), &start));
    let alone = |keep: std::ops::Range<usize>| {
        explain(start.iter().enumerate().map(|(i, r)| if keep.contains(&i) { *r } else { 0.0 }).collect())
    };
    let parts = [alone(0..3), alone(3..6), alone(6..9)];
    let expected: Vec<f64> = (0..4).map(|j| parts.iter().map(|part| part[j]).sum()).collect();
    assert!(parts.iter().all(|part| part.iter().all(|r| r.abs() > 1e-3)), "every reader gives something");
    // Denominators of 0.5 and more: relevances stay below 1000.
    assert_close(&explain(start.clone()), &expected, 1e-12, "three readers");

    let mut builder = Network::builder();
    let x = builder.input("x", [2]);
    let doubled = builder.sum("double", &[x, x]).unwrap();
    let network = builder.build(doubled).unwrap();
    let explanation = explained(&network, &everywhere(LinearRule::zero()), &[vec![0.5, -3.0]], &[5.0, 7.0]);
    assert_close(&at_inputs(&network, &explanation), &[5.0, 7.0], 0.0, "x + x");
}

#[test]
fn layers_that_move_elements_move_relevance_back_with_them() {
    let mut builder = Network::builder();
    let (x, y) = (builder.input("x", [2, 3, 4]), builder.input("y", [2, 5, 4]));
    let joined = builder.concat("middle", &[x, y, x], 1).unwrap();
    let turned = builder.transpose("turn", joined, vec![2, 0, 1]).unwrap();
    let shaped = builder.reshape("shape", turned, [8, 11]).unwrap();
    let last = builder.concat("last", &[shaped, shaped], 1).unwrap();
    let first = builder.concat("first", &[last, last], 0).unwrap();
    let network = builder.build(first).unwrap();
    let map = LinearMap::of(&network);
    let mut numbers = Numbers(27);
    let (inputs, start) = (vec![numbers.dyadics(24), numbers.dyadics(40)], numbers.dyadics(16 * 22));
    let explanation = explained(&network, &everywhere(LinearRule::zero()), &inputs, &start);
    let column = |j: usize| map.jacobian.iter().zip(&start).map(|(row, r)| row[j] * r).sum();
    let expected: Vec<f64> = (0..64).map(column).collect();
    // Dyadic relevances only move and add.
    assert_close(&at_inputs(&network, &explanation), &expected, 0.0, "input");
    assert!(explanation.layers.iter().all(Option::is_none));
}

#[test]
fn relevance_stops_where_an_integer_input_is_looked_up() {
    let mut numbers = Numbers(28);
    let table = numbers.dyadic_tensor(&[5, 3]);
    let mut builder = Network::builder();
    let (words, x) = (builder.integer_input("words", [2]), builder.input("x", [6]));
    let embedded = builder.lookup("embed", words, table.clone()).unwrap();
    let flat = builder.reshape("flat", embedded, [6]).unwrap();
    let total = builder.sum("add", &[flat, x]).unwrap();
    let network = builder.build(total).unwrap();
    assert_eq!(network.inputs()[0].kind, InputKind::Integer);
    let x = numbers.dyadics(6);
    let start = numbers.dyadics(6);
    let composite = everywhere(LinearRule::epsilon(Stabilizer::Absolute(0.5)));
    let explanation = explained(&network, &composite, &[vec![3.0, -1.0], x.clone()], &start);
    let rows: Vec<f64> = [table.row(3), table.row(4)].concat().into_iter().map(f64::from).collect();
    let damped =
        formulas::stabilized(Stabilizer::Absolute(0.5), &rows.iter().zip(&x).map(|(a, b)| a + b).collect::<Vec<_>>());
    let shares = |part: &[f64]| (0..6).map(|i| part[i] * start[i] / damped[i]).collect::<Vec<f64>>();
    let at = |name: &str| explanation.at(network.find_value(name).unwrap());
    // Dyadic values and denominators of 0.5 and more; quotient and product may be taken in either order.
    assert_close(at("embed"), &shares(&rows), 1e-13, "embedding");
    assert_close(at("x"), &shares(&x), 1e-13, "the other input");
    assert_close(at("words"), &[0.0, 0.0], 0.0, "integers");

    let assignment = composite.assign(&network).unwrap();
    for beyond in [5.0, -6.0, 0.5, f64::NAN] {
        let refused = reference::explain(&network, &assignment, &[&[0.0, beyond], &x], &start).unwrap_err();
        assert_eq!((refused.kind(), refused.node()), (relprop::ErrorKind::Data, Some("embed")), "{beyond}");
    }
}

#[test]
fn every_kind_of_layer_can_be_named_in_a_composite() {
    let mut numbers = Numbers(30);
    let network = everything(&mut numbers, &ACTIVATIONS);
    for node in network.layers() {
        assert!(Selector::known_kind(node.layer.kind()).is_ok(), "{}", node.layer.kind());
    }
    let refused = Selector::known_kind("dens").unwrap_err();
    assert!(refused.advice().unwrap().contains("dense"), "{refused}");
}

#[test]
fn rules_for_rectifiers_are_their_formulas() {
    let mut builder = Network::builder();
    let x = builder.input("x", [6]);
    let a = builder.relu("relu", x).unwrap();
    let network = builder.build(a).unwrap();
    let (x, r) = ([-2.0, -2.0, 0.0, 0.0, 0.5, 0.5], [3.0, -3.0, 3.0, -3.0, 3.0, -3.0]);
    let smooth = |z: f64, r: f64| r / (1.0 + (-4.0 * z).exp());
    let cases = [
        (PointwiseRule::Pass, r.to_vec()),
        (PointwiseRule::Gradient, vec![0.0, 0.0, 0.0, 0.0, 3.0, -3.0]),
        (PointwiseRule::Deconvnet, vec![3.0, 0.0, 3.0, 0.0, 3.0, 0.0]),
        (PointwiseRule::GuidedBackprop, vec![0.0, 0.0, 0.0, 0.0, 3.0, 0.0]),
        (PointwiseRule::BetaSmooth { beta: 4.0 }, x.iter().zip(&r).map(|(&z, &r)| smooth(z, r)).collect()),
    ];
    for (rule, expected) in cases {
        let composite = Composite::new("c").with(Selector::Family(Family::Pointwise), Rule::Pointwise(rule));
        let explanation = explained(&network, &composite, &[x.to_vec()], &r);
        assert_close(&at_inputs(&network, &explanation), &expected, 1e-14, &rule.describe());
        let nothing = explained(&network, &composite, &[x.to_vec()], &[f64::NAN; 6]);
        assert!(at_inputs(&network, &nothing)[4].is_nan(), "{}: NaN stays", rule.describe());
    }
}

#[test]
fn wrong_counts_are_errors_with_a_shape() {
    let mut numbers = Numbers(29);
    let network = everything(&mut numbers, &[Activation::Relu]);
    let assignment = everywhere(LinearRule::zero()).assign(&network).unwrap();
    let (x, y, start) = (numbers.smooths(6), numbers.smooths(4), numbers.smooths(3));
    let wrong: [(&[&[f64]], &[f64]); 4] =
        [(&[&x], &start), (&[&y, &x], &start), (&[&x, &y], &start[1..]), (&[&x, &y, &y], &start)];
    for (inputs, start) in wrong {
        let error = reference::explain(&network, &assignment, inputs, start).unwrap_err();
        assert_eq!(error.kind(), relprop::ErrorKind::Shape, "{error}");
    }
    assert!(reference::explain(&network, &assignment, &[&x, &y], &start).is_ok());
}
