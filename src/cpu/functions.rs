//! Activations and their derivatives in float32, without branches or calls, so that loops over them become vector code.
//!
//! Ranges are reduced and polynomials fitted as in the Cephes library (S. Moshier, `exp`, `log`, `tanh` and `ndtr` in single
//! precision); the tests hold every function to a few units in the last place of float64. NaN stays NaN.

#![allow(
    clippy::approx_constant,
    clippy::excessive_precision,
    reason = "coefficients of fitted polynomials stand as they were fitted"
)]

use std::f32::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, LOG2_E};

use super::powers::{
    Inverse, InverseRoot, InverseRootSlope, InverseSlope, Power, Root, RootSlope, Square, SquareSlope,
};
use crate::layers::{Activation, GeluForm};

/// √(2/π), of the tanh form of GELU.
const GELU_SCALE: f32 = 0.797_884_6;
/// The cubic coefficient of the tanh form of GELU.
const GELU_CUBIC: f32 = 0.044_715;

/// A function of one element, compiled into the loop that applies it.
pub(super) trait Function: Copy {
    /// Whether it is compiled into the loop indeed, so that a loop over single elements becomes vector code. One that is a call should be
    /// called for many elements.
    const IS_INLINE: bool = true;

    /// f(x).
    fn of(self, x: f32) -> f32;

    /// f of each of some elements.
    #[inline(always)]
    fn of_all<const N: usize>(self, mut x: [f32; N]) -> [f32; N] {
        // `map` would be a call, compiled for any machine.
        for x in &mut x {
            *x = self.of(*x);
        }
        x
    }

    /// v ← f(v) for each element.
    #[inline(always)]
    fn in_place(self, v: &mut [f32]) {
        for v in v {
            *v = self.of(*v);
        }
    }
}

/// Something to be done with the function that an activation is, each in its own copy.
pub(super) trait WithFunction {
    fn run(self, f: impl Function);
}

/// f of an activation.
#[inline]
pub(super) fn with_value(activation: Activation, work: impl WithFunction) {
    match activation {
        Activation::Relu => work.run(Relu),
        Activation::LeakyRelu { slope } => work.run(LeakyRelu(slope)),
        Activation::Sigmoid => work.run(Sigmoid),
        Activation::Tanh => work.run(Tanh),
        Activation::Gelu(GeluForm::Erf) => work.run(GeluErf),
        Activation::Gelu(GeluForm::Tanh) => work.run(GeluTanh),
        Activation::Erf => work.run(Erf),
        Activation::Softplus { beta } => work.run(Softplus(beta)),
        Activation::Elu { alpha } => work.run(Elu(1.0, alpha, 1.0)),
        Activation::Selu { alpha, gamma } => work.run(Elu(gamma, gamma * alpha, 1.0)),
        Activation::Celu { alpha } => work.run(Elu(1.0, alpha, alpha.recip())),
        Activation::Silu { beta } => work.run(Silu(beta)),
        Activation::HardSigmoid { slope, offset } => work.run(HardSigmoid(slope, offset)),
        Activation::HardSwish => work.run(HardSwish),
        Activation::Mish => work.run(Mish),
        Activation::Clip { low, high } => work.run(Clip(low, high)),
        Activation::ThresholdedRelu { threshold } => work.run(ThresholdedRelu(threshold)),
        Activation::Softsign => work.run(Softsign),
        Activation::Exp => work.run(Exp),
        Activation::Abs => work.run(Abs),
        Activation::Power { offset, exponent: 2.0 } => work.run(Square(offset)),
        Activation::Power { offset, exponent: 0.5 } => work.run(Root(offset)),
        Activation::Power { offset, exponent: -0.5 } => work.run(InverseRoot(offset)),
        Activation::Power { offset, exponent: -1.0 } => work.run(Inverse(offset)),
        Activation::Power { offset, exponent } => work.run(Power::of_base(offset, exponent)),
    }
}

