//! `relprop bench`: how fast each backend explains a model, after a check that all of them do.

mod chart;
mod contender;
mod memory;
mod peak;
mod profile;
mod record;
pub mod samples;
mod timing;

use std::path::PathBuf;

use clap::Args;
use relprop::output::check_chart_path;
use relprop::{ErrorKind, Result};

use super::backends::candidates;
use super::console::{Console, to_json, to_stdout};
use super::engine::{BackendChoice, positive};
use super::interrupt;
use super::model::{Model, ModelArguments, usage};
use super::pixels::PixelArguments;
use super::results::try_create;

use contender::{Contender, Judge};
use record::Record;
use samples::Samples;
use timing::{Sizes, measure};

const AFTER_HELP: &str = "\
Examples:
  relprop bench model.onnx
      Every backend that is there, at batches of 1 to 1024 samples.
  relprop bench model.onnx --backend gpu,cpu --batch-size 256,1024,4096 --plot speed.svg
      Two backends at three batch sizes, drawn too.
  relprop bench model.onnx digits.npy --backend gpu --batch-size 512 --json
      One measurement on samples of your own, for a script.
  relprop bench model.onnx --backend cpu --batch-size 8 --profile --trace trace.json
      Where an explanation's time goes, step by step; open the trace at https://ui.perfetto.dev.";

/// Time each backend: samples a second forward and explained, over batch sizes.
///
/// First it checks: each backend explains a few samples, and where its relevance is not that of the float64 reference
/// within what float32 can do, nothing is timed and the program fails (see --check). Then backends take turns, forward and
/// explanation in turn, and the median of the repeats counts. An explanation holds everything from samples in memory to
/// relevance in memory, the way to a device and back included; `upload`, `compute` and `download` are the parts of it
/// that a device spent so, which overlap. Inputs are random, always the same, unless files are given.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,

    /// Samples to take in place of random ones, repeated where a batch needs more: any files that `explain` takes
    #[arg(value_name = "INPUT")]
    inputs: Vec<PathBuf>,

    /// What computes: auto, gpu, gpu:NAME, cpu or reference; several separated by commas, or repeat it
    ///
    /// Unless told, it is every backend that is there: the CPU and each adapter that `relprop devices` lists.
    #[arg(long, value_name = "NAME,…", value_parser = backends, help_heading = "Computing")]
    backend: Vec<Vec<BackendChoice>>,

    /// How many samples a call explains, several separated by commas; 1, 4, 16, … 1024, as far as it stays quick, unless told
    #[arg(long, value_name = "N,…", value_parser = positive, value_delimiter = ',', help_heading = "Computing")]
    batch_size: Vec<usize>,

    /// Check relevance against the float64 reference even where that takes minutes
    ///
    /// Unless told, it is checked on up to 16 samples, as many as the reference explains in seconds, and not at all
    /// where one sample takes longer: most networks for photographs.
    #[arg(long, help_heading = "Computing")]
    check: bool,

    /// How often each batch is timed; 5 to 50 times, about a second, unless told
    #[arg(long, value_name = "N", value_parser = positive, help_heading = "Computing")]
    repeats: Option<usize>,

    /// Threads of the CPU backend; one a core unless told
    #[arg(long, value_name = "N", value_parser = positive, help_heading = "Computing")]
    threads: Option<usize>,

    #[command(flatten)]
    pixels: PixelArguments,

    /// Print one JSON object instead of the table
    ///
    /// It has model, composite, backend, adapter, batch, repeats, explain_s, forward_s, samples_per_s, gflop,
    /// gflop_per_s, peak_memory_bytes and device_memory_bytes. Where several backends or batch sizes were timed, these are
    /// the first backend's at the largest of its batches, and `runs` holds all of them.
    #[arg(long, help_heading = "Results")]
    json: bool,

    /// Draw samples a second over batch sizes into this .svg or .png file
    #[arg(long, value_name = "OUT.svg", help_heading = "Results")]
    plot: Option<PathBuf>,

    /// Tell where an explanation's time goes: each step's time, GFLOP/s, GB/s, and how near the backend's best it is
    ///
    /// The best is measured in the same run, by a product of a dense layer and by scaling a large array. `of roofline` is the
    /// least time that a step's operations and bytes take at these rates over the step's own; what caches serve can be above
    /// 1, and so can convolutions of 3 × 3 windows on the CPU, which take fewer operations than they are counted for. Steps
    /// that the CPU runs together, part by part, have equal shares of their time. Of the batch sizes the largest is profiled.
    /// --json prints a list with an object for each backend.
    #[arg(long, conflicts_with = "plot", help_heading = "Results")]
    profile: bool,

    /// With --profile, write the steps into this file in Chrome's trace format, which Perfetto shows
    #[arg(long, value_name = "OUT.json", requires = "profile", help_heading = "Results")]
    trace: Option<PathBuf>,

    /// Say nothing on stderr but errors
    #[arg(long, help_heading = "Options")]
    quiet: bool,
}

