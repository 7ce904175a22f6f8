//! The public kernels against their functions for the CPU and against formulas in float64: every shape of tile, every part of
//! weight and input, buffers with traps, bits and errors.

mod bits;
mod buffers;
mod device;
mod epsilon;
mod errors;
mod exact;
mod forward;

use device::{Device, shared};
use relprop::kernels::{
    self, EpsilonBuffers, EpsilonShape, ForwardBuffers, ForwardShape, LinearEpsilon, LinearForward, Tile,
};
use relprop::rules::{InputPart, Mask, Stabilizer, WeightPart};

const WEIGHTS: [WeightPart; 4] =
    [WeightPart::WHOLE, WeightPart::Scaled { positive: 2.5, negative: 0.5 }, WeightPart::Squared, WeightPart::One];

/// A reproducible stream of numbers in −1..1 (a 64-bit linear congruential generator).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn take(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.next()).collect()
    }

    /// Every eleventh is 0.
    fn with_zeros(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|at| if at % 11 == 3 { 0.0 } else { self.next() }).collect()
    }
}

/// A batch and a layer for [`LinearForward`].
#[derive(Debug, Clone)]
struct Forward {
    shape: ForwardShape,
    x: Vec<f32>,
    /// Without padding.
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
}

impl Forward {
    fn new(shape: ForwardShape) -> Self {
        let mut numbers = Numbers(1 + shape.inputs as u64);
        let x = numbers.with_zeros(shape.rows * shape.inputs);
        let weight = numbers.with_zeros(shape.outputs * shape.inputs);
        let bias = shape.has_bias.then(|| numbers.take(shape.outputs));
        Forward { shape, x, weight, bias }
    }

    fn padded(&self) -> Vec<f32> {
        kernels::pad_rows(&self.weight, self.shape.inputs)
    }

    fn compile(&self, on: &Device) -> LinearForward {
        LinearForward::new(&on.device, &self.shape).unwrap()
    }

    fn run(&self, on: &Device) -> Vec<f32> {
        self.run_with(&self.compile(on), on)
    }

    /// What a kernel of this shape gives.
    fn run_with(&self, kernel: &LinearForward, on: &Device) -> Vec<f32> {
        let ForwardShape { rows, outputs, .. } = self.shape;
        let (x, weight) = (on.given(&self.x), on.given(&self.padded()));
        let bias = self.bias.as_ref().map(|bias| on.given(bias));
        let z = on.wanted(rows * outputs);
        on.run(&z, |encoder| {
            let bias = bias.as_ref().map(|bias| bias.open());
            let buffers = ForwardBuffers { x: x.open(), weight: weight.open(), bias, z: z.open() };
            kernel.encode(encoder, buffers).unwrap();
        })
    }

    fn check(&self) {
        self.check_with(&self.compile(shared()), shared());
    }

    /// Kernel and function against the formula. Gives what the kernel gave.
    fn check_with(&self, kernel: &LinearForward, on: &Device) -> Vec<f32> {
        let what = format!("{:?}", self.shape);
        let bias = self.bias.as_deref();
        let exact = exact::forward(&self.shape, &self.x, &self.weight, bias);
        let mut z = vec![f32::NAN; self.shape.rows * self.shape.outputs];
        kernels::linear_forward(&self.shape, &self.x, &self.padded(), bias, &mut z);
        exact.assert_rounded_to(&z, &format!("the function for {what}"));
        let found = self.run_with(kernel, on);
        exact.assert_reached_by(&found, &what);
        found
    }
}

/// A batch, a layer and what arrives at its outputs for [`LinearEpsilon`].
#[derive(Debug, Clone)]
struct Epsilon {
    shape: EpsilonShape,
    x: Vec<f32>,
    /// Without padding.
    weight: Vec<f32>,
    z: Vec<f32>,
    relevance: Vec<f32>,
}

impl Epsilon {
    fn new(shape: EpsilonShape) -> Self {
        let EpsilonShape { rows, inputs, outputs, targets, .. } = shape;
        let mut numbers = Numbers(2 + inputs as u64);
        Epsilon {
            shape,
            x: numbers.with_zeros(rows * inputs),
            weight: numbers.with_zeros(outputs * inputs),
            z: numbers.with_zeros(rows * outputs),
            relevance: numbers.take(rows * targets * outputs),
        }
    }

    fn padded(&self) -> Vec<f32> {
        kernels::pad_rows(&self.weight, self.shape.inputs)
    }

    fn compile(&self, on: &Device) -> LinearEpsilon {
        LinearEpsilon::new(&on.device, &self.shape).unwrap()
    }

    fn run(&self, on: &Device) -> Vec<f32> {
        self.run_with(&self.compile(on), on)
    }

    /// What a kernel of this shape gives.
    fn run_with(&self, kernel: &LinearEpsilon, on: &Device) -> Vec<f32> {
        let EpsilonShape { rows, inputs, targets, .. } = self.shape;
        let (x, weight) = (on.given(&self.x), on.given(&self.padded()));
        let (z, relevance) = (on.given(&self.z), on.given(&self.relevance));
        let result = on.wanted(rows * targets * inputs);
        on.run(&result, |encoder| {
            let buffers = EpsilonBuffers {
                x: x.open(),
                weight: weight.open(),
                z: z.open(),
                relevance: relevance.open(),
                result: result.open(),
            };
            kernel.encode(encoder, buffers).unwrap();
        })
    }

    fn check(&self) {
        self.check_with(&self.compile(shared()), shared());
    }

    /// Kernel and function against the formula. Gives what the kernel gave.
    fn check_with(&self, kernel: &LinearEpsilon, on: &Device) -> Vec<f32> {
        let what = format!("{:?}", self.shape);
        let Epsilon { shape, x, weight, z, relevance } = self;
        let exact = exact::epsilon(shape, x, weight, z, relevance);
        let mut result = vec![f32::NAN; shape.rows * shape.targets * shape.inputs];
        kernels::linear_epsilon(shape, x, &self.padded(), z, relevance, &mut result);
        exact.assert_rounded_to(&result, &format!("the function for {what}"));
        let found = self.run_with(kernel, on);
        exact.assert_reached_by(&found, &what);
        found
    }
}

/// Rows, summed elements and columns of products at every edge of a tile that makes `rows` × `columns` in steps of `depth`.
fn edges([rows, depth, columns]: [usize; 3]) -> Vec<[usize; 3]> {
    vec![
        [1, 1, 1],
        [rows.max(2) - 1, depth - 1, columns - 1],
        [rows, depth, columns],
        [rows + 1, depth + 1, columns + 1],
        [rows.max(2) - 1, 3 * depth, columns + 1],
        [rows, 3 * depth + 1, columns - 1],
        [rows + 1, 4 * depth - 1, columns],
        [2 * rows + 3, 5 * depth + 2, 2 * columns + 1],
    ]
}
