//! Operators that images, sequences and volumes need: the part of the table that slides, cuts, pads and resizes; and
//! what is refused there with a reason.

use super::attributes::Attributes;
use super::operators::{Meaning, unsupported};
use crate::error::Result;
use crate::graph::{
    Coordinates, Interpolation, Op, PadMode, Padding, Policy, Reduction, Resize, Rounding, Scales, Sliding,
};

/// Reads an operator of ONNX's own domain; none if it is not of this part.
pub(super) fn read(op_type: &str, opset: i64, attributes: &Attributes) -> Result<Option<Meaning>> {
    let op = match op_type {
        "Conv" => Op::Conv { sliding: sliding(attributes)?, groups: attributes.int("group", 1)? },
        "ConvTranspose" => Op::ConvTranspose {
            sliding: sliding(attributes)?,
            groups: attributes.int("group", 1)?,
            output_padding: attributes.ints("output_padding")?,
            output_shape: attributes.ints("output_shape")?,
        },
        "MaxPool" => Op::MaxPool(sliding(attributes)?),
        "AveragePool" => {
            let counts_padding = attributes.int("count_include_pad", 0)? != 0;
            Op::AveragePool { sliding: sliding(attributes)?, counts_padding }
        }
        "GlobalAveragePool" => Op::GlobalPool(Reduction::Mean),
        "GlobalMaxPool" => Op::GlobalPool(Reduction::Max),
        "LpPool" => Op::LpPool { sliding: sliding(attributes)?, p: attributes.int("p", 2)? },
        "GlobalLpPool" => Op::GlobalPool(Reduction::Norm { p: attributes.int("p", 2)? }),
        "ReduceMean" => return reduce(Reduction::Mean, opset < 18, attributes).map(Some),
        "ReduceMax" => return reduce(Reduction::Max, opset < 18, attributes).map(Some),
        "ReduceSum" => return reduce(Reduction::Sum, opset < 13, attributes).map(Some),
        "ReduceL1" => return reduce(Reduction::Norm { p: 1 }, opset < 18, attributes).map(Some),
        "ReduceL2" => return reduce(Reduction::Norm { p: 2 }, opset < 18, attributes).map(Some),
        "Split" => {
            let op = Op::Split { axis: attributes.int("axis", 0)?, parts: attributes.optional_int("num_outputs")? };
            let lengths = if opset < 13 { vec![attributes.ints("split")?] } else { Vec::new() };
            return Ok(Some(Meaning::OpWithInputs(op, lengths)));
        }
        "Pad" => return pad(opset, attributes).map(Some),
        "Tile" => Op::Tile,
        "Resize" | "Upsample" => resize(op_type, opset, attributes)?,
        "DepthToSpace" | "SpaceToDepth" => {
            let mode = attributes.text("mode")?;
            let block = attributes.int("blocksize", 0)?;
            let channel_first = mode.as_deref() == Some("CRD");
            match mode.as_deref() {
                None | Some("DCR" | "CRD") if op_type == "DepthToSpace" => Op::DepthToSpace { block, channel_first },
                None | Some("DCR" | "CRD") => Op::SpaceToDepth { block, channel_first },
                Some(other) => unsupported(format!("its attribute mode is `{other}`, neither DCR nor CRD")),
            }
        }
        "QuantizeLinear" if blocks(attributes)? => unsupported("it quantises in blocks, not one scale a channel"),
        "DequantizeLinear" if blocks(attributes)? => unsupported("it quantises in blocks, not one scale a channel"),
        "QuantizeLinear" => Op::Quantize { axis: attributes.int("axis", 1)? },
        "DequantizeLinear" => Op::Dequantize { axis: attributes.int("axis", 1)? },
        _ => match refused(op_type) {
            Some(reason) => unsupported(reason),
            None => return Ok(None),
        },
    };
    Ok(Some(Meaning::Op(op)))
}

/// Operators that models have and no layer can be yet, with the reason.
const REFUSED: [(&[&str], &str); 2] = [
    (
        &["MeanVarianceNormalization"],
        "its mean and deviation are those of the whole batch; normalise each sample (InstanceNormalization, \
         LayerNormalization), or by constants (BatchNormalization)",
    ),
    (
        &["QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"],
        "it computes with integers; quantise with QuantizeLinear and DequantizeLinear around ordinary operators \
         (QuantFormat.QDQ in onnxruntime), or take the model before quantisation",
    ),
];

fn refused(op_type: &str) -> Option<&'static str> {
    REFUSED.iter().find(|(names, _)| names.contains(&op_type)).map(|(_, reason)| *reason)
}

