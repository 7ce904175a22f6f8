//! Which device computes: every adapter that wgpu sees, and how one is chosen.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, ErrorKind, Result};
use crate::kernels::Tile;

/// Which device the GPU backend takes, and how.
#[derive(Debug, Clone, Default)]
pub struct DeviceOptions {
    /// The name of the adapter to take, or a part of it in any case. Without one, a real GPU is taken: discrete before integrated.
    /// A software adapter is only taken by its name.
    pub adapter: Option<String>,
    /// The graphics interfaces to look for adapters in; all that the platform has if none is given. [`wgpu::Backends::NOOP`] is
    /// an adapter that neither compiles nor computes: for who wants the kernels' texts and not their results.
    pub interfaces: Option<wgpu::Backends>,
    /// Limits to request instead of all that the adapter offers.
    pub limits: Option<wgpu::Limits>,
    /// The shape of every product, instead of the one that fits its size.
    pub tile: Option<Tile>,
    /// A folder that gets the text of every kernel that is compiled.
    pub dump_shaders: Option<PathBuf>,
    /// A folder that keeps compiled kernels for the next start, where the interface lets a program keep them, as Vulkan does, and what
    /// [`Explainer::tune`](crate::Explainer::tune) chose. It is made where there is none; nothing but tuning fails where it cannot be
    /// read or written. What lies there goes to the driver, so nobody else may write to it.
    pub cache: Option<PathBuf>,
    /// Whether the weights of dense layers and convolutions lie on the device as float16, which halves their memory and what products of
    /// few rows read. Each weight is then the nearest float16, which is at most 0.05 % off from 6e-5 on, and within 3e-8 below, where a
    /// device may also take 0: relevance is that of a model with such weights, as all sums, and what stands beside them, stay float32.
    /// Depthwise weights, tables and biases stay float32 too, and so does everything on other backends than the GPU's.
    pub half_weights: bool,
    /// Whether each step is timed by itself, where the device has timestamps. It slows short steps down.
    pub profile: bool,
}

/// An adapter and what it can do.
#[derive(Debug, Clone)]
pub struct AdapterDescription {
    /// Its name, driver and interface.
    pub info: wgpu::AdapterInfo,
    /// Its limits.
    pub limits: wgpu::Limits,
    /// Its features.
    pub features: wgpu::Features,
    /// Whether [`Backend::Auto`](crate::Backend::Auto) would take it.
    pub is_automatic: bool,
}

impl fmt::Display for AdapterDescription {
    /// The name and the interface, as reports print them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&describe(&self.info))
    }
}

/// Every adapter, in the order in which they would be chosen.
pub fn adapters(options: &DeviceOptions) -> Vec<AdapterDescription> {
    let description = |adapter: wgpu::Adapter| AdapterDescription {
        info: adapter.get_info(),
        limits: adapter.limits(),
        features: adapter.features(),
        is_automatic: false,
    };
    let mut descriptions: Vec<AdapterDescription> = sorted(options).into_iter().map(description).collect();
    if let Some(first) = descriptions.first_mut() {
        first.is_automatic = !is_software(&first.info) && may_have_gpu();
    }
    descriptions
}

pub(super) fn describe(info: &wgpu::AdapterInfo) -> String {
    format!("{} ({})", info.name, info.backend)
}

/// Whether an adapter is a program that acts as a GPU.
pub(super) fn is_software(info: &wgpu::AdapterInfo) -> bool {
    info.device_type == wgpu::DeviceType::Cpu
}

/// What looks for adapters on some interfaces, made once for the whole process: with the last instance its drivers would be
/// unloaded, and a thread that used one and ends later would run what the driver left to the end of threads, which is no longer
/// there (a segmentation fault, seen with NVIDIA's 580.159.04).
fn instance(interfaces: wgpu::Backends) -> wgpu::Instance {
    static INSTANCES: Mutex<BTreeMap<u32, wgpu::Instance>> = Mutex::new(BTreeMap::new());
    let mut instances = INSTANCES.lock().unwrap_or_else(PoisonError::into_inner);
    let instance = instances.entry(interfaces.bits()).or_insert_with(|| {
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        descriptor.backends = interfaces;
        descriptor.backend_options.noop.enable = interfaces.contains(wgpu::Backends::NOOP);
        wgpu::Instance::new(descriptor)
    });
    instance.clone()
}

/// Adapters, the best first.
fn sorted(options: &DeviceOptions) -> Vec<wgpu::Adapter> {
    let instance = instance(options.interfaces.unwrap_or(wgpu::Backends::PRIMARY));
    let mut adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    adapters.sort_by_key(|adapter| match adapter.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    });
    adapters
}

/// Whether the machine may have a GPU at all: asking its drivers takes time, and some of them talk on stderr.
#[cfg(target_os = "linux")]
pub(super) fn may_have_gpu() -> bool {
    const NODES: [&str; 5] = ["nvidia", "dxg", "mali", "kgsl", "renderD"];
    let folders = ["/dev", "/dev/dri"].into_iter().filter_map(|folder| std::fs::read_dir(folder).ok());
    let mut names = folders.flatten().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.any(|name| NODES.iter().any(|node| name.starts_with(node)))
}

/// Whether the machine may have a GPU at all; where nothing cheap tells, it may.
#[cfg(not(target_os = "linux"))]
pub(super) fn may_have_gpu() -> bool {
    true
}

/// The adapter that the options name, or the best real one.
///
/// # Errors
/// [`ErrorKind::Device`] if there is none; the message lists what there is.
pub(super) fn choose(options: &DeviceOptions) -> Result<wgpu::Adapter> {
    let adapters = sorted(options);
    let names: Vec<String> = adapters.iter().map(|adapter| describe(&adapter.get_info())).collect();
    let seen = match names.as_slice() {
        [] => "wgpu sees none".to_owned(),
        names => format!("there is {}", names.join(", ")),
    };
    let fits = |adapter: &wgpu::Adapter| {
        let info = adapter.get_info();
        match &options.adapter {
            Some(name) => describe(&info).to_lowercase().contains(&name.to_lowercase()),
            None => !is_software(&info),
        }
    };
    let is_named = |adapter: &wgpu::Adapter| options.adapter.as_ref() == Some(&describe(&adapter.get_info()));
    let exact = adapters.iter().find(|adapter| is_named(adapter)).cloned();
    exact.or_else(|| adapters.into_iter().find(fits)).ok_or_else(|| {
        let message = match &options.adapter {
            Some(name) => format!("no GPU adapter is called `{name}`: {seen}"),
            None => format!("no GPU adapter: {seen}"),
        };
        Error::new(ErrorKind::Device, message)
            .help("install the GPU's Vulkan driver, name a software adapter to use it, or take the cpu backend")
    })
}
