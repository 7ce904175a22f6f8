//! Steps cut to what a kernel can bind and hold: targets beside the first, and chains that read too many buffers or hold too many
//! numbers, go into steps of their own.

use super::{Also, Buffer, BufferId, Op, Operand, Role, Step, Work};

/// Numbers of a step's chains, at most: these, and four of the sources, are what the uniforms of a kernel hold.
const MOST_NUMBERS: usize = 28;

/// Cuts every step whose chains read, and write beside its target, more than `operands` buffers; `forward` stays the length of the forward pass.
///
/// An executor without such a limit keeps its chains whole, however long.
pub(super) fn split(buffers: &mut Vec<Buffer>, steps: &mut Vec<Step>, forward: &mut usize, operands: usize) {
    if operands == usize::MAX {
        return;
    }
    let mut position = 0;
    while position < steps.len() {
        let apart = told_apart(&mut steps[position], operands);
        *forward += if position < *forward { apart.len() } else { 0 };
        steps.splice(position + 1..position + 1, apart);
        if let Some(kept) = kept_ops(&steps[position], operands) {
            let rest = cut(buffers, &mut steps[position], kept);
            steps.insert(position + 1, rest);
            *forward += usize::from(position < *forward);
        }
        position += 1;
    }
}

/// The steps that make those of a step's other targets that one kernel can't bind with what all chains read.
fn told_apart(step: &mut Step, operands: usize) -> Vec<Step> {
    let mut apart = Vec::new();
    while !fits(step, operands) {
        let Some(Also { chain, target }) = step.also.pop() else { break };
        let source = Some(Operand::whole(step.target));
        apart.push(Step::new(step.layer, Work::Elementwise, source, chain, target));
    }
    apart
}

/// Whether one kernel can bind all that a step reads and writes and hold its numbers.
fn fits(step: &Step, operands: usize) -> bool {
    let mut bound: Vec<BufferId> = operands_of_work(step).into_iter().collect();
    bound.extend(step.ops().flat_map(Op::reads).chain(step.also.iter().map(|also| also.target)));
    bound.sort_unstable();
    bound.dedup();
    bound.len() <= operands && step.ops().map(numbers).sum::<usize>() <= MOST_NUMBERS
}

/// Numbers that an operation takes of a kernel's uniforms, at most; of places for parameters there are half as many.
fn numbers(op: &Op) -> usize {
    const PARAMETER: usize = 2;
    // What reading keeps an element within, or the numbers of an activation.
    const OPERAND: usize = 2;
    match op {
        Op::Part(_) | Op::MultiplySum(_) => 0,
        Op::Scale(_) => 1,
        Op::AddParameter(_) | Op::MultiplyParameter(_) | Op::Divide { .. } | Op::MultiplyDamping { .. } => PARAMETER,
        Op::Activate(_) | Op::Multiply(_) => OPERAND,
        Op::MultiplyQuotients { .. } => 3,
        Op::Add { .. } | Op::Mask { .. } | Op::DivideInto { .. } => 1 + OPERAND,
        Op::MultiplyDerivative { .. } => 2 * OPERAND,
    }
}

/// How many operations of a step's chain stay with it; none if all do.
fn kept_ops(step: &Step, operands: usize) -> Option<usize> {
    let mut read: Vec<BufferId> = operands_of_work(step).into_iter().collect();
    let mut held = 0;
    for (count, op) in step.chain.iter().enumerate() {
        held += numbers(op);
        for buffer in op.reads() {
            if !read.contains(&buffer) {
                read.push(buffer);
            }
        }
        if read.len() > operands || held > MOST_NUMBERS {
            return Some(count);
        }
    }
    None
}

/// What a kernel reads beside what every kernel binds: the source where it is one of its chain's operands, or a second one.
fn operands_of_work(step: &Step) -> Option<BufferId> {
    match step.work {
        Work::Elementwise | Work::Measure(_) | Work::Rms => step.source.map(|source| source.buffer),
        Work::Product { addend, .. } | Work::Convolve { addend, .. } => addend.map(|addend| addend.source.buffer),
        Work::AveragePool { .. }
        | Work::MaxPool
        | Work::Winners
        | Work::Unpool { .. }
        | Work::AlongAxis { .. }
        | Work::Transpose { .. }
        | Work::Strips { .. }
        | Work::Lookup
        | Work::Start => None,
    }
}

