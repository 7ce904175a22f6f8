//! `.safetensors`: tensors by name, after a JSON table. The format's own crate reads it and checks the table's offsets.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};

use super::array::{DType, Decoder, Endian};
use super::{Array, malformed, open, unreadable};
use crate::error::{Error, ErrorKind, Result};
use crate::tensor::{Shape, Tensor};

/// All tensors of a file, by name.
///
/// # Errors
/// [`ErrorKind::Io`] if the file cannot be read, [`ErrorKind::Malformed`] if its table does not fit its size,
/// [`ErrorKind::Unsupported`] for packed or complex element types.
pub fn read_safetensors(path: &Path) -> Result<BTreeMap<String, Array>> {
    let (mut file, size) = open(path)?;
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    file.read_to_end(&mut bytes).map_err(|error| unreadable(path, error))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| {
        malformed(format!("{}: is not a whole .safetensors file: {error}", path.display()))
            .help("the file is damaged or cut short; save it again")
            .caused_by(error)
    })?;
    let mut arrays = BTreeMap::new();
    for (name, view) in tensors.iter() {
        let place = |error: Error| error.context(format!("{}[{name}]", path.display()));
        let dtype = dtype(view.dtype()).map_err(place)?;
        let mut decoder = Decoder::new(dtype, Endian::Little, view.data().len() / dtype.size());
        decoder.push(view.data()).map_err(place)?;
        arrays.insert(name.to_owned(), decoder.finish(Shape::new(view.shape())).map_err(place)?);
    }
    Ok(arrays)
}

/// The tensors of a file as float32, for networks made in code.
///
/// # Errors
/// Those of [`read_safetensors`].
pub fn read_weights(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    Ok(read_safetensors(path)?.into_iter().map(|(name, array)| (name, array.into_f32())).collect())
}

fn dtype(dtype: Dtype) -> Result<DType> {
    Ok(match dtype {
        Dtype::BOOL => DType::Bool,
        Dtype::U8 => DType::U8,
        Dtype::U16 => DType::U16,
        Dtype::U32 => DType::U32,
        Dtype::U64 => DType::U64,
        Dtype::I8 => DType::I8,
        Dtype::I16 => DType::I16,
        Dtype::I32 => DType::I32,
        Dtype::I64 => DType::I64,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::F64,
        other => {
            return Err(Error::new(ErrorKind::Unsupported, format!("elements of type {other} are not supported"))
                .help("save the tensor as float32"));
        }
    })
}
