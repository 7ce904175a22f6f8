//! What is known of values without seeing data, and which of it the planner may use.

use super::{Ask, Rows};
use crate::composite::Assignment;
use crate::layers::{Activation, Layer, sum::Sign};
use crate::network::{LayerId, Network, ValueId};
use crate::rules::{BilinearRule, PointwiseRule, Rule};

/// Which facts the planner may use to remove work. All by default; each can be switched off to judge it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Facts {
    /// x ≥ 0: terms with x⁻ fall, x⁺ is x.
    pub nonnegative: bool,
    /// R vanishes where z < 0: groups that serve only negative outputs fall.
    pub dead_below_zero: bool,
    /// The plain term's z is the forward pass's own.
    pub reuse_forward: bool,
    /// Where two denominators of a rule add up to z, the forward pass computes these two and no third product.
    pub split_forward: bool,
    /// Where z is the sum of two denominators and R vanishes where z < 0, the one of what raises z is what is left of z without the other.
    pub rest: bool,
    /// Where one quotient goes back through W, W⁺ and W⁻, as the box rule's does, the first is the sum of the others.
    pub weight_in_parts: bool,
    /// Where x has both signs and a rule weighs contributions by whether x and W agree in sign, halves of the sums of W x and of
    /// |W| |x| make all denominators, and two products send all groups' relevance back.
    pub halve: bool,
    /// Where z and one denominator of a rule give another one, no product is made for it.
    pub derive: bool,
    /// Elementwise work joins the step before it.
    pub fuse: bool,
    /// Elementwise work joins the step before it as another result, where others read the first; a sum that others only multiply by is
    /// added up again by them.
    pub follow: bool,
    /// A factor that the shares of one value have in common is multiplied once, behind their sum.
    pub factor: bool,
    /// Two products of a layer that are added are one step's sums.
    pub pair: bool,
    /// Where targets are one and the same, relevance is computed once as far as no mask has told it apart.
    pub share: bool,
}

impl Default for Facts {
    fn default() -> Self {
        Facts {
            nonnegative: true,
            dead_below_zero: true,
            reuse_forward: true,
            split_forward: true,
            rest: true,
            weight_in_parts: true,
            halve: true,
            derive: true,
            fuse: true,
            follow: true,
            factor: true,
            pair: true,
            share: true,
        }
    }
}

/// What holds for each value of a network.
#[derive(Debug)]
pub(super) struct Known {
    nonnegative: Vec<bool>,
    dead_below_zero: Vec<bool>,
    /// Whether relevance is wanted at the value: it is an input, kept, or depends on such a value.
    wanted: Vec<bool>,
    /// Whether a sample's targets have relevance of their own at the value.
    apart: Vec<bool>,
    readers: Vec<Vec<(LayerId, usize)>>,
}

impl Known {
    pub(super) fn new(network: &Network, rules: &Assignment, ask: &Ask) -> Self {
        let none = || vec![false; network.values().len()];
        Known {
            nonnegative: if ask.facts.nonnegative { nonnegative(network) } else { none() },
            dead_below_zero: if ask.facts.dead_below_zero { dead_below_zero(network, rules) } else { none() },
            wanted: wanted(network, ask),
            apart: apart(network, ask),
            readers: network.readers(),
        }
    }

    /// The layers that read a value, each with the slot by which it does.
    pub(super) fn readers(&self, value: ValueId) -> &[(LayerId, usize)] {
        &self.readers[value.index()]
    }

    /// x ≥ 0 for every sample.
    pub(super) fn is_nonnegative(&self, value: ValueId) -> bool {
        self.nonnegative[value.index()]
    }

    /// Relevance is zero wherever the value is below zero.
    pub(super) fn is_dead_below_zero(&self, value: ValueId) -> bool {
        self.dead_below_zero[value.index()]
    }

    /// Relevance is wanted at the value or before it.
    pub(super) fn is_wanted(&self, value: ValueId) -> bool {
        self.wanted[value.index()]
    }

    /// The rows that hold relevance at the value.
    pub(super) fn rows(&self, value: ValueId) -> Rows {
        if self.apart[value.index()] { Rows::Target } else { Rows::Sample }
    }
}

