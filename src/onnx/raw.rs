//! Raw data of tensors, from the file to numbers without a copy of its bytes between them.

use std::io::{self, Read};

use prost::bytes::{Buf, BufMut};
use prost::encoding::{self, DecodeContext, WireType};
use prost::{DecodeError, Message};
use sha2::{Digest, Sha256};

#[cfg(test)]
use super::schema::TensorFields;
use super::schema::{Raw, TensorProto};
use super::tensors::DataType;

/// The field of [`TensorProto`] that holds raw data.
const RAW_DATA: u32 = 9;
/// Bytes that become numbers at a time.
const BLOCK: usize = 1 << 18;

impl Raw {
    /// How many bytes it is in a file.
    fn len(&self) -> usize {
        match self {
            Raw::Float32(elements) => size_of_val(&elements[..]),
            Raw::Bytes(bytes) => bytes.len(),
        }
    }

    /// The bytes of the file.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        match self {
            Raw::Float32(elements) => elements.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Raw::Bytes(bytes) => bytes,
        }
    }
}

impl Message for TensorProto {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        self.fields.encode_raw(buf);
        if let Some(raw) = &self.raw_data {
            encoding::encode_key(RAW_DATA, WireType::LengthDelimited, buf);
            encoding::encode_varint(raw.len() as u64, buf);
            match raw {
                Raw::Float32(elements) => elements.iter().for_each(|x| buf.put_f32_le(*x)),
                Raw::Bytes(bytes) => buf.put_slice(bytes),
            }
        }
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        if tag != RAW_DATA {
            return self.fields.merge_field(tag, wire_type, buf, ctx);
        }
        encoding::check_wire_type(WireType::LengthDelimited, wire_type)?;
        let claimed = encoding::decode_varint(buf)?;
        let Some(length) = usize::try_from(claimed).ok().filter(|length| *length <= buf.remaining()) else {
            // In the words that `prost` has for a field that goes on behind the end: one byte is claimed, and none there.
            return encoding::bytes::merge(wire_type, &mut Vec::new(), &mut &[1][..], ctx);
        };
        let is_float32 = DataType::from_code(self.fields.data_type) == DataType::Float32;
        self.raw_data = Some(if is_float32 && length.is_multiple_of(size_of::<f32>()) {
            let read = |block: &mut [u8]| {
                buf.copy_to_slice(block);
                Ok::<_, std::convert::Infallible>(())
            };
            let Ok(elements) = float32(length / size_of::<f32>(), read);
            Raw::Float32(elements)
        } else {
            let mut bytes = vec![0; length];
            buf.copy_to_slice(&mut bytes);
            Raw::Bytes(bytes)
        });
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        let of_raw = |length: usize| encoding::key_len(RAW_DATA) + encoding::encoded_len_varint(length as u64) + length;
        self.fields.encoded_len() + self.raw_data.as_ref().map_or(0, |raw| of_raw(raw.len()))
    }

    fn clear(&mut self) {
        *self = TensorProto::default();
    }
}

/// `count` little-endian float32 elements, whose bytes `read` gets a block at a time.
pub(super) fn float32<E>(count: usize, mut read: impl FnMut(&mut [u8]) -> Result<(), E>) -> Result<Vec<f32>, E> {
    let mut elements = Vec::with_capacity(count);
    let mut block = vec![0; BLOCK.min(count * size_of::<f32>())];
    while elements.len() < count {
        let bytes = &mut block[..BLOCK.min((count - elements.len()) * size_of::<f32>())];
        read(bytes)?;
        elements.extend(bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)));
    }
    Ok(elements)
}

/// A source of bytes of a known length, as `prost` reads it: a piece at a time.
pub(super) struct Pieces<R> {
    from: R,
    piece: Vec<u8>,
    /// The first byte of the piece that was not taken.
    at: usize,
    /// Bytes behind the piece.
    left: u64,
    /// Of all pieces.
    digest: Sha256,
    /// Why what follows is zeros: [`Buf`] has no word for it, and must not end early.
    error: Option<io::Error>,
}

impl<R: Read> Pieces<R> {
    /// Bytes that are read at a time.
    const PIECE: u64 = 1 << 18;

    pub(super) fn new(from: R, length: u64) -> Self {
        let mut pieces = Pieces { from, piece: Vec::new(), at: 0, left: length, digest: Sha256::new(), error: None };
        pieces.next();
        pieces
    }

    fn next(&mut self) {
        let length = self.left.min(Self::PIECE);
        self.left -= length;
        self.at = 0;
        self.piece.resize(length as usize, 0);
        if self.error.is_none() {
            self.error = self.from.read_exact(&mut self.piece).err();
        }
        match self.error {
            None => self.digest.update(&self.piece),
            Some(_) => self.piece.fill(0),
        }
    }

