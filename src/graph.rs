//! The model as its file has it: nodes, values and constants under the names that the model gave them.
//!
//! Operators are already free of opset differences ([`Op`]), but nothing is simplified yet, and an operator that
//! relprop does not know is kept as [`Op::Unsupported`], so that it only matters where it is needed.

mod op;
mod sliding;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::tensor::{Shape, Tensor};

pub use op::{Arithmetic, Comparison, Elementary, Normalization, Op, PadMode, Reduction};
pub use sliding::{Coordinates, Interpolation, Padding, Policy, Resize, Rounding, Scales, Sliding};

/// A value's position in [`Graph::values`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(usize);

impl ValueId {
    /// The value's position in [`Graph::values`].
    pub fn index(self) -> usize {
        self.0
    }
}

/// The extent of an axis as a model declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dim {
    /// A number.
    Fixed(usize),
    /// A symbol such as `batch` or `seq`.
    Named(String),
    /// Neither a number nor a symbol.
    Unknown,
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Fixed(extent) => write!(f, "{extent}"),
            Dim::Named(name) => f.write_str(name),
            Dim::Unknown => f.write_str("?"),
        }
    }
}

/// What a value's elements are, as far as relprop tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElementType {
    /// Real numbers of any width; computed in float32.
    Float,
    /// Integers of any width and sign.
    Integer,
    /// Truth values.
    Bool,
    /// Strings.
    Text,
    /// Anything else, and values whose type the model does not say.
    Unknown,
}

/// Whether a constant's shape can be calculated with: ranks and extents that no real tensor has would overflow.
///
/// A tensor without elements may claim any extents beside its 0, so those are limited on their own.
pub(crate) fn plausible(shape: &Shape) -> bool {
    const MAX_RANK: usize = 32;
    const MAX_BESIDE_ZERO: usize = 1 << 20;
    let beside = shape.dims().iter().fold(1_usize, |product, &dim| product.saturating_mul(dim.max(1)));
    shape.rank() <= MAX_RANK && (shape.count() > 0 || beside <= MAX_BESIDE_ZERO)
}

/// A constant tensor of the model.
#[derive(Debug, Clone)]
pub enum Constant {
    /// Real numbers, converted to float32.
    Float(Arc<Tensor<f32>>),
    /// Integers, widened to 64 bits.
    Integer(Arc<Tensor<i64>>),
    /// Truth values.
    Bool(Arc<Tensor<bool>>),
    /// A tensor whose element type relprop cannot hold (strings, complex numbers), by that type's name.
    Opaque {
        /// The element type's name in ONNX.
        element: String,
        /// Its shape.
        shape: Shape,
    },
}

impl Constant {
    /// The tensor's shape.
    pub fn shape(&self) -> &Shape {
        match self {
            Constant::Float(tensor) => tensor.shape(),
            Constant::Integer(tensor) => tensor.shape(),
            Constant::Bool(tensor) => tensor.shape(),
            Constant::Opaque { shape, .. } => shape,
        }
    }
}

/// A named tensor of the model.
#[derive(Debug, Clone)]
pub struct Value {
    /// The name that the model gave it.
    pub name: String,
    /// The declared element type.
    pub element: ElementType,
    /// The declared extents, outermost first, the batch among them; none if the model does not say.
    pub dims: Option<Vec<Dim>>,
    /// Its elements, if they are part of the model.
    pub constant: Option<Constant>,
    /// The least and the greatest integer that its type holds, if it is a constant of integers of at most 32 bits.
    pub range: Option<(i64, i64)>,
}

/// One operator of the model.
#[derive(Debug, Clone)]
pub struct Node {
    /// The name that the model gave it, or `OpType_index` where it gave none.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// The operator's name in the file.
    pub op_type: String,
    /// The operator set that it belongs to; empty for ONNX's own.
    pub domain: String,
    /// The version of that operator set.
    pub opset: i64,
    /// What it reads; none for an optional input that is left out.
    pub inputs: Vec<Option<ValueId>>,
    /// What it makes; none for an output that nothing names.
    pub outputs: Vec<Option<ValueId>>,
}

