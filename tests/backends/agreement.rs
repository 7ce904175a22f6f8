//! Relevance, kept values and reports beside the reference: shapes, rules, starts, targets, and what must hold in itself.

use super::*;

#[test]
fn mlps_of_awkward_shapes_agree() {
    // One below, at and above the kernels' tile (14 rows, 32 columns) and their row block (98 rows).
    for (case, (widths, samples)) in [
        (vec![1, 1], 1),
        (vec![3, 31, 2], 13),
        (vec![32, 33, 1], 14),
        (vec![65, 64, 63, 5], 15),
        (vec![17, 96, 97, 10], 97),
        (vec![784, 20, 10], 98),
        (vec![11, 40, 10], 2 * 98 + 1),
        (vec![1100, 8, 3], 5),
    ]
    .into_iter()
    .enumerate()
    {
        for activation in [Activation::Relu, Activation::Gelu(GeluForm::Erf)] {
            let network = mlp(case as u64, &widths, activation, case % 2 == 0);
            let composite = composite_of(LinearRule::epsilon(damped()));
            let ask = Request::new(Targets::ArgMax).report(true);
            assert_backends_agree(network, &composite, samples, &ask, &format!("{widths:?} {activation:?}"));
        }
    }
}

#[test]
fn every_rule_agrees_on_dense_layers_sums_and_tokens() {
    for (position, rule) in every_rule().into_iter().enumerate() {
        let composite = composite_of(rule.clone());
        let ask = Request::new(Targets::ArgMax).report(true);
        assert_backends_agree(mlp(5, &[9, 14, 8, 4], Activation::Relu, true), &composite, 7, &ask, &rule.name);
        let affine_too = composite.clone().with_first(Selector::Family(Family::Affine), Rule::Linear(rule.clone()));
        let of_tangle = [(composite, "tangle"), (affine_too, "affine")];
        for (turn, (composite, what)) in of_tangle.into_iter().enumerate() {
            let backends = in_turn(position, turn, 2);
            assert_agree(backends, tangle(6), &composite, 5, &ask, &format!("{what} {}", rule.name));
        }
    }
}

#[test]
fn the_box_rule_agrees_at_the_first_layer() {
    let bounds = Bounds { low: Arc::new(Tensor::scalar(-1.0)), high: Arc::new(Tensor::scalar(1.0)) };
    let first = Rule::Linear(LinearRule::zbox(bounds, damped()));
    let composite = composite_of(LinearRule::epsilon(damped())).with_first(Selector::First, first);
    let ask = Request::new(Targets::ArgMax).report(true);
    assert_backends_agree(mlp(8, &[9, 14, 8, 4], Activation::Relu, true), &composite, 7, &ask, "box");
}

#[test]
fn gradients_agree_through_every_activation() {
    let activations = [
        Activation::Relu,
        Activation::LeakyRelu { slope: 0.2 },
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::Erf,
        Activation::Softplus { beta: 1.0 },
        Activation::Softplus { beta: 10.0 },
        Activation::Gelu(GeluForm::Erf),
        Activation::Gelu(GeluForm::Tanh),
        Activation::Elu { alpha: 0.75 },
        Activation::Selu { alpha: 1.5, gamma: 1.125 },
        Activation::Celu { alpha: 0.5 },
        Activation::Silu { beta: 1.5 },
        Activation::HardSigmoid { slope: 0.25, offset: 0.5 },
        Activation::HardSwish,
        Activation::Mish,
        Activation::Clip { low: 0.0, high: 0.5 },
        Activation::Clip { low: -0.25, high: f32::INFINITY },
        Activation::ThresholdedRelu { threshold: 0.25 },
        Activation::Softsign,
        Activation::Abs,
        Activation::Power { offset: 6.0, exponent: -0.75 },
        Activation::Power { offset: 0.0, exponent: 2.0 },
        Activation::Power { offset: 6.0, exponent: 0.5 },
        Activation::Power { offset: 6.0, exponent: -0.5 },
        Activation::Power { offset: 6.0, exponent: -1.0 },
    ];
    for (position, activation) in activations.into_iter().enumerate() {
        for (turn, preset) in ["gradient", "gradient-x-input"].into_iter().enumerate() {
            let composite = Composite::preset(preset).unwrap();
            let network = mlp(9, &[6, 13, 7, 3], activation, true);
            let what = format!("{preset} {activation:?}");
            let backends = in_turn(position, turn, 2);
            assert_agree(backends, network, &composite, 6, &Request::new(Targets::ArgMax), &what);
        }
    }
    let composite = Composite::preset("gradient-x-input").unwrap();
    assert_backends_agree(tangle(10), &composite, 6, &Request::new(Targets::ArgMax), "tangle gradient-x-input");
}

