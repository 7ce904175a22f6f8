//! Windows of every kind against the float64 reference, and the same bits however a batch is cut.

use std::sync::Arc;

use crate::composite::PresetOptions;
use crate::explain::Options;
use crate::layers::{Activation, AxisMap, AxisMapKind, Conv, Divisor, Layer, MaxPool, Window, WindowAxis};
use crate::network::{Network, NetworkBuilder, ValueId};
use crate::rules::Stabilizer;
use crate::{Backend, Composite, Explainer, Input, Relevance, Request, Targets, Tensor};

/// A reproducible stream of numbers (a 64-bit linear congruential generator).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as usize
    }

    /// One of `choices`.
    fn pick(&mut self, choices: &[usize]) -> usize {
        choices[self.next() % choices.len()]
    }

    fn tensor(&mut self, shape: &[usize]) -> Tensor {
        Tensor::from_fn(shape, |_| self.next() as f32 / (1 << 23) as f32 - 1.0)
    }
}

fn axis(numbers: &mut Numbers, kernels: &[usize]) -> WindowAxis {
    let kernel = numbers.pick(kernels);
    WindowAxis {
        kernel,
        stride: numbers.pick(&[1, 1, 2, 3]),
        dilation: numbers.pick(&[1, 1, 2]),
        before: numbers.pick(&[0, 1, 2]).min(kernel / 2),
        after: numbers.pick(&[0, 1, 2]).min(kernel / 2),
        overhang: 0,
    }
}

fn window(numbers: &mut Numbers, axes: usize) -> Window {
    Window::new((0..axes).map(|_| axis(numbers, &[1, 2, 3, 4])).collect()).unwrap()
}

fn conv(numbers: &mut Numbers, builder: &mut NetworkBuilder, x: ValueId) -> ValueId {
    let shape = builder.shape(x).clone();
    let (channels, axes) = (shape.dims()[0], shape.rank() - 1);
    let window = window(numbers, axes);
    let groups: Vec<usize> = [1, 2, channels].into_iter().filter(|groups| channels % groups == 0).collect();
    let groups = numbers.pick(&groups);
    let of_group = numbers.pick(&[1, 2, 9, 17, 35]);
    let outputs = if groups == channels { groups * of_group.min(2) } else { groups * of_group };
    let is_transposed = numbers.pick(&[0, 0, 1]) == 1;
    let (first, second) = if is_transposed { (channels, outputs / groups) } else { (outputs, channels / groups) };
    let weight = numbers.tensor(&[&[first, second], &window.kernel()[..]].concat());
    let bias = Some(Arc::new(numbers.tensor(&[outputs])));
    let layer = if is_transposed {
        Conv::transposed(weight, bias, window, groups, vec![0; axes])
    } else {
        Conv::new(weight, bias, window, groups)
    };
    builder.layer("conv", Layer::Conv(layer.unwrap()), vec![x]).unwrap()
}

/// Where the axis of channels is kept and one axis of positions is changed, or the other way round.
fn along_axis(numbers: &mut Numbers, builder: &mut NetworkBuilder, x: ValueId) -> ValueId {
    let shape = builder.shape(x).clone();
    let axis = numbers.next() % shape.rank();
    let inputs = shape.dims()[axis];
    let sources = (0..inputs + 2).map(|output| match output % 3 {
        0 => vec![],
        1 => vec![(output % inputs, 1.0)],
        _ => vec![(output % inputs, 0.75), ((output + 1) % inputs, 0.25)],
    });
    let map = AxisMap::new(AxisMapKind::Resize, axis, inputs, sources.collect()).unwrap();
    builder.layer("map", Layer::AxisMap(map), vec![x]).unwrap()
}

