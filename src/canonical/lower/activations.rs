//! Elementwise functions, and those whose numbers are inputs.

use super::{Act, Fact, Lowering};
use crate::error::{Error, Result};
use crate::graph::Node;
use crate::layers::{Activation, Affine, Layer, Sum, sum::Sign};
use crate::tensor::Tensor;

impl Lowering<'_> {
    pub(super) fn elementwise(&mut self, node: &Node, activation: Activation) -> Result<Fact> {
        let Fact::Activation(x) = self.input(node, 0)? else {
            return Err(self.unsupported(node, "of this value is not supported"));
        };
        if activation == (Activation::Clip { low: f32::NEG_INFINITY, high: f32::INFINITY }) {
            return Ok(Fact::Activation(x));
        }
        self.pointwise(node, "", &x, activation).map(Fact::Activation)
    }

    /// f(x), also behind a transpose that is still to come.
    pub(super) fn pointwise(&mut self, node: &Node, part: &str, x: &Act, activation: Activation) -> Result<Act> {
        let y = self.emit_act(node, part, Layer::Activation(activation), &[x.id], x.held().dims)?;
        Ok(y.behind(x.turned.clone()))
    }

    /// Input 0 between the constants in inputs 1 and 2.
    pub(super) fn clip(&mut self, node: &Node) -> Result<Fact> {
        let mut bounds = [f32::NEG_INFINITY, f32::INFINITY];
        for (slot, bound) in [1, 2].into_iter().zip(&mut bounds) {
            match self.optional(node, slot)? {
                None => {}
                Some(Fact::Float(number)) if number.count() == 1 => *bound = number.data()[0],
                Some(_) => return Err(self.unsupported(node, "needs bounds that are constant numbers")),
            }
        }
        self.elementwise(node, Activation::clip(bounds[0], bounds[1]))
    }

    /// A leaky rectifier where the slope is one number; else max(x, 0) − slope · max(−x, 0), the same in layers that
    /// have rules: one of the two is zero everywhere, so that the sum's rule gives the other one everything.
    pub(super) fn prelu(&mut self, node: &Node) -> Result<Fact> {
        let Fact::Float(slopes) = self.input(node, 1)? else {
            return Err(self.unsupported(node, "needs a slope that is constant"));
        };
        if let [slope, others @ ..] = slopes.data()
            && others.iter().all(|other| other.to_bits() == slope.to_bits())
        {
            return self.elementwise(node, Activation::LeakyRelu { slope: *slope });
        }
        let x = self.activation(node, 0)?;
        let misfit = || self.unsupported(node, "with slopes that do not fit one sample is not supported");
        let slopes = self.constant_of_sample(&slopes, &x.dims).ok_or_else(misfit)?;
        let above = self.emit_act(node, "above", Layer::Activation(Activation::Relu), &[x.id], x.dims.clone())?;
        let turned = Layer::Affine(Affine::new(Tensor::scalar(-1.0), Tensor::scalar(0.0)));
        let turned = self.emit_act(node, "turned", turned, &[x.id], x.dims.clone())?;
        let below = self.emit_act(node, "below", Layer::Activation(Activation::Relu), &[turned.id], x.dims.clone())?;
        let Fact::Activation(sloped) = self.affine(node, "slope", &below, slopes, Tensor::scalar(0.0))? else {
            return Err(Error::internal("a layer makes an activation"));
        };
        let sum = Sum::new(vec![Sign::Plus, Sign::Minus])?;
        self.emit(node, "", Layer::Sum(sum), &[above.id, sloped.id], x.dims)
    }
}
