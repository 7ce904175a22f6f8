//! Whole explanations of a perceptron 784-1024-1024-1024-10, from host to host: inputs up, relevance back.
//!
//! `cargo bench --bench explain`; `RELPROP_BENCH_ADAPTER` names the adapter. See `benches/README.md`.

mod adapter;

use std::cell::OnceCell;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use relprop::gpu::DeviceOptions;
use relprop::wgpu::DeviceType;
use relprop::{Backend, Composite, Explainer, Input, Network, Options, Targets, Tensor};

const WIDTHS: [usize; 5] = [784, 1024, 1024, 1024, 10];
const BATCHES: [usize; 3] = [32, 256, 1024];
/// The most that an adapter gets which is a program.
const SOFTWARE_BATCH: usize = 256;
/// How many samples are explained in float64 first.
const CHECKED: usize = 4;

/// A reproducible number in −1..1.
fn number(index: usize) -> f32 {
    (index.wrapping_mul(2_654_435_761) % 1009) as f32 / 504.5 - 1.0
}

fn perceptron() -> Network {
    let mut builder = Network::builder();
    let mut value = builder.input("x", [WIDTHS[0]]);
    for (position, pair) in WIDTHS.windows(2).enumerate() {
        let scale = (6.0 / pair[0] as f32).sqrt();
        let weight = Tensor::from_fn([pair[1], pair[0]], |index| number(index + 31 * position) * scale);
        let bias = Tensor::from_fn([pair[1]], |index| number(index + 7) * 0.1);
        value = builder.dense("dense", value, weight, Some(bias)).unwrap();
        if position + 2 < WIDTHS.len() {
            value = builder.relu("relu", value).unwrap();
        }
    }
    builder.build(value).unwrap()
}

fn batch(samples: usize) -> Tensor {
    Tensor::from_fn([samples, WIDTHS[0]], |index| number(index + 3))
}

/// An explainer of ε = 1e-6 on every layer that has been checked against float64.
fn checked(network: &Arc<Network>, options: Options) -> Explainer {
    let composite = Composite::preset("epsilon").unwrap();
    let exact = Explainer::new(Arc::clone(network), &composite, Backend::Reference).unwrap();
    let explainer = Explainer::with_options(Arc::clone(network), &composite, options).unwrap();
    let x = batch(CHECKED);
    let [found, exact] = [&explainer, &exact].map(|by| by.explain(&[Input::from(&x)], &Targets::ArgMax).unwrap());
    assert_eq!(found.targets, exact.targets);
    for sample in 0..CHECKED {
        let rows = found.input().row(sample).iter().zip(exact.input().row(sample));
        let norm = |values: Vec<f32>| values.iter().map(|x| x * x).sum::<f32>().sqrt();
        let (differences, sizes) = rows.map(|(found, exact)| (found - exact, *exact)).unzip();
        let difference = norm(differences) / norm(sizes);
        assert!(difference < 1e-3, "{}: sample {sample} differs from float64 by {difference:e}", explainer.backend());
    }
    explainer
}

fn explain(criterion: &mut Criterion) {
    let network = Arc::new(perceptron());
    let mut backends = vec![("cpu", Options { backend: Backend::Cpu, ..Options::default() }, usize::MAX)];
    if let Some(info) = adapter::chosen().map(|adapter| adapter.get_info()) {
        let most = if info.device_type == DeviceType::Cpu { SOFTWARE_BATCH } else { usize::MAX };
        let device = DeviceOptions { adapter: Some(info.name), ..DeviceOptions::default() };
        backends.push(("gpu", Options { backend: Backend::Gpu, device, ..Options::default() }, most));
    }
    // Made and checked when the first benchmark that needs them runs.
    let explainers: Vec<OnceCell<Explainer>> = backends.iter().map(|_| OnceCell::new()).collect();
    for name in ["forward", "explain"] {
        let mut group = criterion.benchmark_group(format!("perceptron, {name}"));
        for samples in BATCHES {
            group.throughput(Throughput::Elements(samples as u64));
            for ((backend, options, most), explainer) in backends.iter().zip(&explainers) {
                if samples > *most {
                    continue;
                }
                group.bench_function(BenchmarkId::new(*backend, samples), |bencher| {
                    let explainer = explainer.get_or_init(|| checked(&network, options.clone()));
                    let x = batch(samples);
                    match name {
                        "forward" => bencher.iter(|| explainer.forward(&[Input::from(&x)]).unwrap()),
                        _ => bencher.iter(|| explainer.explain(&[Input::from(&x)], &Targets::ArgMax).unwrap()),
                    }
                });
            }
        }
        group.finish();
    }
}

fn short() -> Criterion {
    Criterion::default().sample_size(10).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(4))
}

criterion_group! { name = benches; config = short(); targets = explain }
criterion_main!(benches);
