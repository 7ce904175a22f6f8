//! Reshape: the same elements in the same order under another shape (also flatten, squeeze and unsqueeze).

use crate::error::{Error, Result};
use crate::tensor::Shape;

/// The sample's elements under another shape of the same count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reshape {
    shape: Shape,
}

impl Reshape {
    /// A reshape to the sample shape `shape`.
    pub fn new(shape: impl Into<Shape>) -> Self {
        Reshape { shape: shape.into() }
    }

    pub(super) fn output_shape(&self, input: &Shape) -> Result<Shape> {
        if input.count() != self.shape.count() {
            return Err(Error::shape(format!(
                "{input} ({} elements) does not reshape to {} ({} elements)",
                input.count(),
                self.shape,
                self.shape.count()
            )));
        }
        Ok(self.shape.clone())
    }
}
