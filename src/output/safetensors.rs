//! `.safetensors`, by the format's own crate.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorView;

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
    let unfit = |name: &str, error: safetensors::SafeTensorError| {
        Error::new(ErrorKind::Shape, format!("{}[{name}]: cannot be stored: {error}", path.display()))
            .help("write .npz")
            .caused_by(error)
    };
    let dtype = match precision {
        Precision::F32 => Dtype::F32,
        Precision::F16 => Dtype::F16,
    };
    let mut encoded = Vec::new();
    for (name, tensor) in tensors {
        let mut bytes = Vec::with_capacity(tensor.count() * 4);
        precision
            .encode(tensor.data(), &mut bytes)
            .map_err(|error| error.context(format!("{}[{name}]", path.display())))?;
        encoded.push((name, tensor.shape().dims().to_vec(), bytes));
    }
    let mut views = Vec::new();
    for (name, dims, bytes) in &encoded {
        let view = TensorView::new(dtype, dims.clone(), bytes).map_err(|error| unfit(name, error))?;
        views.push((name.as_str(), view));
    }
    let bytes = safetensors::serialize(views, None).map_err(|error| unfit("", error))?;
    file.append(&bytes)?;
    file.finish()
}
