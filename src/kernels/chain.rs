//! Chains of elementwise operations as text: what each line of a prologue or epilogue says, with its numbers.

use minijinja::{Value, context};
use serde::Serialize;

use super::kernel::binding;
use super::step::{NUMBERS, PARAMETERS, Step};
use crate::chain;
use crate::error::{Error, Result};
use crate::layers::{Activation, GeluForm};
use crate::rules::{InputPart, Mask, Stabilizer};

/// An elementwise operation of a kernel.
pub(crate) type Op = chain::Op<Slot, Columns>;
/// A buffer as a kernel's chain reads it.
pub(crate) type Operand = chain::Operand<Slot>;

/// The position of a buffer in a kernel's operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(pub usize);

/// Numbers that stand beside every row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Columns {
    /// The position of their place in the step.
    pub index: usize,
    pub repeat: Repeat,
}

/// How often numbers stand beside a row of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Once.
    Never,
    /// For each of the kernel's rows that lie side by side in it.
    EachRow,
    /// After the period that the step is told.
    Period,
    /// Likewise, with a period for each target of a sample, one after another: as whole vectors, or each followed by what
    /// four from any column on read beyond it.
    EachTarget { is_whole: bool },
}

/// What a chain reads of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Beside {
    /// Whether the buffer has a row a sample while the kernel works on a row a sample and target.
    pub of_sample: bool,
    /// Whether a row is one number.
    pub is_scalar: bool,
}

/// What a kernel's elements go through behind its epilogue.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Outputs<'a> {
    /// On the way to the target.
    pub then: &'a [Op],
    /// On the way to each target beside it.
    pub also: &'a [Vec<Op>],
}

