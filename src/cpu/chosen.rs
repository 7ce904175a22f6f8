//! Products of which every element takes one of two weights, as a sign beside it says.
//!
//! What a layer sends back whose inputs have both signs is x⁺ ⊙ W⁺ᵀq + x⁻ ⊙ W⁻ᵀq: every element of the one product counts where those of
//! the other do not. A row of each weight's panel is loaded, and for each row of q every lane picks its own before it is multiplied: a
//! multiply-add and a choice make what two multiply-adds would, of which one is for nothing. With AVX-512 the choices stay in mask registers, and
//! a choice takes less than another multiply-add, or as long. Elsewhere there are no registers for them.

use super::ahead::{Ahead, Next, Share, Soon};
use super::convolve::Factor;
use super::filters::Filters;
use super::gemm::{self, PackedWeight, Slice};
use super::simd::{self, Level, Loop};
use super::tile::{load, plus, store};
use crate::plan::{BufferId, Op, Operand, Plan, Step};
use crate::rules::InputPart;

/// Rows of a tile: seven mask registers can hold choices.
pub(super) const TILE: usize = 7;
/// Columns of a tile.
const COLUMNS: usize = 16;

/// Two steps of one layer's products that come to one, of which signs choose.
#[derive(Debug)]
pub(super) struct Chosen {
    /// Whose signs: what both multiply their products by.
    pub(super) signs: BufferId,
    /// What both steps do, given the product that was chosen: x ⊙ that, and what follows.
    pub(super) step: Step,
}

impl Chosen {
    /// If the second of two steps adds x⁻ ⊙ its product to x⁺ ⊙ the first's, which no other step reads.
    pub(super) fn of(plan: &Plan, steps: &[&Step], factors: &[Factor<'_>], passes: &[BufferId]) -> Option<Self> {
        let (&[first, last], [above, below]) = (steps, factors) else { return None };
        let (&[Op::Multiply(positive)], &[Op::Multiply(negative), Op::Add { operand, factor: 1.0 }, ref rest @ ..]) =
            (first.chain.as_slice(), last.chain.as_slice())
        else {
            return None;
        };
        let (x, made) = (Operand::whole(positive.buffer), first.target);
        let of_part = |part: InputPart| Operand { part, ..x };
        let are_parts = (positive, negative) == (of_part(InputPart::Positive), of_part(InputPart::Negative));
        let is_all = first.writes().count() == 1 && first.then.is_empty();
        let reads = plan.steps.iter().flat_map(Step::reads).filter(|read| *read == made);
        let is_passed = operand == Operand::whole(made) && passes.contains(&made) && reads.count() == 1;
        let rows = |buffer: BufferId| plan.buffers[buffer.index()].rows;
        let lies_alike = plan.targets == 1 || rows(x.buffer) == rows(made);
        let chains = |factor: &Factor<'_>| factor.filters.packed().map(PackedWeight::chain).collect::<Vec<_>>();
        let are_rows = [above, below].iter().all(|factor| matches!(factor.filters, Filters::Panels(_)));
        let is_alike = are_rows && above.reads_with(below) && chains(above) == chains(below);
        // Elsewhere a level has no masks, or registers of other than a tile's columns.
        let pays = Level::widest().lanes() == COLUMNS;
        (pays && are_parts && is_all && is_passed && lies_alike && is_alike).then(|| Chosen {
            signs: x.buffer,
            step: Step { chain: [&[Op::Multiply(x)], rest].concat(), ..last.clone() },
        })
    }
}

/// Adds a slice of A B to C as [`gemm::multiply_slice`] does, where `signs`, whose rows lie as those of C, are not below zero, and of A times
/// `below` where they are. Both weights are alike. Every element has the bits that it has in the product which it is of.
pub(super) fn multiply_slice(
    slice: Slice<'_>,
    below: &PackedWeight,
    signs: &[f32],
    c: &mut [f32],
    starts: &[usize],
    soon: &mut Soon<'_>,
) {
    let Slice { a, stride, b, from, to, goes_on } = slice;
    let chain = slice.chain_length();
    let mut rooms = [Vec::new(), Vec::new()];
    gemm::each_panel(Level::widest(), slice, c, starts, |position, width, next, (c, column), starts_of_c| {
        let [room, room_below] = &mut rooms;
        let panels = [b.rows(position, from..to, room), below.rows(position, from..to, room_below)];
        let column_of_signs = position * PackedWeight::width();
        let of = Of { a, stride, goes_on, chain, panels, width, signs };
        multiply_columns(of, next, c, (starts_of_c, column), (starts, column_of_signs), soon);
    });
}

/// What the tiles of a panel are made of.
#[derive(Clone, Copy)]
struct Of<'a> {
    a: &'a [f32],
    stride: usize,
    goes_on: bool,
    chain: usize,
    panels: [&'a [f32]; 2],
    width: usize,
    signs: &'a [f32],
}

/// Where rows begin, and which column of theirs is meant.
type Places<'a> = (&'a [usize], usize);

