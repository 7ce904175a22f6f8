//! Inputs of both signs under rules that weigh contributions by whether x and W agree: two products forward and two back.

use relprop::layers::{Conv, Divisor, Layer};

use super::*;

/// Dense layers wide enough for halves to pay, with values of both signs between them.
fn both_signs() -> Network {
    mlp(29, &[70, 72, 66, 4], Activation::Tanh, true)
}

/// The products that the plan makes with each layer that has a weight.
fn products(network: &Network, rule: LinearRule, ask: &Ask) -> Vec<usize> {
    products_of(&plan_of(network, &composite_of(rule), ask), network)
}

/// The same where the CPU runs both products of a convolution together.
fn products_on_cpu(network: &Network, rule: LinearRule) -> Vec<usize> {
    let target = Target { together: true, ..Target::UNLIMITED };
    let rules = composite_of(rule).assign(network).unwrap();
    products_of(&plan::build(network, &rules, &Ask::default(), &target).unwrap(), network)
}

/// A dense layer, or a convolution whose window is all of its input.
fn one_layer(shape: &[usize], weight: Tensor) -> Network {
    let outputs = weight.shape().dims()[0];
    let mut builder = Network::builder();
    let input = builder.input("x", shape.to_vec());
    if let [_, height, width] = shape {
        let window = Window::new([*height, *width].map(WindowAxis::new).to_vec()).unwrap();
        let weight = weight.reshape([&[outputs], shape].concat()).unwrap();
        let conv = builder.conv("conv", input, weight, None, window, 1).unwrap();
        let flat = builder.reshape("flat", conv, [outputs]).unwrap();
        builder.build(flat).unwrap()
    } else {
        let output = builder.dense("dense", input, weight, None).unwrap();
        builder.build(output).unwrap()
    }
}

fn products_of(plan: &plan::Plan, network: &Network) -> Vec<usize> {
    let of_layer = |layer| plan.steps.iter().filter(move |step| step.layer == Some(layer));
    let count = |layer| of_layer(layer).map(|step| step.products().count()).sum();
    network.layer_ids().map(|(layer, _)| count(layer)).filter(|count| *count > 0).collect()
}

#[test]
fn every_group_takes_the_same_two_products_each_way() {
    let ask = Ask::default();
    assert_eq!(products(&both_signs(), LinearRule::alpha_beta(2.0, damped()), &ask), [4; 3]);
    assert_eq!(products(&both_signs(), LinearRule::z_plus(damped()), &ask), [4; 3]);
    assert_eq!(products(&both_signs(), LinearRule::gamma(0.25, damped()), &ask), [4; 3]);
    assert_eq!(products(&both_signs(), LinearRule::innvestigate_alpha_beta(2.0, damped()), &ask), [6; 3]);
    let outputs_alone = Ask { forward_only: true, ..ask.clone() };
    assert_eq!(products(&both_signs(), LinearRule::alpha_beta(2.0, damped()), &outputs_alone), [1; 3]);
    // What nothing holds stays in parts.
    assert_eq!(products(&both_signs(), LinearRule::z_plus(Stabilizer::Absolute(0.0)), &ask), [5; 3]);
    // Where few products are saved, a buffer more would cost as much.
    let narrow = mlp(29, &[16, 16, 4], Activation::Tanh, true);
    assert_eq!(products(&narrow, LinearRule::alpha_beta(2.0, damped()), &ask), [8; 2]);
}

#[test]
fn narrow_convolutions_are_halves_where_their_products_run_together() {
    let mut numbers = Numbers(37);
    let mut builder = Network::builder();
    let mut value = builder.input("x", [8, 6, 5]);
    for (kernel, groups) in [(1, 1), (3, 8)] {
        let axis = WindowAxis { before: kernel / 2, after: kernel / 2, ..WindowAxis::new(kernel) };
        let weight = numbers.weight(8, 8 / groups * kernel * kernel).reshape([8, 8 / groups, kernel, kernel]).unwrap();
        let conv = builder.conv("conv", value, weight, None, Window::new(vec![axis; 2]).unwrap(), groups).unwrap();
        value = builder.activation("tanh", conv, Activation::Tanh).unwrap();
    }
    let network = builder.build(value).unwrap();
    let composite = composite_of(LinearRule::alpha_beta(2.0, damped()));
    let rule = || LinearRule::alpha_beta(2.0, damped());
    assert_eq!(products_on_cpu(&network, rule()), [4; 2]);
    assert_eq!(products(&network, rule(), &Ask::default()), [8; 2]);
    // Of four inputs one alone is often what the others disagree with.
    assert_eq!(products_on_cpu(&one_layer(&[1, 2, 2], numbers.weight(4, 4)), rule()), [8]);
    assert_agree(
        vec![on(Backend::Cpu)],
        network,
        &composite,
        2,
        &Request::new(Targets::Class(3)),
        "narrow convolutions",
    );
}

