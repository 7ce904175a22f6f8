//! The definition of right: one sample, float64, plain loops, straight from the formulas over the [`Network`].
//!
//! It knows no plan, no facts, no fusion, no threads and no SIMD, so that it judges the planner and every executor.

mod bilinear;
mod connections;
mod forward;
mod linear;
mod pointwise;
mod routing;
mod window;

use crate::composite::{Assignment, Finish};
use crate::error::{Error, Result};
use crate::layers::Layer;
use crate::network::{LayerNode, Network, ValueId};
use crate::relevance::LayerSums;
use crate::rules::Rule;

pub use forward::forward;
pub use pointwise::{derivative, value};

/// One sample explained in float64.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// Every value of the network, in the order of [`Network::values`].
    pub values: Vec<Vec<f64>>,
    /// The relevance of every value; zeros where none arrives.
    pub relevance: Vec<Vec<f64>>,
    /// What each layer did with its relevance; none for layers without a rule.
    pub layers: Vec<Option<LayerSums>>,
}

impl Explanation {
    /// The relevance of a value.
    pub fn at(&self, value: ValueId) -> &[f64] {
        &self.relevance[value.index()]
    }
}

/// Explains one sample: `inputs` in the network's order, `start` the relevance at each element of the output.
///
/// # Errors
/// [`ErrorKind::Shape`](crate::ErrorKind::Shape) if an input or the start has the wrong number of elements, or
/// [`ErrorKind::Data`](crate::ErrorKind::Data) if an integer input points outside its table.
pub fn explain(network: &Network, rules: &Assignment, inputs: &[&[f64]], start: &[f64]) -> Result<Explanation> {
    explain_through(network, rules, inputs, start, &[])
}

/// As [`explain`], with relevance passing only some channels of some values: positions along the first axis.
///
/// # Errors
/// As [`explain`].
pub fn explain_through(
    network: &Network,
    rules: &Assignment,
    inputs: &[&[f64]],
    start: &[f64],
    masks: &[(ValueId, &[usize])],
) -> Result<Explanation> {
    let values = forward(network, inputs)?;
    if start.len() != values[network.output().index()].len() {
        return Err(Error::shape(format!(
            "the start has {} elements but the output's shape is {}",
            start.len(),
            network.shape(network.output())
        )));
    }
    let mut relevance: Vec<Vec<f64>> = values.iter().map(|value| vec![0.0; value.len()]).collect();
    relevance[network.output().index()] = start.to_vec();
    let mut layers = vec![None; network.layers().len()];
    for (id, node) in network.layer_ids().rev() {
        for (_, channels) in masks.iter().filter(|(value, _)| *value == node.output) {
            let arriving = &mut relevance[node.output.index()];
            let positions = arriving.len() / network.shape(node.output).dims().first().copied().unwrap_or(1);
            for (channel, arriving) in arriving.chunks_exact_mut(positions).enumerate() {
                if !channels.contains(&channel) {
                    arriving.fill(0.0);
                }
            }
        }
        let arriving = relevance[node.output.index()].clone();
        let step = Step { network, node, values: &values, arriving: &arriving };
        let given = step.backward(rules.rule(id));
        layers[id.index()] = given.sums;
        for (input, share) in node.inputs.iter().zip(given.shares) {
            for (sum, part) in relevance[input.index()].iter_mut().zip(share) {
                *sum += part;
            }
        }
    }
    if rules.finish() == Finish::TimesInput {
        for input in network.inputs() {
            let index = input.value.index();
            relevance[index].iter_mut().zip(&values[index]).for_each(|(r, x)| *r *= x);
        }
    }
    Ok(Explanation { values, relevance, layers })
}

/// A layer on its way back: what it read, what it made, and the relevance that arrives.
struct Step<'a> {
    network: &'a Network,
    node: &'a LayerNode,
    values: &'a [Vec<f64>],
    arriving: &'a [f64],
}

/// What a layer gives to each of its inputs, and its sums if it has a rule.
struct Given {
    shares: Vec<Vec<f64>>,
    sums: Option<LayerSums>,
}

impl Step<'_> {
    fn input(&self, slot: usize) -> &[f64] {
        &self.values[self.node.inputs[slot].index()]
    }

    fn output(&self) -> &[f64] {
        &self.values[self.node.output.index()]
    }

    fn backward(&self, rule: Option<&Rule>) -> Given {
        match (&self.node.layer, rule) {
            (
                Layer::Dense(_) | Layer::Conv(_) | Layer::AveragePool(_) | Layer::Sum(_) | Layer::Affine(_),
                Some(Rule::Linear(rule)),
            ) => self.linear(rule),
            (Layer::Activation(activation), Some(Rule::Pointwise(rule))) => self.activation(activation, *rule),
            (Layer::Affine(affine), Some(Rule::Pointwise(rule))) => self.affine(affine, *rule),
            (Layer::Multiply(_), Some(Rule::Bilinear(rule))) => self.product(*rule),
            (Layer::Reshape(_), _) => Given { shares: vec![self.arriving.to_vec()], sums: None },
            (Layer::Transpose(transpose), _) => self.transpose(transpose),
            (Layer::Concat(concat), _) => self.concat(concat),
            (Layer::MaxPool(pool), _) => self.max_pool(pool),
            (Layer::AxisMap(_), _) => self.axis_map(),
            (Layer::Lookup(_), _) => Given { shares: vec![vec![0.0; self.input(0).len()]], sums: None },
            (
                Layer::Dense(_)
                | Layer::Conv(_)
                | Layer::AveragePool(_)
                | Layer::Sum(_)
                | Layer::Affine(_)
                | Layer::Activation(_)
                | Layer::Multiply(_),
                _,
            ) => unreachable!("a composite gives every layer a rule of its family"),
        }
    }

    /// The sums of a layer without bias and stabiliser.
    fn plain_sums(&self, shares: &[Vec<f64>]) -> LayerSums {
        let given = || shares.iter().flatten();
        let mut sums = LayerSums {
            at_output: self.arriving.iter().sum(),
            at_input: given().sum(),
            size: given().chain(self.arriving).map(|r| r.abs()).sum(),
            nonfinite: given().filter(|share| !share.is_finite()).count() as u64,
            ..LayerSums::default()
        };
        sums.close();
        sums
    }
}
