//! An open device: every error of wgpu becomes one of ours.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::adapter::{self, DeviceOptions};
use super::kept::Kept;
use crate::error::{Error, ErrorKind, Result};

/// A device with its queue, and what went wrong on it.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) info: wgpu::AdapterInfo,
    pub(super) limits: wgpu::Limits,
    pub(super) features: wgpu::Features,
    pub(super) dump_shaders: Option<PathBuf>,
    /// Whether weights of products lie as float16.
    pub(super) half_weights: bool,
    /// Pipelines of earlier starts.
    pub(super) kept: Option<Kept>,
    faults: Arc<Mutex<Faults>>,
}

/// What a device told between calls.
#[derive(Debug, Default)]
struct Faults {
    /// Why the device is gone.
    lost: Option<String>,
    /// The first error that no scope caught.
    uncaught: Option<String>,
}

/// Why a device did not do what it was asked for.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It has not enough memory: less work at a time may do.
    OutOfMemory(String),
    /// A chunk is more than it takes at a time: less may do.
    TooLarge(String),
    /// Everything else.
    Failed(Error),
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        match refusal {
            Refusal::OutOfMemory(message) => {
                Error::new(ErrorKind::Limit, format!("the device is out of memory: {message}")).help(
                    "ask for a smaller batch size or less memory, close what else uses the device, or take the cpu",
                )
            }
            Refusal::TooLarge(message) => Error::new(ErrorKind::Limit, message)
                .help("ask for fewer targets or kept values, take another adapter or the cpu backend"),
            Refusal::Failed(error) => error,
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal::Failed(error)
    }
}

