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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Also, Rows, Work};

    fn whole(index: usize) -> Operand {
        Operand::whole(BufferId(index))
    }

    /// Buffers: 0 is read, 1 and 2 are parts, 3 is their sum; 4 is 1 times the sum, 5 what a step makes of `source` by `chain`.
    fn changed(source: usize, chain: Vec<Op>, logits: usize) -> Vec<Step> {
        let buffer = |_| Buffer { name: String::new(), rows: Rows::Sample, width: 4, role: Role::Scratch };
        let buffers: Vec<Buffer> = (0..6).map(buffer).collect();
        let step =
            |source, chain, target| Step::new(None, Work::Elementwise, Some(whole(source)), chain, BufferId(target));
        let mut maker = step(0, Vec::new(), 2);
        let add = Op::Add { operand: whole(1), factor: 1.0 };
        maker.also.push(Also { chain: vec![add], target: BufferId(3) });
        let mut steps =
            vec![step(0, Vec::new(), 1), maker, step(1, vec![Op::Multiply(whole(3))], 4), step(source, chain, 5)];
        add_up_again(&buffers, &mut steps, BufferId(logits));
        steps
    }

    #[test]
    fn a_sum_that_others_multiply_by_is_added_up_again_and_every_other_stays() {
        let spared = |steps: &[Step]| {
            let again = steps[2].chain == [Op::MultiplySum([BufferId(2), BufferId(1)])];
            assert_eq!(steps[1].also.is_empty(), again);
            again
        };
        assert!(spared(&changed(2, vec![Op::Scale(2.0)], 5)));
        assert!(spared(&changed(2, vec![Op::Multiply(whole(3))], 5)));
        // It is read when all steps are done; as a source; through a function; where no part is read.
        assert!(!spared(&changed(2, Vec::new(), 3)));
        assert!(!spared(&changed(3, Vec::new(), 5)));
        let rectified = Operand { activation: Some(crate::layers::Activation::Relu), ..whole(3) };
        assert!(!spared(&changed(2, vec![Op::Multiply(rectified)], 5)));
        assert!(!spared(&changed(0, vec![Op::Multiply(whole(3))], 5)));
    }
}
