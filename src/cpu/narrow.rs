//! Convolutions with few target channels, such as the way back to an image's three.
//!
//! Channels would fill a few columns of a panel. Here positions that follow one another fill registers, and are multiplied
//! with one weight of each target channel; for that, sources are [laid out channel by channel](super::planar). Every target is
//! a sum of chains in one order, group of channels by group, whatever part it is made in.

use std::ops::Range;

use super::chain::Chain;
use super::convolve::{Convolution, Factor};
use super::filters::{Channels, Filters, Phase};
use super::lattice::{Extents, Stretch, among};
use super::loops;
use super::planar::{self, LayOut, Planar};
use super::simd::{self, Level, Loop};
use super::tile::chain_length;
use crate::plan::Operand;

/// Positions that are summed at a time for each of some target channels: they fill registers that, with a weight of each
/// channel, are there, and enough that few wait for another.
pub(super) const fn tile(lanes: usize, channels: usize) -> usize {
    let registers = match (lanes, channels) {
        (16, 1 | 2) => 8,
        (16, 3) => 7,
        (16, 4) => 6,
        (16, 5 | 6) => 4,
        (16, _) => 3,
        (_, 1) => 8,
        (_, 2) => 5,
        (_, 3 | 4) => 3,
        (_, 5 | 6) => 2,
        _ => 1,
    };
    registers * lanes
}

/// The weight of such a convolution.
#[derive(Debug)]
pub(super) struct Narrow {
    /// For each phase, `[group][outer tap][middle tap][channel of the group][inner tap][target channel]`; zeros stand for
    /// channels that the last group lacks.
    weights: Vec<Vec<f32>>,
    /// Elements of a sum's chains, at most.
    chain: usize,
}

impl Narrow {
    /// `element` is the weight at a position of the window, of a source and a target channel.
    pub(super) fn new(
        channels: Channels,
        (phases, kernel): (&[Phase], Extents),
        chain: usize,
        element: impl Fn(usize, usize, usize) -> f32,
    ) -> Self {
        let group = planar::group(channels.source);
        let of_phase = |phase: &Phase| {
            let (positions, inner) = (phase.positions(kernel), phase.axes[2].taps.max(1));
            let mut weights = Vec::new();
            for first in (0..channels.source).step_by(group) {
                for of_line in positions.chunks(inner) {
                    for (source, &position) in (first..first + group).flat_map(|s| of_line.iter().map(move |p| (s, p)))
                    {
                        let of_target = |t| if source < channels.source { element(position, source, t) } else { 0.0 };
                        weights.extend((0..channels.target).map(of_target));
                    }
                }
            }
            weights
        };
        Narrow { weights: phases.iter().map(of_phase).collect(), chain }
    }
}

/// Makes the targets of steps that run together from position `first` on, counted over rows, without the chains: whole lines, or a stretch of
/// one.
pub(super) fn run(
    chain: &Chain<'_>,
    factors: &[Factor<'_>],
    (conv, planar): (&Convolution, &Planar),
    first: usize,
    targets: &mut [&mut [f32]],
    room: &mut Vec<f32>,
) {
    let channels = conv.channels.target;
    for (stretch, range) in conv.lattice.stretches(first, targets[0].len() / channels) {
        let mut targets: Vec<_> =
            targets.iter_mut().map(|of| &mut of[range.start * channels..range.end * channels]).collect();
        Part::new(conv, planar, stretch).run(chain, factors, &mut targets, room);
    }
}

/// Lines of one plane of targets, or a stretch of one line.
struct Part<'a> {
    conv: &'a Convolution,
    planar: &'a Planar,
    row: usize,
    lines: Range<usize>,
    stretch: Range<usize>,
    /// The planes of sources that they read, of which some may lie outside.
    planes: Vec<isize>,
    /// The lines of sources, among those of their remainder.
    sources: Range<isize>,
    /// The first position of any phase, among those of the phase.
    first: usize,
    /// Positions that are summed at a time.
    tile: usize,
    /// For each phase, its lines and its positions of a line.
    of_phases: Vec<[Range<usize>; 2]>,
}

