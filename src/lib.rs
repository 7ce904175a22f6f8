//! Layer-wise Relevance Propagation (LRP) for ONNX models.

// The README's Rust is tested as documentation is.
#![cfg_attr(all(doctest, feature = "onnx", feature = "files"), doc = include_str!("../README.md"))]

pub mod attribution;
pub mod batch;
pub mod canonical;
pub mod chain;
pub mod composite;
#[cfg(feature = "files")]
pub mod composite_file;
pub mod cpu;
pub mod error;
pub mod evaluation;
pub mod explain;
#[cfg(feature = "gpu")]
pub mod gpu;
pub mod graph;
#[cfg(feature = "files")]
pub mod input;
#[cfg(feature = "gpu")]
pub mod kernels;
pub mod layers;
pub mod network;
#[cfg(feature = "onnx")]
pub mod onnx;
#[cfg(feature = "files")]
pub mod output;
mod parameters;
mod patches;
pub mod plan;
mod random;
pub mod reference;
pub mod relevance;
pub mod rules;
mod sharing;
pub mod start;
mod stopwatch;
pub mod tensor;
mod variants;

pub use attribution::Attributor;
pub use composite::Composite;
pub use error::{Error, ErrorKind, Result};
pub use explain::{Backend, Condition, Explainer, Input, Options, Request};
pub use network::{Network, NetworkBuilder};
pub use relevance::Relevance;
pub use start::{Start, Targets};
pub use tensor::{Shape, Tensor};
/// The version of wgpu whose types the GPU backend and the kernels speak.
#[cfg(feature = "gpu")]
pub use wgpu;
