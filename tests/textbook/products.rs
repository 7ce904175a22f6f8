//! Products of two activations: gates, halves, and the derivative.

use relprop::composite::{Composite, Selector};
use relprop::layers::{Activation, AxisMap, AxisMapKind, Family, Layer, Multiply};
use relprop::network::{Network, NetworkBuilder, ValueId};
use relprop::rules::{BilinearRule, Rule};

use crate::{assert_close, at_inputs, explained};

/// a ⊙ b of two inputs, each through what `left` and `right` make of it.
fn product(
    left: impl Fn(&mut NetworkBuilder, ValueId) -> ValueId,
    right: impl Fn(&mut NetworkBuilder, ValueId) -> ValueId,
) -> Network {
    let mut builder = Network::builder();
    let (a, b) = (builder.input("a", [3]), builder.input("b", [3]));
    let (a, b) = (left(&mut builder, a), right(&mut builder, b));
    let y = builder.layer("product", Layer::Multiply(Multiply), vec![a, b]).unwrap();
    builder.build(y).unwrap()
}

fn plain(_: &mut NetworkBuilder, x: ValueId) -> ValueId {
    x
}

fn sigmoid(builder: &mut NetworkBuilder, x: ValueId) -> ValueId {
    builder.activation("sigmoid", x, Activation::Sigmoid).unwrap()
}

fn hard_sigmoid(builder: &mut NetworkBuilder, x: ValueId) -> ValueId {
    builder.activation("hard", x, Activation::HardSigmoid { slope: 0.25, offset: 0.5 }).unwrap()
}

/// A sigmoid of one element, moved around until it fits.
fn moved_gate(builder: &mut NetworkBuilder, x: ValueId) -> ValueId {
    let first = AxisMap::picking(AxisMapKind::Slice, 0, 3, [Some(1)]).unwrap();
    let one = builder.layer("slice", Layer::AxisMap(first), vec![x]).unwrap();
    let gate = sigmoid(builder, one);
    let shaped = builder.reshape("shape", gate, [1, 1]).unwrap();
    let turned = builder.transpose("turn", shaped, vec![1, 0]).unwrap();
    let flat = builder.reshape("flat", turned, [1]).unwrap();
    let spread = AxisMap::picking(AxisMapKind::Expand, 0, 1, [Some(0); 3]).unwrap();
    builder.layer("expand", Layer::AxisMap(spread), vec![flat]).unwrap()
}

const A: [f64; 3] = [2.0, -0.5, 0.0];
const B: [f64; 3] = [0.5, 3.0, -4.0];
const R: [f64; 3] = [8.0, -2.0, 1.0];

fn times(factor: f64) -> Vec<f64> {
    R.iter().map(|r| factor * r).collect()
}

/// The relevance of the product's factors.
fn factors(network: &Network, composite: &Composite) -> [Vec<f64>; 2] {
    let explanation = explained(network, composite, &[A.to_vec(), B.to_vec()], &R);
    let node = network.layers().last().unwrap();
    let sums = explanation.layers.last().unwrap().unwrap();
    let given: f64 = node.inputs.iter().flat_map(|&factor| explanation.at(factor)).sum();
    let arrived: f64 = R.iter().sum();
    assert_close(&[sums.at_output, sums.at_input], &[arrived, given], 1e-14, "sums");
    assert_close(&[sums.bias, sums.epsilon, sums.dropped], &[0.0, 0.0, arrived - given], 1e-14, "rest");
    [0, 1].map(|slot| explanation.at(node.inputs[slot]).to_vec())
}

#[test]
fn a_gate_gets_nothing_and_its_partner_everything() {
    let epsilon = Composite::preset("epsilon").unwrap();
    let cases = [
        ("neither", product(plain, plain), [0.5, 0.5]),
        ("left", product(sigmoid, plain), [0.0, 1.0]),
        ("right", product(plain, sigmoid), [1.0, 0.0]),
        ("both", product(sigmoid, hard_sigmoid), [0.5, 0.5]),
        ("hard", product(plain, hard_sigmoid), [1.0, 0.0]),
        ("a gate that was moved", product(moved_gate, plain), [0.0, 1.0]),
    ];
    for (name, network, shares) in cases {
        let [a, b] = factors(&network, &epsilon);
        assert_close(&a, &times(shares[0]), 0.0, name);
        assert_close(&b, &times(shares[1]), 0.0, name);
    }
}

#[test]
fn each_rule_for_products_is_its_formula() {
    let with = |rule| Composite::new("c").with(Selector::Family(Family::Bilinear), Rule::Bilinear(rule));
    let network = product(plain, plain);
    let of = |factor: [f64; 3]| factor.iter().zip(R).map(|(x, r)| x * r).collect::<Vec<f64>>();
    let cases = [
        (BilinearRule::Half, times(0.5), times(0.5)),
        (BilinearRule::Shares([0.25, 0.5]), times(0.25), times(0.5)),
        (BilinearRule::Gradient, of(B), of(A)),
    ];
    for (rule, a, b) in cases {
        let found = factors(&network, &with(rule));
        assert_close(&found.concat(), &[a, b].concat(), 0.0, &rule.describe());
    }
}

#[test]
fn a_square_receives_both_shares() {
    let mut builder = Network::builder();
    let x = builder.input("x", [3]);
    let y = builder.layer("square", Layer::Multiply(Multiply), vec![x, x]).unwrap();
    let network = builder.build(y).unwrap();
    let at = |preset| {
        let composite = Composite::preset(preset).unwrap();
        at_inputs(&network, &explained(&network, &composite, &[A.to_vec()], &R))
    };
    assert_close(&at("epsilon"), &R, 0.0, "half and half");
    let derivative: Vec<f64> = A.iter().zip(R).map(|(x, r)| 2.0 * x * r).collect();
    assert_close(&at("gradient"), &derivative, 0.0, "2x");
}