impl<'a> Part<'a> {
    fn new(conv: &'a Convolution, planar: &'a Planar, stretch: Stretch) -> Self {
        let Stretch { row, outer, lines, positions: stretch } = stretch;
        let of_phase = |phase: &Phase| {
            let [_, of_lines, of_positions] = phase.axes;
            let [lines, positions] = [among(of_lines, &lines), among(of_positions, &stretch)];
            let is_summed = phase.axes.iter().all(|axis| axis.taps > 0) && phase.lowest[0][outer].is_some();
            if is_summed && !lines.is_empty() && !positions.is_empty() { [lines, positions] } else { [0..0, 0..0] }
        };
        let of_phases: Vec<[Range<usize>; 2]> = conv.phases.iter().map(of_phase).collect();
        let sources = |(phase, [lines, _]): (&Phase, &[Range<usize>; 2])| {
            let highest = planar::reads(phase, 1, planar.strides[0]).iter().map(|(_, place)| *place).max()?;
            (!lines.is_empty()).then_some((lines.start as isize + planar.lowest, lines.end as isize + highest))
        };
        let both = conv.phases.iter().zip(&of_phases).filter_map(sources);
        let both = both.reduce(|(first, end), (other, other_end)| (first.min(other), end.max(other_end)));
        let planes = |phase: &Phase| {
            let lowest = phase.lowest[0][outer]?;
            Some((0..phase.axes[0].taps).map(|tap| lowest + phase.offset(0, tap) - phase.offset(0, 0)).collect())
        };
        let planes = conv.phases.iter().find_map(planes).unwrap_or_default();
        let sources = both.map_or(0..0, |(first, end)| first..end);
        let summed = of_phases.iter().filter(|[lines, _]| !lines.is_empty());
        let first = summed.map(|[_, positions]| positions.start).min().unwrap_or(0);
        let tile = tile(Level::widest().lanes(), conv.channels.target);
        Part { conv, planar, row, lines, stretch, planes, sources, first, tile, of_phases }
    }

    /// The sums that a channel of some lines of a phase takes.
    fn sums(&self, lines: &Range<usize>) -> usize {
        (lines.len() * self.planar.line).next_multiple_of(self.tile)
    }