/// f′ of an activation; at a kink the derivative that PyTorch has, as in `reference::derivative`.
#[inline]
pub(super) fn with_derivative(activation: Activation, work: impl WithFunction) {
    match activation {
        Activation::Relu => work.run(LeakyReluSlope(0.0)),
        Activation::LeakyRelu { slope } => work.run(LeakyReluSlope(slope)),
        Activation::Sigmoid => work.run(SigmoidSlope),
        Activation::Tanh => work.run(TanhSlope),
        Activation::Gelu(GeluForm::Erf) => work.run(GeluErfSlope),
        Activation::Gelu(GeluForm::Tanh) => work.run(GeluTanhSlope),
        Activation::Erf => work.run(ErfSlope),
        Activation::Softplus { beta } => work.run(SoftplusSlope(beta)),
        Activation::Elu { alpha } => work.run(EluSlope(1.0, alpha, 1.0)),
        Activation::Selu { alpha, gamma } => work.run(EluSlope(gamma, gamma * alpha, 1.0)),
        Activation::Celu { alpha } => work.run(EluSlope(1.0, 1.0, alpha.recip())),
        Activation::Silu { beta } => work.run(SiluSlope(beta)),
        Activation::HardSigmoid { slope, offset } => work.run(HardSigmoidSlope(slope, offset)),
        Activation::HardSwish => work.run(HardSwishSlope),
        Activation::Mish => work.run(MishSlope),
        Activation::Clip { low, high } => work.run(ClipSlope(low, high)),
        Activation::ThresholdedRelu { threshold } => work.run(ThresholdedReluSlope(threshold)),
        Activation::Softsign => work.run(SoftsignSlope),
        Activation::Exp => work.run(Exp),
        Activation::Abs => work.run(AbsSlope),
        Activation::Power { offset, exponent: 2.0 } => work.run(SquareSlope(offset)),
        Activation::Power { offset, exponent: 0.5 } => work.run(RootSlope(offset)),
        Activation::Power { offset, exponent: -0.5 } => work.run(InverseRootSlope(offset)),
        Activation::Power { offset, exponent: -1.0 } => work.run(InverseSlope(offset)),
        Activation::Power { offset, exponent } => work.run(Power::slope_of_base(offset, exponent)),
    }
}

