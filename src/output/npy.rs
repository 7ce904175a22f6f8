//! NumPy's `.npy`, whole or row by row.

use std::path::Path;

use half::f16;

use super::file::NewFile;
use crate::error::{Error, ErrorKind, Result};
use crate::tensor::{Shape, Tensor};

const BLOCK: usize = 1 << 16;

/// How exactly relevance is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// float32, as it was computed.
    #[default]
    F32,
    /// float16: half the size, 11 bits, magnitudes from 6e-8 to 65504.
    F16,
}

impl Precision {
    /// Bytes a value.
    pub(super) fn size(self) -> usize {
        match self {
            Precision::F32 => 4,
            Precision::F16 => 2,
        }
    }

    /// Whether every value can be stored.
    ///
    /// # Errors
    /// [`ErrorKind::Data`] where a finite value is beyond float16, at the first of them.
    pub(super) fn check(self, values: &[f32]) -> Result<()> {
        let beyond = |&value: &f32| value.is_finite() && f16::from_f32(value).is_infinite();
        if self == Precision::F32 {
            return Ok(());
        }
        match values.iter().copied().find(beyond) {
            Some(value) => Err(Error::new(ErrorKind::Data, format!("{value} is beyond float16, which ends at 65504"))
                .help("write float32")),
            None => Ok(()),
        }
    }

    /// Appends values in this precision, little-endian.
    pub(super) fn encode(self, values: &[f32], out: &mut Vec<u8>) {
        match self {
            Precision::F32 => out.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            Precision::F16 => out.extend(values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes())),
        }
    }
}

/// Writes a tensor as `.npy`.
///
/// # Errors
/// [`ErrorKind::Io`] if the file cannot be written, [`ErrorKind::Data`] for a value beyond float16.
pub fn write_npy(path: &Path, tensor: &Tensor, precision: Precision) -> Result<()> {
    let mut file = NewFile::create(path)?;
    file.append(&header(tensor.shape(), precision))?;
    append_values(&mut file, tensor.data(), precision)?;
    file.finish()
}

/// Writes a `.npy` file whose rows come one batch after another, so that the whole is never in memory.
#[derive(Debug)]
pub struct NpyWriter {
    file: NewFile,
    shape: Shape,
    precision: Precision,
    rows_left: usize,
}

impl NpyWriter {
    /// Starts a file of `shape`, whose leading axis counts all rows to come.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the file cannot be started, [`ErrorKind::Shape`] for a scalar's shape.
    pub fn create(path: &Path, shape: impl Into<Shape>, precision: Precision) -> Result<Self> {
        let shape = shape.into();
        let Some(&rows_left) = shape.dims().first() else {
            return Err(Error::shape(format!("{}: a scalar has no rows", path.display()))
                .help("write it whole, with write_npy"));
        };
        let mut file = NewFile::create(path)?;
        file.append(&header(&shape, precision))?;
        Ok(NpyWriter { file, shape, precision, rows_left })
    }

    /// Appends rows; their leading axis counts them.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] if a row's shape differs or more rows come than were announced, [`ErrorKind::Io`] if they
    /// cannot be written.
    pub fn append(&mut self, rows: &Tensor) -> Result<()> {
        let fits = rows.shape().rank() == self.shape.rank() && rows.shape().dims()[1..] == self.shape.dims()[1..];
        if !fits || rows.rows() > self.rows_left {
            return Err(Error::shape(format!(
                "{}: rows of shape {} do not fit {}, of which {} rows are left",
                self.file.path().display(),
                rows.shape(),
                self.shape,
                self.rows_left
            ))
            .help("announce the number and shape of all rows when the file is created"));
        }
        append_values(&mut self.file, rows.data(), self.precision)?;
        self.rows_left -= rows.rows();
        Ok(())
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] if rows are missing, [`ErrorKind::Io`] if the file cannot be finished.
    pub fn finish(self) -> Result<()> {
        if self.rows_left > 0 {
            return Err(Error::shape(format!(
                "{}: {} rows of {} are missing",
                self.file.path().display(),
                self.rows_left,
                self.shape
            ))
            .help("append every row that was announced"));
        }
        self.file.finish()
    }
}

/// Version 1.0, padded so that the elements start at a multiple of 64 bytes, as NumPy writes it.
pub(super) fn header(shape: &Shape, precision: Precision) -> Vec<u8> {
    const PREFIX: usize = 10;
    let descr = match precision {
        Precision::F32 => "<f4",
        Precision::F16 => "<f2",
    };
    let dims: String = match shape.dims() {
        [one] => format!("{one},"),
        dims => dims.iter().map(usize::to_string).collect::<Vec<_>>().join(", "),
    };
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({dims}), }}");
    let length = (PREFIX + text.len() + 1).next_multiple_of(64) - PREFIX;
    text.extend(std::iter::repeat_n(' ', length - 1 - text.len()));
    text.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((length as u16).to_le_bytes());
    bytes.extend(text.into_bytes());
    bytes
}

fn append_values(file: &mut NewFile, values: &[f32], precision: Precision) -> Result<()> {
    let mut bytes = Vec::with_capacity(values.len().min(BLOCK) * 4);
    for block in values.chunks(BLOCK) {
        bytes.clear();
        precision.check(block).map_err(|error| error.context(file.path().display()))?;
        precision.encode(block, &mut bytes);
        file.append(&bytes)?;
    }
    Ok(())
}
