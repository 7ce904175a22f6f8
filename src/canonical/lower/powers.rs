//! Powers, roots and norms: elementwise functions, and sums between them.
//!
//! A norm (Σ|x|ᵖ)^(1/p) is powers, their sum and a root. Activations pass relevance and the sum shares it in proportion, so
//! each element gets |xᵢ|ᵖ / Σ|x|ᵖ of it. That is also what its gradient times input gives, divided by the norm itself: the
//! norm is homogeneous, f(cx) = c f(x) for c > 0, so Σ xᵢ ∂f/∂xᵢ = f (Euler), and nothing is lost. At p = 1 and x ≥ 0 it is
//! the rule of a sum pool; the larger p, the nearer it is to a max pool's winner.

use super::{Act, Fact, Lowering};
use crate::error::Result;
use crate::graph::{Elementary, Node};
use crate::layers::Activation;

impl Lowering<'_> {
    /// Input 0 to the power of a constant number.
    pub(super) fn power(&mut self, node: &Node) -> Result<Fact> {
        let exponent = match self.input(node, 1)? {
            Fact::Float(number) if number.count() == 1 => Some(number.data()[0]),
            Fact::Integer(number) if number.count() == 1 => number.data()[0].known().map(|number| number as f32),
            _ => None,
        };
        let Some(exponent) = exponent.filter(|exponent| exponent.is_finite()) else {
            return Err(self.unsupported(node, "of an activation needs an exponent that is one constant number"));
        };
        match exponent {
            0.0 => Err(self.unsupported(node, "to the power of 0 is 1, whatever the activation is")),
            1.0 => self.input(node, 0),
            _ => self.elementwise(node, Activation::Power { offset: 0.0, exponent }),
        }
    }

    pub(super) fn elementary(&mut self, node: &Node, function: Elementary) -> Result<Fact> {
        let power = |exponent| Activation::Power { offset: 0.0, exponent };
        match function {
            Elementary::Abs => self.elementwise(node, Activation::Abs),
            Elementary::Exp => self.elementwise(node, Activation::Exp),
            Elementary::Sqrt => self.elementwise(node, power(0.5)),
            Elementary::Reciprocal => self.elementwise(node, power(-1.0)),
            Elementary::Log => Err(self.unsupported(node, "of activations is not supported yet")),
        }
    }

    /// |x|ᵖ.
    pub(super) fn powers(&mut self, node: &Node, x: &Act, p: i64) -> Result<Act> {
        match p {
            1 => self.pointwise(node, "size", x, Activation::Abs),
            2 => self.pointwise(node, "square", x, Activation::Power { offset: 0.0, exponent: 2.0 }),
            3..=64 => {
                let size = self.pointwise(node, "size", x, Activation::Abs)?;
                self.pointwise(node, "power", &size, Activation::Power { offset: 0.0, exponent: p as f32 })
            }
            _ => Err(self.unsupported(node, &format!("with p = {p} is not supported; p is from 1 to 64"))),
        }
    }

    /// x^(1/p).
    pub(super) fn root(&mut self, node: &Node, x: &Act, p: i64) -> Result<Act> {
        let exponent = (1.0 / p as f64) as f32;
        match p {
            1 => Ok(x.clone()),
            _ => self.pointwise(node, "", x, Activation::Power { offset: 0.0, exponent }),
        }
    }
}
