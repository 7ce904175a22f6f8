//! How passes read functions that exporters spell out in elementary operators: products in any order of their factors.

use crate::graph::{Arithmetic, Constant, Graph, Node, Op, ValueId};

/// Longer products are no spelling of an activation; also bounds the work on hostile graphs.
const MAX_FACTORS: usize = 8;

/// Nodes with what is needed to follow values back.
pub(super) struct Search<'a> {
    graph: &'a Graph,
    pub(super) nodes: &'a [Node],
    producers: Vec<Option<usize>>,
}

/// A product: its constant factor and the other ones.
pub(super) struct Product {
    pub(super) constant: f64,
    pub(super) factors: Vec<ValueId>,
}

impl Product {
    /// Whether it is that constant times those factors, in any order.
    pub(super) fn is(&self, constant: f64, factors: &[ValueId]) -> bool {
        let (mut have, mut want) = (self.factors.clone(), factors.to_vec());
        have.sort();
        want.sort();
        close(self.constant, constant) && have == want
    }
}

/// Equal within what constants lose when they are stored in half precision.
pub(super) fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-3 * b.abs()
}

impl<'a> Search<'a> {
    pub(super) fn new(graph: &'a Graph, nodes: &'a [Node]) -> Self {
        let mut producers = vec![None; graph.values.len()];
        for (index, node) in nodes.iter().enumerate() {
            node.outputs.iter().flatten().for_each(|output| producers[output.index()] = Some(index));
        }
        Search { graph, nodes, producers }
    }

    /// The other summand of a value that is something plus `constant`.
    pub(super) fn added_to(&self, value: ValueId, constant: f64) -> Option<ValueId> {
        if !matches!(self.producer(value)?.op, Op::Arithmetic(Arithmetic::Add)) {
            return None;
        }
        let [a, b] = self.operands(value)?;
        let is_wanted = |value| self.scalar(value).is_some_and(|scalar| close(scalar, constant));
        if is_wanted(b) { Some(a) } else { is_wanted(a).then_some(b) }
    }

    /// A value as a product, with `atoms` not taken apart.
    pub(super) fn product(&self, value: ValueId, atoms: &[ValueId]) -> Option<Product> {
        let mut product = Product { constant: 1.0, factors: Vec::new() };
        let mut open = vec![value];
        let mut steps = 0;
        while let Some(value) = open.pop() {
            steps += 1;
            if steps > 4 * MAX_FACTORS || product.factors.len() > MAX_FACTORS {
                return None;
            }
            if let Some(scalar) = self.scalar(value) {
                product.constant *= scalar;
                continue;
            }
            let node = self.producer(value).filter(|_| !atoms.contains(&value));
            match (node.map(|node| &node.op), self.operands(value)) {
                (Some(Op::Arithmetic(Arithmetic::Mul)), Some(both)) => open.extend(both),
                (Some(Op::Arithmetic(Arithmetic::Div)), Some([a, b])) if self.scalar(b).is_some() => {
                    product.constant /= self.scalar(b)?;
                    open.push(a);
                }
                (Some(Op::Pow), Some([a, b])) if matches!(self.scalar(b), Some(2.0 | 3.0)) => {
                    let times = if self.scalar(b) == Some(2.0) { 2 } else { 3 };
                    open.extend([a; 3].into_iter().take(times));
                }
                _ => product.factors.push(value),
            }
        }
        Some(product)
    }

    pub(super) fn producer(&self, value: ValueId) -> Option<&Node> {
        self.producers[value.index()].map(|index| &self.nodes[index])
    }

    pub(super) fn operands(&self, value: ValueId) -> Option<[ValueId; 2]> {
        match self.producer(value)?.inputs[..] {
            [Some(a), Some(b)] => Some([a, b]),
            _ => None,
        }
    }

    pub(super) fn scalar(&self, value: ValueId) -> Option<f64> {
        match &self.graph.value(value).constant {
            Some(Constant::Float(tensor)) if tensor.count() == 1 => Some(tensor.data()[0].into()),
            Some(Constant::Integer(tensor)) if tensor.count() == 1 => Some(tensor.data()[0] as f64),
            _ => None,
        }
    }

    /// Input `slot` of a node.
    pub(super) fn slot(&self, node: &Node, slot: usize) -> Option<ValueId> {
        node.inputs.get(slot).copied().flatten()
    }
}
