//! Pass 5: a softmax inside the network becomes layers: e / Σe with e = exp(x − max x).
//!
//! Its use there is to weigh something else: as a factor of a product it is a gate, which gets no relevance, and its partner
//! gets all. LRP's rules for such layers say nothing of a softmax that must itself pass relevance on (each of its outputs
//! depends on all inputs at once and saturates), so assigning rules refuses that (`composite::gates`). With derivatives
//! throughout, as the gradient's composite has them, the layers give a softmax's derivative.

use super::draft::{Draft, DraftId, Step, StepOp};
use crate::error::Result;
use crate::layers::{
    Activation, AveragePool, AxisMap, AxisMapKind, Divisor, Layer, MaxPool, Multiply, Reshape, Sum, Window, WindowAxis,
    sum::Sign,
};
use crate::tensor::Shape;

/// Replaces every softmax that is left.
pub(super) fn lower(draft: &mut Draft) -> Result<()> {
    let steps = std::mem::take(&mut draft.steps);
    let mut names = Vec::new();
    for step in steps {
        match &step.op {
            StepOp::Softmax { log: false, axes, .. } => {
                names.push(step.name.clone());
                let axes = axes.clone();
                Making { draft, step }.softmax(axes)?;
            }
            StepOp::Softmax { log: true, .. } | StepOp::Layer(_) => draft.steps.push(step),
        }
    }
    if !names.is_empty() {
        let names = names.join(", ");
        let note = format!(
            "the softmax inside ({names}) is computed by simple layers: as a factor it is a gate and gets no relevance"
        );
        draft.notes.push(note);
    }
    Ok(())
}

/// The layers that take a step's place.
struct Making<'d> {
    draft: &'d mut Draft,
    step: Step,
}

impl Making<'_> {
    fn softmax(mut self, axes: std::ops::Range<usize>) -> Result<()> {
        let x = self.step.inputs[0];
        let shape = self.draft.values[x].shape.clone();
        let count = |axes: &[usize]| axes.iter().product::<usize>();
        let dims = shape.dims();
        let (outer, width, inner) = (count(&dims[..axes.start]), count(&dims[axes.clone()]), count(&dims[axes.end..]));
        // Rows behind one channel where they are rows, so that no executor turns them.
        let (view, axis) = match inner {
            1 => (Shape::new([1, outer, width]), 2),
            _ => (Shape::new([outer, width, inner]), 1),
        };
        let x = if view == shape { x } else { self.layer("rows", Layer::Reshape(Reshape::new(view.clone())), &[x])? };
        let whole = (1..3).map(|other| WindowAxis::new(if other == axis { width } else { 1 }));
        let window = Window::new(whole.collect())?;
        let repeated = || AxisMap::picking(AxisMapKind::Expand, axis, 1, vec![Some(0); width]).map(Layer::AxisMap);
        let greatest = self.layer("max", Layer::MaxPool(MaxPool::new(window.clone())), &[x])?;
        let greatest = self.layer("max/expand", repeated()?, &[greatest])?;
        let difference = Layer::Sum(Sum::new(vec![Sign::Plus, Sign::Minus])?);
        let below = self.layer("below", difference, &[x, greatest])?;
        let powers = self.layer("exp", Layer::Activation(Activation::Exp), &[below])?;
        let total = self.layer("sum", Layer::AveragePool(AveragePool::new(window, Divisor::One)), &[powers])?;
        let inverse = Layer::Activation(Activation::Power { offset: 0.0, exponent: -1.0 });
        let inverse = self.layer("inverse", inverse, &[total])?;
        let inverse = self.layer("inverse/expand", repeated()?, &[inverse])?;
        let (product, factors) = (Layer::Multiply(Multiply), vec![powers, inverse]);
        if view == shape {
            let step = Step { op: StepOp::Layer(product), inputs: factors, ..self.step };
            self.draft.steps.push(step);
            return Ok(());
        }
        let product = self.layer("product", product, &factors)?;
        let step = Step { op: StepOp::Layer(Layer::Reshape(Reshape::new(shape))), inputs: vec![product], ..self.step };
        self.draft.steps.push(step);
        Ok(())
    }

    fn layer(&mut self, part: &str, layer: Layer, inputs: &[DraftId]) -> Result<DraftId> {
        let shapes: Vec<&Shape> = inputs.iter().map(|&input| &self.draft.values[input].shape).collect();
        let shape = layer.output_shape(&shapes)?;
        let name = format!("{}/{part}", self.step.name);
        let output = self.draft.add_value(name.clone(), shape);
        let place = self.step.place.clone();
        self.draft.steps.push(Step { name, place, op: StepOp::Layer(layer), inputs: inputs.to_vec(), output });
        Ok(output)
    }
}
