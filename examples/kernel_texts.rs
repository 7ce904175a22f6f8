//! Writes the texts of the kernels that ε takes on a perceptron, in every shape of tile, for `benches/kernelstat`.
//!
//! `kernel_texts FOLDER` fills `FOLDER/large`, `FOLDER/medium`, and so on, with the WGSL that a device runs.

use std::path::PathBuf;

use relprop::gpu::{DeviceOptions, adapters};
use relprop::kernels::Tile;
use relprop::{Backend, Composite, Explainer, Input, Network, Options, Targets, Tensor};

/// The perceptron of the other benchmarks.
const WIDTHS: [usize; 5] = [784, 1024, 1024, 1024, 10];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).ok_or("usage: kernel_texts FOLDER")?);
    // Any adapter: the texts do not depend on it.
    let adapter = adapters(&DeviceOptions::default()).first().map(ToString::to_string);
    for tile in Tile::ALL {
        let device = DeviceOptions {
            adapter: adapter.clone(),
            tile: Some(tile),
            dump_shaders: Some(folder.join(format!("{tile:?}").to_lowercase())),
            ..DeviceOptions::default()
        };
        let options = Options { backend: Backend::Gpu, batch_size: Some(256), device, ..Options::default() };
        let explainer = Explainer::with_options(perceptron()?, &Composite::preset("epsilon")?, options)?;
        let sample = Tensor::from_fn([1, WIDTHS[0]], |position| (position as f32).sin());
        explainer.explain(&[Input::from(&sample)], &Targets::ArgMax)?;
    }
    Ok(())
}

fn perceptron() -> relprop::Result<Network> {
    let mut builder = Network::builder();
    let mut value = builder.input("x", [WIDTHS[0]]);
    for (layer, pair) in WIDTHS.windows(2).enumerate() {
        let [inputs, outputs] = [pair[0], pair[1]];
        let weight = Tensor::from_fn([outputs, inputs], |position| (position as f32).sin() / inputs as f32);
        let bias = Tensor::from_fn([outputs], |position| (position as f32).cos());
        value = builder.dense(&format!("dense{layer}"), value, weight, Some(bias))?;
        if layer + 2 < WIDTHS.len() {
            value = builder.relu(&format!("relu{layer}"), value)?;
        }
    }
    builder.build(value)
}
