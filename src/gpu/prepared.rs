//! A plan made ready on a device: buffers, pipelines and bind groups, made once and used for every chunk.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::device::{Device, Refusal};
use super::lane::Lane;
use super::pipelines::Pipelines;
use super::steps::{Bound, Choice, Chooser, Selection, Shape, Translator};
use super::weights::{Part, Weights, filled};
use crate::composite::Assignment;
use crate::error::{Error, Result};
use crate::kernels::{Access, Batch, DeviceKind, Dispatch, Grid, Kernel, Step as StepUniform, binding};
use crate::network::{LayerId, Network, ValueId};
use crate::parameters::Parameters;
use crate::plan::{BufferId, Measure, Plan, Role, Rows, Slot, Step, Work};

/// How many chunks are on their way at a time: while one computes, the next is filled and the one before read.
const IN_FLIGHT: usize = 2;

/// Copies of a chunk's inputs and results that are held: on the device, and on the way of each chunk in flight.
pub(super) const COPIES: usize = 1 + IN_FLIGHT;

/// A plan with everything that running it takes.
#[derive(Debug)]
pub struct Prepared {
    pub(super) plan: Plan,
    pub(super) memory: Memory,
    pub(super) dispatches: Vec<Recorded>,
    /// How many dispatches are timed each by itself.
    timed: usize,
    /// Whether chunks are as large as they may be.
    is_full: bool,
    /// Lanes that rest.
    lanes: Mutex<Vec<Lane>>,
    /// The measures in the order of their records.
    pub(super) measures: Vec<(LayerId, Measure)>,
}

/// A dispatch ready to be encoded.
#[derive(Debug)]
pub(super) struct Recorded {
    pub(super) step: usize,
    pub(super) group: wgpu::BindGroup,
    pub(super) chooser: Chooser,
    /// As [`Choice::variants`](super::steps::Choice::variants).
    pub(super) variants: Vec<Variant>,
}

/// A kernel for some number of rows. It is compiled for the first chunk that has so many: most never come.
#[derive(Debug)]
pub(super) struct Variant {
    pub(super) shape: Shape,
    pub(super) kernel: Arc<Kernel>,
    pub(super) pipeline: OnceLock<wgpu::ComputePipeline>,
    pub(super) grid: Grid,
}

impl Recorded {
    /// The variant for a number of samples.
    pub(super) fn variant(&self, samples: usize) -> &Variant {
        let wanted = self.chooser.choose(samples);
        let fits = self.variants.iter().find(|variant| variant.shape == wanted);
        fits.unwrap_or_else(|| self.variants.last().expect("every dispatch has a variant"))
    }
}

/// The device's memory of one chunk.
#[derive(Debug)]
pub(super) struct Memory {
    slots: Vec<wgpu::Buffer>,
    pub(super) inputs: Vec<wgpu::Buffer>,
    pub(super) results: Vec<wgpu::Buffer>,
    pub(super) batch: wgpu::Buffer,
    pub(super) explained: wgpu::Buffer,
    pub(super) given: wgpu::Buffer,
    pub(super) sums: wgpu::Buffer,
    /// Bytes from one measure's records to the next.
    pub(super) records: u64,
}

/// What a plan is prepared with.
pub(super) struct Preparation<'a> {
    pub(super) device: &'a Device,
    pub(super) pipelines: &'a Pipelines,
    pub(super) weights: &'a Weights,
    pub(super) network: &'a Network,
    pub(super) rules: &'a Assignment,
    pub(super) kind: DeviceKind,
    pub(super) selection: Selection<'a>,
    /// Whether each dispatch is timed by itself.
    pub(super) profile: bool,
    /// Whether starts are given, rather than made from the logits.
    pub(super) is_given: bool,
    /// The samples of a full chunk, whatever memory there is for it: kernels are chosen by it.
    pub(super) setting: usize,
    /// Whether chunks are as large as they may be.
    pub(super) is_full: bool,
}

