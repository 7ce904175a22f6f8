//! The run of `relprop evaluate`: explanation by explanation, blocks of samples go through.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use relprop::evaluation::{Curves, Order, PixelFlipping};
use relprop::network::InputKind;
use relprop::output::JsonLines;
use relprop::{Composite, Explainer, Network, Options, Request, Result, Start, Targets, Tensor};

use super::perturb::PerturbChoice;
use super::ranking::{self, Ranking};
use super::record::{Evaluation, Explanation, SampleRecord, Summary};
use super::{Arguments, OrderName};
use crate::cli::console::{Console, thousands};
use crate::cli::interrupt;
use crate::cli::job::bounded;
use crate::cli::model::{CompositeChoice, DEFAULT, ModelArguments, usage};
use crate::cli::source::{Door, Source, Values};
use crate::cli::target::{describe, resolve_start, resolve_targets, start_of, targets_of};

/// Steps unless told: enough to see a curve's shape.
const STEPS: usize = 32;
/// Perturbed samples between two looks at the clock, so that progress shows.
const ROWS: usize = 8192;

/// Everything that an evaluation needs, checked.
pub struct Job<'a> {
    arguments: &'a Arguments,
    network: Arc<Network>,
    source: Source,
    door: usize,
    targets: Targets,
    /// The start of every composite, if one was asked for.
    start: Option<Start>,
    rankings: Vec<(String, Ranking)>,
    orders: Vec<OrderName>,
    flipping: PixelFlipping,
    regions: usize,
    steps: usize,
    perturbation: String,
    options: Options,
    lines: Option<JsonLines>,
}

impl<'a> Job<'a> {
    /// Checks model, inputs, relevance and parameters, before any work.
    ///
    /// # Errors
    /// If any does not fit.
    pub fn prepare(arguments: &'a Arguments, console: Console) -> Result<Self> {
        let choices = match (arguments.composite.as_slice(), arguments.relevance.is_empty()) {
            ([], true) => vec![CompositeChoice::Preset(DEFAULT.to_owned())],
            (named, _) => named.to_vec(),
        };
        let model = ModelArguments { path: arguments.path.clone(), composite: None, rules: arguments.rules.clone() };
        let (network, composites) = model.load_for(&choices)?;
        network.notes().iter().for_each(|note| console.note(note));
        let source = Source::open(&arguments.inputs, &network, &arguments.pixels, false, console)?;
        let door = source.doors.iter().position(|door| door.kind == InputKind::Float).unwrap_or(0);
        #[cfg_attr(not(feature = "gpu"), expect(unused_mut, reason = "only a device lets go of weights"))]
        let mut options = arguments.engine.options()?;
        #[cfg(feature = "gpu")]
        {
            options.reload = Some(model.reload());
        }
        let rankings = rankings(arguments, &composites, &source, &source.doors[door])?;
        let first = explainer(&network, &rankings[0].1, &options)?;
        #[cfg(feature = "gpu")]
        {
            // One device serves every explanation, and its kernels are compiled once.
            options.gpu = first.gpu().cloned();
        }
        let targets = resolve_targets(&arguments.target.target, source.samples, first.outputs())?;
        if targets.is_several() {
            return Err(usage(
                format!("--target {} has several targets a sample", describe(&arguments.target.target)),
                "a curve is of one: give argmax, an index, or FILE.npy with one a sample",
            ));
        }
        let choice = arguments.target.start.as_ref();
        let output = network.shape(network.output());
        let resolved = |_| resolve_start(choice, Start::Logit, source.samples, 1, output);
        let start = choice.map(resolved).transpose()?;
        let perturb = arguments.perturb.clone().unwrap_or_else(|| PerturbChoice::default_for(&source.doors[door]));
        let flipping = flipping(arguments, &perturb, &source.doors[door], &first)?;
        let (regions, steps) = (flipping.regions(&first)?, flipping.steps(&first)?);
        let lines = arguments.samples.as_deref().map(JsonLines::create).transpose()?;
        Ok(Job {
            arguments,
            network,
            source,
            door,
            targets,
            start,
            rankings,
            orders: orders(&arguments.order),
            flipping,
            regions,
            steps,
            perturbation: perturb.to_string(),
            options,
            lines,
        })
    }

