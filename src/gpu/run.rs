//! Chunks of a batch through a prepared plan, several in flight.

use super::device::Device;
use super::lane::{Lane, Pending, Stamps, arrival, down, up};
use super::pipelines::Pipelines;
use super::prepared::{Prepared, Recorded};
use crate::batch::{Batch, Source};
use crate::error::{Error, ErrorKind, Result};
use crate::kernels::{self, Grid, Mode};
use crate::network::{Link, Network};
use crate::plan::Measure;
use crate::relevance::{LayerSums, Run};
use crate::start::{Start, Targets};
use crate::stopwatch::Stopwatch;

/// A dispatch with the variant that a chunk takes.
struct Ready<'a> {
    group: &'a wgpu::BindGroup,
    pipeline: &'a wgpu::ComputePipeline,
    grid: &'a Grid,
}

impl<'a> Ready<'a> {
    fn new(recorded: &'a Recorded, samples: usize) -> Result<Self> {
        let variant = recorded.variant(samples);
        let pipeline = variant.pipeline.get();
        let pipeline = pipeline.ok_or_else(|| Error::internal("a kernel is compiled before it runs"))?;
        Ok(Ready { group: &recorded.group, pipeline, grid: &variant.grid })
    }
}

/// One batch on its way through a plan.
pub(super) struct Runner<'a, 'b> {
    pub(super) device: &'a Device,
    pub(super) pipelines: &'a Pipelines,
    pub(super) network: &'a Network,
    pub(super) prepared: &'a Prepared,
    pub(super) batch: Batch<'b>,
    pub(super) forward_only: bool,
    pub(super) profile: bool,
    pub(super) sums: Vec<LayerSums>,
    pub(super) run: Run,
}

impl Runner<'_, '_> {
    /// Runs every chunk and waits for all of them.
    pub(super) async fn run(&mut self, lanes: &mut [Lane]) -> Result<()> {
        let most = self.prepared.plan.chunk;
        let mut oldest = 0;
        for (chunk, first) in (0..self.batch.samples).step_by(most).enumerate() {
            oldest = chunk % lanes.len();
            self.finish(&mut lanes[oldest]).await?;
            let samples = most.min(self.batch.samples - first);
            self.begin(&mut lanes[oldest], first, samples).await?;
            oldest += 1;
        }
        for lane in 0..lanes.len() {
            self.finish(&mut lanes[(oldest + lane) % lanes.len()]).await?;
        }
        self.device.check()
    }

    /// Sends a chunk on its way.
    async fn begin(&mut self, lane: &mut Lane, first: usize, samples: usize) -> Result<()> {
        self.prepared.compile(self.device, self.pipelines, self.steps(), samples).await?;
        let watch = Stopwatch::start();
        self.fill(lane, first, samples)?;
        self.run.upload += watch.seconds();
        let encoded = self.device.scoped(|| self.submit(lane, first, samples)).await;
        let (pending, dispatches) = encoded.map_err(Error::from)??;
        lane.pending = Some(pending);
        self.run.chunks += 1;
        self.run.dispatches += dispatches;
        Ok(())
    }

    /// How many of the plan's steps run.
    fn steps(&self) -> usize {
        let plan = &self.prepared.plan;
        if self.forward_only { plan.forward } else { plan.steps.len() }
    }

