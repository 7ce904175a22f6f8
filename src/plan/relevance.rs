//! The backward pass: from the start at the output to the relevance of inputs and kept values.

use super::{
    Beside, BufferId, Builder, Denominator, Direction, Measure, Op, Operand, Parameter, Role, Rows, Step, Work,
};
use crate::composite::Finish;
use crate::error::Result;
use crate::layers::{Layer, Transpose};
use crate::network::{InputKind, LayerId, LayerNode, ValueId};
use crate::rules::{
    BiasPart, Group, InputPart, LinearRule, Mask, PointwiseRule, Quotient, Rule, Share, Stabilizer, Term, WeightPart,
};

impl Builder<'_> {
    pub(super) fn relevance(&mut self) -> Result<()> {
        let mut arrived: Vec<Vec<BufferId>> = vec![Vec::new(); self.network.values().len()];
        let sums = self.buffer("sums".to_owned(), Rows::Sample, 0, Role::Sums);
        arrived[self.network.output().index()].push(self.start());
        for (id, node) in self.network.layer_ids().rev() {
            if !self.known.is_wanted(node.output) {
                continue;
            }
            let arriving = std::mem::take(&mut arrived[node.output.index()]);
            let relevance = self.gather(node.output, &arriving);
            let mut layer = Backward { builder: self, id, node, relevance, sums };
            for (input, share) in node.inputs.iter().zip(layer.shares()) {
                arrived[input.index()].extend(share);
            }
        }
        for input in self.network.inputs() {
            if input.kind == InputKind::Float {
                let arriving = std::mem::take(&mut arrived[input.value.index()]);
                self.deliver(input.value, &arriving);
            }
        }
        // Inputs come first in the results, whatever order the steps made them in.
        let inputs: Vec<ValueId> = self.network.inputs().iter().map(|input| input.value).collect();
        self.results.sort_by_key(|(value, _)| (!inputs.contains(value), *value));
        for (position, (_, buffer)) in self.results.iter().enumerate() {
            self.buffers[buffer.index()].role = Role::Result(position);
        }
        Ok(())
    }

    fn start(&mut self) -> BufferId {
        let output = self.network.output();
        let target = self.relevance_buffer(output);
        let source = Some(self.operand(output));
        self.steps.push(Step { layer: None, work: Work::Start, source, chain: Vec::new(), target });
        target
    }

    fn relevance_buffer(&mut self, value: ValueId) -> BufferId {
        let name = format!("R({})", self.network.value(value).name);
        self.buffer(name, Rows::Target, self.width(value), Role::Scratch)
    }

    /// The relevance of a value: what its readers gave, added in a fixed order, and delivered if it is kept.
    fn gather(&mut self, value: ValueId, arriving: &[BufferId]) -> BufferId {
        if self.ask.keep.contains(&value) {
            return self.deliver(value, arriving);
        }
        match arriving {
            [only] => *only,
            _ => self.add(value, arriving, Vec::new()),
        }
    }

    fn deliver(&mut self, value: ValueId, arriving: &[BufferId]) -> BufferId {
        let is_input = self.network.inputs().iter().any(|input| input.value == value);
        let times_input = is_input && self.rules.finish() == Finish::TimesInput;
        let chain = times_input.then(|| Op::Multiply(self.operand(value))).into_iter().collect();
        let buffer = self.add(value, arriving, chain);
        self.results.push((value, buffer));
        buffer
    }

    /// A new buffer with the sum of what arrived, after `chain`; zeros if nothing did.
    fn add(&mut self, value: ValueId, arriving: &[BufferId], chain: Vec<Op>) -> BufferId {
        let target = self.relevance_buffer(value);
        let layer = self.network.producer(value);
        let (source, others) = match arriving.split_last() {
            None => (None, arriving),
            Some((last, others)) => (Some(Operand::whole(*last)), others),
        };
        let mut ops: Vec<Op> =
            others.iter().map(|&other| Op::Add { operand: Operand::whole(other), factor: 1.0 }).collect();
        ops.extend(chain);
        self.steps.push(Step { layer, work: Work::Elementwise, source, chain: ops, target });
        target
    }
}

