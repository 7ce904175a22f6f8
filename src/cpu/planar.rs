//! Sources laid out channel by channel, for convolutions with few target channels.
//!
//! A group of channels at a time of what a part of the targets reads: a channel's positions line by line, with zeros between
//! lines for what windows cover beyond them. What a weight is multiplied with is then one run for all targets of a phase, which
//! begins where the first one's source lies.

use super::filters::{Channels, FEW, Phase};
use super::functions::{Function, WithFunction};
use super::gemm::LINE;
use super::lattice::Lattice;
use super::loops;
use super::simd::{self, Level, Loop};

/// Channels of a group, at most.
const GROUP: usize = 16;
/// So many floats stay in the second-level cache while a part of the targets reads them.
const NEAR: usize = 1 << 16;
/// Lines of targets that a part makes, at least and at most: parts of few lines lay most sources out twice.
const LINES: [usize; 2] = [8, 64];
/// Positions that a part makes where lines are fewer than that.
const STRETCH: usize = 512;
/// So many floats are not worth laying out: windows that reach far beyond their sources, or strides far longer than windows.
const FAR: usize = 1 << 22;

/// Channels of a group of several: groups are about alike.
pub(super) fn group(channels: usize) -> usize {
    channels.div_ceil(channels.div_ceil(GROUP).max(1)).max(1)
}

/// How the sources that a part of the step reads are laid out, and where each weight finds its own.
#[derive(Debug)]
pub(super) struct Planar {
    /// Lines of targets that a part of the step makes, at most; or positions of one line.
    pub(super) lines: usize,
    pub(super) stretch: usize,
    /// Planes of sources that a plane of targets reads, at most.
    planes: usize,
    /// Neighbouring targets read lines, and positions of a line, this far apart; each remainder has a slab of its own.
    pub(super) strides: [usize; 2],
    /// Channels of a group.
    pub(super) group: usize,
    /// Floats of a channel, of a line, and of what lies before the position that a target is at.
    channel: usize,
    pub(super) line: usize,
    before: usize,
    /// The lowest line that a window covers, counted from the target's among those that follow one another.
    pub(super) lowest: isize,
    /// For each phase and weight of a group, where the source lies that the first target reads, if `lowest` is the first line.
    pub(super) offsets: Vec<Vec<u32>>,
}

/// What an axis' taps read of sources whose positions leave each remainder by a stride: the remainder, and the place among
/// those of it, counted from the target's among its phase.
pub(super) fn reads(phase: &Phase, axis: usize, stride: usize) -> Vec<(usize, isize)> {
    let at = |tap| phase.axes[axis].start + phase.offset(axis, tap);
    let of_tap = |at: isize| (at.rem_euclid(stride as isize) as usize, at.div_euclid(stride as isize));
    (0..phase.axes[axis].taps).map(|tap| of_tap(at(tap))).collect()
}

impl Planar {
    /// None where there are too many target channels, one position, or more to lay out than pays.
    pub(super) fn new(channels: Channels, lattice: &Lattice, phases: &[Phase]) -> Option<Self> {
        let [outers, middles, inners] = lattice.targets;
        if channels.groups > 1 || channels.target >= FEW || lattice.kernel.iter().product::<usize>() == 1 {
            return None;
        }
        let group = group(channels.source);
        let greatest = |of: &dyn Fn(&Phase) -> usize| phases.iter().map(of).max().unwrap_or(1);
        let planes = greatest(&|phase| phase.axes[0].taps);
        // All phases move over sources alike: those of fine targets one by one, and coarse targets have one phase.
        let strides = [1, 2].map(|axis| greatest(&|phase| phase.axes[axis].stride));
        let places = |axis: usize| {
            let all = phases.iter().flat_map(move |phase| reads(phase, axis, strides[axis - 1]));
            all.map(|(_, place)| place)
        };
        let (lowest, highest) = (places(1).min().unwrap_or(0), places(1).max().unwrap_or(0));
        let before = places(2).min().unwrap_or(0).min(0).unsigned_abs();
        let behind = places(2).max().unwrap_or(0);

        // Phases of a part begin with targets that are one apart at most.
        let of_phase = |axis: usize, count: usize| count.div_ceil(greatest(&|phase| phase.axes[axis].step)) + 1;
        let stretch = if outers * middles < LINES[0] { inners.min(STRETCH) } else { inners };
        let line = if stretch < inners {
            before + (of_phase(2, stretch) as isize + behind.max(0)) as usize
        } else {
            let positions = lattice.sources[2].div_ceil(strides[1]);
            let targets = greatest(&|phase| phase.axes[2].count);
            let end = targets.saturating_add_signed(behind);
            // The zeros behind a line are those before the next.
            (positions + before.max(end.saturating_sub(positions))).max(targets)
        };

        let reach = (highest - lowest) as usize;
        let span = |lines: usize| of_phase(1, lines) + reach;
        // An odd number of cache lines, so that channels do not compete for a few of a first-level cache.
        let channel = |lines: usize| ((span(lines) * line + before).div_ceil(LINE) | 1) * LINE;
        let slabs = planes * strides[0] * strides[1];
        let floats = |lines: usize| slabs.saturating_mul(group * channel(lines));
        let [least, most] = LINES;
        let least = least.max(reach).min(middles);
        let lines = (least..=most.min(middles)).rev().find(|&lines| floats(lines) <= NEAR).unwrap_or(least);
        let lines = if stretch < inners { 1 } else { lines };
        if floats(lines) > FAR {
            return None;
        }
        let (channel, offsets) = (channel(lines), Vec::new());
        let planar = Planar { lines, stretch, planes, strides, group, channel, line, before, lowest, offsets };
        let offsets = phases.iter().map(|phase| planar.offsets_of(phase)).collect();
        Some(Planar { offsets, ..planar })
    }

