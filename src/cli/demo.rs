//! `relprop demo`: the main job on real data that comes with the program.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use relprop::canonical::{self, canonicalize};
use relprop::input::{Array, ImageOptions, unpack_npz};
use relprop::output::{Precision, write_npy, write_png};
use relprop::relevance::LayerSums;
use relprop::{
    Backend, Composite, Error, ErrorKind, Explainer, Input, Network, Relevance, Request, Result, Targets, Tensor, onnx,
};

use super::console::{Console, thousands, to_stdout};
use super::demo_page;
use super::engine::BackendName;
use super::interrupt;
use super::results::check_writable;

static MODEL: &[u8] = include_bytes!("../../demo/fashion-mlp.onnx");
static IMAGES: &[u8] = include_bytes!("../../demo/fashion-mnist-test.npz");

/// Samples that the float64 reference explains too.
const COMPARED: usize = 64;
/// Samples explained between two looks at Ctrl-C.
const BLOCK: usize = 2000;

/// Explain Fashion-MNIST's 10,000 test images with an MLP that comes with the program, and draw some of them.
///
/// It needs no files and no GPU. It prints how often the network is right, how fast it is explained, how closely results
/// agree with float64, and where relevance went; it writes a page of heatmaps and the relevance of every pixel.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The folder for the results, made if it is missing; relprop-demo unless told
    #[arg(long, value_name = "FOLDER", default_value = "relprop-demo", hide_default_value = true)]
    out: PathBuf,

    /// What computes: `auto`, the fastest there is, unless told
    #[arg(long, value_name = "NAME", default_value = "auto", hide_default_value = true)]
    backend: BackendName,
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
    [&page, &array].into_iter().try_for_each(|path| check_writable(path))?;

    let network = canonicalize(&onnx::parse(MODEL.to_vec(), None)?, &canonical::Options::default())?;
    let data = load()?;
    let composite = Composite::preset("epsilon-plus")?;
    let explainer = Explainer::new(network, &composite, arguments.backend.backend())?;
    to_stdout(&format!(
        "Fashion-MNIST: {} test images of 28×28 pixels, ten classes\n{}\n",
        thousands(data.labels.len()),
        describe(explainer.network())
    ))?;

    let samples = if explainer.backend() == Backend::Reference { COMPARED } else { data.labels.len() };
    let data = data.first(samples)?;
    let began = Instant::now();
    let (relevance, sums) = explain(&explainer, &data)?;
    let seconds = began.elapsed().as_secs_f64();
    to_stdout(&summary(&explainer, &data, &relevance, &sums, seconds))?;
    to_stdout(&agreement(&explainer, &composite, &data, &relevance)?)?;

    write_png(&page, &demo_page::draw(&data, &relevance)?)?;
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
    fn block(&self, first: usize, count: usize) -> Result<Tensor> {
        let width = self.images.count() / self.images.rows();
        let mut dims = self.images.shape().dims().to_vec();
        dims[0] = count;
        Tensor::new(dims, self.images.data()[first * width..(first + count) * width].to_vec())
    }

    fn first(self, count: usize) -> Result<Data> {
        Ok(Data { images: self.block(0, count)?, labels: self.labels[..count].to_vec() })
    }
}