/// Leaves `kept` operations with a step and gives the step that does the rest.
fn cut(buffers: &mut Vec<Buffer>, step: &mut Step, kept: usize) -> Step {
    let rest = step.chain.split_off(kept);
    let measured = matches!(step.work, Work::Measure(_));
    // What is measured is no buffer of its own: its rows are those of the source.
    let like = if measured { step.source.expect("a measure reads rows").buffer } else { step.target };
    let Buffer { name, rows, width, .. } = &buffers[like.index()];
    let between = Buffer { name: format!("{name}, so far"), rows: *rows, width: *width, role: Role::Scratch };
    buffers.push(between);
    let between = BufferId(buffers.len() - 1);
    let goes_on = if measured { step.work.clone() } else { Work::Elementwise };
    let next = Step::new(step.layer, goes_on, Some(Operand::whole(between)), rest, step.target);
    if measured {
        step.work = Work::Elementwise;
    }
    step.target = between;
    next
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Rows;

    fn buffer(width: usize) -> Buffer {
        Buffer { name: String::new(), rows: Rows::Sample, width, role: Role::Scratch }
    }

    #[test]
    fn a_chain_that_reads_too_much_goes_on_behind() {
        let mut buffers: Vec<Buffer> = (0..7).map(|_| buffer(4)).collect();
        let add = |index| Op::Add { operand: Operand::whole(BufferId(index)), factor: 1.0 };
        let source = Some(Operand::whole(BufferId(0)));
        let mut steps = vec![Step::new(None, Work::Elementwise, source, (1..6).map(add).collect(), BufferId(6))];
        let mut forward = 1;
        split(&mut buffers, &mut steps, &mut forward, 3);
        assert_eq!(forward, 3);
        let lengths: Vec<usize> = steps.iter().map(|step| step.chain.len()).collect();
        assert_eq!(lengths, [2, 2, 1]);
        assert_eq!(steps[1].source, Some(Operand::whole(steps[0].target)));
        assert_eq!(steps[2].target, BufferId(6));
        for step in &steps {
            let mut reads: Vec<BufferId> = step.reads().collect();
            reads.dedup();
            assert!(reads.len() <= 3);
        }
    }

    #[test]
    fn targets_that_one_kernel_cannot_bind_are_made_behind_it() {
        let mut buffers: Vec<Buffer> = (0..9).map(|_| buffer(4)).collect();
        let source = Some(Operand::whole(BufferId(0)));
        let mut step = Step::new(None, Work::Elementwise, source, vec![Op::Scale(2.0)], BufferId(1));
        let also =
            |index| Also { chain: vec![Op::Multiply(Operand::whole(BufferId(index)))], target: BufferId(index + 3) };
        step.also = (2..5).map(also).collect();
        // The source, and what two of the targets read and are.
        let (mut steps, mut forward) = (vec![step], 1);
        split(&mut buffers, &mut steps, &mut forward, 5);
        assert_eq!((steps.len(), forward, steps[0].also.len()), (2, 2, 2));
        assert_eq!(steps[0].also, [also(2), also(3)]);
        assert_eq!((steps[1].source, steps[1].target), (Some(Operand::whole(BufferId(1))), BufferId(7)));
        assert_eq!(steps[1].chain, also(4).chain);
    }

    #[test]
    fn a_chain_may_be_as_long_as_uniforms_hold() {
        let mut buffers = vec![buffer(4), buffer(4)];
        let source = Some(Operand::whole(BufferId(0)));
        let mut steps = vec![Step::new(None, Work::Elementwise, source, vec![Op::Scale(2.0); 40], BufferId(1))];
        split(&mut buffers, &mut steps, &mut 0, 3);
        let lengths: Vec<usize> = steps.iter().map(|step| step.chain.len()).collect();
        assert_eq!(lengths, [28, 12]);
    }
}
