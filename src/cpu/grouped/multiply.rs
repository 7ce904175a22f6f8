//! The products of a line of targets of [groups](super): positions side by side, a lane for each target channel.

use std::ops::Range;

use super::super::ahead::Trickle;
use super::super::gemm::LINE;
use super::super::simd::Loop;
use super::Grouped;

/// Makes positions of a line of targets whose windows cover the same, each some positions farther behind.
pub(super) struct Multiply<'a, 't> {
    pub(super) laid: &'a [[f32; LINE]],
    /// Lines from what one target reads to what the next does.
    pub(super) apart: usize,
    /// Where the first target finds its sources, and each one's weights.
    pub(super) taps: &'a [(usize, usize)],
    pub(super) weight: &'a Grouped,
    /// Positions, and target channels of each.
    pub(super) count: usize,
    pub(super) channels: usize,
    pub(super) targets: &'a mut [f32],
    pub(super) targets_apart: usize,
    /// What comes closer with each line of channels of a position, once.
    pub(super) trickle: &'a mut Trickle<'t>,
}

impl Loop for Multiply<'_, '_> {
    #[inline(always)]
    fn run<const FUSED: bool, const LANES: usize>(self) {
        match LANES {
            16 => self.over::<FUSED, 4, 1>(),
            8 => self.over::<FUSED, 4, 0>(),
            _ => self.over::<FUSED, 2, 0>(),
        }
    }
}

impl Multiply<'_, '_> {
    /// `MANY` positions of a line of channels, and of the line `NEXT` to it, fill registers.
    #[inline(always)]
    fn over<const FUSED: bool, const MANY: usize, const NEXT: usize>(mut self) {
        /// Lines of weights that stay in the first-level cache while positions pass by.
        const WEIGHTS: usize = 256;
        let lines = self.channels.div_ceil(LINE);
        let few = (WEIGHTS / self.taps.len().max(1)).next_multiple_of(NEXT + 1).max(NEXT + 1);
        for first in (0..lines).step_by(few) {
            let (lines, count) = (first..lines.min(first + few), self.count);
            if count < MANY {
                (0..count).for_each(|at| self.positions::<FUSED, 1, NEXT>(at, lines.clone()));
            } else {
                // The last ones overlap those before them.
                let firsts = (0..count).step_by(MANY).map(|at| at.min(count - MANY));
                firsts.for_each(|at| self.positions::<FUSED, MANY, NEXT>(at, lines.clone()));
            }
        }
    }

    /// Some lines of channels of `POSITIONS` positions.
    #[inline(always)]
    fn positions<const FUSED: bool, const POSITIONS: usize, const NEXT: usize>(
        &mut self,
        at: usize,
        mut lines: Range<usize>,
    ) {
        while NEXT > 0 && lines.len() > NEXT {
            let [sums, next] = self.block::<FUSED, POSITIONS, NEXT>(at, lines.start);
            self.store(at, lines.start, &sums);
            self.store(at, lines.start + NEXT, &next);
            lines.start += 1 + NEXT;
        }
        for line in lines {
            let [sums, _] = self.block::<FUSED, POSITIONS, 0>(at, line);
            self.store(at, line, &sums);
        }
    }

    /// A line of channels of `POSITIONS` positions, and the line `NEXT` to it.
    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "only loops that count are written out")]
    fn block<const FUSED: bool, const POSITIONS: usize, const NEXT: usize>(
        &self,
        at: usize,
        line: usize,
    ) -> [[[f32; LINE]; POSITIONS]; 2] {
        // What every position reads, all as long, so that one look at a place is enough.
        let laid = &self.laid[at * self.apart + line..];
        let length = laid.len() - ((POSITIONS - 1) * self.apart + NEXT);
        let mut reads = [&laid[..length]; POSITIONS];
        let mut reads_next = [&laid[..length]; POSITIONS];
        for position in 0..POSITIONS {
            reads[position] = &laid[position * self.apart..][..length];
            reads_next[position] = &laid[position * self.apart + NEXT..][..length];
        }
        let weights = &self.weight.elements[line..];
        let (weights, next) = (&weights[..weights.len() - NEXT], &weights[NEXT..]);
        let mut sums = [[[0.0; LINE]; POSITIONS]; 2];
        for (chain, taps) in self.taps.chunks(self.weight.chain).enumerate() {
            let (mut first, mut second) = ([[0.0; LINE]; POSITIONS], [[0.0; LINE]; POSITIONS]);
            for &(place, weight) in taps {
                let w = &weights[weight];
                for position in 0..POSITIONS {
                    add::<FUSED>(&mut first[position], &reads[position][place], w);
                }
                if NEXT > 0 {
                    let w = &next[weight];
                    for position in 0..POSITIONS {
                        add::<FUSED>(&mut second[position], &reads_next[position][place], w);
                    }
                }
            }
            if chain == 0 {
                sums = [first, second];
            } else {
                for position in 0..POSITIONS {
                    add::<false>(&mut sums[0][position], &first[position], &[1.0; LINE]);
                    add::<false>(&mut sums[1][position], &second[position], &[1.0; LINE]);
                }
            }
        }
        sums
    }

    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "only loops that count are written out")]
    fn store<const POSITIONS: usize>(&mut self, at: usize, line: usize, sums: &[[f32; LINE]; POSITIONS]) {
        let channel = line * LINE;
        let count = LINE.min(self.channels - channel);
        let targets = &mut self.targets[at * self.targets_apart + channel..];
        if count == LINE {
            for position in 0..POSITIONS {
                let to = &mut targets[position * self.targets_apart..];
                self.trickle.bring();
                *to.first_chunk_mut().expect("a target of so many channels") = sums[position];
            }
        } else {
            for position in 0..POSITIONS {
                let sums = sums[position];
                targets[position * self.targets_apart..][..count].copy_from_slice(&sums[..count]);
            }
        }
    }
}

/// sums ← sums + x w.
#[inline(always)]
fn add<const FUSED: bool>(sums: &mut [f32; LINE], x: &[f32; LINE], w: &[f32; LINE]) {
    for lane in 0..LINE {
        sums[lane] = if FUSED { x[lane].mul_add(w[lane], sums[lane]) } else { x[lane] * w[lane] + sums[lane] };
    }
}
