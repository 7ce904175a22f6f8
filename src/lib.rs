//! Layer-wise Relevance Propagation (LRP) for ONNX models.


pub mod error;
pub mod layers;
pub mod network;
pub mod tensor;

pub use error::{Error, ErrorKind, Result};
pub use network::{Network, NetworkBuilder};
pub use tensor::{Shape, Tensor};
