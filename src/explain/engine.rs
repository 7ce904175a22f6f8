//! What computes: a backend with the plans that it has made ready.

#[cfg(feature = "gpu")]
use std::sync::Arc;

use super::Explainer;
use super::plans::Plans;
use super::request::{Backend, Options};
use crate::batch::Batch;
use crate::cpu::{self, Cpu};
#[cfg(not(feature = "gpu"))]
use crate::error::ErrorKind;
use crate::error::{Error, Result};
#[cfg(feature = "gpu")]
use crate::gpu::{self, Gpu};
use crate::plan::{self, Ask, Target};
use crate::relevance::{LayerSums, Run};
#[cfg(feature = "gpu")]
use crate::start::Start;

/// What computes, with the plans that it has made ready.
#[derive(Debug)]
pub(super) enum Engine {
    Cpu {
        cpu: Box<Cpu>,
        plans: Plans<Ask, cpu::Prepared>,
    },
    #[cfg(feature = "gpu")]
    Gpu {
        gpu: Arc<Gpu>,
        resident: gpu::Resident,
        /// By what is asked and whether starts are given.
        plans: Plans<(Ask, bool), gpu::Prepared>,
    },
    Reference,
}

impl Engine {
    pub(super) fn new(options: &Options) -> Result<Self> {
        match options.backend {
            #[cfg(feature = "gpu")]
            // A device that was given or named is not exchanged for another; where none was, the CPU is the fastest
            // there is without a GPU that can serve. Reports name what computed.
            Backend::Auto if options.gpu.is_some() || options.device.adapter.is_some() => Engine::gpu(options),
            #[cfg(feature = "gpu")]
            Backend::Auto => match pollster::block_on(Gpu::open_automatic(&options.device)) {
                Ok(gpu) => Ok(Engine::on(Arc::new(gpu))),
                Err(_) => Engine::cpu(options),
            },
            #[cfg(not(feature = "gpu"))]
            Backend::Auto => Engine::cpu(options),
            Backend::Cpu => Engine::cpu(options),
            #[cfg(feature = "gpu")]
            Backend::Gpu => Engine::gpu(options),
            #[cfg(not(feature = "gpu"))]
            Backend::Gpu => Err(Error::new(ErrorKind::Unsupported, "this build has no GPU backend")
                .help("build with the feature `gpu`, or take the cpu backend")),
            Backend::Reference => Ok(Engine::Reference),
        }
    }

    #[cfg(feature = "gpu")]
    fn gpu(options: &Options) -> Result<Self> {
        Ok(Engine::on(match &options.gpu {
            Some(gpu) => Arc::clone(gpu),
            None => Arc::new(pollster::block_on(Gpu::open(&options.device))?),
        }))
    }

    #[cfg(feature = "gpu")]
    fn on(gpu: Arc<Gpu>) -> Self {
        Engine::Gpu { gpu, resident: gpu::Resident::default(), plans: Plans::default() }
    }

    fn cpu(options: &Options) -> Result<Self> {
        Ok(Engine::Cpu { cpu: Box::new(Cpu::new(options.threads)?), plans: Plans::default() })
    }
}

impl Explainer {
    /// What a plan may use.
    pub(super) fn target(&self, ask: &Ask) -> Target {
        let on_host = |chunks, together| Target {
            budget: self.memory.map_or(usize::MAX, |bytes| bytes / chunks),
            samples: self.samples.unwrap_or(usize::MAX),
            together,
            ..Target::UNLIMITED
        };
        match (&self.engine, ask) {
            (Engine::Cpu { cpu, .. }, _) => on_host(cpu.chunks_at_once(&self.network), true),
            #[cfg(feature = "gpu")]
            (Engine::Gpu { gpu, .. }, ask) => gpu.target(&self.network, ask.targets, self.samples, self.memory),
            (Engine::Reference, _) => on_host(1, false),
        }
    }

    /// Runs a batch by the plan for what is asked.
    pub(super) fn run_plan(&self, ask: &Ask, batch: Batch<'_>, forward_only: bool) -> Result<(Vec<LayerSums>, Run)> {
        let (network, rules) = (&self.network, &self.rules);
        match &self.engine {
            Engine::Cpu { cpu, plans } => {
                let make = || cpu.prepare(network, rules, plan::build(network, rules, ask, &self.target(ask))?);
                let prepared = plans.find_or(ask, |_| true, make)?;
                let (sums, steps) = cpu.run(network, &prepared, batch, forward_only)?;
                Ok((sums, Run { steps, ..Run::default() }))
            }
            #[cfg(feature = "gpu")]
            Engine::Gpu { gpu, resident, plans } => {
                let is_given = matches!(batch.start, Start::Given(_));
                let (samples, target) = (batch.samples, self.target(ask));
                let make = || {
                    let network = &self.network_with_weights()?;
                    let wanted = gpu::Wanted { ask, target: &target, samples, is_given };
                    pollster::block_on(gpu.prepare(network, rules, resident, &wanted))
                };
                let holds = |prepared: &gpu::Prepared| prepared.holds(samples);
                let prepared = plans.find_or(&(ask.clone(), is_given), holds, make)?;
                pollster::block_on(gpu.run(network, &prepared, batch, forward_only))
            }
            Engine::Reference => Err(Error::internal("the reference knows no plan")),
        }
    }
}
