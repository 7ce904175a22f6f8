//! Concat: values joined along one axis of the sample.

use crate::error::{Error, Result};
use crate::tensor::Shape;

/// Values joined along `axis`, batch not counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concat {
    axis: usize,
}

impl Concat {
    /// A concatenation along `axis` of the sample.
    pub fn new(axis: usize) -> Self {
        Concat { axis }
    }

    /// The axis of the sample along which values are joined.
    pub fn axis(&self) -> usize {
        self.axis
    }

    pub(super) fn output_shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let first = inputs.first().ok_or_else(|| Error::shape("a concat needs at least one input"))?;
        if self.axis >= first.rank() {
            return Err(Error::shape(format!(
                "a concat along axis {} does not fit an input of shape {first}",
                self.axis
            )));
        }
        let mut dims = first.dims().to_vec();
        for shape in &inputs[1..] {
            let fits = shape.rank() == first.rank()
                && (0..dims.len()).all(|axis| axis == self.axis || shape.dims()[axis] == dims[axis]);
            if !fits {
                return Err(Error::shape(format!("{first} and {shape} cannot be joined along axis {}", self.axis)));
            }
            dims[self.axis] += shape.dims()[self.axis];
        }
        Ok(Shape::new(dims))
    }
}
