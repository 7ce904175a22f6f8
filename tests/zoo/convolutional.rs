//! Networks with convolutions, pools, maps along an axis and gates.

use relprop::Tensor;
use relprop::layers::sum::Sign;
use relprop::layers::{
    Activation, AxisMap, AxisMapKind, Conv, Divisor, Layer, MaxPool, Multiply, Sum, Window, WindowAxis,
};
use relprop::network::{Network, NetworkBuilder, ValueId};

use super::{Numbers, dense};

/// A network under construction with its stream of numbers.
struct Maker {
    builder: NetworkBuilder,
    numbers: Numbers,
}

/// A window of one kernel extent, padded so that stride 1 keeps the extent.
fn same(kernel: usize, stride: usize) -> WindowAxis {
    WindowAxis { stride, before: (kernel - 1) / 2, after: kernel / 2, ..WindowAxis::new(kernel) }
}

fn window(axes: &[WindowAxis]) -> Window {
    Window::new(axes.to_vec()).unwrap()
}

impl Maker {
    fn new(seed: u64) -> Self {
        Maker { builder: Network::builder(), numbers: Numbers(seed) }
    }

    fn channels(&self, x: ValueId) -> usize {
        self.builder.shape(x).dims()[0]
    }

    /// Scaled so that layers neither blow up nor fade.
    fn weight(&mut self, shape: &[usize], fan_in: usize) -> Tensor {
        let scale = (3.0 / fan_in as f32).sqrt();
        Tensor::from_fn(shape, |_| self.numbers.next() * scale)
    }

    fn bias(&mut self, outputs: usize) -> Tensor {
        Tensor::from_fn([outputs], |_| self.numbers.next() * 0.3)
    }

    /// A convolution with a bias.
    fn conv(&mut self, x: ValueId, outputs: usize, axes: &[WindowAxis], groups: usize) -> ValueId {
        let window = window(axes);
        let inputs = self.channels(x) / groups;
        let kernel: Vec<usize> = axes.iter().map(|axis| axis.kernel).collect();
        let weight = self.weight(&[&[outputs, inputs], &kernel[..]].concat(), inputs * window.positions());
        let bias = self.bias(outputs);
        self.builder.conv("conv", x, weight, Some(bias), window, groups).unwrap()
    }

    fn conv_relu(&mut self, x: ValueId, outputs: usize, axes: &[WindowAxis], groups: usize) -> ValueId {
        let z = self.conv(x, outputs, axes, groups);
        self.builder.relu("relu", z).unwrap()
    }

    /// A transposed convolution that doubles the grid, or nearly, by `padding` positions more.
    fn up(&mut self, x: ValueId, outputs: usize, axes: &[WindowAxis], groups: usize, padding: &[usize]) -> ValueId {
        let kernel: Vec<usize> = axes.iter().map(|axis| axis.kernel).collect();
        let inputs = self.channels(x);
        let weight = self.weight(&[&[inputs, outputs / groups], &kernel[..]].concat(), inputs / groups);
        let bias = self.bias(outputs);
        let conv = Conv::transposed(weight, Some(bias.into()), window(axes), groups, padding.to_vec()).unwrap();
        self.builder.layer("up", Layer::Conv(conv), vec![x]).unwrap()
    }

    fn max_pool(&mut self, x: ValueId, axes: &[WindowAxis]) -> ValueId {
        self.builder.max_pool("max", x, window(axes)).unwrap()
    }

    fn average_pool(&mut self, x: ValueId, axes: &[WindowAxis], divisor: Divisor) -> ValueId {
        self.builder.average_pool("average", x, window(axes), divisor).unwrap()
    }

    fn axis_map(&mut self, x: ValueId, map: AxisMap) -> ValueId {
        self.builder.layer(map.kind().name(), Layer::AxisMap(map), vec![x]).unwrap()
    }

    /// One position of an axis repeated to `extent`.
    fn expand(&mut self, x: ValueId, axis: usize, extent: usize) -> ValueId {
        self.axis_map(x, AxisMap::picking(AxisMapKind::Expand, axis, 1, vec![Some(0); extent]).unwrap())
    }

