//! A second truth for `relprop::reference`: every rule as its paper writes it, on dense matrices that are read off the
//! forward pass alone. Nothing here reads a rule's terms or a layer's geometry to find the expected relevance.

mod convolutional;
mod custom_rules;
mod dialects;
mod formulas;
mod known_answers;
mod linear_layers;
mod linear_map;
mod moving;
mod networks;
mod numbers;
mod products;
mod properties;
mod windows;
#[path = "../zoo/mod.rs"]
mod zoo;

use relprop::composite::{Composite, Selector};
use relprop::layers::Family;
use relprop::network::Network;
use relprop::reference::{Explanation, explain};
use relprop::rules::{LinearRule, PointwiseRule, Rule};

/// The rule on every linear and affine layer; activations pass.
fn everywhere(rule: LinearRule) -> Composite {
    Composite::new("textbook")
        .with(Selector::Family(Family::Linear), Rule::Linear(rule.clone()))
        .with(Selector::Family(Family::Affine), Rule::Linear(rule))
        .with(Selector::Family(Family::Pointwise), Rule::Pointwise(PointwiseRule::Pass))
}

fn explained(network: &Network, composite: &Composite, inputs: &[Vec<f64>], start: &[f64]) -> Explanation {
    let inputs: Vec<&[f64]> = inputs.iter().map(Vec::as_slice).collect();
    explain(network, &composite.assign(network).unwrap(), &inputs, start).unwrap()
}

/// The relevance of all inputs, one after the other.
fn at_inputs(network: &Network, explanation: &Explanation) -> Vec<f64> {
    network.inputs().iter().flat_map(|input| explanation.at(input.value).to_vec()).collect()
}

/// Fails where `found` is further than `tolerance` from `expected`, naming the place.
fn assert_close(found: &[f64], expected: &[f64], tolerance: f64, place: &str) {
    assert_eq!(found.len(), expected.len(), "{place}");
    for (position, (found, expected)) in found.iter().zip(expected).enumerate() {
        let is_close = approx::abs_diff_eq!(found, expected, epsilon = tolerance);
        assert!(is_close, "{place}, element {position}: {found} is not {expected} within {tolerance:e}");
    }
}
