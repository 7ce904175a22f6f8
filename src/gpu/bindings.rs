//! What the chain of a step reads: buffers and numbers beside rows, each bound once.

use super::steps::Translator;
use crate::chain;
use crate::kernels::{Beside, Columns, Op, Operand, Place, Repeat, Slot};
use crate::plan::{self, BufferId, Denominator, Parameter, Rows};
use crate::rules::Stabilizer;

/// The operands and parameters of one step.
pub(super) struct Bindings<'a> {
    translator: &'a Translator<'a>,
    /// Whether the step's rows are one a sample and target.
    rows: Rows,
    /// Elements of a row, and of each of the kernel's rows that lie side by side in it.
    pub(super) width: usize,
    within: usize,
    pub(super) buffers: Vec<BufferId>,
    pub(super) operands: Vec<Beside>,
    known: Vec<(Parameter, Columns)>,
    pub(super) parameters: Vec<f32>,
    pub(super) places: Vec<Place>,
}

impl<'a> Bindings<'a> {
    /// The bindings of a step whose rows hold `width` elements, of which each of the kernel's rows has `within`.
    pub(super) fn new(translator: &'a Translator<'a>, rows: Rows, width: usize, within: usize) -> Self {
        Bindings {
            translator,
            rows,
            width,
            within,
            buffers: Vec::new(),
            operands: Vec::new(),
            known: Vec::new(),
            parameters: Vec::new(),
            places: Vec::new(),
        }
    }

    fn slot(&mut self, buffer: BufferId, is_scalar: bool) -> Slot {
        if let Some(known) = self.buffers.iter().position(|known| *known == buffer) {
            return Slot(known);
        }
        let of_sample = self.rows == Rows::Target
            && self.translator.plan.targets > 1
            && self.translator.plan.buffers[buffer.index()].rows == Rows::Sample;
        self.buffers.push(buffer);
        self.operands.push(Beside { of_sample, is_scalar });
        Slot(self.buffers.len() - 1)
    }

    pub(super) fn operand(&mut self, operand: &plan::Operand) -> Operand {
        Operand { buffer: self.slot(operand.buffer, false), activation: operand.activation, part: operand.part }
    }

    fn columns(&mut self, parameter: Parameter) -> Columns {
        if let Some((_, columns)) = self.known.iter().find(|(known, _)| *known == parameter) {
            return *columns;
        }
        let (numbers, targets) = self.translator.parameters.periods(&parameter);
        let numbers = &numbers[..numbers.len() / targets];
        // Kernels read whole vectors where rows are made of them; a period that is not is repeated until it is.
        let whole =
            if self.width.is_multiple_of(4) { (1..=4).find(|n| (n * numbers.len()).is_multiple_of(4)) } else { None };
        let period = whole.unwrap_or(1) * numbers.len();
        let repeat = match period {
            _ if targets > 1 => Repeat::EachTarget { is_whole: whole.is_some() },
            period if period == self.width => Repeat::Never,
            period if period == self.within => Repeat::EachRow,
            _ => Repeat::Period,
        };
        let columns = Columns { index: self.places.len(), repeat };
        self.places.push(Place { offset: self.parameters.len() as u32, period: period as u32 });
        // Four from any column on, and the next one begins at a whole vector.
        let count = if whole.is_some() { period } else { (period + 3).next_multiple_of(4) };
        for target in 0..targets {
            let numbers = self.translator.parameters.period(&parameter, target);
            self.parameters.extend(numbers.iter().copied().cycle().take(count));
        }
        self.known.push((parameter, columns));
        columns
    }

    pub(super) fn op(&mut self, op: &plan::Op) -> Op {
        match *op {
            plan::Op::Scale(factor) => Op::Scale(factor),
            plan::Op::AddParameter(parameter) => Op::AddParameter(self.columns(parameter)),
            plan::Op::MultiplyParameter(parameter) => Op::MultiplyParameter(self.columns(parameter)),
            plan::Op::Activate(activation) => Op::Activate(activation),
            plan::Op::Part(part) => Op::Part(part),
            plan::Op::Add { operand, factor } => Op::Add { operand: self.operand(&operand), factor },
            plan::Op::Multiply(operand) => Op::Multiply(self.operand(&operand)),
            plan::Op::MultiplySum([one, other]) => Op::MultiplySum([self.slot(one, false), self.slot(other, false)]),
            plan::Op::MultiplyDerivative { activation, at } => {
                Op::MultiplyDerivative { activation, at: self.operand(&at) }
            }
            plan::Op::Mask { by, mask } => Op::Mask { by: self.operand(&by), mask },
            plan::Op::Divide { by, stabilizer, rms } => {
                let (by, stabilizer, rms) = self.denominator(by, stabilizer, rms);
                Op::Divide { by, stabilizer, rms }
            }
            plan::Op::DivideInto { numerator, stabilizer } => {
                Op::DivideInto { numerator: self.operand(&numerator), stabilizer }
            }
            plan::Op::MultiplyQuotients { by, of_sum, factors, stabilizer } => {
                let by = by.map(|buffer| self.slot(buffer, false));
                Op::MultiplyQuotients { by, of_sum, factors, stabilizer }
            }
            plan::Op::MultiplyDamping { by, stabilizer, rms } => {
                let (by, stabilizer, rms) = self.denominator(by, stabilizer, rms);
                Op::MultiplyDamping { by, stabilizer, rms }
            }
        }
    }

    fn denominator(
        &mut self,
        by: Denominator,
        stabilizer: Stabilizer,
        rms: Option<BufferId>,
    ) -> (chain::Denominator<Slot, Columns>, Stabilizer, Option<Slot>) {
        match by {
            Denominator::Buffer(buffer) => {
                let rms = rms.map(|rms| self.slot(rms, true));
                (chain::Denominator::Buffer(self.slot(buffer, false)), stabilizer, rms)
            }
            Denominator::Rest { of, without } => {
                let [of, without] = [of, without].map(|buffer| self.slot(buffer, false));
                (chain::Denominator::Rest { of, without }, stabilizer, None)
            }
            Denominator::Parameter(parameter) => {
                // The rms of what is the same for every sample is a number already.
                let stabilizer = match stabilizer {
                    Stabilizer::Rms(epsilon) => {
                        Stabilizer::Absolute(epsilon * self.translator.parameters.rms(&parameter))
                    }
                    Stabilizer::Absolute(_) | Stabilizer::Clip(_) => stabilizer,
                };
                (chain::Denominator::Parameter(self.columns(parameter)), stabilizer, None)
            }
        }
    }
}