#[test]
fn rules_that_weigh_by_agreement_agree_on_dense_layers() {
    let mut redistributed = LinearRule::gamma(0.25, damped());
    redistributed.groups.iter_mut().for_each(|group| group.share = Share::Redistributed);
    let rules = [
        LinearRule::alpha_beta(2.0, damped()),
        // Some of the denominators are smaller than that, and some are not.
        LinearRule::alpha_beta(2.0, Stabilizer::Clip(2.0)),
        LinearRule::alpha_beta(2.0, Stabilizer::Rms(0.25)),
        LinearRule::innvestigate_alpha_beta(2.0, damped()),
        LinearRule::z_plus(damped()),
        LinearRule::gamma(0.25, damped()),
        redistributed,
    ];
    for rule in rules {
        let composite = composite_of(rule.clone());
        for report in [true, false] {
            // Reports take quotients apart, which are sums of two without.
            let backends = if report { vec![on(Backend::Cpu)] } else { compared() };
            let ask = Request::new(Targets::Top(2)).report(report);
            assert_agree(backends, both_signs(), &composite, 7, &ask, &rule.name);
        }
    }
}

#[test]
fn alpha_beta_and_gamma_agree_on_convolutions_of_both_signs() {
    // The second one is made in tiles on the CPU.
    let mut numbers = Numbers(31);
    let mut builder = Network::builder();
    let axis = WindowAxis { before: 1, after: 1, ..WindowAxis::new(3) };
    let mut value = builder.input("x", [8, 21, 22]);
    for (outputs, inputs) in [(32, 8), (32, 32)] {
        let weight = numbers.weight(outputs, inputs * 9).reshape([outputs, inputs, 3, 3]).unwrap();
        let bias = Tensor::from_fn([outputs], |_| numbers.next() * 0.3);
        let window = Window::new(vec![axis; 2]).unwrap();
        let conv = builder.conv("conv", value, weight, Some(bias), window, 1).unwrap();
        value = builder.activation("activation", conv, Activation::LeakyRelu { slope: 0.25 }).unwrap();
    }
    let average = builder.global_average_pool("average", value).unwrap();
    let flat = builder.reshape("flat", average, [32]).unwrap();
    let output = dense(&mut builder, &mut numbers, flat, 4, true);
    let network = builder.build(output).unwrap();
    let ask = Request::new(Targets::ArgMax);
    for rule in [LinearRule::alpha_beta(2.0, damped()), LinearRule::gamma(0.25, damped())] {
        let counted = products(&network, rule.clone(), &Ask::default());
        assert_eq!(counted[..2], [4; 2], "{}", rule.name);
        assert_backends_agree(network.clone(), &composite_of(rule.clone()), 2, &ask, &rule.name);
    }
}

