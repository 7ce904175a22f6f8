//! Halves: rules that weigh contributions only by whether x and W agree in sign, where x has both signs.
//!
//! With P the sum of contributions that raise z, x⁺W⁺ + x⁻W⁻, and N of those that lower it, x⁺W⁻ + x⁻W⁺,
//!
//! ```text
//! P = ½W x + ½|W| |x|     N = ½W x − ½|W| |x|
//! ```
//!
//! Two products then make z and every denominator p P + n N, where parts of x and W take one for z and two a group; and two send back
//! what all groups give, in place of two a group:
//!
//! ```text
//! Σ_g (p_g (x⁺ ⊙ W⁺ᵀq_g + x⁻ ⊙ W⁻ᵀq_g) + n_g (x⁺ ⊙ W⁻ᵀq_g + x⁻ ⊙ W⁺ᵀq_g))
//!     = x ⊙ ½Wᵀ Σ_g (p_g + n_g) q_g + |x| ⊙ ½|W|ᵀ Σ_g (p_g − n_g) q_g
//! ```
//!
//! What that loses: where P is far smaller than N, what it is off by is N's rounding. Such a z is negative unless its bias is as large as
//! N, and behind a rectifier nothing comes back to it. Where nothing at all raises z, both products sum the same magnitudes in the same
//! order, to which rounding does the same whatever their sign, and P is exactly 0. Its quotient R / stab(0) stands before no contribution
//! and is made 0, for it would multiply the two products' roundings.

use super::linear::Sent;
use super::relevance::Backward;
use super::terms::has_bias;
use super::{Beside, BufferId, Builder, Direction, Op, Operand, Parameter, Work};
use crate::layers::Layer;
use crate::network::{LayerId, LayerNode};
use crate::rules::{
    BiasPart, Group, InputPart, LinearRule, Mask, Quotient, Rule, Share, Stabilizer, Term, TermSign, WeightPart,
};

/// Multiply-adds in the time in which an element is written to memory and read again: halves are one buffer more.
const BUFFER: usize = 64;

/// What a group weighs P and N by.
type Weighing = [f32; 2];

/// A group's quotient on its way back.
pub(super) struct Weighed {
    pub(super) q: BufferId,
    pub(super) weighing: Weighing,
    pub(super) factor: f32,
}

/// One of the two products that send back.
struct Half {
    term: Term,
    /// What it weighs a group's quotient by.
    coefficient: fn(Weighing) -> f32,
}

const HALVES: [Half; 2] = [
    Half {
        term: Term { sign: TermSign::Plus, input: InputPart::Whole, weight: WeightPart::HALF },
        coefficient: |[p, n]| p + n,
    },
    Half {
        term: Term { sign: TermSign::Plus, input: InputPart::Magnitude, weight: WeightPart::HALF_MAGNITUDE },
        coefficient: |[p, n]| p - n,
    },
];

impl Builder<'_> {
    /// Whether a group gives anything.
    pub(super) fn is_live(&self, node: &LayerNode, group: &Group) -> bool {
        let is_dead = group.mask == Mask::Negative && self.known.is_dead_below_zero(node.output);
        group.factor != 0.0 && !is_dead
    }

    /// p and n of every live group, if halves make fewer products than parts.
    fn weighings(&self, node: &LayerNode, rule: &LinearRule) -> Option<Vec<(usize, Weighing)>> {
        if !self.ask.facts.halve || self.known.is_nonnegative(node.inputs[0]) {
            return None;
        }
        let live = rule.groups.iter().enumerate().filter(|(_, group)| self.is_live(node, group));
        let weighings: Option<Vec<_>> =
            live.map(|(position, group)| Some((position, self.weighing(node, group)?))).collect();
        // What weighs both alike is a multiple of z.
        let weighings = weighings.filter(|weighings| weighings.iter().any(|(_, [p, n])| p != n))?;
        let saved = 2 * weighings.len() - 1;
        (saved * fan_in(&node.layer) >= BUFFER).then_some(weighings)
    }

    /// ½W x, from which the forward pass makes z, where halves also make the denominators of a layer's rule.
    pub(super) fn halves_of_output(&mut self, id: LayerId, node: &LayerNode) -> Option<BufferId> {
        let Some(Rule::Linear(rule)) = self.rules.rule(id) else { return None };
        if self.ask.forward_only || !self.is_needed(node.output) {
            return None;
        }
        let weighings = self.weighings(node, rule)?;
        let magnitudes = self.half(id, node, InputPart::Magnitude, WeightPart::HALF_MAGNITUDE);
        let sum = self.half(id, node, InputPart::Whole, WeightPart::HALF);
        let mut parts = vec![None; rule.groups.len()];
        for (position, [p, n]) in weighings {
            let scaled = p + n;
            let mut chain: Vec<Op> = (scaled != 1.0).then_some(Op::Scale(scaled)).into_iter().collect();
            chain.push(Op::Add { operand: Operand::whole(magnitudes), factor: p - n });
            let constants = Parameter::Constant { layer: id, group: position, beside: Beside::Products };
            let has_constants = rule.groups[position].bias != BiasPart::Absent && has_bias(node);
            chain.extend(has_constants.then_some(Op::AddParameter(constants)));
            let d = self.denominator_buffer(node);
            self.step(id, Work::Elementwise, Operand::whole(sum), chain, d);
            parts[position] = Some(d);
        }
        self.parts[id.index()] = parts;
        Some(sum)
    }

    fn half(&mut self, id: LayerId, node: &LayerNode, part: InputPart, weight: WeightPart) -> BufferId {
        let source = Operand { part, ..self.operand_in(node.inputs[0], self.layout_read(node, 0)) };
        let direction = Direction::Forward;
        let work = match &node.layer {
            Layer::Dense(_) => Work::Product { direction, weight, addend: None },
            _ => Work::Convolve { direction, weight, addend: None },
        };
        let half = self.denominator_buffer(node);
        self.step(id, work, source, Vec::new(), half);
        half
    }
}

