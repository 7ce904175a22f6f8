//! JSON: one report, or one line a sample. `serde_json` writes it: the standard one.
//!
//! JSON has no NaN or infinity: such floats become `null`.

use std::path::Path;

use serde::Serialize;

use super::file::{NewFile, unwritable};
use crate::error::{Error, Result};

/// Writes a value as an indented JSON document.
///
/// # Errors
/// [`ErrorKind::Io`](crate::ErrorKind::Io) if the file cannot be written.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut file = NewFile::create(path)?;
    serde_json::to_writer_pretty(&mut file, value).map_err(|error| unserializable(path, error))?;
    file.append(b"\n")?;
    file.finish()
}

/// Writes a JSON document a line.
#[derive(Debug)]
pub struct JsonLines {
    file: NewFile,
}

impl JsonLines {
    /// Starts the file.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) if it cannot be started.
    pub fn create(path: &Path) -> Result<Self> {
        Ok(JsonLines { file: NewFile::create(path)? })
    }

    /// Appends a line.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) if it cannot be written.
    pub fn append(&mut self, value: &impl Serialize) -> Result<()> {
        let path = self.file.path().to_owned();
        serde_json::to_writer(&mut self.file, value).map_err(|error| unserializable(&path, error))?;
        self.file.append(b"\n")
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) if it cannot be finished.
    pub fn finish(self) -> Result<()> {
        self.file.finish()
    }
}

fn unserializable(path: &Path, error: serde_json::Error) -> Error {
    if error.is_io() {
        unwritable(path, error.into())
    } else {
        Error::internal(format!("{}: a report has no JSON form: {error}", path.display())).caused_by(error)
    }
}
