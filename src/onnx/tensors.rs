//! Tensors of the file: raw bytes, typed arrays and external files become float32, int64 or truth values.
//!
//! Every size is checked against the bytes that are really there before anything is reserved for it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use half::{bf16, f16};
use sha2::{Digest, Sha256};

use super::raw::float32;
use super::schema::{Raw, TensorFields, TensorProto};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{Constant, ElementType, plausible};
use crate::tensor::{Shape, Tensor};

/// `TensorProto.DataType`, as far as relprop reads it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum DataType {
    Float32,
    Float64,
    Float16,
    BFloat16,
    Int { bytes: usize, signed: bool },
    Bool,
    Text,
    Other(i32),
}

impl DataType {
    pub(super) fn from_code(code: i32) -> Self {
        let int = |bytes, signed| DataType::Int { bytes, signed };
        match code {
            1 => DataType::Float32,
            2 => int(1, false),
            3 => int(1, true),
            4 => int(2, false),
            5 => int(2, true),
            6 => int(4, true),
            7 => int(8, true),
            8 => DataType::Text,
            9 => DataType::Bool,
            10 => DataType::Float16,
            11 => DataType::Float64,
            12 => int(4, false),
            13 => int(8, false),
            16 => DataType::BFloat16,
            other => DataType::Other(other),
        }
    }

    pub(super) fn element(self) -> ElementType {
        match self {
            DataType::Float32 | DataType::Float64 | DataType::Float16 | DataType::BFloat16 => ElementType::Float,
            DataType::Int { .. } => ElementType::Integer,
            DataType::Bool => ElementType::Bool,
            DataType::Text => ElementType::Text,
            DataType::Other(_) => ElementType::Unknown,
        }
    }

    /// The type's name, if it is of real numbers and not float32.
    pub(super) fn other_precision(self) -> Option<&'static str> {
        match self {
            DataType::Float16 => Some("float16"),
            DataType::BFloat16 => Some("bfloat16"),
            DataType::Float64 => Some("double"),
            DataType::Float32 | DataType::Int { .. } | DataType::Bool | DataType::Text | DataType::Other(_) => None,
        }
    }

    /// The least and the greatest integer of at most 32 bits.
    pub(super) fn range(self) -> Option<(i64, i64)> {
        match self {
            DataType::Int { bytes: bytes @ 1..=4, signed: true } => {
                let half = 1_i64 << (8 * bytes - 1);
                Some((-half, half - 1))
            }
            DataType::Int { bytes: bytes @ 1..=4, signed: false } => Some((0, (1_i64 << (8 * bytes)) - 1)),
            DataType::Int { .. }
            | DataType::Float32
            | DataType::Float64
            | DataType::Float16
            | DataType::BFloat16
            | DataType::Bool
            | DataType::Text
            | DataType::Other(_) => None,
        }
    }

    /// Bytes an element in raw data; none for types that relprop cannot hold.
    fn width(self) -> Option<usize> {
        match self {
            DataType::Float32 => Some(4),
            DataType::Float64 => Some(8),
            DataType::Float16 | DataType::BFloat16 => Some(2),
            DataType::Int { bytes, .. } => Some(bytes),
            DataType::Bool => Some(1),
            DataType::Text | DataType::Other(_) => None,
        }
    }
}

/// Where external data lies, and the digest that covers it.
pub(super) struct Source<'a> {
    /// The model's folder; none where the model did not come from a file.
    pub folder: Option<&'a Path>,
    /// The model's running digest.
    pub digest: Sha256,
    external: External,
}

impl<'a> Source<'a> {
    pub(super) fn new(folder: Option<&'a Path>, digest: Sha256) -> Self {
        Source { folder, digest, external: External::default() }
    }
}

/// What was read from files beside the model.
#[derive(Default)]
struct External {
    /// Each region as the constant that it became: tensors that name one region share it.
    regions: HashMap<Region, Constant>,
    /// Bytes read from each file.
    read: HashMap<PathBuf, u64>,
}

