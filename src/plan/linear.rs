//! Any rule on any linear layer: denominators, quotients and what goes back through the weights.

use super::relevance::Backward;
use super::terms::{has_bias, through_weight};
use super::{BufferId, Denominator, Direction, Measure, Op, Operand, Parameter, Role, Rows, Work};
use crate::layers::Layer;
use crate::rules::{
    BiasPart, Group, InputPart, LinearRule, Mask, Quotient, Share, Stabilizer, Term, TermSign, WeightPart,
};

/// The terms of the box rule: x W − l W⁺ − h W⁻.
const BOX: [Term; 3] = [
    Term { sign: TermSign::Plus, input: InputPart::Whole, weight: WeightPart::WHOLE },
    Term { sign: TermSign::Minus, input: InputPart::Low, weight: WeightPart::POSITIVE },
    Term { sign: TermSign::Minus, input: InputPart::High, weight: WeightPart::NEGATIVE },
];

/// A term on its way back: factor · σ · W̃ᵀ q, before x̃.
#[derive(Clone, Copy)]
pub(super) struct Sent {
    pub(super) q: BufferId,
    pub(super) term: Term,
    pub(super) factor: f32,
}

impl Backward<'_, '_> {
    pub(super) fn linear(&mut self, rule: &LinearRule) -> Vec<Option<BufferId>> {
        self.make_deferred();
        let mut shares = vec![None; self.node.inputs.len()];
        let mut sent = vec![Vec::new(); self.node.inputs.len()];
        let mut made = None;
        let sends_halves = self.sends_halves(rule);
        let mut weighed = Vec::new();
        let halves = if sends_halves { self.halves_at_once(rule) } else { None };
        for (position, group) in rule.groups.iter().enumerate() {
            let is_sent = halves.is_some() && !self.builder.ask.report;
            if is_sent || !self.builder.is_live(self.node, group) {
                continue;
            }
            let (quotient, damping) = self.quotient(position, group, &mut made);
            if !sends_halves {
                self.send(group, quotient, (&mut sent, &mut shares));
            } else if halves.is_none() {
                weighed.push(self.weighed(position, group, quotient));
            }
            match group.share {
                Share::Absorbed => self.measure_absorbed(quotient, group, damping),
                Share::Redistributed => self.redistribute(quotient, group, damping, &mut shares),
            }
        }
        if sends_halves {
            sent[0] = halves.unwrap_or_else(|| self.halves(&weighed));
        }
        for (slot, (mut sent, share)) in sent.into_iter().zip(&mut shares).enumerate() {
            while let Some(part) = sent.first().map(|sent| sent.term.input) {
                let (of_part, others): (Vec<Sent>, Vec<Sent>) =
                    sent.into_iter().partition(|sent| sent.term.input == part);
                *share = self.send_back(slot, &of_part, *share);
                sent = others;
            }
        }
        // A report counts what every input gets, so that the sums close even where relevance stops.
        for (slot, share) in shares.iter_mut().enumerate() {
            if share.is_none() && self.builder.is_needed(self.node.inputs[slot]) {
                *share = Some(self.builder.add(self.node.inputs[slot], &[], Vec::new(), self.rows()));
            }
        }
        shares
    }

