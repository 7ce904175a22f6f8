//! Files of a caller's folder that are for one adapter, driver and version of the kernels' texts.
//!
//! All three decide a file's name and the digest that it begins with. A second digest covers the data. What is cut short, changed, too
//! long or of something else counts as nothing.
//!
//! `tempfile` writes under another name first; `sha2` makes digests that stay equal from one version of Rust to the next, as those of
//! std's hashers do not.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::kernels;

/// A SHA-256.
pub(super) type Digest = [u8; 32];

/// Bytes before the data: both digests.
const HEADER: usize = 2 * size_of::<Digest>();

/// The most bytes of data that a file may have.
pub(super) const MOST: usize = (64 << 20) - HEADER;

/// The place of a file, and what it must be of.
#[derive(Debug)]
pub(super) struct KeyedFile {
    path: PathBuf,
    key: Digest,
}

impl KeyedFile {
    /// The file of a kind in a folder, for an adapter.
    pub(super) fn new(folder: &Path, kind: &str, info: &wgpu::AdapterInfo) -> Self {
        let key = key(info);
        KeyedFile { path: folder.join(format!("{kind}-{}.bin", hexadecimal(&key[..8]))), key }
    }

    /// Where it is, or will be.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Its data, if it is whole and of what it must be.
    pub(super) fn read(&self) -> Option<Vec<u8>> {
        let is_short = std::fs::metadata(&self.path).is_ok_and(|file| file.len() <= (HEADER + MOST) as u64);
        let bytes = if is_short { std::fs::read(&self.path).ok()? } else { return None };
        data_of(&bytes, &self.key).map(<[u8]>::to_vec)
    }

    /// Writes it anew; it gets its name only when it is whole. The folder is made where there is none.
    pub(super) fn write(&self, data: &[u8]) -> std::io::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        [&self.key, &digest(data), data].into_iter().try_for_each(|part: &[u8]| file.write_all(part))?;
        file.persist(&self.path)?;
        Ok(())
    }
}

/// The data of a file, if it is whole and for this key.
fn data_of<'a>(bytes: &'a [u8], key: &Digest) -> Option<&'a [u8]> {
    let (header, data) = bytes.split_at_checked(HEADER)?;
    let (of_key, of_data) = header.split_at(size_of::<Digest>());
    (of_key == key && of_data == digest(data)).then_some(data)
}

/// What decides how kernels are compiled and how fast they are: the adapter, its driver, and the texts that this version of the crate
/// makes kernels from.
fn key(info: &wgpu::AdapterInfo) -> Digest {
    let wgpu::AdapterInfo { name, vendor, device, driver, driver_info, backend, .. } = info;
    let mut digest = Sha256::new();
    let version = env!("CARGO_PKG_VERSION");
    digest.update(format!("{name}\n{vendor}\n{device}\n{driver}\n{driver_info}\n{backend}\n{version}\n"));
    kernels::texts().for_each(|text| digest.update(text));
    digest.finalize().into()
}

pub(super) fn digest(data: &[u8]) -> Digest {
    Sha256::digest(data).into()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_files_of_the_same_key_count() {
        let folder = tempfile::tempdir().unwrap();
        let file = KeyedFile { path: folder.path().join("new/pipelines.bin"), key: digest(b"this adapter") };
        let data = b"compiled".as_slice();
        assert_eq!(file.read(), None);
        file.write(data).unwrap();
        assert_eq!(file.read().as_deref(), Some(data));
        assert_eq!(KeyedFile { path: file.path.clone(), key: digest(b"another adapter") }.read(), None);
        let bytes = std::fs::read(file.path()).unwrap();
        for length in 0..bytes.len() {
            assert_eq!(data_of(&bytes[..length], &file.key), None, "{length} bytes");
        }
        for position in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[position] ^= 1;
            assert_eq!(data_of(&changed, &file.key), None, "a bit of byte {position}");
        }
        let made = std::fs::read_dir(file.path().parent().unwrap()).unwrap().count();
        assert_eq!(made, 1, "nothing half-written is left");
    }
}
