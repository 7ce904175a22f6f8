//! The run of `relprop explain`: everything is checked first, then blocks of samples go through.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use relprop::composite::Parameter;
use relprop::network::InputKind;
use relprop::output::{JsonLines, write_json};
use relprop::rules::Bounds;
use relprop::{Attributor, Backend, Composite, Explainer, Relevance, Request, Result, Start, Targets};

use super::console::Console;
use super::explain::Arguments;
use super::heatmap::Page;
use super::interrupt;
use super::model::{RuleArguments, spread_numbers, usage};
use super::report::{CompositePart, ModelPart, ReportFile, SampleLine, Tally, Totals, Versions};
use super::results::{Column, Results, try_create};
use super::source::{Door, Source, Values};
use super::target::{describe, resolve_start, resolve_targets, start_of, targets_of};

/// Bytes of inputs and results in memory at a time, unless `--memory` says otherwise.
const BLOCK_BYTES: usize = 64 << 20;
/// Samples in memory at a time at most, so that progress shows.
const BLOCK_SAMPLES: usize = 4096;
/// The same for the reference, which takes its time.
const REFERENCE_SAMPLES: usize = 32;

/// Everything that an explanation needs, checked.
pub struct Job<'a> {
    arguments: &'a Arguments,
    explainer: Explainer,
    attributor: Attributor,
    source: Source,
    targets: Targets,
    /// K.
    per_sample: usize,
    start: Start,
    block: usize,
    results: Results,
    lines: Option<JsonLines>,
    page: Option<Page>,
    report: ReportFile,
}

impl<'a> Job<'a> {
    /// Checks model, inputs, targets and output files, before any work.
    ///
    /// # Errors
    /// If any does not fit.
    pub fn prepare(arguments: &'a Arguments, console: Console) -> Result<Self> {
        let outputs = [
            Some(arguments.output.as_path()),
            arguments.samples.as_deref(),
            arguments.report.as_deref(),
            arguments.heatmap.heatmap.as_deref(),
        ];
        let read = arguments.inputs.iter().chain(arguments.model.files());
        check_distinct(outputs, read.chain(arguments.target.files()).chain(arguments.attributor.file()))?;
        let model = arguments.model.load()?;
        let network = &model.network;
        network.notes().iter().for_each(|note| console.note(note));
        #[cfg_attr(not(feature = "gpu"), expect(unused_mut, reason = "only a device lets go of weights"))]
        let mut options = arguments.engine.options()?;
        #[cfg(feature = "gpu")]
        {
            options.reload = Some(arguments.model.reload());
        }
        let source = Source::open(&arguments.inputs, network, &arguments.pixels, arguments.allow_nonfinite, console)?;
        let composite = bounded(&model.composite, &arguments.model.rules, &source)?;
        let explainer = Explainer::with_options(network.clone(), &composite, options)?;
        if arguments.model.composite.is_some() {
            explainer.rules().notes().iter().for_each(|note| console.note(note));
        }
        let targets = resolve_targets(&arguments.target.target, source.samples, explainer.outputs())?;
        let per_sample = targets.per_sample(explainer.outputs());
        let output = network.shape(network.output());
        let choice = arguments.target.start.as_ref();
        let default = arguments.attributor.default_start(model.default_start());
        let start = resolve_start(choice, default, source.samples, per_sample, output)?;
        let plan = explainer.plan(&request(arguments, &targets, &start))?;
        check_layout(arguments, &source)?;
        let columns = columns(arguments, &explainer, &source)?;
        let width: usize = columns.iter().map(|column| column.shape.count() * per_sample).sum();
        let read: usize = source.doors.iter().map(|door| door.sample.count()).sum();
        let bytes = (read + width) * size_of::<f32>();
        let attributor = arguments.attributor.resolve(&source, arguments.engine.half_of_memory(), bytes)?;
        attributor.check(&explainer, &request(arguments, &targets, &start))?;
        let axis = targets.is_several().then_some(per_sample);
        let results = Results::create(&arguments.output, columns, &source, axis, arguments.dtype.precision())?;
        let lines = arguments.samples.as_deref().map(JsonLines::create).transpose()?;
        let page = Page::new(&arguments.heatmap, &source, per_sample)?;
        arguments.report.as_deref().map(try_create).transpose()?;
        let is_reference = explainer.backend() == Backend::Reference;
        // On the CPU, what one chunk takes; a device counts what it ran.
        let dispatches = if explainer.backend() == Backend::Cpu { plan.steps.len() } else { 0 };
        let report = ReportFile {
            model: ModelPart::new(&arguments.model.path, &model),
            composite: CompositePart::new(&composite, &start),
            target: describe(&arguments.target.target),
            backend: explainer.backend().to_string(),
            adapter: explainer.adapter(),
            half_weights: arguments.engine.half_weights,
            versions: Versions { relprop: env!("CARGO_PKG_VERSION") },
            dispatches,
            totals: Totals::default(),
            layers: Vec::new(),
        };
        let block = block(arguments, &source, bytes, attributor.passes(&explainer), is_reference);
        Ok(Job {
            arguments,
            explainer,
            attributor,
            source,
            targets,
            per_sample,
            start,
            block,
            results,
            lines,
            page,
            report,
        })
    }

