//! Each canonical pass on small graphs made in code: the function stays, and only what may change does.

mod activations;
#[path = "../evaluate/mod.rs"]
mod evaluate;
mod folding;
mod folding_behind;
mod normalizations;
mod spatial;
mod writer;

use std::sync::Arc;

use approx::assert_abs_diff_eq;
use relprop::canonical::{Options, canonicalize};
use relprop::graph::{Comparison, Constant, Dim, ElementType, Op};
use relprop::layers::Activation;
use relprop::network::{BatchAxis, Link};
use relprop::{ErrorKind, Network, Tensor};
use writer::{ADD, DIV, MUL, RELU, SIGMOID, SOFTMAX, SUB, Writer};

fn kinds(network: &Network) -> Vec<&'static str> {
    network.layers().iter().map(|node| node.layer.kind()).collect()
}

/// The network's outputs for one sample, link applied.
fn run(network: &Network, x: &[f64]) -> Vec<f64> {
    evaluate::batch(network, 1, &[x.to_vec()])
}

#[test]
fn what_the_output_does_not_need_is_dropped_before_it_is_checked() {
    let mut graph = Writer::default();
    let x = graph.samples("x", &[2]);
    let z = graph.dense("z", x, 2, 3);
    let label = graph.node("label", Op::Unsupported { reason: String::new() }, &[z]);
    let mut graph = graph.graph(z);
    graph.outputs.insert(0, label);
    graph.values[label.index()].element = ElementType::Integer;
    let network = canonicalize(&graph, &Options::default()).unwrap();
    assert_eq!(kinds(&network), ["dense"]);
    let error = canonicalize(&graph, &Options::default().output("labell")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Argument);
    assert!(error.advice().unwrap().contains("did you mean `label`?"), "{error}");
    let error = canonicalize(&graph, &Options::default().output("label")).unwrap_err();
    assert_eq!((error.kind(), error.node()), (ErrorKind::Unsupported, Some("label (Op, opset 17)")));
    assert!(error.message().contains("[N, 3]"), "{error}");
}

#[test]
fn gelu_is_found_in_each_order_of_its_factors() {
    for order in 0..4 {
        let mut graph = Writer::default();
        let x = graph.samples("x", &[3]);
        let (root, one, half, two) =
            (graph.scalar(2.0_f32.sqrt()), graph.scalar(1.0), graph.scalar(0.5), graph.scalar(2.0));
        let scaled = graph.node("scaled", DIV, &[x, root]);
        let erf = graph.node("erf", Op::Activation(Activation::Erf), &[scaled]);
        let gate = graph.node("gate", ADD, &[one, erf]);
        let output = match order {
            0 => {
                let product = graph.node("product", MUL, &[x, gate]);
                graph.node("gelu", MUL, &[product, half])
            }
            1 => {
                let halved = graph.node("halved", MUL, &[half, x]);
                graph.node("gelu", MUL, &[halved, gate])
            }
            2 => {
                let halved = graph.node("halved", MUL, &[gate, half]);
                graph.node("gelu", MUL, &[halved, x])
            }
            _ => {
                let product = graph.node("product", MUL, &[gate, x]);
                graph.node("gelu", DIV, &[product, two])
            }
        };
        let network = graph.network(output);
        assert_eq!(kinds(&network), ["gelu"], "order {order}");
        assert_eq!(network.layers()[0].name, "gelu");
        assert_abs_diff_eq!(
            run(&network, &[-1.0, 0.5, 2.0])[..],
            [-0.15865525, 0.34573123, 1.95449974][..],
            epsilon = 1e-6
        );
    }
}

#[test]
fn a_product_that_is_no_gelu_stays_a_product() {
    let mut graph = Writer::default();
    let x = graph.samples("x", &[3]);
    let half = graph.scalar(0.25);
    let erf = graph.node("erf", Op::Activation(Activation::Erf), &[x]);
    let product = graph.node("product", MUL, &[x, erf]);
    let output = graph.node("gelu", MUL, &[product, half]);
    assert_eq!(kinds(&graph.network(output)), ["erf", "multiply", "affine"]);
}

