//! The product of rows with a packed weight: C = A B, all that the executor needs of a GEMM.
//!
//! Every element of C is a sum of short chains of (fused) multiply-adds in the order of k, each from zero on, whatever the
//! number of rows, their place and the tile: a row's bits never depend on its neighbours. Sums of short chains round less than
//! one long chain: what W⁺x and W⁻x lose matters where they are added to a small z.
//!
//! benches/README.md compares it with the `gemm` and `rten-gemm` crates. The body is safe Rust over arrays of fixed
//! size, which the compiler keeps in vector registers. It does so only where a tile is a function of its own.

use std::ops::Range;

use super::simd::{self, Level, Loop};

/// Rows of the largest tile of any level.
const MOST_ROWS: usize = 14;
/// A weight of up to this many elements stays in the second-level cache beside the rows.
const SMALL: usize = 1 << 16;
/// A weight of more elements than this comes from memory or a distant cache.
pub(super) const LARGE: usize = 1 << 21;
/// Elements of the summed axis of one chain, at most. Sums of one sign lose with a chain's length what sums of both signs lose with its
/// root; chains of 128 lose a third of what chains of 512 do, and still keep what they go through C for at one in a hundred.
const CHAIN: usize = 128;
/// How many rows of a panel are fetched ahead, to hide the second-level cache.
const AHEAD: usize = 16;
/// Floats of a cache line.
pub(super) const LINE: usize = 16;

/// How a level's registers and caches are filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Blocking {
    /// Rows of a tile: its sums, a row of a panel and an element of A fill the registers.
    tile: usize,
    /// Columns that a panel of a packed weight holds.
    panel: usize,
    /// Elements of the summed axis taken at once.
    depth: usize,
    /// How many of them are written out one after another.
    steps: usize,
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

    fn of_level(level: Level) -> Self {
        Blocking::of(level.lanes())
    }
}

/// Rows whose results stay in cache for the epilogue: whole tiles, about 100.
pub(super) fn row_block() -> usize {
    let tile = Blocking::of_level(Level::widest()).tile;
    100 / tile * tile
}

/// Slices of the summed axis, of about one length.
pub(super) fn slices(depth: usize) -> impl Iterator<Item = Range<usize>> {
    slices_of(Level::widest(), depth)
}

fn slices_of(level: Level, depth: usize) -> impl Iterator<Item = Range<usize>> {
    let slices = depth.div_ceil(Blocking::of_level(level).depth).max(1);
    let length = depth.div_ceil(slices).max(1);
    (0..depth).step_by(length).map(move |from| from..depth.min(from + length))
}

/// The chains of multiply-adds that make an element of C, one after another, each added to those before.
pub(super) fn chains(depth: usize) -> impl Iterator<Item = Range<usize>> {
    let steps = Blocking::of_level(Level::widest()).steps;
    slices(depth).flat_map(move |Range { start, end }| {
        let length = chain_length(end - start, steps);
        (start..end).step_by(length).map(move |from| from..end.min(from + length))
    })
}

/// Chains of a slice are of about one length, in whole steps.
#[inline(always)]
fn chain_length(depth: usize, steps: usize) -> usize {
    depth.div_ceil(depth.div_ceil(CHAIN).max(1)).next_multiple_of(steps).max(1)
}

/// A weight as the kernels read it: panels of some columns, each with one row of columns a summed element.
#[derive(Debug)]
pub(super) struct PackedWeight {
    elements: Vec<f32>,
    /// The first element of the first panel: it begins a cache line, so that no row of a panel lies in one line more
    /// than it fills.
    first: usize,
    /// Columns of a panel.
    panel: usize,
    depth: usize,
    columns: usize,
}

impl PackedWeight {
    /// Packs the matrix B of `depth` × `columns` elements.
    pub(super) fn new(depth: usize, columns: usize, element: impl Fn(usize, usize) -> f32) -> Self {
        PackedWeight::for_level(Level::widest(), depth, columns, element)
    }

    fn for_level(level: Level, depth: usize, columns: usize, element: impl Fn(usize, usize) -> f32) -> Self {
        PackedWeight::filled_for(level, depth, columns, |first, width, panel| {
            for (k, row) in panel.chunks_exact_mut(width).enumerate() {
                (first..columns.min(first + width)).zip(row).for_each(|(column, packed)| *packed = element(k, column));
            }
        })
    }

