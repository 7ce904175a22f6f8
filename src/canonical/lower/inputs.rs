//! The network's inputs: which axis is the batch, and what symbolic extents are.

use super::{Act, Extent, Fact, Lowering, Mode};
use crate::canonical::Options;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{Dim, ElementType, Graph, Node, Op, Value, ValueId};
use crate::network::InputKind;

/// The batch as the inputs declare it.
pub(in crate::canonical) struct Batch {
    /// Its extent, if it is a number in the file.
    pub literal: Option<usize>,
}

/// The inputs that `nodes` or the output read, in the model's order.
pub(in crate::canonical) fn needed_inputs(graph: &Graph, nodes: &[Node], output: ValueId) -> Vec<ValueId> {
    let mut read = vec![false; graph.values.len()];
    read[output.index()] = true;
    nodes.iter().flat_map(|node| node.inputs.iter().flatten()).for_each(|input| read[input.index()] = true);
    graph.inputs.iter().copied().filter(|input| read[input.index()]).collect()
}

/// Axis 0 of the inputs as the batch; none if no input has such an axis.
pub(in crate::canonical) fn batch_of(graph: &Graph, inputs: &[ValueId]) -> Option<Batch> {
    let mut literal = None;
    for &input in inputs {
        match graph.value(input).dims.as_deref() {
            Some([Dim::Named(_) | Dim::Unknown, ..]) | None => return Some(Batch { literal: None }),
            Some([Dim::Fixed(extent), _, ..]) => literal = literal.or(Some(*extent)),
            Some([Dim::Fixed(_)] | []) => {}
        }
    }
    literal.map(|extent| Batch { literal: Some(extent) })
}

impl Lowering<'_> {
    pub(super) fn add_inputs(&mut self, nodes: &[Node], output: ValueId, options: &Options) -> Result<()> {
        for input in needed_inputs(self.graph, nodes, output) {
            let value = self.graph.value(input);
            // What reads such an input is named, which says more than the input itself.
            if matches!(value.element, ElementType::Bool | ElementType::Text | ElementType::Unknown) {
                let what = format!("input `{}` of neither real numbers nor integers", value.name);
                self.facts[input.index()] = Some(Fact::Opaque(what));
                continue;
            }
            let dims = self.input_dims(value, options)?;
            let shape = self.sample(&dims).map_err(|error| error.context(format!("input `{}`", value.name)))?;
            let id = self.draft.add_value(&value.name, shape);
            let act = Act::new(id, dims);
            let (kind, fact) = match value.element {
                ElementType::Float => (InputKind::Float, Fact::Activation(act)),
                ElementType::Integer if only_cast_to_float(nodes, input) => {
                    self.draft.notes.push(format!(
                        "the integer input `{}` is only read as real numbers and is explained as such",
                        value.name
                    ));
                    (InputKind::Float, Fact::Activation(act))
                }
                ElementType::Integer => (InputKind::Integer, Fact::Index(act)),
                ElementType::Bool | ElementType::Text | ElementType::Unknown => continue,
            };
            self.draft.inputs.push((id, kind));
            self.facts[input.index()] = Some(fact);
        }
        Ok(())
    }

    fn input_dims(&self, value: &Value, options: &Options) -> Result<Vec<Extent>> {
        let dims = value.dims.as_deref().ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, format!("the input `{}` has no declared shape", value.name))
                .help("run onnx.shape_inference on the model, or export it with shapes")
        })?;
        let mut unknown = Vec::new();
        let mut extents = Vec::with_capacity(dims.len());
        for (axis, dim) in dims.iter().enumerate() {
            let by_place = format!("{}:{axis}", value.name);
            let given = options
                .dims
                .iter()
                .find(|(name, _)| *name == by_place || matches!(dim, Dim::Named(symbol) if symbol == name));
            let extent = match (dim, given, self.mode) {
                (Dim::Fixed(extent), _, Mode::Batched { literal }) if axis == 0 && literal == Some(*extent) => {
                    Some(Extent::BATCH)
                }
                (Dim::Fixed(extent), _, _) => i64::try_from(*extent).ok().map(Extent::fixed),
                (_, _, Mode::Batched { .. }) if axis == 0 => Some(Extent::BATCH),
                (_, _, Mode::Whole { batch }) if axis == 0 => i64::try_from(batch).ok().map(Extent::fixed),
                (_, Some((_, extent)), _) => i64::try_from(*extent).ok().map(Extent::fixed),
                (Dim::Named(name), None, _) => {
                    unknown.push(name.clone());
                    None
                }
                (Dim::Unknown, None, _) => {
                    unknown.push(by_place);
                    None
                }
            };
            extents.extend(extent);
        }
        if extents.len() < dims.len() {
            let shape: Vec<String> = dims.iter().map(Dim::to_string).collect();
            return Err(Error::new(
                ErrorKind::Argument,
                format!("the input `{}` of shape [{}] has axes of open extent", value.name, shape.join(", ")),
            )
            .help(format!("give an extent for: {}", unknown.join(", "))));
        }
        Ok(extents)
    }
}

fn only_cast_to_float(nodes: &[Node], input: ValueId) -> bool {
    let mut readers = nodes.iter().filter(|node| node.inputs.contains(&Some(input))).peekable();
    readers.peek().is_some()
        && readers.all(|node| matches!(node.op, Op::Cast(ElementType::Float) | Op::Shape { .. } | Op::Scaler { .. }))
}
