//! Products of rows with a dense layer's weight.

use super::chain::{self, Chain};
use super::crew::Crew;
use super::gemm::{self, PackedWeight, ROW_BLOCK};
use crate::plan::Step;

/// Rows of the source times a weight; the chain runs over each block of rows while it is in cache.
pub(super) fn run(chain: &Chain<'_>, step: &Step, weight: &PackedWeight, target: &mut [f32], crew: Crew<'_>) {
    let source = step.source.expect("a product reads rows");
    let rows = chain.memory.read(source.buffer);
    let (depth, columns) = (weight.depth(), weight.columns());
    let width = chain.plan.buffers[step.target.index()].width;
    crew.pieces(target, columns, ROW_BLOCK, |first, target, read| {
        let count = target.len() / columns;
        let read_length = count * weight.stride();
        read.resize(read.len().max(read_length), 0.0);
        let read = &mut read[..read_length];
        let rows = rows[first * depth..][..count * depth].chunks_exact(depth);
        for (from, to) in rows.zip(read.chunks_exact_mut(weight.stride())) {
            chain::read(&source, from, &mut to[..depth]);
        }
        gemm::multiply(read, weight, target);
        chain.apply_to(first * columns, width, target);
    });
}
