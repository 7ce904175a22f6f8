//! Each kind of kernel by itself, on both backends: seconds of the steps of its kind, as `relprop bench --profile` measures them.
//!
//! Each case is a network around the kernel, checked against the float64 reference before anything is timed. Of a batch's steps only
//! those of the case's kind count, so that doors, starts and uploads around them do not.
//!
//! `cargo bench --bench kernels`; a word behind `--` picks cases, `RELPROP_BENCH_ADAPTER` names the adapter. See `benches/README.md`.

mod adapter;

use std::cell::OnceCell;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use relprop::composite::PresetOptions;
use relprop::gpu::DeviceOptions;
use relprop::layers::{Activation, AveragePool, AxisMap, AxisMapKind, Divisor, Layer, Window, WindowAxis};
use relprop::network::{NetworkBuilder, ValueId};
use relprop::plan::{Direction, Plan, Step, Work};
use relprop::rules::Stabilizer;
use relprop::{Backend, Composite, Explainer, Input, Network, Options, Request, Targets, Tensor};

/// Samples a batch, on the CPU and on a device, and on a program that acts as one.
const SAMPLES: usize = 8;

type Layers = fn(&mut NetworkBuilder, ValueId) -> relprop::Result<ValueId>;

/// A kernel in a network.
struct Case {
    name: &'static str,
    /// The shape of a sample.
    shape: &'static [usize],
    layers: Layers,
    preset: &'static str,
    /// Whether a step is one of those that are timed.
    is_timed: fn(&Step) -> bool,
}

/// A case under epsilon, on every layer.
const fn case(name: &'static str, shape: &'static [usize], layers: Layers, is_timed: fn(&Step) -> bool) -> Case {
    Case { name, shape, layers, preset: "epsilon", is_timed }
}

const CASES: &[Case] = &[
    case(
        "dense forward",
        &[1024],
        |builder, x| dense(builder, x, 1024),
        |step| matches!(step.work, Work::Product { direction: Direction::Forward, .. }),
    ),
    case(
        "dense backward",
        &[1024],
        |builder, x| dense(builder, x, 1024),
        |step| matches!(step.work, Work::Product { direction: Direction::Backward, .. }),
    ),
    case(
        "3 x 3 forward",
        &[64, 56, 56],
        |builder, x| conv(builder, x, [64, 3, 1, 1]),
        |step| is_convolution(step, Direction::Forward),
    ),
    case(
        "3 x 3 backward",
        &[64, 56, 56],
        |builder, x| conv(builder, x, [64, 3, 1, 1]),
        |step| is_convolution(step, Direction::Backward),
    ),
    case(
        "3 x 3 backward, alpha-beta",
        &[64, 56, 56],
        |builder, x| builder.relu("relu", x).and_then(|x| conv(builder, x, [64, 3, 1, 1])),
        |step| is_convolution(step, Direction::Backward),
    )
    .under("epsilon-alpha2-beta1"),
    case(
        "3 x 3 with stride 2, forward",
        &[128, 56, 56],
        |builder, x| conv(builder, x, [128, 3, 2, 1]),
        |step| is_convolution(step, Direction::Forward),
    ),
    case(
        "3 x 3 with stride 2, backward",
        &[128, 56, 56],
        |builder, x| conv(builder, x, [128, 3, 2, 1]),
        |step| is_convolution(step, Direction::Backward),
    ),
    case(
        "1 x 1 forward",
        &[256, 56, 56],
        |builder, x| conv(builder, x, [64, 1, 1, 1]),
        |step| is_convolution(step, Direction::Forward),
    ),
    case(
        "1 x 1 backward",
        &[256, 56, 56],
        |builder, x| conv(builder, x, [64, 1, 1, 1]),
        |step| is_convolution(step, Direction::Backward),
    ),
    case(
        "first 7 x 7 backward",
        &[3, 224, 224],
        |builder, x| conv(builder, x, [64, 7, 2, 1]),
        |step| is_convolution(step, Direction::Backward),
    ),
    case(
        "depthwise 3 x 3 forward",
        &[144, 56, 56],
        |builder, x| conv(builder, x, [144, 3, 1, 144]),
        |step| is_convolution(step, Direction::Forward),
    ),
    case(
        "depthwise 3 x 3 backward",
        &[144, 56, 56],
        |builder, x| conv(builder, x, [144, 3, 1, 144]),
        |step| is_convolution(step, Direction::Backward),
    ),
    case(
        "3 x 3 in 8 groups, forward",
        &[128, 28, 28],
        |builder, x| conv(builder, x, [128, 3, 1, 8]),
        |step| is_convolution(step, Direction::Forward),
    ),
    case(
        "max pool",
        &[64, 112, 112],
        |builder, x| builder.max_pool("max", x, window(3, 2)),
        |step| matches!(step.work, Work::MaxPool),
    ),
    case(
        "max pool, winners",
        &[64, 112, 112],
        |builder, x| builder.max_pool("max", x, window(3, 2)),
        |step| matches!(step.work, Work::Winners),
    ),
    case(
        "max pool, back to the winners",
        &[64, 112, 112],
        |builder, x| builder.max_pool("max", x, window(3, 2)),
        |step| matches!(step.work, Work::Unpool { .. }),
    ),
    case("average pool forward", &[64, 112, 112], average_pool, |step| {
        matches!(step.work, Work::AveragePool { direction: Direction::Forward, .. })
    }),
    case("average pool backward", &[64, 112, 112], average_pool, |step| {
        matches!(step.work, Work::AveragePool { direction: Direction::Backward, .. })
    }),
    case(
        "elementwise, a residual sum",
        &[256, 56, 56],
        |builder, x| {
            let bent = builder.activation("tanh", x, Activation::Tanh)?;
            builder.sum("sum", &[x, bent])
        },
        |step| matches!(step.work, Work::Elementwise),
    ),
    case(
        "transpose, channels last",
        &[64, 56, 56],
        |builder, x| conv(builder, x, [8, 1, 1, 1]),
        |step| matches!(step.work, Work::Transpose { .. }),
    ),
    case("resize along an axis", &[64, 56, 56], doubled, |step| matches!(step.work, Work::AlongAxis { .. })),
    case(
        "strips of a concat",
        &[64, 56, 56],
        |builder, x| {
            let other = builder.relu("relu", x)?;
            builder.concat("concat", &[x, other], 0)
        },
        |step| matches!(step.work, Work::Strips { .. }),
    ),
    case("start", &[1000], |builder, x| dense(builder, x, 1000), |step| matches!(step.work, Work::Start)),
    case(
        "root mean square of rows",
        &[4096],
        |builder, x| dense(builder, x, 4096),
        |step| matches!(step.work, Work::Rms),
    ),
    case(
        "sums of a report",
        &[4096],
        |builder, x| dense(builder, x, 4096),
        |step| matches!(step.work, Work::Measure(_)),
    ),
];

