//! The gradient as a rule: R_in = Wᵀ R, with no quotient.

use super::{BiasPart, Group, InputPart, LinearRule, Mask, Quotient, Share, WeightPart, plus};

impl LinearRule {
    /// The chain rule through a linear layer.
    pub fn gradient() -> Self {
        let group = Group {
            factor: 1.0,
            terms: vec![plus(InputPart::One, WeightPart::WHOLE)],
            bias: BiasPart::Absent,
            mask: Mask::Everywhere,
            quotient: Quotient::Plain,
            share: Share::Absorbed,
        };
        LinearRule { name: "gradient".to_owned(), groups: vec![group], bounds: None }
    }
}
