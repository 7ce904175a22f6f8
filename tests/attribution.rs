//! Integrated gradients, SmoothGrad and occlusion against formulas worked by hand and explicit loops over `Explainer::forward`.

use approx::{assert_abs_diff_eq, assert_relative_eq};
use relprop::attribution::{Attributor, Baseline, IntegratedGradients, Occlusion, Shows, SmoothGrad};
use relprop::layers::Activation;
use relprop::{Backend, Composite, ErrorKind, Explainer, Input, Network, Relevance, Request, Start, Targets, Tensor};

const W: [[f32; 3]; 2] = [[1.5, -0.5, 2.0], [-1.0, 0.75, 0.25]];
const C: [f32; 2] = [0.25, -0.5];
const V: [[f32; 2]; 2] = [[2.0, -1.0], [0.5, 1.5]];

fn explainer(network: Network, composite: &str, backend: Backend) -> Explainer {
    Explainer::new(network, &Composite::preset(composite).unwrap(), backend).unwrap()
}

/// f_t(x) = Σ_j V_tj g(W_j · x + C_j) of three inputs.
fn perceptron(g: Activation) -> Network {
    let mut builder = Network::builder();
    let x = builder.input("x", [3]);
    let z = builder.dense("fc1", x, tensor(&[2, 3], W.concat()), Some(Tensor::vector(C.to_vec()))).unwrap();
    let a = builder.activation("act", z, g).unwrap();
    let y = builder.dense("fc2", a, tensor(&[2, 2], V.concat()), None).unwrap();
    builder.build(y).unwrap()
}

/// One dense layer over two channels of 3 × 4 pixels, a rectifier, and three outputs.
fn picture_network() -> Network {
    let mut builder = Network::builder();
    let x = builder.input("image", [2, 3, 4]);
    let flat = builder.reshape("flat", x, [24]).unwrap();
    let weight = |i: usize| ((i * 37 % 29) as f32 - 14.0) / 20.0;
    let z = builder.dense("fc1", flat, Tensor::from_fn([6, 24], weight), None).unwrap();
    let a = builder.relu("relu", z).unwrap();
    let y = builder.dense("fc2", a, Tensor::from_fn([3, 6], |i| weight(i + 5)), None).unwrap();
    builder.build(y).unwrap()
}

fn pictures(samples: usize) -> Tensor {
    Tensor::from_fn([samples, 2, 3, 4], |i| ((i * 53 % 97) as f32 - 40.0) / 30.0)
}

fn tensor(shape: &[usize], data: Vec<f32>) -> Tensor {
    Tensor::new(shape, data).unwrap()
}

fn explain(method: &Attributor, explainer: &Explainer, samples: &Tensor, targets: Targets) -> Relevance {
    method.explain(explainer, &[Input::from(samples)], &Request::new(targets)).unwrap()
}

fn integrated(steps: usize) -> Attributor {
    Attributor::IntegratedGradients(IntegratedGradients { steps, ..IntegratedGradients::default() })
}

fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

/// f_t of the perceptron of sigmoids, and its gradient.
fn by_hand(target: usize, x: &[f64]) -> (f64, [f64; 3]) {
    let (mut f, mut gradient) = (0.0, [0.0; 3]);
    for j in 0..2 {
        let z: f64 = f64::from(C[j]) + (0..3).map(|i| f64::from(W[j][i]) * x[i]).sum::<f64>();
        let (a, v) = (sigmoid(z), f64::from(V[target][j]));
        f += v * a;
        (0..3).for_each(|i| gradient[i] += v * a * (1.0 - a) * f64::from(W[j][i]));
    }
    (f, gradient)
}