macro_rules! functions {
    ($($(#[$doc:meta])* $name:ident $(($($field:ident),+))? = |$x:ident| $body:expr;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(super) struct $name $(($(pub(in crate::cpu) functions!(@float $field)),+))?;

        impl Function for $name {
            #[inline(always)]
            fn of(self, $x: f32) -> f32 {
                $(let $name($($field),+) = self;)?
                $body
            }
        }
    )+};
    (@float $field:ident) => { f32 };
}
pub(super) use functions;

functions! {
    /// x.
    Identity = |x| x;
    /// max(x, 0).
    Relu = |x| if x < 0.0 { 0.0 } else { x };
    /// min(x, 0).
    Negative = |x| if x > 0.0 { 0.0 } else { x };
    /// x, times the slope below zero.
    LeakyRelu(slope) = |x| if x < 0.0 { slope * x } else { x };
    /// 1 above zero, the slope elsewhere.
    LeakyReluSlope(slope) = |x| if x > 0.0 { 1.0 } else { slope };
    /// 1 / (1 + e⁻ˣ).
    Sigmoid = |x| sigmoid(x);
    /// σ(x)(1 − σ(x)).
    SigmoidSlope = |x| sigmoid(x) * sigmoid(-x);
    /// Hyperbolic tangent.
    Tanh = |x| tanh(x);
    /// 1 − tanh²(x).
    TanhSlope = |x| 1.0 - tanh(x) * tanh(x);
    /// x·Φ(x).
    GeluErf = |x| x * normal_cdf(x);
    /// Φ(x) + x·φ(x).
    GeluErfSlope = |x| {
        normal_cdf(x) + x * (0.5 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2) * exp(-0.5 * x * x)
    };
    /// GELU with Φ approximated by tanh.
    GeluTanh = |x| x * sigmoid(2.0 * gelu_inner(x));
    /// The derivative of GELU's tanh form.
    GeluTanhSlope = |x| {
        let inner = 2.0 * gelu_inner(x);
        let inner_slope = 2.0 * GELU_SCALE * (1.0 + 3.0 * GELU_CUBIC * x * x);
        sigmoid(inner) * (1.0 + x * sigmoid(-inner) * inner_slope)
    };
    /// The Gauss error function.
    Erf = |x| erf(x);
    /// 2/√π · e^(−x²).
    ErfSlope = |x| FRAC_2_SQRT_PI * exp(-x * x);
    /// ln(1 + e^(βx)) / β.
    Softplus(beta) = |x| softplus(beta * x) / beta;
    /// σ(βx).
    SoftplusSlope(beta) = |x| sigmoid(beta * x);
    /// A line above zero; below, what tends to −`below` at a rate: ELU and its kin.
    Elu(above, below, rate) = |x| if x > 0.0 { above * x } else { below * exp_m1(rate * x) };
    /// The slope of the line above zero; that of the exponential elsewhere.
    EluSlope(above, below, rate) = |x| if x > 0.0 { above } else { below * exp(rate * x) };
    /// x·σ(βx).
    Silu(beta) = |x| x * sigmoid(beta * x);
    /// σ(z)(1 + z(1 − σ(z))) with z = βx.
    SiluSlope(beta) = |x| sigmoid(beta * x) * (1.0 + beta * x * sigmoid(-beta * x));
    /// A line between 0 and 1.
    HardSigmoid(slope, offset) = |x| within(slope * x + offset, 0.0, 1.0);
    /// Its slope where it is between them.
    HardSigmoidSlope(slope, offset) = |x| slope * inside(slope * x + offset, 0.0, 1.0);
    /// x times its hard sigmoid, as (x + 3) / 6 so that nothing cancels near −3.
    HardSwish = |x| x * within((x + 3.0) * (1.0 / 6.0), 0.0, 1.0);
    /// 0 up to −3, a line up to 3, then 1.
    HardSwishSlope = |x| {
        let line = x * (1.0 / 3.0) + 0.5;
        let above = if x >= 3.0 { 1.0 } else { line };
        if x <= -3.0 { 0.0 } else { above }
    };
    /// x·tanh(ln(1 + eˣ)).
    Mish = |x| {
        let (held, rest) = tanh_softplus(x);
        x * held / (held + rest)
    };
    /// t + x(1 − t²)σ(x) with t = tanh(ln(1 + eˣ)), where 1 − t² would cancel.
    MishSlope = |x| {
        let (held, rest) = tanh_softplus(x);
        let inverse = 1.0 / (held + rest);
        held * inverse + x * sigmoid(x) * (rest * inverse) * ((2.0 * held + rest) * inverse)
    };
    /// x between two bounds.
    Clip(low, high) = |x| within(x, low, high);
    /// 1 between the bounds, 0 elsewhere.
    ClipSlope(low, high) = |x| inside(x, low, high);
    /// x above the threshold, 0 elsewhere.
    ThresholdedRelu(threshold) = |x| if x <= threshold { 0.0 } else { x };
    /// 1 above the threshold, 0 elsewhere.
    ThresholdedReluSlope(threshold) = |x| if x > threshold { 1.0 } else { 0.0 };
    /// x / (1 + |x|).
    Softsign = |x| x / (1.0 + x.abs());
    /// 1 / (1 + |x|)².
    SoftsignSlope = |x| 1.0 / ((1.0 + x.abs()) * (1.0 + x.abs()));
    /// eˣ, which is its own slope.
    Exp = |x| exp(x);
    /// |x|.
    Abs = |x| x.abs();
    /// 1 above zero, −1 below, 0 at zero.
    AbsSlope = |x| {
        let above = if x > 0.0 { 1.0 } else { x * 0.0 };
        if x < 0.0 { -1.0 } else { above }
    };
}

/// x, at least `low` and at most `high`; NaN stays.
#[inline(always)]
fn within(x: f32, low: f32, high: f32) -> f32 {
    let above = if x < low { low } else { x };
    if above > high { high } else { above }
}

/// 1 between `low` and `high`, both excluded, 0 elsewhere.
#[inline(always)]
fn inside(x: f32, low: f32, high: f32) -> f32 {
    let above = if x > low { 1.0 } else { 0.0 };
    if x < high { above } else { 0.0 }
}

/// Σ cᵢ xⁿ⁻ⁱ by Horner's scheme.
#[inline(always)]
fn polynomial<const N: usize>(coefficients: [f32; N], x: f32) -> f32 {
    coefficients.iter().fold(0.0, |sum, c| sum * x + c)
}

/// eˣ as 2ⁿ and e^(x − n ln 2) − 1; at the ends of float32's range it stays finite and positive.
#[inline(always)]
fn power_and_rest(x: f32) -> (f32, f32) {
    const LOWEST: f32 = -87.0;
    const HIGHEST: f32 = 88.0;
    // Adding 1.5·2²³ rounds to an integer, which then stands in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    let x = if x < LOWEST { LOWEST } else { x };
    let x = if x > HIGHEST { HIGHEST } else { x };
    let rounded = x * LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = x - n * LN_2_HIGH - n * LN_2_LOW;
    let rest = polynomial([1.987_569_1e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5], r) * r * r + r;
    (f32::from_bits((rounded.to_bits() << 23).wrapping_add(0x3f80_0000)), rest)
}

/// eˣ.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    let (power, rest) = power_and_rest(x);
    (rest + 1.0) * power
}

