//! The CPU backend against the float64 reference: awkward shapes, every rule, facts, targets, reports, and bits.

mod agreement;
mod bits;
#[cfg(feature = "gpu")]
#[path = "../device/mod.rs"]
mod device;
mod input_checks;
mod plans;

use std::sync::Arc;

use relprop::composite::{Composite, PresetOptions, Selector};
use relprop::explain::Options;
use relprop::layers::{Activation, Family, GeluForm, Layer, Sum, sum::Sign};
use relprop::network::{LayerId, Network, NetworkBuilder, ValueId};
use relprop::plan::{self, Ask, Facts, Target, Work};
use relprop::relevance::LayerSums;
use relprop::rules::{Bias, BiasPart, Bounds, LinearRule, PointwiseRule, Rule, Share, Stabilizer};
use relprop::{Backend, Explainer, Input, Relevance, Request, Start, Targets, Tensor};

/// A reproducible stream of numbers in −1..1 (a 64-bit linear congruential generator).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn tensor(&mut self, shape: &[usize]) -> Tensor {
        Tensor::from_fn(shape, |_| self.next())
    }

    /// Scaled so that layers neither blow up nor fade.
    fn weight(&mut self, outputs: usize, inputs: usize) -> Tensor {
        let scale = (3.0 / inputs as f32).sqrt();
        Tensor::from_fn([outputs, inputs], |_| self.next() * scale)
    }
}

fn dense(builder: &mut NetworkBuilder, numbers: &mut Numbers, x: ValueId, outputs: usize, has_bias: bool) -> ValueId {
    let inputs = *builder.shape(x).dims().last().unwrap();
    let bias = has_bias.then(|| Tensor::from_fn([outputs], |_| numbers.next() * 0.3));
    builder.dense("dense", x, numbers.weight(outputs, inputs), bias).unwrap()
}

fn mlp(seed: u64, widths: &[usize], activation: Activation, has_bias: bool) -> Network {
    let mut numbers = Numbers(seed);
    let mut builder = Network::builder();
    let mut value = builder.input("x", [widths[0]]);
    for (position, &width) in widths[1..].iter().enumerate() {
        value = dense(&mut builder, &mut numbers, value, width, has_bias);
        if position + 2 < widths.len() {
            value = builder.activation("activation", value, activation).unwrap();
        }
    }
    builder.build(value).unwrap()
}

/// Affine at the door, tokens, a transpose, a residual with a difference, a value read twice, two inputs joined.
fn tangle(seed: u64) -> Network {
    let mut numbers = Numbers(seed);
    let mut builder = Network::builder();
    let image = builder.input("image", [3, 5]);
    let table = builder.input("table", [7]);
    let door = builder.affine("door", image, numbers.tensor(&[3, 1]), numbers.tensor(&[5])).unwrap();
    let tokens = dense(&mut builder, &mut numbers, door, 6, true);
    let tokens = builder.relu("relu", tokens).unwrap();
    let turned = builder.transpose("turn", tokens, vec![1, 0]).unwrap();
    let turned = dense(&mut builder, &mut numbers, turned, 4, false);
    let turned = builder.activation("tanh", turned, Activation::Tanh).unwrap();
    let flat = builder.reshape("flat", turned, [24]).unwrap();
    let left = dense(&mut builder, &mut numbers, flat, 9, true);
    let right = dense(&mut builder, &mut numbers, table, 9, true);
    let right = builder.activation("leaky", right, Activation::LeakyRelu { slope: 0.1 }).unwrap();
    let both = builder.sum("both", &[left, right]).unwrap();
    let signs = Sum::new(vec![Sign::Plus, Sign::Minus, Sign::Plus]).unwrap();
    let mixed = builder.layer("mixed", Layer::Sum(signs), vec![both, left, right]).unwrap();
    let joined = builder.concat("joined", &[mixed, table, both], 0).unwrap();
    let hidden = dense(&mut builder, &mut numbers, joined, 11, true);
    let hidden = builder.relu("relu", hidden).unwrap();
    let output = dense(&mut builder, &mut numbers, hidden, 4, true);
    builder.build(output).unwrap()
}

fn inputs(network: &Network, samples: usize, seed: u64) -> Vec<Tensor> {
    let mut numbers = Numbers(seed);
    let shapes = network.inputs().iter().map(|input| network.shape(input.value).prepend(samples));
    shapes.map(|shape| numbers.tensor(shape.dims())).collect()
}

fn borrowed(tensors: &[Tensor]) -> Vec<Input<'_>> {
    tensors.iter().map(Input::from).collect()
}

