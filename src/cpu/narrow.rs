//! Convolutions with few target channels, such as the way back to an image's three.
//!
//! Columns of a product for each tap would fill a panel badly, so all taps' columns stand side by side: one product
//! gives what each source adds to each of its targets. Taps along the innermost axis reach targets side by side, so a
//! source adds whole runs of them. Sources follow one another whose runs lie apart: a vector that overlaps one that has just
//! been written, but is not the same, is read only when that has reached the cache. Where lines of sources are cut, and so the
//! order in which a target takes its sums, depends on their length and the instruction set alone.

use std::ops::Range;

use super::chain::Chain;
use super::convolve::Convolution;
use super::gemm::{self, PackedWeight, Slice};
use super::lattice::{Lattice, coordinates};
use super::loops;
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
    /// How far apart sources along the innermost axis are that no run of one overlaps any of the other.
    apart: usize,
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
        let runs: Vec<Vec<Run>> = inner
            .into_iter()
            .map(|readers| {
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
            })
            .collect();
        Spread { apart: apart(&runs), runs, lines: [outer, middle], kernel }
    }
}

/// The least distance of sources whose runs do not overlap.
fn apart(runs: &[Vec<Run>]) -> usize {
    let end = |runs: &[Run]| runs.last().map_or(0, |run| run.target + run.length);
    let overlapping = |(at, of_source): (usize, &Vec<Run>)| {
        let begins_within = |runs: &&Vec<Run>| runs.first().is_none_or(|run| run.target < end(of_source));
        runs[at..].iter().take_while(begins_within).count()
    };
    runs.iter().enumerate().map(overlapping).max().unwrap_or(1).max(1)
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
        for sources in blocks(sources, conv.lattice.sources[2]) {
            let products = multiply(chain, factors, at / count, conv.channels.source, sources.clone(), room);
            let (range, targets) = (range.clone(), &mut *targets);
            simd::run(Level::widest(), Add { conv, spread, columns, products, sources, range, targets });
        }
        at = to;
    }
}

/// Cuts whole lines of sources into blocks whose products stay in cache: of several lines, or equal parts of one.
fn blocks(sources: Range<usize>, line: usize) -> impl Iterator<Item = Range<usize>> {
    let most = gemm::row_block();
    let parts = line.div_ceil(most);
    let (unit, length) = if parts > 1 { (line, line.div_ceil(parts)) } else { (most / line * line, most) };
    sources.clone().step_by(unit).flat_map(move |first| {
        let end = sources.end.min(first + unit);
        (first..end).step_by(length).map(move |first| first..end.min(first + length))
    })
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
            loops::read(source, from, &mut to[..channels]);
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
        let line = conv.lattice.sources[2];
        let mut lines: Vec<(usize, usize)> = Vec::new();
        let (mut source, mut products) = (sources.start, products);
        while source < sources.end {
            let [outer, middle, inner] = coordinates(source, conv.lattice.sources);
            let of_line = (line - inner).min(sources.end - source);
            lines.clear();
            for &(outer, outer_tap) in &spread.lines[0][outer] {
                let of_middle = spread.lines[1][middle].iter().map(|&(middle, middle_tap)| {
                    let column = (outer_tap * spread.kernel[0] + middle_tap) * spread.kernel[1];
                    ((outer * middles + middle) * inners, column)
                });
                // Lines of targets that the part does not have are left to their own.
                lines.extend(of_middle.filter(|(first, _)| first + inners > range.start && *first < range.end));
            }
            let runs = &spread.runs[inner..inner + of_line];
            for &(first, column) in &lines {
                for begin in 0..spread.apart.min(of_line) {
                    for position in (begin..of_line).step_by(spread.apart) {
                        let products = &products[position * columns + column * channels..];
                        for run in &runs[position] {
                            add(first, run, products, channels, &range, targets);
                        }
                    }
                }
            }
            source += of_line;
            products = &products[of_line * columns..];
        }
    }
}

/// Adds the products of a line of the window to the targets of a run that are in `range`; `first` is their line's first one.
#[inline(always)]
fn add(first: usize, run: &Run, products: &[f32], channels: usize, range: &Range<usize>, targets: &mut [f32]) {
    let target = first + run.target;
    let (from, to) = (range.start.max(target), range.end.min(target + run.length));
    if from < to {
        let targets = &mut targets[(from - range.start) * channels..(to - range.start) * channels];
        let products = &products[(run.column + from - target) * channels..];
        targets.iter_mut().zip(products).for_each(|(sum, product)| *sum += product);
    }
}
