//! How time and memory of an explanation grow with the batch, the width, the depth and the number of targets.
//!
//! A perceptron with ε = 1e-6 on the CPU backend is made twice as large along one of the four, again and again. Each size runs
//! in a process of its own, checked against the float64 reference first; the best of several explanations counts, and the
//! most memory that the process ever had. `benches/growth-time.svg` and `benches/growth-memory.svg` show both beside the
//! ideal: the operations that the plan counts, and the bytes of weights, inputs and relevance. `cargo bench --bench growth`
//! draws them anew; memory is measured on Linux only.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use relprop::explain::Options;
use relprop::network::Network;
use relprop::output::{Chart, Line, Scale, write_chart};
use relprop::{Backend, Composite, Explainer, Input, Request, Targets, Tensor};

/// Explanations of each size, at least, and seconds that they take together; the best counts.
const REPEATS: usize = 5;
const SECONDS: f64 = 2.0;
/// Sizes along each axis, each twice the one before.
const STEPS: u32 = 5;
/// Samples that the reference explains too.
const CHECKED: usize = 2;
/// What a child process is told first.
const CHILD: &str = "--size";

/// A perceptron and what is asked of it.
#[derive(Debug, Clone, Copy)]
struct Size {
    batch: usize,
    width: usize,
    depth: usize,
    targets: usize,
}

const BASE: Size = Size { batch: 256, width: 256, depth: 4, targets: 1 };

