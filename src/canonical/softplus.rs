//! Pass 2: softplus and softsign spelled out in elementary operators become one activation.
//!
//! Exporters write ln(1 + eˣ), the same with x itself above a threshold where both agree, and x / (1 + |x|). No layer
//! has an exponential or a quotient of activations; as one activation relevance passes, as LRP means it.

use super::spelling::{Search, close};
use crate::graph::{Arithmetic, Comparison, Elementary, Graph, Node, Op, ValueId};
use crate::layers::Activation;

/// Marks the last node of every such function as that activation; whether there was any.
pub(super) fn find(graph: &Graph, nodes: &mut [Node]) -> bool {
    let matches: Vec<(usize, ValueId, Activation)> = {
        let search = Search::new(graph, nodes);
        (0..nodes.len()).filter_map(|index| search.smooth(index).map(|(x, found)| (index, x, found))).collect()
    };
    for &(index, x, activation) in &matches {
        nodes[index].op = Op::Activation(activation);
        nodes[index].inputs = vec![Some(x)];
    }
    !matches.is_empty()
}

impl Search<'_> {
    fn smooth(&self, index: usize) -> Option<(ValueId, Activation)> {
        let node = &self.nodes[index];
        match node.op {
            Op::Elementary(Elementary::Log) => self.logarithm(node),
            Op::Where => self.above_threshold(node),
            Op::Arithmetic(Arithmetic::Div) => {
                let x = self.slot(node, 0)?;
                let magnitude = self.added_to(self.slot(node, 1)?, 1.0)?;
                let inner = self.inside(magnitude, Elementary::Abs)?;
                (inner == x).then_some((x, Activation::Softsign))
            }
            _ => None,
        }
    }

    /// ln(1 + eˣ).
    fn logarithm(&self, node: &Node) -> Option<(ValueId, Activation)> {
        let power = self.added_to(self.slot(node, 0)?, 1.0)?;
        Some((self.inside(power, Elementary::Exp)?, Activation::Softplus { beta: 1.0 }))
    }

    /// x where β x is greater than a threshold, else ln(1 + e^(βx)) / β.
    fn above_threshold(&self, node: &Node) -> Option<(ValueId, Activation)> {
        /// Above it, softplus is x within what float32 holds.
        const AGREES: f64 = 15.0;
        let (condition, x) = (self.producer(self.slot(node, 0)?)?, self.slot(node, 1)?);
        let otherwise = self.product(self.slot(node, 2)?, &[])?;
        let &[softplus] = &otherwise.factors[..] else { return None };
        let softplus = self.producer(softplus)?;
        let argument = match softplus.op {
            Op::Activation(Activation::Softplus { beta }) if close(beta.into(), 1.0) => self.slot(softplus, 0)?,
            Op::Elementary(Elementary::Log) => self.logarithm(softplus)?.0,
            _ => return None,
        };
        let beta = self.product(argument, &[x]).filter(|beta| beta.factors == [x])?.constant;
        let compared = self.product(self.slot(condition, 0)?, &[x]).filter(|compared| compared.factors == [x])?;
        let threshold = self.scalar(self.slot(condition, 1)?)? / compared.constant * beta;
        let fits =
            matches!(condition.op, Op::Compare(Comparison::Greater)) && compared.constant > 0.0 && threshold >= AGREES;
        (fits && close(otherwise.constant * beta, 1.0)).then_some((x, Activation::Softplus { beta: beta as f32 }))
    }

    /// The x of a value that is that function of x.
    fn inside(&self, value: ValueId, function: Elementary) -> Option<ValueId> {
        let node = self.producer(value).filter(|node| matches!(node.op, Op::Elementary(found) if found == function))?;
        self.slot(node, 0)
    }
}
