//! Convolutions with few target channels, such as the way back to an image's three.
//!
//! Columns of a product for each tap would fill a panel badly, so all taps' columns stand side by side: one product
//! gives what each source adds to each of its targets, and every target then collects its sums in the window's order.

use std::ops::Range;

use super::chain::{self, Chain};
use super::convolve::Convolution;
use super::gemm::{self, LINE, PackedWeight, Slice};
use crate::plan::Operand;

/// Lines of targets that a part of the step makes: they share the sources at their borders.
const LINES: usize = 32;

/// How many targets a part of the step makes at most.
pub(super) fn block(conv: &Convolution) -> usize {
    LINES * conv.lattice.targets[2]
}

/// Makes the targets from position `first` on, without the chain. The columns of `weight` are
/// `[window position][target channel]`.
pub(super) fn run(
    chain: &Chain<'_>,
    source: Operand,
    conv: &Convolution,
    weight: &PackedWeight,
    first: usize,
    targets: &mut [f32],
    room: &mut Vec<f32>,
) {
    let (count, channels) = (conv.lattice.count(), conv.channels.target);
    let mut at = first;
    let end = first + targets.len() / channels;
    while at < end {
        let to = end.min((at / count + 1) * count);
        let targets = &mut targets[(at - first) * channels..(to - first) * channels];
        let range = at % count..at % count + (to - at);
        let sources = conv.lattice.sources_of(range.clone());
        let (products, a) = room_for(room, sources.len(), weight);
        let elements = chain.row(source.buffer, at / count);
        multiply(source, elements, conv.channels.source, weight, sources.clone(), (products, a));
        for (target, position) in targets.chunks_exact_mut(channels).zip(range) {
            target.fill(0.0);
            conv.lattice.visit(position, |source, tap| {
                let from = (source - sources.start) * weight.columns() + tap * channels;
                target.iter_mut().zip(&products[from..]).for_each(|(sum, product)| *sum += product);
            });
        }
        at = to;
    }
}

/// Memory for the products of some sources, and for a block of rows of A.
fn room_for<'a>(room: &'a mut Vec<f32>, sources: usize, weight: &PackedWeight) -> (&'a mut [f32], &'a mut [f32]) {
    let products = sources * weight.columns();
    let length = products + gemm::row_block() * weight.stride();
    room.resize(room.len().max(length), 0.0);
    room[..length].split_at_mut(products)
}

/// The products of a range of sources.
fn multiply(
    source: Operand,
    elements: &[f32],
    channels: usize,
    weight: &PackedWeight,
    sources: Range<usize>,
    (products, a): (&mut [f32], &mut [f32]),
) {
    let blocks = products.chunks_mut(gemm::row_block() * weight.columns());
    for (block, products) in blocks.enumerate() {
        let first = sources.start + block * gemm::row_block();
        let starts: Vec<usize> = (0..products.len()).step_by(weight.columns()).collect();
        let rows = elements[first * channels..].chunks_exact(channels);
        for (from, to) in rows.zip(a.chunks_exact_mut(weight.stride())).take(starts.len()) {
            chain::read(&source, from, &mut to[..channels]);
        }
        for Range { start: from, end: to } in gemm::slices(channels) {
            let slice = Slice { a: &a[from..], stride: channels + LINE, b: weight, from, to, goes_on: from > 0 };
            gemm::multiply_slice(slice, products, &starts);
        }
    }
}
