//! Products of few rows with a large dense weight, which is read as the network has it: no second copy is held, and
//! reading it from memory, once for each product that a step sums, is what they take.
//!
//! Forward, rows of the weight are the left factor of a product, and the rows of the source the right one. On the way
//! back, multiples of some of the weight's rows at a time are added to sums that stay in cache: packed, each element would
//! go through memory once more.

use std::ops::Range;
use std::sync::Arc;

use super::ahead::Soon;
use super::chain::Chain;
use super::crew::{Crew, Written};
use super::dense::read;
use super::gemm::{self, LINE, PackedWeight, Slice};
use super::simd::{self, Level, Loop};
use crate::plan::{Direction, Step};
use crate::rules::WeightPart;
use crate::tensor::Tensor;

/// Outputs that a part of a step makes forward.
const OUTPUTS: usize = 64;
/// Sums that a part of a step makes on the way back, and the most and fewest inputs, which lie side by side in a row of
/// the weight.
const SUMS: usize = 4096;
const MOST_BESIDE: usize = 512;
const FEWEST_BESIDE: usize = 64;
/// Rows of the weight that are added at once.
const AT_ONCE: usize = 4;

/// A dense layer's weight `[outputs, inputs]` on its way in a direction, changed by a part for each product that a step sums.
#[derive(Debug)]
pub(super) struct FewRows {
    pub(super) weight: Arc<Tensor>,
    pub(super) direction: Direction,
    pub(super) parts: Vec<WeightPart>,
}

impl FewRows {
    /// The length of a row of the product.
    pub(super) fn columns(&self) -> usize {
        match self.direction {
            Direction::Forward => self.weight.shape().dims()[0],
            Direction::Backward => self.weight.shape().dims()[1],
        }
    }

    fn depth(&self) -> usize {
        match self.direction {
            Direction::Forward => self.weight.shape().dims()[1],
            Direction::Backward => self.weight.shape().dims()[0],
        }
    }

    /// The columns `outputs` of the products' sum, a column after another: `b` holds the rows of each source, its columns.
    fn forward(&self, b: &[PackedWeight], outputs: Range<usize>, c: &mut [f32], room: &mut Vec<f32>) {
        for (position, (b, part)) in b.iter().zip(&self.parts).enumerate() {
            self.forward_by(*part, (b, position > 0), outputs.clone(), c, room);
        }
    }

    fn forward_by(
        &self,
        part: WeightPart,
        (b, is_added): (&PackedWeight, bool),
        outputs: Range<usize>,
        c: &mut [f32],
        room: &mut Vec<f32>,
    ) {
        let (w, inputs, rows) = (self.weight.data(), self.depth(), b.columns());
        let starts: Vec<usize> = (0..outputs.len()).map(|output| output * rows).collect();
        for Range { start: from, end: to } in gemm::slices(inputs) {
            let goes_on = is_added || from > 0;
            let in_place = &w[outputs.start * inputs + from..];
            if part == WeightPart::WHOLE {
                gemm::multiply_slice(
                    Slice { a: in_place, stride: inputs, b, from, to, goes_on },
                    c,
                    &starts,
                    &mut Soon::default(),
                );
                continue;
            }
            let stride = to - from + LINE;
            room.resize(room.len().max(outputs.len() * stride), 0.0);
            for (row, changed) in in_place.chunks(inputs).zip(room.chunks_exact_mut(stride)).take(outputs.len()) {
                changed.iter_mut().zip(&row[..to - from]).for_each(|(changed, &w)| *changed = part.of(w));
            }
            gemm::multiply_slice(Slice { a: room, stride, b, from, to, goes_on }, c, &starts, &mut Soon::default());
        }
    }