impl Preparation<'_> {
    /// Makes a plan ready.
    pub(super) async fn prepare(&self, plan: Plan) -> Result<Prepared, Refusal> {
        let parameters = Parameters::new(self.network, self.rules, &plan)?;
        let translator = Translator {
            network: self.network,
            plan: &plan,
            parameters: &parameters,
            setting: self.setting,
            kind: self.kind,
            half_weights: self.device.half_weights,
            selection: self.selection,
        };
        let mut weights = Vec::with_capacity(plan.steps.len());
        let mut bound = Vec::with_capacity(plan.steps.len());
        for step in &plan.steps {
            let of_step = self.weight(step).await?;
            let parts: Vec<Range<usize>> = of_step.iter().map(|part| part.columns.clone()).collect();
            bound.push(translator.bind(step, &parts)?);
            weights.push(of_step);
        }
        let choices = || bound.iter().flat_map(|bound| &bound.parts);
        let most = self.device.limits.max_compute_workgroups_per_dimension;
        let largest = choices().filter_map(|choice| choice.dispatch(plan.chunk));
        if let Some(dispatch) = largest.into_iter().find(|dispatch| !dispatch.grid.fits(plan.chunk, most)) {
            let (kernel, name) = (dispatch.kernel.label, self.device.name());
            let message = format!("{kernel} takes more workgroups than {name} has: {most} along each of two axes");
            return Err(Refusal::TooLarge(message));
        }
        let measures: Vec<(LayerId, Measure)> = plan.steps.iter().filter_map(measure_of).collect();
        let memory = self.device.scoped(|| Memory::new(self, &plan, measures.len())).await??;
        let recorded = self.device.scoped(|| self.record(&plan, &bound, &weights, &memory)).await?;
        let dispatches = recorded?;
        let timed = if self.profile { dispatches.len() } else { 0 };
        let is_full = self.is_full;
        let prepared = Prepared { plan, memory, dispatches, timed, is_full, lanes: Mutex::default(), measures };
        let lanes = prepared.take_lanes(self.device).await?;
        prepared.put_back(lanes);
        Ok(prepared)
    }

    /// Brings the weights that a plan reads to the device.
    pub(super) async fn upload_weights(&self, plan: &Plan) -> Result<(), Refusal> {
        for step in &plan.steps {
            self.weight(step).await?;
        }
        Ok(())
    }

    /// The weight that a step reads, in parts.
    async fn weight(&self, step: &Step) -> Result<Arc<Vec<Part>>, Refusal> {
        match (&step.work, step.layer) {
            (Work::Product { direction, .. }, Some(layer)) => {
                self.weights.dense(self.device, self.network, layer, *direction).await
            }
            (Work::Convolve { direction, .. }, Some(layer)) => {
                self.weights.convolution(self.device, self.network, layer, *direction).await
            }
            (Work::AveragePool { .. }, Some(layer)) => self.weights.averages(self.device, self.network, layer).await,
            (Work::Lookup, Some(layer)) => self.weights.table(self.device, self.network, layer).await,
            _ => Ok(Arc::default()),
        }
    }

    fn record(
        &self,
        plan: &Plan,
        bound: &[Bound],
        weights: &[Arc<Vec<Part>>],
        memory: &Memory,
    ) -> Result<Vec<Recorded>, Refusal> {
        // Variants are told the same.
        let first = |choice: &'_ Choice| choice.variants[0].1.step;
        let all: Vec<StepUniform> = bound.iter().flat_map(|bound| &bound.parts).map(first).collect();
        let uniforms = Uniforms::new(self.device, &all)?;
        let mut recorded = Vec::with_capacity(all.len());
        let mut measure = 0;
        for (position, (step, of_step)) in plan.steps.iter().zip(bound).enumerate() {
            let parameters = bytemuck::cast_slice(&of_step.parameters);
            let parameters = filled(self.device, "parameters", wgpu::BufferUsages::STORAGE, &[parameters])?;
            let table = match (&step.work, &of_step.table) {
                (Work::Lookup, _) => Some(weights[position][0].buffer.clone()),
                (_, Some(table)) => {
                    Some(filled(self.device, "table", wgpu::BufferUsages::STORAGE, &[bytemuck::cast_slice(table)])?)
                }
                (_, None) => None,
            };
            let records = memory.records * measure;
            measure += u64::from(matches!(step.work, Work::Measure(_)));
            for (part, choice) in of_step.parts.iter().enumerate() {
                let variant = |(shape, dispatch): &(Shape, Dispatch)| Variant {
                    shape: *shape,
                    kernel: self.pipelines.share(&dispatch.kernel),
                    pipeline: OnceLock::new(),
                    grid: dispatch.grid,
                };
                let variants = choice.variants.iter().map(variant).collect();
                let kernel = &choice.variants[0].1.kernel;
                let also = step.also.iter().map(|also| also.target);
                let resource = |binding: u32| -> Result<wgpu::BindingResource<'_>> {
                    let buffer = match binding {
                        binding::STEP => return Ok(uniforms.resource(recorded.len())),
                        binding::BATCH => &memory.batch,
                        binding::WEIGHT => match step.work {
                            Work::Unpool { winners } => memory.buffer(plan, winners)?,
                            _ => &weights[position][part].buffer,
                        },
                        binding::TARGET if matches!(step.work, Work::Measure(_)) => {
                            return Ok(range(&memory.sums, records, memory.records));
                        }
                        binding::TARGET => memory.buffer(plan, step.target)?,
                        binding::SOURCE => {
                            let source = step.source.ok_or_else(|| Error::internal("the step reads no rows"))?;
                            memory.buffer(plan, source.buffer)?
                        }
                        binding::ADDEND => {
                            let source = addend_of(step).ok_or_else(|| Error::internal("the step is no pair"))?;
                            memory.buffer(plan, source)?
                        }
                        binding::PARAMETERS => &parameters,
                        binding::TABLE => table.as_ref().unwrap_or(&memory.explained),
                        binding::GIVEN => &memory.given,
                        beside => {
                            let mut bound = of_step.operands.iter().copied().chain(also.clone());
                            let index = (beside - binding::OPERANDS) as usize;
                            let buffer = bound.nth(index).ok_or_else(|| Error::internal("nothing is bound"))?;
                            memory.buffer(plan, buffer)?
                        }
                    };
                    Ok(buffer.as_entire_binding())
                };
                let entries = kernel.bindings.iter().map(|&(binding, _): &(u32, Access)| {
                    Ok(wgpu::BindGroupEntry { binding, resource: resource(binding)? })
                });
                let entries = entries.collect::<Result<Vec<_>>>()?;
                let group = self.device.device.create_bind_group(&wgpu::BindGroupDescriptor {
                    label: Some(kernel.label),
                    layout: &kernel.layout(&self.device.device),
                    entries: &entries,
                });
                recorded.push(Recorded { step: position, group, chooser: choice.chooser.clone(), variants });
            }
        }
        Ok(recorded)
    }
}