    /// `fill` gets a panel's first column, the distance of its rows, and the panel, full of zeros.
    fn filled_for(level: Level, depth: usize, columns: usize, fill: impl Fn(usize, usize, &mut [f32])) -> Self {
        let width = Blocking::of_level(level).panel;
        let length = columns.div_ceil(width) * depth * width;
        let mut elements = vec![0.0; length + LINE];
        let first = elements.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
        let of_panels = elements[first..][..length].chunks_exact_mut(depth * width).enumerate();
        of_panels.for_each(|(panel, packed)| fill(panel * width, width, packed));
        PackedWeight { elements, first, panel: width, depth, columns }
    }

    /// The length of a row of C.
    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// The length of a row of A.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// The distance of rows of A: a cache line more than their length, because rows a power of two apart would
    /// compete for the same few lines of the first-level cache.
    pub(super) fn stride(&self) -> usize {
        self.depth + LINE
    }

    /// Rows `from..to` of a panel; nothing behind the last.
    fn slice(&self, panel: usize, from: usize, to: usize) -> &[f32] {
        if panel * self.panel >= self.columns {
            return &[];
        }
        let first = self.first + panel * self.depth * self.panel;
        &self.elements[first + from * self.panel..first + to * self.panel]
    }
}

/// C = A B. The rows of `c` follow one another; those of `a` begin at multiples of [`PackedWeight::stride`].
pub(super) fn multiply(a: &[f32], b: &PackedWeight, c: &mut [f32]) {
    multiply_at(Level::widest(), a, b, c);
}

fn multiply_at(level: Level, a: &[f32], b: &PackedWeight, c: &mut [f32]) {
    let tile = Blocking::of_level(level).tile;
    let rows = a.len() / b.stride();
    assert_eq!(a.len(), rows * b.stride(), "rows of A are as long as B is deep, and padded");
    assert_eq!(c.len(), rows * b.columns, "C has a row for each row of A");
    let starts: Vec<usize> = (0..rows).map(|row| row * b.columns).collect();
    // A weight that stays in cache is swept once for each tile, so that rows of C are written from end to end.
    let rows = if b.depth * b.columns <= SMALL { tile } else { rows };
    for (a, starts) in a.chunks(rows * b.stride()).zip(starts.chunks(rows)) {
        for Range { start: from, end: to } in slices_of(level, b.depth) {
            let slice = Slice { a: &a[from..], stride: b.stride(), b, from, to, goes_on: from > 0 };
            multiply_slice_at(level, slice, c, starts);
        }
    }
}

/// The summed elements `from..to` of a product.
#[derive(Clone, Copy)]
pub(super) struct Slice<'a> {
    /// The rows of A from summed element `from` on, at multiples of `stride`.
    pub(super) a: &'a [f32],
    pub(super) stride: usize,
    pub(super) b: &'a PackedWeight,
    pub(super) from: usize,
    pub(super) to: usize,
    /// Whether C holds the sum of the slices before.
    pub(super) goes_on: bool,
}

/// Adds a slice of A B, one of [`slices`], to C, whose rows begin at `starts`.
pub(super) fn multiply_slice(slice: Slice<'_>, c: &mut [f32], starts: &[usize]) {
    multiply_slice_at(Level::widest(), slice, c, starts);
}