    /// Writes what goes up into a lane.
    pub(super) fn fill(&self, lane: &Lane, first: usize, samples: usize) -> Result<()> {
        let Batch { inputs, targets, start, .. } = &self.batch;
        let plan = &self.prepared.plan;
        let is_ranked = matches!(targets, Targets::ArgMax | Targets::Top(_));
        let told = kernels::Batch {
            samples: samples as u32,
            start: mode(start, self.network) as u32,
            is_ranked: u32::from(is_ranked),
            unused: 0,
        };
        lane.up.write(up::BATCH, bytemuck::bytes_of(&told))?;
        for (position, input) in inputs.iter().enumerate() {
            let width = self.network.shape(self.network.inputs()[position].value).count();
            match input.slice(first * width..(first + samples) * width) {
                Source::Float(elements) => lane.up.write(up::INPUTS + position, bytemuck::cast_slice(elements))?,
                Source::Integer(elements) => {
                    // Indices were checked against their tables, whose entries are far fewer.
                    let indices: Vec<i32> = elements.iter().map(|&index| index as i32).collect();
                    lane.up.write(up::INPUTS + position, bytemuck::cast_slice(&indices))?;
                }
            }
        }
        if self.forward_only {
            return Ok(());
        }
        let explained = up::INPUTS + inputs.len();
        let outputs = plan.buffers[plan.logits.index()].width;
        if !is_ranked {
            let unknown = vec![0.0; outputs];
            let of_sample = |sample| targets.of_sample(sample, &unknown).into_iter().map(|target| target as u32);
            let chosen: Vec<u32> = (first..first + samples).flat_map(of_sample).collect();
            lane.up.write(explained, bytemuck::cast_slice(&chosen))?;
        }
        if let Start::Given(given) = start {
            let row = plan.targets * outputs;
            let rows = &given.data()[first * row..(first + samples) * row];
            lane.up.write(explained + 1, bytemuck::cast_slice(rows))?;
        }
        Ok(())
    }

