//! A plan as text: one line a step.

use std::fmt::Write as _;

use super::{Beside, BufferId, Denominator, Direction, Op, Operand, Parameter, Plan, Step, Work};
use crate::network::Network;
use crate::rules::{BiasPart, InputPart, Mask, WeightPart};

impl Plan {
    /// The plan's steps, one line each.
    pub fn describe(&self, network: &Network) -> String {
        let mut text = String::new();
        for (position, step) in self.steps.iter().enumerate() {
            let phase = if position < self.forward { "forward " } else { "backward" };
            let _ = writeln!(text, "{position:4}  {phase}  {}", self.describe_step(network, step));
        }
        text
    }

    /// One step as text: what it writes, from what, through which chain.
    pub fn describe_step(&self, network: &Network, step: &Step) -> String {
        let source = step.source.map_or_else(|| "0".to_owned(), |source| self.operand(&source));
        let layer = step.layer.map_or("output", |layer| network.layer(layer).name.as_str());
        let work = match &step.work {
            Work::Product { direction, weight, addend } | Work::Convolve { direction, weight, addend } => {
                let is_dense = matches!(step.work, Work::Product { .. });
                let turned = if is_dense == (*direction == Direction::Forward) { "ᵀ" } else { "" };
                let times = if is_dense { "·" } else { "∗" };
                let one = |source: &str, weight| format!("{source} {times} {}{turned}[{layer}]", weight_name(weight));
                let added = addend.map(|addend| format!(" + {}", one(&self.operand(&addend.source), addend.weight)));
                one(&source, *weight) + &added.unwrap_or_default()
            }
            Work::AveragePool { direction: Direction::Forward, .. } => format!("averages[{layer}]({source})"),
            Work::AveragePool { direction: Direction::Backward, .. } => format!("averagesᵀ[{layer}]({source})"),
            Work::MaxPool => format!("maxima[{layer}]({source})"),
            Work::Winners => format!("winners[{layer}]({source})"),
            Work::Unpool { winners } => {
                format!("to {}[{layer}]({source})", self.buffers[winners.index()].name)
            }
            Work::AlongAxis { direction: Direction::Forward, .. } => format!("{}[{layer}]({source})", "map"),
            Work::AlongAxis { direction: Direction::Backward, .. } => format!("{}[{layer}]({source})", "mapᵀ"),
            Work::Elementwise => source,
            Work::Transpose { order, .. } => format!("transpose({source}, {order:?})"),
            Work::Strips { source: (_, from), target: (_, to), length, .. } => {
                format!("strips({source} at {from}, {length} long, to {to})")
            }
            Work::Lookup => format!("{layer}[{source}]"),
            Work::Start => format!("start({source})"),
            Work::Rms => format!("rms({source})"),
            Work::Measure(measure) => format!("sum {measure:?} of {layer}: {source}"),
        };
        let chain = |ops: &[Op]| ops.iter().map(|op| self.op(op)).collect::<String>();
        let name = |buffer: BufferId| self.buffers[buffer.index()].name.as_str();
        if step.then.is_empty() && step.also.is_empty() {
            return format!("{} = {work}{}", name(step.target), chain(&step.chain));
        }
        let targets = step.also.iter().map(|also| (also.target, &also.chain));
        let targets =
            targets.map(|(target, ops)| format!("; {} = that{}", name(target), chain(ops))).collect::<String>();
        if step.then.is_empty() {
            return format!("{} = {work}{}{targets}", name(step.target), chain(&step.chain));
        }
        format!("{} = ({work}{}){}{targets}", name(step.target), chain(&step.chain), chain(&step.then))
    }

    fn operand(&self, operand: &Operand) -> String {
        let name = self.buffers[operand.buffer.index()].name.clone();
        let read = operand.activation.map_or(name.clone(), |activation| format!("{}({name})", activation.name()));
        match operand.part {
            InputPart::Positive => format!("{read}⁺"),
            InputPart::Negative => format!("{read}⁻"),
            InputPart::Magnitude => format!("|{read}|"),
            InputPart::Whole | InputPart::Low | InputPart::High | InputPart::One => read,
        }
    }