#[test]
fn integrated_gradients_are_the_right_riemann_sum() {
    let (x, b) = ([0.5, -1.25, 2.0], [0.25, 0.5, -1.0]);
    let baseline = Baseline::Sample(Tensor::vector(b.map(|b: f64| b as f32).to_vec()));
    for (steps, target) in [(1, 0), (4, 1), (20, 0)] {
        let mut known = [0.0; 3];
        for k in 1..=steps {
            let alpha = k as f64 / steps as f64;
            let at: Vec<f64> = x.iter().zip(b).map(|(x, b)| b + alpha * (x - b)).collect();
            let gradient = by_hand(target, &at).1;
            (0..3).for_each(|i| known[i] += (x[i] - b[i]) * gradient[i] / steps as f64);
        }
        let method =
            Attributor::IntegratedGradients(IntegratedGradients { steps, baseline: baseline.clone(), rows: None });
        for backend in [Backend::Cpu, Backend::Reference] {
            let explainer = explainer(perceptron(Activation::Sigmoid), "gradient", backend);
            let samples = tensor(&[1, 3], x.map(|x| x as f32).to_vec());
            let found = explain(&method, &explainer, &samples, Targets::Class(target));
            for (found, known) in found.input().data().iter().zip(known) {
                assert_abs_diff_eq!(f64::from(*found), known, epsilon = 2e-6);
            }
        }
    }
}

#[test]
fn integrated_gradients_sum_to_the_difference_of_the_scores() {
    let x = [0.5, -1.25, 2.0];
    let explainer = explainer(perceptron(Activation::Sigmoid), "gradient", Backend::Cpu);
    let samples = tensor(&[1, 3], x.map(|x: f64| x as f32).to_vec());
    for target in 0..2 {
        let difference = by_hand(target, &x).0 - by_hand(target, &[0.0; 3]).0;
        let gap = |steps: usize| {
            let found = explain(&integrated(steps), &explainer, &samples, Targets::Class(target));
            (found.input().data().iter().map(|&r| f64::from(r)).sum::<f64>() - difference).abs()
        };
        // The error of a Riemann sum falls as 1/n.
        assert!(gap(10) > 0.01 && gap(1000) < gap(10) / 90.0, "{} {}", gap(10), gap(1000));
    }
}

#[test]
fn a_rectifier_integrates_to_the_part_of_the_path_where_it_is_open() {
    let mut builder = Network::builder();
    let x = builder.input("x", [2]);
    let bias = Some(Tensor::vector(vec![-1.0]));
    let z = builder.dense("fc", x, tensor(&[1, 2], vec![1.0, 1.0]), bias).unwrap();
    let y = builder.relu("relu", z).unwrap();
    let explainer = explainer(builder.build(y).unwrap(), "gradient", Backend::Cpu);
    // z = 3α − 1 is above zero in 4 of the steps 0.2, 0.4, …, 1.
    let found = explain(&integrated(5), &explainer, &tensor(&[1, 2], vec![2.0, 1.0]), Targets::ArgMax);
    assert_relative_eq!(found.input().data()[0], 1.6, epsilon = 1e-6);
    assert_relative_eq!(found.input().data()[1], 0.8, epsilon = 1e-6);
}

#[test]
fn a_composite_takes_the_place_of_the_gradient() {
    let mut builder = Network::builder();
    let x = builder.input("x", [2]);
    let y = builder.dense("fc", x, tensor(&[1, 2], vec![3.0, -1.0]), None).unwrap();
    let explainer = explainer(builder.build(y).unwrap(), "epsilon", Backend::Cpu);
    let found = explain(&integrated(4), &explainer, &tensor(&[1, 2], vec![1.0, 2.0]), Targets::ArgMax);
    // LRP-ε gives α w x at α x; the mean of α is (n + 1) / 2n = 5/8; and that times x.
    assert_relative_eq!(found.input().data()[0], 0.625 * 3.0, epsilon = 1e-4);
    assert_relative_eq!(found.input().data()[1], 0.625 * -4.0, epsilon = 1e-4);
}