/// One layer on its way back.
struct Backward<'b, 'a> {
    builder: &'b mut Builder<'a>,
    id: LayerId,
    node: &'a LayerNode,
    /// The relevance that arrives at the layer's output.
    relevance: BufferId,
    sums: BufferId,
}

/// A group's denominator and how it is stabilised.
#[derive(Clone, Copy)]
struct Damped {
    by: Denominator,
    stabilizer: Stabilizer,
    rms: Option<BufferId>,
}

impl Backward<'_, '_> {
    /// What the layer gives to each of its inputs; nothing to those where none is wanted.
    fn shares(&mut self) -> Vec<Option<BufferId>> {
        let rule = self.builder.rules.rule(self.id);
        let shares = match (&self.node.layer, rule) {
            (_, Some(Rule::Linear(rule))) => self.linear(rule),
            (Layer::Activation(activation), Some(Rule::Pointwise(rule))) => match rule {
                PointwiseRule::Pass => vec![Some(self.relevance)],
                PointwiseRule::Gradient => {
                    let at = self.builder.operand(self.node.inputs[0]);
                    vec![self.elementwise(vec![Op::MultiplyDerivative { activation: *activation, at }])]
                }
            },
            (Layer::Affine(_), Some(Rule::Pointwise(rule))) => match rule {
                PointwiseRule::Pass => vec![Some(self.relevance)],
                PointwiseRule::Gradient => {
                    let scale = Parameter::Scale { layer: self.id, part: WeightPart::WHOLE };
                    vec![self.elementwise(vec![Op::MultiplyParameter(scale)])]
                }
            },
            (Layer::Reshape(_), _) => vec![Some(self.relevance)],
            (Layer::Transpose(transpose), _) => vec![Some(self.transpose(transpose))],
            (Layer::Concat(concat), _) => self.concat(concat.axis()),
            (Layer::Lookup(_), _) => vec![None],
            (Layer::Dense(_) | Layer::Sum(_) | Layer::Affine(_) | Layer::Activation(_), _) => {
                unreachable!("a composite gives every layer a rule of its family")
            }
        };
        if self.builder.ask.report && rule.is_some() {
            self.measure(Measure::AtOutput, self.relevance, Vec::new());
            for share in shares.iter().flatten() {
                self.measure(Measure::AtInput, *share, Vec::new());
            }
        }
        shares
    }