fn wanted(network: &Network, ask: &Ask) -> Vec<bool> {
    let mut wanted = vec![false; network.values().len()];
    for input in network.inputs() {
        wanted[input.value.index()] = input.kind == crate::network::InputKind::Float;
    }
    for node in network.layers() {
        let before = !matches!(node.layer, Layer::Lookup(_)) && node.inputs.iter().any(|input| wanted[input.index()]);
        wanted[node.output.index()] |= before || ask.keep.contains(&node.output);
    }
    wanted
}

fn apart(network: &Network, ask: &Ask) -> Vec<bool> {
    // A report counts what each target gets.
    let are_alike = ask.facts.share && ask.alike && ask.targets > 1 && !ask.report;
    let mut apart = vec![!are_alike; network.values().len()];
    for mask in ask.masks.iter().filter(|mask| mask.channels.len() > 1) {
        apart[mask.value.index()] = true;
    }
    for node in network.layers().iter().rev().filter(|_| are_alike) {
        for input in &node.inputs {
            apart[input.index()] |= apart[node.output.index()];
        }
    }
    apart
}

fn nonnegative(network: &Network) -> Vec<bool> {
    let mut known = vec![false; network.values().len()];
    for node in network.layers() {
        let all = || node.inputs.iter().all(|input| known[input.index()]);
        known[node.output.index()] = match &node.layer {
            Layer::Activation(activation) => is_nonnegative(activation, all()),
            Layer::Reshape(_)
            | Layer::Transpose(_)
            | Layer::Concat(_)
            | Layer::AveragePool(_)
            | Layer::MaxPool(_)
            | Layer::Multiply(_) => all(),
            Layer::AxisMap(map) => all() && map.keeps_nonnegative(),
            Layer::Sum(sum) => all() && sum.signs().iter().all(|sign| *sign == Sign::Plus),
            Layer::Dense(_) | Layer::Conv(_) | Layer::Affine(_) | Layer::Lookup(_) => false,
        };
    }
    known
}

/// Whether f(x) ≥ 0, given whether x is.
fn is_nonnegative(activation: &Activation, is_input_nonnegative: bool) -> bool {
    match activation {
        Activation::Relu
        | Activation::Sigmoid
        | Activation::Softplus { .. }
        | Activation::HardSigmoid { .. }
        | Activation::Exp
        | Activation::Abs => true,
        // Even powers and roots; an odd power has its base's sign.
        Activation::Power { offset, exponent } => {
            exponent.rem_euclid(2.0) != 1.0 || (*offset >= 0.0 && is_input_nonnegative)
        }
        Activation::Clip { low, high } => *high >= 0.0 && (*low >= 0.0 || is_input_nonnegative),
        Activation::ThresholdedRelu { threshold } => *threshold >= 0.0 || is_input_nonnegative,
        Activation::Selu { gamma, .. } => *gamma >= 0.0 && is_input_nonnegative,
        Activation::LeakyRelu { .. }
        | Activation::Tanh
        | Activation::Erf
        | Activation::Gelu(_)
        | Activation::Elu { .. }
        | Activation::Celu { .. }
        | Activation::Silu { .. }
        | Activation::HardSwish
        | Activation::Mish
        | Activation::Softsign => is_input_nonnegative,
    }
}

/// Whether f(x) = 0 wherever x = 0, and wherever x ≤ 0.
fn vanishes(activation: &Activation) -> (bool, bool) {
    match activation {
        Activation::Relu => (true, true),
        Activation::Clip { low, high } => (*low <= 0.0 && *high >= 0.0, low.abs() <= 0.0 && *high >= 0.0),
        Activation::ThresholdedRelu { threshold } => (true, *threshold >= 0.0),
        Activation::LeakyRelu { .. }
        | Activation::Tanh
        | Activation::Erf
        | Activation::Gelu(_)
        | Activation::Elu { .. }
        | Activation::Selu { .. }
        | Activation::Celu { .. }
        | Activation::Silu { .. }
        | Activation::HardSwish
        | Activation::Mish
        | Activation::Softsign
        | Activation::Abs => (true, false),
        Activation::Power { offset, exponent } => (offset.abs() <= 0.0 && *exponent > 0.0, false),
        Activation::Sigmoid | Activation::Softplus { .. } | Activation::HardSigmoid { .. } | Activation::Exp => {
            (false, false)
        }
    }
}

