//! Timing what may stand for a product's kernel, each candidate after its numbers were compared with those of the kernel that the rules
//! of thumb take.
//!
//! A plan's steps run once, in order, so that every product finds what it reads as an explanation leaves it. Where a shape comes for the
//! first time, its candidates run on that very step. In each round all of them take their turn, so that a clock that rises or falls
//! meets all alike, and of each the best round counts: what comes in between only ever takes time.

use std::path::PathBuf;

use super::device::Device;
use super::lane::{Lane, Mapped, arrival};
use super::prepared::{Prepared, Recorded, Variant};
use super::run::Runner;
use super::steps::Selection;
use super::tuned::{ProductShape, Tuned};
use super::{Gpu, Resident, Wanted};
use crate::batch::Batch;
use crate::composite::Assignment;
use crate::error::{Error, Result};
use crate::kernels::{Grid, Tiling};
use crate::network::Network;
use crate::relevance::Run;
use crate::stopwatch::Stopwatch;

/// The fewest rounds that are timed, after one that warms up.
const FEWEST: usize = 5;
/// The most.
const MOST: usize = 30;
/// Seconds after which a shape's rounds end.
const ENOUGH: f64 = 0.25;
/// What part of its time a kernel must save to replace the one that the rules of thumb take: less is within what rounds differ by.
const WORTHWHILE: f64 = 0.02;

/// What times kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// The device's timestamps, around the kernels alone; the host's clock where it has none or they stand still.
    Device,
    /// The host's clock, around submissions.
    Host,
}

impl Clock {
    /// Seconds that one turn of a candidate should take, and the most dispatches in it: more than the clock's grain and, on the host's, than
    /// what a submission takes besides.
    fn turn(self) -> (f64, usize) {
        match self {
            Clock::Device => (3e-4, 64),
            Clock::Host => (5e-3, 512),
        }
    }
}

/// What tuning found.
#[derive(Debug, Clone)]
pub struct Tuning {
    /// What timed: the host's clock where the device's was asked for and does not serve.
    pub clock: Clock,
    /// Samples that were computed together.
    pub samples: usize,
    /// Each distinct shape, in the order of the plan.
    pub products: Vec<TunedProduct>,
    /// Products that have one kernel alone: those of few rows, whose kernel adds in an order of its own.
    pub without_choice: usize,
    /// Where the choices are kept.
    pub path: Option<PathBuf>,
}

/// What was found for a shape.
#[derive(Debug, Clone)]
pub struct TunedProduct {
    /// The product.
    pub shape: ProductShape,
    /// The layer on whose product it was timed.
    pub layer: String,
    /// How many dispatches of the plan have this shape.
    pub dispatches: usize,
    /// What may compute it.
    pub candidates: Vec<Candidate>,
    /// The candidate that the rules of thumb take.
    pub heuristic: usize,
    /// The candidate that is taken from now on.
    pub choice: usize,
}

/// A kernel that may compute a product.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    /// How it cuts the product.
    pub tiling: Tiling,
    /// The greatest difference from the heuristic's numbers, over the greatest of these: 0 where all bits are equal.
    pub difference: f64,
    /// Seconds of one dispatch; none where bits differ, because such a kernel is not taken.
    pub seconds: Option<f64>,
}

impl TunedProduct {
    /// Seconds of one dispatch by the kernel that the rules of thumb take.
    pub fn seconds_before(&self) -> f64 {
        self.candidates[self.heuristic].seconds.unwrap_or_default()
    }

    /// Seconds of one dispatch by the kernel that is taken from now on.
    pub fn seconds_after(&self) -> f64 {
        self.candidates[self.choice].seconds.unwrap_or_default()
    }
}

