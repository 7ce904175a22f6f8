//! Quantised models: weights become real numbers, and what is quantised and read back is passed on as it was.
//!
//! Rounding has no derivative and no relevance rule; explained is the model without it, and a note says so.

use std::sync::Arc;

use super::{Act, Extent, Fact, Lowering};
use crate::canonical::extent;
use crate::error::{Error, Result};
use crate::graph::{Node, ValueId};
use crate::layers::{Activation, Layer};
use crate::tensor::Tensor;

/// What an 8-bit integer holds where the model does not say the type.
const UINT8: (i64, i64) = (0, 255);

/// Scale and zero point, in the shape that broadcasts to what is quantised.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Quantization {
    scale: Tensor,
    zero: Tensor<i64>,
    range: (i64, i64),
}

impl Lowering<'_> {
    /// Scale and zero point of a node for a value of `rank` axes.
    fn quantization(&self, node: &Node, axis: i64, rank: usize) -> Result<Quantization> {
        let Fact::Float(scale) = self.input(node, 1)? else {
            return Err(self.unsupported(node, "needs a constant scale"));
        };
        let zero = match self.optional(node, 2)? {
            None => None,
            Some(Fact::Integer(zero)) => Some(zero),
            Some(_) => return Err(self.unsupported(node, "needs a constant zero point of at most 32 bits")),
        };
        let range = node.inputs.get(2).copied().flatten().and_then(|value| self.graph.value(value).range);
        let shape = match scale.count() {
            1 => Vec::new(),
            count => {
                let axis = extent::position(axis, rank).ok_or_else(|| self.unsupported(node, "along this axis"))?;
                let mut shape = vec![1; rank];
                shape[axis] = count;
                shape
            }
        };
        let zero = match zero {
            None => vec![0; scale.count()],
            Some(zero) if zero.count() == scale.count() => {
                let known = zero.data().iter().map(|zero| zero.known()).collect::<Option<Vec<_>>>();
                known.ok_or_else(|| self.unsupported(node, "with a zero point that depends on the batch size"))?
            }
            Some(_) => return Err(self.unsupported(node, "needs as many zero points as scales")),
        };
        Ok(Quantization {
            scale: Tensor::clone(&scale).reshape(shape.clone())?,
            zero: Tensor::new(shape, zero)?,
            range: range.unwrap_or(UINT8),
        })
    }

    /// Integers as real numbers.
    pub(super) fn dequantized_constant(&self, node: &Node, x: &Tensor<Extent>, axis: i64) -> Result<Fact> {
        let by = self.quantization(node, axis, x.shape().rank())?;
        let known = x.data().iter().map(|x| x.known()).collect::<Option<Vec<_>>>();
        let known = known.ok_or_else(|| self.unsupported(node, "of integers that depend on the batch size"))?;
        let steps = super::constants::zip(&Tensor::new(x.shape().clone(), known)?, &by.zero, |x, zero| {
            x.saturating_sub(zero) as f32
        })?;
        Ok(Fact::Float(Arc::new(super::constants::zip(&steps, &by.scale, |x, scale| x * scale)?)))
    }

    /// Real numbers as integers, halves to even.
    pub(super) fn quantized_constant(&self, node: &Node, x: &Tensor, axis: i64) -> Result<Fact> {
        let by = self.quantization(node, axis, x.shape().rank())?;
        let steps = super::constants::zip(x, &by.scale, |x, scale| (x / scale).round_ties_even() as i64)?;
        let (least, most) = by.range;
        let whole = super::constants::zip(&steps, &by.zero, |x, zero| x.saturating_add(zero).clamp(least, most))?;
        Ok(Fact::Integer(Arc::new(whole.map(|&x| Extent::fixed(x)))))
    }

    /// An activation that is quantised: as it was, but never below zero where the integers do not go below.
    ///
    /// Quantisers drop a rectifier in front of integers whose least one means 0, so it is put back.
    pub(super) fn quantize(&mut self, node: &Node, axis: i64) -> Result<Fact> {
        let x = self.activation(node, 0)?;
        let by = self.quantization(node, axis, x.dims.len())?;
        let rectifies = by.zero.data().iter().all(|&zero| zero == by.range.0);
        let rectified = matches!(self.draft.layer_before(x.id), Some((_, Layer::Activation(Activation::Relu))));
        if let Some(output) = node.outputs.first().copied().flatten() {
            self.quantized.insert(output, by);
        }
        let note = "the rounding of quantised activations is left out: explained is the model in real numbers";
        if !self.draft.notes.iter().any(|known| known == note) {
            self.draft.notes.push(note.to_owned());
        }
        if rectifies && !rectified {
            return self.emit(node, "", Layer::Activation(Activation::Relu), &[x.id], x.dims);
        }
        Ok(Fact::Activation(x))
    }

    /// A quantised activation read back.
    pub(super) fn dequantize(&self, node: &Node, axis: i64) -> Result<Fact> {
        let x: Act = self.activation(node, 0)?;
        let by = self.quantization(node, axis, x.dims.len())?;
        let source: Option<ValueId> = node.inputs.first().copied().flatten();
        let before = source.and_then(|value| self.quantized.get(&value));
        match before {
            Some(before) if before.scale == by.scale && before.zero == by.zero => Ok(Fact::Activation(x)),
            Some(_) => Err(Error::argument(
                "the node reads back with another scale or zero point than its input was quantised with",
            )
            .help("quantise the model again, or explain it before quantisation")),
            None => Err(self.unsupported(node, "of what no QuantizeLinear directly in front of it made")),
        }
    }
}
