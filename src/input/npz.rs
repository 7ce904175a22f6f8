//! NumPy's `.npz`: a zip archive of `.npy` files. The `zip` crate reads it: the most used one, checksums included.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek};
use std::path::Path;

use zip::ZipArchive;
use zip::result::ZipError;

use super::npy::NpyReader;
use super::{Array, malformed, open};
use crate::error::{Error, ErrorKind, Result};

/// Deflate packs no better than 1032 to 1, so a larger claim is false.
pub(super) const MAX_DEFLATE_RATIO: u64 = 1032;

/// All arrays of an archive, by name.
///
/// # Errors
/// [`ErrorKind::Io`] if the file cannot be read, [`ErrorKind::Malformed`] if it is no `.npz` file, holds no array or
/// claims more than it can hold, and those of [`read_npy`](super::read_npy).
pub fn read_npz(path: &Path) -> Result<BTreeMap<String, Array>> {
    read_all(Archive::open(path)?)
}

/// All arrays of an archive that lies in memory, by name; `place` is what errors call it.
///
/// # Errors
/// Those of [`read_npz`].
pub fn unpack_npz(bytes: &[u8], place: &str) -> Result<BTreeMap<String, Array>> {
    read_all(Archive::new(Cursor::new(bytes), bytes.len() as u64, place.to_owned())?)
}

fn read_all<R: Read + Seek>(mut archive: Archive<R>) -> Result<BTreeMap<String, Array>> {
    let mut arrays = BTreeMap::new();
    for (index, name) in archive.names()? {
        let array = archive.read(index, &name)?;
        arrays.insert(name, array);
    }
    Ok(arrays)
}

/// One array of an archive; the others are not unpacked.
///
/// # Errors
/// Those of [`read_npz`], and [`ErrorKind::Argument`] if no array has this name.
pub fn read_npz_array(path: &Path, name: &str) -> Result<Array> {
    let mut archive = Archive::open(path)?;
    let names = archive.names()?;
    match names.iter().find(|(_, known)| known == name) {
        Some(&(index, _)) => archive.read(index, name),
        None => {
            let known: Vec<&str> = names.iter().map(|(_, known)| known.as_str()).collect();
            Err(Error::argument(format!("{}: holds no array named {name:?}", path.display()))
                .help(format!("it holds {}", known.join(", "))))
        }
    }
}

struct Archive<R> {
    zip: ZipArchive<R>,
    place: String,
    /// Bytes that may still be unpacked.
    allowance: u64,
}

impl Archive<BufReader<File>> {
    fn open(path: &Path) -> Result<Self> {
        let (file, size) = open(path)?;
        Archive::new(file, size, path.display().to_string())
    }
}

impl<R: Read + Seek> Archive<R> {
    fn new(source: R, size: u64, place: String) -> Result<Self> {
        let zip = ZipArchive::new(source).map_err(|error| broken(&place, error))?;
        Ok(Archive { zip, place, allowance: size.saturating_mul(MAX_DEFLATE_RATIO) })
    }

    /// Position and name of every array.
    fn names(&mut self) -> Result<Vec<(usize, String)>> {
        let mut names = Vec::new();
        for index in 0..self.zip.len() {
            let Some(file) = self.zip.name_for_index(index) else { continue };
            let file = file.map_err(|error| broken(&self.place, error))?;
            names.extend(file.strip_suffix(".npy").map(|name| (index, name.to_owned())));
        }
        if names.is_empty() {
            return Err(
                malformed(format!("{}: the archive holds no .npy array", self.place)).help("write it with numpy.savez")
            );
        }
        Ok(names)
    }

    fn read(&mut self, index: usize, name: &str) -> Result<Array> {
        let place = format!("{}[{name}]", self.place);
        let entry = self.zip.by_index(index).map_err(|error| broken(&place, error))?;
        let size = entry.size();
        if size > self.allowance {
            return Err(malformed(format!("{place}: claims {size} bytes, more than the archive can hold"))
                .help("the file is damaged; save it again"));
        }
        self.allowance -= size;
        let mut bytes = Vec::new();
        // One byte more than is claimed shows an entry that holds more.
        entry.take(size + 1).read_to_end(&mut bytes).map_err(|error| broken(&place, ZipError::Io(error)))?;
        let held = bytes.len() as u64;
        NpyReader::new(Cursor::new(bytes), held, place)?.read()
    }
}

fn broken(place: &str, error: ZipError) -> Error {
    let (kind, help) = match &error {
        ZipError::UnsupportedArchive(_) => (ErrorKind::Unsupported, "write it with numpy.savez or savez_compressed"),
        _ => (ErrorKind::Malformed, "the file is damaged or no .npz; write it with numpy.savez"),
    };
    Error::new(kind, format!("{place}: cannot be unpacked: {error}")).help(help).caused_by(error)
}
