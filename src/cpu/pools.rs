//! Pools: averages and greatest elements of windows, and the way back.
//!
//! Rows lie channels last, so a window's position is a run of channels, and every loop goes along it.

use super::chain::Chain;
use super::crew::Written;
use super::functions::{Function, WithFunction};
use super::lattice::{Lattice, Sources, Walk};
use super::loops;
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
pub(super) fn run(chain: &Chain<'_>, step: &Step, pool: &Pool, first: usize, written: Written<'_>) {
    let source = step.source.expect("a pool reads rows");
    let part = Part { chain, pool, source, first, targets: &mut *written.target };
    match &step.work {
        Work::AveragePool { direction: Direction::Forward, .. } => part.each(Mean { weights: &pool.weights }),
        Work::AveragePool { direction: Direction::Backward, .. } => part.each(Spread { weights: &pool.weights }),
        Work::MaxPool => part.each(Greatest),
        Work::Winners => part.each(Win),
        Work::Unpool { winners } => part.each(Unpool { chain, winners: *winners }),
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
    chain.finish(first * pool.channels, pool.lattice.count() * pool.channels, written);
}

/// A part of a step.
struct Part<'a> {
    chain: &'a Chain<'a>,
    pool: &'a Pool,
    source: Operand,
    first: usize,
    targets: &'a mut [f32],
}

impl Part<'_> {
    fn each(self, kind: impl Kind) {
        loops::through(self.source.activation, self.source.part, Each(self, kind));
    }
}

/// Makes targets of a kind.
struct Each<'a, K>(Part<'a>, K);

impl<K: Kind> WithFunction for Each<'_, K> {
    fn run(self, f: impl Function) {
        struct Body<'a, K, F>(Each<'a, K>, F);
        impl<K: Kind, F: Function> Loop for Body<'_, K, F> {
            #[inline(always)]
            fn run<const FUSED: bool, const LANES: usize>(self) {
                let Body(Each(Part { chain, pool, source, first, targets }, kind), f) = self;
                let mut walk = Walk::new(&pool.lattice, first);
                for target in targets.chunks_exact_mut(pool.channels) {
                    let sources = walk.next();
                    let elements = chain.row(source.buffer, sources.row);
                    kind.fill(f, &Windows { elements, channels: pool.channels, sources }, target);
                }
            }
        }
        simd::run(Level::widest(), Body(self, f));
    }
}

/// What one target reads of a row of the source.
struct Windows<'a> {
    elements: &'a [f32],
    channels: usize,
    sources: Sources<'a>,
}

impl Windows<'_> {
    /// For each tap the source, the window's position there, and `N` of the source's channels from `first` on.
    #[inline(always)]
    fn taps<const N: usize>(&self, first: usize) -> impl Iterator<Item = (usize, usize, [f32; N])> {
        self.sources.taps.iter().map(move |&(source, tap)| {
            let source = source + self.sources.offset;
            (source, tap, array(&self.elements[source * self.channels + first..]))
        })
    }
}

#[inline(always)]
fn array<const N: usize>(elements: &[f32]) -> [f32; N] {
    *elements.first_chunk().expect("blocks end within the channels")
}

/// What becomes of a window, some channels at a time: they stay in registers while the window is visited.
trait Kind: Sized {
    /// `N` channels from `first` on, read through `f`.
    fn block<const N: usize>(&self, f: impl Function, from: &Windows<'_>, first: usize) -> [f32; N];

    /// All channels of a target.
    #[inline(always)]
    fn fill(&self, f: impl Function, from: &Windows<'_>, target: &mut [f32]) {
        in_blocks::<32>(self, f, from, target);
    }
}

/// All channels of a target, `MOST` at a time while there are so many.
#[inline(always)]
fn in_blocks<const MOST: usize>(kind: &impl Kind, f: impl Function, from: &Windows<'_>, target: &mut [f32]) {
    let (blocks, rest) = target.as_chunks_mut::<MOST>();
    let mut first = 0;
    for block in blocks {
        *block = kind.block(f, from, first);
        first += MOST;
    }
    let (blocks, rest) = rest.as_chunks_mut::<8>();
    for block in blocks {
        *block = kind.block(f, from, first);
        first += 8;
    }
    for single in rest {
        [*single] = kind.block(f, from, first);
        first += 1;
    }
}

/// All weights of a window are one number.
struct Mean<'a> {
    weights: &'a [f32],
}

