//! Pass 2: x times a gate made of x, spelled out in elementary operators, becomes one activation.
//!
//! Exporters write SiLU as x · σ(x) (or x · σ(1.702 x), the fast form of GELU), hard swish as x · hard sigmoid(x) or
//! x · clip(x + 3, 0, 6) / 6, and Mish as x · tanh(softplus(x)). As single operators these are products of activations,
//! whose relevance would depend on the rule for products; as one activation it passes, which is what LRP means by an
//! activation function. The hard sigmoid alone is found too, because gates are made of it.

use super::spelling::{Search, close};
use crate::graph::{Arithmetic, Graph, Node, Op, ValueId};
use crate::layers::Activation;

/// Marks the last node of every such function as that activation; whether there was any.
pub(super) fn find(graph: &Graph, nodes: &mut [Node]) -> bool {
    let matches: Vec<(usize, ValueId, Activation)> = {
        let search = Search::new(graph, nodes);
        (0..nodes.len()).filter_map(|index| search.self_gated(index).map(|(x, found)| (index, x, found))).collect()
    };
    for &(index, x, activation) in &matches {
        nodes[index].op = Op::Activation(activation);
        nodes[index].inputs = vec![Some(x)];
    }
    !matches.is_empty()
}

/// A value as a function of x: the constant that it lacks to be a gate, and the activation that x times the gate is.
struct Gate {
    x: ValueId,
    missing: f64,
    times_x: Activation,
}

impl Search<'_> {
    /// The x of a node that is x times a gate of x, or a hard sigmoid of x, and the activation that it is.
    fn self_gated(&self, index: usize) -> Option<(ValueId, Activation)> {
        if !matches!(self.nodes[index].op, Op::Arithmetic(Arithmetic::Mul | Arithmetic::Div)) {
            return None;
        }
        let output = self.nodes[index].outputs.first().copied().flatten()?;
        for factor in self.product(output, &[])?.factors {
            for gate in self.gates(factor) {
                if self.product(output, &[gate.x, factor])?.is(gate.missing, &[gate.x, factor]) {
                    return Some((gate.x, gate.times_x));
                }
                if gate.missing < 1.0 && self.product(output, &[factor])?.is(gate.missing, &[factor]) {
                    return Some((gate.x, Activation::HardSigmoid { slope: 1.0 / 6.0, offset: 0.5 }));
                }
            }
        }
        None
    }

    /// What a value may be a gate of.
    fn gates(&self, value: ValueId) -> Vec<Gate> {
        let Some(node) = self.producer(value) else { return Vec::new() };
        let Some(input) = self.slot(node, 0) else { return Vec::new() };
        let whole = |x, times_x| Gate { x, missing: 1.0, times_x };
        let six = |x| Gate { x, missing: 1.0 / 6.0, times_x: Activation::HardSwish };
        match node.op {
            Op::Activation(Activation::Sigmoid) => {
                // The sigmoid's input may be x itself or x times β.
                let (x, beta) = self.scaled(input);
                let of = |x, beta| whole(x, Activation::Silu { beta });
                vec![of(input, 1.0), of(x, beta as f32)]
            }
            Op::Activation(Activation::HardSigmoid { slope, offset })
                if close(slope.into(), 1.0 / 6.0) && close(offset.into(), 0.5) =>
            {
                vec![whole(input, Activation::HardSwish)]
            }
            Op::Activation(Activation::Tanh) => {
                let inner = self.producer(input).filter(
                    |inner| matches!(inner.op, Op::Activation(Activation::Softplus { beta }) if close(beta.into(), 1.0)),
                );
                let x = inner.and_then(|inner| self.slot(inner, 0));
                x.map(|x| whole(x, Activation::Mish)).into_iter().collect()
            }
            Op::Activation(Activation::Clip { low, high }) if low.abs() <= 0.0 && close(high.into(), 6.0) => {
                self.added_to(input, 3.0).map(six).into_iter().collect()
            }
            Op::Clip => {
                let [low, high] = [1, 2].map(|slot| self.slot(node, slot).and_then(|bound| self.scalar(bound)));
                let is_six = low.is_some_and(|low| low.abs() <= 0.0) && high.is_some_and(|high| close(high, 6.0));
                self.added_to(input, 3.0).filter(|_| is_six).map(six).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    /// A value as x times a constant.
    fn scaled(&self, value: ValueId) -> (ValueId, f64) {
        let found = self.product(value, &[]).filter(|product| product.factors.len() == 1);
        match found {
            Some(product) => (product.factors[0], product.constant),
            None => (value, 1.0),
        }
    }
}
