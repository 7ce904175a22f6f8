//! The memory of one chunk: the caller's inputs and results, and scratch slots that buffers share.

use std::cmp::Reverse;

use crate::batch::Source;
use crate::plan::{Buffer, BufferId, Plan, Role, Rows};

/// What a chunk reads and writes.
pub(super) struct Memory<'a> {
    plan: &'a Plan,
    samples: usize,
    inputs: &'a [Source<'a>],
    results: Vec<&'a mut [f32]>,
    memories: &'a mut [Vec<f32>],
    /// Which memory each slot of the plan has.
    memory_of: Vec<usize>,
}

/// A buffer taken out to be written while others are read.
pub(super) enum Taken<'a> {
    Memory(usize, Vec<f32>),
    Result(usize, &'a mut [f32]),
    /// Nothing is written.
    Nothing(Vec<f32>),
}

impl Taken<'_> {
    pub(super) fn elements(&mut self) -> &mut [f32] {
        match self {
            Taken::Memory(_, elements) | Taken::Nothing(elements) => elements,
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
        memories: &'a mut Vec<Vec<f32>>,
    ) -> Self {
        let slots = &plan.placements.slots;
        // The widest slot gets the largest memory: plans that take turns then grow few, and nothing is freed between
        // them, because fresh pages cost more than many a step.
        memories.resize_with(memories.len().max(slots.len()), Vec::new);
        memories.sort_unstable_by_key(|memory| Reverse(memory.len()));
        let mut order: Vec<usize> = (0..slots.len()).collect();
        order.sort_unstable_by_key(|&slot| Reverse(slots[slot].width));
        let mut memory_of = vec![0; slots.len()];
        for (position, (memory, slot)) in memories.iter_mut().zip(order).enumerate() {
            memory_of[slot] = position;
            if memory.len() < slots[slot].width * samples {
                // Let go first, so that nothing is copied and both are never there.
                drop(std::mem::take(memory));
                *memory = vec![0.0; slots[slot].width * samples];
            }
        }
        Memory { plan, samples, inputs, results, memories, memory_of }
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
            (Role::Scratch, Some(slot)) => &self.memories[self.memory_of[slot]][..self.count(buffer)],
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
            (_, Some(slot)) => {
                let memory = self.memory_of[slot];
                Taken::Memory(memory, std::mem::take(&mut self.memories[memory]))
            }
            (_, None) => Taken::Nothing(Vec::new()),
        }
    }

    pub(super) fn put_back(&mut self, taken: Taken<'a>) {
        match taken {
            Taken::Nothing(_) => {}
            Taken::Memory(memory, elements) => self.memories[memory] = elements,
            Taken::Result(position, elements) => self.results[position] = elements,
        }
    }
}
