//! Whose formula a rule's name stands for.
//!
//! Tools give one name to different formulas. A dialect turns the name into the terms that its tool computes, so that two
//! tools' numbers can be told apart by their rules alone:
//!
//! | rule | zennit 1.0.0 | captum 0.9.0 | innvestigate 2.1.2 |
//! | --- | --- | --- | --- |
//! | epsilon, norm | ε = 1e-6 | ε = 1e-9 | ε = 1e-7; norm as zero |
//! | zero | nothing is added | nothing is added | only a denominator of zero becomes 1e-7 |
//! | gamma | generalised: by the signs of x and z | original, the bias unscaled | none |
//! | gamma-original | as its paper has it | as gamma | none |
//! | alpha-beta | b⁺ and b⁻ in the denominators | α = 1 alone, as z-plus | b in both |
//! | alpha-beta-x | as Binder states it | none | β₂ for x⁻w⁻ too |
//! | z-plus | b⁺ | w⁺ with x and b whole | no bias |
//! | box, flat | no bias | none | the same |
//! | w-square | b² | none | no bias |
//!
//! zennit's is the default, and has rules that zennit lacks as their papers write them. The others refuse what their tool
//! does not have: there is no number of theirs to be compared with. innvestigate divides by a tiny denominator and replaces
//! one of exactly zero; the nearest stabiliser here is [`Stabilizer::Clip`] with the same 1e-7, which differs from it only
//! below that.

use std::fmt;
use std::str::FromStr;

use super::{Bias, LinearRule, Stabilizer};
use crate::error::{Error, Result};

/// Whose formula a rule's name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// zennit's, and the papers' for rules that it lacks.
    #[default]
    Zennit,
    /// Captum's.
    Captum,
    /// innvestigate's.
    Innvestigate,
}