#[test]
fn smooth_grad_without_noise_or_of_one_step_is_the_gradient() {
    let explainer = explainer(picture_network(), "gradient", Backend::Cpu);
    let samples = pictures(5);
    let gradient = explain(&Attributor::Gradient, &explainer, &samples, Targets::ArgMax);
    for (steps, noise) in [(7, 0.0), (1, 0.5)] {
        let method = Attributor::SmoothGrad(SmoothGrad { steps, noise, ..SmoothGrad::default() });
        let found = explain(&method, &explainer, &samples, Targets::ArgMax);
        for (found, known) in found.input().data().iter().zip(gradient.input().data()) {
            assert_relative_eq!(found, known, max_relative = 1e-6);
        }
    }
}

#[test]
fn smooth_grad_of_a_rectifier_is_how_often_it_is_open() {
    let mut builder = Network::builder();
    let x = builder.input("x", [3]);
    let z = builder.dense("fc", x, tensor(&[1, 3], vec![1.0, 0.0, 0.0]), None).unwrap();
    let y = builder.relu("relu", z).unwrap();
    let explainer = explainer(builder.build(y).unwrap(), "gradient", Backend::Cpu);
    let method = |seed: u64| Attributor::SmoothGrad(SmoothGrad { steps: 4001, noise: 0.2, seed, rows: None });
    // The range is 2, so σ = 0.4: the rectifier is open at 0.2 + σ ε > 0, with the probability Φ(0.5) = 0.69146.
    let samples = tensor(&[1, 3], vec![0.2, 2.0, 0.0]);
    let open = |seed: u64| explain(&method(seed), &explainer, &samples, Targets::Class(0)).input().data()[0];
    // Five standard errors: √(0.69 · 0.31 / 4000).
    assert_abs_diff_eq!(open(1), 0.69146, epsilon = 0.037);
    assert_eq!(open(1), open(1));
    assert_ne!(open(1), open(2));
}

/// Which elements of [2, 3, 4] a window of `h` × `w` pixels at a place has.
fn window(top: usize, left: usize, [h, w]: [usize; 2]) -> Vec<bool> {
    let is_inside = |i: usize| {
        let (row, column) = (i / 4 % 3, i % 4);
        (top..top + h).contains(&row) && (left..left + w).contains(&column)
    };
    (0..24).map(is_inside).collect()
}

#[test]
fn occlusion_is_what_explicit_masking_finds() {
    /// A window, its stride, and its places along rows and columns.
    type Case = ([usize; 2], [usize; 2], &'static [usize], &'static [usize]);
    let samples = pictures(3);
    // Places of the windows by hand: the last of a row ends with it, and none begins behind one that has.
    let cases: [Case; 4] = [
        ([1, 1], [1, 1], &[0, 1, 2], &[0, 1, 2, 3]),
        ([2, 2], [2, 2], &[0, 2], &[0, 2]),
        ([2, 3], [1, 1], &[0, 1], &[0, 1]),
        ([5, 2], [1, 3], &[0], &[0, 3]),
    ];
    for backend in [Backend::Cpu, Backend::Reference] {
        let explainer = explainer(picture_network(), "gradient", backend);
        let score = |data: Vec<f32>| {
            let tensor = tensor(&[1, 2, 3, 4], data);
            f64::from(explainer.forward(&[Input::from(&tensor)]).unwrap().data()[1])
        };
        for (extents, stride, tops, lefts) in cases {
            for shows in [Shows::Rest, Shows::Window] {
                let baseline = Baseline::Value(0.25);
                let method = Occlusion { stride: stride.to_vec(), baseline, shows, ..Occlusion::new(extents) };
                let found = explain(&Attributor::Occlusion(method), &explainer, &samples, Targets::Class(1));
                for sample in 0..3 {
                    let x = samples.row(sample);
                    let (mut sum, mut windows) = ([0.0; 24], [0.0; 24]);
                    for (&top, &left) in tops.iter().flat_map(|top| lefts.iter().map(move |left| (top, left))) {
                        let inside = window(top, left, extents);
                        let covered = |i: usize| inside[i] == (shows == Shows::Rest);
                        let left = score((0..24).map(|i| if covered(i) { 0.25 } else { x[i] }).collect());
                        let size = inside.iter().filter(|inside| **inside).count() as f64;
                        for i in (0..24).filter(|&i| inside[i]) {
                            sum[i] += if shows == Shows::Rest { (score(x.to_vec()) - left) / size } else { left };
                            windows[i] += 1.0;
                        }
                    }
                    for i in 0..24 {
                        let known = if shows == Shows::Rest { sum[i] / f64::max(windows[i], 1.0) } else { sum[i] };
                        assert_abs_diff_eq!(f64::from(found.input().row(sample)[i]), known, epsilon = 2e-6);
                    }
                }
            }
        }
    }
}

