//! The order of steps that wait for nothing, and which of them executors may run together.
//!
//! Each buffer has one step that writes it (but for strips of one, and sums, which no product reads or writes), so that a step may move past any
//! that do not read what it makes.

use std::ops::Range;

use super::{Buffer, BufferId, Buffers, Op, Role, Step, Work};
use crate::layers::Layer;
use crate::network::Network;

/// A convolution's product moves right before the layer's next product that reads it: executors may then run both part by part.
pub(super) fn order(steps: &mut [Step], forward: usize) {
    let (forward, relevance) = steps.split_at_mut(forward);
    for steps in [forward, relevance] {
        for position in 1..steps.len() {
            let adds = |step: &Step| is_alike(step, &steps[position]) && reads(&steps[position], step);
            let Some(first) = steps[..position].iter().rposition(adds) else { continue };
            if !steps[first + 1..position].iter().any(|between| reads(between, &steps[first])) {
                steps[first..position].rotate_left(1);
            }
        }
    }
}

/// A convolution's products move right before those of single positions that alone read what they make, and one of single positions right before
/// those whose chains alone do: executors may then run these with them, as [`runs`] are.
pub(super) fn gather(network: &Network, buffers: &Buffers<'_>, steps: &mut [Step], forward: usize) {
    for pass in [0..forward, forward..steps.len()] {
        for position in pass.start + 1..pass.end {
            if !is_pointwise(network, &steps[position]) || is_alike(&steps[position - 1], &steps[position]) {
                continue;
            }
            let behind = position..position + alike(&steps[position..pass.end]);
            let makes = |step: &Step| steps[position].sources().any(|source| step.writes().any(|made| made == source));
            let Some(last) = (pass.start..position).rfind(|&maker| makes(&steps[maker])) else { continue };
            let is_pair = last > pass.start && is_alike(&steps[last - 1], &steps[last]);
            let made = if is_pair { last - 1 } else { last };
            let made = made..made + alike(&steps[made..position]);
            let between = &steps[made.end..position];
            let waits = between.iter().any(|step| steps[made.clone()].iter().any(|maker| reads(step, maker)));
            if !waits && are_handed_on(buffers.known, steps, &made, &behind) {
                steps[made.start..position].rotate_left(made.len());
            }
        }
        precede(network, buffers, steps, pass);
    }
}

/// A product of single positions, none of a pair, moves right before those whose chains alone read it.
fn precede(network: &Network, buffers: &Buffers<'_>, steps: &mut [Step], pass: Range<usize>) {
    for position in pass.clone().rev() {
        let is_paired = |other: usize| pass.contains(&other) && is_alike(&steps[other], &steps[position]);
        let is_one_of_two = is_paired(position + 1) || position.checked_sub(1).is_some_and(is_paired);
        if is_one_of_two || !is_pointwise(network, &steps[position]) {
            continue;
        }
        let made = steps[position].target;
        let reads = |step: &Step| step.reads().any(|read| read == made);
        let Some(reader) = (position + 1..pass.end).find(|&reader| reads(&steps[reader])) else { continue };
        let first = if is_alike(&steps[reader - 1], &steps[reader]) { reader - 1 } else { reader };
        let by = first..first + alike(&steps[first..pass.end]);
        if is_read_beside(buffers, steps, position, &by) {
            steps[position..first].rotate_left(1);
        }
    }
}

/// Steps that executors may run together, part by part, one after another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    /// A product of single positions that only the chains of those behind it read; or none.
    pub(crate) before: Range<usize>,
    /// A step, or two of a convolution's products.
    pub(crate) steps: Range<usize>,
    /// Those of another layer, or of its other direction, that read single positions of what these make, and nobody else does; or none.
    pub(crate) behind: Range<usize>,
}

impl Run {
    /// All its steps.
    pub(crate) fn all(&self) -> Range<usize> {
        self.before.start..self.behind.end
    }
}

