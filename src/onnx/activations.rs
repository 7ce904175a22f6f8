//! Activations: the part of the table of operators that works element by element.

use super::attributes::Attributes;
use super::operators::unsupported;
use crate::error::Result;
use crate::graph::Op;
use crate::layers::{Activation, GeluForm};

/// Reads an activation of ONNX's own domain; none if it is another operator.
pub(super) fn read(op_type: &str, opset: i64, attributes: &Attributes) -> Result<Option<Op>> {
    let alpha = |default| attributes.float("alpha", default);
    Ok(Some(Op::Activation(match op_type {
        "Relu" => Activation::Relu,
        "LeakyRelu" => Activation::LeakyRelu { slope: alpha(0.01)? },
        "PRelu" => return Ok(Some(Op::PRelu)),
        "Sigmoid" => Activation::Sigmoid,
        "Tanh" => Activation::Tanh,
        "Erf" => Activation::Erf,
        "Softplus" => Activation::Softplus { beta: 1.0 },
        "Elu" => Activation::Elu { alpha: alpha(1.0)? },
        "Selu" => Activation::Selu { alpha: alpha(1.673_263_2)?, gamma: attributes.float("gamma", 1.050_701)? },
        "Celu" if alpha(1.0)?.abs() <= 0.0 => {
            return Ok(Some(unsupported("its attribute alpha is 0, by which it divides")));
        }
        "Celu" => Activation::Celu { alpha: alpha(1.0)? },
        "HardSigmoid" => Activation::HardSigmoid { slope: alpha(0.2)?, offset: attributes.float("beta", 0.5)? },
        "HardSwish" => Activation::HardSwish,
        "Swish" => Activation::Silu { beta: alpha(1.0)? },
        "Mish" => Activation::Mish,
        "ThresholdedRelu" => Activation::ThresholdedRelu { threshold: alpha(1.0)? },
        "Softsign" => Activation::Softsign,
        // Newer opsets have the bounds as inputs.
        "Clip" if opset >= 11 => return Ok(Some(Op::Clip)),
        "Clip" => {
            let bound = |name, default| attributes.float(name, default);
            Activation::clip(bound("min", f32::NEG_INFINITY)?, bound("max", f32::INFINITY)?)
        }
        "Gelu" => match attributes.text("approximate")?.as_deref() {
            None | Some("none" | "") => Activation::Gelu(GeluForm::Erf),
            Some("tanh") => Activation::Gelu(GeluForm::Tanh),
            Some(other) => return Ok(Some(unsupported(format!("its attribute approximate is `{other}`")))),
        },
        _ => return Ok(None),
    })))
}