fn measure_of(step: &Step) -> Option<(LayerId, Measure)> {
    match (&step.work, step.layer) {
        (Work::Measure(measure), Some(layer)) => Some((layer, *measure)),
        _ => None,
    }
}

/// The rows of the second of two products that are summed.
fn addend_of(step: &Step) -> Option<BufferId> {
    let (Work::Product { addend, .. } | Work::Convolve { addend, .. }) = &step.work else { return None };
    addend.map(|addend| addend.source.buffer)
}

fn range(buffer: &wgpu::Buffer, offset: u64, size: u64) -> wgpu::BindingResource<'_> {
    wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset, size: wgpu::BufferSize::new(size) })
}

/// What every dispatch is told, one behind another in a buffer.
struct Uniforms {
    buffer: wgpu::Buffer,
    distance: usize,
}

impl Uniforms {
    fn new(device: &Device, steps: &[StepUniform]) -> Result<Self, Refusal> {
        let alignment = device.limits.min_uniform_buffer_offset_alignment as usize;
        let distance = size_of::<StepUniform>().next_multiple_of(alignment);
        let padding = vec![0; distance - size_of::<StepUniform>()];
        let bytes: Vec<&[u8]> = steps.iter().flat_map(|step| [bytemuck::bytes_of(step), &padding]).collect();
        Ok(Uniforms { buffer: filled(device, "steps", wgpu::BufferUsages::UNIFORM, &bytes)?, distance })
    }

    fn resource(&self, index: usize) -> wgpu::BindingResource<'_> {
        range(&self.buffer, (index * self.distance) as u64, size_of::<StepUniform>() as u64)
    }
}

