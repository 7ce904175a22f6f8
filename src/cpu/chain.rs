//! The elementwise chain of a step, applied to one cache-hot row after another.

use super::memory::Memory;
use super::parameters::Parameters;
use super::simd::{self, Level, Loop};
use crate::layers::{Activation, GeluForm};
use crate::plan::{Denominator, Op, Operand, Plan, Rows};
use crate::rules::{InputPart, Mask, Stabilizer};

/// The chain of one step with what it reads.
pub(super) struct Chain<'a> {
    pub(super) plan: &'a Plan,
    pub(super) memory: &'a Memory<'a>,
    pub(super) parameters: &'a Parameters,
    pub(super) ops: &'a [Op],
    /// How many rows the step's target has for each row of a sample's buffer.
    pub(super) rows: Rows,
}

impl Chain<'_> {
    /// Applies the chain to columns `from..` of row `row` of the target.
    pub(super) fn apply(&self, row: usize, from: usize, v: &mut [f32], scratch: &mut Vec<f32>) {
        for op in self.ops {
            match op {
                Op::Scale(factor) => each(v, |v| v * factor),
                Op::AddParameter(parameter) => {
                    zip(v, self.parameters.columns(parameter, from), |v, p| v + p);
                }
                Op::MultiplyParameter(parameter) => {
                    zip(v, self.parameters.columns(parameter, from), |v, p| v * p);
                }
                Op::Activate(activation) => activate(*activation, v),
                Op::Part(part) => take_part(*part, v),
                Op::Add { operand, factor } if *factor == 1.0 => {
                    self.with(operand, row, from, v, scratch, |v, x| v + x)
                }
                Op::Add { operand, factor } => self.with(operand, row, from, v, scratch, |v, x| v + factor * x),
                Op::Multiply(operand) => self.with(operand, row, from, v, scratch, |v, x| v * x),
                Op::MultiplyDerivative { activation, at } => {
                    let activation = *activation;
                    self.with(at, row, from, v, scratch, |v, z| v * derivative(activation, z));
                }
                Op::Mask { by, mask } => match mask {
                    Mask::Everywhere => {}
                    Mask::Positive => self.with(by, row, from, v, scratch, |v, z| if z > 0.0 { v } else { 0.0 }),
                    Mask::Negative => self.with(by, row, from, v, scratch, |v, z| if z < 0.0 { v } else { 0.0 }),
                },
                Op::Divide { by, stabilizer, rms } => {
                    let d = self.denominator(by, row, from, v.len());
                    let damping = self.damping(by, *stabilizer, *rms, row);
                    divide(v, d, *stabilizer, damping);
                }
                Op::MultiplyDamping { by, stabilizer, rms } => {
                    let d = self.denominator(by, row, from, v.len());
                    let damping = self.damping(by, *stabilizer, *rms, row);
                    let stabilizer = *stabilizer;
                    zip(v, d, |v, d| v * (stabilize(stabilizer, damping, d) - d));
                }
            }
        }
    }

    /// The part of a buffer's row that stands beside columns `from..from + length` of the target's row.
    fn beside(&self, buffer: crate::plan::BufferId, row: usize, from: usize, length: usize) -> &[f32] {
        let known = &self.plan.buffers[buffer.index()];
        let row = match (self.rows, known.rows) {
            (Rows::Target, Rows::Sample) => row / self.plan.targets,
            _ => row,
        };
        &self.memory.read(buffer)[row * known.width + from..][..length]
    }

    fn with(
        &self,
        operand: &Operand,
        row: usize,
        from: usize,
        v: &mut [f32],
        scratch: &mut Vec<f32>,
        f: impl Fn(f32, f32) -> f32,
    ) {
        let x = self.beside(operand.buffer, row, from, v.len());
        match (operand.activation, operand.part) {
            (None, InputPart::Whole) => zip(v, x, f),
            (Some(Activation::Relu), InputPart::Whole | InputPart::Positive) | (None, InputPart::Positive) => {
                zip(v, x, |v, x| f(v, relu(x)));
            }
            _ => {
                scratch.clear();
                scratch.extend_from_slice(x);
                read_through(operand, scratch);
                zip(v, scratch, f);
            }
        }
    }

    fn denominator(&self, by: &Denominator, row: usize, from: usize, length: usize) -> &[f32] {
        match by {
            Denominator::Buffer(buffer) => self.beside(*buffer, row, from, length),
            Denominator::Parameter(parameter) => &self.parameters.columns(parameter, from)[..length],
        }
    }

    /// ε, times the rms of d where the stabiliser is relative.
    fn damping(&self, by: &Denominator, stabilizer: Stabilizer, rms: Option<crate::plan::BufferId>, row: usize) -> f32 {
        let epsilon = stabilizer.epsilon();
        match (stabilizer, rms, by) {
            (Stabilizer::Absolute(_) | Stabilizer::Clip(_), _, _) => epsilon,
            (Stabilizer::Rms(_), Some(rms), _) => epsilon * self.beside(rms, row, 0, 1)[0],
            (Stabilizer::Rms(_), None, Denominator::Parameter(parameter)) => epsilon * self.parameters.rms(parameter),
            (Stabilizer::Rms(_), None, Denominator::Buffer(_)) => {
                unreachable!("a plan measures the rms of every computed denominator that needs it")
            }
        }
    }
}