impl Gpu {
    /// Times what may compute each product of a plan, takes the fastest from now on, and keeps the choices in
    /// [`DeviceOptions::cache`](super::DeviceOptions::cache). Plans that are prepared already stay as they are. `heed` is told before
    /// each round how many shapes are done, and of how many; its error ends the work.
    ///
    /// # Errors
    /// As [`prepare`](Self::prepare), and if the choices cannot be written or `heed` fails.
    pub async fn tune(
        &self,
        network: &Network,
        rules: &Assignment,
        (resident, wanted): (&Resident, &Wanted<'_>),
        batch: Batch<'_>,
        clock: Clock,
        heed: &mut dyn FnMut(usize, usize) -> Result<()>,
    ) -> Result<Tuning> {
        let prepared = self.prepare_by(network, rules, resident, wanted, Selection::Candidates).await?;
        let samples = prepared.plan.chunk.min(batch.samples);
        let runner = Runner {
            device: &self.device,
            pipelines: &self.pipelines,
            network,
            prepared: &prepared,
            batch,
            forward_only: false,
            profile: false,
            sums: Vec::new(),
            run: Run::default(),
        };
        let has_timestamps = self.device.features.contains(wgpu::Features::TIMESTAMP_QUERY);
        let clock = if has_timestamps { clock } else { Clock::Host };
        let mut tuner = Tuner { gpu: self, network, prepared: &prepared, samples, clock, heed };
        let (products, without_choice) = tuner.run(&runner).await?;
        let clock = tuner.clock;
        let of_product =
            |product: &TunedProduct| Tuned { shape: product.shape, tiling: product.candidates[product.choice].tiling };
        self.adopt(&products.iter().map(of_product).collect::<Vec<_>>())?;
        let path = self.tuned.path().map(std::path::Path::to_owned);
        Ok(Tuning { clock, samples, products, without_choice, path })
    }
}

/// A candidate that is compiled.
struct Contender {
    tiling: Tiling,
    pipeline: wgpu::ComputePipeline,
    grid: Grid,
}

/// One plan on its way through its steps.
struct Tuner<'a> {
    gpu: &'a Gpu,
    network: &'a Network,
    prepared: &'a Prepared,
    samples: usize,
    clock: Clock,
    heed: &'a mut dyn FnMut(usize, usize) -> Result<()>,
}