    /// A group's q with the factor that stands before it, and what its stabiliser does to it; `made` is the first group of the rule
    /// that has a denominator of its own.
    fn quotient<'r>(
        &mut self,
        position: usize,
        group: &'r Group,
        made: &mut Option<(&'r Group, BufferId)>,
    ) -> ((BufferId, f32), Option<Op>) {
        let mut chain = Vec::new();
        if group.mask != Mask::Everywhere {
            chain.push(Op::Mask { by: self.builder.operand(self.node.output), mask: group.mask });
        }
        let damping = match group.quotient {
            Quotient::Plain => None,
            Quotient::Divided(stabilizer) => {
                let mut by = self.builder.part(self.id, position);
                if let (None, Some(made)) = (by, *made) {
                    by = self.builder.derived((self.id, self.node), made, group).map(Denominator::Buffer);
                }
                let by = by.unwrap_or_else(|| self.builder.denominator(self.id, self.node, position, group));
                if let (None, Denominator::Buffer(d)) = (&made, by) {
                    *made = Some((group, d));
                }
                let rms = self.rms(stabilizer, by);
                chain.push(Op::Divide { by, stabilizer, rms });
                Some(Op::MultiplyDamping { by, stabilizer, rms })
            }
        };
        // A quotient takes the group's factor with it, so that all groups read the same parts of the weight.
        let factor = if damping.is_some() { 1.0 } else { group.factor };
        chain.extend((group.factor != factor).then_some(Op::Scale(group.factor)));
        let q = if chain.is_empty() {
            self.relevance
        } else {
            let q = self.output_buffer("q");
            self.push(Work::Elementwise, Operand::whole(self.relevance), chain, q);
            q
        };
        ((q, factor), damping)
    }

    /// What a group sends back to each input by its terms, or gives it already.
    fn send(
        &mut self,
        group: &Group,
        (q, factor): (BufferId, f32),
        (sent, shares): (&mut [Vec<Sent>], &mut [Option<BufferId>]),
    ) {
        for (slot, (sent, share)) in sent.iter_mut().zip(shares).enumerate() {
            if !self.builder.is_needed(self.node.inputs[slot]) {
                continue;
            }
            let terms = self.builder.live_terms(self.node, group, slot);
            if self.builder.ask.facts.weight_in_parts && self.is_product() && terms == BOX {
                for (bound, weight) in
                    [(Parameter::Low(self.id), WeightPart::POSITIVE), (Parameter::High(self.id), WeightPart::NEGATIVE)]
                {
                    *share = Some(self.send_back_within(q, bound, weight, factor, slot, *share));
                }
                continue;
            }
            sent.extend(terms.into_iter().map(|term| Sent { q, term, factor }));
        }
    }

    /// What an input gets by one part x̃ of it: x̃ ⊙ Σ factor · σ · W̃ᵀ q, added to what the layer already gives it.
    fn send_back(&mut self, slot: usize, sent: &[Sent], before: Option<BufferId>) -> Option<BufferId> {
        let mut sum = None;
        for (count, Sent { q, term, factor }) in sent.iter().enumerate() {
            let add = |buffer| Op::Add { operand: Operand::whole(buffer), factor: 1.0 };
            let factor = factor * term.sign.factor();
            let (work, mut chain) = through_weight(self.id, self.node, Direction::Backward, slot, *term, factor);
            chain.extend(sum.map(add));
            if count + 1 == sent.len() {
                chain.extend(self.times(slot, term.input));
                chain.extend(before.map(add));
            }
            let target = self.share_buffer(slot);
            self.push(work, Operand::whole(*q), chain, target);
            sum = Some(target);
        }
        sum.or(before)
    }

    /// ⊙ x̃.
    fn times(&mut self, slot: usize, part: InputPart) -> Option<Op> {
        match part {
            InputPart::Whole | InputPart::Positive | InputPart::Negative | InputPart::Magnitude => {
                Some(Op::Multiply(Operand { part, ..self.input(slot) }))
            }
            InputPart::Low => Some(Op::MultiplyParameter(Parameter::Low(self.id))),
            InputPart::High => Some(Op::MultiplyParameter(Parameter::High(self.id))),
            InputPart::One => None,
        }
    }

    fn is_product(&self) -> bool {
        matches!(self.node.layer, Layer::Dense(_) | Layer::Conv(_))
    }