fn layer(numbers: &mut Numbers, builder: &mut NetworkBuilder, x: ValueId, kind: usize) -> ValueId {
    let axes = builder.shape(x).rank() - 1;
    match kind {
        0 => {
            let divisors = [Divisor::Inside, Divisor::InsidePadded, Divisor::One];
            let divisor = divisors[numbers.next() % 3];
            let window = window(numbers, axes);
            builder.average_pool("average", x, window, divisor).unwrap()
        }
        1 => {
            let window = window(numbers, axes);
            builder.layer("greatest", Layer::MaxPool(MaxPool::new(window)), vec![x]).unwrap()
        }
        2 => builder.global_average_pool("global", x).unwrap(),
        3 => along_axis(numbers, builder, x),
        _ => conv(numbers, builder, x),
    }
}

/// An input, a convolution, an activation, the layer in question, and a dense layer behind it.
fn network(seed: u64) -> Network {
    let mut numbers = Numbers(seed);
    let mut builder = Network::builder();
    let axes = numbers.pick(&[1, 2, 2, 3]);
    let extents: Vec<usize> = (0..axes).map(|_| numbers.pick(if axes == 3 { &[5, 6] } else { &[7, 8, 13] })).collect();
    let channels = numbers.pick(&[1, 3, 4]);
    let x = builder.input("x", [&[channels], &extents[..]].concat());
    let outputs = numbers.pick(&[4, 18]);
    let weight = numbers.tensor(&[&[outputs, channels], &vec![1; axes][..]].concat());
    let window = Window::new(vec![WindowAxis::new(1); axes]).unwrap();
    let first = Conv::new(weight, None, window, 1).unwrap();
    let z = builder.layer("first", Layer::Conv(first), vec![x]).unwrap();
    let activation = [Activation::Relu, Activation::LeakyRelu { slope: 0.1 }, Activation::Tanh][numbers.next() % 3];
    let a = builder.activation("activation", z, activation).unwrap();
    let y = layer(&mut numbers, &mut builder, a, (seed % 8) as usize);
    let a = builder.relu("relu", y).unwrap();
    let flat = builder.shape(a).count();
    let rows = builder.reshape("flat", a, [flat]).unwrap();
    let logits = builder.dense("head", rows, numbers.tensor(&[3, flat]), None).unwrap();
    builder.build(logits).unwrap()
}

fn explain(network: &Arc<Network>, composite: &str, options: Options, x: &Tensor) -> Relevance {
    explain_by(network, &Composite::preset(composite).unwrap(), options, x)
}

pub(super) fn explain_by(network: &Arc<Network>, composite: &Composite, options: Options, x: &Tensor) -> Relevance {
    let explainer = Explainer::with_options(Arc::clone(network), composite, options).unwrap();
    let request = Request::new(Targets::Top(2)).report(true);
    explainer.explain_with(&[Input::from(x)], &request).unwrap()
}

fn samples(network: &Network, count: usize, seed: u64) -> Tensor {
    let shape = network.shape(network.inputs()[0].value).prepend(count);
    Numbers(seed).tensor(shape.dims())
}

pub(super) fn assert_close(found: &Tensor, exact: &Tensor, what: &str) {
    assert_eq!(found.shape(), exact.shape(), "{what}");
    for row in 0..exact.rows() {
        let size = exact.row(row).iter().fold(0.0_f32, |size, x| size.max(x.abs()));
        for (found, exact) in found.row(row).iter().zip(exact.row(row)) {
            assert!((found - exact).abs() <= 2e-5 * size + 1e-7, "{what}, row {row}: {found} is not {exact}");
        }
    }
}

#[test]
fn windows_of_every_kind_agree_with_the_reference() {
    for seed in 0..160 {
        let network = Arc::new(network(seed));
        let x = samples(&network, 3, seed);
        let composite = ["epsilon", "gamma", "epsilon-plus-flat", "epsilon-alpha2-beta1"][(seed / 8 % 4) as usize];
        let on = |backend| explain(&network, composite, Options { backend, ..Options::default() }, &x);
        let (found, exact) = (on(Backend::Cpu), on(Backend::Reference));
        let what = format!("seed {seed}, {composite}, {:?}", network.layers()[2].layer);
        assert_close(&found.logits, &exact.logits, &what);
        assert_close(found.input(), exact.input(), &what);
    }
}

