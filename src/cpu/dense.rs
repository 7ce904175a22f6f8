//! Products of rows with a dense layer's weight.

use std::ops::Range;
use std::sync::Arc;

use super::chain::{self, Chain};
use super::crew::Crew;
use super::gemm::{self, LINE, PackedWeight, Slice};
use crate::plan::{Direction, Step};
use crate::rules::WeightPart;
use crate::tensor::Tensor;

/// Columns of a weight in place that are packed at once, where columns lie apart, each along the summed axis, and where
/// they lie beside each other: long runs of memory are read either way.
const APART: usize = 64;
const BESIDE: usize = 256;

/// A weight as a product reads it.
#[derive(Debug)]
pub(super) enum Weight {
    /// Packed beforehand.
    Packed(Arc<PackedWeight>),
    /// As the network has it, packed slice by slice while it is read: no second copy is held, and where rows are few,
    /// reading takes as long as packing.
    InPlace(InPlace),
}

impl Weight {
    /// The length of a row of the product.
    pub(super) fn columns(&self) -> usize {
        match self {
            Weight::Packed(weight) => weight.columns(),
            Weight::InPlace(weight) => weight.columns(),
        }
    }
}

/// A dense layer's weight `[outputs, inputs]` on its way in a direction.
#[derive(Debug)]
pub(super) struct InPlace {
    pub(super) weight: Arc<Tensor>,
    pub(super) direction: Direction,
    pub(super) part: WeightPart,
}

