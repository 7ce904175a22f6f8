//! The flat rule: relevance spread evenly over an output's inputs.
//!
//! R_j = Σ_i R_i / stab(N_i), with N_i the number of in-image inputs of output i.   (Bach et al. 2016, Controlling
//! Explanatory Heatmap Resolution and Semantics via Decomposition Depth)
//!
//! Where tools differ: not in the formula; zennit, innvestigate and the LRP toolbox all leave the bias out. They do in
//! which layers a preset gives it: zennit the first that is listed, innvestigate and this crate every one that reads an
//! input. Relevance that a dead rectifier receives from it is passed on, and not zero as under rules that multiply by x.

use super::{BiasPart, InputPart, LinearRule, Stabilizer, WeightPart, divided, plus};

impl LinearRule {
    /// The flat rule; no bias.
    pub fn flat(stabilizer: Stabilizer) -> Self {
        let group = divided(vec![plus(InputPart::One, WeightPart::One)], BiasPart::Absent, stabilizer);
        LinearRule { name: "flat".to_owned(), groups: vec![group], bounds: None }
    }
}