#[test]
fn a_literal_batch_size_in_a_reshape_becomes_any_batch_size() {
    for batch in [1, 8] {
        let mut graph = Writer::default();
        let x = graph.input("x", &[Dim::Fixed(batch), Dim::Fixed(2), Dim::Fixed(3)]);
        let target = graph.integers(&[batch as i64, -1]);
        let flat = graph.node("flat", Op::Reshape { zero_copies: true }, &[x, target]);
        let z = graph.dense("z", flat, 6, 2);
        let network = graph.network(z);
        assert_eq!(network.batch(), BatchAxis::Leading);
        assert_eq!(network.shape(network.inputs()[0].value).dims(), [2, 3]);
        assert_eq!(kinds(&network), ["reshape", "dense"]);
        assert!(network.notes().is_empty());
    }
}

#[test]
fn a_shape_computed_from_the_batch_is_folded() {
    let mut graph = Writer::default();
    let x = graph.samples("x", &[2, 3]);
    let (zero, open) = (graph.integers(&[0]), graph.integers(&[-1]));
    let shape = graph.node("shape", Op::Shape { start: 0, end: None }, &[x]);
    let batch = graph.node("batch", Op::Gather { axis: 0 }, &[shape, zero]);
    let target = graph.node("target", Op::Concat { axis: 0 }, &[batch, open]);
    let flat = graph.node("flat", Op::Reshape { zero_copies: true }, &[x, target]);
    let z = graph.dense("z", flat, 6, 2);
    let network = graph.network(z);
    assert_eq!((network.batch(), kinds(&network)), (BatchAxis::Leading, vec!["reshape", "dense"]));
}

/// As exporters write an expand in which −1 keeps an extent.
#[test]
fn a_shape_chosen_by_comparison_is_folded() {
    let mut graph = Writer::default();
    let x = graph.samples("x", &[1, 3]);
    let (zero, wanted) = (graph.integers(&[0]), graph.integers(&[4, -1]));
    let shape = graph.node("shape", Op::Shape { start: 0, end: None }, &[x]);
    let batch = graph.node("batch", Op::Gather { axis: 0 }, &[shape, zero]);
    let all = graph.node("all", Op::Concat { axis: 0 }, &[batch, wanted]);
    let (kept, ones) = (graph.integers(&[-1]), graph.integers(&[1]));
    let keeps = graph.node("keeps", Op::Compare(Comparison::Equal), &[all, kept]);
    let target = graph.node("target", Op::Where, &[keeps, ones, all]);
    let output = graph.node("output", Op::Expand, &[x, target]);
    let network = graph.network(output);
    assert_eq!((network.batch(), kinds(&network)), (BatchAxis::Leading, vec!["expand"]));
    assert_eq!(network.shape(network.output()).dims(), [4, 3]);
    // Whether N is 2 or not is not known.
    let mut graph = Writer::default();
    let x = graph.samples("x", &[3]);
    let two = graph.integers(&[2, 3]);
    let shape = graph.node("shape", Op::Shape { start: 0, end: None }, &[x]);
    let same = graph.node("same", Op::Compare(Comparison::Equal), &[shape, two]);
    let target = graph.node("target", Op::Where, &[same, shape, two]);
    let output = graph.node("output", Op::Reshape { zero_copies: true }, &[x, target]);
    let error = canonicalize(&graph.graph(output), &Options::default()).unwrap_err();
    assert!(error.node().is_some() && error.advice().is_some(), "{error}");
}

#[test]
fn rows_merged_into_the_batch_stay_rows_of_their_sample() {
    let mut graph = Writer::default();
    let x = graph.samples("x", &[4, 3]);
    let merged = graph.integers(&[-1, 3]);
    let split = graph.integers(&[-1, 8]);
    let rows = graph.node("rows", Op::Reshape { zero_copies: true }, &[x, merged]);
    let z = graph.dense("z", rows, 3, 2);
    let flat = graph.node("flat", Op::Reshape { zero_copies: true }, &[z, split]);
    let network = graph.network(flat);
    assert_eq!((network.batch(), kinds(&network)), (BatchAxis::Leading, vec!["dense", "reshape"]));
    assert_eq!(network.shape(network.layers()[0].output).dims(), [4, 2]);
}

#[test]
fn where_samples_mix_the_model_runs_whole_and_a_note_names_the_node() {
    let mut graph = Writer::default();
    let x = graph.input("x", &[Dim::Fixed(2), Dim::Fixed(3)]);
    let turned = graph.node("turned", Op::Transpose { order: None }, &[x]);
    let mixed = graph.dense("mixed", turned, 2, 2);
    let output = graph.node("back", Op::Transpose { order: None }, &[mixed]);
    let network = graph.network(output);
    assert_eq!(network.batch(), BatchAxis::Fixed(2));
    assert_eq!(network.shape(network.inputs()[0].value).dims(), [2, 3]);
    assert!(network.notes()[0].contains("mixed (Op, opset 17)"), "{:?}", network.notes());
}

