//! `--backend` and its kin: what computes, and with how much.

use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use relprop::{Backend, Options};

/// What computes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Computing")]
pub struct EngineArguments {
    /// What computes: `auto`, the fastest there is, unless told. `reference` is the float64 judge of the others and slow
    #[arg(long, value_name = "NAME", default_value = "auto", hide_default_value = true)]
    pub backend: BackendName,

    /// Samples computed together; chosen to fit the cache unless told. It does not change results
    #[arg(long, value_name = "N", value_parser = positive)]
    pub batch_size: Option<usize>,

    /// The most memory for the samples in work at a time, such as 512MiB or 2GiB
    ///
    /// Half of it is for a block of inputs and its results, which has one sample at least; half for the CPU backend's
    /// scratch. What else is in memory comes on top: the model, .npz, .safetensors and IDX inputs as a whole, results
    /// that go to .npz or .safetensors, pictures while they are decoded, the page of --heatmap, and the reference's own.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub memory: Option<ByteSize>,

    /// Threads of the CPU backend; one a core unless told. They do not change results
    #[arg(long, value_name = "N", value_parser = positive)]
    pub threads: Option<usize>,
}

/// The backends by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BackendName {
    /// The fastest there is.
    Auto,
    /// Native code, float32.
    Cpu,
    /// Plain loops, float64.
    Reference,
}

impl BackendName {
    /// The backend of this name.
    pub fn backend(self) -> Backend {
        match self {
            BackendName::Auto => Backend::Auto,
            BackendName::Cpu => Backend::Cpu,
            BackendName::Reference => Backend::Reference,
        }
    }
}

impl EngineArguments {
    /// The explainer's options.
    pub fn options(&self) -> Options {
        Options {
            backend: self.backend.backend(),
            threads: self.threads,
            batch_size: self.batch_size,
            memory: self.half_of_memory(),
            ..Options::default()
        }
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
