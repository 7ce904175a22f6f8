//! `relprop devices`: the adapters that the GPU backend can take, and what `auto` would.

use std::fmt::Write as _;

use clap::Args;
use relprop::cpu::{self, Cpu};
use relprop::{Backend, Result};
use serde::Serialize;

use super::adapters::{Adapter, adapters};
use super::console::{to_json, to_stdout};

const AFTER_HELP: &str = "\
Examples:
  relprop devices
  relprop explain model.onnx digits.npy -o relevance.npy --backend gpu
      The best real GPU.
  relprop explain model.onnx digits.npy -o relevance.npy --backend gpu:llvmpipe
      The adapter whose name has `llvmpipe` in it: Mesa's software Vulkan driver.
  WGPU_BACKEND=vulkan relprop devices
      Only what Vulkan shows: WGPU_BACKEND takes vulkan, metal, dx12 or several separated by commas.";

/// Show the GPU adapters of this machine with their limits, and what `--backend auto` would take.
///
/// Adapters come in the order in which they would be taken. Software adapters, which are programs that act as a GPU, are
/// slower than the CPU backend and are only taken by their name.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Arguments {
    /// Print one JSON object instead
    #[arg(long)]
    json: bool,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Devices {
    /// What `--backend auto` takes.
    auto: Automatic,
    /// All adapters, the best first.
    adapters: Vec<Adapter>,
}

/// What `--backend auto` takes.
#[derive(Debug, Serialize)]
struct Automatic {
    backend: String,
    adapter: String,
}

/// Prints the adapters.
///
/// # Errors
/// If the environment asks for interfaces that there are not.
pub fn run(arguments: &Arguments) -> Result<()> {
    let adapters = adapters()?;
    let auto = match adapters.iter().find(|adapter| adapter.automatic) {
        Some(adapter) => Automatic { backend: Backend::Gpu.to_string(), adapter: adapter.full_name.clone() },
        None => Automatic { backend: Backend::Cpu.to_string(), adapter: processor()? },
    };
    let devices = Devices { auto, adapters };
    if arguments.json { to_stdout(&to_json(&devices)?) } else { to_stdout(&devices.text()) }
}

/// What the CPU backend has: as its explainer says it.
fn processor() -> Result<String> {
    Ok(format!("{}, {} threads", cpu::instruction_set(), Cpu::new(None)?.threads()))
}

impl Devices {
    fn text(&self) -> String {
        let mut text = String::new();
        for adapter in &self.adapters {
            text.push_str(&adapter.text());
            text.push('\n');
        }
        let Automatic { backend, adapter } = &self.auto;
        let why = match self.adapters.as_slice() {
            _ if !cfg!(feature = "gpu") => ", because this relprop was built without its gpu feature",
            [] => ", because there is no GPU adapter",
            adapters if adapters.iter().all(|adapter| adapter.is_software) => {
                ", because only software adapters are there, and it is faster"
            }
            _ => "",
        };
        let _ = writeln!(text, "--backend auto takes the {backend} backend ({adapter}){why}.");
        text.push_str(&self.advice());
        text
    }

    /// How to take an adapter, or how to get one.
    fn advice(&self) -> String {
        match self.adapters.first() {
            Some(adapter) => {
                let part = adapter.name.split(' ').next().unwrap_or_default().to_lowercase();
                format!("An adapter is taken by a part of its name, in any case: --backend gpu:{part}\n")
            }
            None if !cfg!(feature = "gpu") => "It is on by default.\n".to_owned(),
            None => "To use a GPU, install its driver with Vulkan; macOS and Windows bring theirs along.\n\
                 To try the GPU backend without a GPU, install Mesa's software driver, on Debian and Ubuntu by\n\
                 `apt-get install mesa-vulkan-drivers`.\n"
                .to_owned(),
        }
    }
}
