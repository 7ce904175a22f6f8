//! Pass 4: a last softmax, log-softmax or sigmoid is left out, so that the logit is explained.
//!
//! A probability depends on all classes at once and saturates: its relevance would tell what separates the classes'
//! sum, not what speaks for the class. All LRP tools start at the logit.

use std::sync::Arc;

use super::draft::{Draft, DraftId, Step, StepOp};
use crate::layers::{Activation, Affine, Layer};
use crate::network::Link;
use crate::tensor::Tensor;

/// Leaves out the draft's last function, also where only reshapes follow it.
///
/// A network that is nothing else keeps it: there is no layer before it to explain.
pub(super) fn leave_out(draft: &mut Draft) {
    let mut value = draft.output;
    let mut reader = None;
    while let Some(index) = draft.producer(value) {
        let step = &draft.steps[index];
        let input = step.inputs[0];
        match step.op {
            _ if draft.producer(input).is_none() => return,
            StepOp::Layer(Layer::Reshape(_)) => (reader, value) = (Some(index), input),
            StepOp::Layer(Layer::Activation(Activation::Sigmoid)) => {
                note(draft, index, Some(Link::Sigmoid));
                return replace(draft, reader, value, input);
            }
            StepOp::Softmax { log, width, .. } => {
                let last = draft.values[draft.output].shape.dims().last().copied();
                let link = if log { Link::LogSoftmax } else { Link::Softmax };
                let link = (width.is_some() && width == last).then_some(link);
                note(draft, index, link);
                return replace(draft, reader, value, input);
            }
            StepOp::Layer(Layer::Concat(_)) => return binary(draft, index),
            StepOp::Layer(_) => return,
        }
    }
}

fn note(draft: &mut Draft, index: usize, link: Option<Link>) {
    let step = &draft.steps[index];
    let function = match step.op {
        StepOp::Softmax { log: true, .. } => "log-softmax",
        StepOp::Softmax { log: false, .. } => "softmax",
        StepOp::Layer(_) => "sigmoid",
    };
    let note = format!("the last {function} ({}) is left out: logits are explained, not probabilities", step.name);
    draft.notes.push(note);
    draft.link = link;
}

fn replace(draft: &mut Draft, reader: Option<usize>, old: DraftId, new: DraftId) {
    match reader {
        Some(reader) => draft.steps[reader].inputs.iter_mut().filter(|id| **id == old).for_each(|id| *id = new),
        None => draft.output = new,
    }
    draft.prune();
}

/// Both classes of a binary classifier, [1 − σ(z), σ(z)] in either order, become their logits [−z, z].
fn binary(draft: &mut Draft, concat: usize) {
    let parts: Option<Vec<(DraftId, bool)>> =
        draft.steps[concat].inputs.iter().map(|&part| sigmoid_of(draft, part)).collect();
    let Some(parts) = parts else { return };
    let mut inputs = Vec::with_capacity(parts.len());
    let mut negated = Vec::new();
    for &(z, complement) in &parts {
        if !complement {
            inputs.push(z);
            continue;
        }
        let base = draft.values[z].clone();
        let output = draft.add_value(format!("{}/negative", base.name), base.shape);
        let Step { name, place, .. } = draft.steps[concat].clone();
        let negate = Affine::new(Tensor::scalar(-1.0), Tensor::scalar(0.0));
        let op = StepOp::Layer(Layer::Affine(negate));
        negated.push(Step { name: format!("{name}/negative"), place, op, inputs: vec![z], output });
        inputs.push(output);
    }
    let note = format!(
        "the last sigmoid (before {}) is left out: logits are explained, −z where the model gives 1 − σ(z)",
        draft.steps[concat].name
    );
    draft.notes.push(note);
    draft.link = Some(Link::Sigmoid);
    draft.steps[concat].inputs = inputs;
    draft.steps.splice(concat..concat, negated);
    draft.prune();
}

/// The z of a value that is σ(z), or 1 − σ(z) if the flag is set.
fn sigmoid_of(draft: &Draft, value: DraftId) -> Option<(DraftId, bool)> {
    let (index, layer) = draft.layer_before(value)?;
    let input = draft.steps[index].inputs[0];
    match layer {
        Layer::Activation(Activation::Sigmoid) => Some((input, false)),
        Layer::Affine(affine) if all(affine.scale(), -1.0) && all(affine.offset(), 1.0) => {
            sigmoid_of(draft, input).filter(|(_, complement)| !complement).map(|(z, _)| (z, true))
        }
        _ => None,
    }
}

fn all(tensor: &Arc<Tensor>, value: f32) -> bool {
    tensor.data().iter().all(|&element| element == value)
}
