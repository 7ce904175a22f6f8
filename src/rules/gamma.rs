//! LRP-γ, generalised: contributions that agree with the sign of z are favoured by 1 + γ.
//!
//! ```text
//! z > 0:  R_j = Σ_i (x_j⁺ (w + γ w⁺) + x_j⁻ (w + γ w⁻)) R_i / stab(Σ … + b + γ b⁺)
//! z < 0:  R_j = Σ_i (x_j⁺ (w + γ w⁻) + x_j⁻ (w + γ w⁺)) R_i / stab(Σ … + b + γ b⁻)
//! ```
//!
//! (Andéol et al. 2021, Learning Domain Invariant Representations by Joint Wasserstein Distance Minimization; the form
//! that zennit computes.) Captum's γ rule knows no sign: x (w + γ w⁺), with the bias unscaled.

use super::{BiasPart, Group, InputPart, LinearRule, Mask, Stabilizer, WeightPart, divided, plus};

impl LinearRule {
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