impl Device {
    /// Opens the adapter that the options choose, with all limits that it offers.
    ///
    /// # Errors
    /// [`ErrorKind::Device`] if there is no such adapter or it cannot be opened; [`ErrorKind::Limit`] if it lacks what
    /// every kernel needs.
    pub(super) async fn open(options: &DeviceOptions) -> Result<Self> {
        let adapter = adapter::choose(options)?;
        let info = adapter.get_info();
        let name = adapter::describe(&info);
        let limits = options.limits.clone().unwrap_or_else(|| adapter.limits());
        check_limits(&limits).map_err(|error| error.context(&name))?;
        let reads_half = adapter.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::SHADER_F16_IN_F32);
        if options.half_weights && !reads_half {
            return Err(Error::new(ErrorKind::Limit, format!("{name} reads no float16"))
                .help("keep the weights as float32, or name another adapter"));
        }
        let timestamps = wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::TIMESTAMP_QUERY_INSIDE_ENCODERS;
        let features = adapter.features() & (timestamps | wgpu::Features::PIPELINE_CACHE);
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("relprop"),
            required_features: features,
            required_limits: limits.clone(),
            ..wgpu::DeviceDescriptor::default()
        };
        let (device, queue) = adapter.request_device(&descriptor).await.map_err(|error| {
            Error::new(ErrorKind::Device, format!("{name} cannot be opened: {error}"))
                .help("name another adapter, or take the cpu backend")
        })?;
        let faults = Arc::new(Mutex::new(Faults::default()));
        let uncaught = Arc::clone(&faults);
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            locked(&uncaught).uncaught.get_or_insert_with(|| error.to_string());
        }));
        let lost = Arc::clone(&faults);
        device.set_device_lost_callback(move |reason, message| {
            locked(&lost).lost.get_or_insert_with(|| format!("{reason:?}: {message}"));
        });
        let (dump_shaders, half_weights) = (options.dump_shaders.clone(), options.half_weights);
        let mut device =
            Device { device, queue, info, limits, features, dump_shaders, half_weights, kept: None, faults };
        if let Some(folder) = &options.cache {
            device.kept = Kept::open(&device, folder).await;
        }
        Ok(device)
    }

    /// The adapter's name and interface.
    pub(super) fn name(&self) -> String {
        adapter::describe(&self.info)
    }

    /// Does `work`, and gives the errors that wgpu found in it.
    pub(super) async fn scoped<T>(&self, work: impl FnOnce() -> T) -> Result<T, Refusal> {
        let memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let validation = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let internal = self.device.push_error_scope(wgpu::ErrorFilter::Internal);
        let done = work();
        let (internal, validation, memory) = (internal.pop(), validation.pop(), memory.pop());
        let (internal, validation, memory) = (internal.await, validation.await, memory.await);
        self.check()?;
        if let Some(error) = memory {
            return Err(Refusal::OutOfMemory(error.to_string()));
        }
        match internal.or(validation) {
            None => Ok(done),
            Some(error) => Err(Refusal::Failed(self.refused(&error.to_string()))),
        }
    }

    /// Fails if the device was lost or an error came up that no scope caught.
    pub(super) fn check(&self) -> Result<()> {
        let mut faults = locked(&self.faults);
        if let Some(reason) = &faults.lost {
            return Err(Error::new(ErrorKind::Device, format!("{} was lost: {reason}", self.name()))
                .help("run again; if it is lost again, ask for a smaller batch size or take the cpu backend"));
        }
        // Told once: programs that share the device may have made it.
        match faults.uncaught.take() {
            Some(error) => Err(self.refused(&error)),
            None => Ok(()),
        }
    }

    /// [`check`](Self::check), once the device had the chance to tell.
    pub(super) fn recheck(&self) -> Result<()> {
        // That polling itself fails says no more than the check.
        let _ = self.device.poll(wgpu::PollType::Poll);
        self.check()
    }

    fn refused(&self, error: &str) -> Error {
        Error::new(ErrorKind::Device, format!("{} refused the work: {error}", self.name()))
            .help("take another adapter or the cpu backend, and please report it")
    }

    /// Waits until a submission is done.
    ///
    /// # Errors
    /// [`ErrorKind::Device`] if the device was lost.
    pub(super) fn wait(&self, submission: wgpu::SubmissionIndex) -> Result<()> {
        // In a browser this returns at once, and callbacks come from its event loop.
        let waited = self.device.poll(wgpu::PollType::Wait { submission_index: Some(submission), timeout: None });
        match waited {
            Ok(_) => self.check(),
            Err(error) => self.recheck().and_then(|()| Err(self.refused(&error.to_string()))),
        }
    }

    /// A buffer, where the device has one so large.
    ///
    /// # Errors
    /// [`Refusal::TooLarge`] where it has not. An error scope tells where there is no memory for it.
    pub(super) fn buffer(&self, descriptor: &wgpu::BufferDescriptor<'_>) -> Result<wgpu::Buffer, Refusal> {
        let is_bound = descriptor.usage.contains(wgpu::BufferUsages::STORAGE);
        let most = if is_bound { self.binding() as u64 } else { self.limits.max_buffer_size };
        if descriptor.size > most {
            let (what, needed) = (descriptor.label.unwrap_or("data"), descriptor.size);
            let message =
                format!("{what} of {needed} bytes do not fit one buffer of {}, which holds {most}", self.name());
            return Err(Refusal::TooLarge(message));
        }
        Ok(self.device.create_buffer(descriptor))
    }

    /// Bytes that one binding may have. Kernels count elements in 32 bits, and drivers bytes.
    pub(super) fn binding(&self) -> usize {
        let most =
            self.limits.max_storage_buffer_binding_size.min(self.limits.max_buffer_size).min(u64::from(u32::MAX));
        // Whole vectors of four numbers.
        usize::try_from(most).unwrap_or(usize::MAX) / 16 * 16
    }
}

fn locked(faults: &Mutex<Faults>) -> std::sync::MutexGuard<'_, Faults> {
    faults.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What every kernel needs, as WebGPU guarantees it.
fn check_limits(limits: &wgpu::Limits) -> Result<()> {
    let needs = [
        ("storage buffers a shader stage", u64::from(limits.max_storage_buffers_per_shader_stage), 8),
        ("invocations a workgroup", u64::from(limits.max_compute_invocations_per_workgroup), 256),
        ("invocations along a workgroup", u64::from(limits.max_compute_workgroup_size_x), 256),
        ("workgroups a dispatch", u64::from(limits.max_compute_workgroups_per_dimension), 1),
        ("bytes of workgroup memory", u64::from(limits.max_compute_workgroup_storage_size), 16384),
        ("bindings a group", u64::from(limits.max_bindings_per_bind_group), 16),
        ("uniform buffers a shader stage", u64::from(limits.max_uniform_buffers_per_shader_stage), 2),
        ("bytes a uniform binding", limits.max_uniform_buffer_binding_size, 1024),
    ];
    match needs.into_iter().find(|(_, has, needed)| has < needed) {
        None => Ok(()),
        Some((what, has, needed)) => {
            Err(Error::new(ErrorKind::Limit, format!("the adapter has {has} {what}, and the kernels need {needed}"))
                .help("name another adapter, or take the cpu backend"))
        }
    }
}
