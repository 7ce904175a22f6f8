//! The network that is explained: a directed acyclic graph of values, each made by one layer.
//!
//! Shapes are those of one sample. The batch is an axis in front of every value that no layer names, so that
//! samples cannot mix by construction.

mod builder;

use std::collections::HashSet;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::layers::Layer;
use crate::tensor::Shape;

pub use builder::NetworkBuilder;

/// A value of a [`Network`]: an input or what a layer makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub(crate) usize);

/// A layer's position in a [`Network`]'s topological order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LayerId(pub(crate) usize);

impl ValueId {
    /// The value's position in [`Network::values`].
    pub fn index(self) -> usize {
        self.0
    }
}

impl LayerId {
    /// The layer's position in [`Network::layers`].
    pub fn index(self) -> usize {
        self.0
    }
}

/// A value's name and the shape of one sample.
#[derive(Debug, Clone)]
pub struct Value {
    /// The name that the model gave it.
    pub name: String,
    /// The shape of one sample.
    pub shape: Shape,
}

/// What an input holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputKind {
    /// Real numbers: relevance reaches them.
    Float,
    /// Integers: relevance stops where they are looked up.
    Integer,
}

/// An input of the network.
#[derive(Debug, Clone)]
pub struct Input {
    /// The value it fills.
    pub value: ValueId,
    /// What it holds.
    pub kind: InputKind,
}

/// A layer with its place in the graph.
#[derive(Debug, Clone)]
pub struct LayerNode {
    /// The name that the model gave the node, unique within the network.
    pub name: String,
    /// What it computes.
    pub layer: Layer,
    /// The activations it reads, in order.
    pub inputs: Vec<ValueId>,
    /// The value it makes.
    pub output: ValueId,
}

/// A last function that the model has and the explained network leaves out, as the field does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Softmax over the last axis.
    Softmax,
    /// The logarithm of softmax.
    LogSoftmax,
    /// The logistic function of each output.
    Sigmoid,
}

/// How the model's own tensors carry the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchAxis {
    /// The model's leading axis is the batch: any number of samples.
    Leading,
    /// The model knows one sample only; relprop puts an axis in front.
    Absent,
    /// The model has a leading batch axis of a fixed extent that could not be rewritten; only that extent works.
    Fixed(usize),
}

/// A directed acyclic graph of layers from inputs to one output, in topological order.
#[derive(Debug, Clone)]
pub struct Network {
    inputs: Vec<Input>,
    values: Vec<Value>,
    layers: Vec<LayerNode>,
    output: ValueId,
    link: Option<Link>,
    batch: BatchAxis,
    notes: Vec<String>,
}

impl Network {
    /// A builder for networks made in code.
    pub fn builder() -> NetworkBuilder {
        NetworkBuilder::default()
    }

    /// The network without the elements of its dense and convolution weights, for where they lie on a device.
    #[cfg(feature = "gpu")]
    pub(crate) fn without_weights(&self) -> Network {
        let mut network = self.clone();
        for node in &mut network.layers {
            match &node.layer {
                Layer::Dense(dense) => node.layer = Layer::Dense(dense.without_weight()),
                Layer::Conv(conv) => node.layer = Layer::Conv(conv.without_weight()),
                _ => {}
            }
        }
        network
    }

    /// Checks that the elements of every weight are there.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`](crate::ErrorKind::Argument) with the layer whose weight is on a device only.
    pub(crate) fn check_weights(&self) -> Result<()> {
        let is_without = |node: &&LayerNode| match &node.layer {
            Layer::Dense(dense) => !dense.has_weight(),
            Layer::Conv(conv) => !conv.has_weight(),
            _ => false,
        };
        match self.layers.iter().find(is_without) {
            None => Ok(()),
            Some(node) => Err(Error::argument("the network's weights are on a device only")
                .at(&node.name)
                .help("take the network as it was made or read")),
        }
    }

    /// The inputs, in the model's order.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// Every value; a [`ValueId`] is a position here.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// The value behind an id.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0]
    }

    /// The shape of one sample of a value.
    pub fn shape(&self, id: ValueId) -> &Shape {
        &self.values[id.0].shape
    }

    /// The layers in topological order; a [`LayerId`] is a position here.
    pub fn layers(&self) -> &[LayerNode] {
        &self.layers
    }

    /// The layer behind an id.
    pub fn layer(&self, id: LayerId) -> &LayerNode {
        &self.layers[id.0]
    }

    /// The layers in topological order with their ids.
    pub fn layer_ids(&self) -> impl DoubleEndedIterator<Item = (LayerId, &LayerNode)> {
        self.layers.iter().enumerate().map(|(index, node)| (LayerId(index), node))
    }

    /// The explained output (logits).
    pub fn output(&self) -> ValueId {
        self.output
    }

    /// The extent of the output's last axis, along which classes compete; 1 for a scalar.
    pub fn classes(&self) -> usize {
        self.shape(self.output).dims().last().copied().unwrap_or(1)
    }

    /// The model's last function, if it was left out.
    pub fn link(&self) -> Option<Link> {
        self.link
    }

    /// How the model's own tensors carry the batch.
    pub fn batch(&self) -> BatchAxis {
        self.batch
    }

    /// What was changed or left out on the way from the model, one sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The value of a name.
    pub fn find_value(&self, name: &str) -> Option<ValueId> {
        self.values.iter().position(|value| value.name == name).map(ValueId)
    }

    /// The layer of a name.
    pub fn find_layer(&self, name: &str) -> Option<LayerId> {
        self.layers.iter().position(|node| node.name == name).map(LayerId)
    }

    /// The layer that makes a value; none for inputs.
    pub fn producer(&self, value: ValueId) -> Option<LayerId> {
        self.layers.iter().position(|node| node.output == value).map(LayerId)
    }

    /// For each value, the layers that read it and at which of their inputs, in topological order.
    pub fn readers(&self) -> Vec<Vec<(LayerId, usize)>> {
        let mut readers = vec![Vec::new(); self.values.len()];
        for (id, node) in self.layer_ids() {
            for (slot, input) in node.inputs.iter().enumerate() {
                readers[input.0].push((id, slot));
            }
        }
        readers
    }

    /// Bytes of the parameters as float32.
    pub fn parameter_bytes(&self) -> usize {
        let mut seen = HashSet::new();
        let mut bytes = 0;
        for tensor in self.layers.iter().flat_map(|node| node.layer.parameters()) {
            if seen.insert(Arc::as_ptr(tensor)) {
                bytes += tensor.count() * size_of::<f32>();
            }
        }
        bytes
    }
}