/// eˣ − 1 without the cancellation near zero, where the power is 1.
#[inline(always)]
fn exp_m1(x: f32) -> f32 {
    let (power, rest) = power_and_rest(x);
    rest * power + (power - 1.0)
}

/// tanh(ln(1 + eˣ)) is the first of these over the sum of both, which are positive and no greater than 3.
#[inline(always)]
fn tanh_softplus(x: f32) -> (f32, f32) {
    let u = exp(-x.abs());
    let (above, below) = (1.0 + 2.0 * u, u * (u + 2.0));
    if x < 0.0 { (below, 2.0) } else { (above, 2.0 * u * u) }
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[inline(always)]
fn tanh(x: f32) -> f32 {
    let size = x.abs();
    let square = x * x;
    let series =
        polynomial([-5.704_989e-3, 2.063_908_9e-2, -5.373_971_6e-2, 0.133_314_42, -0.333_332_82], square) * square * x
            + x;
    let far = (1.0 - 2.0 / (exp(2.0 * size) + 1.0)).copysign(x);
    if size < 0.625 { series } else { far }
}

/// erf on −1..1, by its series.
#[inline(always)]
fn erf_series(x: f32) -> f32 {
    x * polynomial(
        [7.853_861_4e-5, -8.010_194e-4, 5.188_327_6e-3, -2.685_381_2e-2, 0.112_835_85, -0.376_126_26, 1.128_379_2],
        x * x,
    )
}

/// 1 − erf(x) for x ≥ 1.
#[inline(always)]
fn erfc_tail(x: f32) -> f32 {
    let inverse = 1.0 / x;
    let square = inverse * inverse;
    let near = polynomial(
        [
            2.326_82e-2,
            -0.138_703_94,
            0.368_742_47,
            -0.582_473_3,
            0.621_000_46,
            -0.494_451_53,
            0.340_488,
            -0.274_112_7,
            0.563_825_94,
        ],
        square,
    );
    let far = polynomial(
        [-10.477_664, 12.977_2, -7.495_518_7, 2.921_019, -1.015_265_3, 0.421_846_34, -0.282_076_74, 0.564_189_5],
        square,
    );
    exp(-x * x) * inverse * if x < 2.0 { near } else { far }
}

#[inline(always)]
fn erf(x: f32) -> f32 {
    let size = x.abs();
    let far = (1.0 - erfc_tail(if size < 1.0 { 1.0 } else { size })).copysign(x);
    if size < 1.0 { erf_series(x) } else { far }
}

/// Φ(x), the normal distribution function; accurate in its lower tail too.
#[inline(always)]
fn normal_cdf(x: f32) -> f32 {
    let scaled = x * FRAC_1_SQRT_2;
    let size = scaled.abs();
    let tail = 0.5 * erfc_tail(if size < 1.0 { 1.0 } else { size });
    let far = if scaled < 0.0 { tail } else { 1.0 - tail };
    if size < 1.0 { 0.5 + 0.5 * erf_series(scaled) } else { far }
}

/// ln 2 in two parts, the first with few digits so that its product with an exponent is exact.
pub(super) const LN_2_HIGH: f32 = 0.693_359_4;
pub(super) const LN_2_LOW: f32 = -2.121_944_4e-4;

/// ln(1 + x) − x for 1 + x between √½ and √2.
#[inline(always)]
pub(super) fn ln_1p_rest(x: f32) -> f32 {
    let square = x * x;
    let series = polynomial(
        [
            7.037_683_6e-2,
            -0.115_146_1,
            0.116_769_99,
            -0.124_201_41,
            0.142_493_23,
            -0.166_680_58,
            0.200_007_15,
            -0.249_999_94,
            0.333_333_31,
        ],
        x,
    );
    series * square * x - 0.5 * square
}

/// ln(1 + y) for y in 0..=1: the logarithm of a number between √½ and √2, after a halving where 1 + y is beyond.
#[inline(always)]
fn ln_1p(y: f32) -> f32 {
    let is_far = y > std::f32::consts::SQRT_2 - 1.0;
    let x = if is_far { 0.5 * y - 0.5 } else { y };
    let rest = ln_1p_rest(x);
    if is_far { rest + LN_2_LOW + x + LN_2_HIGH } else { rest + x }
}

/// ln(1 + eˣ), by the exponential of −|x|, which stays within 1.
#[inline(always)]
fn softplus(x: f32) -> f32 {
    let above = if x < 0.0 { 0.0 } else { x };
    above + ln_1p(exp(-x.abs()))
}

#[inline(always)]
fn gelu_inner(x: f32) -> f32 {
    GELU_SCALE * (x + GELU_CUBIC * x * x * x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    struct Collect<'a>(&'a [f32], &'a mut Vec<f32>);

    impl WithFunction for Collect<'_> {
        fn run(self, f: impl Function) {
            self.1.extend(self.0.iter().map(|&x| f.of(x)));
        }
    }

    const ALL: [Activation; 23] = [
        Activation::Relu,
        Activation::LeakyRelu { slope: 0.01 },
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::Erf,
        Activation::Gelu(GeluForm::Erf),
        Activation::Gelu(GeluForm::Tanh),
        Activation::Softplus { beta: 1.0 },
        Activation::Softplus { beta: 10.0 },
        Activation::Elu { alpha: 1.0 },
        Activation::Selu { alpha: 1.673_263_2, gamma: 1.050_701 },
        Activation::Celu { alpha: 0.5 },
        Activation::Silu { beta: 1.0 },
        Activation::Silu { beta: 1.702 },
        Activation::HardSigmoid { slope: 0.25, offset: 0.5 },
        Activation::HardSwish,
        Activation::Mish,
        Activation::Clip { low: 0.0, high: 6.0 },
        Activation::Clip { low: -1.0, high: f32::INFINITY },
        Activation::ThresholdedRelu { threshold: 1.0 },
        Activation::Softsign,
        Activation::Exp,
        Activation::Abs,
    ];

    fn points() -> Vec<f32> {
        let even = (-40_000..=40_000).map(|i| i as f32 * 5e-4);
        let small = (1..60).flat_map(|i| [0.5_f32.powi(i), -(0.5_f32.powi(i))]);
        even.chain(small).collect()
    }

    #[test]
    fn values_and_derivatives_follow_float64() {
        let x = points();
        for activation in ALL {
            let (mut values, mut slopes) = (Vec::new(), Vec::new());
            with_value(activation, Collect(&x, &mut values));
            with_derivative(activation, Collect(&x, &mut slopes));
            for ((&x, value), slope) in x.iter().zip(values).zip(slopes) {
                let exact = reference::value(&activation, f64::from(x));
                let exact_slope = reference::derivative(&activation, f64::from(x));
                // Eight units in the last place of the value, or of the size that the tails vanish from.
                let close = |found: f32, exact: f64, size: f64| {
                    let bound = 8.0 * f64::from(f32::EPSILON) * exact.abs().max(size);
                    approx::abs_diff_eq!(f64::from(found), exact, epsilon = bound)
                };
                let tail = match activation {
                    Activation::Gelu(_) => 0.1 * f64::from(x.abs()).min(1.0),
                    // βx is rounded before its exponential is taken: |βx| / 2 units more.
                    Activation::Softplus { beta } => exact.max(1e-6) * (1.0 + f64::from((beta * x).abs()) / 16.0),
                    Activation::Silu { beta } => exact.abs().max(1e-6) * (1.0 + f64::from((beta * x).abs()) / 16.0),
                    _ => 1e-6,
                };
                let steep = if activation == Activation::Exp { exact } else { 1.0 };
                assert!(close(value, exact, tail), "{activation:?}({x}) is {value}, not {exact}");
                assert!(close(slope, exact_slope, steep), "{activation:?}′({x}) is {slope}, not {exact_slope}");
            }
        }
    }

    #[test]
    fn values_stay_in_range_and_nan_stays_nan() {
        for activation in ALL {
            let x = [f32::NEG_INFINITY, -1e30, -100.0, 0.0, 100.0, 1e30, f32::INFINITY, f32::NAN];
            let mut values = Vec::new();
            with_value(activation, Collect(&x, &mut values));
            assert!(values[7].is_nan(), "{activation:?}");
            if let Activation::Sigmoid | Activation::Tanh | Activation::Erf = activation {
                assert!(values[..7].iter().all(|y| (-1.0..=1.0).contains(y)), "{activation:?}: {values:?}");
                assert!(values[..7].is_sorted(), "{activation:?}: {values:?}");
            }
        }
    }
}
