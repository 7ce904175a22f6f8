//! Pass 6: elementwise factors and offsets are merged into the dense layer or convolution before them.
//!
//! A bias that the model adds by itself, or a batch norm after a linear layer, is part of that layer's
//! z = W x + b: rules need the whole bias in the denominator, and a layer of its own would pass relevance past it.
//! The field's tools do the same (zennit's canonizers: W·s and (b − μ)·s + β).
//! What stands in front of the first linear layer (mean and standard deviation at the door) is not merged into it:
//! its relevance then belongs to the normalised input, as in those tools. Nothing is merged over a value
//! that has a second reader, and two layers that mix inputs are never merged: that would change the relevance.
//!
//! Reshapes and transposes in between only change where a factor stands. A max pool lets a positive factor through,
//! with any offset, where both are the same for its whole window: max(s x + o) = s max(x) + o. A concat gives each of its
//! parts what belongs to it, where all of them can take it.

use std::ops::Range;
use std::sync::Arc;

use super::draft::{Draft, DraftId, StepOp};
use super::lower::constants;
use crate::error::Result;
use crate::layers::{Affine, Conv, ConvWay, Dense, Layer};
use crate::tensor::{Shape, Tensor};

/// Merges every affine layer that can be merged.
pub(super) fn fold(draft: &mut Draft) -> Result<()> {
    let mut counts = draft.reader_counts();
    let mut index = 0;
    while index < draft.steps.len() {
        if merge(draft, index, &counts).map_err(|error| error.at(draft.steps[index].place.clone()))? {
            let step = draft.steps.remove(index);
            let (kept, gone) = (step.inputs[0], step.output);
            draft
                .steps
                .iter_mut()
                .flat_map(|step| &mut step.inputs)
                .filter(|id| **id == gone)
                .for_each(|id| *id = kept);
            if draft.output == gone {
                draft.output = kept;
            }
            draft.values[kept].name = draft.values[gone].name.clone();
            counts[kept] = counts[gone];
        } else {
            index += 1;
        }
    }
    Ok(())
}

/// Merges step `index` into earlier ones, if it is an affine layer for which that is exact.
fn merge(draft: &mut Draft, index: usize, counts: &[usize]) -> Result<bool> {
    let StepOp::Layer(Layer::Affine(affine)) = &draft.steps[index].op else { return Ok(false) };
    let value = draft.steps[index].inputs[0];
    let merged = match draft.layer_before(value) {
        Some((maker, Layer::Affine(first))) if counts[value] == 1 => {
            Some(vec![(maker, Layer::Affine(chain(first, affine)?))])
        }
        _ => merged(draft, counts, value, Moved::new(affine, &draft.values[value].shape)?)?,
    };
    let Some(merged) = merged else { return Ok(false) };
    for (maker, layer) in merged {
        draft.steps[maker].op = StepOp::Layer(layer);
    }
    Ok(true)
}

/// The layers that make a value together with a factor and an offset, each with its step; none where that is not exact.
fn merged(draft: &Draft, counts: &[usize], value: DraftId, moved: Moved) -> Result<Option<Vec<(usize, Layer)>>> {
    let mut layers = Vec::new();
    let mut pending = vec![(value, moved)];
    while let Some((value, moved)) = pending.pop() {
        if counts[value] != 1 {
            return Ok(None);
        }
        let Some((maker, layer)) = draft.layer_before(value) else { return Ok(None) };
        let inputs = &draft.steps[maker].inputs;
        let before = &draft.values[inputs[0]].shape;
        let shape = &draft.values[value].shape;
        match layer {
            Layer::Reshape(_) => pending.push((inputs[0], moved.before_reshape(shape, before)?)),
            Layer::Transpose(transpose) => pending.push((inputs[0], moved.before_transpose(transpose.order()))),
            Layer::MaxPool(_) => {
                let Some(passed) = moved.before_max_pool(shape, before)? else { return Ok(None) };
                pending.push((inputs[0], passed));
            }
            Layer::Concat(concat) => {
                let mut first = 0;
                for &input in inputs {
                    let end = first + draft.values[input].shape.dims()[concat.axis()];
                    pending.push((input, moved.of_range(concat.axis(), first..end)?));
                    first = end;
                }
            }
            Layer::Dense(dense) => {
                let Some((scale, offset)) = moved.of_axis(shape, shape.rank() - 1)? else { return Ok(None) };
                layers.push((maker, Layer::Dense(into_dense(dense, &scale, &offset)?)));
            }
            Layer::Conv(conv) => {
                let Some((scale, offset)) = moved.of_axis(shape, 0)? else { return Ok(None) };
                layers.push((maker, Layer::Conv(into_conv(conv, &scale, &offset)?)));
            }
            Layer::AveragePool(_)
            | Layer::Sum(_)
            | Layer::Affine(_)
            | Layer::Activation(_)
            | Layer::AxisMap(_)
            | Layer::Multiply(_)
            | Layer::Lookup(_) => return Ok(None),
        }
    }
    Ok(Some(layers))
}

