//! [`Graph`] → [`Network`]: the model in the form that LRP's rules are defined for.
//!
//! Passes run in a fixed order, one file each:
//! 1. `prune`: keep only what the explained output depends on.
//! 2. `gelu`, `softplus`, `self_gated`: find GELU, softplus and softsign, and SiLU and its kin, spelled out in elementary
//!    operators.
//! 3. `lower`: fold constants and shape computations, prove the batch axis, and turn nodes into layers.
//! 4. `final_link`: leave out a last softmax or sigmoid.
//! 5. `inner_softmax`: make every other softmax of layers.
//! 6. `fold_affine`: merge elementwise factors and offsets into the linear layer before them.
//! 7. `fold_pad`: merge zeros around a value into the padding of the layer behind them.
//! 8. `fold_behind`, where it is asked for: merge factors and offsets into the linear layer behind them.

mod draft;
mod extent;
mod final_link;
mod fold_affine;
mod fold_behind;
mod fold_pad;
mod gelu;
mod inner_softmax;
mod lower;
mod prune;
mod self_gated;
mod softplus;
mod spelling;

use crate::error::{Error, Result, unknown};
use crate::graph::{Dim, Graph, Node, ValueId};
use crate::network::{BatchAxis, Network};
use draft::Draft;
use lower::Mode;

/// What the caller decides about a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// The output to explain, or any value inside the model; by default the first output of real numbers that
    /// depends on an input.
    pub output: Option<String>,
    /// Extents of symbolic dimensions other than the batch, by the dimension's name (`seq`), or by input and axis
    /// (`tokens:1`) where it has none.
    pub dims: Vec<(String, usize)>,
    /// Whether factors and offsets (batch norms) that no layer before them takes are merged into the dense layer or
    /// convolution behind them. That keeps the function and changes the relevance: what the offset holds is then absorbed by
    /// the bias instead of passed on. Tools differ; zennit does not merge them.
    pub merge_behind: bool,
}

impl Options {
    /// Explains the output `name`.
    #[must_use]
    pub fn output(mut self, name: impl Into<String>) -> Self {
        self.output = Some(name.into());
        self
    }

    /// Merges factors and offsets into the linear layer behind them too.
    #[must_use]
    pub fn merge_behind(mut self) -> Self {
        self.merge_behind = true;
        self
    }

    /// Gives the symbolic dimension `name` an extent.
    #[must_use]
    pub fn dim(mut self, name: impl Into<String>, extent: usize) -> Self {
        self.dims.push((name.into(), extent));
        self
    }
}

/// Turns a model into the network that is explained.
///
/// Axis 0 of an input is taken as the batch if its extent is a symbol, or a number and the input has another axis.
/// Where some node mixes samples or the batch is not outermost, the model's whole tensors become one sample
/// ([`BatchAxis::Fixed`], or [`BatchAxis::Absent`] where the output shows that axis 0 was no batch), and a note names
/// the node.
///
/// # Errors
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) with node, operator, opset and shapes for what relprop
/// cannot explain, [`ErrorKind::Malformed`](crate::ErrorKind::Malformed) for graphs that make no sense,
/// [`ErrorKind::Argument`](crate::ErrorKind::Argument) for unknown names in `options`.
pub fn canonicalize(graph: &Graph, options: &Options) -> Result<Network> {
    check_dims(graph, options)?;
    let output = prune::choose_output(graph, options.output.as_deref())?;
    let mut nodes = prune::needed(graph, &graph.nodes, output)?;
    // Mish is a gate made of softplus.
    let found = [gelu::find, softplus::find, self_gated::find].map(|find| find(graph, &mut nodes));
    if found.contains(&true) {
        nodes = prune::needed(graph, &nodes, output)?;
    }
    let inputs = lower::needed_inputs(graph, &nodes, output);
    let Some(batch) = lower::batch_of(graph, &inputs) else {
        let draft = draft(graph, &nodes, output, options, Mode::Whole { batch: 1 })?;
        return finish(graph, draft, BatchAxis::Absent);
    };
    let refusal = match draft(graph, &nodes, output, options, Mode::Batched { literal: batch.literal }) {
        Ok(draft) => return finish(graph, draft, BatchAxis::Leading),
        Err(refusal) => refusal,
    };
    let extent = batch.literal.unwrap_or(1);
    // Where both ways end at one node, the batch is not what is wrong with it.
    let mut draft = match draft(graph, &nodes, output, options, Mode::Whole { batch: extent }) {
        Ok(draft) => draft,
        Err(error) if error.node() == refusal.node() => return Err(refusal),
        Err(error) => return Err(error),
    };
    let kept = draft.values[draft.output].shape.dims().first() == Some(&extent);
    let (batch, consequence) = if kept || extent == 1 {
        (BatchAxis::Fixed(extent), format!("the model runs with a batch of exactly {extent}, as one sample"))
    } else {
        (BatchAxis::Absent, "the inputs are taken as one sample without a batch axis".to_owned())
    };
    let node = refusal.node().unwrap_or("the inputs");
    let reason = refusal.message();
    draft.notes.push(format!("the batch axis could not be proved beyond {node} ({reason}); {consequence}"));
    finish(graph, draft, batch)
}

fn draft(graph: &Graph, nodes: &[Node], output: ValueId, options: &Options, mode: Mode) -> Result<Draft> {
    let mut draft = lower::lower(graph, nodes, output, options, mode)?;
    final_link::leave_out(&mut draft);
    inner_softmax::lower(&mut draft)?;
    fold_affine::fold(&mut draft)?;
    fold_pad::fold(&mut draft)?;
    if options.merge_behind {
        fold_behind::fold(&mut draft)?;
    }
    Ok(draft)
}

fn finish(graph: &Graph, mut draft: Draft, batch: BatchAxis) -> Result<Network> {
    draft.notes.splice(0..0, graph.notes.iter().cloned());
    draft.build(batch)
}

fn check_dims(graph: &Graph, options: &Options) -> Result<()> {
    let mut known = Vec::new();
    for &input in &graph.inputs {
        let value = graph.value(input);
        for (axis, dim) in value.dims.iter().flatten().enumerate() {
            known.push(format!("{}:{axis}", value.name));
            if let Dim::Named(name) = dim {
                known.push(name.clone());
            }
        }
    }
    for (name, extent) in &options.dims {
        if !known.contains(name) {
            return Err(unknown("dimension", name, known.iter().map(String::as_str))
                .help("the model's inputs have no axes; name no dimension"));
        }
        if *extent == 0 {
            return Err(Error::argument(format!("the dimension `{name}` cannot have extent 0"))
                .help("give it the extent that your data has along it, 1 or more"));
        }
    }
    Ok(())
}
