//! NumPy's `.npy`: a header that is a Python dictionary, then the elements.
//!
//! The header is parsed here and not by a crate: it has three known keys, and the crates for it bring a parser for
//! any Python literal whose build needs a C compiler.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use super::array::{Array, DType, Decoder, Endian};
use super::{malformed, open, unreadable};
use crate::error::{Error, ErrorKind, Result};
use crate::tensor::Shape;

/// What NumPy itself accepts without being told to trust the file.
const MAX_HEADER: usize = 10_000;
const BLOCK: usize = 1 << 20;

/// The whole array of a `.npy` file.
///
/// # Errors
/// Those of [`NpyReader::open`], and [`ErrorKind::Io`] where reading fails.
pub fn read_npy(path: &Path) -> Result<Array> {
    NpyReader::open(path)?.read()
}

/// Reads a `.npy` file by rows, so that arrays larger than memory can be worked through.
#[derive(Debug)]
pub struct NpyReader<R = BufReader<File>> {
    source: R,
    name: String,
    header: Header,
    data_start: u64,
}

impl NpyReader {
    /// Opens a file and checks its header against its size.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the file cannot be read, [`ErrorKind::Malformed`] if it is not a `.npy` file or holds
    /// fewer elements than its shape claims, [`ErrorKind::Unsupported`] for element types that are not numbers.
    pub fn open(path: &Path) -> Result<Self> {
        let (file, size) = open(path)?;
        NpyReader::new(file, size, path.display().to_string())
    }
}

impl<R: Read + Seek> NpyReader<R> {
    /// Reads from `source`, which holds `size` bytes and is called `name` in errors.
    pub(super) fn new(mut source: R, size: u64, name: String) -> Result<Self> {
        let (header, data_start) = read_header(&mut source, size)
            .map_err(|error| error.context(&name).help("the file is damaged or no .npy; write it with numpy.save"))?;
        // Extents beside a 0 are counted too: strides are products of all of them.
        let extents: Vec<usize> = header.shape.dims().iter().map(|&dim| dim.max(1)).collect();
        let bytes = header.shape.count().saturating_mul(header.dtype.size());
        // The size was taken before the header was read: a file may shrink in between.
        let held = size.checked_sub(data_start).ok_or_else(|| {
            malformed(format!("{name}: ends inside its .npy header ({size} bytes)"))
                .help("the file is cut short or still being written; save it again")
        })?;
        if bytes as u64 > held || Shape::new(extents).count() > isize::MAX as usize {
            return Err(malformed(format!(
                "{name}: shape {} of {} needs {bytes} bytes but the file holds {held} after its header",
                header.shape, header.dtype
            ))
            .help("the file is cut short or its header is wrong; save it again"));
        }
        Ok(NpyReader { source, name, header, data_start })
    }

    /// The extents of the whole array.
    pub fn shape(&self) -> &Shape {
        &self.header.shape
    }

    /// The element type in the file.
    pub fn dtype(&self) -> DType {
        self.header.dtype
    }

    /// The extent of the leading axis; 1 for a scalar.
    pub fn row_count(&self) -> usize {
        self.header.shape.dims().first().copied().unwrap_or(1)
    }

    /// The rows `range` of the leading axis, with that axis kept.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] for a range outside the array or for a scalar, [`ErrorKind::Io`] where reading fails.
    pub fn rows(&mut self, range: Range<usize>) -> Result<Array> {
        let rows = self.row_count();
        if self.header.shape.rank() == 0 || range.start > range.end || range.end > rows {
            let message =
                format!("{}: rows {}..{} of an array of shape {}", self.name, range.start, range.end, self.shape());
            return Err(Error::argument(message).help("ask for rows of the leading axis"));
        }
        let mut dims = self.header.shape.dims().to_vec();
        dims[0] = range.len();
        let width: usize = dims[1..].iter().product();
        let mut decoder = self.decoder(range.len() * width);
        if self.header.fortran_order {
            for column in 0..width {
                self.read_run(column * rows + range.start, range.len(), &mut decoder)?;
            }
            dims.reverse();
            Ok(decoder.finish(Shape::new(dims))?.reverse_axes())
        } else {
            self.read_run(range.start * width, range.len() * width, &mut decoder)?;
            decoder.finish(Shape::new(dims))
        }
    }

    /// The whole array.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] where reading fails.
    pub fn read(&mut self) -> Result<Array> {
        let mut dims = self.header.shape.dims().to_vec();
        let count = self.header.shape.count();
        let mut decoder = self.decoder(count);
        self.read_run(0, count, &mut decoder)?;
        if self.header.fortran_order {
            dims.reverse();
            Ok(decoder.finish(Shape::new(dims))?.reverse_axes())
        } else {
            decoder.finish(Shape::new(dims))
        }
    }

    fn decoder(&self, capacity: usize) -> Decoder {
        Decoder::new(self.header.dtype, self.header.endian, capacity)
    }