/// Checks, times and prints.
///
/// # Errors
/// If the model or an input cannot be read, a backend cannot be started or is wrong, or a file cannot be written.
pub fn run(arguments: &Arguments) -> Result<()> {
    let console = Console::new(arguments.quiet);
    if let Some(path) = &arguments.plot {
        check_chart_path(path)?;
        try_create(path)?;
    }
    if let Some(path) = &arguments.trace {
        try_create(path)?;
    }
    let model = arguments.model.load()?;
    let samples = Samples::new(&arguments.inputs, &model.network, &arguments.pixels, console)?;
    let contenders = contenders(arguments, &model, &samples, console)?;
    let sizes = Sizes::new(&arguments.batch_size, &contenders[0].explainer)?;
    if arguments.profile {
        return profiled(arguments, &contenders, &samples, sizes.largest());
    }
    let measured = measure(&contenders, &samples, &sizes, arguments.repeats, console)?;
    let records: Vec<Record> =
        measured.iter().map(|timing| Record::new(&arguments.model, &contenders, timing)).collect();
    if let Some(path) = &arguments.plot {
        chart::draw(path, &records)?;
    }
    if arguments.json {
        to_stdout(&to_json(&record::Document::new(&records)?)?)
    } else {
        to_stdout(&record::text(&records))
    }
}

fn profiled(arguments: &Arguments, contenders: &[Contender], samples: &Samples, batch: usize) -> Result<()> {
    let profiles = profile::profile(&arguments.model, contenders, samples, batch, arguments.repeats)?;
    if let Some(path) = &arguments.trace {
        profile::write_trace(path, &profiles)?;
    }
    if arguments.json {
        return to_stdout(&to_json(&profiles)?);
    }
    let texts: Vec<String> = profiles.iter().map(profile::Profile::text).collect();
    to_stdout(&texts.join("\n"))
}

/// The backends that take part, started and checked. One that nobody named may fail to run and is left out; a wrong one
/// ends everything.
fn contenders(arguments: &Arguments, model: &Model, samples: &Samples, console: Console) -> Result<Vec<Contender>> {
    let named: Vec<BackendChoice> = arguments.backend.iter().flatten().cloned().collect();
    let is_named = !named.is_empty();
    let choices = if is_named { named } else { candidates()?.into_iter().map(|candidate| candidate.choice).collect() };
    let judge = Judge::new(model, samples, arguments.check)?;
    if judge.is_none() {
        console.note("nothing is checked: the float64 reference takes minutes for this model, and --check makes it");
    }
    let mut contenders: Vec<Contender> = Vec::new();
    for choice in choices {
        interrupt::check()?;
        let checked = Contender::start(&choice, model, arguments.threads, arguments.profile).and_then(|contender| {
            let words = judge.as_ref().map(|judge| judge.check(&contender)).transpose()?;
            Ok((contender, words))
        });
        match checked {
            Ok((contender, _)) if contenders.iter().any(|known| known.name() == contender.name()) => {}
            Ok((contender, words)) => {
                words.iter().for_each(|words| console.done(words));
                contenders.push(contender);
            }
            Err(error) if is_named || error.kind() == ErrorKind::Data => return Err(error),
            Err(error) => console.note(&format!("{choice} is left out: {error}")),
        }
    }
    if contenders.is_empty() {
        return Err(usage("no backend runs this model", "name one with --backend to see why"));
    }
    Ok(contenders)
}

/// Backends separated by commas; a comma that no backend follows belongs to the name of an adapter.
fn backends(text: &str) -> Result<Vec<BackendChoice>> {
    let mut parts: Vec<String> = Vec::new();
    for part in text.split(',') {
        match parts.last_mut() {
            Some(last) if last.starts_with("gpu:") && part.trim().parse::<BackendChoice>().is_err() => {
                last.push(',');
                last.push_str(part);
            }
            _ => parts.push(part.trim().to_owned()),
        }
    }
    parts.iter().map(|part| part.parse()).collect()
}

/// The file's own name of a path, for titles and messages.
fn file_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_are_separated_by_commas_and_adapters_may_have_some() {
        let written = |text: &str| backends(text).unwrap().iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(written("cpu, reference"), ["cpu", "reference"]);
        assert!(backends("cpu,,gpu").is_err());
        assert!(backends("cpu,warp").is_err());
    }

    #[cfg(feature = "gpu")]
    #[test]
    fn the_name_of_an_adapter_may_have_commas() {
        let written = backends("gpu:llvmpipe (LLVM 19.1, 256 bits),cpu").unwrap();
        let written: Vec<String> = written.iter().map(ToString::to_string).collect();
        assert_eq!(written, ["gpu:llvmpipe (LLVM 19.1, 256 bits)", "cpu"]);
    }
}