/// A statement of `chain` in `shaders/lib/chain.wgsl`.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Line {
    Assign { value: String },
    Scale { factor: String },
    Add { value: String },
    AddScaled { value: String, factor: String },
    Multiply { value: String },
    Mask { value: String, sign: String },
    Divide { value: String, stabilizer: &'static str, epsilon: String },
    DivideInto { value: String, stabilizer: &'static str, epsilon: String },
    Damp { value: String, stabilizer: &'static str, epsilon: String },
}

/// Writes the lines of a kernel's chains and gathers their numbers.
#[derive(Debug, Default)]
pub(super) struct Writer {
    numbers: Vec<f32>,
    parameters: usize,
    /// The bindings of targets beside the first.
    targets: Vec<u32>,
}

impl Writer {
    /// The numbers that the lines name, put into a step.
    ///
    /// # Errors
    /// If they are more than a step holds.
    pub(super) fn fill(&self, step: &mut Step) -> Result<()> {
        if self.numbers.len() > NUMBERS || self.parameters > PARAMETERS {
            return Err(Error::internal("a chain of elementwise operations is too long for one kernel"));
        }
        step.numbers[..self.numbers.len()].copy_from_slice(&self.numbers);
        Ok(())
    }

    /// Whether any line reads parameters.
    pub(super) fn has_parameters(&self) -> bool {
        self.parameters > 0
    }

    pub(super) fn lines(&mut self, ops: &[Op]) -> Vec<Line> {
        ops.iter().map(|op| self.line(op)).collect()
    }

    /// The bindings of targets beside the first.
    pub(super) fn targets(&self) -> &[u32] {
        &self.targets
    }

    /// What a kernel of so many operands makes of its elements, as the templates see it.
    pub(super) fn outputs(&mut self, outputs: Outputs<'_>, operands: usize) -> Value {
        let mut also = Vec::new();
        for ops in outputs.also {
            let binding = binding::OPERANDS + (operands + also.len()) as u32;
            self.targets.push(binding);
            also.push(context! { lines => self.lines(ops), binding });
        }
        context! { also, then => self.lines(outputs.then) }
    }

    fn line(&mut self, op: &Op) -> Line {
        match *op {
            Op::Scale(factor) => Line::Scale { factor: self.number(factor) },
            Op::AddParameter(columns) => Line::Add { value: self.parameter(columns) },
            Op::MultiplyParameter(columns) => Line::Multiply { value: self.parameter(columns) },
            Op::Activate(activation) => Line::Assign { value: self.activated(activation, "v") },
            Op::Part(part) => Line::Assign { value: part_of(part, "v".to_owned()) },
            Op::Add { operand, factor: 1.0 } => Line::Add { value: self.operand(&operand) },
            Op::Add { operand, factor } => {
                Line::AddScaled { value: self.operand(&operand), factor: self.number(factor) }
            }
            Op::Multiply(operand) => Line::Multiply { value: self.operand(&operand) },
            Op::MultiplySum([Slot(one), Slot(other)]) => {
                Line::Multiply { value: format!("(operand_{one}(at) + operand_{other}(at))") }
            }
            Op::MultiplyDerivative { activation, at } => {
                let z = self.operand(&at);
                Line::Multiply { value: self.call(activation, "_slope", &z) }
            }
            Op::Mask { by, mask } => match mask {
                Mask::Everywhere => Line::Assign { value: "v".to_owned() },
                Mask::Positive => Line::Mask { value: self.operand(&by), sign: self.number(1.0) },
                Mask::Negative => Line::Mask { value: self.operand(&by), sign: self.number(-1.0) },
            },
            Op::Divide { by, stabilizer, rms } => {
                let (value, stabilizer, epsilon) = self.denominator(by, stabilizer, rms);
                Line::Divide { value, stabilizer, epsilon }
            }
            Op::DivideInto { numerator, stabilizer } => Line::DivideInto {
                value: self.operand(&numerator),
                stabilizer: stabilizer_text(stabilizer),
                epsilon: self.number(stabilizer.epsilon()),
            },
            Op::MultiplyQuotients { by: [one, other], of_sum, factors, stabilizer } => {
                let epsilon = self.number(stabilizer.epsilon());
                let stabilize = format!("stabilize_{}", stabilizer_text(stabilizer));
                let mut quotient = |sign: &str, d: &str, factor: f32| {
                    let factor = self.number(factor);
                    format!("quotient_of_sign({sign}, {factor}, {d}, {stabilize}({d}, {epsilon}))")
                };
                let raising = if of_sum { rest(one, other) } else { of_slot(one) };
                let quotients = [quotient("1.0", &raising, factors[0]), quotient("-1.0", &of_slot(other), factors[1])];
                Line::Multiply { value: format!("({})", quotients.join(" + ")) }
            }
            Op::MultiplyDamping { by, stabilizer, rms } => {
                let (value, stabilizer, epsilon) = self.denominator(by, stabilizer, rms);
                Line::Damp { value, stabilizer, epsilon }
            }
        }
    }

    fn denominator(
        &mut self,
        by: chain::Denominator<Slot, Columns>,
        stabilizer: Stabilizer,
        rms: Option<Slot>,
    ) -> (String, &'static str, String) {
        let value = match by {
            chain::Denominator::Buffer(slot) => of_slot(slot),
            chain::Denominator::Rest { of, without } => rest(of, without),
            chain::Denominator::Parameter(columns) => self.parameter(columns),
        };
        let mut epsilon = self.number(stabilizer.epsilon());
        if let Some(Slot(slot)) = rms {
            epsilon = format!("{epsilon} * operand_{slot}(at).x");
        }
        (value, stabilizer_text(stabilizer), epsilon)
    }

    /// An operand as an expression. What only keeps it within bounds, or leaves it as it is, is one text for all bounds.
    pub(super) fn operand(&mut self, operand: &Operand) -> String {
        self.read_within(operand.activation, operand.part, &format!("operand_{}(at)", operand.buffer.0), false)
    }

    /// The expression `x` through an activation, then a part, likewise; or with a text of its own for the commonest bounds, which
    /// takes as many numbers.
    pub(super) fn read_within(
        &mut self,
        activation: Option<Activation>,
        part: InputPart,
        x: &str,
        is_own_text: bool,
    ) -> String {
        let Some([low, high]) = bounds(activation, part) else { return self.read(activation, part, x) };
        let clipped = format!("clip({x}, {}, {})", self.number(low), self.number(high));
        match [low, high] {
            [f32::NEG_INFINITY, f32::INFINITY] if is_own_text => x.to_owned(),
            [0.0, f32::INFINITY] if is_own_text => format!("relu({x})"),
            [f32::NEG_INFINITY, 0.0] if is_own_text => format!("negative({x})"),
            _ => clipped,
        }
    }

    /// The expression `x` through an activation, then a part.
    pub(super) fn read(&mut self, activation: Option<Activation>, part: InputPart, x: &str) -> String {
        let activated = match activation {
            Some(activation) => self.activated(activation, x),
            None => x.to_owned(),
        };
        part_of(part, activated)
    }

    fn activated(&mut self, activation: Activation, x: &str) -> String {
        self.call(activation, "", x)
    }

    fn call(&mut self, activation: Activation, suffix: &str, x: &str) -> String {
        let (name, numbers): (&str, &[f32]) = match &activation {
            Activation::Relu => ("relu", &[]),
            Activation::LeakyRelu { slope } => ("leaky_relu", &[*slope]),
            Activation::Sigmoid => ("sigmoid", &[]),
            Activation::Tanh => ("hyperbolic_tangent", &[]),
            Activation::Gelu(GeluForm::Erf) => ("gelu", &[]),
            Activation::Gelu(GeluForm::Tanh) => ("gelu_tanh", &[]),
            Activation::Erf => ("error_function", &[]),
            Activation::Softplus { beta } => ("softplus", &[*beta]),
            Activation::Elu { alpha } => ("elu", &[*alpha]),
            Activation::Selu { alpha, gamma } => ("selu", &[*alpha, *gamma]),
            Activation::Celu { alpha } => ("celu", &[*alpha]),
            Activation::Silu { beta } => ("silu", &[*beta]),
            Activation::HardSigmoid { slope, offset } => ("hard_sigmoid", &[*slope, *offset]),
            Activation::HardSwish => ("hard_swish", &[]),
            Activation::Mish => ("mish", &[]),
            Activation::Clip { low, high } => ("clip", &[*low, *high]),
            Activation::ThresholdedRelu { threshold } => ("thresholded_relu", &[*threshold]),
            Activation::Softsign => ("softsign", &[]),
            Activation::Exp => ("exponential", &[]),
            Activation::Abs => ("magnitude", &[]),
            Activation::Power { offset, exponent: 2.0 } => ("square", &[*offset]),
            Activation::Power { offset, exponent: 0.5 } => ("root", &[*offset]),
            Activation::Power { offset, exponent: -0.5 } => ("inverse_root", &[*offset]),
            Activation::Power { offset, exponent: -1.0 } => ("inverse", &[*offset]),
            Activation::Power { offset, exponent } => ("power", &[*offset, *exponent]),
        };
        let arguments = numbers.iter().map(|&number| format!(", {}", self.number(number))).collect::<String>();
        format!("{name}{suffix}({x}{arguments})")
    }

    fn parameter(&mut self, columns: Columns) -> String {
        let Columns { index, repeat } = columns;
        self.parameters = self.parameters.max(index + 1);
        let column = match repeat {
            Repeat::Never => "at.column".to_owned(),
            Repeat::EachRow => "at.within".to_owned(),
            Repeat::Period => format!("at.column % {}", component("periods", index)),
            Repeat::EachTarget { is_whole } => {
                let period = component("periods", index);
                let stride = if is_whole { period.clone() } else { format!("(({period} + 6u) / 4u * 4u)") };
                format!("at.row % step.targets * {stride} + at.column % {period}")
            }
        };
        format!("parameter({} + {column})", component("offsets", index))
    }

    fn number(&mut self, number: f32) -> String {
        self.numbers.push(number);
        component("numbers", self.numbers.len() - 1)
    }
}

fn of_slot(Slot(slot): Slot) -> String {
    format!("operand_{slot}(at)")
}

/// What is left of one buffer without another.
fn rest(of: Slot, without: Slot) -> String {
    format!("({} - {})", of_slot(of), of_slot(without))
}

/// The name of a stabiliser's functions, without the rms.
fn stabilizer_text(stabilizer: Stabilizer) -> &'static str {
    match stabilizer {
        Stabilizer::Absolute(_) | Stabilizer::Rms(_) => "absolute",
        Stabilizer::Clip(_) => "clip",
    }
}

/// The bounds that an element is kept within, if that is all that reading it does.
fn bounds(activation: Option<Activation>, part: InputPart) -> Option<[f32; 2]> {
    let [low, high] = match activation {
        None => [f32::NEG_INFINITY, f32::INFINITY],
        Some(Activation::Relu) => [0.0, f32::INFINITY],
        Some(Activation::Clip { low, high }) => [low, high],
        Some(_) => return None,
    };
    Some(match part {
        InputPart::Positive => [low.max(0.0), high.max(0.0)],
        InputPart::Negative => [low.min(0.0), high.min(0.0)],
        InputPart::Magnitude => return None,
        InputPart::Whole | InputPart::Low | InputPart::High | InputPart::One => [low, high],
    })
}

fn component(array: &str, index: usize) -> String {
    format!("step.{array}[{}].{}", index / 4, ["x", "y", "z", "w"][index % 4])
}

fn part_of(part: InputPart, x: String) -> String {
    match part {
        InputPart::Positive => format!("relu({x})"),
        InputPart::Negative => format!("negative({x})"),
        InputPart::Magnitude => format!("magnitude({x})"),
        // Bounds and ones are parameters of the chain; no buffer is read as them.
        InputPart::Whole | InputPart::Low | InputPart::High | InputPart::One => x,
    }
}
