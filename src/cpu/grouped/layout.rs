//! How much of a convolution of groups is laid out and made at a time.

use std::ops::Range;

use super::super::filters::{Channels, Phase};
use super::super::gemm::LINE;
use super::super::lattice::{Lattice, among};

/// So many floats stay in the second-level cache while a line of targets reads them.
const NEAR: usize = 1 << 16;
/// So many are not worth laying out.
const FAR: usize = 1 << 22;
/// Fewer lines than these are cut into stretches of positions.
const FEW_LINES: usize = 8;
const STRETCH: usize = 512;
/// Target channels that are worth a pass over the lines of sources.
const ENOUGH: usize = 32;
/// Lines of targets that a part makes, at most.
const MOST_LINES: usize = 64;

/// How much of a convolution is laid out at a time.
#[derive(Debug)]
pub(in crate::cpu) struct Layout {
    /// Lines of targets that a part of the step makes, at most; or positions of one line.
    pub(in crate::cpu) lines: usize,
    pub(in crate::cpu) stretch: usize,
    /// Target channels that are made in one pass over lines of sources: whole groups, and whole lines of a register's.
    pub(super) slice: usize,
    /// Planes of sources, and lines of each.
    pub(super) held: [Held; 2],
}

/// What is held along an axis of the sources: as much as one target reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) count: usize,
    /// How far apart the sources of a target lie.
    apart: usize,
}

impl Held {
    fn new(lattice: &Lattice, axis: usize) -> Self {
        let (mut span, mut apart) = (0, 0);
        for target in 0..lattice.targets[axis] {
            let sources = lattice.taps(axis, target).iter().map(|(source, _)| *source);
            let Some((first, last)) = sources.clone().min().zip(sources.clone().max()) else { continue };
            span = span.max(last - first);
            apart = sources.fold(apart, |apart, source| greatest_divisor(apart, source - first));
        }
        let apart = apart.max(1);
        Held { count: span / apart + 1, apart }
    }

    /// Where a source is held: those of one target lie in different places.
    pub(super) fn place(self, source: usize) -> usize {
        source / self.apart % self.count
    }
}

fn greatest_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_divisor(b, a % b) }
}

impl Layout {
    /// None where more would be laid out than pays: windows that reach far beyond their sources.
    pub(in crate::cpu) fn new(channels: Channels, lattice: &Lattice, phases: &[Phase]) -> Option<Self> {
        let held = [0, 1].map(|axis| Held::new(lattice, axis));
        let [outers, middles, inners] = lattice.targets;
        let floats = |slice: usize, stretch: usize| {
            let of_line = laid_out(phases, &(0..stretch)).len().saturating_mul(apart(channels, slice) * LINE);
            of_line.saturating_mul(held[0].count * held[1].count)
        };
        let mut whole = LINE;
        while !whole.is_multiple_of(channels.target_group()) {
            whole += LINE;
        }
        let of_groups = |count: usize| count.next_multiple_of(whole).min(channels.target);
        let least = of_groups(ENOUGH);
        // Few lines are cut, so that threads share them.
        let mut stretch = if outers * middles < FEW_LINES { inners.min(STRETCH) } else { inners };
        while stretch > ENOUGH && floats(least, stretch) > 4 * NEAR {
            stretch = stretch.div_ceil(2);
        }
        if floats(least, stretch) > FAR {
            return None;
        }
        let slices = (1..=channels.target.div_ceil(least)).map(|passes| of_groups(channels.target.div_ceil(passes)));
        let slice = slices.into_iter().find(|slice| floats(*slice, stretch) <= NEAR).unwrap_or(least);
        // Each part lays out anew what its first line reads.
        let lines = (NEAR / (inners * channels.target)).max(2 * held[1].count).min(MOST_LINES).min(outers * middles);
        Some(Layout { lines: if stretch < inners { 1 } else { lines }, stretch, slice, held })
    }
}

/// Lines from one laid-out position to the next, for some target channels: an odd number, so that positions do not compete for a few of a
/// first-level cache.
pub(super) fn apart(channels: Channels, slice: usize) -> usize {
    (channels.source_group() * slice.div_ceil(LINE)) | 1
}

/// The positions of a line of sources, some outside, that a stretch of targets reads.
pub(super) fn laid_out(phases: &[Phase], stretch: &Range<usize>) -> Range<isize> {
    let reads = phases.iter().filter_map(|phase| {
        let reach = phase.axes[2];
        let targets = among(reach, stretch);
        let last = reach.taps.checked_sub(1).filter(|_| !targets.is_empty())?;
        let [first, end] = [targets.start, targets.end - 1].map(|at| (reach.stride * at) as isize + reach.start);
        let reach = reach.spread * last as isize;
        Some(first + reach.min(0)..end + reach.max(0) + 1)
    });
    reads.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0)
}
