//! Tiles of a product: sums that stay in registers.
//!
//! The body is safe Rust over arrays of fixed size, which the compiler keeps in vector registers. It does so only where a
//! tile's loop is a function of its own.

use super::ahead::{Next, Share};
use super::simd::{self, Level, Loop};

/// Rows of the largest tile of any level.
const MOST_ROWS: usize = 14;
/// Elements of the summed axis of one chain, at most. Sums of one sign lose with a chain's length what sums of both signs lose with its
/// root; chains of 128 lose a third of what chains of 512 do, and still keep what they go through C for at one in a hundred.
pub(super) const CHAIN: usize = 128;
/// How many rows of a panel are fetched ahead, to hide the second-level cache.
const AHEAD: usize = 16;

/// How a level's registers and caches are filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Blocking {
    /// Rows of a tile: its sums, a row of a panel and an element of A fill the registers.
    pub(super) tile: usize,
    /// Columns that a panel of a packed weight holds.
    pub(super) panel: usize,
    /// Elements of the summed axis taken at once.
    pub(super) depth: usize,
    /// How many of them are written out one after another.
    pub(super) steps: usize,
}

impl Blocking {
    /// With 32 registers of 16 lanes, 2 · 14 + 3 are full, and a panel's slice stays in the second-level cache. With 16
    /// registers of 8 lanes, 2 · 6 + 3 are full: fewer elements of A are loaded for each row of a panel than with one
    /// register of columns, and two loads a cycle are what those machines have. A slice then stays in the first level.
    const fn of(lanes: usize) -> Self {
        match lanes {
            16 => Blocking { tile: MOST_ROWS, panel: 32, depth: 512, steps: 1 },
            _ => Blocking { tile: 6, panel: 16, depth: 256, steps: 8 },
        }
    }

    pub(super) fn of_level(level: Level) -> Self {
        Blocking::of(level.lanes())
    }
}

/// The length of a slice's chains: about the same, in whole steps, and at most `most`.
#[inline(always)]
pub(super) fn chain_length(depth: usize, most: usize, steps: usize) -> usize {
    depth.div_ceil(depth.div_ceil(most).max(1)).next_multiple_of(steps).max(1)
}

/// Tiles of equally many rows of A times a slice of a panel.
pub(super) struct Tiles<'a, 'b, 'c> {
    pub(super) a: &'a [f32],
    pub(super) stride: usize,
    /// Whether C holds the sum of the slices before.
    pub(super) goes_on: bool,
    /// Elements of the summed axis of a chain; the last may have fewer.
    pub(super) chain: usize,
    pub(super) panel: &'a [f32],
    /// Columns of the panel: as many as the level's have, or half as many.
    pub(super) width: usize,
    /// What they bring into the second-level cache meanwhile.
    pub(super) share: &'a mut Share<'b, 'c>,
    /// Where the rows of C begin.
    pub(super) starts: &'a [usize],
    /// The first column of C.
    pub(super) column: usize,
}

impl Tiles<'_, '_, '_> {
    /// Calls the body for the number of a tile's rows.
    pub(super) fn run(self, level: Level, rows: usize, c: &mut [f32]) {
        match rows {
            1 => self.at::<1>(level, c),
            2 => self.at::<2>(level, c),
            3 => self.at::<3>(level, c),
            4 => self.at::<4>(level, c),
            5 => self.at::<5>(level, c),
            6 => self.at::<6>(level, c),
            7 => self.at::<7>(level, c),
            8 => self.at::<8>(level, c),
            9 => self.at::<9>(level, c),
            10 => self.at::<10>(level, c),
            11 => self.at::<11>(level, c),
            12 => self.at::<12>(level, c),
            13 => self.at::<13>(level, c),
            _ => self.at::<MOST_ROWS>(level, c),
        }
    }

    fn at<const ROWS: usize>(self, level: Level, c: &mut [f32]) {
        match (self.width < Blocking::of_level(level).panel, self.share.is_empty()) {
            (false, true) => simd::run(level, Body::<ROWS, false, false>(self, c)),
            (false, false) => simd::run(level, Body::<ROWS, false, true>(self, c)),
            (true, true) => simd::run(level, Body::<ROWS, true, false>(self, c)),
            (true, false) => simd::run(level, Body::<ROWS, true, true>(self, c)),
        }
    }
}

/// `HALF`: whether the panel is half as wide as others; `FAR`: whether something is brought closer.
struct Body<'a, 'b, 'c, const ROWS: usize, const HALF: bool, const FAR: bool>(Tiles<'a, 'b, 'c>, &'a mut [f32]);

impl<const ROWS: usize, const HALF: bool, const FAR: bool> Loop for Body<'_, '_, '_, ROWS, HALF, FAR> {
    #[inline(always)]
    fn run<const FUSED: bool, const LANES: usize>(self) {
        if const { ROWS > Blocking::of(LANES).tile } {
            unreachable!("no tile of this level has so many rows");
        }
        match (LANES, HALF) {
            (16, false) => multiply_tiles::<With<FUSED, FAR, true>, ROWS, 32, 1>(self.0, self.1),
            (16, true) => multiply_tiles::<With<FUSED, FAR, true>, ROWS, 16, 1>(self.0, self.1),
            (_, false) => multiply_tiles::<With<FUSED, FAR, false>, ROWS, 16, 8>(self.0, self.1),
            (_, true) => multiply_tiles::<With<FUSED, FAR, false>, ROWS, 8, 8>(self.0, self.1),
        }
    }
}

/// What a tile's loop does beside its sums, known when it is compiled.
trait Kind {
    /// Whether multiply-adds are fused: only where the level has it, elsewhere that is a slow routine.
    const FUSED: bool;
    /// Whether something is brought closer.
    const FAR: bool;
    /// Whether the panel's own rows to come are.
    const NEAR: bool;
}

