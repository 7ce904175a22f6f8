//! The tutorial's network: four inputs, two hidden rectifiers, one output; its gradient beside LRP-0.
//!
//!     cargo run --release --example simple_model -- [--seed N] [--out FILE]

use std::path::PathBuf;
use std::process::ExitCode;

use relprop::output::{ColorMap, Heatmap, MatrixPlot, ScaleBy, write_png};
use relprop::{Backend, Composite, Explainer, Input, Network, Request, Result, Start, Targets, Tensor};

/// The input that is explained.
pub const INPUT: [f32; 4] = [0.1, 0.2, 0.3, 0.4];

/// The rows of the plot: what each is called, and the composite that computes it.
pub const METHODS: [(&str, &str); 2] = [("gradient", "gradient"), ("LRP-0", "zero")];

const WORDS: &str = "The tutorial's `lrp` returns `output.backward(ones)`, which is the plain gradient (first row), \
    while LRP-0 on this network is gradient × input divided by the output when relevance starts at 1 (second row); \
    seaborn colours from the least to the greatest value, this plot symmetrically around zero.";

/// Weights and biases of the two layers.
pub struct Parameters {
    /// [2, 4], row by row.
    pub w1: Vec<f32>,
    /// [2].
    pub b1: Vec<f32>,
    /// [1, 2].
    pub w2: Vec<f32>,
    /// [1].
    pub b2: Vec<f32>,
}

impl Parameters {
    /// Weights for which every number can be checked by hand.
    pub fn fixed() -> Self {
        Parameters {
            w1: vec![1.0, -1.0, 2.0, 0.5, 0.5, 1.0, -1.0, 1.0],
            b1: vec![0.1, -0.05],
            w2: vec![1.5, -1.0],
            b2: vec![-0.4],
        }
    }

    /// Weights as the tutorial draws them: `torch.nn.Linear` begins uniform in ±1/√inputs, biases included.
    pub fn random(seed: u64) -> Self {
        let mut state = seed;
        let mut draw = |count: usize, inputs: f32| {
            (0..count).map(|_| (2.0 * uniform(&mut state) - 1.0) / inputs.sqrt()).collect::<Vec<f32>>()
        };
        Parameters { w1: draw(8, 4.0), b1: draw(2, 4.0), w2: draw(2, 2.0), b2: draw(1, 2.0) }
    }
}

/// The next number of 0 to 1 (SplitMix64: a generator of one line, so that the example needs no crate for it).
fn uniform(state: &mut u64) -> f32 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut bits = *state;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((bits ^ (bits >> 31)) >> 40) as f32 / (1 << 24) as f32
}

/// The network 4-2-1.
pub fn network(parameters: Parameters) -> Result<Network> {
    let Parameters { w1, b1, w2, b2 } = parameters;
    let mut builder = Network::builder();
    let x = builder.input("x", [4]);
    let z = builder.dense("fc1", x, Tensor::new([2, 4], w1)?, Some(Tensor::vector(b1)))?;
    let a = builder.relu("relu", z)?;
    let f = builder.dense("fc2", a, Tensor::new([1, 2], w2)?, Some(Tensor::vector(b2)))?;
    builder.build(f)
}

/// The output, and the scores of the four inputs by each of [`METHODS`], with relevance started at 1.
pub fn scores(network: &Network, backend: Backend) -> Result<(f32, Tensor)> {
    let x = Tensor::vector(INPUT.to_vec());
    let request = Request::new(Targets::Class(0)).start(Start::One);
    let (mut f, mut rows) = (0.0, Vec::new());
    for (_, composite) in METHODS {
        let explainer = Explainer::new(network.clone(), &Composite::preset(composite)?, backend)?;
        let relevance = explainer.explain_with(&[Input::from(&x)], &request)?;
        f = relevance.logits.data()[0];
        rows.extend_from_slice(relevance.input().data());
    }
    Ok((f, Tensor::new([METHODS.len(), INPUT.len()], rows)?))
}

/// The options of the command line.
struct Arguments {
    seed: Option<u64>,
    out: PathBuf,
}

impl Arguments {
    fn parse(mut arguments: impl Iterator<Item = String>) -> std::result::Result<Self, String> {
        let mut parsed = Arguments { seed: None, out: PathBuf::from("lrp-heatmap.png") };
        while let Some(flag) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{flag} needs a value"));
            match flag.as_str() {
                "--seed" => parsed.seed = Some(value?.parse().map_err(|error| format!("--seed: {error}"))?),
                "--out" => parsed.out = PathBuf::from(value?),
                _ => return Err(format!("unknown option {flag}")),
            }
        }
        Ok(parsed)
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let network = network(arguments.seed.map_or_else(Parameters::fixed, Parameters::random))?;
    let (f, scores) = scores(&network, Backend::Cpu)?;
    println!("f({INPUT:?}) = {f:.4}");
    for (row, (name, _)) in METHODS.iter().enumerate() {
        let numbers: Vec<String> = scores.row(row).iter().map(|score| format!("{score:8.4}")).collect();
        println!("{name:<9}{}", numbers.concat());
    }
    println!("{WORDS}");
    let plot = MatrixPlot {
        title: "LRP Heatmap".to_owned(),
        x_title: "Input Features".to_owned(),
        y_title: "Relevance Scores".to_owned(),
        row_labels: METHODS.map(|(name, _)| name.to_owned()).to_vec(),
        annotate: true,
        colorbar: false,
        // 10 × 6 inches at 100 dots an inch.
        size: (1000, 600),
        ..MatrixPlot::default()
    };
    // One scale for all cells, as seaborn has: equal colours are equal numbers.
    let coolwarm = "mpl:coolwarm".parse::<ColorMap>()?;
    let colors = Heatmap { colormap: coolwarm, scale_by: ScaleBy::Grid, ..Heatmap::default() };
    write_png(&arguments.out, &plot.draw(&scores, &colors)?)?;
    println!("wrote {}", arguments.out.display());
    Ok(())
}

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(message) => {
            eprintln!("error: {message}\nusage: simple_model [--seed N] [--out FILE]");
            return ExitCode::from(2);
        }
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
