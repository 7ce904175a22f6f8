//! Average and sum pooling: a linear layer whose weights are all the same.

use super::window::{Reach, Window};
use crate::error::{Error, Result};
use crate::tensor::Shape;

/// z = Σ x / n over a window of each channel of `[channels, spatial…]`. A global pool's window is the whole grid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AveragePool {
    window: Window,
    divisor: Divisor,
}

/// n of an [`AveragePool`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Divisor {
    /// The window positions inside the input.
    Inside,
    /// The window positions inside the input and its padding.
    InsidePadded,
    /// 1: a sum.
    One,
}

impl AveragePool {
    /// A pool over `window`.
    pub fn new(window: Window, divisor: Divisor) -> Self {
        AveragePool { window, divisor }
    }

    /// The window.
    pub fn window(&self) -> &Window {
        &self.window
    }

    /// What sums are divided by.
    pub fn divisor(&self) -> Divisor {
        self.divisor
    }

    /// How outputs read inputs, one reach for each spatial axis.
    pub fn forward(&self, output: &[usize]) -> Vec<Reach> {
        self.window.to_coarse(output)
    }

    /// How inputs read outputs on the way back, in phases that together make every input once.
    pub fn backward(&self, input: &[usize]) -> Vec<Vec<Reach>> {
        self.window.to_fine(input)
    }

    /// 1 / n for each output position, in row-major order of the spatial axes; `input` are the spatial extents.
    /// This is the weight of every input in the window.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) if the window does not fit.
    pub fn weights(&self, input: &[usize]) -> Result<Vec<f32>> {
        let outputs = self.window.outputs(input)?;
        let mut counts = vec![1];
        for ((axis, &extent), &outputs) in self.window.axes().iter().zip(input).zip(&outputs) {
            let of_axis = |p: usize| match self.divisor {
                Divisor::Inside => axis.inside(p, extent),
                Divisor::InsidePadded => axis.inside_padded(p, extent),
                Divisor::One => 1,
            };
            counts = counts.iter().flat_map(|count| (0..outputs).map(move |p| count * of_axis(p))).collect();
        }
        Ok(counts.into_iter().map(|count| if count == 0 { 0.0 } else { 1.0 / count as f32 }).collect())
    }

    pub(super) fn output_shape(&self, input: &Shape) -> Result<Shape> {
        pooled_shape(&self.window, input)
    }
}

/// The shape that a pool makes: the channels, then the window's outputs.
pub(super) fn pooled_shape(window: &Window, input: &Shape) -> Result<Shape> {
    let Some((channels, spatial)) = input.dims().split_first() else {
        return Err(Error::shape("a pool needs an input of channels and spatial axes"));
    };
    Ok(Shape::new([&[*channels], &window.outputs(spatial)?[..]].concat()))
}