fn explain(
    network: &Arc<Network>,
    composite: &Composite,
    options: Options,
    data: &[Tensor],
    ask: &Request,
) -> Relevance {
    let explainer = Explainer::with_options(Arc::clone(network), composite, options).unwrap();
    explainer.explain_with(&borrowed(data), ask).unwrap()
}

fn on(backend: Backend) -> Options {
    #[cfg(feature = "gpu")]
    if backend == Backend::Gpu {
        // Small chunks: batches are cut, and software adapters compile the kernels for few rows much faster.
        return Options { backend, gpu: Some(device::shared()), batch_size: Some(7), ..Options::default() };
    }
    Options { backend, ..Options::default() }
}

/// Every backend that is judged by the reference.
fn compared() -> Vec<Options> {
    let mut backends = vec![on(Backend::Cpu)];
    if cfg!(feature = "gpu") {
        backends.push(on(Backend::Gpu));
    }
    backends
}

/// Relative L2 of each leading row: what float32 sums of these lengths and damped denominators can reach; where terms of
/// order one cancel, a unit in the last place of one remains.
fn assert_close(found: &Tensor, exact: &Tensor, tolerance: f64, what: &str) {
    assert_eq!(found.shape(), exact.shape(), "{what}");
    for row in 0..exact.rows() {
        let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
        let pairs = found.row(row).iter().zip(exact.row(row));
        let difference = norm(&mut pairs.map(|(&a, &b)| f64::from(a) - f64::from(b)));
        let size = norm(&mut exact.row(row).iter().map(|&b| f64::from(b)));
        assert!(difference.is_finite(), "{what}, row {row}");
        approx::assert_abs_diff_eq!(difference, 0.0, epsilon = tolerance * size + f64::from(f32::EPSILON));
    }
}

fn assert_backends_agree(network: Network, composite: &Composite, samples: usize, ask: &Request, what: &str) {
    let network = Arc::new(network);
    let data = inputs(&network, samples, 77);
    let exact = explain(&network, composite, on(Backend::Reference), &data, ask);
    for options in compared() {
        let what = format!("{} {what}", options.backend);
        let is_gpu = options.backend == Backend::Gpu;
        let found = explain(&network, composite, options, &data, ask);
        assert_eq!(found.run.dispatches > 0, is_gpu, "{what}");
        assert_agrees(found, &exact, &what);
    }
}

fn assert_agrees(found: Relevance, exact: &Relevance, what: &str) {
    assert_eq!(found.targets, exact.targets, "{what}");
    assert_close(&found.logits, &exact.logits, 1e-5, what);
    let pairs = found.inputs.iter().chain(&found.kept).zip(exact.inputs.iter().chain(&exact.kept));
    for (found, exact) in pairs {
        assert_eq!(found.name, exact.name);
        assert_close(&found.relevance, &exact.relevance, 3e-5, &format!("{what}, {}", found.name));
    }
    assert_eq!(found.report.is_some(), exact.report.is_some());
    if let (Some(found), Some(exact)) = (found.report, &exact.report) {
        assert_eq!(found.layers.len(), exact.layers.len());
        for (found, exact) in found.layers.iter().zip(&exact.layers) {
            assert_eq!((&found.name, &found.rule), (&exact.name, &exact.rule));
            assert_sums_close(&found.sums, &exact.sums, &format!("{what}, {}", found.name));
        }
    }
}

/// Each sum within what float32 relevance of the layer's size can be off.
fn assert_sums_close(found: &LayerSums, exact: &LayerSums, what: &str) {
    let parts = |sums: &LayerSums| [sums.at_output, sums.at_input, sums.bias, sums.epsilon, sums.dropped, sums.size];
    let scale = exact.size.max(exact.bias.abs()).max(1e-6);
    for (part, (found, exact)) in parts(found).into_iter().zip(parts(exact)).enumerate() {
        assert!(
            approx::abs_diff_eq!(found, exact, epsilon = 1e-4 * scale),
            "{what}, part {part}: {found} is not {exact}"
        );
    }
    assert_eq!((found.nonfinite, found.conserves()), (exact.nonfinite, exact.conserves()), "{what}");
}

/// A composite of one linear rule, with activations passing. A damped rule keeps the comparison well conditioned.
fn composite_of(rule: LinearRule) -> Composite {
    let pass = Rule::Pointwise(PointwiseRule::Pass);
    Composite::new(rule.name.clone())
        .with(Selector::Family(Family::Linear), Rule::Linear(rule))
        .with(Selector::Family(Family::Pointwise), pass.clone())
        .with(Selector::Family(Family::Affine), pass)
}

fn damped() -> Stabilizer {
    Stabilizer::Absolute(0.25)
}
