//! Times relprop for `benches/peers`: one process, one command a line on stdin, one answer a line on stdout.
//!
//! `peer_worker MODEL.onnx INPUT.npy COMPOSITE THREADS [BACKEND]` (`gpu:NAME` names the adapter) prints `ready`; then `forward` and `explain [K]`
//! (the arg-max logit, or the K highest) answer seconds, `save PATH ROWS` writes the first rows of the last relevance, `peak` answers bytes (of the
//! process, or on a GPU of weights and buffers there), `adapter` names the GPU that computes or says `none`, `quit` ends.

use std::io::BufRead as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use relprop::canonical::{self, canonicalize};
use relprop::output::{Precision, write_npy};
use relprop::rules::Bounds;
use relprop::{Composite, Explainer, Input, Options, Relevance, Targets, Tensor};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (model, input, composite, threads, backend) = match arguments.as_slice() {
        [model, input, composite, threads] => (model, input, composite, threads, "cpu"),
        [model, input, composite, threads, backend] => (model, input, composite, threads, backend.as_str()),
        _ => return Err("usage: peer_worker MODEL.onnx INPUT.npy COMPOSITE THREADS [BACKEND]".into()),
    };
    let network = canonicalize(&relprop::onnx::load(model)?, &canonical::Options::default())?;
    let (backend, adapter) = backend.split_once(':').unwrap_or((backend, ""));
    let mut options = Options { backend: backend.parse()?, threads: Some(threads.parse()?), ..Options::default() };
    options.device.adapter = (!adapter.is_empty()).then(|| adapter.to_owned());
    // The box rule's bounds, as network_worker.py has them; other rules do not look at them.
    let bound = |value: f32| Arc::new(Tensor::scalar(value));
    let composite = Composite::preset(composite)?.with_input_bounds(Bounds { low: bound(-3.0), high: bound(3.0) });
    let explainer = Explainer::with_options(network, &composite, options)?;
    let samples = relprop::input::read_npy(Path::new(input))?.into_f32();
    println!("ready");

    let mut last: Option<Relevance> = None;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["forward"] => {
                let start = Instant::now();
                explainer.forward(&[Input::from(&samples)])?;
                println!("{}", start.elapsed().as_secs_f64());
            }
            ["explain", targets @ ..] => {
                drop(last.take());
                let targets = match targets {
                    [] => Targets::ArgMax,
                    [top, ..] => Targets::Top(top.parse()?),
                };
                let start = Instant::now();
                last = Some(explainer.explain(&[Input::from(&samples)], &targets)?);
                println!("{}", start.elapsed().as_secs_f64());
            }
            ["save", path, rows] => {
                let relevance = last.as_ref().ok_or("nothing was explained yet")?.input();
                let rows: usize = rows.parse()?;
                let width = relevance.count() / relevance.rows();
                let mut dims = relevance.shape().dims().to_vec();
                dims[0] = rows;
                let first = Tensor::new(dims, relevance.data()[..rows * width].to_vec())?;
                write_npy(Path::new(path), &first, Precision::F32)?;
                println!("saved");
            }
            // Of a GPU: "NAME, BACKEND, DEVICE TYPE", the last two as wgpu's Debug has them; burn's worker does the same.
            ["adapter"] => match explainer.gpu().map(|gpu| gpu.info()) {
                Some(info) => println!("{}, {:?}, {:?}", info.name, info.backend, info.device_type),
                None => println!("none"),
            },
            ["peak"] => println!("{}", explainer.device_memory().map_or_else(peak_memory, Ok)?),
            ["quit"] => break,
            _ => return Err(format!("unknown command `{line}`").into()),
        }
    }
    Ok(())
}

/// The most resident memory that this process had, in bytes.
fn peak_memory() -> Result<u64, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM in /proc/self/status")?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kilobytes * 1024)
}
