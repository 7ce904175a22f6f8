//! Arrays as files hold them: one of a few element types, converted to float32 on request.

use std::fmt;
use std::ops::Range;

use half::{bf16, f16};

use crate::error::{Error, ErrorKind, Result};
use crate::tensor::{Shape, Tensor};

/// An array read from a file. Narrow types are widened when read: float16 and bfloat16 to float32,
/// all integers but uint8 to int64.
#[derive(Debug, Clone, PartialEq)]
pub enum Array {
    /// float32, float16 or bfloat16.
    F32(Tensor<f32>),
    /// float64.
    F64(Tensor<f64>),
    /// uint8: pixels.
    U8(Tensor<u8>),
    /// Every other integer: labels, token numbers.
    I64(Tensor<i64>),
    /// Booleans: masks.
    Bool(Tensor<bool>),
}

impl Array {
    /// The extents.
    pub fn shape(&self) -> &Shape {
        match self {
            Array::F32(tensor) => tensor.shape(),
            Array::F64(tensor) => tensor.shape(),
            Array::U8(tensor) => tensor.shape(),
            Array::I64(tensor) => tensor.shape(),
            Array::Bool(tensor) => tensor.shape(),
        }
    }

    /// The element type's name, as NumPy spells it.
    pub fn dtype(&self) -> &'static str {
        match self {
            Array::F32(_) => "float32",
            Array::F64(_) => "float64",
            Array::U8(_) => "uint8",
            Array::I64(_) => "int64",
            Array::Bool(_) => "bool",
        }
    }

    /// The elements as float32, rounded to nearest; booleans become 0 and 1.
    pub fn to_f32(&self) -> Tensor<f32> {
        match self {
            Array::F32(tensor) => tensor.clone(),
            Array::F64(tensor) => tensor.map(|&x| x as f32),
            Array::U8(tensor) => tensor.map(|&x| f32::from(x)),
            Array::I64(tensor) => tensor.map(|&x| x as f32),
            Array::Bool(tensor) => tensor.map(|&x| f32::from(u8::from(x))),
        }
    }

    /// [`to_f32`](Self::to_f32) without a copy where the elements are float32 already.
    pub fn into_f32(self) -> Tensor<f32> {
        match self {
            Array::F32(tensor) => tensor,
            other => other.to_f32(),
        }
    }

    /// The elements as int64.
    ///
    /// # Errors
    /// [`ErrorKind::Data`] for floats that are not whole numbers, at the first of them.
    pub fn to_i64(&self) -> Result<Tensor<i64>> {
        let whole = |index: usize, x: f64| {
            if x.fract() == 0.0 && x.abs() < i64::MAX as f64 {
                Ok(x as i64)
            } else {
                Err(Error::new(ErrorKind::Data, format!("element {index} is {x}, not a whole number"))
                    .help("save the array with an integer type"))
            }
        };
        let data = match self {
            Array::F32(tensor) => {
                tensor.data().iter().enumerate().map(|(i, &x)| whole(i, f64::from(x))).collect::<Result<_>>()?
            }
            Array::F64(tensor) => tensor.data().iter().enumerate().map(|(i, &x)| whole(i, x)).collect::<Result<_>>()?,
            Array::U8(tensor) => tensor.data().iter().map(|&x| i64::from(x)).collect(),
            Array::I64(tensor) => tensor.data().to_vec(),
            Array::Bool(tensor) => tensor.data().iter().map(|&x| i64::from(x)).collect(),
        };
        Tensor::new(self.shape().clone(), data)
    }

    /// The rows `range` of the leading axis, with that axis kept.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] for a range outside the array, or for a scalar.
    pub fn rows(&self, range: Range<usize>) -> Result<Array> {
        fn part<T: Clone>(tensor: &Tensor<T>, range: Range<usize>) -> Result<Tensor<T>> {
            let Some((&rows, rest)) = tensor.shape().dims().split_first().filter(|(rows, _)| range.end <= **rows)
            else {
                let message = format!("rows {}..{} of an array of shape {}", range.start, range.end, tensor.shape());
                return Err(Error::argument(message).help("ask for rows of the leading axis"));
            };
            let width = tensor.count() / rows.max(1);
            let shape = Shape::new(rest).prepend(range.len());
            Tensor::new(shape, tensor.data()[range.start.min(range.end) * width..range.end * width].to_vec())
        }
        Ok(match self {
            Array::F32(tensor) => Array::F32(part(tensor, range)?),
            Array::F64(tensor) => Array::F64(part(tensor, range)?),
            Array::U8(tensor) => Array::U8(part(tensor, range)?),
            Array::I64(tensor) => Array::I64(part(tensor, range)?),
            Array::Bool(tensor) => Array::Bool(part(tensor, range)?),
        })
    }

    /// The same elements with axes in reverse order.
    pub(super) fn reverse_axes(&self) -> Array {
        let order: Vec<usize> = (0..self.shape().rank()).rev().collect();
        match self {
            Array::F32(tensor) => Array::F32(tensor.transpose(&order)),
            Array::F64(tensor) => Array::F64(tensor.transpose(&order)),
            Array::U8(tensor) => Array::U8(tensor.transpose(&order)),
            Array::I64(tensor) => Array::I64(tensor.transpose(&order)),
            Array::Bool(tensor) => Array::Bool(tensor.transpose(&order)),
        }
    }
}