impl Memory {
    fn new(preparation: &Preparation<'_>, plan: &Plan, measures: usize) -> Result<Self, Refusal> {
        use wgpu::BufferUsages as Usage;
        let device = &preparation.device;
        let samples = plan.chunk;
        let buffer = |label: &'static str, elements: usize, usage: Usage| {
            device.buffer(&wgpu::BufferDescriptor {
                label: Some(label),
                // Whole vectors, as kernels read them.
                size: (elements * size_of::<f32>()).next_multiple_of(16).max(16) as u64,
                usage: Usage::STORAGE | usage,
                mapped_at_creation: false,
            })
        };
        let held = |id: BufferId| {
            let known = &plan.buffers[id.index()];
            plan.rows(known.rows, samples) * known.width
        };
        let network = preparation.network;
        let input = |input: &crate::network::Input| {
            buffer("inputs", samples * network.shape(input.value).count(), Usage::COPY_DST)
        };
        let rows = samples * plan.targets;
        let alignment = u64::from(device.limits.min_storage_buffer_offset_alignment);
        let records = ((rows * 16) as u64).next_multiple_of(alignment);
        let given = if preparation.is_given { rows * plan.buffers[plan.logits.index()].width } else { 0 };
        // Candidates are told apart by clearing what they write.
        let cleared = match preparation.selection {
            Selection::Candidates => Usage::COPY_DST,
            Selection::Forced(_) | Selection::Best(_) => Usage::empty(),
        };
        let slot = |slot: &Slot| buffer("scratch", samples * slot.width, Usage::COPY_SRC | cleared);
        let result = |(_, id): &(ValueId, BufferId)| buffer("results", held(*id), Usage::COPY_SRC | cleared);
        Ok(Memory {
            slots: plan.placements.slots.iter().map(slot).collect::<Result<_, _>>()?,
            inputs: network.inputs().iter().map(input).collect::<Result<_, _>>()?,
            results: plan.results.iter().map(result).collect::<Result<_, _>>()?,
            batch: device.buffer(&wgpu::BufferDescriptor {
                label: Some("batch"),
                size: size_of::<Batch>() as u64,
                usage: Usage::UNIFORM | Usage::COPY_DST,
                mapped_at_creation: false,
            })?,
            explained: buffer("targets", rows, Usage::COPY_SRC | Usage::COPY_DST)?,
            given: buffer("given starts", given, Usage::COPY_DST)?,
            sums: buffer("sums", measures * records as usize / size_of::<f32>(), Usage::COPY_SRC)?,
            records,
        })
    }

    /// The device's buffer of a plan's buffer.
    pub(super) fn buffer(&self, plan: &Plan, id: BufferId) -> Result<&wgpu::Buffer> {
        match (plan.buffers[id.index()].role, plan.placements.slot(id)) {
            (Role::Input(position) | Role::Index(position), _) => Ok(&self.inputs[position]),
            (Role::Result(position), _) => Ok(&self.results[position]),
            (Role::Scratch, Some(slot)) => Ok(&self.slots[slot]),
            (Role::Scratch, None) | (Role::Sums, _) => Err(Error::internal("the buffer holds no rows")),
        }
    }

    /// Bytes on the device.
    pub(super) fn bytes(&self) -> u64 {
        let lists = [&self.slots, &self.inputs, &self.results].into_iter().flatten();
        let singles = [&self.batch, &self.explained, &self.given, &self.sums];
        lists.chain(singles).map(wgpu::Buffer::size).sum()
    }
}

impl Prepared {
    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Whether there is all the memory that a number of samples may have.
    pub fn holds(&self, samples: usize) -> bool {
        self.is_full || samples <= self.plan.chunk
    }

    /// Compiles what the first `steps` steps take for a chunk of so many samples.
    pub(super) async fn compile(
        &self,
        device: &Device,
        pipelines: &Pipelines,
        steps: usize,
        samples: usize,
    ) -> Result<(), Refusal> {
        let run = self.dispatches.iter().filter(|recorded| recorded.step < steps);
        let missing: Vec<&Variant> =
            run.map(|recorded| recorded.variant(samples)).filter(|variant| variant.pipeline.get().is_none()).collect();
        let kernels: Vec<&Arc<Kernel>> = missing.iter().map(|variant| &variant.kernel).collect();
        pipelines.compile(device, &kernels).await?;
        for variant in missing {
            let pipeline = pipelines.get(&variant.kernel)?;
            variant.pipeline.get_or_init(|| pipeline);
        }
        Ok(())
    }

    /// Lanes for one batch: those that rest, and new ones where others use them.
    ///
    /// Batches may share the rest of the device's memory: a chunk is one submission, from its uploads to its downloads.
    pub(super) async fn take_lanes(&self, device: &Device) -> Result<Vec<Lane>, Refusal> {
        let mut lanes = std::mem::take(&mut *self.resting());
        let missing = IN_FLIGHT.saturating_sub(lanes.len());
        let lane = |_| Lane::new(device, &self.plan, &self.memory, self.timed);
        lanes.extend(device.scoped(|| (0..missing).map(lane).collect::<Result<Vec<_>, _>>()).await??);
        Ok(lanes)
    }

    /// Lets lanes rest that have no chunk on its way.
    pub(super) fn put_back(&self, lanes: Vec<Lane>) {
        let mut resting = self.resting();
        resting.extend(lanes);
        resting.truncate(IN_FLIGHT);
    }

    fn resting(&self) -> MutexGuard<'_, Vec<Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes on the device, and shared with it, without the weights.
    pub fn bytes(&self) -> u64 {
        self.memory.bytes() + self.resting().iter().map(Lane::bytes).sum::<u64>()
    }

    /// Rows of relevance of a number of samples.
    pub(super) fn relevance_rows(&self, samples: usize) -> usize {
        self.plan.rows(Rows::Target, samples)
    }
}
