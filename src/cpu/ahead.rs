//! What is brought closer while products are made.
//!
//! Tiles compute on what lies in the caches, and then their step reads from memory: the next panel of a weight too large for the caches, what
//! its chains read beside the targets, the sources of the targets to come. Asked for a line at a time between multiply-adds, that is there by
//! then, and memory does not rest while the product is made nor the product while memory is read.

use std::ops::Range;

use super::simd::{self, Level};

/// So many floats find room in the second-level cache beside what products read and make: of 1 MB or more, as machines with 16 lanes have it. Those
/// with 8 have half of that and less, and gain nothing (benches/README.md).
fn room() -> usize {
    if Level::widest().lanes() < 16 { 0 } else { ROOM }
}

const ROOM: usize = 1 << 17;

/// Rows that are brought closer, each as long as a panel's.
#[derive(Debug, Clone, Default)]
pub(super) struct Ahead<'a> {
    pub(super) elements: &'a [f32],
    /// Elements from row to row.
    pub(super) apart: usize,
    pub(super) rows: Range<usize>,
}

/// What is read soon after some products are made, or while the next are: runs of elements, of which every panel brings a share.
#[derive(Debug, Default)]
pub(super) struct Soon<'a> {
    runs: Vec<&'a [f32]>,
    /// How many panels are still to come.
    panels: usize,
}

impl<'a> Soon<'a> {
    /// `panels`: how many panels' products are made until then.
    pub(super) fn new(runs: impl IntoIterator<Item = &'a [f32]>, panels: usize) -> Self {
        Soon::within(room(), runs, panels)
    }

    /// The first `room` elements of the runs.
    fn within(mut room: usize, runs: impl IntoIterator<Item = &'a [f32]>, panels: usize) -> Self {
        let within = |run: &'a [f32]| {
            let run = &run[..run.len().min(room)];
            room -= run.len();
            run
        };
        let mut runs: Vec<_> = runs.into_iter().map(within).filter(|run| !run.is_empty()).collect();
        runs.reverse();
        Soon { runs, panels }
    }

    /// The next panel's share, in rows of `width` elements.
    pub(super) fn share(&mut self, width: usize, mut take: impl FnMut(Ahead<'a>)) {
        let left: usize = self.runs.iter().map(|run| run.len()).sum();
        let mut share = left.div_ceil(self.panels.max(1)).next_multiple_of(width);
        self.panels = self.panels.saturating_sub(1);
        while share > 0
            && let Some(run) = self.runs.last_mut()
        {
            let elements = run.split_off(..share.min(run.len())).expect("a part of the run");
            share -= elements.len();
            if run.is_empty() {
                self.runs.pop();
            }
            take(Ahead { elements, apart: width, rows: 0..elements.len().div_ceil(width) });
        }
    }
}

/// What the tiles of a panel bring closer, one after another.
#[derive(Debug, Default)]
pub(super) struct Queue<'a> {
    /// The last is the first to be brought.
    all: Vec<Ahead<'a>>,
    /// Rows that a tile brings, at most.
    of_tile: usize,
    /// What the last tile brought: one that has nothing to bring asks for its first element again.
    brought: &'a [f32],
}

impl<'a> Queue<'a> {
    pub(super) fn new(mut all: Vec<Ahead<'a>>) -> Self {
        all.retain(|ahead| !ahead.rows.is_empty());
        all.reverse();
        Queue { all, ..Queue::default() }
    }

    /// Shares the rows out to so many tiles. A tile brings rows of one run.
    pub(super) fn share_out(&mut self, tiles: usize) {
        let rows: usize = self.all.iter().map(|ahead| ahead.rows.len()).sum();
        self.of_tile = rows.div_ceil((tiles + 1).saturating_sub(self.all.len()).max(1));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// What the next tile brings, which has so many steps.
    pub(super) fn next(&mut self, steps: usize) -> Next<'a> {
        let Some(Ahead { elements, apart, rows }) = self.all.last_mut() else {
            return Next { elements: self.brought, apart: 0, first: 0, spread: 0 };
        };
        let count = rows.len().min(self.of_tile).min(steps).max(1);
        let next = Next { elements, apart: *apart, first: rows.start, spread: (steps / count).max(1).ilog2() };
        self.brought = elements;
        rows.start += count;
        if rows.start == rows.end {
            self.all.pop();
        }
        next
    }
}

/// What a tile brings closer: a row every 2^`spread` steps, from `first` on.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Next<'a> {
    pub(super) elements: &'a [f32],
    /// Elements from row to row.
    pub(super) apart: usize,
    pub(super) first: usize,
    pub(super) spread: u32,
}

impl Next<'_> {
    /// What is left of it after some steps.
    #[inline(always)]
    pub(super) fn after(self, steps: usize) -> Self {
        Next { first: self.first + (steps >> self.spread), ..self }
    }

    /// Brings the row of a step closer, of which `COLUMNS` elements are read.
    #[inline(always)]
    pub(super) fn prefetch<const COLUMNS: usize>(&self, row: usize) {
        simd::prefetch_row::<COLUMNS>(self.elements, (self.first + row) * self.apart);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_of_all_panels_together_bring_every_element_that_there_is_room_for() {
        let elements: Vec<f32> = vec![0.0; 2 * ROOM];
        let run = |elements: Range<usize>| (elements.start, elements.len());
        for (runs, panels, width, tiles, steps) in [
            (vec![run(0..9000), run(9000..9100), run(20_000..27_000)], 8, 32, 7, 64),
            (vec![run(5..1029)], 3, 16, 1, 512),
            (vec![run(0..100), run(200..300), run(400..500), run(600..700)], 1, 16, 7, 40),
            (vec![run(0..ROOM - 7), run(ROOM..ROOM + 100)], 64, 32, 7, 147),
        ] {
            let of = |&(start, length): &(usize, usize)| &elements[start..start + length];
            let mut soon = Soon::within(ROOM, runs.iter().map(of), panels);
            let mut is_brought = vec![false; elements.len()];
            for _ in 0..panels {
                let mut shares = Vec::new();
                soon.share(width, |share| shares.push(share));
                let mut queue = Queue::new(shares);
                queue.share_out(tiles);
                for _ in 0..tiles {
                    let next = queue.next(steps);
                    let first = next.elements.as_ptr() as usize - elements.as_ptr() as usize;
                    for row in (0..steps).map(|step| next.first + (step >> next.spread)) {
                        let from = first / size_of::<f32>() + row * next.apart;
                        is_brought[from..(from + width).min(elements.len())].fill(true);
                    }
                }
                assert!(queue.is_empty(), "{runs:?}");
            }
            let mut room = ROOM;
            for (start, length) in runs {
                let length = length.min(room);
                room -= length;
                assert!(is_brought[start..start + length].iter().all(|is| *is), "{start}, {length}");
            }
            let mut count = 0;
            soon.share(width, |_| count += 1);
            assert_eq!(count, 0, "nothing is left");
        }
    }

    #[test]
    fn rows_a_distance_apart_are_brought_and_what_is_behind_the_last_tile_is_not_asked_for() {
        let elements = [0.0; 64];
        let mut queue = Queue::new(vec![Ahead { elements: &elements, apart: 10, rows: 1..4 }]);
        queue.share_out(2);
        let brought: Vec<_> = (0..3).map(|_| queue.next(8)).map(|next| (next.first, next.apart, next.spread)).collect();
        assert_eq!(brought, [(1, 10, 2), (3, 10, 3), (0, 0, 0)]);
    }
}
