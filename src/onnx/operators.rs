//! Operators of all opsets in one form: the table from ONNX's names and attributes to [`Op`].

use std::sync::Arc;

use super::activations;
use super::attributes::Attributes;
use super::normalizations;
use super::spatial;
use super::tensors::{self, DataType, Source};
use crate::error::Result;
use crate::graph::{Arithmetic, Comparison, Constant, Elementary, Op};
use crate::layers::{Activation, GeluForm};
use crate::tensor::Tensor;

/// What a node is for the graph.
pub(super) enum Meaning {
    /// An operator.
    Op(Op),
    /// An operator with attributes that newer opsets have as further inputs, in input order.
    OpWithInputs(Op, Vec<Option<Vec<i64>>>),
    /// A constant.
    Constant(Constant),
}

/// Reads the operator `op_type` of `domain` at version `opset`.
///
/// # Errors
/// [`ErrorKind::Malformed`](crate::ErrorKind::Malformed) if an attribute is of another type than ONNX says, or damaged.
pub(super) fn read(
    domain: &str,
    op_type: &str,
    opset: i64,
    attributes: &mut Attributes,
    source: &mut Source<'_>,
) -> Result<Meaning> {
    Ok(match (domain, op_type) {
        ("" | "ai.onnx", "Constant") => match constant(attributes, source)? {
            Some(constant) => Meaning::Constant(constant),
            None => Meaning::Op(unsupported("the constant is sparse or of strings")),
        },
        ("" | "ai.onnx", "ConstantOfShape") => {
            Meaning::Op(Op::ConstantOfShape(match attributes.take_tensor("value")? {
                Some(tensor) => tensors::read(tensor, source)?,
                None => Constant::Float(Arc::new(Tensor::vector(vec![0.0]))),
            }))
        }
        ("" | "ai.onnx", "Squeeze") if opset < 13 => Meaning::OpWithInputs(Op::Squeeze, vec![attributes.ints("axes")?]),
        ("" | "ai.onnx", "Unsqueeze") if opset < 13 => {
            Meaning::OpWithInputs(Op::Unsqueeze, vec![attributes.ints("axes")?])
        }
        ("" | "ai.onnx", "Slice") if opset < 10 => Meaning::OpWithInputs(
            Op::Slice,
            vec![attributes.ints("starts")?, attributes.ints("ends")?, attributes.ints("axes")?],
        ),
        ("" | "ai.onnx", "ReduceProd") if opset < 18 => {
            let keep_axes = attributes.int("keepdims", 1)? != 0;
            Meaning::OpWithInputs(Op::ReduceProd { keep_axes }, vec![attributes.ints("axes")?])
        }
        ("" | "ai.onnx", _) => {
            let elementwise = match activations::read(op_type, opset, attributes)? {
                Some(op) => Some(op),
                None => normalizations::read(op_type, opset, attributes)?,
            };
            match (elementwise, spatial::read(op_type, opset, attributes)?) {
                (Some(op), _) => Meaning::Op(op),
                (None, Some(meaning)) => meaning,
                (None, None) => Meaning::Op(standard(op_type, opset, attributes)?),
            }
        }
        ("ai.onnx.ml", "Scaler") => Meaning::Op(Op::Scaler {
            offset: Arc::new(Tensor::vector(attributes.floats("offset")?.unwrap_or_else(|| vec![0.0]))),
            scale: Arc::new(Tensor::vector(attributes.floats("scale")?.unwrap_or_else(|| vec![1.0]))),
        }),
        ("ai.onnx.ml", "ZipMap") => Meaning::Op(Op::ZipMap),
        ("com.microsoft", "Gelu") => Meaning::Op(Op::Activation(Activation::Gelu(GeluForm::Erf))),
        _ => Meaning::Op(unsupported("")),
    })
}

