//! Denominators by the signs of x and W, and those that follow from others without a product.
//!
//! With P what agrees in sign (x⁺W⁺ + x⁻W⁻ + b⁺) and N what does not (−x⁺W⁻ − x⁻W⁺ − b⁻), z is P − N, and αβ's and γ's denominators are
//! p P − n N with numbers p and n of their own. Two that differ give a third.
//!
//! Where R vanishes below zero, z and −N are enough for αβ: P = z − (−N) is a sum of two numbers of one sign wherever z is positive, which
//! loses no digits, as −N from z and P would. That takes b by its signs too: P holds b⁺ and N holds −b⁻.

use super::terms::has_bias;
use super::{BufferId, Builder, Op, Operand, Work};
use crate::layers::Layer;
use crate::network::{LayerId, LayerNode};
use crate::rules::{BiasPart, Group, InputPart, LinearRule, Mask, Quotient, Stabilizer, WeightPart};

/// How many times its own roundings a denominator may have those of what it follows from.
const MOST_GROWTH: f32 = 4.0;

/// What a denominator weighs contributions by: of each sign of x and W, and of b.
struct Cells {
    products: [[f32; 2]; 2],
    bias: [f32; 2],
}

impl Builder<'_> {
    /// The cells of a group of scaled parts; none where it holds squares, magnitudes, constants, or nothing.
    fn cells(&self, node: &LayerNode, group: &Group) -> Option<Cells> {
        let mut products = [[0.0; 2]; 2];
        let terms = self.live_terms(node, group, 0);
        if terms.is_empty() || !matches!(group.quotient, Quotient::Divided(_)) {
            return None;
        }
        for term in terms {
            let WeightPart::Scaled { positive, negative } = term.weight else { return None };
            let signs = match term.input {
                InputPart::Whole => 0..2,
                InputPart::Positive => 0..1,
                InputPart::Negative => 1..2,
                InputPart::Magnitude | InputPart::Low | InputPart::High | InputPart::One => return None,
            };
            for cell in &mut products[signs] {
                cell[0] += term.sign.factor() * positive;
                cell[1] += term.sign.factor() * negative;
            }
        }
        let bias = match group.bias {
            BiasPart::Absent => [0.0; 2],
            BiasPart::Scaled { positive, negative } => [positive, negative],
            BiasPart::Squared => return None,
        };
        Some(Cells { products, bias })
    }

    /// Whether a rule has two groups whose denominators add up to z.
    pub(super) fn sums_to_output(&self, node: &LayerNode, rule: &LinearRule) -> bool {
        let is_plain = |group: &Group| group.mask == Mask::Everywhere && group.factor != 0.0;
        let [first, second] = rule.groups.as_slice() else { return false };
        if !is_plain(first) || !is_plain(second) {
            return false;
        }
        let (Some(first), Some(second)) = (self.cells(node, first), self.cells(node, second)) else { return false };
        let is_one = |sum: f32| sum == 1.0;
        let of_products = first.products.iter().flatten().zip(second.products.iter().flatten());
        let of_bias = first.bias.iter().zip(&second.bias);
        of_products.map(|(a, b)| a + b).all(is_one) && (of_bias.map(|(a, b)| a + b).all(is_one) || !has_bias(node))
    }

    /// The positions of the group of what raises z and of that of what lowers it, where the first one's denominator is what is left of z
    /// without the second one's.
    pub(super) fn raising_as_rest(&self, node: &LayerNode, rule: &LinearRule) -> Option<[usize; 2]> {
        let is_of_rest = self.ask.facts.rest && self.known.is_dead_below_zero(node.output);
        if !is_of_rest || !self.sums_to_output(node, rule) {
            return None;
        }
        let of = |weighing: [f32; 2]| {
            let is_weighed =
                |group: &Group| self.agreement(node, group) == Some(weighing) && !measures_denominators(group);
            rule.groups.iter().position(is_weighed)
        };
        Some([of([1.0, 0.0])?, of([0.0, 1.0])?])
    }

    /// p and n of a group, where the signs of x and W come to no more than these.
    pub(super) fn weighing(&self, node: &LayerNode, group: &Group) -> Option<[f32; 2]> {
        let [[p, n], [n_below, p_below]] = self.cells(node, group)?.products;
        let is_same_below = self.known.is_nonnegative(node.inputs[0]) || [p_below, n_below] == [p, n];
        is_same_below.then_some([p, n])
    }

    /// The same, where they hold of the bias too.
    pub(super) fn agreement(&self, node: &LayerNode, group: &Group) -> Option<[f32; 2]> {
        let weighing = self.weighing(node, group)?;
        (!has_bias(node) || self.cells(node, group)?.bias == weighing).then_some(weighing)
    }

    /// A group's denominator from z and one that the rule's groups already have, where no product is needed for it:
    /// generalised γ's below zero is (2 + γ) z less the one above.
    pub(super) fn derived(
        &mut self,
        (id, node): (LayerId, &LayerNode),
        (known, d): (&Group, BufferId),
        group: &Group,
    ) -> Option<BufferId> {
        let is_product = matches!(node.layer, Layer::Dense(_) | Layer::Conv(_));
        let z = self.operand(node.output);
        if !self.ask.facts.derive || !is_product || !z.is_whole() {
            return None;
        }
        let [of_z, of_d] = relation(self.agreement(node, known)?, self.agreement(node, group)?, group.mask)?;
        let derived = self.denominator_buffer(node);
        let chain = vec![Op::Scale(of_z), Op::Add { operand: Operand::whole(d), factor: of_d }];
        self.step(id, Work::Elementwise, z, chain, derived);
        Some(derived)
    }
}