#[test]
fn rules_for_rectifiers_agree() {
    let rectifiers =
        [PointwiseRule::Deconvnet, PointwiseRule::GuidedBackprop, PointwiseRule::BetaSmooth { beta: 10.0 }];
    for rule in rectifiers {
        // Above gradients, and above rules whose relevance vanishes where a rectifier is 0.
        for linear in [LinearRule::gradient(), LinearRule::gamma(0.25, damped())] {
            let what = format!("{} and {}", rule.describe(), linear.name);
            let composite = composite_of(linear).with_first(Selector::Family(Family::Pointwise), Rule::Pointwise(rule));
            let ask = Request::new(Targets::ArgMax).report(true);
            assert_backends_agree(mlp(9, &[6, 13, 7, 3], Activation::Relu, true), &composite, 6, &ask, &what);
        }
    }
}

#[test]
fn every_preset_agrees() {
    let options = PresetOptions { epsilon: Some(damped()), stabilizer: Some(damped()), ..PresetOptions::default() };
    // LRP-0 has no damping that would keep the comparison well conditioned; other tests hold it.
    for preset in relprop::composite::PRESETS.into_iter().filter(|&preset| preset != "zero") {
        let composite = Composite::preset_with(preset, options).unwrap().with_input_bounds(bounds());
        let network = if fits_tangle(preset) { tangle(10) } else { mlp(10, &[6, 13, 7, 3], Activation::Relu, true) };
        // tests/gpu has every preset on the GPU, and tests/goldens those that a tool knows.
        assert_agree(vec![on(Backend::Cpu)], network, &composite, 6, &Request::new(Targets::ArgMax), preset);
    }
}

#[test]
fn starts_and_kept_values_agree() {
    let composite = composite_of(LinearRule::epsilon(damped()));
    let given = Numbers(3).tensor(&[5, 4]);
    for start in
        [Start::Logit, Start::One, Start::Probability, Start::NegativeLogit, Start::Contrast, Start::Given(given)]
    {
        let what = format!("start {start}");
        let ask = Request::new(Targets::ArgMax).start(start).keep("tanh").keep("both").keep("image").report(true);
        assert_backends_agree(tangle(11), &composite, 5, &ask, &what);
    }
}

#[test]
fn several_targets_share_a_pass_and_each_is_bit_for_bit_a_run_of_its_own() {
    for network in [mlp(12, &[20, 33, 17, 5], Activation::Relu, true), tangle(13)] {
        let composite = composite_of(LinearRule::gamma(0.5, Stabilizer::Rms(0.1)));
        let ask = Request::new(Targets::Classes(vec![2, 0, 3])).keep("dense");
        assert_backends_agree(network.clone(), &composite, 9, &ask, "three targets");

        let network = Arc::new(network);
        let data = inputs(&network, 9, 5);
        let all = explain(&network, &composite, on(Backend::Cpu), &data, &Request::new(Targets::All));
        let outputs = network.shape(network.output()).count();
        for class in 0..outputs {
            let one = explain(&network, &composite, on(Backend::Cpu), &data, &Request::new(Targets::Class(class)));
            for (all, one) in all.inputs.iter().zip(&one.inputs) {
                let width = one.relevance.count() / 9;
                for sample in 0..9 {
                    let of_all = &all.relevance.data()[(sample * outputs + class) * width..][..width];
                    assert_eq!(of_all, one.relevance.row(sample), "class {class}, sample {sample}");
                }
            }
        }
    }
}

