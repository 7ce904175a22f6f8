//! Graphs written in code.

use std::sync::Arc;

use relprop::canonical::{Options, canonicalize};
use relprop::graph::{Arithmetic, Constant, Dim, ElementType, Graph, Node, Op, ValueId};
use relprop::layers::Activation;
use relprop::{Network, Tensor};

pub const ADD: Op = Op::Arithmetic(Arithmetic::Add);
pub const SUB: Op = Op::Arithmetic(Arithmetic::Sub);
pub const MUL: Op = Op::Arithmetic(Arithmetic::Mul);
pub const DIV: Op = Op::Arithmetic(Arithmetic::Div);
pub const RELU: Op = Op::Activation(Activation::Relu);
pub const SIGMOID: Op = Op::Activation(Activation::Sigmoid);
pub const SOFTMAX: Op = Op::Softmax { axis: -1, to_end: false, log: false };

/// Writes a graph node by node; a node's one output has the node's name.
#[derive(Default)]
pub struct Writer(pub Graph);

impl Writer {
    pub fn input(&mut self, name: &str, dims: &[Dim]) -> ValueId {
        let id = self.0.intern(name);
        self.0.declare(id, ElementType::Float, Some(dims.to_vec()));
        self.0.inputs.push(id);
        id
    }

    /// An input of shape [batch, …dims] with a symbolic batch.
    pub fn samples(&mut self, name: &str, dims: &[usize]) -> ValueId {
        let mut all = vec![Dim::Named("batch".to_owned())];
        all.extend(dims.iter().copied().map(Dim::Fixed));
        self.input(name, &all)
    }

    pub fn float(&mut self, shape: &[usize], data: &[f32]) -> ValueId {
        let tensor = Tensor::new(shape.to_vec(), data.to_vec()).unwrap();
        self.0.add_constant("float", Constant::Float(Arc::new(tensor)))
    }

    pub fn scalar(&mut self, value: f32) -> ValueId {
        self.float(&[], &[value])
    }

    pub fn integers(&mut self, data: &[i64]) -> ValueId {
        self.0.add_constant("integers", Constant::Integer(Arc::new(Tensor::vector(data.to_vec()))))
    }

    pub fn node(&mut self, name: &str, op: Op, inputs: &[ValueId]) -> ValueId {
        let output = self.0.intern(name);
        self.0.nodes.push(Node {
            name: name.to_owned(),
            op,
            op_type: "Op".to_owned(),
            domain: String::new(),
            opset: 17,
            inputs: inputs.iter().copied().map(Some).collect(),
            outputs: vec![Some(output)],
        });
        output
    }

    /// x times a fixed weight of shape [inputs, outputs].
    pub fn dense(&mut self, name: &str, x: ValueId, inputs: usize, outputs: usize) -> ValueId {
        let weight: Vec<f32> = (0..inputs * outputs).map(|i| ((i * 7 + 3) % 11) as f32 / 4.0 - 1.25).collect();
        let weight = self.float(&[inputs, outputs], &weight);
        self.node(name, Op::MatMul, &[x, weight])
    }

    /// A node with several outputs, NAME/0 and on.
    pub fn nodes(&mut self, name: &str, op: Op, inputs: &[ValueId], outputs: usize) -> Vec<ValueId> {
        let first = self.node(name, op, inputs);
        let rest = (1..outputs).map(|index| self.0.intern(&format!("{name}/{index}")));
        let outputs: Vec<ValueId> = [first].into_iter().chain(rest.collect::<Vec<_>>()).collect();
        if let Some(node) = self.0.nodes.last_mut() {
            node.outputs = outputs.iter().copied().map(Some).collect();
        }
        outputs
    }

    /// Numbers between −1 and 1 that no symmetry hides, in this shape.
    pub fn numbers(&mut self, shape: &[usize]) -> ValueId {
        let count = shape.iter().product();
        self.float(shape, &numbers(count))
    }

    pub fn graph(mut self, output: ValueId) -> Graph {
        self.0.outputs.push(output);
        self.0
    }

    pub fn network(self, output: ValueId) -> Network {
        canonicalize(&self.graph(output), &Options::default()).unwrap()
    }
}

/// Numbers between −1 and 1 that no symmetry hides.
pub fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * i * 7 + i * 13 + 5) % 41) as f32 / 20.5 - 1.0).collect()
}
