//! Pairs: where two products with parts of one weight are added, the second goes on with the first's sums: x₁ W̃₁ + x₂ W̃₂ in one step.
//!
//! That is what αβ comes to on its way back, and what parts of an input come to in a denominator. It saves a buffer as large as
//! the target, which would be written and read again.

use super::fuse::maker_for_one_reader;
use super::{Addend, Buffer, Direction, Op, Operand, Role, Step, Work};
use crate::layers::Layer;
use crate::network::{LayerId, Network};
use crate::rules::WeightPart;

/// Joins products to those that they are added to; `forward` stays the length of the forward pass.
pub(super) fn pair(network: &Network, buffers: &[Buffer], steps: &mut Vec<Step>, forward: &mut usize) {
    let mut position = 0;
    while position < steps.len() {
        match added_product(network, buffers, steps, position) {
            None => position += 1,
            Some((maker, joined)) => {
                steps[position] = joined;
                steps.remove(maker);
                *forward -= usize::from(maker < *forward);
            }
        }
    }
}

/// The product that the one at `position` is added to, and the step that both become.
fn added_product(network: &Network, buffers: &[Buffer], steps: &[Step], position: usize) -> Option<(usize, Step)> {
    let step = &steps[position];
    let second = Scaled::of(network, step)?;
    let [Op::Add { operand, factor: 1.0 }, rest @ ..] = second.rest else { return None };
    if !operand.is_whole() || buffers[operand.buffer.index()].role != Role::Scratch {
        return None;
    }
    let maker = maker_for_one_reader(steps, operand.buffer).filter(|&maker| maker < position)?;
    let first = Scaled::of(network, &steps[maker])?;
    let rows = |product: &Scaled<'_>| buffers[product.source.buffer.index()].rows;
    let is_like = (first.layer, first.direction) == (second.layer, second.direction) && rows(&first) == rows(&second);
    if !is_like || !first.rest.is_empty() {
        return None;
    }
    let (direction, weight) = (first.direction, first.weight);
    let addend = Some(Addend { source: second.source, weight: second.weight });
    let work = match step.work {
        Work::Product { .. } => Work::Product { direction, weight, addend },
        _ => Work::Convolve { direction, weight, addend },
    };
    let (source, chain) = (Some(first.source), rest.to_vec());
    Some((maker, Step::new(step.layer, work, source, chain, step.target)))
}

/// A product that may be one of a pair, with the factor that its chain begins with in its weight.
struct Scaled<'a> {
    layer: LayerId,
    direction: Direction,
    weight: WeightPart,
    source: Operand,
    rest: &'a [Op],
}

impl<'a> Scaled<'a> {
    fn of(network: &Network, step: &'a Step) -> Option<Self> {
        let layer = step.layer?;
        let (direction, weight) = match (&step.work, &network.layer(layer).layer) {
            (Work::Product { direction, weight, addend: None }, _) => (*direction, *weight),
            // Groups of channels may have a kernel of their own, which sums over windows only.
            (Work::Convolve { direction, weight, addend: None }, Layer::Conv(conv)) if conv.groups() == 1 => {
                (*direction, *weight)
            }
            _ => return None,
        };
        let WeightPart::Scaled { positive, negative } = weight else { return None };
        let (factor, rest) = match step.chain.as_slice() {
            [Op::Scale(factor), rest @ ..] => (*factor, rest),
            rest => (1.0, rest),
        };
        let weight = WeightPart::Scaled { positive: factor * positive, negative: factor * negative };
        Some(Scaled { layer, direction, weight, source: step.source?, rest })
    }
}
