//! Convolutions of VGG16 and ResNet-50 on the CPU backend, beside the product of a dense layer in the same run.
//!
//! Each shape is a network of like layers, checked against the float64 reference on a small image first. Five layers are
//! timed and one, in turns, and the best of several turns counts; the difference is what four layers take. What an
//! explanation takes beyond a forward pass is the way back. `cargo bench --bench convolve -- WORD` picks shapes.

use std::time::Instant;

use relprop::explain::Options;
use relprop::layers::{Conv, Layer, Window, WindowAxis};
use relprop::network::{Network, NetworkBuilder, ValueId};
use relprop::{Backend, Composite, Explainer, Input, Targets, Tensor};

/// Turns that each network takes.
const TURNS: usize = 7;
/// Layers of the longer network beyond those of the shorter one.
const MORE: usize = 4;
/// The widths of dense layers that the others are compared with.
const DENSE: usize = 1024;

/// Convolutions from `from` channels to `to` and back.
struct Shape {
    name: &'static str,
    from: usize,
    to: usize,
    extent: usize,
    kernel: usize,
    /// From the first layer of a pair to the second; the second is transposed then.
    stride: usize,
}

const SHAPES: &[Shape] = &[
    Shape { name: "vgg 64 3x3", from: 64, to: 64, extent: 224, kernel: 3, stride: 1 },
    Shape { name: "vgg 128 3x3", from: 128, to: 128, extent: 112, kernel: 3, stride: 1 },
    Shape { name: "vgg 256 3x3", from: 256, to: 256, extent: 56, kernel: 3, stride: 1 },
    Shape { name: "vgg 512 3x3", from: 512, to: 512, extent: 28, kernel: 3, stride: 1 },
    Shape { name: "vgg 512 3x3", from: 512, to: 512, extent: 14, kernel: 3, stride: 1 },
    Shape { name: "resnet 64 3x3", from: 64, to: 64, extent: 56, kernel: 3, stride: 1 },
    Shape { name: "resnet 128 3x3", from: 128, to: 128, extent: 28, kernel: 3, stride: 1 },
    Shape { name: "resnet 256 3x3", from: 256, to: 256, extent: 14, kernel: 3, stride: 1 },
    Shape { name: "resnet 512 3x3", from: 512, to: 512, extent: 7, kernel: 3, stride: 1 },
    Shape { name: "resnet 256-64 1x1", from: 256, to: 64, extent: 56, kernel: 1, stride: 1 },
    Shape { name: "resnet 512-128 1x1", from: 512, to: 128, extent: 28, kernel: 1, stride: 1 },
    Shape { name: "resnet 1024-256 1x1", from: 1024, to: 256, extent: 14, kernel: 1, stride: 1 },
    Shape { name: "resnet 2048-512 1x1", from: 2048, to: 512, extent: 7, kernel: 1, stride: 1 },
    Shape { name: "resnet 128 3x3 stride 2", from: 128, to: 128, extent: 56, kernel: 3, stride: 2 },
    Shape { name: "vgg first 3-64 3x3", from: 3, to: 64, extent: 224, kernel: 3, stride: 1 },
    Shape { name: "resnet first 3-64 7x7 stride 2", from: 3, to: 64, extent: 224, kernel: 7, stride: 2 },
];

impl Shape {
    /// Multiply-adds of one layer, counted twice.
    fn operations(&self) -> f64 {
        let extent = self.extent.div_ceil(self.stride);
        2.0 * (extent * extent * self.from * self.to * self.kernel * self.kernel) as f64
    }

    /// Reads an image of `from` channels, and has so many pairs of layers.
    fn network(&self, extent: usize, pairs: usize) -> Network {
        let mut builder = Network::builder();
        let mut x = builder.input("x", [self.from, extent, extent]);
        for _ in 0..pairs {
            x = self.layer(&mut builder, x, false);
            x = self.layer(&mut builder, x, true);
        }
        let mean = builder.global_average_pool("mean", x).unwrap();
        builder.build(mean).unwrap()
    }

    fn layer(&self, builder: &mut NetworkBuilder, x: ValueId, back: bool) -> ValueId {
        let (inputs, outputs) = if back { (self.to, self.from) } else { (self.from, self.to) };
        let axis = WindowAxis {
            stride: self.stride,
            before: self.kernel / 2,
            after: self.kernel / 2,
            ..WindowAxis::new(self.kernel)
        };
        let window = Window::new(vec![axis; 2]).unwrap();
        let is_transposed = back && self.stride > 1;
        let first = if is_transposed { [inputs, outputs] } else { [outputs, inputs] };
        let size = (6.0 / (inputs * self.kernel * self.kernel) as f32).sqrt();
        let weight = Tensor::from_fn([first[0], first[1], self.kernel, self.kernel], |at| number(at) * size);
        let bias = Some(std::sync::Arc::new(Tensor::from_fn([outputs], |_| 0.01)));
        let conv = if is_transposed {
            Conv::transposed(weight, bias, window, 1, vec![self.stride - 1; 2])
        } else {
            Conv::new(weight, bias, window, 1)
        };
        let z = builder.layer("conv", Layer::Conv(conv.unwrap()), vec![x]).unwrap();
        builder.relu("relu", z).unwrap()
    }
}

