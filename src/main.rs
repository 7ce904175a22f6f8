//! The `relprop` program: see `relprop --help`.

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    cli::Program::parse().run()
}