    /// Evaluates every explanation.
    ///
    /// # Errors
    /// If a block cannot be read, explained or evaluated.
    pub fn run(mut self, console: Console) -> Result<Evaluation> {
        let began = Instant::now();
        let bar = console.progress(self.source.samples * self.rankings.len());
        let rankings = std::mem::take(&mut self.rankings);
        let mut explanations = Vec::new();
        let mut random = None;
        let (mut backend, mut adapter) = (String::new(), String::new());
        for (name, ranking) in &rankings {
            let explainer = explainer(&self.network, ranking, &self.options)?;
            (backend, adapter) = (explainer.backend().to_string(), explainer.adapter());
            // An order by chance is the same for all.
            let is_first = explanations.is_empty();
            let mut orders = self.orders.clone();
            orders.retain(|&order| order != OrderName::Random || is_first);
            let mut explanation = Explanation::new(name);
            let mut chance = Explanation::new("random");
            let block = (ROWS / (self.steps * orders.len().max(1))).clamp(1, self.source.samples);
            for first in (0..self.source.samples).step_by(block) {
                interrupt::check()?;
                let range = first..self.source.samples.min(first + block);
                let curves = self.block(&explainer, ranking, range.clone(), &orders)?;
                bar.inc(range.len() as u64);
                let (by_chance, known): (Vec<_>, Vec<_>) =
                    curves.into_iter().partition(|(order, _)| *order == OrderName::Random);
                self.add(&mut explanation, known, range.clone())?;
                self.add(&mut chance, by_chance, range)?;
            }
            if chance.has_curves() {
                random = Some(chance);
            }
            explanations.push(explanation);
        }
        bar.finish_and_clear();
        interrupt::check()?;
        explanations.retain(Explanation::has_curves);
        explanations.extend(random);
        if let Some(lines) = self.lines.take() {
            lines.finish()?;
        }
        let seconds = began.elapsed().as_secs_f64();
        let samples = self.source.samples;
        let count = if samples == 1 { "1 sample".to_owned() } else { format!("{} samples", thousands(samples)) };
        console.done(&format!("evaluated {count} in {seconds:.2} s on {adapter}"));
        Ok(Evaluation { summary: self.summary(backend, adapter, seconds), explanations })
    }

    /// The curves of a block in each order.
    fn block(
        &mut self,
        explainer: &Explainer,
        ranking: &Ranking,
        range: Range<usize>,
        orders: &[OrderName],
    ) -> Result<Vec<(OrderName, Curves)>> {
        let values = self.source.read(range.clone())?;
        let inputs: Vec<_> = values.iter().map(Values::input).collect();
        let targets = targets_of(&self.targets, range.clone());
        let is_needed = orders.iter().any(|order| *order != OrderName::Random);
        let relevance = match ranking {
            _ if !is_needed => None,
            Ranking::Composite(composite) => Some(self.explained(explainer, composite, &inputs, &targets, &range)?),
            Ranking::Read(relevance) => {
                let width = relevance.count() / relevance.rows();
                let rows = relevance.data()[range.start * width..range.end * width].to_vec();
                Some(Tensor::new(self.source.doors[self.door].sample.prepend(range.len()), rows)?)
            }
        };
        let mut curves = Vec::with_capacity(orders.len());
        for &order in orders {
            let chosen = match (order, &relevance) {
                (OrderName::Morf, Some(relevance)) => Order::MostRelevantFirst(relevance),
                (OrderName::Lerf, Some(relevance)) => Order::LeastRelevantFirst(relevance),
                (OrderName::Random, _) | (OrderName::Morf | OrderName::Lerf, None) => Order::Random,
            };
            curves.push((order, self.flipping.curves(explainer, &inputs, &targets, chosen)?));
        }
        Ok(curves)
    }

