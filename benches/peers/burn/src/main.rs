//! Times burn for `benches/peers/compare_gpu.py`, over the lines of relprop's `examples/peer_worker.rs`.
//!
//! `burn-peer MODEL.onnx INPUT.npy` prints `ready`; then `forward` and `explain` answer seconds, `save PATH ROWS` writes
//! the first rows of the last gradient × input, `adapter` names what it runs on, `probe` answers GFLOP/s, `quit` ends.
//!
//! Both times run from host to host, as relprop's do: the input is uploaded and the result read back.

use std::io::BufRead as _;
use std::path::Path;
use std::time::{Duration, Instant};

use burn::backend::wgpu::{RuntimeOptions, WgpuDevice, graphics::AutoGraphicsApi, init_setup};
use burn::backend::{Autodiff, Wgpu};
use burn::tensor::backend::Backend as _;
use burn::tensor::{Distribution, Tensor, TensorData};
use network::{Steps, Value, load, traced, value};
use relprop::output::{Precision, write_npy};

mod network;

type Gpu = Wgpu;
type Traced = Autodiff<Gpu>;
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const PROBE_SIDE: usize = 2048;
const PROBE_TIME: Duration = Duration::from_secs(1);

/// Gradient × input of every sample's arg-max logit.
fn explain(steps: &Steps<Traced>, x: TensorData, device: &WgpuDevice) -> TensorData {
    // Starts from ones, that is from the sum over the batch.
    let backward = |x| steps.logits(x).max_dim(1).backward();
    match value::<Traced>(x, device) {
        Value::Flat(x) => {
            let x = x.require_grad();
            times(x.grad(&backward(Value::Flat(x.clone()))), x.inner())
        }
        Value::Grid(x) => {
            let x = x.require_grad();
            times(x.grad(&backward(Value::Grid(x.clone()))), x.inner())
        }
    }
}

fn times<const D: usize>(gradient: Option<Tensor<Gpu, D>>, x: Tensor<Gpu, D>) -> TensorData {
    (gradient.expect("the input requires its gradient") * x).into_data()
}

/// The speed of one matrix product in GFLOP/s: the fastest within a second, of at least three.
fn probe(device: &WgpuDevice) -> Result<f64> {
    let random = || Tensor::<Gpu, 2>::random([PROBE_SIDE, PROBE_SIDE], Distribution::Default, device);
    let (a, b) = (random(), random());
    Gpu::sync(device)?;
    let (begin, mut times) = (Instant::now(), Vec::new());
    while times.len() < 3 || begin.elapsed() < PROBE_TIME {
        let start = Instant::now();
        let product = a.clone().matmul(b.clone());
        Gpu::sync(device)?;
        times.push(start.elapsed());
        drop(product);
    }
    let best = times.into_iter().min().expect("three at least");
    Ok(2.0 * (PROBE_SIDE as f64).powi(3) / best.as_secs_f64() / 1e9)
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, input] = arguments.as_slice() else {
        return Err("usage: burn-peer MODEL.onnx INPUT.npy".into());
    };
    let device = WgpuDevice::default();
    let adapter = init_setup::<AutoGraphicsApi>(&device, RuntimeOptions::default()).adapter.get_info();
    let plain = load(model, &device)?;
    let traced = traced(&plain);
    let samples = relprop::input::read_npy(Path::new(input))?.into_f32();
    let samples = TensorData::new(samples.data().to_vec(), samples.shape().dims().to_vec());
    println!("ready");

    let mut last: Option<TensorData> = None;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["forward"] => {
                let x = samples.clone();
                let start = Instant::now();
                plain.logits(value(x, &device)).into_data();
                println!("{}", start.elapsed().as_secs_f64());
            }
            ["explain"] => {
                let x = samples.clone();
                let start = Instant::now();
                last = Some(explain(&traced, x, &device));
                println!("{}", start.elapsed().as_secs_f64());
            }
            ["save", path, rows] => {
                let relevance = last.as_ref().ok_or("nothing was explained yet")?;
                let mut dims = relevance.shape.clone();
                dims[0] = rows.parse()?;
                let first = relevance.as_slice::<f32>().map_err(|error| format!("{error:?}"))?;
                let first = first[..dims.iter().product()].to_vec();
                write_npy(Path::new(path), &relprop::Tensor::new(dims, first)?, Precision::F32)?;
                println!("saved");
            }
            ["adapter"] => println!("{}, {:?}, {:?}", adapter.name, adapter.backend, adapter.device_type),
            ["probe"] => println!("{}", probe(&device)?),
            ["quit"] => break,
            _ => return Err(format!("unknown line `{line}`").into()),
        }
    }
    Ok(())
}