#[test]
fn occlusion_of_single_elements_of_a_linear_function_is_w_times_x() {
    let mut builder = Network::builder();
    let x = builder.input("x", [3]);
    let y = builder.dense("fc", x, tensor(&[2, 3], W.concat()), None).unwrap();
    let explainer = explainer(builder.build(y).unwrap(), "epsilon", Backend::Cpu);
    let method = Attributor::Occlusion(Occlusion::new([1]));
    let samples = tensor(&[2, 3], vec![1.0, 2.0, -1.0, 0.5, 4.0, 0.25]);
    let found = explain(&method, &explainer, &samples, Targets::All);
    assert_eq!(found.input().shape().dims(), [2, 2, 3]);
    for (position, r) in found.input().data().iter().enumerate() {
        let (sample, target, i) = (position / 6, position / 3 % 2, position % 3);
        assert_relative_eq!(*r, W[target][i] * samples.row(sample)[i], epsilon = 1e-5);
    }
}

#[test]
fn occlusion_compares_what_the_start_says() {
    let explainer = explainer(picture_network(), "gradient", Backend::Cpu);
    let (samples, method) = (pictures(2), Attributor::Occlusion(Occlusion::new([3, 4])));
    let score = |start: &Start, x: &Tensor| {
        let logits = explainer.forward(&[Input::from(x)]).unwrap();
        let logits: Vec<f64> = logits.row(0).iter().map(|&f| f64::from(f)).collect();
        start.of_sample(&logits, 2, 3, None).iter().sum::<f64>()
    };
    for start in [Start::Logit, Start::Probability, Start::NegativeLogit, Start::Contrast] {
        let request = Request::new(Targets::Class(2)).start(start.clone());
        let found = method.explain(&explainer, &[Input::from(&samples)], &request).unwrap();
        // One window is the whole sample: each element has a 24th of what is lost to the empty one.
        let x = tensor(&[1, 2, 3, 4], samples.row(0).to_vec());
        let known = (score(&start, &x) - score(&start, &Tensor::zeros([1, 2, 3, 4]))) / 24.0;
        assert_abs_diff_eq!(f64::from(found.input().data()[7]), known, epsilon = 1e-6);
    }
}

fn methods() -> [Attributor; 3] {
    [
        integrated(5),
        Attributor::SmoothGrad(SmoothGrad { steps: 5, ..SmoothGrad::default() }),
        Attributor::Occlusion(Occlusion::new([2, 2])),
    ]
}

fn with_rows(method: &Attributor, rows: usize) -> Attributor {
    let rows = Some(rows);
    match method.clone() {
        Attributor::Gradient => Attributor::Gradient,
        Attributor::IntegratedGradients(method) => {
            Attributor::IntegratedGradients(IntegratedGradients { rows, ..method })
        }
        Attributor::SmoothGrad(method) => Attributor::SmoothGrad(SmoothGrad { rows, ..method }),
        Attributor::Occlusion(method) => Attributor::Occlusion(Occlusion { rows, ..method }),
    }
}

