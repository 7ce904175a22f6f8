//! Elementwise non-linear functions.

/// A function applied to each element.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// max(x, 0).
    Relu,
    /// x for x ≥ 0, `slope`·x below.
    LeakyRelu {
        /// The factor below zero.
        slope: f32,
    },
    /// 1 / (1 + e⁻ˣ).
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// x·Φ(x), with Φ the normal distribution function.
    Gelu(GeluForm),
    /// The Gauss error function.
    Erf,
    /// ln(1 + e^(βx)) / β: a rectifier with a smooth bend.
    Softplus {
        /// β: the larger, the sharper the bend.
        beta: f32,
    },
    /// x above zero, α(eˣ − 1) below.
    Elu {
        /// α: −α is what it tends to.
        alpha: f32,
    },
    /// γx above zero, γα(eˣ − 1) below.
    Selu {
        /// α.
        alpha: f32,
        /// γ: the factor of both sides.
        gamma: f32,
    },
    /// x above zero, α(e^(x/α) − 1) below: of slope 1 at zero from both sides.
    Celu {
        /// α.
        alpha: f32,
    },
    /// x·σ(βx), also called Swish.
    Silu {
        /// β.
        beta: f32,
    },
    /// slope·x + offset, at least 0 and at most 1.
    HardSigmoid {
        /// The factor between 0 and 1.
        slope: f32,
        /// What it is at zero.
        offset: f32,
    },
    /// x times its hard sigmoid of slope 1/6 and offset ½.
    HardSwish,
    /// x·tanh(ln(1 + eˣ)).
    Mish,
    /// x, at least `low` and at most `high`: `low` 0 and `high` 6 are ReLU6.
    Clip {
        /// The least value; may be −∞.
        low: f32,
        /// The greatest value; may be ∞.
        high: f32,
    },
    /// x above `threshold`, 0 elsewhere.
    ThresholdedRelu {
        /// Where it begins.
        threshold: f32,
    },
    /// x / (1 + |x|).
    Softsign,
    /// eˣ.
    Exp,
    /// |x|.
    Abs,
    /// (x + offset)^exponent: squares, roots and their inverses. NaN where the base is below zero and the exponent no
    /// integer.
    Power {
        /// What is added before.
        offset: f32,
        /// The exponent.
        exponent: f32,
    },
}

/// How GELU's Φ is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GeluForm {
    /// Φ(x) = (1 + erf(x/√2)) / 2.
    Erf,
    /// Φ(x) ≈ (1 + tanh(√(2/π)(x + 0.044715 x³))) / 2.
    Tanh,
}

impl Activation {
    /// What the base of a [`Power`](Activation::Power) below zero gives its size: 1, −1, or NaN where it has no power.
    pub(crate) fn sign_of_power(exponent: f32) -> f32 {
        match exponent.rem_euclid(2.0) {
            0.0 => 1.0,
            1.0 => -1.0,
            _ => f32::NAN,
        }
    }

    /// What a base of 0 gives: 0, 1 or ∞.
    pub(crate) fn power_of_zero(exponent: f32) -> f32 {
        0.0_f32.powf(exponent)
    }

    /// x between two bounds: what says nothing more than [`Relu`](Activation::Relu) is that.
    pub fn clip(low: f32, high: f32) -> Self {
        // Not `== 0.0`, so that −0 is the same.
        if low.abs() <= 0.0 && high >= f32::INFINITY { Activation::Relu } else { Activation::Clip { low, high } }
    }

    /// Whether it is what a gate is made of: a step from 0 to 1, or the inverse of something, by which a value is
    /// normalised.
    pub fn is_gate(&self) -> bool {
        match self {
            Activation::Sigmoid | Activation::HardSigmoid { .. } => true,
            Activation::Power { exponent, .. } => *exponent < 0.0,
            Activation::Relu
            | Activation::LeakyRelu { .. }
            | Activation::Tanh
            | Activation::Gelu(_)
            | Activation::Erf
            | Activation::Softplus { .. }
            | Activation::Elu { .. }
            | Activation::Selu { .. }
            | Activation::Celu { .. }
            | Activation::Silu { .. }
            | Activation::HardSwish
            | Activation::Mish
            | Activation::Clip { .. }
            | Activation::ThresholdedRelu { .. }
            | Activation::Softsign
            | Activation::Exp
            | Activation::Abs => false,
        }
    }

    /// The name as composites and reports use it.
    pub fn name(&self) -> &'static str {
        match self {
            Activation::Relu => "relu",
            Activation::LeakyRelu { .. } => "leaky-relu",
            Activation::Sigmoid => "sigmoid",
            Activation::Tanh => "tanh",
            Activation::Gelu(_) => "gelu",
            Activation::Erf => "erf",
            Activation::Softplus { .. } => "softplus",
            Activation::Elu { .. } => "elu",
            Activation::Selu { .. } => "selu",
            Activation::Celu { .. } => "celu",
            Activation::Silu { .. } => "silu",
            Activation::HardSigmoid { .. } => "hard-sigmoid",
            Activation::HardSwish => "hard-swish",
            Activation::Mish => "mish",
            Activation::Clip { .. } => "clip",
            Activation::ThresholdedRelu { .. } => "thresholded-relu",
            Activation::Softsign => "softsign",
            Activation::Exp => "exp",
            Activation::Abs => "abs",
            Activation::Power { .. } => "power",
        }
    }
}
