//! Fusion: an elementwise step joins the step that makes what it reads.
//!
//! If nobody else reads that, it is not stored: the chain of the step that makes it goes on. If others do, the step writes all,
//! what they read and what elementwise steps make of it, which spares reading it; and where only such steps read it, it is not
//! stored either.

use super::{Also, Buffer, BufferId, Buffers, Denominator, Op, Operand, Role, Step, Work};
use crate::rules::InputPart;

/// How many steps do the same again instead of reading it.
const MOST_REPEATS: usize = 2;

/// Steps that only multiply by one operand fall where all that read them are elementwise steps, which then do the same: what they
/// would read of the product is not more than what they read of its factors.
pub(super) fn repeat_factors(buffers: &Buffers<'_>, steps: &mut Vec<Step>, forward: &mut usize) {
    let mut position = 0;
    while position < steps.len() {
        match readers_to_repeat_in(buffers, steps, position) {
            None => position += 1,
            Some(readers) => {
                let factor = steps.remove(position);
                *forward -= usize::from(position < *forward);
                for reader in readers {
                    let reader = &mut steps[reader - 1];
                    reader.source = factor.source;
                    reader.chain.splice(0..0, factor.chain.iter().copied());
                }
            }
        }
    }
}

/// The elementwise steps that read what the step at `position` multiplies, if no others do.
fn readers_to_repeat_in(buffers: &Buffers<'_>, steps: &[Step], position: usize) -> Option<Vec<usize>> {
    let step = &steps[position];
    let is_factor = step.work == Work::Elementwise && matches!(step.chain.as_slice(), [Op::Multiply(_)]);
    if !is_factor || buffers.known[step.target.index()].role != Role::Scratch {
        return None;
    }
    let reads = |reader: &Step| reader.reads().filter(|read| *read == step.target).count();
    let readers: Vec<usize> = (0..steps.len()).filter(|&reader| reads(&steps[reader]) > 0).collect();
    let repeats = |&reader: &usize| {
        let reader = &steps[reader];
        reader.work == Work::Elementwise
            && reader.source == Some(Operand::whole(step.target))
            && reads(reader) == 1
            && buffers.are_like(step.target, reader.target)
    };
    (readers.len() == MOST_REPEATS && readers.iter().all(repeats)).then_some(readers)
}

/// Joins elementwise steps to the steps before them; `forward` stays the length of the forward pass.
///
/// `may_join` says of a step whether others may join it that go on from anything else than their source, `comes_first` whether a quotient joins
/// the product that makes its denominator rather than the step that makes its numerator.
pub(super) fn fuse(
    buffers: &Buffers<'_>,
    steps: &mut Vec<Step>,
    forward: &mut usize,
    may_join: &dyn Fn(&Step) -> bool,
    comes_first: &dyn Fn(&Step) -> bool,
) {
    let mut position = 0;
    while position < steps.len() {
        let maker = |view: &View| maker_to_join(buffers, steps, position, view);
        let first = |view: &View| {
            let divides = matches!(view.chain.first(), Some(Op::DivideInto { .. }));
            maker(view).filter(|&maker| divides && maker >= *forward && comes_first(&steps[maker]))
        };
        let found = joined(steps, position, may_join, first).or_else(|| joined(steps, position, may_join, maker));
        match found {
            None => position += 1,
            Some((maker, (_, chain))) => {
                // The maker moves to the later place, where everything that either chain reads is there.
                let mut joined = steps[maker].clone();
                joined.chain.extend(chain);
                joined.target = steps[position].target;
                steps[position] = joined;
                steps.remove(maker);
                *forward -= usize::from(maker < *forward);
            }
        }
    }
}

/// Joins elementwise steps to the steps before them whose targets others read too; `forward` stays the length of the forward pass, and
/// `may_join` says what it does of [`fuse`]. `may_repeat`: whether what goes on from a target beside a step's own may join it, which does
/// again what makes that target.
pub(super) fn follow(
    buffers: &Buffers<'_>,
    steps: &mut Vec<Step>,
    forward: &mut usize,
    may_join: &dyn Fn(&Step) -> bool,
    may_repeat: bool,
) {
    let mut position = 0;
    while position < steps.len() {
        let maker = |view: &View| {
            let maker = maker_to_follow(buffers, steps, (position, *forward), view)?;
            (may_repeat || again(&steps[maker], view.from).is_none()).then_some(maker)
        };
        match joined(steps, position, may_join, maker) {
            None => position += 1,
            Some((maker, (from, chain))) => {
                let target = steps[position].target;
                // What goes on from another target does what makes that again.
                let again = again(&steps[maker], from);
                let chain = again.into_iter().flat_map(|also| also.chain.clone()).chain(chain).collect();
                steps[maker].also.push(Also { chain, target });
                steps.remove(position);
                *forward -= usize::from(position < *forward);
            }
        }
    }
}

