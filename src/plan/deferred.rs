//! Denominators that are made on the way back, beside the only step that reads them.
//!
//! A layer of single positions that widens few channels makes as much to keep for relevance as all layers around it: z, and what raises z, P.
//! Where the layer behind it sums windows of groups, the step that sends relevance back to it divides by P at every position. Made there, part by
//! part, P is in no memory: with b⁺ beside it as ε⁺ counts it, and the forward pass's z = W x + b,
//!
//! ```text
//! x⁺W⁺ + x⁻W⁻ + b⁺ = ½|W| |x| + ½z + ½|b|
//! ```
//!
//! which is one product of few channels, read again. Nothing cancels in it where z is above zero, and where z is not, no relevance is.

use super::Builder;
use super::cells::measures_denominators;
use super::relevance::Backward;
use crate::layers::Layer;
use crate::network::{LayerId, LayerNode, ValueId};
use crate::rules::{LinearRule, Rule};

/// How many times as wide as its input a value is, at least, whose denominator waits: writing and reading that costs more than reading the input
/// again.
const LEAST_WIDENING: usize = 2;

impl Builder<'_> {
    /// The position of the only live group of a layer's rule, where its denominator waits for the way back.
    pub(super) fn deferred(&self, node: &LayerNode, rule: &LinearRule) -> Option<usize> {
        let Layer::Conv(conv) = &node.layer else { return None };
        let (position, group) = self.only_live(node, rule)?;
        // What a report measures reads it too.
        let is_asked = self.target.together && !self.ask.forward_only && !self.ask.report;
        let is_single = conv.groups() == 1 && conv.has_single_positions();
        let widens = self.width(node.output) >= LEAST_WIDENING * self.width(node.inputs[0]);
        if !is_asked || !self.is_needed(node.output) || !is_single || !widens || self.ask.targets > 1 {
            return None;
        }
        let raises = self.weighings(node, rule).is_some() && self.agreement(node, group) == Some([1.0, 0.0]);
        let waits = raises && !measures_denominators(group) && self.known.is_dead_below_zero(node.output);
        (waits && self.is_read_by_groups(node.output)).then_some(position)
    }

    /// Whether all that is made of a value is read by one convolution of windows in groups.
    fn is_read_by_groups(&self, value: ValueId) -> bool {
        let [(reader, _)] = self.known.readers(value)[..] else { return false };
        let node = self.network.layer(reader);
        match &node.layer {
            Layer::Activation(_) => self.is_read_by_groups(node.output),
            Layer::Conv(conv) => conv.groups() > 1 && !conv.has_single_positions(),
            _ => false,
        }
    }

    /// The layer that makes a value, before its activations.
    fn maker(&self, value: ValueId) -> Option<LayerId> {
        let maker = self.network.producer(value)?;
        let node = self.network.layer(maker);
        match &node.layer {
            Layer::Activation(_) => self.maker(node.inputs[0]),
            _ => Some(maker),
        }
    }
}

impl Backward<'_, '_> {
    /// Makes the denominator of the layer before this one, if it has waited for this one's step that divides by it.
    pub(super) fn make_deferred(&mut self) {
        let Builder { network, rules, .. } = *self.builder;
        let Some(id) = self.builder.maker(self.node.inputs[0]) else { return };
        let (node, Some(Rule::Linear(rule))) = (network.layer(id), rules.rule(id)) else { return };
        let Some(position) = self.builder.deferred(node, rule) else { return };
        let d = self.builder.raising_beside_output(id, node, position);
        self.builder.leave(id, rule, [(position, d)]);
    }
}