/// s₂ ⊙ (s₁ ⊙ x + o₁) + o₂ as one layer.
fn chain(first: &Affine, second: &Affine) -> Result<Affine> {
    let scale = constants::zip(first.scale(), second.scale(), |a, b| a * b)?;
    let offset = constants::zip(first.offset(), second.scale(), |a, b| a * b)?;
    Ok(Affine::new(scale, constants::zip(&offset, second.offset(), |a, b| a + b)?))
}

/// A factor and an offset on their way to the layer that takes them; each with as many axes as the value, or none.
pub(super) struct Moved {
    scale: Tensor,
    offset: Tensor,
}

impl Moved {
    pub(super) fn new(affine: &Affine, shape: &Shape) -> Result<Self> {
        let aligned = |tensor: &Tensor| match tensor.data() {
            [only] => Ok(Tensor::scalar(*only)),
            _ => {
                let lead = vec![1; shape.rank() - tensor.shape().rank()];
                tensor.clone().reshape([&lead[..], tensor.shape().dims()].concat())
            }
        };
        Ok(Moved { scale: aligned(affine.scale())?, offset: aligned(affine.offset())? })
    }

    fn each(self, f: impl Fn(Tensor) -> Result<Tensor>) -> Result<Self> {
        let changed = |tensor: Tensor| if tensor.shape().rank() == 0 { Ok(tensor) } else { f(tensor) };
        Ok(Moved { scale: changed(self.scale)?, offset: changed(self.offset)? })
    }

    fn before_reshape(self, after: &Shape, before: &Shape) -> Result<Self> {
        self.each(|tensor| tensor.broadcast_to(after)?.reshape(before.clone()))
    }

    fn before_transpose(self, order: &[usize]) -> Self {
        let mut inverse = vec![0; order.len()];
        for (axis, &from) in order.iter().enumerate() {
            inverse[from] = axis;
        }
        let turned = |tensor: Tensor| if tensor.shape().rank() == 0 { tensor } else { tensor.transpose(&inverse) };
        Moved { scale: turned(self.scale), offset: turned(self.offset) }
    }

    /// In front of a max pool from `before` to `after`; none where the pool does not let them through.
    fn before_max_pool(self, after: &Shape, before: &Shape) -> Result<Option<Self>> {
        let Some((scale, offset)) = self.of_axis(after, 0)? else { return Ok(None) };
        if scale.iter().any(|&s| s <= 0.0) {
            return Ok(None);
        }
        let mut shape = vec![1; before.rank()];
        shape[0] = scale.len();
        Ok(Some(Moved { scale: Tensor::new(shape.clone(), scale)?, offset: Tensor::new(shape, offset)? }))
    }