impl Node {
    /// Name, operator and opset, for messages.
    pub fn place(&self) -> String {
        let domain = if self.domain.is_empty() { String::new() } else { format!("{}.", self.domain) };
        format!("{} ({domain}{}, opset {})", self.name, self.op_type, self.opset)
    }
}

/// A model: nodes over values, some of them constant, some inputs, some outputs.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// Every value; a [`ValueId`] is a position here.
    pub values: Vec<Value>,
    /// The nodes in the file's order.
    pub nodes: Vec<Node>,
    /// The inputs that the caller fills, in the model's order.
    pub inputs: Vec<ValueId>,
    /// The outputs, in the model's order.
    pub outputs: Vec<ValueId>,
    /// The program that wrote the model, with its version.
    pub producer: String,
    /// The version of ONNX's own operator set.
    pub opset: i64,
    /// The SHA-256 of the model's bytes in hexadecimal, external data included.
    pub digest: String,
    /// What the reader wants the user to know, one sentence each.
    pub notes: Vec<String>,
    names: HashMap<String, ValueId>,
}

impl Graph {
    /// The value behind an id.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0]
    }

    /// The value of a name.
    pub fn find(&self, name: &str) -> Option<ValueId> {
        self.names.get(name).copied()
    }

    /// The value of a name, made if it is not there yet.
    pub fn intern(&mut self, name: &str) -> ValueId {
        if let Some(&id) = self.names.get(name) {
            return id;
        }
        let id = ValueId(self.values.len());
        self.values.push(Value {
            name: name.to_owned(),
            element: ElementType::Unknown,
            dims: None,
            constant: None,
            range: None,
        });
        self.names.insert(name.to_owned(), id);
        id
    }

    /// Gives a value its type and extents.
    pub fn declare(&mut self, id: ValueId, element: ElementType, dims: Option<Vec<Dim>>) {
        let value = &mut self.values[id.0];
        value.element = element;
        value.dims = dims;
    }

    /// A new constant; `name` is made unique by a number if it is taken.
    pub fn add_constant(&mut self, name: &str, constant: Constant) -> ValueId {
        let mut unique = name.to_owned();
        let mut count = 1;
        while self.names.contains_key(&unique) {
            count += 1;
            unique = format!("{name}_{count}");
        }
        let id = self.intern(&unique);
        self.values[id.0].constant = Some(constant);
        id
    }

    /// Gives a named value its elements.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] if the value has elements already.
    pub fn set_constant(&mut self, name: &str, constant: Constant) -> Result<ValueId> {
        let id = self.intern(name);
        if self.values[id.0].constant.is_some() {
            return Err(Error::new(ErrorKind::Malformed, format!("the constant `{name}` is defined twice"))
                .help("the file is damaged or was edited by hand; export the model again"));
        }
        self.values[id.0].constant = Some(constant);
        Ok(id)
    }

    /// For each value, the node that makes it.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] if two nodes make one value, or a node makes an input or a constant.
    pub fn producers(&self) -> Result<Vec<Option<usize>>> {
        let mut producers = vec![None; self.values.len()];
        let mut is_input = vec![false; self.values.len()];
        self.inputs.iter().for_each(|input| is_input[input.0] = true);
        for (index, node) in self.nodes.iter().enumerate() {
            for &output in node.outputs.iter().flatten() {
                let value = &self.values[output.0];
                let taken = producers[output.0].is_some() || value.constant.is_some() || is_input[output.0];
                if taken {
                    return Err(Error::new(ErrorKind::Malformed, format!("the value `{}` is made twice", value.name))
                        .at(node.place())
                        .help("every value of an ONNX graph is made once; export the model again"));
                }
                producers[output.0] = Some(index);
            }
        }
        Ok(producers)
    }
}