    /// A share of the box rule by one sign of the weight: as W = W⁺ + W⁻, its three terms are
    /// −(l − x) ⊙ W⁺ᵀ q − (h − x) ⊙ W⁻ᵀ q. This one is factor · −(bound − x) ⊙ W̃ᵀ q, added to what the layer already gives that input.
    fn send_back_within(
        &mut self,
        q: BufferId,
        bound: Parameter,
        weight: WeightPart,
        factor: f32,
        slot: usize,
        before: Option<BufferId>,
    ) -> BufferId {
        let input = self.node.inputs[slot];
        let (name, width) = (format!("bound - {}", self.builder.network.value(input).name), self.builder.width(input));
        let distance = self.builder.buffer(name, Rows::Sample, width, Role::Scratch);
        let x = self.input(slot);
        self.push(Work::Elementwise, x, vec![Op::Scale(-1.0), Op::AddParameter(bound)], distance);
        let term = Term { sign: TermSign::Minus, input: InputPart::Whole, weight };
        let (work, mut chain) =
            through_weight(self.id, self.node, Direction::Backward, slot, term, factor * term.sign.factor());
        chain.push(Op::Multiply(Operand::whole(distance)));
        chain.extend(before.map(|before| Op::Add { operand: Operand::whole(before), factor: 1.0 }));
        let target = self.share_buffer(slot);
        self.push(work, Operand::whole(q), chain, target);
        target
    }

    /// b̃ where the layer has one and the group counts it.
    fn bias(&self, group: &Group) -> Option<Op> {
        let counts = group.bias != BiasPart::Absent && has_bias(self.node);
        counts.then_some(Op::MultiplyParameter(Parameter::Bias { layer: self.id, part: group.bias }))
    }

    /// (b̃ + stab(d) − d) q, spread evenly over the inputs of each output.
    fn redistribute(
        &mut self,
        (q, factor): (BufferId, f32),
        group: &Group,
        damping: Option<Op>,
        shares: &mut [Option<BufferId>],
    ) {
        let mut held = None;
        for part in damping.into_iter().chain(self.bias(group)) {
            let before = held.map(|held| Op::Add { operand: Operand::whole(held), factor: 1.0 });
            let sum = self.output_buffer("held");
            self.push(Work::Elementwise, Operand::whole(q), [part].into_iter().chain(before).collect(), sum);
            held = Some(sum);
        }
        let Some(held) = held else { return };
        let (held, fan_in) = match &self.node.layer {
            Layer::Dense(dense) => (held, dense.inputs()),
            // At the border fewer inputs are in the image.
            Layer::Conv(_) | Layer::AveragePool(_) => {
                let evenly = Op::MultiplyParameter(Parameter::Evenly(self.id));
                let shared = self.output_buffer("held / N");
                self.push(Work::Elementwise, Operand::whole(held), vec![evenly], shared);
                (shared, 1)
            }
            _ => (held, self.node.inputs.len()),
        };
        let evenly = Term { sign: TermSign::Plus, input: InputPart::One, weight: WeightPart::One };
        for (slot, share) in shares.iter_mut().enumerate() {
            if !self.builder.is_needed(self.node.inputs[slot]) {
                continue;
            }
            let evenly = Sent { q: held, term: evenly, factor: factor / fan_in as f32 };
            *share = self.send_back(slot, &[evenly], *share);
        }
    }

    fn measure_absorbed(&mut self, (q, factor): (BufferId, f32), group: &Group, damping: Option<Op>) {
        if !self.builder.ask.report {
            return;
        }
        let factor = (factor != 1.0).then_some(Op::Scale(factor));
        let parts = self.bias(group).map(|bias| (Measure::Bias, bias)).into_iter();
        for (measure, part) in parts.chain(damping.map(|damping| (Measure::Epsilon, damping))) {
            self.measure(measure, q, [part].into_iter().chain(factor).collect());
        }
    }

    fn rms(&mut self, stabilizer: Stabilizer, by: Denominator) -> Option<BufferId> {
        let (Stabilizer::Rms(_), Denominator::Buffer(d)) = (stabilizer, by) else { return None };
        let target = self.builder.buffer(format!("rms({})", self.node.name), Rows::Sample, 1, Role::Scratch);
        self.push(Work::Rms, Operand::whole(d), Vec::new(), target);
        Some(target)
    }

    pub(super) fn output_buffer(&mut self, name: &str) -> BufferId {
        let width = self.builder.width(self.node.output);
        let rows = self.rows();
        self.builder.buffer(format!("{name}({})", self.node.name), rows, width, Role::Scratch)
    }
}
