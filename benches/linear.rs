//! The kernels of a dense layer on the GPU, on buffers that are there already, beside the CPU backend on the same layer.
//!
//! `cargo bench --bench linear`; `RELPROP_BENCH_ADAPTER` names the adapter. See `benches/README.md`.

mod adapter;

use std::cell::OnceCell;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use relprop::kernels::{
    self, EpsilonBuffers, EpsilonShape, ForwardBuffers, ForwardShape, LinearEpsilon, LinearForward,
};
use relprop::wgpu::{self, util::DeviceExt as _};
use relprop::{Backend, Composite, Explainer, Input, Network, Targets, Tensor};

const BATCHES: [usize; 4] = [1, 32, 256, 1024];
const WIDTHS: [usize; 2] = [256, 1024];
/// Of a batch, how many samples are computed in float64.
const CHECKED: usize = 8;

/// A reproducible number in −1..1.
fn number(index: usize) -> f32 {
    (index.wrapping_mul(2_654_435_761) % 1009) as f32 / 504.5 - 1.0
}

/// A square layer without a bias, and a batch for it.
struct Work {
    rows: usize,
    width: usize,
    x: Vec<f32>,
    weight: Vec<f32>,
}

impl Work {
    fn new(rows: usize, width: usize) -> Self {
        let x = (0..rows * width).map(number).collect();
        let weight = (0..width * width).map(|index| number(index + 17) / (width as f32).sqrt()).collect();
        Work { rows, width, x, weight }
    }

    fn forward(&self, rows: usize) -> ForwardShape {
        ForwardShape { has_bias: false, ..ForwardShape::new(rows, self.width, self.width) }
    }

    fn epsilon(&self, rows: usize) -> EpsilonShape {
        EpsilonShape::new(rows, self.width, self.width)
    }

    /// Multiply-adds count twice.
    fn operations(&self) -> u64 {
        2 * (self.rows * self.width * self.width) as u64
    }

    /// Some samples of Z, and of the relevance when all of Z is what arrives, in float64 sums.
    fn expected(&self, sample: usize) -> (Vec<f32>, Vec<f32>) {
        let x = &self.x[sample * self.width..][..self.width];
        let (mut z, mut result) = (vec![0.0; self.width], vec![0.0; self.width]);
        kernels::linear_forward(&self.forward(1), x, &self.weight, None, &mut z);
        kernels::linear_epsilon(&self.epsilon(1), x, &self.weight, &z, &z, &mut result);
        (z, result)
    }

    fn checked(&self) -> impl Iterator<Item = usize> {
        (0..self.rows).step_by(self.rows.div_ceil(CHECKED))
    }
}

/// Panics unless a row is the expected one, but for float32 sums of its length.
fn assert_close(found: &[f32], expected: &[f32], what: &str) {
    let size = expected.iter().fold(0.0f32, |size, &x| size.max(x.abs()));
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= 1e-4 * size, "{what}: {found} is not {expected}");
    }
}

/// Both kernels with their buffers on a device.
struct OnGpu<'a> {
    device: &'a wgpu::Device,
    queue: &'a wgpu::Queue,
    forward: LinearForward,
    epsilon: LinearEpsilon,
    x: wgpu::Buffer,
    weight: wgpu::Buffer,
    z: wgpu::Buffer,
    result: wgpu::Buffer,
}

#[derive(Debug, Clone, Copy)]
struct Kernels {
    forward: bool,
    epsilon: bool,
}

impl<'a> OnGpu<'a> {
    fn new(work: &Work, device: &'a wgpu::Device, queue: &'a wgpu::Queue) -> Self {
        let buffer = |elements: &[f32]| {
            let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
            let contents = bytemuck::cast_slice(elements);
            device.create_buffer_init(&wgpu::util::BufferInitDescriptor { label: None, contents, usage })
        };
        let results = vec![f32::NAN; work.x.len()];
        let ready = OnGpu {
            device,
            queue,
            forward: LinearForward::new(device, &work.forward(work.rows)).unwrap(),
            epsilon: LinearEpsilon::new(device, &work.epsilon(work.rows)).unwrap(),
            x: buffer(&work.x),
            weight: buffer(&work.weight),
            z: buffer(&results),
            result: buffer(&results),
        };
        ready.time(Kernels { forward: true, epsilon: true });
        let (z, result) = (ready.read(&ready.z), ready.read(&ready.result));
        for sample in work.checked() {
            let row = |elements: &[f32]| elements[sample * work.width..][..work.width].to_vec();
            let (expected_z, expected_result) = work.expected(sample);
            assert_close(&row(&z), &expected_z, "LinearForward");
            assert_close(&row(&result), &expected_result, "LinearEpsilon");
        }
        ready
    }