/// v ← f(v, x) for each element, at the widest level of this machine.
fn zip<F: Fn(f32, f32) -> f32>(v: &mut [f32], x: &[f32], f: F) {
    struct Zip<'a, F>(&'a mut [f32], &'a [f32], F);
    impl<F: Fn(f32, f32) -> f32> Loop for Zip<'_, F> {
        #[inline(always)]
        fn run<const FUSED: bool, const LANES: usize>(self) {
            for (v, &x) in self.0.iter_mut().zip(self.1) {
                *v = self.2(*v, x);
            }
        }
    }
    simd::run(Level::widest(), Zip(v, x, f));
}

/// v ← f(v) for each element, at the widest level of this machine.
fn each<F: Fn(f32) -> f32>(v: &mut [f32], f: F) {
    struct Each<'a, F>(&'a mut [f32], F);
    impl<F: Fn(f32) -> f32> Loop for Each<'_, F> {
        #[inline(always)]
        fn run<const FUSED: bool, const LANES: usize>(self) {
            for v in self.0 {
                *v = self.1(*v);
            }
        }
    }
    simd::run(Level::widest(), Each(v, f));
}

/// v / stab(d), 0 where the stabilised denominator is exactly 0.
fn divide(v: &mut [f32], d: &[f32], stabilizer: Stabilizer, damping: f32) {
    match stabilizer {
        // A positive ε keeps the denominator from zero, which spares the test.
        Stabilizer::Absolute(_) | Stabilizer::Rms(_) if damping > 0.0 => {
            zip(v, d, |v, d| v / (d + damping.copysign(if d >= 0.0 { 1.0 } else { -1.0 })));
        }
        _ => zip(v, d, |v, d| {
            let stable = stabilize(stabilizer, damping, d);
            if stable == 0.0 { 0.0 } else { v / stable }
        }),
    }
}

/// stab(d); NaN stays NaN.
fn stabilize(stabilizer: Stabilizer, damping: f32, d: f32) -> f32 {
    let sign = if d >= 0.0 { 1.0 } else { -1.0 };
    match stabilizer {
        Stabilizer::Absolute(_) | Stabilizer::Rms(_) => d + damping * sign,
        Stabilizer::Clip(_) if d.abs() < damping => damping * sign,
        Stabilizer::Clip(_) => d,
    }
}

/// Turns elements as they are stored into elements as an operand reads them.
pub(super) fn read_through(operand: &Operand, v: &mut [f32]) {
    if let Some(activation) = operand.activation {
        activate(activation, v);
    }
    take_part(operand.part, v);
}

fn take_part(part: InputPart, v: &mut [f32]) {
    match part {
        InputPart::Whole | InputPart::Low | InputPart::High | InputPart::One => {}
        InputPart::Positive => each(v, |v| relu(v)),
        InputPart::Negative => each(v, |v| if v > 0.0 { 0.0 } else { v }),
    }
}

/// f(v) for each element. NaN stays NaN.
fn activate(activation: Activation, v: &mut [f32]) {
    match activation {
        Activation::Relu => each(v, |v| relu(v)),
        Activation::LeakyRelu { slope } => each(v, |v| if v >= 0.0 { v } else { slope * v }),
        Activation::Sigmoid => each(v, |v| 1.0 / (1.0 + (-v).exp())),
        Activation::Tanh => each(v, |v| v.tanh()),
        Activation::Gelu(form) => each(v, |v| v * gelu_gate(form, v)),
        Activation::Erf => each(v, |v| libm::erff(v)),
    }
}

/// Φ(x) in the given form.
fn gelu_gate(form: GeluForm, x: f32) -> f32 {
    match form {
        GeluForm::Erf => 0.5 * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2)),
        GeluForm::Tanh => 0.5 * (1.0 + gelu_inner(x).tanh()),
    }
}

fn gelu_inner(x: f32) -> f32 {
    0.797_884_6 * (x + 0.044_715 * x * x * x)
}

/// f′(z); at a kink the derivative from below, as PyTorch has it.
fn derivative(activation: Activation, z: f32) -> f32 {
    use std::f32::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};
    match activation {
        Activation::Relu => f32::from(u8::from(z > 0.0)),
        Activation::LeakyRelu { slope } => {
            if z > 0.0 {
                1.0
            } else {
                slope
            }
        }
        Activation::Sigmoid => {
            let y = 1.0 / (1.0 + (-z).exp());
            y * (1.0 - y)
        }
        Activation::Tanh => {
            let y = z.tanh();
            1.0 - y * y
        }
        Activation::Gelu(GeluForm::Erf) => {
            let density = 0.5 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2 * (-0.5 * z * z).exp();
            gelu_gate(GeluForm::Erf, z) + z * density
        }
        Activation::Gelu(GeluForm::Tanh) => {
            let t = gelu_inner(z).tanh();
            0.5 * (1.0 + t) + 0.5 * z * (1.0 - t * t) * 0.797_884_6 * (1.0 + 3.0 * 0.044_715 * z * z)
        }
        Activation::Erf => FRAC_2_SQRT_PI * (-z * z).exp(),
    }
}

/// max(v, 0). NaN stays NaN.
fn relu(v: f32) -> f32 {
    if v < 0.0 { 0.0 } else { v }
}
