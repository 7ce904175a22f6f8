//! The epsilon rule backward through a dense layer, on buffers of the caller.

use super::chain::{Beside, Op, Operand, Outputs, Slot};
use super::device_kind::DeviceKind;
use super::kernel::binding;
use super::linear::{Linear, check, check_extents, part_of, read, row};
use super::product::{Direction, Product};
use super::tile::Tile;
use crate::chain::Denominator;
use crate::error::{Error, ErrorKind, Result};
use crate::rules::{InputPart, Mask, Stabilizer, WeightPart};

/// What a [`LinearEpsilon`] computes.
#[derive(Debug, Clone, PartialEq)]
pub struct EpsilonShape {
    /// Rows of X and Z: samples.
    pub rows: usize,
    /// Columns of X.
    pub inputs: usize,
    /// Columns of Z.
    pub outputs: usize,
    /// K: rows of relevance for each sample.
    pub targets: usize,
    /// X̃: all of X, max(x, 0), min(x, 0) or ones.
    pub input: InputPart,
    /// W̃: the weight, c₊W⁺ + c₋W⁻, W² or ones.
    pub weight: WeightPart,
    /// Which outputs take part, by the sign of Z.
    pub mask: Mask,
    /// stab: how Z is kept away from zero.
    pub stabilizer: Stabilizer,
    /// What the result is multiplied with: λ and σ of a rule's term.
    pub factor: f32,
    /// How the work is cut; chosen by its size and the device if none is given.
    pub tile: Option<Tile>,
}

impl EpsilonShape {
    /// The epsilon rule itself, for one target a sample, with ε = 1e-6.
    pub fn new(rows: usize, inputs: usize, outputs: usize) -> Self {
        EpsilonShape {
            rows,
            inputs,
            outputs,
            targets: 1,
            input: InputPart::Whole,
            weight: WeightPart::WHOLE,
            mask: Mask::Everywhere,
            stabilizer: Stabilizer::DEFAULT,
            factor: 1.0,
            tile: None,
        }
    }
}

/// The buffers of a [`LinearEpsilon`]; rows follow each other without gaps unless it says otherwise.
#[derive(Debug, Clone)]
pub struct EpsilonBuffers<'a> {
    /// X: `rows` × `inputs`.
    pub x: wgpu::BufferBinding<'a>,
    /// W: `outputs` × `inputs`, each row filled up to a multiple of 4 elements ([`pad_rows`](super::pad_rows)).
    pub weight: wgpu::BufferBinding<'a>,
    /// Z: `rows` × `outputs`, the denominators before stabilising.
    pub z: wgpu::BufferBinding<'a>,
    /// R at the outputs: `rows` · K × `outputs`; row sample · K + target.
    pub relevance: wgpu::BufferBinding<'a>,
    /// R at the inputs: `rows` · K × `inputs`, written.
    pub result: wgpu::BufferBinding<'a>,
}

/// R_in = λ X̃ ⊙ W̃ᵀ (mask(Z) R / stab(Z)): relevance of a batch back through a dense layer (Bach et al. 2015, eq. 58).
#[derive(Debug)]
pub struct LinearEpsilon {
    shape: EpsilonShape,
    linear: Linear,
}

