//! The backward pass: from the start at the output to the relevance of inputs and kept values.

use super::layout::Layout;
use super::{BufferId, Builder, Direction, Measure, Op, Operand, Parameter, Role, Rows, Step, Work};
use crate::composite::Finish;
use crate::layers::{Activation, AxisMap, Layer, Transpose};
use crate::network::{InputKind, LayerId, LayerNode, ValueId};
use crate::rules::{BilinearRule, InputPart, PointwiseRule, Rule, WeightPart};

impl Builder<'_> {
    pub(super) fn relevance(&mut self) {
        let mut arrived: Vec<Vec<BufferId>> = vec![Vec::new(); self.network.values().len()];
        let sums = self.buffer("sums".to_owned(), Rows::Sample, 0, Role::Sums);
        let output = self.network.output();
        let start = self.start();
        let start = self.relevance_in(output, start, Layout::Natural, self.layout(output));
        arrived[output.index()].push(start);
        for (id, node) in self.network.layer_ids().rev() {
            if !self.is_needed(node.output) {
                continue;
            }
            let arriving = std::mem::take(&mut arrived[node.output.index()]);
            // Nothing arrives behind a gate.
            if arriving.is_empty() && !self.ask.report {
                if self.ask.keep.contains(&node.output) {
                    self.deliver(node.output, &arriving);
                }
                continue;
            }
            let relevance = self.gather(node.output, &arriving);
            let shares = Backward { builder: self, id, node, relevance, sums }.shares();
            for (slot, (&input, share)) in node.inputs.iter().zip(shares).enumerate() {
                let Some(share) = share else { continue };
                let share = self.relevance_in(input, share, self.layout_read(node, slot), self.layout(input));
                arrived[input.index()].push(share);
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
    }

    fn start(&mut self) -> BufferId {
        let output = self.network.output();
        let target = self.relevance_buffer(output, self.known.rows(output));
        let source = self.logits.map(Operand::whole);
        self.steps.push(Step::new(None, Work::Start, source, Vec::new(), target));
        target
    }

    /// Whether relevance is computed at a value: it is wanted there or before it, or every layer is measured.
    pub(super) fn is_needed(&self, value: ValueId) -> bool {
        self.ask.report || self.known.is_wanted(value)
    }

    pub(super) fn relevance_buffer(&mut self, value: ValueId, rows: Rows) -> BufferId {
        let name = format!("R({})", self.network.value(value).name);
        self.buffer(name, rows, self.width(value), Role::Scratch)
    }

    /// The relevance of a value: what its readers gave, added in a fixed order, as far as masks let it pass, and delivered
    /// if it is kept.
    fn gather(&mut self, value: ValueId, arriving: &[BufferId]) -> BufferId {
        let rows = self.known.rows(value);
        let masks = (0..self.ask.masks.len()).filter(|&mask| self.ask.masks[mask].value == value);
        let chain: Vec<Op> = masks.map(|mask| Op::MultiplyParameter(Parameter::Mask(mask))).collect();
        let masked = if chain.is_empty() { None } else { Some([self.add(value, arriving, chain, rows)]) };
        let arriving = masked.as_ref().map_or(arriving, |masked| masked.as_slice());
        if self.ask.keep.contains(&value) {
            return self.deliver(value, arriving);
        }
        match arriving {
            [only] => *only,
            _ => self.add(value, arriving, Vec::new(), rows),
        }
    }

    /// Results are in ONNX order, with a row for each target; relevance goes on as its value lies.
    fn deliver(&mut self, value: ValueId, arriving: &[BufferId]) -> BufferId {
        let rows = self.known.rows(value);
        let is_input = self.network.inputs().iter().any(|input| input.value == value);
        let times_input = is_input && self.rules.finish() == Finish::TimesInput;
        let chain = times_input.then(|| Op::Multiply(self.operand(value))).into_iter().collect();
        let own = self.add(value, arriving, chain, rows);
        let each = if rows == Rows::Sample { self.add(value, &[own], Vec::new(), Rows::Target) } else { own };
        let result = self.relevance_in(value, each, self.layout(value), Layout::Natural);
        self.results.push((value, result));
        own
    }

    /// A new buffer with the sum of what arrived, after `chain`; zeros if nothing did.
    pub(super) fn add(&mut self, value: ValueId, arriving: &[BufferId], chain: Vec<Op>, rows: Rows) -> BufferId {
        let target = self.relevance_buffer(value, rows);
        let layer = self.network.producer(value);
        let add = |&buffer: &BufferId| Op::Add { operand: Operand::whole(buffer), factor: 1.0 };
        let (source, mut ops) = match arriving.split_last() {
            None => (None, Vec::new()),
            Some((last, others)) if self.buffers[last.index()].rows == rows => {
                (Some(Operand::whole(*last)), others.iter().map(add).collect())
            }
            // Only what is read beside a row may be of its sample instead.
            Some((last, others)) => (None, [last].into_iter().chain(others).map(add).collect::<Vec<Op>>()),
        };
        ops.extend(chain);
        self.steps.push(Step::new(layer, Work::Elementwise, source, ops, target));
        target
    }
}

/// One layer on its way back.
pub(super) struct Backward<'b, 'a> {
    pub(super) builder: &'b mut Builder<'a>,
    pub(super) id: LayerId,
    pub(super) node: &'a LayerNode,
    /// The relevance that arrives at the layer's output.
    pub(super) relevance: BufferId,
    sums: BufferId,
}

impl Backward<'_, '_> {
    /// What the layer gives to each of its inputs; nothing to those where none is wanted.
    fn shares(&mut self) -> Vec<Option<BufferId>> {
        let rule = self.builder.rules.rule(self.id);
        let shares = match (&self.node.layer, rule) {
            (_, Some(Rule::Linear(rule))) => self.linear(rule),
            (Layer::Activation(activation), Some(Rule::Pointwise(rule))) => vec![self.activation(*activation, *rule)],
            (Layer::Affine(_), Some(Rule::Pointwise(rule))) => match rule {
                PointwiseRule::Pass => vec![Some(self.relevance)],
                PointwiseRule::Gradient => {
                    let scale = Parameter::Scale { layer: self.id, part: WeightPart::WHOLE };
                    vec![self.elementwise(vec![Op::MultiplyParameter(scale)])]
                }
                PointwiseRule::Deconvnet | PointwiseRule::GuidedBackprop | PointwiseRule::BetaSmooth { .. } => {
                    unreachable!("a composite gives these rules to rectifiers only")
                }
            },
            (Layer::Reshape(_), _) => vec![Some(self.relevance)],
            (Layer::Transpose(transpose), _) if self.builder.is_turned(self.node, transpose) => {
                vec![Some(self.relevance)]
            }
            (Layer::Transpose(transpose), _) => vec![Some(self.transpose(transpose))],
            (Layer::Concat(concat), _) => self.concat(concat.axis()),
            (Layer::MaxPool(_), _) => vec![Some(self.unpool())],
            (Layer::AxisMap(map), _) => vec![Some(self.axis_map(map))],
            (Layer::Multiply(_), Some(Rule::Bilinear(rule))) => self.multiply(*rule),
            (Layer::Lookup(_), _) => vec![None],
            (
                Layer::Dense(_)
                | Layer::Conv(_)
                | Layer::AveragePool(_)
                | Layer::Sum(_)
                | Layer::Affine(_)
                | Layer::Activation(_)
                | Layer::Multiply(_),
                _,
            ) => unreachable!("a composite gives every layer a rule of its family"),
        };
        if self.builder.ask.report && rule.is_some() {
            self.measure(Measure::AtOutput, self.relevance, Vec::new());
            for share in shares.iter().flatten() {
                self.measure(Measure::AtInput, *share, Vec::new());
            }
        }
        shares
    }

    /// The rows of the relevance that arrives, and so of all that is made of it.
    pub(super) fn rows(&self) -> Rows {
        self.builder.buffers[self.relevance.index()].rows
    }

    /// A buffer for what the layer gives to an input.
    pub(super) fn share_buffer(&mut self, slot: usize) -> BufferId {
        self.builder.relevance_buffer(self.node.inputs[slot], self.rows())
    }

    pub(super) fn measure(&mut self, measure: Measure, source: BufferId, chain: Vec<Op>) {
        let sums = self.sums;
        self.push(Work::Measure(measure), Operand::whole(source), chain, sums);
    }

    /// An input of the layer as the layer reads it.
    pub(super) fn input(&mut self, slot: usize) -> Operand {
        let layout = self.builder.layout_read(self.node, slot);
        self.builder.operand_in(self.node.inputs[slot], layout)
    }

    /// Every window finds its winner again, then every element asks its windows whether it won.
    fn unpool(&mut self) -> BufferId {
        let width = self.builder.width(self.node.output);
        let name = format!("winners({})", self.node.name);
        let winners = self.builder.buffer(name, Rows::Sample, width, Role::Scratch);
        let source = self.input(0);
        self.push(Work::Winners, source, Vec::new(), winners);
        let target = self.share_buffer(0);
        self.push(Work::Unpool { winners }, Operand::whole(self.relevance), Vec::new(), target);
        target
    }

    fn axis_map(&mut self, map: &AxisMap) -> BufferId {
        let work = self.builder.along_axis(self.node, map, Direction::Backward);
        let target = self.share_buffer(0);
        self.push(work, Operand::whole(self.relevance), Vec::new(), target);
        target
    }

    fn multiply(&mut self, rule: BilinearRule) -> Vec<Option<BufferId>> {
        let mut shares = Vec::with_capacity(2);
        for slot in 0..2 {
            let share = match rule {
                BilinearRule::Gradient => {
                    let partner = self.input(1 - slot);
                    Some(self.factor(slot, Op::Multiply(partner)))
                }
                BilinearRule::Shares(shares) if shares[slot] == 0.0 => None,
                BilinearRule::Shares(shares) if shares[slot] == 1.0 => Some(self.relevance),
                BilinearRule::Shares(shares) => Some(self.factor(slot, Op::Scale(shares[slot]))),
                BilinearRule::Gated | BilinearRule::Half => {
                    unreachable!("a composite says how each product is shared")
                }
            };
            shares.push(share.filter(|_| self.builder.is_needed(self.node.inputs[slot])));
        }
        shares
    }

    fn factor(&mut self, slot: usize, op: Op) -> BufferId {
        let target = self.share_buffer(slot);
        self.push(Work::Elementwise, Operand::whole(self.relevance), vec![op], target);
        target
    }

    fn elementwise(&mut self, chain: Vec<Op>) -> Option<BufferId> {
        let target = self.share_buffer(0);
        self.push(Work::Elementwise, Operand::whole(self.relevance), chain, target);
        Some(target)
    }

    fn activation(&mut self, activation: Activation, rule: PointwiseRule) -> Option<BufferId> {
        let at = self.input(0);
        let times = |activation| Op::MultiplyDerivative { activation, at };
        let positive = Op::Part(InputPart::Positive);
        let chain = match rule {
            PointwiseRule::Pass => return Some(self.relevance),
            PointwiseRule::Gradient => vec![times(activation)],
            PointwiseRule::Deconvnet => vec![positive],
            PointwiseRule::GuidedBackprop => vec![positive, times(Activation::Relu)],
            PointwiseRule::BetaSmooth { beta } => vec![times(Activation::Softplus { beta })],
        };
        self.elementwise(chain)
    }

    fn transpose(&mut self, transpose: &Transpose) -> BufferId {
        let mut order = vec![0; transpose.order().len()];
        for (to, &from) in transpose.order().iter().enumerate() {
            order[from] = to;
        }
        let dims = self.builder.network.shape(self.node.output).dims().to_vec();
        let target = self.share_buffer(0);
        self.push(Work::Transpose { dims, order }, Operand::whole(self.relevance), Vec::new(), target);
        target
    }

    fn concat(&mut self, axis: usize) -> Vec<Option<BufferId>> {
        let mut shares = Vec::with_capacity(self.node.inputs.len());
        for (slot, strips) in self.builder.strips(self.node, axis).into_iter().enumerate() {
            if !self.builder.is_needed(strips.input) {
                shares.push(None);
                continue;
            }
            let target = self.share_buffer(slot);
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

    pub(super) fn push(&mut self, work: Work, source: Operand, chain: Vec<Op>, target: BufferId) {
        self.builder.step(self.id, work, source, chain, target);
    }
}