impl Tuner<'_> {
    /// Runs all steps, and the candidates where a shape is new; gives what was found, and how many products have no choice.
    async fn run(&mut self, runner: &Runner<'_, '_>) -> Result<(Vec<TunedProduct>, usize)> {
        let (gpu, prepared) = (self.gpu, self.prepared);
        prepared.compile(&gpu.device, &gpu.pipelines, prepared.plan.steps.len(), self.samples).await?;
        self.upload(runner).await?;
        let mut shapes: Vec<ProductShape> = Vec::new();
        let mut without_choice = 0;
        for recorded in &prepared.dispatches {
            match self.shape(recorded) {
                Some(shape) if !shapes.contains(&shape) => shapes.push(shape),
                Some(_) => {}
                None => without_choice += usize::from(recorded.chooser.product.is_some()),
            }
        }
        let mut products: Vec<TunedProduct> = Vec::new();
        for (position, recorded) in prepared.dispatches.iter().enumerate() {
            self.step(recorded)?;
            let Some(shape) = self.shape(recorded) else { continue };
            if let Some(known) = products.iter_mut().find(|known| known.shape == shape) {
                known.dispatches += 1;
                continue;
            }
            products.push(self.product(recorded, shape, (products.len(), shapes.len())).await?);
            // Candidates cleared what the step's other dispatches had written.
            let of_step = prepared.dispatches[..=position].iter().filter(|other| other.step == recorded.step);
            of_step.into_iter().try_for_each(|other| self.step(other))?;
        }
        Ok((products, without_choice))
    }

    /// The shape of a dispatch that has a choice.
    fn shape(&self, recorded: &Recorded) -> Option<ProductShape> {
        let chosen = recorded.chooser.choose(self.samples)?;
        let product = recorded.chooser.product.filter(|_| chosen.is_interchangeable())?;
        Some(product.of_samples(self.samples))
    }

    /// Sends the batch up.
    async fn upload(&self, runner: &Runner<'_, '_>) -> Result<()> {
        let device = &self.gpu.device;
        // A lane's buffers are mapped when it is made, and this one serves once.
        let lane = device.scoped(|| Lane::new(device, &self.prepared.plan, &self.prepared.memory, 0)).await??;
        runner.fill(&lane, 0, self.samples)?;
        let encoded = device.scoped(|| {
            let mut encoder = self.encoder();
            runner.encode_uploads(&mut encoder, &lane, self.samples);
            lane.up.buffer.unmap();
            device.queue.submit([encoder.finish()])
        });
        device.wait(encoded.await?)
    }

    /// Runs a dispatch as an explanation does.
    fn step(&self, recorded: &Recorded) -> Result<()> {
        let variant = recorded.variant(self.samples);
        let pipeline = variant.pipeline.get();
        let pipeline = pipeline.ok_or_else(|| Error::internal("a kernel is compiled before it runs"))?;
        let mut encoder = self.encoder();
        self.encode(&mut encoder, recorded, (pipeline, &variant.grid), 1, None);
        self.gpu.device.queue.submit([encoder.finish()]);
        Ok(())
    }

    fn encoder(&self) -> wgpu::CommandEncoder {
        let label = Some("relprop tune");
        self.gpu.device.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label })
    }

    /// Encodes a pass with a number of equal dispatches.
    fn encode(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        recorded: &Recorded,
        (pipeline, grid): (&wgpu::ComputePipeline, &Grid),
        dispatches: usize,
        timestamp_writes: Option<wgpu::ComputePassTimestampWrites<'_>>,
    ) {
        let most = self.gpu.device.limits.max_compute_workgroups_per_dimension;
        let (x, y) = grid.workgroups(self.samples, most);
        let descriptor = wgpu::ComputePassDescriptor { label: Some("relprop tune"), timestamp_writes };
        let mut pass = encoder.begin_compute_pass(&descriptor);
        pass.set_pipeline(pipeline);
        pass.set_bind_group(0, &recorded.group, &[]);
        (0..dispatches).for_each(|_| pass.dispatch_workgroups(x, y, 1));
    }

    /// Compares a dispatch's candidates, then times those that agree.
    async fn product(
        &mut self,
        recorded: &Recorded,
        shape: ProductShape,
        (done, shapes): (usize, usize),
    ) -> Result<TunedProduct> {
        (self.heed)(done, shapes)?;
        let contenders = self.contenders(recorded).await?;
        let wanted = recorded.chooser.choose(self.samples);
        let heuristic = contenders.iter().position(|contender| Some(contender.tiling) == wanted);
        let heuristic = heuristic.ok_or_else(|| Error::internal("the heuristic's kernel is a candidate"))?;
        let expected = self.answer(recorded, &contenders[heuristic]).await?;
        let mut candidates = Vec::with_capacity(contenders.len());
        for contender in &contenders {
            let difference = difference(&expected, &self.answer(recorded, contender).await?);
            candidates.push(Candidate { tiling: contender.tiling, difference, seconds: None });
        }
        let equal: Vec<usize> = (0..candidates.len()).filter(|&index| candidates[index].difference == 0.0).collect();
        let timed: Vec<&Contender> = equal.iter().map(|&index| &contenders[index]).collect();
        let mut seconds = self.seconds(recorded, &timed, (done, shapes)).await?;
        if self.clock == Clock::Device && seconds.iter().any(|&seconds| seconds <= 0.0) {
            // Drivers there are whose timestamps stand still.
            self.clock = Clock::Host;
            seconds = self.seconds(recorded, &timed, (done, shapes)).await?;
        }
        equal.iter().zip(seconds).for_each(|(&index, seconds)| candidates[index].seconds = Some(seconds));
        let choice = best(&candidates, heuristic);
        let layer = self.prepared.plan.steps[recorded.step].layer;
        let layer = layer.map(|layer| self.network.layer(layer).name.clone()).unwrap_or_default();
        Ok(TunedProduct { shape, layer, dispatches: 1, candidates, heuristic, choice })
    }

    /// The candidates of a dispatch that its device takes, compiled.
    async fn contenders(&self, recorded: &Recorded) -> Result<Vec<Contender>> {
        let Gpu { device, pipelines, .. } = self.gpu;
        let most = device.limits.max_compute_workgroups_per_dimension;
        let is_candidate = |variant: &&Variant| {
            variant.shape.is_some_and(Tiling::is_interchangeable) && variant.grid.fits(self.samples, most)
        };
        let variants: Vec<&Variant> = recorded.variants.iter().filter(is_candidate).collect();
        let kernels: Vec<_> = variants.iter().map(|variant| &variant.kernel).collect();
        pipelines.compile(device, &kernels).await?;
        let contender = |variant: &Variant| {
            let tiling = variant.shape.ok_or_else(|| Error::internal("a candidate has a tile"))?;
            Ok(Contender { tiling, pipeline: pipelines.get(&variant.kernel)?, grid: variant.grid })
        };
        variants.into_iter().map(contender).collect()
    }

    /// The bits that a candidate writes where nothing was before.
    async fn answer(&self, recorded: &Recorded, contender: &Contender) -> Result<Vec<u32>> {
        let (device, plan) = (&self.gpu.device, &self.prepared.plan);
        let target = plan.steps[recorded.step].target;
        let known = &plan.buffers[target.index()];
        let buffer = self.prepared.memory.buffer(plan, target)?;
        let mut bits = vec![0_u32; plan.rows(known.rows, self.samples) * known.width];
        let bytes = size_of_val(bits.as_slice()) as u64;
        let reader = self.reader(bytes).await?;
        let encoded = device.scoped(|| {
            let mut encoder = self.encoder();
            encoder.clear_buffer(buffer, 0, None);
            self.encode(&mut encoder, recorded, (&contender.pipeline, &contender.grid), 1, None);
            encoder.copy_buffer_to_buffer(buffer, 0, &reader.buffer, 0, bytes);
            let readable = reader.map_after(&encoder, wgpu::MapMode::Read);
            (device.queue.submit([encoder.finish()]), readable)
        });
        let (submission, readable) = encoded.await?;
        device.wait(submission)?;
        arrival(&readable).await?;
        reader.read(0, bytemuck::cast_slice_mut(&mut bits))?;
        Ok(bits)
    }

    async fn reader(&self, bytes: u64) -> Result<Mapped> {
        let device: &Device = &self.gpu.device;
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        Ok(device.scoped(|| Mapped::new(device, "results", std::iter::once(bytes), usage)).await??)
    }

    /// The seconds of one dispatch of each contender: the best of several rounds.
    async fn seconds(
        &mut self,
        recorded: &Recorded,
        contenders: &[&Contender],
        (done, shapes): (usize, usize),
    ) -> Result<Vec<f64>> {
        let (wanted, most) = self.clock.turn();
        let first = self.round(recorded, contenders, 1).await?;
        let quickest = first.into_iter().fold(f64::INFINITY, f64::min);
        // What stands still, or below the clock's grain, gets the most.
        let dispatches = if quickest > 0.0 { ((wanted / quickest) as usize).clamp(1, most) } else { most };
        let mut best = vec![f64::INFINITY; contenders.len()];
        let watch = Stopwatch::start();
        for round in 0..MOST {
            (self.heed)(done, shapes)?;
            let seconds = self.round(recorded, contenders, dispatches).await?;
            best.iter_mut().zip(seconds).for_each(|(best, seconds)| *best = best.min(seconds));
            if round + 1 >= FEWEST && watch.seconds() > ENOUGH {
                break;
            }
        }
        Ok(best)
    }

    /// One turn of each contender: seconds of one dispatch.
    async fn round(&self, recorded: &Recorded, contenders: &[&Contender], dispatches: usize) -> Result<Vec<f64>> {
        match self.clock {
            Clock::Device => self.round_by_timestamps(recorded, contenders, dispatches).await,
            Clock::Host => self.round_by_submissions(recorded, contenders, dispatches).await,
        }
    }

    async fn round_by_submissions(
        &self,
        recorded: &Recorded,
        contenders: &[&Contender],
        dispatches: usize,
    ) -> Result<Vec<f64>> {
        let device = &self.gpu.device;
        let mut seconds = Vec::with_capacity(contenders.len());
        for contender in contenders {
            let encoded = device.scoped(|| {
                let mut encoder = self.encoder();
                self.encode(&mut encoder, recorded, (&contender.pipeline, &contender.grid), dispatches, None);
                encoder.finish()
            });
            let encoded = encoded.await?;
            let watch = Stopwatch::start();
            device.wait(device.queue.submit([encoded]))?;
            seconds.push(watch.seconds() / dispatches as f64);
        }
        Ok(seconds)
    }

    async fn round_by_timestamps(
        &self,
        recorded: &Recorded,
        contenders: &[&Contender],
        dispatches: usize,
    ) -> Result<Vec<f64>> {
        let device = &self.gpu.device;
        let count = 2 * contenders.len() as u32;
        let bytes = u64::from(count * wgpu::QUERY_SIZE);
        let reader = self.reader(bytes).await?;
        let encoded = device.scoped(|| {
            let label = Some("timestamps");
            let ty = wgpu::QueryType::Timestamp;
            let queries = device.device.create_query_set(&wgpu::QuerySetDescriptor { label, ty, count });
            let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
            let descriptor = wgpu::BufferDescriptor { label, size: bytes, usage, mapped_at_creation: false };
            let resolved = device.device.create_buffer(&descriptor);
            let mut encoder = self.encoder();
            for (index, contender) in (0_u32..).zip(contenders) {
                let writes = wgpu::ComputePassTimestampWrites {
                    query_set: &queries,
                    beginning_of_pass_write_index: Some(2 * index),
                    end_of_pass_write_index: Some(2 * index + 1),
                };
                let kernel = (&contender.pipeline, &contender.grid);
                self.encode(&mut encoder, recorded, kernel, dispatches, Some(writes));
            }
            encoder.resolve_query_set(&queries, 0..count, &resolved, 0);
            encoder.copy_buffer_to_buffer(&resolved, 0, &reader.buffer, 0, bytes);
            let readable = reader.map_after(&encoder, wgpu::MapMode::Read);
            (device.queue.submit([encoder.finish()]), readable)
        });
        let (submission, readable) = encoded.await?;
        device.wait(submission)?;
        arrival(&readable).await?;
        let mut ticks = vec![0_u64; count as usize];
        reader.read(0, bytemuck::cast_slice_mut(&mut ticks))?;
        let period = f64::from(device.queue.get_timestamp_period()) * 1e-9 / dispatches as f64;
        let (turns, _) = ticks.as_chunks::<2>();
        Ok(turns.iter().map(|[begin, end]| end.saturating_sub(*begin) as f64 * period).collect())
    }
}

