//! `--backend` and its kin: what computes, and with how much.

use std::fmt;
use std::str::FromStr;

use bytesize::ByteSize;
use clap::Args;
use relprop::{Backend, Error, Options, Result};

use super::model::usage;

/// What computes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Computing")]
pub struct EngineArguments {
    /// What computes: `auto` (unless told), gpu, gpu:NAME, cpu or reference
    ///
    /// `auto` takes the best real GPU, or the CPU where there is none. gpu:NAME takes the adapter whose name has NAME in
    /// it, in any case; only so is a software adapter taken. `relprop devices` lists adapters. `reference` is the float64
    /// judge of the others, and slow. WGPU_BACKEND=vulkan, metal or dx12 in the environment limits the search for
    /// adapters to these interfaces; RELPROP_DUMP_SHADERS=FOLDER keeps the text of every kernel that runs, RELPROP_CACHE=FOLDER compiled
    /// kernels and what `relprop tune` chose for the next run, in place of the system's folder for what may be made again.
    #[arg(long, value_name = "NAME", default_value = "auto", hide_default_value = true)]
    pub backend: BackendChoice,

    /// Samples computed together; chosen to fit the cache or the device unless told. It does not change results
    #[arg(long, value_name = "N", value_parser = positive)]
    pub batch_size: Option<usize>,

    /// The most memory for the samples in work at a time, such as 512MiB or 2GiB
    ///
    /// Half of it is for a block of inputs and its results, which has one sample at least; half for scratch,
    /// on the CPU or on the device. What else is in memory comes on top: the model, .npz, .safetensors and IDX inputs as a whole, results
    /// that go to .npz or .safetensors, pictures while they are decoded, the page of --heatmap, and the reference's own. Unless told, a GPU's
    /// buffers take up to 1 GiB, and 4 GiB on a card of its own, as far as it has them.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub memory: Option<ByteSize>,

    /// Threads of the CPU backend; one a core unless told. They do not change results
    #[arg(long, value_name = "N", value_parser = positive)]
    pub threads: Option<usize>,

    /// Keep weights as float16 on the GPU: half the memory, and relevance of weights that are up to 0.05 % off
    ///
    /// Rules that divide by what nearly cancels, such as epsilon, may move relevance by some percent then (benches/README.md). Dense layers and
    /// convolutions but depthwise ones are kept so; everything else, and every sum, stays float32. It needs --backend gpu or gpu:NAME, and
    /// a model whose weights are below 65504.
    #[arg(long)]
    pub half_weights: bool,
}

/// A backend by name, and the adapter that the GPU's is to take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendChoice {
    /// What computes.
    pub backend: Backend,
    /// Part of the adapter's name, in any case; the best real GPU if there is none.
    pub adapter: Option<String>,
}

impl BackendChoice {
    /// A backend that needs no name of an adapter.
    pub fn of(backend: Backend) -> Self {
        BackendChoice { backend, adapter: None }
    }

    /// The explainer's options for it, with what the environment says about devices.
    ///
    /// # Errors
    /// If the environment asks for what there is not.
    pub fn options(&self) -> Result<Options> {
        Ok(Options {
            backend: self.backend,
            #[cfg(feature = "gpu")]
            device: super::environment::device_options(self.adapter.clone())?,
            ..Options::default()
        })
    }
}

impl FromStr for BackendChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let choice = match text.split_once(':') {
            Some(("gpu", name)) if !name.trim().is_empty() => {
                BackendChoice { backend: Backend::Gpu, adapter: Some(name.trim().to_owned()) }
            }
            _ => BackendChoice::of(text.parse().map_err(|_| {
                let named = "; or gpu:NAME, with a part of an adapter's name that `relprop devices` lists";
                usage(format!("`{text}` is no backend"), format!("give auto, gpu, cpu or reference{named}"))
            })?),
        };
        if choice.backend == Backend::Gpu && !cfg!(feature = "gpu") {
            return Err(usage(
                "this relprop was built without its gpu feature",
                "build it with `--features gpu`, which is on by default, or take --backend cpu",
            ));
        }
        Ok(choice)
    }
}

impl fmt::Display for BackendChoice {
    /// As `--backend` takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.adapter {
            Some(name) => write!(f, "{}:{name}", self.backend),
            None => self.backend.fmt(f),
        }
    }
}

impl EngineArguments {
    /// The explainer's options.
    ///
    /// # Errors
    /// If the environment asks for devices that there are not, or float16 for another backend than the GPU's.
    pub fn options(&self) -> Result<Options> {
        if self.half_weights && self.backend.backend != Backend::Gpu {
            return Err(usage(
                format!("--half-weights needs a GPU, and --backend is {}", self.backend),
                "give --backend gpu or gpu:NAME, or leave --half-weights out",
            ));
        }
        #[cfg_attr(not(feature = "gpu"), expect(unused_mut, reason = "only a GPU has options that change"))]
        let mut options = Options {
            threads: self.threads,
            batch_size: self.batch_size,
            memory: self.half_of_memory(),
            ..self.backend.options()?
        };
        #[cfg(feature = "gpu")]
        {
            options.device.half_weights = self.half_weights;
        }
        Ok(options)
    }

    /// Half of `--memory`: one half for inputs and results, one for scratch.
    pub fn half_of_memory(&self) -> Option<usize> {
        self.memory.map(|size| usize::try_from(size.as_u64() / 2).unwrap_or(usize::MAX).max(1))
    }
}

/// A whole number from 1 on.
pub fn positive(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("give a whole number from 1 on".to_owned()),
    }
}

fn size(text: &str) -> Result<ByteSize, String> {
    match text.parse::<ByteSize>() {
        Ok(size) if size.as_u64() > 0 => Ok(size),
        _ => Err("give a number of bytes, or a size such as 512MiB or 2GiB".to_owned()),
    }
}
