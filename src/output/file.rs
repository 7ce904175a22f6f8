//! A file that has its name only when it is whole.
//!
//! `tempfile` makes the temporary name and renames: it is the crate that gets this right on every system.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempPath};

use crate::error::{Error, ErrorKind, Result};

/// A file under a temporary name in its own folder; dropped before [`finish`](Self::finish), it leaves nothing.
#[derive(Debug)]
pub struct NewFile {
    writer: BufWriter<File>,
    temporary: TempPath,
    path: PathBuf,
}

impl NewFile {
    /// Starts the file that will be `path`, so that a bad path fails before long work.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the folder is missing or cannot be written to, or if `path` is a folder or a device.
    pub fn create(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Err(Error::new(ErrorKind::Io, format!("{}: is a folder", path.display())).help("name a file in it"));
        }
        // Renaming over a device such as /dev/null would take its place for every program on the machine.
        if path.exists() && !path.is_file() {
            return Err(Error::new(ErrorKind::Io, format!("{}: is a device or pipe, not a file", path.display()))
                .help("name a file; it is written beside its place and renamed when it is whole"));
        }
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let file = temporary(folder).map_err(|error| {
            let unwritable = unwritable(path, error);
            if folder.is_dir() {
                unwritable
            } else {
                Error::new(ErrorKind::Io, format!("{}: the folder {} is not there", path.display(), folder.display()))
                    .help("make the folder first, or name another place")
                    .caused_by(unwritable)
            }
        })?;
        let (file, temporary) = file.into_parts();
        Ok(NewFile { writer: BufWriter::with_capacity(1 << 18, file), temporary, path: path.to_owned() })
    }

    /// The name that the file will have.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Io`], for example where the disk is full.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.writer.write_all(bytes).map_err(|error| unwritable(&self.path, error))
    }

    /// Gives the file its name, in place of one that had it.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the last bytes cannot be written or the name cannot be given.
    pub fn finish(self) -> Result<()> {
        let NewFile { writer, temporary, path } = self;
        let file = writer.into_inner().map_err(|error| unwritable(&path, error.into_error()))?;
        // Some file systems report a full disk only now.
        file.sync_all().map_err(|error| unwritable(&path, error))?;
        temporary.persist(&path).map_err(|error| unwritable(&path, error.error))?;
        Ok(())
    }
}

/// Files get the permissions that the user's mask gives, not the private ones of a temporary file.
fn temporary(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".relprop-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
}

pub(super) fn unwritable(path: &Path, error: io::Error) -> Error {
    let help = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room on the disk, name another one, or ask for smaller results"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => "name a folder that you may write to",
        _ => "name another place",
    };
    Error::new(ErrorKind::Io, format!("{}: cannot be written: {error}", path.display())).help(help).caused_by(error)
}

/// What a library that writes through [`Write`] needs.
impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl io::Seek for NewFile {
    fn seek(&mut self, position: io::SeekFrom) -> io::Result<u64> {
        self.writer.seek(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn an_unfinished_file_leaves_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.npy");
        std::fs::write(&path, "old").unwrap();
        let mut file = NewFile::create(&path).unwrap();
        file.append(b"half").unwrap();
        drop(file);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        let mut file = NewFile::create(&path).unwrap();
        file.append(b"whole").unwrap();
        file.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        assert_eq!(names(folder.path()), ["out.npy"]);
    }

    #[test]
    fn a_missing_folder_is_named() {
        let error = NewFile::create(Path::new("no/such/folder/out.npy")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.message().contains("the folder no/such/folder is not there"), "{error}");
        assert!(error.advice().is_some());
    }

    #[cfg(unix)]
    #[test]
    fn a_device_is_never_replaced() {
        let error = NewFile::create(Path::new("/dev/null")).unwrap_err();
        assert!(error.message().contains("/dev/null: is a device"), "{error}");
    }

    #[test]
    fn a_full_disk_says_so() {
        let error = unwritable(Path::new("out.npy"), io::ErrorKind::StorageFull.into());
        assert!(error.message().starts_with("out.npy: cannot be written"), "{error}");
        assert!(error.advice().unwrap().contains("make room"), "{error}");
    }
}
