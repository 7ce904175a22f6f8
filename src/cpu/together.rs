//! Which steps run together, part by part.
//!
//! Two steps that make the same positions by products of one layer read the same sources, and the second reads what the first made: made part by part,
//! sources are read and laid out once, and what the first made is still near, or need never be in memory.

use std::ops::Range;

use super::tools::Tool;
use crate::plan::{BufferId, Plan, Role, Step, Work};

/// A step that runs by itself, or two that run together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) steps: Range<usize>,
    /// Whether no step reads the first one's own target but the second.
    pub(super) passes: bool,
}

/// The steps of a plan in their order, those that can run together as one group; `threads` share each step.
pub(super) fn groups(plan: &Plan, tools: &[Tool], threads: usize) -> Vec<Group> {
    let mut groups = Vec::new();
    let mut position = 0;
    while position < plan.steps.len() {
        let is_pair = are_alike(plan, tools, position, threads) && are_apart(plan, position);
        let steps = position..position + if is_pair { 2 } else { 1 };
        position = steps.end;
        groups.push(Group { passes: is_pair && passes(plan, steps.start), steps });
    }
    groups
}

/// Whether a step and the next make the same positions by the same kind of products.
fn are_alike(plan: &Plan, tools: &[Tool], position: usize, threads: usize) -> bool {
    let Some([first, second]) = plan.steps[position..].first_chunk() else { return false };
    let (Work::Convolve { direction, .. }, Work::Convolve { direction: other, .. }) = (&first.work, &second.work)
    else {
        return false;
    };
    let rows = |step: &Step| plan.buffers[step.target.index()].rows;
    let is_shared = match (&tools[position], &tools[position + 1]) {
        (Tool::Convolve(_), Tool::Convolve(_)) => true,
        // All threads together work on one step's tiles.
        (Tool::Winograd(first), Tool::Winograd(second)) => {
            first.side == second.side && !first.is_run_together(threads) && !second.is_run_together(threads)
        }
        _ => false,
    };
    is_shared
        && (first.layer, direction, rows(first)) == (second.layer, other, rows(second))
        && position + 1 != plan.forward
}

/// Whether parts of a step and of the next can take turns: what one writes, the other neither reads nor writes anywhere else.
fn are_apart(plan: &Plan, position: usize) -> bool {
    let [first, second] = [&plan.steps[position], &plan.steps[position + 1]];
    let made: Vec<BufferId> = first.writes().collect();
    let width = |id: BufferId| (plan.buffers[id.index()].rows, plan.buffers[id.index()].width);
    let reads_beside = second
        .ops()
        .flat_map(|op| op.reads())
        .filter(|id| made.contains(id))
        .all(|id| width(id) == width(second.target));
    let mut reads = first.reads().chain(second.reads().filter(|id| !made.contains(id)));
    let writes: Vec<BufferId> = made.iter().copied().chain(second.writes()).collect();
    let is_rewritten = second.writes().any(|id| made.iter().any(|other| meet(plan, id, *other)));
    reads_beside
        && !is_rewritten
        && !second.sources().any(|id| made.contains(&id))
        && !reads.any(|read| writes.iter().any(|write| meet(plan, read, *write)))
}

/// Whether two buffers are in the same memory.
fn meet(plan: &Plan, one: BufferId, other: BufferId) -> bool {
    let slot = |id| plan.placements.slot(id);
    one == other || (slot(one).is_some() && slot(one) == slot(other))
}

/// Whether the step after one is the only one that reads its target.
fn passes(plan: &Plan, position: usize) -> bool {
    let target = plan.steps[position].target;
    let is_read = |(at, step): (usize, &Step)| at != position + 1 && step.reads().any(|id| id == target);
    plan.buffers[target.index()].role == Role::Scratch
        && target != plan.logits
        && !plan.steps.iter().enumerate().any(is_read)
}
