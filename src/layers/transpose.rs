//! Transpose: axes of the sample reordered.

use crate::error::{Error, Result};
use crate::tensor::Shape;

/// Axes reordered: axis `i` of the output is axis `order[i]` of the input, batch not counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transpose {
    order: Vec<usize>,
}

impl Transpose {
    /// A transpose by a permutation of the sample's axes.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) if `order` does not name each axis once.
    pub fn new(order: Vec<usize>) -> Result<Self> {
        let mut seen = vec![false; order.len()];
        for &axis in &order {
            if seen.get(axis) != Some(&false) {
                return Err(Error::shape(format!("{order:?} is no permutation of {} axes", order.len())));
            }
            seen[axis] = true;
        }
        Ok(Transpose { order })
    }

    /// The permutation: axis `i` of the output is axis `order[i]` of the input.
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    pub(super) fn output_shape(&self, input: &Shape) -> Result<Shape> {
        if input.rank() != self.order.len() {
            return Err(Error::shape(format!(
                "a transpose by {:?} does not fit an input of shape {input}",
                self.order
            )));
        }
        Ok(Shape::new(self.order.iter().map(|&axis| input.dims()[axis]).collect::<Vec<_>>()))
    }
}
