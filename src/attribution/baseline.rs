//! Baselines: the input that counts as nothing there.

use crate::error::{Error, ErrorKind, Result};
use crate::tensor::{Shape, Tensor};

/// The values of an input that counts as nothing there: where a path begins, or what a window is covered with.
#[derive(Debug, Clone, PartialEq)]
pub enum Baseline {
    /// One value everywhere.
    Value(f32),
    /// The values of a sample; axes of extent 1 repeat, as NumPy broadcasts. Every input of real numbers takes them.
    Sample(Tensor),
}

impl Default for Baseline {
    /// Zeros, as in zennit.
    fn default() -> Self {
        Baseline::Value(0.0)
    }
}

impl Baseline {
    /// Its values for samples of a shape.
    pub(crate) fn values(&self, shape: &Shape) -> Result<Vec<f32>> {
        let values = match self {
            Baseline::Value(value) => vec![*value; shape.count()],
            Baseline::Sample(sample) => {
                let spread = sample.broadcast_to(shape).map_err(|_| {
                    let message = format!("a baseline of shape {} does not fit samples of {shape}", sample.shape());
                    Error::shape(message).help("give one value, or an array of a sample's shape")
                });
                spread?.into_data()
            }
        };
        match values.iter().find(|value| !value.is_finite()) {
            None => Ok(values),
            Some(value) => Err(Error::new(ErrorKind::Data, format!("the baseline holds {value}"))
                .help("give finite values: a score at infinity says nothing")),
        }
    }
}