fn multiply_slice_at(level: Level, slice: Slice<'_>, c: &mut [f32], starts: &[usize]) {
    let Slice { a, stride, b, from, to, goes_on } = slice;
    let blocking = Blocking::of_level(level);
    assert_eq!(b.panel, blocking.panel, "the weight was packed for this level");
    let tiles = starts.len().div_ceil(blocking.tile).max(1);
    // Rows are shared out evenly: a tile of few rows takes as long as one of many.
    let rows = starts.len().div_ceil(tiles).max(1);
    let (alike, rest) = starts.split_at(starts.len() / rows * rows);
    // Every tile brings its share of the next panel closer, where the weight lies beyond the caches: elsewhere the
    // instructions would not pay.
    let is_far = b.depth * b.columns > LARGE;
    let multiply = |position: usize, (c, column): (&mut [f32], usize), alike: &[usize], rest: &[usize]| {
        let next = if is_far { b.slice(position + 1, from, to) } else { &[] };
        let share = (next.len() / b.panel).div_ceil(tiles) * b.panel;
        let (next, last) = next.split_at(next.len().min(alike.len() / rows * share));
        let panel = b.slice(position, from, to);
        Tiles { a, stride, goes_on, panel, next, tiles, starts: alike, column }.run(level, rows, c);
        if !rest.is_empty() {
            let a = &a[alike.len() * stride..];
            Tiles { a, stride, goes_on, panel, next: last, tiles, starts: rest, column }.run(level, rest.len(), c);
        }
    };
    let whole = b.columns / b.panel;
    for position in 0..whole {
        multiply(position, (&mut *c, position * b.panel), alike, rest);
    }
    let columns = b.columns % b.panel;
    if columns > 0 {
        // The last panel has more columns than C: its tiles are made elsewhere.
        let mut last = vec![0.0; starts.len() * b.panel];
        let starts_of_last: Vec<usize> = (0..starts.len()).map(|row| row * b.panel).collect();
        let (alike, rest) = starts_of_last.split_at(alike.len());
        let of_c = |start: usize| start + whole * b.panel..start + b.columns;
        if goes_on {
            last.chunks_exact_mut(b.panel)
                .zip(starts)
                .for_each(|(to, &start)| to[..columns].copy_from_slice(&c[of_c(start)]));
        }
        multiply(whole, (&mut last, 0), alike, rest);
        last.chunks_exact(b.panel)
            .zip(starts)
            .for_each(|(from, &start)| c[of_c(start)].copy_from_slice(&from[..columns]));
    }
}

/// Tiles of equally many rows of A times a slice of a panel.
struct Tiles<'a> {
    a: &'a [f32],
    stride: usize,
    /// Whether C holds the sum of the slices before.
    goes_on: bool,
    panel: &'a [f32],
    /// What these tiles bring into the second-level cache of the panel that follows, if they should.
    next: &'a [f32],
    /// How many tiles share the panel that follows.
    tiles: usize,
    /// Where the rows of C begin.
    starts: &'a [usize],
    /// The first column of C.
    column: usize,
}

impl Tiles<'_> {
    /// Calls the body for the number of a tile's rows.
    fn run(self, level: Level, rows: usize, c: &mut [f32]) {
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
        if self.next.is_empty() {
            simd::run(level, Body::<ROWS, false>(self, c));
        } else {
            simd::run(level, Body::<ROWS, true>(self, c));
        }
    }
}

/// `FAR`: whether the panel that follows is brought closer.
struct Body<'a, const ROWS: usize, const FAR: bool>(Tiles<'a>, &'a mut [f32]);

impl<const ROWS: usize, const FAR: bool> Loop for Body<'_, ROWS, FAR> {
    #[inline(always)]
    fn run<const FUSED: bool, const LANES: usize>(self) {
        if const { ROWS > Blocking::of(LANES).tile } {
            unreachable!("no tile of this level has so many rows");
        }
        match LANES {
            16 => multiply_tiles::<ROWS, 32, FUSED, FAR, true, 1>(self.0, self.1),
            _ => multiply_tiles::<ROWS, 16, FUSED, FAR, false, 8>(self.0, self.1),
        }
    }
}

#[inline(always)]
fn multiply_tiles<
    const ROWS: usize,
    const PANEL: usize,
    const FUSED: bool,
    const FAR: bool,
    const NEAR: bool,
    const STEPS: usize,
>(
    tiles: Tiles<'_>,
    c: &mut [f32],
) {
    let (panel, next) = (tiles.panel.as_chunks::<PANEL>().0, tiles.next.as_chunks::<PANEL>().0);
    let (starts, spread) = (tiles.starts.as_chunks::<ROWS>().0, tiles.tiles.ilog2());
    let mut next = next.chunks(next.len().div_ceil(starts.len().max(1)).max(1));
    for (starts, a) in starts.iter().zip(tiles.a.chunks(ROWS * tiles.stride)) {
        let next = (next.next().unwrap_or_default(), spread);
        let rows = (a, tiles.stride);
        multiply_tile::<ROWS, PANEL, FUSED, FAR, NEAR, STEPS>(
            rows,
            panel,
            next,
            tiles.goes_on,
            (&mut *c, starts, tiles.column),
        );
    }
}

