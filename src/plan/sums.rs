//! Sums of two buffers that others read only as a factor: added up again where they are read, and stored nowhere.
//!
//! A layer's output is such a sum where its rule has two groups, whose denominators are there when its relevance comes back.

use super::{Buffer, BufferId, Op, Operand, Role, Step};

/// Takes such sums from the steps that make them; `logits` is read when all steps are done.
pub(super) fn add_up_again(buffers: &[Buffer], steps: &mut [Step], logits: BufferId) {
    for maker in 0..steps.len() {
        for place in (0..steps[maker].also.len()).rev() {
            if let Some((sum, parts)) = sum_to_spare(buffers, steps, maker, place).filter(|(sum, _)| *sum != logits) {
                steps[maker].also.remove(place);
                for op in steps.iter_mut().flat_map(Step::ops_mut) {
                    if *op == Op::Multiply(Operand::whole(sum)) {
                        *op = Op::MultiplySum(parts);
                    }
                }
            }
        }
    }
}

/// A sum that a step writes beside its target, and its parts, if whoever reads it multiplies by it and has the parts at hand.
fn sum_to_spare(buffers: &[Buffer], steps: &[Step], maker: usize, place: usize) -> Option<(BufferId, [BufferId; 2])> {
    let (step, also) = (&steps[maker], &steps[maker].also[place]);
    let [Op::Add { operand, factor: 1.0 }] = also.chain.as_slice() else { return None };
    if !operand.is_whole() || buffers[also.target.index()].role != Role::Scratch {
        return None;
    }
    let parts = [step.target, operand.buffer];
    let reads_alike = |reader: &Step| {
        let count = reader.reads().filter(|read| *read == also.target).count();
        let factors = reader.ops().filter(|op| **op == Op::Multiply(Operand::whole(also.target))).count();
        // Where a part is read anyway, the other one is all that comes on top, in place of the sum.
        count == factors && (count == 0 || parts.iter().any(|part| reader.reads().any(|read| read == *part)))
    };
    steps.iter().all(reads_alike).then_some((also.target, parts))
}