impl LinearEpsilon {
    /// Compiles the kernel. wgpu reports what a device refuses through the device's error scopes.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) for an extent of 0;
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a part of X that is no function of X, and for a
    /// stabiliser that is relative to a whole row.
    pub fn new(device: &wgpu::Device, shape: &EpsilonShape) -> Result<Self> {
        check_extents(&[shape.rows, shape.inputs, shape.outputs, shape.targets])?;
        if let Stabilizer::Rms(_) = shape.stabilizer {
            return Err(Error::new(ErrorKind::Unsupported, "the kernel sees no whole row to take the rms of")
                .help("compute the rms beside it and give an absolute ε"));
        }
        let of_sample = shape.targets > 1;
        let beside = Beside { of_sample, is_scalar: false };
        let z = Operand::whole(Slot(0));
        let mask = (shape.mask != Mask::Everywhere).then_some(Op::Mask { by: z, mask: shape.mask });
        let by = Denominator::Buffer(z.buffer);
        let divide = Op::Divide { by, stabilizer: shape.stabilizer, rms: None };
        let prologue: Vec<Op> = mask.into_iter().chain([divide]).collect();
        let scale = (shape.factor != 1.0).then_some(Op::Scale(shape.factor));
        let x = match shape.input {
            InputPart::One => None,
            part => Some(Op::Multiply(Operand { part: part_of(part)?, ..Operand::whole(Slot(1)) })),
        };
        let epilogue: Vec<Op> = scale.into_iter().chain(x).collect();
        let rows = shape.rows * shape.targets;
        let kind = DeviceKind::of(&device.adapter_info());
        let product = Product {
            tile: shape.tile.unwrap_or_else(|| Tile::choose(rows, shape.inputs, kind)),
            direction: Direction::Backward,
            weight: shape.weight,
            half_weights: false,
            depth: shape.outputs,
            width: shape.inputs,
            first: 0,
            columns: shape.inputs,
            rows: shape.targets,
            tile_rows: rows,
            parts: 1,
            targets: shape.targets,
            activation: None,
            part: InputPart::Whole,
            addend: None,
            of_one_sign: false,
            prologue: &prologue,
            epilogue: &epilogue,
            outputs: Outputs::default(),
            operands: if shape.input == InputPart::One { &[beside] } else { &[beside, beside] },
            before: 1,
            places: &[],
        };
        Ok(LinearEpsilon { shape: shape.clone(), linear: Linear::new(device, &product, shape.rows)? })
    }

    /// Adds the kernel to an encoder: one compute pass with one dispatch.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) if a buffer is too small.
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder, buffers: EpsilonBuffers<'_>) -> Result<()> {
        let EpsilonShape { rows, inputs, outputs, targets, input, .. } = self.shape;
        let EpsilonBuffers { x, weight, z, relevance, result } = buffers;
        check("x", &x, rows * inputs)?;
        check("weight", &weight, outputs * row(inputs))?;
        check("z", &z, rows * outputs)?;
        check("relevance", &relevance, rows * targets * outputs)?;
        check("result", &result, rows * targets * inputs)?;
        let mut bound = vec![
            (binding::SOURCE, relevance),
            (binding::WEIGHT, weight),
            (binding::TARGET, result),
            (binding::OPERANDS, z),
        ];
        if input != InputPart::One {
            bound.push((binding::OPERANDS + 1, x));
        }
        self.linear.encode(encoder, bound);
        Ok(())
    }
}

/// What [`LinearEpsilon`] computes, on the CPU: plain loops with float64 sums. Slices are laid out as its buffers are.
///
/// # Panics
/// If a slice is too short.
pub fn linear_epsilon(
    shape: &EpsilonShape,
    x: &[f32],
    weight: &[f32],
    z: &[f32],
    relevance: &[f32],
    result: &mut [f32],
) {
    let EpsilonShape { rows, inputs, outputs, targets, .. } = *shape;
    for sample_row in 0..rows * targets {
        let sample = sample_row / targets;
        let (x, z) = (&x[sample * inputs..][..inputs], &z[sample * outputs..][..outputs]);
        let relevance = &relevance[sample_row * outputs..][..outputs];
        let quotients: Vec<f64> = relevance.iter().zip(z).map(|(&r, &z)| quotient(shape, r, z)).collect();
        for (input, (result, &x)) in result[sample_row * inputs..][..inputs].iter_mut().zip(x).enumerate() {
            let column = weight.iter().skip(input).step_by(row(inputs));
            let products = column.zip(&quotients).map(|(&w, q)| f64::from(shape.weight.of(w)) * q);
            *result = (f64::from(shape.factor) * read(shape.input, x) * products.sum::<f64>()) as f32;
        }
    }
}

/// mask(z) r / stab(z), 0 where the stabilised denominator is exactly 0.
fn quotient(shape: &EpsilonShape, r: f32, z: f32) -> f64 {
    let is_served = match shape.mask {
        Mask::Everywhere => true,
        Mask::Positive => z > 0.0,
        Mask::Negative => z < 0.0,
    };
    let (z, epsilon) = (f64::from(z), f64::from(shape.stabilizer.epsilon()));
    let damping = if z >= 0.0 { epsilon } else { -epsilon };
    let stable = match shape.stabilizer {
        Stabilizer::Absolute(_) | Stabilizer::Rms(_) => z + damping,
        Stabilizer::Clip(_) if z.abs() < epsilon => damping,
        Stabilizer::Clip(_) => z,
    };
    if is_served && stable != 0.0 { f64::from(r) / stable } else { 0.0 }
}