#[test]
fn a_bare_vector_is_one_sample() {
    let mut graph = Writer::default();
    let x = graph.input("x", &[Dim::Fixed(4)]);
    let z = graph.dense("z", x, 4, 2);
    let network = graph.network(z);
    assert_eq!((network.batch(), kinds(&network)), (BatchAxis::Absent, vec!["dense"]));
    assert_eq!(network.shape(network.output()).dims(), [2]);
}

#[test]
fn an_open_dimension_needs_an_extent() {
    let mut graph = Writer::default();
    let x = graph.input("x", &[Dim::Named("batch".into()), Dim::Named("seq".into()), Dim::Fixed(3)]);
    let z = graph.dense("z", x, 3, 2);
    let graph = graph.graph(z);
    let error = canonicalize(&graph, &Options::default()).unwrap_err();
    assert!(error.advice().unwrap().contains("seq"), "{error}");
    let error = canonicalize(&graph, &Options::default().dim("sek", 5)).unwrap_err();
    assert!(error.advice().unwrap().contains("did you mean `seq`?"), "{error}");
    for name in ["seq", "x:1"] {
        let network = canonicalize(&graph, &Options::default().dim(name, 5)).unwrap();
        assert_eq!(network.shape(network.output()).dims(), [5, 2]);
    }
}

#[test]
fn a_last_softmax_is_left_out_behind_reshapes() {
    let mut graph = Writer::default();
    let x = graph.samples("x", &[2]);
    let z = graph.dense("z", x, 2, 3);
    let p = graph.node("p", SOFTMAX, &[z]);
    let axes = graph.integers(&[1]);
    let output = graph.node("output", Op::Unsqueeze, &[p, axes]);
    let network = graph.network(output);
    assert_eq!((kinds(&network), network.link()), (vec!["dense", "reshape"], Some(Link::Softmax)));
    assert!(network.notes()[0].contains("softmax (p)"));
    assert_abs_diff_eq!(run(&network, &[0.3, -0.7]).iter().sum::<f64>(), 1.0, epsilon = 1e-12);
}

#[test]
fn a_network_that_is_nothing_but_a_sigmoid_keeps_it() {
    let mut graph = Writer::default();
    let x = graph.samples("x", &[2]);
    let p = graph.node("p", SIGMOID, &[x]);
    let network = graph.network(p);
    assert_eq!((kinds(&network), network.link()), (vec!["sigmoid"], None));
}

#[test]
fn a_weight_with_axes_of_one_in_front_is_a_matrix() {
    let mut graph = Writer::default();
    let x = graph.samples("x", &[1, 2]);
    let weight = graph.float(&[1, 2, 1], &[2.0, -1.0]);
    let z = graph.node("z", Op::MatMul, &[x, weight]);
    assert_eq!(run(&graph.network(z), &[3.0, 5.0]), [1.0]);
}

#[test]
fn both_sides_of_a_binary_classifier_become_logits() {
    let mut graph = Writer::default();
    let x = graph.samples("x", &[2]);
    let z = graph.dense("z", x, 2, 1);
    let p = graph.node("p", SIGMOID, &[z]);
    let one = graph.scalar(1.0);
    let q = graph.node("q", SUB, &[one, p]);
    let output = graph.node("output", Op::Concat { axis: 1 }, &[q, p]);
    let network = graph.network(output);
    assert_eq!((kinds(&network), network.link()), (vec!["dense", "affine", "concat"], Some(Link::Sigmoid)));
    let p = run(&network, &[0.4, 0.9]);
    assert_abs_diff_eq!(p[0] + p[1], 1.0, epsilon = 1e-12);
}

