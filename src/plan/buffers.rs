//! Where buffers lie: buffers that are never needed together share a slot.
//!
//! A step's target and everything it reads are needed together, so no step reads and writes one slot: each slot can be
//! a buffer of its own on a device that forbids that. Where steps may run together, part by part, so is all that any of them reads and writes.

use super::{Buffer, BufferId, Role, Rows, Step, Target};
use crate::error::{Error, ErrorKind, Result};

/// Memory that several buffers use one after another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Elements for each sample: the widest of its buffers.
    pub width: usize,
}

/// The slot of each scratch buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placements {
    /// The slots.
    pub slots: Vec<Slot>,
    slot_of: Vec<Option<usize>>,
}

impl Placements {
    /// `ends`: for each step the last one that may run with it, the same for all of a run.
    pub(super) fn new(buffers: &[Buffer], steps: &[Step], logits: BufferId, targets: usize, ends: &[usize]) -> Self {
        let lives = lifetimes(buffers, steps, logits, ends);
        let mut order: Vec<usize> = (0..buffers.len()).filter(|&index| lives[index].is_some()).collect();
        order.sort_by_key(|&index| lives[index].expect("filtered").0);
        let mut slots: Vec<Slot> = Vec::new();
        let mut busy_until: Vec<usize> = Vec::new();
        let mut slot_of = vec![None; buffers.len()];
        for index in order {
            let (first, last) = lives[index].expect("filtered");
            let width = width_a_sample(&buffers[index], targets);
            let free = (0..slots.len()).filter(|&slot| busy_until[slot] < first);
            // The closest fit keeps wide slots for wide buffers.
            let slot = free.min_by_key(|&slot| slots[slot].width.abs_diff(width)).unwrap_or_else(|| {
                slots.push(Slot { width: 0 });
                busy_until.push(0);
                slots.len() - 1
            });
            slots[slot].width = slots[slot].width.max(width);
            busy_until[slot] = last;
            slot_of[index] = Some(slot);
        }
        Placements { slots, slot_of }
    }

    /// The slot of a buffer; none for buffers that the caller owns.
    pub fn slot(&self, buffer: BufferId) -> Option<usize> {
        self.slot_of[buffer.index()]
    }

    /// Bytes of scratch memory for each sample.
    pub fn bytes_per_sample(&self) -> usize {
        self.slots.iter().map(|slot| slot.width * size_of::<f32>()).sum()
    }

    /// How many samples fit a target's memory.
    pub(super) fn samples_within(&self, buffers: &[Buffer], targets: usize, target: &Target) -> Result<usize> {
        let bytes = |width: usize| width * size_of::<f32>();
        let held = buffers.iter().filter(|buffer| target.copies > 0 && is_callers(buffer.role));
        let held: Vec<usize> = held.map(|buffer| bytes(width_a_sample(buffer, targets))).collect();
        let per_sample = (self.bytes_per_sample() + target.copies * held.iter().sum::<usize>()).max(1);
        let slots = self.slots.iter().map(|slot| bytes(slot.width));
        let widest = slots.chain(held).max().unwrap_or(0).max(1);
        let samples = target.samples.min(target.budget / per_sample).min(target.binding / widest);
        if samples == 0 {
            let (needed, allowed, what) = if target.budget < per_sample {
                (per_sample, target.budget, "memory for what it computes")
            } else {
                (widest, target.binding, "one buffer")
            };
            let message = format!("one sample needs {needed} bytes of {what}, but {allowed} are allowed");
            return Err(Error::new(ErrorKind::Limit, message)
                .help("allow more memory, run on fewer threads, or ask for fewer targets"));
        }
        Ok(samples)
    }
}

/// Whether the caller owns a buffer of the role, so that an executor with memory of its own holds a copy.
fn is_callers(role: Role) -> bool {
    match role {
        Role::Input(_) | Role::Index(_) | Role::Result(_) => true,
        Role::Scratch | Role::Sums => false,
    }
}

