//! Networks with convolutions, pools, maps along an axis and gates beside the reference.

use super::*;

/// Samples of most comparisons: the float64 reference takes them one by one.
const SAMPLES: usize = 3;

#[test]
fn every_rule_agrees_on_convolutional_networks() {
    for (position, rule) in every_rule().into_iter().enumerate() {
        let composite = composite_of(rule.clone());
        let ask = Request::new(Targets::ArgMax).report(true);
        let networks = convolutional(41);
        let count = networks.len();
        for (place, (name, network)) in networks.into_iter().enumerate() {
            let backends = in_turn(position, place, count);
            assert_agree(backends, network, &composite, SAMPLES, &ask, &format!("{name} {}", rule.name));
        }
    }
}

#[test]
fn the_box_rule_agrees_at_the_first_convolution() {
    let bounds = Bounds { low: Arc::new(Tensor::scalar(-1.0)), high: Arc::new(Tensor::scalar(1.0)) };
    let first = Rule::Linear(LinearRule::zbox(bounds, damped()));
    let composite = composite_of(LinearRule::epsilon(damped())).with_first(Selector::First, first);
    let ask = Request::new(Targets::ArgMax).report(true);
    for (place, (name, network)) in convolutional(42).into_iter().enumerate() {
        // Every second takes its turn on the GPU.
        assert_agree(in_turn(0, place % 2, 2), network, &composite, SAMPLES, &ask, &format!("box, {name}"));
    }
}

#[test]
fn every_preset_agrees_on_convolutional_networks() {
    let options = PresetOptions { epsilon: Some(damped()), stabilizer: Some(damped()), ..PresetOptions::default() };
    // LRP-0 has no damping that would keep the comparison well conditioned; other tests hold it.
    let presets = relprop::composite::PRESETS.into_iter().filter(|&preset| preset != "zero");
    for (position, preset) in presets.enumerate() {
        let composite = Composite::preset_with(preset, options).unwrap().with_input_bounds(bounds());
        let networks = convolutional(43);
        let count = networks.len();
        for (place, (name, network)) in networks.into_iter().enumerate() {
            let what = format!("{preset} {name}");
            // The GPU takes every second preset here; the others run on it under `tests/gpu` and against the goldens.
            let backends = if position % 2 == 0 { in_turn(position, place, count) } else { vec![on(Backend::Cpu)] };
            assert_agree(backends, network, &composite, SAMPLES, &Request::new(Targets::ArgMax), &what);
        }
    }
}

#[test]
fn channels_and_positions_beyond_a_tile_agree() {
    let rules = [
        LinearRule::epsilon(damped()),
        LinearRule::gamma(0.25, damped()),
        LinearRule::z_plus(damped()),
        LinearRule::w_square(damped()),
    ];
    for rule in rules {
        let ask = Request::new(Targets::ArgMax).report(true);
        assert_backends_agree(wide_convnet(44), &composite_of(rule.clone()), 2, &ask, &format!("wide, {}", rule.name));
    }
}

#[test]
fn batches_beyond_a_chunk_and_several_targets_agree() {
    let composite = composite_of(LinearRule::gamma(0.25, damped()));
    for (place, (name, network)) in convolutional(45).into_iter().enumerate() {
        // Every third takes its turn on the GPU.
        let ask = Request::new(Targets::Classes(vec![2, 0])).report(true);
        assert_agree(in_turn(0, place % 3, 3), network.clone(), &composite, 9, &ask, &format!("two targets, {name}"));
        let ask = Request::new(Targets::All);
        assert_agree(in_turn(1, place % 3, 3), network, &composite, 1, &ask, &format!("all targets, {name}"));
    }
}

#[test]
fn kept_values_of_convolutional_networks_agree() {
    let composite = composite_of(LinearRule::epsilon(damped()));
    let keep = |mut ask: Request, names: &[&str]| {
        for name in names {
            ask = ask.keep(*name);
        }
        ask
    };
    for (network, names) in [
        (convnet(46), &["conv", "max", "average"][..]),
        (residual_convnet(46), &["sum", "relu"]),
        (unet(46), &["up", "join", "resize", "slice"]),
        (gated(46), &["pad", "gate", "expand", "gated", "product"]),
    ] {
        let ask = keep(Request::new(Targets::ArgMax), names);
        assert_backends_agree(network, &composite, SAMPLES, &ask, &format!("{names:?}"));
    }
}

#[test]
fn rules_for_rectifiers_agree_between_convolutions() {
    let rectifiers =
        [PointwiseRule::Deconvnet, PointwiseRule::GuidedBackprop, PointwiseRule::BetaSmooth { beta: 10.0 }];
    for (position, rule) in rectifiers.into_iter().enumerate() {
        let composite =
            Composite::preset("gradient").unwrap().with_first(Selector::kind("relu"), Rule::Pointwise(rule));
        for (place, (name, network)) in convolutional(47).into_iter().enumerate() {
            let what = format!("{} {name}", rule.describe());
            let backends = in_turn(position, place % rectifiers.len(), rectifiers.len());
            assert_agree(backends, network, &composite, SAMPLES, &Request::new(Targets::ArgMax), &what);
        }
    }
}

#[test]
fn ties_of_a_max_pool_go_to_the_first_on_every_backend() {
    let mut builder = Network::builder();
    let x = builder.input("x", [2, 5, 6]);
    let axis = WindowAxis { stride: 2, before: 1, after: 1, ..WindowAxis::new(3) };
    let pooled = builder.max_pool("max", x, Window::new(vec![axis; 2]).unwrap()).unwrap();
    let flat = builder.reshape("flat", pooled, [18]).unwrap();
    let weight = Numbers(48).tensor(&[3, 18]);
    let scores = builder.dense("scores", flat, weight, None).unwrap();
    let network = Arc::new(builder.build(scores).unwrap());
    // Few different numbers, all below zero: every window has ties, and padding would win if it were a zero.
    let data = [Tensor::from_fn([8, 2, 5, 6], |i| -1.0 - ((i * 7 + i / 11) % 3) as f32)];
    let composite = composite_of(LinearRule::epsilon(damped()));
    let ask = Request::new(Targets::ArgMax);
    let exact = explain(&network, &composite, on(Backend::Reference), &data, &ask);
    for options in compared() {
        let what = format!("{} ties", options.backend);
        assert_agrees(explain(&network, &composite, options, &data, &ask), &exact, &what);
    }
}