impl Backward<'_, '_> {
    /// Whether a rule's groups send back halves.
    pub(super) fn sends_halves(&self, rule: &LinearRule) -> bool {
        if !self.builder.is_needed(self.node.inputs[0]) {
            return false;
        }
        let Some(weighings) = self.builder.weighings(self.node, rule) else { return false };
        let groups = || weighings.iter().map(|(position, weighing)| (&rule.groups[*position], *weighing));
        let terms: usize = groups().map(|(group, _)| self.builder.live_terms(self.node, group, 0).len()).sum();
        // A quotient that stands before nothing is told by its denominator.
        let is_told = |(group, weighing): (&Group, Weighing)| match (only_sign(weighing), group.bias) {
            (None, _) | (_, BiasPart::Absent) => true,
            _ if !has_bias(self.node) => true,
            (Some(Mask::Negative), BiasPart::Scaled { positive, negative }) => positive == 0.0 && negative >= 0.0,
            (Some(_), BiasPart::Scaled { positive, negative }) => negative == 0.0 && positive >= 0.0,
            (Some(_), BiasPart::Squared) => false,
        };
        terms > 2 && groups().all(is_told)
    }

    /// What both groups of a rule send back together, where none of their quotients need be there by itself: αβ's.
    pub(super) fn halves_together(&mut self, rule: &LinearRule) -> Option<Vec<Sent>> {
        let weighings = self.builder.weighings(self.node, rule)?;
        let [first, second] = weighings.as_slice() else { return None };
        let groups = [first, second].map(|(position, weighing)| (&rule.groups[*position], *position, *weighing));
        let Quotient::Divided(stabilizer) = groups[0].0.quotient else { return None };
        // A quotient that is made before its numerator is there might leave float32 if nothing held it.
        let is_held = matches!(stabilizer, Stabilizer::Absolute(held) | Stabilizer::Clip(held) if held >= f32::MIN_POSITIVE.sqrt());
        let is_like = |(group, _, weighing): &(&Group, usize, Weighing)| {
            let is_plain = group.mask == Mask::Everywhere && group.share == Share::Absorbed;
            is_plain && group.quotient == groups[0].0.quotient && only_sign(*weighing).is_some()
        };
        if !is_held || !groups.iter().all(is_like) {
            return None;
        }
        let by =
            groups.map(|(_, position, _)| self.builder.part(self.id, position).expect("halves made the denominators"));
        let mut sent = Vec::new();
        for half in HALVES {
            let factors = groups.map(|(group, _, weighing)| group.factor * (half.coefficient)(weighing));
            let sum = self.output_buffer("sum of q");
            let quotients = Op::MultiplyQuotients { by, factors, stabilizer };
            self.push(Work::Elementwise, Operand::whole(self.relevance), vec![quotients], sum);
            sent.push(Sent { q: sum, term: half.term, factor: 1.0 });
        }
        Some(sent)
    }

    /// A group's quotient q, as it goes back by halves: nothing where its denominator is.
    pub(super) fn weighed(&mut self, position: usize, group: &Group, (q, factor): (BufferId, f32)) -> Weighed {
        let weighing = self.builder.weighing(self.node, group).expect("groups that send halves weigh by agreement");
        let Some(sign) = only_sign(weighing) else { return Weighed { q, weighing, factor } };
        let d = self.builder.part(self.id, position).expect("halves made the denominators");
        let told = self.output_buffer("q");
        self.push(Work::Elementwise, Operand::whole(q), vec![Op::Mask { by: Operand::whole(d), mask: sign }], told);
        Weighed { q: told, weighing, factor }
    }

    /// What all groups send back.
    pub(super) fn halves(&mut self, groups: &[Weighed]) -> Vec<Sent> {
        let mut sent = Vec::new();
        for Half { term, coefficient } in HALVES {
            let scaled = groups.iter().map(|group| (group.q, group.factor * coefficient(group.weighing)));
            let scaled: Vec<(BufferId, f32)> = scaled.filter(|(_, factor)| *factor != 0.0).collect();
            let Some((&(first, factor), others)) = scaled.split_first() else { continue };
            if others.is_empty() {
                sent.push(Sent { q: first, term, factor });
                continue;
            }
            let mut chain: Vec<Op> = (factor != 1.0).then_some(Op::Scale(factor)).into_iter().collect();
            chain.extend(others.iter().map(|&(q, factor)| Op::Add { operand: Operand::whole(q), factor }));
            let sum = self.output_buffer("sum of q");
            self.push(Work::Elementwise, Operand::whole(first), chain, sum);
            sent.push(Sent { q: sum, term, factor: 1.0 });
        }
        sent
    }
}

/// How many inputs an output of a product sums.
fn fan_in(layer: &Layer) -> usize {
    match layer {
        Layer::Dense(dense) => dense.inputs(),
        Layer::Conv(conv) => conv.weight().data().len() / conv.outputs(),
        _ => 0,
    }
}

/// The one sign that p P + n N can have.
fn only_sign([p, n]: Weighing) -> Option<Mask> {
    if n == 0.0 {
        Some(if p > 0.0 { Mask::Positive } else { Mask::Negative })
    } else if p == 0.0 {
        Some(if n > 0.0 { Mask::Negative } else { Mask::Positive })
    } else {
        None
    }
}