fn standard(op_type: &str, opset: i64, attributes: &Attributes) -> Result<Op> {
    Ok(match op_type {
        "Gemm" => Op::Gemm {
            alpha: attributes.float("alpha", 1.0)?,
            beta: attributes.float("beta", 1.0)?,
            trans_a: attributes.int("transA", 0)? != 0,
            trans_b: attributes.int("transB", 0)? != 0,
        },
        "MatMul" => Op::MatMul,
        "Add" => Op::Arithmetic(Arithmetic::Add),
        "Sub" => Op::Arithmetic(Arithmetic::Sub),
        "Mul" => Op::Arithmetic(Arithmetic::Mul),
        "Div" => Op::Arithmetic(Arithmetic::Div),
        "Pow" => Op::Pow,
        "Abs" => Op::Elementary(Elementary::Abs),
        "Exp" => Op::Elementary(Elementary::Exp),
        "Log" => Op::Elementary(Elementary::Log),
        "Sqrt" => Op::Elementary(Elementary::Sqrt),
        "Reciprocal" => Op::Elementary(Elementary::Reciprocal),
        "Equal" => Op::Compare(Comparison::Equal),
        "Greater" => Op::Compare(Comparison::Greater),
        "Less" => Op::Compare(Comparison::Less),
        "Where" => Op::Where,
        "Sum" => Op::Sum,
        "Neg" => Op::Neg,
        "Softmax" | "LogSoftmax" => Op::Softmax {
            axis: attributes.int("axis", if opset < 13 { 1 } else { -1 })?,
            to_end: opset < 13,
            log: op_type == "LogSoftmax",
        },
        "BatchNormalization" if attributes.int("training_mode", 0)? != 0 => unsupported("it is in training mode"),
        "BatchNormalization" if attributes.int("spatial", 1)? == 0 => unsupported("it is not spatial"),
        "BatchNormalization" => Op::BatchNormalization { epsilon: attributes.float("epsilon", 1e-5)? },
        "Identity" | "Dropout" => Op::Identity,
        "Cast" => Op::Cast(DataType::from_code(attributes.int("to", 0)? as i32).element()),
        "Flatten" => Op::Flatten { axis: attributes.int("axis", 1)? },
        "Reshape" => Op::Reshape { zero_copies: attributes.int("allowzero", 0)? == 0 },
        "Squeeze" => Op::Squeeze,
        "Unsqueeze" => Op::Unsqueeze,
        "Transpose" => Op::Transpose { order: attributes.ints("perm")? },
        "Concat" if attributes.has("axis") => Op::Concat { axis: attributes.int("axis", 0)? },
        "Gather" => Op::Gather { axis: attributes.int("axis", 0)? },
        "Slice" => Op::Slice,
        "Expand" => Op::Expand,
        "Shape" => Op::Shape { start: attributes.int("start", 0)?, end: attributes.optional_int("end")? },
        "Size" => Op::Size,
        "Range" => Op::Range,
        "ReduceProd" => Op::ReduceProd { keep_axes: attributes.int("keepdims", 1)? != 0 },
        _ => unsupported(""),
    })
}

fn constant(attributes: &mut Attributes, source: &mut Source<'_>) -> Result<Option<Constant>> {
    if let Some(tensor) = attributes.take_tensor("value")? {
        return tensors::read(tensor, source).map(Some);
    }
    let float = |tensor| Some(Constant::Float(Arc::new(tensor)));
    let integer = |tensor| Some(Constant::Integer(Arc::new(tensor)));
    Ok(if attributes.has("value_float") {
        float(Tensor::scalar(attributes.float("value_float", 0.0)?))
    } else if let Some(floats) = attributes.floats("value_floats")? {
        float(Tensor::vector(floats))
    } else if attributes.has("value_int") {
        integer(Tensor::scalar(attributes.int("value_int", 0)?))
    } else if let Some(ints) = attributes.ints("value_ints")? {
        integer(Tensor::vector(ints))
    } else {
        None
    })
}

pub(super) fn unsupported(reason: impl Into<String>) -> Op {
    Op::Unsupported { reason: reason.into() }
}
