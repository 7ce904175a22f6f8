//! `relprop demo`: the main job on real data that comes with the program.

use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueEnum};
use relprop::canonical::{self, canonicalize};
use relprop::input::{Array, ImageOptions, unpack_npz};
use relprop::output::{Precision, write_npy, write_png};
use relprop::relevance::{LayerReport, LayerSums, Named};
use relprop::{
    Backend, Composite, Error, ErrorKind, Explainer, Input, Network, Relevance, Request, Result, Targets, Tensor, onnx,
};

use super::agreement::{distances, median_and_worst};
use super::console::{Console, thousands, to_stdout};
use super::demo_backends;
use super::demo_page;
use super::demo_presets;
use super::engine::{BackendChoice, positive};
use super::interrupt;
use super::results::try_create;

static MLP: &[u8] = include_bytes!("../../demo/fashion-mlp.onnx");
static CNN: &[u8] = include_bytes!("../../demo/fashion-cnn.onnx");
static IMAGES: &[u8] = include_bytes!("../../demo/fashion-mnist-test.npz");

/// Samples that the float64 reference explains too.
const COMPARED: usize = 64;
/// Samples explained between two looks at Ctrl-C.
const BLOCK: usize = 2000;

/// A network that comes with the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ModelName {
    /// 784-512-256-10, with ReLU.
    Mlp,
    /// Convolutions with batch norms, a residual connection, and pools.
    Cnn,
}

/// Explain Fashion-MNIST's 10,000 test images with a network that comes with the program, and draw some of them.
///
/// It needs no files and no GPU. It prints how often the network is right, how fast it is explained, how closely results
/// agree with float64, where relevance went, and how every backend of this machine compares; it writes a page of heatmaps
/// and the relevance of every pixel.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The network: `mlp` (unless told), or `cnn`, whose page has a column for each of several presets
    #[arg(long, value_name = "NAME", default_value = "mlp", hide_default_value = true, hide_possible_values = true)]
    model: ModelName,

    /// The folder for the results, made if it is missing; relprop-demo unless told
    #[arg(long, value_name = "FOLDER", default_value = "relprop-demo", hide_default_value = true)]
    out: PathBuf,

    /// What computes: `auto` (unless told), gpu, gpu:NAME, cpu or reference
    #[arg(long, value_name = "NAME", default_value = "auto", hide_default_value = true)]
    backend: BackendChoice,

    /// Explain the first N images only; all 10,000 unless told, and 64 with the reference
    #[arg(long, value_name = "N", value_parser = positive)]
    images: Option<usize>,
}

/// The data set.
pub struct Data {
    /// Pixels as the network reads them, [N, 1, 28, 28].
    pub images: Tensor,
    /// Each image's class.
    pub labels: Vec<usize>,
}

/// Explains the images, prints what came out and writes the files.
///
/// # Errors
/// If a file cannot be written.
pub fn run(arguments: &Arguments) -> Result<()> {
    let folder = &arguments.out;
    std::fs::create_dir_all(folder).map_err(|error| {
        Error::new(ErrorKind::Io, format!("{}: the folder cannot be made: {error}", folder.display()))
            .help("name another one with --out")
    })?;
    let (page, array) = (folder.join("heatmaps.png"), folder.join("relevance.npy"));
    [&page, &array].into_iter().try_for_each(|path| try_create(path))?;

    let file = match arguments.model {
        ModelName::Mlp => MLP,
        ModelName::Cnn => CNN,
    };
    let network = canonicalize(&onnx::parse(file.to_vec(), None)?, &canonical::Options::default())?;
    let data = load()?;
    let composite = Composite::preset("epsilon-plus")?;
    let explainer = Explainer::with_options(network, &composite, arguments.backend.options()?)?;
    to_stdout(&format!(
        "Fashion-MNIST: {} test images of 28×28 pixels, ten classes\n{}\n",
        thousands(data.labels.len()),
        describe(explainer.network())
    ))?;

    let most = if explainer.backend() == Backend::Reference { COMPARED } else { data.labels.len() };
    let samples = arguments.images.unwrap_or(most).min(data.labels.len());
    let data = data.first(samples)?;
    let began = Instant::now();
    let (relevance, layers) = explain(&explainer, &data)?;
    let seconds = began.elapsed().as_secs_f64();
    to_stdout(&summary(&explainer, &data, &relevance, &layers, seconds))?;
    let expected = reference(&explainer, &composite, &data, &relevance)?;
    to_stdout(&agreement(&relevance, &expected))?;
    interrupt::check()?;
    to_stdout(&demo_backends::compare(explainer.network(), &composite, &data, &expected)?)?;
    interrupt::check()?;

    let drawn = match arguments.model {
        ModelName::Mlp => demo_page::draw(&data, &relevance)?,
        ModelName::Cnn => demo_presets::draw(explainer.network(), &data, &relevance)?,
    };
    interrupt::check()?;
    write_png(&page, &drawn)?;
    write_npy(&array, relevance.input(), Precision::F32)?;
    to_stdout(&format!(
        "\nwrote {}: images of each class beside their heatmaps\nwrote {}: the relevance of every pixel, {}\n",
        page.display(),
        array.display(),
        relevance.input().shape()
    ))
}

fn load() -> Result<Data> {
    let mut arrays = unpack_npz(IMAGES, "demo/fashion-mnist-test.npz")?;
    let mut take = |name: &str| match arrays.remove(name) {
        Some(Array::U8(tensor)) => Ok(tensor),
        _ => Err(Error::new(ErrorKind::Internal, format!("the demo's data lacks `{name}`")).help("build it again")),
    };
    let images = ImageOptions::default().scale_pixels(&take("image")?)?;
    let labels = take("label")?.data().iter().map(|&label| usize::from(label)).collect();
    Ok(Data { images, labels })
}