#[test]
fn bits_do_not_depend_on_neighbours_threads_or_chunks() {
    for seed in 0..40 {
        let network = Arc::new(network(seed));
        let x = samples(&network, 7, seed);
        let last = Tensor::new(network.shape(network.inputs()[0].value).prepend(1), x.row(6).to_vec()).unwrap();
        for composite in ["epsilon-plus", "epsilon-alpha2-beta1"] {
            let on = |threads, batch_size, x: &Tensor| {
                let threads = Some(threads);
                let options = Options { backend: Backend::Cpu, threads, batch_size, ..Options::default() };
                explain(&network, composite, options, x)
            };
            let all = on(1, None, &x);
            assert!(all.input().data().iter().any(|r| *r != 0.0), "seed {seed}");
            for (threads, batch_size) in [(1, Some(1)), (2, None), (3, Some(4))] {
                assert_eq!(on(threads, batch_size, &x).input(), all.input(), "seed {seed}, {threads} threads");
            }
            assert_eq!(on(2, None, &last).input().row(0), all.input().row(6), "seed {seed}");
        }
    }
}

/// A first layer whose way back to the image several parts make.
fn on_a_wide_image() -> Network {
    let mut numbers = Numbers(5);
    let mut builder = Network::builder();
    let x = builder.input("x", [3, 140, 230]);
    let weight = numbers.tensor(&[9, 3, 5, 7]);
    let axis = |kernel| WindowAxis { stride: 2, before: kernel / 2, after: kernel / 2, ..WindowAxis::new(kernel) };
    let window = Window::new(vec![axis(5), axis(7)]).unwrap();
    let z = builder.conv("conv", x, weight, None, window, 1).unwrap();
    let a = builder.relu("relu", z).unwrap();
    classified(builder, a, &mut numbers)
}

/// The network that ends with a dense layer on the averages of an image's channels.
fn classified(mut builder: NetworkBuilder, image: ValueId, numbers: &mut Numbers) -> Network {
    let channels = builder.shape(image).dims()[0];
    let pooled = builder.global_average_pool("average", image).unwrap();
    let flat = builder.reshape("flat", pooled, [channels]).unwrap();
    let logits = builder.dense("head", flat, numbers.tensor(&[3, channels]), None).unwrap();
    builder.build(logits).unwrap()
}

#[test]
fn the_way_back_to_a_wide_image_agrees_with_the_reference_and_has_the_same_bits_on_any_threads() {
    let network = Arc::new(on_a_wide_image());
    let x = samples(&network, 2, 6);
    for composite in ["epsilon", "epsilon-alpha2-beta1"] {
        let on = |backend, threads, batch_size| {
            let options = Options { backend, threads: Some(threads), batch_size, ..Options::default() };
            explain(&network, composite, options, &x)
        };
        let (found, exact) = (on(Backend::Cpu, 1, None), on(Backend::Reference, 2, None));
        assert_close(found.input(), exact.input(), composite);
        for (threads, batch_size) in [(1, Some(1)), (2, None), (3, None)] {
            assert_eq!(on(Backend::Cpu, threads, batch_size).input(), found.input(), "{composite}, {threads} threads");
        }
    }
}

