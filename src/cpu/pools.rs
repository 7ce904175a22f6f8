//! Pools: averages and greatest elements of windows, and the way back.
//!
//! Rows lie channels last, so a window's position is a run of channels, and every loop goes along it.

use super::chain::{self, Chain};
use super::functions::{self, Function, WithFunction};
use super::lattice::Lattice;
use super::simd::{self, Level, Loop};
use crate::plan::{Direction, Step, Work};

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
    let mut taps = Vec::new();
    for (position, target) in targets.chunks_exact_mut(pool.channels).enumerate() {
        let (row, position) = ((first + position) / count, (first + position) % count);
        taps.clear();
        pool.lattice.visit(position, |source, tap| taps.push((source, tap)));
        let from = Sources { elements: chain.row(source.buffer, row), taps: &taps };
        match &step.work {
            Work::AveragePool { direction: Direction::Forward, .. } => {
                chain::through(source.activation, source.part, Mean { from, weight: pool.weights[position], target });
            }
            Work::AveragePool { direction: Direction::Backward, .. } => {
                chain::through(source.activation, source.part, Spread { from, weights: &pool.weights, target });
            }
            Work::MaxPool => chain::through(source.activation, source.part, Greatest { from, target }),
            Work::Winners => chain::through(source.activation, source.part, Win { from, target }),
            Work::Unpool { winners } => {
                simd::run(Level::widest(), Unpool { from, winners: chain.row(*winners, row), target });
            }
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

/// What one target reads of a row of the source.
#[derive(Clone, Copy)]
struct Sources<'a> {
    elements: &'a [f32],
    /// The sources, and the window's position at each.
    taps: &'a [(usize, usize)],
}

impl Sources<'_> {
    /// `N` of a source's channels, from `first` on.
    #[inline(always)]
    fn at<const N: usize>(&self, source: usize, channels: usize, first: usize) -> [f32; N] {
        array(&self.elements[source * channels + first..])
    }
}

#[inline(always)]
fn array<const N: usize>(elements: &[f32]) -> [f32; N] {
    *elements.first_chunk().expect("blocks end within the channels")
}

/// What makes a target, some channels at a time: they stay in registers while the window is visited.
trait InBlocks {
    /// Makes `N` channels from `first` on, read through `f`.
    fn block<const N: usize>(&mut self, f: impl Function, first: usize, channels: usize);
}

/// Calls `work` for blocks of all channels.
#[inline(always)]
fn in_blocks(channels: usize, f: impl Function, work: &mut impl InBlocks) {
    let mut first = 0;
    while first + 32 <= channels {
        work.block::<32>(f, first, channels);
        first += 32;
    }
    while first + 8 <= channels {
        work.block::<8>(f, first, channels);
        first += 8;
    }
    while first < channels {
        work.block::<1>(f, first, channels);
        first += 1;
    }
}

/// A [`Loop`] over the blocks of a target, and a [`WithFunction`] that runs it.
macro_rules! over_blocks {
    ($($name:ident),+) => {$(
        impl WithFunction for $name<'_> {
            fn run(self, f: impl Function) {
                struct Body<'a, F>($name<'a>, F);
                impl<F: Function> Loop for Body<'_, F> {
                    #[inline(always)]
                    fn run<const FUSED: bool, const LANES: usize>(mut self) {
                        in_blocks(self.0.target.len(), self.1, &mut self.0);
                    }
                }
                simd::run(Level::widest(), Body(self, f));
            }
        }
    )+};
}

over_blocks!(Mean, Spread, Greatest, Win);

/// All weights of a window are one number.
struct Mean<'a> {
    from: Sources<'a>,
    weight: f32,
    target: &'a mut [f32],
}

impl InBlocks for Mean<'_> {
    #[inline(always)]
    fn block<const N: usize>(&mut self, f: impl Function, first: usize, channels: usize) {
        let mut sums = [0.0; N];
        for &(source, _) in self.from.taps {
            let x: [f32; N] = self.from.at(source, channels, first);
            let x = f.of_all(x);
            (0..N).for_each(|lane| sums[lane] += x[lane]);
        }
        self.target[first..][..N].copy_from_slice(&sums.map(|sum| sum * self.weight));
    }
}

