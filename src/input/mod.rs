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

/// Model inputs by name from the files of one job: pictures make one batch, any other file comes alone. Pictures and
/// uint8 arrays are scaled and normalised as `options` says. What has no name of its own gets the empty one.
///
/// # Errors
/// [`ErrorKind::Argument`] if files of other kinds come together, [`ErrorKind::Data`] without files, and those of
/// [`read_images`] and [`read_arrays`].
pub fn read_inputs(paths: &[impl AsRef<Path>], options: &ImageOptions) -> Result<BTreeMap<String, Array>> {
    let formats = paths.iter().map(|path| FileFormat::of(path.as_ref())).collect::<Result<Vec<_>>>()?;
    if formats.iter().all(|&format| format == FileFormat::Image) {
        return Ok(BTreeMap::from([(String::new(), Array::F32(read_images(paths, options)?))]));
    }
    let [path] = paths else {
        return Err(Error::argument(format!("{} input files that are not all pictures", paths.len()))
            .help("give one .npy, .npz or .safetensors file, or any number of .png and .jpg"));
    };
    let path = path.as_ref();
    let scaled = |(name, array)| match array {
        Array::U8(pixels) => options.scale_pixels(&pixels).map(|pixels| (name, Array::F32(pixels))),
        other => Ok((name, other)),
    };
    let inputs: Result<_> = read_arrays(path)?.into_iter().map(scaled).collect();
    inputs.map_err(|error| error.context(path.display()))
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

fn open(path: &Path) -> Result<(BufReader<File>, u64)> {
    let file = File::open(path).map_err(|error| unreadable(path, error))?;
    let metadata = file.metadata().map_err(|error| unreadable(path, error))?;
    if metadata.is_dir() {
        return Err(Error::new(ErrorKind::Io, format!("{}: is a folder, not a file", path.display()))
            .help("name the files in it"));
    }
    Ok((BufReader::with_capacity(1 << 16, file), metadata.len()))
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