/// An element type as files store it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each variant is the type that its name spells")]
pub enum DType {
    Bool,
    U8,
    U16,
    U32,
    U64,
    I8,
    I16,
    I32,
    I64,
    F16,
    BF16,
    F32,
    F64,
}

impl DType {
    /// Bytes an element.
    pub fn size(self) -> usize {
        match self {
            DType::Bool | DType::U8 | DType::I8 => 1,
            DType::U16 | DType::I16 | DType::F16 | DType::BF16 => 2,
            DType::U32 | DType::I32 | DType::F32 => 4,
            DType::U64 | DType::I64 | DType::F64 => 8,
        }
    }

    /// The name, as NumPy spells it.
    pub fn name(self) -> &'static str {
        match self {
            DType::Bool => "bool",
            DType::U8 => "uint8",
            DType::U16 => "uint16",
            DType::U32 => "uint32",
            DType::U64 => "uint64",
            DType::I8 => "int8",
            DType::I16 => "int16",
            DType::I32 => "int32",
            DType::I64 => "int64",
            DType::F16 => "float16",
            DType::BF16 => "bfloat16",
            DType::F32 => "float32",
            DType::F64 => "float64",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The order of the bytes in an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endian {
    Little,
    Big,
}

/// Elements gathered from raw bytes, block by block, so that bytes and elements are never held whole together.
pub(super) struct Decoder {
    dtype: DType,
    endian: Endian,
    elements: Elements,
}

enum Elements {
    F32(Vec<f32>),
    F64(Vec<f64>),
    U8(Vec<u8>),
    I64(Vec<i64>),
    Bool(Vec<bool>),
}

impl Decoder {
    /// A decoder with room for `capacity` elements.
    pub(super) fn new(dtype: DType, endian: Endian, capacity: usize) -> Self {
        let elements = match dtype {
            DType::F16 | DType::BF16 | DType::F32 => Elements::F32(Vec::with_capacity(capacity)),
            DType::F64 => Elements::F64(Vec::with_capacity(capacity)),
            DType::U8 => Elements::U8(Vec::with_capacity(capacity)),
            DType::Bool => Elements::Bool(Vec::with_capacity(capacity)),
            DType::U16 | DType::U32 | DType::U64 | DType::I8 | DType::I16 | DType::I32 | DType::I64 => {
                Elements::I64(Vec::with_capacity(capacity))
            }
        };
        Decoder { dtype, endian, elements }
    }

    /// Appends a block of whole elements.
    ///
    /// # Errors
    /// [`ErrorKind::Data`] for a uint64 beyond int64.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<()> {
        let endian = self.endian;
        match (&mut self.elements, self.dtype) {
            (Elements::U8(out), _) => out.extend_from_slice(bytes),
            (Elements::Bool(out), _) => out.extend(bytes.iter().map(|&byte| byte != 0)),
            (Elements::F64(out), _) => each(bytes, endian, out, f64::from_le_bytes),
            (Elements::F32(out), DType::F16) => each(bytes, endian, out, |b| f16::from_le_bytes(b).to_f32()),
            (Elements::F32(out), DType::BF16) => each(bytes, endian, out, |b| bf16::from_le_bytes(b).to_f32()),
            (Elements::F32(out), _) => each(bytes, endian, out, f32::from_le_bytes),
            (Elements::I64(out), DType::I8) => each(bytes, endian, out, |b| i64::from(i8::from_le_bytes(b))),
            (Elements::I64(out), DType::I16) => each(bytes, endian, out, |b| i64::from(i16::from_le_bytes(b))),
            (Elements::I64(out), DType::I32) => each(bytes, endian, out, |b| i64::from(i32::from_le_bytes(b))),
            (Elements::I64(out), DType::U16) => each(bytes, endian, out, |b| i64::from(u16::from_le_bytes(b))),
            (Elements::I64(out), DType::U32) => each(bytes, endian, out, |b| i64::from(u32::from_le_bytes(b))),
            (Elements::I64(out), DType::U64) => {
                let first = out.len();
                each(bytes, endian, out, i64::from_le_bytes);
                if let Some(index) = out[first..].iter().position(|&x| x < 0) {
                    return Err(Error::new(
                        ErrorKind::Data,
                        format!("element {} is {}, beyond int64", first + index, out[first + index] as u64),
                    )
                    .help("save the array as int64"));
                }
            }
            (Elements::I64(out), _) => each(bytes, endian, out, i64::from_le_bytes),
        }
        Ok(())
    }

    /// The elements under `shape`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] if the counts differ.
    pub(super) fn finish(self, shape: Shape) -> Result<Array> {
        Ok(match self.elements {
            Elements::F32(data) => Array::F32(Tensor::new(shape, data)?),
            Elements::F64(data) => Array::F64(Tensor::new(shape, data)?),
            Elements::U8(data) => Array::U8(Tensor::new(shape, data)?),
            Elements::I64(data) => Array::I64(Tensor::new(shape, data)?),
            Elements::Bool(data) => Array::Bool(Tensor::new(shape, data)?),
        })
    }
}

/// Appends the elements of `W` bytes each that `bytes` holds; `decode` reads the little-endian form.
fn each<T, const W: usize>(bytes: &[u8], endian: Endian, out: &mut Vec<T>, decode: impl Fn([u8; W]) -> T) {
    let (elements, _) = bytes.as_chunks::<W>();
    match endian {
        Endian::Little => out.extend(elements.iter().map(|&element| decode(element))),
        Endian::Big => out.extend(elements.iter().map(|&(mut element)| {
            element.reverse();
            decode(element)
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(dtype: DType, endian: Endian, bytes: &[u8]) -> Result<Array> {
        let mut decoder = Decoder::new(dtype, endian, bytes.len() / dtype.size());
        decoder.push(bytes)?;
        decoder.finish(Shape::new([bytes.len() / dtype.size()]))
    }

    #[test]
    fn big_endian_elements_are_turned() {
        assert_eq!(
            decode(DType::I16, Endian::Big, &[0xff, 0xfe, 0x01, 0x00]).unwrap(),
            Array::I64(Tensor::vector(vec![-2, 256]))
        );
    }

    #[test]
    fn an_unsigned_integer_beyond_int64_is_refused() {
        let error = decode(DType::U64, Endian::Little, &u64::MAX.to_le_bytes()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        assert!(error.message().contains("18446744073709551615"), "{error}");
    }

    #[test]
    fn rows_keep_the_leading_axis() {
        let array = Array::U8(Tensor::new([3, 2], vec![1, 2, 3, 4, 5, 6]).unwrap());
        assert_eq!(array.rows(1..3).unwrap(), Array::U8(Tensor::new([2, 2], vec![3, 4, 5, 6]).unwrap()));
        assert_eq!(array.rows(3..3).unwrap().shape().dims(), [0, 2]);
        assert_eq!(array.rows(2..4).unwrap_err().kind(), ErrorKind::Argument);
        assert!(Array::F32(Tensor::scalar(1.0)).rows(0..1).is_err());
    }

    #[test]
    fn fractions_are_no_integers() {
        assert!(Array::F32(Tensor::vector(vec![1.0, 2.5])).to_i64().unwrap_err().message().contains("element 1"));
        assert_eq!(Array::F64(Tensor::vector(vec![3.0])).to_i64().unwrap(), Tensor::vector(vec![3]));
    }
}