/// Few channels, many, and few again: the way back to the first and the way there to the last have few target channels. Lines are so many
/// that several parts make them.
fn with_few_channels(seed: u64) -> Network {
    let mut numbers = Numbers(seed);
    let mut builder = Network::builder();
    let few = [seed as usize % 7 + 1, (seed as usize / 7 + 3) % 7 + 1];
    let extents: &[usize] = [&[90][..], &[75, 9], &[9, 75], &[4, 12, 6]][seed as usize % 4];
    let x = builder.input("x", [&few[..1], extents].concat());
    let many = numbers.pick(&[2, 5, 16, 17, 32, 40]);
    let mut conv = |builder: &mut NetworkBuilder, name: &str, x, targets| {
        let (sources, extents) = builder.shape(x).dims().split_first().unwrap();
        let (sources, is_transposed) = (*sources, numbers.pick(&[0, 1]) == 1);
        let fits =
            |window: &Window| window.axes().iter().zip(extents).all(|(axis, &extent)| axis.outputs(extent).is_some());
        let windows = std::iter::repeat_with(|| window(&mut numbers, extents.len()));
        let window = windows.into_iter().find(|window| is_transposed || fits(window)).unwrap();
        let (first, second) = if is_transposed { (sources, targets) } else { (targets, sources) };
        let weight = numbers.tensor(&[&[first, second], &window.kernel()[..]].concat());
        let (bias, axes) = (Some(Arc::new(numbers.tensor(&[targets]))), extents.len());
        let layer = match is_transposed {
            true => Conv::transposed(weight, bias, window, 1, vec![0; axes]),
            false => Conv::new(weight, bias, window, 1),
        };
        builder.layer(name, Layer::Conv(layer.unwrap()), vec![x]).unwrap()
    };
    let z = conv(&mut builder, "many", x, many);
    let activation = [Activation::Relu, Activation::Silu { beta: 1.0 }, Activation::Tanh][seed as usize / 2 % 3];
    let a = builder.activation("activated", z, activation).unwrap();
    let z = conv(&mut builder, "few", a, few[1]);
    let a = builder.relu("rectified", z).unwrap();
    let flat = builder.shape(a).count();
    let rows = builder.reshape("flat", a, [flat]).unwrap();
    let logits = builder.dense("head", rows, numbers.tensor(&[3, flat]), None).unwrap();
    builder.build(logits).unwrap()
}

#[test]
fn few_target_channels_agree_with_the_reference_and_have_the_same_bits_on_any_threads() {
    for seed in 0..56 {
        let network = Arc::new(with_few_channels(seed));
        let x = samples(&network, 3, seed);
        // With the usual ε a z that rounds to the other side of zero turns a share around, by any way of summing.
        let softly = Some(Stabilizer::Absolute(0.1));
        let options = PresetOptions { epsilon: softly, stabilizer: softly, ..PresetOptions::default() };
        let preset = ["epsilon", "gamma", "epsilon-plus-flat"][seed as usize % 3];
        let composite = Composite::preset_with(preset, options).unwrap();
        let on = |backend, threads, batch_size| {
            let options = Options { backend, threads: Some(threads), batch_size, ..Options::default() };
            explain_by(&network, &composite, options, &x)
        };
        let (found, exact) = (on(Backend::Cpu, 1, None), on(Backend::Reference, 2, None));
        let what = format!("seed {seed}, {preset}, {:?}", network.layers());
        assert_close(&found.logits, &exact.logits, &what);
        assert_close(found.input(), exact.input(), &what);
        for (threads, batch_size) in [(1, Some(1)), (2, None), (5, Some(2))] {
            let other = on(Backend::Cpu, threads, batch_size);
            assert_eq!(other.input(), found.input(), "seed {seed}, {threads} threads");
            assert_eq!(other.logits, found.logits, "seed {seed}, {threads} threads");
        }
    }
}

/// A window along each axis: extent, window, stride, dilation, and padding on both sides.
pub(super) type Axes = &'static [[usize; 5]];
pub(super) fn window_of(axes: Axes) -> Window {
    let axis = |&[_, kernel, stride, dilation, padding]: &[usize; 5]| WindowAxis {
        stride,
        dilation,
        before: padding,
        after: padding,
        ..WindowAxis::new(kernel)
    };
    Window::new(axes.iter().map(axis).collect()).unwrap()
}

