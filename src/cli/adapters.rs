//! The adapters of this machine, as the program shows them.

use std::fmt::Write as _;

use bytesize::ByteSize;
use relprop::Result;
#[cfg(feature = "gpu")]
use relprop::gpu::AdapterDescription;
#[cfg(feature = "gpu")]
use relprop::wgpu::{Backend as Interface, DeviceType, Features};
use serde::Serialize;

use super::console::thousands;

/// All adapters, the best first.
///
/// # Errors
/// If the environment asks for interfaces that there are not.
#[cfg(feature = "gpu")]
pub fn adapters() -> Result<Vec<Adapter>> {
    let options = super::environment::device_options(None)?;
    Ok(relprop::gpu::adapters(&options)?.iter().map(Adapter::from).collect())
}

/// No adapters: this program cannot look for any.
///
/// # Errors
/// Never.
#[cfg(not(feature = "gpu"))]
pub fn adapters() -> Result<Vec<Adapter>> {
    Ok(Vec::new())
}

/// An adapter.
#[derive(Debug, Serialize)]
pub struct Adapter {
    /// Its name as the driver has it.
    pub name: String,
    /// Its name and interface, as reports have it; it is a name that `--backend gpu:NAME` takes.
    pub full_name: String,
    /// The graphics interface that shows it.
    pub interface: &'static str,
    /// What it is, in words.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Whether it is a program that acts as a GPU.
    pub is_software: bool,
    /// Its driver.
    pub driver: String,
    /// The driver's version, as the driver writes it.
    pub driver_version: String,
    /// Its limits.
    pub limits: Limits,
    /// Whether it can tell how long kernels take.
    pub timestamps: bool,
    /// Whether `--backend auto` takes it.
    pub automatic: bool,
}

/// The limits that decide which models and batches run, and how fast.
#[derive(Debug, Serialize)]
pub struct Limits {
    /// The largest part of a buffer that a kernel can read or write.
    pub binding_bytes: u64,
    /// The largest buffer.
    pub buffer_bytes: u64,
    /// Memory that the invocations of a workgroup share.
    pub workgroup_memory_bytes: u32,
    /// Invocations of a workgroup.
    pub workgroup_invocations: u32,
    /// Buffers that a kernel can read or write.
    pub storage_buffers_a_stage: u32,
    /// Workgroups along each dimension of a dispatch.
    pub workgroups_a_dimension: u32,
}

#[cfg(feature = "gpu")]
impl From<&AdapterDescription> for Adapter {
    fn from(adapter: &AdapterDescription) -> Self {
        let AdapterDescription { info, limits, features, is_automatic } = adapter;
        Adapter {
            name: info.name.clone(),
            full_name: adapter.to_string(),
            interface: interface(info.backend),
            kind: kind(info.device_type),
            is_software: info.device_type == DeviceType::Cpu,
            driver: info.driver.clone(),
            driver_version: info.driver_info.clone(),
            limits: Limits {
                binding_bytes: limits.max_storage_buffer_binding_size,
                buffer_bytes: limits.max_buffer_size,
                workgroup_memory_bytes: limits.max_compute_workgroup_storage_size,
                workgroup_invocations: limits.max_compute_invocations_per_workgroup,
                storage_buffers_a_stage: limits.max_storage_buffers_per_shader_stage,
                workgroups_a_dimension: limits.max_compute_workgroups_per_dimension,
            },
            timestamps: features.contains(Features::TIMESTAMP_QUERY),
            automatic: *is_automatic,
        }
    }
}

impl Adapter {
    /// The adapter in words: its name, and a line for everything else.
    pub fn text(&self) -> String {
        let size = |bytes: u64| ByteSize::b(bytes).to_string();
        let count = |count: u32| thousands(count as usize);
        let Limits { binding_bytes, buffer_bytes, workgroup_memory_bytes, .. } = self.limits;
        let rows = [
            ("type", self.kind.to_owned()),
            ("interface", self.interface.to_owned()),
            ("driver", [self.driver.as_str(), self.driver_version.as_str()].join(" ").trim().to_owned()),
            ("largest binding", size(binding_bytes)),
            ("largest buffer", size(buffer_bytes)),
            (
                "workgroups",
                format!(
                    "{} of memory, {} invocations, {} a dimension",
                    size(u64::from(workgroup_memory_bytes)),
                    count(self.limits.workgroup_invocations),
                    count(self.limits.workgroups_a_dimension)
                ),
            ),
            ("storage buffers", format!("{} a stage", count(self.limits.storage_buffers_a_stage))),
            ("timestamps", if self.timestamps { "yes" } else { "no" }.to_owned()),
        ];
        let mut text = format!("{}\n", self.name);
        for (key, value) in rows {
            let _ = writeln!(text, "  {key:<16} {value}");
        }
        text
    }
}

/// An interface as it writes its own name.
#[cfg(feature = "gpu")]
fn interface(interface: Interface) -> &'static str {
    match interface {
        Interface::Vulkan => "Vulkan",
        Interface::Metal => "Metal",
        Interface::Dx12 => "Direct3D 12",
        Interface::Gl => "OpenGL",
        Interface::BrowserWebGpu => "WebGPU",
        Interface::Noop => "none",
    }
}

/// What an adapter is, in plain words.
#[cfg(feature = "gpu")]
fn kind(kind: DeviceType) -> &'static str {
    match kind {
        DeviceType::DiscreteGpu => "discrete GPU",
        DeviceType::IntegratedGpu => "integrated GPU",
        DeviceType::VirtualGpu => "virtual GPU",
        DeviceType::Cpu => "software",
        DeviceType::Other => "other",
    }
}
