//! Convolution and transposed convolution over one, two or three spatial axes.

use std::sync::Arc;

use super::window::{Reach, Window, WindowAxis};
use crate::error::{Error, Result};
use crate::tensor::{Shape, Tensor};

/// A convolution: `z[o] = Σ W[o, c, t] x[c] + b[o]`, x read at window position t. The sample is `[channels, spatial…]`.
///
/// A transposed convolution is the same map read the other way: its input is the coarse grid that a convolution would
/// make, its output the fine one, its weight the convolution's.
#[derive(Debug, Clone)]
pub struct Conv {
    weight: Arc<Tensor>,
    bias: Option<Arc<Tensor>>,
    window: Window,
    groups: usize,
    way: ConvWay,
    /// The weight's shape, which stays when its elements are gone.
    weight_shape: Shape,
}

/// Which way a [`Conv`] goes through its window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConvWay {
    /// From the fine grid to the coarse one.
    Plain,
    /// From the coarse grid to the fine one.
    Transposed {
        /// Positions that the output has beyond those that the input reaches, behind each axis.
        output_padding: Vec<usize>,
    },
}

impl Conv {
    /// A convolution from its weight `[outputs, inputs / groups, kernel…]` and bias `[outputs]`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) if weight, bias, window and groups do not fit together.
    pub fn new(
        weight: impl Into<Arc<Tensor>>,
        bias: Option<Arc<Tensor>>,
        window: Window,
        groups: usize,
    ) -> Result<Self> {
        Conv::with_way(weight.into(), bias, window, groups, ConvWay::Plain)
    }

    /// A transposed convolution from its weight `[inputs, outputs / groups, kernel…]` and bias `[outputs]`; the
    /// window is that of the convolution that it transposes.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) if weight, bias, window and groups do not fit together.
    pub fn transposed(
        weight: impl Into<Arc<Tensor>>,
        bias: Option<Arc<Tensor>>,
        window: Window,
        groups: usize,
        output_padding: Vec<usize>,
    ) -> Result<Self> {
        if output_padding.len() != window.axes().len() {
            return Err(Error::shape("a transposed convolution has one output padding for each spatial axis"));
        }
        Conv::with_way(weight.into(), bias, window, groups, ConvWay::Transposed { output_padding })
    }

    fn with_way(
        weight: Arc<Tensor>,
        bias: Option<Arc<Tensor>>,
        window: Window,
        groups: usize,
        way: ConvWay,
    ) -> Result<Self> {
        let shape = weight.shape().clone();
        let kernel = window.kernel();
        let fits = shape.rank() == kernel.len() + 2 && shape.dims()[2..] == kernel;
        if !fits || shape.count() == 0 {
            return Err(Error::shape(format!("a weight of shape {shape} does not fit a window of {kernel:?}")));
        }
        if groups == 0 || shape.dims()[0] % groups != 0 {
            return Err(Error::shape(format!("{} channels do not divide into {groups} groups", shape.dims()[0])));
        }
        let conv = Conv { weight, bias, window, groups, way, weight_shape: shape };
        if let Some(bias) = &conv.bias
            && bias.shape().dims() != [conv.outputs()]
        {
            let (bias, outputs) = (bias.shape(), conv.outputs());
            return Err(Error::shape(format!("a bias of shape {bias} does not fit {outputs} output channels")));
        }
        Ok(conv)
    }

    /// The layer without the elements of its weight.
    #[cfg(feature = "gpu")]
    pub(crate) fn without_weight(&self) -> Conv {
        let mut dims = self.weight_shape.dims().to_vec();
        dims[0] = 0;
        Conv { weight: Arc::new(Tensor::from_fn(dims, |_| 0.0)), ..self.clone() }
    }

    /// Whether the elements of the weight are there.
    pub(crate) fn has_weight(&self) -> bool {
        self.weight.shape() == &self.weight_shape
    }

    /// The same layer with another weight and bias of fitting shapes.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) if they do not fit.
    pub fn with_parameters(&self, weight: impl Into<Arc<Tensor>>, bias: Option<Arc<Tensor>>) -> Result<Self> {
        Conv::with_way(weight.into(), bias, self.window.clone(), self.groups, self.way.clone())
    }