#[test]
fn neighbours_places_and_batches_change_no_bit() {
    let explainer = explainer(picture_network(), "gradient", Backend::Cpu);
    let samples = pictures(5);
    for method in methods() {
        let whole = explain(&method, &explainer, &samples, Targets::ArgMax);
        for rows in [1, 3, 7, 1000] {
            let cut = explain(&with_rows(&method, rows), &explainer, &samples, Targets::ArgMax);
            assert_eq!(cut.inputs, whole.inputs, "{method:?} in batches of {rows}");
        }
        for sample in 0..5 {
            let alone = tensor(&[2, 3, 4], samples.row(sample).to_vec());
            let alone = explain(&method, &explainer, &alone, Targets::ArgMax);
            assert_eq!(alone.input().shape().dims(), [2, 3, 4]);
            assert_eq!(alone.input().data(), whole.input().row(sample), "{method:?}, sample {sample}");
        }
    }
}

#[test]
fn several_targets_are_those_of_the_sample_itself_one_by_one() {
    let explainer = explainer(picture_network(), "gradient", Backend::Cpu);
    let samples = pictures(4);
    for method in methods() {
        let each: Vec<Relevance> =
            (0..3).map(|target| explain(&method, &explainer, &samples, Targets::Class(target))).collect();
        for targets in [Targets::All, Targets::Classes(vec![2, 0]), Targets::Top(2), Targets::ArgMax] {
            let found = explain(&method, &explainer, &samples, targets.clone());
            for (row, &target) in found.targets.data().iter().enumerate() {
                let sample = row / (found.targets.count() / 4);
                let part = &found.input().data()[row * 24..][..24];
                for (found, known) in part.iter().zip(each[target].input().row(sample)) {
                    assert_abs_diff_eq!(found, known, epsilon = 2e-6);
                }
            }
        }
        let own = explain(&Attributor::Gradient, &explainer, &samples, Targets::Top(2));
        let found = explain(&method, &explainer, &samples, Targets::Top(2));
        assert_eq!((found.targets, found.logits), (own.targets, own.logits));
    }
}

#[test]
fn a_given_start_stays_with_its_sample_and_target() {
    let explainer = explainer(picture_network(), "gradient", Backend::Cpu);
    let (samples, method) = (pictures(2), integrated(3));
    let factors = [2.0, -1.0, 0.5, 3.0];
    let start = |row: usize, output: usize| if output == 2 * (row % 2) { factors[row] } else { 0.0 };
    let given = Tensor::from_fn([2, 2, 3], |i| start(i / 3, i % 3));
    for targets in [Targets::Classes(vec![0, 2]), Targets::Top(2)] {
        let request = Request::new(targets).start(Start::Given(given.clone()));
        let found = method.explain(&explainer, &[Input::from(&samples)], &request).unwrap();
        let one = |target| explain(&method, &explainer, &samples, Targets::Class(target));
        let known = [one(0), one(2)];
        for row in 0..4 {
            let of_sample = known[row % 2].input().row(row / 2);
            for (found, known) in found.input().data()[row * 24..][..24].iter().zip(of_sample) {
                assert_abs_diff_eq!(*found, factors[row] * known, epsilon = 1e-5);
            }
        }
    }
}

