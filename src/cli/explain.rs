//! `relprop explain`: the relevance of every input value.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use relprop::Condition;
use relprop::Result;
use relprop::output::Precision;

use super::attributor::AttributorArguments;
use super::console::{Console, rate_of, thousands};
use super::engine::{EngineArguments, positive};
use super::heatmap::HeatmapArguments;
use super::job::Job;
use super::model::ModelArguments;
use super::pixels::PixelArguments;
use super::target::TargetArguments;

const AFTER_HELP: &str = "\
Examples:
  relprop explain model.onnx digits.npy -o relevance.npy
      The relevance of every input value for each sample's strongest class.
  relprop explain model.onnx digits.npy -o relevance.npy --target top:3 --samples samples.jsonl
      The three strongest classes of each sample; their scores go to samples.jsonl.
  relprop explain model.onnx cat.png dog.png -o relevance.npy --resize 256 --crop 224 \\
          --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --heatmap heat.png
      Pictures, prepared as PyTorch's models expect them, and a drawing of the result.
  relprop explain model.onnx two_inputs.npz -o relevance.npz --keep /fc1/Gemm
      A model of several inputs; also the relevance of an inner layer.
  relprop explain model.onnx cat.png -o relevance.npy --attributor integrated-gradients --steps 50 --baseline black
  relprop explain model.onnx cat.png -o relevance.npy --attributor occlusion --window 16 --stride 8
      Other methods than LRP: the gradient along a path from black, and what a covered window costs.
  relprop explain model.onnx digits.npy -o relevance.npy --report report.json
      Also what each layer did with its relevance: what bias and stabiliser absorbed.";

/// Explain samples: write the relevance of every input value for the scores of chosen outputs.
///
/// INPUT is one .npy file with samples along its first axis, one .npz or .safetensors file with an array for each input of
/// the model, or any number of .png and .jpg pictures. OUT has the shape of the input, as float32; with several targets a
/// sample it has an axis for them after that of the samples.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Arguments {
    #[command(flatten)]
    pub model: ModelArguments,

    /// The samples: .npy, .npz, .safetensors, IDX, or pictures
    #[arg(value_name = "INPUT", required = true)]
    pub inputs: Vec<PathBuf>,

    /// Where relevance goes: .npy, or .npz or .safetensors for several arrays
    #[arg(short, long, value_name = "OUT.npy", help_heading = "Results")]
    pub output: PathBuf,

    /// Sum relevance over the channels of each pixel: a smaller result
    #[arg(long, help_heading = "Results")]
    pub sum_channels: bool,

    /// Sum relevance over squares of N × N pixels: a smaller result, whose sum stays
    ///
    /// Squares at the right and lower border have the pixels that are left. Kept layers stay as they are.
    #[arg(long, value_name = "N", value_parser = positive, help_heading = "Results")]
    pub pool: Option<usize>,

    /// The element type of the results; f32 unless told. f16 is half the size, 3 digits, and ends at 65504
    #[arg(long, value_name = "TYPE", default_value = "f32", hide_default_value = true, help_heading = "Results")]
    pub dtype: ElementName,

    /// Also give the relevance of this layer's output or value, into .npz or .safetensors; repeat it for several
    #[arg(long, value_name = "NAME", help_heading = "Results")]
    pub keep: Vec<String>,

    /// Write a line of JSON a sample and target: index, source, target, score, relevance_sum
    #[arg(long, value_name = "OUT.jsonl", help_heading = "Results")]
    pub samples: Option<PathBuf>,

    /// Write what became of the relevance, in all and layer by layer, as JSON
    ///
    /// `dispatches` in it is how many kernels a GPU ran in all. On the CPU it is the number of the plan's steps, which
    /// `relprop inspect` lists: all of them are taken for every chunk of samples that is computed together, so there it is
    /// no count of the whole run. 0: the reference, which has no plan.
    #[arg(long, value_name = "OUT.json", help_heading = "Results")]
    pub report: Option<PathBuf>,

    #[command(flatten)]
    pub target: TargetArguments,

    /// Let relevance pass only these channels of a layer or value; `;` stands between several layers. Given once it is for
    /// every target, given once for each target each has its own: --target 3,3 --condition conv2=0 --condition conv2=5
    #[arg(long, value_name = "NAME=1,2,…", help_heading = "Targets")]
    pub condition: Vec<Condition>,

    #[command(flatten)]
    pub attributor: AttributorArguments,

    #[command(flatten)]
    pub pixels: PixelArguments,

    #[command(flatten)]
    pub heatmap: HeatmapArguments,

    #[command(flatten)]
    pub engine: EngineArguments,

    /// Go on with NaN and infinity in the input instead of refusing them
    #[arg(long, help_heading = "Options")]
    pub allow_nonfinite: bool,

    /// Say nothing but errors
    #[arg(long, help_heading = "Options")]
    pub quiet: bool,
}

/// Element types of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ElementName {
    /// float32.
    F32,
    /// float16.
    F16,
}

impl ElementName {
    /// The writers' name of it.
    pub fn precision(self) -> Precision {
        match self {
            ElementName::F32 => Precision::F32,
            ElementName::F16 => Precision::F16,
        }
    }
}

/// Explains the samples and says what was done.
///
/// # Errors
/// If anything does not fit, or a file cannot be read or written.
pub fn run(mut arguments: Arguments) -> Result<()> {
    arguments.attributor.choose_composite(&mut arguments.model)?;
    let console = Console::new(arguments.quiet);
    let job = Job::prepare(&arguments, console)?;
    let adapter = job.adapter();
    let totals = job.run(console)?;
    let targets = if totals.targets == 1 { String::new() } else { format!(" × {} targets", totals.targets) };
    console.done(&format!(
        "explained {} samples{targets} in {:.2} s on {}, {} samples/s; relevance is in {}",
        thousands(totals.samples),
        totals.seconds,
        adapter,
        rate_of(totals.samples_per_second),
        arguments.output.display()
    ));
    Ok(())
}