    fn explained(
        &self,
        explainer: &Explainer,
        composite: &Composite,
        inputs: &[relprop::Input<'_>],
        targets: &Targets,
        range: &Range<usize>,
    ) -> Result<Tensor> {
        let start = self.start.clone().unwrap_or_else(|| composite.default_start());
        let start = start_of(&start, range.clone(), explainer.outputs());
        // NaN and infinity were looked for when the block was read.
        let request = Request::new(targets.clone()).start(start).allow_nonfinite(true);
        Ok(explainer.explain_with(inputs, &request)?.inputs.swap_remove(0).relevance)
    }

    /// Adds a block's curves to an explanation, and its samples to their file.
    fn add(
        &mut self,
        explanation: &mut Explanation,
        curves: Vec<(OrderName, Curves)>,
        range: Range<usize>,
    ) -> Result<()> {
        if curves.is_empty() {
            return Ok(());
        }
        let samples = SampleRecord::of_block(&curves, range.start)?;
        if let Some(lines) = &mut self.lines {
            for sample in &samples {
                let source: &Path = self.source.file_of(sample.index);
                lines.append(&sample.line(&explanation.name, source))?;
            }
        }
        explanation.add(samples);
        Ok(())
    }

    fn summary(&self, backend: String, adapter: String, seconds: f64) -> Summary {
        let door: &Door = &self.source.doors[self.door];
        Summary {
            model: self.arguments.path.display().to_string(),
            samples: self.source.samples,
            target: describe(&self.arguments.target.target),
            score: self.arguments.score.name(),
            region: self.arguments.region.along(door),
            regions: self.regions,
            regions_per_step: self.flipping.per_step,
            steps: self.steps,
            perturbation: self.perturbation.clone(),
            seed: self.arguments.seed,
            backend,
            adapter,
            seconds,
        }
    }
}

/// What ranks the regions, by name.
fn rankings(
    arguments: &Arguments,
    composites: &[Composite],
    source: &Source,
    door: &Door,
) -> Result<Vec<(String, Ranking)>> {
    let mut rankings = Vec::new();
    for composite in composites {
        let composite = bounded(composite, &arguments.rules, source)?;
        rankings.push((composite.name().to_owned(), Ranking::Composite(composite)));
    }
    for path in &arguments.relevance {
        rankings.push((path.display().to_string(), Ranking::Read(ranking::read(path, source, door)?)));
    }
    match twice(rankings.iter().map(|(name, _)| name.as_str())) {
        None => Ok(rankings),
        Some(name) => Err(usage(format!("{name} is named twice"), "name every explanation once")),
    }
}

/// How samples are perturbed: regions a step as told, or as many that the steps perturb everything.
fn flipping(
    arguments: &Arguments,
    perturb: &PerturbChoice,
    door: &Door,
    explainer: &Explainer,
) -> Result<PixelFlipping> {
    let flipping = PixelFlipping {
        perturbation: perturb.perturbation(door)?,
        score: arguments.score.score(),
        absolute: arguments.abs,
        seed: arguments.seed,
        ..PixelFlipping::new(arguments.region.along(door))
    };
    let regions = flipping.regions(explainer)?;
    let (per_step, steps) = match (arguments.regions_per_step, arguments.steps) {
        (Some(per_step), steps) => (per_step, steps),
        (None, None) => (regions.div_ceil(STEPS), None),
        // The last of the steps may have nothing left to do, and then falls.
        (None, Some(steps)) if steps <= regions => (regions.div_ceil(steps), None),
        (None, Some(too_many)) => (1, Some(too_many)),
    };
    Ok(PixelFlipping { per_step, steps, ..flipping })
}

/// The explainer of a ranking; for one that was read any rules will do, for the forward pass has none.
fn explainer(network: &Arc<Network>, ranking: &Ranking, options: &Options) -> Result<Explainer> {
    let forward = Composite::preset("gradient")?;
    let composite = match ranking {
        Ranking::Composite(composite) => composite,
        Ranking::Read(_) => &forward,
    };
    Explainer::with_options(Arc::clone(network), composite, options.clone())
}

/// The orders asked for, each once; all unless told.
fn orders(asked: &[OrderName]) -> Vec<OrderName> {
    let mut orders = match asked {
        [] => vec![OrderName::Morf, OrderName::Lerf, OrderName::Random],
        some => some.to_vec(),
    };
    orders.sort_unstable();
    orders.dedup();
    orders
}

/// A name that comes again.
fn twice<'a>(names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut seen = std::collections::BTreeSet::new();
    names.into_iter().find(|name| !seen.insert(*name))
}
