//! Variants of samples as the rows of large batches: steps, noises, windows and perturbed pixels go through an explainer
//! together, and only one batch of them is in memory at a time.

use std::ops::Range;

use crate::error::Result;
use crate::explain::{Explainer, Input};
use crate::tensor::{Shape, Tensor};

/// Bytes of a batch's inputs and results, unless it is told how many rows to have.
const BYTES: usize = 32 << 20;
/// Rows of a batch at most: enough to fill a device.
const ROWS: usize = 4096;

/// Samples of which variants are made. They fit the explainer's network.
#[derive(Debug)]
pub(crate) struct Variants<'a> {
    inputs: &'a [Input<'a>],
    /// The shape of a sample of each input.
    shapes: Vec<Shape>,
    /// How many rows a batch has.
    rows: usize,
}

/// A place in a batch: which row of all there are, of which input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The row, counted over all batches.
    pub(crate) row: usize,
    /// The input's position.
    pub(crate) input: usize,
}

/// A batch of one input, owned.
enum Rows {
    Float(Tensor),
    Integer(Tensor<i64>),
}

impl<'a> Variants<'a> {
    /// Variants of the samples of `inputs`, `rows` of them together if told. Each gives `results` numbers.
    pub(crate) fn new(explainer: &Explainer, inputs: &'a [Input<'a>], results: usize, rows: Option<usize>) -> Self {
        let network = explainer.network();
        let shapes: Vec<Shape> = network.inputs().iter().map(|input| network.shape(input.value).clone()).collect();
        let read: usize = shapes.iter().map(Shape::count).sum();
        let bytes = read.saturating_add(results).saturating_mul(size_of::<f32>()).max(1);
        let rows = rows.unwrap_or((BYTES / bytes).min(ROWS)).max(1);
        Variants { inputs, shapes, rows }
    }

    /// Runs `count` rows in batches. Row i begins as a copy of the sample `sample_of(i)`, whose real numbers `vary` then
    /// changes; `work` gets each batch with the rows it holds.
    ///
    /// # Errors
    /// Those of `work`.
    pub(crate) fn each_batch(
        &self,
        count: usize,
        sample_of: impl Fn(usize) -> usize,
        mut vary: impl FnMut(Place, &mut [f32]),
        mut work: impl FnMut(Range<usize>, &[Input<'_>]) -> Result<()>,
    ) -> Result<()> {
        for first in (0..count).step_by(self.rows) {
            let range = first..count.min(first + self.rows);
            let mut batch = Vec::with_capacity(self.inputs.len());
            for (position, (input, shape)) in self.inputs.iter().zip(&self.shapes).enumerate() {
                let dims = shape.prepend(range.len());
                batch.push(match input {
                    Input::Float(tensor) => {
                        let mut data = copied(tensor, shape, range.clone().map(&sample_of));
                        for (row, sample) in range.clone().zip(data.chunks_exact_mut(shape.count().max(1))) {
                            vary(Place { row, input: position }, sample);
                        }
                        Rows::Float(Tensor::new(dims, data)?)
                    }
                    Input::Integer(tensor) => {
                        let data = copied(tensor, shape, range.clone().map(&sample_of));
                        Rows::Integer(Tensor::new(dims, data)?)
                    }
                });
            }
            let inputs: Vec<Input<'_>> = batch.iter().map(Rows::input).collect();
            work(range, &inputs)?;
        }
        Ok(())
    }
}

impl Rows {
    fn input(&self) -> Input<'_> {
        match self {
            Rows::Float(tensor) => Input::Float(tensor),
            Rows::Integer(tensor) => Input::Integer(tensor),
        }
    }
}

/// The elements of some samples, one after the other.
fn copied<T: Copy>(tensor: &Tensor<T>, shape: &Shape, samples: impl ExactSizeIterator<Item = usize>) -> Vec<T> {
    let width = shape.count();
    let mut data = Vec::with_capacity(samples.len() * width);
    samples.for_each(|sample| data.extend_from_slice(&tensor.data()[sample * width..][..width]));
    data
}
