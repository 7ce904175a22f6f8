//! The forward pass: one step a layer that computes, none for layers that only name elements anew.

use super::cost::{BUFFER, multiply_adds};
use super::layout::{Layout, turned};
use super::terms::has_bias;
use super::{Builder, Denominator, Direction, Op, Operand, Parameter, Role, Rows, Work};
use crate::layers::{AxisMap, Layer, Transpose};
use crate::network::{LayerId, LayerNode, ValueId};
use crate::rules::{BiasPart, Quotient, Rule, Term, WeightPart};

impl Builder<'_> {
    pub(super) fn forward(&mut self) {
        for (id, node) in self.network.layer_ids() {
            let read = self.forward_layer(id, node);
            self.values[node.output.index()] = Some(read);
            self.leave_rest(id, node);
            self.leave_denominator(id, node);
        }
        self.store_output();
    }

    /// Plans one layer and says how its value is read.
    fn forward_layer(&mut self, id: LayerId, node: &LayerNode) -> Operand {
        if let Some(half) = self.halves_of_output(id, node) {
            let mut chain = vec![Op::Scale(2.0)];
            chain.extend(bias_added(id, has_bias(node)));
            return self.compute(id, node.output, Work::Elementwise, Operand::whole(half), chain);
        }
        if let Some([first, second]) = self.parts_of_output(id, node) {
            let chain = vec![Op::Add { operand: Operand::whole(first), factor: 1.0 }];
            return self.compute(id, node.output, Work::Elementwise, Operand::whole(second), chain);
        }
        let source = self.operand_in(node.inputs[0], self.layout_read(node, 0));
        match &node.layer {
            Layer::Dense(dense) => {
                let work = Work::Product { direction: Direction::Forward, weight: WeightPart::WHOLE, addend: None };
                self.compute(id, node.output, work, source, bias_added(id, dense.bias().is_some()))
            }
            Layer::Conv(conv) => {
                let work = Work::Convolve { direction: Direction::Forward, weight: WeightPart::WHOLE, addend: None };
                self.compute(id, node.output, work, source, bias_added(id, conv.bias().is_some()))
            }
            Layer::AveragePool(_) => {
                let work = Work::AveragePool { direction: Direction::Forward, weight: WeightPart::WHOLE };
                self.compute(id, node.output, work, source, Vec::new())
            }
            Layer::MaxPool(_) => self.compute(id, node.output, Work::MaxPool, source, Vec::new()),
            Layer::AxisMap(map) => {
                let work = self.along_axis(node, map, Direction::Forward);
                self.compute(id, node.output, work, source, Vec::new())
            }
            Layer::Multiply(_) => {
                let other = self.operand_in(node.inputs[1], self.layout_read(node, 1));
                self.compute(id, node.output, Work::Elementwise, source, vec![Op::Multiply(other)])
            }
            Layer::Sum(sum) => {
                let first = sum.signs()[0].factor();
                let mut chain: Vec<Op> = (first != 1.0).then_some(Op::Scale(first)).into_iter().collect();
                for (slot, sign) in sum.signs().iter().enumerate().skip(1) {
                    let operand = self.operand_in(node.inputs[slot], self.layout_read(node, slot));
                    chain.push(Op::Add { operand, factor: sign.factor() });
                }
                self.compute(id, node.output, Work::Elementwise, source, chain)
            }
            Layer::Affine(_) => {
                let chain = vec![
                    Op::MultiplyParameter(Parameter::Scale { layer: id, part: WeightPart::WHOLE }),
                    Op::AddParameter(Parameter::Bias { layer: id, part: BiasPart::WHOLE }),
                ];
                self.compute(id, node.output, Work::Elementwise, source, chain)
            }
            Layer::Activation(activation) => match source.activation {
                None => Operand { activation: Some(*activation), ..source },
                Some(_) => self.compute(id, node.output, Work::Elementwise, source, vec![Op::Activate(*activation)]),
            },
            Layer::Reshape(_) => source,
            Layer::Transpose(transpose) if self.is_turned(node, transpose) => source,
            Layer::Transpose(transpose) => {
                let dims = self.network.shape(node.inputs[0]).dims().to_vec();
                let work = Work::Transpose { dims, order: transpose.order().to_vec() };
                self.compute(id, node.output, work, source, Vec::new())
            }
            Layer::Concat(concat) => {
                let target = self.value_buffer(node.output);
                for strips in self.strips(node, concat.axis()) {
                    let source = self.operand_in(strips.input, self.layout(node.output));
                    let work = Work::Strips {
                        count: strips.count,
                        length: strips.length,
                        source: (strips.length, 0),
                        target: (strips.total, strips.offset),
                    };
                    self.step(id, work, source, Vec::new(), target);
                }
                Operand::whole(target)
            }
            Layer::Lookup(_) => self.compute(id, node.output, Work::Lookup, source, Vec::new()),
        }
    }

    /// Notes the denominator that is what is left of a layer's output without the one that is there.
    fn leave_rest(&mut self, id: LayerId, node: &LayerNode) {
        let Some(Rule::Linear(rule)) = self.rules.rule(id) else { return };
        let Some([raising, lowering]) = self.raising_as_rest(node, rule) else { return };
        if let Some(Denominator::Buffer(without)) = self.part(id, lowering) {
            let of = self.operand(node.output).buffer;
            self.parts[id.index()][raising] = Some(Denominator::Rest { of, without });
        }
    }

    /// Makes the denominator of a rule's only group beside a depthwise convolution's output, where the two products run together: they take less
    /// than reading their source again would.
    fn leave_denominator(&mut self, id: LayerId, node: &LayerNode) {
        let Some(Rule::Linear(rule)) = self.rules.rule(id) else { return };
        let is_asked = self.target.together && !self.ask.forward_only && self.is_needed(node.output);
        let Some((position, group)) = self.only_live(node, rule) else { return };
        let is_left = self.part(id, position).is_some() || !matches!(group.quotient, Quotient::Divided(_));
        let is_small = multiply_adds(self.network, node).0 < BUFFER * self.width(node.output);
        let has_groups = matches!(&node.layer, Layer::Conv(conv) if conv.groups() > 1);
        let is_product = |term: &Term| term.input.vanishes_with_input() && term.weight != WeightPart::WHOLE;
        let takes_product = self.live_terms(node, group, 0).iter().any(is_product);
        if is_asked && !is_left && is_small && has_groups && takes_product {
            let d = self.denominator(id, node, position, group);
            self.parts[id.index()].resize(rule.groups.len(), None);
            self.parts[id.index()][position] = Some(d);
        }
    }

    fn compute(&mut self, id: LayerId, value: ValueId, work: Work, source: Operand, chain: Vec<Op>) -> Operand {
        let target = self.value_buffer(value);
        self.step(id, work, source, chain, target);
        Operand::whole(target)
    }

    fn value_buffer(&mut self, value: ValueId) -> super::BufferId {
        let name = self.network.value(value).name.clone();
        self.buffer(name, Rows::Sample, self.width(value), Role::Scratch)
    }

    /// The logits are read by the start and by the caller, so they are stored as they are, in ONNX order.
    fn store_output(&mut self) {
        let output = self.network.output();
        let read = self.operand_in(output, Layout::Natural);
        let is_scratch = self.buffers[read.buffer.index()].role == Role::Scratch;
        if read.is_whole() && is_scratch {
            self.logits = Some(read.buffer);
            return;
        }
        let target = self.value_buffer(output);
        let layer = self.network.producer(output).expect("a layer makes the output");
        self.step(layer, Work::Elementwise, read, Vec::new(), target);
        if self.layout(output) == Layout::Natural {
            self.values[output.index()] = Some(Operand::whole(target));
        }
        self.logits = Some(target);
    }

    /// Whether a transposed value lies as its source does.
    pub(super) fn is_turned(&self, node: &LayerNode, transpose: &Transpose) -> bool {
        turned(transpose.order(), self.layout(node.inputs[0])).is_some()
    }

    /// The work of a map along an axis, on rows as they lie.
    pub(super) fn along_axis(&self, node: &LayerNode, map: &AxisMap, direction: Direction) -> Work {
        let shape = self.network.shape(node.output);
        let layout = self.layout(node.output);
        let dims = layout.physical(shape);
        let axis = layout.axis(map.axis(), shape.rank());
        let (before, after) = (dims[..axis].iter().product(), dims[axis + 1..].iter().product());
        Work::AlongAxis { direction, before, after }
    }

    /// Where each input of a concat lies in its output.
    pub(super) fn strips(&self, node: &LayerNode, axis: usize) -> Vec<Strips> {
        let layout = self.layout(node.output);
        let length = |value: ValueId| {
            let shape = self.network.shape(value);
            layout.physical(shape)[layout.axis(axis, shape.rank())..].iter().product::<usize>()
        };
        let total = length(node.output);
        let count = self.width(node.output) / total;
        let mut offset = 0;
        let mut strips = Vec::with_capacity(node.inputs.len());
        for &input in &node.inputs {
            strips.push(Strips { input, count, length: length(input), total, offset });
            offset += length(input);
        }
        strips
    }
}

/// Where one input of a concat lies in its output.
pub(super) struct Strips {
    pub(super) input: ValueId,
    pub(super) count: usize,
    pub(super) length: usize,
    pub(super) total: usize,
    pub(super) offset: usize,
}

/// The chain of a layer with weights on its way forward.
fn bias_added(layer: LayerId, has_bias: bool) -> Vec<Op> {
    let bias = Parameter::Bias { layer, part: BiasPart::WHOLE };
    has_bias.then_some(Op::AddParameter(bias)).into_iter().collect()
}
