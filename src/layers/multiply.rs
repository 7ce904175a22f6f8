//! Multiply: two values of one shape, multiplied element by element (gates).

use crate::error::{Error, Result};
use crate::tensor::Shape;

/// y = a ⊙ b.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Multiply;

impl Multiply {
    pub(super) fn output_shape(self, inputs: &[&Shape]) -> Result<Shape> {
        match inputs {
            [a, b] if a == b => Ok((*a).clone()),
            [a, b] => Err(Error::shape(format!("{a} and {b} cannot be multiplied element by element"))),
            _ => Err(Error::shape(format!("a product has two factors, not {}", inputs.len()))),
        }
    }
}