/// A number in −1..1 that looks like chance.
fn number(at: usize) -> f32 {
    (at.wrapping_mul(2_654_435_761) % 1009) as f32 / 504.5 - 1.0
}

fn explainer(network: Network, backend: Backend) -> Explainer {
    let options = Options { backend, ..Options::default() };
    Explainer::with_options(network, &Composite::preset("epsilon").unwrap(), options).unwrap()
}

/// Panics unless the layers' relevance is the reference's on a small image.
fn check(shape: &Shape) {
    let extent = shape.extent.min(8);
    let x = Tensor::from_fn([1, shape.from, extent, extent], number);
    let explain = |backend| {
        let explainer = explainer(shape.network(extent, 1), backend);
        explainer.explain(&[Input::from(&x)], &Targets::Each(vec![1])).unwrap()
    };
    let (found, exact) = (explain(Backend::Cpu), explain(Backend::Reference));
    let size = exact.input().data().iter().fold(0.0_f32, |size, r| size.max(r.abs()));
    for (found, exact) in found.input().data().iter().zip(exact.input().data()) {
        assert!((found - exact).abs() <= 1e-4 * size, "{}: {found} is not {exact}", shape.name);
    }
}

/// A network with some layers, and its times.
struct Timed {
    explainer: Explainer,
    x: Tensor,
    forward: f64,
    explain: f64,
}

impl Timed {
    fn new(network: Network, samples: usize) -> Self {
        let shape = network.shape(network.inputs()[0].value).prepend(samples);
        let x = Tensor::from_fn(shape.dims(), number);
        Timed { explainer: explainer(network, Backend::Cpu), x, forward: f64::INFINITY, explain: f64::INFINITY }
    }

    fn turn(&mut self) {
        let start = Instant::now();
        self.explainer.forward(&[Input::from(&self.x)]).unwrap();
        self.forward = self.forward.min(start.elapsed().as_secs_f64());
        let start = Instant::now();
        self.explainer.explain(&[Input::from(&self.x)], &Targets::Each(vec![0; self.x.rows()])).unwrap();
        self.explain = self.explain.min(start.elapsed().as_secs_f64());
    }
}

/// Dense layers in place of convolutions.
fn dense(layers: usize) -> Network {
    let mut builder = Network::builder();
    let mut x = builder.input("x", [DENSE]);
    let size = (6.0 / DENSE as f32).sqrt();
    for _ in 0..layers {
        let weight = Tensor::from_fn([DENSE, DENSE], |at| number(at) * size);
        x = builder.dense("dense", x, weight, Some(Tensor::from_fn([DENSE], |_| 0.01))).unwrap();
        x = builder.relu("relu", x).unwrap();
    }
    builder.build(x).unwrap()
}

/// GFLOP/s of the layers that the longer network has more, forward and back.
fn speed([long, short]: &[Timed; 2], operations: f64) -> [f64; 2] {
    let (forward, explain) = (long.forward - short.forward, long.explain - short.explain);
    [operations / forward / 1e9, operations / (explain - forward) / 1e9]
}

fn main() {
    let word = std::env::args().skip(1).find(|word| !word.starts_with('-')).unwrap_or_default();
    // `cargo test` runs benchmarks too, without the word that `cargo bench` gives: it wants to know whether they work.
    if !std::env::args().any(|word| word == "--bench") {
        return SHAPES.iter().for_each(check);
    }
    println!("| layer | forward, GFLOP/s | of a dense layer's | back, GFLOP/s | of a dense layer's |");
    println!("| --- | --- | --- | --- | --- |");
    for shape in SHAPES.iter().filter(|shape| shape.name.contains(&word)) {
        check(shape);
        let rows = 768;
        let mut products = [Timed::new(dense(1 + MORE), rows), Timed::new(dense(1), rows)];
        // Two images keep two threads busy in layers of few positions.
        let mut layers = [MORE / 2 + 1, 1].map(|pairs| Timed::new(shape.network(shape.extent, pairs), 2));
        for _ in 0..TURNS {
            products.iter_mut().chain(&mut layers).for_each(Timed::turn);
        }
        let product = speed(&products, (2 * MORE * rows * DENSE * DENSE) as f64);
        let [forward, back] = speed(&layers, 2.0 * MORE as f64 * shape.operations());
        let (name, extent) = (shape.name, shape.extent);
        let [of_forward, of_back] = [forward / product[0], back / product[1]];
        println!("| {name}, {extent} wide | {forward:.1} | {of_forward:.2} | {back:.1} | {of_back:.2} |");
    }
}