fn width_a_sample(buffer: &Buffer, targets: usize) -> usize {
    match buffer.rows {
        Rows::Sample => buffer.width,
        Rows::Target => buffer.width * targets,
    }
}

/// For each scratch buffer that is used, the first step that writes it and the last that needs it: what a step reads that runs together
/// with others is needed as long as these run.
fn lifetimes(buffers: &[Buffer], steps: &[Step], logits: BufferId, ends: &[usize]) -> Vec<Option<(usize, usize)>> {
    let mut lives: Vec<Option<(usize, usize)>> = vec![None; buffers.len()];
    for (position, step) in steps.iter().enumerate() {
        for buffer in step.reads().chain(step.writes()) {
            if buffers[buffer.index()].role == Role::Scratch {
                let life = lives[buffer.index()].get_or_insert((position, position));
                life.1 = ends[position];
            }
        }
    }
    if let Some(life) = &mut lives[logits.index()] {
        life.1 = steps.len();
    }
    lives
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::LayerId;
    use crate::plan::{Direction, Op, Operand, Work};
    use crate::rules::WeightPart;

    fn chain_of(widths: &[usize]) -> (Vec<Buffer>, Vec<Step>) {
        let buffer = |(index, &width): (usize, &usize)| Buffer {
            name: index.to_string(),
            rows: Rows::Sample,
            width,
            role: Role::Scratch,
        };
        let step = |index: usize| {
            let source = index.checked_sub(1).map(|from| Operand::whole(BufferId(from)));
            Step::new(None, Work::Elementwise, source, Vec::new(), BufferId(index))
        };
        (widths.iter().enumerate().map(buffer).collect(), (0..widths.len()).map(step).collect())
    }

    #[test]
    fn a_chain_needs_two_slots_and_no_step_reads_the_slot_it_writes() {
        let (buffers, steps) = chain_of(&[4, 8, 4, 8, 4]);
        let placements = Placements::new(&buffers, &steps, BufferId(4), 1, &[0, 1, 2, 3, 4]);
        assert_eq!(placements.slots, [Slot { width: 4 }, Slot { width: 8 }]);
        for step in &steps {
            for read in step.reads() {
                assert_ne!(placements.slot(read), placements.slot(step.target));
            }
        }
    }

    #[test]
    fn what_a_step_reads_stays_until_the_last_has_run_that_runs_with_it() {
        let (buffers, _) = chain_of(&[4; 5]);
        let product = |layer, reads: &[usize], target| {
            let add = |&read: &usize| Op::Add { operand: Operand::whole(BufferId(read)), factor: 1.0 };
            let work = Work::Convolve { direction: Direction::Forward, weight: WeightPart::WHOLE, addend: None };
            let source = reads.first().map(|&read| Operand::whole(BufferId(read)));
            Step::new(Some(LayerId(layer)), work, source, reads.iter().skip(1).map(add).collect(), BufferId(target))
        };
        let meet = |ends: [usize; 4]| {
            // 2 sums 1 and products of 3, which is made first.
            let steps = [product(0, &[], 3), product(0, &[3], 0), product(1, &[0], 1), product(1, &[3, 1], 2)];
            let placements = Placements::new(&buffers, &steps, BufferId(4), 1, &ends);
            placements.slot(BufferId(0)) == placements.slot(BufferId(2))
        };
        assert!(!meet([0, 1, 3, 3]) && !meet([0, 3, 3, 3]));
        assert!(meet([0, 1, 2, 3]));
    }

    #[test]
    fn a_target_too_small_for_one_sample_is_an_error() {
        let (buffers, steps) = chain_of(&[4, 8]);
        let placements = Placements::new(&buffers, &steps, BufferId(1), 1, &[0, 1]);
        let fits = |budget, binding| {
            placements.samples_within(&buffers, 1, &Target { budget, binding, samples: 100, ..Target::UNLIMITED })
        };
        assert_eq!(fits(96, 96).unwrap(), 2);
        assert_eq!(fits(1000, 96).unwrap(), 3);
        assert_eq!(fits(47, 96).unwrap_err().kind(), ErrorKind::Limit);
    }
}
