//! Powers and their derivatives in float32, as loops over them become vector code: squares, roots and inverses by the
//! processor's own operations, every other one by e^(p ln x).

use super::functions::{Function, LN_2_HIGH, LN_2_LOW, exp, functions, ln_1p_rest};
use crate::layers::Activation;

functions! {
    /// (x + offset)².
    Square(offset) = |x| (x + offset) * (x + offset);
    /// 2(x + offset).
    SquareSlope(offset) = |x| 2.0 * (x + offset);
    /// √(x + offset).
    Root(offset) = |x| (x + offset).sqrt();
    /// ½ / √(x + offset); 0 where the root begins.
    RootSlope(offset) = |x| {
        let root = (x + offset).sqrt();
        if root == 0.0 { 0.0 } else { 0.5 / root }
    };
    /// 1 / √(x + offset).
    InverseRoot(offset) = |x| 1.0 / (x + offset).sqrt();
    /// −½ (x + offset)^(−3/2).
    InverseRootSlope(offset) = |x| -0.5 / ((x + offset) * (x + offset).sqrt());
    /// 1 / (x + offset).
    Inverse(offset) = |x| 1.0 / (x + offset);
    /// −1 / (x + offset)².
    InverseSlope(offset) = |x| -1.0 / ((x + offset) * (x + offset));
}

/// factor · (x + offset)^exponent.
#[derive(Clone, Copy)]
pub(super) struct Power {
    factor: f32,
    offset: f32,
    exponent: f32,
    /// What a base below zero gives its size.
    below: f32,
    at_zero: f32,
}

impl Power {
    /// (x + offset)^exponent.
    pub(super) fn of_base(offset: f32, exponent: f32) -> Self {
        let (below, at_zero) = (Activation::sign_of_power(exponent), Activation::power_of_zero(exponent));
        Power { factor: 1.0, offset, exponent, below, at_zero }
    }

    /// Its derivative in x; 0 where a root begins.
    pub(super) fn slope_of_base(offset: f32, exponent: f32) -> Self {
        let slope = Power { factor: exponent, ..Power::of_base(offset, exponent - 1.0) };
        let is_root = exponent > 0.0 && exponent < 1.0;
        Power { at_zero: if is_root { 0.0 } else { exponent * slope.at_zero }, ..slope }
    }
}

impl Function for Power {
    #[inline(always)]
    fn of(self, x: f32) -> f32 {
        let base = x + self.offset;
        let size = self.factor * exp(self.exponent * ln(base.abs()));
        // A NaN is neither above nor below, and stays.
        let signed = if base < 0.0 { self.below * size } else { base + self.at_zero };
        if base > 0.0 { size } else { signed }
    }
}

/// ln x of a positive number: that of its significand, between √½ and √2, and its exponent's share.
#[inline(always)]
fn ln(x: f32) -> f32 {
    const ROOT_OF_HALF: u32 = 0x3f35_04f3;
    let shifted = x.to_bits().wrapping_sub(ROOT_OF_HALF);
    let n = (shifted.cast_signed() >> 23) as f32;
    let significand = f32::from_bits((shifted & 0x007f_ffff).wrapping_add(ROOT_OF_HALF)) - 1.0;
    ln_1p_rest(significand) + n * LN_2_LOW + significand + n * LN_2_HIGH
}

#[cfg(test)]
mod tests {
    use crate::cpu::functions::{Function, WithFunction, with_derivative, with_value};
    use crate::layers::Activation;
    use crate::reference;

    struct Collect<'a>(&'a [f32], &'a mut Vec<f32>);

    impl WithFunction for Collect<'_> {
        fn run(self, f: impl Function) {
            self.1.extend(self.0.iter().map(|&x| f.of(x)));
        }
    }

    fn found(activation: Activation, x: &[f32]) -> [Vec<f32>; 2] {
        let (mut values, mut slopes) = (Vec::new(), Vec::new());
        with_value(activation, Collect(x, &mut values));
        with_derivative(activation, Collect(x, &mut slopes));
        [values, slopes]
    }

    const EXPONENTS: [f32; 10] = [2.0, 0.5, -0.5, -1.0, 3.0, 0.75, -0.75, -2.0, 1.5, 1.0];

    #[test]
    fn powers_follow_float64() {
        let size = (-60..60).map(|i| 1.31_f32.powi(i)).chain((1..2000).map(|i| i as f32 * 0.01));
        let points: Vec<f32> = size.flat_map(|x| [x, -x]).collect();
        for exponent in EXPONENTS {
            for offset in [0.0, 1.0] {
                let power = Activation::Power { offset, exponent };
                let [values, slopes] = found(power, &points);
                for ((&x, value), slope) in points.iter().zip(values).zip(slopes) {
                    // What the function sees: the sum as float32 rounds it.
                    let base = f64::from(x + offset);
                    let moved = Activation::Power { offset: 0.0, exponent };
                    for (found, exact) in
                        [(value, reference::value(&moved, base)), (slope, reference::derivative(&moved, base))]
                    {
                        assert_eq!(found.is_nan(), exact.is_nan(), "({x} + {offset})^{exponent}: {found}, not {exact}");
                        if exact.is_nan() || exact.is_infinite() {
                            continue;
                        }
                        // The logarithm, up to |p ln x|, is rounded before its exponential is taken.
                        let logarithm = f64::from(exponent).abs().max(1.0) * (1.0 + base.abs().ln().abs());
                        let bound = (4.0 + 2.0 * logarithm) * f64::from(f32::EPSILON) * exact.abs();
                        let close = approx::abs_diff_eq!(f64::from(found), exact, epsilon = bound.max(1e-37));
                        assert!(close, "({x} + {offset})^{exponent}: {found}, not {exact}");
                    }
                }
            }
        }
    }

    #[test]
    fn zero_and_nan_are_as_the_reference_has_them() {
        for exponent in EXPONENTS {
            let power = Activation::Power { offset: 0.0, exponent };
            let [values, slopes] = found(power, &[0.0, f32::NAN]);
            assert_eq!(f64::from(values[0]), reference::value(&power, 0.0), "0^{exponent}");
            assert_eq!(f64::from(slopes[0]), reference::derivative(&power, 0.0), "the slope of x^{exponent} at 0");
            let is_line = exponent == 1.0;
            assert!(values[1].is_nan() && (is_line || slopes[1].is_nan()), "x^{exponent} of NaN");
        }
    }
}