#[test]
fn constants_after_a_dense_layer_become_its_weight_and_bias() {
    let mut graph = Writer::default();
    let x = graph.samples("x", &[2]);
    let z = graph.dense("z", x, 2, 2);
    let target = graph.integers(&[-1, 1, 2]);
    let bias = graph.float(&[2], &[0.5, -0.25]);
    let scale = graph.float(&[1, 1, 2], &[2.0, -4.0]);
    let three = graph.scalar(3.0);
    let shaped = graph.node("shaped", Op::Reshape { zero_copies: true }, &[z, target]);
    let biased = graph.node("biased", ADD, &[bias, shaped]);
    let scaled = graph.node("scaled", MUL, &[biased, scale]);
    let output = graph.node("output", SUB, &[three, scaled]);
    let network = graph.network(output);
    assert_eq!(kinds(&network), ["dense", "reshape"]);
    let (x, weight) = ([1.6, 0.8], [[-0.5, 1.25], [0.25, -0.75]]);
    let z = [0, 1].map(|o: usize| x[0] * weight[0][o] + x[1] * weight[1][o]);
    let want = [3.0 - (z[0] + 0.5) * 2.0, 3.0 + (z[1] - 0.25) * 4.0];
    assert_abs_diff_eq!(run(&network, &x)[..], want[..], epsilon = 1e-6);
    assert_eq!(network.value(network.output()).name, "output");
}

#[test]
fn constants_are_not_folded_over_a_value_with_two_readers() {
    let mut graph = Writer::default();
    let x = graph.samples("x", &[2]);
    let z = graph.dense("z", x, 2, 2);
    let two = graph.scalar(2.0);
    let doubled = graph.node("doubled", MUL, &[z, two]);
    let active = graph.node("active", RELU, &[z]);
    let output = graph.node("output", ADD, &[doubled, active]);
    let network = graph.network(output);
    assert_eq!(kinds(&network), ["dense", "affine", "relu", "sum"]);
}

#[test]
fn the_normalisation_at_the_door_stays_one_affine_layer() {
    let mut graph = Writer::default();
    let x = graph.samples("x", &[2]);
    let (mean, deviation) = (graph.float(&[2], &[0.5, -1.0]), graph.float(&[1, 2], &[2.0, 4.0]));
    let shifted = graph.node("shifted", SUB, &[x, mean]);
    let scaled = graph.node("scaled", DIV, &[shifted, deviation]);
    let first = graph.dense("first", scaled, 2, 3);
    let second = graph.dense("second", first, 3, 1);
    let network = graph.network(second);
    assert_eq!(kinds(&network), ["affine", "dense", "dense"]);
    let mut door = Writer::default();
    let x = door.samples("x", &[2]);
    let first = door.dense("first", x, 2, 3);
    let second = door.dense("second", first, 3, 1);
    let bare = door.network(second);
    assert_abs_diff_eq!(run(&network, &[2.5, 1.0])[..], run(&bare, &[1.0, 0.5])[..], epsilon = 1e-6);
}