    /// Interpolation between neighbours, with the first and last position at the ends.
    fn stretch(&mut self, x: ValueId, axis: usize, extent: usize) -> ValueId {
        let inputs = self.builder.shape(x).dims()[axis];
        let sources = (0..extent).map(|i| {
            let place = i as f32 * (inputs - 1) as f32 / (extent - 1) as f32;
            let (low, far) = ((place as usize).min(inputs - 1), place.fract());
            if far > 0.0 { vec![(low, 1.0 - far), (low + 1, far)] } else { vec![(low, 1.0)] }
        });
        self.axis_map(x, AxisMap::new(AxisMapKind::Resize, axis, inputs, sources.collect()).unwrap())
    }

    /// The squeeze and excitation of Hu et al. 2018: each channel times a gate that the averages of all make.
    fn excited(&mut self, x: ValueId, hidden: usize) -> ValueId {
        let dims = self.builder.shape(x).dims().to_vec();
        let point = [WindowAxis::new(1), WindowAxis::new(1)];
        let squeezed = self.builder.global_average_pool("squeeze", x).unwrap();
        let squeezed = self.conv_relu(squeezed, hidden, &point, 1);
        let excited = self.conv(squeezed, dims[0], &point, 1);
        let gate = self.builder.activation("gate", excited, Activation::Sigmoid).unwrap();
        let rows = self.expand(gate, 1, dims[1]);
        let grid = self.expand(rows, 2, dims[2]);
        self.builder.layer("gated", Layer::Multiply(Multiply), vec![x, grid]).unwrap()
    }

    fn power(&mut self, x: ValueId, offset: f32, exponent: f32) -> ValueId {
        self.builder.activation("power", x, Activation::Power { offset, exponent }).unwrap()
    }

    fn product(&mut self, name: &str, x: ValueId, y: ValueId) -> ValueId {
        self.builder.layer(name, Layer::Multiply(Multiply), vec![x, y]).unwrap()
    }

    fn difference(&mut self, x: ValueId, y: ValueId) -> ValueId {
        let signs = Sum::new(vec![Sign::Plus, Sign::Minus]).unwrap();
        self.builder.layer("deviation", Layer::Sum(signs), vec![x, y]).unwrap()
    }

    /// One element for all axes behind the first, repeated to `shape`.
    fn spread(&mut self, x: ValueId, shape: &[usize]) -> ValueId {
        (1..shape.len()).fold(x, |x, axis| self.expand(x, axis, shape[axis]))
    }

    /// (x − μ) / √(variance + ε) over all axes behind the first, then a factor and an offset for each position of that.
    fn normal(&mut self, x: ValueId) -> ValueId {
        let dims = self.builder.shape(x).dims().to_vec();
        let whole: Vec<WindowAxis> = dims[1..].iter().map(|&extent| WindowAxis::new(extent)).collect();
        let mean = self.average_pool(x, &whole, Divisor::Inside);
        let mean = self.spread(mean, &dims);
        let deviation = self.difference(x, mean);
        let square = self.power(deviation, 0.0, 2.0);
        let variance = self.average_pool(square, &whole, Divisor::Inside);
        let factor = self.power(variance, 1e-2, -0.5);
        let factor = self.spread(factor, &dims);
        let normal = self.product("normal", deviation, factor);
        let mut shape = vec![1; dims.len()];
        shape[0] = dims[0];
        let (scale, offset) = (Tensor::from_fn(shape.clone(), |_| 1.0 + 0.5 * self.numbers.next()), self.bias(dims[0]));
        self.builder.affine("scale", normal, scale, offset.reshape(shape).unwrap()).unwrap()
    }

    /// The same in groups of channels.
    fn group_normal(&mut self, x: ValueId, groups: usize) -> ValueId {
        let shape = self.builder.shape(x).clone();
        let grouped = self.builder.reshape("groups", x, [groups, shape.count() / groups]).unwrap();
        let normal = self.normal(grouped);
        self.builder.reshape("channels", normal, shape).unwrap()
    }

    /// x / (1.5 + Σ x² / 3)^0.75, with the sum over two channels before each and one behind.
    fn local_response(&mut self, x: ValueId) -> ValueId {
        let shape = self.builder.shape(x).clone();
        let channels = shape.dims()[0];
        let square = self.power(x, 0.0, 2.0);
        let rows = self.builder.reshape("rows", square, [1, channels, shape.count() / channels]).unwrap();
        let around = WindowAxis { before: 2, after: 1, ..WindowAxis::new(4) };
        let sums = self.average_pool(rows, &[around, WindowAxis::new(1)], Divisor::One);
        let sums = self.builder.reshape("channels", sums, shape).unwrap();
        let mean = self.builder.affine("mean", sums, Tensor::scalar(1.0 / 3.0), Tensor::scalar(1.5)).unwrap();
        let factor = self.power(mean, 0.0, -0.75);
        self.product("response", x, factor)
    }

