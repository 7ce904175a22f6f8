//! The product of rows with a packed weight: C = A B, all that the executor needs of a GEMM.
//!
//! Every element of C is one chain of (fused) multiply-adds over k in order, whatever the number of rows, their place
//! and the tile: a row's bits never depend on its neighbours.
//!
//! benches/README.md compares it with the `gemm` and `rten-gemm` crates. The body is safe Rust over arrays of fixed
//! size, which the compiler keeps in vector registers.

use super::simd::{self, Level, Loop};

/// Columns that a panel of a packed weight holds.
const PANEL: usize = 32;
/// Rows of a tile: its sums, a row of a panel and an element of A fill the registers of every level (2 · 14 + 3 of 32
/// with 16 lanes, 14 + 2 of 16 with fewer).
const TILE: usize = 14;
/// Rows whose results stay in cache for the epilogue.
pub(super) const ROW_BLOCK: usize = 7 * TILE;
/// A weight of up to this many elements stays in the second-level cache beside the rows.
const SMALL: usize = 1 << 16;
/// A weight of more elements than this comes from memory or a distant cache.
const LARGE: usize = 1 << 21;
/// How many rows of a panel are fetched ahead, to hide the second-level cache.
const AHEAD: usize = 16;
/// Floats of a cache line.
pub(super) const LINE: usize = 16;
/// Elements of the summed axis taken at once, so that a panel's slice stays in the second-level cache.
pub(super) const DEPTH: usize = 1024;

/// A weight as the kernels read it: panels of [`PANEL`] columns, each with one row of columns a summed element.
#[derive(Debug)]
pub(super) struct PackedWeight {
    panels: Vec<[f32; PANEL]>,
    depth: usize,
    columns: usize,
}

impl PackedWeight {
    /// Packs the matrix B of `depth` × `columns` elements.
    pub(super) fn new(depth: usize, columns: usize, element: impl Fn(usize, usize) -> f32) -> Self {
        let mut panels = vec![[0.0; PANEL]; columns.div_ceil(PANEL) * depth];
        for (panel, packed) in panels.chunks_exact_mut(depth).enumerate() {
            let first = panel * PANEL;
            for (k, row) in packed.iter_mut().enumerate() {
                for (column, packed) in (first..columns.min(first + PANEL)).zip(row) {
                    *packed = element(k, column);
                }
            }
        }
        PackedWeight { panels, depth, columns }
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
}

/// C = A B. The rows of `c` follow one another; those of `a` begin at multiples of [`PackedWeight::stride`].
pub(super) fn multiply(a: &[f32], b: &PackedWeight, c: &mut [f32]) {
    multiply_at(Level::widest(), a, b, c);
}

fn multiply_at(level: Level, a: &[f32], b: &PackedWeight, c: &mut [f32]) {
    let rows = a.len() / b.stride();
    assert_eq!(a.len(), rows * b.stride(), "rows of A are as long as B is deep, and padded");
    assert_eq!(c.len(), rows * b.columns, "C has a row for each row of A");
    let starts: Vec<usize> = (0..rows).map(|row| row * b.columns).collect();
    // A weight that stays in cache is swept once for each tile, so that rows of C are written from end to end.
    let rows = if b.depth * b.columns <= SMALL { TILE } else { rows };
    for (a, starts) in a.chunks(rows * b.stride()).zip(starts.chunks(rows)) {
        for from in (0..b.depth).step_by(DEPTH) {
            let slice =
                Slice { a: &a[from..], stride: b.stride(), b, from, to: b.depth.min(from + DEPTH), goes_on: from > 0 };
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
    /// Whether sums go on from what C holds.
    pub(super) goes_on: bool,
}

/// Adds a slice of A B to C, whose rows begin at `starts`. No slice is longer than [`DEPTH`].
pub(super) fn multiply_slice(slice: Slice<'_>, c: &mut [f32], starts: &[usize]) {
    multiply_slice_at(Level::widest(), slice, c, starts);
}

fn multiply_slice_at(level: Level, slice: Slice<'_>, c: &mut [f32], starts: &[usize]) {
    // Bringing panels closer costs instructions that only a weight beyond the caches pays back.
    if slice.b.depth * slice.b.columns > LARGE {
        simd::run(level, Multiply::<true> { slice, c, starts });
    } else {
        simd::run(level, Multiply::<false> { slice, c, starts });
    }
}

/// `FAR`: whether the panel that follows is brought into the second-level cache meanwhile.
struct Multiply<'a, const FAR: bool> {
    slice: Slice<'a>,
    c: &'a mut [f32],
    starts: &'a [usize],
}

impl<const FAR: bool> Loop for Multiply<'_, FAR> {
    #[inline(always)]
    fn run<const FUSED: bool, const LANES: usize>(self) {
        let Slice { a, stride, b, from, to, goes_on } = self.slice;
        let tiles = self.starts.len().div_ceil(TILE);
        for (position, panel) in b.panels.chunks_exact(b.depth).enumerate() {
            let next = b.panels.get((position + 1) * b.depth + from..(position + 1) * b.depth + to).unwrap_or_default();
            // Every tile brings its share of the next panel closer.
            let mut shares = next.chunks(next.len().div_ceil(tiles).max(1));
            for (tile, starts) in self.starts.chunks(TILE).enumerate() {
                let tile = Tile::<FAR> {
                    a: &a[tile * TILE * stride..],
                    stride,
                    goes_on,
                    panel: &panel[from..to],
                    next: shares.next().unwrap_or_default(),
                    tiles,
                    c: self.c,
                    starts,
                    columns: b.columns,
                    column: position * PANEL,
                };
                tile.run::<FUSED, LANES>();
            }
        }
    }
}

/// Up to [`TILE`] rows of A times a slice of a panel.
struct Tile<'a, const FAR: bool> {
    a: &'a [f32],
    stride: usize,
    /// Whether sums go on from what C holds.
    goes_on: bool,
    panel: &'a [[f32; PANEL]],
    /// This tile's share of the panel that follows.
    next: &'a [[f32; PANEL]],
    /// How many tiles share it.
    tiles: usize,
    c: &'a mut [f32],
    /// Where the rows of C begin.
    starts: &'a [usize],
    columns: usize,
    /// The first column of C.
    column: usize,
}