#[test]
fn convolutions_of_every_kind_and_large_dense_weights_agree_on_inputs_of_both_signs() {
    let mut numbers = Numbers(33);
    let same =
        |kernel: usize, stride| WindowAxis { before: kernel / 2, after: kernel / 2, stride, ..WindowAxis::new(kernel) };
    let dilated = WindowAxis { before: 2, after: 2, dilation: 2, ..WindowAxis::new(3) };
    // Channels of input and output, groups, and axes.
    let kinds = [
        ("one axis", vec![8, 31], 12, 1, vec![same(9, 2)]),
        ("three axes", vec![3, 5, 6, 7], 5, 1, vec![same(3, 1); 3]),
        ("strides", vec![3, 19, 17], 40, 1, vec![same(7, 2); 2]),
        ("dilation", vec![4, 11, 12], 20, 1, vec![dilated; 2]),
        ("groups", vec![16, 9, 10], 12, 2, vec![same(3, 1); 2]),
        ("depthwise", vec![8, 12, 11], 8, 8, vec![same(7, 1); 2]),
        ("points", vec![40, 9, 8], 24, 1, vec![WindowAxis::new(1); 2]),
    ];
    for (what, shape, outputs, groups, axes) in kinds {
        for is_transposed in [false, true] {
            let kernel: Vec<usize> = axes.iter().map(|axis| axis.kernel).collect();
            let fan_in = shape[0] / groups * kernel.iter().product::<usize>();
            let weight = numbers.weight(outputs, fan_in);
            let dims = if is_transposed { [shape[0], outputs / groups] } else { [outputs, shape[0] / groups] };
            let weight = weight.reshape([&dims[..], &kernel].concat()).unwrap();
            let bias = Some(Arc::new(Tensor::from_fn([outputs], |_| numbers.next() * 0.3)));
            let window = Window::new(axes.clone()).unwrap();
            let conv = if is_transposed {
                Conv::transposed(weight, bias, window, groups, vec![0; kernel.len()])
            } else {
                Conv::new(weight, bias, window, groups)
            };
            let mut builder = Network::builder();
            let input = builder.input("x", shape.clone());
            let conv = builder.layer("conv", Layer::Conv(conv.unwrap()), vec![input]).unwrap();
            let output = builder.activation("tanh", conv, Activation::Tanh).unwrap();
            check(builder.build(output).unwrap(), &format!("{what}, transposed: {is_transposed}"));
        }
    }
    // Behind windows, a weight of more than 2²¹ elements stays where it is.
    let mut builder = Network::builder();
    let input = builder.input("x", [2, 32, 33]);
    let pooled =
        builder.average_pool("pool", input, Window::new(vec![same(3, 1); 2]).unwrap(), Divisor::Inside).unwrap();
    let flat = builder.reshape("flat", pooled, [2 * 32 * 33]).unwrap();
    let output = dense(&mut builder, &mut numbers, flat, 1000, true);
    check(builder.build(output).unwrap(), "a large dense weight");
}

/// Under αβ and γ on the CPU, with the layer that has a weight made of halves.
fn check(network: Network, what: &str) {
    for rule in [LinearRule::alpha_beta(2.0, damped()), LinearRule::gamma(0.25, damped())] {
        assert!(products(&network, rule.clone(), &Ask::default()).contains(&4), "{what}, {}", rule.name);
        let (ask, options) = (Request::new(Targets::Class(3)), vec![on(Backend::Cpu)]);
        assert_agree(options, network.clone(), &composite_of(rule.clone()), 2, &ask, &format!("{what}, {}", rule.name));
    }
}

/// Where nothing raises z, R / ε would stand before the difference of two roundings.
/// A convolution of pixels of both signs, a rectifier and a dense layer.
fn of_pixels([sources, targets, kernel, groups]: [usize; 4], axis: WindowAxis) -> Network {
    let mut numbers = Numbers(67);
    let mut builder = Network::builder();
    let x = builder.input("x", [sources, 14, 13]);
    let shape = [targets, sources / groups, kernel, kernel];
    let weight = numbers.weight(targets, sources / groups * kernel * kernel).reshape(shape).unwrap();
    let conv = builder.conv("conv", x, weight, None, Window::new(vec![axis; 2]).unwrap(), groups).unwrap();
    let relu = builder.relu("relu", conv).unwrap();
    let pooled = builder.global_average_pool("average", relu).unwrap();
    let flat = builder.reshape("flat", pooled, [targets]).unwrap();
    let logits = builder.dense("head", flat, numbers.weight(4, targets), None).unwrap();
    builder.build(logits).unwrap()
}

#[test]
fn both_products_back_to_inputs_of_both_signs_agree_for_every_kind_of_window() {
    let window = |kernel: usize, stride: usize, dilation: usize| {
        let padding = (kernel - 1) * dilation / 2;
        WindowAxis { before: padding, after: padding, stride, dilation, ..WindowAxis::new(kernel) }
    };
    // Some strides leave positions that no window covers.
    for (channels, axis) in [
        ([24, 40, 1, 1], window(1, 1, 1)),
        ([24, 64, 1, 1], window(1, 2, 1)),
        ([24, 40, 3, 1], window(3, 2, 2)),
        ([33, 40, 3, 1], window(3, 1, 1)),
        ([24, 40, 3, 1], window(3, 2, 1)),
        ([24, 40, 5, 1], window(5, 3, 1)),
        ([64, 64, 3, 2], window(3, 2, 1)),
        ([520, 24, 1, 1], window(1, 1, 1)),
    ] {
        let what = format!("{channels:?}, stride {}, dilation {}", axis.stride, axis.dilation);
        let composite = composite_of(LinearRule::z_plus(damped()));
        for targets in [Targets::ArgMax, Targets::Top(2)] {
            let ask = Request::new(targets);
            assert_agree(vec![on(Backend::Cpu)], of_pixels(channels, axis), &composite, 5, &ask, &what);
        }
    }
}

