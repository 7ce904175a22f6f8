//! IDX, the format of MNIST and its kin: a big-endian shape, then the elements, often under gzip.
//!
//! `flate2` unpacks gzip: it comes with the zip reader already.

use std::io::{BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::array::{Array, DType, Decoder, Endian};
use super::npz::MAX_DEFLATE_RATIO;
use super::{malformed, open, unreadable};
use crate::error::{Error, Result};
use crate::tensor::Shape;

const BLOCK: usize = 1 << 20;

/// The array of an IDX file; a name that ends in `.gz` is unpacked on the way.
///
/// # Errors
/// [`ErrorKind::Io`](crate::ErrorKind::Io) if the file cannot be read,
/// [`ErrorKind::Malformed`](crate::ErrorKind::Malformed) if it is not IDX or holds fewer elements than its shape claims.
pub fn read_idx(path: &Path) -> Result<Array> {
    let (file, size) = open(path)?;
    let place = path.display();
    if path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gz")) {
        let unpacked = BufReader::new(MultiGzDecoder::new(file));
        read(unpacked, size.saturating_mul(MAX_DEFLATE_RATIO), path).map_err(|error| error.context(place))
    } else {
        read(file, size, path).map_err(|error| error.context(place))
    }
}

/// Reads from `source`, which cannot hold more than `limit` bytes.
fn read(mut source: impl Read, limit: u64, path: &Path) -> Result<Array> {
    let mut fill = |bytes: &mut [u8]| {
        source.read_exact(bytes).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData => {
                cut().caused_by(error)
            }
            _ => unreadable(path, error),
        })
    };
    let mut magic = [0; 4];
    fill(&mut magic)?;
    let dtype = match magic {
        [0, 0, 0x08, _] => DType::U8,
        [0, 0, 0x09, _] => DType::I8,
        [0, 0, 0x0b, _] => DType::I16,
        [0, 0, 0x0c, _] => DType::I32,
        [0, 0, 0x0d, _] => DType::F32,
        [0, 0, 0x0e, _] => DType::F64,
        _ => return Err(malformed("does not start as an IDX file does").help("give an …-ubyte file of the MNIST kind")),
    };
    let mut dims = Vec::new();
    for _ in 0..magic[3] {
        let mut dim = [0; 4];
        fill(&mut dim)?;
        dims.push(u32::from_be_bytes(dim) as usize);
    }
    let shape = Shape::new(dims);
    let extents: Vec<usize> = shape.dims().iter().map(|&dim| dim.max(1)).collect();
    let mut left = shape.count().saturating_mul(dtype.size());
    if left as u64 > limit || Shape::new(extents).count() > isize::MAX as usize {
        return Err(malformed(format!("shape {shape} of {dtype} is more than the file can hold"))
            .help("the file is damaged or cut short; fetch it again"));
    }
    let mut decoder = Decoder::new(dtype, Endian::Big, 0);
    let mut block = vec![0; left.min(BLOCK)];
    while left > 0 {
        let part = &mut block[..left.min(BLOCK)];
        fill(part)?;
        decoder.push(part)?;
        left -= part.len();
    }
    // gzip compares its checksum only when the end is reached.
    source.read(&mut [0]).map_err(|error| cut().caused_by(error))?;
    decoder.finish(shape)
}

fn cut() -> Error {
    malformed("the file ends before its elements do").help("the file is damaged or cut short; fetch it again")
}
