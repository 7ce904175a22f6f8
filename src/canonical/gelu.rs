//! Pass 2: GELU spelled out in elementary operators becomes one activation.
//!
//! Exporters write x · ½ · (1 + erf(x/√2)), or its form with tanh, in several orders. As single operators these are
//! products of activations, through which relevance would have to be split; as one activation it passes, which is
//! what LRP means by an activation function.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use crate::graph::{Arithmetic, Constant, Graph, Node, Op, ValueId};
use crate::layers::{Activation, GeluForm};

/// Longer products are no spelling of GELU; also bounds the work on hostile graphs.
const MAX_FACTORS: usize = 8;

/// Marks the last node of every spelled-out GELU as that activation; whether there was any.
pub(super) fn find(graph: &Graph, nodes: &mut [Node]) -> bool {
    let mut producers = vec![None; graph.values.len()];
    for (index, node) in nodes.iter().enumerate() {
        node.outputs.iter().flatten().for_each(|output| producers[output.index()] = Some(index));
    }
    let matches: Vec<(usize, ValueId, GeluForm)> = {
        let search = Search { graph, nodes, producers: &producers };
        (0..nodes.len()).filter_map(|index| search.gelu(index).map(|(x, form)| (index, x, form))).collect()
    };
    for &(index, x, form) in &matches {
        nodes[index].op = Op::Activation(Activation::Gelu(form));
        nodes[index].inputs = vec![Some(x)];
    }
    !matches.is_empty()
}

struct Search<'a> {
    graph: &'a Graph,
    nodes: &'a [Node],
    producers: &'a [Option<usize>],
}

/// A product: its constant factor and the other ones.
struct Product {
    constant: f64,
    factors: Vec<ValueId>,
}

impl Product {
    fn is(&self, constant: f64, factors: &[ValueId]) -> bool {
        let (mut have, mut want) = (self.factors.clone(), factors.to_vec());
        have.sort();
        want.sort();
        close(self.constant, constant) && have == want
    }
}

/// Equal within what constants lose when they are stored in half precision.
fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-3 * b.abs()
}

impl Search<'_> {
    fn gelu(&self, index: usize) -> Option<(ValueId, GeluForm)> {
        if !matches!(self.nodes[index].op, Op::Arithmetic(Arithmetic::Mul | Arithmetic::Div)) {
            return None;
        }
        let output = self.nodes[index].outputs.first().copied().flatten()?;
        for gate in self.product(output, &[])?.factors {
            let Some((x, form)) = self.gate(gate) else { continue };
            if self.product(output, &[x, gate])?.is(0.5, &[x, gate]) {
                return Some((x, form));
            }
        }
        None
    }

    /// The x of a value that is 1 + erf(x/√2) or 1 + tanh(√(2/π)(x + 0.044715 x³)).
    fn gate(&self, value: ValueId) -> Option<(ValueId, GeluForm)> {
        let inner = self.one_plus(value)?;
        let node = self.producer(inner)?;
        let argument = node.inputs.first().copied().flatten()?;
        match node.op {
            Op::Activation(Activation::Erf) => {
                let [x, by] = self.operands(argument)?;
                let candidates = [(x, by), (by, x)].map(|(x, by)| self.product(argument, &[x]).map(|p| (p, x, by)));
                let found = candidates.into_iter().flatten();
                let mut found =
                    found.filter(|(product, x, by)| self.scalar(*by).is_some() && product.is(FRAC_1_SQRT_2, &[*x]));
                found.next().map(|(_, x, _)| (x, GeluForm::Erf))
            }
            Op::Activation(Activation::Tanh) => self.tanh_argument(argument).map(|x| (x, GeluForm::Tanh)),
            _ => None,
        }
    }

    fn tanh_argument(&self, argument: ValueId) -> Option<ValueId> {
        const CUBIC: f64 = 0.044715;
        let root = FRAC_2_SQRT_PI * FRAC_1_SQRT_2;
        let product = self.product(argument, &[])?;
        for &sum in &product.factors {
            let Some(Op::Arithmetic(Arithmetic::Add)) = self.producer(sum).map(|node| &node.op) else { continue };
            let [a, b] = self.operands(sum)?;
            for (x, cubic) in [(a, b), (b, a)] {
                let cubic = self.product(cubic, &[x]);
                if cubic.is_some_and(|cubic| cubic.is(CUBIC, &[x, x, x])) && product.is(root, &[sum]) {
                    return Some(x);
                }
            }
            let square = self.one_plus(sum).and_then(|square| self.product(square, &[]));
            let x = square.and_then(|square| square.factors.first().copied().filter(|&x| square.is(CUBIC, &[x, x])));
            if x.is_some_and(|x| product.is(root, &[x, sum])) {
                return x;
            }
        }
        None
    }

    /// The other summand of a value that is something plus 1.
    fn one_plus(&self, value: ValueId) -> Option<ValueId> {
        if !matches!(self.producer(value)?.op, Op::Arithmetic(Arithmetic::Add)) {
            return None;
        }
        let [a, b] = self.operands(value)?;
        let is_one = |value| self.scalar(value).is_some_and(|scalar| close(scalar, 1.0));
        if is_one(b) { Some(a) } else { is_one(a).then_some(b) }
    }

    /// A value as a product, with `atoms` not taken apart.
    fn product(&self, value: ValueId, atoms: &[ValueId]) -> Option<Product> {
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

    fn producer(&self, value: ValueId) -> Option<&Node> {
        self.producers[value.index()].map(|index| &self.nodes[index])
    }

    fn operands(&self, value: ValueId) -> Option<[ValueId; 2]> {
        match self.producer(value)?.inputs[..] {
            [Some(a), Some(b)] => Some([a, b]),
            _ => None,
        }
    }

    fn scalar(&self, value: ValueId) -> Option<f64> {
        match &self.graph.value(value).constant {
            Some(Constant::Float(tensor)) if tensor.count() == 1 => Some(tensor.data()[0].into()),
            Some(Constant::Integer(tensor)) if tensor.count() == 1 => Some(tensor.data()[0] as f64),
            _ => None,
        }
    }
}