    fn run(&self, chain: &Chain<'_>, factors: &[Factor<'_>], targets: &mut [&mut [f32]], room: &mut Vec<f32>) {
        let Part { conv, planar, of_phases, .. } = self;
        let channels = conv.channels.target;
        let sources = planar.floats(self.tile);
        let summed: usize = of_phases.iter().map(|[lines, _]| self.sums(lines) * channels).sum();
        let length = sources + summed * targets.len();
        room.resize(room.len().max(length), 0.0);
        let (sources, sums) = room[..length].split_at_mut(sources);
        sums.fill(0.0);
        for factors in factors.chunk_by(Factor::reads_with) {
            let source = &factors[0].source;
            let elements = chain.row(source.buffer, self.row);
            for group in 0..conv.channels.source.div_ceil(planar.group) {
                self.lay_out(source, elements, group, sources);
                for factor in factors {
                    let Filters::Narrow(narrow) = factor.filters else {
                        unreachable!("filters for few target channels")
                    };
                    self.multiply(narrow, group, sources, &mut sums[factor.step * summed..][..summed]);
                }
            }
        }
        for (step, targets) in targets.iter_mut().enumerate() {
            targets.fill(0.0);
            let mut sums = &sums[step * summed..][..summed];
            for (phase, [lines, positions]) in conv.phases.iter().zip(of_phases) {
                let sums = sums.split_off(..self.sums(lines) * channels).expect("sums of every phase");
                self.spread(phase, (lines, positions), sums, targets);
            }
        }
    }

    /// Adds the products of a group of channels to the sums of all phases.
    fn multiply(&self, narrow: &Narrow, group: usize, sources: &[f32], mut sums: &mut [f32]) {
        let Part { conv, planar, .. } = self;
        let channels = conv.channels.target;
        for (phase, [lines, positions]) in self.of_phases.iter().enumerate() {
            let sums = sums.split_off_mut(..self.sums(lines) * channels).expect("sums of every phase");
            if sums.is_empty() {
                continue;
            }
            let offsets = &planar.offsets[phase];
            let length = offsets.len() * channels;
            let weights = &narrow.weights[phase][group * length..][..length];
            let first = lines.start as isize + planar.lowest - self.sources.start;
            let sources = &sources[first as usize * planar.line + positions.start - self.first..];
            let chain = chain_length(offsets.len(), narrow.chain, 1);
            multiply(Level::widest(), channels, Multiply { sources, offsets, weights, chain, sums });
        }
    }

    /// Lays out the sources of a group of channels.
    fn lay_out(&self, source: &Operand, elements: &[f32], group: usize, to: &mut [f32]) {
        let Part { conv, planar, .. } = self;
        let (channels, extents) = (conv.channels.source, conv.lattice.sources);
        let (first, [lines, positions]) = (group * planar.group, planar.strides);
        let channels_of = |plane: isize, line: isize| {
            let inside = |at: isize, extent: usize| usize::try_from(at).ok().filter(|at| *at < extent);
            let line = inside(plane, extents[0])? * extents[1] + inside(line, extents[1])?;
            Some(&elements[line * extents[2] * channels..][..extents[2] * channels])
        };
        let mut slabs = to.chunks_exact_mut(planar.slab());
        for &plane in &self.planes {
            for line in 0..lines {
                let of_lines = self.sources.clone().map(|at| channels_of(plane, at * lines as isize + line as isize));
                let of_lines: Vec<_> = of_lines.collect();
                for (remainder, to) in (0..positions).zip(&mut slabs) {
                    let count = planar.group.min(channels - first);
                    let (lines, at) = (&of_lines[..], self.first);
                    let work = LayOut { planar, lines, remainder, at, channels, first, count, to };
                    loops::through(source.activation, source.part, work);
                }
            }
        }
    }

    /// Copies the sums of a phase to its targets.
    fn spread(
        &self,
        phase: &Phase,
        (lines, positions): (&Range<usize>, &Range<usize>),
        sums: &[f32],
        targets: &mut [f32],
    ) {
        let [_, of_lines, of_positions] = phase.axes;
        let channels = self.conv.channels.target;
        if lines.is_empty() {
            return;
        }
        let position = of_positions.first + of_positions.step * positions.start - self.stretch.start;
        for (channel, sums) in sums.chunks_exact(self.sums(lines)).enumerate() {
            for (line, sums) in lines.clone().zip(sums.chunks(self.planar.line)) {
                let line = of_lines.first + of_lines.step * line - self.lines.start;
                let first = (line * self.stretch.len() + position) * channels + channel;
                let to = targets[first..].iter_mut().step_by(of_positions.step * channels);
                to.zip(&sums[..positions.len()]).for_each(|(to, sum)| *to = *sum);
            }
        }
    }
}

/// Adds the products of a group of channels to the sums of a phase.
struct Multiply<'a> {
    /// Sources as they are laid out; offsets are counted from the first.
    sources: &'a [f32],
    offsets: &'a [u32],
    /// `[offset][target channel]`.
    weights: &'a [f32],
    /// Offsets of a chain, but for the last.
    chain: usize,
    /// `[target channel][position]`, whole tiles of positions.
    sums: &'a mut [f32],
}

fn multiply(level: Level, channels: usize, work: Multiply<'_>) {
    match channels {
        1 => simd::run(level, Body::<1>(work)),
        2 => simd::run(level, Body::<2>(work)),
        3 => simd::run(level, Body::<3>(work)),
        4 => simd::run(level, Body::<4>(work)),
        5 => simd::run(level, Body::<5>(work)),
        6 => simd::run(level, Body::<6>(work)),
        7 => simd::run(level, Body::<7>(work)),
        _ => unreachable!("more channels fill panels"),
    }
}

struct Body<'a, const CHANNELS: usize>(Multiply<'a>);

