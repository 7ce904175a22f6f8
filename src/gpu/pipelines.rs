//! Compiled kernels: each text once a device.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::device::{Device, Refusal};
use super::kept::Kept;
use crate::error::{Error, ErrorKind, Result};
use crate::kernels::Kernel;

/// The pipelines of a device, by their kernels; none for those that nothing has run yet.
#[derive(Debug, Default)]
pub(super) struct Pipelines {
    known: Mutex<HashMap<Arc<Kernel>, Option<wgpu::ComputePipeline>>>,
}

impl Pipelines {
    /// How many kernels are compiled.
    pub(super) fn count(&self) -> usize {
        self.known().values().flatten().count()
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Arc<Kernel>, Option<wgpu::ComputePipeline>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one copy of a kernel that all plans share.
    pub(super) fn share(&self, kernel: &Kernel) -> Arc<Kernel> {
        let mut known = self.known();
        if let Some((shared, _)) = known.get_key_value(kernel) {
            return Arc::clone(shared);
        }
        let shared = Arc::new(kernel.clone());
        known.insert(Arc::clone(&shared), None);
        shared
    }

    /// Compiles the kernels that are not compiled yet, on several threads where there are.
    pub(super) async fn compile(&self, device: &Device, kernels: &[&Arc<Kernel>]) -> Result<(), Refusal> {
        let mut missing: Vec<&Arc<Kernel>> = Vec::new();
        for &kernel in kernels {
            let is_compiled = self.known().get(kernel).is_some_and(Option::is_some);
            if !is_compiled && !missing.contains(&kernel) {
                missing.push(kernel);
            }
        }
        if let Some(folder) = &device.dump_shaders {
            missing.iter().try_for_each(|kernel| dump(folder, kernel))?;
        }
        let compiled = compile_all(device, &missing).await?;
        if let Some(kept) = device.kept.as_ref().filter(|_| !missing.is_empty()) {
            kept.save();
        }
        self.known().extend(missing.into_iter().cloned().zip(compiled.into_iter().map(Some)));
        Ok(())
    }

    /// The pipeline of a kernel that was compiled.
    pub(super) fn get(&self, kernel: &Kernel) -> Result<wgpu::ComputePipeline> {
        let compiled = self.known().get(kernel).cloned().flatten();
        compiled.ok_or_else(|| Error::internal("a kernel is compiled before it runs"))
    }
}

/// Bytes of stack for a thread that compiles: drivers' compilers recurse, and are made for a main thread's stack rather than the 2 MiB of
/// others.
#[cfg(all(feature = "threads", not(target_family = "wasm")))]
const COMPILER_STACK: usize = 16 << 20;

#[cfg(all(feature = "threads", not(target_family = "wasm")))]
async fn compile_all(device: &Device, kernels: &[&Arc<Kernel>]) -> Result<Vec<wgpu::ComputePipeline>, Refusal> {
    // Threads of its own: a pool's thread that waits takes up other jobs, and those may wait for this very plan.
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(kernels.len());
    let cache = device.kept.as_ref().map(Kept::cache);
    // Error scopes belong to a thread, so each kernel has its own.
    let compile = |kernel: &&Arc<Kernel>| pollster::block_on(device.scoped(|| kernel.compile(&device.device, cache)));
    let share = kernels.len().div_ceil(threads.max(1)).max(1);
    let thread = || std::thread::Builder::new().stack_size(COMPILER_STACK);
    std::thread::scope(|scope| {
        let shares = kernels
            .chunks(share)
            .map(|share| thread().spawn_scoped(scope, || share.iter().map(compile).collect::<Vec<_>>()));
        let shares: Vec<_> = shares.collect();
        let panicked = |_| vec![Err(Error::internal("compiling a kernel panicked").into())];
        let of_share = |share: std::io::Result<std::thread::ScopedJoinHandle<'_, _>>| match share {
            Ok(thread) => thread.join().unwrap_or_else(panicked),
            Err(error) => {
                let message = format!("there is no thread to compile kernels on: {error}");
                vec![Err(Error::new(ErrorKind::Limit, message).help("allow the process more threads").into())]
            }
        };
        shares.into_iter().flat_map(of_share).collect()
    })
}

#[cfg(not(all(feature = "threads", not(target_family = "wasm"))))]
async fn compile_all(device: &Device, kernels: &[&Arc<Kernel>]) -> Result<Vec<wgpu::ComputePipeline>, Refusal> {
    let cache = device.kept.as_ref().map(Kept::cache);
    let mut compiled = Vec::with_capacity(kernels.len());
    for kernel in kernels {
        compiled.push(device.scoped(|| kernel.compile(&device.device, cache)).await?);
    }
    Ok(compiled)
}

/// Writes a kernel's text into a folder, under its name and a number that the text decides.
fn dump(folder: &Path, kernel: &Kernel) -> Result<()> {
    let mut hasher = DefaultHasher::new();
    kernel.text.hash(&mut hasher);
    let name = format!("{}-{:016x}.wgsl", kernel.label.replace(' ', "-"), hasher.finish());
    let path = folder.join(name);
    let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&path, &kernel.text));
    written.map_err(|error| {
        Error::new(ErrorKind::Io, format!("{} cannot be written: {error}", path.display()))
            .help("name another folder for the kernels' texts")
    })
}
