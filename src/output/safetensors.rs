//! `.safetensors`, by the format's own crate.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use safetensors::{Dtype, View};

use super::file::NewFile;
use super::npy::Precision;
use crate::error::{Error, ErrorKind, Result};
use crate::tensor::Tensor;

/// Writes tensors by name as `.safetensors`.
///
/// # Errors
/// [`ErrorKind::Io`] if the file cannot be written, [`ErrorKind::Data`] for a value beyond float16.
pub fn write_safetensors(path: &Path, tensors: &BTreeMap<String, Tensor>, precision: Precision) -> Result<()> {
    let mut file = NewFile::create(path)?;
    for (name, tensor) in tensors {
        precision.check(tensor.data()).map_err(|error| error.context(format!("{}[{name}]", path.display())))?;
    }
    let views = tensors.iter().map(|(name, tensor)| (name, Stored { tensor, precision }));
    let bytes = safetensors::serialize(views, None).map_err(|error| {
        Error::new(ErrorKind::Unsupported, format!("{}: cannot be stored: {error}", path.display()))
            .help("write .npz")
            .caused_by(error)
    })?;
    file.append(&bytes)?;
    file.finish()
}

/// A tensor whose bytes are made when they are asked for, so that only one tensor's are held beside the file's.
struct Stored<'a> {
    tensor: &'a Tensor,
    precision: Precision,
}

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        match self.precision {
            Precision::F32 => Dtype::F32,
            Precision::F16 => Dtype::F16,
        }
    }

    fn shape(&self) -> &[usize] {
        self.tensor.shape().dims()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = Vec::with_capacity(self.data_len());
        self.precision.encode(self.tensor.data(), &mut bytes);
        bytes.into()
    }

    fn data_len(&self) -> usize {
        self.tensor.count() * self.precision.size()
    }
}
