//! Max pooling: relevance moves to the element that won.

use super::average_pool::pooled_shape;
use super::window::Window;
use crate::error::Result;
use crate::tensor::Shape;

/// The greatest element of a window of each channel of `[channels, spatial…]`. The first in row-major order wins among
/// equals, as in PyTorch; padding never wins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaxPool {
    window: Window,
}

impl MaxPool {
    /// A pool over `window`.
    pub fn new(window: Window) -> Self {
        MaxPool { window }
    }

    /// The window.
    pub fn window(&self) -> &Window {
        &self.window
    }

    pub(super) fn output_shape(&self, input: &Shape) -> Result<Shape> {
        pooled_shape(&self.window, input)
    }
}