/// The runs of steps, of which the first `forward` are the forward pass, in their order.
pub(crate) fn runs(network: &Network, buffers: &Buffers<'_>, steps: &[Step], forward: usize) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    while let Some(first) = runs.last().map_or(Some(0), |run| Some(run.behind.end)).filter(|first| *first < steps.len())
    {
        let pass = &steps[..if first < forward { forward } else { steps.len() }];
        let alone = first..first + 1;
        let next = alone.end..alone.end + alike(&pass[alone.end..]);
        let is_beside = is_pointwise(network, &steps[first]) && is_read_beside(buffers, steps, first, &next);
        let before = if is_beside { alone } else { first..first };
        let made = before.end..before.end + alike(&pass[before.end..]);
        let behind = made.end..made.end + alike(&pass[made.end..]);
        let is_run = matches!(steps[made.start].work, Work::Convolve { .. })
            && pass[behind.clone()]
                .iter()
                .all(|step| is_pointwise(network, step) && has_rows_of_source(buffers.known, step))
            && are_handed_on(buffers.known, steps, &made, &behind);
        let behind = if is_run { behind } else { made.end..made.end };
        runs.push(Run { before, steps: made, behind });
    }
    runs
}

/// How many of the steps at the beginning are products of one convolution: no more than two.
fn alike(steps: &[Step]) -> usize {
    match steps {
        [one, next, ..] if is_alike(one, next) => 2,
        _ => steps.len().min(1),
    }
}

fn has_rows_of_source(buffers: &[Buffer], step: &Step) -> bool {
    let rows = |buffer: BufferId| buffers[buffer.index()].rows;
    step.sources().all(|source| rows(source) == rows(step.target))
}

/// Whether the steps behind others have no sources but what these make, and no other step reads that.
fn are_handed_on(buffers: &[Buffer], steps: &[Step], made: &Range<usize>, behind: &Range<usize>) -> bool {
    let sources = || steps[behind.clone()].iter().flat_map(Step::sources);
    sources().all(|source| {
        let is_source = |buffer: &BufferId| *buffer == source;
        let reads = steps.iter().flat_map(Step::reads).filter(is_source).count();
        buffers[source.index()].role == Role::Scratch
            && steps[made.clone()].iter().flat_map(Step::writes).any(|made| made == source)
            && reads == sources().filter(is_source).count()
    })
}

/// Whether what a step makes is read only by the chains of convolutions' products, as those make as much.
fn is_read_beside(buffers: &Buffers<'_>, steps: &[Step], made: usize, by: &Range<usize>) -> bool {
    let target = steps[made].target;
    let are_one_layers = steps[by.clone()].iter().any(|step| is_alike(step, &steps[made]));
    let readers = |steps: &[Step]| steps.iter().flat_map(Step::reads).filter(|read| *read == target).count();
    let beside = steps[by.clone()].iter().flat_map(Step::ops).flat_map(Op::reads).filter(|read| *read == target);
    let are_products = steps[by.clone()].iter().all(|step| matches!(step.work, Work::Convolve { .. }));
    are_products
        && !are_one_layers
        && steps[made].also.is_empty()
        && buffers.known[target.index()].role == Role::Scratch
        && readers(steps) > 0
        && readers(steps) == beside.count()
        && steps[by.clone()].iter().all(|step| buffers.are_like(step.target, target))
}

/// Whether a step is a product of a convolution whose windows are single positions.
pub(super) fn is_pointwise(network: &Network, step: &Step) -> bool {
    match (&step.work, step.layer.map(|layer| &network.layer(layer).layer)) {
        (Work::Convolve { .. }, Some(Layer::Conv(conv))) => conv.groups() == 1 && conv.has_single_positions(),
        _ => false,
    }
}

/// Whether two steps are a convolution's products in one direction.
pub(crate) fn is_alike(one: &Step, other: &Step) -> bool {
    match (&one.work, &other.work) {
        (Work::Convolve { direction, .. }, Work::Convolve { direction: of_other, .. }) => {
            (one.layer, direction) == (other.layer, of_other)
        }
        _ => false,
    }
}

/// Whether a step reads what another writes.
fn reads(step: &Step, other: &Step) -> bool {
    step.reads().any(|read| other.writes().any(|write| write == read))
}

