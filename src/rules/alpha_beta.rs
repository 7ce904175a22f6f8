//! LRP-αβ: positive and negative contributions are kept apart and weighed, α − β = 1.
//!
//! ```text
//! R_j = Σ_i ( α (x⁺w⁺ + x⁻w⁻) / stab(Σ (x⁺w⁺ + x⁻w⁻) + b⁺) − β (x⁺w⁻ + x⁻w⁺) / stab(Σ (x⁺w⁻ + x⁻w⁺) + b⁻) ) R_i
//! ```
//!
//! (Bach et al. 2015, On Pixel-Wise Explanations.) z⁺ is α = 1, β = 0 (Montavon et al. 2017, Explaining NonLinear
//! Classification Decisions with Deep Taylor Decomposition, whose hidden layers it is for; for x ≥ 0 and without a bias
//! it is the excitation backprop of Zhang et al. 2016, Top-Down Neural Attention by Excitation Backprop).
//!
//! Where tools differ: captum's z⁺, its only αβ, clamps the weight alone and keeps input and bias whole; innvestigate's
//! `ZPlusFast` does so without the bias. innvestigate's αβ has the whole bias in both denominators, its `ZPlus` none:
//!
//! ```text
//! captum's z⁺:        R_j = Σ_i x w⁺ / stab(Σ x w⁺ + b) R_i
//! innvestigate's αβ:  b for both b⁺ and b⁻ above
//! ```
//!
//! The LRP toolbox adds β's part, with β = 1 − α: its β is ours negated.
//!
//! Binder's form weighs the four products one by one, each over a denominator of its own:
//!
//! ```text
//! R_j = Σ_i ( α₁ x⁺w⁺ / stab(Σ x⁺w⁺ + b⁺) + α₂ x⁻w⁻ / stab(Σ x⁻w⁻ + b⁻)
//!           − β₁ x⁺w⁻ / stab(Σ x⁺w⁻ + b⁻) − β₂ x⁻w⁺ / stab(Σ x⁻w⁺ + b⁺) ) R_i
//! ```
//!
//! (A. Binder's proposal, as innvestigate states it in its `AlphaBetaXRule`; its presets 1000, 1010, 1001 and 2m100 give the
//! factors of x⁺w⁺, x⁺w⁻, x⁻w⁺ and x⁻w⁻.) Where tools differ: innvestigate is the only one that has it, and its code
//! weighs x⁻w⁻ by β₂ instead of α₂; `alpha_beta_x` is the stated form.

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

    /// Binder's αβ: α for x⁺w⁺ and x⁻w⁻, β for x⁺w⁻ and x⁻w⁺.
    pub fn alpha_beta_x(alpha: [f32; 2], beta: [f32; 2], stabilizer: Stabilizer) -> Self {
        let above = BiasPart::Scaled { positive: 1.0, negative: 0.0 };
        let below = BiasPart::Scaled { positive: 0.0, negative: 1.0 };
        let group =
            |factor, input, weight, bias| Group { factor, ..divided(vec![plus(input, weight)], bias, stabilizer) };
        let groups = vec![
            group(alpha[0], InputPart::Positive, WeightPart::POSITIVE, above),
            group(alpha[1], InputPart::Negative, WeightPart::NEGATIVE, below),
            group(-beta[0], InputPart::Positive, WeightPart::NEGATIVE, below),
            group(-beta[1], InputPart::Negative, WeightPart::POSITIVE, above),
        ];
        let name = format!("alpha-beta-x({}, {}; {}, {})", alpha[0], alpha[1], beta[0], beta[1]);
        LinearRule { name, groups, bounds: None }
    }

    /// innvestigate's LRP-αβ: the whole bias stands in both denominators.
    pub fn innvestigate_alpha_beta(alpha: f32, stabilizer: Stabilizer) -> Self {
        let mut rule = LinearRule::alpha_beta(alpha, stabilizer);
        rule.groups.iter_mut().for_each(|group| group.bias = BiasPart::WHOLE);
        LinearRule { name: format!("innvestigate's alpha-beta({alpha})"), ..rule }
    }

    /// Binder's αβ as innvestigate computes it: β₂ for x⁻w⁻ too, and α₂ for nothing.
    pub fn innvestigate_alpha_beta_x(alpha: [f32; 2], beta: [f32; 2], stabilizer: Stabilizer) -> Self {
        let rule = LinearRule::alpha_beta_x([alpha[0], beta[1]], beta, stabilizer);
        let name = format!("innvestigate's alpha-beta-x({}, {}; {}, {})", alpha[0], alpha[1], beta[0], beta[1]);
        LinearRule { name, ..rule }
    }

    /// Captum's LRP-z⁺: the weight is clamped, input and bias are whole.
    pub fn captum_z_plus(stabilizer: Stabilizer) -> Self {
        let terms = vec![plus(InputPart::Whole, WeightPart::POSITIVE)];
        let groups = vec![divided(terms, BiasPart::WHOLE, stabilizer)];
        LinearRule { name: "captum's z-plus".to_owned(), groups, bounds: None }
    }

    /// LRP-z⁺: α = 1, β = 0.
    pub fn z_plus(stabilizer: Stabilizer) -> Self {
        LinearRule { name: "z-plus".to_owned(), ..LinearRule::alpha_beta(1.0, stabilizer) }
    }
}
