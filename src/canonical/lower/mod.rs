//! Pass 3: constants and shape computations are folded, the batch axis is proved, and nodes become layers.
//!
//! One walk in topological order does all three, because each needs the others: a reshape's target may be computed
//! from an input's extents, and whether the batch stays outermost depends on that target. Every value is known as a
//! constant, as integers that may hold the batch size N, or as an activation with extents in N. Where an operator
//! would mix samples or move N inwards, the walk ends with an error that names the node.

mod activations;
mod arithmetic;
mod blocks;
mod choices;
pub(super) mod constants;
mod conv;
mod emit;
mod inputs;
mod normalize;
mod pools;
mod powers;
mod product;
mod quantized;
mod reshapes;
mod resize;
mod routing;
mod slices;
mod windows;

use std::collections::HashMap;
use std::sync::Arc;

use super::Options;
use super::draft::{Draft, DraftId, StepOp};
use super::extent::{self, Extent};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{Constant, ElementType, Graph, Node, Op, ValueId};
use crate::tensor::Tensor;

pub(super) use inputs::{batch_of, needed_inputs};
use normalize::Composed;
use quantized::Quantization;

/// The way out where a layer's own check fails and knows nothing of files.
const RE_EXPORT: &str = "the file is damaged or was edited by hand; export the model again";

/// How the batch is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Axis 0 of every input is the batch N; a literal extent of it is rewritten to N.
    Batched {
        /// The extent in the file, if it is a number.
        literal: Option<usize>,
    },
    /// Whole tensors are one sample; a symbolic batch gets the extent `batch`.
    Whole { batch: usize },
}

/// A value made by the network from its inputs.
#[derive(Debug, Clone)]
struct Act {
    id: DraftId,
    /// The extents of the model's own tensor, batch included.
    dims: Vec<Extent>,
    /// A transpose that is still to come because it moves the batch inwards: axis `i` of the model's tensor is axis
    /// `turned[i]` of what `id` holds. Only another transpose may follow.
    turned: Option<Vec<usize>>,
}

impl Act {
    fn new(id: DraftId, dims: Vec<Extent>) -> Self {
        Act { id, dims, turned: None }
    }

    /// The activation as it is held, without the transpose that is still to come.
    fn held(&self) -> Act {
        let Some(turned) = &self.turned else { return self.clone() };
        let mut dims = self.dims.clone();
        for (&axis, &dim) in turned.iter().zip(&self.dims) {
            dims[axis] = dim;
        }
        Act::new(self.id, dims)
    }

    /// The activation behind a transpose that is still to come.
    fn behind(self, turned: Option<Vec<usize>>) -> Act {
        let Some(turned) = turned else { return self };
        let dims = turned.iter().map(|&axis| self.dims[axis]).collect();
        Act { id: self.id, dims, turned: Some(turned) }
    }
}

/// What is known about a value of the graph.
#[derive(Debug, Clone)]
enum Fact {
    Float(Arc<Tensor>),
    /// Integers (and truth values as 0 and 1) that may hold the batch size.
    Integer(Arc<Tensor<Extent>>),
    /// Real numbers that depend on the inputs.
    Activation(Act),
    /// Elements of an integer input.
    Index(Act),
    /// Something that cannot be computed with, in words.
    Opaque(String),
}

impl Fact {
    fn describe(&self) -> String {
        match self {
            Fact::Float(tensor) => format!("constant {}", tensor.shape()),
            Fact::Integer(tensor) => format!("integer constant {}", tensor.shape()),
            Fact::Activation(act) => extent::show(&act.dims),
            Fact::Index(act) => format!("integer {}", extent::show(&act.dims)),
            Fact::Opaque(what) => what.clone(),
        }
    }
}

/// The state of the walk.
struct Lowering<'g> {
    graph: &'g Graph,
    mode: Mode,
    facts: Vec<Option<Fact>>,
    draft: Draft,
    /// Weights by their address, each held so that no other takes it, with their transposes: shared ones stay shared.
    transposed: HashMap<*const Tensor, (Arc<Tensor>, Arc<Tensor>)>,
    /// Elements that constant folding may still make, and positions that maps along axes may have.
    budget: usize,
    /// How what a node quantised is to be read back.
    quantized: HashMap<ValueId, Quantization>,
    /// Nodes without a layer of their own: what all of an operator became, and their names.
    composed: Vec<Composed>,
}

