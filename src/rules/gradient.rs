//! The gradient as a rule, with no quotient.
//!
//! R_j = Σ_i w_ij R_i        (the chain rule; Simonyan et al. 2014, Deep Inside Convolutional Networks, use it to explain)
//!
//! Where tools differ: nowhere. zennit's layers without a rule of their own take it.

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
