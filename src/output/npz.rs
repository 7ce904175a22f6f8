//! NumPy's `.npz`: `.npy` files in a zip archive, stored without packing so that readers may map them.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::file::{NewFile, unwritable};
use super::npy::{Precision, header};
use crate::error::Result;
use crate::tensor::Tensor;

/// Above this many bytes an entry needs the zip format's wide fields.
const WIDE: usize = u32::MAX as usize;
const BLOCK: usize = 1 << 16;

/// Writes tensors by name as `.npz`.
///
/// # Errors
/// [`ErrorKind::Io`](crate::ErrorKind::Io) if the file cannot be written, [`ErrorKind::Data`](crate::ErrorKind::Data)
/// for a value beyond float16.
pub fn write_npz(path: &Path, tensors: &BTreeMap<String, Tensor>, precision: Precision) -> Result<()> {
    let mut zip = ZipWriter::new(NewFile::create(path)?);
    for (name, tensor) in tensors {
        let header = header(tensor.shape(), precision);
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .large_file(header.len() + tensor.count() * 4 >= WIDE);
        zip.start_file(format!("{name}.npy"), options).map_err(|error| unwritable(path, error.into()))?;
        zip.write_all(&header).map_err(|error| unwritable(path, error))?;
        let mut bytes = Vec::new();
        for block in tensor.data().chunks(BLOCK) {
            bytes.clear();
            precision.encode(block, &mut bytes).map_err(|e| e.context(format!("{}[{name}]", path.display())))?;
            zip.write_all(&bytes).map_err(|error| unwritable(path, error))?;
        }
    }
    zip.finish().map_err(|error| unwritable(path, error.into()))?.finish()
}
