//! The GPU executor of a [`Plan`](crate::plan::Plan): the only room beside [`kernels`](crate::kernels) that knows wgpu.
//!
//! Weights go up once. A plan is prepared once: buffers, pipelines, bind groups and uniforms. A batch is cut into chunks;
//! each chunk is one submission of uploads, one compute pass and downloads, and two are on their way at a time. Kernels
//! and the order of every sum depend on the plan and the chunk size it was made for, never on how many samples come, so
//! a sample's bits do not depend on its neighbours.

mod adapter;
mod bindings;
mod copy;
mod device;
mod kept;
mod keyed_file;
mod lane;
mod pipelines;
mod prepared;
mod run;
mod steps;
mod tune;
mod tuned;
mod weights;
mod windows;

use crate::batch::Batch;
use crate::composite::Assignment;
use crate::error::{Error, ErrorKind, Result};
use crate::kernels::{DeviceKind, binding};
use crate::layers::Layer;
use crate::network::Network;
use crate::plan::{self, Ask, Target};
use crate::relevance::{LayerSums, Run};

pub use adapter::{AdapterDescription, DeviceOptions, adapters};
use device::{Device, Refusal};
use pipelines::Pipelines;
pub use prepared::Prepared;
use prepared::{COPIES, Preparation};
use run::Runner;
use steps::Selection;
pub use tune::{Candidate, Clock, TunedProduct, Tuning};
use tuned::Table;
pub use tuned::{ProductKind, ProductShape, Tuned};
use weights::Weights;

/// Rows that a chunk aims at, enough for the larger tiles to fill a device, and bytes that it may take there, unless told. A card of its own
/// takes more of both: an H100's 132 processors hold four medium tiles each.
fn chunk_size(device: wgpu::DeviceType) -> (usize, usize) {
    match device {
        wgpu::DeviceType::DiscreteGpu => (8192, 4 << 30),
        _ => (2048, 1 << 30),
    }
}

/// The greatest power of two up to `most`, and at least 1: batches are mostly powers of two, whose last chunk is full then too.
fn power_of_two_within(most: usize) -> usize {
    1 << most.max(1).ilog2()
}

/// Storage buffers of a kernel that are not operands of its chain: target, source, parameters, and two of its own.
const FIXED_BINDINGS: usize = 5;

/// An open device with the kernels that were compiled for it. Explainers of several networks may share one.
#[derive(Debug)]
pub struct Gpu {
    device: Device,
    pipelines: Pipelines,
    /// Which kernels were timed to be the fastest.
    tuned: Table,
    options: DeviceOptions,
}

/// What a plan is prepared for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// What is asked of the plan.
    pub ask: &'a Ask,
    /// What it may use; the chunk that this allows decides which kernels run.
    pub target: &'a Target,
    /// How many samples come: there is memory for no more than twice as many, nor for more than a chunk.
    pub samples: usize,
    /// Whether batches come with [`Start::Given`](crate::Start::Given).
    pub is_given: bool,
}

/// A network's weights on a device.
#[derive(Debug, Default)]
pub struct Resident {
    weights: Weights,
}

impl Resident {
    /// Bytes on the device.
    pub fn bytes(&self) -> u64 {
        self.weights.bytes()
    }
}

impl Gpu {
    /// Opens the device that the options choose.
    ///
    /// # Errors
    /// [`ErrorKind::Device`] if there is no such adapter or it cannot be opened;
    /// [`ErrorKind::Limit`] if it lacks what the kernels need.
    pub async fn open(options: &DeviceOptions) -> Result<Self> {
        let device = Device::open(options).await?;
        let tuned = Table::open(options.cache.as_deref(), &device.info, options.half_weights);
        Ok(Gpu { device, pipelines: Pipelines::default(), tuned, options: options.clone() })
    }