    /// What computes, in words.
    pub fn adapter(&self) -> String {
        self.explainer.adapter()
    }

    /// Explains block by block, then gives every file its name.
    ///
    /// # Errors
    /// If a block cannot be read, explained or written.
    pub fn run(mut self, console: Console) -> Result<Totals> {
        let began = Instant::now();
        let bar = console.progress(self.source.samples);
        let mut tally = Tally::default();
        let mut first = 0;
        while first < self.source.samples {
            interrupt::check()?;
            let next = self.source.samples.min(first + self.block);
            let values = self.source.read(first..next)?;
            let inputs: Vec<_> = values.iter().map(Values::input).collect();
            let targets = targets_of(&self.targets, first..next);
            let start = start_of(&self.start, first..next, self.per_sample * self.explainer.outputs());
            // NaN and infinity were looked for when the block was read.
            let request = request(self.arguments, &targets, &start).allow_nonfinite(true);
            let relevance = self.attributor.explain(&self.explainer, &inputs, &request)?;
            self.write(&relevance, &values, first)?;
            tally.add(&relevance, &start, self.explainer.network().link());
            self.report.dispatches += relevance.run.dispatches;
            bar.inc((next - first) as u64);
            first = next;
        }
        bar.finish_and_clear();
        interrupt::check()?;
        let (totals, layers) = tally.finish(self.source.samples, self.per_sample, began.elapsed().as_secs_f64());
        self.report.totals = totals.clone();
        self.report.layers = layers;
        self.finish(console)?;
        Ok(totals)
    }

    fn write(&mut self, relevance: &Relevance, values: &[Values], first: usize) -> Result<()> {
        self.results.append(relevance)?;
        if let Some(page) = &mut self.page {
            page.add(relevance, values, &self.source.doors, first);
        }
        let Some(lines) = &mut self.lines else { return Ok(()) };
        let scores = relevance.scores();
        let rows = relevance.targets.count();
        for row in 0..rows {
            let of_input = |named: &relprop::relevance::Named| {
                let width = named.relevance.count() / rows;
                named.relevance.data()[row * width..][..width].iter().map(|&r| f64::from(r)).sum::<f64>()
            };
            let sample = first + row / self.per_sample;
            lines.append(&SampleLine {
                index: sample,
                source: self.source.file_of(sample).display().to_string(),
                target: relevance.targets.data()[row],
                score: scores.data()[row],
                relevance_sum: relevance.inputs.iter().map(of_input).sum(),
            })?;
        }
        Ok(())
    }

    fn finish(self, console: Console) -> Result<()> {
        if let Some(lines) = self.lines {
            lines.finish()?;
        }
        if let Some(path) = &self.arguments.report {
            write_json(path, &self.report)?;
        }
        interrupt::check()?;
        // The relevance comes after all other data: where it is there, they are. A drawing is none, and may fail.
        self.results.finish()?;
        let Some(page) = self.page else { return Ok(()) };
        page.finish(console).map_err(|error| error.context("relevance is written, but its heatmap is not"))
    }
}

