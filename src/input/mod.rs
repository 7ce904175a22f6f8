//! Files in: arrays, named weights, images and data-set archives.
//!
//! Every reader checks what a file claims against the file's own size before it allocates.

mod array;
mod idx;
mod image;
mod npy;
mod npz;
mod safetensors;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};

pub use array::{Array, DType};
pub use idx::read_idx;
pub use image::{Channels, ImageLayout, ImageOptions, read_images};
pub use npy::{NpyReader, read_npy};
pub use npz::{read_npz, read_npz_array, unpack_npz};
pub use safetensors::{read_safetensors, read_weights};

/// The formats that can be read, told apart by the file's ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileFormat {
    /// One NumPy array.
    Npy,
    /// NumPy arrays by name, in a zip archive.
    Npz,
    /// Tensors by name.
    Safetensors,
    /// A PNG or JPEG picture.
    Image,
    /// One array as MNIST and its kin ship theirs, with or without gzip.
    Idx,
}

impl FileFormat {
    /// The format that the ending of `path` names.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for an ending that is not known; the message lists those that are.
    pub fn of(path: &Path) -> Result<Self> {
        let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        let ends_with = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
        if ends_with(&[".npy"]) {
            Ok(FileFormat::Npy)
        } else if ends_with(&[".npz"]) {
            Ok(FileFormat::Npz)
        } else if ends_with(&[".safetensors"]) {
            Ok(FileFormat::Safetensors)
        } else if ends_with(&[".png", ".jpg", ".jpeg"]) {
            Ok(FileFormat::Image)
        } else if ends_with(&["-ubyte", "-ubyte.gz", ".idx", ".idx.gz"]) {
            Ok(FileFormat::Idx)
        } else {
            Err(Error::new(
                ErrorKind::Unsupported,
                format!("{}: the file's ending names no known format", path.display()),
            )
            .help("give .npy, .npz, .safetensors, .png, .jpg or .jpeg, or an IDX file (…-ubyte, .gz or not)"))
        }
    }
}

/// The arrays of a file by name; a file that holds one unnamed array gives it the empty name.
///
/// # Errors
/// Of the format's own reader, and [`ErrorKind::Unsupported`] for a picture: those need [`read_images`].
pub fn read_arrays(path: &Path) -> Result<BTreeMap<String, Array>> {
    let unnamed = |array| BTreeMap::from([(String::new(), array)]);
    match FileFormat::of(path)? {
        FileFormat::Npy => read_npy(path).map(unnamed),
        FileFormat::Npz => read_npz(path),
        FileFormat::Safetensors => read_safetensors(path),
        FileFormat::Idx => read_idx(path).map(unnamed),
        FileFormat::Image => {
            Err(Error::new(ErrorKind::Unsupported, format!("{}: a picture where an array is needed", path.display()))
                .help("save the array as .npy, .npz or .safetensors"))
        }
    }
}

/// Opens a file and says how many bytes it has. Sizes are what readers check claims against, so a pipe is refused; and
/// before it is opened, as that would wait for a writer.
fn open(path: &Path) -> Result<(BufReader<File>, u64)> {
    let metadata = std::fs::metadata(path).map_err(|error| unreadable(path, error))?;
    if metadata.is_dir() {
        return Err(Error::new(ErrorKind::Io, format!("{}: is a folder, not a file", path.display()))
            .help("name the files in it"));
    }
    if !metadata.is_file() {
        return Err(Error::new(ErrorKind::Io, format!("{}: is a pipe or device, not a file", path.display()))
            .help("save what comes through it into a file, and name that"));
    }
    let file = File::open(path).map_err(|error| unreadable(path, error))?;
    let size = file.metadata().map_err(|error| unreadable(path, error))?.len();
    Ok((BufReader::with_capacity(1 << 16, file), size))
}

fn unreadable(path: &Path, error: io::Error) -> Error {
    let help = match error.kind() {
        io::ErrorKind::NotFound => "check the path; it is taken from the current folder",
        io::ErrorKind::PermissionDenied => "check the file's permissions",
        _ => "check that the file is whole and can be read",
    };
    Error::new(ErrorKind::Io, format!("{}: cannot be read: {error}", path.display())).help(help).caused_by(error)
}

fn malformed(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Malformed, message)
}
