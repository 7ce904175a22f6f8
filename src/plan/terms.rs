//! The terms of a rule's group: which of them live, how they pass through a layer's weight, and the denominators that
//! they sum to.

use super::{Beside, BufferId, Builder, Denominator, Direction, Op, Operand, Parameter, Role, Rows, Work};
use crate::layers::Layer;
use crate::network::{LayerId, LayerNode};
use crate::rules::{BiasPart, Group, InputPart, LinearRule, Rule, Term, TermSign, WeightPart};

impl Builder<'_> {
    /// The group's terms at an input, with what is known of the input's sign used.
    pub(super) fn live_terms(&self, node: &LayerNode, group: &Group, slot: usize) -> Vec<Term> {
        let nonnegative = self.known.is_nonnegative(node.inputs[slot]);
        let keep = |term: &Term| !(nonnegative && term.input == InputPart::Negative);
        let simplify = |term: Term| match term.input {
            InputPart::Positive | InputPart::Magnitude if nonnegative => Term { input: InputPart::Whole, ..term },
            _ => term,
        };
        group.terms.iter().copied().filter(keep).map(simplify).collect()
    }

    /// d of a group: what the forward pass left where that is what the group sums, products where not.
    pub(super) fn denominator(&mut self, id: LayerId, node: &LayerNode, position: usize, group: &Group) -> Denominator {
        if let Some(d) = self.part(id, position) {
            return d;
        }
        let slots = node.inputs.len();
        let depends_on_data = |term: &Term| term.input.vanishes_with_input();
        let terms: Vec<(usize, Term)> = (0..slots)
            .flat_map(|slot| self.live_terms(node, group, slot).into_iter().map(move |term| (slot, term)))
            .collect();
        let data: Vec<(usize, Term)> = terms.iter().copied().filter(|(_, term)| depends_on_data(term)).collect();
        let constants_beside = data.len() < terms.len();
        let whole = |(_, term): &(usize, Term)| {
            term.input == InputPart::Whole && term.weight == WeightPart::WHOLE && term.sign == TermSign::Plus
        };
        let constant = |beside| Parameter::Constant { layer: id, group: position, beside };
        if data.is_empty() {
            return Denominator::Parameter(constant(Beside::Products));
        }
        if self.ask.facts.reuse_forward && data.len() == slots && data.iter().all(whole) {
            let z = self.operand(node.output);
            let same_bias = group.bias == BiasPart::WHOLE || !has_bias(node);
            if same_bias && !constants_beside {
                return Denominator::Buffer(z.buffer);
            }
            let d = self.denominator_buffer(node);
            self.step(id, Work::Elementwise, z, vec![Op::AddParameter(constant(Beside::ForwardOutput))], d);
            return Denominator::Buffer(d);
        }
        Denominator::Buffer(self.sum_of(id, node, position, group, &data, constants_beside))
    }

    /// Products of the terms that hold x, and of the rest the constants.
    fn sum_of(
        &mut self,
        id: LayerId,
        node: &LayerNode,
        position: usize,
        group: &Group,
        terms: &[(usize, Term)],
        constants_beside: bool,
    ) -> BufferId {
        let has_constants = constants_beside || group.bias != BiasPart::Absent && has_bias(node);
        let constants = Parameter::Constant { layer: id, group: position, beside: Beside::Products };
        let constants = has_constants.then_some(Op::AddParameter(constants));
        let mut partial: Option<BufferId> = None;
        for (count, (slot, term)) in terms.iter().enumerate() {
            let read = self.operand_in(node.inputs[*slot], self.layout_read(node, *slot));
            let source = Operand { part: term.input, ..read };
            let (work, mut chain) = through_weight(id, node, Direction::Forward, *slot, *term, term.sign.factor());
            chain.extend(partial.map(|partial| Op::Add { operand: Operand::whole(partial), factor: 1.0 }));
            chain.extend(constants.filter(|_| count + 1 == terms.len()));
            let d = self.denominator_buffer(node);
            self.step(id, work, source, chain, d);
            partial = Some(d);
        }
        partial.expect("there is a term")
    }

    /// The denominators of a rule's two groups, where their sum is z: the forward pass then computes these two and adds
    /// them, instead of a third product (αβ on rectified inputs: W⁺x + b⁺ and W⁻x + b⁻). Where one is what is left of z without the other,
    /// the forward pass computes z and that one, and adds nothing.
    pub(super) fn parts_of_output(&mut self, id: LayerId, node: &LayerNode) -> Option<[BufferId; 2]> {
        let Some(Rule::Linear(rule)) = self.rules.rule(id) else { return None };
        let is_product = matches!(node.layer, Layer::Dense(_) | Layer::Conv(_));
        let is_asked = self.ask.facts.split_forward && !self.ask.forward_only && self.is_needed(node.output);
        if !is_product || !is_asked || !self.sums_to_output(node, rule) {
            return None;
        }
        let rest = self.raising_as_rest(node, rule);
        let mut part = |position: usize| {
            let group = &rule.groups[position];
            let terms: Vec<(usize, Term)> = self.live_terms(node, group, 0).into_iter().map(|term| (0, term)).collect();
            self.sum_of(id, node, position, group, &terms, false)
        };
        if let Some([_, lowering]) = rest {
            let d = part(lowering);
            self.leave(id, rule, [(lowering, d)]);
            return None;
        }
        let parts = [0, 1].map(part);
        self.leave(id, rule, parts.into_iter().enumerate());
        Some(parts)
    }

    /// Notes what the forward pass leaves of a rule's denominators.
    pub(super) fn leave(
        &mut self,
        id: LayerId,
        rule: &LinearRule,
        denominators: impl IntoIterator<Item = (usize, BufferId)>,
    ) {
        let mut parts = vec![None; rule.groups.len()];
        denominators.into_iter().for_each(|(position, d)| parts[position] = Some(Denominator::Buffer(d)));
        self.parts[id.index()] = parts;
    }

    /// The denominator of a group that the forward pass left.
    pub(super) fn part(&self, id: LayerId, position: usize) -> Option<Denominator> {
        self.parts[id.index()].get(position).copied().flatten()
    }

    pub(super) fn denominator_buffer(&mut self, node: &LayerNode) -> BufferId {
        let width = self.width(node.output);
        self.buffer(format!("d({})", node.name), Rows::Sample, width, Role::Scratch)
    }
}

