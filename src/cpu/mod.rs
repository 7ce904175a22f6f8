//! The CPU executor of a [`Plan`]: chunks of samples in parallel, each through all steps while its rows are in cache.
//!
//! A chunk's rows never meet another chunk's, and every row's bits depend on that row alone, so results do not change
//! with the number of threads, the size of chunks or a sample's neighbours.

mod chain;
mod functions;
mod gemm;
mod memory;
mod moves;
mod simd;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::batch::{Batch, Source};
use crate::composite::Assignment;
use crate::error::{Error, Result};
use crate::layers::Layer;
use crate::network::{LayerId, Network};
use crate::parameters::Parameters;
use crate::plan::{Direction, Measure, Operand, Plan, Rows, Step, Work};
use crate::relevance::LayerSums;
use crate::rules::WeightPart;
use crate::start::{Start, Targets};

use chain::Chain;
use gemm::{PackedWeight, ROW_BLOCK};
use memory::Memory;

/// Rows of relevance that a chunk aims at: enough to reuse each weight, few enough to stay in cache.
const CHUNK_ROWS: usize = ROW_BLOCK;

/// The instruction set that products run on.
pub fn instruction_set() -> &'static str {
    simd::Level::widest().name()
}

/// A network's packed weights and the threads that explain with them. Shared between plans and callers.
#[derive(Debug)]
pub struct Cpu {
    weights: Mutex<HashMap<WeightKey, Arc<PackedWeight>>>,
    /// Memory of threads that rest, for the next chunk.
    scratch: Mutex<Vec<Scratch>>,
    #[cfg(feature = "threads")]
    pool: rayon::ThreadPool,
}

type WeightKey = (LayerId, Direction, [u32; 3]);

/// A plan with everything it reads resolved.
#[derive(Debug)]
pub struct Prepared {
    plan: Plan,
    parameters: Parameters,
    /// The packed weight of each step that is a product.
    weights: Vec<Option<Arc<PackedWeight>>>,
    /// The most rows that a product has for each sample: tokens, where a layer works on each.
    rows_a_sample: usize,
}

/// One chunk of a batch: what goes in and where results go.
struct Chunk<'a> {
    first: usize,
    samples: usize,
    inputs: Vec<Source<'a>>,
    results: Vec<&'a mut [f32]>,
    logits: &'a mut [f32],
    targets: &'a mut [usize],
}

