//! Files out: arrays, reports and heatmaps.
//!
//! Every file is written under a temporary name beside its place and takes its own name only when it is whole.

mod axis;
mod canvas;
mod colorbar;
mod colormap;
mod file;
mod grid;
mod heatmap;
mod json;
mod matrix;
mod npy;
mod npz;
mod png;
mod safetensors;
mod text;

pub use canvas::{Canvas, Rgb};
pub use colormap::ColorMap;
pub use file::NewFile;
pub use grid::{Cell, Grid, GridRow};
pub use heatmap::{Heatmap, Limits, Map, Reduce, ScaleBy};
pub use json::{JsonLines, write_json};
pub use matrix::MatrixPlot;
pub use npy::{NpyWriter, Precision, write_npy};
pub use npz::write_npz;
pub use png::{write_paletted_png, write_png};
pub use safetensors::write_safetensors;
