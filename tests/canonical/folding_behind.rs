//! Factors and offsets merged into the layer behind, where that is asked for.

use approx::assert_abs_diff_eq;
use relprop::canonical::{Options, canonicalize};
use relprop::composite::Composite;
use relprop::graph::{Graph, Op, Padding, Sliding, ValueId};
use relprop::layers::Layer;
use relprop::{Network, reference};

use crate::kinds;
use crate::writer::{ADD, MUL, RELU, Writer, numbers};

const FACTOR: [f32; 3] = [1.5, -0.5, 0.25];
const OFFSET: [f32; 3] = [0.25, 0.5, -1.0];

/// Values and relevance of one sample.
fn explained(network: &Network, preset: &str) -> (Vec<f64>, Vec<f64>) {
    let rules = Composite::preset(preset).unwrap().assign(network).unwrap();
    let input = network.inputs()[0].value;
    let x: Vec<f64> = numbers(network.shape(input).count()).into_iter().map(f64::from).collect();
    let start: Vec<f64> = (0..network.shape(network.output()).count()).map(|i| 1.0 + i as f64 / 8.0).collect();
    let found = reference::explain(network, &rules, &[&x], &start).unwrap();
    (found.values[network.output().index()].clone(), found.at(input).to_vec())
}

/// A convolution and a rectifier, then a factor and an offset a channel.
fn front(graph: &mut Writer) -> ValueId {
    let x = graph.samples("x", &[2, 4, 5]);
    let (weight, bias) = (graph.numbers(&[3, 2, 2, 2]), graph.numbers(&[3]));
    let z = graph.node("z", Op::Conv { sliding: Sliding::default(), groups: 1 }, &[x, weight, bias]);
    graph.node("a", RELU, &[z])
}

fn affine(graph: &mut Writer, x: ValueId) -> ValueId {
    let (factor, offset) = (graph.float(&[3, 1, 1], &FACTOR), graph.float(&[3, 1, 1], &OFFSET));
    let scaled = graph.node("scaled", MUL, &[x, factor]);
    graph.node("moved", ADD, &[scaled, offset])
}

/// The last convolution, [6 outputs, 3 channels / groups, 2, 2], its weight and bias changed by hand where `merged`.
fn model(pads: [i64; 4], strides: [i64; 2], groups: usize, is_merged: bool) -> Graph {
    let mut graph = Writer::default();
    let a = front(&mut graph);
    let inputs = 3 / groups;
    let (mut weight, mut bias) = (numbers(6 * inputs * 4), numbers(6));
    let y = if is_merged { a } else { affine(&mut graph, a) };
    if is_merged {
        for (row, taps) in weight.chunks_mut(4).enumerate() {
            let (channel, source) = (row / inputs, row / inputs / (6 / groups) * inputs + row % inputs);
            bias[channel] += taps.iter().sum::<f32>() * OFFSET[source];
            taps.iter_mut().for_each(|w| *w *= FACTOR[source]);
        }
    }
    let (weight, bias) = (graph.float(&[6, inputs, 2, 2], &weight), graph.float(&[6], &bias));
    let sliding = Sliding {
        strides: Some(strides.to_vec()),
        padding: Padding::Explicit(Some(pads.to_vec())),
        ..Sliding::default()
    };
    let output = graph.node("output", Op::Conv { sliding, groups: groups as i64 }, &[y, weight, bias]);
    graph.graph(output)
}

fn merged(graph: &Graph) -> Network {
    canonicalize(graph, &Options::default().merge_behind()).unwrap()
}

#[test]
fn without_padding_it_is_the_convolution_that_it_makes() {
    for groups in [1, 3] {
        let graph = model([0; 4], [1, 1], groups, false);
        let (network, by_hand) = (merged(&graph), merged(&model([0; 4], [1, 1], groups, true)));
        assert_eq!(kinds(&network), ["conv", "relu", "conv"]);
        assert!(network.notes()[0].contains("merged into the layer behind"), "{:?}", network.notes());
        for preset in ["epsilon", "epsilon-plus", "gamma", "epsilon-alpha2-beta1-flat", "gradient"] {
            let (found, by_hand) = (explained(&network, preset), explained(&by_hand, preset));
            assert_abs_diff_eq!(found.0[..], by_hand.0[..], epsilon = 1e-5);
            let scale = by_hand.1.iter().fold(1.0, |scale: f64, r| scale.max(r.abs()));
            assert_abs_diff_eq!(found.1[..], by_hand.1[..], epsilon = 1e-4 * scale);
        }
        // Unless it is asked for, it stays a layer that passes: another relevance of the same function.
        let plain = canonicalize(&graph, &Options::default()).unwrap();
        assert_eq!(kinds(&plain), ["conv", "relu", "affine", "conv"]);
        let (found, plain) = (explained(&network, "epsilon"), explained(&plain, "epsilon"));
        assert_abs_diff_eq!(found.0[..], plain.0[..], epsilon = 1e-5);
        assert!(found.1.iter().zip(&plain.1).any(|(a, b)| (a - b).abs() > 1e-2));
    }
}