    /// The columns `inputs` of the products' sum; rows of each `a` are `stride` apart.
    fn backward(&self, a: &[Vec<f32>], stride: usize, inputs: Range<usize>, c: &mut [f32], room: &mut Vec<f32>) {
        let width = inputs.len().next_multiple_of(LINE);
        let length = a[0].len() / stride * width;
        room.resize(room.len().max(length), 0.0);
        let chains = a
            .iter()
            .zip(&self.parts)
            .flat_map(|(a, part)| gemm::chains(self.depth()).map(move |chain| (a, part, chain)));
        for (position, (a, part, chain)) in chains.enumerate() {
            let sums = &mut room[..length];
            sums.fill(0.0);
            let multiples = Multiples { weight: self, chain, a, stride, inputs: inputs.clone(), sums };
            match *part {
                WeightPart::WHOLE => simd::run(Level::widest(), Body(multiples, |w| w)),
                part => simd::run(Level::widest(), Body(multiples, move |w| part.of(w))),
            }
            for (c, sums) in c.chunks_exact_mut(inputs.len()).zip(room.chunks_exact(width)) {
                match position {
                    0 => c.copy_from_slice(&sums[..inputs.len()]),
                    _ => c.iter_mut().zip(sums).for_each(|(c, sum)| *c += sum),
                }
            }
        }
    }
}

/// Multiples of the weight's rows `chain` that are added to rows of sums, each as long as `inputs` filled up to whole
/// lines.
struct Multiples<'a> {
    weight: &'a FewRows,
    chain: Range<usize>,
    a: &'a [f32],
    stride: usize,
    inputs: Range<usize>,
    sums: &'a mut [f32],
}

/// Adds them, elements of the weight through a function.
struct Body<'a, F>(Multiples<'a>, F);

impl<F: Fn(f32) -> f32> Loop for Body<'_, F> {
    #[inline(always)]
    fn run<const FUSED: bool, const LANES: usize>(self) {
        let Body(Multiples { weight, chain, a, stride, inputs, sums }, change) = self;
        let row = |k: usize| &weight.weight.data()[k * weight.columns()..][inputs.clone()];
        let mut k = chain.start;
        while k < chain.end {
            if k + AT_ONCE <= chain.end {
                let next = if k + 2 * AT_ONCE <= weight.depth() { k + AT_ONCE } else { k };
                add::<AT_ONCE, FUSED>(rows_from(k, row), rows_from(next, row), &change, (&a[k..], stride), sums);
                k += AT_ONCE;
            } else {
                add::<1, FUSED>(rows_from(k, row), rows_from(k, row), &change, (&a[k..], stride), sums);
                k += 1;
            }
        }
    }
}

#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "only loops that count are written out")]
fn rows_from<'a, const ROWS: usize>(first: usize, row: impl Fn(usize) -> &'a [f32]) -> [&'a [f32]; ROWS] {
    let mut rows = [[].as_slice(); ROWS];
    for k in 0..ROWS {
        rows[k] = row(first + k);
    }
    rows
}

/// Adds multiples of some rows `w` to every row of sums, a line of columns after another, while `next` is brought closer.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "only loops that count are written out")]
fn add<const ROWS: usize, const FUSED: bool>(
    w: [&[f32]; ROWS],
    next: [&[f32]; ROWS],
    change: impl Fn(f32) -> f32,
    (a, stride): (&[f32], usize),
    sums: &mut [f32],
) {
    let columns = w[0].len();
    let width = columns.next_multiple_of(LINE);
    for column in (0..columns).step_by(LINE) {
        let mut line = [[0.0_f32; LINE]; ROWS];
        for k in 0..ROWS {
            simd::prefetch::<_, true>(next[k], column);
            match w[k][column..].first_chunk::<LINE>() {
                Some(w) => line[k] = *w,
                None => line[k][..columns - column].copy_from_slice(&w[k][column..]),
            }
            for lane in 0..LINE {
                line[k][lane] = change(line[k][lane]);
            }
        }
        for (sums, a) in sums.chunks_exact_mut(width).zip(a.chunks(stride)) {
            let sums: &mut [f32; LINE] = sums[column..].first_chunk_mut().expect("rows of sums are whole lines");
            let a: &[f32; ROWS] = a.first_chunk().expect("rows of A are as long as the weight is deep");
            let mut local = *sums;
            for k in 0..ROWS {
                for lane in 0..LINE {
                    let (w, sum) = (line[k][lane], local[lane]);
                    local[lane] = if FUSED { a[k].mul_add(w, sum) } else { a[k] * w + sum };
                }
            }
            *sums = local;
        }
    }
}

