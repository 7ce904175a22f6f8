//! The CPU backend against the float64 reference: awkward shapes, every rule, facts, targets, reports, and bits.

use std::sync::Arc;

use relprop::composite::{Composite, Selector};
use relprop::explain::Options;
use relprop::layers::{Activation, Family, GeluForm, Layer, Sum, sum::Sign};
use relprop::network::{LayerId, Network, NetworkBuilder, ValueId};
use relprop::plan::{self, Ask, Facts, Target, Work};
use relprop::relevance::LayerSums;
use relprop::rules::{BiasPart, Bounds, LinearRule, PointwiseRule, Rule, Share, Stabilizer};
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
    Options { backend, ..Options::default() }
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
    let found = explain(&network, composite, on(Backend::Cpu), &data, ask);
    assert_eq!(found.targets, exact.targets, "{what}");
    assert_close(&found.logits, &exact.logits, 1e-5, what);
    let pairs = found.inputs.iter().chain(&found.kept).zip(exact.inputs.iter().chain(&exact.kept));
    for (found, exact) in pairs {
        assert_eq!(found.name, exact.name);
        assert_close(&found.relevance, &exact.relevance, 3e-5, &format!("{what}, {}", found.name));
    }
    assert_eq!(found.report.is_some(), exact.report.is_some());
    if let (Some(found), Some(exact)) = (found.report, exact.report) {
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

/// A group without a quotient whose bias holds relevance: Σ b q.
fn biased_gradient() -> LinearRule {
    let mut rule = LinearRule::gradient();
    rule.groups[0].bias = BiasPart::WHOLE;
    LinearRule { name: "gradient with bias".to_owned(), ..rule }
}

fn every_rule() -> Vec<LinearRule> {
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
        LinearRule::alpha_beta(2.0, damped()),
        LinearRule::z_plus(damped()),
        LinearRule::w_square(damped()),
        LinearRule::w_square(Stabilizer::Rms(0.25)),
        LinearRule::flat(damped()),
        redistributed(LinearRule::epsilon(damped())),
        redistributed(LinearRule::gamma(0.25, damped())),
        redistributed(biased_gradient()),
        biased_gradient(),
    ]
}

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
    for rule in every_rule() {
        let composite = composite_of(rule.clone());
        let ask = Request::new(Targets::ArgMax).report(true);
        assert_backends_agree(mlp(5, &[9, 14, 8, 4], Activation::Relu, true), &composite, 7, &ask, &rule.name);
        assert_backends_agree(tangle(6), &composite, 5, &ask, &format!("tangle {}", rule.name));
        let affine_too = composite.with_first(Selector::Family(Family::Affine), Rule::Linear(rule.clone()));
        assert_backends_agree(tangle(6), &affine_too, 5, &ask, &format!("affine {}", rule.name));
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
    for activation in [
        Activation::Relu,
        Activation::LeakyRelu { slope: 0.2 },
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::Erf,
        Activation::Gelu(GeluForm::Erf),
        Activation::Gelu(GeluForm::Tanh),
    ] {
        for preset in ["gradient", "gradient-x-input"] {
            let composite = Composite::preset(preset).unwrap();
            let network = mlp(9, &[6, 13, 7, 3], activation, true);
            let what = format!("{preset} {activation:?}");
            assert_backends_agree(network, &composite, 6, &Request::new(Targets::ArgMax), &what);
        }
    }
    let composite = Composite::preset("gradient-x-input").unwrap();
    assert_backends_agree(tangle(10), &composite, 6, &Request::new(Targets::ArgMax), "tangle gradient-x-input");
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

fn bits(relevance: &Relevance) -> Vec<u32> {
    relevance.inputs.iter().flat_map(|named| named.relevance.data()).map(|r| r.to_bits()).collect()
}

#[test]
fn bits_do_not_change_with_threads_chunks_or_batch_sizes() {
    let network = Arc::new(mlp(14, &[31, 130, 64, 7], Activation::Relu, true));
    let composite = Composite::preset("epsilon").unwrap();
    let data = inputs(&network, 203, 6);
    let ask = Request::new(Targets::ArgMax);
    let first = bits(&explain(&network, &composite, on(Backend::Cpu), &data, &ask));
    for threads in [1, 2, 7] {
        for batch_size in [None, Some(1), Some(13), Some(96), Some(1000)] {
            for memory in [None, Some(7 * 20_000), Some(1 << 30)] {
                let options = Options { backend: Backend::Cpu, threads: Some(threads), batch_size, memory };
                let again = bits(&explain(&network, &composite, options, &data, &ask));
                assert_eq!(again, first, "{threads} threads, batch size {batch_size:?}, memory {memory:?}");
            }
        }
    }
}

#[test]
fn memory_too_small_for_a_sample_is_an_error() {
    let network = mlp(14, &[31, 130, 64, 7], Activation::Relu, true);
    let options = Options { backend: Backend::Cpu, threads: Some(1), batch_size: None, memory: Some(100) };
    let data = inputs(&network, 2, 6);
    let explainer = Explainer::with_options(network, &Composite::preset("epsilon").unwrap(), options).unwrap();
    let error = explainer.explain(&borrowed(&data), &Targets::ArgMax).unwrap_err();
    assert_eq!(error.kind(), relprop::ErrorKind::Limit);
    assert!(error.message().ends_with("but 100 are allowed"), "{error}");
}

/// Words looked up in a table, beside real numbers.
fn words(seed: u64) -> Network {
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

#[test]
fn integer_inputs_are_looked_up_and_relevance_stops_there() {
    let network = Arc::new(words(30));
    let composite = composite_of(LinearRule::epsilon(damped()));
    let ids = Tensor::from_fn([4, 3], |i| [0_i64, -1, 9, 3, -10, 5][i % 6]);
    let x = Numbers(4).tensor(&[4, 5]);
    let ask = Request::new(Targets::All).keep("mixed").keep("embedded").report(true);
    let on = |backend| {
        let explainer = Explainer::new(Arc::clone(&network), &composite, backend).unwrap();
        explainer.explain_with(&[Input::from(&ids), Input::from(&x)], &ask).unwrap()
    };
    let (found, exact) = (on(Backend::Cpu), on(Backend::Reference));
    assert_eq!(found.inputs.len(), 1, "the integer input has no relevance");
    assert_close(found.input(), exact.input(), 3e-5, "x");
    for (found, exact) in found.kept.iter().zip(&exact.kept) {
        assert_close(&found.relevance, &exact.relevance, 3e-5, &found.name);
    }
    for (found, exact) in found.report.unwrap().layers.iter().zip(&exact.report.unwrap().layers) {
        assert_sums_close(&found.sums, &exact.sums, &found.name);
    }

    let explainer = Explainer::new(Arc::clone(&network), &composite, Backend::Cpu).unwrap();
    let far = Tensor::from_fn([4, 3], |i| if i == 7 { 10 } else { 0 });
    let error = explainer.explain(&[Input::from(&far), Input::from(&x)], &Targets::ArgMax).unwrap_err();
    assert!(error.message().contains("input `ids` holds 10 in sample 2, element 1"), "{error}");
    let keep_ids = Request::new(Targets::ArgMax).keep("ids").keep("mixed");
    assert!(explainer.explain_with(&[Input::from(&ids), Input::from(&x)], &keep_ids).is_err());
}

#[test]
fn a_network_of_integer_inputs_alone_gives_the_relevance_of_what_it_looks_up() {
    let mut numbers = Numbers(31);
    let mut builder = Network::builder();
    let ids = builder.integer_input("ids", [2]);
    let embedded = builder.lookup("embedded", ids, numbers.tensor(&[10, 4])).unwrap();
    let flat = builder.reshape("flat", embedded, [8]).unwrap();
    let output = dense(&mut builder, &mut numbers, flat, 3, true);
    let network = Arc::new(builder.build(output).unwrap());
    let ids = Tensor::from_fn([4, 2], |i| i as i64);
    for backend in [Backend::Cpu, Backend::Reference] {
        let explainer = Explainer::new(Arc::clone(&network), &Composite::preset("zero").unwrap(), backend).unwrap();
        let error = explainer.explain(&[Input::from(&ids)], &Targets::ArgMax).unwrap_err();
        assert!(error.advice().unwrap().contains("embedded"), "{error}");
        let ask = Request::new(Targets::ArgMax).keep("embedded");
        let relevance = explainer.explain_with(&[Input::from(&ids)], &ask).unwrap();
        assert_eq!(relevance.kept[0].relevance.shape().dims(), [4, 2, 4]);
        assert!(relevance.inputs.is_empty());
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
fn a_samples_bits_do_not_change_with_its_neighbours_or_its_place() {
    for network in [mlp(15, &[31, 70, 33, 7], Activation::Tanh, true), tangle(16)] {
        let network = Arc::new(network);
        let composite = Composite::preset("epsilon").unwrap();
        let explainer = Explainer::new(Arc::clone(&network), &composite, Backend::Cpu).unwrap();
        let data = inputs(&network, 40, 7);
        let many = explainer.explain(&borrowed(&data), &Targets::ArgMax).unwrap();
        for sample in [0, 1, 17, 39] {
            let alone: Vec<Tensor> = (data.iter().zip(network.inputs()))
                .map(|(tensor, input)| {
                    Tensor::new(network.shape(input.value).clone(), tensor.row(sample).to_vec()).unwrap()
                })
                .collect();
            let one = explainer.explain(&borrowed(&alone), &Targets::ArgMax).unwrap();
            for (many, one) in many.inputs.iter().zip(&one.inputs) {
                assert_eq!(many.relevance.row(sample), one.relevance.data(), "sample {sample}");
            }
        }
    }
}

#[test]
fn samples_of_nan_leave_no_trace_in_those_after_them() {
    for (network, targets) in [
        (tangle(17), Targets::Class(0)),
        (tangle(17), Targets::All),
        (mlp(26, &[31, 70, 33, 7], Activation::Relu, true), Targets::Class(1)),
    ] {
        let network = Arc::new(network);
        // One thread and small chunks: the same memory serves the spoiled chunks and then the clean ones.
        let options = Options { backend: Backend::Cpu, threads: Some(1), batch_size: Some(5), memory: None };
        let composite = composite_of(LinearRule::gamma(0.25, Stabilizer::Rms(0.1)));
        let explainer = Explainer::with_options(Arc::clone(&network), &composite, options).unwrap();
        let clean = inputs(&network, 30, 8);
        let ask = Request::new(targets).allow_nonfinite(true).report(true);
        let before = explainer.explain_with(&borrowed(&clean), &ask).unwrap();
        let spoiled: Vec<Tensor> = clean.iter().map(|tensor| spoil(tensor, 15)).collect();
        let after = explainer.explain_with(&borrowed(&spoiled), &ask).unwrap();
        for (before, after) in before.inputs.iter().zip(&after.inputs) {
            let half = before.relevance.count() / 2;
            assert!(after.relevance.data()[..half].iter().any(|r| r.is_nan()), "NaN goes through");
            assert_eq!(before.relevance.data()[half..], after.relevance.data()[half..]);
        }
        assert!(after.report.unwrap().layers.iter().any(|layer| layer.sums.nonfinite > 0), "and is counted");
        let again = explainer.explain_with(&borrowed(&clean), &ask).unwrap();
        assert_eq!(bits(&again), bits(&before));
    }
}

/// NaN in place of the first samples.
fn spoil(tensor: &Tensor, samples: usize) -> Tensor {
    let width = tensor.count() / tensor.rows();
    Tensor::from_fn(tensor.shape().clone(), |i| if i < samples * width { f32::NAN } else { tensor.data()[i] })
}

#[test]
fn an_explainer_is_shared_between_threads() {
    let network = Arc::new(mlp(18, &[12, 20, 5], Activation::Relu, true));
    let explainer = Explainer::new(Arc::clone(&network), &Composite::preset("epsilon").unwrap(), Backend::Cpu).unwrap();
    let data = inputs(&network, 50, 9);
    let expected = bits(&explainer.explain(&borrowed(&data), &Targets::ArgMax).unwrap());
    std::thread::scope(|scope| {
        for k in 1..=4 {
            let (explainer, data, expected) = (&explainer, &data, &expected);
            scope.spawn(move || {
                let top = explainer.explain(&borrowed(data), &Targets::Top(k)).unwrap();
                assert_eq!(top.targets.shape().dims(), [50, k]);
                assert_eq!(&bits(&explainer.explain(&borrowed(data), &Targets::ArgMax).unwrap()), expected);
            });
        }
    });
}

fn plan_of(network: &Network, composite: &Composite, ask: &Ask) -> plan::Plan {
    plan::build(network, &composite.assign(network).unwrap(), ask, &Target::UNLIMITED).unwrap()
}

#[test]
fn a_plain_mlp_takes_two_steps_a_layer_and_one_more() {
    for activation in [Activation::Relu, Activation::Tanh, Activation::Gelu(GeluForm::Erf)] {
        for layers in 1..6 {
            let widths: Vec<usize> = (0..=layers).map(|layer| 5 + layer).collect();
            let network = mlp(19, &widths, activation, true);
            let plan = plan_of(&network, &Composite::preset("epsilon").unwrap(), &Ask::default());
            assert_eq!(plan.steps.len(), 2 * layers + 1, "{}", plan.describe(&network));
            let cost = plan.cost(&network, 64);
            assert_eq!(cost.operations, 2 * cost.forward_operations, "ε costs one product forward and one back");
        }
    }
}

#[test]
fn a_plain_mlp_moves_hardly_more_bytes_than_the_least() {
    let network = mlp(19, &[784, 300, 200, 10], Activation::Relu, true);
    let plan = plan_of(&network, &Composite::preset("epsilon").unwrap(), &Ask::default());
    for samples in [1, 64, 4096] {
        let cost = plan.cost(&network, samples);
        assert!(cost.bytes as f64 <= 1.3 * cost.least_bytes as f64, "{cost:?}");
        assert!(cost.bytes >= cost.least_bytes, "{cost:?}");
    }
}

/// Switches off one fact; asserts that the plan gets larger without it and the result stays equal within rounding.
fn assert_fact_pays(network: Network, composite: &Composite, off: Facts) {
    let with = plan_of(&network, composite, &Ask::default());
    let without = plan_of(&network, composite, &Ask { facts: off, ..Ask::default() });
    assert!(
        with.steps.len() < without.steps.len(),
        "with:\n{}without:\n{}",
        with.describe(&network),
        without.describe(&network)
    );
    let network = Arc::new(network);
    let data = inputs(&network, 8, 10);
    let ask = Request::new(Targets::ArgMax);
    let found = explain(&network, composite, on(Backend::Cpu), &data, &ask);
    let plain = explain(&network, composite, on(Backend::Cpu), &data, &ask.facts(off));
    assert_close(found.input(), plain.input(), 3e-5, composite.name());
}

#[test]
fn each_fact_removes_work_and_keeps_the_result() {
    let net = || mlp(20, &[9, 14, 8, 4], Activation::Relu, true);
    let gamma = composite_of(LinearRule::gamma(0.25, damped()));
    let epsilon = composite_of(LinearRule::epsilon(damped()));
    assert_fact_pays(net(), &gamma, Facts { nonnegative: false, ..Facts::default() });
    assert_fact_pays(net(), &gamma, Facts { dead_below_zero: false, ..Facts::default() });
    assert_fact_pays(net(), &epsilon, Facts { reuse_forward: false, ..Facts::default() });
    assert_fact_pays(net(), &epsilon, Facts { fuse: false, ..Facts::default() });
}

fn products_of(plan: &plan::Plan, layer: LayerId) -> usize {
    let of_layer = plan.steps.iter().filter(|step| step.layer == Some(layer));
    of_layer.filter(|step| matches!(step.work, Work::Product { .. })).count()
}

#[test]
fn groups_for_negative_outputs_stay_where_relevance_lives_below_zero() {
    // Layer 2 is the second dense layer, between two rectifiers.
    let network = mlp(21, &[9, 14, 8, 4], Activation::Relu, true);
    let hidden = network.layer_ids().nth(2).unwrap().0;
    let gamma = || composite_of(LinearRule::gamma(0.25, damped()));
    let last = network.layers().last().unwrap().name.clone();
    let above = |rule: LinearRule| gamma().with_first(Selector::name(&last).unwrap(), Rule::Linear(rule));
    let dropped = products_of(&plan_of(&network, &gamma(), &Ask::default()), hidden);
    assert_eq!(dropped, 3, "the forward product, one denominator and one back");

    let mut spread = LinearRule::epsilon(damped());
    spread.groups[0].share = Share::Redistributed;
    for rule in [LinearRule::flat(damped()), LinearRule::w_square(damped()), spread] {
        let plan = plan_of(&network, &above(rule.clone()), &Ask::default());
        assert!(products_of(&plan, hidden) > dropped, "γ below {}", rule.name);
        let ask = Request::new(Targets::ArgMax).report(true);
        assert_backends_agree(network.clone(), &above(rule.clone()), 7, &ask, &format!("γ below {}", rule.name));
    }

    let sigmoid = mlp(21, &[9, 14, 8, 4], Activation::Sigmoid, true);
    assert!(products_of(&plan_of(&sigmoid, &gamma(), &Ask::default()), hidden) > dropped, "γ below a sigmoid");
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

#[test]
fn wrong_inputs_are_refused_with_their_place() {
    let network = Arc::new(mlp(25, &[4, 3], Activation::Relu, true));
    let explainer = Explainer::new(Arc::clone(&network), &Composite::preset("epsilon").unwrap(), Backend::Cpu).unwrap();
    let explain = |tensor: &Tensor| explainer.explain(&[Input::from(tensor)], &Targets::ArgMax);
    let mut spoiled = Tensor::zeros([3, 4]);
    spoiled.data_mut()[6] = f32::INFINITY;
    let message = |result: relprop::Result<Relevance>| result.unwrap_err().message().to_owned();
    assert_eq!(message(explain(&spoiled)), "input `x` holds inf in sample 1, element 2");
    assert_eq!(message(explain(&Tensor::zeros([0, 4]))), "input `x` of shape [0, 4] holds no samples");
    assert_eq!(message(explain(&Tensor::zeros([3, 5]))), "input `x` has shape [3, 5]; one sample has shape [4]");
    let good: Tensor = Tensor::zeros([2, 4]);
    let far = explainer.explain(&[Input::from(&good)], &Targets::Class(3));
    assert_eq!(message(far), "target 3 is out of range: the model has 3 outputs");
    let short = Request::new(Targets::ArgMax).start(Start::Given(Tensor::zeros([1, 3])));
    assert!(explainer.explain_with(&[Input::from(&good)], &short).is_err());
    assert!(explainer.explain_with(&[Input::from(&good)], &Request::new(Targets::ArgMax).keep("nowhere")).is_err());
}
