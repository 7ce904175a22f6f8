//! The memory of one chunk: the caller's inputs and results, and scratch slots that buffers share.

use std::cmp::Reverse;

use super::gemm::LINE;
use super::panels::beginning_of_line;
use crate::batch::Source;
use crate::plan::{Buffer, BufferId, Plan, Role, Rows};

/// Elements that begin a cache line, so that no vector of a loop over them lies in two.
#[derive(Debug, Default)]
pub(super) struct Lines {
    elements: Vec<f32>,
    begin: usize,
}

impl Lines {
    fn new(length: usize) -> Self {
        let elements = vec![0.0; length + LINE];
        Lines { begin: beginning_of_line(&elements), elements }
    }

    fn len(&self) -> usize {
        self.elements.len().saturating_sub(LINE)
    }
}

/// What a chunk reads and writes.
pub(super) struct Memory<'a> {
    plan: &'a Plan,
    samples: usize,
    inputs: &'a [Source<'a>],
    results: Vec<&'a mut [f32]>,
    memories: &'a mut [Lines],
    /// Which memory each slot of the plan has.
    memory_of: Vec<usize>,
}

/// A buffer taken out to be written while others are read.
pub(super) enum Taken<'a> {
    Memory(usize, Lines),
    Result(usize, &'a mut [f32]),
    /// Nothing is written.
    Nothing,
}

impl Taken<'_> {
    pub(super) fn elements(&mut self) -> &mut [f32] {
        match self {
            Taken::Memory(_, lines) => &mut lines.elements[lines.begin..],
            Taken::Result(_, elements) => elements,
            Taken::Nothing => &mut [],
        }
    }
}

impl<'a> Memory<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        samples: usize,
        inputs: &'a [Source<'a>],
        results: Vec<&'a mut [f32]>,
        memories: &'a mut Vec<Lines>,
    ) -> Self {
        let slots = &plan.placements.slots;
        // The widest slot gets the largest memory: plans that take turns then grow few, and nothing is freed between
        // them, because fresh pages cost more than many a step.
        memories.resize_with(memories.len().max(slots.len()), Lines::default);
        memories.sort_unstable_by_key(|memory| Reverse(memory.len()));
        let mut order: Vec<usize> = (0..slots.len()).collect();
        order.sort_unstable_by_key(|&slot| Reverse(slots[slot].width));
        let mut memory_of = vec![0; slots.len()];
        for (position, (memory, slot)) in memories.iter_mut().zip(order).enumerate() {
            memory_of[slot] = position;
            if memory.len() < slots[slot].width * samples {
                // Let go first, so that nothing is copied and both are never there.
                drop(std::mem::take(memory));
                *memory = Lines::new(slots[slot].width * samples);
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
            (Role::Scratch, Some(slot)) => {
                let Lines { elements, begin } = &self.memories[self.memory_of[slot]];
                &elements[*begin..][..self.count(buffer)]
            }
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
            (_, None) => Taken::Nothing,
        }
    }

    pub(super) fn put_back(&mut self, taken: Taken<'a>) {
        match taken {
            Taken::Nothing => {}
            Taken::Memory(memory, lines) => self.memories[memory] = lines,
            Taken::Result(position, elements) => self.results[position] = elements,
        }
    }
}