    /// Opens the best GPU without asking drivers where the machine has none.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_automatic(options: &DeviceOptions) -> Result<Self> {
        if !adapter::may_have_gpu() {
            return Err(Error::new(ErrorKind::Device, "the machine has no GPU").help("take the cpu backend"));
        }
        Gpu::open(options).await
    }

    /// The adapter's name and interface.
    pub fn name(&self) -> String {
        self.device.name()
    }

    /// What the adapter is.
    pub fn info(&self) -> &wgpu::AdapterInfo {
        &self.device.info
    }

    /// The open device, for programs that share it.
    pub fn device(&self) -> &wgpu::Device {
        &self.device.device
    }

    /// Which kernels are taken because they were timed, on this start of the device or an earlier one.
    pub fn choices(&self) -> Vec<Tuned> {
        self.tuned.all()
    }

    /// Takes these kernels from now on, in place of those that rules of thumb would take, and keeps them in
    /// [`DeviceOptions::cache`]. They change how long products of these shapes take, and no bit of what they give. Plans that are
    /// prepared already stay as they are.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] for a kernel that would change bits; [`ErrorKind::Io`] if the choices cannot be written.
    pub fn adopt(&self, choices: &[Tuned]) -> Result<()> {
        self.tuned.adopt(choices)
    }

    /// How many kernels were compiled.
    pub fn kernels(&self) -> usize {
        self.pipelines.count()
    }

    /// What a plan for this device may use; `samples` and `budget` are the caller's own limits.
    pub fn target(&self, network: &Network, targets: usize, samples: Option<usize>, budget: Option<usize>) -> Target {
        let rows = rows_a_sample(network) * targets.max(1);
        let limits = &self.device.limits;
        let (chunk_rows, chunk_bytes) = chunk_size(self.device.info.device_type);
        // The step and the batch are uniforms, which count as buffers too.
        let buffers = limits.max_buffers_and_acceleration_structures_per_shader_stage.saturating_sub(2);
        let storage = limits.max_storage_buffers_per_shader_stage.min(buffers) as usize - FIXED_BINDINGS;
        let numbered = limits.max_bindings_per_bind_group as usize - binding::OPERANDS as usize;
        Target {
            budget: budget.unwrap_or(chunk_bytes),
            binding: self.device.binding(),
            samples: samples.unwrap_or(power_of_two_within(chunk_rows / rows)),
            copies: COPIES,
            operands: storage.min(numbered),
            compiles: true,
            together: false,
        }
    }

    /// Plans a request and makes it ready; chunks get smaller where the device has not the memory.
    ///
    /// # Errors
    /// If the request does not fit the network, the device's limits or its memory.
    pub async fn prepare(
        &self,
        network: &Network,
        rules: &Assignment,
        resident: &Resident,
        wanted: &Wanted<'_>,
    ) -> Result<Prepared> {
        let selection = self.options.tile.map_or(Selection::Best(&self.tuned), Selection::Forced);
        self.prepare_by(network, rules, resident, wanted, selection).await
    }

    async fn prepare_by(
        &self,
        network: &Network,
        rules: &Assignment,
        resident: &Resident,
        wanted: &Wanted<'_>,
        selection: Selection<'_>,
    ) -> Result<Prepared> {
        self.device.recheck()?;
        let Wanted { ask, samples, is_given, .. } = *wanted;
        let mut target = *wanted.target;
        let mut plan = plan::build(network, rules, ask, &target)?;
        let setting = plan.chunk;
        // Doubling, so that batches that grow do not prepare a plan each.
        let room = samples.next_power_of_two();
        if room < setting {
            target.samples = room;
            plan = plan::build(network, rules, ask, &target)?;
        }
        let preparation = Preparation {
            device: &self.device,
            pipelines: &self.pipelines,
            weights: &resident.weights,
            network,
            rules,
            kind: DeviceKind::of(&self.device.info),
            selection,
            profile: self.options.profile,
            is_given,
            setting,
            is_full: room >= setting,
        };
        // Smaller chunks make no room for weights, so these come first.
        preparation.upload_weights(&plan).await.map_err(|refusal| match refusal {
            Refusal::OutOfMemory(message) => {
                let bytes = network.parameter_bytes();
                Error::new(
                    ErrorKind::Limit,
                    format!("{} has no memory for {bytes} bytes of weights: {message}", self.name()),
                )
                .help("close what else uses the device, or take the cpu backend")
            }
            refusal => refusal.into(),
        })?;
        loop {
            let chunk = plan.chunk;
            match preparation.prepare(plan).await {
                Ok(prepared) => return Ok(prepared),
                Err(Refusal::OutOfMemory(_) | Refusal::TooLarge(_)) if chunk > 1 => target.samples = chunk / 2,
                Err(refusal) => return Err(refusal.into()),
            }
            plan = plan::build(network, rules, ask, &target)?;
        }
    }

    /// Explains a batch, or runs it forward only; gives each layer's sums where the plan measures them.
    ///
    /// # Errors
    /// [`ErrorKind::Device`] if the device was lost or refused the work.
    pub async fn run(
        &self,
        network: &Network,
        prepared: &Prepared,
        batch: Batch<'_>,
        forward_only: bool,
    ) -> Result<(Vec<LayerSums>, Run)> {
        self.device.recheck()?;
        let mut lanes = prepared.take_lanes(&self.device).await?;
        let mut runner = Runner {
            device: &self.device,
            pipelines: &self.pipelines,
            network,
            prepared,
            batch,
            forward_only,
            profile: self.options.profile,
            sums: vec![LayerSums::default(); network.layers().len()],
            run: Run::default(),
        };
        // Where a run fails, its lanes are dropped with the chunks that are on their way.
        runner.run(&mut lanes).await?;
        prepared.put_back(lanes);
        Ok((runner.sums, runner.run))
    }
}

/// How often each weight is used for a sample, on average: the rows of a product over which a multiply-add is found.
///
/// The first convolutions of an image network have thousands of rows a sample and its last ones a few dozen, with as much work in
/// each. So many samples that this many rows make a chunk fill a device in both.
fn rows_a_sample(network: &Network) -> usize {
    let (mut products, mut weights) = (0, 0);
    let mut add = |rows: usize, weight: usize| {
        products += rows * weight;
        weights += weight;
    };
    network.layers().iter().for_each(|node| match &node.layer {
        Layer::Dense(dense) => {
            add(network.shape(node.output).count() / dense.outputs(), dense.inputs() * dense.outputs());
        }
        Layer::Conv(conv) => {
            let coarse = if conv.is_transposed() { node.inputs[0] } else { node.output };
            let pixels = network.shape(coarse).count() / conv.coarse_channels();
            let fine = conv.fine_channels() / conv.groups();
            add(pixels, conv.coarse_channels() * fine * conv.window().positions());
        }
        Layer::Sum(_)
        | Layer::AveragePool(_)
        | Layer::Affine(_)
        | Layer::Activation(_)
        | Layer::Reshape(_)
        | Layer::Transpose(_)
        | Layer::Concat(_)
        | Layer::MaxPool(_)
        | Layer::AxisMap(_)
        | Layer::Multiply(_)
        | Layer::Lookup(_) => {}
    });
    (products / weights.max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_a_power_of_two_and_larger_on_a_card_of_its_own() {
        assert_eq!([0, 1, 2, 3, 44, 64].map(power_of_two_within), [1, 1, 2, 2, 32, 64]);
        let [card, software] = [wgpu::DeviceType::DiscreteGpu, wgpu::DeviceType::Cpu].map(chunk_size);
        assert_eq!((card.0 / software.0, card.1 / software.1), (4, 4));
    }
}