#[test]
fn integers_stay_as_they_are_and_every_real_input_has_its_turn() {
    let mut builder = Network::builder();
    let (token, a, b) = (builder.integer_input("token", [1]), builder.input("a", [2]), builder.input("b", [2]));
    let row = builder.lookup("table", token, tensor(&[3, 2], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0])).unwrap();
    let row = builder.reshape("row", row, [2]).unwrap();
    let sum = builder.sum("sum", &[row, a, b]).unwrap();
    let y = builder.dense("fc", sum, tensor(&[1, 2], vec![2.0, -3.0]), None).unwrap();
    let explainer = explainer(builder.build(y).unwrap(), "gradient", Backend::Cpu);
    let token = Tensor::new([2, 1], vec![2_i64, 0]).unwrap();
    let (a, b) = (tensor(&[2, 2], vec![1.0, 2.0, 3.0, 4.0]), tensor(&[2, 2], vec![-1.0, 0.5, 0.0, 7.0]));
    let inputs = [Input::from(&token), Input::from(&a), Input::from(&b)];
    for method in [integrated(4), Attributor::Occlusion(Occlusion::new([1]))] {
        let found = method.explain(&explainer, &inputs, &Request::new(Targets::ArgMax)).unwrap();
        assert_eq!(found.logits.data(), [2.0 * 4.0 - 3.0 * 7.5, 2.0 * 3.0 - 3.0 * 12.0]);
        for (named, (name, x)) in found.inputs.iter().zip([("a", &a), ("b", &b)]) {
            assert_eq!(named.name, name);
            for (i, (r, x)) in named.relevance.data().iter().zip(x.data()).enumerate() {
                assert_abs_diff_eq!(*r, x * [2.0, -3.0][i % 2], epsilon = 1e-5);
            }
        }
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_the_way_out() {
    let explainer = explainer(picture_network(), "gradient", Backend::Cpu);
    let samples = pictures(2);
    let plain = || Request::new(Targets::ArgMax);
    let refused = |method: Attributor, request: Request, kind: ErrorKind| {
        let error = method.explain(&explainer, &[Input::from(&samples)], &request).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.advice().is_some(), "{error}");
        assert!(method.check(&explainer, &request).is_err(), "{method:?} is checked before");
    };
    for method in methods() {
        refused(method.clone(), plain().report(true), ErrorKind::Argument);
        refused(method, plain().keep("relu"), ErrorKind::Argument);
    }
    refused(integrated(0), plain(), ErrorKind::Argument);
    for (steps, noise) in [(0, 0.1), (5, -1.0), (5, f32::NAN)] {
        let method = SmoothGrad { steps, noise, ..SmoothGrad::default() };
        refused(Attributor::SmoothGrad(method), plain(), ErrorKind::Argument);
    }
    let occlusion = |method| Attributor::Occlusion(method);
    refused(occlusion(Occlusion::new([1, 1, 1, 1])), plain(), ErrorKind::Argument);
    refused(occlusion(Occlusion { stride: vec![1], ..Occlusion::new([2, 2]) }), plain(), ErrorKind::Argument);
    refused(occlusion(Occlusion::new([2, 2])), plain().start(Start::One), ErrorKind::Argument);
    let given = Start::Given(Tensor::zeros([2, 3]));
    refused(occlusion(Occlusion::new([2, 2])), plain().start(given), ErrorKind::Argument);
    let wrong = Baseline::Sample(Tensor::zeros([5]));
    refused(occlusion(Occlusion { baseline: wrong.clone(), ..Occlusion::new([2, 2]) }), plain(), ErrorKind::Shape);
    let path = |baseline| Attributor::IntegratedGradients(IntegratedGradients { baseline, ..Default::default() });
    refused(path(wrong), plain(), ErrorKind::Shape);
    refused(path(Baseline::Value(f32::NAN)), plain(), ErrorKind::Data);
}

#[test]
fn what_is_not_finite_is_refused_unless_it_is_allowed() {
    let explainer = explainer(picture_network(), "gradient", Backend::Cpu);
    let mut samples = pictures(2);
    samples.data_mut()[24 + 3] = f32::NAN;
    for method in methods() {
        let request = Request::new(Targets::Class(0));
        let error = method.explain(&explainer, &[Input::from(&samples)], &request).unwrap_err();
        assert!(error.message().contains("sample 1, element 3"), "{error}");
        let found = method.explain(&explainer, &[Input::from(&samples)], &request.allow_nonfinite(true)).unwrap();
        assert!(found.input().row(0).iter().all(|r| r.is_finite()), "the other sample is as it was");
    }
}