fn is_convolution(step: &Step, wanted: Direction) -> bool {
    matches!(step.work, Work::Convolve { direction, .. } if direction == wanted)
}

/// A reproducible number in −1..1.
fn number(index: usize) -> f32 {
    (index.wrapping_mul(2_654_435_761) % 1009) as f32 / 504.5 - 1.0
}

fn window(kernel: usize, stride: usize) -> Window {
    let axis = WindowAxis { stride, before: kernel / 2, after: kernel / 2, ..WindowAxis::new(kernel) };
    Window::new(vec![axis; 2]).expect("the window is sound")
}

fn dense(builder: &mut NetworkBuilder, x: ValueId, outputs: usize) -> relprop::Result<ValueId> {
    let inputs = builder.shape(x).count();
    let scale = (3.0 / inputs as f32).sqrt();
    let weight = Tensor::from_fn([outputs, inputs], |index| number(index) * scale);
    builder.dense("dense", x, weight, Some(Tensor::from_fn([outputs], |index| 0.1 * number(index + 7))))
}

fn conv(
    builder: &mut NetworkBuilder,
    x: ValueId,
    [outputs, kernel, stride, groups]: [usize; 4],
) -> relprop::Result<ValueId> {
    let inputs = builder.shape(x).dims()[0] / groups;
    let scale = (3.0 / (inputs * kernel * kernel) as f32).sqrt();
    let weight = Tensor::from_fn([outputs, inputs, kernel, kernel], |index| number(index) * scale);
    let bias = Tensor::from_fn([outputs], |index| 0.1 * number(index + 7));
    builder.conv("conv", x, weight, Some(bias), window(kernel, stride), groups)
}

fn average_pool(builder: &mut NetworkBuilder, x: ValueId) -> relprop::Result<ValueId> {
    let pool = AveragePool::new(window(3, 2), Divisor::Inside);
    builder.layer("average", Layer::AveragePool(pool), vec![x])
}

/// Twice as many lines, each a mean of two.
fn doubled(builder: &mut NetworkBuilder, x: ValueId) -> relprop::Result<ValueId> {
    let lines = builder.shape(x).dims()[1];
    let sources = (0..2 * lines).map(|line| vec![(line / 2, 0.75), ((line / 2 + 1).min(lines - 1), 0.25)]).collect();
    let map = AxisMap::new(AxisMapKind::Resize, 1, lines, sources)?;
    builder.layer("resize", Layer::AxisMap(map), vec![x])
}

impl Case {
    const fn under(self, preset: &'static str) -> Self {
        Case { preset, ..self }
    }

    fn network(&self) -> relprop::Result<Network> {
        let mut builder = Network::builder();
        let x = builder.input("x", self.shape);
        let value = (self.layers)(&mut builder, x)?;
        builder.build(value)
    }