    fn op(&self, op: &Op) -> String {
        match op {
            Op::Scale(factor) => format!(" · {factor}"),
            Op::AddParameter(parameter) => format!(" + {}", parameter_name(parameter)),
            Op::MultiplyParameter(parameter) => format!(" ⊙ {}", parameter_name(parameter)),
            Op::Activate(activation) => format!(" → {}", activation.name()),
            Op::Part(part) => format!(" → {part:?}").to_lowercase(),
            Op::Add { operand, factor } if *factor == 1.0 => format!(" + {}", self.operand(operand)),
            Op::Add { operand, factor } => format!(" + {factor}·{}", self.operand(operand)),
            Op::Multiply(operand) => format!(" ⊙ {}", self.operand(operand)),
            Op::MultiplySum(parts) => {
                let [one, other] = parts.map(|part| self.operand(&Operand::whole(part)));
                format!(" ⊙ ({one} + {other})")
            }
            Op::MultiplyDerivative { activation, at } => format!(" ⊙ {}′({})", activation.name(), self.operand(at)),
            Op::Mask { by, mask: Mask::Negative } => format!(" where {} < 0", self.operand(by)),
            Op::Mask { by, .. } => format!(" where {} > 0", self.operand(by)),
            Op::Divide { by, stabilizer, .. } => format!(" / stab({}, {stabilizer})", self.denominator(by)),
            Op::DivideInto { numerator, stabilizer } => {
                format!(" → {} / stab(that, {stabilizer})", self.operand(numerator))
            }
            Op::MultiplyQuotients { by: [one, other], of_sum, factors: [f, g], stabilizer } => {
                let raising = match of_sum {
                    true => self.denominator(&Denominator::Rest { of: *one, without: *other }),
                    false => self.denominator(&Denominator::Buffer(*one)),
                };
                let lowering = self.denominator(&Denominator::Buffer(*other));
                format!(" ⊙ ({f} / stab({raising} > 0, {stabilizer}) + {g} / stab({lowering} < 0, {stabilizer}))")
            }
            Op::MultiplyDamping { by, stabilizer, .. } => {
                format!(" ⊙ damping({}, {stabilizer})", self.denominator(by))
            }
        }
    }

    fn denominator(&self, by: &Denominator) -> String {
        match by {
            Denominator::Buffer(buffer) => self.buffers[buffer.index()].name.clone(),
            Denominator::Rest { of, without } => {
                let [of, without] = [of, without].map(|buffer| &self.buffers[buffer.index()].name);
                format!("{of} - {without}")
            }
            Denominator::Parameter(parameter) => parameter_name(parameter),
        }
    }
}

fn parameter_name(parameter: &Parameter) -> String {
    match parameter {
        Parameter::Bias { part: BiasPart::Squared, .. } => "b²".to_owned(),
        Parameter::Bias { part: BiasPart::Absent, .. } => "0".to_owned(),
        Parameter::Bias { part: BiasPart::Scaled { positive, negative }, .. } if positive == negative => {
            coefficient(*positive, "b")
        }
        Parameter::Bias { part: BiasPart::Scaled { positive, negative }, .. } => parts(*positive, *negative, "b"),
        Parameter::Scale { part: WeightPart::WHOLE, .. } => "s".to_owned(),
        Parameter::Scale { .. } => "s̃".to_owned(),
        Parameter::Low(_) => "l".to_owned(),
        Parameter::High(_) => "h".to_owned(),
        Parameter::Mask(_) => "channels".to_owned(),
        Parameter::Evenly(_) => "1/N".to_owned(),
        Parameter::Constant { beside: Beside::Products, .. } => "const".to_owned(),
        Parameter::Constant { beside: Beside::ForwardOutput, .. } => "(const − b)".to_owned(),
        Parameter::Constant { beside: Beside::HalfOutput, .. } => "(const − ½b)".to_owned(),
    }
}

fn weight_name(weight: WeightPart) -> String {
    match weight {
        WeightPart::WHOLE => "W".to_owned(),
        WeightPart::HALF => "(½W)".to_owned(),
        WeightPart::HALF_MAGNITUDE => "(½|W|)".to_owned(),
        WeightPart::Scaled { positive, negative } => format!("({})", parts(positive, negative, "W")),
        WeightPart::Squared => "W²".to_owned(),
        WeightPart::One => "1".to_owned(),
    }
}

fn parts(positive: f32, negative: f32, name: &str) -> String {
    match (positive, negative) {
        (positive, 0.0) => coefficient(positive, &format!("{name}⁺")),
        (0.0, negative) => coefficient(negative, &format!("{name}⁻")),
        _ => format!("{} + {}", coefficient(positive, &format!("{name}⁺")), coefficient(negative, &format!("{name}⁻"))),
    }
}

fn coefficient(factor: f32, name: &str) -> String {
    if factor == 1.0 { name.to_owned() } else { format!("{factor}{name}") }
}