/// A file, an offset in it, and what lies there.
#[derive(PartialEq, Eq, Hash)]
struct Region(PathBuf, u64, DataType, Shape);

impl External {
    /// Counts a region that is about to be read, so that a small model cannot ask for one file again and again.
    fn charge(&mut self, path: &Path, bytes: u64, length: u64) -> Result<()> {
        /// Times that a file may be read; regions of one file do not overlap in what exporters write.
        const MAX_READS: u64 = 2;
        let read = self.read.entry(path.to_owned()).or_default();
        *read = read.saturating_add(bytes);
        if *read <= length.saturating_mul(MAX_READS) {
            return Ok(());
        }
        let message = format!("the model's tensors need more than {MAX_READS} times the bytes of {}", path.display());
        Err(malformed(message)
            .help("their regions overlap: the file is damaged or was edited by hand; export it again"))
    }
}

/// The constant that a tensor of the file stands for.
///
/// # Errors
/// [`ErrorKind::Malformed`] if extents and elements do not fit, [`ErrorKind::Io`] if external data cannot be read.
pub(super) fn read(proto: TensorProto, source: &mut Source<'_>) -> Result<Constant> {
    let place = format!("tensor `{}`", proto.fields.name);
    read_elements(proto, source).map_err(|error| error.context(place).help("export or download the model again"))
}

fn read_elements(proto: TensorProto, source: &mut Source<'_>) -> Result<Constant> {
    let TensorProto { fields: proto, raw_data } = proto;
    let shape = shape_of(&proto.dims)?;
    let data_type = DataType::from_code(proto.data_type);
    let Some(width) = data_type.width() else {
        let element = match data_type {
            DataType::Text => "string".to_owned(),
            _ => format!("element type {}", proto.data_type),
        };
        return Ok(Constant::Opaque { element, shape });
    };
    const EXTERNAL: i32 = 1;
    if proto.data_location == EXTERNAL {
        return read_external(&proto, source, data_type, shape, width);
    }
    match raw_data {
        Some(Raw::Float32(elements)) if data_type == DataType::Float32 => from_float32(shape, elements),
        Some(raw) => from_bytes(data_type, shape, &raw.into_bytes()),
        None => from_typed(data_type, shape, proto),
    }
}

fn shape_of(dims: &[i64]) -> Result<Shape> {
    let extents: Option<Vec<usize>> = dims.iter().map(|&dim| usize::try_from(dim).ok()).collect();
    let shape = Shape::new(extents.ok_or_else(|| malformed(format!("negative extents {dims:?}")))?);
    if plausible(&shape) {
        return Ok(shape);
    }
    Err(malformed(format!("no tensor has {} axes, or the extents {shape} without an element", shape.rank())))
}

/// Refuses a shape whose elements are not as many bytes.
fn check_size(shape: &Shape, width: usize, bytes: usize) -> Result<()> {
    if shape.count().checked_mul(width) == Some(bytes) {
        return Ok(());
    }
    Err(malformed(format!("shape {shape} of {width}-byte elements does not fit {bytes} bytes")))
}

fn from_float32(shape: Shape, elements: Vec<f32>) -> Result<Constant> {
    check_size(&shape, size_of::<f32>(), size_of_val(&elements[..]))?;
    float(shape, elements)
}

