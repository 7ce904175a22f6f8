//! A file that has its name only when it is whole.
//!
//! `tempfile` makes the temporary name and renames: it is the crate that gets this right on every system.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::{NamedTempFile, PathPersistError, TempPath};

use crate::error::{Error, ErrorKind, Result};

/// A file under a temporary name in its own folder; dropped before [`finish`](Self::finish), it leaves nothing.
#[derive(Debug)]
pub struct NewFile {
    writer: BufWriter<File>,
    temporary: Unfinished,
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
        let (file, temporary) = Unfinished::start(folder).map_err(|error| {
            let unwritable = unwritable(path, error);
            if folder.is_dir() {
                unwritable
            } else {
                Error::new(ErrorKind::Io, format!("{}: the folder {} is not there", path.display(), folder.display()))
                    .help("make the folder first, or name another place")
                    .caused_by(unwritable)
            }
        })?;
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

/// The temporary names of all files that are not finished.
static NAMES: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn names() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    NAMES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes every unfinished file of this process. It is for a program that exits next, for instance at a second Ctrl-C:
/// whoever starts or finishes a file afterwards waits forever, so that no name is given to half a result.
pub fn abandon_files() {
    let names = names();
    for name in names.iter() {
        // There is nobody left to tell.
        let _ = std::fs::remove_file(name);
    }
    std::mem::forget(names);
}

/// A temporary name, removed when it is dropped.
#[derive(Debug)]
struct Unfinished(Option<TempPath>);

impl Unfinished {
    fn start(folder: &Path) -> io::Result<(File, Self)> {
        // Made under the lock, so that there is no moment in which a file is there but not known.
        let mut names = names();
        let (file, path) = temporary(folder)?.into_parts();
        names.insert(path.to_path_buf());
        Ok((file, Unfinished(Some(path))))
    }

    fn persist(mut self, name: &Path) -> Result<(), PathPersistError> {
        let mut names = names();
        let Some(path) = self.0.take() else { return Ok(()) };
        names.remove(&*path);
        path.persist(name)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            let mut names = names();
            names.remove(&*path);
            // Removed before the lock is, or abandon_files could miss it.
            drop(path);
        }
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
    fn a_file_is_known_until_it_has_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let known = || super::names().iter().filter(|name| name.starts_with(folder.path())).count();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        let (one, two) = (NewFile::create(&one).unwrap(), NewFile::create(&two).unwrap());
        assert_eq!(known(), 2);
        one.finish().unwrap();
        assert_eq!(known(), 1);
        drop(two);
        assert_eq!((known(), names(folder.path())), (0, vec!["one".to_owned()]));
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