/// Whether a group's stabiliser is relative: it measures all of a denominator, where z < 0 too.
pub(super) fn measures_denominators(group: &Group) -> bool {
    matches!(group.quotient, Quotient::Divided(Stabilizer::Rms(_)))
}

/// α and β with p P − n N = α (P − N) + β (p₁ P − n₁ N), where what the sum loses to roundings stays small beside it.
///
/// That is where a mask says which of P and N is the larger one: beside the other it weighs more, so that the sum does not vanish with z.
fn relation([p1, n1]: [f32; 2], [p, n]: [f32; 2], mask: Mask) -> Option<[f32; 2]> {
    let (larger, smaller, larger1) = match mask {
        Mask::Everywhere => return None,
        Mask::Positive => (p, n, p1),
        Mask::Negative => (n, p, n1),
    };
    let of_d = (p - n) / (p1 - n1);
    let of_z = p - of_d * p1;
    // Between P = N, where α z is nothing and nothing is lost, and the smaller one 0.
    let growth = (of_z.abs() + (of_d * larger1).abs()) / larger;
    (larger > smaller && smaller >= 0.0 && p1 != n1 && growth <= MOST_GROWTH).then_some([of_z, of_d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denominators_follow_only_where_they_keep_their_digits() {
        let gamma = 0.25;
        let (above, below) = ([1.0 + gamma, 1.0], [1.0, 1.0 + gamma]);
        assert_eq!(relation(above, below, Mask::Negative), Some([2.0 + gamma, -1.0]));
        assert_eq!(relation(below, above, Mask::Positive), Some([2.0 + gamma, -1.0]));
        // z − P is −N, but nothing says that N is not far smaller.
        assert_eq!(relation([1.0, 0.0], [0.0, 1.0], Mask::Everywhere), None);
        assert_eq!(relation(above, below, Mask::Positive), None);
        assert_eq!(relation([1.0, 1.0], below, Mask::Negative), None);
        // From one that is hardly anything else than z.
        assert_eq!(relation([1.0, 1.01], [1.0, 3.0], Mask::Negative), None);
    }
}
