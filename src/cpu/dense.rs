//! Products of rows with a dense layer's weight.

use std::ops::Range;
use std::sync::Arc;

use super::ahead::Coming;
use super::chain::Chain;
use super::crew::{Crew, Written};
use super::few_rows::{self, FewRows};
use super::gemm::{self, LINE, PackedWeight};
use super::loops;
use crate::plan::{Operand, Step};

/// A weight as a product reads it.
#[derive(Debug)]
pub(super) enum Weight {
    /// Packed beforehand, for each product that the step sums.
    Packed(Vec<Arc<PackedWeight>>),
    /// As the network has it, for few rows.
    FewRows(FewRows),
}

impl Weight {
    /// The length of a row of the product.
    pub(super) fn columns(&self) -> usize {
        match self {
            Weight::Packed(weights) => weights[0].columns(),
            Weight::FewRows(weight) => weight.columns(),
        }
    }
}

/// Rows of the sources times the weight's parts, then the chain.
pub(super) fn run(chain: &Chain<'_>, step: &Step, weight: &Weight, written: Written<'_>, crew: Crew<'_>) {
    match weight {
        Weight::Packed(weights) => packed(chain, step, weights, written, crew),
        Weight::FewRows(weight) => few_rows::run(chain, step, weight, written, crew),
    }
}

/// The chain runs over each block of rows while it is in cache.
fn packed(chain: &Chain<'_>, step: &Step, weights: &[Arc<PackedWeight>], written: Written<'_>, crew: Crew<'_>) {
    let (columns, stride) = (weights[0].columns(), weights[0].stride());
    let width = chain.plan.buffers[step.target.index()].width;
    let panels = weights.iter().map(|weight| gemm::panels_read(gemm::row_block(), weight)).sum();
    let coming = Coming::new(std::slice::from_ref(chain), [], panels);
    crew.pieces(written, columns, gemm::row_block(), |first, written, room| {
        let rows = first..first + written.target.len() / columns;
        let length = rows.len() * stride;
        let mut soon = coming.soon(first * columns..first * columns + written.target.len(), 0..0);
        let a = &mut room.rows;
        a.resize(a.len().max(length), 0.0);
        for (position, ((source, _), weight)) in step.products().zip(weights).enumerate() {
            read(chain, source, rows.clone(), weight.depth(), &mut a[..length]);
            gemm::multiply(&a[..length], weight, written.target, position > 0, &mut soon);
        }
        chain.finish(first * columns, width, written);
    });
}

/// Reads rows of a source as rows of A.
pub(super) fn read(chain: &Chain<'_>, source: Operand, rows: Range<usize>, depth: usize, a: &mut [f32]) {
    let stored = chain.memory.read(source.buffer)[rows.start * depth..rows.end * depth].chunks_exact(depth);
    for (from, to) in stored.zip(a.chunks_exact_mut(depth + LINE)) {
        loops::read(&source, from, &mut to[..depth]);
    }
}