    /// For each weight of a group, where its source lies.
    fn offsets_of(&self, phase: &Phase) -> Vec<u32> {
        let [of_lines, of_positions] = [1, 2].map(|axis| reads(phase, axis, self.strides[axis - 1]));
        let mut offsets = Vec::new();
        for (plane, &(of_line, line)) in
            (0..phase.axes[0].taps).flat_map(|plane| of_lines.iter().map(move |at| (plane, at)))
        {
            let begin = (line - self.lowest) as usize * self.line + self.before;
            for channel in 0..self.group {
                offsets.extend(of_positions.iter().map(|&(of_position, position)| {
                    let slab = (plane * self.strides[0] + of_line) * self.strides[1] + of_position;
                    let first = (slab * self.group + channel) * self.channel + begin;
                    u32::try_from(first as isize + position).expect("a group's sources are few")
                }));
            }
        }
        offsets
    }

    /// Floats of the lines and positions of a remainder each.
    pub(super) fn slab(&self) -> usize {
        self.group * self.channel
    }

    /// Floats of all that a part reads: tiles of positions may end behind the last.
    pub(super) fn floats(&self, tile: usize) -> usize {
        let [lines, positions] = self.strides;
        self.planes * lines * positions * self.slab() + self.line + tile
    }
}

/// Lays out a group of channels of some lines of sources, read through a function.
pub(super) struct LayOut<'a> {
    pub(super) planar: &'a Planar,
    /// The lines, `[position][channel]` each; none where it lies outside.
    pub(super) lines: &'a [Option<&'a [f32]>],
    /// Which positions: those of a remainder, and where among them the first target of its phase is.
    pub(super) remainder: usize,
    pub(super) at: usize,
    pub(super) channels: usize,
    /// The first channel of the group, and how many it has.
    pub(super) first: usize,
    pub(super) count: usize,
    pub(super) to: &'a mut [f32],
}

impl WithFunction for LayOut<'_> {
    fn run(self, f: impl Function) {
        struct Body<'a, F>(LayOut<'a>, F);
        impl<F: Function> Loop for Body<'_, F> {
            #[inline(always)]
            fn run<const FUSED: bool, const LANES: usize>(self) {
                /// Positions whose channels are laid out at a time.
                const BLOCK: usize = 8;
                let Body(LayOut { planar, lines, remainder, at: first_target, channels, first, count, to }, f) = self;
                let Planar { channel: length, line: pitch, before, strides: [_, stride], .. } = *planar;
                // What lies before the first target is read from there on, or is zeros.
                let (skipped, zeros) = (first_target.saturating_sub(before), before.saturating_sub(first_target));
                for (line, from) in lines.iter().enumerate() {
                    let begin = line * pitch;
                    let from = from.and_then(|from| from.get((remainder + skipped * stride) * channels..));
                    let mut of_line = from.unwrap_or_default().chunks_exact(channels).step_by(stride);
                    let mut at = begin + zeros;
                    let end = at + of_line.len().min(pitch - zeros);
                    for to in to.chunks_exact_mut(length) {
                        to[begin..at].fill(0.0);
                        to[end..begin + pitch].fill(0.0);
                    }
                    while count == GROUP && at + BLOCK <= end {
                        let mut block = [[0.0; GROUP]; BLOCK];
                        for (block, channels) in block.iter_mut().zip(&mut of_line) {
                            *block = f.of_all(*channels[first..].first_chunk().expect("channels of a whole group"));
                        }
                        let mut apart = [[0.0; BLOCK]; GROUP];
                        for channel in 0..GROUP {
                            for position in 0..BLOCK {
                                apart[channel][position] = block[position][channel];
                            }
                        }
                        for (to, apart) in to.chunks_exact_mut(length).zip(&apart) {
                            *to[at..].first_chunk_mut().expect("positions of a line") = *apart;
                        }
                        at += BLOCK;
                    }
                    for (at, channels) in (at..end).zip(of_line) {
                        let mut x = [0.0; GROUP];
                        loops::each(f, &channels[first..][..count], &mut x[..count], |_, _, x| x);
                        to.chunks_exact_mut(length).zip(&x[..count]).for_each(|(to, &x)| to[at] = x);
                    }
                }
                // What windows cover behind the last line, and channels that the last group lacks.
                to.chunks_exact_mut(length).for_each(|to| to[lines.len() * pitch..][..before].fill(0.0));
                to[count * length..].fill(0.0);
            }
        }
        simd::run(Level::widest(), Body(self, f));
    }
}
