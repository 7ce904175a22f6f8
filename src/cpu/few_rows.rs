//! Products of few rows with a large dense weight, which is read as the network has it: no second copy is held, and
//! reading it once from memory is what such a product takes.
//!
//! Forward, rows of the weight are the left factor of a product, and the rows of the source the right one. On the way
//! back, stretches of the weight's rows are packed while they are in cache.

use std::ops::Range;
use std::sync::Arc;

use super::chain::Chain;
use super::crew::{Crew, Written};
use super::dense::read;
use super::gemm::{self, LINE, PackedWeight, Slice};
use crate::plan::{Direction, Step};
use crate::rules::WeightPart;
use crate::tensor::Tensor;

/// Outputs that a part of a step makes forward, and inputs on the way back, which lie side by side in a row of the
/// weight.
const OUTPUTS: usize = 64;
const BESIDE: usize = 512;

/// A dense layer's weight `[outputs, inputs]`, changed by a part, on its way in a direction.
#[derive(Debug)]
pub(super) struct FewRows {
    pub(super) weight: Arc<Tensor>,
    pub(super) direction: Direction,
    pub(super) part: WeightPart,
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

    /// The product's columns `outputs`, a column after another: `b` holds the rows of the source, its columns.
    fn forward(&self, b: &PackedWeight, outputs: Range<usize>, c: &mut [f32], room: &mut Vec<f32>) {
        let (w, inputs, rows) = (self.weight.data(), self.depth(), b.columns());
        let starts: Vec<usize> = (0..outputs.len()).map(|output| output * rows).collect();
        for Range { start: from, end: to } in gemm::slices(inputs) {
            let goes_on = from > 0;
            let in_place = &w[outputs.start * inputs + from..];
            if self.part == WeightPart::WHOLE {
                gemm::multiply_slice(Slice { a: in_place, stride: inputs, b, from, to, goes_on }, c, &starts);
                continue;
            }
            let stride = to - from + LINE;
            room.resize(room.len().max(outputs.len() * stride), 0.0);
            for (row, changed) in in_place.chunks(inputs).zip(room.chunks_exact_mut(stride)).take(outputs.len()) {
                changed.iter_mut().zip(&row[..to - from]).for_each(|(changed, &w)| *changed = self.part.of(w));
            }
            gemm::multiply_slice(Slice { a: room, stride, b, from, to, goes_on }, c, &starts);
        }
    }

    /// The product's columns `inputs`; rows of `a` are `stride` apart.
    fn backward(&self, a: &[f32], stride: usize, inputs: Range<usize>, c: &mut [f32], room: &mut Vec<f32>) {
        let (w, width) = (self.weight.data(), self.columns());
        let starts: Vec<usize> = (0..a.len() / stride).map(|row| row * inputs.len()).collect();
        for Range { start: from, end: to } in gemm::slices(self.depth()) {
            let row = |k: usize| &w[(from + k) * width..][inputs.clone()];
            let memory = std::mem::take(room);
            let b = match self.part {
                WeightPart::WHOLE => PackedWeight::of_rows(memory, to - from, inputs.len(), row, |w| w),
                part => PackedWeight::of_rows(memory, to - from, inputs.len(), row, |w| part.of(w)),
            };
            let slice = Slice { a: &a[from..], stride, b: &b, from: 0, to: to - from, goes_on: from > 0 };
            gemm::multiply_slice(slice, c, &starts);
            *room = b.into_memory();
        }
    }
}

/// Rows of the source times the weight, then the chain. Threads share the columns, because rows are few.
pub(super) fn run(chain: &Chain<'_>, step: &Step, weight: &FewRows, written: Written<'_>, crew: Crew<'_>) {
    let depth = weight.depth();
    let stride = depth + LINE;
    let rows = written.target.len() / weight.columns();
    let mut a = vec![0.0; rows * stride];
    read(chain, step, 0..rows, depth, &mut a);
    multiply(weight, &a, stride, written.target, crew);
    chain.finish(0, chain.plan.buffers[step.target.index()].width, written);
}

/// Rows `stride` apart times the weight.
fn multiply(weight: &FewRows, a: &[f32], stride: usize, target: &mut [f32], crew: Crew<'_>) {
    let (columns, rows) = (weight.columns(), a.len() / stride);
    let width = match weight.direction {
        Direction::Forward => OUTPUTS,
        Direction::Backward => BESIDE,
    };
    let ranges = || (0..columns).step_by(width).map(|first| first..columns.min(first + width));
    let mut parts: Vec<Vec<f32>> = ranges().map(|range| vec![0.0; rows * range.len()]).collect();
    match weight.direction {
        Direction::Forward => {
            let b = PackedWeight::new(weight.depth(), rows, |k, row| a[row * stride + k]);
            crew.each(ranges().zip(&mut parts), |(range, part), room| weight.forward(&b, range, part, room));
            for (range, part) in ranges().zip(&parts) {
                for (column, part) in range.zip(part.chunks_exact(rows)) {
                    target[column..].iter_mut().step_by(columns).zip(part).for_each(|(to, &from)| *to = from);
                }
            }
        }
        Direction::Backward => {
            crew.each(ranges().zip(&mut parts), |(range, part), room| weight.backward(a, stride, range, part, room));
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
    use super::*;

    fn number(index: usize) -> f32 {
        (index.wrapping_mul(2_654_435_761) % 1009) as f32 / 504.5 - 1.0
    }

    #[test]
    fn any_number_of_rows_gives_the_bits_of_a_packed_weight() {
        let (outputs, inputs) = (8 * OUTPUTS + 35, BESIDE + 37);
        let weight = Arc::new(Tensor::from_fn([outputs, inputs], number));
        let scaled = WeightPart::Scaled { positive: 1.5, negative: 0.25 };
        for part in [WeightPart::WHOLE, scaled, WeightPart::Squared, WeightPart::One] {
            for direction in [Direction::Forward, Direction::Backward] {
                let few = FewRows { weight: Arc::clone(&weight), direction, part };
                let w = |output: usize, input: usize| part.of(weight.data()[output * inputs + input]);
                let packed = match direction {
                    Direction::Forward => PackedWeight::new(inputs, outputs, |k, n| w(n, k)),
                    Direction::Backward => PackedWeight::new(outputs, inputs, w),
                };
                for rows in [1, 2, 7, 8, 19] {
                    let a: Vec<f32> = (0..rows * packed.stride()).map(|index| number(index + 3)).collect();
                    let mut expected = vec![f32::NAN; rows * packed.columns()];
                    gemm::multiply(&a, &packed, &mut expected);
                    let mut found = vec![f32::NAN; expected.len()];
                    let crew = Crew { threads: 1, shelf: &Shelf::default() };
                    multiply(&few, &a, packed.stride(), &mut found, crew);
                    assert!(found == expected, "{direction:?}, {part:?}, {rows} rows");
                }
            }
        }
    }
}