impl InPlace {
    fn columns(&self) -> usize {
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

    /// Columns that a part of a step makes. Summed elements are packed a slice at a time.
    fn packed_at_once(&self) -> usize {
        match self.direction {
            Direction::Forward => APART,
            Direction::Backward => BESIDE,
        }
    }

    /// A slice of summed elements of some columns.
    fn packed(&self, summed: Range<usize>, columns: Range<usize>) -> PackedWeight {
        let (w, inputs) = (self.weight.data(), self.weight.shape().dims()[1]);
        let of = |w: f32| if self.part == WeightPart::WHOLE { w } else { self.part.of(w) };
        PackedWeight::filled(summed.len(), columns.len(), |first, width, panel| {
            let columns = columns.start + first..columns.end.min(columns.start + first + width);
            match self.direction {
                Direction::Forward => {
                    for (lane, column) in columns.enumerate() {
                        let row = &w[column * inputs..][summed.clone()];
                        let to = panel[lane..].iter_mut().step_by(width);
                        to.zip(row).for_each(|(to, &w)| *to = of(w));
                    }
                }
                Direction::Backward => {
                    for (row, to) in summed.clone().zip(panel.chunks_exact_mut(width)) {
                        let from = &w[row * inputs..][columns.clone()];
                        to.iter_mut().zip(from).for_each(|(to, &w)| *to = of(w));
                    }
                }
            }
        })
    }

    /// Some columns of the product; the rows of `a` begin at multiples of `stride`.
    fn multiply(&self, a: &[f32], stride: usize, columns: Range<usize>, c: &mut [f32]) {
        let starts: Vec<usize> = (0..a.len() / stride).map(|row| row * columns.len()).collect();
        // The slices of a packed weight, whose bits these are.
        for summed in gemm::slices(self.depth()) {
            let from = summed.start;
            let b = &self.packed(summed.clone(), columns.clone());
            let slice = Slice { a: &a[from..], stride, b, from: 0, to: summed.len(), goes_on: from > 0 };
            gemm::multiply_slice(slice, c, &starts);
        }
    }
}

/// Rows of the source times a weight, then the chain.
pub(super) fn run(chain: &Chain<'_>, step: &Step, weight: &Weight, target: &mut [f32], crew: Crew<'_>) {
    match weight {
        Weight::Packed(weight) => packed(chain, step, weight, target, crew),
        Weight::InPlace(weight) => in_place(chain, step, weight, target, crew),
    }
}

/// The chain runs over each block of rows while it is in cache.
fn packed(chain: &Chain<'_>, step: &Step, weight: &PackedWeight, target: &mut [f32], crew: Crew<'_>) {
    let columns = weight.columns();
    let width = chain.plan.buffers[step.target.index()].width;
    crew.pieces(target, columns, gemm::row_block(), |first, target, room| {
        let rows = first..first + target.len() / columns;
        let length = rows.len() * weight.stride();
        room.resize(room.len().max(length), 0.0);
        read(chain, step, rows, weight.depth(), &mut room[..length]);
        gemm::multiply(&room[..length], weight, target);
        chain.apply_to(first * columns, width, target);
    });
}

/// Threads share the columns, because rows are few.
fn in_place(chain: &Chain<'_>, step: &Step, weight: &InPlace, target: &mut [f32], crew: Crew<'_>) {
    let (depth, columns) = (weight.depth(), weight.columns());
    let rows = target.len() / columns;
    let stride = depth + LINE;
    let mut a = vec![0.0; rows * stride];
    read(chain, step, 0..rows, depth, &mut a);
    let width = weight.packed_at_once();
    let ranges = || (0..columns).step_by(width).map(|first| first..columns.min(first + width));
    let mut parts: Vec<Vec<f32>> = ranges().map(|range| vec![0.0; rows * range.len()]).collect();
    crew.each(ranges().zip(&mut parts), |(range, part), _| weight.multiply(&a, stride, range, part));
    for (range, part) in ranges().zip(&parts) {
        for (row, part) in target.chunks_exact_mut(columns).zip(part.chunks_exact(range.len())) {
            row[range.clone()].copy_from_slice(part);
        }
    }
    chain.apply_to(0, chain.plan.buffers[step.target.index()].width, target);
}

/// Reads rows of the source as rows of A.
fn read(chain: &Chain<'_>, step: &Step, rows: Range<usize>, depth: usize, a: &mut [f32]) {
    let source = step.source.expect("a product reads rows");
    let stored = chain.memory.read(source.buffer)[rows.start * depth..rows.end * depth].chunks_exact(depth);
    for (from, to) in stored.zip(a.chunks_exact_mut(depth + LINE)) {
        chain::read(&source, from, &mut to[..depth]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_in_place_gives_the_bits_of_a_packed_one() {
        let number = |index: usize| (index.wrapping_mul(2_654_435_761) % 1009) as f32 / 504.5 - 1.0;
        let weight = Arc::new(Tensor::from_fn([300, 530], number));
        let scaled = WeightPart::Scaled { positive: 1.5, negative: 0.25 };
        for part in [WeightPart::WHOLE, scaled, WeightPart::Squared] {
            for direction in [Direction::Forward, Direction::Backward] {
                let in_place = InPlace { weight: Arc::clone(&weight), direction, part };
                let w = |output: usize, input: usize| part.of(weight.data()[output * 530 + input]);
                let packed = match direction {
                    Direction::Forward => PackedWeight::new(530, 300, |k, n| w(n, k)),
                    Direction::Backward => PackedWeight::new(300, 530, w),
                };
                let rows = 7;
                let a: Vec<f32> = (0..rows * packed.stride()).map(number).collect();
                let mut whole = vec![0.0; rows * packed.columns()];
                gemm::multiply(&a, &packed, &mut whole);
                let width = in_place.packed_at_once();
                for first in (0..packed.columns()).step_by(width) {
                    let range = first..packed.columns().min(first + width);
                    let mut part = vec![f32::NAN; rows * range.len()];
                    in_place.multiply(&a, packed.stride(), range.clone(), &mut part);
                    for (part, whole) in part.chunks(range.len()).zip(whole.chunks(packed.columns())) {
                        assert_eq!(part, &whole[range.clone()], "{direction:?}, {part:?}");
                    }
                }
            }
        }
    }
}
