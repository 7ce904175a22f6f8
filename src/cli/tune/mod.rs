//! `relprop tune`: which kernels are the fastest for a model on a device, timed once and kept.

mod record;

use std::path::Path;

use clap::Args;
use relprop::gpu::{Clock, Gpu, Tuning};
use relprop::wgpu::DeviceType;
use relprop::{Backend, Error, ErrorKind, Explainer, Input, Options, Request, Result};

use super::bench::samples::Samples;
use super::console::{Console, to_json, to_stdout};
use super::engine::{BackendChoice, positive};
use super::environment::CACHE;
use super::interrupt;
use super::model::{ModelArguments, usage};
use super::source::Values;
use super::target::{TargetChoice, resolve_targets};

use record::Record;

const AFTER_HELP: &str = "\
Examples:
  relprop tune model.onnx
      Time what computes the model's products on the best GPU, and keep what is the fastest.
  relprop tune model.onnx --batch-size 1
      For explanations of single samples: other kernels are fast there. Choices for several batch sizes add up.
  relprop tune model.onnx --composite epsilon-gamma-box --target top:3 --backend gpu:nvidia
      For other rules, several targets a sample, a GPU by its name.
  relprop tune model.onnx --backend gpu:llvmpipe --software
      A software adapter, which is only tuned when asked to.";

/// Time the kernels that may compute a model's products on a GPU, and keep the fastest for later runs.
///
/// A product runs on one of a few kernels, which cut it into workgroups of different shapes. Rules of thumb choose one by the product's
/// shape; which is the fastest on this GPU, timing tells. For each distinct shape in the model's plan up to six kernels take turns, after
/// each was compared with the one that the rules take: a kernel whose numbers differ by a bit is left out, so that tuning
/// changes how long an explanation takes and nothing of what it gives. Shapes are those of a batch size, rounded up to a power of two, and of a number of
/// targets: tune what you run.
///
/// Choices are kept in the folder of RELPROP_CACHE, or the system's for what may be made again, in a file for this adapter, driver and
/// version of the kernels. Every later run finds them there; delete the file to be rid of them. Nothing is ever tuned
/// but by this command.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,

    /// The targets to tune for: argmax (unless told), an index, several as i,j,…, top:K or all; their number counts
    #[arg(long, value_name = "WHICH", default_value = "argmax", hide_default_value = true)]
    target: TargetChoice,

    /// The GPU to tune: `auto` (unless told) or gpu for the best real one, gpu:NAME for the adapter with NAME in its name
    #[arg(long, value_name = "NAME", default_value = "auto", hide_default_value = true, help_heading = "Computing")]
    backend: BackendChoice,

    /// Samples computed together; as `explain` chooses them for large inputs unless told
    #[arg(long, value_name = "N", value_parser = positive, help_heading = "Computing")]
    batch_size: Option<usize>,

    /// Tune a software adapter too: its choices help nobody who has a GPU
    #[arg(long, help_heading = "Computing")]
    software: bool,

    /// Time whole submissions by the host's clock, where the GPU's timestamps are not to be trusted
    #[arg(long, help_heading = "Computing")]
    host_clock: bool,

    /// Print one JSON object instead of the table
    #[arg(long, help_heading = "Results")]
    json: bool,

    /// Say nothing on stderr but errors
    #[arg(long, help_heading = "Options")]
    quiet: bool,
}

/// Times, keeps and prints.
///
/// # Errors
/// If the model cannot be read, there is no GPU to tune or no folder to keep choices in, or the device fails.
pub fn run(arguments: &Arguments) -> Result<()> {
    let console = Console::new(arguments.quiet);
    let mut options = arguments.backend.options()?;
    check_backend(&arguments.backend)?;
    check_folder(options.device.cache.as_deref())?;
    options.backend = Backend::Gpu;
    options.batch_size = arguments.batch_size;
    let model = arguments.model.load()?;
    let explainer = start(&model, options)?;
    let gpu = explainer.gpu().ok_or_else(no_device)?;
    check_adapter(gpu, arguments.software)?;
    let tuning = tune(arguments, &explainer, console)?;
    if let Some(path) = &tuning.path {
        console.done(&format!("{} choices are kept in {}", tuning.products.len(), path.display()));
    }
    if tuning.clock == Clock::Host && !arguments.host_clock {
        console.note("the adapter has no timestamps that serve: submissions were timed by the host's clock");
    }
    let record = Record::new(&arguments.model, gpu, &tuning);
    if arguments.json { to_stdout(&to_json(&record)?) } else { to_stdout(&record.text()) }
}

fn start(model: &super::model::Model, options: Options) -> Result<Explainer> {
    Explainer::with_options(model.network.clone(), &model.composite, options)
}

fn tune(arguments: &Arguments, explainer: &Explainer, console: Console) -> Result<Tuning> {
    if let TargetChoice::File(path) = &arguments.target {
        return Err(usage(
            format!("{}: kernels do not depend on the targets of each sample", path.display()),
            "leave --target out: one target a sample is what it tunes for",
        ));
    }
    let of_samples = |samples| resolve_targets(&arguments.target, samples, explainer.outputs());
    let samples = explainer.plan(&Request::new(of_samples(1)?))?.chunk;
    let request = Request::new(of_samples(samples)?);
    let values = Samples::random(explainer.network()).batch(samples)?;
    let inputs: Vec<Input<'_>> = values.iter().map(Values::input).collect();
    let clock = if arguments.host_clock { Clock::Host } else { Clock::Device };
    let activity = console.activity();
    let mut heed = |done: usize, shapes: usize| {
        activity.set_message(format!("{samples} samples: shape {} of {shapes}", done + 1));
        activity.tick();
        interrupt::check()
    };
    let tuning = explainer.tune(&inputs, &request, clock, &mut heed);
    activity.finish_and_clear();
    tuning
}

/// Refuses backends that have no kernels.
fn check_backend(choice: &BackendChoice) -> Result<()> {
    match choice.backend {
        Backend::Cpu | Backend::Reference => Err(usage(
            format!("--backend {choice} has no kernels to choose from"),
            "tune a GPU: --backend gpu, or gpu:NAME with a part of a name that `relprop devices` lists",
        )),
        _ => Ok(()),
    }
}

/// Refuses to time what could not be kept.
fn check_folder(folder: Option<&Path>) -> Result<()> {
    let help = || format!("name one that can be written to, here and in later runs: {CACHE}=FOLDER relprop tune …");
    let Some(folder) = folder else {
        let message = "there is no folder to keep choices in, for the system names none";
        return Err(Error::new(ErrorKind::Io, message).help(help()));
    };
    std::fs::create_dir_all(folder).map_err(|error| {
        let message = format!("{}: the folder for choices cannot be made: {error}", folder.display());
        Error::new(ErrorKind::Io, message).help(help()).caused_by(error)
    })
}

/// Refuses a program that acts as a GPU, unless told.
fn check_adapter(gpu: &Gpu, software: bool) -> Result<()> {
    if gpu.info().device_type == DeviceType::Cpu && !software {
        return Err(usage(
            format!("{} is a software adapter: what is fastest on it says nothing of any GPU", gpu.name()),
            "tune a real one (`relprop devices` lists them), or give --software to tune this one all the same",
        ));
    }
    Ok(())
}

fn no_device() -> Error {
    Error::new(ErrorKind::Device, "no device computes").help("name one with --backend gpu:NAME")
}