impl<const CHANNELS: usize> Loop for Body<'_, CHANNELS> {
    #[inline(always)]
    fn run<const FUSED: bool, const LANES: usize>(self) {
        match const { tile(LANES, CHANNELS) } {
            4 => multiply_tiles::<FUSED, CHANNELS, 4>(self.0),
            8 => multiply_tiles::<FUSED, CHANNELS, 8>(self.0),
            12 => multiply_tiles::<FUSED, CHANNELS, 12>(self.0),
            16 => multiply_tiles::<FUSED, CHANNELS, 16>(self.0),
            20 => multiply_tiles::<FUSED, CHANNELS, 20>(self.0),
            24 => multiply_tiles::<FUSED, CHANNELS, 24>(self.0),
            32 => multiply_tiles::<FUSED, CHANNELS, 32>(self.0),
            40 => multiply_tiles::<FUSED, CHANNELS, 40>(self.0),
            48 => multiply_tiles::<FUSED, CHANNELS, 48>(self.0),
            64 => multiply_tiles::<FUSED, CHANNELS, 64>(self.0),
            96 => multiply_tiles::<FUSED, CHANNELS, 96>(self.0),
            112 => multiply_tiles::<FUSED, CHANNELS, 112>(self.0),
            128 => multiply_tiles::<FUSED, CHANNELS, 128>(self.0),
            _ => unreachable!("a tile is some registers of a level"),
        }
    }
}

#[inline(always)]
fn multiply_tiles<const FUSED: bool, const CHANNELS: usize, const TILE: usize>(work: Multiply<'_>) {
    let Multiply { sources, offsets, weights, chain, sums } = work;
    let weights = weights.as_chunks::<CHANNELS>().0;
    let length = sums.len() / CHANNELS;
    for first in (0..length).step_by(TILE) {
        for (offsets, weights) in offsets.chunks(chain).zip(weights.chunks(chain)) {
            let mut products = [[0.0; TILE]; CHANNELS];
            accumulate::<FUSED, CHANNELS, TILE>(&sources[first..], offsets, weights, &mut products);
            for (sums, products) in sums.chunks_exact_mut(length).zip(&products) {
                let sums: &mut [f32; TILE] = sums[first..].first_chunk_mut().expect("whole tiles");
                (0..TILE).for_each(|lane| sums[lane] += products[lane]);
            }
        }
    }
}

/// Adds the products of a chain to `sums`: a local copy, because only then does the compiler keep them in registers.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "only loops that count are written out")]
fn accumulate<const FUSED: bool, const CHANNELS: usize, const TILE: usize>(
    sources: &[f32],
    offsets: &[u32],
    weights: &[[f32; CHANNELS]],
    sums: &mut [[f32; TILE]; CHANNELS],
) {
    let mut local = *sums;
    for (&offset, weights) in offsets.iter().zip(weights) {
        let x: &[f32; TILE] = sources[offset as usize..].first_chunk().expect("sources end behind the last tile");
        for channel in 0..CHANNELS {
            let w = weights[channel];
            for lane in 0..TILE {
                let (x, sum) = (x[lane], local[channel][lane]);
                local[channel][lane] = if FUSED { w.mul_add(x, sum) } else { w * x + sum };
            }
        }
    }
    *sums = local;
}

#[cfg(test)]
mod tests {
    use super::super::numbers::number;
    use super::*;

    #[test]
    fn every_level_sums_the_same_chains_for_every_number_of_target_channels() {
        let (offsets, length): ([u32; 8], usize) = ([0, 1, 2, 40, 41, 42, 17, 3], 3);
        for (level, channels) in simd::levels().into_iter().flat_map(|level| (1..8).map(move |few| (level, few))) {
            let fused = level.lanes() > 4 || cfg!(target_arch = "aarch64");
            let positions = 2 * tile(level.lanes(), channels);
            let sources: Vec<f32> = (0..positions + 42).map(number).collect();
            let weights: Vec<f32> = (0..offsets.len() * channels).map(|index| number(index + 5)).collect();
            let mut sums: Vec<f32> = (0..channels * positions).map(|index| number(index + 9)).collect();
            let before = sums.clone();
            let work =
                Multiply { sources: &sources, offsets: &offsets, weights: &weights, chain: length, sums: &mut sums };
            multiply(level, channels, work);
            for (index, (sum, before)) in sums.iter().zip(before).enumerate() {
                let (channel, position) = (index / positions, index % positions);
                let term = |sum: f32, at: usize| {
                    let (w, x) = (weights[at * channels + channel], sources[position + offsets[at] as usize]);
                    if fused { w.mul_add(x, sum) } else { w * x + sum }
                };
                let chains = [0..3, 3..6, 6..8].map(|chain| chain.fold(0.0, term));
                assert_eq!(
                    *sum,
                    chains.iter().fold(before, |sum, chain| sum + chain),
                    "{level:?}, {channels}, {index}"
                );
            }
        }
    }
}
