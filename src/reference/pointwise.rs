//! Elementwise layers: values, derivatives, and their rules.

use super::{Given, Step};
use crate::layers::{Activation, Affine, GeluForm};
use crate::rules::PointwiseRule;
use crate::tensor::Tensor;

/// f(x) of an activation.
pub fn value(activation: &Activation, x: f64) -> f64 {
    match activation {
        // max(x, 0) would turn NaN into 0 and hide it.
        Activation::Relu => {
            if x < 0.0 {
                0.0
            } else {
                x
            }
        }
        Activation::LeakyRelu { slope } => {
            if x >= 0.0 {
                x
            } else {
                f64::from(*slope) * x
            }
        }
        Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Activation::Tanh => x.tanh(),
        Activation::Gelu(GeluForm::Erf) => 0.5 * x * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2)),
        Activation::Gelu(GeluForm::Tanh) => 0.5 * x * (1.0 + gelu_inner(x).tanh()),
        Activation::Erf => libm::erf(x),
        // max(z, 0) + ln(1 + e^−|z|), so that no exponential overflows.
        Activation::Softplus { beta } => {
            let z = f64::from(*beta) * x;
            (value(&Activation::Relu, z) + (-z.abs()).exp().ln_1p()) / f64::from(*beta)
        }
    }
}

/// f′(x) of an activation; at a kink the derivative from below, as PyTorch has it.
pub fn derivative(activation: &Activation, x: f64) -> f64 {
    use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};
    match activation {
        Activation::Relu => f64::from(u8::from(x > 0.0)),
        Activation::LeakyRelu { slope } => {
            if x > 0.0 {
                1.0
            } else {
                f64::from(*slope)
            }
        }
        Activation::Sigmoid => {
            let y = value(activation, x);
            y * (1.0 - y)
        }
        Activation::Tanh => 1.0 - x.tanh().powi(2),
        Activation::Gelu(GeluForm::Erf) => {
            let cumulative = 0.5 * (1.0 + libm::erf(x * FRAC_1_SQRT_2));
            let density = 0.5 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2 * (-0.5 * x * x).exp();
            cumulative + x * density
        }
        Activation::Gelu(GeluForm::Tanh) => {
            let t = gelu_inner(x).tanh();
            let inner_slope = (2.0 / std::f64::consts::PI).sqrt() * (1.0 + 3.0 * 0.044715 * x * x);
            0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * inner_slope
        }
        Activation::Erf => FRAC_2_SQRT_PI * (-x * x).exp(),
        Activation::Softplus { beta } => value(&Activation::Sigmoid, f64::from(*beta) * x),
    }
}

fn gelu_inner(x: f64) -> f64 {
    (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)
}

impl Step<'_> {
    pub(super) fn activation(&self, activation: &Activation, rule: PointwiseRule) -> Given {
        self.elementwise(match rule {
            PointwiseRule::Pass => self.arriving.to_vec(),
            PointwiseRule::Gradient => {
                self.arriving.iter().zip(self.input(0)).map(|(r, &x)| r * derivative(activation, x)).collect()
            }
            PointwiseRule::Deconvnet => self.arriving.iter().map(|&r| value(&Activation::Relu, r)).collect(),
            PointwiseRule::GuidedBackprop => (self.arriving.iter().zip(self.input(0)))
                .map(|(&r, &x)| value(&Activation::Relu, r) * derivative(&Activation::Relu, x))
                .collect(),
            PointwiseRule::BetaSmooth { beta } => (self.arriving.iter().zip(self.input(0)))
                .map(|(r, &x)| r * derivative(&Activation::Softplus { beta }, x))
                .collect(),
        })
    }

    pub(super) fn affine(&self, affine: &Affine, rule: PointwiseRule) -> Given {
        self.elementwise(match rule {
            PointwiseRule::Pass => self.arriving.to_vec(),
            PointwiseRule::Gradient => {
                self.arriving.iter().zip(self.spread(affine.scale())).map(|(r, s)| r * s).collect()
            }
            PointwiseRule::Deconvnet | PointwiseRule::GuidedBackprop | PointwiseRule::BetaSmooth { .. } => {
                unreachable!("a composite gives these rules to rectifiers only")
            }
        })
    }

    fn elementwise(&self, share: Vec<f64>) -> Given {
        let shares = vec![share];
        let sums = Some(self.plain_sums(&shares));
        Given { shares, sums }
    }

    /// A parameter broadcast over the layer's first input.
    pub(super) fn spread(&self, parameter: &Tensor) -> Vec<f64> {
        let shape = self.network.shape(self.node.inputs[0]);
        let spread = parameter.broadcast_to(shape).expect("the network checked that its parameters fit");
        spread.data().iter().copied().map(f64::from).collect()
    }
}