fn multiply_columns(
    of: Of<'_>,
    next: Ahead<'_>,
    c: &mut [f32],
    (starts, column): Places<'_>,
    (signs, column_of_signs): Places<'_>,
    soon: &mut Soon<'_>,
) {
    let tiles = starts.len().div_ceil(TILE).max(1);
    let rows = starts.len().div_ceil(tiles).max(1);
    let chains = (of.panels[0].len() / of.width).div_ceil(of.chain);
    let share = &mut soon.share(next, of.width, tiles * (of.width / COLUMNS) * chains);
    let alike = starts.len() / rows * rows;
    let mut run = |rows: usize, range: std::ops::Range<usize>| {
        if !range.is_empty() {
            let of = Of { a: &of.a[range.start * of.stride..], ..of };
            let (at, signs) = ((&starts[range.clone()], column), (&signs[range], column_of_signs));
            Tiles { of, at, signs, share }.run(rows, c);
        }
    };
    run(rows, 0..alike);
    run(starts.len() - alike, alike..starts.len());
}

/// Tiles of equally many rows.
struct Tiles<'a, 'b, 'c> {
    of: Of<'a>,
    at: Places<'a>,
    signs: Places<'a>,
    share: &'a mut Share<'b, 'c>,
}

impl Tiles<'_, '_, '_> {
    fn run(self, rows: usize, c: &mut [f32]) {
        match rows {
            1 => self.rows::<1>(c),
            2 => self.rows::<2>(c),
            3 => self.rows::<3>(c),
            4 => self.rows::<4>(c),
            5 => self.rows::<5>(c),
            6 => self.rows::<6>(c),
            _ => self.rows::<TILE>(c),
        }
    }

    fn rows<const ROWS: usize>(self, c: &mut [f32]) {
        match (self.of.width > COLUMNS, self.share.is_empty()) {
            (false, true) => simd::run(Level::widest(), Body::<ROWS, COLUMNS, false>(self, c)),
            (false, false) => simd::run(Level::widest(), Body::<ROWS, COLUMNS, true>(self, c)),
            (true, true) => simd::run(Level::widest(), Body::<ROWS, { 2 * COLUMNS }, false>(self, c)),
            (true, false) => simd::run(Level::widest(), Body::<ROWS, { 2 * COLUMNS }, true>(self, c)),
        }
    }
}

/// `FAR`: whether something is brought closer.
struct Body<'a, 'b, 'c, const ROWS: usize, const PANEL: usize, const FAR: bool>(Tiles<'a, 'b, 'c>, &'a mut [f32]);

impl<const ROWS: usize, const PANEL: usize, const FAR: bool> Loop for Body<'_, '_, '_, ROWS, PANEL, FAR> {
    #[inline(always)]
    fn run<const FUSED: bool, const LANES: usize>(self) {
        if const { LANES != COLUMNS } {
            unreachable!("this level has no masks");
        }
        let Body(Tiles { of, at: (starts, column), signs: (signs, column_of_signs), share }, c) = self;
        let panels = of.panels.map(|panel| panel.as_chunks::<PANEL>().0);
        let depth = panels[0].len();
        let (starts, signs) = (starts.as_chunks::<ROWS>().0, signs.as_chunks::<ROWS>().0);
        // What a chain reads of both panels stays in the first-level cache for all tiles.
        for from in (0..depth).step_by(of.chain) {
            let chain = panels.map(|panel| &panel[from..depth.min(from + of.chain)]);
            for part in 0..PANEL / COLUMNS {
                let first = part * COLUMNS;
                for ((starts, signs), a) in starts.iter().zip(signs).zip(of.a.chunks(ROWS * of.stride)) {
                    let next = if FAR { share.of_tile(chain[0].len()) } else { Next::default() };
                    let signs = choices(of.signs, signs, column_of_signs + first);
                    let mut sums = [[0.0; COLUMNS]; ROWS];
                    accumulate::<FAR, ROWS, PANEL>((&a[from..], of.stride), chain, part, &signs, next, &mut sums);
                    for row in 0..ROWS {
                        let at = starts[row] + column + first;
                        if of.goes_on || from > 0 {
                            sums[row] = plus(sums[row], load(c, at));
                        }
                        store(sums[row], c, at);
                    }
                }
            }
        }
    }
}

/// The signs beside a tile; where a row of C ends within it, the last ones may be missing.
#[inline(always)]
fn choices<const ROWS: usize>(signs: &[f32], starts: &[usize; ROWS], column: usize) -> [[f32; COLUMNS]; ROWS] {
    let mut choices = [[0.0; COLUMNS]; ROWS];
    for row in 0..ROWS {
        match signs.get(starts[row] + column..).and_then(|signs| signs.first_chunk()) {
            Some(all) => choices[row] = *all,
            None => last_choices(signs, starts[row] + column, &mut choices[row]),
        }
    }
    choices
}

#[cold]
#[inline(never)]
fn last_choices(signs: &[f32], at: usize, choices: &mut [f32; COLUMNS]) {
    let there = signs.get(at..).unwrap_or_default();
    choices[..there.len()].copy_from_slice(there);
}