    /// The digest of all bytes, once they are taken.
    ///
    /// # Errors
    /// Whatever kept bytes from being read.
    pub(super) fn finish(self) -> io::Result<Sha256> {
        self.error.map_or(Ok(self.digest), Err)
    }
}

impl<R: Read> Buf for Pieces<R> {
    fn remaining(&self) -> usize {
        usize::try_from(self.left).unwrap_or(usize::MAX).saturating_add(self.piece.len() - self.at)
    }

    fn chunk(&self) -> &[u8] {
        &self.piece[self.at..]
    }

    fn advance(&mut self, count: usize) {
        let mut count = count;
        while count > 0 {
            assert!(self.at < self.piece.len() || self.left > 0, "no more than there is");
            let taken = count.min(self.piece.len() - self.at);
            self.at += taken;
            count -= taken;
            if self.at == self.piece.len() && self.left > 0 {
                self.next();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(data_type: i32, raw_data: Raw) -> TensorProto {
        let fields = TensorFields { dims: vec![3], data_type, name: "w".to_owned(), ..TensorFields::default() };
        TensorProto { fields, raw_data: Some(raw_data) }
    }

    /// Bytes that break off after some.
    struct Broken<'a>(&'a [u8]);

    impl Read for Broken<'_> {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() { Err(io::Error::other("the disk is gone")) } else { self.0.read(to) }
        }
    }

    #[test]
    fn tensors_are_what_was_encoded_whatever_their_type_and_however_bytes_come() {
        let many: Vec<f32> = (0..200_000).map(|index| index as f32 * 0.5 - 7.0).collect();
        for tensor in [
            tensor(1, Raw::Float32(vec![1.0, f32::MIN_POSITIVE, -0.0])),
            tensor(1, Raw::Float32(many)),
            tensor(1, Raw::Bytes(vec![1, 2, 3])),
            tensor(7, Raw::Bytes((0..24).collect())),
            tensor(1, Raw::Float32(Vec::new())),
        ] {
            let bytes = tensor.encode_to_vec();
            assert_eq!(bytes.len(), tensor.encoded_len());
            let mut pieces = Pieces::new(&bytes[..], bytes.len() as u64);
            assert_eq!(TensorProto::decode(&mut pieces).unwrap(), tensor);
            assert_eq!(pieces.remaining(), 0);
            assert_eq!(pieces.finish().unwrap().finalize(), Sha256::digest(&bytes));
        }
    }

    #[test]
    fn raw_data_that_goes_on_behind_the_end_is_refused() {
        for length in [5, 1 << 20, u64::MAX] {
            let mut bytes = TensorFields { data_type: 1, ..TensorFields::default() }.encode_to_vec();
            encoding::encode_key(RAW_DATA, WireType::LengthDelimited, &mut bytes);
            encoding::encode_varint(length, &mut bytes);
            bytes.extend([0; 4]);
            let error = TensorProto::decode(&bytes[..]).unwrap_err();
            assert!(error.to_string().contains("underflow"), "{error}");
        }
    }

    #[test]
    fn elements_before_their_type_stay_bytes() {
        let mut bytes = Vec::new();
        encoding::bytes::encode(RAW_DATA, &vec![0, 0, 128, 63], &mut bytes);
        bytes.extend(TensorFields { data_type: 1, ..TensorFields::default() }.encode_to_vec());
        let tensor = TensorProto::decode(&bytes[..]).unwrap();
        assert_eq!((tensor.fields.data_type, tensor.raw_data), (1, Some(Raw::Bytes(vec![0, 0, 128, 63]))));
    }

    #[test]
    fn what_cannot_be_read_is_told_and_never_taken_for_data() {
        let whole = tensor(1, Raw::Float32(vec![2.0; 300_000])).encode_to_vec();
        for there in [0, 10, 1000, 1 << 18, whole.len() - 1] {
            let mut pieces = Pieces::new(Broken(&whole[..there]), whole.len() as u64);
            let _ = TensorProto::decode(&mut pieces);
            assert_eq!(pieces.finish().unwrap_err().to_string(), "the disk is gone", "{there} bytes");
            // A file that is shorter than it was.
            let mut pieces = Pieces::new(&whole[..there], whole.len() as u64);
            let _ = TensorProto::decode(&mut pieces);
            assert_eq!(pieces.finish().unwrap_err().kind(), io::ErrorKind::UnexpectedEof, "{there} bytes");
        }
    }
}
