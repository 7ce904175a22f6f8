//! Layer-wise Relevance Propagation (LRP) for ONNX models.

pub mod canonical;
pub mod error;
pub mod graph;
pub mod layers;
pub mod network;
#[cfg(feature = "onnx")]
pub mod onnx;
pub mod tensor;

pub use error::{Error, ErrorKind, Result};
pub use network::{Network, NetworkBuilder};
pub use tensor::{Shape, Tensor};
