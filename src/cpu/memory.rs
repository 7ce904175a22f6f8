//! The memory of one chunk: the caller's inputs and results, and scratch slots that buffers share.

use crate::batch::Source;
use crate::plan::{Buffer, BufferId, Plan, Role, Rows};

/// What a chunk reads and writes.
pub(super) struct Memory<'a> {
    plan: &'a Plan,
    samples: usize,
    inputs: &'a [Source<'a>],
    results: Vec<&'a mut [f32]>,
    slots: &'a mut [Vec<f32>],
}

/// A buffer taken out to be written while others are read.
pub(super) enum Taken<'a> {
    Slot(usize, Vec<f32>),
    Result(usize, &'a mut [f32]),
}

impl Taken<'_> {
    pub(super) fn elements(&mut self) -> &mut [f32] {
        match self {
            Taken::Slot(_, elements) => elements,
            Taken::Result(_, elements) => elements,
        }
    }
}

impl<'a> Memory<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        samples: usize,
        inputs: &'a [Source<'a>],
        results: Vec<&'a mut [f32]>,
        slots: &'a mut Vec<Vec<f32>>,
    ) -> Self {
        slots.resize_with(plan.placements.slots.len(), Vec::new);
        for (memory, slot) in slots.iter_mut().zip(&plan.placements.slots) {
            if memory.len() < slot.width * samples {
                memory.resize(slot.width * samples, 0.0);
            }
        }
        Memory { plan, samples, inputs, results, slots }
    }

    /// How many rows a buffer of this chunk has.
    pub(super) fn rows(&self, rows: Rows) -> usize {
        self.plan.rows(rows, self.samples)
    }

    fn count(&self, buffer: &Buffer) -> usize {
        self.rows(buffer.rows) * buffer.width
    }

    /// The elements of a buffer of real numbers.
    pub(super) fn read(&self, id: BufferId) -> &[f32] {
        let buffer = &self.plan.buffers[id.index()];
        match (buffer.role, self.plan.placements.slot(id)) {
            (Role::Input(position), _) => match self.inputs[position] {
                Source::Float(elements) => elements,
                Source::Integer(_) => unreachable!("a float input is given as floats"),
            },
            (Role::Result(position), _) => self.results[position],
            (Role::Scratch, Some(slot)) => &self.slots[slot][..self.count(buffer)],
            (Role::Scratch, None) | (Role::Index(_) | Role::Sums, _) => unreachable!("the buffer holds no numbers"),
        }
    }

    /// The elements of an integer input.
    pub(super) fn indices(&self, id: BufferId) -> &[i64] {
        match (self.plan.buffers[id.index()].role, self.inputs) {
            (Role::Index(position), inputs) => match inputs[position] {
                Source::Integer(elements) => elements,
                Source::Float(_) => unreachable!("an integer input is given as integers"),
            },
            _ => unreachable!("only an integer input holds indices"),
        }
    }

    /// Takes a buffer out, so that it can be written while others are read; [`put_back`](Self::put_back) ends it.
    pub(super) fn take(&mut self, id: BufferId) -> Taken<'a> {
        let buffer = &self.plan.buffers[id.index()];
        match (buffer.role, self.plan.placements.slot(id)) {
            (Role::Result(position), _) => Taken::Result(position, std::mem::take(&mut self.results[position])),
            (_, Some(slot)) => Taken::Slot(slot, std::mem::take(&mut self.slots[slot])),
            (_, None) => Taken::Slot(usize::MAX, Vec::new()),
        }
    }

    pub(super) fn put_back(&mut self, taken: Taken<'a>) {
        match taken {
            Taken::Slot(usize::MAX, _) => {}
            Taken::Slot(slot, elements) => self.slots[slot] = elements,
            Taken::Result(position, elements) => self.results[position] = elements,
        }
    }
}