fn from_bytes(data_type: DataType, shape: Shape, raw: &[u8]) -> Result<Constant> {
    check_size(&shape, data_type.width().unwrap_or(1), raw.len())?;
    Ok(match data_type {
        DataType::Float32 => float(shape, elements(raw, f32::from_le_bytes))?,
        DataType::Float64 => float(shape, elements(raw, |b| f64::from_le_bytes(b) as f32))?,
        DataType::Float16 => float(shape, elements(raw, |b| f16::from_le_bytes(b).to_f32()))?,
        DataType::BFloat16 => float(shape, elements(raw, |b| bf16::from_le_bytes(b).to_f32()))?,
        DataType::Int { bytes: 1, signed: true } => integer(shape, elements(raw, |b| i8::from_le_bytes(b).into()))?,
        DataType::Int { bytes: 1, signed: false } => integer(shape, elements(raw, |b| u8::from_le_bytes(b).into()))?,
        DataType::Int { bytes: 2, signed: true } => integer(shape, elements(raw, |b| i16::from_le_bytes(b).into()))?,
        DataType::Int { bytes: 2, signed: false } => integer(shape, elements(raw, |b| u16::from_le_bytes(b).into()))?,
        DataType::Int { bytes: 4, signed: true } => integer(shape, elements(raw, |b| i32::from_le_bytes(b).into()))?,
        DataType::Int { bytes: 4, signed: false } => integer(shape, elements(raw, |b| u32::from_le_bytes(b).into()))?,
        DataType::Int { .. } => integer(shape, elements(raw, i64::from_le_bytes))?,
        DataType::Bool => Constant::Bool(Arc::new(Tensor::new(shape, raw.iter().map(|&b| b != 0).collect())?)),
        DataType::Text | DataType::Other(_) => return Err(malformed("raw data of a type without a width")),
    })
}

fn elements<const WIDTH: usize, T>(raw: &[u8], element: impl Fn([u8; WIDTH]) -> T) -> Vec<T> {
    raw.as_chunks::<WIDTH>().0.iter().map(|&bytes| element(bytes)).collect()
}

fn float(shape: Shape, data: Vec<f32>) -> Result<Constant> {
    Ok(Constant::Float(Arc::new(Tensor::new(shape, data)?)))
}

fn integer(shape: Shape, data: Vec<i64>) -> Result<Constant> {
    Ok(Constant::Integer(Arc::new(Tensor::new(shape, data)?)))
}

fn from_typed(data_type: DataType, shape: Shape, proto: TensorFields) -> Result<Constant> {
    let half_bits = |convert: fn(u16) -> f32| proto.int32_data.iter().map(|&bits| convert(bits as u16)).collect();
    let constant = match data_type {
        DataType::Float32 => float(shape, proto.float_data),
        DataType::Float64 => float(shape, proto.double_data.iter().map(|&x| x as f32).collect()),
        DataType::Float16 => float(shape, half_bits(|bits| f16::from_bits(bits).to_f32())),
        DataType::BFloat16 => float(shape, half_bits(|bits| bf16::from_bits(bits).to_f32())),
        DataType::Int { bytes: 8, signed: true } => integer(shape, proto.int64_data),
        DataType::Int { bytes: 4 | 8, signed: false } => {
            integer(shape, proto.uint64_data.iter().map(|&x| x as i64).collect())
        }
        DataType::Int { .. } => integer(shape, proto.int32_data.iter().map(|&x| x.into()).collect()),
        DataType::Bool => {
            let data = proto.int32_data.iter().map(|&x| x != 0).collect();
            Tensor::new(shape, data).map(|tensor| Constant::Bool(Arc::new(tensor)))
        }
        DataType::Text | DataType::Other(_) => return Err(malformed("typed data of a type without a width")),
    };
    constant.map_err(|error| malformed(error.message()))
}

/// A tensor that lies in a file beside the model.
///
/// Only paths below the model's folder are followed: a downloaded model must not read what else is on the machine.
/// Links that lie in that folder are the user's own (model caches are made of them) and are followed.
fn read_external(
    proto: &TensorFields,
    source: &mut Source<'_>,
    data_type: DataType,
    shape: Shape,
    width: usize,
) -> Result<Constant> {
    let (path, offset) = place_of(proto, source.folder, shape.count().saturating_mul(width))?;
    let region = Region(path, offset, data_type, shape);
    if let Some(constant) = source.external.regions.get(&region) {
        return Ok(constant.clone());
    }
    let constant = read_region(&region, source, width)?;
    source.external.regions.insert(region, constant.clone());
    Ok(constant)
}

