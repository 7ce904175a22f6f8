//! Networks, rules and comparisons that tests of several backends share.
#![allow(dead_code, unused_imports, reason = "each test target takes what it needs")]

mod convolutional;

use std::sync::Arc;

use relprop::composite::{Composite, Selector};
use relprop::explain::Options;
use relprop::layers::{Activation, Family, Layer, Sum, sum::Sign};
use relprop::network::{Network, NetworkBuilder, ValueId};
use relprop::relevance::LayerSums;
use relprop::rules::{Bias, BiasPart, BilinearRule, Bounds, LinearRule, PointwiseRule, Rule, Share, Stabilizer};
use relprop::{Explainer, Input, Relevance, Request, Tensor};

pub use convolutional::*;

/// A reproducible stream of numbers in −1..1 (a 64-bit linear congruential generator).
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub fn tensor(&mut self, shape: &[usize]) -> Tensor {
        Tensor::from_fn(shape, |_| self.next())
    }

    /// Scaled so that layers neither blow up nor fade.
    pub fn weight(&mut self, outputs: usize, inputs: usize) -> Tensor {
        let scale = (3.0 / inputs as f32).sqrt();
        Tensor::from_fn([outputs, inputs], |_| self.next() * scale)
    }
}

pub fn dense(
    builder: &mut NetworkBuilder,
    numbers: &mut Numbers,
    x: ValueId,
    outputs: usize,
    has_bias: bool,
) -> ValueId {
    let inputs = *builder.shape(x).dims().last().unwrap();
    let bias = has_bias.then(|| Tensor::from_fn([outputs], |_| numbers.next() * 0.3));
    builder.dense("dense", x, numbers.weight(outputs, inputs), bias).unwrap()
}