    /// Decodes `count` elements that lie together, from element `first` on.
    fn read_run(&mut self, first: usize, count: usize, decoder: &mut Decoder) -> Result<()> {
        let size = self.header.dtype.size();
        let failed = |name: &str, error| unreadable(Path::new(name), error);
        let start = self.data_start + (first * size) as u64;
        self.source.seek(SeekFrom::Start(start)).map_err(|error| failed(&self.name, error))?;
        let mut left = count * size;
        let mut block = vec![0; left.min(BLOCK)];
        while left > 0 {
            let part = &mut block[..left.min(BLOCK)];
            self.source.read_exact(part).map_err(|error| failed(&self.name, error))?;
            decoder.push(part).map_err(|error| error.context(&self.name))?;
            left -= part.len();
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Header {
    dtype: DType,
    endian: Endian,
    fortran_order: bool,
    shape: Shape,
}

/// The header, and the position where the elements start.
fn read_header(source: &mut impl Read, size: u64) -> Result<(Header, u64)> {
    let cut = |error| malformed(format!("the file ends inside its .npy header ({size} bytes)")).caused_by(error);
    let mut magic = [0; 8];
    source.read_exact(&mut magic).map_err(cut)?;
    if &magic[..6] != b"\x93NUMPY" {
        return Err(malformed("does not start as a .npy file does").help("write it with numpy.save"));
    }
    let length_bytes = match magic[6] {
        1 => 2,
        2 | 3 => 4,
        version => {
            return Err(Error::new(ErrorKind::Unsupported, format!(".npy version {version} is not known"))
                .help("write it with numpy.save"));
        }
    };
    let mut length = [0; 4];
    source.read_exact(&mut length[..length_bytes]).map_err(cut)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_HEADER {
        return Err(malformed(format!("a .npy header of {length} bytes; at most {MAX_HEADER} are read"))
            .help("save the array alone, without a record type"));
    }
    let mut text = vec![0; length];
    source.read_exact(&mut text).map_err(cut)?;
    let text = String::from_utf8(text).map_err(|error| malformed("the .npy header is not text").caused_by(error))?;
    let header = parse_header(&text)?;
    Ok((header, (8 + length_bytes + length) as u64))
}

fn parse_header(text: &str) -> Result<Header> {
    let mut parser = Parser { rest: text };
    let (mut descr, mut fortran_order, mut shape) = (None, None, None);
    parser.expect("{")?;
    while !parser.eat("}") {
        let key = parser.string()?;
        parser.expect(":")?;
        match key {
            "descr" => descr = Some(parser.descr()?),
            "fortran_order" => fortran_order = Some(parser.boolean()?),
            "shape" => shape = Some(parser.shape()?),
            _ => return Err(malformed(format!("the .npy header has the unknown key {key:?}"))),
        }
        if !parser.eat(",") {
            parser.expect("}")?;
            break;
        }
    }
    let missing = |key: &str| malformed(format!("the .npy header lacks {key:?}"));
    let (dtype, endian) = parse_descr(descr.ok_or_else(|| missing("descr"))?)?;
    Ok(Header {
        dtype,
        endian,
        fortran_order: fortran_order.ok_or_else(|| missing("fortran_order"))?,
        shape: shape.ok_or_else(|| missing("shape"))?,
    })
}

fn parse_descr(descr: &str) -> Result<(DType, Endian)> {
    let unsupported = |what: String, help: &str| Err(Error::new(ErrorKind::Unsupported, what).help(help));
    let (endian, code) = match descr.split_at_checked(1) {
        Some(("<" | "|", code)) => (Endian::Little, code),
        Some((">", code)) => (Endian::Big, code),
        // NumPy writes '=' in no file; without a sign the type is one byte wide or the machine's own.
        Some(("=", code)) => (Endian::Little, code),
        _ => (Endian::Little, descr),
    };
    let dtype = match code {
        "b1" | "?" => DType::Bool,
        "u1" => DType::U8,
        "u2" => DType::U16,
        "u4" => DType::U32,
        "u8" => DType::U64,
        "i1" => DType::I8,
        "i2" => DType::I16,
        "i4" => DType::I32,
        "i8" => DType::I64,
        "f2" => DType::F16,
        "f4" => DType::F32,
        "f8" => DType::F64,
        "O" => {
            return unsupported(
                "holds pickled Python objects, which relprop does not run".into(),
                "convert the array to numbers before saving: array.astype(numpy.float32)",
            );
        }
        _ => {
            return unsupported(
                format!("elements of type {descr:?} are not supported"),
                "convert the array before saving: array.astype(numpy.float32)",
            );
        }
    };
    Ok((dtype, endian))
}

/// Reads the few forms of Python's syntax that a header has.
struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn eat(&mut self, token: &str) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: &str) -> Result<()> {
        if self.eat(token) { Ok(()) } else { Err(self.unexpected(token)) }
    }

    fn unexpected(&self, wanted: &str) -> Error {
        let found: String = self.rest.chars().take(20).collect();
        malformed(format!("the .npy header has {found:?} where {wanted} belongs")).help("write it with numpy.save")
    }

    fn string(&mut self) -> Result<&'a str> {
        let quote = if self.eat("'") {
            '\''
        } else if self.eat("\"") {
            '"'
        } else {
            return Err(self.unexpected("a quoted string"));
        };
        let (string, rest) = self.rest.split_once(quote).ok_or_else(|| self.unexpected("a closing quote"))?;
        self.rest = rest;
        Ok(string)
    }