#[cfg(test)]
mod tests {
    use super::super::{Also, BufferId, Direction, Measure, Op, Operand, Rows};
    use super::*;
    use crate::layers::{Window, WindowAxis};
    use crate::network::LayerId;
    use crate::rules::WeightPart;
    use crate::tensor::Tensor;

    const SOURCE: usize = 0;

    /// A step that reads some buffers and writes one; what it reads first is its source.
    fn step(work: Work, layer: usize, reads: &[usize], target: usize) -> Step {
        let add = |&buffer: &usize| Op::Add { operand: Operand::whole(BufferId(buffer)), factor: 1.0 };
        let source = reads.first().map(|&buffer| Operand::whole(BufferId(buffer)));
        Step::new(Some(LayerId(layer)), work, source, reads.iter().skip(1).map(add).collect(), BufferId(target))
    }

    fn product(direction: Direction) -> Work {
        Work::Convolve { direction, weight: WeightPart::WHOLE, addend: None }
    }

    /// The targets of the steps in their new order.
    fn ordered(mut steps: Vec<Step>, forward: usize) -> Vec<usize> {
        order(&mut steps, forward);
        steps.iter().map(|step| step.target.index()).collect()
    }

    #[test]
    fn a_product_moves_to_the_next_that_reads_it_past_all_that_do_not() {
        let of =
            |layer: usize, reads: &[usize], target: usize| step(product(Direction::Backward), layer, reads, target);
        let between = |reads: &[usize], target: usize| step(Work::Elementwise, 0, reads, target);
        // 1 is the product that 3 reads.
        assert_eq!(ordered(vec![of(0, &[SOURCE], 1), between(&[SOURCE], 2), of(0, &[SOURCE, 1], 3)], 0), [2, 1, 3]);
        assert_eq!(ordered(vec![of(0, &[SOURCE], 1), between(&[1], 2), of(0, &[SOURCE, 1], 3)], 0), [1, 2, 3]);
        let measured = step(Work::Measure(Measure::Bias), 0, &[1], 9);
        assert_eq!(ordered(vec![of(0, &[SOURCE], 1), measured, of(0, &[SOURCE, 1], 3)], 0), [1, 9, 3]);
        let mut makes_two = of(0, &[SOURCE], 1);
        makes_two.also.push(Also { chain: Vec::new(), target: BufferId(4) });
        assert_eq!(ordered(vec![makes_two, between(&[4], 2), of(0, &[SOURCE, 1], 3)], 0), [1, 2, 3]);
        // Of several the last moves, and the one before it to that.
        let three = vec![of(0, &[SOURCE], 1), between(&[SOURCE], 2), of(0, &[SOURCE, 1], 3), between(&[SOURCE], 5)];
        let all = three.into_iter().chain([of(0, &[SOURCE, 3], 6)]).collect();
        assert_eq!(ordered(all, 0), [2, 1, 5, 3, 6]);
    }

    #[test]
    fn products_of_another_layer_direction_or_pass_stay() {
        let of = |layer: usize, direction: Direction, reads: &[usize], target: usize| {
            step(product(direction), layer, reads, target)
        };
        let between = || step(Work::Elementwise, 0, &[SOURCE], 2);
        let (forward, back) = (Direction::Forward, Direction::Backward);
        for (first, last, length) in [
            (of(0, back, &[SOURCE], 1), of(1, back, &[SOURCE, 1], 3), 0),
            (of(0, forward, &[SOURCE], 1), of(0, back, &[SOURCE, 1], 3), 0),
            (of(0, forward, &[SOURCE], 1), of(0, forward, &[SOURCE, 1], 3), 2),
            (of(0, forward, &[SOURCE], 1), of(0, forward, &[SOURCE], 3), 0),
        ] {
            assert_eq!(ordered(vec![first, between(), last], length), [1, 2, 3], "{length}");
        }
    }

    /// Layers 0 and 2 read windows of three, layer 1 single positions.
    fn windows_of_one_and_three() -> Network {
        let mut builder = Network::builder();
        let mut value = builder.input("x", [2, 9]);
        for (name, kernel) in [("before", 3), ("single", 1), ("after", 3)] {
            let window = Window::new(vec![WindowAxis::new(kernel)]).unwrap();
            value = builder.conv(name, value, Tensor::from_fn(&[2, 2, kernel], |_| 1.0), None, window, 1).unwrap();
        }
        builder.build(value).unwrap()
    }

