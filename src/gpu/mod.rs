//! The GPU executor of a [`Plan`](crate::plan::Plan).
mod adapter;
pub use adapter::{AdapterDescription, DeviceOptions, adapters};
