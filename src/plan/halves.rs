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
//! What that loses: the smaller of P and N is off by roundings of the larger one, and what its quotient sends by as much relative to
//! it. A thousandth beside its whole still has four digits; less takes an output that all but its faintest contributions agree on. Where
//! they all do, the two products sum the same magnitudes in the same order, rounding does the same to both signs, and the smaller one is
//! exactly 0. Its quotient R / stab(0) stands before no contribution and is made 0, for it would multiply the roundings of the two
//! products that send back.

use super::cost::{BUFFER, multiply_adds};
use super::linear::Sent;
use super::relevance::Backward;
use super::terms::{has_bias, through_weight};
use super::{Beside, BufferId, Builder, Denominator, Direction, Op, Operand, Parameter, Role, Rows, Work};
use crate::layers::Layer;
use crate::network::{LayerId, LayerNode};
use crate::rules::{BiasPart, Group, InputPart, LinearRule, Mask, Quotient, Rule, Share, Term, TermSign, WeightPart};

/// Inputs that an output sums, at least, where they do: of fewer, all but one agree so often that a faint one alone is often what they
/// disagree with.
const LEAST_INPUTS: usize = 8;
/// ε of a stabiliser, at least: less holds nothing where the smaller of P and N is a rounding of the larger one.
const LEAST_EPSILON: f32 = 1e-7;

/// What a group weighs P and N by.
type Weighing = [f32; 2];

/// A group's quotient on its way back.
pub(super) struct Weighed {
    q: BufferId,
    weighing: Weighing,
    factor: f32,
}

/// One of the two products, either way.
struct Half {
    name: &'static str,
    term: Term,
    /// What it weighs a group's quotient by.
    coefficient: fn(Weighing) -> f32,
}

const MAGNITUDES: Half = Half {
    name: "½|W||x|",
    term: Term { sign: TermSign::Plus, input: InputPart::Magnitude, weight: WeightPart::HALF_MAGNITUDE },
    coefficient: |[p, n]| p - n,
};
const SIGNED: Half = Half {
    name: "½Wx",
    term: Term { sign: TermSign::Plus, input: InputPart::Whole, weight: WeightPart::HALF },
    coefficient: |[p, n]| p + n,
};

