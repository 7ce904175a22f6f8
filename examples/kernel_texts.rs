//! Writes the texts of the kernels that ε and αβ take on a perceptron and on a convolutional network, in every shape of tile, for
//! `benches/kernelstat`.
//!
//! `kernel_texts FOLDER` fills `FOLDER/large`, `FOLDER/large-half` for weights as float16, `FOLDER/medium`, and so on, with the WGSL that a
//! device runs.

use std::path::PathBuf;

use relprop::gpu::DeviceOptions;
use relprop::kernels::Tile;
use relprop::layers::{Window, WindowAxis};
use relprop::network::{NetworkBuilder, ValueId};
use relprop::{Backend, Composite, Explainer, Input, Network, Options, Targets, Tensor, wgpu};

/// The perceptron of the other benchmarks.
const WIDTHS: [usize; 5] = [784, 1024, 1024, 1024, 10];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).ok_or("usage: kernel_texts FOLDER")?);
    for (tile, half_weights) in Tile::ALL.into_iter().flat_map(|tile| [(tile, false), (tile, true)]) {
        let name = format!("{tile:?}{}", if half_weights { "-half" } else { "" }).to_lowercase();
        let device = DeviceOptions {
            // One that neither compiles nor computes: the texts do not depend on it.
            adapter: Some("noop".to_owned()),
            interfaces: Some(wgpu::Backends::NOOP),
            tile: Some(tile),
            half_weights,
            dump_shaders: Some(folder.join(name)),
            ..DeviceOptions::default()
        };
        for preset in ["epsilon", "epsilon-alpha2-beta1"] {
            for network in [perceptron()?, convolutional()?] {
                let shape = network.shape(network.inputs()[0].value).prepend(1);
                let sample = Tensor::from_fn(shape, |position| (position as f32).sin());
                let options = Options {
                    backend: Backend::Gpu,
                    batch_size: Some(1),
                    device: device.clone(),
                    ..Options::default()
                };
                let explainer = Explainer::with_options(network, &Composite::preset(preset)?, options)?;
                explainer.explain(&[Input::from(&sample)], &Targets::ArgMax)?;
            }
        }
    }
    Ok(())
}

fn perceptron() -> relprop::Result<Network> {
    let mut builder = Network::builder();
    let mut value = builder.input("x", [WIDTHS[0]]);
    for (layer, pair) in WIDTHS.windows(2).enumerate() {
        value = dense(&mut builder, value, pair[1])?;
        if layer + 2 < WIDTHS.len() {
            value = builder.relu("relu", value)?;
        }
    }
    builder.build(value)
}

/// A stem of three channels, convolutions of 3 × 3 with stride 1 and 2, one of 1 × 1 with stride 2, one that keeps channels
/// apart, and pools.
fn convolutional() -> relprop::Result<Network> {
    let mut builder = Network::builder();
    let mut value = builder.input("x", [3, 32, 32]);
    for (outputs, kernel, stride, groups) in
        [(64, 7, 2, 1), (128, 3, 1, 1), (128, 3, 2, 1), (64, 1, 2, 1), (64, 3, 1, 64)]
    {
        let inputs = builder.shape(value).dims()[0] / groups;
        let fan_in = inputs * kernel * kernel;
        let weight = Tensor::from_fn([outputs, inputs, kernel, kernel], |at| (at as f32).sin() / fan_in as f32);
        let bias = Tensor::from_fn([outputs], |at| (at as f32).cos());
        let window = window(kernel, stride, kernel / 2)?;
        value = builder.conv("conv", value, weight, Some(bias), window, groups)?;
        value = builder.relu("relu", value)?;
    }
    value = builder.max_pool("max", value, window(3, 1, 1)?)?;
    value = builder.global_average_pool("average", value)?;
    value = builder.reshape("flat", value, [64])?;
    value = dense(&mut builder, value, 10)?;
    builder.build(value)
}

fn window(kernel: usize, stride: usize, padding: usize) -> relprop::Result<Window> {
    let axis = WindowAxis { stride, before: padding, after: padding, ..WindowAxis::new(kernel) };
    Window::new(vec![axis; 2])
}

fn dense(builder: &mut NetworkBuilder, value: ValueId, outputs: usize) -> relprop::Result<ValueId> {
    let inputs = builder.shape(value).count();
    let weight = Tensor::from_fn([outputs, inputs], |position| (position as f32).sin() / inputs as f32);
    let bias = Tensor::from_fn([outputs], |position| (position as f32).cos());
    builder.dense("dense", value, weight, Some(bias))
}
