//! The CPU executor of a [`Plan`].
//!
//! Where a sample is a row, chunks of samples run in parallel, each through all steps while its rows are in cache. Where
//! a sample has many rows (the positions of an image), chunks follow one another, and threads share each step: a batch
//! smaller than the threads keeps them all busy, and a large weight is read once for all samples of a chunk.
//!
//! A chunk's rows never meet another chunk's, and every row's bits depend on that row alone, so results do not change
//! with the number of threads, the size of chunks or a sample's neighbours.

mod ahead;
mod chain;
mod chosen;
mod convolve;
mod crew;
mod dense;
mod few_rows;
mod filters;
mod fork;
mod functions;
mod gathered;
mod gemm;
mod grouped;
mod lattice;
mod loops;
#[cfg(all(test, target_arch = "x86_64"))]
mod machine_code;
mod memory;
mod moves;
mod narrow;
#[cfg(test)]
mod numbers;
mod panels;
mod planar;
mod planes;
mod pools;
mod powers;
mod run;
mod simd;
#[cfg(test)]
mod tests;
mod tile;
mod tiled;
mod together;
mod tools;
mod turned;
mod turns;
mod winograd;

use std::sync::{Mutex, PoisonError};

use crate::batch::{Batch, Source};
use crate::composite::Assignment;
#[cfg(feature = "threads")]
use crate::error::Error;
use crate::error::Result;
use crate::layers::Layer;
use crate::network::Network;
use crate::parameters::Parameters;
use crate::plan::Plan;
use crate::relevance::LayerSums;
use crate::sharing::share;

use crew::{Crew, Shelf};
use dense::Weight;
use gemm::row_block;
use run::{Run, Told};
use together::Group;
use tools::{Tool, Weights};

/// Bytes that a chunk whose steps are shared may take without need: what a distant cache holds.
const CACHED: usize = 16 << 20;
/// Rows of relevance that such a chunk should have in any case, so that reading weights does not count, and where dense
/// weights come from memory.
const ENOUGH_ROWS: usize = 4;
const ENOUGH_FEW_ROWS: usize = 8;
/// Rows of a batch, or of its relevance, for which what products read is made of weights while they read it: for more it is kept in memory.
const FEW_ROWS: usize = 2;
/// Bytes that it may take for that.
const MOST_BYTES: usize = 768 << 20;

/// Numbers that stand beside rows, at least, before they begin again: loops over fewer spend themselves on beginnings and ends.
const PERIOD: usize = 512;
/// Blocks of rows of relevance that a chunk of a thread's own holds at most.
const MOST_BLOCKS: usize = 4;

/// The instruction set that products run on.
pub fn instruction_set() -> &'static str {
    simd::Level::widest().name()
}

/// A network's packed weights and the threads that explain with them. Shared between plans and callers.
#[derive(Debug)]
pub struct Cpu {
    weights: Weights,
    /// The buffers of chunks that are done, for the next chunk.
    scratch: Mutex<Vec<Vec<memory::Lines>>>,
    /// Memory of threads that rest, for the next part of a step.
    shelf: Shelf,
    #[cfg(feature = "threads")]
    pool: rayon::ThreadPool,
}

/// A plan with everything it reads resolved.
#[derive(Debug)]
pub struct Prepared {
    plan: Plan,
    parameters: Parameters,
    /// What each step reads beside data.
    tools: Vec<Tool>,
    /// The steps in their order, those that run together as one.
    groups: Vec<Group>,
    /// The most rows that a product has for each sample: tokens, where a layer works on each.
    rows_a_sample: usize,
    /// Whether rows are the positions of an image.
    has_windows: bool,
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
            weights: Weights::default(),
            scratch: Mutex::default(),
            shelf: Shelf::default(),
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

    /// How many chunks of a network's batches run at once, so that each takes its share of the memory.
    pub fn chunks_at_once(&self, network: &Network) -> usize {
        if has_windows(network) { 1 } else { self.threads() }
    }

    /// Packs the weights that a plan reads and resolves its parameters.
    ///
    /// # Errors
    /// If a parameter does not fit its layer.
    pub fn prepare(&self, network: &Network, rules: &Assignment, plan: Plan) -> Result<Prepared> {
        let parameters = Parameters::new(network, rules, &plan)?.repeated(PERIOD);
        let has_windows = has_windows(network);
        let sharing = has_windows.then(|| self.threads());
        let mut tools: Vec<Result<Tool>> = plan.steps.iter().map(|_| Ok(Tool::Nothing)).collect();
        // Threads of its own: a pool's thread that waits takes up other jobs, and those may wait for this very plan.
        share(tools.iter_mut().zip(&plan.steps).collect(), self.threads(), |(tool, step)| {
            *tool = self.weights.tool(network, &plan, step, sharing);
        });
        let tools: Vec<Tool> = tools.into_iter().collect::<Result<_>>()?;
        let rows = tools
            .iter()
            .zip(&plan.steps)
            .map(|(tool, step)| plan.buffers[step.target.index()].width / tool.columns().unwrap_or(usize::MAX));
        let rows_a_sample = rows.max().unwrap_or(1).max(1);
        let groups = together::groups(network, &plan, &tools, sharing.unwrap_or(1));
        Ok(Prepared { plan, parameters, tools, groups, rows_a_sample, has_windows })
    }

