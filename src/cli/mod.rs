//! The program: arguments → model and inputs → explainer → files. It sees the crate's public API only.

mod adapters;
mod agreement;
mod attributor;
mod backends;
mod bench;
mod console;
mod demo;
mod demo_backends;
mod demo_page;
mod demo_presets;
mod devices;
mod engine;
#[cfg(feature = "gpu")]
mod environment;
mod evaluate;
mod explain;
mod fill;
mod fit;
mod heatmap;
mod inspect;
mod interrupt;
mod job;
mod model;
mod pixels;
mod report;
mod results;
mod source;
mod table;
mod target;
#[cfg(feature = "gpu")]
mod tune;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use relprop::{ErrorKind, Result};

const AFTER_HELP: &str = "\
Examples:
  relprop demo
      Explain 10,000 images that come with the program, and draw some of them.
  relprop explain model.onnx digits.npy -o relevance.npy
      The relevance of every input value for each sample's strongest class.
  relprop explain model.onnx cat.png dog.png -o relevance.npy --heatmap heat.png
      Pictures in, relevance and a drawing of it out.
  relprop evaluate model.onnx digits.npy --composite epsilon,gamma --plot curves.svg
      Which of two explains better: how the score falls where what they hold relevant goes first.
  relprop inspect model.onnx
      The layers, the rule each gets, and what an explanation costs.
  relprop bench model.onnx
      How fast each backend explains it.
  relprop devices
      The GPUs that are there, and what `auto` takes.
  relprop tune model.onnx
      Which kernels are the fastest for it on this GPU, for all later runs.";

/// Shows which input values a trained network's score came from, by Layer-wise Relevance Propagation (LRP).
///
/// It reads an ONNX model and sends the score of a class back through the network to every input value. Results go to
/// the files you name and to stdout, words to stderr. It exits with 0 when done, 1 when something failed, 2 when it was
/// called wrongly.
#[derive(Debug, Parser)]
#[command(name = "relprop", version, after_help = AFTER_HELP, max_term_width = 100)]
pub struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Explain(Box<explain::Arguments>),
    Evaluate(Box<evaluate::Arguments>),
    Inspect(inspect::Arguments),
    Bench(Box<bench::Arguments>),
    Devices(devices::Arguments),
    #[cfg(feature = "gpu")]
    Tune(Box<tune::Arguments>),
    Demo(demo::Arguments),
}

impl Program {
    /// Does what the arguments ask for and gives the program's exit status.
    pub fn run(self) -> ExitCode {
        match self.dispatch() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                console::report_error(&error);
                ExitCode::from(if error.kind() == ErrorKind::Argument { 2 } else { 1 })
            }
        }
    }

    fn dispatch(self) -> Result<()> {
        interrupt::listen();
        match self.command {
            Command::Explain(arguments) => explain::run(*arguments),
            Command::Evaluate(arguments) => evaluate::run(&arguments),
            Command::Inspect(arguments) => inspect::run(&arguments),
            Command::Bench(arguments) => bench::run(&arguments),
            Command::Devices(arguments) => devices::run(&arguments),
            #[cfg(feature = "gpu")]
            Command::Tune(arguments) => tune::run(&arguments),
            Command::Demo(arguments) => demo::run(&arguments),
        }?;
        interrupt::check_done()
    }
}