#[test]
fn outputs_that_nothing_raises_or_lowers_give_no_more_than_their_relevance() {
    let (mut numbers, outputs) = (Numbers(38), 16);
    // A dense layer and two convolutions, the second as narrow as a depthwise one.
    for shape in [vec![3 * 49], vec![3, 7, 7], vec![1, 3, 3]] {
        let width: usize = shape.iter().product();
        let x = numbers.tensor(&[1, width]);
        // Everything lowers the first output and raises the second; the third sees three inputs, the others all of them.
        let weight = Tensor::from_fn([outputs, width], |at| {
            let (output, input) = (at / width, at % width);
            let w = numbers.next();
            match output {
                0 => -w.abs() * x.data()[input].signum(),
                1 => w.abs() * x.data()[input].signum(),
                2 if input >= 3 => 0.0,
                _ => w,
            }
        });
        let network = Arc::new(one_layer(&shape, weight));
        let data = [x.clone().reshape(network.shape(network.inputs()[0].value).prepend(1)).unwrap()];
        // One rule whose quotients are made where they are sent, and one whose quotients are kept.
        for stabilizer in [Stabilizer::Absolute(1e-6), Stabilizer::Rms(1e-6)] {
            let rule = LinearRule::alpha_beta(2.0, stabilizer);
            assert_eq!(products_on_cpu(&network, rule.clone()), [4]);
            for target in 0..4 {
                let ask = Request::new(Targets::Class(target));
                let exact = explain(&network, &composite_of(rule.clone()), on(Backend::Reference), &data, &ask);
                for options in compared() {
                    let what = format!("{}, {shape:?}, {stabilizer:?}, output {target}", options.backend);
                    let found = explain(&network, &composite_of(rule.clone()), options, &data, &ask);
                    assert_close(found.input(), exact.input(), 3e-6, &what);
                }
            }
        }
    }
}

/// What the smaller one of what raises and what lowers is off by are roundings of the larger one, and no more.
#[test]
fn a_small_share_beside_a_large_one_keeps_the_digits_that_it_has() {
    let mut numbers = Numbers(41);
    // All but three contributions of a dense layer agree, and all but one of a narrow convolution's.
    let layers = [(vec![64], 3.0), (vec![1, 3, 3], 1.0)];
    let cases = layers.iter().flat_map(|layer| [1e-1, 1e-2, 1e-3, 1e-4].map(|smaller| (layer, smaller)));
    for ((shape, others), smaller) in cases {
        let width: usize = shape.iter().product();
        for sign in [1.0, -1.0] {
            let mut magnitude = || 0.5 + numbers.next().abs();
            let x = Tensor::from_fn([1, width], |at| magnitude() * if at % 2 == 0 { 1.0 } else { -1.0 });
            let of = |at: usize| if at % 20 == 7 { -smaller * sign } else { sign };
            let weight = Tensor::from_fn([1, width], |at| magnitude() * of(at) * x.data()[at].signum());
            let network = Arc::new(one_layer(shape, weight));
            let rule = LinearRule::alpha_beta(2.0, Stabilizer::Absolute(1e-6));
            assert_eq!(products_on_cpu(&network, rule.clone()), [4]);
            let x = x.reshape(network.shape(network.inputs()[0].value).prepend(1)).unwrap();
            let (data, ask) = ([x], Request::new(Targets::Class(0)));
            let exact = explain(&network, &composite_of(rule.clone()), on(Backend::Reference), &data, &ask);
            for options in compared() {
                let what = format!("{}, {shape:?}, {smaller} of {sign}", options.backend);
                let found = explain(&network, &composite_of(rule.clone()), options, &data, &ask);
                let ratio = width as f64 / others / f64::from(smaller);
                assert_close(found.input(), exact.input(), ratio * f64::from(f32::EPSILON), &what);
            }
        }
    }
}
