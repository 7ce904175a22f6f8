//! LRP-0 and LRP-ε: relevance in proportion to the contributions to z, damped by ε.
//!
//! R_j = x_j Σ_i w_ij R_i / stab(z_i)        (Bach et al. 2015, On Pixel-Wise Explanations, ε-stabilised propagation)
//!
//! The bias stands in the denominator and absorbs its part. On a network of rectifiers with biases, ε → 0 gives
//! gradient × input.
//!
//! Where tools differ: all three of [`Dialect`](super::Dialect) have the formula, each with an ε of its own (1e-6 zennit,
//! 1e-9 captum, 1e-7 innvestigate). innvestigate's rule for ε = 0, `Z`, changes a denominator only where it is zero. LXT
//! adds ε without a sign, so that a z near −ε explodes. zennit gives sums and average pools this rule as `Norm`, where a
//! pool's z is the mean, so that ε is relative to that and not to the sum.

use super::{BiasPart, InputPart, LinearRule, Stabilizer, WeightPart, divided, plus};

impl LinearRule {
    /// LRP-ε with the bias in the denominator.
    pub fn epsilon(stabilizer: Stabilizer) -> Self {
        let group = divided(vec![plus(InputPart::Whole, WeightPart::WHOLE)], BiasPart::WHOLE, stabilizer);
        LinearRule { name: format!("epsilon({stabilizer})"), groups: vec![group], bounds: None }
    }

    /// LRP-0: ε = 0.
    pub fn zero() -> Self {
        LinearRule { name: "zero".to_owned(), ..LinearRule::epsilon(Stabilizer::Absolute(0.0)) }
    }

    /// The ε rule under the name that it has on layers without parameters: sums and average pools.
    pub fn norm(stabilizer: Stabilizer) -> Self {
        LinearRule { name: format!("norm({stabilizer})"), ..LinearRule::epsilon(stabilizer) }
    }
}
