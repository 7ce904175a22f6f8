//! Common factors: what two readers gave a value, each times x, is added first and multiplied once:
//! a ⊙ x + b ⊙ x = (a + b) ⊙ x.
//!
//! That is what a residual block comes to, where a value is read by the block and by the sum behind it. The step that only
//! made b ⊙ x falls.

use super::fuse::maker_for_one_reader;
use super::{Buffer, Op, Operand, Role, Step, Work};

/// Takes common factors out of sums; `forward` stays the length of the forward pass.
pub(super) fn factor(buffers: &[Buffer], steps: &mut Vec<Step>, forward: &mut usize) {
    let mut position = 0;
    while position < steps.len() {
        let mut place = 1;
        while place < steps[position].chain.len() {
            if let Some(maker) = maker_with_the_factor(buffers, steps, position, place) {
                steps[position].chain.swap(place - 1, place);
                steps[maker].chain.pop();
                if let Some(source) = copied(&steps[maker]) {
                    if let Op::Add { operand, .. } = &mut steps[position].chain[place - 1] {
                        *operand = source;
                    }
                    steps.remove(maker);
                    position -= 1;
                    *forward -= usize::from(maker < *forward);
                }
            }
            place += 1;
        }
        position += 1;
    }
}

/// The step that makes what the operation at `place` of a chain adds, if its last is to multiply by what the operation before
/// multiplies by.
fn maker_with_the_factor(buffers: &[Buffer], steps: &[Step], position: usize, place: usize) -> Option<usize> {
    let step = &steps[position];
    let (Op::Multiply(x), Op::Add { operand, .. }) = (&step.chain[place - 1], &step.chain[place]) else { return None };
    if !operand.is_whole() || buffers[operand.buffer.index()].role != Role::Scratch {
        return None;
    }
    maker_for_one_reader(steps, operand.buffer)
        .filter(|&maker| maker < position && steps[maker].chain.last() == Some(&Op::Multiply(*x)))
}

/// What a step copies, if it does nothing else.
fn copied(step: &Step) -> Option<Operand> {
    step.source.filter(|_| step.work == Work::Elementwise && step.chain.is_empty())
}