/// How rows pass through a layer's weight between an input and the output, scaled by `factor`.
pub(super) fn through_weight(
    id: LayerId,
    node: &LayerNode,
    direction: Direction,
    slot: usize,
    term: Term,
    factor: f32,
) -> (Work, Vec<Op>) {
    let scaled = |factor: f32| (factor != 1.0).then_some(Op::Scale(factor));
    let weight = term.weight;
    let work = match &node.layer {
        Layer::Dense(_) => Work::Product { direction, weight, addend: None },
        Layer::Conv(_) => Work::Convolve { direction, weight, addend: None },
        Layer::AveragePool(_) => Work::AveragePool { direction, weight },
        Layer::Sum(sum) => {
            let weight = weight.of(sum.signs()[slot].factor());
            return (Work::Elementwise, scaled(factor * weight).into_iter().collect());
        }
        Layer::Affine(_) => {
            let scale = Op::MultiplyParameter(Parameter::Scale { layer: id, part: weight });
            return (Work::Elementwise, [scale].into_iter().chain(scaled(factor)).collect());
        }
        Layer::Activation(_)
        | Layer::Reshape(_)
        | Layer::Transpose(_)
        | Layer::Concat(_)
        | Layer::MaxPool(_)
        | Layer::AxisMap(_)
        | Layer::Multiply(_)
        | Layer::Lookup(_) => unreachable!("a composite gives linear rules to layers with weights only"),
    };
    (work, scaled(factor).into_iter().collect())
}

/// Whether a layer adds a bias.
pub(super) fn has_bias(node: &LayerNode) -> bool {
    match &node.layer {
        Layer::Dense(dense) => dense.bias().is_some(),
        Layer::Conv(conv) => conv.bias().is_some(),
        Layer::Affine(_) => true,
        Layer::AveragePool(_)
        | Layer::Sum(_)
        | Layer::Activation(_)
        | Layer::Reshape(_)
        | Layer::Transpose(_)
        | Layer::Concat(_)
        | Layer::MaxPool(_)
        | Layer::AxisMap(_)
        | Layer::Multiply(_)
        | Layer::Lookup(_) => false,
    }
}
