//! The order of steps that wait for nothing.

use super::{Step, Work};

/// A convolution's product moves to the step that adds another product of the layer to it: together they read what both read once.
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

fn is_alike(one: &Step, other: &Step) -> bool {
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