/// Adds `ROWS` rows times what each element chooses of the panels' columns of a part to `sums`.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "only loops that count are written out")]
fn accumulate<const FAR: bool, const ROWS: usize, const PANEL: usize>(
    (a, stride): (&[f32], usize),
    [above, below]: [&[[f32; PANEL]]; 2],
    part: usize,
    signs: &[[f32; COLUMNS]; ROWS],
    next: Next<'_>,
    sums: &mut [[f32; COLUMNS]; ROWS],
) {
    let depth = above.len();
    let below = &below[..depth];
    // No part is beyond the panel's: what the compiler knows it does not look at for every row.
    let part = part.min(PANEL / COLUMNS - 1);
    let mut rows = [[].as_slice(); ROWS];
    let mut masks = [[0; COLUMNS]; ROWS];
    for row in 0..ROWS {
        rows[row] = &a[row * stride..][..depth];
        masks[row] = signs[row].map(|sign| if sign < 0.0 { u32::MAX } else { 0 });
    }
    let mut local = *sums;
    for k in 0..depth {
        if FAR {
            next.after(k).prefetch::<PANEL>(0);
        }
        step(|row| rows[row][k], columns(&above[k], part), columns(&below[k], part), &masks, &mut local);
    }
    *sums = local;
}

#[inline(always)]
fn columns<const PANEL: usize>(row: &[f32; PANEL], part: usize) -> &[f32; COLUMNS] {
    &row.as_chunks().0[part]
}

/// Adds one step of k, of the one weight or the other as masks say: by their bits, for a choice between floats is not made in vectors.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "only loops that count are written out")]
fn step<const ROWS: usize>(
    a: impl Fn(usize) -> f32,
    above: &[f32; COLUMNS],
    below: &[f32; COLUMNS],
    masks: &[[u32; COLUMNS]; ROWS],
    sums: &mut [[f32; COLUMNS]; ROWS],
) {
    let mut apart = [0; COLUMNS];
    for lane in 0..COLUMNS {
        apart[lane] = above[lane].to_bits() ^ below[lane].to_bits();
    }
    for row in 0..ROWS {
        let a = a(row);
        for lane in 0..COLUMNS {
            let weight = f32::from_bits(above[lane].to_bits() ^ (apart[lane] & masks[row][lane]));
            sums[row][lane] = a.mul_add(weight, sums[row][lane]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::numbers::number;
    use super::super::tile::CHAIN;
    use super::*;

    #[test]
    fn every_element_has_the_bits_of_the_product_that_its_sign_chooses() {
        if Level::widest().lanes() != COLUMNS {
            println!("this machine has no masks: products are not chosen");
            return;
        }
        let columns = [1, COLUMNS - 1, COLUMNS, COLUMNS + 1, 24, 2 * COLUMNS, 3 * COLUMNS, 5 * COLUMNS + 3];
        for (columns, depth) in columns.into_iter().flat_map(|columns| [1, CHAIN, CHAIN + 1, 700].map(|k| (columns, k)))
        {
            for rows in [1, 3, TILE - 1, TILE, TILE + 1, 3 * TILE + 2] {
                check(rows, depth, columns);
            }
        }
    }

    fn check(rows: usize, depth: usize, columns: usize) {
        let whole = |k: usize, n: usize| number(k * columns + n + 7);
        let above = PackedWeight::new(depth, columns, |k, n| whole(k, n).max(0.0));
        let below = PackedWeight::new(depth, columns, |k, n| whole(k, n).min(0.0));
        let stride = above.stride();
        let a: Vec<f32> = (0..rows * stride).map(|at| number(at + 3)).collect();
        let signs: Vec<f32> = (0..rows * columns).map(|at| number(at * 5 + 1)).collect();
        let before: Vec<f32> = (0..rows * columns).map(|at| number(at + 11)).collect();
        let starts: Vec<usize> = (0..rows).map(|row| row * columns).collect();
        for goes_on in [false, true] {
            let slice = |b, from: usize, to| Slice { a: &a[from..], stride, b, from, to, goes_on: goes_on || from > 0 };
            let mut soon = Soon::within(usize::MAX, [&a[..], &before[..]], 1 + depth % 3);
            let mut chosen = before.clone();
            let [mut of_above, mut of_below] = [before.clone(), before.clone()];
            for part in gemm::slices(depth) {
                let (from, to) = (part.start, part.end);
                multiply_slice(slice(&above, from, to), &below, &signs, &mut chosen, &starts, &mut soon);
                for (weight, c) in [(&above, &mut of_above), (&below, &mut of_below)] {
                    gemm::multiply_slice(slice(weight, from, to), c, &starts, &mut Soon::default());
                }
            }
            for (at, sign) in signs.iter().enumerate() {
                let expected = if *sign < 0.0 { of_below[at] } else { of_above[at] };
                let what = format!("{rows} rows, {depth} deep, {columns} columns, on: {goes_on}, element {at}");
                assert_eq!(chosen[at].to_bits(), expected.to_bits(), "{what}");
            }
            assert!(rows * columns < 20 || signs.iter().any(|sign| *sign < 0.0) && of_above != of_below);
        }
    }
}
