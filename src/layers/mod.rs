//! The layers: parameters, geometry, output shape and family, one file each.
//!
//! A layer knows shapes and its own parameters; it knows no rule, no buffer and no backend. Shapes are those of
//! one sample: the batch is an implied axis in front of every value.

pub mod activation;
pub mod affine;
pub mod average_pool;
pub mod axis_map;
pub mod concat;
pub mod conv;
pub mod dense;
pub mod lookup;
pub mod max_pool;
pub mod multiply;
pub mod reshape;
pub mod sum;
pub mod transpose;
pub mod window;

pub use activation::{Activation, GeluForm};
pub use affine::Affine;
pub use average_pool::{AveragePool, Divisor};
pub use axis_map::{AxisMap, AxisMapKind};
pub use concat::Concat;
pub use conv::{Conv, ConvWay};
pub use dense::Dense;
pub use lookup::Lookup;
pub use max_pool::MaxPool;
pub use multiply::Multiply;
pub use reshape::Reshape;
pub use sum::Sum;
pub use transpose::Transpose;
pub use window::{Reach, Window, WindowAxis};

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::tensor::{Shape, Tensor};

/// What a layer does with its inputs, and so which rules it can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// z = W x + b, mixing inputs: takes the terms, groups and stabilisers of a linear rule.
    Linear,
    /// One function of each element.
    Pointwise,
    /// A factor and an offset for each element.
    Affine,
    /// Elements move but keep their value; relevance moves back with them.
    Routing,
    /// A product of two activations.
    Bilinear,
    /// A table read at integer positions: relevance stops here.
    Lookup,
}

/// A layer of the network.
#[derive(Debug, Clone)]
pub enum Layer {
    /// z = x Wᵀ + b along the last axis.
    Dense(Dense),
    /// Convolution, plain or transposed.
    Conv(Conv),
    /// The average or sum of each window.
    AveragePool(AveragePool),
    /// A signed sum of values of one shape.
    Sum(Sum),
    /// y = s ⊙ x + o.
    Affine(Affine),
    /// An elementwise non-linear function.
    Activation(Activation),
    /// The same elements under another shape.
    Reshape(Reshape),
    /// Axes reordered.
    Transpose(Transpose),
    /// Values joined along an axis.
    Concat(Concat),
    /// The greatest element of each window.
    MaxPool(MaxPool),
    /// A map along one axis: slice, gather, pad, expand, resize.
    AxisMap(AxisMap),
    /// Two values multiplied element by element.
    Multiply(Multiply),
    /// Rows of a table, picked by an integer input.
    Lookup(Lookup),
}

/// The names of all kinds of layers, as [`Layer::kind`] gives them.
pub const KINDS: [&str; 37] = [
    "dense",
    "conv",
    "conv-transpose",
    "average-pool",
    "sum",
    "affine",
    "relu",
    "leaky-relu",
    "sigmoid",
    "tanh",
    "gelu",
    "erf",
    "softplus",
    "elu",
    "selu",
    "celu",
    "silu",
    "hard-sigmoid",
    "hard-swish",
    "mish",
    "clip",
    "thresholded-relu",
    "softsign",
    "exp",
    "abs",
    "power",
    "reshape",
    "transpose",
    "concat",
    "max-pool",
    "slice",
    "gather",
    "pad",
    "expand",
    "resize",
    "multiply",
    "lookup",
];

impl Layer {
    /// The layer's family.
    pub fn family(&self) -> Family {
        match self {
            Layer::Dense(_) | Layer::Conv(_) | Layer::AveragePool(_) | Layer::Sum(_) => Family::Linear,
            Layer::Affine(_) => Family::Affine,
            Layer::Activation(_) => Family::Pointwise,
            Layer::Reshape(_) | Layer::Transpose(_) | Layer::Concat(_) | Layer::MaxPool(_) | Layer::AxisMap(_) => {
                Family::Routing
            }
            Layer::Multiply(_) => Family::Bilinear,
            Layer::Lookup(_) => Family::Lookup,
        }
    }

    /// The tensors that the layer holds.
    pub fn parameters(&self) -> Vec<&Arc<Tensor>> {
        match self {
            Layer::Dense(dense) => std::iter::once(dense.weight()).chain(dense.bias()).collect(),
            Layer::Conv(conv) => std::iter::once(conv.weight()).chain(conv.bias()).collect(),
            Layer::Affine(affine) => vec![affine.scale(), affine.offset()],
            Layer::Lookup(lookup) => vec![lookup.table()],
            Layer::Sum(_)
            | Layer::AveragePool(_)
            | Layer::Activation(_)
            | Layer::Reshape(_)
            | Layer::Transpose(_)
            | Layer::Concat(_)
            | Layer::MaxPool(_)
            | Layer::AxisMap(_)
            | Layer::Multiply(_) => Vec::new(),
        }
    }

    /// The layer's kind as composites and reports name it.
    pub fn kind(&self) -> &'static str {
        match self {
            Layer::Dense(_) => "dense",
            Layer::Conv(conv) if conv.is_transposed() => "conv-transpose",
            Layer::Conv(_) => "conv",
            Layer::AveragePool(_) => "average-pool",
            Layer::Sum(_) => "sum",
            Layer::Affine(_) => "affine",
            Layer::Activation(activation) => activation.name(),
            Layer::Reshape(_) => "reshape",
            Layer::Transpose(_) => "transpose",
            Layer::Concat(_) => "concat",
            Layer::MaxPool(_) => "max-pool",
            Layer::AxisMap(map) => map.kind().name(),
            Layer::Multiply(_) => "multiply",
            Layer::Lookup(_) => "lookup",
        }
    }

    /// The shape of one sample's output.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) with both shapes if the inputs do not fit the layer.
    pub fn output_shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        match self {
            Layer::Dense(dense) => dense.output_shape(only(inputs)?),
            Layer::Conv(conv) => conv.output_shape(only(inputs)?),
            Layer::AveragePool(pool) => pool.output_shape(only(inputs)?),
            Layer::Sum(sum) => sum.output_shape(inputs),
            Layer::Affine(affine) => affine.output_shape(only(inputs)?),
            Layer::Activation(_) => Ok(only(inputs)?.clone()),
            Layer::Reshape(reshape) => reshape.output_shape(only(inputs)?),
            Layer::Transpose(transpose) => transpose.output_shape(only(inputs)?),
            Layer::Concat(concat) => concat.output_shape(inputs),
            Layer::MaxPool(pool) => pool.output_shape(only(inputs)?),
            Layer::AxisMap(map) => map.output_shape(only(inputs)?),
            Layer::Multiply(multiply) => multiply.output_shape(inputs),
            Layer::Lookup(lookup) => Ok(lookup.output_shape(only(inputs)?)),
        }
    }
}

fn only<'a>(inputs: &[&'a Shape]) -> Result<&'a Shape> {
    match inputs {
        [shape] => Ok(shape),
        _ => Err(Error::shape(format!("the layer takes one input, not {}", inputs.len()))),
    }
}
