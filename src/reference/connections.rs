//! Linear layers as z = W x + b: every weight with the output and the input that it connects.
//!
//! Connections are visited and never stored: a convolution of 512 channels by 512 has thousands of millions.

use super::window::pairs;
use crate::layers::{AveragePool, AxisMap, Conv, Dense, Divisor, Layer};
use crate::network::{LayerNode, Network};
use crate::tensor::{Shape, Tensor};

/// Calls `visit` with output element, input slot, input element and w for each connection of a layer. Padding connects
/// nothing; a weight of zero does.
pub(super) fn each_connection(network: &Network, node: &LayerNode, mut visit: impl FnMut(usize, usize, usize, f64)) {
    let (input, output) = (network.shape(node.inputs[0]), network.shape(node.output));
    let mut of_first = |i, j, w| visit(i, 0, j, w);
    match &node.layer {
        Layer::Dense(dense) => each_of_dense(dense, output, of_first),
        Layer::Conv(conv) => each_of_conv(conv, input, output, of_first),
        Layer::AveragePool(pool) => each_of_average_pool(pool, input, output, of_first),
        Layer::AxisMap(map) => each_of_axis_map(map, input, of_first),
        Layer::Affine(affine) => {
            let scale = affine.scale().broadcast_to(input).expect("the network checked that its parameters fit");
            scale.data().iter().enumerate().for_each(|(i, &s)| of_first(i, i, f64::from(s)));
        }
        Layer::Sum(sum) => {
            for (slot, sign) in sum.signs().iter().enumerate() {
                (0..output.count()).for_each(|i| visit(i, slot, i, f64::from(sign.factor())));
            }
        }
        Layer::Activation(_)
        | Layer::Reshape(_)
        | Layer::Transpose(_)
        | Layer::Concat(_)
        | Layer::MaxPool(_)
        | Layer::Multiply(_)
        | Layer::Lookup(_) => unreachable!("a {} layer has no weights", node.layer.kind()),
    }
}

/// b of every output element.
pub(super) fn biases(network: &Network, node: &LayerNode) -> Vec<f64> {
    let output = network.shape(node.output);
    let repeated = |bias: Option<&std::sync::Arc<Tensor>>, times: usize, rows: usize| match bias {
        Some(bias) => {
            let row = bias.data().iter().flat_map(|&b| std::iter::repeat_n(f64::from(b), times));
            row.cycle().take(bias.count() * times * rows).collect()
        }
        None => vec![0.0; output.count()],
    };
    match &node.layer {
        Layer::Dense(dense) => repeated(dense.bias(), 1, output.count() / dense.outputs()),
        Layer::Conv(conv) => repeated(conv.bias(), output.count() / conv.outputs(), 1),
        Layer::Affine(affine) => {
            let offset = affine.offset().broadcast_to(output).expect("the network checked that its parameters fit");
            offset.data().iter().copied().map(f64::from).collect()
        }
        Layer::AveragePool(_)
        | Layer::Sum(_)
        | Layer::Activation(_)
        | Layer::Reshape(_)
        | Layer::Transpose(_)
        | Layer::Concat(_)
        | Layer::MaxPool(_)
        | Layer::AxisMap(_)
        | Layer::Multiply(_)
        | Layer::Lookup(_) => vec![0.0; output.count()],
    }
}

fn each_of_dense(dense: &Dense, output: &Shape, mut visit: impl FnMut(usize, usize, f64)) {
    let (inputs, outputs) = (dense.inputs(), dense.outputs());
    for row in 0..output.count() / outputs {
        for (position, &w) in dense.weight().data().iter().enumerate() {
            visit(row * outputs + position / inputs, row * inputs + position % inputs, f64::from(w));
        }
    }
}

/// Coarse channel o and fine channel c of its group meet at each window position that lies inside the fine grid, with
/// the weight W[o, c, t]; a transposed convolution's output is the fine grid.
fn each_of_conv(conv: &Conv, input: &Shape, output: &Shape, mut visit: impl FnMut(usize, usize, f64)) {
    let (coarse, fine) = if conv.is_transposed() { (input, output) } else { (output, input) };
    let (coarse, fine) = (&coarse.dims()[1..], &fine.dims()[1..]);
    let pairs = pairs(conv.window(), fine, coarse);
    let (coarse, fine): (usize, usize) = (coarse.iter().product(), fine.iter().product());
    let (coarse_in_group, fine_in_group) =
        (conv.coarse_channels() / conv.groups(), conv.fine_channels() / conv.groups());
    let positions = conv.window().positions();
    for (filter, weights) in conv.weight().data().chunks_exact(positions).enumerate() {
        let (o, within) = (filter / fine_in_group, filter % fine_in_group);
        let c = o / coarse_in_group * fine_in_group + within;
        for pair in &pairs {
            let (coarse, fine) = (o * coarse + pair.coarse, c * fine + pair.fine);
            let (i, j) = if conv.is_transposed() { (fine, coarse) } else { (coarse, fine) };
            visit(i, j, f64::from(weights[pair.position]));
        }
    }
}

fn each_of_average_pool(pool: &AveragePool, input: &Shape, output: &Shape, mut visit: impl FnMut(usize, usize, f64)) {
    let (fine, coarse) = (&input.dims()[1..], &output.dims()[1..]);
    let pairs = pairs(pool.window(), fine, coarse);
    let mut counts = vec![1];
    for ((axis, &fine), &coarse) in pool.window().axes().iter().zip(fine).zip(coarse) {
        let of_axis = |p: usize| match pool.divisor() {
            Divisor::Inside => axis.inside(p, fine),
            Divisor::InsidePadded => axis.inside_padded(p, fine),
            Divisor::One => 1,
        };
        counts = counts.iter().flat_map(|count| (0..coarse).map(move |p| count * of_axis(p))).collect();
    }
    let (fine, coarse): (usize, usize) = (fine.iter().product(), coarse.iter().product());
    for channel in 0..input.dims()[0] {
        for pair in &pairs {
            visit(channel * coarse + pair.coarse, channel * fine + pair.fine, 1.0 / counts[pair.coarse] as f64);
        }
    }
}

fn each_of_axis_map(map: &AxisMap, input: &Shape, mut visit: impl FnMut(usize, usize, f64)) {
    let (before, after) = (&input.dims()[..map.axis()], &input.dims()[map.axis() + 1..]);
    let (before, after): (usize, usize) = (before.iter().product(), after.iter().product());
    for outer in 0..before {
        for (position, sources) in map.sources().iter().enumerate() {
            for &(source, weight) in sources {
                let i = (outer * map.sources().len() + position) * after;
                let j = (outer * map.inputs() + source) * after;
                (0..after).for_each(|inner| visit(i + inner, j + inner, f64::from(weight)));
            }
        }
    }
}
