//! Pass 2: GELU spelled out in elementary operators becomes one activation.
//!
//! Exporters write x · ½ · (1 + erf(x/√2)), or its form with tanh, in several orders. As single operators these are
//! products of activations, through which relevance would have to be split; as one activation it passes, which is
//! what LRP means by an activation function.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use super::spelling::Search;
use crate::graph::{Arithmetic, Graph, Node, Op, ValueId};
use crate::layers::{Activation, GeluForm};

/// Marks the last node of every spelled-out GELU as that activation; whether there was any.
pub(super) fn find(graph: &Graph, nodes: &mut [Node]) -> bool {
    let matches: Vec<(usize, ValueId, GeluForm)> = {
        let search = Search::new(graph, nodes);
        (0..nodes.len()).filter_map(|index| search.gelu(index).map(|(x, form)| (index, x, form))).collect()
    };
    for &(index, x, form) in &matches {
        nodes[index].op = Op::Activation(Activation::Gelu(form));
        nodes[index].inputs = vec![Some(x)];
    }
    !matches.is_empty()
}

impl Search<'_> {
    fn gelu(&self, index: usize) -> Option<(ValueId, GeluForm)> {
        if !matches!(self.nodes[index].op, Op::Arithmetic(Arithmetic::Mul | Arithmetic::Div)) {
            return None;
        }
        let output = self.nodes[index].outputs.first().copied().flatten()?;
        for gate in self.product(output, &[])?.factors {
            let Some((x, form)) = self.gelu_gate(gate) else { continue };
            if self.product(output, &[x, gate])?.is(0.5, &[x, gate]) {
                return Some((x, form));
            }
        }
        None
    }

    /// The x of a value that is 1 + erf(x/√2) or 1 + tanh(√(2/π)(x + 0.044715 x³)).
    fn gelu_gate(&self, value: ValueId) -> Option<(ValueId, GeluForm)> {
        let inner = self.added_to(value, 1.0)?;
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
            let square = self.added_to(sum, 1.0).and_then(|square| self.product(square, &[]));
            let x = square.and_then(|square| square.factors.first().copied().filter(|&x| square.is(CUBIC, &[x, x])));
            if x.is_some_and(|x| product.is(root, &[x, sum])) {
                return x;
            }
        }
        None
    }
}