/// Takes from steps what they write beside their targets and nobody reads, now that what is made of it is made beside it.
pub(super) fn forget(buffers: &[Buffer], steps: &mut [Step], logits: BufferId) {
    let read: Vec<BufferId> = steps.iter().flat_map(Step::reads).chain([logits]).collect();
    let is_wanted = |also: &Also| buffers[also.target.index()].role != Role::Scratch || read.contains(&also.target);
    steps.iter_mut().for_each(|step| step.also.retain(is_wanted));
}

/// Steps whose own target nobody reads, as all that is made of it is made beside it, keep it no longer: the last of what is made of it
/// becomes their target.
pub(super) fn settle(buffers: &[Buffer], steps: &mut [Step], logits: BufferId) {
    let read: Vec<BufferId> = steps.iter().flat_map(Step::reads).chain([logits]).collect();
    let is_left = |step: &Step| buffers[step.target.index()].role == Role::Scratch && !read.contains(&step.target);
    for step in steps.iter_mut().filter(|step| is_left(step)) {
        let Some(Also { chain, target }) = step.also.pop() else { continue };
        step.target = target;
        if step.also.is_empty() {
            step.chain.extend(chain);
        } else {
            step.then = chain;
        }
    }
}

/// The step that the one at `position` joins, from which buffer it goes on there, and by which chain.
fn joined(
    steps: &[Step],
    position: usize,
    may_join: &dyn Fn(&Step) -> bool,
    maker: impl Fn(&View) -> Option<usize>,
) -> Option<(usize, (BufferId, Vec<Op>))> {
    views(&steps[position]).into_iter().find_map(|view| {
        let maker = maker(&view)?;
        (view.is_plain || may_join(&steps[maker])).then_some((maker, (view.from, view.chain)))
    })
}

/// How an elementwise step goes on from one of the buffers that it reads.
struct View {
    from: BufferId,
    chain: Vec<Op>,
    /// Whether it goes on from its source.
    is_plain: bool,
}

impl View {
    fn new(from: Operand, chain: impl IntoIterator<Item = Op>) -> Self {
        let activation = from.activation.map(Op::Activate);
        let part = (from.part != InputPart::Whole).then_some(Op::Part(from.part));
        View { from: from.buffer, chain: activation.into_iter().chain(part).chain(chain).collect(), is_plain: false }
    }
}

/// The ways to see an elementwise step: from its source on; from what it adds to that; from what it divides that by.
fn views(step: &Step) -> Vec<View> {
    let (Work::Elementwise, Some(source), []) = (&step.work, step.source, step.also.as_slice()) else {
        return Vec::new();
    };
    let mut views = vec![View { is_plain: true, ..View::new(source, step.chain.iter().copied()) }];
    if let [Op::Add { operand, factor: 1.0 }, rest @ ..] = step.chain.as_slice() {
        let added = Op::Add { operand: source, factor: 1.0 };
        views.push(View::new(*operand, [added].into_iter().chain(rest.iter().copied())));
    }
    let before = step.chain.iter().take_while(|op| is_factor(op)).count();
    if let Some(Op::Divide { by: Denominator::Buffer(d), stabilizer, rms: None }) = step.chain.get(before)
        // A quotient that is made before its other factors might leave float32 if nothing held it.
        && stabilizer.holds()
    {
        let divided = Op::DivideInto { numerator: source, stabilizer: *stabilizer };
        let others = step.chain[..before].iter().chain(&step.chain[before + 1..]).copied();
        views.push(View::new(Operand::whole(*d), [divided].into_iter().chain(others)));
    }
    views
}

/// Whether an operation may take longer than reading what it makes.
fn takes_long(op: &Op) -> bool {
    matches!(op, Op::Activate(_) | Op::MultiplyDerivative { .. })
}

/// Whether an operation multiplies by what does not depend on v, so that it and a division may change places.
fn is_factor(op: &Op) -> bool {
    match op {
        Op::Scale(_)
        | Op::MultiplyParameter(_)
        | Op::Multiply(_)
        | Op::MultiplySum(_)
        | Op::MultiplyQuotients { .. }
        | Op::MultiplyDerivative { .. }
        | Op::Mask { .. } => true,
        Op::AddParameter(_)
        | Op::Activate(_)
        | Op::Part(_)
        | Op::Add { .. }
        | Op::Divide { .. }
        | Op::DivideInto { .. }
        | Op::MultiplyDamping { .. } => false,
    }
}