pub fn mlp(seed: u64, widths: &[usize], activation: Activation, has_bias: bool) -> Network {
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
pub fn tangle(seed: u64) -> Network {
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

pub fn inputs(network: &Network, samples: usize, seed: u64) -> Vec<Tensor> {
    let mut numbers = Numbers(seed);
    let shapes = network.inputs().iter().map(|input| network.shape(input.value).prepend(samples));
    shapes.map(|shape| numbers.tensor(shape.dims())).collect()
}

pub fn borrowed(tensors: &[Tensor]) -> Vec<Input<'_>> {
    tensors.iter().map(Input::from).collect()
}

pub fn explain(
    network: &Arc<Network>,
    composite: &Composite,
    options: Options,
    data: &[Tensor],
    ask: &Request,
) -> Relevance {
    let explainer = Explainer::with_options(Arc::clone(network), composite, options).unwrap();
    explainer.explain_with(&borrowed(data), ask).unwrap()
}

/// Words looked up in a table, beside real numbers.
pub fn words(seed: u64) -> Network {
    let mut numbers = Numbers(seed);
    let mut builder = Network::builder();
    let ids = builder.integer_input("ids", [3]);
    let x = builder.input("x", [5]);
    let embedded = builder.lookup("embedded", ids, numbers.tensor(&[10, 4])).unwrap();
    let mixed = dense(&mut builder, &mut numbers, embedded, 6, true);
    let mixed = builder.relu("mixed", mixed).unwrap();
    let flat = builder.reshape("flat", mixed, [18]).unwrap();
    let joined = builder.concat("joined", &[flat, x], 0).unwrap();
    let output = dense(&mut builder, &mut numbers, joined, 3, true);
    builder.build(output).unwrap()
}

/// Relative L2 of each leading row: what float32 sums of these lengths and damped denominators can reach; where terms of
/// order one cancel, a unit in the last place of one remains.
pub fn assert_close(found: &Tensor, exact: &Tensor, tolerance: f64, what: &str) {
    assert_eq!(found.shape(), exact.shape(), "{what}");
    for row in 0..exact.rows() {
        let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
        let pairs = found.row(row).iter().zip(exact.row(row));
        let difference = norm(&mut pairs.map(|(&a, &b)| f64::from(a) - f64::from(b)));
        let size = norm(&mut exact.row(row).iter().map(|&b| f64::from(b)));
        assert!(difference.is_finite(), "{what}, row {row}");
        let bound = tolerance * size + f64::from(f32::EPSILON);
        assert!(difference <= bound, "{what}, row {row}: off by {difference:e}, more than {bound:e}");
    }
}

pub fn assert_agrees(found: Relevance, exact: &Relevance, what: &str) {
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
pub fn assert_sums_close(found: &LayerSums, exact: &LayerSums, what: &str) {
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
pub fn composite_of(rule: LinearRule) -> Composite {
    let pass = Rule::Pointwise(PointwiseRule::Pass);
    let gated = Rule::Bilinear(BilinearRule::Gated);
    Composite::new(rule.name.clone())
        .with(Selector::Family(Family::Linear), Rule::Linear(rule))
        .with(Selector::Family(Family::Pointwise), pass.clone())
        .with(Selector::Family(Family::Affine), pass)
        .with(Selector::Family(Family::Bilinear), gated)
}

pub fn damped() -> Stabilizer {
    Stabilizer::Absolute(0.25)
}

/// Bounds around all that [`inputs`] gives.
pub fn bounds() -> Bounds {
    Bounds { low: Arc::new(Tensor::scalar(-2.0)), high: Arc::new(Tensor::scalar(2.0)) }
}

/// Whether a preset fits a network with a first layer behind others: those with the box rule on every first layer do not.
pub fn fits_tangle(preset: &str) -> bool {
    preset != "deep-taylor-box"
}

/// A group without a quotient whose bias holds relevance: Σ b q.
pub fn biased_gradient() -> LinearRule {
    let mut rule = LinearRule::gradient();
    rule.groups[0].bias = BiasPart::WHOLE;
    LinearRule { name: "gradient with bias".to_owned(), ..rule }
}

pub fn every_rule() -> Vec<LinearRule> {
    let redistributed = |mut rule: LinearRule| {
        rule.groups.iter_mut().for_each(|group| group.share = Share::Redistributed);
        LinearRule { name: format!("{} redistributed", rule.name), ..rule }
    };
    vec![
        LinearRule::epsilon(damped()),
        LinearRule::epsilon(Stabilizer::Clip(0.25)),
        LinearRule::epsilon(Stabilizer::Rms(0.25)),
        LinearRule::norm(damped()),
        LinearRule::gradient(),
        LinearRule::gamma(0.25, damped()),
        LinearRule::gamma_original(0.25, damped()),
        LinearRule::gamma(0.25, damped()).with_bias(Bias::LeftOut),
        LinearRule::alpha_beta(2.0, damped()),
        LinearRule::alpha_beta_x([1.5, 0.5], [0.25, 0.75], damped()),
        LinearRule::z_plus(damped()),
        LinearRule::w_square(damped()),
        LinearRule::w_square(Stabilizer::Rms(0.25)),
        LinearRule::flat(damped()),
        LinearRule::captum_gamma(0.25, damped()),
        LinearRule::captum_z_plus(damped()),
        LinearRule::innvestigate_alpha_beta(2.0, damped()),
        redistributed(LinearRule::epsilon(damped())),
        redistributed(LinearRule::gamma(0.25, damped())),
        redistributed(biased_gradient()),
        biased_gradient(),
    ]
}

pub fn bits(relevance: &Relevance) -> Vec<u32> {
    relevance.inputs.iter().flat_map(|named| named.relevance.data()).map(|r| r.to_bits()).collect()
}

/// NaN in place of the first samples.
pub fn spoil(tensor: &Tensor, samples: usize) -> Tensor {
    let width = tensor.count() / tensor.rows();
    Tensor::from_fn(tensor.shape().clone(), |i| if i < samples * width { f32::NAN } else { tensor.data()[i] })
}

/// Sums and differences of many values, each read through an activation with a number of its own.
pub fn wide_sum(seed: u64, terms: usize) -> Network {
    let mut numbers = Numbers(seed);
    let mut builder = Network::builder();
    let x = builder.input("x", [9]);
    let mut branches = Vec::new();
    for _ in 0..terms {
        let z = dense(&mut builder, &mut numbers, x, 7, true);
        branches.push(builder.activation("leaky", z, Activation::LeakyRelu { slope: 0.1 }).unwrap());
    }
    let signs = (0..terms).map(|term| if term % 2 == 0 { Sign::Minus } else { Sign::Plus }).collect();
    let sum = builder.layer("sum", Layer::Sum(Sum::new(signs).unwrap()), branches).unwrap();
    let output = dense(&mut builder, &mut numbers, sum, 4, true);
    builder.build(output).unwrap()
}
