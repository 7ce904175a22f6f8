//! Runs the steps of a plan on a chunk of samples.

use super::chain::Chain;
use super::convolve::Products;
use super::crew::{Crew, Written};
use super::memory::{Lines, Memory, Taken};
use super::together::Group;
use super::tools::Tool;
use super::{Chunk, Prepared, convolve, dense, moves, pools, tiled};
use crate::error::{Error, Result};
use crate::layers::Layer;
use crate::network::Network;
use crate::plan::{Measure, Rows, Step, Work};
use crate::relevance::LayerSums;
use crate::start::{Start, Targets};
use crate::stopwatch::Stopwatch;
use std::ops::Range;

/// What a chunk tells beside its results.
pub(super) struct Told {
    /// Each layer's sums, where the plan measures them.
    pub(super) sums: Vec<LayerSums>,
    /// Seconds of each step that ran; steps that ran together have equal shares of theirs.
    pub(super) seconds: Vec<f64>,
}

/// What every chunk of a batch shares.
pub(super) struct Run<'a> {
    pub(super) network: &'a Network,
    pub(super) prepared: &'a Prepared,
    pub(super) targets: &'a Targets,
    pub(super) start: &'a Start,
}

impl Run<'_> {
    pub(super) fn chunk(
        &self,
        chunk: Chunk<'_>,
        memories: &mut Vec<Lines>,
        crew: Crew<'_>,
        forward_only: bool,
    ) -> Result<Told> {
        let plan = &self.prepared.plan;
        let Chunk { first, samples, inputs, results, logits, targets } = chunk;
        let mut sums = vec![Vec::new(); self.network.layers().len()];
        let mut memory = Memory::new(plan, samples, &inputs, results, memories);
        let steps = if forward_only { plan.forward } else { plan.steps.len() };
        let mut seconds = Vec::with_capacity(steps);
        let stopwatch = Stopwatch::start();
        let mut began = 0.0;
        for group in self.prepared.groups.iter().take_while(|group| group.all().start < steps) {
            if group.all().start == plan.forward {
                self.choose_targets(first, memory.read(plan.logits), targets);
            }
            match group.all().len() {
                1 => self.alone(group.steps.start, &mut memory, (first, targets), &mut sums, crew)?,
                _ => self.together(group, &mut memory, crew),
            }
            let ended = stopwatch.seconds();
            seconds.extend(group.all().map(|_| (ended - began) / group.all().len() as f64));
            began = ended;
        }
        logits.copy_from_slice(memory.read(plan.logits));
        Ok(Told { sums: sums.iter_mut().map(|rows: &mut Vec<LayerSums>| total_of(rows)).collect(), seconds })
    }

    /// Runs a step; `first` is the chunk's first sample, `targets` are its samples', `sums` each layer's of every row.
    fn alone(
        &self,
        position: usize,
        memory: &mut Memory<'_>,
        (first, targets): (usize, &[usize]),
        sums: &mut [Vec<LayerSums>],
        crew: Crew<'_>,
    ) -> Result<()> {
        let Prepared { plan, tools, .. } = self.prepared;
        let step = &plan.steps[position];
        let mut taken = memory.take(step.target);
        let mut taken_also: Vec<_> = step.also.iter().map(|also| memory.take(also.target)).collect();
        let known = &plan.buffers[step.target.index()];
        let chain = self.chain_of(step, memory);
        let count = memory.rows(known.rows) * known.width;
        let written = Written {
            target: &mut taken.elements()[..count],
            also: taken_also.iter_mut().map(|taken| &mut taken.elements()[..count]).collect(),
        };
        match (&step.work, &tools[position]) {
            (Work::Start, _) => {
                self.start(first, memory.read(plan.logits), targets, known.rows, written.target);
                chain.finish(0, known.width, written);
            }
            (Work::Measure(measure), _) => {
                let layer = step.layer.expect("a measure is of a layer");
                self.measure(&chain, step, *measure, &mut sums[layer.index()]);
            }
            (Work::Lookup, _) => {
                let indices = memory.indices(step.source.expect("a lookup reads an input").buffer);
                self.look_up(step, indices, written.target)?;
                chain.finish(0, known.width, written);
            }
            (_, tool) => work(&chain, step, tool, written, crew),
        }
        memory.put_back(taken);
        taken_also.into_iter().for_each(|taken| memory.put_back(taken));
        Ok(())
    }

    fn chain_of<'a>(&'a self, step: &'a Step, memory: &'a Memory<'a>) -> Chain<'a> {
        let Prepared { plan, parameters, .. } = self.prepared;
        let rows = plan.buffers[step.target.index()].rows;
        Chain { plan, memory, parameters, step, rows, made: &[] }
    }

    /// Runs steps of a layer's products part by part, the one before them that their chains read, and those behind that are made of their parts.
    fn together(&self, group: &Group, memory: &mut Memory<'_>, crew: Crew<'_>) {
        let Prepared { plan, tools, .. } = self.prepared;
        let steps = &plan.steps[group.all()];
        let mut taken: Vec<Vec<_>> = Vec::new();
        for step in steps {
            // What is passed on is nowhere but in the parts.
            let mut take = |id| if group.passes.contains(&id) { Taken::Nothing } else { memory.take(id) };
            taken.push(step.writes().map(&mut take).collect());
        }
        let chains: Vec<_> = steps.iter().map(|step| self.chain_of(step, memory)).collect();
        let mut written = Vec::new();
        for (step, taken) in steps.iter().zip(&mut taken) {
            let known = &plan.buffers[step.target.index()];
            let count = memory.rows(known.rows) * known.width;
            let mut all = taken.iter_mut().map(|taken| taken.elements().get_mut(..count).unwrap_or_default());
            written.push(Written { target: all.next().unwrap_or_default(), also: all.collect() });
        }
        let (mut convolutions, mut tiles) = (Vec::new(), Vec::new());
        for tool in &tools[group.all()] {
            match tool {
                Tool::Convolve(conv) => convolutions.push(&**conv),
                Tool::Winograd(conv) => tiles.push(conv),
                _ => unreachable!("only convolutions run together"),
            }
        }
        if convolutions.is_empty() {
            tiled::run(&chains, &tiles, written, crew);
        } else {
            let first = group.all().start;
            let of_stage = |stage: &Range<usize>| {
                let made: Vec<_> = plan.steps[first..stage.start].iter().flat_map(Step::writes).collect();
                let stage = stage.start - first..stage.end - first;
                Products::new(&chains[stage.clone()], &convolutions[stage], &made, &group.passes)
            };
            let stages: Vec<_> = group.stages().iter().map(of_stage).collect();
            convolve::run(&stages, usize::from(!group.before.is_empty()), written, crew);
        }
        drop(chains);
        taken.into_iter().flatten().for_each(|taken| memory.put_back(taken));
    }

    fn look_up(&self, step: &Step, indices: &[i64], target: &mut [f32]) -> Result<()> {
        let node = self.network.layer(step.layer.expect("a lookup is a layer"));
        let Layer::Lookup(lookup) = &node.layer else {
            return Err(Error::internal("only a lookup layer looks up"));
        };
        moves::lookup(lookup, indices, target).map_err(|error| error.at(&node.name))
    }

    fn choose_targets(&self, first: usize, logits: &[f32], targets: &mut [usize]) {
        let plan = &self.prepared.plan;
        let outputs = plan.buffers[plan.logits.index()].width;
        for (sample, targets) in targets.chunks_exact_mut(plan.targets).enumerate() {
            let logits = widened(&logits[sample * outputs..][..outputs]);
            targets.copy_from_slice(&self.targets.of_sample(first + sample, &logits));
        }
    }

    fn start(&self, first: usize, logits: &[f32], targets: &[usize], rows: Rows, relevance: &mut [f32]) {
        let plan = &self.prepared.plan;
        let rows = plan.rows(rows, 1);
        let outputs = plan.buffers[plan.logits.index()].width;
        if let Start::Given(given) = self.start {
            let from = first * plan.targets * outputs;
            relevance.copy_from_slice(&given.data()[from..from + relevance.len()]);
            return;
        }
        // Targets that are alike begin as one.
        let of_sample = relevance.chunks_exact_mut(outputs * rows).zip(targets.chunks_exact(plan.targets));
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

/// Runs a step that reads rows and, where it has one, a tool.
fn work(chain: &Chain<'_>, step: &Step, tool: &Tool, written: Written<'_>, crew: Crew<'_>) {
    let width = chain.plan.buffers[step.target.index()].width;
    match tool {
        Tool::Product(weight) => dense::run(chain, step, weight, written, crew),
        Tool::Convolve(conv) => {
            let products = Products::new(std::slice::from_ref(chain), &[conv], &[], &[]);
            convolve::run(&[products], 0, vec![written], crew);
        }
        Tool::Winograd(conv) => tiled::run(std::slice::from_ref(chain), &[conv], vec![written], crew),
        Tool::Pool(pool) => crew.pieces(written, pool.channels, pools::BLOCK, |first, piece, _| {
            pools::run(chain, step, pool, first, piece);
        }),
        Tool::AlongAxis(taps) => {
            let (Work::AlongAxis { before, after, .. }, Some(source)) = (&step.work, &step.source) else {
                unreachable!("the tool of another step")
            };
            let source_block = chain.plan.buffers[source.buffer.index()].width / before;
            moves::along_axis(chain, source, (taps, *after), (source_block, width), written, crew);
        }
        Tool::Nothing => moves::apply(chain, step, width, written, crew),
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
