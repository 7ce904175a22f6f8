//! The product of rows with a packed weight: C = A B, all that the executor needs of a GEMM.
//!
//! Every element of C is a sum of short chains of (fused) multiply-adds in the order of k, each from zero on, whatever the
//! number of rows, their place and the tile: a row's bits never depend on its neighbours. Sums of short chains round less than
//! one long chain: what W⁺x and W⁻x lose matters where they are added to a small z.
//!
//! benches/README.md compares it with the `gemm` and `rten-gemm` crates. Tiles are in `tile.rs`.

use std::ops::Range;
use std::sync::Arc;

use super::ahead::{Ahead, Soon};
use super::panels::{Made, Panels};
pub(super) use super::simd::LINE;
use super::simd::Level;
pub(super) use super::tile::CHAIN;
use super::tile::{Blocking, Tiles, chain_length};
use crate::rules::WeightPart;

/// A weight of up to this many elements stays in the second-level cache beside the rows.
const SMALL: usize = 1 << 16;
/// A weight of more elements than this is not in the second-level cache when its turn comes again.
const FAR: usize = 1 << 17;
/// A weight of more elements than this comes from memory or a distant cache.
pub(super) const LARGE: usize = 1 << 21;

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

/// The chains of multiply-adds that make an element of C, one after another, each added to those before, where a weight has none of its own
/// length.
pub(super) fn chains(depth: usize) -> impl Iterator<Item = Range<usize>> {
    whole_chains(depth, CHAIN, 1).map(|(chain, _)| chain)
}

/// Ranges of the summed axis, each of whole chains that together are of at most `most` elements, or of one, and the length of their chains, which
/// are of at most `chain`.
pub(super) fn whole_chains(depth: usize, chain: usize, most: usize) -> impl Iterator<Item = (Range<usize>, usize)> {
    let steps = Blocking::of_level(Level::widest()).steps;
    slices(depth).flat_map(move |Range { start, end }| {
        let length = chain_length(end - start, chain, steps);
        let of_range = (most / length).max(1) * length;
        (start..end).step_by(of_range).map(move |from| (from..end.min(from + of_range), length))
    })
}

/// A weight as the kernels read it.
#[derive(Debug)]
pub(super) struct PackedWeight {
    elements: Elements,
    depth: usize,
    columns: usize,
    /// Elements of the summed axis of a chain, at most.
    chain: usize,
}

#[derive(Debug)]
enum Elements {
    Packed(Arc<Panels>),
    Made(Made),
}

impl PackedWeight {
    /// Packs the matrix B of `depth` × `columns` elements.
    pub(super) fn new(depth: usize, columns: usize, element: impl Fn(usize, usize) -> f32) -> Self {
        PackedWeight::for_level(Level::widest(), depth, columns, element)
    }

    fn for_level(level: Level, depth: usize, columns: usize, element: impl Fn(usize, usize) -> f32) -> Self {
        let width = Blocking::of_level(level).panel;
        let panels = Panels::new(width, depth, columns, |first, width, to| {
            for (k, row) in to.chunks_exact_mut(width).enumerate() {
                (first..columns.min(first + width)).zip(row).for_each(|(column, packed)| *packed = element(k, column));
            }
        });
        PackedWeight::of(panels)
    }

    pub(super) fn of(panels: Panels) -> Self {
        let [depth, columns] = panels.extents();
        PackedWeight { elements: Elements::Packed(Arc::new(panels)), depth, columns, chain: CHAIN }
    }

    /// Columns of a panel.
    pub(super) fn width() -> usize {
        Blocking::of_level(Level::widest()).panel
    }

    /// Panels for a weight of `depth` × `columns` elements, full of zeros.
    pub(super) fn panels(depth: usize, columns: usize) -> Panels {
        Panels::zeros(PackedWeight::width(), depth, columns)
    }

    /// The same weight, whose sums are of chains of at most `chain`.
    pub(super) fn in_chains_of(self, chain: usize) -> Self {
        PackedWeight { chain, ..self }
    }

    /// A part of this weight, whose panels are made while they are read, until [`PackedWeight::keep`] is called; none of what is a part itself.
    pub(super) fn part(&self, part: WeightPart) -> Option<Self> {
        let Elements::Packed(panels) = &self.elements else { return None };
        Some(PackedWeight { elements: Elements::Made(Made::new(Arc::clone(panels), part)), ..*self })
    }