/// Rows of the sources times the weight's parts, then the chain. Threads share the columns, because rows are few.
pub(super) fn run(chain: &Chain<'_>, step: &Step, weight: &FewRows, written: Written<'_>, crew: Crew<'_>) {
    let depth = weight.depth();
    let stride = depth + LINE;
    let rows = written.target.len() / weight.columns();
    let read = |source| {
        let mut a = vec![0.0; rows * stride];
        read(chain, source, 0..rows, depth, &mut a);
        a
    };
    let a: Vec<Vec<f32>> = step.products().map(|(source, _)| read(source)).collect();
    multiply(weight, &a, stride, written.target, crew);
    chain.finish(0, chain.plan.buffers[step.target.index()].width, written);
}

/// Rows `stride` apart times the weight, for each of its parts; their sum.
fn multiply(weight: &FewRows, a: &[Vec<f32>], stride: usize, target: &mut [f32], crew: Crew<'_>) {
    let (columns, rows) = (weight.columns(), a[0].len() / stride);
    let width = match weight.direction {
        Direction::Forward => OUTPUTS,
        Direction::Backward => (SUMS / rows.max(1) / LINE * LINE).clamp(FEWEST_BESIDE, MOST_BESIDE),
    };
    let ranges = || (0..columns).step_by(width).map(|first| first..columns.min(first + width));
    let mut parts: Vec<Vec<f32>> = ranges().map(|range| vec![0.0; rows * range.len()]).collect();
    match weight.direction {
        Direction::Forward => {
            let packed = |a: &Vec<f32>| PackedWeight::new(weight.depth(), rows, |k, row| a[row * stride + k]);
            let b: Vec<PackedWeight> = a.iter().map(packed).collect();
            crew.each(ranges().zip(&mut parts), |(range, part), room| weight.forward(&b, range, part, &mut room.rows));
            for (range, part) in ranges().zip(&parts) {
                for (column, part) in range.zip(part.chunks_exact(rows)) {
                    target[column..].iter_mut().step_by(columns).zip(part).for_each(|(to, &from)| *to = from);
                }
            }
        }
        Direction::Backward => {
            crew.each(ranges().zip(&mut parts), |(range, part), room| {
                weight.backward(a, stride, range, part, &mut room.rows)
            });
            for (range, part) in ranges().zip(&parts) {
                for (row, part) in target.chunks_exact_mut(columns).zip(part.chunks_exact(range.len())) {
                    row[range.clone()].copy_from_slice(part);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::crew::Shelf;
    use super::super::numbers::number;
    use super::*;

    #[test]
    fn any_number_of_rows_gives_the_bits_of_a_packed_weight() {
        let (outputs, inputs) = (8 * OUTPUTS + 35, MOST_BESIDE + 37);
        let weight = Arc::new(Tensor::from_fn([outputs, inputs], number));
        let scaled = WeightPart::Scaled { positive: 1.5, negative: 0.25 };
        let whole = WeightPart::WHOLE;
        for parts in [vec![whole], vec![scaled], vec![WeightPart::Squared], vec![WeightPart::One], vec![scaled, whole]]
        {
            for direction in [Direction::Forward, Direction::Backward] {
                let few = FewRows { weight: Arc::clone(&weight), direction, parts: parts.clone() };
                let packed = |part: &WeightPart| {
                    let w = |output: usize, input: usize| part.of(weight.data()[output * inputs + input]);
                    match direction {
                        Direction::Forward => PackedWeight::new(inputs, outputs, |k, n| w(n, k)),
                        Direction::Backward => PackedWeight::new(outputs, inputs, w),
                    }
                };
                let packed: Vec<PackedWeight> = parts.iter().map(packed).collect();
                let (columns, stride) = (packed[0].columns(), packed[0].stride());
                for rows in [1, 2, 7, 8, 19] {
                    let a = |first: usize| (0..rows * stride).map(|index| number(index + first)).collect();
                    let a: Vec<Vec<f32>> = (0..parts.len()).map(|position| a(3 + 5 * position)).collect();
                    let mut expected = vec![f32::NAN; rows * columns];
                    for (position, (a, packed)) in a.iter().zip(&packed).enumerate() {
                        gemm::multiply(a, packed, &mut expected, position > 0, &mut Soon::default());
                    }
                    let mut found = vec![f32::NAN; expected.len()];
                    let crew = Crew { threads: 1, shelf: &Shelf::default() };
                    multiply(&few, &a, stride, &mut found, crew);
                    assert!(found == expected, "{direction:?}, {parts:?}, {rows} rows");
                }
            }
        }
    }
}