/// Turns `nodes` (in topological order) into a draft whose output is `output`.
pub(super) fn lower(graph: &Graph, nodes: &[Node], output: ValueId, options: &Options, mode: Mode) -> Result<Draft> {
    let facts = vec![None; graph.values.len()];
    let mut lowering = Lowering {
        graph,
        mode,
        facts,
        draft: Draft::default(),
        transposed: HashMap::new(),
        budget: constants::budget(graph),
        quantized: HashMap::new(),
        composed: Vec::new(),
    };
    lowering.add_inputs(nodes, output, options)?;
    for node in nodes {
        lowering.keep_constants(node);
        let before = lowering.draft.values.len();
        let facts = lowering.outputs(node).map_err(|error| error.at(node.place()).help(RE_EXPORT))?;
        for (result, fact) in node.outputs.iter().zip(facts) {
            let Some(result) = *result else { continue };
            if let Fact::Activation(act) = &fact
                && act.id >= before
            {
                lowering.draft.values[act.id].name = graph.value(result).name.clone();
            }
            lowering.facts[result.index()] = Some(fact);
        }
    }
    match lowering.facts[output.index()].take() {
        Some(Fact::Activation(act)) if act.turned.is_some() => {
            return lowering.sample(&act.dims).map(|_| lowering.draft);
        }
        Some(Fact::Activation(act)) if lowering.draft.producer(act.id).is_some() => lowering.draft.output = act.id,
        Some(Fact::Activation(_)) => return Err(lowering.not_explainable(output, "is an input itself")),
        Some(fact) => return Err(lowering.not_explainable(output, &format!("is {}", fact.describe()))),
        None => return Err(lowering.not_explainable(output, "does not depend on an input")),
    }
    lowering.draft.prune();
    let notes: Vec<String> = lowering.composed.iter().map(Composed::note).collect();
    lowering.draft.notes.extend(notes);
    Ok(lowering.draft)
}