/// Lines so few that they are cut, windows that reach far beyond the image, taps that few targets or none read, strides longer than windows.
const FAR_REACHING: [Axes; 8] = [
    &[[1700, 80, 4, 1, 40]],
    &[[3, 3, 1, 1, 1], [1300, 5, 2, 1, 0]],
    &[[64, 3, 1, 36, 36], [64, 3, 1, 36, 36]],
    &[[8, 3, 1, 8192, 8192], [8, 3, 1, 8192, 8192]],
    &[[33, 2, 16, 1, 0], [35, 2, 16, 1, 0]],
    &[[9, 2, 4, 1, 1], [10, 2, 4, 1, 1]],
    &[[12, 3, 1, 1, 5], [13, 3, 1, 1, 5]],
    &[[5, 2, 1, 3, 3], [4, 2, 1, 1, 0], [9, 3, 2, 2, 2]],
];

#[test]
fn far_reaching_windows_of_few_channels_agree_with_the_reference_on_any_threads() {
    for (seed, axes) in FAR_REACHING.into_iter().enumerate() {
        let mut numbers = Numbers(seed as u64);
        let mut builder = Network::builder();
        let extents: Vec<usize> = axes.iter().map(|axis| axis[0]).collect();
        let x = builder.input("x", [&[3], &extents[..]].concat());
        let weight = numbers.tensor(&[&[17, 3], &window_of(axes).kernel()[..]].concat());
        let z = builder.conv("there", x, weight, Some(numbers.tensor(&[17])), window_of(axes), 1).unwrap();
        let a = builder.relu("rectified", z).unwrap();
        let weight = numbers.tensor(&[&[17, 2], &window_of(axes).kernel()[..]].concat());
        let back = Conv::transposed(weight, None, window_of(axes), 1, vec![0; axes.len()]).unwrap();
        let z = builder.layer("back", Layer::Conv(back), vec![a]).unwrap();
        let flat = builder.shape(z).count();
        let rows = builder.reshape("flat", z, [flat]).unwrap();
        let logits = builder.dense("head", rows, numbers.tensor(&[3, flat]), None).unwrap();
        let network = Arc::new(builder.build(logits).unwrap());
        let x = samples(&network, 2, seed as u64);
        let softly = Some(Stabilizer::Absolute(0.1));
        let options = PresetOptions { epsilon: softly, stabilizer: softly, ..PresetOptions::default() };
        let composite = Composite::preset_with("epsilon-plus", options).unwrap();
        let on = |backend, threads| {
            explain_by(&network, &composite, Options { backend, threads: Some(threads), ..Options::default() }, &x)
        };
        let (found, exact) = (on(Backend::Cpu, 1), on(Backend::Reference, 2));
        assert_close(&found.logits, &exact.logits, &format!("{axes:?}"));
        assert_close(found.input(), exact.input(), &format!("{axes:?}"));
        for threads in [2, 16] {
            assert_eq!(on(Backend::Cpu, threads).input(), found.input(), "{axes:?}, {threads} threads");
        }
    }
}

/// Convolutions whose targets, for two samples, are larger than what stays in the caches: one with a window, one that
/// keeps channels apart, and a pointwise one with a residual sum behind it.
fn on_a_large_image() -> Network {
    let mut numbers = Numbers(7);
    let mut builder = Network::builder();
    let x = builder.input("x", [2, 130, 131]);
    let mut conv = |builder: &mut NetworkBuilder, x, outputs: usize, kernel: usize, groups: usize| {
        let inputs = builder.shape(x).dims()[0] / groups;
        let weight = numbers.tensor(&[outputs, inputs, kernel, kernel]);
        let bias = Some(numbers.tensor(&[outputs]));
        let axis = WindowAxis { before: kernel / 2, after: kernel / 2, ..WindowAxis::new(kernel) };
        let z = builder.conv(
            &format!("conv {groups}, {kernel}"),
            x,
            weight,
            bias,
            Window::new(vec![axis; 2]).unwrap(),
            groups,
        );
        z.unwrap()
    };
    let first = conv(&mut builder, x, 53, 2, 1);
    let first = builder.relu("first", first).unwrap();
    let apart = conv(&mut builder, first, 53, 3, 53);
    let apart = builder.relu("apart", apart).unwrap();
    let pointwise = conv(&mut builder, apart, 53, 1, 1);
    let sum = builder.sum("sum", &[pointwise, first]).unwrap();
    let a = builder.relu("last", sum).unwrap();
    classified(builder, a, &mut numbers)
}

