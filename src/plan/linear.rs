//! Any rule on any linear layer: denominators, quotients and what goes back through the weights.

use super::relevance::Backward;
use super::{Beside, BufferId, Denominator, Direction, Measure, Op, Operand, Parameter, Role, Rows, Work};
use crate::layers::Layer;
use crate::rules::{
    BiasPart, Group, InputPart, LinearRule, Mask, Quotient, Share, Stabilizer, Term, TermSign, WeightPart,
};

impl Backward<'_, '_> {
    pub(super) fn linear(&mut self, rule: &LinearRule) -> Vec<Option<BufferId>> {
        let mut shares = vec![None; self.node.inputs.len()];
        for (position, group) in rule.groups.iter().enumerate() {
            let is_dead = group.mask == Mask::Negative && self.builder.known.is_dead_below_zero(self.node.output);
            if group.factor != 0.0 && !is_dead {
                self.group(position, group, &mut shares);
            }
        }
        // A report counts what every input gets, so that the sums close even where relevance stops.
        for (slot, share) in shares.iter_mut().enumerate() {
            if share.is_none() && self.builder.is_needed(self.node.inputs[slot]) {
                *share = Some(self.builder.add(self.node.inputs[slot], &[], Vec::new()));
            }
        }
        shares
    }

    fn group(&mut self, position: usize, group: &Group, shares: &mut [Option<BufferId>]) {
        let mut chain = Vec::new();
        if group.mask != Mask::Everywhere {
            chain.push(Op::Mask { by: self.builder.operand(self.node.output), mask: group.mask });
        }
        let damping = match group.quotient {
            Quotient::Plain => None,
            Quotient::Divided(stabilizer) => {
                let by = self.denominator(position, group);
                let rms = self.rms(stabilizer, by);
                chain.push(Op::Divide { by, stabilizer, rms });
                Some(Op::MultiplyDamping { by, stabilizer, rms })
            }
        };
        let q = if chain.is_empty() {
            self.relevance
        } else {
            let q = self.output_buffer("q");
            self.push(Work::Elementwise, Operand::whole(self.relevance), chain, q);
            q
        };
        for (slot, share) in shares.iter_mut().enumerate() {
            let input = self.node.inputs[slot];
            if !self.builder.is_needed(input) {
                continue;
            }
            for term in self.live_terms(group, slot) {
                *share = Some(self.send_back(q, term, group.factor, slot, *share));
            }
        }
        match group.share {
            Share::Absorbed => self.measure_absorbed(q, group, damping),
            Share::Redistributed => self.redistribute(q, group, damping, shares),
        }
    }

    /// The group's terms at an input, with what is known of the input's sign used.
    fn live_terms(&self, group: &Group, slot: usize) -> Vec<Term> {
        let nonnegative = self.builder.known.is_nonnegative(self.node.inputs[slot]);
        let keep = |term: &Term| !(nonnegative && term.input == InputPart::Negative);
        let simplify = |term: Term| match term.input {
            InputPart::Positive if nonnegative => Term { input: InputPart::Whole, ..term },
            _ => term,
        };
        group.terms.iter().copied().filter(keep).map(simplify).collect()
    }

    /// d of a group: the forward pass's own z where that is what the group sums, products where not.
    fn denominator(&mut self, position: usize, group: &Group) -> Denominator {
        let slots = self.node.inputs.len();
        let depends_on_data = |term: &Term| term.input.vanishes_with_input();
        let terms: Vec<(usize, Term)> = (0..slots)
            .flat_map(|slot| self.live_terms(group, slot).into_iter().map(move |term| (slot, term)))
            .collect();
        let data: Vec<(usize, Term)> = terms.iter().copied().filter(|(_, term)| depends_on_data(term)).collect();
        let has_constants = data.len() < terms.len() || group.bias != BiasPart::Absent && self.has_bias();
        let whole = |(_, term): &(usize, Term)| {
            term.input == InputPart::Whole && term.weight == WeightPart::WHOLE && term.sign.factor() == 1.0
        };
        let layer = self.id;
        let constant = |beside| Parameter::Constant { layer, group: position, beside };
        if data.is_empty() {
            return Denominator::Parameter(constant(Beside::Products));
        }
        if self.builder.ask.facts.reuse_forward && data.len() == slots && data.iter().all(whole) {
            let z = self.builder.operand(self.node.output);
            let same_bias = group.bias == BiasPart::WHOLE || !self.has_bias();
            if same_bias && data.len() == terms.len() {
                return Denominator::Buffer(z.buffer);
            }
            let d = self.denominator_buffer();
            self.push(Work::Elementwise, z, vec![Op::AddParameter(constant(Beside::ForwardOutput))], d);
            return Denominator::Buffer(d);
        }
        let constants = has_constants.then(|| Op::AddParameter(constant(Beside::Products)));
        let mut partial = None;
        for (count, (slot, term)) in data.iter().enumerate() {
            let is_last = count + 1 == data.len();
            partial = Some(self.add_term(*slot, *term, partial, constants.filter(|_| is_last)));
        }
        Denominator::Buffer(partial.expect("there is a term"))
    }

