//! What becomes of a layer's bias.
//!
//! Counted, the bias stands in the denominator and takes its part of the relevance: the sum shrinks from layer to layer
//! (Bach et al. 2015; every tool's default). Left out, denominators hold the inputs' contributions alone (zennit's
//! `zero_params='bias'`). Redistributed, what bias and ε hold goes in equal parts to the output's inputs, so that
//! nothing is lost: each gets (b̃ ± ε) q / N (Arras et al. 2017, Explaining Recurrent Neural Network Predictions in
//! Sentiment Analysis, with their factor of 1).
//!
//! Where tools differ: captum leaves it out of γ and z⁺ when told `set_bias_to_zero`; innvestigate has rules of their own
//! names without it (`ZPlus`, `…IgnoreBias`).
//!
//! Masks read the forward pass's own z, bias included, whichever is chosen.

use super::{BiasPart, Group, LinearRule, Quotient, Share};

/// What becomes of a layer's bias under a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bias {
    /// It stands in the denominator as the rule has it, and absorbs its part.
    Counted,
    /// It is in no denominator.
    LeftOut,
    /// It stands in the denominator; its part and that of ε go to the inputs in equal parts.
    Redistributed,
}

impl LinearRule {
    /// The rule with another treatment of the bias. Groups without a quotient have none, and stay.
    #[must_use]
    pub fn with_bias(self, bias: Bias) -> Self {
        let changed = |group: Group| match (bias, group.quotient) {
            (Bias::Counted, _) | (_, Quotient::Plain) => group,
            (Bias::LeftOut, Quotient::Divided(_)) => Group { bias: BiasPart::Absent, ..group },
            (Bias::Redistributed, Quotient::Divided(_)) => Group { share: Share::Redistributed, ..group },
        };
        let name = match bias {
            Bias::Counted => self.name,
            Bias::LeftOut => format!("{}, bias left out", self.name),
            Bias::Redistributed => format!("{}, bias redistributed", self.name),
        };
        LinearRule { name, groups: self.groups.into_iter().map(changed).collect(), ..self }
    }
}