    /// Keeps all panels for the products to come.
    pub(super) fn keep(&self) {
        if let Elements::Made(made) = &self.elements {
            made.keep();
        }
    }

    /// Whether panels are made while they are read.
    pub(super) fn is_made(&self) -> bool {
        matches!(&self.elements, Elements::Made(made) if !made.is_kept())
    }

    /// Elements of the summed axis of a chain, at most.
    pub(super) fn chain(&self) -> usize {
        self.chain
    }

    #[cfg(test)]
    pub(super) fn element(&self, k: usize, column: usize) -> f32 {
        let panels = self.in_memory();
        let width = panels.full_width();
        panels.rows(column / width, k..k + 1)[column % width]
    }

    /// How many panels a product reads, those of all slices.
    pub(super) fn panels_read(&self) -> usize {
        self.columns.div_ceil(PackedWeight::width()) * slices(self.depth).count()
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

    /// Rows of a panel, in `room` if they are made.
    pub(super) fn rows<'a>(&'a self, panel: usize, rows: Range<usize>, room: &'a mut Vec<f32>) -> &'a [f32] {
        match &self.elements {
            Elements::Packed(panels) => panels.rows(panel, rows),
            Elements::Made(made) => made.rows(panel, rows, room),
        }
    }

    /// The panels that products read, or make theirs of.
    fn in_memory(&self) -> &Panels {
        match &self.elements {
            Elements::Packed(panels) => panels,
            Elements::Made(made) => made.in_memory(),
        }
    }
}

/// C = A B, or where it goes on, C = C + A B. The rows of `c` follow one another; those of `a` begin at multiples of
/// [`PackedWeight::stride`].
pub(super) fn multiply(a: &[f32], b: &PackedWeight, c: &mut [f32], goes_on: bool, soon: &mut Soon<'_>) {
    multiply_at(Level::widest(), a, b, c, goes_on, soon);
}

/// How many panels [`multiply`] reads for so many rows, each as often as it does.
pub(super) fn panels_read(rows: usize, b: &PackedWeight) -> usize {
    rows.div_ceil(swept(Level::widest(), rows, b)) * b.panels_read()
}

/// Rows that a sweep through a weight is for. One that stays in cache is swept once for each tile, so that rows of C are written from end to
/// end.
fn swept(level: Level, rows: usize, b: &PackedWeight) -> usize {
    if b.depth * b.columns <= SMALL { Blocking::of_level(level).tile } else { rows.max(1) }
}

fn multiply_at(level: Level, a: &[f32], b: &PackedWeight, c: &mut [f32], goes_on: bool, soon: &mut Soon<'_>) {
    let rows = a.len() / b.stride();
    assert_eq!(a.len(), rows * b.stride(), "rows of A are as long as B is deep, and padded");
    assert_eq!(c.len(), rows * b.columns, "C has a row for each row of A");
    let starts: Vec<usize> = (0..rows).map(|row| row * b.columns).collect();
    let rows = swept(level, rows, b);
    for (a, starts) in a.chunks(rows * b.stride()).zip(starts.chunks(rows)) {
        for Range { start: from, end: to } in slices_of(level, b.depth) {
            let slice = Slice { a: &a[from..], stride: b.stride(), b, from, to, goes_on: goes_on || from > 0 };
            multiply_slice_at(level, slice, c, starts, soon);
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
    /// Whether C holds what the slices before came to, or another product that this one is added to.
    pub(super) goes_on: bool,
}

impl Slice<'_> {
    /// Elements of the summed axis of a chain; the last may have fewer.
    pub(super) fn chain_length(&self) -> usize {
        self.chain_length_at(Level::widest())
    }

    fn chain_length_at(&self, level: Level) -> usize {
        chain_length(self.to - self.from, self.b.chain, Blocking::of_level(level).steps)
    }
}

/// Adds a slice of A B, one of [`slices`], to C, whose rows begin at `starts`.
pub(super) fn multiply_slice(slice: Slice<'_>, c: &mut [f32], starts: &[usize], soon: &mut Soon<'_>) {
    multiply_slice_at(Level::widest(), slice, c, starts, soon);
}

fn multiply_slice_at(level: Level, slice: Slice<'_>, c: &mut [f32], starts: &[usize], soon: &mut Soon<'_>) {
    let Slice { a, stride, b, from, to, goes_on } = slice;
    let mut room = Vec::new();
    let chain = slice.chain_length_at(level);
    each_panel(level, slice, c, starts, |position, width, next, c, starts| {
        let panel = b.rows(position, from..to, &mut room);
        multiply_columns(level, OfPanel { a, stride, panel, width, chain, goes_on, next }, c, starts, soon);
    });
}

/// Calls `multiply` for every panel of a slice's weight: with its position, its width and what is brought closer meanwhile; with where its columns
/// of C are, from which column on, and where their rows begin.
pub(super) fn each_panel(
    level: Level,
    slice: Slice<'_>,
    c: &mut [f32],
    starts: &[usize],
    mut multiply: impl FnMut(usize, usize, Ahead<'_>, (&mut [f32], usize), &[usize]),
) {
    let Slice { b, from, to, goes_on, .. } = slice;
    let panels = b.in_memory();
    let full = panels.full_width();
    assert_eq!(full, Blocking::of_level(level).panel, "the weight was packed for this level");
    // Every tile brings its share of the next panel closer, where the weight lies beyond the caches.
    let is_far = b.depth * b.columns > FAR || b.is_made();
    let mut multiply = |position: usize, c: (&mut [f32], usize), starts: &[usize]| {
        let next = if is_far { panels.ahead(position + 1, from..to) } else { Ahead::default() };
        multiply(position, panels.width(position), next, c, starts);
    };
    let whole = b.columns / full;
    for position in 0..whole {
        multiply(position, (&mut *c, position * full), starts);
    }
    let (first, columns, width) = (whole * full, b.columns % full, panels.width(whole));
    if columns == width {
        multiply(whole, (&mut *c, first), starts);
    } else if columns > 0 {
        // The last panel has more columns than C: its tiles are made elsewhere.
        let mut last = vec![0.0; starts.len() * width];
        let starts_of_last: Vec<usize> = (0..starts.len()).map(|row| row * width).collect();
        let of_c = |start: usize| start + first..start + b.columns;
        if goes_on {
            last.chunks_exact_mut(width)
                .zip(starts)
                .for_each(|(to, &start)| to[..columns].copy_from_slice(&c[of_c(start)]));
        }
        multiply(whole, (&mut last, 0), &starts_of_last);
        last.chunks_exact(width)
            .zip(starts)
            .for_each(|(from, &start)| c[of_c(start)].copy_from_slice(&from[..columns]));
    }
}

/// Some rows of a panel, and the rows of A that they are multiplied with, at multiples of `stride`.
pub(super) struct OfPanel<'a> {
    pub(super) a: &'a [f32],
    pub(super) stride: usize,
    pub(super) panel: &'a [f32],
    /// Columns of the panel.
    pub(super) width: usize,
    /// Elements of the summed axis of a chain; the last may have fewer.
    pub(super) chain: usize,
    pub(super) goes_on: bool,
    /// What is read of the panel that follows.
    pub(super) next: Ahead<'a>,
}

/// Adds the product to C, whose rows begin at `starts` and are as long as the panel's.
pub(super) fn multiply_panel(of: OfPanel<'_>, c: &mut [f32], starts: &[usize]) {
    multiply_columns(Level::widest(), of, (c, 0), starts, &mut Soon::default());
}

/// Adds the product to the columns of C from one on.
fn multiply_columns(
    level: Level,
    of: OfPanel<'_>,
    (c, column): (&mut [f32], usize),
    starts: &[usize],
    soon: &mut Soon<'_>,
) {
    let OfPanel { a, stride, panel, width, chain, goes_on, next } = of;
    let tiles = starts.len().div_ceil(Blocking::of_level(level).tile).max(1);
    // Rows are shared out evenly: a tile of few rows takes as long as one of many.
    let rows = starts.len().div_ceil(tiles).max(1);
    let (alike, rest) = starts.split_at(starts.len() / rows * rows);
    let share = &mut soon.share(next, width, tiles);
    Tiles { a, stride, goes_on, chain, panel, width, share, starts: alike, column }.run(level, rows, c);
    if !rest.is_empty() {
        let a = &a[alike.len() * stride..];
        Tiles { a, stride, goes_on, chain, panel, width, share, starts: rest, column }.run(level, rest.len(), c);
    }
}

#[cfg(test)]
mod tests {
    use super::super::numbers::number;
    use super::super::simd;
    use super::*;

    fn product(level: Level, rows: usize, depth: usize, columns: usize) -> Vec<f32> {
        let weight = PackedWeight::for_level(level, depth, columns, |k, n| number(k * columns + n + 7));
        let mut a = vec![f32::NAN; rows * weight.stride()];
        for (row, elements) in a.chunks_exact_mut(weight.stride()).enumerate() {
            (0..depth).for_each(|k| elements[k] = number(row * depth + k));
        }
        let mut c = vec![f32::NAN; rows * columns];
        multiply_at(level, &a, &weight, &mut c, false, &mut Soon::default());
        // Slice by slice is the same, as bringing panels and other things closer is.
        let mut soon = Soon::within(usize::MAX, [&a[..a.len() / 2], &a[a.len() / 3..]], 1 + depth % 4);
        let mut again = vec![f32::NAN; rows * columns];
        let starts: Vec<usize> = (0..rows).map(|row| row * columns).collect();
        for Range { start: from, end: to } in slices_of(level, depth) {
            let (b, stride) = (&weight, weight.stride());
            multiply_slice_at(
                level,
                Slice { a: &a[from..], stride, b, from, to, goes_on: from > 0 },
                &mut again,
                &starts,
                &mut soon,
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
                    for columns in
                        [1, panel / 2 - 1, panel / 2, panel - 1, panel, panel + 1, 3 * panel / 2, 2 * panel + 5]
                    {
                        check(level, rows, depth, columns);
                    }
                }
            }
        }
    }

    #[test]
    fn ranges_of_whole_chains_have_the_chains_of_their_slices() {
        let steps = Blocking::of_level(Level::widest()).steps;
        for (depth, chain) in [32, 176, 272, 528, 1040].iter().flat_map(|&depth| [(depth, 32), (depth, 64)]) {
            let of_slice = |Range { start, end }: Range<usize>| {
                let length = chain_length(end - start, chain, steps);
                (start..end).step_by(length).map(move |from| from..end.min(from + length))
            };
            let expected: Vec<_> = slices(depth).flat_map(of_slice).collect();
            for most in [1, 64, 128] {
                let ranges: Vec<_> = whole_chains(depth, chain, most).collect();
                let of_range = |(range, length): (Range<usize>, usize)| {
                    range.clone().step_by(length).map(move |from| from..range.end.min(from + length))
                };
                assert!(ranges.iter().all(|(range, length)| range.len() <= most.max(*length)), "{ranges:?}");
                assert!(most < 128 || ranges.len() < expected.len() || depth == 32, "{ranges:?}");
                assert_eq!(
                    ranges.into_iter().flat_map(of_range).collect::<Vec<_>>(),
                    expected,
                    "{depth}, {chain}, {most}"
                );
            }
        }
    }

    #[test]
    fn sums_are_of_chains_of_the_length_that_a_weight_asks_for() {
        let (level, depth, columns) = (Level::widest(), 100, 19);
        let fused = level.lanes() > 4 || cfg!(target_arch = "aarch64");
        let b = |k: usize, n: usize| number(k * columns + n);
        let steps = Blocking::of_level(level).steps;
        let mut found = Vec::new();
        for most in [32, 64] {
            let weight = PackedWeight::new(depth, columns, b).in_chains_of(most);
            let a: Vec<f32> = (0..weight.stride()).map(|k| number(k + 5)).collect();
            let mut c = vec![0.0; columns];
            multiply(&a, &weight, &mut c, false, &mut Soon::default());
            for (n, &c) in c.iter().enumerate() {
                let term = |sum: f32, k: usize| if fused { a[k].mul_add(b(k, n), sum) } else { a[k] * b(k, n) + sum };
                let chains = (0..depth).step_by(chain_length(depth, most, steps));
                let sum = chains.map(|from| (from..depth.min(from + chain_length(depth, most, steps))).fold(0.0, term));
                assert_eq!(c, sum.reduce(|before, chain| chain + before).unwrap(), "chains of {most}, column {n}");
            }
            found.push(c);
        }
        assert_ne!(found[0], found[1]);
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
        multiply(&a, &first, &mut near, false, &mut Soon::default());
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