fn blocks(attributes: &Attributes) -> Result<bool> {
    Ok(attributes.int("block_size", 0)? != 0)
}

fn sliding(attributes: &Attributes) -> Result<Sliding> {
    Ok(Sliding {
        kernel: attributes.ints("kernel_shape")?,
        strides: attributes.ints("strides")?,
        dilations: attributes.ints("dilations")?,
        padding: match attributes.text("auto_pad")?.as_deref() {
            Some("SAME_UPPER") => Padding::SameUpper,
            Some("SAME_LOWER") => Padding::SameLower,
            Some("VALID") => Padding::Valid,
            _ => Padding::Explicit(attributes.ints("pads")?),
        },
        ceil: attributes.int("ceil_mode", 0)? != 0,
    })
}

/// Axes are an attribute in older opsets and input 1 in newer ones.
fn reduce(reduction: Reduction, by_attribute: bool, attributes: &Attributes) -> Result<Meaning> {
    let op = Op::Reduce {
        reduction,
        keep_axes: attributes.int("keepdims", 1)? != 0,
        empty_is_none: attributes.int("noop_with_empty_axes", 0)? != 0,
    };
    let axes = if by_attribute { vec![attributes.ints("axes")?] } else { Vec::new() };
    Ok(Meaning::OpWithInputs(op, axes))
}

fn pad(opset: i64, attributes: &Attributes) -> Result<Meaning> {
    let mode = match attributes.text("mode")?.as_deref() {
        None | Some("constant" | "") => PadMode::Constant,
        Some("reflect") => PadMode::Reflect,
        Some("edge") => PadMode::Edge,
        Some("wrap") => PadMode::Wrap,
        Some(other) => return Ok(Meaning::Op(unsupported(format!("its attribute mode is `{other}`")))),
    };
    let op = Op::Pad { mode, value: attributes.float("value", 0.0)? };
    let amounts = if opset < 11 { vec![attributes.ints("pads")?] } else { Vec::new() };
    Ok(Meaning::OpWithInputs(op, amounts))
}

fn resize(op_type: &str, opset: i64, attributes: &Attributes) -> Result<Op> {
    let old = op_type == "Upsample" || opset < 11;
    let coordinates = match attributes.text("coordinate_transformation_mode")?.as_deref() {
        _ if old => Coordinates::Asymmetric,
        None | Some("half_pixel") => Coordinates::HalfPixel,
        Some("half_pixel_symmetric") => Coordinates::HalfPixelSymmetric,
        Some("pytorch_half_pixel") => Coordinates::PytorchHalfPixel,
        Some("tf_half_pixel_for_nn") => Coordinates::TfHalfPixelForNearest,
        Some("asymmetric") => Coordinates::Asymmetric,
        Some("align_corners") => Coordinates::AlignCorners,
        Some(other) => {
            return Ok(unsupported(format!("its attribute coordinate_transformation_mode is `{other}`")));
        }
    };
    let rounding = match attributes.text("nearest_mode")?.as_deref() {
        _ if old => Rounding::Simple,
        None | Some("round_prefer_floor") => Rounding::PreferFloor,
        Some("round_prefer_ceil") => Rounding::PreferCeil,
        Some("floor") => Rounding::Floor,
        Some("ceil") => Rounding::Ceil,
        Some(other) => return Ok(unsupported(format!("its attribute nearest_mode is `{other}`"))),
    };
    let interpolation = match attributes.text("mode")?.as_deref() {
        None | Some("nearest") => Interpolation::Nearest(rounding),
        Some("linear" | "bilinear") => Interpolation::Linear,
        Some(other) => {
            return Ok(unsupported(format!(
                "its attribute mode is `{other}`; nearest and linear interpolation are supported"
            )));
        }
    };
    let policy = match attributes.text("keep_aspect_ratio_policy")?.as_deref() {
        None | Some("stretch") => Policy::Stretch,
        Some("not_larger") => Policy::NotLarger,
        Some("not_smaller") => Policy::NotSmaller,
        Some(other) => return Ok(unsupported(format!("its attribute keep_aspect_ratio_policy is `{other}`"))),
    };
    if attributes.int("antialias", 0)? != 0 {
        return Ok(unsupported("its attribute antialias is set; only plain interpolation is supported"));
    }
    let scales = match attributes.floats("scales")? {
        Some(scales) if op_type == "Upsample" => Scales::Attribute(scales),
        _ => Scales::Input(if old { 1 } else { 2 }),
    };
    Ok(Op::Resize(Resize { interpolation, coordinates, scales, axes: attributes.ints("axes")?, policy }))
}
