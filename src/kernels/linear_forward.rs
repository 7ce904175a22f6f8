//! Z = X Wᵀ + b on buffers of the caller.

use super::chain::{Columns, Op, Outputs, Repeat};
use super::device_kind::DeviceKind;
use super::kernel::binding;
use super::linear::{Linear, check, check_extents, part_of, row};
use super::product::{Direction, Product};
use super::step::Place;
use super::tile::Tile;
use crate::error::{Error, Result};
use crate::layers::Activation;
use crate::reference;
use crate::rules::{InputPart, WeightPart};

/// What a [`LinearForward`] computes.
#[derive(Debug, Clone, PartialEq)]
pub struct ForwardShape {
    /// Rows of X: samples.
    pub rows: usize,
    /// Columns of X.
    pub inputs: usize,
    /// Columns of Z.
    pub outputs: usize,
    /// What is read of X: all of it, max(x, 0) or min(x, 0).
    pub input: InputPart,
    /// W̃: the weight, c₊W⁺ + c₋W⁻, W² or ones.
    pub weight: WeightPart,
    /// Whether a bias is added.
    pub has_bias: bool,
    /// The function that Z goes through.
    pub activation: Option<Activation>,
    /// How the work is cut; chosen by its size and the device if none is given.
    pub tile: Option<Tile>,
}

impl ForwardShape {
    /// All of X times the weight itself, with a bias and without an activation.
    pub fn new(rows: usize, inputs: usize, outputs: usize) -> Self {
        ForwardShape {
            rows,
            inputs,
            outputs,
            input: InputPart::Whole,
            weight: WeightPart::WHOLE,
            has_bias: true,
            activation: None,
            tile: None,
        }
    }
}

/// The buffers of a [`LinearForward`]; rows follow each other without gaps unless it says otherwise.
#[derive(Debug, Clone)]
pub struct ForwardBuffers<'a> {
    /// X: `rows` × `inputs`.
    pub x: wgpu::BufferBinding<'a>,
    /// W: `outputs` × `inputs`, each row filled up to a multiple of 4 elements ([`pad_rows`](super::pad_rows)).
    pub weight: wgpu::BufferBinding<'a>,
    /// b: `outputs` elements; none without a bias.
    pub bias: Option<wgpu::BufferBinding<'a>>,
    /// Z: `rows` × `outputs`, written.
    pub z: wgpu::BufferBinding<'a>,
}

/// Z = f(X̃ W̃ᵀ + b): a batch through a dense layer.
#[derive(Debug)]
pub struct LinearForward {
    shape: ForwardShape,
    linear: Linear,
}

impl LinearForward {
    /// Compiles the kernel. wgpu reports what a device refuses through the device's error scopes.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) for an extent of 0;
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a part of X that is no function of X.
    pub fn new(device: &wgpu::Device, shape: &ForwardShape) -> Result<Self> {
        check_extents(&[shape.rows, shape.inputs, shape.outputs])?;
        part_of(shape.input)?;
        let bias = shape.has_bias.then_some(Op::AddParameter(Columns { index: 0, repeat: Repeat::Never }));
        let epilogue: Vec<Op> = bias.into_iter().chain(shape.activation.map(Op::Activate)).collect();
        let kind = DeviceKind::of(&device.adapter_info());
        let product = Product {
            tile: shape.tile.unwrap_or_else(|| Tile::choose(shape.rows, shape.outputs, kind)),
            direction: Direction::Forward,
            weight: shape.weight,
            half_weights: false,
            depth: shape.inputs,
            width: shape.outputs,
            first: 0,
            columns: shape.outputs,
            rows: 1,
            tile_rows: shape.rows,
            parts: 1,
            targets: 1,
            activation: None,
            part: shape.input,
            addend: None,
            of_one_sign: false,
            prologue: &[],
            epilogue: &epilogue,
            outputs: Outputs::default(),
            operands: &[],
            before: 0,
            places: &[Place { offset: 0, period: shape.outputs as u32 }],
        };
        Ok(LinearForward { shape: shape.clone(), linear: Linear::new(device, &product, shape.rows)? })
    }

    /// Adds the kernel to an encoder: one compute pass with one dispatch.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) if a buffer is too small, or the bias is not there or not wanted.
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder, buffers: ForwardBuffers<'_>) -> Result<()> {
        let ForwardShape { rows, inputs, outputs, has_bias, .. } = self.shape;
        let ForwardBuffers { x, weight, bias, z } = buffers;
        check("x", &x, rows * inputs)?;
        check("weight", &weight, outputs * row(inputs))?;
        check("z", &z, rows * outputs)?;
        let mut bound = vec![(binding::SOURCE, x), (binding::WEIGHT, weight), (binding::TARGET, z)];
        match (has_bias, bias) {
            (true, Some(bias)) => {
                check("bias", &bias, outputs)?;
                bound.push((binding::PARAMETERS, bias));
            }
            (false, None) => {}
            (true, None) => return Err(Error::shape("the kernel adds a bias, and none is given")),
            (false, Some(_)) => return Err(Error::shape("a bias is given, and the kernel adds none")),
        }
        self.linear.encode(encoder, bound);
        Ok(())
    }
}

/// What [`LinearForward`] computes, on the CPU: plain loops with float64 sums. Slices are laid out as its buffers are.
///
/// # Panics
/// If a slice is too short.
pub fn linear_forward(shape: &ForwardShape, x: &[f32], weight: &[f32], bias: Option<&[f32]>, z: &mut [f32]) {
    let x_of = |x: f32| super::linear::read(shape.input, x);
    for (x, z) in x.chunks_exact(shape.inputs).zip(z.chunks_exact_mut(shape.outputs)).take(shape.rows) {
        for (output, (z, weights)) in z.iter_mut().zip(weight.chunks_exact(row(shape.inputs))).enumerate() {
            let products = weights.iter().zip(x).map(|(&w, &x)| f64::from(shape.weight.of(w)) * x_of(x));
            let bias = bias.map_or(0.0, |bias| f64::from(bias[output]));
            let sum = products.sum::<f64>() + bias;
            *z = shape.activation.map_or(sum, |activation| reference::value(&activation, sum)) as f32;
        }
    }
}
