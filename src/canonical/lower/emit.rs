//! Layers of the draft: each is added with the extents that the model sees, from which its sample's shape follows.

use super::{Act, Extent, Fact, Lowering, Mode};
use crate::canonical::draft::{DraftId, Step, StepOp};
use crate::canonical::extent;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{Node, Op};
use crate::layers::{Affine, Layer, Reshape};
use crate::tensor::{Shape, Tensor};

impl Lowering<'_> {
    /// The shape of one sample of a tensor.
    pub(super) fn sample(&self, dims: &[Extent]) -> Result<Shape> {
        /// Elements of one sample: 1 GiB as float32.
        const MAX_COUNT: usize = 1 << 28;
        /// More axes than any real value has.
        const MAX_RANK: usize = 32;
        if dims.len() > MAX_RANK {
            return Err(Error::new(ErrorKind::Limit, format!("a value has {} axes", dims.len()))
                .help(format!("export the model with at most {MAX_RANK} axes a value")));
        }
        let shape = match self.mode {
            Mode::Batched { .. } => extent::sample_shape(dims),
            Mode::Whole { .. } => {
                dims.iter().map(|dim| usize::try_from(dim.known()?).ok()).collect::<Option<Vec<_>>>().map(Shape::new)
            }
        };
        let shape = shape.ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, format!("in shape {} the batch is not outermost", extent::show(dims)))
                .help("export the model with the batch as the leading axis of every value")
        })?;
        match shape.count() {
            0 => Err(Error::shape(format!("a value of shape {} has no elements", extent::show(dims)))
                .help("give every axis an extent of 1 or more")),
            count if count > MAX_COUNT => Err(Error::new(
                ErrorKind::Limit,
                format!("one sample of shape {shape} has more than {MAX_COUNT} elements"),
            )
            .help("export the model with smaller inputs")),
            _ => Ok(shape),
        }
    }

    /// Adds a layer whose result, as the model sees it, has the extents `dims`.
    ///
    /// Where the layer's own output has the same elements under another shape, a reshape follows.
    pub(super) fn emit(
        &mut self,
        node: &Node,
        part: &str,
        layer: Layer,
        inputs: &[DraftId],
        dims: Vec<Extent>,
    ) -> Result<Fact> {
        let want = self.sample(&dims)?;
        let output = self.add_layer(node, part, layer, inputs)?;
        let id = self.reshaped(node, output, &want)?;
        Ok(Fact::Activation(Act::new(id, dims)))
    }

    /// Adds a layer and gives its value.
    pub(super) fn add_layer(&mut self, node: &Node, part: &str, layer: Layer, inputs: &[DraftId]) -> Result<DraftId> {
        let shapes: Vec<&Shape> = inputs.iter().map(|&input| &self.draft.values[input].shape).collect();
        let shape = layer.output_shape(&shapes)?;
        let output = self.draft.add_value(self.part_name(node, part), shape);
        self.push(node, part, StepOp::Layer(layer), inputs.to_vec(), output);
        Ok(output)
    }

    /// Adds a layer inside a node's translation.
    pub(super) fn emit_act(
        &mut self,
        node: &Node,
        part: &str,
        layer: Layer,
        inputs: &[DraftId],
        dims: Vec<Extent>,
    ) -> Result<Act> {
        match self.emit(node, part, layer, inputs, dims)? {
            Fact::Activation(act) => Ok(act),
            Fact::Float(_) | Fact::Integer(_) | Fact::Index(_) | Fact::Opaque(_) => {
                Err(Error::internal("a layer makes an activation"))
            }
        }
    }

    pub(super) fn affine(&mut self, node: &Node, part: &str, x: &Act, scale: Tensor, offset: Tensor) -> Result<Fact> {
        check_finite(&scale, "factor")?;
        check_finite(&offset, "offset")?;
        self.emit(node, part, Layer::Affine(Affine::new(scale, offset)), &[x.id], x.dims.clone())
    }

    /// `value` under the sample shape `want`, by a reshape where it differs.
    pub(super) fn reshaped(&mut self, node: &Node, value: DraftId, want: &Shape) -> Result<DraftId> {
        let have = &self.draft.values[value].shape;
        if have == want {
            return Ok(value);
        }
        let layer = Layer::Reshape(Reshape::new(want.clone()));
        layer.output_shape(&[have])?;
        let part = if matches!(node.op, Op::Flatten { .. } | Op::Reshape { .. } | Op::Squeeze | Op::Unsqueeze) {
            ""
        } else {
            "reshape"
        };
        let output = self.draft.add_value(self.part_name(node, part), want.clone());
        self.push(node, part, StepOp::Layer(layer), vec![value], output);
        Ok(output)
    }

    pub(super) fn push(&mut self, node: &Node, part: &str, op: StepOp, inputs: Vec<DraftId>, output: DraftId) {
        let name = self.part_name(node, part);
        self.draft.steps.push(Step { name, place: node.place(), op, inputs, output });
    }

    pub(super) fn part_name(&self, node: &Node, part: &str) -> String {
        if part.is_empty() { node.name.clone() } else { format!("{}/{part}", node.name) }
    }
}

/// Refuses parameters that would make every score and every relevance NaN.
pub(super) fn check_finite(tensor: &Tensor, what: &str) -> Result<()> {
    // Whole chunks at a time, which compilers turn into vectors: models have many millions of weights.
    let finite = |chunk: &[f32]| chunk.iter().fold(true, |all, element| all & element.is_finite());
    if tensor.data().chunks(1024).all(finite) {
        return Ok(());
    }
    let Some(position) = tensor.data().iter().position(|element| !element.is_finite()) else { return Ok(()) };
    let index: Vec<usize> = tensor
        .shape()
        .strides()
        .iter()
        .zip(tensor.shape().dims())
        .map(|(stride, dim)| position / stride % dim)
        .collect();
    let message = format!("the node's {what} of shape {} is {} at {index:?}", tensor.shape(), tensor.data()[position]);
    Err(Error::new(ErrorKind::Data, message).help(
        "the model's training diverged, or a constant divides by zero; load an intact checkpoint and export again",
    ))
}
