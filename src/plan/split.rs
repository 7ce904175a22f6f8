//! Chains cut to what a device can bind: a chain that reads too many buffers goes on in a step of its own.

use super::{Also, Buffer, BufferId, Op, Operand, Role, Step, Work};

/// Operations of a step's chains, at most: four numbers each, and four of the sources, are what the uniforms of a kernel hold.
const LONGEST: usize = 7;

/// Cuts every chain that reads more than `operands` buffers; `forward` stays the length of the forward pass.
///
/// An executor without such a limit keeps its chains whole, however long.
pub(super) fn split(buffers: &mut Vec<Buffer>, steps: &mut Vec<Step>, forward: &mut usize, operands: usize) {
    if operands == usize::MAX {
        return;
    }
    let mut position = 0;
    while position < steps.len() {
        if let Some(apart) = told_apart(&mut steps[position], operands) {
            steps.insert(position + 1, apart);
            *forward += usize::from(position < *forward);
        }
        if let Some(kept) = kept_ops(&steps[position], operands) {
            let rest = cut(buffers, &mut steps[position], kept);
            steps.insert(position + 1, rest);
            *forward += usize::from(position < *forward);
        }
        position += 1;
    }
}

/// The step that makes a step's second target, if one kernel can't bind both with what their chains read.
fn told_apart(step: &mut Step, operands: usize) -> Option<Step> {
    let also = step.also.as_ref()?;
    let mut bound: Vec<BufferId> = operands_of_work(step).into_iter().collect();
    bound.extend(step.ops().flat_map(Op::reads).chain([also.target]));
    bound.sort_unstable();
    bound.dedup();
    if bound.len() <= operands && step.ops().count() <= LONGEST {
        return None;
    }
    let Also { chain, target } = step.also.take()?;
    let source = Some(Operand::whole(step.target));
    Some(Step { layer: step.layer, work: Work::Elementwise, source, chain, target, also: None })
}

/// How many operations of a step's chain stay with it; none if all do.
fn kept_ops(step: &Step, operands: usize) -> Option<usize> {
    let mut read: Vec<BufferId> = operands_of_work(step).into_iter().collect();
    for (count, op) in step.chain.iter().enumerate() {
        for buffer in op.reads() {
            if !read.contains(&buffer) {
                read.push(buffer);
            }
        }
        if read.len() > operands || count == LONGEST {
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
    let next = Step {
        layer: step.layer,
        work: goes_on,
        source: Some(Operand::whole(between)),
        chain: rest,
        target: step.target,
        also: None,
    };
    if measured {
        step.work = Work::Elementwise;
    }
    step.target = between;
    next
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Op, Rows};

    fn buffer(width: usize) -> Buffer {
        Buffer { name: String::new(), rows: Rows::Sample, width, role: Role::Scratch }
    }

    #[test]
    fn a_chain_that_reads_too_much_goes_on_behind() {
        let mut buffers: Vec<Buffer> = (0..7).map(|_| buffer(4)).collect();
        let add = |index| Op::Add { operand: Operand::whole(BufferId(index)), factor: 1.0 };
        let mut steps = vec![Step {
            layer: None,
            work: Work::Elementwise,
            source: Some(Operand::whole(BufferId(0))),
            chain: (1..6).map(add).collect(),
            target: BufferId(6),
            also: None,
        }];
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
    fn a_chain_may_be_as_long_as_uniforms_hold() {
        let mut buffers = vec![buffer(4), buffer(4)];
        let mut steps = vec![Step {
            layer: None,
            work: Work::Elementwise,
            source: Some(Operand::whole(BufferId(0))),
            chain: vec![Op::Scale(2.0); 40],
            target: BufferId(1),
            also: None,
        }];
        split(&mut buffers, &mut steps, &mut 0, 3);
        let lengths: Vec<usize> = steps.iter().map(|step| step.chain.len()).collect();
        assert_eq!(lengths, [7, 7, 7, 7, 7, 5]);
    }
}
