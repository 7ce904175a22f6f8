//! Which factor of a product is a gate.

use crate::layers::Layer;
use crate::network::{LayerNode, Network, ValueId};
use crate::rules::BilinearRule;

/// A bilinear rule with the factors of one product known.
pub(super) fn resolved(rule: BilinearRule, network: &Network, node: &LayerNode) -> BilinearRule {
    let is_gate = |slot: usize| node.inputs.get(slot).is_some_and(|&factor| is_gate(network, factor));
    match (rule, is_gate(0), is_gate(1)) {
        (BilinearRule::Gated, true, false) => BilinearRule::Shares([0.0, 1.0]),
        (BilinearRule::Gated, false, true) => BilinearRule::Shares([1.0, 0.0]),
        (BilinearRule::Gated | BilinearRule::Half, _, _) => BilinearRule::Shares([0.5, 0.5]),
        (BilinearRule::Shares(_) | BilinearRule::Gradient, _, _) => rule,
    }
}

/// Whether a value is what a sigmoid or hard sigmoid gave, moved around at most.
fn is_gate(network: &Network, value: ValueId) -> bool {
    let Some(producer) = network.producer(value) else { return false };
    let node = network.layer(producer);
    match &node.layer {
        Layer::Activation(activation) => activation.is_gate(),
        Layer::Reshape(_) | Layer::Transpose(_) | Layer::AxisMap(_) => is_gate(network, node.inputs[0]),
        Layer::Dense(_)
        | Layer::Conv(_)
        | Layer::AveragePool(_)
        | Layer::Sum(_)
        | Layer::Affine(_)
        | Layer::Concat(_)
        | Layer::MaxPool(_)
        | Layer::Multiply(_)
        | Layer::Lookup(_) => false,
    }
}
