//! NumPy's `.npz`: `.npy` files in a zip archive, stored without packing so that readers may map them.

use std::collections::BTreeMap;
use std::io::{self, Seek, SeekFrom, Write};
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
    let mut zip = ZipWriter::new(FirstError { file: NewFile::create(path)?, position: 0, error: None });
    for (name, tensor) in tensors {
        let header = header(tensor.shape(), precision);
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .large_file(header.len() + tensor.count() * precision.size() >= WIDE);
        zip.start_file(format!("{name}.npy"), options).map_err(|error| unwritable(path, error.into()))?;
        zip.write_all(&header).map_err(|error| unwritable(path, error))?;
        let mut bytes = Vec::new();
        for block in tensor.data().chunks(BLOCK) {
            bytes.clear();
            precision.check(block).map_err(|error| error.context(format!("{}[{name}]", path.display())))?;
            precision.encode(block, &mut bytes);
            zip.write_all(&bytes).map_err(|error| unwritable(path, error))?;
        }
    }
    let FirstError { file, error, .. } = zip.finish().map_err(|error| unwritable(path, error.into()))?;
    match error {
        Some(error) => Err(unwritable(path, error)),
        None => file.finish(),
    }
}

/// Keeps the first error and takes all that follows for written: a `ZipWriter` that meets an error prints it to stderr
/// when it is dropped, and only the program may print.
struct FirstError {
    file: NewFile,
    position: u64,
    error: Option<io::Error>,
}

impl Write for FirstError {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.error.is_none() {
            self.error = self.file.write_all(bytes).err();
        }
        self.position += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.error.is_none() {
            self.error = self.file.flush().err();
        }
        Ok(())
    }
}

impl Seek for FirstError {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(offset) | SeekFrom::End(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        if self.error.is_none() {
            match self.file.seek(to) {
                Ok(position) => self.position = position,
                Err(error) => self.error = Some(error),
            }
        }
        Ok(self.position)
    }
}