    fn linear(&mut self, rule: &LinearRule) -> Vec<Option<BufferId>> {
        let mut shares = vec![None; self.node.inputs.len()];
        for (position, group) in rule.groups.iter().enumerate() {
            let is_dead = group.mask == Mask::Negative && self.builder.known.is_dead_below_zero(self.node.output);
            if group.factor != 0.0 && !is_dead {
                self.group(position, group, &mut shares);
            }
        }
        // A report counts what every input gets, so that the sums close even where relevance stops.
        for (slot, share) in shares.iter_mut().enumerate() {
            if share.is_none() && self.builder.known.is_wanted(self.node.inputs[slot]) {
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
        let damped = match group.quotient {
            Quotient::Plain => None,
            Quotient::Divided(stabilizer) => {
                let by = self.denominator(position, group);
                let rms = self.rms(stabilizer, by);
                chain.push(Op::Divide { by, stabilizer, rms });
                Some(Damped { by, stabilizer, rms })
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
            if !self.builder.known.is_wanted(input) && !self.builder.ask.report {
                continue;
            }
            for term in self.live_terms(group, slot) {
                *share = Some(self.send_back(q, term, group.factor, slot, *share));
            }
        }
        if let Some(damped) = damped {
            match group.share {
                Share::Absorbed => self.measure_absorbed(q, group, damped),
                Share::Redistributed => self.redistribute(q, group, damped, shares),
            }
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
        let source = Operand { part: term.input, ..self.builder.operand(self.node.inputs[slot]) };
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
        let x = self.builder.operand(self.node.inputs[slot]);
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
            Layer::Activation(_) | Layer::Reshape(_) | Layer::Transpose(_) | Layer::Concat(_) | Layer::Lookup(_) => {
                unreachable!("a composite gives linear rules to layers with weights only")
            }
        }
    }

    /// (b̃ + stab(d) − d) q, spread evenly over the inputs of each output.
    fn redistribute(&mut self, q: BufferId, group: &Group, damped: Damped, shares: &mut [Option<BufferId>]) {
        let Damped { by, stabilizer, rms } = damped;
        let mut held = self.output_buffer("held");
        self.push(Work::Elementwise, Operand::whole(q), vec![Op::MultiplyDamping { by, stabilizer, rms }], held);
        if group.bias != BiasPart::Absent && self.has_bias() {
            let bias = Op::MultiplyParameter(Parameter::Bias { layer: self.id, part: group.bias });
            let damping = Op::Add { operand: Operand::whole(held), factor: 1.0 };
            held = self.output_buffer("held");
            self.push(Work::Elementwise, Operand::whole(q), vec![bias, damping], held);
        }
        let fan_in = match &self.node.layer {
            Layer::Dense(dense) => dense.inputs(),
            _ => self.node.inputs.len(),
        };
        let evenly = Term { sign: crate::rules::TermSign::Plus, input: InputPart::One, weight: WeightPart::One };
        for (slot, share) in shares.iter_mut().enumerate() {
            *share = Some(self.send_back(held, evenly, group.factor / fan_in as f32, slot, *share));
        }
    }

    fn measure_absorbed(&mut self, q: BufferId, group: &Group, damped: Damped) {
        if !self.builder.ask.report {
            return;
        }
        let Damped { by, stabilizer, rms } = damped;
        let factor = (group.factor != 1.0).then_some(Op::Scale(group.factor));
        let with = |op: Op| [op].into_iter().chain(factor).collect();
        if group.bias != BiasPart::Absent && self.has_bias() {
            let bias = Parameter::Bias { layer: self.id, part: group.bias };
            self.measure(Measure::Bias, q, with(Op::MultiplyParameter(bias)));
        }
        self.measure(Measure::Epsilon, q, with(Op::MultiplyDamping { by, stabilizer, rms }));
    }

    fn measure(&mut self, measure: Measure, source: BufferId, chain: Vec<Op>) {
        let sums = self.sums;
        self.push(Work::Measure(measure), Operand::whole(source), chain, sums);
    }

    fn rms(&mut self, stabilizer: Stabilizer, by: Denominator) -> Option<BufferId> {
        let (Stabilizer::Rms(_), Denominator::Buffer(d)) = (stabilizer, by) else { return None };
        let target = self.builder.buffer(format!("rms({})", self.node.name), Rows::Sample, 1, Role::Scratch);
        self.push(Work::Rms, Operand::whole(d), Vec::new(), target);
        Some(target)
    }

    fn elementwise(&mut self, chain: Vec<Op>) -> Option<BufferId> {
        let target = self.builder.relevance_buffer(self.node.inputs[0]);
        self.push(Work::Elementwise, Operand::whole(self.relevance), chain, target);
        Some(target)
    }

    fn transpose(&mut self, transpose: &Transpose) -> BufferId {
        let mut order = vec![0; transpose.order().len()];
        for (to, &from) in transpose.order().iter().enumerate() {
            order[from] = to;
        }
        let dims = self.builder.network.shape(self.node.output).dims().to_vec();
        let target = self.builder.relevance_buffer(self.node.inputs[0]);
        self.push(Work::Transpose { dims, order }, Operand::whole(self.relevance), Vec::new(), target);
        target
    }

    fn concat(&mut self, axis: usize) -> Vec<Option<BufferId>> {
        let mut shares = Vec::with_capacity(self.node.inputs.len());
        for strips in self.builder.strips(self.node, axis) {
            if !self.builder.known.is_wanted(strips.input) {
                shares.push(None);
                continue;
            }
            let target = self.builder.relevance_buffer(strips.input);
            let work = Work::Strips {
                count: strips.count,
                length: strips.length,
                source: (strips.total, strips.offset),
                target: (strips.length, 0),
            };
            self.push(work, Operand::whole(self.relevance), Vec::new(), target);
            shares.push(Some(target));
        }
        shares
    }

    fn has_bias(&self) -> bool {
        match &self.node.layer {
            Layer::Dense(dense) => dense.bias().is_some(),
            Layer::Affine(_) => true,
            Layer::Sum(_)
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

    fn push(&mut self, work: Work, source: Operand, chain: Vec<Op>, target: BufferId) {
        self.builder.step(self.id, work, source, chain, target);
    }
}