/// The step that alone makes what the step at `position` is seen to go on from, if the two can be one.
fn maker_to_join(buffers: &Buffers<'_>, steps: &[Step], position: usize, view: &View) -> Option<usize> {
    if buffers.known[view.from.index()].role != Role::Scratch || !buffers.are_like(view.from, steps[position].target) {
        return None;
    }
    maker_for_one_reader(steps, view.from)
}

/// The step that makes what the step at `position` is seen to go on from, if it can write that step's target too: in the same pass,
/// where all that is read beside is there.
fn maker_to_follow(
    buffers: &Buffers<'_>,
    steps: &[Step],
    (position, forward): (usize, usize),
    view: &View,
) -> Option<usize> {
    let target = steps[position].target;
    let maker = sole_writer(steps, view.from).filter(|&maker| may_go_on(&steps[maker]))?;
    if again(&steps[maker], view.from).is_some_and(|also| also.chain.iter().any(takes_long)) {
        return None;
    }
    let is_there = |buffer: BufferId| {
        steps.iter().rposition(|step| step.writes().any(|written| written == buffer)).is_none_or(|last| last < maker)
    };
    let fits = buffers.are_like(view.from, target)
        && (maker < forward) == (position < forward)
        && sole_writer(steps, target).is_some()
        && view.chain.iter().flat_map(Op::reads).all(is_there);
    fits.then_some(maker)
}

/// What makes a buffer, and whoever goes on from it makes again; nothing where it is the step's own target.
fn again(step: &Step, from: BufferId) -> Option<&Also> {
    step.also.iter().find(|also| also.target == from)
}

/// The step that alone makes a buffer, in whole rows, if one step reads it, once.
pub(super) fn maker_for_one_reader(steps: &[Step], buffer: BufferId) -> Option<usize> {
    let mut readers = steps.iter().flat_map(Step::reads).filter(|read| *read == buffer);
    if readers.next().is_none() || readers.next().is_some() {
        return None;
    }
    sole_writer(steps, buffer)
        .filter(|&writer| writes_whole_rows(&steps[writer].work) && steps[writer].target == buffer)
}

/// The step that writes a buffer, if no other does.
fn sole_writer(steps: &[Step], buffer: BufferId) -> Option<usize> {
    let mut writers = (0..steps.len()).filter(|&index| steps[index].writes().any(|written| written == buffer));
    let first = writers.next()?;
    writers.next().is_none().then_some(first)
}

/// Whether a step may write other targets beside its own.
fn may_go_on(step: &Step) -> bool {
    writes_whole_rows(&step.work) && !matches!(step.work, Work::Start | Work::Winners)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Rows;

    /// The steps that are left of a product 0 → 1 and elementwise ones, each from a buffer by a chain to the next.
    fn followed(elementwise: &[(usize, Op)], may_repeat: bool) -> Vec<Step> {
        let role = |index| if index > elementwise.len() { Role::Result(0) } else { Role::Scratch };
        let buffer = |index| Buffer { name: String::new(), rows: Rows::Sample, width: 4, role: role(index) };
        let known: Vec<Buffer> = (0..elementwise.len() + 2).map(buffer).collect();
        let mut steps = vec![Step::new(None, Work::Lookup, None, Vec::new(), BufferId(1))];
        steps.extend(elementwise.iter().enumerate().map(|(index, (from, op))| {
            Step::new(None, Work::Elementwise, Some(Operand::whole(BufferId(*from))), vec![*op], BufferId(index + 2))
        }));
        let mut forward = steps.len();
        let buffers = Buffers { known: &known, targets: 1 };
        follow(&buffers, &mut steps, &mut forward, &|_| true, may_repeat);
        assert_eq!(forward, steps.len());
        forget(&known, &mut steps, BufferId(elementwise.len() + 1));
        settle(&known, &mut steps, BufferId(elementwise.len() + 1));
        steps
    }

    #[test]
    fn what_goes_on_from_another_target_does_what_makes_that_again_and_that_is_forgotten() {
        let elementwise = [(1, Op::Scale(2.0)), (2, Op::Scale(3.0))];
        assert_eq!(followed(&elementwise, false).len(), 2);
        let steps = followed(&elementwise, true);
        let [step] = steps.as_slice() else { panic!("{steps:?}") };
        assert_eq!((step.target, step.chain.as_slice()), (BufferId(3), [Op::Scale(2.0), Op::Scale(3.0)].as_slice()));
        assert!(step.also.is_empty() && step.then.is_empty());
    }

    #[test]
    fn what_takes_long_is_not_done_again() {
        let tanh = Op::Activate(crate::layers::Activation::Tanh);
        let steps = followed(&[(1, tanh), (2, Op::Scale(3.0))], true);
        assert_eq!(steps.iter().map(|step| step.chain.len()).collect::<Vec<_>>(), [1, 1], "{steps:?}");
    }
}
