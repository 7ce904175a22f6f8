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
        Activation::Elu { alpha } => elu(x, 1.0, f64::from(*alpha), 1.0),
        Activation::Selu { alpha, gamma } => elu(x, f64::from(*gamma), f64::from(*alpha), 1.0),
        Activation::Celu { alpha } => elu(x, 1.0, f64::from(*alpha), f64::from(*alpha).recip()),
        Activation::Silu { beta } => x * value(&Activation::Sigmoid, f64::from(*beta) * x),
        Activation::HardSigmoid { slope, offset } => within(f64::from(*slope) * x + f64::from(*offset), 0.0, 1.0),
        Activation::HardSwish => x * within(x / 6.0 + 0.5, 0.0, 1.0),
        Activation::Mish => x * value(&Activation::Softplus { beta: 1.0 }, x).tanh(),
        Activation::Clip { low, high } => within(x, f64::from(*low), f64::from(*high)),
        Activation::ThresholdedRelu { threshold } => {
            if x <= f64::from(*threshold) {
                0.0
            } else {
                x
            }
        }
        Activation::Softsign => x / (1.0 + x.abs()),
        Activation::Exp => x.exp(),
        Activation::Abs => x.abs(),
        Activation::Power { offset, exponent } => (x + f64::from(*offset)).powf(f64::from(*exponent)),
    }
}

/// f′(x) of an activation; at a kink the derivative that PyTorch has: the one from below, but from above where a clip, a
/// hard sigmoid or a hard swish reaches its upper end. |x| has 0 at zero, and so have roots, whose derivative grows beyond
/// every number there: what is zero throughout, such as a window behind a rectifier, then gives zeros and not NaN.
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
        Activation::Elu { alpha } => elu_slope(x, 1.0, f64::from(*alpha), 1.0),
        Activation::Selu { alpha, gamma } => elu_slope(x, f64::from(*gamma), f64::from(*alpha), 1.0),
        Activation::Celu { alpha } => elu_slope(x, 1.0, f64::from(*alpha), f64::from(*alpha).recip()),
        Activation::Silu { beta } => {
            let z = f64::from(*beta) * x;
            let gate = value(&Activation::Sigmoid, z);
            gate * (1.0 + z * (1.0 - gate))
        }
        Activation::HardSigmoid { slope, offset } => {
            let line = f64::from(*slope) * x + f64::from(*offset);
            if line > 0.0 && line < 1.0 { f64::from(*slope) } else { 0.0 }
        }
        Activation::HardSwish if x <= -3.0 => 0.0,
        Activation::HardSwish if x >= 3.0 => 1.0,
        Activation::HardSwish => x / 3.0 + 0.5,
        Activation::Mish => {
            let gate = value(&Activation::Softplus { beta: 1.0 }, x).tanh();
            gate + x * (1.0 - gate * gate) * value(&Activation::Sigmoid, x)
        }
        Activation::Clip { low, high } => f64::from(u8::from(x > f64::from(*low) && x < f64::from(*high))),
        Activation::ThresholdedRelu { threshold } => f64::from(u8::from(x > f64::from(*threshold))),
        Activation::Softsign => (1.0 + x.abs()).powi(-2),
        Activation::Exp => x.exp(),
        Activation::Abs => f64::from(u8::from(x > 0.0)) - f64::from(u8::from(x < 0.0)),
        Activation::Power { offset, exponent } => {
            let (base, exponent) = (x + f64::from(*offset), f64::from(*exponent));
            let is_root = exponent > 0.0 && exponent < 1.0;
            if is_root && base.abs() <= 0.0 { 0.0 } else { exponent * base.powf(exponent - 1.0) }
        }
    }
}

/// Scale times x above zero, scale times α(e^(rate·x) − 1) below: ELU and its kin.
fn elu(x: f64, scale: f64, alpha: f64, rate: f64) -> f64 {
    scale * if x > 0.0 { x } else { alpha * (rate * x).exp_m1() }
}

fn elu_slope(x: f64, scale: f64, alpha: f64, rate: f64) -> f64 {
    scale * if x > 0.0 { 1.0 } else { alpha * rate * (rate * x).exp() }
}

/// x, at least `low` and at most `high`; `clamp` would panic where they are the other way round.
fn within(x: f64, low: f64, high: f64) -> f64 {
    let above = if x < low { low } else { x };
    if above > high { high } else { above }
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