    /// Explains a batch, or runs it forward only; gives each layer's sums where the plan measures them, and the seconds
    /// of each step, as if all threads had shared it.
    ///
    /// # Errors
    /// [`ErrorKind::Data`](crate::ErrorKind::Data) if an integer input points outside its table.
    pub fn run(
        &self,
        network: &Network,
        prepared: &Prepared,
        batch: Batch<'_>,
        forward_only: bool,
    ) -> Result<(Vec<LayerSums>, Vec<f64>)> {
        let (targets, start) = (batch.targets, batch.start);
        let crew = Crew { threads: if prepared.has_windows { self.threads() } else { 1 }, shelf: &self.shelf };
        let work = |chunk: Chunk<'_>| {
            let idle = || self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
            let mut memories = idle().pop().unwrap_or_default();
            let told = Run { network, prepared, targets, start }.chunk(chunk, &mut memories, crew, forward_only);
            idle().push(memories);
            told
        };
        let samples = if prepared.has_windows {
            shared_samples(prepared, batch.samples)
        } else {
            self.samples(prepared, batch.samples)
        };
        self.keep(prepared, batch.samples, forward_only);
        let chunks = cut(network, prepared, batch, samples);
        #[cfg(feature = "threads")]
        let parts: Vec<Result<Told>> = self.pool.install(|| {
            use rayon::prelude::*;
            if prepared.has_windows {
                chunks.into_iter().map(work).collect()
            } else {
                chunks.into_par_iter().map(work).collect()
            }
        });
        #[cfg(not(feature = "threads"))]
        let parts: Vec<Result<Told>> = chunks.into_iter().map(work).collect();
        let mut total = vec![LayerSums::default(); network.layers().len()];
        let mut seconds = vec![0.0; if forward_only { prepared.plan.forward } else { prepared.plan.steps.len() }];
        let threads = if prepared.has_windows { 1 } else { self.threads().min(parts.len()) };
        for part in parts {
            let Told { sums, seconds: of_part } = part?;
            total.iter_mut().zip(&sums).for_each(|(total, sums)| total.add(sums));
            seconds.iter_mut().zip(of_part).for_each(|(total, part)| *total += part / threads as f64);
        }
        Ok((total, seconds))
    }

    /// Keeps what is made of weights, where too many rows read it to make it anew.
    fn keep(&self, prepared: &Prepared, samples: usize, forward_only: bool) {
        let (forward, backward) = prepared.tools.split_at(prepared.plan.forward);
        let backward = if forward_only { &[] } else { backward };
        let parts = [(forward, samples), (backward, samples * prepared.plan.targets)];
        let many = parts.into_iter().filter(|(_, rows)| *rows > FEW_ROWS).flat_map(|(tools, _)| tools);
        let made: Vec<&Tool> = many.filter(|tool| !tool.is_kept()).collect();
        if made.is_empty() {
            return;
        }
        #[cfg(feature = "threads")]
        self.pool.install(|| {
            use rayon::prelude::*;
            made.into_par_iter().with_max_len(1).for_each(Tool::keep);
        });
        #[cfg(not(feature = "threads"))]
        made.into_iter().for_each(Tool::keep);
    }

    /// How many samples a chunk of its own thread holds: as many as the plan allows, but enough chunks for every thread.
    fn samples(&self, prepared: &Prepared, samples: usize) -> usize {
        let plan = &prepared.plan;
        // The forward pass has a block of rows; with several targets, what comes back has more, or it would have too few.
        let rows = row_block() * MOST_BLOCKS.min(plan.targets) / plan.targets;
        let most = plan.chunk.min((rows / prepared.rows_a_sample).max(1));
        let threads = self.threads();
        let chunks = samples.div_ceil(most);
        // Few chunks are cut evenly, so that no thread waits for another's longer one.
        let chunks = if chunks < 4 * threads { chunks.next_multiple_of(threads) } else { chunks };
        samples.div_ceil(chunks).min(most)
    }
}

/// Whether rows of a network are the positions of an image.
fn has_windows(network: &Network) -> bool {
    let is_window = |layer: &Layer| matches!(layer, Layer::Conv(_) | Layer::AveragePool(_) | Layer::MaxPool(_));
    network.layers().iter().any(|node| is_window(&node.layer))
}

/// How many samples a chunk holds whose steps threads share.
fn shared_samples(prepared: &Prepared, samples: usize) -> usize {
    let plan = &prepared.plan;
    let is_in_memory = |tool: &Tool| matches!(tool, Tool::Product(Weight::FewRows(_)));
    let enough = if prepared.tools.iter().any(is_in_memory) { ENOUGH_FEW_ROWS } else { ENOUGH_ROWS };
    let bytes = plan.placements.bytes_per_sample().max(1);
    let most = (MOST_BYTES / bytes).min(enough.div_ceil(plan.targets)).max(CACHED / bytes).clamp(1, plan.chunk);
    samples.div_ceil(samples.div_ceil(most))
}

/// Cuts a batch into chunks of samples.
fn cut<'a>(network: &Network, prepared: &Prepared, batch: Batch<'a>, samples: usize) -> Vec<Chunk<'a>> {
    let plan = &prepared.plan;
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
