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
        }
    }
}