impl Kind for Mean<'_> {
    #[inline(always)]
    fn block<const N: usize>(&self, f: impl Function, from: &Windows<'_>, first: usize) -> [f32; N] {
        let mut sums = [0.0; N];
        for (_, _, x) in from.taps(first) {
            let x: [f32; N] = f.of_all(x);
            (0..N).for_each(|lane| sums[lane] += x[lane]);
        }
        let weight = self.weights[from.sources.position];
        (0..N).for_each(|lane| sums[lane] *= weight);
        sums
    }
}

/// The way back of an average: each window gives its weight's share.
struct Spread<'a> {
    weights: &'a [f32],
}

impl Kind for Spread<'_> {
    #[inline(always)]
    fn block<const N: usize>(&self, f: impl Function, from: &Windows<'_>, first: usize) -> [f32; N] {
        let mut sums = [0.0; N];
        for (source, _, q) in from.taps(first) {
            let (q, weight): ([f32; N], f32) = (f.of_all(q), self.weights[source]);
            (0..N).for_each(|lane| sums[lane] += weight * q[lane]);
        }
        sums
    }
}

/// NaN is greater than everything, so that it stays seen. Without a branch, so that lanes stay together.
#[inline(always)]
fn beats(x: f32, best: f32) -> bool {
    (x > best) | (x.is_nan() & !best.is_nan())
}

/// A window of nothing but padding has no greatest element.
struct Greatest;

impl Kind for Greatest {
    #[inline(always)]
    fn block<const N: usize>(&self, f: impl Function, from: &Windows<'_>, first: usize) -> [f32; N] {
        let mut best = [f32::NEG_INFINITY; N];
        for (_, _, x) in from.taps(first) {
            let x: [f32; N] = f.of_all(x);
            for lane in 0..N {
                best[lane] = if beats(x[lane], best[lane]) { x[lane] } else { best[lane] };
            }
        }
        best
    }
}

/// The number of no window's position.
const NOBODY: f32 = -1.0;

/// The first of a window's greatest elements wins.
struct Win;

impl Kind for Win {
    #[inline(always)]
    fn block<const N: usize>(&self, f: impl Function, from: &Windows<'_>, first: usize) -> [f32; N] {
        let mut taps = from.taps(first);
        let Some((_, tap, x)) = taps.next() else { return [NOBODY; N] };
        let (mut best, mut winners): ([f32; N], [f32; N]) = (f.of_all(x), [tap as f32; N]);
        for (_, tap, x) in taps {
            let (x, tap): ([f32; N], f32) = (f.of_all(x), tap as f32);
            for lane in 0..N {
                let wins = beats(x[lane], best[lane]);
                best[lane] = if wins { x[lane] } else { best[lane] };
                winners[lane] = if wins { tap } else { winners[lane] };
            }
        }
        winners
    }

    /// Twice as many channels, each with its greatest element and the place of it, are more than registers hold.
    #[inline(always)]
    fn fill(&self, f: impl Function, from: &Windows<'_>, target: &mut [f32]) {
        in_blocks::<16>(self, f, from, target);
    }
}

/// Relevance of the windows that an element won.
struct Unpool<'a> {
    chain: &'a Chain<'a>,
    winners: BufferId,
}

impl Kind for Unpool<'_> {
    #[inline(always)]
    fn block<const N: usize>(&self, f: impl Function, from: &Windows<'_>, first: usize) -> [f32; N] {
        let all = self.chain.row(self.winners, from.sources.row);
        let mut sums = [0.0; N];
        for (source, tap, r) in from.taps(first) {
            let winners: [f32; N] = array(&all[source * from.channels + first..]);
            let (r, tap): ([f32; N], f32) = (f.of_all(r), tap as f32);
            (0..N).for_each(|lane| sums[lane] += if winners[lane] == tap { r[lane] } else { 0.0 });
        }
        sums
    }
}