/// The way back of an average: each window gives its weight's share.
struct Spread<'a> {
    from: Sources<'a>,
    weights: &'a [f32],
    target: &'a mut [f32],
}

impl InBlocks for Spread<'_> {
    #[inline(always)]
    fn block<const N: usize>(&mut self, f: impl Function, first: usize, channels: usize) {
        let mut sums = [0.0; N];
        for &(source, _) in self.from.taps {
            let weight = self.weights[source];
            let q: [f32; N] = self.from.at(source, channels, first);
            let q = f.of_all(q);
            (0..N).for_each(|lane| sums[lane] += weight * q[lane]);
        }
        self.target[first..][..N].copy_from_slice(&sums);
    }
}

/// NaN is greater than everything, so that it stays seen. Without a branch, so that lanes stay together.
#[inline(always)]
fn beats(x: f32, best: f32) -> bool {
    (x > best) | (x.is_nan() & !best.is_nan())
}

/// A window of nothing but padding has no greatest element.
struct Greatest<'a> {
    from: Sources<'a>,
    target: &'a mut [f32],
}

impl InBlocks for Greatest<'_> {
    #[inline(always)]
    fn block<const N: usize>(&mut self, f: impl Function, first: usize, channels: usize) {
        let mut best = [f32::NEG_INFINITY; N];
        for &(source, _) in self.from.taps {
            let x: [f32; N] = f.of_all(self.from.at(source, channels, first));
            for lane in 0..N {
                best[lane] = if beats(x[lane], best[lane]) { x[lane] } else { best[lane] };
            }
        }
        self.target[first..][..N].copy_from_slice(&best);
    }
}

/// The number of no window's position.
const NOBODY: f32 = -1.0;

/// The first of a window's greatest elements wins.
struct Win<'a> {
    from: Sources<'a>,
    target: &'a mut [f32],
}

impl InBlocks for Win<'_> {
    #[inline(always)]
    fn block<const N: usize>(&mut self, f: impl Function, first: usize, channels: usize) {
        let (mut best, mut winners) = ([f32::NEG_INFINITY; N], [NOBODY; N]);
        if let Some(&(source, tap)) = self.from.taps.first() {
            let x: [f32; N] = self.from.at(source, channels, first);
            (best, winners) = (f.of_all(x), [tap as f32; N]);
        }
        for &(source, tap) in self.from.taps.iter().skip(1) {
            let (x, tap): ([f32; N], f32) = (f.of_all(self.from.at(source, channels, first)), tap as f32);
            for lane in 0..N {
                let wins = beats(x[lane], best[lane]);
                best[lane] = if wins { x[lane] } else { best[lane] };
                winners[lane] = if wins { tap } else { winners[lane] };
            }
        }
        self.target[first..][..N].copy_from_slice(&winners);
    }
}

/// Relevance of the windows that an element won.
struct Unpool<'a> {
    from: Sources<'a>,
    winners: &'a [f32],
    target: &'a mut [f32],
}

impl InBlocks for Unpool<'_> {
    #[inline(always)]
    fn block<const N: usize>(&mut self, _: impl Function, first: usize, channels: usize) {
        let mut sums = [0.0; N];
        for &(source, tap) in self.from.taps {
            let r: [f32; N] = self.from.at(source, channels, first);
            let winners: [f32; N] = array(&self.winners[source * channels + first..]);
            let tap = tap as f32;
            (0..N).for_each(|lane| sums[lane] += if winners[lane] == tap { r[lane] } else { 0.0 });
        }
        self.target[first..][..N].copy_from_slice(&sums);
    }
}

impl Loop for Unpool<'_> {
    #[inline(always)]
    fn run<const FUSED: bool, const LANES: usize>(mut self) {
        in_blocks(self.target.len(), functions::Identity, &mut self);
    }
}