impl<const FAR: bool> Tile<'_, FAR> {
    /// Calls the body for the number of rows, and for as many columns as the level's registers hold beside them.
    #[inline(always)]
    fn run<const FUSED: bool, const LANES: usize>(self) {
        match self.starts.len() {
            1 => self.columns::<1, FUSED, LANES>(),
            2 => self.columns::<2, FUSED, LANES>(),
            3 => self.columns::<3, FUSED, LANES>(),
            4 => self.columns::<4, FUSED, LANES>(),
            5 => self.columns::<5, FUSED, LANES>(),
            6 => self.columns::<6, FUSED, LANES>(),
            7 => self.columns::<7, FUSED, LANES>(),
            8 => self.columns::<8, FUSED, LANES>(),
            9 => self.columns::<9, FUSED, LANES>(),
            10 => self.columns::<10, FUSED, LANES>(),
            11 => self.columns::<11, FUSED, LANES>(),
            12 => self.columns::<12, FUSED, LANES>(),
            13 => self.columns::<13, FUSED, LANES>(),
            _ => self.columns::<TILE, FUSED, LANES>(),
        }
    }

    #[inline(always)]
    fn columns<const ROWS: usize, const FUSED: bool, const LANES: usize>(mut self) {
        match LANES {
            16 => self.body::<ROWS, PANEL, FUSED>(0),
            lanes => (0..PANEL).step_by(lanes).for_each(|offset| match lanes {
                8 => self.body::<ROWS, 8, FUSED>(offset),
                _ => self.body::<ROWS, 4, FUSED>(offset),
            }),
        }
    }

    /// `ROWS` × `WIDTH` sums, in registers over the whole slice.
    #[inline(always)]
    fn body<const ROWS: usize, const WIDTH: usize, const FUSED: bool>(&mut self, offset: usize) {
        let column = self.column + offset;
        if column >= self.columns {
            return;
        }
        let width = WIDTH.min(self.columns - column);
        let mut sums = [[0.0_f32; WIDTH]; ROWS];
        if self.goes_on {
            for (&start, sums) in self.starts.iter().zip(&mut sums) {
                sums[..width].copy_from_slice(&self.c[start + column..][..width]);
            }
        }
        let next = (self.next, self.tiles.ilog2());
        accumulate::<ROWS, WIDTH, FUSED, FAR>(self.a, self.stride, self.panel, next, offset, &mut sums);
        for (&start, sums) in self.starts.iter().zip(&sums) {
            self.c[start + column..][..width].copy_from_slice(&sums[..width]);
        }
    }
}

