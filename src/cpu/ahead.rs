//! What is brought closer while products are made.
//!
//! Tiles, and products of groups, compute on what lies in the caches, and then their step reads from memory: the next panel of a weight too
//! large for the caches, what its chains read beside the targets, the sources of the targets to come. Asked for a line at a time between
//! multiply-adds, that is there by then, and memory does not rest while the product is made nor the product while memory is read.

use std::ops::Range;

use super::chain::{self, Chain};
use super::gemm::LINE;
use super::simd::{self, Level};
use crate::plan::BufferId;

/// So many floats find room in a second-level cache of 1 MB beside what products read and make.
const ROOM: usize = 1 << 17;

/// How much is brought closer. Most machines with 16 lanes have 1 MB and more; the one with 8 on which it was tried has half of that, and
/// gained nothing (benches/README.md).
fn room() -> usize {
    if Level::widest().lanes() < 16 { 0 } else { ROOM }
}

/// What the parts of some steps read once their products are made: all of it, of which each part takes its own.
#[derive(Debug, Default)]
pub(super) struct Coming<'a> {
    /// What the chains read, which lies as the targets do.
    beside: Vec<&'a [f32]>,
    /// What the next part's products read.
    sources: Vec<&'a [f32]>,
    /// How many panels a part's products go through.
    panels: usize,
}

impl<'a> Coming<'a> {
    /// `sources`: the buffers whose elements the parts' products read in the order of their targets.
    pub(super) fn new(chains: &'a [Chain<'a>], sources: impl IntoIterator<Item = BufferId>, panels: usize) -> Self {
        Coming::behind(chains, sources, panels, &[])
    }

    /// The same where steps before them make buffers `made` part by part, which are in no memory.
    pub(super) fn behind(
        chains: &'a [Chain<'a>],
        sources: impl IntoIterator<Item = BufferId>,
        panels: usize,
        made: &[BufferId],
    ) -> Self {
        if room() == 0 {
            return Coming::default();
        }
        let memory = chains[0].memory;
        let mut buffers: Vec<BufferId> = sources.into_iter().filter(|buffer| !made.contains(buffer)).collect();
        buffers.dedup();
        let sources = buffers.into_iter().map(|buffer| memory.read(buffer)).collect();
        Coming { beside: chain::read_beside(chains, made), sources, panels }
    }

    /// What a part reads of it: elements `beside` the targets, and elements `of_next` of the sources, as far as there are any.
    pub(super) fn soon(&self, beside: Range<usize>, of_next: Range<usize>) -> Soon<'a> {
        let within = |run: &&'a [f32]| &run[of_next.start.min(run.len())..of_next.end.min(run.len())];
        let beside = self.beside.iter().map(|run| &run[beside.clone()]);
        Soon::within(room(), beside.chain(self.sources.iter().map(within)), self.panels)
    }

    /// What stands beside elements `beside` of the targets, and other runs, brought in so many shares.
    pub(super) fn trickle<'r>(
        &'r self,
        beside: Range<usize>,
        others: impl Iterator<Item = &'r [f32]>,
        shares: usize,
    ) -> Trickle<'r> {
        let beside = self.beside.iter().map(|run| &run[beside.clone()]);
        let Soon { runs, .. } = Soon::within(room(), beside.chain(others), 1);
        let of_runs = |run: &&[f32]| run.len().div_ceil(LINE);
        Trickle { lines: runs.iter().map(of_runs).sum::<usize>().div_ceil(shares.max(1)), runs }
    }
}

/// Runs of elements that are read soon, which work other than products of panels brings closer a little at a time.
#[derive(Debug, Default)]
pub(super) struct Trickle<'a> {
    /// The last is the first to be brought.
    runs: Vec<&'a [f32]>,
    /// Cache lines that come at a time.
    lines: usize,
}

impl Trickle<'_> {
    /// Brings a share: as many in all as were agreed upon, and one for each run that ends within one, bring everything.
    #[inline(always)]
    pub(super) fn bring(&mut self) {
        let Some(run) = self.runs.last_mut() else { return };
        (0..self.lines).for_each(|line| simd::prefetch_row::<LINE>(run, line * LINE));
        *run = run.get(self.lines * LINE..).unwrap_or_default();
        if run.is_empty() {
            self.runs.pop();
        }
    }
}