    /// The time from submission to the end of the kernels' work.
    fn time(&self, kernels: Kernels) -> Duration {
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let whole = wgpu::Buffer::as_entire_buffer_binding;
        let (x, weight) = (whole(&self.x), whole(&self.weight));
        if kernels.forward {
            let buffers = ForwardBuffers { x: x.clone(), weight: weight.clone(), bias: None, z: whole(&self.z) };
            self.forward.encode(&mut encoder, buffers).unwrap();
        }
        if kernels.epsilon {
            let (z, relevance, result) = (whole(&self.z), whole(&self.z), whole(&self.result));
            self.epsilon.encode(&mut encoder, EpsilonBuffers { x, weight, z, relevance, result }).unwrap();
        }
        let commands = encoder.finish();
        let start = Instant::now();
        self.queue.submit([commands]);
        self.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        start.elapsed()
    }

    fn read(&self, buffer: &wgpu::Buffer) -> Vec<f32> {
        let (sender, receiver) = std::sync::mpsc::channel();
        wgpu::util::DownloadBuffer::read_buffer(self.device, self.queue, &buffer.slice(..), move |bytes| {
            sender.send(bytes.map(|bytes| bytemuck::pod_collect_to_vec::<u8, f32>(&bytes))).unwrap();
        });
        self.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        receiver.recv().unwrap().unwrap()
    }
}

/// The layer as a network for the CPU backend: its fastest public way.
struct OnCpu {
    explainer: Explainer,
    x: Tensor,
}

impl OnCpu {
    fn new(work: &Work) -> Self {
        let mut builder = Network::builder();
        let x = builder.input("x", [work.width]);
        let weight = Tensor::new([work.width, work.width], work.weight.clone()).unwrap();
        let z = builder.dense("dense", x, weight, None).unwrap();
        let composite = Composite::preset("epsilon").unwrap();
        let explainer = Explainer::new(builder.build(z).unwrap(), &composite, Backend::Cpu).unwrap();
        let ready = OnCpu { explainer, x: Tensor::new([work.rows, work.width], work.x.clone()).unwrap() };
        let z = ready.forward();
        for sample in work.checked() {
            assert_close(z.row(sample), &work.expected(sample).0, "the CPU backend");
        }
        ready
    }

    fn forward(&self) -> Tensor {
        self.explainer.forward(&[Input::from(&self.x)]).unwrap()
    }
}

fn linear(criterion: &mut Criterion) {
    let gpu = adapter::chosen().map(|adapter| {
        let required_limits = adapter.limits();
        let descriptor = wgpu::DeviceDescriptor { required_limits, ..wgpu::DeviceDescriptor::default() };
        pollster::block_on(adapter.request_device(&descriptor)).expect("the adapter opens")
    });
    let variants = [
        ("forward", Kernels { forward: true, epsilon: false }),
        ("epsilon", Kernels { forward: false, epsilon: true }),
        ("forward and epsilon", Kernels { forward: true, epsilon: true }),
    ];
    for width in WIDTHS {
        let works = BATCHES.map(|rows| Work::new(rows, width));
        // Made and checked when the first benchmark that needs them runs.
        let (on_gpu, on_cpu) = (BATCHES.map(|_| OnceCell::new()), BATCHES.map(|_| OnceCell::new()));
        for (name, kernels) in variants {
            let mut group = criterion.benchmark_group(format!("{name}, {width} wide"));
            for ((work, on_gpu), on_cpu) in works.iter().zip(&on_gpu).zip(&on_cpu) {
                let products = u64::from(kernels.forward) + u64::from(kernels.epsilon);
                group.throughput(Throughput::Elements(products * work.operations()));
                if let Some((device, queue)) = &gpu {
                    group.bench_function(BenchmarkId::new("gpu", work.rows), |bencher| {
                        let on_gpu = on_gpu.get_or_init(|| OnGpu::new(work, device, queue));
                        bencher.iter_custom(|times| (0..times).map(|_| on_gpu.time(kernels)).sum());
                    });
                }
                // Relevance alone has no public way on the CPU.
                if kernels.forward {
                    group.bench_function(BenchmarkId::new("cpu", work.rows), |bencher| {
                        let OnCpu { explainer, x } = on_cpu.get_or_init(|| OnCpu::new(work));
                        if kernels.epsilon {
                            bencher.iter(|| explainer.explain(&[Input::from(x)], &Targets::ArgMax).unwrap());
                        } else {
                            bencher.iter(|| explainer.forward(&[Input::from(x)]).unwrap());
                        }
                    });
                }
            }
            group.finish();
        }
    }
}

fn short() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
}

criterion_group! { name = benches; config = short(); targets = linear }
criterion_main!(benches);