    fn buffer(rows: Rows, role: Role) -> Buffer {
        Buffer { name: String::new(), rows, width: 2, role }
    }

    fn scratch() -> Buffer {
        buffer(Rows::Sample, Role::Scratch)
    }

    #[test]
    fn products_move_to_those_of_single_positions_that_alone_read_them() {
        let network = windows_of_one_and_three();
        let of =
            |layer: usize, reads: &[usize], target: usize| step(product(Direction::Backward), layer, reads, target);
        let between = |reads: &[usize], target: usize| step(Work::Elementwise, 0, reads, target);
        let gathered = |mut steps: Vec<Step>| -> Vec<usize> {
            let buffers: Vec<Buffer> = (0..8).map(|_| scratch()).collect();
            gather(&network, &Buffers { known: &buffers, targets: 1 }, &mut steps, 0);
            steps.iter().map(|step| step.target.index()).collect()
        };
        let two = || vec![of(2, &[0], 1), of(2, &[0], 2)];
        let single = || vec![of(1, &[2], 3), of(1, &[2, 3], 4)];
        // Both of two products move, whichever is read, past what reads neither.
        assert_eq!(gathered([two(), vec![between(&[0], 5)], single()].concat()), [5, 1, 2, 3, 4]);
        let first_is_read = vec![of(1, &[1], 3)];
        assert_eq!(gathered([two(), vec![between(&[0], 5)], first_is_read].concat()), [5, 1, 2, 3]);
        assert_eq!(gathered([two(), vec![between(&[1], 5)], single()].concat()), [1, 2, 5, 3, 4]);
        // Somebody else reads it, or windows cover several positions.
        assert_eq!(
            gathered([two(), vec![between(&[0], 5)], single(), vec![between(&[2], 6)]].concat()),
            [1, 2, 5, 3, 4, 6]
        );
        assert_eq!(gathered(vec![of(2, &[0], 1), between(&[0], 5), of(0, &[1], 3)]), [1, 5, 3]);
    }

    #[test]
    fn a_product_of_single_positions_runs_before_those_whose_chains_alone_read_it() {
        let network = windows_of_one_and_three();
        let of =
            |layer: usize, reads: &[usize], target: usize| step(product(Direction::Backward), layer, reads, target);
        let between = step(Work::Elementwise, 0, &[0], 5);
        let all = |buffers: &[Buffer], targets: usize, mut steps: Vec<Step>, forward: usize| {
            let buffers = Buffers { known: buffers, targets };
            gather(&network, &buffers, &mut steps, forward);
            let order: Vec<usize> = steps.iter().map(|step| step.target.index()).collect();
            (order, runs(&network, &buffers, &steps, forward))
        };
        let buffers: Vec<Buffer> = (0..8).map(|_| scratch()).collect();
        // 1 is made by single positions, and read beside 2 and 3, of which a layer of single positions reads the second.
        let steps = || vec![of(1, &[0], 1), between.clone(), of(2, &[0, 1], 2), of(2, &[0, 1], 3), of(1, &[3], 4)];
        let found = all(&buffers, 1, steps(), 0);
        assert_eq!(
            found,
            (vec![5, 1, 2, 3, 4], {
                let first = Run { before: 0..0, steps: 0..1, behind: 1..1 };
                vec![first, Run { before: 1..2, steps: 2..4, behind: 4..5 }]
            })
        );
        assert_eq!(found.1[1].all(), 1..5);
        let stays = |buffers: &[Buffer], targets: usize, steps: Vec<Step>, forward: usize| {
            all(buffers, targets, steps, forward).1.iter().all(|run| run.before.is_empty())
        };
        // It is read as a source, by another step, by one of its own layer, or by what is no product; it covers several positions.
        for (position, changed) in [
            (3, of(2, &[1, 1], 3)),
            (1, step(Work::Elementwise, 0, &[1], 5)),
            (2, of(1, &[0, 1], 2)),
            (3, step(Work::Elementwise, 2, &[0, 1], 3)),
            (0, of(2, &[0], 1)),
        ] {
            let mut steps = steps();
            steps[position] = changed;
            assert!(stays(&buffers, 1, steps, 0), "step {position}");
        }
        // One of a pair, before one of a pair, parts neither.
        let twice = || vec![of(1, &[0], 6), of(1, &[0, 6], 1), between.clone(), of(2, &[0], 2), of(2, &[0, 1, 2], 3)];
        assert_eq!(all(&buffers, 1, twice(), 0).0, [6, 1, 5, 2, 3]);
        let once = || vec![of(1, &[0], 1), between.clone(), of(2, &[0], 2), of(2, &[0, 1, 2], 3)];
        let (order, runs) = all(&buffers, 1, once(), 0);
        assert_eq!((order, &runs[1]), (vec![5, 1, 2, 3], &Run { before: 1..2, steps: 2..4, behind: 4..4 }));
        // In another pass; a result; rows of another kind, unless there are as many of them.
        assert!(stays(&buffers, 1, steps(), 2));
        for (changed, targets, expected) in [
            (buffer(Rows::Sample, Role::Result(0)), 1, true),
            (buffer(Rows::Target, Role::Scratch), 2, true),
            (buffer(Rows::Target, Role::Scratch), 1, false),
        ] {
            let mut buffers = buffers.clone();
            buffers[1] = changed.clone();
            assert_eq!(stays(&buffers, targets, steps(), 0), expected, "{changed:?}, {targets} targets");
        }
    }

