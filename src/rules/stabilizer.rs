//! Stabilisers keep a denominator away from zero.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// How a denominator d is kept away from zero. sign(0) is +1.
///
/// Where a stabilised denominator is still exactly zero (ε = 0 and d = 0), the quotient is 0 and the report counts
/// the relevance as dropped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Stabilizer {
    /// d + ε·sign(d).
    Absolute(f32),
    /// sign(d)·max(|d|, ε).
    Clip(f32),
    /// d + ε·rms(d)·sign(d), the root mean square taken over the sample.
    Rms(f32),
}

impl Stabilizer {
    /// ε = 1e-6, the field's default for every denominator.
    pub const DEFAULT: Stabilizer = Stabilizer::Absolute(1e-6);

    /// ε.
    pub fn epsilon(self) -> f32 {
        match self {
            Stabilizer::Absolute(epsilon) | Stabilizer::Clip(epsilon) | Stabilizer::Rms(epsilon) => epsilon,
        }
    }

    /// Whether a quotient by d alone, whatever d is, leaves room in float32 for a numerator that is multiplied later.
    pub(crate) fn holds(self) -> bool {
        match self {
            Stabilizer::Absolute(epsilon) | Stabilizer::Clip(epsilon) => epsilon >= f32::MIN_POSITIVE.sqrt(),
            Stabilizer::Rms(_) => false,
        }
    }
}

impl Default for Stabilizer {
    fn default() -> Self {
        Stabilizer::DEFAULT
    }
}

impl fmt::Display for Stabilizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stabilizer::Absolute(epsilon) => write!(f, "{epsilon:e}"),
            Stabilizer::Clip(epsilon) => write!(f, "clip:{epsilon:e}"),
            Stabilizer::Rms(epsilon) => write!(f, "rms:{epsilon:e}"),
        }
    }
}

impl FromStr for Stabilizer {
    type Err = Error;

    /// Reads `1e-6`, `clip:1e-6` or `rms:1e-6`.
    fn from_str(text: &str) -> Result<Self> {
        let (kind, number) = text.split_once(':').unwrap_or(("", text));
        let epsilon = number.trim().parse::<f32>().ok().filter(|epsilon| epsilon.is_finite() && *epsilon >= 0.0);
        match (kind, epsilon) {
            ("", Some(epsilon)) => Ok(Stabilizer::Absolute(epsilon)),
            ("clip", Some(epsilon)) => Ok(Stabilizer::Clip(epsilon)),
            ("rms", Some(epsilon)) => Ok(Stabilizer::Rms(epsilon)),
            _ => Err(Error::argument(format!("`{text}` is no stabiliser"))
                .help("give a number of zero or more, such as 1e-6, or clip:1e-6 or rms:1e-6")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stabilisers_print_as_they_are_read() {
        for text in ["1e-6", "clip:2.5e-1", "rms:1e-2", "0e0"] {
            assert_eq!(text.parse::<Stabilizer>().unwrap().to_string(), text);
        }
        for text in ["", "-1", "nan", "inf", "soft:1"] {
            assert!(text.parse::<Stabilizer>().is_err(), "{text}");
        }
    }
}
