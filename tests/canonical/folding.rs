//! Passes that merge: the function stays, and the relevance is that of the network merged by hand.

use approx::assert_abs_diff_eq;
use relprop::composite::{Composite, Selector};
use relprop::graph::{Op, Padding, Sliding, ValueId};
use relprop::layers::Family;
use relprop::rules::{LinearRule, PointwiseRule, Rule, Stabilizer};
use relprop::{Network, reference};

use crate::kinds;
use crate::writer::{ADD, MUL, RELU, Writer, numbers};

/// Rules that tell the input, the sign of weights, the bias and the padding apart.
fn rules() -> [LinearRule; 5] {
    let stabilizer = Stabilizer::Absolute(1e-3);
    [
        LinearRule::epsilon(stabilizer),
        LinearRule::gamma(0.5, stabilizer),
        LinearRule::alpha_beta(2.0, stabilizer),
        LinearRule::flat(stabilizer),
        LinearRule::w_square(stabilizer),
    ]
}

/// Output and relevance at the input of one sample under a rule on every layer.
fn explained(network: &Network, rule: LinearRule) -> (Vec<f64>, Vec<f64>) {
    let composite = Composite::new("folding")
        .with(Selector::Family(Family::Linear), Rule::Linear(rule))
        .with(Selector::Family(Family::Affine), Rule::Pointwise(PointwiseRule::Pass))
        .with(Selector::Family(Family::Pointwise), Rule::Pointwise(PointwiseRule::Pass));
    let input = network.inputs()[0].value;
    let x: Vec<f64> = numbers(network.shape(input).count()).into_iter().map(f64::from).collect();
    let start: Vec<f64> = (0..network.shape(network.output()).count()).map(|i| 1.0 + i as f64).collect();
    let rules = composite.assign(network).unwrap();
    let found = reference::explain(network, &rules, &[&x], &start).unwrap();
    (found.values[network.output().index()].clone(), found.at(input).to_vec())
}

fn assert_same(found: &Network, by_hand: &Network) {
    assert_eq!(kinds(found), kinds(by_hand));
    for rule in rules() {
        let (found, by_hand) = (explained(found, rule.clone()), explained(by_hand, rule));
        assert_abs_diff_eq!(found.0[..], by_hand.0[..], epsilon = 1e-5);
        assert!(by_hand.1.iter().any(|r| r.abs() > 1e-2));
        let scale = by_hand.1.iter().fold(1.0, |scale: f64, r| scale.max(r.abs()));
        assert_abs_diff_eq!(found.1[..], by_hand.1[..], epsilon = 1e-5 * scale);
    }
}

fn conv(pads: [i64; 4]) -> Op {
    Op::Conv { sliding: padded(pads), groups: 1 }
}

fn padded(pads: [i64; 4]) -> Sliding {
    Sliding { padding: Padding::Explicit(Some(pads.to_vec())), ..Sliding::default() }
}

const GAMMA: [f32; 3] = [1.5, -0.5, 0.25];
const BETA: [f32; 3] = [0.25, 0.5, -1.0];
const MEAN: [f32; 3] = [0.5, -0.25, 1.0];
const VARIANCE: [f32; 3] = [0.25, 4.0, 1.0];

fn batch_norm(graph: &mut Writer, x: ValueId) -> ValueId {
    let constants = [GAMMA, BETA, MEAN, VARIANCE].map(|data| graph.float(&[3], &data));
    let inputs: Vec<ValueId> = [x].into_iter().chain(constants).collect();
    graph.node("norm", Op::BatchNormalization { epsilon: 1e-3 }, &inputs)
}

/// The factor that batch norm gives a channel, and what it makes of a bias.
fn normalised(channel: usize, bias: f32) -> (f32, f32) {
    let factor = GAMMA[channel] / (VARIANCE[channel] + 1e-3).sqrt();
    (factor, (bias - MEAN[channel]) * factor + BETA[channel])
}

