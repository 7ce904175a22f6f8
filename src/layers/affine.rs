//! Affine: a factor and an offset for each element, such as mean and standard deviation at the network's door.

use std::sync::Arc;

use crate::error::Result;
use crate::tensor::{Shape, Tensor};

/// y = s ⊙ x + o, with s and o broadcast to the sample as NumPy broadcasts.
#[derive(Debug, Clone)]
pub struct Affine {
    scale: Arc<Tensor>,
    offset: Arc<Tensor>,
}

impl Affine {
    /// An affine layer from its factor s and offset o; each broadcasts to the sample's shape.
    pub fn new(scale: impl Into<Arc<Tensor>>, offset: impl Into<Arc<Tensor>>) -> Self {
        Affine { scale: scale.into(), offset: offset.into() }
    }

    /// s, of a shape that broadcasts to the sample's.
    pub fn scale(&self) -> &Arc<Tensor> {
        &self.scale
    }

    /// o, of a shape that broadcasts to the sample's.
    pub fn offset(&self) -> &Arc<Tensor> {
        &self.offset
    }

    pub(super) fn output_shape(&self, input: &Shape) -> Result<Shape> {
        self.scale.broadcast_to(input).map_err(|error| error.context("scale"))?;
        self.offset.broadcast_to(input).map_err(|error| error.context("offset"))?;
        Ok(input.clone())
    }
}
