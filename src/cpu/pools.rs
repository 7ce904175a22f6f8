//! Pools: averages and greatest elements of windows, and the way back.
//!
//! Rows lie channels last, so a window's position is a run of channels, and every loop goes along it.

use super::chain::{self, Chain};
use super::lattice::Lattice;
use super::simd::{self, Level, Loop};
use crate::plan::{BufferId, Direction, Operand, Step, Work};

/// Targets that a part of a step makes at most: they stay in cache for the chain.
pub(super) const BLOCK: usize = 64;

/// What a pool's step reads beside data.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) lattice: Lattice,
    /// The weight of each output position, of an average.
    pub(super) weights: Vec<f32>,
    pub(super) channels: usize,
}

/// Makes the targets from position `first` on, counted over all rows of the chunk; the chain follows.
pub(super) fn run(chain: &Chain<'_>, step: &Step, pool: &Pool, first: usize, targets: &mut [f32]) {
    let source = step.source.expect("a pool reads rows");
    let count = pool.lattice.count();
    for (position, target) in targets.chunks_exact_mut(pool.channels).enumerate() {
        let (row, position) = ((first + position) / count, (first + position) % count);
        let from = Sources { elements: chain.row(source.buffer, row), source, channels: pool.channels };
        match &step.work {
            Work::AveragePool { direction, .. } => average(pool, *direction, &from, position, target),
            Work::MaxPool => greatest(pool, &from, position, target),
            Work::Winners => win(pool, &from, position, target),
            Work::Unpool { winners } => unpool(chain, pool, &from, (*winners, row), position, target),
            Work::Product { .. }
            | Work::Convolve { .. }
            | Work::AlongAxis { .. }
            | Work::Elementwise
            | Work::Transpose { .. }
            | Work::Strips { .. }
            | Work::Lookup
            | Work::Start
            | Work::Rms
            | Work::Measure(_) => unreachable!("only pools pool"),
        }
    }
    chain.apply_to(first * pool.channels, count * pool.channels, targets);
}

/// A row of the source.
struct Sources<'a> {
    elements: &'a [f32],
    source: Operand,
    channels: usize,
}

impl Sources<'_> {
    fn at(&self, position: usize) -> &[f32] {
        &self.elements[position * self.channels..][..self.channels]
    }
}

fn average(pool: &Pool, direction: Direction, from: &Sources<'_>, position: usize, target: &mut [f32]) {
    target.fill(0.0);
    match direction {
        // All weights of a window are one number.
        Direction::Forward => {
            let add = |sum: f32, x: f32| sum + x;
            pool.lattice.visit(position, |source, _| chain::combine(&from.source, from.at(source), target, add));
            let weight = pool.weights[position];
            target.iter_mut().for_each(|sum| *sum *= weight);
        }
        Direction::Backward => pool.lattice.visit(position, |source, _| {
            let weight = pool.weights[source];
            chain::combine(&from.source, from.at(source), target, move |sum: f32, q: f32| sum + weight * q);
        }),
    }
}

/// A window of nothing but padding has no greatest element.
fn greatest(pool: &Pool, from: &Sources<'_>, position: usize, target: &mut [f32]) {
    let mut is_first = true;
    pool.lattice.visit(position, |source, _| {
        let x = from.at(source);
        if std::mem::take(&mut is_first) {
            chain::read(&from.source, x, target);
        } else {
            chain::combine(&from.source, x, target, |best: f32, x: f32| if beats(x, best) { x } else { best });
        }
    });
    if is_first {
        target.fill(f32::NEG_INFINITY);
    }
}

/// NaN is greater than everything, so that it stays seen.
#[inline(always)]
fn beats(x: f32, best: f32) -> bool {
    x > best || (x.is_nan() && !best.is_nan())
}

/// The number of no window's position.
const NOBODY: f32 = -1.0;

/// Channels that are compared at once.
const CHANNELS: usize = 64;

fn win(pool: &Pool, from: &Sources<'_>, position: usize, target: &mut [f32]) {
    for (block, winners) in target.chunks_mut(CHANNELS).enumerate() {
        let (mut best, mut x) = ([0.0; CHANNELS], [0.0; CHANNELS]);
        let (best, x) = (&mut best[..winners.len()], &mut x[..winners.len()]);
        let mut is_first = true;
        pool.lattice.visit(position, |source, tap| {
            let stored = &from.at(source)[block * CHANNELS..][..winners.len()];
            let tap = tap as f32;
            if std::mem::take(&mut is_first) {
                chain::read(&from.source, stored, best);
                winners.fill(tap);
            } else {
                chain::read(&from.source, stored, x);
                simd::run(Level::widest(), Compete { x, tap, best, winners });
            }
        });
        if is_first {
            winners.fill(NOBODY);
        }
    }
}

/// Elements at one position of the window against the best before it.
struct Compete<'a> {
    x: &'a [f32],
    tap: f32,
    best: &'a mut [f32],
    winners: &'a mut [f32],
}

impl Loop for Compete<'_> {
    #[inline(always)]
    fn run<const FUSED: bool, const LANES: usize>(self) {
        for ((&x, best), winner) in self.x.iter().zip(self.best).zip(self.winners) {
            let wins = beats(x, *best);
            *best = if wins { x } else { *best };
            *winner = if wins { self.tap } else { *winner };
        }
    }
}

fn unpool(
    chain: &Chain<'_>,
    pool: &Pool,
    from: &Sources<'_>,
    (winners, row): (BufferId, usize),
    position: usize,
    target: &mut [f32],
) {
    target.fill(0.0);
    let winners = chain.row(winners, row);
    pool.lattice.visit(position, |source, tap| {
        let winners = &winners[source * pool.channels..][..pool.channels];
        simd::run(Level::widest(), Collect { relevance: from.at(source), winners, tap: tap as f32, sums: target });
    });
}

/// Relevance of a window where an element won it.
struct Collect<'a> {
    relevance: &'a [f32],
    winners: &'a [f32],
    tap: f32,
    sums: &'a mut [f32],
}

impl Loop for Collect<'_> {
    #[inline(always)]
    fn run<const FUSED: bool, const LANES: usize>(self) {
        for ((&r, &winner), sum) in self.relevance.iter().zip(self.winners).zip(self.sums) {
            *sum += if winner == self.tap { r } else { 0.0 };
        }
    }
}