    /// e / Σe over all positions of [1, height, width], repeated for `channels`.
    fn attention(&mut self, x: ValueId, channels: usize) -> ValueId {
        let shape = self.builder.shape(x).clone();
        let row = self.builder.reshape("row", x, [1, shape.count()]).unwrap();
        let whole = [WindowAxis::new(shape.count())];
        let greatest = self.max_pool(row, &whole);
        let greatest = self.expand(greatest, 1, shape.count());
        let below = self.difference(row, greatest);
        let powers = self.builder.activation("exp", below, Activation::Exp).unwrap();
        let total = self.average_pool(powers, &whole, Divisor::One);
        let inverse = self.power(total, 0.0, -1.0);
        let inverse = self.expand(inverse, 1, shape.count());
        let weights = self.product("softmax", powers, inverse);
        let weights = self.builder.reshape("grid", weights, shape).unwrap();
        self.expand(weights, 0, channels)
    }

    fn scores(mut self, x: ValueId, outputs: usize) -> Network {
        let features = self.builder.shape(x).count();
        let flat = self.builder.reshape("flat", x, [features]).unwrap();
        let scores = dense(&mut self.builder, &mut self.numbers, flat, outputs, true);
        self.builder.build(scores).unwrap()
    }
}

/// A strided stem, a max pool whose windows overlap, grouped channels, an average pool that counts its padding.
pub fn convnet(seed: u64) -> Network {
    let mut maker = Maker::new(seed);
    let x = maker.builder.input("x", [3, 33, 29]);
    let stem = maker.conv_relu(x, 40, &[same(3, 2), same(5, 2)], 1);
    let pooled = maker.max_pool(stem, &[same(3, 2); 2]);
    let grouped = maker.conv_relu(pooled, 20, &[same(3, 1); 2], 4);
    let average = maker.average_pool(grouped, &[same(3, 2), same(2, 2)], Divisor::InsidePadded);
    maker.scores(average, 5)
}

/// As many channels and positions as span several tiles of every kernel.
pub fn wide_convnet(seed: u64) -> Network {
    let mut maker = Maker::new(seed);
    let x = maker.builder.input("x", [40, 33, 29]);
    let hidden = maker.conv_relu(x, 40, &[same(3, 1); 2], 1);
    let narrow = maker.conv_relu(hidden, 6, &[same(3, 2); 2], 1);
    let average = maker.builder.global_average_pool("average", narrow).unwrap();
    maker.scores(average, 4)
}

/// Residual blocks as in ResNet: a plain shortcut, then one of 1×1 with stride 2, and an average over the whole grid.
pub fn residual_convnet(seed: u64) -> Network {
    let mut maker = Maker::new(seed);
    let x = maker.builder.input("x", [3, 13, 11]);
    let stem = maker.conv_relu(x, 8, &[same(3, 1); 2], 1);
    let first = maker.conv_relu(stem, 8, &[same(3, 1); 2], 1);
    let first = maker.conv(first, 8, &[same(3, 1); 2], 1);
    let first = maker.builder.sum("sum", &[first, stem]).unwrap();
    let first = maker.builder.relu("relu", first).unwrap();
    let second = maker.conv_relu(first, 12, &[same(3, 2); 2], 1);
    let second = maker.conv(second, 12, &[same(3, 1); 2], 1);
    let shortcut = maker.conv(first, 12, &[same(1, 2); 2], 1);
    let second = maker.builder.sum("sum", &[second, shortcut]).unwrap();
    let second = maker.builder.relu("relu", second).unwrap();
    let average = maker.builder.global_average_pool("average", second).unwrap();
    maker.scores(average, 5)
}