    #[test]
    fn steps_of_single_positions_run_with_those_that_hand_them_all_that_they_read() {
        let network = windows_of_one_and_three();
        let of =
            |layer: usize, reads: &[usize], target: usize| step(product(Direction::Backward), layer, reads, target);
        let runs_of = |buffers: &[Buffer], steps: &[Step]| -> Vec<(Range<usize>, Range<usize>)> {
            runs(&network, &Buffers { known: buffers, targets: 1 }, steps, 0)
                .into_iter()
                .map(|run| (run.steps, run.behind))
                .collect()
        };
        let buffers: Vec<Buffer> = (0..6).map(|_| scratch()).collect();
        // Two of layer 2 make 1 and 2; two of layer 1 read 2; one of layer 0 what these make.
        let steps = [of(2, &[0], 1), of(2, &[0, 1], 2), of(1, &[2], 3), of(1, &[2, 3], 4), of(0, &[4], 5)];
        assert_eq!(runs_of(&buffers, &steps), [(0..2, 2..4), (4..5, 5..5)]);
        // Windows of several positions take no parts, and those behind single ones are not single themselves.
        let wide: Vec<Step> = [of(1, &[0], 1), of(2, &[1], 2)].to_vec();
        assert_eq!(runs_of(&buffers, &wide), [(0..1, 1..1), (1..2, 2..2)]);
        // Somebody else reads what is made, at the end or beside.
        let mut read = steps.to_vec();
        read.push(step(Work::Elementwise, 0, &[2], 5));
        assert_eq!(runs_of(&buffers, &read)[0], (0..2, 2..2));
        let mut beside = steps.to_vec();
        beside[3].chain.push(Op::Multiply(Operand::whole(BufferId(2))));
        assert_eq!(runs_of(&buffers, &beside)[0], (0..2, 2..2));
        // A source of another step; a result; rows of another kind.
        let mut other = steps.to_vec();
        other[3].source = Some(Operand::whole(BufferId(0)));
        assert_eq!(runs_of(&buffers, &other)[0], (0..2, 2..2));
        for changed in [buffer(Rows::Sample, Role::Result(0)), buffer(Rows::Target, Role::Scratch)] {
            let mut buffers = buffers.clone();
            buffers[2] = changed;
            assert_eq!(runs_of(&buffers, &steps)[0], (0..2, 2..2));
        }
        // Relevance takes no parts of the forward pass.
        assert_eq!(
            runs(&network, &Buffers { known: &buffers, targets: 1 }, &steps, 2)[0],
            Run { before: 0..0, steps: 0..2, behind: 2..2 }
        );
    }
}
