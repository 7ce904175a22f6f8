//! What the kernels should give, in float64 from the formulas, and how far float32 may be from it.
//!
//! The products are written as sums of outer products over unpadded weights: neither the kernels nor their functions for
//! the CPU go that way. Bounds follow from the number of roundings on the way to an element: if each is off by at most
//! u = 2⁻²⁴, a sum of K products is off by (K + c) u Σ |a||w|, where c counts what stands around the sum.

use relprop::kernels::{EpsilonShape, ForwardShape};
use relprop::layers::{Activation, GeluForm};
use relprop::rules::{InputPart, Mask, Stabilizer, WeightPart};

const U: f64 = 1.0 / (1 << 24) as f64;

/// Numbers with the distance that float32 may keep from each.
pub struct Exact {
    values: Vec<f64>,
    bounds: Vec<f64>,
    /// How many of float32's roundings a bound counts.
    roundings: f64,
}

/// f(Σ_k x̃[row][k] W̃[n][k] + b[n]).
pub fn forward(shape: &ForwardShape, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Exact {
    let ForwardShape { rows, inputs, outputs, .. } = *shape;
    let (mut values, mut sizes) = (vec![0.0; rows * outputs], vec![0.0; rows * outputs]);
    // W̃, the sum with b, and one more for devices that multiply and add in two steps.
    let roundings = (inputs + 3) as f64;
    for k in 0..inputs {
        for row in 0..rows {
            for n in 0..outputs {
                let product = part_of_input(shape.input, x[row * inputs + k])
                    * part_of_weight(shape.weight, weight[n * inputs + k]);
                values[row * outputs + n] += product;
                sizes[row * outputs + n] += product.abs();
            }
        }
    }
    for (element, (value, size)) in values.iter_mut().zip(&mut sizes).enumerate() {
        if let Some(bias) = bias {
            *value += f64::from(bias[element % outputs]);
            *size += f64::from(bias[element % outputs]).abs();
        }
        let mut bound = roundings * U * *size;
        if let Some(activation) = &shape.activation {
            // An exponential, a polynomial and a quotient, to which WGSL allows 2.5 units in the last place.
            let own = if is_piecewise_linear(activation) { 1.0 } else { 16.0 } * U * value.abs().max(1.0);
            bound = steepness(activation) * bound + own;
            *value = activated(activation, *value);
        }
        *size = bound;
    }
    Exact { values, bounds: sizes, roundings }
}

/// λ x̃[sample][i] Σ_n W̃[n][i] mask(z[sample][n]) r[row][n] / stab(z[sample][n]).
pub fn epsilon(shape: &EpsilonShape, x: &[f32], weight: &[f32], z: &[f32], relevance: &[f32]) -> Exact {
    let EpsilonShape { rows, inputs, outputs, targets, .. } = *shape;
    let (mut values, mut bounds) = (vec![0.0; rows * targets * inputs], vec![0.0; rows * targets * inputs]);
    // Stab, the quotient (2.5 units in the last place, which are 5 roundings), W̃, λ, x̃ and the one more.
    let roundings = (outputs + 10) as f64;
    for n in 0..outputs {
        for row in 0..rows * targets {
            let quotient = quotient(shape, relevance[row * outputs + n], z[row / targets * outputs + n]);
            for i in 0..inputs {
                let product = quotient * part_of_weight(shape.weight, weight[n * inputs + i]);
                values[row * inputs + i] += product;
                bounds[row * inputs + i] += product.abs();
            }
        }
    }
    for (element, (value, bound)) in values.iter_mut().zip(&mut bounds).enumerate() {
        let (row, i) = (element / inputs, element % inputs);
        let outside = f64::from(shape.factor) * part_of_input(shape.input, x[row / targets * inputs + i]);
        *value *= outside;
        *bound *= roundings * U * outside.abs();
    }
    Exact { values, bounds, roundings }
}

fn quotient(shape: &EpsilonShape, r: f32, z: f32) -> f64 {
    let (r, z) = (f64::from(r), f64::from(z));
    let sign = if z < 0.0 { -1.0 } else { 1.0 };
    let denominator = match shape.stabilizer {
        Stabilizer::Absolute(epsilon) => sign * (z.abs() + f64::from(epsilon)),
        Stabilizer::Clip(epsilon) => sign * z.abs().max(f64::from(epsilon)),
        Stabilizer::Rms(_) => panic!("no kernel takes it"),
    };
    let is_in = match shape.mask {
        Mask::Everywhere => denominator != 0.0,
        Mask::Positive => z > 0.0,
        Mask::Negative => z < 0.0,
    };
    if is_in { r / denominator } else { 0.0 }
}

fn part_of_weight(part: WeightPart, w: f32) -> f64 {
    let w = f64::from(w);
    match part {
        WeightPart::Scaled { positive, negative } => {
            f64::from(positive) * (w + w.abs()) / 2.0 + f64::from(negative) * (w - w.abs()) / 2.0
        }
        WeightPart::Squared => w.powi(2),
        WeightPart::One => 1.0,
    }
}

fn part_of_input(part: InputPart, x: f32) -> f64 {
    let x = f64::from(x);
    match part {
        InputPart::Whole => x,
        InputPart::Positive => (x + x.abs()) / 2.0,
        InputPart::Negative => (x - x.abs()) / 2.0,
        InputPart::Magnitude => x.abs(),
        InputPart::One => 1.0,
        InputPart::Low | InputPart::High => panic!("no kernel takes them"),
    }
}

fn is_piecewise_linear(activation: &Activation) -> bool {
    matches!(
        activation,
        Activation::Relu
            | Activation::LeakyRelu { .. }
            | Activation::Clip { .. }
            | Activation::ThresholdedRelu { .. }
            | Activation::HardSigmoid { .. }
    )
}

/// The largest slope.
fn steepness(activation: &Activation) -> f64 {
    match activation {
        Activation::Relu | Activation::Tanh | Activation::Softplus { .. } => 1.0,
        Activation::LeakyRelu { slope } => f64::from(slope.abs()).max(1.0),
        Activation::Sigmoid => 0.25,
        Activation::Gelu(_) | Activation::Erf | Activation::Silu { .. } | Activation::Mish => 1.13,
        Activation::Celu { .. } | Activation::Clip { .. } | Activation::Softsign => 1.0,
        // Away from its jump, where the tests stay.
        Activation::ThresholdedRelu { .. } => 1.0,
        Activation::Elu { alpha } => f64::from(*alpha).max(1.0),
        Activation::Selu { alpha, gamma } => f64::from(*gamma) * f64::from(*alpha).max(1.0),
        Activation::HardSigmoid { slope, .. } => f64::from(*slope),
        Activation::HardSwish => 1.5,
        Activation::Abs => 1.0,
        Activation::Exp | Activation::Power { .. } => panic!("a slope without a bound"),
    }
}

fn activated(activation: &Activation, x: f64) -> f64 {
    match activation {
        Activation::Relu => (x + x.abs()) / 2.0,
        Activation::LeakyRelu { slope } if x < 0.0 => f64::from(*slope) * x,
        Activation::LeakyRelu { .. } => x,
        Activation::Sigmoid => (1.0 + (x / 2.0).tanh()) / 2.0,
        Activation::Tanh => (x.exp() - (-x).exp()) / (x.exp() + (-x).exp()),
        Activation::Gelu(GeluForm::Erf) => x * (1.0 + erf(x / 2f64.sqrt())) / 2.0,
        Activation::Gelu(GeluForm::Tanh) => {
            x / (1.0 + (-2.0 * (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).exp())
        }
        Activation::Erf => erf(x),
        Activation::Softplus { beta } => (f64::from(*beta) * x).exp().ln_1p() / f64::from(*beta),
        Activation::Elu { alpha } => x.max(0.0) + f64::from(*alpha) * (x.min(0.0).exp() - 1.0),
        Activation::Selu { alpha, gamma } => {
            f64::from(*gamma) * (x.max(0.0) + f64::from(*alpha) * (x.min(0.0).exp() - 1.0))
        }
        Activation::Celu { alpha } => x.max(0.0) + f64::from(*alpha) * ((x.min(0.0) / f64::from(*alpha)).exp() - 1.0),
        Activation::Silu { beta } => x / (1.0 + (-f64::from(*beta) * x).exp()),
        Activation::HardSigmoid { slope, offset } => (f64::from(*slope) * x + f64::from(*offset)).clamp(0.0, 1.0),
        Activation::HardSwish => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
        Activation::Mish => x * x.exp().ln_1p().tanh(),
        Activation::Clip { low, high } => x.max(f64::from(*low)).min(f64::from(*high)),
        Activation::ThresholdedRelu { threshold } if x <= f64::from(*threshold) => 0.0,
        Activation::ThresholdedRelu { .. } => x,
        Activation::Softsign => x / (1.0 + x.abs()),
        Activation::Exp => x.exp(),
        Activation::Abs => x.max(-x),
        Activation::Power { offset, exponent } => (x + f64::from(*offset)).powf(f64::from(*exponent)),
    }
}

/// 2/√π e^(−x²) Σ 2ⁿ x²ⁿ⁺¹ / (1·3·…·(2n+1)), whose terms all have one sign.
fn erf(x: f64) -> f64 {
    let mut term = x;
    let mut sum = 0.0;
    for n in 1..400 {
        sum += term;
        term *= 2.0 * x * x / f64::from(2 * n + 1);
    }
    std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() * sum
}

impl Exact {
    /// Fails where float32 is further away than its roundings can bring it.
    pub fn assert_reached_by(&self, found: &[f32], what: &str) {
        assert_eq!(found.len(), self.values.len(), "{what}");
        for (element, (&found, (exact, bound))) in found.iter().zip(self.values.iter().zip(&self.bounds)).enumerate() {
            let difference = (f64::from(found) - exact).abs();
            assert!(
                difference <= *bound,
                "{what}, element {element}: {found} is {difference:e} from {exact}, more than {bound:e}"
            );
        }
    }

    /// Fails where it is further away than W̃ and the result, rounded to float32, bring float64 sums.
    pub fn assert_rounded_to(&self, found: &[f32], what: &str) {
        let bound = |(value, bound): (&f64, &f64)| U * value.abs() + 2.0 * bound / self.roundings;
        let bounds = self.values.iter().zip(&self.bounds).map(bound).collect();
        Exact { values: self.values.clone(), bounds, ..*self }.assert_reached_by(found, what);
    }
}