/// Depthwise and pointwise layers as in MobileNet, with channel counts that are no multiple of four.
pub fn depthwise(seed: u64) -> Network {
    let mut maker = Maker::new(seed);
    let x = maker.builder.input("x", [3, 13, 11]);
    let point = [WindowAxis::new(1); 2];
    let stem = maker.conv_relu(x, 7, &[same(3, 2); 2], 1);
    let wide = maker.conv_relu(stem, 18, &point, 1);
    let each = maker.conv_relu(wide, 18, &[same(3, 1), same(5, 1)], 18);
    let narrow = maker.conv(each, 7, &point, 1);
    let joined = maker.builder.sum("sum", &[stem, narrow]).unwrap();
    // Two outputs of each channel, and windows with gaps.
    let dilated = WindowAxis { dilation: 2, before: 2, after: 1, ..WindowAxis::new(3) };
    let doubled = maker.conv_relu(joined, 14, &[dilated; 2], 7);
    let average = maker.builder.global_average_pool("average", doubled).unwrap();
    maker.scores(average, 3)
}

/// A contracting and an expanding path as in U-Net, joined along channels; one way up is learned, one interpolates.
pub fn unet(seed: u64) -> Network {
    let mut maker = Maker::new(seed);
    let x = maker.builder.input("x", [2, 13, 11]);
    let fine = maker.conv_relu(x, 6, &[same(3, 1); 2], 1);
    let coarse = maker.max_pool(fine, &[WindowAxis { stride: 2, overhang: 1, ..WindowAxis::new(2) }; 2]);
    let coarse = maker.conv_relu(coarse, 10, &[same(3, 1); 2], 1);
    let learned = maker.up(coarse, 6, &[same(3, 2); 2], 2, &[0, 0]);
    let learned = maker.builder.relu("relu", learned).unwrap();
    let rows = maker.stretch(coarse, 1, 13);
    let interpolated = maker.stretch(rows, 2, 11);
    let joined = maker.builder.concat("join", &[fine, learned, interpolated], 0).unwrap();
    let mixed = maker.conv_relu(joined, 5, &[same(3, 1); 2], 1);
    let slice = AxisMap::picking(AxisMapKind::Slice, 1, 13, (1..12).map(Some)).unwrap();
    let cropped = maker.axis_map(mixed, slice);
    let average = maker.average_pool(cropped, &[same(4, 3); 2], Divisor::Inside);
    maker.scores(average, 4)
}

/// Squeeze and excitation, and a product of two signals that are no gates.
pub fn gated(seed: u64) -> Network {
    let mut maker = Maker::new(seed);
    let x = maker.builder.input("x", [3, 13, 11]);
    let pad = AxisMap::picking(AxisMapKind::Pad, 2, 11, (0..13).map(|i| (1..12).contains(&i).then(|| i - 1))).unwrap();
    let padded = maker.axis_map(x, pad);
    let stem = maker.conv_relu(padded, 9, &[same(3, 2), WindowAxis { stride: 2, ..WindowAxis::new(3) }], 1);
    let excited = maker.excited(stem, 4);
    let (left, right) = (maker.conv(excited, 6, &[same(3, 1); 2], 1), maker.conv(excited, 6, &[same(1, 1); 2], 1));
    let product = maker.builder.layer("product", Layer::Multiply(Multiply), vec![left, right]).unwrap();
    let summed = maker.average_pool(product, &[same(3, 2); 2], Divisor::One);
    maker.scores(summed, 4)
}

/// Each channel, groups of channels, and neighbouring channels normalised; a pool by the norm of powers of 3.
pub fn normalized(seed: u64) -> Network {
    let mut maker = Maker::new(seed);
    let x = maker.builder.input("x", [3, 13, 11]);
    let stem = maker.conv(x, 6, &[same(3, 2); 2], 1);
    let stem = maker.normal(stem);
    let stem = maker.builder.relu("relu", stem).unwrap();
    let response = maker.local_response(stem);
    let mixed = maker.conv(response, 8, &[same(3, 1); 2], 1);
    let mixed = maker.group_normal(mixed, 2);
    let size = maker.builder.activation("abs", mixed, Activation::Abs).unwrap();
    let cubes = maker.power(size, 0.0, 3.0);
    let sums = maker.average_pool(cubes, &[same(3, 2); 2], Divisor::One);
    let norms = maker.power(sums, 0.0, 1.0 / 3.0);
    maker.scores(norms, 4)
}

