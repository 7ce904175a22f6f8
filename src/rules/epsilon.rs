//! LRP-0 and LRP-ε: relevance in proportion to the contributions to z, damped by ε.
//!
//! R_j = x_j Σ_i w_ij R_i / stab(z_i)        (Bach et al. 2015, On Pixel-Wise Explanations, ε-stabilised propagation)
//!
//! The bias stands in the denominator and absorbs its part, as in zennit and captum. On a network of rectifiers with
//! biases, ε → 0 gives gradient × input.

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
