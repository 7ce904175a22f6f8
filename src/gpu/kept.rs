//! Compiled pipelines kept in a file of the caller's folder, so that a second start does not compile what the first did.
//!
//! Keeping is a matter of time alone, so that nothing fails where a folder cannot be read or written.

#![allow(unsafe_code)]

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::device::Device;
use super::keyed_file::{self, Digest, KeyedFile, digest};

/// What compiles pipelines and remembers them.
#[derive(Debug)]
pub(super) struct Kept {
    cache: wgpu::PipelineCache,
    file: KeyedFile,
    /// The digest of the data in the file, as far as this process knows.
    in_file: Mutex<Option<Digest>>,
}

impl Kept {
    /// What a folder has for a device; none where the device's interface keeps no pipelines.
    pub(super) async fn open(device: &Device, folder: &Path) -> Option<Self> {
        if !device.features.contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let file = KeyedFile::new(folder, "pipelines", &device.info);
        let data = file.read();
        let descriptor =
            wgpu::PipelineCacheDescriptor { label: Some("relprop"), data: data.as_deref(), fallback: true };
        // SAFETY: the data must be what `PipelineCache::get_data` gave. A file's digests cover its key and its data, so this is byte for byte
        // what `save` wrote for this adapter, driver and these texts, unless somebody made a file with the right digests on
        // purpose; `DeviceOptions::cache` asks for a folder that only its owner writes to. wgpu checks a header of its own
        // besides, and falls back to an empty cache where the driver has changed.
        let cache = device.scoped(|| unsafe { device.device.create_pipeline_cache(&descriptor) }).await.ok()?;
        Some(Kept { cache, file, in_file: Mutex::new(data.as_deref().map(digest)) })
    }

    /// What pipelines are compiled with.
    pub(super) fn cache(&self) -> &wgpu::PipelineCache {
        &self.cache
    }

    /// Writes what the device has compiled, where the file has not got it.
    pub(super) fn save(&self) {
        // Drivers only ever add to what they are given: what is too long for a file is made anew at the next start.
        let Some(data) = self.cache.get_data().filter(|data| data.len() <= keyed_file::MOST) else { return };
        let of_data = digest(&data);
        let mut in_file = self.in_file.lock().unwrap_or_else(PoisonError::into_inner);
        if *in_file != Some(of_data) && self.file.write(&data).is_ok() {
            *in_file = Some(of_data);
        }
    }
}