/// A convolution from 2 to 3 channels with a bias, its weight [3, 2, 2, 2] and bias changed by `change`.
fn changed_conv(pads: [i64; 4], change: impl Fn(usize, f32) -> (f32, f32)) -> Network {
    let mut graph = Writer::default();
    let x = graph.samples("x", &[2, 4, 5]);
    let bias = numbers(3);
    let weight: Vec<f32> = numbers(24).iter().enumerate().map(|(i, w)| w * change(i / 8, 0.0).0).collect();
    let bias: Vec<f32> = (0..3).map(|channel| change(channel, bias[channel]).1).collect();
    let (weight, bias) = (graph.float(&[3, 2, 2, 2], &weight), graph.float(&[3], &bias));
    let output = graph.node("conv", conv(pads), &[x, weight, bias]);
    graph.network(output)
}

/// That convolution as it is, inside a graph.
fn plain_conv(graph: &mut Writer, pads: [i64; 4]) -> ValueId {
    let x = graph.samples("x", &[2, 4, 5]);
    let (weight, bias) = (graph.numbers(&[3, 2, 2, 2]), graph.numbers(&[3]));
    graph.node("conv", conv(pads), &[x, weight, bias])
}

#[test]
fn batch_norm_after_a_convolution_is_the_convolution_that_it_makes() {
    let mut graph = Writer::default();
    let z = plain_conv(&mut graph, [1, 0, 0, 1]);
    let output = batch_norm(&mut graph, z);
    assert_same(&graph.network(output), &changed_conv([1, 0, 0, 1], normalised));
}

#[test]
fn a_factor_and_an_offset_of_any_form_are_the_convolution_that_they_make() {
    let by_hand = changed_conv([0; 4], |channel, bias| (GAMMA[channel], GAMMA[channel] * bias + BETA[channel]));
    for shape in [vec![3, 1, 1], vec![1, 3, 1, 1]] {
        let mut graph = Writer::default();
        let z = plain_conv(&mut graph, [0; 4]);
        let (factor, offset) = (graph.float(&shape, &GAMMA), graph.float(&shape, &BETA));
        let scaled = graph.node("scaled", MUL, &[factor, z]);
        let output = graph.node("output", ADD, &[scaled, offset]);
        assert_same(&graph.network(output), &by_hand);
    }
    // Channels last: the offset stands behind a transpose.
    let mut graph = Writer::default();
    let z = plain_conv(&mut graph, [0; 4]);
    let last = graph.node("last", Op::Transpose { order: Some(vec![0, 2, 3, 1]) }, &[z]);
    let (factor, offset) = (graph.float(&[3], &GAMMA), graph.float(&[3], &BETA));
    let scaled = graph.node("scaled", MUL, &[last, factor]);
    let shifted = graph.node("shifted", ADD, &[scaled, offset]);
    let output = graph.node("first", Op::Transpose { order: Some(vec![0, 3, 1, 2]) }, &[shifted]);
    let network = graph.network(output);
    assert_eq!(kinds(&network), ["conv", "transpose", "transpose"]);
    let rule = || LinearRule::epsilon(Stabilizer::Absolute(1e-3));
    assert_abs_diff_eq!(explained(&network, rule()).1[..], explained(&by_hand, rule()).1[..], epsilon = 1e-5);
}

#[test]
fn a_factor_after_a_transposed_convolution_scales_the_outputs_of_each_group() {
    let transposed = |weight: Vec<f32>, factor: Option<[f32; 4]>| {
        let mut graph = Writer::default();
        let x = graph.samples("x", &[4, 2, 3]);
        let weight = graph.float(&[4, 2, 2, 2], &weight);
        let op = Op::ConvTranspose { sliding: Sliding::default(), groups: 2, output_padding: None, output_shape: None };
        let z = graph.node("z", op, &[x, weight]);
        let output = match factor {
            None => z,
            Some(factor) => {
                let factor = graph.float(&[4, 1, 1], &factor);
                graph.node("output", MUL, &[z, factor])
            }
        };
        graph.network(output)
    };
    let factor = [2.0, -1.0, 0.5, 3.0];
    // Input i is of group i / 2, whose outputs are 2 (i / 2) and the next.
    let merged = numbers(32).iter().enumerate().map(|(at, w)| w * factor[at / 16 * 2 + at / 4 % 2]).collect();
    assert_same(&transposed(numbers(32), Some(factor)), &transposed(merged, None));
}