impl Data {
    /// `count` images from `first` on.
    ///
    /// # Errors
    /// Never, for images that are there.
    pub fn block(&self, first: usize, count: usize) -> Result<Tensor> {
        let width = self.images.count() / self.images.rows();
        let mut dims = self.images.shape().dims().to_vec();
        dims[0] = count;
        Tensor::new(dims, self.images.data()[first * width..(first + count) * width].to_vec())
    }

    fn first(self, count: usize) -> Result<Data> {
        Ok(Data { images: self.block(0, count)?, labels: self.labels[..count].to_vec() })
    }
}

/// What an explanation of all images gives, block by block, so that Ctrl-C works and progress shows.
fn explain(explainer: &Explainer, data: &Data) -> Result<(Relevance, Vec<LayerReport>)> {
    let request = Request::new(Targets::ArgMax).report(true);
    let samples = data.labels.len();
    let bar = Console::new(false).progress(samples);
    let (mut pixels, mut logits, mut targets) = (Vec::new(), Vec::new(), Vec::new());
    let mut layers: Vec<LayerReport> = Vec::new();
    let mut first = 0;
    while first < samples {
        interrupt::check()?;
        let count = BLOCK.min(samples - first);
        let relevance = explainer.explain_with(&[Input::from(&data.block(first, count)?)], &request)?;
        pixels.extend_from_slice(relevance.input().data());
        logits.extend_from_slice(relevance.logits.data());
        targets.extend_from_slice(relevance.targets.data());
        for (position, layer) in relevance.report.into_iter().flat_map(|report| report.layers).enumerate() {
            match layers.get_mut(position) {
                Some(total) => total.sums.add(&layer.sums),
                None => layers.push(layer),
            }
        }
        first += count;
        bar.inc(count as u64);
    }
    bar.finish_and_clear();
    interrupt::check()?;
    let relevance = Relevance {
        run: relprop::relevance::Run::default(),
        inputs: vec![Named { name: "image".to_owned(), relevance: Tensor::new(data.images.shape().clone(), pixels)? }],
        kept: Vec::new(),
        logits: Tensor::new([samples, explainer.outputs()], logits)?,
        targets: Tensor::new([samples, 1], targets)?,
        report: None,
    };
    Ok((relevance, layers))
}

/// The network in a line: its kind and widths, or how many layers of each kind with weights.
fn describe(network: &Network) -> String {
    let of_kind = |kind: &str| network.layers().iter().filter(|node| node.layer.kind() == kind).count();
    if of_kind("conv") > 0 {
        let (convolutions, dense) = (of_kind("conv"), of_kind("dense"));
        return format!("network: CNN of {convolutions} convolutions and {dense} dense layer, rules of epsilon-plus");
    }
    let width = |value| network.shape(value).count().to_string();
    let dense = network.layers().iter().filter(|node| node.layer.kind() == "dense");
    let widths = network.inputs().iter().map(|input| width(input.value)).chain(dense.map(|node| width(node.output)));
    format!("network: MLP {} with ReLU, rules of epsilon-plus", widths.collect::<Vec<_>>().join("-"))
}

fn summary(explainer: &Explainer, data: &Data, relevance: &Relevance, layers: &[LayerReport], seconds: f64) -> String {
    let samples = data.labels.len();
    let right = relevance.targets.data().iter().zip(&data.labels).filter(|(guess, label)| guess == label).count();
    let score: f64 = relevance.scores().data().iter().map(|&score| f64::from(score)).sum();
    let arrived: f64 = relevance.input().data().iter().map(|&r| f64::from(r)).sum();
    let sum = |part: fn(&LayerSums) -> f64| layers.iter().map(|layer| part(&layer.sums)).sum::<f64>();
    let (bias, epsilon) = (sum(|sums| sums.bias), sum(|sums| sums.epsilon));
    let share = |part: f64| part / score * 100.0;
    format!(
        "\nbackend       {} ({})\n\
         explained     {} images in {seconds:.2} s: {} images a second, forward pass and relevance\n\
         accuracy      {:.2} % of the images are classified right\n\
         conservation  of the scores' sum {score:.1}, the pixels hold {:.3} %, biases absorbed {:.3} %,\n\
         {:14}epsilon absorbed {:.6} %, and {:.6} % was lost\n",
        explainer.backend(),
        explainer.adapter(),
        thousands(samples),
        thousands((samples as f64 / seconds).round() as usize),
        right as f64 / samples as f64 * 100.0,
        share(arrived),
        share(bias),
        "",
        share(epsilon),
        share(score - arrived - bias - epsilon),
    )
}

/// What the float64 reference says of the first images, for the same classes.
fn reference(explainer: &Explainer, composite: &Composite, data: &Data, relevance: &Relevance) -> Result<Relevance> {
    let count = COMPARED.min(data.labels.len());
    let judge = Explainer::new(explainer.network().clone(), composite, Backend::Reference)?;
    let targets = Targets::Each(relevance.targets.data()[..count].to_vec());
    judge.explain(&[Input::from(&data.block(0, count)?)], &targets)
}

/// How closely the first images' relevance agrees with the float64 reference.
fn agreement(relevance: &Relevance, expected: &Relevance) -> String {
    let (median, worst) = median_and_worst(distances(relevance, expected));
    let count = expected.targets.rows();
    format!(
        "agreement     with float64 on {count} images, relative L2 distance: median {median:.1e}, worst {worst:.1e}\n"
    )
}
