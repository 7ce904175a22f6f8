//! LRP-αβ: positive and negative contributions are kept apart and weighed, α − β = 1.
//!
//! ```text
//! R_j = Σ_i ( α (x⁺w⁺ + x⁻w⁻) / stab(Σ (x⁺w⁺ + x⁻w⁻) + b⁺) − β (x⁺w⁻ + x⁻w⁺) / stab(Σ (x⁺w⁻ + x⁻w⁺) + b⁻) ) R_i
//! ```
//!
//! (Bach et al. 2015.) z⁺ is α = 1, β = 0. Captum's z⁺ clamps the weight only and keeps the bias whole.

use super::{BiasPart, Group, InputPart, LinearRule, Stabilizer, WeightPart, divided, plus};

impl LinearRule {
    /// LRP-αβ with β = α − 1.
    pub fn alpha_beta(alpha: f32, stabilizer: Stabilizer) -> Self {
        let beta = alpha - 1.0;
        let raising =
            vec![plus(InputPart::Positive, WeightPart::POSITIVE), plus(InputPart::Negative, WeightPart::NEGATIVE)];
        let lowering =
            vec![plus(InputPart::Positive, WeightPart::NEGATIVE), plus(InputPart::Negative, WeightPart::POSITIVE)];
        let bias_above = BiasPart::Scaled { positive: 1.0, negative: 0.0 };
        let bias_below = BiasPart::Scaled { positive: 0.0, negative: 1.0 };
        let groups = vec![
            Group { factor: alpha, ..divided(raising, bias_above, stabilizer) },
            Group { factor: -beta, ..divided(lowering, bias_below, stabilizer) },
        ];
        LinearRule { name: format!("alpha-beta({alpha})"), groups, bounds: None }
    }

    /// LRP-z⁺: α = 1, β = 0.
    pub fn z_plus(stabilizer: Stabilizer) -> Self {
        LinearRule { name: "z-plus".to_owned(), ..LinearRule::alpha_beta(1.0, stabilizer) }
    }
}
