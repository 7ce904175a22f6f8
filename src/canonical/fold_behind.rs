//! Pass 8, where it is asked for: elementwise factors and offsets are merged into the dense layer or convolution behind.
//!
//! W(s ⊙ x + o) + b = (W s) x + (b + W o). The function stays; the relevance does not: as a layer of its own a batch norm
//! passes relevance, offset and all, while in the merged layer the offset is part of the bias, which absorbs. Tools with a
//! canonizer for this merge (Pahde et al. 2023, Optimizing Explanations by Network Canonization); zennit merges backwards
//! alone, and its numbers are the default's, so this pass runs only when asked for.
//!
//! A convolution pads with zeros behind the offset, so at the border part of W o is missing: an affine layer adds what is
//! too much there and changes nothing elsewhere. Mean and deviation in front of the first layer stay: merging them would
//! change what the first layer's x is. So do those in front of a transposed convolution, whose outputs meet different
//! numbers of weights everywhere.

use std::sync::Arc;

use super::draft::{Draft, DraftId, Step, StepOp};
use super::fold_affine::Moved;
use crate::error::Result;
use crate::layers::{Affine, Conv, ConvWay, Dense, Family, Layer, window};
use crate::tensor::{Shape, Tensor};

/// Merges every affine layer that can be merged.
pub(super) fn fold(draft: &mut Draft) -> Result<()> {
    let counts = draft.reader_counts();
    let mut names = Vec::new();
    let mut index = 0;
    while index < draft.steps.len() {
        let place = draft.steps[index].place.clone();
        if let Some((affine, merged)) = merged(draft, index, &counts).map_err(|error| error.at(place))? {
            names.push(draft.steps[affine].name.clone());
            draft.steps[index].inputs[0] = draft.steps[affine].inputs[0];
            draft.steps[index].op = StepOp::Layer(merged.layer);
            if let Some(border) = merged.border {
                add_border(draft, index, border);
            }
        }
        index += 1;
    }
    if !names.is_empty() {
        let names = names.join(", ");
        draft
            .notes
            .push(format!("merged into the layer behind, as asked: {names}; their offsets absorb relevance there"));
        draft.prune();
    }
    Ok(())
}

/// A layer with an affine layer merged into it.
struct Merged {
    layer: Layer,
    /// What is to be added where padding takes part, as the layer's output has it.
    border: Option<Tensor>,
}

/// The affine step before step `index`, and that step with it; none if it cannot be merged.
fn merged(draft: &Draft, index: usize, counts: &[usize]) -> Result<Option<(usize, Merged)>> {
    let StepOp::Layer(layer) = &draft.steps[index].op else { return Ok(None) };
    let Some(&value) = draft.steps[index].inputs.first().filter(|&&value| counts.get(value) == Some(&1)) else {
        return Ok(None);
    };
    let Some((before, Layer::Affine(affine))) = draft.layer_before(value) else { return Ok(None) };
    if !is_behind_linear(draft, draft.steps[before].inputs[0]) {
        return Ok(None);
    }
    let shape = &draft.values[value].shape;
    let of_axis = |axis| Moved::new(affine, shape)?.of_axis(shape, axis);
    let merged = match layer {
        Layer::Dense(dense) => match of_axis(shape.rank() - 1)? {
            Some((scale, offset)) => Some(into_dense(dense, &scale, &offset)?),
            None => None,
        },
        Layer::Conv(conv) if *conv.way() == ConvWay::Plain => match of_axis(0)? {
            Some((scale, offset)) => {
                let output = &draft.values[draft.steps[index].output].shape;
                Some(into_conv(conv, &scale, &offset, shape, output)?)
            }
            None => None,
        },
        Layer::Conv(_)
        | Layer::AveragePool(_)
        | Layer::Sum(_)
        | Layer::Affine(_)
        | Layer::Activation(_)
        | Layer::Reshape(_)
        | Layer::Transpose(_)
        | Layer::Concat(_)
        | Layer::MaxPool(_)
        | Layer::AxisMap(_)
        | Layer::Multiply(_)
        | Layer::Lookup(_) => None,
    };
    Ok(merged.map(|merged| (before, merged)))
}

