//! LRP-γ: contributions through positive weights are favoured by 1 + γ, or those that agree with the sign of z.
//!
//! ```text
//! original:
//!         R_j = Σ_i x_j (w + γ w⁺) R_i / stab(Σ … + b + γ b⁺)
//! generalised:
//! z > 0:  R_j = Σ_i (x_j⁺ (w + γ w⁺) + x_j⁻ (w + γ w⁻)) R_i / stab(Σ … + b + γ b⁺)
//! z < 0:  R_j = Σ_i (x_j⁺ (w + γ w⁻) + x_j⁻ (w + γ w⁺)) R_i / stab(Σ … + b + γ b⁻)
//! ```
//!
//! (Original: Montavon et al. 2019, Layer-Wise Relevance Propagation: An Overview, made for x ≥ 0. Generalised: Andéol et
//! al. 2021, Learning Domain Invariant Representations by Joint Wasserstein Distance Minimization; the form that zennit
//! computes, and what `gamma` means here.) The two are equal where x ≥ 0 and z > 0.
//!
//! Where tools differ: captum's γ rule is the original with the bias unscaled, d = Σ … + b; RelevancePropagation.jl's
//! `GammaRule` is the original as here. Captum's and the original have no case for the sign of z or of x. TorchLRP's
//! weight, w + γ w w⁺, is quadratic by mistake.

use super::{BiasPart, Group, InputPart, LinearRule, Mask, Stabilizer, WeightPart, divided, plus};

impl LinearRule {
    /// LRP-γ as it was first written, for inputs that are never negative.
    pub fn gamma_original(gamma: f32, stabilizer: Stabilizer) -> Self {
        let favour_positive = WeightPart::Scaled { positive: 1.0 + gamma, negative: 1.0 };
        let bias = BiasPart::Scaled { positive: 1.0 + gamma, negative: 1.0 };
        let group = divided(vec![plus(InputPart::Whole, favour_positive)], bias, stabilizer);
        LinearRule { name: format!("gamma-original({gamma})"), groups: vec![group], bounds: None }
    }

    /// Captum's LRP-γ: the original with the bias unscaled.
    pub fn captum_gamma(gamma: f32, stabilizer: Stabilizer) -> Self {
        let mut rule = LinearRule::gamma_original(gamma, stabilizer);
        rule.groups.iter_mut().for_each(|group| group.bias = BiasPart::WHOLE);
        LinearRule { name: format!("captum's gamma({gamma})"), ..rule }
    }

    /// Generalised LRP-γ.
    pub fn gamma(gamma: f32, stabilizer: Stabilizer) -> Self {
        let favour_positive = WeightPart::Scaled { positive: 1.0 + gamma, negative: 1.0 };
        let favour_negative = WeightPart::Scaled { positive: 1.0, negative: 1.0 + gamma };
        let agreeing = vec![plus(InputPart::Positive, favour_positive), plus(InputPart::Negative, favour_negative)];
        let opposing = vec![plus(InputPart::Positive, favour_negative), plus(InputPart::Negative, favour_positive)];
        let bias_above = BiasPart::Scaled { positive: 1.0 + gamma, negative: 1.0 };
        let bias_below = BiasPart::Scaled { positive: 1.0, negative: 1.0 + gamma };
        let groups = vec![
            Group { mask: Mask::Positive, ..divided(agreeing, bias_above, stabilizer) },
            Group { mask: Mask::Negative, ..divided(opposing, bias_below, stabilizer) },
        ];
        LinearRule { name: format!("gamma({gamma})"), groups, bounds: None }
    }
}
