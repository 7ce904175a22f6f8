//! `relprop evaluate`: which explanation is better, by perturbing what it holds relevant and watching the score.

mod chart;
mod job;
mod perturb;
mod ranking;
mod record;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use relprop::Result;
use relprop::evaluation::Score;
use relprop::output::check_chart_path;

use super::attributor::Extents;
use super::console::{Console, to_json, to_stdout};
use super::engine::{EngineArguments, positive};
use super::job::check_distinct;
use super::model::{CompositeChoice, RuleArguments, composite_choice, usage};
use super::pixels::PixelArguments;
use super::results::try_create;
use super::target::TargetArguments;

use job::Job;
use perturb::PerturbChoice;

const AFTER_HELP: &str = "\
Examples:
  relprop evaluate model.onnx digits.npy
      The default composite: how fast the score falls where the most relevant pixels go first.
  relprop evaluate model.onnx digits.npy --composite epsilon,gamma,gradient-x-input --plot curves.svg
      Which of three explains better: one curve each, in a table and drawn.
  relprop evaluate model.onnx digits.npy --relevance mine.npy --relevance theirs.npy --perturb mean
      Relevance that is there already, from any tool.
  relprop evaluate model.onnx cat.png --region 9 --regions-per-step 1 --steps 100 --perturb uniform
      As Samek et al. 2017 perturb ImageNet: the first 100 of the regions of 9 × 9 pixels, by noise.";

/// Evaluate explanations: perturb regions of each sample in the order of their relevance and watch the target's score.
///
/// Where relevance is right, the score falls at once when the most relevant regions go first (MoRF), and stays up when the
/// least relevant do (LeRF). AOPC is the mean fall over all steps: the more of MoRF and the less of LeRF the better. ABPC,
/// the area between the two curves, is their difference: the explanation with the greatest is the best. `random` is an order
/// by chance, which both are compared with (Samek et al. 2017, arXiv:1509.06321; pixel flipping in Quantus).
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Arguments {
    /// The model, as ONNX
    #[arg(value_name = "MODEL.onnx")]
    pub path: PathBuf,

    /// The samples: .npy, .npz, .safetensors, IDX, or pictures
    #[arg(value_name = "INPUT", required = true)]
    pub inputs: Vec<PathBuf>,

    /// The composites to evaluate, several separated by commas: presets or FILE.toml; `epsilon-plus` unless told
    ///
    /// They are those of `relprop explain`. --epsilon and its kin go to each composite that has them.
    #[arg(
        long,
        value_name = "NAME|FILE.toml,…",
        value_parser = composite_choice,
        value_delimiter = ',',
        help_heading = "Rules"
    )]
    pub composite: Vec<CompositeChoice>,

    /// Evaluate the relevance of this file in place of a composite's; repeat it for several
    ///
    /// It holds one value for each of the input's, as `relprop explain` writes it, or one for each pixel.
    #[arg(long, value_name = "R.npy", conflicts_with = "composite", help_heading = "Rules")]
    pub relevance: Vec<PathBuf>,

    #[command(flatten)]
    pub rules: RuleArguments,

    /// What goes first: morf, lerf or random; several separated by commas, all three unless told
    #[arg(long, value_name = "ORDER,…", value_delimiter = ',', help_heading = "Perturbation")]
    pub order: Vec<OrderName>,

    /// The size of a region in pixels: one number, or rows,columns; 1 unless told. All channels of a pixel go together
    #[arg(long, value_name = "N|H,W", default_value = "1", hide_default_value = true, help_heading = "Perturbation")]
    pub region: Extents,

    /// Regions perturbed in a step; as many that 32 steps, or --steps, perturb all of them unless told
    ///
    /// With --region 1 it is `features_in_step` of Quantus.
    #[arg(long, value_name = "N", value_parser = positive, help_heading = "Perturbation")]
    pub regions_per_step: Option<usize>,

    /// Stop after N steps; when everything is perturbed unless told
    #[arg(long, value_name = "N", value_parser = positive, help_heading = "Perturbation")]
    pub steps: Option<usize>,

    /// What regions become: black, white, zero, a number, one a channel, FILE.npy, mean, uniform, blur or blur:RADIUS
    ///
    /// black (pictures and uint8 arrays, unless told) and white are pixels 0 and 255, prepared as the others are; zero (all
    /// other arrays, unless told) and numbers are as the model reads them. mean is that of the sample, uniform noise between
    /// its least and greatest value, blur the mean of the pixels around. It is `perturb_baseline` of Quantus, whose black and
    /// white are the least and greatest value of the sample.
    #[arg(long, value_name = "HOW", allow_hyphen_values = true, help_heading = "Perturbation")]
    pub perturb: Option<PerturbChoice>,

    /// What random orders and noise are drawn from; 0 unless told. The same seed gives the same numbers
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true, help_heading = "Perturbation")]
    pub seed: u64,

    /// Order regions by the size of relevance, whatever its sign: `abs` of Quantus
    #[arg(long, help_heading = "Perturbation")]
    pub abs: bool,

    /// What is watched: the target's logit (unless told), or its probability
    #[arg(
        long,
        value_name = "WHICH",
        default_value = "logit",
        hide_default_value = true,
        help_heading = "Perturbation"
    )]
    pub score: ScoreName,

    #[command(flatten)]
    pub target: TargetArguments,

    #[command(flatten)]
    pub pixels: PixelArguments,

    #[command(flatten)]
    pub engine: EngineArguments,

    /// Print one JSON object instead of the table
    ///
    /// It has model, samples, target, score, region, regions, regions_per_step, steps, perturbation, seed, backend, adapter,
    /// seconds, and `explanations`: each with name, aopc, auc and curves (the means by order) and abpc.
    #[arg(long, help_heading = "Results")]
    pub json: bool,

    /// Write a line of JSON a sample and explanation: index, source, target, score, explanation, aopc, abpc, curves
    #[arg(long, value_name = "OUT.jsonl", help_heading = "Results")]
    pub samples: Option<PathBuf>,

    /// Draw the mean curves into this .svg or .png file
    #[arg(long, value_name = "OUT.svg", help_heading = "Results")]
    pub plot: Option<PathBuf>,

    /// Say nothing on stderr but errors
    #[arg(long, help_heading = "Options")]
    pub quiet: bool,
}