impl Cpu {
    /// An executor on `threads` threads; as many as the machine has cores if none is given.
    ///
    /// # Errors
    /// [`ErrorKind::Limit`](crate::ErrorKind::Limit) if the threads cannot be started.
    pub fn new(threads: Option<usize>) -> Result<Self> {
        #[cfg(not(feature = "threads"))]
        let _ = threads;
        Ok(Cpu {
            weights: Mutex::default(),
            scratch: Mutex::default(),
            #[cfg(feature = "threads")]
            pool: rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0)).build().map_err(|error| {
                Error::new(crate::error::ErrorKind::Limit, format!("the threads cannot be started: {error}"))
                    .help("ask for fewer threads")
            })?,
        })
    }

    /// How many threads it runs on.
    pub fn threads(&self) -> usize {
        #[cfg(feature = "threads")]
        return self.pool.current_num_threads();
        #[cfg(not(feature = "threads"))]
        1
    }

    /// Packs the weights that a plan reads and resolves its parameters.
    ///
    /// # Errors
    /// If a parameter does not fit its layer.
    pub fn prepare(&self, network: &Network, rules: &Assignment, plan: Plan) -> Result<Prepared> {
        let parameters = Parameters::new(network, rules, &plan)?;
        let weights: Vec<_> = plan.steps.iter().map(|step| self.weight(network, step)).collect::<Result<_>>()?;
        let rows = weights
            .iter()
            .zip(&plan.steps)
            .filter_map(|(weight, step)| Some(plan.buffers[step.target.index()].width / weight.as_ref()?.columns()));
        let rows_a_sample = rows.max().unwrap_or(1);
        Ok(Prepared { plan, parameters, weights, rows_a_sample })
    }

    fn weight(&self, network: &Network, step: &Step) -> Result<Option<Arc<PackedWeight>>> {
        let (Work::Product { direction, weight }, Some(layer)) = (&step.work, step.layer) else { return Ok(None) };
        let Layer::Dense(dense) = &network.layer(layer).layer else {
            return Err(Error::internal("only a dense layer is a product"));
        };
        let bits = match *weight {
            WeightPart::Scaled { positive, negative } => [0, positive.to_bits(), negative.to_bits()],
            WeightPart::Squared => [1, 0, 0],
            WeightPart::One => [2, 0, 0],
        };
        let mut packed = self.weights.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = packed.entry((layer, *direction, bits)).or_insert_with(|| {
            let (inputs, outputs, w) = (dense.inputs(), dense.outputs(), dense.weight().data());
            Arc::new(match direction {
                Direction::Forward => PackedWeight::new(inputs, outputs, |k, n| weight.of(w[n * inputs + k])),
                Direction::Backward => PackedWeight::new(outputs, inputs, |k, n| weight.of(w[k * inputs + n])),
            })
        });
        Ok(Some(Arc::clone(entry)))
    }

    /// Explains a batch, or runs it forward only; gives each layer's sums where the plan measures them.
    ///
    /// # Errors
    /// [`ErrorKind::Data`](crate::ErrorKind::Data) if an integer input points outside its table.
    pub fn run(
        &self,
        network: &Network,
        prepared: &Prepared,
        batch: Batch<'_>,
        forward_only: bool,
    ) -> Result<Vec<LayerSums>> {
        let (targets, start) = (batch.targets, batch.start);
        let work = |chunk: Chunk<'_>| {
            let idle = || self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
            let mut scratch = idle().pop().unwrap_or_default();
            let sums = Run { network, prepared, targets, start }.chunk(chunk, &mut scratch, forward_only);
            idle().push(scratch);
            sums
        };
        let chunks = self.cut(network, prepared, batch);
        #[cfg(feature = "threads")]
        let parts: Vec<Result<Vec<LayerSums>>> = self.pool.install(|| {
            use rayon::prelude::*;
            chunks.into_par_iter().map(work).collect()
        });
        #[cfg(not(feature = "threads"))]
        let parts: Vec<Result<Vec<LayerSums>>> = chunks.into_iter().map(work).collect();
        let mut total = vec![LayerSums::default(); network.layers().len()];
        for part in parts {
            total.iter_mut().zip(&part?).for_each(|(total, part)| total.add(part));
        }
        Ok(total)
    }

    /// Cuts a batch into chunks of samples: as many as the plan allows, but enough for every thread.
    fn cut<'a>(&self, network: &Network, prepared: &Prepared, batch: Batch<'a>) -> Vec<Chunk<'a>> {
        let plan = &prepared.plan;
        let most = plan.chunk.min((CHUNK_ROWS / (plan.targets * prepared.rows_a_sample)).max(1));
        let threads = self.threads();
        let chunks = batch.samples.div_ceil(most);
        // Few chunks are cut evenly, so that no thread waits for another's longer one.
        let chunks = if chunks < 4 * threads { chunks.next_multiple_of(threads) } else { chunks };
        let samples = batch.samples.div_ceil(chunks).min(most);
        assert_eq!(batch.results.len(), plan.results.len(), "memory for every result of the plan");
        let width = |position: usize| network.shape(network.inputs()[position].value).count();
        let outputs = plan.buffers[plan.logits.index()].width;
        let mut results: Vec<_> = (batch.results.into_iter().zip(&plan.results))
            .map(|(result, (_, buffer))| result.chunks_mut(samples * plan.targets * plan.buffers[buffer.index()].width))
            .collect();
        let logits = batch.logits.chunks_mut(samples * outputs);
        let targets = batch.explained.chunks_mut(samples * plan.targets);
        let mut first = 0;
        let mut chunks = Vec::new();
        for (logits, targets) in logits.zip(targets) {
            let taken = samples.min(batch.samples - first);
            let inputs = (0..network.inputs().len()).map(|position| {
                let range = first * width(position)..(first + taken) * width(position);
                batch.inputs[position].slice(range)
            });
            let results = results.iter_mut().map(|result| result.next().unwrap_or_default()).collect();
            chunks.push(Chunk { first, samples: taken, inputs: inputs.collect(), results, logits, targets });
            first += taken;
        }
        chunks
    }
}