/// The greatest difference of two results over the greatest number of the first; 0 for equal bits alone.
fn difference(expected: &[u32], found: &[u32]) -> f64 {
    if expected == found {
        return 0.0;
    }
    let number = |bits: u32| f64::from(f32::from_bits(bits));
    let greatest = expected.iter().map(|&bits| number(bits).abs()).fold(f64::MIN_POSITIVE, f64::max);
    let distance = |(&expected, &found): (&u32, &u32)| match (number(expected) - number(found)).abs() {
        distance if distance.is_nan() => f64::INFINITY,
        distance => distance,
    };
    let worst = expected.iter().zip(found).map(distance).fold(0.0, f64::max);
    // Zeros of two signs are at no distance, and yet their bits are not equal.
    (worst / greatest).max(f64::MIN_POSITIVE)
}

/// The fastest candidate, where it saves enough; else the heuristic's.
fn best(candidates: &[Candidate], heuristic: usize) -> usize {
    let seconds = |index: usize| candidates[index].seconds.unwrap_or(f64::INFINITY);
    let fastest = (0..candidates.len()).min_by(|&a, &b| seconds(a).total_cmp(&seconds(b))).unwrap_or(heuristic);
    if seconds(fastest) <= (1.0 - WORTHWHILE) * seconds(heuristic) { fastest } else { heuristic }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(seconds: [Option<f64>; 3]) -> Vec<Candidate> {
        let candidate = |(seconds, tiling)| Candidate { tiling, difference: 0.0, seconds };
        seconds.into_iter().zip(Tiling::INTERCHANGEABLE).map(candidate).collect()
    }

    #[test]
    fn what_saves_little_or_was_not_timed_replaces_nothing() {
        assert_eq!(best(&candidates([Some(2.0), Some(1.0), Some(1.5)]), 0), 1);
        assert_eq!(best(&candidates([Some(1.0), Some(0.99), Some(1.5)]), 0), 0);
        assert_eq!(best(&candidates([Some(1.0), None, Some(0.5)]), 0), 2);
        assert_eq!(best(&candidates([Some(1.0), None, None]), 0), 0);
    }

    #[test]
    fn only_equal_bits_differ_by_nothing() {
        let bits = |numbers: [f32; 3]| numbers.map(f32::to_bits);
        let expected = bits([1.0, -4.0, 0.0]);
        assert_eq!(difference(&expected, &expected), 0.0);
        assert_eq!(difference(&expected, &bits([1.0, -3.0, 0.0])), 0.25);
        assert!(difference(&expected, &bits([1.0, -4.0, -0.0])) > 0.0);
        assert_eq!(difference(&expected, &bits([f32::NAN, -3.0, 0.0])), f64::INFINITY);
        let spoiled = bits([f32::NAN, 1.0, 2.0]);
        assert_eq!(difference(&spoiled, &spoiled), 0.0);
    }
}
