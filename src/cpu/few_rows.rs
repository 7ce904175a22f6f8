//! Products of few rows with a large dense weight, which is read as the network has it: no second copy is held, and
//! reading it once from memory is what such a product takes.
//!
//! Forward, rows of the weight are the left factor of a product, and the rows of the source the right one. On the way
//! back, stretches of the weight's rows are packed while they are in cache.

use std::ops::Range;
use std::sync::Arc;

use super::chain::Chain;
use super::crew::Crew;
use super::dense::read;
use super::gemm::{self, LINE, PackedWeight, Slice};
use crate::plan::{Direction, Step};
use crate::tensor::Tensor;

/// Outputs that a part of a step makes forward, and inputs on the way back, which lie side by side in a row of the
/// weight.
const OUTPUTS: usize = 64;
const BESIDE: usize = 512;

/// A dense layer's weight `[outputs, inputs]` on its way in a direction, as c₊W⁺ + c₋W⁻.
#[derive(Debug)]
pub(super) struct FewRows {
    pub(super) weight: Arc<Tensor>,
    pub(super) direction: Direction,
    /// c₊ and c₋.
    pub(super) coefficients: (f32, f32),
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

    fn part(&self, w: f32) -> f32 {
        let (positive, negative) = self.coefficients;
        if w > 0.0 { positive * w } else { negative * w }
    }

    /// The product's columns `outputs`, a column after another: `b` holds the rows of the source, its columns.
    fn forward(&self, b: &PackedWeight, outputs: Range<usize>, c: &mut [f32], room: &mut Vec<f32>) {
        let (w, inputs, rows) = (self.weight.data(), self.depth(), b.columns());
        let starts: Vec<usize> = (0..outputs.len()).map(|output| output * rows).collect();
        for Range { start: from, end: to } in gemm::slices(inputs) {
            let goes_on = from > 0;
            let in_place = &w[outputs.start * inputs + from..];
            if self.coefficients == (1.0, 1.0) {
                gemm::multiply_slice(Slice { a: in_place, stride: inputs, b, from, to, goes_on }, c, &starts);
                continue;
            }
            let stride = to - from + LINE;
            room.resize(room.len().max(outputs.len() * stride), 0.0);
            for (row, changed) in in_place.chunks(inputs).zip(room.chunks_exact_mut(stride)).take(outputs.len()) {
                changed.iter_mut().zip(&row[..to - from]).for_each(|(changed, &w)| *changed = self.part(w));
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
            let b = match self.coefficients {
                (1.0, 1.0) => PackedWeight::of_rows(memory, to - from, inputs.len(), row, |w| w),
                _ => PackedWeight::of_rows(memory, to - from, inputs.len(), row, |w| self.part(w)),
            };
            let slice = Slice { a: &a[from..], stride, b: &b, from: 0, to: to - from, goes_on: from > 0 };
            gemm::multiply_slice(slice, c, &starts);
            *room = b.into_memory();
        }
    }
}

/// Rows of the source times the weight, then the chain. Threads share the columns, because rows are few.
pub(super) fn run(chain: &Chain<'_>, step: &Step, weight: &FewRows, target: &mut [f32], crew: Crew<'_>) {
    let depth = weight.depth();
    let stride = depth + LINE;
    let rows = target.len() / weight.columns();
    let mut a = vec![0.0; rows * stride];
    read(chain, step, 0..rows, depth, &mut a);
    multiply(weight, &a, stride, target, crew);
    chain.apply_to(0, chain.plan.buffers[step.target.index()].width, target);
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
    use crate::rules::WeightPart;

    fn number(index: usize) -> f32 {
        (index.wrapping_mul(2_654_435_761) % 1009) as f32 / 504.5 - 1.0
    }

    fn product(weight: &FewRows, a: &[f32], stride: usize) -> Vec<f32> {
        let mut target = vec![f32::NAN; a.len() / stride * weight.columns()];
        multiply(weight, a, stride, &mut target, Crew { threads: 1, shelf: &Shelf::default() });
        target
    }

    #[test]
    fn products_agree_with_float64_and_rows_keep_their_bits_whatever_stands_beside_them() {
        let (outputs, inputs) = (8 * OUTPUTS + 35, BESIDE + 37);
        let tensor = Arc::new(Tensor::from_fn([outputs, inputs], number));
        for coefficients in [(1.0, 1.0), (1.5, 0.25), (0.0, 1.0)] {
            for direction in [Direction::Forward, Direction::Backward] {
                let weight = FewRows { weight: Arc::clone(&tensor), direction, coefficients };
                let (rows, stride) = (19, weight.depth() + LINE);
                let a: Vec<f32> = (0..rows * stride).map(|index| number(index + 3)).collect();
                let all = product(&weight, &a, stride);
                check(&weight, &a, stride, &all);
                for rows in [1, 2, 7, 8] {
                    let few = product(&weight, &a[..rows * stride], stride);
                    assert_eq!(few, all[..few.len()], "{direction:?}, {rows} rows");
                }
            }
        }
    }

    fn check(weight: &FewRows, a: &[f32], stride: usize, found: &[f32]) {
        let (positive, negative) = weight.coefficients;
        let (part, inputs) = (WeightPart::Scaled { positive, negative }, weight.weight.shape().dims()[1]);
        for (index, &found) in found.iter().enumerate() {
            let (row, column) = (index / weight.columns(), index % weight.columns());
            let terms = (0..weight.depth()).map(|k| {
                let (output, input) = match weight.direction {
                    Direction::Forward => (column, k),
                    Direction::Backward => (k, column),
                };
                f64::from(a[row * stride + k]) * f64::from(part.of(weight.weight.data()[output * inputs + input]))
            });
            let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()));
            // 512 · 2⁻²⁴ would bound a slice; most of its rounding cancels.
            approx::assert_abs_diff_eq!(f64::from(found), sum, epsilon = 1e-5 * size);
        }
    }
}
