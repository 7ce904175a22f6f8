//! Files out: arrays, reports and heatmaps.
//!
//! Every file is written under a temporary name beside its place and takes its own name only when it is whole.

mod file;
mod json;
mod npy;
mod npz;
mod safetensors;

pub use file::NewFile;
pub use json::{JsonLines, write_json};
pub use npy::{NpyWriter, Precision, write_npy};
pub use npz::write_npz;
pub use safetensors::write_safetensors;