/// Memory that a thread keeps from chunk to chunk.
#[derive(Debug, Default)]
struct Scratch {
    slots: Vec<Vec<f32>>,
    rows: Vec<f32>,
}

/// What every chunk of a batch shares.
struct Run<'a> {
    network: &'a Network,
    prepared: &'a Prepared,
    targets: &'a Targets,
    start: &'a Start,
}

impl Run<'_> {
    fn chunk(&self, chunk: Chunk<'_>, scratch: &mut Scratch, forward_only: bool) -> Result<Vec<LayerSums>> {
        let plan = &self.prepared.plan;
        let Chunk { first, samples, inputs, results, logits, targets } = chunk;
        let Scratch { slots, rows } = scratch;
        let mut sums = vec![Vec::new(); self.network.layers().len()];
        let mut memory = Memory::new(plan, samples, &inputs, results, slots);
        let steps = if forward_only { plan.forward } else { plan.steps.len() };
        for (position, step) in plan.steps[..steps].iter().enumerate() {
            if position == plan.forward {
                self.choose_targets(first, memory.read(plan.logits), targets);
            }
            let mut taken = memory.take(step.target);
            let known = &plan.buffers[step.target.index()];
            let chain = Chain {
                plan,
                memory: &memory,
                parameters: &self.prepared.parameters,
                ops: &step.chain,
                rows: known.rows,
            };
            let count = memory.rows(known.rows);
            let target = &mut taken.elements()[..if known.width == 0 { 0 } else { count * known.width }];
            match &step.work {
                Work::Product { .. } => {
                    let weight = self.prepared.weights[position].as_ref().expect("prepared with the plan");
                    product(&chain, step, weight, target, rows);
                }
                Work::Convolve { .. }
                | Work::AveragePool { .. }
                | Work::MaxPool
                | Work::Winners
                | Work::Unpool { .. }
                | Work::AlongAxis { .. } => unreachable!("interim"),
                Work::Start => {
                    self.start(first, memory.read(plan.logits), targets, target);
                    chain_rows(&chain, known.width, target);
                }
                Work::Measure(measure) => {
                    let layer = step.layer.expect("a measure is of a layer");
                    self.measure(&chain, step, *measure, &mut sums[layer.index()]);
                }
                Work::Lookup => {
                    let layer = step.layer.expect("a lookup is a layer");
                    let source = step.source.expect("a lookup reads an input");
                    let node = self.network.layer(layer);
                    let Layer::Lookup(lookup) = &node.layer else {
                        return Err(Error::internal("only a lookup layer looks up"));
                    };
                    moves::lookup(lookup, memory.indices(source.buffer), target)
                        .map_err(|error| error.at(&node.name))?;
                    chain_rows(&chain, known.width, target);
                }
                Work::Elementwise | Work::Transpose { .. } | Work::Strips { .. } | Work::Rms => {
                    moves::apply(&chain, step, known.width, target);
                }
            }
            memory.put_back(taken);
        }
        logits.copy_from_slice(memory.read(plan.logits));
        Ok(sums.iter_mut().map(|rows: &mut Vec<LayerSums>| total_of(rows)).collect())
    }

    fn choose_targets(&self, first: usize, logits: &[f32], targets: &mut [usize]) {
        let plan = &self.prepared.plan;
        let outputs = plan.buffers[plan.logits.index()].width;
        for (sample, targets) in targets.chunks_exact_mut(plan.targets).enumerate() {
            let logits = widened(&logits[sample * outputs..][..outputs]);
            targets.copy_from_slice(&self.targets.of_sample(first + sample, &logits));
        }
    }

    fn start(&self, first: usize, logits: &[f32], targets: &[usize], relevance: &mut [f32]) {
        let plan = &self.prepared.plan;
        let outputs = plan.buffers[plan.logits.index()].width;
        if let Start::Given(given) = self.start {
            let from = first * plan.targets * outputs;
            relevance.copy_from_slice(&given.data()[from..from + relevance.len()]);
            return;
        }
        let of_sample = relevance.chunks_exact_mut(outputs * plan.targets).zip(targets.chunks_exact(plan.targets));
        for ((relevance, targets), logits) in of_sample.zip(logits.chunks_exact(outputs)) {
            let logits = widened(logits);
            for (row, &target) in relevance.chunks_exact_mut(outputs).zip(targets) {
                let start = self.start.of_sample(&logits, target, self.network.classes(), self.network.link());
                row.iter_mut().zip(start).for_each(|(r, start)| *r = start as f32);
            }
        }
    }

    /// Adds a measure of each row of relevance to its sums.
    fn measure(&self, chain: &Chain<'_>, step: &Step, measure: Measure, sums: &mut Vec<LayerSums>) {
        let source = step.source.expect("a measure reads relevance");
        let width = self.prepared.plan.buffers[source.buffer.index()].width;
        let chain = Chain { rows: Rows::Target, ..*chain };
        let rows = chain.memory.read(source.buffer).chunks_exact(width);
        sums.resize(rows.len(), LayerSums::default());
        let mut v = vec![0.0; width];
        for (row, (elements, sums)) in rows.zip(sums).enumerate() {
            v.copy_from_slice(elements);
            chain.apply(row, 0, &mut v);
            let sum: f64 = v.iter().copied().map(f64::from).sum();
            match measure {
                Measure::AtOutput => sums.at_output += sum,
                Measure::AtInput => {
                    sums.at_input += sum;
                    sums.nonfinite += v.iter().filter(|v| !v.is_finite()).count() as u64;
                }
                Measure::Bias => sums.bias += sum,
                Measure::Epsilon => sums.epsilon += sum,
            }
            if let Measure::AtOutput | Measure::AtInput = measure {
                sums.size += v.iter().map(|v| f64::from(v.abs())).sum::<f64>();
            }
        }
    }
}

