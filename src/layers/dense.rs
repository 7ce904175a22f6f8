//! Dense (fully connected): z = x Wᵀ + b along the last axis.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::tensor::{Shape, Tensor};

/// z = x Wᵀ + b along the last axis; leading axes of the sample are further rows.
#[derive(Debug, Clone)]
pub struct Dense {
    weight: Arc<Tensor>,
    bias: Option<Arc<Tensor>>,
    outputs: usize,
    inputs: usize,
}

impl Dense {
    /// A dense layer from its weight `[outputs, inputs]` and bias `[outputs]`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) if the weight is no matrix, has no elements, or the bias
    /// does not fit it.
    pub fn new(weight: impl Into<Arc<Tensor>>, bias: Option<Arc<Tensor>>) -> Result<Self> {
        let weight = weight.into();
        let &[outputs, inputs] = weight.shape().dims() else {
            return Err(Error::shape(format!("a dense weight is [outputs, inputs], not {}", weight.shape())));
        };
        if outputs == 0 || inputs == 0 {
            return Err(Error::shape(format!("a dense weight of shape {} has no elements", weight.shape())));
        }
        if let Some(bias) = &bias
            && bias.shape().dims() != [outputs]
        {
            return Err(Error::shape(format!(
                "a bias of shape {} does not fit a weight of shape {} ([outputs, inputs])",
                bias.shape(),
                weight.shape()
            )));
        }
        Ok(Dense { weight, bias, outputs, inputs })
    }

    /// The layer without the elements of its weight: [`weight`](Self::weight) has no rows.
    #[cfg(feature = "gpu")]
    pub(crate) fn without_weight(&self) -> Dense {
        let none = Tensor::from_fn([0, self.inputs], |_| 0.0);
        Dense { weight: Arc::new(none), ..self.clone() }
    }

    /// Whether the elements of the weight are there.
    pub(crate) fn has_weight(&self) -> bool {
        self.weight.rows() == self.outputs
    }

    /// W, `[outputs, inputs]`.
    pub fn weight(&self) -> &Arc<Tensor> {
        &self.weight
    }

    /// b, `[outputs]`.
    pub fn bias(&self) -> Option<&Arc<Tensor>> {
        self.bias.as_ref()
    }

    /// The length of the last axis of the output.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// The length of the last axis of the input.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    pub(super) fn output_shape(&self, input: &Shape) -> Result<Shape> {
        match input.dims().split_last() {
            Some((&last, lead)) if last == self.inputs() => {
                let mut dims = lead.to_vec();
                dims.push(self.outputs());
                Ok(Shape::new(dims))
            }
            _ => Err(Error::shape(format!(
                "an input of shape {input} does not fit a weight of shape [{}, {}] ([outputs, inputs])",
                self.outputs, self.inputs
            ))),
        }
    }
}
