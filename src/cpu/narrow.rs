//! Convolutions with few target channels, such as the way back to an image's three.
//!
//! Columns of a product for each tap would fill a panel badly, so all taps' columns stand side by side: one product
//! gives what each source adds to each of its targets. Taps along the innermost axis reach targets side by side, so a
//! source adds whole runs of them; every target takes its sums in the order of the sources.

use std::ops::Range;

use super::chain::{self, Chain};
use super::convolve::Convolution;
use super::gemm::{self, PackedWeight, Slice};
use super::lattice::{Lattice, advance, coordinates};
use super::simd::{self, Level, Loop};
use crate::plan::Operand;

/// Lines of targets that a part of the step makes: they share the sources at their borders.
const LINES: usize = 64;

/// The weight of such a convolution.
#[derive(Debug)]
pub(super) struct Narrow {
    /// The columns are `[window position][target channel]`.
    pub(super) weight: PackedWeight,
    /// Whether positions along the window's innermost axis stand in falling order, so that they rise with the targets.
    pub(super) is_turned: bool,
}

/// Which targets each source adds to.
#[derive(Debug)]
pub(super) struct Spread {
    /// For each source along the outer two axes, targets and the window's positions there.
    lines: [Vec<Vec<(usize, usize)>>; 2],
    /// For each source along the innermost axis.
    runs: Vec<Vec<Run>>,
    /// The window's extents along the inner two axes.
    kernel: [usize; 2],
}

/// Targets side by side, whose columns are side by side too.
#[derive(Debug, Clone, Copy)]
struct Run {
    target: usize,
    /// The first one's place among the columns of a line of the window.
    column: usize,
    length: usize,
}

impl Spread {
    pub(super) fn new(lattice: &Lattice, narrow: &Narrow) -> Self {
        let [outer, middle, inner] = lattice.readers();
        let [_, kernel @ ..] = lattice.kernel;
        let runs = inner.into_iter().map(|readers| {
            let mut runs: Vec<Run> = Vec::new();
            for (target, tap) in readers {
                let column = if narrow.is_turned { kernel[1] - 1 - tap } else { tap };
                match runs.last_mut() {
                    Some(run) if (run.target + run.length, run.column + run.length) == (target, column) => {
                        run.length += 1;
                    }
                    _ => runs.push(Run { target, column, length: 1 }),
                }
            }
            runs
        });
        Spread { runs: runs.collect(), lines: [outer, middle], kernel }
    }
}

/// How many targets a part of the step makes at most.
pub(super) fn block(conv: &Convolution) -> usize {
    LINES * conv.lattice.targets[2]
}

/// Makes the targets from position `first` on, without the chain.
pub(super) fn run(
    chain: &Chain<'_>,
    factors: &[(Operand, &Narrow)],
    (conv, spread): (&Convolution, &Spread),
    first: usize,
    targets: &mut [f32],
    room: &mut Vec<f32>,
) {
    let (count, channels, columns) = (conv.lattice.count(), conv.channels.target, factors[0].1.weight.columns());
    let mut at = first;
    let end = first + targets.len() / channels;
    while at < end {
        let to = end.min((at / count + 1) * count);
        let targets = &mut targets[(at - first) * channels..(to - first) * channels];
        let range = at % count..at % count + (to - at);
        targets.fill(0.0);
        let sources = conv.lattice.sources_of(range.clone());
        for first in sources.clone().step_by(gemm::row_block()) {
            let sources = first..sources.end.min(first + gemm::row_block());
            let products = multiply(chain, factors, at / count, conv.channels.source, sources.clone(), room);
            let (range, targets) = (range.clone(), &mut *targets);
            simd::run(Level::widest(), Add { conv, spread, columns, products, sources, range, targets });
        }
        at = to;
    }
}

/// The products of a range of a row's sources, summed over what they are multiplied with.
fn multiply<'a>(
    chain: &Chain<'_>,
    factors: &[(Operand, &Narrow)],
    row: usize,
    channels: usize,
    sources: Range<usize>,
    room: &'a mut Vec<f32>,
) -> &'a [f32] {
    let (rows, columns, stride) = (sources.len(), factors[0].1.weight.columns(), factors[0].1.weight.stride());
    let length = rows * (columns + stride);
    room.resize(room.len().max(length), 0.0);
    let (products, a) = room[..length].split_at_mut(rows * columns);
    let starts: Vec<usize> = (0..products.len()).step_by(columns).collect();
    for (position, (source, narrow)) in factors.iter().enumerate() {
        let elements = chain.row(source.buffer, row);
        let from = elements[sources.start * channels..sources.end * channels].chunks_exact(channels);
        for (from, to) in from.zip(a.chunks_exact_mut(stride)) {
            chain::read(source, from, &mut to[..channels]);
        }
        for Range { start: from, end: to } in gemm::slices(channels) {
            let slice = Slice { a: &a[from..], stride, b: &narrow.weight, from, to, goes_on: position > 0 || from > 0 };
            gemm::multiply_slice(slice, products, &starts);
        }
    }
    products
}

/// Adds the products of some sources to a range of targets.
struct Add<'a> {
    conv: &'a Convolution,
    spread: &'a Spread,
    /// Columns of a source's products.
    columns: usize,
    products: &'a [f32],
    sources: Range<usize>,
    range: Range<usize>,
    targets: &'a mut [f32],
}

impl Loop for Add<'_> {
    #[inline(always)]
    fn run<const FUSED: bool, const LANES: usize>(self) {
        let Add { conv, spread, columns, products, sources, range, targets } = self;
        let channels = conv.channels.target;
        let [_, middles, inners] = conv.lattice.targets;
        let mut at = coordinates(sources.start, conv.lattice.sources);
        let mut is_new_line = true;
        let mut lines: Vec<(usize, usize)> = Vec::new();
        for products in products.chunks_exact(columns) {
            let [outer, middle, inner] = at;
            if is_new_line {
                lines.clear();
                for &(outer, outer_tap) in &spread.lines[0][outer] {
                    let of_middle = spread.lines[1][middle].iter().map(|&(middle, middle_tap)| {
                        let column = (outer_tap * spread.kernel[0] + middle_tap) * spread.kernel[1];
                        ((outer * middles + middle) * inners, column)
                    });
                    // Lines of targets that the part does not have are left to their own.
                    lines.extend(of_middle.filter(|(first, _)| first + inners > range.start && *first < range.end));
                }
            }
            is_new_line = advance(&mut at, conv.lattice.sources);
            for &(first, column) in &lines {
                for run in &spread.runs[inner] {
                    let target = first + run.target;
                    let from = range.start.max(target);
                    let to = range.end.min(target + run.length);
                    if from < to {
                        let targets = &mut targets[(from - range.start) * channels..(to - range.start) * channels];
                        let products = &products[(column + run.column + from - target) * channels..];
                        targets.iter_mut().zip(products).for_each(|(sum, product)| *sum += product);
                    }
                }
            }
        }
    }
}
