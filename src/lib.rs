//! Layer-wise Relevance Propagation (LRP) for ONNX models.

pub mod error;
#[cfg(feature = "files")]
pub mod input;
pub mod layers;
pub mod network;
#[cfg(feature = "files")]
pub mod output;
pub mod tensor;

pub use error::{Error, ErrorKind, Result};
pub use network::{Network, NetworkBuilder};
pub use tensor::{Shape, Tensor};
