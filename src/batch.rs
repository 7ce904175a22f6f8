//! A batch as executors take it: rows of inputs, and memory for what they give.

use crate::start::{Start, Targets};

/// A batch to explain, and the memory for its results.
#[derive(Debug)]
pub struct Batch<'a> {
    /// Number of samples.
    pub samples: usize,
    /// The inputs in the network's order: `samples` rows each.
    pub inputs: Vec<Source<'a>>,
    /// Which outputs are explained.
    pub targets: &'a Targets,
    /// How much relevance each begins with.
    pub start: &'a Start,
    /// For each result of the plan, `samples` × K rows.
    pub results: Vec<&'a mut [f32]>,
    /// `samples` rows of logits.
    pub logits: &'a mut [f32],
    /// `samples` × K targets.
    pub explained: &'a mut [usize],
}

/// The rows of an input of the network.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// Real numbers.
    Float(&'a [f32]),
    /// Integers.
    Integer(&'a [i64]),
}

impl<'a> Source<'a> {
    /// Elements `range` of the rows.
    pub fn slice(&self, range: std::ops::Range<usize>) -> Source<'a> {
        match self {
            Source::Float(elements) => Source::Float(&elements[range]),
            Source::Integer(elements) => Source::Integer(&elements[range]),
        }
    }
}
