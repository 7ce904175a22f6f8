//! The box rule (zᴮ), for the layer that reads an input with known bounds l ≤ x ≤ h.
//!
//! R_j = Σ_i (x_j w_ij − l_j w_ij⁺ − h_j w_ij⁻) R_i / stab(Σ_j …)        (Montavon et al. 2017, Explaining NonLinear
//! Classification Decisions with Deep Taylor Decomposition)
//!
//! The bias cancels between the three terms.
//!
//! Where tools differ: zennit sends b, b⁺ and b⁻ through its three copies of the layer, innvestigate none: equal up to
//! rounding. Here and in zennit bounds are tensors, in innvestigate two numbers; Chefer et al. take each sample's own
//! smallest and largest value, which is another rule.

use super::{BiasPart, Bounds, InputPart, LinearRule, Stabilizer, WeightPart, divided, minus, plus};

impl LinearRule {
    /// The box rule for inputs within `bounds`.
    pub fn zbox(bounds: Bounds, stabilizer: Stabilizer) -> Self {
        LinearRule { bounds: Some(bounds), ..LinearRule::zbox_unbounded(stabilizer) }
    }

    /// The box rule before its bounds are known: a composite that is told the bounds of the model's input fills them in.
    pub fn zbox_unbounded(stabilizer: Stabilizer) -> Self {
        let terms = vec![
            plus(InputPart::Whole, WeightPart::WHOLE),
            minus(InputPart::Low, WeightPart::POSITIVE),
            minus(InputPart::High, WeightPart::NEGATIVE),
        ];
        let groups = vec![divided(terms, BiasPart::Absent, stabilizer)];
        LinearRule { name: "box".to_owned(), groups, bounds: None }
    }
}