    /// Of positions `range` along an axis of the value.
    fn of_range(&self, axis: usize, range: Range<usize>) -> Result<Self> {
        let cut = |tensor: &Tensor| match tensor.shape().dims().get(axis) {
            None | Some(1) => Ok(tensor.clone()),
            Some(&extent) => {
                let mut dims = tensor.shape().dims().to_vec();
                let inner: usize = dims[axis + 1..].iter().product();
                dims[axis] = range.len();
                let runs = tensor.data().chunks_exact(extent * inner);
                let kept = runs.flat_map(|run| &run[range.start * inner..range.end * inner]).copied().collect();
                Tensor::new(dims, kept)
            }
        };
        Ok(Moved { scale: cut(&self.scale)?, offset: cut(&self.offset)? })
    }

    /// Factor and offset as one number for each position along `axis`, if all that share a position agree.
    pub(super) fn of_axis(&self, shape: &Shape, axis: usize) -> Result<Option<(Vec<f32>, Vec<f32>)>> {
        let (scale, offset) = (of_axis(&self.scale, shape, axis)?, of_axis(&self.offset, shape, axis)?);
        Ok(scale.zip(offset))
    }
}

fn of_axis(tensor: &Tensor, shape: &Shape, axis: usize) -> Result<Option<Vec<f32>>> {
    let extent = shape.dims()[axis];
    if let [only] = tensor.data() {
        return Ok(Some(vec![*only; extent]));
    }
    if tensor.count() == extent && tensor.shape().dims()[axis] == extent {
        return Ok(Some(tensor.data().to_vec()));
    }
    let full = tensor.broadcast_to(shape)?;
    let inner: usize = shape.dims()[axis + 1..].iter().product();
    let first: Vec<f32> = full.data().iter().step_by(inner).take(extent).copied().collect();
    let agree = |(index, run): (usize, &[f32])| run.iter().all(|element| *element == first[index % extent]);
    Ok(full.data().chunks_exact(inner).enumerate().all(agree).then_some(first))
}

/// s ⊙ (W x + b) + o as one layer.
fn into_dense(dense: &Dense, scale: &[f32], offset: &[f32]) -> Result<Dense> {
    let inputs = dense.inputs();
    Dense::new(scaled(dense.weight(), inputs, scale), bias(dense.bias(), scale, offset))
}

fn into_conv(conv: &Conv, scale: &[f32], offset: &[f32]) -> Result<Conv> {
    let weight = conv.weight();
    let dims = weight.shape().dims();
    let kernel: usize = dims[2..].iter().product();
    let weight = match conv.way() {
        ConvWay::Plain => scaled(weight, dims[1] * kernel, scale),
        ConvWay::Transposed { .. } => {
            // The weight has the outputs of a group behind each input of the group.
            let (inputs, outputs) = (dims[0] / conv.groups(), dims[1]);
            let of_row = |row: usize| scale[row / outputs / inputs * outputs + row % outputs];
            scaled(weight, kernel, &(0..dims[0] * outputs).map(of_row).collect::<Vec<_>>())
        }
    };
    conv.with_parameters(weight, bias(conv.bias(), scale, offset))
}

/// A weight with each run of `width` elements times its factor.
fn scaled(weight: &Arc<Tensor>, width: usize, factors: &[f32]) -> Arc<Tensor> {
    if factors.iter().all(|&s| s == 1.0) {
        return Arc::clone(weight);
    }
    let mut weight = Tensor::clone(weight);
    for (run, s) in weight.data_mut().chunks_exact_mut(width).zip(factors) {
        run.iter_mut().for_each(|w| *w *= s);
    }
    Arc::new(weight)
}

/// s b + o; none if that is nothing.
fn bias(bias: Option<&Arc<Tensor>>, scale: &[f32], offset: &[f32]) -> Option<Arc<Tensor>> {
    let merged: Vec<f32> = match bias {
        Some(bias) => bias.data().iter().zip(scale).zip(offset).map(|((b, s), o)| b * s + o).collect(),
        None if offset.iter().all(|&o| o == 0.0) => return None,
        None => offset.to_vec(),
    };
    Some(Arc::new(Tensor::vector(merged)))
}