#[test]
fn a_max_pool_lets_positive_factors_through_and_no_others() {
    let pool = Op::MaxPool(Sliding { kernel: Some(vec![2, 2]), ..Sliding::default() });
    let with = |factor: [f32; 3], behind: bool| {
        let mut graph = Writer::default();
        let mut value = plain_conv(&mut graph, [0; 4]);
        let (factor, offset) = (graph.float(&[3, 1, 1], &factor), graph.float(&[3, 1, 1], &BETA));
        if behind {
            value = graph.node("pool", pool.clone(), &[value]);
        }
        value = graph.node("scaled", MUL, &[value, factor]);
        value = graph.node("shifted", ADD, &[value, offset]);
        if !behind {
            value = graph.node("pool", pool.clone(), &[value]);
        }
        graph.network(value)
    };
    assert_same(&with([0.5, 2.0, 3.0], true), &with([0.5, 2.0, 3.0], false));
    assert_eq!(kinds(&with([0.5, -2.0, 3.0], true)), ["conv", "max-pool", "affine"]);
    assert_eq!(kinds(&with([0.5, -2.0, 3.0], false)), ["conv", "max-pool"]);
}

#[test]
fn a_concat_gives_its_parts_what_belongs_to_them_if_all_can_take_it() {
    // Two convolutions of 2 channels to 1 and 2, joined; the second's is pooled, which a negative factor does not pass.
    let with = |factor: [f32; 3], ways: [bool; 2], is_read_twice: bool| {
        let mut graph = Writer::default();
        let x = graph.samples("x", &[2, 4, 5]);
        let parts: Vec<ValueId> = [(1, 0), (2, 1)]
            .into_iter()
            .map(|(outputs, first)| {
                let weight = graph.float(&[outputs, 2, 2, 2], &numbers(24)[first * 8..][..outputs * 8]);
                let z = graph.node(&format!("conv{first}"), conv([0; 4]), &[x, weight]);
                let (factor, offset) = (&factor[first..][..outputs], &BETA[first..][..outputs]);
                let (factor, offset) = (graph.float(&[outputs, 1, 1], factor), graph.float(&[outputs, 1, 1], offset));
                let scaled = if ways[0] { graph.node(&format!("scaled{first}"), MUL, &[z, factor]) } else { z };
                let shifted = if ways[0] { graph.node(&format!("shifted{first}"), ADD, &[scaled, offset]) } else { z };
                let pool = Op::MaxPool(Sliding {
                    kernel: Some(vec![2, 2]),
                    strides: Some(vec![1, 1]),
                    ..padded([0, 0, 1, 1])
                });
                if first == 0 { shifted } else { graph.node(&format!("pool{first}"), pool, &[shifted]) }
            })
            .collect();
        let mut value = graph.node("joined", Op::Concat { axis: 1 }, &parts);
        if ways[1] {
            let (factor, offset) = (graph.float(&[3, 1, 1], &factor), graph.float(&[3, 1, 1], &BETA));
            value = graph.node("scaled", MUL, &[value, factor]);
            value = graph.node("shifted", ADD, &[value, offset]);
        }
        if is_read_twice {
            value = graph.node("again", Op::Concat { axis: 1 }, &[value, parts[0]]);
        }
        graph.network(value)
    };
    let (before, behind) = ([true, false], [false, true]);
    assert_same(&with([-0.5, 2.0, 3.0], behind, false), &with([-0.5, 2.0, 3.0], before, false));
    let stays = ["conv", "conv", "max-pool", "concat", "affine"];
    assert_eq!(kinds(&with([0.5, -2.0, 3.0], behind, false)), stays, "the pool does not let it through");
    assert_eq!(
        kinds(&with([0.5, 2.0, 3.0], behind, true)),
        [&stays[..], &["concat"]].concat(),
        "a part is read elsewhere"
    );
}

#[test]
fn what_changes_from_place_to_place_or_has_another_reader_stays_a_layer() {
    let mut graph = Writer::default();
    let z = plain_conv(&mut graph, [0; 4]);
    let places = graph.numbers(&[1, 3, 4]);
    let output = graph.node("output", ADD, &[z, places]);
    assert_eq!(kinds(&graph.network(output)), ["conv", "affine"]);
    let mut graph = Writer::default();
    let z = plain_conv(&mut graph, [0; 4]);
    let normalised = batch_norm(&mut graph, z);
    let output = graph.node("output", ADD, &[normalised, z]);
    assert_eq!(kinds(&graph.network(output)), ["conv", "affine", "sum"]);
    // Between a rectifier and a convolution no layer in front can take it.
    let mut graph = Writer::default();
    let z = plain_conv(&mut graph, [0; 4]);
    let active = graph.node("active", RELU, &[z]);
    let normalised = batch_norm(&mut graph, active);
    let weight = graph.numbers(&[2, 3, 1, 1]);
    let output = graph.node("output", conv([0; 4]), &[normalised, weight]);
    assert_eq!(kinds(&graph.network(output)), ["conv", "relu", "affine", "conv"]);
}