/// The composite; pixels 0 and 255, prepared as the others are, bound pictures where no bounds are given.
///
/// # Errors
/// If the pixels cannot be prepared so.
pub fn bounded(composite: &Composite, rules: &RuleArguments, source: &Source) -> Result<Composite> {
    let composite = composite.clone();
    match source.doors.as_slice() {
        [Door { pixels: Some(pixels), .. }] if rules.low.is_none() && composite.uses(Parameter::Bounds) => {
            let (low, high) = pixels.bounds()?;
            let spread = |numbers: &[f32]| Arc::new(spread_numbers(numbers));
            Ok(composite.with_input_bounds(Bounds { low: spread(&low), high: spread(&high) }))
        }
        _ => Ok(composite),
    }
}

fn request(arguments: &Arguments, targets: &Targets, start: &Start) -> Request {
    let request = Request::new(targets.clone()).start(start.clone()).report(arguments.report.is_some());
    let request = arguments.keep.iter().fold(request, |request, name| request.keep(name));
    arguments.condition.iter().fold(request, |request, condition| request.condition(condition.clone()))
}

/// `--layout` that nothing heeds is a mistake.
fn check_layout(arguments: &Arguments, source: &Source) -> Result<()> {
    let is_heeded = arguments.sum_channels || arguments.pool.is_some() || arguments.heatmap.heatmap.is_some();
    if arguments.pixels.layout.is_none() || is_heeded || source.doors.iter().any(|door| door.pixels.is_some()) {
        return Ok(());
    }
    Err(usage(
        "--layout is for pictures, uint8 arrays, --sum-channels, --pool and --heatmap, and there is none of them",
        "leave it out; an array of real numbers is read as it lies",
    ))
}

/// The arrays of the results: the float inputs, then the kept values.
fn columns(arguments: &Arguments, explainer: &Explainer, source: &Source) -> Result<Vec<Column>> {
    let network = explainer.network();
    let floats = source.doors.iter().filter(|door| door.kind == InputKind::Float);
    let mut columns = floats
        .map(|door| {
            let column = if arguments.sum_channels { Column::of_pixels(door)? } else { Column::of_door(door) };
            match arguments.pool {
                Some(side) => column.pooled(door, side),
                None => Ok(column),
            }
        })
        .collect::<Result<Vec<_>>>()?;
    for name in &arguments.keep {
        if columns.iter().any(|column| column.name == *name) {
            return Err(usage(format!("--keep {name}: the results hold it already"), "leave it out"));
        }
        let of_layer = || network.find_layer(name).map(|layer| network.layer(layer).output);
        if let Some(value) = network.find_value(name).or_else(of_layer) {
            columns.push(Column::of_value(name, network.shape(value)));
        }
    }
    Ok(columns)
}

/// How many samples are in memory at a time, of which each takes some passes.
fn block(arguments: &Arguments, source: &Source, bytes_a_sample: usize, passes: usize, is_reference: bool) -> usize {
    let bytes = arguments.engine.half_of_memory().unwrap_or(BLOCK_BYTES);
    let most = if is_reference { REFERENCE_SAMPLES } else { BLOCK_SAMPLES };
    let most = most.max(arguments.engine.batch_size.unwrap_or(1)).div_ceil(passes);
    (bytes / bytes_a_sample.max(1)).clamp(1, most).min(source.samples)
}

/// Two results under one name would leave one of them, and a result must not replace what it was made from.
///
/// # Errors
/// If one of `outputs` is another, or a file that is read.
pub fn check_distinct<'a>(
    outputs: impl IntoIterator<Item = Option<&'a Path>>,
    read: impl IntoIterator<Item = &'a PathBuf>,
) -> Result<()> {
    let read = read.into_iter();
    // A link's own place counts, and that of the file it leads to.
    let mut taken: Vec<PathBuf> =
        read.flat_map(|path| [place(path), path.canonicalize().unwrap_or_default()]).collect();
    for path in outputs.into_iter().flatten() {
        let place = place(path);
        if taken.contains(&place) {
            return Err(usage(
                format!("{}: is named twice, and one would replace the other", path.display()),
                "give every file a name of its own",
            ));
        }
        taken.push(place);
    }
    Ok(())
}

/// The one name of the place that a path leads to; a file that is renamed to it replaces a link, not what it leads to.
fn place(path: &Path) -> PathBuf {
    let Some(name) = path.file_name() else { return path.to_owned() };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    folder.canonicalize().map_or_else(|_| path.to_owned(), |folder| folder.join(name))
}