/// `ROWS` × `PANEL` sums, in registers over chains of about one length.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "only loops that count are unrolled")]
fn multiply_tile<
    const ROWS: usize,
    const PANEL: usize,
    const FUSED: bool,
    const FAR: bool,
    const NEAR: bool,
    const STEPS: usize,
>(
    (a, stride): (&[f32], usize),
    panel: &[[f32; PANEL]],
    (next, spread): (&[[f32; PANEL]], u32),
    goes_on: bool,
    (c, starts, column): (&mut [f32], &[usize; ROWS], usize),
) {
    let length = chain_length(panel.len(), STEPS);
    for from in (0..panel.len().max(1)).step_by(length) {
        let chain = &panel[from..panel.len().min(from + length)];
        let next = (next.get(from >> spread..).unwrap_or_default(), spread);
        let mut sums = [[0.0_f32; PANEL]; ROWS];
        accumulate::<ROWS, PANEL, FUSED, FAR, NEAR, STEPS>(&a[from..], stride, chain, next, &mut sums);
        if goes_on || from > 0 {
            for row in 0..ROWS {
                sums[row] = plus(sums[row], load(c, starts[row] + column));
            }
        }
        for row in 0..ROWS {
            store(sums[row], c, starts[row] + column);
        }
    }
}

#[inline(always)]
fn load<const PANEL: usize>(c: &[f32], at: usize) -> [f32; PANEL] {
    *c[at..].first_chunk().expect("a row of C is whole panels")
}

#[inline(always)]
fn store<const PANEL: usize>(sums: [f32; PANEL], c: &mut [f32], at: usize) {
    *c[at..].first_chunk_mut().expect("a row of C is whole panels") = sums;
}

#[inline(always)]
fn plus<const PANEL: usize>(mut sums: [f32; PANEL], before: [f32; PANEL]) -> [f32; PANEL] {
    for lane in 0..PANEL {
        sums[lane] += before[lane];
    }
    sums
}

/// Adds `ROWS` rows times a panel to `sums`; if `FAR`, `next` is brought closer meanwhile, a row every 2^`spread` steps,
/// and if `NEAR`, the panel's own rows to come.
///
/// The sums are a local copy and the loops count, because only then does the compiler keep them in registers. `STEPS` of
/// k are written out one after another, for which the rows' addresses are made once: made for each step they are a third
/// of its instructions, more than the machine takes in while it multiplies. A tile of more rows than there are registers
/// for addresses takes one.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "see above")]
fn accumulate<
    const ROWS: usize,
    const PANEL: usize,
    const FUSED: bool,
    const FAR: bool,
    const NEAR: bool,
    const STEPS: usize,
>(
    a: &[f32],
    stride: usize,
    panel: &[[f32; PANEL]],
    (next, spread): (&[[f32; PANEL]], u32),
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
        if FAR {
            for row in first >> spread..(first + STEPS).div_ceil(1 << spread) {
                simd::prefetch::<_, false>(next, row);
            }
        }
        let mut a = [&[0.0; STEPS]; ROWS];
        for row in 0..ROWS {
            a[row] = rows[row][first..].first_chunk().expect("a chunk of A for each of the panel");
        }
        for k in 0..STEPS {
            if NEAR {
                simd::prefetch::<_, true>(panel, first + k + AHEAD);
            }
            step::<ROWS, PANEL, FUSED>(|row| a[row][k], &b[k], &mut local);
        }
    }
    for k in written_out..depth {
        if NEAR {
            simd::prefetch::<_, true>(panel, k + AHEAD);
        }
        if FAR {
            simd::prefetch::<_, false>(next, k >> spread);
        }
        step::<ROWS, PANEL, FUSED>(|row| rows[row][k], &panel[k], &mut local);
    }
    *sums = local;
}

