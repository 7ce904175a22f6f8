//! The network while passes still change it.

use std::ops::Range;

use crate::error::{Error, ErrorKind, Result};
use crate::layers::Layer;
use crate::network::{BatchAxis, InputKind, Link, Network, ValueId};
use crate::tensor::Shape;

/// A value's position in [`Draft::values`].
pub(super) type DraftId = usize;

/// A value of the draft.
#[derive(Debug, Clone)]
pub(super) struct DraftValue {
    pub name: String,
    /// The shape of one sample.
    pub shape: Shape,
}

/// What a step computes: a layer, or a function that only the end of a network may have.
#[derive(Debug, Clone)]
pub(super) enum StepOp {
    Layer(Layer),
    /// Softmax or its logarithm over `axes` of the sample: `width` adjacent elements at a time; none if they are not
    /// adjacent.
    Softmax {
        log: bool,
        width: Option<usize>,
        axes: Range<usize>,
    },
}

/// A layer to be.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub name: String,
    /// The node's path, operator and opset, for messages.
    pub place: String,
    pub op: StepOp,
    pub inputs: Vec<DraftId>,
    pub output: DraftId,
}

/// Steps in topological order over values.
#[derive(Debug, Clone, Default)]
pub(super) struct Draft {
    pub values: Vec<DraftValue>,
    pub inputs: Vec<(DraftId, InputKind)>,
    pub steps: Vec<Step>,
    pub output: DraftId,
    pub link: Option<Link>,
    pub notes: Vec<String>,
}

impl Draft {
    pub fn add_value(&mut self, name: impl Into<String>, shape: Shape) -> DraftId {
        self.values.push(DraftValue { name: name.into(), shape });
        self.values.len() - 1
    }

    pub fn producer(&self, value: DraftId) -> Option<usize> {
        self.steps.iter().position(|step| step.output == value)
    }

    /// The layer that makes a value.
    pub fn layer_before(&self, value: DraftId) -> Option<(usize, &Layer)> {
        let index = self.producer(value)?;
        match &self.steps[index].op {
            StepOp::Layer(layer) => Some((index, layer)),
            StepOp::Softmax { .. } => None,
        }
    }

    /// How often each value is read, the network's output counted as one reader.
    pub fn reader_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.values.len()];
        self.steps.iter().flat_map(|step| &step.inputs).for_each(|&input| counts[input] += 1);
        counts[self.output] += 1;
        counts
    }

    /// Drops the steps that the output does not depend on.
    pub fn prune(&mut self) {
        let mut needed = vec![false; self.values.len()];
        needed[self.output] = true;
        for step in self.steps.iter().rev() {
            if needed[step.output] {
                step.inputs.iter().for_each(|&input| needed[input] = true);
            }
        }
        self.steps.retain(|step| needed[step.output]);
    }

    /// The finished network.
    ///
    /// # Errors
    /// If the logarithm of a softmax is left in its midst, or a layer does not fit its inputs.
    pub fn build(self, batch: BatchAxis) -> Result<Network> {
        let mut builder = Network::builder();
        let mut built: Vec<Option<ValueId>> = vec![None; self.values.len()];
        for &(input, kind) in &self.inputs {
            let value = self.values[input].clone();
            built[input] = Some(match kind {
                InputKind::Float => builder.input(value.name, value.shape),
                InputKind::Integer => builder.integer_input(value.name, value.shape),
            });
        }
        for step in self.steps {
            let layer = match step.op {
                StepOp::Layer(layer) => layer,
                StepOp::Softmax { .. } => return Err(log_softmax_inside(&step.place, &self.values[step.output].shape)),
            };
            let inputs: Option<Vec<ValueId>> = step.inputs.iter().map(|&input| built[input]).collect();
            let inputs = inputs.ok_or_else(|| Error::internal("a layer reads a value that is made later"))?;
            let value = builder.layer(&step.name, layer, inputs).map_err(|error| error.at(&step.place))?;
            builder.rename(value, self.values[step.output].name.clone());
            built[step.output] = Some(value);
        }
        let output = built[self.output].ok_or_else(|| Error::internal("the draft lost its output"))?;
        builder.link(self.link);
        builder.batch(batch);
        self.notes.into_iter().for_each(|note| builder.note(note));
        builder.build(output)
    }
}

fn log_softmax_inside(place: &str, shape: &Shape) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!("the logarithm of a softmax, of shape {shape} (a sample), inside the network is not supported"),
    )
    .at(place)
    .help("only at the network's end it can be left out; name an output before this node to explain that")
}
