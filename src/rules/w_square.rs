//! The w² rule, for the layer that reads the input.
//!
//! R_j = Σ_i w_ij² R_i / stab(Σ_j w_ij² + b_i²)        (Montavon et al. 2017, Explaining NonLinear Classification
//! Decisions with Deep Taylor Decomposition)
//!
//! Where tools differ: zennit squares the bias too, as here; innvestigate, the LRP toolbox and RelevancePropagation.jl leave
//! it out.

use super::{BiasPart, InputPart, LinearRule, Stabilizer, WeightPart, divided, plus};

impl LinearRule {
    /// The w² rule, b² in the denominator.
    pub fn w_square(stabilizer: Stabilizer) -> Self {
        let group = divided(vec![plus(InputPart::One, WeightPart::Squared)], BiasPart::Squared, stabilizer);
        LinearRule { name: "w-square".to_owned(), groups: vec![group], bounds: None }
    }
}