    /// Encodes uploads, kernels and downloads of a chunk and submits them; gives the number of dispatches too.
    fn submit(&self, lane: &Lane, first: usize, samples: usize) -> Result<(Pending, usize)> {
        let label = Some("relprop chunk");
        let mut encoder = self.device.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label });
        let stamp = |encoder: &mut wgpu::CommandEncoder, index| {
            if let Some(stamps) = &lane.stamps {
                encoder.write_timestamp(&stamps.queries, index);
            }
        };
        stamp(&mut encoder, 0);
        self.encode_uploads(&mut encoder, lane, samples);
        stamp(&mut encoder, 1);
        let steps = self.steps();
        let run = self.prepared.dispatches.iter().filter(|recorded| recorded.step < steps);
        let dispatches = run.map(|recorded| Ready::new(recorded, samples)).collect::<Result<Vec<_>>>()?;
        self.encode_kernels(&mut encoder, lane, &dispatches, samples);
        stamp(&mut encoder, 2);
        self.encode_downloads(&mut encoder, lane, samples)?;
        stamp(&mut encoder, 3);
        // Those of steps that do not run are never written, and a driver may wait for them for ever.
        let timed = if self.profile { dispatches.len() as u32 } else { 0 };
        let count = Stamps::OF_CHUNK + 2 * timed;
        if let Some(Stamps { queries, resolved }) = &lane.stamps {
            encoder.resolve_query_set(queries, 0..count, resolved, 0);
            let bytes = u64::from(count * wgpu::QUERY_SIZE);
            encoder.copy_buffer_to_buffer(resolved, 0, &lane.down.buffer, lane.down.offset(down::STAMPS), bytes);
        }
        lane.up.buffer.unmap();
        let readable = lane.down.map_after(&encoder, wgpu::MapMode::Read);
        let writable = lane.up.map_after(&encoder, wgpu::MapMode::Write);
        let submission = self.device.queue.submit([encoder.finish()]);
        let stamps = count;
        Ok((Pending { first, samples, submission, stamps, readable, writable }, dispatches.len()))
    }

    pub(super) fn encode_uploads(&self, encoder: &mut wgpu::CommandEncoder, lane: &Lane, samples: usize) {
        let memory = &self.prepared.memory;
        let mut copy = |part: usize, to: &wgpu::Buffer, elements: usize| {
            let bytes = (elements * size_of::<f32>()) as u64;
            encoder.copy_buffer_to_buffer(&lane.up.buffer, lane.up.offset(part), to, 0, bytes);
        };
        copy(up::BATCH, &memory.batch, size_of::<kernels::Batch>() / size_of::<f32>());
        for (position, input) in memory.inputs.iter().enumerate() {
            let width = self.network.shape(self.network.inputs()[position].value).count();
            copy(up::INPUTS + position, input, samples * width);
        }
        if self.forward_only {
            return;
        }
        let explained = up::INPUTS + memory.inputs.len();
        let rows = self.prepared.relevance_rows(samples);
        copy(explained, &memory.explained, rows);
        if let Start::Given(_) = self.batch.start {
            let plan = &self.prepared.plan;
            copy(explained + 1, &memory.given, rows * plan.buffers[plan.logits.index()].width);
        }
    }

    fn encode_kernels(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        lane: &Lane,
        dispatches: &[Ready<'_>],
        samples: usize,
    ) {
        let most = self.device.limits.max_compute_workgroups_per_dimension;
        let dispatch = |pass: &mut wgpu::ComputePass<'_>, ready: &Ready<'_>| {
            let (x, y) = ready.grid.workgroups(samples, most);
            pass.set_pipeline(ready.pipeline);
            pass.set_bind_group(0, ready.group, &[]);
            pass.dispatch_workgroups(x, y, 1);
        };
        let label = Some("relprop");
        match &lane.stamps {
            Some(Stamps { queries, .. }) if self.profile => {
                for (index, ready) in dispatches.iter().enumerate() {
                    let begin = Stamps::OF_CHUNK + 2 * index as u32;
                    let timestamp_writes = Some(wgpu::ComputePassTimestampWrites {
                        query_set: queries,
                        beginning_of_pass_write_index: Some(begin),
                        end_of_pass_write_index: Some(begin + 1),
                    });
                    let descriptor = wgpu::ComputePassDescriptor { label, timestamp_writes };
                    dispatch(&mut encoder.begin_compute_pass(&descriptor), ready);
                }
            }
            _ => {
                let descriptor = wgpu::ComputePassDescriptor { label, timestamp_writes: None };
                let mut pass = encoder.begin_compute_pass(&descriptor);
                dispatches.iter().for_each(|ready| dispatch(&mut pass, ready));
            }
        }
    }

    fn encode_downloads(&self, encoder: &mut wgpu::CommandEncoder, lane: &Lane, samples: usize) -> Result<()> {
        let Prepared { plan, memory, measures, .. } = self.prepared;
        let mut copy = |from: &wgpu::Buffer, part: usize, elements: usize| {
            let bytes = (elements * size_of::<f32>()) as u64;
            encoder.copy_buffer_to_buffer(from, 0, &lane.down.buffer, lane.down.offset(part), bytes);
        };
        let logits = samples * plan.buffers[plan.logits.index()].width;
        copy(memory.buffer(plan, plan.logits)?, down::LOGITS, logits);
        if self.forward_only {
            return Ok(());
        }
        copy(&memory.explained, down::EXPLAINED, self.prepared.relevance_rows(samples));
        for (position, ((_, id), result)) in plan.results.iter().zip(&memory.results).enumerate() {
            let known = &plan.buffers[id.index()];
            copy(result, down::RESULTS + position, plan.rows(known.rows, samples) * known.width);
        }
        if !measures.is_empty() {
            copy(&memory.sums, down::SUMS, memory.sums.size() as usize / size_of::<f32>());
        }
        Ok(())
    }

    /// Waits for a lane's chunk, if it has one, and takes its results.
    async fn finish(&mut self, lane: &mut Lane) -> Result<()> {
        let Some(pending) = lane.pending.take() else { return Ok(()) };
        self.device.wait(pending.submission.clone())?;
        arrival(&pending.readable).await?;
        arrival(&pending.writable).await?;
        let watch = Stopwatch::start();
        self.take(lane, &pending)?;
        self.take_stamps(lane, &pending)?;
        lane.down.buffer.unmap();
        self.run.download += watch.seconds();
        Ok(())
    }

    fn take(&mut self, lane: &Lane, pending: &Pending) -> Result<()> {
        let Prepared { plan, .. } = self.prepared;
        let Pending { first, samples, .. } = *pending;
        let outputs = plan.buffers[plan.logits.index()].width;
        let logits = &mut self.batch.logits[first * outputs..(first + samples) * outputs];
        lane.down.read(down::LOGITS, bytemuck::cast_slice_mut(logits))?;
        if self.forward_only {
            return Ok(());
        }
        let rows = self.prepared.relevance_rows(samples);
        let mut chosen = vec![0_u32; rows];
        lane.down.read(down::EXPLAINED, bytemuck::cast_slice_mut(&mut chosen))?;
        let explained = &mut self.batch.explained[first * plan.targets..][..rows];
        for (to, from) in explained.iter_mut().zip(chosen) {
            *to = from as usize;
            if *to >= outputs {
                return Err(Error::new(ErrorKind::Device, format!("the device chose target {from} of {outputs}"))
                    .help("please report it, and take the cpu backend"));
            }
        }
        for (position, ((_, id), result)) in plan.results.iter().zip(&mut self.batch.results).enumerate() {
            let known = &plan.buffers[id.index()];
            let (begin, count) = (plan.rows(known.rows, first), plan.rows(known.rows, samples));
            let to = &mut result[begin * known.width..(begin + count) * known.width];
            lane.down.read(down::RESULTS + position, bytemuck::cast_slice_mut(to))?;
        }
        self.take_sums(lane, rows)
    }

    /// Adds the records of each row of relevance to its layer's sums.
    fn take_sums(&mut self, lane: &Lane, rows: usize) -> Result<()> {
        let Prepared { memory, measures, .. } = self.prepared;
        if measures.is_empty() {
            return Ok(());
        }
        let mut records = vec![[0.0_f32; 4]; memory.sums.size() as usize / size_of::<[f32; 4]>()];
        lane.down.read(down::SUMS, bytemuck::cast_slice_mut(&mut records))?;
        let distance = memory.records as usize / size_of::<[f32; 4]>();
        let mut of_rows = vec![LayerSums::default(); rows];
        for (position, (layer, measure)) in measures.iter().enumerate() {
            for (sums, [sum, size, nonfinite, _]) in of_rows.iter_mut().zip(&records[position * distance..]) {
                add_record(sums, *measure, [*sum, *size, *nonfinite].map(f64::from));
            }
            // The measures of one layer stand together.
            if measures.get(position + 1).is_none_or(|(next, _)| next != layer) {
                for sums in &mut of_rows {
                    sums.close();
                    self.sums[layer.index()].add(sums);
                    *sums = LayerSums::default();
                }
            }
        }
        Ok(())
    }

    /// Adds a chunk's times.
    fn take_stamps(&mut self, lane: &Lane, pending: &Pending) -> Result<()> {
        if lane.stamps.is_none() {
            return Ok(());
        }
        let mut ticks = vec![0_u64; pending.stamps as usize];
        lane.down.read(down::STAMPS, bytemuck::cast_slice_mut(&mut ticks))?;
        let period = f64::from(self.device.queue.get_timestamp_period()) * 1e-9;
        let seconds = |from: usize, to: usize| ticks[to].saturating_sub(ticks[from]) as f64 * period;
        self.run.upload += seconds(0, 1);
        *self.run.compute.get_or_insert(0.0) += seconds(1, 2);
        self.run.download += seconds(2, 3);
        if self.profile {
            self.run.steps.resize(self.prepared.plan.steps.len(), 0.0);
            let steps = if self.forward_only { self.prepared.plan.forward } else { usize::MAX };
            let timed = self.prepared.dispatches.iter().filter(|recorded| recorded.step < steps);
            for (index, recorded) in timed.enumerate() {
                let begin = Stamps::OF_CHUNK as usize + 2 * index;
                self.run.steps[recorded.step] += seconds(begin, begin + 1);
            }
        }
        Ok(())
    }
}

fn add_record(sums: &mut LayerSums, measure: Measure, [sum, size, nonfinite]: [f64; 3]) {
    match measure {
        Measure::AtOutput => sums.at_output += sum,
        Measure::AtInput => {
            sums.at_input += sum;
            sums.nonfinite += nonfinite as u64;
        }
        Measure::Bias => sums.bias += sum,
        Measure::Epsilon => sums.epsilon += sum,
    }
    if let Measure::AtOutput | Measure::AtInput = measure {
        sums.size += size;
    }
}

/// What a start is for the kernel that makes it.
fn mode(start: &Start, network: &Network) -> Mode {
    match (start, network.link()) {
        (Start::Logit, _) => Mode::Logit,
        (Start::One, _) => Mode::One,
        (Start::Probability, Some(Link::Sigmoid)) => Mode::Sigmoid,
        (Start::Probability, Some(Link::Softmax | Link::LogSoftmax) | None) => Mode::Softmax,
        (Start::NegativeLogit, _) => Mode::NegativeLogit,
        (Start::Contrast, _) => Mode::Contrast,
        (Start::Given(_), _) => Mode::Given,
    }
}
