//! Networks made in code, and by what reads models.

use std::collections::HashSet;
use std::sync::Arc;

use super::{BatchAxis, Input, InputKind, LayerNode, Link, Network, Value, ValueId};
use crate::error::{Error, Result};
use crate::layers::{
    Activation, Affine, AveragePool, Concat, Conv, Dense, Divisor, Layer, Lookup, MaxPool, Reshape, Sum, Transpose,
    Window, WindowAxis, sum::Sign,
};
use crate::tensor::{Shape, Tensor};

/// Builds a [`Network`] layer by layer; each call checks shapes and returns the new value.
///
/// ```
/// use relprop::{Network, Tensor};
///
/// let mut builder = Network::builder();
/// let x = builder.input("x", [4]);
/// let z = builder.dense("fc1", x, Tensor::from_fn([2, 4], |i| i as f32), None)?;
/// let a = builder.relu("relu", z)?;
/// let y = builder.dense("fc2", a, Tensor::from_fn([1, 2], |_| 1.0), Some(Tensor::vector(vec![0.5])))?;
/// let network = builder.build(y)?;
/// assert_eq!(network.layers().len(), 3);
/// # Ok::<(), relprop::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct NetworkBuilder {
    inputs: Vec<Input>,
    values: Vec<Value>,
    layers: Vec<LayerNode>,
    names: HashSet<String>,
    link: Option<Link>,
    batch: Option<BatchAxis>,
    notes: Vec<String>,
}

impl NetworkBuilder {
    /// An input of real numbers; `shape` is one sample's.
    pub fn input(&mut self, name: impl Into<String>, shape: impl Into<Shape>) -> ValueId {
        self.add_input(name.into(), shape.into(), InputKind::Float)
    }

    /// An input of integers; relevance stops where it is looked up.
    pub fn integer_input(&mut self, name: impl Into<String>, shape: impl Into<Shape>) -> ValueId {
        self.add_input(name.into(), shape.into(), InputKind::Integer)
    }

    fn add_input(&mut self, name: String, shape: Shape, kind: InputKind) -> ValueId {
        let value = ValueId(self.values.len());
        let name = self.unique(&name);
        self.values.push(Value { name, shape });
        self.inputs.push(Input { value, kind });
        value
    }

    /// z = x Wᵀ + b: weight `[outputs, inputs]`, bias `[outputs]`.
    ///
    /// # Errors
    /// If weight, bias and input do not fit together.
    pub fn dense(&mut self, name: &str, input: ValueId, weight: Tensor, bias: Option<Tensor>) -> Result<ValueId> {
        let dense = Dense::new(weight, bias.map(Arc::new)).map_err(|error| error.at(name))?;
        self.layer(name, Layer::Dense(dense), vec![input])
    }

    /// A convolution of `[channels, spatial…]`: weight `[outputs, inputs / groups, kernel…]`, bias `[outputs]`.
    ///
    /// # Errors
    /// If weight, bias, window, groups and input do not fit together.
    pub fn conv(
        &mut self,
        name: &str,
        input: ValueId,
        weight: Tensor,
        bias: Option<Tensor>,
        window: Window,
        groups: usize,
    ) -> Result<ValueId> {
        let conv = Conv::new(weight, bias.map(Arc::new), window, groups).map_err(|error| error.at(name))?;
        self.layer(name, Layer::Conv(conv), vec![input])
    }

    /// The greatest element of each window.
    ///
    /// # Errors
    /// If the window does not fit the input.
    pub fn max_pool(&mut self, name: &str, input: ValueId, window: Window) -> Result<ValueId> {
        self.layer(name, Layer::MaxPool(MaxPool::new(window)), vec![input])
    }

    /// The average of each window.
    ///
    /// # Errors
    /// If the window does not fit the input.
    pub fn average_pool(&mut self, name: &str, input: ValueId, window: Window, divisor: Divisor) -> Result<ValueId> {
        self.layer(name, Layer::AveragePool(AveragePool::new(window, divisor)), vec![input])
    }

    /// The average of each channel of `[channels, spatial…]`.
    ///
    /// # Errors
    /// If the input has not one to three spatial axes.
    pub fn global_average_pool(&mut self, name: &str, input: ValueId) -> Result<ValueId> {
        let spatial = self.shape(input).dims().get(1..).unwrap_or_default();
        let window = Window::new(spatial.iter().map(|&extent| WindowAxis::new(extent)).collect());
        self.average_pool(name, input, window.map_err(|error| error.at(name))?, Divisor::Inside)
    }

    /// max(x, 0).
    ///
    /// # Errors
    /// If `input` is no value of this builder.
    pub fn relu(&mut self, name: &str, input: ValueId) -> Result<ValueId> {
        self.activation(name, input, Activation::Relu)
    }

    /// An elementwise function.
    ///
    /// # Errors
    /// If `input` is no value of this builder.
    pub fn activation(&mut self, name: &str, input: ValueId, activation: Activation) -> Result<ValueId> {
        self.layer(name, Layer::Activation(activation), vec![input])
    }

    /// The sum of values of one shape.
    ///
    /// # Errors
    /// If the shapes differ.
    pub fn sum(&mut self, name: &str, inputs: &[ValueId]) -> Result<ValueId> {
        let sum = Sum::new(vec![Sign::Plus; inputs.len()]).map_err(|error| error.at(name))?;
        self.layer(name, Layer::Sum(sum), inputs.to_vec())
    }

    /// s ⊙ x + o, broadcast to the sample.
    ///
    /// # Errors
    /// If scale or offset do not broadcast to the input's shape.
    pub fn affine(&mut self, name: &str, input: ValueId, scale: Tensor, offset: Tensor) -> Result<ValueId> {
        self.layer(name, Layer::Affine(Affine::new(scale, offset)), vec![input])
    }

