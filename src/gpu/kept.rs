//! Compiled pipelines kept in a file of the caller's folder, so that a second start does not compile what the first did.
//!
//! A file is for one adapter, driver and version of the kernels' texts: all three decide its name and the digest that it begins with. A second
//! digest covers the data. What is cut short, changed, too long or of something else counts as nothing, and is written anew.
//! Keeping is a matter of time alone, so that nothing fails where a folder cannot be read or written.
//!
//! `tempfile` writes under another name first; `sha2` makes digests that stay equal from one version of Rust to the next, as those of
//! std's hashers do not.

#![allow(unsafe_code)]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

use super::device::Device;
use crate::kernels;

/// A SHA-256.
type Digest = [u8; 32];

/// The most bytes that a file may have. Drivers only ever add to what they are given: beyond this, the next start begins anew.
const MOST: usize = 64 << 20;

/// What compiles pipelines and remembers them.
#[derive(Debug)]
pub(super) struct Kept {
    cache: wgpu::PipelineCache,
    path: PathBuf,
    key: Digest,
    /// The digest of the data in the file, as far as this process knows.
    in_file: Mutex<Option<Digest>>,
}

impl Kept {
    /// What a folder has for a device; none where the device's interface keeps no pipelines.
    pub(super) async fn open(device: &Device, folder: &Path) -> Option<Self> {
        if !device.features.contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let key = key(&device.info);
        let path = folder.join(format!("pipelines-{}.bin", hexadecimal(&key[..8])));
        let bytes = std::fs::metadata(&path).is_ok_and(|file| file.len() <= MOST as u64).then(|| std::fs::read(&path));
        let bytes = bytes.and_then(Result::ok);
        let data = bytes.as_deref().and_then(|bytes| data_of(bytes, &key));
        let descriptor = wgpu::PipelineCacheDescriptor { label: Some("relprop"), data, fallback: true };
        // SAFETY: the data must be what `PipelineCache::get_data` gave. A file's digests cover its key and its data, so this is byte for byte
        // what `save` wrote for this adapter, driver and these texts, unless somebody made a file with the right digests on
        // purpose; `DeviceOptions::cache` asks for a folder that only its owner writes to. wgpu checks a header of its own
        // besides, and falls back to an empty cache where the driver has changed.
        let cache = device.scoped(|| unsafe { device.device.create_pipeline_cache(&descriptor) }).await.ok()?;
        Some(Kept { cache, path, key, in_file: Mutex::new(data.map(digest)) })
    }

    /// What pipelines are compiled with.
    pub(super) fn cache(&self) -> &wgpu::PipelineCache {
        &self.cache
    }

    /// Writes what the device has compiled, where the file has not got it.
    pub(super) fn save(&self) {
        let Some(data) = self.cache.get_data().filter(|data| data.len() <= MOST - HEADER) else { return };
        let of_data = digest(&data);
        let mut in_file = self.in_file.lock().unwrap_or_else(PoisonError::into_inner);
        if *in_file != Some(of_data) && write(&self.path, &[&self.key, &of_data, &data]).is_ok() {
            *in_file = Some(of_data);
        }
    }
}

/// Bytes before the data: both digests.
const HEADER: usize = 2 * size_of::<Digest>();

/// The data of a file, if it is whole and for this key.
fn data_of<'a>(bytes: &'a [u8], key: &Digest) -> Option<&'a [u8]> {
    let (header, data) = bytes.split_at_checked(HEADER)?;
    let (of_key, of_data) = header.split_at(size_of::<Digest>());
    (of_key == key && of_data == digest(data)).then_some(data)
}

/// Writes parts one after another; the file gets its name only when it is whole.
fn write(path: &Path, parts: &[&[u8]]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    parts.iter().try_for_each(|part| file.write_all(part))?;
    file.persist(path)?;
    Ok(())
}

/// What pipelines depend on: the adapter, its driver, and the texts that this version of the crate makes kernels from.
fn key(info: &wgpu::AdapterInfo) -> Digest {
    let wgpu::AdapterInfo { name, vendor, device, driver, driver_info, backend, .. } = info;
    let mut digest = Sha256::new();
    let version = env!("CARGO_PKG_VERSION");
    digest.update(format!("{name}\n{vendor}\n{device}\n{driver}\n{driver_info}\n{backend}\n{version}\n"));
    kernels::texts().for_each(|text| digest.update(text));
    digest.finalize().into()
}

fn digest(data: &[u8]) -> Digest {
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
        let path = folder.path().join("new/pipelines.bin");
        let (key, data) = (digest(b"this adapter"), b"compiled".as_slice());
        write(&path, &[&key, &digest(data), data]).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(data_of(&bytes, &key), Some(data));
        assert_eq!(data_of(&bytes, &digest(b"another adapter")), None);
        for length in 0..bytes.len() {
            assert_eq!(data_of(&bytes[..length], &key), None, "{length} bytes");
        }
        for position in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[position] ^= 1;
            assert_eq!(data_of(&changed, &key), None, "a bit of byte {position}");
        }
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing half-written is left");
    }
}