struct With<const FUSED: bool, const FAR: bool, const NEAR: bool>;

impl<const FUSED: bool, const FAR: bool, const NEAR: bool> Kind for With<FUSED, FAR, NEAR> {
    const FUSED: bool = FUSED;
    const FAR: bool = FAR;
    const NEAR: bool = NEAR;
}

#[inline(always)]
fn multiply_tiles<K: Kind, const ROWS: usize, const PANEL: usize, const STEPS: usize>(
    tiles: Tiles<'_, '_, '_>,
    c: &mut [f32],
) {
    let panel = tiles.panel.as_chunks::<PANEL>().0;
    let starts = tiles.starts.as_chunks::<ROWS>().0;
    for (starts, a) in starts.iter().zip(tiles.a.chunks(ROWS * tiles.stride)) {
        let next = if K::FAR { tiles.share.of_tile(panel.len()) } else { Next::default() };
        let of_c = (&mut *c, starts, tiles.column);
        multiply_tile::<K, ROWS, PANEL, STEPS>((a, tiles.stride), (panel, tiles.chain), next, tiles.goes_on, of_c);
    }
}

/// `ROWS` × `PANEL` sums, in registers over chains of `length`.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "only loops that count are written out")]
fn multiply_tile<K: Kind, const ROWS: usize, const PANEL: usize, const STEPS: usize>(
    (a, stride): (&[f32], usize),
    (panel, length): (&[[f32; PANEL]], usize),
    next: Next<'_>,
    goes_on: bool,
    (c, starts, column): (&mut [f32], &[usize; ROWS], usize),
) {
    let mut from = 0;
    loop {
        let chain = &panel[from..panel.len().min(from + length)];
        let next = next.after(from);
        let mut sums = [[0.0_f32; PANEL]; ROWS];
        accumulate::<K, ROWS, PANEL, STEPS>(&a[from..], stride, chain, next, &mut sums);
        if goes_on || from > 0 {
            for row in 0..ROWS {
                sums[row] = plus(sums[row], load(c, starts[row] + column));
            }
        }
        for row in 0..ROWS {
            store(sums[row], c, starts[row] + column);
        }
        from += length;
        if from >= panel.len() {
            return;
        }
    }
}

#[inline(always)]
pub(super) fn load<const PANEL: usize>(c: &[f32], at: usize) -> [f32; PANEL] {
    *c[at..].first_chunk().expect("a row of C is whole panels")
}

#[inline(always)]
pub(super) fn store<const PANEL: usize>(sums: [f32; PANEL], c: &mut [f32], at: usize) {
    *c[at..].first_chunk_mut().expect("a row of C is whole panels") = sums;
}

#[inline(always)]
pub(super) fn plus<const PANEL: usize>(mut sums: [f32; PANEL], before: [f32; PANEL]) -> [f32; PANEL] {
    for lane in 0..PANEL {
        sums[lane] += before[lane];
    }
    sums
}

/// Adds `ROWS` rows times a panel to `sums`.
///
/// The sums are a local copy and the loops count, because only then does the compiler keep them in registers. `STEPS` of
/// k are written out one after another, for which the rows' addresses are made once: made for each step they are a third
/// of its instructions, more than the machine takes in while it multiplies. A tile of more rows than there are registers
/// for addresses takes one.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "see above")]
fn accumulate<K: Kind, const ROWS: usize, const PANEL: usize, const STEPS: usize>(
    a: &[f32],
    stride: usize,
    panel: &[[f32; PANEL]],
    next: Next<'_>,
    sums: &mut [[f32; PANEL]; ROWS],
) {
    let depth = panel.len();
    let mut rows = [[].as_slice(); ROWS];
    for row in 0..ROWS {
        rows[row] = &a[row * stride..][..depth];
    }
    let mut local = *sums;
    let written_out = if STEPS > 1 { depth / STEPS * STEPS } else { 0 };
    for (chunk, b) in panel[..written_out].as_chunks::<STEPS>().0.iter().enumerate() {
        let first = chunk * STEPS;
        if K::FAR {
            for row in next.rows(first..first + STEPS) {
                next.prefetch::<PANEL>(row);
            }
        }
        let mut a = [&[0.0; STEPS]; ROWS];
        for row in 0..ROWS {
            a[row] = rows[row][first..].first_chunk().expect("a chunk of A for each of the panel");
        }
        for k in 0..STEPS {
            if K::NEAR {
                simd::prefetch::<_, true>(panel, first + k + AHEAD);
            }
            step::<K, ROWS, PANEL>(|row| a[row][k], &b[k], &mut local);
        }
    }
    for k in written_out..depth {
        if K::NEAR {
            simd::prefetch::<_, true>(panel, k + AHEAD);
        }
        if K::FAR {
            next.after(k).prefetch::<PANEL>(0);
        }
        step::<K, ROWS, PANEL>(|row| rows[row][k], &panel[k], &mut local);
    }
    *sums = local;
}

/// Adds one step of k: an element of each row of A times a row of the panel.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "only loops that count are written out")]
fn step<K: Kind, const ROWS: usize, const PANEL: usize>(
    a: impl Fn(usize) -> f32,
    b: &[f32; PANEL],
    sums: &mut [[f32; PANEL]; ROWS],
) {
    for row in 0..ROWS {
        let a = a(row);
        for lane in 0..PANEL {
            let (b, sum) = (b[lane], sums[row][lane]);
            sums[row][lane] = if K::FUSED { a.mul_add(b, sum) } else { a * b + sum };
        }
    }
}
