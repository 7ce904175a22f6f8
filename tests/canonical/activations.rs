//! Activations: those that exporters spell out, clips, and slopes of their own.

use approx::assert_abs_diff_eq;
use relprop::canonical::{Options, canonicalize};
use relprop::graph::{Graph, Op, ValueId};
use relprop::layers::{Activation, Layer};
use relprop::reference;

use crate::writer::{ADD, DIV, MUL, SIGMOID, Writer};
use crate::{kinds, run};

/// x times a gate of x in the spellings of exporters, with the kinds of layers that it becomes.
fn spelled(order: usize) -> (Graph, &'static [&'static str], fn(f64) -> f64) {
    let mut graph = Writer::default();
    let x = graph.samples("x", &[3]);
    let [zero, beta, three, six, sixth] = [0.0, 1.5, 3.0, 6.0, 1.0 / 6.0].map(|number| graph.scalar(number));
    let apply =
        |graph: &mut Writer, name: &str, activation, input| graph.node(name, Op::Activation(activation), &[input]);
    let hard = Activation::HardSigmoid { slope: 1.0 / 6.0, offset: 0.5 };
    let clipped = |graph: &mut Writer| {
        let moved = graph.node("moved", ADD, &[three, x]);
        graph.node("clipped", Op::Clip, &[moved, zero, six])
    };
    let silu = |x: f64| x / (1.0 + (-x).exp());
    let hard_swish = |x: f64| x * ((x + 3.0) / 6.0).clamp(0.0, 1.0);
    let (output, kinds, function): (ValueId, &'static [&'static str], fn(f64) -> f64) = match order {
        0 | 1 => {
            let gate = apply(&mut graph, "gate", Activation::Sigmoid, x);
            let factors = if order == 0 { [x, gate] } else { [gate, x] };
            (graph.node("y", MUL, &factors), &["silu"], silu)
        }
        2 => {
            let scaled = graph.node("scaled", MUL, &[beta, x]);
            let gate = apply(&mut graph, "gate", Activation::Sigmoid, scaled);
            (graph.node("y", MUL, &[x, gate]), &["silu"], |x| x / (1.0 + (-1.5 * x).exp()))
        }
        3 => {
            let gate = apply(&mut graph, "gate", hard, x);
            (graph.node("y", MUL, &[gate, x]), &["hard-swish"], hard_swish)
        }
        4 => {
            let clipped = clipped(&mut graph);
            let product = graph.node("product", MUL, &[x, clipped]);
            (graph.node("y", DIV, &[product, six]), &["hard-swish"], hard_swish)
        }
        5 => {
            let clipped = clipped(&mut graph);
            let gate = graph.node("gate", MUL, &[sixth, clipped]);
            (graph.node("y", MUL, &[gate, x]), &["hard-swish"], hard_swish)
        }
        6 => {
            let clipped = clipped(&mut graph);
            (graph.node("y", DIV, &[clipped, six]), &["hard-sigmoid"], |x| ((x + 3.0) / 6.0).clamp(0.0, 1.0))
        }
        7 => {
            let inner = apply(&mut graph, "inner", Activation::Softplus { beta: 1.0 }, x);
            let gate = apply(&mut graph, "gate", Activation::Tanh, inner);
            (graph.node("y", MUL, &[x, gate]), &["mish"], |x| x * x.exp().ln_1p().tanh())
        }
        _ => {
            // A number beside it: still SiLU, of what is left of x.
            let doubled = graph.node("doubled", MUL, &[x, six]);
            let gate = apply(&mut graph, "gate", Activation::Sigmoid, doubled);
            (graph.node("y", MUL, &[doubled, gate]), &["affine", "silu"], |x| 6.0 * x / (1.0 + (-6.0 * x).exp()))
        }
    };
    // A dense layer behind, so that no last function is left out.
    let last = graph.dense("z", output, 3, 1);
    (graph.graph(last), kinds, function)
}

#[test]
fn gates_of_x_times_x_are_found_as_one_activation() {
    for order in 0..9 {
        let (graph, expected, function) = spelled(order);
        let network = canonicalize(&graph, &Options::default()).unwrap();
        let found = kinds(&network);
        assert_eq!(found[..found.len() - 1], *expected, "order {order}");
        let at = network.layers()[expected.len() - 1].output;
        let x = [-4.0, -1.5, 0.75];
        let values = reference::forward(&network, &[&x]).unwrap();
        assert_abs_diff_eq!(values[at.index()][..], x.map(function)[..], epsilon = 1e-6);
    }
}

#[test]
fn a_product_with_a_gate_of_something_else_stays_a_product() {
    let mut graph = Writer::default();
    let (x, y) = (graph.samples("x", &[3]), graph.samples("y", &[3]));
    let gate = graph.node("gate", SIGMOID, &[y]);
    let product = graph.node("product", MUL, &[x, gate]);
    let z = graph.dense("z", product, 3, 1);
    assert_eq!(kinds(&graph.network(z)), ["sigmoid", "multiply", "dense"]);
}

#[test]
fn clips_read_their_bounds_and_slopes_of_their_own_keep_the_function() {
    let infinity = f32::INFINITY;
    for (low, high, expected) in [
        (Some(0.0), None, Activation::Relu),
        (Some(0.0), Some(6.0), Activation::Clip { low: 0.0, high: 6.0 }),
        (None, Some(6.0), Activation::Clip { low: -infinity, high: 6.0 }),
    ] {
        let mut graph = Writer::default();
        let x = graph.samples("x", &[3]);
        let bounds = [low, high].map(|bound: Option<f32>| bound.map(|bound| graph.scalar(bound)));
        let y = graph.node("y", Op::Clip, &[x]);
        graph.0.nodes.last_mut().unwrap().inputs.extend(bounds);
        let z = graph.dense("z", y, 3, 1);
        let network = graph.network(z);
        assert!(matches!(&network.layers()[0].layer, Layer::Activation(found) if *found == expected));
    }

    let mut graph = Writer::default();
    let x = graph.samples("x", &[2, 3]);
    let slopes = graph.float(&[2, 1], &[0.5, -0.25]);
    let y = graph.node("y", Op::PRelu, &[x, slopes]);
    let network = graph.network(y);
    assert_eq!(kinds(&network), ["relu", "affine", "relu", "affine", "sum"]);
    let found = run(&network, &[1.0, -1.0, 0.0, 1.0, -1.0, -4.0]);
    assert_abs_diff_eq!(found[..], [1.0, -0.5, 0.0, 1.0, 0.25, 1.0][..], epsilon = 1e-12);

    let mut graph = Writer::default();
    let x = graph.samples("x", &[2, 3]);
    let slopes = graph.float(&[2, 1], &[0.5, 0.5]);
    let y = graph.node("y", Op::PRelu, &[x, slopes]);
    assert_eq!(kinds(&graph.network(y)), ["leaky-relu"]);
}
