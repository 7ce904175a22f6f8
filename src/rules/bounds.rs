//! The lowest and highest values that an input can take, for the box rule.

use std::sync::Arc;

use crate::tensor::Tensor;

/// The box that an input lies in; each bound broadcasts to the sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Bounds {
    /// The lowest values.
    pub low: Arc<Tensor>,
    /// The highest values.
    pub high: Arc<Tensor>,
}