#[test]
fn an_integer_input_is_looked_up_also_behind_a_reshape() {
    let mut graph = Writer::default();
    let index = graph.samples("index", &[3]);
    graph.0.values[index.index()].element = ElementType::Integer;
    let table = graph.float(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let axes = graph.integers(&[1]);
    let shaped = graph.node("shaped", Op::Unsqueeze, &[index, axes]);
    let rows = graph.node("rows", Op::Gather { axis: 0 }, &[table, shaped]);
    let network = graph.network(rows);
    assert_eq!((kinds(&network), network.shape(network.output()).dims()), (vec!["lookup", "reshape"], &[1, 3, 2][..]));
    assert_eq!(run(&network, &[1.0, 0.0, -1.0]), [3.0, 4.0, 1.0, 2.0, 3.0, 4.0]);
}

#[test]
fn an_integer_input_that_is_only_cast_is_a_real_one() {
    let mut graph = Writer::default();
    let pixels = graph.samples("pixels", &[2]);
    graph.0.values[pixels.index()].element = ElementType::Integer;
    let x = graph.node("x", Op::Cast(ElementType::Float), &[pixels]);
    let z = graph.dense("z", x, 2, 2);
    let network = graph.network(z);
    assert_eq!(network.inputs()[0].kind, relprop::network::InputKind::Float);
    assert!(network.notes()[0].contains("pixels"));
}

#[test]
fn a_small_value_is_repeated_to_a_larger_partner() {
    let mut graph = Writer::default();
    let x = graph.samples("x", &[3]);
    let mean = graph.dense("mean", x, 3, 1);
    let output = graph.node("output", SUB, &[x, mean]);
    let network = graph.network(output);
    assert_eq!(kinds(&network), ["dense", "expand", "sum"]);
    let mean = -0.5 * 1.0 + 1.25 * 2.0 + 0.25 * 4.0;
    assert_abs_diff_eq!(run(&network, &[1.0, 2.0, 4.0])[..], [1.0 - mean, 2.0 - mean, 4.0 - mean][..], epsilon = 1e-6);
}

#[test]
fn a_cycle_is_named() {
    let mut graph = Writer::default();
    let x = graph.samples("x", &[2]);
    let b = graph.0.intern("b");
    let a = graph.node("a", ADD, &[x, b]);
    graph.node("b", RELU, &[a]);
    let error = canonicalize(&graph.graph(a), &Options::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert!(error.message().contains("cyclic") && error.node().is_some());
}

#[test]
fn a_broken_weight_is_named_with_its_place() {
    let mut graph = Writer::default();
    let x = graph.samples("x", &[2]);
    let weight = graph.float(&[2, 2], &[1.0, f32::NAN, 0.0, 0.0]);
    let z = graph.node("z", Op::MatMul, &[x, weight]);
    let error = canonicalize(&graph.graph(z), &Options::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(error.message().contains("NaN at [1, 0]"), "{error}");
}

#[test]
fn deep_graphs_need_no_recursion() {
    let mut graph = Writer::default();
    let mut value = graph.samples("x", &[2]);
    for index in 0..20_000 {
        value = graph.node(&format!("relu{index}"), RELU, &[value]);
    }
    assert_eq!(graph.network(value).layers().len(), 20_000);
}

/// A learned position embedding is looked up by constant positions: folding makes 128 rows, not the table as often.
#[test]
fn a_constant_lookup_is_charged_for_the_rows_that_it_makes() {
    let mut graph = Writer::default();
    let x = graph.samples("x", &[128, 768]);
    let table = graph.float(&[512, 768], &vec![0.5; 512 * 768]);
    let ids = graph.integers(&(0..128).collect::<Vec<i64>>());
    let position = graph.node("position", Op::Gather { axis: 0 }, &[table, ids]);
    let sum = graph.node("sum", ADD, &[x, position]);
    let output = graph.node("output", RELU, &[sum]);
    assert_eq!(kinds(&graph.network(output)), ["affine", "relu"]);
}

#[test]
fn dropout_in_training_mode_is_refused_and_at_inference_it_is_gone() {
    for (training, fits) in [(false, true), (true, false)] {
        let mut graph = Writer::default();
        let x = graph.samples("x", &[2]);
        let h = graph.dense("h", x, 2, 3);
        let ratio = graph.scalar(0.5);
        let mode = graph.0.add_constant("mode", Constant::Bool(Arc::new(Tensor::scalar(training))));
        let dropped = graph.node("dropped", Op::Identity, &[h, ratio, mode]);
        let output = graph.node("output", RELU, &[dropped]);
        let found = canonicalize(&graph.graph(output), &Options::default());
        assert_eq!(found.is_ok(), fits);
        let Err(error) = found else { continue };
        assert_eq!((error.kind(), error.node()), (ErrorKind::Unsupported, Some("dropped (Op, opset 17)")));
        assert!(error.message().contains("model.eval()"), "{error}");
    }
}

#[test]
fn misfits_of_constants_and_extents_say_the_way_out() {
    let joined = |op: Op| {
        let mut graph = Writer::default();
        let x = graph.samples("x", &[2]);
        let (a, b) = (graph.float(&[2, 3], &[1.0; 6]), graph.float(&[3, 2], &[1.0; 6]));
        let constant = graph.node("constant", op, &[a, b]);
        let output = graph.node("output", ADD, &[x, constant]);
        canonicalize(&graph.graph(output), &Options::default()).unwrap_err()
    };
    let mut graph = Writer::default();
    let x = graph.input("x", &[Dim::Named("batch".to_owned()), Dim::Named("seq".to_owned())]);
    let output = graph.node("output", RELU, &[x]);
    let graph = graph.graph(output);
    let dim = |name: &str, extent: usize| canonicalize(&graph, &Options::default().dim(name, extent)).unwrap_err();
    for error in [joined(ADD), joined(Op::Concat { axis: 0 }), dim("seq", 0), dim("sec", 3)] {
        assert!(error.advice().is_some(), "{error}");
    }
    assert!(dim("sec", 3).advice().unwrap().contains("`seq`"));
    let mut without_axes = Writer::default();
    let x = without_axes.input("x", &[]);
    let output = without_axes.node("output", RELU, &[x]);
    let error = canonicalize(&without_axes.graph(output), &Options::default().dim("seq", 3)).unwrap_err();
    assert!(error.advice().unwrap().contains("name no dimension"), "{error}");
}