/// The file in which a tensor of `expected` bytes lies, and where it starts there.
fn place_of(proto: &TensorFields, folder: Option<&Path>, expected: usize) -> Result<(PathBuf, u64)> {
    let entry = |key: &str| proto.external_data.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str());
    let location = entry("location").ok_or_else(|| malformed("external data without a location"))?;
    let number = |key: &str| -> Result<Option<u64>> {
        let parse = |text: &str| text.parse().map_err(|_| malformed(format!("external {key} `{text}` is no number")));
        entry(key).map(parse).transpose()
    };
    let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
    if length.is_some_and(|length| length != expected as u64) {
        return Err(malformed(format!("{expected} bytes are needed but {} are declared", length.unwrap_or(0))));
    }
    let folder = folder.ok_or_else(|| {
        Error::new(ErrorKind::Io, format!("its data lies in `{location}`, but the model came without a folder"))
            .help("load the model by its path, or name the folder of its external data")
    })?;
    Ok((below(folder, location)?, offset))
}

fn read_region(region: &Region, source: &mut Source<'_>, width: usize) -> Result<Constant> {
    let Region(path, offset, data_type, shape) = region;
    let expected = shape.count().saturating_mul(width);
    let io = |error: std::io::Error| {
        Error::new(ErrorKind::Io, format!("external data {}: {error}", path.display()))
            .help("put the model's data file beside the .onnx file, under the name it was exported with")
            .caused_by(error)
    };
    let metadata = std::fs::metadata(path).map_err(io)?;
    let end = offset.checked_add(expected as u64);
    if !metadata.is_file() || end.is_none_or(|end| end > metadata.len()) {
        return Err(malformed(format!(
            "external data {} has {} bytes, but {expected} at offset {offset} are needed",
            path.display(),
            metadata.len()
        )));
    }
    source.external.charge(path, expected as u64, metadata.len())?;
    let mut file = File::open(path).map_err(io)?;
    file.seek(SeekFrom::Start(*offset)).map_err(io)?;
    let mut read = |bytes: &mut [u8]| {
        file.read_exact(bytes)?;
        source.digest.update(&*bytes);
        Ok(())
    };
    if *data_type == DataType::Float32 {
        return from_float32(shape.clone(), float32(shape.count(), read).map_err(io)?);
    }
    let mut bytes = vec![0; expected];
    read(&mut bytes).map_err(io)?;
    from_bytes(*data_type, shape.clone(), &bytes)
}

fn below(folder: &Path, location: &str) -> Result<PathBuf> {
    let path = Path::new(location);
    let stays = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if location.is_empty() || !stays {
        return Err(malformed(format!("external data `{location}` lies outside of the model's folder"))
            .help("external data must lie beside the .onnx file or below its folder"));
    }
    Ok(folder.join(path))
}

fn malformed(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Malformed, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::schema::StringStringEntryProto;

    fn tensor(offset: u64, count: i64) -> TensorProto {
        let entry = |key: &str, value: String| StringStringEntryProto { key: key.to_owned(), value };
        let fields = TensorFields {
            dims: vec![count],
            data_type: 1,
            data_location: 1,
            external_data: vec![entry("location", "w.bin".to_owned()), entry("offset", offset.to_string())],
            ..TensorFields::default()
        };
        TensorProto { fields, raw_data: None }
    }

    #[test]
    fn tensors_share_a_region_and_cannot_read_a_file_again_and_again() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("w.bin"), [0; 400]).unwrap();
        let mut source = Source::new(Some(folder.path()), Sha256::new());
        let Constant::Float(first) = read(tensor(0, 100), &mut source).unwrap() else { panic!("no float") };
        for _ in 0..1000 {
            let Constant::Float(same) = read(tensor(0, 100), &mut source).unwrap() else { panic!("no float") };
            assert!(Arc::ptr_eq(&first, &same));
        }
        read(tensor(4, 99), &mut source).unwrap();
        let error = read(tensor(8, 98), &mut source).unwrap_err();
        assert!(error.message().contains("2 times") && error.advice().unwrap().contains("overlap"), "{error}");
    }
}
