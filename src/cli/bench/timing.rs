//! Timing: backends take turns, forward and explanation in turn, and the median of the repeats counts.

use std::time::Instant;

use relprop::relevance::Run;
use relprop::{Backend, Explainer, Input, Request, Result, Targets};

use super::contender::Contender;
use super::memory::peak_bytes;
use super::samples::Samples;
use crate::cli::agreement::median_and_worst;
use crate::cli::console::Console;
use crate::cli::interrupt;
use crate::cli::source::Values;

/// Batch sizes unless others are asked for.
const SIZES: [usize; 6] = [1, 4, 16, 64, 256, 1024];
/// Floating-point operations of the largest batch that is taken unasked.
const MOST_OPERATIONS: u64 = 20_000_000_000;
/// Seconds that the next size's explanation may take on a backend, unless sizes are asked for.
const MOST_SECONDS: f64 = 2.0;
/// Seconds that the repeats of one batch size take together.
const BUDGET: f64 = 1.5;
/// The fewest and the most repeats, unless a number is asked for.
const REPEATS: (usize, usize) = (5, 50);

/// What was measured of one contender at one batch size.
#[derive(Debug)]
pub struct Timing {
    /// The position of the contender.
    pub contender: usize,
    /// Samples a call.
    pub batch: usize,
    /// How often each was timed.
    pub repeats: usize,
    /// The median forward pass.
    pub forward: f64,
    /// The median explanation.
    pub explain: f64,
    /// Floating-point operations of an explanation's products.
    pub operations: u64,
    /// How the explanations' time was spent.
    pub shares: Shares,
    /// The process's high-water mark when this was done.
    pub peak_memory: Option<u64>,
    /// What the backend held on a device; none where it cannot tell.
    pub device_memory: Option<u64>,
}

/// The parts of the explanations' time that a device spent on each, from 0 to 1. They overlap where there are several
/// chunks; on the CPU they are nothing.
#[derive(Debug, Clone, Copy)]
pub struct Shares {
    /// Inputs on their way to the device.
    pub upload: f64,
    /// Kernels, where the device can tell.
    pub compute: Option<f64>,
    /// Results on their way back.
    pub download: f64,
}

/// The batch sizes to time.
#[derive(Debug)]
pub struct Sizes {
    sizes: Vec<usize>,
    /// Whether they were asked for, so that none is left out.
    is_asked: bool,
}

impl Sizes {
    /// The sizes that were asked for; else the usual ones that stay quick.
    ///
    /// # Errors
    /// If the model cannot be planned.
    pub fn new(asked: &[usize], explainer: &Explainer) -> Result<Self> {
        if !asked.is_empty() {
            let mut sizes = asked.to_vec();
            sizes.sort_unstable();
            sizes.dedup();
            return Ok(Sizes { sizes, is_asked: true });
        }
        let plan = explainer.plan(&Request::new(Targets::ArgMax))?;
        let is_quick = |&size: &usize| size == 1 || plan.cost(explainer.network(), size).operations <= MOST_OPERATIONS;
        Ok(Sizes { sizes: SIZES.into_iter().filter(is_quick).collect(), is_asked: false })
    }

    /// The largest of them.
    pub fn largest(&self) -> usize {
        self.sizes.last().copied().unwrap_or(1)
    }
}

/// One contender at the batch size that is being timed.
struct Racer<'a> {
    position: usize,
    contender: &'a Contender,
    forward: Vec<f64>,
    explain: Vec<f64>,
    runs: Vec<Run>,
}

/// Times every contender at every batch size; contenders in their order, and batches of each in ascending order.
///
/// # Errors
/// If an explanation fails, or Ctrl-C came.
pub fn measure(
    contenders: &[Contender],
    samples: &Samples,
    sizes: &Sizes,
    repeats: Option<usize>,
    console: Console,
) -> Result<Vec<Timing>> {
    let activity = console.activity();
    let mut timings = Vec::new();
    let mut slow = vec![false; contenders.len()];
    for (index, &batch) in sizes.sizes.iter().enumerate() {
        let values = samples.batch(batch)?;
        let inputs: Vec<Input<'_>> = values.iter().map(Values::input).collect();
        let mut racers: Vec<Racer<'_>> = Vec::new();
        let mut warm = 0.0;
        for (position, contender) in contenders.iter().enumerate().filter(|(position, _)| !slow[*position]) {
            activity.set_message(format!("batch {batch}: {} begins", contender.name()));
            let mut racer = Racer { position, contender, forward: Vec::new(), explain: Vec::new(), runs: Vec::new() };
            // The first run allocates and compiles, the second tells how long one takes.
            racer.time(&inputs)?;
            racer.forget();
            warm += racer.time(&inputs)?;
            racer.forget();
            racers.push(racer);
        }
        let repeats = repeats.unwrap_or_else(|| ((BUDGET / warm) as usize).clamp(REPEATS.0, REPEATS.1));
        for repeat in 0..repeats {
            activity.set_message(format!("batch {batch}: repeat {} of {repeats}", repeat + 1));
            for racer in &mut racers {
                racer.time(&inputs)?;
                activity.tick();
            }
        }
        let growth = sizes.sizes.get(index + 1).map_or(1.0, |&next| next as f64 / batch as f64);
        for racer in racers {
            let timing = racer.finish(batch)?;
            slow[timing.contender] = !sizes.is_asked && timing.explain * growth > MOST_SECONDS;
            timings.push(timing);
        }
    }
    activity.finish_and_clear();
    timings.sort_by_key(|timing| timing.contender);
    Ok(timings)
}

impl Racer<'_> {
    /// Times a forward pass and an explanation, and gives the seconds of both together.
    fn time(&mut self, inputs: &[Input<'_>]) -> Result<f64> {
        interrupt::check()?;
        let explainer = &self.contender.explainer;
        let began = Instant::now();
        let logits = explainer.forward(inputs)?;
        let forward = began.elapsed().as_secs_f64();
        drop(logits);
        let began = Instant::now();
        let relevance = explainer.explain(inputs, &Targets::ArgMax)?;
        let explain = began.elapsed().as_secs_f64();
        self.forward.push(forward);
        self.explain.push(explain);
        self.runs.push(relevance.run);
        Ok(forward + explain)
    }

    fn forget(&mut self) {
        self.forward.clear();
        self.explain.clear();
        self.runs.clear();
    }

    fn finish(self, batch: usize) -> Result<Timing> {
        let explainer = &self.contender.explainer;
        let repeats = self.explain.len();
        let plan = explainer.plan(&Request::new(Targets::ArgMax))?;
        Ok(Timing {
            contender: self.position,
            batch,
            repeats,
            operations: plan.cost(explainer.network(), batch).operations,
            shares: Shares::of(&self.runs, self.explain.iter().sum()),
            forward: median_and_worst(self.forward).0,
            explain: median_and_worst(self.explain).0,
            peak_memory: peak_bytes(),
            device_memory: match explainer.backend() {
                Backend::Gpu => explainer.device_memory(),
                _ => Some(0),
            },
        })
    }
}

impl Shares {
    /// The shares of runs that took so many seconds together.
    fn of(runs: &[Run], seconds: f64) -> Self {
        let share = |sum: f64| sum / seconds;
        Shares {
            upload: share(runs.iter().map(|run| run.upload).sum()),
            compute: runs.iter().map(|run| run.compute).sum::<Option<f64>>().map(share),
            download: share(runs.iter().map(|run| run.download).sum()),
        }
    }
}