/// The name of what grows, and how a size is made larger by a factor.
type Axis = (&'static str, fn(usize) -> Size);

const AXES: [Axis; 4] = [
    ("batch", |factor| Size { batch: BASE.batch * factor, ..BASE }),
    ("width", |factor| Size { width: BASE.width * factor, ..BASE }),
    ("depth", |factor| Size { depth: BASE.depth * factor, ..BASE }),
    ("targets", |factor| Size { targets: BASE.targets * factor, ..BASE }),
];

impl Size {
    fn network(&self) -> Network {
        let mut builder = Network::builder();
        let mut x = builder.input("x", [self.width]);
        let size = (6.0 / self.width as f32).sqrt();
        for layer in 0..self.depth {
            let weight = Tensor::from_fn([self.width, self.width], |at| number(at + layer) * size);
            x = builder.dense("dense", x, weight, Some(Tensor::from_fn([self.width], |_| 0.01))).unwrap();
            if layer + 1 < self.depth {
                x = builder.relu("relu", x).unwrap();
            }
        }
        builder.build(x).unwrap()
    }

    fn ask(&self) -> Request {
        Request::new(Targets::Classes((0..self.targets).collect()))
    }

    /// Operations that an explanation comes to, and bytes that must be held for it.
    fn ideal(&self) -> (f64, f64) {
        let network = self.network();
        let plan = explainer(network.clone(), Backend::Cpu).plan(&self.ask()).unwrap();
        let operations = plan.cost(&network, self.batch).operations as f64;
        let weights = self.depth * self.width * (self.width + 1);
        let rows = self.batch * self.width * (1 + self.targets) + self.batch * self.width;
        (operations, ((weights + rows) * size_of::<f32>()) as f64)
    }

    /// Seconds of the best explanation and the most bytes of the process, which must be this one's own.
    fn measure(&self) -> (f64, f64) {
        let x = Tensor::from_fn([self.batch, self.width], number);
        let explainer = explainer(self.network(), Backend::Cpu);
        let mut best = f64::INFINITY;
        let (began, mut repeats) = (Instant::now(), 0);
        while repeats < REPEATS || began.elapsed().as_secs_f64() < SECONDS {
            let start = Instant::now();
            explainer.explain_with(&[Input::from(&x)], &self.ask()).unwrap();
            best = best.min(start.elapsed().as_secs_f64());
            repeats += 1;
        }
        let most = most_memory();
        self.check();
        (best, most)
    }

    /// Panics unless relevance is the reference's.
    fn check(&self) {
        let x = Tensor::from_fn([CHECKED, self.width], number);
        let of = |backend| {
            let explainer = explainer(self.network(), backend);
            explainer.explain_with(&[Input::from(&x)], &self.ask()).unwrap().inputs.remove(0).relevance
        };
        let (found, exact) = (of(Backend::Cpu), of(Backend::Reference));
        let norm = |of: &mut dyn Iterator<Item = f32>| of.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        let distance = norm(&mut found.data().iter().zip(exact.data()).map(|(found, exact)| found - exact));
        assert!(distance <= 1e-3 * norm(&mut exact.data().iter().copied()), "{self:?}: {distance:e} off");
    }

    /// Measures in a process of its own.
    fn in_a_process(&self) -> (f64, f64) {
        let numbers = [self.batch, self.width, self.depth, self.targets].map(|number| number.to_string());
        let child = Command::new(std::env::current_exe().unwrap()).arg(CHILD).args(numbers).output().unwrap();
        assert!(child.status.success(), "{self:?}: {}", String::from_utf8_lossy(&child.stderr));
        let told = String::from_utf8(child.stdout).unwrap();
        let mut numbers = told.split_whitespace().map(|number| number.parse::<f64>().unwrap());
        (numbers.next().unwrap(), numbers.next().unwrap())
    }
}

fn explainer(network: Network, backend: Backend) -> Explainer {
    let options = Options { backend, ..Options::default() };
    Explainer::with_options(network, &Composite::preset("epsilon").unwrap(), options).unwrap()
}

/// A number in −1..1 that looks like chance.
fn number(at: usize) -> f32 {
    let mixed = (at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}

/// The most bytes that this process ever had; NaN where the system does not tell.
fn most_memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.map_or(f64::NAN, |kib| kib * 1024.0)
}

/// The slope of points on logarithmic axes, by least squares.
fn slope(points: &[(f64, f64)]) -> f64 {
    let logarithms: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
    let count = logarithms.len() as f64;
    let (x, y) = logarithms.iter().fold((0.0, 0.0), |(sx, sy), (x, y)| (sx + x / count, sy + y / count));
    let (over, under) = logarithms
        .iter()
        .fold((0.0, 0.0), |(over, under), (a, b)| (over + (a - x) * (b - y), under + (a - x) * (a - x)));
    over / under
}

/// A solid line of what was measured and a dashed one of the ideal, which begin together: operations at the speed of the
/// smallest size, bytes beside those that the smallest size takes for the process itself.
fn lines(name: &str, color: usize, measured: Vec<(f64, f64)>, ideal: &[f64], is_time: bool) -> [Line; 2] {
    let (base, first) = (measured[0].1, ideal[0]);
    let begun = |ideal: &f64| if is_time { ideal * base / first } else { ideal + base - first };
    let ideal: Vec<(f64, f64)> = measured.iter().zip(ideal).map(|((x, _), ideal)| (*x, begun(ideal))).collect();
    let (found, best) = (slope(&measured), slope(&ideal));
    println!("| {name} | {found:.2} | {best:.2} |");
    [
        Line { name: format!("{name}: slope {found:.2}"), color, dashed: false, points: measured },
        Line { name: format!("the ideal: {best:.2}"), color, dashed: true, points: ideal },
    ]
}

fn main() {
    let told: Vec<String> = std::env::args().skip(1).collect();
    if told.first().is_some_and(|first| first == CHILD) {
        let numbers: Vec<usize> = told[1..].iter().map(|number| number.parse().unwrap()).collect();
        let [batch, width, depth, targets] = numbers[..] else { panic!("four numbers") };
        let (seconds, bytes) = Size { batch, width, depth, targets }.measure();
        println!("{seconds} {bytes}");
        return;
    }
    // `cargo test` runs benchmarks too, without the word that `cargo bench` gives: it wants to know whether they work.
    if !told.iter().any(|word| word == "--bench") {
        return AXES.iter().for_each(|(_, grown)| grown(2).check());
    }
    let mut sizes = Vec::new();
    let base = BASE.in_a_process();
    for (name, grown) in AXES {
        let factors: Vec<usize> = (0..STEPS).map(|step| 1 << step).collect();
        let ideals: Vec<(f64, f64)> = factors.iter().map(|&factor| grown(factor).ideal()).collect();
        let larger = factors[1..].iter().map(|&factor| grown(factor).in_a_process());
        let measured: Vec<(f64, f64)> = [base].into_iter().chain(larger).collect();
        for (factor, (seconds, bytes)) in factors.iter().zip(&measured) {
            println!("{:?}: {seconds:.4} s, {:.0} MiB", grown(*factor), bytes / f64::from(1 << 20));
        }
        sizes.push((name, factors, measured, ideals));
    }
    let x = format!(
        "times the size: a batch of {}, {} wide, {} layers deep, {} target",
        BASE.batch, BASE.width, BASE.depth, BASE.targets
    );
    for (what, y, file, of) in [
        ("Time", "seconds an explanation", "growth-time.svg", (|(time, _)| time) as fn((f64, f64)) -> f64),
        ("Memory", "bytes at most, of the whole process", "growth-memory.svg", |(_, memory)| memory),
    ] {
        println!("\n| {} against | slope | of the ideal |\n| --- | --- | --- |", what.to_lowercase());
        let mut chart = Chart {
            title: format!("{what} as a perceptron's ε-LRP grows, on the CPU"),
            x: x.clone(),
            y: y.to_owned(),
            scale: Scale::Logarithmic,
            lines: Vec::new(),
        };
        for (color, (name, factors, measured, ideals)) in sizes.iter().enumerate() {
            let points =
                factors.iter().zip(measured).map(|(&factor, &measured)| (factor as f64, of(measured))).collect();
            let ideals: Vec<f64> = ideals.iter().copied().map(of).collect();
            chart.lines.extend(lines(name, color, points, &ideals, what == "Time"));
        }
        if chart.lines.iter().any(|line| line.points.iter().any(|(_, y)| y.is_finite())) {
            write_chart(&Path::new(env!("CARGO_MANIFEST_DIR")).join("benches").join(file), &chart).unwrap();
        }
    }
}