/// Whether f′(x) = 0 wherever x ≤ 0.
fn is_flat_below_zero(activation: &Activation) -> bool {
    match activation {
        Activation::Relu => true,
        Activation::Clip { low, .. } => *low >= 0.0,
        Activation::ThresholdedRelu { threshold } => *threshold >= 0.0,
        Activation::LeakyRelu { .. }
        | Activation::Sigmoid
        | Activation::Tanh
        | Activation::Erf
        | Activation::Gelu(_)
        | Activation::Softplus { .. }
        | Activation::Elu { .. }
        | Activation::Selu { .. }
        | Activation::Celu { .. }
        | Activation::Silu { .. }
        | Activation::HardSigmoid { .. }
        | Activation::HardSwish
        | Activation::Mish
        | Activation::Softsign
        | Activation::Exp
        | Activation::Abs
        | Activation::Power { .. } => false,
    }
}

/// R vanishes where a value is 0: every reader multiplies by x, or passes to a value for which it holds, and nothing
/// is injected there. R vanishes below zero: every reader is a rectifier whose output has the first fact, or whose
/// derivative kills it.
fn dead_below_zero(network: &Network, rules: &Assignment) -> Vec<bool> {
    let readers = network.readers();
    let mut zero_at_zero = vec![false; network.values().len()];
    let mut dead = vec![false; network.values().len()];
    let mut order: Vec<ValueId> = network.inputs().iter().map(|input| input.value).collect();
    order.extend(network.layers().iter().map(|node| node.output));
    for &value in order.iter().rev() {
        if value == network.output() {
            continue;
        }
        let of_reader = |(id, _): &(LayerId, usize)| reader_facts(network, rules, *id, &zero_at_zero, &dead);
        let facts: Vec<(bool, bool)> = readers[value.index()].iter().map(of_reader).collect();
        zero_at_zero[value.index()] = facts.iter().all(|(zero, _)| *zero);
        dead[value.index()] = facts.iter().all(|(_, dead)| *dead);
    }
    dead
}

/// Whether a layer's share of relevance at its input is zero where the input is zero, and where it is below zero.
fn reader_facts(network: &Network, rules: &Assignment, id: LayerId, zero: &[bool], dead: &[bool]) -> (bool, bool) {
    let node = network.layer(id);
    let output = node.output.index();
    match (&node.layer, rules.rule(id)) {
        (_, Some(Rule::Linear(rule))) => (rule.vanishes_with_input(), false),
        (Layer::Activation(activation), Some(Rule::Pointwise(rule))) => match (rule, activation) {
            (PointwiseRule::GuidedBackprop, _) => (true, true),
            (PointwiseRule::Gradient, activation) => (is_flat_below_zero(activation), is_flat_below_zero(activation)),
            // What a rectifier gives back is nothing where nothing arrives: where it is 0.
            (PointwiseRule::Deconvnet | PointwiseRule::BetaSmooth { .. }, _) => (zero[output], zero[output]),
            (PointwiseRule::Pass, Activation::LeakyRelu { slope }) if *slope > 0.0 => (zero[output], dead[output]),
            (PointwiseRule::Pass, activation) => {
                let (at_zero, below_zero) = vanishes(activation);
                (at_zero && zero[output], below_zero && zero[output])
            }
        },
        // A maximum is its winner's value, so what holds of it holds of the winner; the others get nothing.
        (Layer::Reshape(_) | Layer::Transpose(_) | Layer::Concat(_) | Layer::MaxPool(_), _) => {
            (zero[output], dead[output])
        }
        (Layer::AxisMap(map), _) if map.is_picking() => (zero[output], dead[output]),
        // A product is zero where a factor is.
        (Layer::Multiply(_), Some(Rule::Bilinear(rule))) => (*rule != BilinearRule::Gradient && zero[output], false),
        (
            Layer::Dense(_)
            | Layer::Conv(_)
            | Layer::AveragePool(_)
            | Layer::Sum(_)
            | Layer::Affine(_)
            | Layer::Activation(_)
            | Layer::AxisMap(_)
            | Layer::Multiply(_)
            | Layer::Lookup(_),
            _,
        ) => (false, false),
    }
}