    fn add_term(&mut self, slot: usize, term: Term, partial: Option<BufferId>, constants: Option<Op>) -> BufferId {
        let source = Operand { part: term.input, ..self.input(slot) };
        let (work, mut chain) = self.through_weight(Direction::Forward, slot, term, term.sign.factor());
        chain.extend(partial.map(|partial| Op::Add { operand: Operand::whole(partial), factor: 1.0 }));
        chain.extend(constants);
        let d = self.denominator_buffer();
        self.push(work, source, chain, d);
        d
    }

    /// One term's share: factor · σ · x̃ ⊙ W̃ᵀ q, added to what the layer already gives that input.
    fn send_back(&mut self, q: BufferId, term: Term, factor: f32, slot: usize, before: Option<BufferId>) -> BufferId {
        let (work, mut chain) = self.through_weight(Direction::Backward, slot, term, factor * term.sign.factor());
        let x = self.input(slot);
        match term.input {
            InputPart::Whole | InputPart::Positive | InputPart::Negative => {
                chain.push(Op::Multiply(Operand { part: term.input, ..x }));
            }
            InputPart::Low => chain.push(Op::MultiplyParameter(Parameter::Low(self.id))),
            InputPart::High => chain.push(Op::MultiplyParameter(Parameter::High(self.id))),
            InputPart::One => {}
        }
        chain.extend(before.map(|before| Op::Add { operand: Operand::whole(before), factor: 1.0 }));
        let target = self.builder.relevance_buffer(self.node.inputs[slot]);
        self.push(work, Operand::whole(q), chain, target);
        target
    }

    /// How rows pass through the weight between an input and the output, scaled by `factor`.
    fn through_weight(&self, direction: Direction, slot: usize, term: Term, factor: f32) -> (Work, Vec<Op>) {
        let scaled = |factor: f32| (factor != 1.0).then_some(Op::Scale(factor));
        match &self.node.layer {
            Layer::Dense(_) => (Work::Product { direction, weight: term.weight }, scaled(factor).into_iter().collect()),
            Layer::Sum(sum) => {
                let weight = term.weight.of(sum.signs()[slot].factor());
                (Work::Elementwise, scaled(factor * weight).into_iter().collect())
            }
            Layer::Affine(_) => {
                let scale = Op::MultiplyParameter(Parameter::Scale { layer: self.id, part: term.weight });
                (Work::Elementwise, [scale].into_iter().chain(scaled(factor)).collect())
            }
            Layer::Conv(_) => (Work::Convolve { direction, weight: term.weight }, scaled(factor).into_iter().collect()),
            Layer::AveragePool(_) => {
                (Work::AveragePool { direction, weight: term.weight }, scaled(factor).into_iter().collect())
            }
            Layer::Activation(_)
            | Layer::Reshape(_)
            | Layer::Transpose(_)
            | Layer::Concat(_)
            | Layer::MaxPool(_)
            | Layer::AxisMap(_)
            | Layer::Multiply(_)
            | Layer::Lookup(_) => {
                unreachable!("a composite gives linear rules to layers with weights only")
            }
        }
    }

    /// b̃ where the layer has one and the group counts it.
    fn bias(&self, group: &Group) -> Option<Op> {
        let counts = group.bias != BiasPart::Absent && self.has_bias();
        counts.then_some(Op::MultiplyParameter(Parameter::Bias { layer: self.id, part: group.bias }))
    }

    /// (b̃ + stab(d) − d) q, spread evenly over the inputs of each output.
    fn redistribute(&mut self, q: BufferId, group: &Group, damping: Option<Op>, shares: &mut [Option<BufferId>]) {
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
            *share = Some(self.send_back(held, evenly, group.factor / fan_in as f32, slot, *share));
        }
    }

    fn measure_absorbed(&mut self, q: BufferId, group: &Group, damping: Option<Op>) {
        if !self.builder.ask.report {
            return;
        }
        let factor = (group.factor != 1.0).then_some(Op::Scale(group.factor));
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

    fn has_bias(&self) -> bool {
        match &self.node.layer {
            Layer::Dense(dense) => dense.bias().is_some(),
            Layer::Affine(_) => true,
            Layer::Conv(conv) => conv.bias().is_some(),
            Layer::Sum(_)
            | Layer::AveragePool(_)
            | Layer::MaxPool(_)
            | Layer::AxisMap(_)
            | Layer::Multiply(_)
            | Layer::Activation(_)
            | Layer::Reshape(_)
            | Layer::Transpose(_)
            | Layer::Concat(_)
            | Layer::Lookup(_) => false,
        }
    }

    fn output_buffer(&mut self, name: &str) -> BufferId {
        let width = self.builder.width(self.node.output);
        self.builder.buffer(format!("{name}({})", self.node.name), Rows::Target, width, Role::Scratch)
    }

    fn denominator_buffer(&mut self) -> BufferId {
        let width = self.builder.width(self.node.output);
        self.builder.buffer(format!("d({})", self.node.name), Rows::Sample, width, Role::Scratch)
    }
}
