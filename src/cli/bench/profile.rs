//! `--profile`: where an explanation's time goes, step by step, beside what the backend can do at most.

use std::path::Path;

use relprop::output::write_json;
use relprop::plan::{Plan, Step};
use relprop::{Error, ErrorKind, Explainer, Input, Request, Result, Targets};
use serde::Serialize;

use super::contender::Contender;
use super::peak::Peak;
use super::samples::Samples;
use crate::cli::interrupt;
use crate::cli::model::ModelArguments;
use crate::cli::source::Values;
use crate::cli::table::table;

/// Explanations that are timed unless told.
const REPEATS: usize = 5;

/// Where one backend's time goes. Scripts read these keys.
#[derive(Debug, Serialize)]
pub struct Profile {
    /// The model's file.
    model: String,
    /// The rules.
    composite: String,
    /// What computed.
    backend: String,
    /// The instruction set and threads, or the adapter.
    adapter: String,
    /// Samples a call.
    batch: usize,
    /// How many explanations were timed; of each step the fastest counts.
    repeats: usize,
    /// What the backend does at most, measured in the same run.
    peak: Peak,
    /// The sum of the steps' seconds.
    seconds: f64,
    /// The plan's steps in order.
    steps: Vec<Line>,
}

/// One step.
#[derive(Debug, Serialize)]
struct Line {
    /// The position in the plan.
    step: usize,
    /// `forward` or `relevance`.
    phase: &'static str,
    /// The layer that it serves; null for the start of relevance.
    layer: Option<String>,
    /// What it computes.
    work: String,
    /// Its time.
    seconds: f64,
    /// Floating-point operations of its products.
    operations: u64,
    /// Bytes that it reads and writes.
    bytes: u64,
    /// The least time that the peaks allow, over its own; above 1 where caches serve what the peak read from memory.
    of_roofline: f64,
}

/// Profiles every contender, each with one batch.
///
/// # Errors
/// If an explanation fails, or Ctrl-C came.
pub fn profile(
    model: &ModelArguments,
    contenders: &[Contender],
    samples: &Samples,
    batch: usize,
    repeats: Option<usize>,
) -> Result<Vec<Profile>> {
    let values = samples.batch(batch)?;
    let inputs: Vec<Input<'_>> = values.iter().map(Values::input).collect();
    let of_contender = |contender: &Contender| {
        let repeats = repeats.unwrap_or(REPEATS);
        let seconds = fastest(&contender.explainer, &inputs, repeats)?;
        let peak = Peak::measure(contender)?;
        let plan = contender.explainer.plan(&Request::new(Targets::ArgMax))?;
        let line = |(position, (step, &seconds)): (usize, (&Step, &f64))| {
            Line::new(&contender.explainer, &plan, (position, step), batch, seconds, &peak)
        };
        Ok(Profile {
            model: model.path.display().to_string(),
            composite: model.composite_name(),
            backend: contender.explainer.backend().to_string(),
            adapter: contender.adapter.clone(),
            batch,
            repeats,
            seconds: seconds.iter().sum(),
            steps: plan.steps.iter().zip(&seconds).enumerate().map(line).collect(),
            peak,
        })
    };
    contenders.iter().map(of_contender).collect()
}