/// Rows that are brought closer, each as long as a panel's.
#[derive(Debug, Default)]
pub(super) struct Ahead<'a> {
    pub(super) elements: &'a [f32],
    /// Elements from row to row.
    pub(super) apart: usize,
    pub(super) rows: Range<usize>,
}

/// Runs of elements that are read soon; every panel's tiles bring a share of them closer.
#[derive(Debug, Default)]
pub(super) struct Soon<'a> {
    /// The last is the first to be brought.
    runs: Vec<&'a [f32]>,
    /// How many panels are still to come.
    panels: usize,
}

impl<'a> Soon<'a> {
    /// The first `room` elements of runs, which are read once the products of so many panels are made.
    pub(super) fn within(mut room: usize, runs: impl IntoIterator<Item = &'a [f32]>, panels: usize) -> Self {
        let within = |run: &'a [f32]| {
            let run = &run[..run.len().min(room)];
            room -= run.len();
            run
        };
        let mut runs: Vec<_> = runs.into_iter().map(within).filter(|run| !run.is_empty()).collect();
        runs.reverse();
        Soon { runs, panels }
    }

    /// What so many tiles of the next panel bring, which has rows of `width` elements: rows of the panel that follows, then of the runs.
    pub(super) fn share<'s>(&'s mut self, next: Ahead<'s>, width: usize, tiles: usize) -> Share<'s, 'a> {
        let left: usize = self.runs.iter().map(|run| run.len()).sum();
        let share = left.div_ceil(self.panels.max(1));
        self.panels = self.panels.saturating_sub(1);
        // A tile brings rows of one run.
        let (mut pieces, mut rest) = (usize::from(!next.rows.is_empty()), share);
        for run in self.runs.iter().rev() {
            pieces += usize::from(rest > 0);
            rest = rest.saturating_sub(run.len());
        }
        let of_tile = (next.rows.len() + share.div_ceil(width)).div_ceil((tiles + 1).saturating_sub(pieces).max(1));
        Share { next, runs: &mut self.runs, left: share, width, of_tile, brought: &[] }
    }
}

/// What the tiles of a panel bring closer, one after another.
#[derive(Debug)]
pub(super) struct Share<'s, 'a> {
    /// What is left of the panel that follows.
    next: Ahead<'s>,
    runs: &'s mut Vec<&'a [f32]>,
    /// Elements of the runs that are left to bring, in rows of `width`.
    left: usize,
    width: usize,
    /// Rows that a tile brings, at most.
    of_tile: usize,
    /// What the last tile brought: one that has nothing to bring asks for its first element again.
    brought: &'s [f32],
}

impl<'s> Share<'s, '_> {
    pub(super) fn is_empty(&self) -> bool {
        self.next.rows.is_empty() && (self.left == 0 || self.runs.is_empty())
    }

    /// What the next tile brings, which has so many steps.
    pub(super) fn of_tile(&mut self, steps: usize) -> Next<'s> {
        let most = self.of_tile.min(steps).max(1);
        let (elements, apart, rows) = if !self.next.rows.is_empty() {
            let Ahead { elements, apart, ref mut rows } = self.next;
            let first = rows.start;
            rows.start = rows.end.min(first + most);
            (elements, apart, first..rows.start)
        } else if self.left > 0
            && let Some(run) = self.runs.last_mut()
        {
            let rows = most.min(self.left.min(run.len()).div_ceil(self.width));
            let elements = run.split_off(..run.len().min(rows * self.width)).expect("a part of the run");
            if run.is_empty() {
                self.runs.pop();
            }
            self.left = self.left.saturating_sub(elements.len());
            (elements, self.width, 0..rows)
        } else {
            (self.brought, 0, 0..1)
        };
        self.brought = elements;
        Next { elements, apart, first: rows.start, spread: (steps / rows.len()).max(1).ilog2() }
    }
}

/// What a tile brings closer: a row every 2^`spread` steps, from `first` on.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Next<'a> {
    elements: &'a [f32],
    /// Elements from row to row.
    apart: usize,
    first: usize,
    spread: u32,
}