impl Dialect {
    /// Every dialect.
    pub const ALL: [Dialect; 3] = [Dialect::Zennit, Dialect::Captum, Dialect::Innvestigate];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Dialect::Zennit => "zennit",
            Dialect::Captum => "captum",
            Dialect::Innvestigate => "innvestigate",
        }
    }

    /// The ε rule's own stabiliser, unless told.
    pub fn default_epsilon(self) -> Stabilizer {
        match self {
            Dialect::Zennit => Stabilizer::DEFAULT,
            Dialect::Captum => Stabilizer::Absolute(1e-9),
            Dialect::Innvestigate => Stabilizer::Absolute(1e-7),
        }
    }

    /// Every other denominator's stabiliser, unless told.
    pub fn default_stabilizer(self) -> Stabilizer {
        match self {
            Dialect::Zennit | Dialect::Captum => self.default_epsilon(),
            Dialect::Innvestigate => Stabilizer::Clip(1e-7),
        }
    }

    /// LRP-0.
    pub fn zero(self) -> LinearRule {
        match self {
            Dialect::Zennit | Dialect::Captum => LinearRule::zero(),
            Dialect::Innvestigate => {
                LinearRule { name: "innvestigate's zero".to_owned(), ..LinearRule::epsilon(self.default_stabilizer()) }
            }
        }
    }

    /// LRP-γ.
    ///
    /// # Errors
    /// If its tool has none.
    pub fn gamma(self, gamma: f32, stabilizer: Stabilizer) -> Result<LinearRule> {
        match self {
            Dialect::Zennit => Ok(LinearRule::gamma(gamma, stabilizer)),
            Dialect::Captum => Ok(LinearRule::captum_gamma(gamma, stabilizer)),
            Dialect::Innvestigate => Err(self.lacks("gamma")),
        }
    }

    /// LRP-γ as it was first written.
    ///
    /// # Errors
    /// If its tool has none.
    pub fn gamma_original(self, gamma: f32, stabilizer: Stabilizer) -> Result<LinearRule> {
        match self {
            Dialect::Zennit => Ok(LinearRule::gamma_original(gamma, stabilizer)),
            Dialect::Captum => Ok(LinearRule::captum_gamma(gamma, stabilizer)),
            Dialect::Innvestigate => Err(self.lacks("gamma-original")),
        }
    }

    /// LRP-αβ with β = α − 1.
    ///
    /// # Errors
    /// If its tool has none with this α.
    pub fn alpha_beta(self, alpha: f32, stabilizer: Stabilizer) -> Result<LinearRule> {
        match self {
            Dialect::Zennit => Ok(LinearRule::alpha_beta(alpha, stabilizer)),
            Dialect::Captum if alpha == 1.0 => Ok(LinearRule::captum_z_plus(stabilizer)),
            Dialect::Captum => Err(self.lacks(&format!("alpha-beta with alpha = {alpha}"))),
            Dialect::Innvestigate => Ok(LinearRule::innvestigate_alpha_beta(alpha, stabilizer)),
        }
    }

    /// Binder's αβ.
    ///
    /// # Errors
    /// If its tool has none.
    pub fn alpha_beta_x(self, alpha: [f32; 2], beta: [f32; 2], stabilizer: Stabilizer) -> Result<LinearRule> {
        match self {
            Dialect::Zennit => Ok(LinearRule::alpha_beta_x(alpha, beta, stabilizer)),
            Dialect::Captum => Err(self.lacks("alpha-beta-x")),
            Dialect::Innvestigate => Ok(LinearRule::innvestigate_alpha_beta_x(alpha, beta, stabilizer)),
        }
    }

    /// LRP-z⁺.
    pub fn z_plus(self, stabilizer: Stabilizer) -> LinearRule {
        match self {
            Dialect::Zennit => LinearRule::z_plus(stabilizer),
            Dialect::Captum => LinearRule::captum_z_plus(stabilizer),
            Dialect::Innvestigate => LinearRule::z_plus(stabilizer).with_bias(Bias::LeftOut),
        }
    }

    /// The box rule before its bounds are known.
    ///
    /// # Errors
    /// If its tool has none.
    pub fn zbox(self, stabilizer: Stabilizer) -> Result<LinearRule> {
        match self {
            Dialect::Zennit | Dialect::Innvestigate => Ok(LinearRule::zbox_unbounded(stabilizer)),
            Dialect::Captum => Err(self.lacks("box")),
        }
    }

    /// The w² rule.
    ///
    /// # Errors
    /// If its tool has none.
    pub fn w_square(self, stabilizer: Stabilizer) -> Result<LinearRule> {
        match self {
            Dialect::Zennit => Ok(LinearRule::w_square(stabilizer)),
            Dialect::Captum => Err(self.lacks("w-square")),
            Dialect::Innvestigate => Ok(LinearRule::w_square(stabilizer).with_bias(Bias::LeftOut)),
        }
    }

    /// The flat rule.
    ///
    /// # Errors
    /// If its tool has none.
    pub fn flat(self, stabilizer: Stabilizer) -> Result<LinearRule> {
        match self {
            Dialect::Zennit | Dialect::Innvestigate => Ok(LinearRule::flat(stabilizer)),
            Dialect::Captum => Err(self.lacks("flat")),
        }
    }

    fn lacks(self, rule: &str) -> Error {
        let has = match self {
            Dialect::Zennit => "every rule",
            Dialect::Captum => "epsilon, zero, norm, gamma, z-plus and alpha-beta with alpha = 1",
            Dialect::Innvestigate => "epsilon, zero, norm, alpha-beta, alpha-beta-x, z-plus, box, w-square and flat",
        };
        Error::argument(format!("{self} has no rule {rule}"))
            .help(format!("leave the dialect out, or choose among what {self} has: {has}"))
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Dialect {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let known = Dialect::ALL.into_iter().find(|dialect| dialect.name() == text);
        known.ok_or_else(|| crate::error::unknown("dialect", text, Dialect::ALL.map(Dialect::name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dialects_print_as_they_are_read() {
        for dialect in Dialect::ALL {
            assert_eq!(dialect.to_string().parse::<Dialect>().unwrap(), dialect);
        }
        assert!("zenit".parse::<Dialect>().unwrap_err().advice().unwrap().contains("`zennit`"));
    }
}