/// The fastest time of each step among some explanations, after one that warms up.
///
/// # Errors
/// [`ErrorKind::Unsupported`] if the backend cannot time steps.
pub fn fastest(explainer: &Explainer, inputs: &[Input<'_>], repeats: usize) -> Result<Vec<f64>> {
    let mut fastest: Vec<f64> = Vec::new();
    for repeat in 0..=repeats {
        interrupt::check()?;
        let steps = explainer.explain(inputs, &Targets::ArgMax)?.run.steps;
        match repeat {
            0 | 1 => fastest = steps,
            _ => fastest.iter_mut().zip(steps).for_each(|(fastest, step)| *fastest = fastest.min(step)),
        }
    }
    if fastest.is_empty() {
        let message = format!("{} {} cannot time its steps", explainer.backend(), explainer.adapter());
        return Err(Error::new(ErrorKind::Unsupported, message)
            .help("profile the CPU, or an adapter that `relprop devices` says has timestamps"));
    }
    Ok(fastest)
}

impl Line {
    fn new(
        explainer: &Explainer,
        plan: &Plan,
        (position, step): (usize, &Step),
        batch: usize,
        seconds: f64,
        peak: &Peak,
    ) -> Self {
        let network = explainer.network();
        let cost = plan.step_cost(network, step, batch);
        Line {
            step: position,
            phase: if position < plan.forward { "forward" } else { "relevance" },
            layer: step.layer.map(|layer| network.layer(layer).name.clone()),
            work: plan.describe_step(network, step),
            seconds,
            operations: cost.operations,
            bytes: cost.bytes(),
            of_roofline: peak.least_seconds(cost.operations, cost.bytes()) / seconds,
        }
    }
}

impl Profile {
    /// The profile as a table, with a line for all products and one for the rest.
    pub fn text(&self) -> String {
        let head = ["step", "ms", "share", "GFLOP/s", "GB/s", "of roofline", "work"];
        let rate = |count: u64, seconds: f64| match count {
            0 => "–".to_owned(),
            _ => format!("{:.1}", count as f64 / seconds / 1e9),
        };
        let row = |name: String, seconds: f64, operations: u64, bytes: u64, share: f64, work: &str| {
            vec![
                name,
                format!("{:.3}", seconds * 1e3),
                format!("{:.1} %", 100.0 * seconds / self.seconds),
                rate(operations, seconds),
                rate(bytes, seconds),
                format!("{share:.2}"),
                work.to_owned(),
            ]
        };
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(self.steps.iter().map(|line| {
            row(line.step.to_string(), line.seconds, line.operations, line.bytes, line.of_roofline, &line.work)
        }));
        for (name, phase, is_product) in [
            ("all products forward", "forward", true),
            ("all else forward", "forward", false),
            ("all products of relevance", "relevance", true),
            ("all else of relevance", "relevance", false),
        ] {
            let lines = || self.steps.iter().filter(|line| line.phase == phase && (line.operations > 0) == is_product);
            let seconds: f64 = lines().map(|line| line.seconds).sum();
            let least: f64 = lines().map(|line| line.of_roofline * line.seconds).sum();
            let (operations, bytes) = (lines().map(|line| line.operations).sum(), lines().map(|line| line.bytes).sum());
            if seconds > 0.0 {
                rows.push(row(String::new(), seconds, operations, bytes, least / seconds, name));
            }
        }
        format!(
            "{}, {} on {} {}, batch {}: {:.1} ms in steps, each step's fastest of {}\n\
             At most {:.1} GFLOP/s (products of a dense layer) and {:.1} GB/s (elements scaled), measured in the same run.\n\n{}",
            self.model,
            self.composite,
            self.backend,
            self.adapter,
            self.batch,
            self.seconds * 1e3,
            self.repeats,
            self.peak.gflop_per_s,
            self.peak.gb_per_s,
            table(&rows),
        )
    }
}

/// An event of Chrome's trace format: <https://ui.perfetto.dev> and chrome://tracing show it.
#[derive(Debug, Serialize)]
struct Event<'a> {
    name: &'a str,
    cat: &'static str,
    /// A complete event: begin and duration.
    ph: &'static str,
    /// Microseconds from the first step on.
    ts: f64,
    dur: f64,
    pid: usize,
    tid: &'a str,
    args: &'a Line,
}

/// Writes the steps of profiles, one after another as they run, in Chrome's trace format.
///
/// # Errors
/// If the file cannot be written.
pub fn write_trace(path: &Path, profiles: &[Profile]) -> Result<()> {
    let events: Vec<Event<'_>> = profiles
        .iter()
        .enumerate()
        .flat_map(|(pid, profile)| {
            let mut at = 0.0;
            profile.steps.iter().map(move |line| {
                let began = at;
                at += line.seconds * 1e6;
                let name = line.layer.as_deref().unwrap_or("start");
                let tid = profile.adapter.as_str();
                Event { name, cat: line.phase, ph: "X", ts: began, dur: line.seconds * 1e6, pid, tid, args: line }
            })
        })
        .collect();
    write_json(path, &events)
}
