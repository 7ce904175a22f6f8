//! Elementwise sums and products: of activations, and of activations with constants.

use std::sync::Arc;

use super::{Act, Extent, Fact, Lowering};
use crate::canonical::extent;
use crate::error::{Error, Result};
use crate::graph::{Arithmetic, Node};
use crate::layers::sum::Sign;
use crate::layers::{Activation, Layer, Multiply, Sum};
use crate::tensor::{Shape, Tensor};

/// 1 / x.
const INVERSE: Activation = Activation::Power { offset: 0.0, exponent: -1.0 };

impl Lowering<'_> {
    pub(super) fn arithmetic(&mut self, node: &Node, op: Arithmetic) -> Result<Fact> {
        let (a, b) = (self.input(node, 0)?, self.input(node, 1)?);
        match (op, a, b) {
            (Arithmetic::Add, Fact::Activation(x), Fact::Activation(y)) => self.signed_sum(node, x, y, Sign::Plus),
            (Arithmetic::Sub, Fact::Activation(x), Fact::Activation(y)) => self.signed_sum(node, x, y, Sign::Minus),
            (Arithmetic::Add, Fact::Activation(x), Fact::Float(c))
            | (Arithmetic::Add, Fact::Float(c), Fact::Activation(x)) => self.with_constant(node, &x, &c, |c| (1.0, c)),
            (Arithmetic::Sub, Fact::Activation(x), Fact::Float(c)) => self.with_constant(node, &x, &c, |c| (1.0, -c)),
            (Arithmetic::Sub, Fact::Float(c), Fact::Activation(x)) => self.with_constant(node, &x, &c, |c| (-1.0, c)),
            (Arithmetic::Mul, Fact::Activation(x), Fact::Float(c))
            | (Arithmetic::Mul, Fact::Float(c), Fact::Activation(x)) => self.with_constant(node, &x, &c, |c| (c, 0.0)),
            (Arithmetic::Div, Fact::Activation(x), Fact::Float(c)) => {
                self.with_constant(node, &x, &c, |c| (1.0 / c, 0.0))
            }
            (Arithmetic::Div, Fact::Float(c), Fact::Activation(x)) => {
                let inverse = self.pointwise(node, "inverse", &x, INVERSE)?;
                self.with_constant(node, &inverse, &c, |c| (c, 0.0))
            }
            (Arithmetic::Mul, Fact::Activation(x), Fact::Activation(y)) => {
                self.multiplied(node, "", &x, &y).map(Fact::Activation)
            }
            (Arithmetic::Div, Fact::Activation(x), Fact::Activation(y)) => {
                let inverse = self.pointwise(node, "inverse", &y, INVERSE)?;
                self.multiplied(node, "", &x, &inverse).map(Fact::Activation)
            }
            (_, _, Fact::Float(_) | Fact::Integer(_) | Fact::Activation(_) | Fact::Index(_) | Fact::Opaque(_)) => {
                Err(self.unsupported(node, "of these values is not supported"))
            }
        }
    }

    pub(super) fn sum(&mut self, node: &Node) -> Result<Fact> {
        let mut acts: Vec<Act> = Vec::new();
        let mut offset: Option<Arc<Tensor>> = None;
        for slot in 0..node.inputs.len() {
            match (self.input(node, slot)?, &offset) {
                (Fact::Activation(act), _) => acts.push(act),
                (Fact::Float(c), None) => offset = Some(c),
                (Fact::Float(c), Some(sum)) => {
                    offset = Some(Arc::new(super::constants::zip(sum, &c, |a, b| a + b)?));
                }
                (Fact::Integer(_) | Fact::Index(_) | Fact::Opaque(_), _) => {
                    return Err(self.unsupported(node, "of these values is not supported"));
                }
            }
        }
        let total = match (&acts[..], &offset) {
            ([], Some(offset)) => return Ok(Fact::Float(Arc::clone(offset))),
            ([], None) => return Err(self.unsupported(node, "of nothing makes no sense")),
            ([only], _) => only.clone(),
            ([first, rest @ ..], _) => {
                let mut out = first.dims.clone();
                for act in rest {
                    out = extent::broadcast(&out, &act.dims).ok_or_else(|| misfit(&out, &act.dims))?;
                }
                let mut ids = Vec::with_capacity(acts.len());
                for act in &acts {
                    ids.push(self.expanded(node, act, &out)?.id);
                }
                let layer = Layer::Sum(Sum::new(vec![Sign::Plus; ids.len()])?);
                self.emit_act(node, "", layer, &ids, out)?
            }
        };
        match offset {
            None => Ok(Fact::Activation(total)),
            Some(offset) => self.with_constant(node, &total, &offset, |c| (1.0, c)),
        }
    }

    pub(super) fn scaled(&mut self, node: &Node, factor: f32) -> Result<Fact> {
        let x = self.activation(node, 0)?;
        self.affine(node, "", &x, Tensor::scalar(factor), Tensor::scalar(0.0))
    }

    pub(super) fn scaler(&mut self, node: &Node, offset: &Tensor, scale: &Tensor) -> Result<Fact> {
        let x = self.activation(node, 0)?;
        let shift = super::constants::zip(offset, scale, |offset, scale| -offset * scale)?;
        self.affine(node, "", &x, scale.clone(), shift)
    }

    pub(super) fn batch_normalization(&mut self, node: &Node, epsilon: f32) -> Result<Fact> {
        let x = self.activation(node, 0)?;
        let Some(&channels) = x.dims.get(1) else { return Err(self.unsupported(node, "needs at least two axes")) };
        let mut parts = Vec::with_capacity(4);
        for slot in 1..5 {
            match self.input(node, slot)? {
                Fact::Float(part) if Extent::fixed(part.count() as i64) == channels => parts.push(part),
                _ => return Err(self.unsupported(node, "needs one constant number a channel in inputs 1 to 4")),
            }
        }
        let element = |part: usize, i: usize| f64::from(parts[part].data()[i]);
        let factor = |i: usize| element(0, i) / (element(3, i) + f64::from(epsilon)).sqrt();
        let mut shape = vec![1; x.dims.len()];
        shape[1] = parts[0].count();
        let scale = Tensor::from_fn(shape.clone(), |i| factor(i) as f32);
        let offset = Tensor::from_fn(shape, |i| (element(1, i) - element(2, i) * factor(i)) as f32);
        let in_sample = |tensor: &Tensor| {
            let misfit = || self.unsupported(node, "over the batch axis mixes samples");
            self.constant_of_sample(tensor, &x.dims).ok_or_else(misfit)
        };
        let (scale, offset) = (in_sample(&scale)?, in_sample(&offset)?);
        self.affine(node, "", &x, scale, offset)
    }

    /// x and a constant, as the factor and the offset that `parts` makes of each constant element.
    pub(super) fn with_constant(
        &mut self,
        node: &Node,
        x: &Act,
        constant: &Tensor,
        parts: impl Fn(f32) -> (f32, f32),
    ) -> Result<Fact> {
        let dims = constant.shape().dims().iter().map(|&dim| Extent::fixed(dim as i64)).collect::<Vec<_>>();
        let misfit = || {
            Error::shape(format!("{} and a constant {} do not broadcast", extent::show(&x.dims), constant.shape()))
                .help("the file is damaged or was edited by hand; export the model again")
        };
        let out = extent::broadcast(&x.dims, &dims).ok_or_else(misfit)?;
        if let Some(turned) = &x.turned {
            if out != x.dims {
                return Err(misfit());
            }
            let held = self.with_constant(node, &x.held(), &turned_back(constant, turned)?, parts)?;
            return match held {
                Fact::Activation(act) => Ok(Fact::Activation(act.behind(x.turned.clone()))),
                other => Ok(other),
            };
        }
        let x = self.expanded(node, x, &out)?;
        let constant = self.constant_of_sample(constant, &out).ok_or_else(misfit)?;
        let scale = simplified(constant.map(|&c| parts(c).0));
        let offset = simplified(constant.map(|&c| parts(c).1));
        self.affine(node, "", &x, scale, offset)
    }

    /// A constant that broadcasts to a tensor of extents `dims`, in the axes of one sample.
    pub(super) fn constant_of_sample(&self, constant: &Tensor, dims: &[Extent]) -> Option<Tensor> {
        let lead = dims.len().checked_sub(constant.shape().rank())?;
        let mut shape = vec![1; lead];
        shape.extend_from_slice(constant.shape().dims());
        if let Some(batch) = extent::batch_axis(dims) {
            if shape[batch] != 1 {
                return None;
            }
            if dims[batch].factor() == 1 {
                shape.remove(batch);
            }
        }
        let lead = shape.iter().take_while(|&&dim| dim == 1).count();
        constant.clone().reshape(Shape::new(&shape[lead..])).ok()
    }

    /// Two activations repeated to their common extents.
    fn broadcast_pair(&mut self, node: &Node, x: &Act, y: &Act) -> Result<(Act, Act, Vec<Extent>)> {
        let out = extent::broadcast(&x.dims, &y.dims).ok_or_else(|| misfit(&x.dims, &y.dims))?;
        Ok((self.expanded(node, x, &out)?, self.expanded(node, y, &out)?, out))
    }

    /// x ⊙ y, each repeated to the extents of both.
    pub(super) fn multiplied(&mut self, node: &Node, part: &str, x: &Act, y: &Act) -> Result<Act> {
        let (x, y, out) = self.broadcast_pair(node, x, y)?;
        self.emit_act(node, part, Layer::Multiply(Multiply), &[x.id, y.id], out)
    }

    pub(super) fn signed_sum(&mut self, node: &Node, x: Act, y: Act, sign: Sign) -> Result<Fact> {
        let (x, y, out) = self.broadcast_pair(node, &x, &y)?;
        self.emit(node, "", Layer::Sum(Sum::new(vec![Sign::Plus, sign])?), &[x.id, y.id], out)
    }
}

fn misfit(a: &[Extent], b: &[Extent]) -> Error {
    Error::shape(format!("{} and {} do not broadcast", extent::show(a), extent::show(b)))
        .help("the file is damaged or was edited by hand; export the model again")
}

/// A constant for a value behind a transpose, in the axes of the value before it.
fn turned_back(constant: &Tensor, turned: &[usize]) -> Result<Tensor> {
    let mut shape = vec![1; turned.len() - constant.shape().rank()];
    shape.extend_from_slice(constant.shape().dims());
    let mut inverse = vec![0; turned.len()];
    for (axis, &held) in turned.iter().enumerate() {
        inverse[held] = axis;
    }
    Ok(constant.clone().reshape(shape)?.transpose(&inverse))
}

/// A tensor of equal elements as a scalar.
fn simplified(tensor: Tensor) -> Tensor {
    match tensor.data() {
        [first, rest @ ..] if rest.iter().all(|element| element == first) => Tensor::scalar(*first),
        _ => tensor,
    }
}