/// Orders by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum OrderName {
    /// The most relevant first.
    Morf,
    /// The least relevant first.
    Lerf,
    /// By chance.
    Random,
}

impl OrderName {
    /// As `--order` takes it.
    pub fn name(self) -> &'static str {
        match self {
            OrderName::Morf => "morf",
            OrderName::Lerf => "lerf",
            OrderName::Random => "random",
        }
    }

    /// As the field writes it.
    pub fn title(self) -> &'static str {
        match self {
            OrderName::Morf => "MoRF",
            OrderName::Lerf => "LeRF",
            OrderName::Random => "random",
        }
    }
}

/// Scores by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ScoreName {
    /// The logit.
    Logit,
    /// The probability.
    Probability,
}

impl ScoreName {
    /// The library's name of it.
    pub fn score(self) -> Score {
        match self {
            ScoreName::Logit => Score::Logit,
            ScoreName::Probability => Score::Probability,
        }
    }

    /// As `--score` takes it.
    pub fn name(self) -> &'static str {
        match self {
            ScoreName::Logit => "logit",
            ScoreName::Probability => "probability",
        }
    }
}

/// Evaluates and prints.
///
/// # Errors
/// If anything does not fit, or a file cannot be read or written.
pub fn run(arguments: &Arguments) -> Result<()> {
    let console = Console::new(arguments.quiet);
    check(arguments)?;
    if let Some(path) = &arguments.plot {
        check_chart_path(path)?;
        try_create(path)?;
    }
    let evaluation = Job::prepare(arguments, console)?.run(console)?;
    if let Some(path) = &arguments.plot {
        chart::draw(path, &evaluation)?;
    }
    if arguments.json {
        to_stdout(&to_json(&record::Document::new(&evaluation))?)
    } else {
        to_stdout(&record::text(&evaluation))
    }
}

/// Refuses what makes no sense, before any file is read.
fn check(arguments: &Arguments) -> Result<()> {
    let files = arguments.composite.iter().filter_map(|choice| match choice {
        CompositeChoice::File(path) => Some(path),
        CompositeChoice::Preset(_) => None,
    });
    let perturb = arguments.perturb.as_ref().and_then(PerturbChoice::file);
    let read = [&arguments.path].into_iter().chain(&arguments.inputs).chain(files).chain(&arguments.relevance);
    let read = read.chain(arguments.target.files()).chain(perturb).chain(arguments.rules.files());
    check_distinct([arguments.samples.as_deref(), arguments.plot.as_deref()], read)?;
    if arguments.relevance.is_empty() {
        return Ok(());
    }
    if arguments.target.start.is_some() {
        return Err(usage("--start is for composites, and --relevance gives relevance as it is", "leave it out"));
    }
    // No composite: no parameter of one has a use.
    arguments.rules.check_used(&[])
}
