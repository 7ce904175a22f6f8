//! What a backend does at most, by two small networks of its own kernels.

use fastrand::Rng;
use relprop::{Composite, Explainer, Input, Network, Result, Tensor};
use serde::Serialize;

use super::contender::Contender;
use super::profile::fastest;
use super::samples::SEED;

/// Rows and width of the product: enough rows for a device, and a weight that caches hold.
const PRODUCT: (usize, usize) = (4096, 512);
/// Rows and width of what is scaled: 64 MiB, more than caches hold.
const SCALED: (usize, usize) = (16, 1 << 20);
/// How often each is timed.
const REPEATS: usize = 3;

/// What a backend does at most.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Peak {
    /// 10⁹ floating-point operations a second of a dense layer's product.
    pub gflop_per_s: f64,
    /// 10⁹ bytes a second, read and written, where each element is scaled.
    pub gb_per_s: f64,
}

impl Peak {
    /// Measures a contender's backend.
    ///
    /// # Errors
    /// If it cannot run the two networks.
    pub fn measure(contender: &Contender) -> Result<Self> {
        let (rows, width) = PRODUCT;
        let product = fastest_step(contender, dense(width)?, rows)?;
        let (scaled_rows, scaled_width) = SCALED;
        let scaled = fastest_step(contender, affine(scaled_width)?, scaled_rows)?;
        Ok(Peak {
            gflop_per_s: (2 * rows * width * width) as f64 / product / 1e9,
            gb_per_s: (2 * scaled_rows * scaled_width * size_of::<f32>()) as f64 / scaled / 1e9,
        })
    }

    /// The least seconds that so many operations and bytes take.
    pub fn least_seconds(&self, operations: u64, bytes: u64) -> f64 {
        (operations as f64 / (self.gflop_per_s * 1e9)).max(bytes as f64 / (self.gb_per_s * 1e9))
    }
}

/// Elements of −1 to 1, always the same.
fn random(shape: [usize; 2]) -> Tensor {
    let mut rng = Rng::with_seed(SEED);
    Tensor::from_fn(shape, |_| rng.f32() * 2.0 - 1.0)
}

fn dense(width: usize) -> Result<Network> {
    let mut builder = Network::builder();
    let x = builder.input("x", [width]);
    let y = builder.dense("product", x, random([width, width]), None)?;
    builder.build(y)
}

fn affine(width: usize) -> Result<Network> {
    let mut builder = Network::builder();
    let x = builder.input("x", [width]);
    let y = builder.affine("scaled", x, Tensor::scalar(0.5), Tensor::scalar(0.25))?;
    builder.build(y)
}

/// The seconds of the first step, which is the network's one layer.
fn fastest_step(contender: &Contender, network: Network, rows: usize) -> Result<f64> {
    let width = network.shape(network.output()).count();
    let samples = random([rows, width]);
    let explainer = Explainer::with_options(network, &Composite::preset("epsilon")?, contender.options.clone())?;
    Ok(fastest(&explainer, &[Input::from(&samples)], REPEATS)?[0])
}
