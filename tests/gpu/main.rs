//! The GPU backend beside the float64 reference and the CPU: every shape of tile, a sample's bits, invented limits,
//! faults, and the texts of its kernels.

mod bits;
#[path = "../device/mod.rs"]
mod device;
mod explanations;
mod faults;
mod functions;
mod kept;
mod limits;
mod profile;
mod texts;
mod tuned;
mod weights;
mod windows;
#[path = "../zoo/mod.rs"]
mod zoo;

use std::sync::{Arc, OnceLock};

use relprop::composite::{Composite, PRESETS, PresetOptions, Selector};
use relprop::explain::Options;
use relprop::gpu::{DeviceOptions, Gpu};
use relprop::kernels::Tile;
use relprop::layers::{Activation, GeluForm};
use relprop::network::Network;
use relprop::plan::Facts;
use relprop::rules::{LinearRule, Rule, Stabilizer};
use relprop::{Backend, Explainer, Input, Relevance, Request, Start, Targets, Tensor};
use zoo::*;

/// The tests' adapter, opened with other options.
fn open(change: impl FnOnce(&mut DeviceOptions)) -> relprop::Result<Gpu> {
    let mut options = device::options();
    change(&mut options);
    pollster::block_on(Gpu::open(&options))
}

/// One device a shape of tile for all tests, so that each kernel is compiled once.
fn with_tile(tile: Tile) -> Arc<Gpu> {
    static OPEN: [OnceLock<Arc<Gpu>>; Tile::ALL.len()] = [const { OnceLock::new() }; Tile::ALL.len()];
    let position = Tile::ALL.iter().position(|known| *known == tile).unwrap();
    Arc::clone(OPEN[position].get_or_init(|| Arc::new(open(|options| options.tile = Some(tile)).unwrap())))
}

/// As large a batch as the device likes.
fn on(gpu: &Arc<Gpu>) -> Options {
    Options { backend: Backend::Gpu, gpu: Some(Arc::clone(gpu)), ..Options::default() }
}

/// Small batches: software adapters compile the kernels for two rows many times faster than those for more, and where a
/// batch may have more, both.
fn in_pairs(gpu: &Arc<Gpu>) -> Options {
    Options { batch_size: Some(2), ..on(gpu) }
}

fn by(backend: Backend) -> Options {
    Options { backend, ..Options::default() }
}

fn explainer(network: &Arc<Network>, composite: &Composite, options: Options) -> Explainer {
    Explainer::with_options(Arc::clone(network), composite, options).unwrap()
}

/// Every step of every chunk is one dispatch, where no weight is cut.
fn assert_runs_its_plan(explainer: &Explainer, ask: &Request, relevance: &Relevance, what: &str) {
    let plan = explainer.plan(ask).unwrap();
    let run = &relevance.run;
    assert_eq!(run.chunks, relevance.logits.rows().div_ceil(plan.chunk), "{what}");
    assert_eq!(run.dispatches, run.chunks * plan.steps.len(), "{what}");
    assert!(run.dispatches > 0, "{what}");
}

/// The first samples of each input.
fn first(data: &[Tensor], samples: usize) -> Vec<Tensor> {
    let cut = |tensor: &Tensor| {
        let mut dims = tensor.shape().dims().to_vec();
        let width = tensor.count() / dims[0];
        dims[0] = samples;
        Tensor::new(dims, tensor.data()[..samples * width].to_vec()).unwrap()
    };
    data.iter().map(cut).collect()
}

/// Samples that each work on several rows: a dense layer on tokens, twice.
fn tokens(seed: u64) -> Network {
    let mut numbers = Numbers(seed);
    let mut builder = Network::builder();
    let x = builder.input("x", [3, 33]);
    let hidden = dense(&mut builder, &mut numbers, x, 66, true);
    let hidden = builder.relu("relu", hidden).unwrap();
    let hidden = dense(&mut builder, &mut numbers, hidden, 31, true);
    let hidden = builder.relu("relu", hidden).unwrap();
    let flat = builder.reshape("flat", hidden, [93]).unwrap();
    let output = dense(&mut builder, &mut numbers, flat, 4, true);
    builder.build(output).unwrap()
}
