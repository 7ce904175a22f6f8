//! Whole networks with convolutions, pools, maps along an axis and gates: the chain rule, and where relevance stays.

use relprop::composite::Composite;
use relprop::layers::{Activation, AxisMap, AxisMapKind, Conv, Divisor, Layer, Multiply, Window, WindowAxis};
use relprop::network::Network;
use relprop::reference::Explanation;

use crate::networks::{differences, distance_to_kinks};
use crate::numbers::Numbers;
use crate::{assert_close, at_inputs, explained, zoo};

/// A stem, a pool whose windows overlap, a gated branch, a shortcut, an upsampled join, and an average over the grid.
fn everything(numbers: &mut Numbers) -> Network {
    let axis =
        |kernel: usize, stride| WindowAxis { stride, before: kernel / 2, after: kernel / 2, ..WindowAxis::new(kernel) };
    let square = |kernel, stride| Window::new(vec![axis(kernel, stride); 2]).unwrap();
    let mut builder = Network::builder();
    let x = builder.input("x", [2, 7, 6]);
    let stem = builder.conv(
        "stem",
        x,
        numbers.smooth_tensor(&[4, 2, 3, 3]),
        Some(numbers.smooth_tensor(&[4])),
        square(3, 1),
        1,
    );
    let stem = builder.relu("relu", stem.unwrap()).unwrap();
    let pooled = builder.max_pool("max", stem, square(3, 2)).unwrap();
    let shape = builder.shape(pooled).dims().to_vec();
    let grouped = builder.conv("grouped", pooled, numbers.smooth_tensor(&[4, 2, 3, 3]), None, square(3, 1), 2).unwrap();
    let squeezed = builder.global_average_pool("squeeze", grouped).unwrap();
    let excited =
        builder.conv("excite", squeezed, numbers.smooth_tensor(&[4, 4, 1, 1]), None, square(1, 1), 1).unwrap();
    let mut gate = builder.activation("gate", excited, Activation::Sigmoid).unwrap();
    for axis in [1, 2] {
        let spread = AxisMap::picking(AxisMapKind::Expand, axis, 1, vec![Some(0); shape[axis]]).unwrap();
        gate = builder.layer("spread", Layer::AxisMap(spread), vec![gate]).unwrap();
    }
    let gated = builder.layer("gated", Layer::Multiply(Multiply), vec![grouped, gate]).unwrap();
    let joined = builder.sum("skip", &[gated, pooled]).unwrap();
    let fine = Window::new(vec![WindowAxis { stride: 2, ..WindowAxis::new(2) }; 2]).unwrap();
    let (weight, bias) = (numbers.smooth_tensor(&[4, 3, 2, 2]), numbers.smooth_tensor(&[3]));
    let up = Conv::transposed(weight, Some(bias.into()), fine, 1, vec![0, 0]).unwrap();
    let up = builder.layer("up", Layer::Conv(up), vec![joined]).unwrap();
    let halves = (0..shape[1]).map(|i| vec![(i, 0.75), ((i + 1).min(shape[1] - 1), 0.25)]).flat_map(|s| [s.clone(), s]);
    let wide = AxisMap::new(AxisMapKind::Resize, 1, shape[1], halves.collect()).unwrap();
    let wide = builder.layer("wide", Layer::AxisMap(wide), vec![joined]).unwrap();
    let twice = AxisMap::picking(AxisMapKind::Resize, 2, shape[2], (0..2 * shape[2]).map(|i| Some(i / 2))).unwrap();
    let wide = builder.layer("twice", Layer::AxisMap(twice), vec![wide]).unwrap();
    let both = builder.concat("both", &[up, wide], 0).unwrap();
    let average = builder.average_pool("average", both, square(3, 2), Divisor::InsidePadded).unwrap();
    let features = builder.shape(average).count();
    let flat = builder.reshape("flat", average, [features]).unwrap();
    let scores = builder.dense("scores", flat, numbers.smooth_tensor(&[3, features]), None).unwrap();
    builder.build(scores).unwrap()
}

/// The least distance between the winner of a max pool's window and the others of its channel.
fn distance_between_values(network: &Network, explanation: &Explanation) -> f64 {
    let pools = network.layers().iter().filter(|node| matches!(node.layer, Layer::MaxPool(_)));
    let mut least = f64::INFINITY;
    for node in pools {
        let mut values = explanation.values[node.inputs[0].index()].clone();
        values.retain(|x| *x > 0.0);
        values.sort_by(f64::total_cmp);
        least = values.windows(2).map(|pair| pair[1] - pair[0]).fold(least, f64::min);
    }
    least
}

#[test]
fn the_gradient_of_a_convolutional_network_is_that_of_central_differences() {
    let mut numbers = Numbers(31);
    let network = everything(&mut numbers);
    let (inputs, start) = (vec![numbers.smooths(84)], numbers.smooths(3));
    let explanation = explained(&network, &Composite::preset("gradient").unwrap(), &inputs, &start);
    assert!(distance_to_kinks(&network, &explanation) > 1e-4);
    assert!(distance_between_values(&network, &explanation) > 1e-4);
    // Truncation is step²/6 times a third derivative; rounding 1e-16 of values near 10 over the step.
    let found = at_inputs(&network, &explanation);
    assert_close(&found, &differences(&network, &inputs, &start, 1e-5), 1e-8, "gradient");
}

#[test]
fn what_layers_absorb_and_drop_adds_up_to_what_the_inputs_lack() {
    for (name, network) in zoo::convolutional(3) {
        for preset in ["epsilon", "gamma", "epsilon-plus-flat", "epsilon-alpha2-beta1", "gradient"] {
            let place = format!("{preset} on {name}");
            let mut numbers = Numbers(32);
            let input = numbers.smooths(network.shape(network.inputs()[0].value).count());
            let start = numbers.smooths(network.shape(network.output()).count());
            let explanation = explained(&network, &Composite::preset(preset).unwrap(), &[input], &start);
            let mut left = start.iter().sum::<f64>();
            let mut size = 1.0_f64;
            for (node, sums) in network.layers().iter().zip(&explanation.layers) {
                let at = |value| explanation.at(value).iter().sum::<f64>();
                match sums {
                    Some(sums) => left -= sums.bias + sums.epsilon + sums.dropped,
                    // Rules that look at no input give to padding too. Every other layer without a rule only moves.
                    None if node.layer.kind() == "pad" => left -= at(node.output) - at(node.inputs[0]),
                    None => {}
                }
                size += explanation.at(node.output).iter().map(|r| r.abs()).sum::<f64>();
            }
            let arrived: f64 = at_inputs(&network, &explanation).iter().sum();
            // Sums of thousands of terms, each rounded once.
            assert_close(&[arrived], &[left], 1e-11 * size, &place);
        }
    }
}