#[test]
fn a_report_says_which_rules_conserve() {
    let network = Arc::new(mlp(33, &[20, 30, 5], Activation::Relu, true));
    let data = inputs(&network, 16, 9);
    let ask = Request::new(Targets::ArgMax).report(true);
    for (preset, conserves) in [("epsilon", true), ("gradient", false)] {
        for backend in [Backend::Cpu, Backend::Reference] {
            let composite = Composite::preset(preset).unwrap();
            let report = explain(&network, &composite, on(backend), &data, &ask).report.unwrap();
            let dense = report.layers.iter().filter(|layer| layer.name.starts_with("dense"));
            assert!(dense.clone().count() == 2 && dense.into_iter().all(|layer| layer.sums.conserves() == conserves));
        }
    }
}

#[test]
fn what_epsilon_absorbs_is_measured_at_its_default_too() {
    let network = Arc::new(mlp(32, &[20, 30, 5], Activation::Relu, true));
    let data = inputs(&network, 16, 9);
    let composite = Composite::preset("epsilon").unwrap();
    let ask = Request::new(Targets::ArgMax).report(true);
    let sums = |backend| explain(&network, &composite, on(backend), &data, &ask).report.unwrap().layers;
    for (found, exact) in sums(Backend::Cpu).iter().zip(&sums(Backend::Reference)) {
        approx::assert_relative_eq!(found.sums.epsilon, exact.sums.epsilon, max_relative = 1e-2);
    }
}

#[test]
fn relevance_is_conserved_on_networks_without_biases_at_epsilon_zero() {
    let network = Arc::new(mlp(22, &[30, 40, 20, 6], Activation::Relu, false));
    let data = inputs(&network, 64, 11);
    let composite = Composite::preset("zero").unwrap();
    let relevance = explain(&network, &composite, on(Backend::Cpu), &data, &Request::new(Targets::ArgMax).report(true));
    for (sample, score) in relevance.scores().data().iter().enumerate() {
        let sum: f32 = relevance.input().row(sample).iter().sum();
        approx::assert_relative_eq!(sum, score, epsilon = 1e-3, max_relative = 1e-3);
    }
    assert!(relevance.report.unwrap().layers.iter().all(|layer| layer.sums.conserves()));
}

#[test]
fn epsilon_towards_zero_is_gradient_times_input_on_rectifiers_with_biases() {
    let network = Arc::new(mlp(23, &[30, 40, 20, 6], Activation::Relu, true));
    let data = inputs(&network, 64, 12);
    let ask = Request::new(Targets::ArgMax);
    let zero = explain(&network, &Composite::preset("zero").unwrap(), on(Backend::Cpu), &data, &ask);
    let gradient = explain(&network, &Composite::preset("gradient-x-input").unwrap(), on(Backend::Cpu), &data, &ask);
    assert_close(zero.input(), gradient.input(), 1e-4, "LRP-0 against gradient x input");
}

#[test]
fn relevance_is_linear_in_the_start() {
    let network = Arc::new(tangle(24));
    let data = inputs(&network, 6, 13);
    let composite = Composite::preset("epsilon").unwrap();
    let (a, b) = (Numbers(1).tensor(&[6, 4]), Numbers(2).tensor(&[6, 4]));
    let sum = Tensor::from_fn([6, 4], |i| 2.0 * a.data()[i] - b.data()[i]);
    let from = |start: Tensor| {
        let ask = Request::new(Targets::Class(0)).start(Start::Given(start));
        explain(&network, &composite, on(Backend::Reference), &data, &ask)
    };
    let (of_a, of_b, of_sum) = (from(a), from(b), from(sum));
    for ((a, b), sum) in of_a.inputs.iter().zip(&of_b.inputs).zip(&of_sum.inputs) {
        let expected =
            Tensor::from_fn(a.relevance.shape().clone(), |i| 2.0 * a.relevance.data()[i] - b.relevance.data()[i]);
        assert_close(&sum.relevance, &expected, 1e-5, &sum.name);
    }
}