/// Whether every way from an input to a value leads through a linear layer.
fn is_behind_linear(draft: &Draft, value: DraftId) -> bool {
    match draft.layer_before(value) {
        None => false,
        Some((_, layer)) if layer.family() == Family::Linear => true,
        Some((maker, _)) => draft.steps[maker].inputs.iter().all(|&input| is_behind_linear(draft, input)),
    }
}

fn into_dense(dense: &Dense, scale: &[f32], offset: &[f32]) -> Result<Merged> {
    let mut weight = Tensor::clone(dense.weight());
    let mut bias = bias_of(dense.bias(), dense.outputs());
    for (row, bias) in weight.data_mut().chunks_exact_mut(dense.inputs()).zip(&mut bias) {
        *bias += row.iter().zip(offset).map(|(w, o)| f64::from(*w) * f64::from(*o)).sum::<f64>();
        row.iter_mut().zip(scale).for_each(|(w, s)| *w *= s);
    }
    let layer = Layer::Dense(Dense::new(weight, rounded(&bias))?);
    Ok(Merged { layer, border: None })
}

fn into_conv(conv: &Conv, scale: &[f32], offset: &[f32], input: &Shape, output: &Shape) -> Result<Merged> {
    let positions = conv.window().positions();
    let inputs = conv.inputs() / conv.groups();
    let of_group = conv.outputs() / conv.groups();
    let mut weight = Tensor::clone(conv.weight());
    let mut bias = bias_of(conv.bias(), conv.outputs());
    // W o of each output channel and window position.
    let mut moved = vec![0.0_f64; conv.outputs() * positions];
    for (row, taps) in weight.data_mut().chunks_exact_mut(positions).enumerate() {
        let (channel, source) = (row / inputs, row / inputs / of_group * inputs + row % inputs);
        for (tap, w) in taps.iter_mut().enumerate() {
            moved[channel * positions + tap] += f64::from(*w) * f64::from(offset[source]);
            *w *= scale[source];
        }
    }
    for (bias, moved) in bias.iter_mut().zip(moved.chunks_exact(positions)) {
        *bias += moved.iter().sum::<f64>();
    }
    let border = border(conv, &moved, &input.dims()[1..], output);
    let border = border.data().iter().any(|&too_much| too_much != 0.0).then_some(border);
    Ok(Merged { layer: Layer::Conv(conv.with_parameters(weight, rounded(&bias))?), border })
}

/// Minus the part of W o that stands for window positions in the padding.
fn border(conv: &Conv, moved: &[f64], input: &[usize], output: &Shape) -> Tensor {
    let positions = conv.window().positions();
    let spatial = &output.dims()[1..];
    let places: usize = spatial.iter().product();
    let mut is_inside = vec![false; places * positions];
    let (reaches, kernel) = (conv.window().to_coarse(spatial), conv.window().kernel());
    window::visit(&reaches, [spatial, input, &kernel], &mut |place, _, tap| is_inside[place * positions + tap] = true);
    Tensor::from_fn(output.clone(), |element| {
        let (channel, place) = (element / places, element % places);
        let taps = is_inside[place * positions..].iter().zip(&moved[channel * positions..][..positions]);
        let missing = taps.filter(|(inside, _)| !**inside).map(|(_, moved)| moved).sum::<f64>();
        if missing == 0.0 { 0.0 } else { -missing as f32 }
    })
}

fn bias_of(bias: Option<&Arc<Tensor>>, outputs: usize) -> Vec<f64> {
    bias.map_or_else(|| vec![0.0; outputs], |bias| bias.data().iter().map(|&b| f64::from(b)).collect())
}

fn rounded(bias: &[f64]) -> Option<Arc<Tensor>> {
    Some(Arc::new(Tensor::vector(bias.iter().map(|&b| b as f32).collect())))
}

/// Puts an affine layer behind step `index`, which makes the value that the step made.
fn add_border(draft: &mut Draft, index: usize, border: Tensor) {
    let step = draft.steps[index].clone();
    let value = draft.values[step.output].clone();
    let before = draft.add_value(format!("{}/inner", value.name), value.shape);
    draft.steps[index].output = before;
    let op = StepOp::Layer(Layer::Affine(Affine::new(Tensor::scalar(1.0), border)));
    let name = format!("{}/border", step.name);
    draft.steps.insert(index + 1, Step { name, place: step.place, op, inputs: vec![before], output: step.output });
}