/// The sums of a chunk, from those of its rows.
fn total_of(rows: &mut [LayerSums]) -> LayerSums {
    let mut total = LayerSums::default();
    for row in rows {
        row.close();
        total.add(row);
    }
    total
}

fn widened(logits: &[f32]) -> Vec<f64> {
    logits.iter().copied().map(f64::from).collect()
}

/// Rows of the source times a weight; the chain runs over each block of rows while it is in cache.
fn product(chain: &Chain<'_>, step: &Step, weight: &PackedWeight, target: &mut [f32], read: &mut Vec<f32>) {
    let source: Operand = step.source.expect("a product reads rows");
    let rows = chain.memory.read(source.buffer);
    let (depth, columns) = (weight.depth(), weight.columns());
    let width = chain.plan.buffers[step.target.index()].width;
    let blocks = rows.chunks(ROW_BLOCK * depth).zip(target.chunks_mut(ROW_BLOCK * columns));
    for (block, (rows, target)) in blocks.enumerate() {
        read.resize(rows.len() / depth * weight.stride(), 0.0);
        for (from, to) in rows.chunks_exact(depth).zip(read.chunks_exact_mut(weight.stride())) {
            chain::read(&source, from, &mut to[..depth]);
        }
        gemm::multiply(read, weight, target);
        for (row, elements) in target.chunks_exact_mut(columns).enumerate() {
            let at = (block * ROW_BLOCK + row) * columns;
            chain.apply(at / width, at % width, elements);
        }
    }
}

fn chain_rows(chain: &Chain<'_>, width: usize, target: &mut [f32]) {
    for (row, elements) in target.chunks_exact_mut(width).enumerate() {
        chain.apply(row, 0, elements);
    }
}