#[test]
fn what_goes_past_the_caches_has_the_bits_of_what_stays_there() {
    let network = Arc::new(on_a_large_image());
    let x = samples(&network, 2, 8);
    for preset in ["epsilon-plus", "epsilon-alpha2-beta1"] {
        let composite = Composite::preset(preset).unwrap();
        let on = |threads, batch_size| {
            let threads = Some(threads);
            let options = Options { backend: Backend::Cpu, threads, batch_size, ..Options::default() };
            Explainer::with_options(Arc::clone(&network), &composite, options)
                .unwrap()
                .explain(&[Input::from(&x)], &Targets::Top(1))
                .unwrap()
        };
        let (far, near) = (on(2, None), on(1, Some(1)));
        assert!(near.input().data().iter().any(|r| *r != 0.0), "{preset}");
        assert_eq!(far.input(), near.input(), "{preset}");
    }
}

/// Shapes for which tiles of 2 × 2 pay, and of 4 × 4: channels of source and target, lines and columns, padding in front of lines and behind
/// them; that of columns is the other way round. One has more tiles in a line than are turned at a time, one more channels than a product
/// takes at a time, two a weight that all threads read together.
pub(super) const TILED: [(usize, usize, [usize; 2], [usize; 2]); 9] = [
    (32, 48, [10, 8], [1, 1]),
    (64, 64, [5, 9], [0, 2]),
    (32, 32, [13, 13], [5, 6]),
    (32, 64, [20, 17], [1, 1]),
    (48, 32, [18, 19], [0, 0]),
    (32, 32, [8, 240], [1, 1]),
    (272, 32, [8, 20], [1, 1]),
    (192, 176, [7, 8], [1, 1]),
    (272, 256, [5, 5], [1, 1]),
];
/// One whose weight all threads read together, some samples' tiles at a time.
const TOGETHER: (usize, usize, [usize; 2], [usize; 2]) = (192, 176, [20, 31], [1, 1]);
/// One whose relevance, of two samples and targets, goes past the caches, while that of one sample does not.
const FAR: (usize, usize, [usize; 2], [usize; 2]) = (32, 32, [112, 114], [1, 1]);

/// Two such convolutions, of which the second, transposed, makes up for what the first cuts off, and a residual sum behind them.
fn of_tiles(shape: (usize, usize, [usize; 2], [usize; 2]), seed: u64) -> Network {
    let (sources, targets, extents, [before, after]) = shape;
    let mut numbers = Numbers(seed);
    let mut builder = Network::builder();
    let x = builder.input("x", [&[2], &extents[..]].concat());
    let pointwise = Window::new(vec![WindowAxis::new(1); 2]).unwrap();
    let first = builder.conv("first", x, numbers.tensor(&[sources, 2, 1, 1]), None, pointwise, 1).unwrap();
    let activation = [Activation::Relu, Activation::LeakyRelu { slope: 0.1 }, Activation::Sigmoid][seed as usize % 3];
    let first = builder.activation("first, activated", first, activation).unwrap();
    let axis = |before, after| WindowAxis { before, after, ..WindowAxis::new(3) };
    let window = Window::new(vec![axis(before, after), axis(after, before)]).unwrap();
    let weight = numbers.tensor(&[targets, sources, 3, 3]);
    let z = builder.conv("there", first, weight, Some(numbers.tensor(&[targets])), window.clone(), 1).unwrap();
    let z = builder.relu("there, rectified", z).unwrap();
    let weight = numbers.tensor(&[targets, sources, 3, 3]);
    let back = Conv::transposed(weight, Some(Arc::new(numbers.tensor(&[sources]))), window, 1, vec![0; 2]).unwrap();
    let back = builder.layer("back", Layer::Conv(back), vec![z]).unwrap();
    let sum = builder.sum("sum", &[back, first]).unwrap();
    let a = builder.relu("sum, rectified", sum).unwrap();
    classified(builder, a, &mut numbers)
}