/// Adds `ROWS` rows times columns `offset..offset + WIDTH` of a panel to `sums`; if `FAR`, `next` is brought closer
/// meanwhile, a row every 2^`spread` steps.
///
/// The sums are a local copy and the loops count, because only then does the compiler keep them in registers.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "see above")]
fn accumulate<const ROWS: usize, const WIDTH: usize, const FUSED: bool, const FAR: bool>(
    a: &[f32],
    stride: usize,
    panel: &[[f32; PANEL]],
    (next, spread): (&[[f32; PANEL]], u32),
    offset: usize,
    sums: &mut [[f32; WIDTH]; ROWS],
) {
    let depth = panel.len();
    let rows: [&[f32]; ROWS] = std::array::from_fn(|row| &a[row * stride..][..depth]);
    let mut local = *sums;
    for k in 0..depth {
        simd::prefetch::<_, true>(panel, k + AHEAD);
        if FAR {
            simd::prefetch::<_, false>(next, k >> spread);
        }
        let b = &panel[k];
        for row in 0..ROWS {
            let a = rows[row][k];
            for lane in 0..WIDTH {
                let (b, sum) = (b[offset + lane], local[row][lane]);
                // Only where the level has it: elsewhere a fused multiply-add is a slow routine.
                local[row][lane] = if FUSED { a.mul_add(b, sum) } else { a * b + sum };
            }
        }
    }
    *sums = local;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(index: usize) -> f32 {
        (index.wrapping_mul(2_654_435_761) % 1009) as f32 / 504.5 - 1.0
    }

    fn product(level: Level, rows: usize, depth: usize, columns: usize) -> Vec<f32> {
        let weight = PackedWeight::new(depth, columns, |k, n| number(k * columns + n + 7));
        let mut a = vec![f32::NAN; rows * weight.stride()];
        for (row, elements) in a.chunks_exact_mut(weight.stride()).enumerate() {
            (0..depth).for_each(|k| elements[k] = number(row * depth + k));
        }
        let mut c = vec![f32::NAN; rows * columns];
        multiply_at(level, &a, &weight, &mut c);
        // Bringing panels closer is for large weights; it may change nothing but the time. Nor may slices.
        let mut again = vec![f32::NAN; rows * columns];
        let starts: Vec<usize> = (0..rows).map(|row| row * columns).collect();
        for (from, to) in [(0, depth / 2), (depth / 2, depth)] {
            let slice = Slice { a: &a[from..], stride: weight.stride(), b: &weight, from, to, goes_on: from > 0 };
            simd::run(level, Multiply::<true> { slice, c: &mut again, starts: &starts });
        }
        assert_eq!(c, again);
        c
    }

    #[test]
    fn products_agree_with_float64_at_every_edge_of_tile_panel_and_depth_at_every_level() {
        for level in simd::levels() {
            for rows in [1, 2, 5, TILE - 1, TILE, TILE + 1, 2 * TILE + 7] {
                for depth in [1, 3, 64, DEPTH - 1, DEPTH, DEPTH + 1] {
                    for columns in [1, 7, PANEL - 1, PANEL, PANEL + 1, 2 * PANEL + 5] {
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
    fn a_row_has_the_same_bits_alone_and_among_others() {
        let (depth, columns) = (DEPTH + 37, PANEL + 3);
        for level in simd::levels() {
            let many = product(level, ROW_BLOCK, depth, columns);
            for rows in 1..=TILE + 1 {
                assert_eq!(product(level, rows, depth, columns), many[..rows * columns], "{level:?}, {rows} rows");
            }
        }
    }
}