#[test]
fn padding_is_corrected_at_the_border_and_nowhere_else() {
    for (pads, strides, groups) in [([1, 0, 0, 1], [1, 1], 1), ([1, 2, 1, 0], [2, 1], 3), ([3, 0, 0, 0], [1, 3], 1)] {
        let graph = model(pads, strides, groups, false);
        let network = merged(&graph);
        assert_eq!(kinds(&network), ["conv", "relu", "conv", "affine"]);
        let plain = canonicalize(&graph, &Options::default()).unwrap();
        let (found, plain) = (explained(&network, "gradient"), explained(&plain, "gradient"));
        assert_abs_diff_eq!(found.0[..], plain.0[..], epsilon = 1e-5);
        assert_abs_diff_eq!(found.1[..], plain.1[..], epsilon = 1e-5);
        let Layer::Affine(border) = &network.layers().last().unwrap().layer else { panic!("no border") };
        let shape = network.shape(network.output()).dims().to_vec();
        let is_zero = |element: usize| border.offset().data()[element] == 0.0;
        let inner = |element: usize| {
            let (row, column) = (element / shape[2] % shape[1], element % shape[2]);
            let covers = |at: usize, stride: i64, before: i64, extent: i64| {
                let first = at as i64 * stride - before;
                first >= 0 && first + 1 < extent
            };
            covers(row, strides[0], pads[0], 3) && covers(column, strides[1], pads[1], 4)
        };
        let count = shape.iter().product::<usize>();
        assert!((0..count).all(|element| is_zero(element) == inner(element)), "{pads:?}: {:?}", border.offset());
    }
}

#[test]
fn a_dense_layer_takes_what_stands_before_it() {
    let mut graph = Writer::default();
    let x = graph.samples("x", &[4]);
    let z = graph.dense("z", x, 4, 3);
    let a = graph.node("a", RELU, &[z]);
    let (factor, offset) = (graph.float(&[3], &FACTOR), graph.float(&[3], &OFFSET));
    let scaled = graph.node("scaled", MUL, &[a, factor]);
    let moved = graph.node("moved", ADD, &[scaled, offset]);
    let output = graph.dense("output", moved, 3, 2);
    let graph = graph.graph(output);
    let network = merged(&graph);
    assert_eq!(kinds(&network), ["dense", "relu", "dense"]);
    let plain = canonicalize(&graph, &Options::default()).unwrap();
    let (found, plain) = (explained(&network, "gradient-x-input"), explained(&plain, "gradient-x-input"));
    assert_abs_diff_eq!(found.0[..], plain.0[..], epsilon = 1e-6);
    assert_abs_diff_eq!(found.1[..], plain.1[..], epsilon = 1e-6);
}

#[test]
fn what_the_first_layer_reads_and_what_others_read_stays() {
    // At the door.
    let mut graph = Writer::default();
    let x = graph.samples("x", &[3, 4, 5]);
    let moved = affine(&mut graph, x);
    let weight = graph.numbers(&[2, 3, 2, 2]);
    let output = graph.node("output", Op::Conv { sliding: Sliding::default(), groups: 1 }, &[moved, weight]);
    assert_eq!(kinds(&merged(&graph.graph(output))), ["affine", "conv"]);
    // Read twice.
    let mut graph = Writer::default();
    let a = front(&mut graph);
    let moved = affine(&mut graph, a);
    let weight = graph.numbers(&[3, 3, 1, 1]);
    let y = graph.node("y", Op::Conv { sliding: Sliding::default(), groups: 1 }, &[moved, weight]);
    let output = graph.node("output", ADD, &[y, moved]);
    assert_eq!(kinds(&merged(&graph.graph(output))), ["conv", "relu", "affine", "conv", "sum"]);
}
