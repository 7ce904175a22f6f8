//! Pass 5: elementwise factors and offsets are merged into the dense layer before them.
//!
//! A bias that the model adds by itself, or a batch norm after a dense layer, is part of that layer's
//! z = W x + b: rules need the whole bias in the denominator, and a layer of its own would pass relevance past it.
//! What stands in front of the first linear layer (mean and standard deviation at the door) is not merged into it:
//! its relevance then belongs to the normalised input, as in the tools of the field. Nothing is merged over a value
//! that has a second reader, and two layers that mix inputs are never merged: that would change the relevance.

use std::sync::Arc;

use super::draft::{Draft, StepOp};
use super::lower::constants;
use crate::error::{Error, Result};
use crate::layers::{Affine, Dense, Layer};
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

/// Merges step `index` into an earlier one, if it is an affine layer for which that is exact.
fn merge(draft: &mut Draft, index: usize, counts: &[usize]) -> Result<bool> {
    let StepOp::Layer(Layer::Affine(affine)) = &draft.steps[index].op else { return Ok(false) };
    let affine = affine.clone();
    let mut value = draft.steps[index].inputs[0];
    let shape = draft.values[value].shape.clone();
    while counts[value] == 1 {
        let Some((maker, layer)) = draft.layer_before(value) else { return Ok(false) };
        let merged = match layer {
            Layer::Reshape(_) => {
                value = draft.steps[maker].inputs[0];
                continue;
            }
            Layer::Affine(first) if value == draft.steps[index].inputs[0] => Layer::Affine(chain(first, &affine)?),
            Layer::Dense(dense) => {
                let rows = draft.values[value].shape.clone();
                let Some(merged) = into_dense(dense, &affine, &shape, &rows)? else { return Ok(false) };
                Layer::Dense(merged)
            }
            _ => return Ok(false),
        };
        draft.steps[maker].op = StepOp::Layer(merged);
        return Ok(true);
    }
    Ok(false)
}

/// s₂ ⊙ (s₁ ⊙ x + o₁) + o₂ as one layer.
fn chain(first: &Affine, second: &Affine) -> Result<Affine> {
    let scale = constants::zip(first.scale(), second.scale(), |a, b| a * b)?;
    let offset = constants::zip(first.offset(), second.scale(), |a, b| a * b)?;
    Ok(Affine::new(scale, constants::zip(&offset, second.offset(), |a, b| a + b)?))
}

/// s ⊙ (W x + b) + o as one layer, if s and o are the same for each row of the dense layer's output.
fn into_dense(dense: &Dense, affine: &Affine, shape: &Shape, rows: &Shape) -> Result<Option<Dense>> {
    let outputs = dense.outputs();
    let scale = per_output(affine.scale(), shape, rows, outputs)?;
    let offset = per_output(affine.offset(), shape, rows, outputs)?;
    let (Some(scale), Some(offset)) = (scale, offset) else { return Ok(None) };
    let bias = match dense.bias() {
        Some(bias) => bias.data().iter().zip(&scale).zip(&offset).map(|((b, s), o)| b * s + o).collect(),
        None => offset,
    };
    let weight = if scale.iter().all(|&s| s == 1.0) {
        Arc::clone(dense.weight())
    } else {
        let inputs = dense.inputs();
        let mut weight = Tensor::clone(dense.weight());
        for (row, s) in weight.data_mut().chunks_exact_mut(inputs).zip(&scale) {
            row.iter_mut().for_each(|w| *w *= s);
        }
        Arc::new(weight)
    };
    Dense::new(weight, Some(Arc::new(Tensor::vector(bias)))).map(Some)
}

/// A factor or offset of a sample of `shape` as one number a dense output, if all `rows` agree.
fn per_output(tensor: &Tensor, shape: &Shape, rows: &Shape, outputs: usize) -> Result<Option<Vec<f32>>> {
    if let [only] = tensor.data() {
        return Ok(Some(vec![*only; outputs]));
    }
    if shape.count() != rows.count() {
        return Err(Error::internal(format!("a reshape from {rows} to {shape} changes the count")));
    }
    let full = tensor.broadcast_to(shape)?.into_data();
    let (first, rest) = full.split_at(outputs);
    let agree = rest.chunks_exact(outputs).all(|row| row == first);
    Ok(agree.then(|| first.to_vec()))
}
