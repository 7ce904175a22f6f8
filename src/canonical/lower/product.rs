//! Matrix products with a constant: dense layers.

use std::sync::Arc;

use super::emit::check_finite;
use super::{Act, Extent, Fact, Lowering};
use crate::canonical::extent;
use crate::error::{Error, Result};
use crate::graph::Node;
use crate::layers::sum::Sign;
use crate::layers::{Dense, Layer};
use crate::tensor::{Shape, Tensor};

impl Lowering<'_> {
    pub(super) fn matmul(&mut self, node: &Node) -> Result<Fact> {
        match (self.input(node, 0)?, self.input(node, 1)?) {
            (Fact::Activation(x), Fact::Float(weight)) => self.times_constant(node, x, &weight),
            (Fact::Float(weight), Fact::Activation(x)) => self.constant_times(node, &weight, x),
            (Fact::Activation(_), Fact::Activation(_)) => {
                Err(self.unsupported(node, "of two activations is not supported yet"))
            }
            _ => Err(self.unsupported(node, "of these values is not supported")),
        }
    }

    pub(super) fn gemm(&mut self, node: &Node, alpha: f32, beta: f32, trans_a: bool, trans_b: bool) -> Result<Fact> {
        let addend = self.optional(node, 2)?.filter(|_| beta != 0.0);
        let product = match (self.input(node, 0)?, self.input(node, 1)?) {
            (Fact::Activation(x), Fact::Float(weight)) => {
                let x = if trans_a { self.swapped(node, x)? } else { x };
                let &[rows, columns] = weight.shape().dims() else {
                    return Err(self.unsupported(node, "takes matrices only"));
                };
                let outputs = if trans_b { rows } else { columns };
                let mut weight = if trans_b { weight } else { self.transposed(&weight) };
                if alpha != 1.0 {
                    weight = Arc::new(weight.map(|w| alpha * w));
                }
                if let Some(Fact::Float(c)) = &addend
                    && let Some(bias) = bias_of(c, beta, outputs)
                {
                    return self.dense(node, &x, weight, Some(Arc::new(bias)));
                }
                self.dense(node, &x, weight, None)?
            }
            (Fact::Float(weight), Fact::Activation(x)) => {
                let x = if trans_b { self.swapped(node, x)? } else { x };
                let weight = if trans_a { self.transposed(&weight) } else { weight };
                self.constant_times(node, &Arc::new(weight.map(|w| alpha * w)), x)?
            }
            (Fact::Activation(_), Fact::Activation(_)) => {
                return Err(self.unsupported(node, "of two activations is not supported yet"));
            }
            _ => return Err(self.unsupported(node, "of these values is not supported")),
        };
        match (product, addend) {
            (product, None) => Ok(product),
            (Fact::Activation(x), Some(Fact::Float(c))) => self.with_constant(node, &x, &c, |c| (1.0, beta * c)),
            (Fact::Activation(x), Some(Fact::Activation(c))) => {
                let c = if beta == 1.0 { c } else { self.times(node, &c, beta)? };
                self.signed_sum(node, x, c, Sign::Plus)
            }
            _ => Err(self.unsupported(node, "with this third input is not supported")),
        }
    }

    /// x W for a constant W of one or two axes.
    fn times_constant(&mut self, node: &Node, x: Act, weight: &Arc<Tensor>) -> Result<Fact> {
        match weight.shape().dims() {
            [lead @ .., inputs, outputs]
                if lead.is_empty() || (lead.len() + 2 <= x.dims.len() && lead.iter().all(|&dim| dim == 1)) =>
            {
                let weight = if lead.is_empty() {
                    self.transposed(weight)
                } else {
                    Arc::new(Tensor::clone(weight).reshape([*inputs, *outputs])?.transpose(&[1, 0]))
                };
                self.dense(node, &x, weight, None)
            }
            &[inputs] => {
                let weight = Arc::new(Tensor::clone(weight).reshape([1, inputs])?);
                let product = self.dense(node, &x, weight, None)?;
                self.without_axis(node, product, x.dims.len().saturating_sub(1))
            }
            _ => Err(self.unsupported(node, "with a constant of more than two axes is not supported yet")),
        }
    }

    /// W x for a constant W of one or two axes: the product runs over x's second-last axis.
    fn constant_times(&mut self, node: &Node, weight: &Arc<Tensor>, x: Act) -> Result<Fact> {
        let vector = weight.shape().rank() == 1;
        let weight = match weight.shape().dims() {
            [_, _] => Arc::clone(weight),
            &[inputs] => Arc::new(Tensor::clone(weight).reshape([1, inputs])?),
            _ => return Err(self.unsupported(node, "with a constant of more than two axes is not supported yet")),
        };
        if x.dims.len() == 1 {
            let product = self.dense(node, &x, weight, None)?;
            return if vector { self.without_axis(node, product, 0) } else { Ok(product) };
        }
        let turned = self.swapped(node, x)?;
        let Fact::Activation(product) = self.dense(node, &turned, weight, None)? else {
            return Err(Error::internal("a dense layer makes an activation"));
        };
        let product = self.swapped(node, product)?;
        let axis = product.dims.len() - 2;
        if vector { self.without_axis(node, Fact::Activation(product), axis) } else { Ok(Fact::Activation(product)) }
    }

    /// x with its last two axes exchanged.
    fn swapped(&mut self, node: &Node, x: Act) -> Result<Act> {
        let rank = x.dims.len();
        if rank < 2 {
            return Err(self.unsupported(node, "cannot transpose a value of one axis"));
        }
        let mut order: Vec<usize> = (0..rank).collect();
        order.swap(rank - 2, rank - 1);
        self.permuted(node, "transpose", &x, &order)
    }

    /// An activation without an axis of extent 1.
    fn without_axis(&mut self, node: &Node, fact: Fact, axis: usize) -> Result<Fact> {
        let Fact::Activation(mut act) = fact else { return Err(Error::internal("a product is an activation")) };
        act.dims.remove(axis);
        let shape = self.sample(&act.dims)?;
        let id = self.reshaped(node, act.id, &shape)?;
        Ok(Fact::Activation(Act::new(id, act.dims)))
    }

    /// x Wᵀ + b over x's last axis, with W `[outputs, inputs]`.
    fn dense(&mut self, node: &Node, x: &Act, weight: Arc<Tensor>, bias: Option<Arc<Tensor>>) -> Result<Fact> {
        check_finite(&weight, "weight ([outputs, inputs])")?;
        bias.as_deref().map_or(Ok(()), |bias| check_finite(bias, "bias"))?;
        let dense = Dense::new(weight, bias)?;
        let Some(last) = x.dims.len().checked_sub(1) else {
            return Err(self.unsupported(node, "needs at least one axis"));
        };
        if extent::sample_axis(&x.dims, last).is_none() {
            return Err(self.unsupported(node, "over the batch axis mixes samples"));
        }
        if x.dims[last] != Extent::fixed(dense.inputs() as i64) {
            return Err(Error::shape(format!(
                "an input of shape {} does not fit a weight of shape {} ([outputs, inputs])",
                extent::show(&x.dims),
                dense.weight().shape()
            ))
            .help("check the extents that the model declares for its inputs"));
        }
        let mut dims = x.dims.clone();
        dims[last] = Extent::fixed(dense.outputs() as i64);
        self.emit(node, "", Layer::Dense(dense), &[x.id], dims)
    }

    /// x times a number.
    fn times(&mut self, node: &Node, x: &Act, factor: f32) -> Result<Act> {
        match self.affine(node, "beta", x, Tensor::scalar(factor), Tensor::scalar(0.0))? {
            Fact::Activation(scaled) => Ok(scaled),
            Fact::Float(_) | Fact::Integer(_) | Fact::Index(_) | Fact::Opaque(_) => {
                Err(Error::internal("an affine layer makes an activation"))
            }
        }
    }

    /// A matrix with its axes exchanged; the same one for the same weight.
    fn transposed(&mut self, weight: &Arc<Tensor>) -> Arc<Tensor> {
        let make = || (Arc::clone(weight), Arc::new(weight.transpose(&[1, 0])));
        let (_, turned) = self.transposed.entry(Arc::as_ptr(weight)).or_insert_with(make);
        Arc::clone(turned)
    }
}

/// β C as a bias, if C has one number for all or one an output.
fn bias_of(c: &Tensor, beta: f32, outputs: usize) -> Option<Tensor> {
    let (last, lead) = match c.shape().dims().split_last() {
        Some((&last, lead)) => (last, lead),
        None => (1, &[][..]),
    };
    if lead.iter().any(|&dim| dim != 1) || (last != outputs && last != 1) {
        return None;
    }
    c.map(|c| beta * c).reshape([last]).ok()?.broadcast_to(&Shape::new([outputs])).ok()
}