/// Adds one step of k: an element of each row of A times a row of the panel.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "only loops that count are written out")]
fn step<const ROWS: usize, const PANEL: usize, const FUSED: bool>(
    a: impl Fn(usize) -> f32,
    b: &[f32; PANEL],
    sums: &mut [[f32; PANEL]; ROWS],
) {
    for row in 0..ROWS {
        let a = a(row);
        for lane in 0..PANEL {
            let (b, sum) = (b[lane], sums[row][lane]);
            // Only where the level has it: elsewhere a fused multiply-add is a slow routine.
            sums[row][lane] = if FUSED { a.mul_add(b, sum) } else { a * b + sum };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(index: usize) -> f32 {
        (index.wrapping_mul(2_654_435_761) % 1009) as f32 / 504.5 - 1.0
    }

    fn product(level: Level, rows: usize, depth: usize, columns: usize) -> Vec<f32> {
        let weight = PackedWeight::for_level(level, depth, columns, |k, n| number(k * columns + n + 7));
        let mut a = vec![f32::NAN; rows * weight.stride()];
        for (row, elements) in a.chunks_exact_mut(weight.stride()).enumerate() {
            (0..depth).for_each(|k| elements[k] = number(row * depth + k));
        }
        let mut c = vec![f32::NAN; rows * columns];
        multiply_at(level, &a, &weight, &mut c);
        // Slice by slice is the same, as bringing panels closer is.
        let mut again = vec![f32::NAN; rows * columns];
        let starts: Vec<usize> = (0..rows).map(|row| row * columns).collect();
        for Range { start: from, end: to } in slices_of(level, depth) {
            let (b, stride) = (&weight, weight.stride());
            multiply_slice_at(
                level,
                Slice { a: &a[from..], stride, b, from, to, goes_on: from > 0 },
                &mut again,
                &starts,
            );
        }
        assert_eq!(c, again);
        c
    }

    #[test]
    fn products_agree_with_float64_at_every_edge_of_tile_panel_and_depth_at_every_level() {
        for level in simd::levels() {
            let Blocking { tile, panel, depth: slice, .. } = Blocking::of_level(level);
            for rows in [1, 2, 5, tile - 1, tile, tile + 1, 2 * tile + 7] {
                for depth in [1, 3, CHAIN, CHAIN + 1, slice - 1, slice, slice + 1] {
                    for columns in [1, 7, panel - 1, panel, panel + 1, 2 * panel + 5] {
                        check(level, rows, depth, columns);
                    }
                }
            }
        }
    }

    fn check(level: Level, rows: usize, depth: usize, columns: usize) {
        let c = product(level, rows, depth, columns);
        for (index, &value) in c.iter().enumerate() {
            let (row, column) = (index / columns, index % columns);
            let term = |k: usize| f64::from(number(row * depth + k)) * f64::from(number(k * columns + column + 7));
            let (sum, size) = (0..depth).map(term).fold((0.0, 0.0), |(sum, size), t| (sum + t, size + t.abs()));
            // Each of the sum's roundings is at most half a unit in the last place of the sum of absolute values.
            let bound = size * depth as f64 * f64::from(f32::EPSILON) + f64::from(f32::MIN_POSITIVE);
            approx::assert_abs_diff_eq!(f64::from(value), sum, epsilon = bound);
        }
    }

    #[test]
    fn a_weight_beyond_the_caches_gives_the_same_product() {
        let (level, rows, depth) = (Level::widest(), 9, 2);
        let columns = LARGE / depth + 1;
        let far = product(level, rows, depth, columns);
        let first = PackedWeight::new(depth, 40, |k, n| number(k * columns + n + 7));
        let a: Vec<f32> =
            (0..rows * first.stride()).map(|at| number(at / first.stride() * depth + at % first.stride())).collect();
        let mut near = vec![0.0; rows * 40];
        multiply(&a, &first, &mut near);
        for (near, far) in near.chunks(40).zip(far.chunks(columns)) {
            assert_eq!(near, &far[..40]);
        }
    }

    #[test]
    fn a_row_has_the_same_bits_alone_and_among_others() {
        for level in simd::levels() {
            let Blocking { tile, panel, depth, .. } = Blocking::of_level(level);
            let (depth, columns) = (depth + 37, panel + 3);
            let many = product(level, 7 * tile, depth, columns);
            for rows in 1..=tile + 1 {
                assert_eq!(product(level, rows, depth, columns), many[..rows * columns], "{level:?}, {rows} rows");
            }
        }
    }
}