    /// The same elements under another sample shape.
    ///
    /// # Errors
    /// If the counts differ.
    pub fn reshape(&mut self, name: &str, input: ValueId, shape: impl Into<Shape>) -> Result<ValueId> {
        self.layer(name, Layer::Reshape(Reshape::new(shape)), vec![input])
    }

    /// The sample's axes reordered.
    ///
    /// # Errors
    /// If `order` is no permutation of the input's axes.
    pub fn transpose(&mut self, name: &str, input: ValueId, order: Vec<usize>) -> Result<ValueId> {
        let transpose = Transpose::new(order).map_err(|error| error.at(name))?;
        self.layer(name, Layer::Transpose(transpose), vec![input])
    }

    /// Values joined along an axis of the sample.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn concat(&mut self, name: &str, inputs: &[ValueId], axis: usize) -> Result<ValueId> {
        self.layer(name, Layer::Concat(Concat::new(axis)), inputs.to_vec())
    }

    /// Rows of `table` (`[entries, …row]`) picked by an integer input.
    ///
    /// # Errors
    /// If the table has no entry, or `input` is no integer input.
    pub fn lookup(&mut self, name: &str, input: ValueId, table: Tensor) -> Result<ValueId> {
        let lookup = Lookup::new(table).map_err(|error| error.at(name))?;
        self.layer(name, Layer::Lookup(lookup), vec![input])
    }

    /// Any layer; what the named methods call.
    ///
    /// # Errors
    /// If an input is not of this builder, has the wrong kind, or the shapes do not fit the layer.
    pub fn layer(&mut self, name: &str, layer: Layer, inputs: Vec<ValueId>) -> Result<ValueId> {
        if let Some(stranger) = inputs.iter().find(|input| input.0 >= self.values.len()) {
            return Err(Error::argument(format!("value {} belongs to another network", stranger.0)).at(name));
        }
        let looks_up = matches!(layer, Layer::Lookup(_));
        for input in &inputs {
            let is_integer = self.inputs.iter().any(|known| known.value == *input && known.kind == InputKind::Integer);
            if is_integer != looks_up {
                let (value, kind) = (&self.values[input.0].name, layer.kind());
                let message = if looks_up {
                    format!("a lookup needs an integer input, but `{value}` holds real numbers")
                } else {
                    format!("`{value}` is an integer input, which only a lookup can read, not a {kind} layer")
                };
                return Err(Error::argument(message).at(name));
            }
        }
        let shapes: Vec<&Shape> = inputs.iter().map(|input| &self.values[input.0].shape).collect();
        let shape = layer.output_shape(&shapes).map_err(|error| error.at(name))?;
        let name = self.unique(name);
        let output = ValueId(self.values.len());
        self.values.push(Value { name: name.clone(), shape });
        self.layers.push(LayerNode { name, layer, inputs, output });
        Ok(output)
    }

    fn unique(&mut self, name: &str) -> String {
        let mut unique = name.to_owned();
        let mut count = 1;
        while self.names.contains(&unique) {
            count += 1;
            unique = format!("{name}_{count}");
        }
        self.names.insert(unique.clone());
        unique
    }

    /// Names a value as the model does; by default a value has its layer's name.
    pub fn rename(&mut self, value: ValueId, name: impl Into<String>) {
        self.values[value.0].name = name.into();
    }

    /// The shape of one sample of a value.
    pub fn shape(&self, value: ValueId) -> &Shape {
        &self.values[value.0].shape
    }

    /// Records that the model ends in a function which the explained network leaves out.
    pub fn link(&mut self, link: Option<Link>) {
        self.link = link;
    }

    /// Records how the model's own tensors carry the batch; [`BatchAxis::Leading`] unless told.
    pub fn batch(&mut self, batch: BatchAxis) {
        self.batch = Some(batch);
    }

    /// Records a sentence for the user about what was changed or left out.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// The network up to `output`; layers and inputs that it does not depend on are dropped.
    ///
    /// # Errors
    /// If `output` is not of this builder, no layer makes it, or a value has no elements.
    pub fn build(self, output: ValueId) -> Result<Network> {
        if !self.layers.iter().any(|node| node.output == output) {
            return Err(Error::argument("the output of a network is a value that one of its layers makes"));
        }
        if let Some(empty) = self.values.iter().find(|value| value.shape.count() == 0) {
            return Err(Error::shape(format!("value `{}` of shape {} has no elements", empty.name, empty.shape)));
        }
        let mut needed = vec![false; self.values.len()];
        needed[output.0] = true;
        for node in self.layers.iter().rev() {
            if needed[node.output.0] {
                node.inputs.iter().for_each(|input| needed[input.0] = true);
            }
        }
        let mut moved = vec![ValueId(0); self.values.len()];
        let mut values = Vec::new();
        for (index, value) in self.values.into_iter().enumerate() {
            if needed[index] {
                moved[index] = ValueId(values.len());
                values.push(value);
            }
        }
        let layers = self
            .layers
            .into_iter()
            .filter(|node| needed[node.output.0])
            .map(|node| LayerNode {
                inputs: node.inputs.iter().map(|input| moved[input.0]).collect(),
                output: moved[node.output.0],
                ..node
            })
            .collect();
        let inputs = self
            .inputs
            .into_iter()
            .filter(|input| needed[input.value.0])
            .map(|input| Input { value: moved[input.value.0], ..input })
            .collect();
        Ok(Network {
            inputs,
            values,
            layers,
            output: moved[output.0],
            link: self.link,
            batch: self.batch.unwrap_or(BatchAxis::Leading),
            notes: self.notes,
        })
    }
}