/// Features weighed by a softmax over their places, summed, and normalised together.
pub fn weighed(seed: u64) -> Network {
    let mut maker = Maker::new(seed);
    let x = maker.builder.input("x", [3, 9, 7]);
    let features = maker.conv_relu(x, 10, &[same(3, 1); 2], 1);
    let places = maker.conv(features, 1, &[same(3, 1); 2], 1);
    let weights = maker.attention(places, 10);
    let weighed = maker.product("weighed", features, weights);
    let sums = maker.average_pool(weighed, &[WindowAxis::new(9), WindowAxis::new(7)], Divisor::One);
    let row = maker.builder.reshape("row", sums, [1, 10]).unwrap();
    let normal = maker.normal(row);
    maker.scores(normal, 3)
}

/// One spatial axis, up and down.
pub fn conv1d(seed: u64) -> Network {
    let mut maker = Maker::new(seed);
    let x = maker.builder.input("x", [2, 37]);
    let stem = maker.conv_relu(x, 6, &[same(5, 2)], 1);
    let dilated = WindowAxis { dilation: 3, before: 4, after: 1, ..WindowAxis::new(3) };
    let mixed = maker.conv_relu(stem, 9, &[dilated], 3);
    let pooled = maker.max_pool(mixed, &[same(3, 2)]);
    let up = maker.up(pooled, 4, &[WindowAxis { stride: 3, ..WindowAxis::new(4) }], 1, &[1]);
    let up = maker.builder.relu("relu", up).unwrap();
    let average =
        maker.average_pool(up, &[WindowAxis { stride: 4, overhang: 3, ..WindowAxis::new(4) }], Divisor::Inside);
    maker.scores(average, 3)
}

/// Three spatial axes, up and down.
pub fn conv3d(seed: u64) -> Network {
    let mut maker = Maker::new(seed);
    let x = maker.builder.input("x", [2, 5, 7, 6]);
    let stem = maker.conv_relu(x, 6, &[same(3, 1), same(3, 2), same(2, 1)], 1);
    let pooled =
        maker.builder.layer("max", Layer::MaxPool(MaxPool::new(window(&[same(2, 2); 3]))), vec![stem]).unwrap();
    let grouped = maker.conv_relu(pooled, 4, &[same(3, 1); 3], 2);
    let up = maker.up(grouped, 3, &[same(2, 1), same(3, 2), same(2, 2)], 1, &[0, 1, 0]);
    let up = maker.builder.relu("relu", up).unwrap();
    let average = maker.average_pool(up, &[same(3, 2); 3], Divisor::Inside);
    maker.scores(average, 3)
}

/// All of them but the largest, by name.
pub fn convolutional(seed: u64) -> Vec<(&'static str, Network)> {
    vec![
        ("convnet", convnet(seed)),
        ("residual", residual_convnet(seed)),
        ("depthwise", depthwise(seed)),
        ("u-net", unet(seed)),
        ("gated", gated(seed)),
        ("normalized", normalized(seed)),
        ("weighed", weighed(seed)),
        ("conv1d", conv1d(seed)),
        ("conv3d", conv3d(seed)),
    ]
}

/// Bottleneck blocks as in ResNet-50, at its narrower widths: a stem of 7×7, two stages of a block with a projection and one
/// without, and 1,000 scores.
pub fn bottlenecks(seed: u64) -> Network {
    let mut maker = Maker::new(seed);
    let point = |stride| [same(1, stride); 2];
    let x = maker.builder.input("x", [3, 64, 64]);
    let stem = maker.conv_relu(x, 64, &[same(7, 2); 2], 1);
    let mut value = maker.max_pool(stem, &[same(3, 2); 2]);
    for (narrow, stride) in [(64, 1), (128, 2)] {
        for is_first in [true, false] {
            let step = if is_first { stride } else { 1 };
            let inner = maker.conv_relu(value, narrow, &point(1), 1);
            let inner = maker.conv_relu(inner, narrow, &[same(3, step); 2], 1);
            let inner = maker.conv(inner, 4 * narrow, &point(1), 1);
            let shortcut = if is_first { maker.conv(value, 4 * narrow, &point(step), 1) } else { value };
            let sum = maker.builder.sum("sum", &[inner, shortcut]).unwrap();
            value = maker.builder.relu("relu", sum).unwrap();
        }
    }
    let average = maker.builder.global_average_pool("average", value).unwrap();
    maker.scores(average, 1000)
}
