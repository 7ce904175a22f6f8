//! Files out: arrays, reports, heatmaps and charts.
//!
//! Every file is written under a temporary name beside its place and takes its own name only when it is whole.

mod axis;
mod canvas;
mod chart;
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

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{Error, Result};
use crate::input::FileFormat;
use crate::tensor::Tensor;

pub use canvas::{Canvas, Rgb};
pub use chart::{Chart, Line, Scale, check_chart_path, write_chart};
pub use colormap::ColorMap;
pub use file::{NewFile, abandon_files};
pub use grid::{Cell, Grid, GridRow};
pub use heatmap::{Heatmap, Limits, Map, Reduce, ScaleBy};
pub use json::{JsonLines, write_json};
pub use matrix::MatrixPlot;
pub use npy::{NpyWriter, Precision, write_npy};
pub use npz::write_npz;
pub use png::{write_paletted_png, write_png};
pub use safetensors::write_safetensors;

/// Writes tensors by name in the format that the ending of `path` names; `.npy` takes one, whatever its name.
///
/// # Errors
/// [`ErrorKind::Argument`](crate::ErrorKind::Argument) for an ending that cannot be written and for several tensors in
/// `.npy`; those of the format's own writer.
pub fn write_tensors(path: &Path, tensors: &BTreeMap<String, Tensor>, precision: Precision) -> Result<()> {
    match check_writable(path, tensors.len())? {
        FileFormat::Npz => write_npz(path, tensors, precision),
        FileFormat::Safetensors => write_safetensors(path, tensors, precision),
        _ => tensors.values().try_for_each(|tensor| write_npy(path, tensor, precision)),
    }
}

/// The format in which `count` tensors can be written to `path`, to be asked before long work.
///
/// # Errors
/// [`ErrorKind::Argument`](crate::ErrorKind::Argument) for an ending that cannot be written and for `.npy` unless
/// `count` is 1.
pub fn check_writable(path: &Path, count: usize) -> Result<FileFormat> {
    match FileFormat::of(path) {
        Ok(FileFormat::Npy) if count != 1 => {
            Err(Error::argument(format!("{}: a .npy file holds one array, not {count}", path.display()))
                .help("write .npz or .safetensors"))
        }
        Ok(format @ (FileFormat::Npy | FileFormat::Npz | FileFormat::Safetensors)) => Ok(format),
        Ok(FileFormat::Image) => Err(Error::argument(format!("{}: relevance is no picture", path.display()))
            .help("write .npy, .npz or .safetensors; a picture of it is drawn with --heatmap")),
        Ok(FileFormat::Idx) | Err(_) => {
            Err(Error::argument(format!("{}: the file's ending names no format for results", path.display()))
                .help("write .npy, .npz or .safetensors"))
        }
    }
}