/// x padded with zeros by these amounts (starts, then ends, of all four axes), then what `behind` makes.
fn padded_graph(amounts: [i64; 8], behind: impl Fn(&mut Writer, ValueId) -> ValueId) -> Network {
    let mut graph = Writer::default();
    let x = graph.samples("x", &[2, 4, 5]);
    let mut value = x;
    if amounts != [0; 8] {
        let amounts = graph.integers(&amounts);
        value = graph.node("padded", Op::Pad { mode: relprop::graph::PadMode::Constant, value: 0.0 }, &[x, amounts]);
    }
    let output = behind(&mut graph, value);
    graph.network(output)
}

fn convolved(pads: [i64; 4]) -> impl Fn(&mut Writer, ValueId) -> ValueId {
    move |graph, value| {
        let (weight, bias) = (graph.numbers(&[3, 2, 3, 2]), graph.numbers(&[3]));
        graph.node("conv", conv(pads), &[value, weight, bias])
    }
}

fn averaged(pads: [i64; 4], counts_padding: bool) -> impl Fn(&mut Writer, ValueId) -> ValueId {
    move |graph, value| {
        let sliding = Sliding { kernel: Some(vec![3, 2]), ..padded(pads) };
        graph.node("pool", Op::AveragePool { sliding, counts_padding }, &[value])
    }
}

#[test]
fn zeros_around_a_value_are_the_padding_of_the_convolution_that_reads_it() {
    let found = padded_graph([0, 0, 1, 2, 0, 0, 0, 1], convolved([1, 0, 0, 1]));
    assert_same(&found, &padded_graph([0; 8], convolved([2, 2, 0, 2])));
}

#[test]
fn zeros_around_a_value_count_in_the_average_that_reads_it() {
    let amounts = [0, 0, 1, 0, 0, 0, 2, 1];
    let by_hand = padded_graph([0; 8], averaged([1, 0, 2, 1], true));
    assert_same(&padded_graph(amounts, averaged([0; 4], false)), &by_hand);
    assert_same(&padded_graph(amounts, averaged([0; 4], true)), &by_hand);
    // Padding that does not count around zeros that do is no padding of one kind.
    assert_eq!(kinds(&padded_graph(amounts, averaged([1, 0, 0, 0], false))), ["pad", "pad", "average-pool"]);
}

#[test]
fn zeros_that_something_else_reads_or_of_other_numbers_stay_a_layer() {
    let twice = padded_graph([0, 0, 0, 1, 0, 0, 0, 1], |graph, value| {
        let weight = graph.numbers(&[2, 2, 1, 1]);
        let z = graph.node("z", conv([0; 4]), &[value, weight]);
        graph.node("output", ADD, &[z, value])
    });
    assert_eq!(kinds(&twice), ["pad", "conv", "sum"]);
    assert_eq!(
        kinds(&padded_graph([0, 1, 0, 0, 0, 0, 0, 0], |graph, value| {
            let weight = graph.numbers(&[2, 3, 1, 1]);
            graph.node("output", conv([0; 4]), &[value, weight])
        })),
        ["pad", "conv"]
    );
    let reflected = |mode| {
        let mut graph = Writer::default();
        let x = graph.samples("x", &[2, 4, 5]);
        let amounts = graph.integers(&[0, 0, 1, 0, 0, 0, 1, 0]);
        let value = graph.node("padded", Op::Pad { mode, value: 0.0 }, &[x, amounts]);
        let output = convolved([0; 4])(&mut graph, value);
        kinds(&graph.network(output))
    };
    assert_eq!(reflected(relprop::graph::PadMode::Reflect), ["pad", "conv"]);
    assert_eq!(reflected(relprop::graph::PadMode::Constant), ["conv"]);
}