impl Builder<'_> {
    /// Whether a group gives anything.
    pub(super) fn is_live(&self, node: &LayerNode, group: &Group) -> bool {
        let is_dead = group.mask == Mask::Negative && self.known.is_dead_below_zero(node.output);
        group.factor != 0.0 && !is_dead
    }

    /// The only group of a rule that gives anything, and its position.
    pub(super) fn only_live<'r>(&self, node: &LayerNode, rule: &'r LinearRule) -> Option<(usize, &'r Group)> {
        let mut live = rule.groups.iter().enumerate().filter(|(_, group)| self.is_live(node, group));
        live.next().filter(|_| live.next().is_none())
    }

    /// The position of every live group with its p and n, if halves pay.
    pub(super) fn weighings(&self, node: &LayerNode, rule: &LinearRule) -> Option<Vec<(usize, Weighing)>> {
        if !self.ask.facts.halve || self.known.is_nonnegative(node.inputs[0]) {
            return None;
        }
        let weighed = |(position, group): (usize, &Group)| {
            let is_held = matches!(group.quotient, Quotient::Divided(by) if by.epsilon() >= LEAST_EPSILON);
            self.weighing(node, group).filter(|_| is_held).map(|weighing| (position, weighing))
        };
        let live = rule.groups.iter().enumerate().filter(|(_, group)| self.is_live(node, group));
        let weighings: Vec<(usize, Weighing)> = live.map(weighed).collect::<Option<_>>()?;
        // What weighs both alike is a multiple of z.
        let is_split = weighings.iter().any(|(_, [p, n])| p != n);
        // One product for one group; one or two forward, and two back, for two.
        let saved = 2 * weighings.len() - 1;
        let (multiply_adds, _) = multiply_adds(self.network, node);
        let run_together = self.target.together && matches!(node.layer, Layer::Conv(_));
        let outputs = self.width(node.output);
        // Where their products do not run together, one more element is written and read.
        let pays = if run_together {
            multiply_adds >= LEAST_INPUTS * outputs
        } else {
            saved * multiply_adds >= BUFFER * outputs
        };
        (is_split && pays).then_some(weighings)
    }

    /// ½W x, from which the forward pass makes z, where halves also make the denominators of a layer's rule.
    pub(super) fn halves_of_output(&mut self, id: LayerId, node: &LayerNode) -> Option<BufferId> {
        let Some(Rule::Linear(rule)) = self.rules.rule(id) else { return None };
        if self.ask.forward_only || !self.is_needed(node.output) {
            return None;
        }
        let weighings = self.weighings(node, rule)?;
        if self.deferred(node, rule).is_some() {
            return None;
        }
        let [magnitudes, signed] = [MAGNITUDES, SIGNED].map(|half| {
            let read = self.operand_in(node.inputs[0], self.layout_read(node, 0));
            let source = Operand { part: half.term.input, ..read };
            let (work, chain) = through_weight(id, node, Direction::Forward, 0, half.term, 1.0);
            let name = format!("{}({})", half.name, node.name);
            let target = self.buffer(name, Rows::Sample, self.width(node.output), Role::Scratch);
            self.step(id, work, source, chain, target);
            target
        });
        let rest = self.raising_as_rest(node, rule).map(|[raising, _]| raising);
        let mut left = Vec::new();
        for (position, weighing) in weighings.into_iter().filter(|(position, _)| Some(*position) != rest) {
            let mut chain = weighed_sum(weighing, magnitudes);
            let constants = Parameter::Constant { layer: id, group: position, beside: Beside::Products };
            let has_constants = rule.groups[position].bias != BiasPart::Absent && has_bias(node);
            chain.extend(has_constants.then_some(Op::AddParameter(constants)));
            let d = self.denominator_buffer(node);
            self.step(id, Work::Elementwise, Operand::whole(signed), chain, d);
            left.push((position, d));
        }
        self.leave(id, rule, left);
        Some(signed)
    }

    /// P + b⁺ from ½|W| |x| and the forward pass's z: ½|W| |x| + ½z + ½|b|.
    pub(super) fn raising_beside_output(&mut self, id: LayerId, node: &LayerNode, position: usize) -> BufferId {
        let read = self.operand_in(node.inputs[0], self.layout_read(node, 0));
        let source = Operand { part: MAGNITUDES.term.input, ..read };
        let (work, mut chain) = through_weight(id, node, Direction::Forward, 0, MAGNITUDES.term, 1.0);
        chain.push(Op::Add { operand: self.operand(node.output), factor: 0.5 });
        let constants = Parameter::Constant { layer: id, group: position, beside: Beside::HalfOutput };
        chain.extend(has_bias(node).then_some(Op::AddParameter(constants)));
        let d = self.denominator_buffer(node);
        self.step(id, work, source, chain, d);
        d
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
        // The denominator tells where nothing contributes, unless a bias gives it the other sign.
        let tells = |(group, weighing): (&Group, Weighing)| match (only_sign(weighing), group.bias) {
            (None, _) | (_, BiasPart::Absent) => true,
            _ if !has_bias(self.node) => true,
            (Some(Mask::Negative), BiasPart::Scaled { positive, negative }) => positive == 0.0 && negative >= 0.0,
            (Some(_), BiasPart::Scaled { positive, negative }) => negative == 0.0 && positive >= 0.0,
            (Some(_), BiasPart::Squared) => false,
        };
        terms > 2 && groups().all(tells)
    }

    /// What both groups of a rule send back, where one is of what raises z and one of what lowers it, and neither quotient need be there by
    /// itself: αβ's.
    pub(super) fn halves_at_once(&mut self, rule: &LinearRule) -> Option<Vec<Sent>> {
        let mut groups = self.builder.weighings(self.node, rule)?;
        groups.sort_by_key(|(_, weighing)| only_sign(*weighing) != Some(Mask::Positive));
        let groups: [(usize, Weighing); 2] = groups.try_into().ok()?;
        let signs = groups.map(|(_, weighing)| only_sign(weighing));
        let of = groups.map(|(position, _)| &rule.groups[position]);
        let Quotient::Divided(stabilizer) = of[0].quotient else { return None };
        let are_plain = of.iter().all(|group| {
            let is_whole = group.mask == Mask::Everywhere && group.share == Share::Absorbed;
            is_whole && group.quotient == of[0].quotient
        });
        if signs != [Some(Mask::Positive), Some(Mask::Negative)] || !are_plain || !stabilizer.holds() {
            return None;
        }
        let (by, of_sum) = match groups.map(|(position, _)| self.denominator_left(position)) {
            [Denominator::Buffer(d), Denominator::Buffer(e)] => ([d, e], false),
            [Denominator::Rest { of, without }, Denominator::Buffer(e)] if without == e => ([of, e], true),
            _ => return None,
        };
        let mut sent = Vec::new();
        for half in [SIGNED, MAGNITUDES] {
            let factors = [0, 1].map(|group| of[group].factor * (half.coefficient)(groups[group].1));
            let sum = self.output_buffer("Σq");
            let quotients = Op::MultiplyQuotients { by, of_sum, factors, stabilizer };
            self.push(Work::Elementwise, Operand::whole(self.relevance), vec![quotients], sum);
            sent.push(Sent { q: sum, term: half.term, factor: 1.0 });
        }
        Some(sent)
    }

    /// A group's quotient q, as it goes back by halves: nothing where its denominator is.
    pub(super) fn weighed(&mut self, position: usize, group: &Group, (q, factor): (BufferId, f32)) -> Weighed {
        let weighing = self.builder.weighing(self.node, group).expect("groups that send halves weigh by agreement");
        let Some(sign) = only_sign(weighing) else { return Weighed { q, weighing, factor } };
        // What is left of z where relevance is, is above zero.
        let Denominator::Buffer(d) = self.denominator_left(position) else { return Weighed { q, weighing, factor } };
        let masked = self.output_buffer("q");
        let mask = Op::Mask { by: Operand::whole(d), mask: sign };
        self.push(Work::Elementwise, Operand::whole(q), vec![mask], masked);
        Weighed { q: masked, weighing, factor }
    }

    /// What all groups send back.
    pub(super) fn halves(&mut self, groups: &[Weighed]) -> Vec<Sent> {
        let mut sent = Vec::new();
        for Half { term, coefficient, .. } in [SIGNED, MAGNITUDES] {
            let scaled = groups.iter().map(|group| (group.q, group.factor * coefficient(group.weighing)));
            let scaled: Vec<(BufferId, f32)> = scaled.filter(|(_, factor)| *factor != 0.0).collect();
            let Some((&(first, factor), others)) = scaled.split_first() else { continue };
            if others.is_empty() {
                sent.push(Sent { q: first, term, factor });
                continue;
            }
            let mut chain: Vec<Op> = (factor != 1.0).then_some(Op::Scale(factor)).into_iter().collect();
            chain.extend(others.iter().map(|&(q, factor)| Op::Add { operand: Operand::whole(q), factor }));
            let sum = self.output_buffer("Σq");
            self.push(Work::Elementwise, Operand::whole(first), chain, sum);
            sent.push(Sent { q: sum, term, factor: 1.0 });
        }
        sent
    }

    fn denominator_left(&self, position: usize) -> Denominator {
        self.builder.part(self.id, position).expect("the forward pass left what its groups weigh")
    }
}

/// p P + n N from ½W x, given ½|W| |x|.
fn weighed_sum(weighing: Weighing, magnitudes: BufferId) -> Vec<Op> {
    let [p, n] = weighing;
    let add = |factor: f32| Op::Add { operand: Operand::whole(magnitudes), factor };
    // Where only one of them counts the sum comes first, so that nothing comes to exactly 0.
    let (sum, scale) = match only_sign(weighing) {
        Some(_) if n == 0.0 => (vec![add(1.0)], p),
        Some(_) => (vec![add(-1.0)], n),
        None => return vec![Op::Scale(p + n), add(p - n)],
    };
    sum.into_iter().chain((scale != 1.0).then_some(Op::Scale(scale))).collect()
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