#[test]
fn convolutions_in_tiles_agree_with_the_reference() {
    for (seed, shape) in TILED.iter().enumerate() {
        let network = Arc::new(of_tiles(*shape, seed as u64));
        let x = samples(&network, 1, seed as u64);
        for preset in ["epsilon", "epsilon-plus-flat", "epsilon-alpha2-beta1"] {
            // With the usual ε a z that rounds to the other side of zero turns a share around, by any way of summing.
            let softly = Some(Stabilizer::Absolute(0.1));
            let options = PresetOptions { epsilon: softly, stabilizer: softly, ..PresetOptions::default() };
            let composite = Composite::preset_with(preset, options).unwrap();
            let on = |backend| explain_by(&network, &composite, Options { backend, ..Options::default() }, &x);
            let (found, exact) = (on(Backend::Cpu), on(Backend::Reference));
            let what = format!("{shape:?}, {preset}");
            assert_close(&found.logits, &exact.logits, &what);
            assert_close(found.input(), exact.input(), &what);
        }
    }
}

#[test]
fn bits_of_tiles_do_not_depend_on_neighbours_threads_or_chunks() {
    for (seed, shape) in TILED.iter().chain([&FAR, &TOGETHER]).enumerate() {
        let network = Arc::new(of_tiles(*shape, seed as u64));
        let x = samples(&network, 5, seed as u64);
        let last = Tensor::new(network.shape(network.inputs()[0].value).prepend(1), x.row(4).to_vec()).unwrap();
        let on = |threads, batch_size, x: &Tensor| {
            let options = Options { backend: Backend::Cpu, threads: Some(threads), batch_size, ..Options::default() };
            explain(&network, "epsilon-alpha2-beta1", options, x)
        };
        let all = on(1, None, &x);
        for row in 0..5 {
            assert!(all.input().row(row).iter().any(|r| *r != 0.0), "{shape:?}, row {row}");
        }
        for (threads, batch_size) in [(1, Some(1)), (2, None), (3, Some(4))] {
            assert_eq!(on(threads, batch_size, &x).input(), all.input(), "{shape:?}, {threads} threads");
        }
        assert_eq!(on(2, None, &last).input().row(0), all.input().row(4), "{shape:?}");
    }
}

#[test]
fn many_targets_in_large_tiles_agree_with_the_reference() {
    let network = Arc::new(of_tiles((256, 256, [7, 7], [1, 1]), 3));
    let x = samples(&network, 2, 3);
    let softly = Some(Stabilizer::Absolute(0.1));
    let options = PresetOptions { epsilon: softly, stabilizer: softly, ..PresetOptions::default() };
    let composite = Composite::preset_with("epsilon-plus", options).unwrap();
    let on = |backend, threads, targets: Vec<usize>| {
        let options = Options { backend, threads: Some(threads), ..Options::default() };
        let explainer = Explainer::with_options(Arc::clone(&network), &composite, options).unwrap();
        explainer.explain(&[Input::from(&x)], &Targets::Classes(targets)).unwrap()
    };
    let classes = || [0, 1, 2, 1].into_iter().cycle();
    let exact = on(Backend::Reference, 2, classes().take(4).collect());
    let many = on(Backend::Cpu, 2, classes().take(40).collect());
    assert_eq!(many.input(), on(Backend::Cpu, 1, classes().take(40).collect()).input());
    let width = network.shape(network.inputs()[0].value).count();
    let row = |relevance: &Relevance, sample: usize, target: usize| {
        Tensor::new([1, width], relevance.input().row(sample)[target * width..][..width].to_vec()).unwrap()
    };
    for (sample, target) in (0..2).flat_map(|sample| (0..40).map(move |target| (sample, target))) {
        let what = format!("sample {sample}, target {target}");
        assert_close(&row(&many, sample, target), &row(&exact, sample, target % 4), &what);
    }
}
