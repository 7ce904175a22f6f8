//! Which factor of a product is a gate, and where relevance would have to pass through one that has no rule.

use crate::error::{Error, ErrorKind, Result};
use crate::layers::{Activation, Divisor, Layer};
use crate::network::{LayerId, LayerNode, Network, ValueId};
use crate::rules::{BilinearRule, Rule};

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

/// Whether a value is what a sigmoid, a hard sigmoid, an inverse or a softmax gave, moved around or times a constant at most.
fn is_gate(network: &Network, value: ValueId) -> bool {
    let Some(producer) = network.producer(value) else { return false };
    let node = network.layer(producer);
    match &node.layer {
        Layer::Activation(activation) => activation.is_gate(),
        Layer::Reshape(_) | Layer::Transpose(_) | Layer::AxisMap(_) => is_gate(network, node.inputs[0]),
        Layer::Affine(affine) => affine.offset().data().iter().all(|&o| o == 0.0) && is_gate(network, node.inputs[0]),
        Layer::Multiply(_) => is_softmax(network, node),
        Layer::Dense(_)
        | Layer::Conv(_)
        | Layer::AveragePool(_)
        | Layer::Sum(_)
        | Layer::Concat(_)
        | Layer::MaxPool(_)
        | Layer::Lookup(_) => false,
    }
}

/// Whether a product is e / Σe with e = exp(…).
fn is_softmax(network: &Network, node: &LayerNode) -> bool {
    let is_inverse_sum = |powers: ValueId, inverse: ValueId| {
        let (powers, inverse) = (unmoved(network, powers), unmoved(network, inverse));
        let made_by = |value: ValueId| network.producer(value).map(|id| network.layer(id));
        let is_exponential =
            made_by(powers).is_some_and(|node| matches!(node.layer, Layer::Activation(Activation::Exp)));
        let Some(LayerNode { layer: Layer::Activation(Activation::Power { exponent: -1.0, .. }), inputs, .. }) =
            made_by(inverse)
        else {
            return false;
        };
        let total = unmoved(network, inputs[0]);
        is_exponential
            && made_by(total).is_some_and(|sum| match &sum.layer {
                Layer::AveragePool(pool) => pool.divisor() == Divisor::One && unmoved(network, sum.inputs[0]) == powers,
                _ => false,
            })
    };
    let &[a, b] = &node.inputs[..] else { return false };
    is_inverse_sum(a, b) || is_inverse_sum(b, a)
}

/// The value before moves.
fn unmoved(network: &Network, value: ValueId) -> ValueId {
    match network.producer(value).map(|id| network.layer(id)) {
        Some(LayerNode { layer: Layer::Reshape(_) | Layer::Transpose(_) | Layer::AxisMap(_), inputs, .. }) => {
            unmoved(network, inputs[0])
        }
        _ => value,
    }
}

/// Refuses relevance that would have to pass through a softmax: only its derivative is known.
///
/// # Errors
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) naming the softmax.
pub(super) fn check<'r>(network: &Network, rule: impl Fn(LayerId) -> Option<&'r Rule>) -> Result<()> {
    let mut arrives = vec![false; network.values().len()];
    arrives[network.output().index()] = true;
    for (id, node) in network.layer_ids().rev() {
        if !arrives[node.output.index()] {
            continue;
        }
        let shares = match rule(id) {
            Some(Rule::Bilinear(BilinearRule::Shares(shares))) => Some(*shares),
            _ => None,
        };
        if shares.is_some() && matches!(node.layer, Layer::Multiply(_)) && is_softmax(network, node) {
            let message = "relevance would have to pass through this softmax, for which LRP has no rule here";
            return Err(Error::new(ErrorKind::Unsupported, message).at(&node.name).help(
                "explain an output before it, or take the composite gradient, which has its derivative; as a factor of a \
                 product a softmax is a gate and gets no relevance",
            ));
        }
        for (slot, input) in node.inputs.iter().enumerate() {
            let gives = !matches!(node.layer, Layer::Lookup(_)) && shares.is_none_or(|shares| shares[slot] != 0.0);
            arrives[input.index()] |= gives;
        }
    }
    Ok(())
}
