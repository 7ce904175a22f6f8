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
use burn::tensor::{Distribution, Tensor, TensorData, activation::relu, backend::Backend, module::linear};
use relprop::layers::{Activation, Layer};
use relprop::output::{Precision, write_npy};

type Gpu = Wgpu;
type Traced = Autodiff<Gpu>;
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const PROBE_SIDE: usize = 2048;
const PROBE_TIME: Duration = Duration::from_secs(1);

enum Step<B: Backend> {
    Dense { weight: Tensor<B, 2>, bias: Tensor<B, 1> },
    Relu,
}

/// The file's layers. Weights are plain tensors, so autodiff computes no gradients of them.
fn load(path: &str, device: &WgpuDevice) -> Result<Vec<Step<Gpu>>> {
    let network = relprop::canonical::canonicalize(&relprop::onnx::load(path)?, &Default::default())?;
    let step = |layer: &Layer| match layer {
        Layer::Dense(dense) => {
            let shape = [dense.outputs(), dense.inputs()];
            let weight = TensorData::new(dense.weight().data().to_vec(), shape);
            let bias = dense.bias().map_or(vec![0.0; dense.outputs()], |bias| bias.data().to_vec());
            // burn's own dense layers hold [inputs, outputs]; made so through the host, for a plain contiguous buffer.
            let weight = Tensor::<Gpu, 2>::from_data(weight, device).transpose().into_data();
            Ok(Step::Dense {
                weight: Tensor::from_data(weight, device),
                bias: Tensor::from_data(TensorData::new(bias, [dense.outputs()]), device),
            })
        }
        Layer::Activation(Activation::Relu) => Ok(Step::Relu),
        other => Err(format!("{other:?} is not part of this work").into()),
    };
    network.layers().iter().map(|node| step(&node.layer)).collect()
}

/// The same tensors, for a backend that records what it computes.
fn traced(steps: &[Step<Gpu>]) -> Vec<Step<Traced>> {
    let trace = |step: &Step<Gpu>| match step {
        Step::Dense { weight, bias } => {
            Step::Dense { weight: Tensor::from_inner(weight.clone()), bias: Tensor::from_inner(bias.clone()) }
        }
        Step::Relu => Step::Relu,
    };
    steps.iter().map(trace).collect()
}

fn logits<B: Backend>(steps: &[Step<B>], x: Tensor<B, 2>) -> Tensor<B, 2> {
    steps.iter().fold(x, |x, step| match step {
        Step::Dense { weight, bias } => linear(x, weight.clone(), Some(bias.clone())),
        Step::Relu => relu(x),
    })
}

/// Gradient × input of every sample's arg-max logit.
fn explain(steps: &[Step<Traced>], x: TensorData, device: &WgpuDevice) -> TensorData {
    let x = Tensor::<Traced, 2>::from_data(x, device).require_grad();
    // Starts from ones, that is from the sum over the batch.
    let gradients = logits(steps, x.clone()).max_dim(1).backward();
    let gradient = x.grad(&gradients).expect("the input requires its gradient");
    (gradient * x.inner()).into_data()
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
                logits(&plain, Tensor::from_data(x, &device)).into_data();
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
                let (rows, width) = (rows.parse()?, relevance.shape[1]);
                let first = relevance.as_slice::<f32>().map_err(|error| format!("{error:?}"))?[..rows * width].to_vec();
                write_npy(Path::new(path), &relprop::Tensor::new(vec![rows, width], first)?, Precision::F32)?;
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