    fn descr(&mut self) -> Result<&'a str> {
        self.rest = self.rest.trim_start();
        if self.rest.starts_with('[') {
            return Err(Error::new(ErrorKind::Unsupported, "holds records of several fields, not numbers")
                .help("save one field: numpy.save(path, array['field'])"));
        }
        self.string()
    }

    fn boolean(&mut self) -> Result<bool> {
        if self.eat("True") {
            Ok(true)
        } else if self.eat("False") {
            Ok(false)
        } else {
            Err(self.unexpected("True or False"))
        }
    }

    fn shape(&mut self) -> Result<Shape> {
        /// More axes than NumPy arrays can have.
        const MAX_RANK: usize = 64;
        self.expect("(")?;
        let mut dims = Vec::new();
        while !self.eat(")") {
            self.rest = self.rest.trim_start();
            let digits = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
            let (number, rest) = self.rest.split_at(digits);
            dims.push(number.parse().map_err(|_| self.unexpected("an extent"))?);
            self.rest = rest;
            // Python 2 wrote long integers with this suffix.
            self.eat("L");
            if dims.len() > MAX_RANK {
                return Err(malformed(format!("the .npy header has more than {MAX_RANK} axes")));
            }
            if !self.eat(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(Shape::new(dims))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::tensor::Tensor;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    fn reader(bytes: Vec<u8>) -> Result<NpyReader<Cursor<Vec<u8>>>> {
        let size = bytes.len() as u64;
        NpyReader::new(Cursor::new(bytes), size, "x.npy".into())
    }

    #[test]
    fn rows_of_a_fortran_array_are_gathered() {
        let header = "{'descr': '|u1', 'fortran_order': True, 'shape': (3, 2), }";
        let mut reader = reader(file(header, &[1, 3, 5, 2, 4, 6])).unwrap();
        assert_eq!(reader.read().unwrap(), Array::U8(Tensor::new([3, 2], vec![1, 2, 3, 4, 5, 6]).unwrap()));
        assert_eq!(reader.rows(1..3).unwrap(), Array::U8(Tensor::new([2, 2], vec![3, 4, 5, 6]).unwrap()));
        assert_eq!(reader.rows(2..2).unwrap().shape().dims(), [0, 2]);
        assert_eq!(reader.rows(2..4).unwrap_err().kind(), ErrorKind::Argument);
    }

    #[test]
    fn a_shape_beyond_the_file_is_refused_before_memory_is_asked_for() {
        for shape in ["(1000000000000, 8)", "(18446744073709551615, 18446744073709551615)", "(3,)"] {
            let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
            let error = reader(file(&header, &[0; 8])).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed);
            assert!(error.advice().is_some());
        }
    }

    #[test]
    fn a_file_that_shrinks_while_it_is_opened_is_refused() {
        let bytes = file("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", &[0; 4]);
        for size in [0, 8, 20] {
            let error = NpyReader::new(Cursor::new(bytes.clone()), size, "x.npy".into()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed);
            assert!(error.advice().is_some());
        }
    }

    #[test]
    fn broken_headers_are_errors() {
        let long = format!("{{{}", "(".repeat(9000));
        let broken = [
            "",
            "{",
            "{}",
            "{'descr': '<f4'",
            "{'descr': '<f4', 'fortran_order': 1, 'shape': (1,)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999999,)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1 2)}",
            "{'descr: '<f4'}",
            "{'ünknown': 1}",
            &long,
        ];
        for header in broken {
            assert_eq!(reader(file(header, &[0; 8])).unwrap_err().kind(), ErrorKind::Malformed, "{header}");
        }
        let whole = file("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", &[0; 4]);
        for length in 0..whole.len() {
            assert_eq!(reader(whole[..length].to_vec()).unwrap_err().kind(), ErrorKind::Malformed, "{length} bytes");
        }
    }

    #[test]
    fn types_that_are_not_numbers_are_refused_by_name() {
        for (descr, word) in [("'|O'", "pickled"), ("'<c8'", "<c8"), ("[('a', '<f4')]", "records"), ("'<U3'", "<U3")] {
            let header = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': (1,)}}");
            let error = reader(file(&header, &[0; 16])).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.message().contains(word), "{error}");
        }
    }
}