    /// W: `[outputs, inputs / groups, kernel…]`, of a transposed one `[inputs, outputs / groups, kernel…]`.
    pub fn weight(&self) -> &Arc<Tensor> {
        &self.weight
    }

    /// b, `[outputs]`.
    pub fn bias(&self) -> Option<&Arc<Tensor>> {
        self.bias.as_ref()
    }

    /// The window, from the fine grid to the coarse one.
    pub fn window(&self) -> &Window {
        &self.window
    }

    /// How many groups of channels are kept apart.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// Which way it goes.
    pub fn way(&self) -> &ConvWay {
        &self.way
    }

    /// Whether it is a transposed convolution.
    pub fn is_transposed(&self) -> bool {
        self.way != ConvWay::Plain
    }

    /// Whether every output sums channels at its own position, and no others.
    pub fn has_single_positions(&self) -> bool {
        let is_single = |axis: &WindowAxis| (axis.kernel, axis.stride, axis.before, axis.after) == (1, 1, 0, 0);
        !self.is_transposed() && self.window.axes().iter().all(is_single)
    }

    /// Channels of the coarse grid: the weight's first axis.
    pub fn coarse_channels(&self) -> usize {
        self.weight_shape.dims()[0]
    }

    /// Channels of the fine grid: the weight's second axis times the groups.
    pub fn fine_channels(&self) -> usize {
        self.weight_shape.dims()[1] * self.groups
    }

    /// Channels of the input.
    pub fn inputs(&self) -> usize {
        if self.is_transposed() { self.coarse_channels() } else { self.fine_channels() }
    }

    /// Channels of the output.
    pub fn outputs(&self) -> usize {
        if self.is_transposed() { self.fine_channels() } else { self.coarse_channels() }
    }

    /// How outputs read inputs: one reach for each spatial axis, in phases that together make every output once.
    /// `input` and `output` are the spatial extents.
    pub fn forward(&self, output: &[usize]) -> Vec<Vec<Reach>> {
        if self.is_transposed() { self.window.to_fine(output) } else { vec![self.window.to_coarse(output)] }
    }

    /// How inputs read outputs on the way back: as [`forward`](Self::forward), from the input's spatial extents.
    pub fn backward(&self, input: &[usize]) -> Vec<Vec<Reach>> {
        if self.is_transposed() { vec![self.window.to_coarse(input)] } else { self.window.to_fine(input) }
    }

    /// Where the weight between an output channel and an input channel of its group, counted within the group, begins:
    /// window positions follow.
    pub(crate) fn weight_offset(&self, output: usize, input: usize) -> usize {
        let of_group = self.outputs() / self.groups;
        let (coarse, fine) = match self.way {
            ConvWay::Plain => (output, input),
            ConvWay::Transposed { .. } => {
                (output / of_group * (self.inputs() / self.groups) + input, output % of_group)
            }
        };
        (coarse * self.weight_shape.dims()[1] + fine) * self.window.positions()
    }

    pub(super) fn output_shape(&self, input: &Shape) -> Result<Shape> {
        let (Some(&channels), true) = (input.dims().first(), input.rank() == self.window.axes().len() + 1) else {
            let axes = self.window.axes().len();
            return Err(Error::shape(format!("an input of shape {input} is not [channels] with {axes} spatial axes")));
        };
        if channels != self.inputs() {
            return Err(Error::shape(format!(
                "an input of shape {input} does not fit a weight of shape {} with {} groups: it takes {} channels",
                self.weight_shape,
                self.groups,
                self.inputs()
            )));
        }
        let spatial = &input.dims()[1..];
        let outputs = match &self.way {
            ConvWay::Plain => self.window.outputs(spatial)?,
            ConvWay::Transposed { output_padding } => {
                let axes = self.window.axes().iter().zip(spatial).zip(output_padding);
                let extent = |((axis, &extent), padding): ((&super::window::WindowAxis, &usize), &usize)| {
                    let whole = extent.checked_sub(1)? * axis.stride + axis.span() + padding;
                    whole.checked_sub(axis.before + axis.after).filter(|extent| *extent > 0)
                };
                let outputs: Option<Vec<usize>> = axes.map(extent).collect();
                outputs
                    .ok_or_else(|| Error::shape(format!("the padding takes everything of an input of shape {input}")))?
            }
        };
        Ok(Shape::new([&[self.outputs()], &outputs[..]].concat()))
    }
}
