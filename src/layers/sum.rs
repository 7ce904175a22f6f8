//! Sum: several values of one shape, added or subtracted element by element.

use crate::error::{Error, Result};
use crate::tensor::Shape;

/// y = Σ signᵢ xᵢ over inputs of one shape. A residual connection is a sum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sum {
    signs: Vec<Sign>,
}

/// Whether an input of a [`Sum`] is added or subtracted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// The input is added.
    Plus,
    /// The input is subtracted.
    Minus,
}

impl Sign {
    /// +1 or −1.
    pub fn factor(self) -> f32 {
        match self {
            Sign::Plus => 1.0,
            Sign::Minus => -1.0,
        }
    }
}

impl Sum {
    /// A sum with one sign an input.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) if there is no input.
    pub fn new(signs: Vec<Sign>) -> Result<Self> {
        if signs.is_empty() {
            return Err(Error::shape("a sum needs at least one input"));
        }
        Ok(Sum { signs })
    }

    /// One sign an input.
    pub fn signs(&self) -> &[Sign] {
        &self.signs
    }

    pub(super) fn output_shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        if inputs.len() != self.signs.len() {
            return Err(Error::shape(format!("a sum of {} inputs got {}", self.signs.len(), inputs.len())));
        }
        match inputs.iter().find(|shape| **shape != inputs[0]) {
            None => Ok(inputs[0].clone()),
            Some(other) => Err(Error::shape(format!("a sum needs inputs of one shape, not {} and {other}", inputs[0]))),
        }
    }
}