impl Lowering<'_> {
    fn not_explainable(&self, output: ValueId, what: &str) -> Error {
        let name = &self.graph.value(output).name;
        Error::new(ErrorKind::Unsupported, format!("the output `{name}` {what}, so there is nothing to explain"))
            .help("name another output of the model")
    }

    /// Keeps the integers that a node reads in the form that folding needs, made once for all readers.
    fn keep_constants(&mut self, node: &Node) {
        for &input in node.inputs.iter().flatten() {
            let constant = &self.graph.value(input).constant;
            if self.facts[input.index()].is_none() && matches!(constant, Some(Constant::Integer(_) | Constant::Bool(_)))
            {
                self.facts[input.index()] = self.fact(input).ok();
            }
        }
    }

    /// What a value is, constants included.
    fn fact(&self, value: ValueId) -> Result<Fact> {
        if let Some(fact) = &self.facts[value.index()] {
            return Ok(fact.clone());
        }
        let value = self.graph.value(value);
        match &value.constant {
            Some(Constant::Float(tensor)) => Ok(Fact::Float(Arc::clone(tensor))),
            Some(Constant::Integer(tensor)) => Ok(Fact::Integer(Arc::new(tensor.map(|&i| Extent::fixed(i))))),
            Some(Constant::Bool(tensor)) => Ok(Fact::Integer(Arc::new(tensor.map(|&b| Extent::fixed(b.into()))))),
            Some(Constant::Opaque { element, .. }) => Ok(Fact::Opaque(format!("constant of {element}"))),
            None => Err(Error::new(
                ErrorKind::Unsupported,
                format!("`{}` is a second output of a node, which relprop does not compute", value.name),
            )
            .help("simplify the model, for example with onnxsim, or explain an output before this node")),
        }
    }

    /// The fact of input `slot`; none if it is left out.
    fn optional(&self, node: &Node, slot: usize) -> Result<Option<Fact>> {
        node.inputs.get(slot).copied().flatten().map(|value| self.fact(value)).transpose()
    }

    /// The fact of input `slot`.
    fn input(&self, node: &Node, slot: usize) -> Result<Fact> {
        self.optional(node, slot)?.ok_or_else(|| {
            Error::new(ErrorKind::Malformed, format!("the node lacks its input {slot}"))
                .help("the file is damaged or was edited by hand; export the model again")
        })
    }

    /// The activation in input `slot`.
    fn activation(&self, node: &Node, slot: usize) -> Result<Act> {
        match self.input(node, slot)? {
            Fact::Activation(act) if act.turned.is_some() => Err(self
                .sample(&act.dims)
                .err()
                .unwrap_or_else(|| self.unsupported(node, "of this value is not supported"))),
            Fact::Activation(act) => Ok(act),
            Fact::Index(_) => Err(self.unsupported(node, "cannot be applied to an integer input")),
            Fact::Float(_) | Fact::Integer(_) | Fact::Opaque(_) => {
                Err(self.unsupported(node, "of constants is not supported"))
            }
        }
    }

    /// What a node's outputs are, as many of them as relprop computes.
    fn outputs(&mut self, node: &Node) -> Result<Vec<Fact>> {
        if node.inputs.len() > node.op.max_inputs() {
            let (have, most) = (node.inputs.len(), node.op.max_inputs());
            return Err(Error::new(ErrorKind::Malformed, format!("the node has {have} inputs; it can have {most}"))
                .help("the file is damaged or was edited by hand; export the model again"));
        }
        match &node.op {
            Op::Split { axis, parts } => self.split(node, *axis, *parts),
            Op::Normalization(normalization) => self.normalization(node, *normalization),
            _ => match self.fold_constants(node)? {
                Some(folded) => Ok(vec![folded]),
                None => Ok(vec![self.node(node)?]),
            },
        }
    }

    fn node(&mut self, node: &Node) -> Result<Fact> {
        match &node.op {
            Op::Gemm { alpha, beta, trans_a, trans_b } => self.gemm(node, *alpha, *beta, *trans_a, *trans_b),
            Op::MatMul => self.matmul(node),
            Op::Arithmetic(arithmetic) => self.arithmetic(node, *arithmetic),
            Op::Sum => self.sum(node),
            Op::Neg => self.scaled(node, -1.0),
            Op::Activation(activation) => self.elementwise(node, *activation),
            Op::Clip => self.clip(node),
            Op::PRelu => self.prelu(node),
            Op::Softmax { axis, to_end, log } => self.softmax(node, *axis, *to_end, *log),
            Op::Scaler { offset, scale } => self.scaler(node, offset, scale),
            Op::BatchNormalization { epsilon } => self.batch_normalization(node, *epsilon),
            Op::Identity => self.identity(node),
            Op::ZipMap => self.input(node, 0),
            Op::Cast(element) => self.cast(node, *element),
            Op::Flatten { .. } | Op::Reshape { .. } | Op::Squeeze | Op::Unsqueeze => self.reshape(node),
            Op::Transpose { order } => self.transpose(node, order.as_deref()),
            Op::Concat { axis } => self.concat(node, *axis),
            Op::Gather { axis } => self.gather(node, *axis),
            Op::Shape { start, end } => self.shape_of(node, *start, *end),
            Op::Size => self.size_of(node),
            Op::Expand => self.expand(node),
            Op::Slice => self.slice(node),
            Op::Split { .. } | Op::Normalization(_) => Err(Error::internal("the node has several outputs")),
            Op::Pad { mode, value } => self.pad(node, *mode, *value),
            Op::Tile => self.tile(node),
            Op::Resize(resize) => self.resize(node, resize),
            Op::DepthToSpace { block, channel_first } => self.depth_to_space(node, *block, *channel_first),
            Op::SpaceToDepth { block, channel_first } => self.space_to_depth(node, *block, *channel_first),
            Op::Conv { sliding, groups } => self.conv(node, sliding, *groups),
            Op::ConvTranspose { sliding, groups, output_padding, output_shape } => {
                self.conv_transpose(node, sliding, *groups, output_padding.as_deref(), output_shape.as_deref())
            }
            Op::MaxPool(sliding) => self.max_pool(node, sliding),
            Op::AveragePool { sliding, counts_padding } => self.average_pool(node, sliding, *counts_padding),
            Op::LpPool { sliding, p } => self.norm_pool(node, sliding, *p),
            Op::GlobalPool(reduction) => self.global_pool(node, *reduction),
            Op::Reduce { reduction, keep_axes, empty_is_none } => {
                self.reduce(node, *reduction, *keep_axes, *empty_is_none)
            }
            Op::Quantize { axis } => self.quantize(node, *axis),
            Op::Dequantize { axis } => self.dequantize(node, *axis),
            Op::Compare(_) | Op::Where => {
                Err(self.unsupported(node, "of values that depend on the inputs or the batch size is not supported"))
            }
            Op::Pow => self.power(node),
            Op::Elementary(function) => self.elementary(node, *function),
            Op::ReduceProd { .. } => Err(self.unsupported(node, "of activations is not supported yet")),
            Op::Range | Op::ConstantOfShape(_) => {
                Err(self.unsupported(node, "needs numbers that do not depend on the batch size or the inputs"))
            }
            Op::Unsupported { reason } if reason.is_empty() => Err(self.unsupported(node, "is not supported")),
            Op::Unsupported { reason } => Err(self.unsupported(node, &format!("is not supported: {reason}"))),
        }
    }

    fn unsupported(&self, node: &Node, why: &str) -> Error {
        let inputs = node.inputs.iter().map(|input| match input.map(|value| self.fact(value)) {
            Some(Ok(fact)) => fact.describe(),
            Some(Err(_)) => "unknown".to_owned(),
            None => "none".to_owned(),
        });
        let inputs: Vec<String> = inputs.collect();
        Error::new(ErrorKind::Unsupported, format!("{} {why} (its inputs: {})", node.op_type, inputs.join(", "))).help(
            "explain an output before this node, or export the model without it; the README lists what is supported",
        )
    }

    /// Input 0, unless the node is a dropout whose mode (input 2) makes it draw lots.
    fn identity(&self, node: &Node) -> Result<Fact> {
        match self.optional(node, 2)? {
            None => self.input(node, 0),
            Some(Fact::Integer(mode)) if mode.data().iter().all(|&mode| mode == Extent::fixed(0)) => {
                self.input(node, 0)
            }
            Some(Fact::Integer(_)) => {
                Err(self.unsupported(node, "in training mode is random; export the model after model.eval()"))
            }
            Some(_) => {
                Err(self.unsupported(node, "needs a mode that is constant; export the model after model.eval()"))
            }
        }
    }

    fn cast(&self, node: &Node, to: ElementType) -> Result<Fact> {
        match (self.input(node, 0)?, to) {
            (Fact::Activation(act), ElementType::Float) => Ok(Fact::Activation(act)),
            (Fact::Index(act), ElementType::Integer) => Ok(Fact::Index(act)),
            _ => Err(self.unsupported(node, "between these element types is not supported")),
        }
    }

    fn softmax(&mut self, node: &Node, axis: i64, to_end: bool, log: bool) -> Result<Fact> {
        let x = self.activation(node, 0)?;
        let axis = self.axis(node, axis, &x.dims)?;
        let behind = &x.dims[axis + 1..];
        let spans_batch =
            extent::sample_axis(&x.dims, axis).is_none() || (to_end && extent::batch_axis(behind).is_some());
        if spans_batch {
            return Err(self.unsupported(node, "over the batch axis mixes samples"));
        }
        let contiguous = to_end || behind.iter().all(|&dim| dim == Extent::fixed(1));
        let over = extent::product(&x.dims[axis..]).and_then(Extent::known).filter(|_| contiguous);
        let width = over.and_then(|width| usize::try_from(width).ok());
        let shape = self.draft.values[x.id].shape.clone();
        let first = extent::sample_axis(&x.dims, axis).unwrap_or(0);
        let axes = first..if to_end { shape.rank() } else { first + 1 };
        let output = self.draft.add_value(&node.name, shape);
        self.push(node, "", StepOp::Softmax { log, width, axes }, vec![x.id], output);
        Ok(Fact::Activation(Act::new(output, x.dims)))
    }

    fn axis(&self, node: &Node, axis: i64, dims: &[Extent]) -> Result<usize> {
        extent::position(axis, dims.len()).ok_or_else(|| {
            Error::shape(format!("axis {axis} does not fit an input of shape {}", extent::show(dims)))
                .at(node.place())
                .help("the file is damaged or was edited by hand; export the model again")
        })
    }
}
