//! Normalisations by a mean, deviation or norm of the input itself: their part of the table of operators.

use super::attributes::Attributes;
use super::operators::unsupported;
use crate::error::Result;
use crate::graph::{Normalization, Op};

/// Reads a normalisation of ONNX's own domain; none if it is another operator.
pub(super) fn read(op_type: &str, opset: i64, attributes: &Attributes) -> Result<Option<Op>> {
    let epsilon = || attributes.float("epsilon", 1e-5);
    Ok(Some(Op::Normalization(match op_type {
        "InstanceNormalization" => Normalization::Instance { epsilon: epsilon()? },
        "LayerNormalization" | "RMSNormalization" => Normalization::Layer {
            axis: attributes.int("axis", -1)?,
            epsilon: epsilon()?,
            centred: op_type == "LayerNormalization",
        },
        // Opset 18 scales each group, 21 each channel.
        "GroupNormalization" => {
            Normalization::Group { groups: attributes.int("num_groups", 0)?, epsilon: epsilon()?, by_group: opset < 21 }
        }
        "LRN" => Normalization::LocalResponse {
            size: attributes.int("size", 0)?,
            alpha: attributes.float("alpha", 1e-4)?,
            beta: attributes.float("beta", 0.75)?,
            bias: attributes.float("bias", 1.0)?,
        },
        "LpNormalization" => {
            let p = attributes.int("p", 2)?;
            if !matches!(p, 1 | 2) {
                return Ok(Some(unsupported(format!("its attribute p is {p}, neither 1 nor 2"))));
            }
            Normalization::Norm { axis: attributes.int("axis", -1)?, p }
        }
        _ => return Ok(None),
    })))
}