impl Next<'_> {
    /// What is left of it after some steps.
    #[inline(always)]
    pub(super) fn after(self, steps: usize) -> Self {
        Next { first: self.first + (steps >> self.spread), ..self }
    }

    /// The rows that come with some steps.
    #[inline(always)]
    pub(super) fn rows(&self, steps: Range<usize>) -> Range<usize> {
        steps.start >> self.spread..steps.end.div_ceil(1 << self.spread)
    }

    /// Brings a row closer, of which `COLUMNS` elements are read.
    #[inline(always)]
    pub(super) fn prefetch<const COLUMNS: usize>(&self, row: usize) {
        simd::prefetch_row::<COLUMNS>(self.elements, (self.first + row) * self.apart);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of the elements some tiles bring that have so many steps.
    fn bring(share: &mut Share<'_, '_>, (tiles, steps): (usize, usize), elements: &[f32], is_brought: &mut [bool]) {
        for _ in 0..tiles {
            let next = share.of_tile(steps);
            let first = (next.elements.as_ptr() as usize - elements.as_ptr() as usize) / size_of::<f32>();
            for row in next.rows(0..steps) {
                let from = first + (next.first + row) * next.apart;
                is_brought[from.min(elements.len())..(from + share.width).min(elements.len())].fill(true);
            }
        }
    }

    #[test]
    fn tiles_of_all_panels_together_bring_every_element_that_there_is_room_for() {
        let elements: Vec<f32> = vec![0.0; 2 * ROOM];
        for (runs, panels, width, tiles, steps) in [
            (vec![0..9000, 9000..9100, 20_000..27_000], 8, 32, 7, 64),
            (vec![5..1029, 2000..2001], 3, 16, 2, 512),
            (vec![0..100, 200..300, 400..500, 600..700], 1, 16, 7, 40),
            // What one panel's tiles have no time for the next panel's bring.
            (vec![0..100, 200..300, 400..500], 4, 16, 1, 40),
            (vec![0..ROOM - 7, ROOM..ROOM + 100], 64, 32, 7, 147),
        ] {
            let mut soon = Soon::within(ROOM, runs.iter().map(|run| &elements[run.clone()]), panels);
            let mut is_brought = vec![false; elements.len()];
            for _ in 0..panels {
                bring(&mut soon.share(Ahead::default(), width, tiles), (tiles, steps), &elements, &mut is_brought);
            }
            let mut room = ROOM;
            for run in runs {
                let length = run.len().min(room);
                room -= length;
                assert!(is_brought[run.start..run.start + length].iter().all(|is| *is), "{run:?}");
            }
            assert!(soon.share(Ahead::default(), width, tiles).is_empty(), "nothing is left");
        }
    }

    #[test]
    fn as_many_shares_as_were_agreed_upon_bring_everything() {
        let elements: Vec<f32> = vec![0.0; 3000];
        for (runs, shares) in
            [(vec![0..1000, 1000..1010, 1500..3000], 7), (vec![5..40, 50..60], 100), (vec![16..2016, 2020..2021], 1)]
        {
            let of_runs: Vec<&[f32]> = runs.iter().rev().map(|run| &elements[run.clone()]).collect();
            let lines: usize = runs.iter().map(|run| run.len().div_ceil(LINE)).sum();
            let mut trickle = Trickle { runs: of_runs, lines: lines.div_ceil(shares) };
            let left = |trickle: &Trickle<'_>| trickle.runs.iter().map(|run| run.len()).sum::<usize>();
            let mut before = left(&trickle);
            // A run ends within a share, whose rest the next run does not get.
            for _ in 0..shares + runs.len() {
                trickle.bring();
                assert!(left(&trickle) < before || before == 0, "each brings some");
                before = left(&trickle);
            }
            assert_eq!(before, 0, "{runs:?}, {shares} shares");
        }
    }

    #[test]
    fn the_panel_that_follows_comes_before_the_share_of_the_runs() {
        let elements: Vec<f32> = vec![0.0; 1000];
        let mut soon = Soon::within(ROOM, [&elements[500..600]], 2);
        let mut is_brought = vec![false; elements.len()];
        let mut share = soon.share(Ahead { elements: &elements, apart: 32, rows: 1..4 }, 16, 2);
        bring(&mut share, (1, 8), &elements, &mut is_brought);
        assert!(is_brought[32..48].iter().chain(&is_brought[96..112]).all(|is| *is), "the panel by the first tile");
        assert!(!is_brought[500]);
        bring(&mut share, (1, 8), &elements, &mut is_brought);
        assert!(is_brought[500..550].iter().all(|is| *is), "half the run by the second");
        assert!(share.is_empty() && !is_brought[599]);
        // Another tile has nothing to bring, and asks for what is there.
        let next = share.of_tile(8);
        assert_eq!((next.elements.as_ptr(), next.apart), (elements[500..].as_ptr(), 0));
    }
}
