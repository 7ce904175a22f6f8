//! Layer-wise Relevance Propagation (LRP) for ONNX models.

// The README's Rust is tested as documentation is.
#![cfg_attr(all(doctest, feature = "onnx", feature = "files"), doc = include_str!("../README.md"))]

pub mod canonical;
pub mod composite;
pub mod cpu;
pub mod error;
pub mod explain;
pub mod graph;
#[cfg(feature = "files")]
pub mod input;
pub mod layers;
pub mod network;
#[cfg(feature = "onnx")]
pub mod onnx;
#[cfg(feature = "files")]
pub mod output;
mod parameters;
pub mod plan;
pub mod reference;
pub mod relevance;
pub mod rules;
pub mod start;
pub mod tensor;

pub use composite::Composite;
pub use error::{Error, ErrorKind, Result};
pub use explain::{Backend, Explainer, Input, Options, Request};
pub use network::{Network, NetworkBuilder};
pub use relevance::Relevance;
pub use start::{Start, Targets};
pub use tensor::{Shape, Tensor};
