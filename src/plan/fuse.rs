//! Fusion: an elementwise step joins the chain of the step that makes its source, if nobody else reads that.

use super::{Buffer, BufferId, Op, Role, Step, Work};
use crate::rules::InputPart;

/// Joins elementwise steps to the steps before them; `forward` stays the length of the forward pass.
pub(super) fn fuse(buffers: &[Buffer], steps: &mut Vec<Step>, forward: &mut usize) {
    let mut position = 0;
    while position < steps.len() {
        match producer_to_join(buffers, steps, position) {
            None => position += 1,
            Some(producer) => {
                // The producer moves to the later place, where everything that either chain reads is there.
                let mut joined = steps[producer].clone();
                let step = &steps[position];
                let source = step.source.expect("only a step with a source is joined");
                joined.chain.extend(source.activation.map(Op::Activate));
                joined.chain.extend((source.part != InputPart::Whole).then_some(Op::Part(source.part)));
                joined.chain.extend(&step.chain);
                joined.target = step.target;
                steps[position] = joined;
                steps.remove(producer);
                if producer < *forward {
                    *forward -= 1;
                }
            }
        }
    }
}

/// The step that makes the source of the elementwise step at `position`, if the two can be one.
fn producer_to_join(buffers: &[Buffer], steps: &[Step], position: usize) -> Option<usize> {
    let step = &steps[position];
    let (Work::Elementwise, Some(source)) = (&step.work, step.source) else { return None };
    let (from, to) = (&buffers[source.buffer.index()], &buffers[step.target.index()]);
    if from.role != Role::Scratch || from.rows != to.rows || from.width != to.width {
        return None;
    }
    maker_for_one_reader(steps, source.buffer)
}

/// The step that alone makes a buffer, in whole rows, if one step reads it, once.
pub(super) fn maker_for_one_reader(steps: &[Step], buffer: BufferId) -> Option<usize> {
    let mut readers = steps.iter().flat_map(Step::reads).filter(|read| *read == buffer);
    if readers.next().is_none() || readers.next().is_some() {
        return None;
    }
    sole_writer(steps, buffer).filter(|&writer| writes_whole_rows(&steps[writer].work))
}

fn sole_writer(steps: &[Step], buffer: BufferId) -> Option<usize> {
    let mut writers = (0..steps.len()).filter(|&index| steps[index].target == buffer);
    let first = writers.next()?;
    writers.next().is_none().then_some(first)
}

fn writes_whole_rows(work: &Work) -> bool {
    match work {
        Work::Product { .. }
        | Work::Convolve { .. }
        | Work::AveragePool { .. }
        | Work::MaxPool
        | Work::Winners
        | Work::Unpool { .. }
        | Work::AlongAxis { .. }
        | Work::Elementwise
        | Work::Transpose { .. }
        | Work::Lookup
        | Work::Start => true,
        Work::Strips { length, target, .. } => *target == (*length, 0),
        Work::Rms | Work::Measure(_) => false,
    }
}