    /// ε that is a part of each row's rms where that is what is timed.
    fn composite(&self) -> relprop::Result<Composite> {
        let is_relative = self.name.starts_with("root");
        let epsilon = if is_relative { Stabilizer::Rms(0.1) } else { Stabilizer::Absolute(0.1) };
        let options =
            PresetOptions { epsilon: Some(epsilon), stabilizer: Some(Stabilizer::Absolute(0.1)), ..Default::default() };
        Composite::preset_with(self.preset, options)
    }

    fn request(&self) -> Request {
        // A logit that every network has.
        Request::new(Targets::Class(1)).report(self.name.starts_with("sums"))
    }

    fn batch(&self, samples: usize) -> Tensor {
        Tensor::from_fn([&[samples], self.shape].concat(), |index| number(index + 3))
    }

    /// An explainer that has been checked against float64.
    fn checked(&self, options: Options) -> Explainer {
        let network = Arc::new(self.network().unwrap());
        let by = |options| Explainer::with_options(Arc::clone(&network), &self.composite().unwrap(), options).unwrap();
        let (explainer, reference) = (by(options), by(Options { backend: Backend::Reference, ..Options::default() }));
        let x = self.batch(1);
        let relevance = |by: &Explainer| by.explain_with(&[Input::from(&x)], &self.request()).unwrap();
        let (found, exact) = (relevance(&explainer), relevance(&reference));
        let size = exact.input().data().iter().fold(0.0_f32, |size, r| size.max(r.abs()));
        assert!(size > 0.0, "{}: nothing to check", self.name);
        for (found, exact) in found.input().data().iter().zip(exact.input().data()) {
            assert!((found - exact).abs() <= 1e-4 * size, "{}: {found} is not {exact}", self.name);
        }
        explainer
    }

    fn plan(&self) -> Plan {
        let explainer = Explainer::new(self.network().unwrap(), &self.composite().unwrap(), Backend::Cpu).unwrap();
        explainer.plan(&self.request()).unwrap()
    }

    fn steps(&self, plan: &Plan) -> Vec<usize> {
        (0..plan.steps.len()).filter(|&position| (self.is_timed)(&plan.steps[position])).collect()
    }
}

/// An explainer, its batch, and which of its plan's steps are timed.
struct Ready {
    explainer: Explainer,
    x: Tensor,
    steps: Vec<usize>,
}

impl Ready {
    fn seconds(&self, case: &Case) -> f64 {
        let found = self.explainer.explain_with(&[Input::from(&self.x)], &case.request()).unwrap();
        self.steps.iter().map(|&step| found.run.steps[step]).sum()
    }
}

fn kernels(criterion: &mut Criterion) {
    let mut backends = vec![("cpu", Options { backend: Backend::Cpu, ..Options::default() })];
    if let Some(info) = adapter::chosen().map(|adapter| adapter.get_info()) {
        let device = DeviceOptions { adapter: Some(info.name), profile: true, ..DeviceOptions::default() };
        let batch_size = Some(SAMPLES);
        backends.push(("gpu", Options { backend: Backend::Gpu, device, batch_size, ..Options::default() }));
    }
    for case in CASES {
        let mut group = criterion.benchmark_group(case.name);
        let network = case.network().unwrap();
        for (backend, options) in &backends {
            // Made and checked when the first benchmark that needs it runs.
            let ready = OnceCell::new();
            let plan = case.plan();
            let costs = case.steps(&plan).into_iter().map(|step| plan.step_cost(&network, &plan.steps[step], SAMPLES));
            let (operations, bytes) =
                costs.fold((0, 0), |(operations, bytes), cost| (operations + cost.operations, bytes + cost.bytes()));
            group.throughput(if operations > 0 { Throughput::Elements(operations) } else { Throughput::Bytes(bytes) });
            group.bench_function(BenchmarkId::new(*backend, SAMPLES), |bencher| {
                let ready = ready.get_or_init(|| {
                    let explainer = case.checked(options.clone());
                    let steps = case.steps(&explainer.plan(&case.request()).unwrap());
                    assert!(!steps.is_empty(), "{}: no such step", case.name);
                    Ready { explainer, x: case.batch(SAMPLES), steps }
                });
                bencher.iter_custom(|times| Duration::from_secs_f64((0..times).map(|_| ready.seconds(case)).sum()));
            });
        }
        group.finish();
    }
}

fn short() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(1))
}

criterion_group! { name = benches; config = short(); targets = kernels }

fn main() {
    // `cargo test` runs benchmarks too, without the word that `cargo bench` gives: it wants to know whether they work. What the kernels
    // compute, the tests hold.
    if !std::env::args().any(|word| word == "--bench") {
        for case in CASES {
            assert!(!case.steps(&case.plan()).is_empty(), "{}: no such step", case.name);
        }
        return;
    }
    benches();
    Criterion::default().configure_from_args().final_summary();
}
