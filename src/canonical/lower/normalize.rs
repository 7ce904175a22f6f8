//! Normalisations, made of layers that have rules: y = (x − μ) ⊙ g ⊙ scale + bias with g = 1/√(variance + ε).
//!
//! g is a gate: as a factor that only says how large things are here it gets no relevance, and x − μ gets all. With the
//! sum's and the average's own rules that is the LN rule, Rᵢ = xᵢ (qᵢ − mean q) with q = R / (x − μ) (Ali et al. 2022, XAI for
//! Transformers: Better Explanations through Conservative Propagation, where the deviation is detached; AttnLRP has the same).
//! Scale and bias are an affine layer like a batch norm's that stands alone. Local response normalisation and division by a
//! norm have the factor and no mean.
//!
//! Written out with ReduceMean, Pow, Sqrt and Div a normalisation becomes the same layers. The variance is that of x − μ: the
//! difference E[x²] − μ² would cancel where inputs are far from zero.

use std::sync::Arc;

use super::{Act, Extent, Fact, Lowering};
use crate::canonical::extent;
use crate::error::{Error, Result};
use crate::graph::{Node, Normalization, Reduction};
use crate::layers::{Activation, AveragePool, Divisor, Layer, Sum, Window, WindowAxis, sum::Sign};
use crate::tensor::Tensor;

/// Keeps a row of zeros zero where it is divided by its norm; far below what a norm of float32 elements can be told from 0.
const LEAST_NORM: f32 = 1e-30;

/// The nodes of one operator that became several layers.
pub(super) struct Composed {
    op_type: String,
    consequence: &'static str,
    names: Vec<String>,
}

impl Composed {
    /// What the user is told.
    pub(super) fn note(&self) -> String {
        const MOST: usize = 3;
        let mut names = self.names.iter().take(MOST).cloned().collect::<Vec<_>>().join(", ");
        if let Some(more @ 1..) = self.names.len().checked_sub(MOST) {
            names = format!("{names} and {more} more");
        }
        format!("{} ({names}) is computed by simple layers: {}", self.op_type, self.consequence)
    }
}

/// A normalised value with what it was normalised by.
struct Normalized {
    value: Act,
    mean: Option<Act>,
    factor: Act,
}

impl Lowering<'_> {
    /// Says once for all nodes of an operator what becomes of relevance.
    pub(super) fn compose(&mut self, node: &Node, consequence: &'static str) {
        let name = node.name.clone();
        match self.composed.iter_mut().find(|found| found.op_type == node.op_type) {
            Some(found) => found.names.push(name),
            None => self.composed.push(Composed { op_type: node.op_type.clone(), consequence, names: vec![name] }),
        }
    }

    pub(super) fn normalization(&mut self, node: &Node, normalization: Normalization) -> Result<Vec<Fact>> {
        let x = self.activation(node, 0)?;
        let only = |y: Act| Ok(vec![Fact::Activation(y)]);
        self.compose(node, "what it divides by is a gate and gets no relevance");
        match normalization {
            Normalization::Instance { epsilon } => {
                if x.dims.len() < 3 {
                    return Err(self.unsupported(node, "needs an axis behind the channels"));
                }
                let reduced: Vec<bool> = (0..x.dims.len()).map(|axis| axis >= 2).collect();
                let normal = self.normalized(node, &x, &reduced, true, epsilon)?.value;
                only(self.by_channel(node, &normal, 1)?)
            }
            Normalization::Layer { axis, epsilon, centred } => {
                let first = self.axis(node, axis, &x.dims)?;
                let reduced: Vec<bool> = (0..x.dims.len()).map(|axis| axis >= first).collect();
                let normal = self.normalized(node, &x, &reduced, centred, epsilon)?;
                let (scale, bias) = (self.parameter(node, 1)?, self.parameter(node, 2)?);
                let y = self.scaled_and_moved(node, &normal.value, scale.as_deref(), bias.as_deref())?;
                let rest = normal.mean.into_iter().chain([normal.factor]);
                Ok([y].into_iter().chain(rest).map(Fact::Activation).collect())
            }
            Normalization::Group { groups, epsilon, by_group } => {
                let y = self.by_groups(node, &x, groups, epsilon)?;
                let channels = self.channels(node, &x)?;
                let repeat = if by_group { channels / groups.unsigned_abs().max(1) as usize } else { 1 };
                only(self.by_channel(node, &y, repeat)?)
            }
            Normalization::LocalResponse { size, alpha, beta, bias } => {
                only(self.local_response(node, &x, size, [alpha, beta, bias])?)
            }
            Normalization::Norm { axis, p } => {
                let axis = self.axis(node, axis, &x.dims)?;
                let reduced: Vec<bool> = (0..x.dims.len()).map(|other| other == axis).collect();
                let norm = self.reduced(node, "norm", &x, &reduced, Reduction::Norm { p }, true)?;
                let inverse = Activation::Power { offset: LEAST_NORM, exponent: -1.0 };
                let factor = self.pointwise(node, "factor", &norm, inverse)?;
                only(self.multiplied(node, "", &x, &factor)?)
            }
        }
    }

    /// (x − μ) / √(variance + ε) over the axes that are `reduced`; without the mean where it is not `centred`.
    fn normalized(
        &mut self,
        node: &Node,
        x: &Act,
        reduced: &[bool],
        centred: bool,
        epsilon: f32,
    ) -> Result<Normalized> {
        let mean = match centred {
            true => Some(self.reduced(node, "mean", x, reduced, Reduction::Mean, true)?),
            false => None,
        };
        let deviation = match &mean {
            Some(mean) => {
                let mean = self.expanded(node, mean, &x.dims)?;
                let difference = Layer::Sum(Sum::new(vec![Sign::Plus, Sign::Minus])?);
                self.emit_act(node, "deviation", difference, &[x.id, mean.id], x.dims.clone())?
            }
            None => x.clone(),
        };
        let square = self.pointwise(node, "square", &deviation, Activation::Power { offset: 0.0, exponent: 2.0 })?;
        let variance = self.reduced(node, "variance", &square, reduced, Reduction::Mean, true)?;
        let inverse_root = Activation::Power { offset: epsilon, exponent: -0.5 };
        let factor = self.pointwise(node, "factor", &variance, inverse_root)?;
        let value = self.multiplied(node, "", &deviation, &factor)?;
        Ok(Normalized { value, mean, factor })
    }

    fn by_groups(&mut self, node: &Node, x: &Act, groups: i64, epsilon: f32) -> Result<Act> {
        let channels = self.channels(node, x)?;
        let count = usize::try_from(groups).unwrap_or(0);
        let behind = extent::product(&x.dims[2..]).and_then(Extent::known);
        let (Some(behind), true) = (behind, count > 0 && channels.is_multiple_of(count)) else {
            return Err(self.unsupported(node, &format!("cannot cut {channels} channels into {groups} groups")));
        };
        let width = behind.checked_mul((channels / count) as i64);
        let width = width.ok_or_else(|| self.unsupported(node, "has too many elements in a group"))?;
        let grouped = self.with_dims(node, x, vec![x.dims[0], Extent::fixed(groups), Extent::fixed(width)])?;
        let normal = self.normalized(node, &grouped, &[false, false, true], true, epsilon)?.value;
        self.with_dims(node, &normal, x.dims.clone())
    }

    /// x ⊙ (bias + alpha / size · Σ x²)^−beta, with the sum over `size` channels around each; of an even number of them
    /// one more lies behind.
    fn local_response(&mut self, node: &Node, x: &Act, size: i64, [alpha, beta, bias]: [f32; 3]) -> Result<Act> {
        let channels = self.channels(node, x)?;
        let Some(size) = usize::try_from(size).ok().filter(|&size| size > 0) else {
            return Err(self.unsupported(node, &format!("over {size} channels makes no sense")));
        };
        if beta.is_nan() || beta <= 0.0 {
            return Err(self.unsupported(node, &format!("with beta = {beta} does not divide; it needs one above 0")));
        }
        // Beyond the outermost channels there is nothing, however wide the window is.
        let [before, after] = [(size - 1) / 2, size / 2].map(|most| most.min(channels - 1));
        let behind = extent::product(&x.dims[2..]).and_then(Extent::known);
        let Some(behind) = behind else { return Err(self.unsupported(node, "needs channels in axis 1")) };
        let window =
            Window::new(vec![WindowAxis { before, after, ..WindowAxis::new(before + after + 1) }, WindowAxis::new(1)])?;
        let square = self.pointwise(node, "square", x, Activation::Power { offset: 0.0, exponent: 2.0 })?;
        let rows = vec![x.dims[0], Extent::fixed(1), x.dims[1], Extent::fixed(behind)];
        let rows = self.with_dims(node, &square, rows)?;
        let sum = Layer::AveragePool(AveragePool::new(window.clone(), Divisor::One));
        let sums = self.pooled(node, "sum", &rows, &window, &[channels, behind as usize], sum)?;
        let sums = self.with_dims(node, &sums, x.dims.clone())?;
        let weight = Tensor::scalar((f64::from(alpha) / size as f64) as f32);
        let sums = self.affine_act(node, "mean", &sums, weight, Tensor::scalar(bias))?;
        let factor = self.pointwise(node, "factor", &sums, Activation::Power { offset: 0.0, exponent: -beta })?;
        self.multiplied(node, "", x, &factor)
    }

    fn channels(&self, node: &Node, x: &Act) -> Result<usize> {
        let channels = x.dims.get(1).and_then(|channels| channels.known());
        let channels = channels.and_then(|channels| usize::try_from(channels).ok());
        channels.ok_or_else(|| self.unsupported(node, "needs channels in axis 1"))
    }

    /// The constant in input `slot`; none if it is left out.
    fn parameter(&self, node: &Node, slot: usize) -> Result<Option<Arc<Tensor>>> {
        match self.optional(node, slot)? {
            None => Ok(None),
            Some(Fact::Float(parameter)) => Ok(Some(parameter)),
            Some(_) => Err(self.unsupported(node, "needs a scale and a bias that are constant")),
        }
    }

    /// x times the scale in input 1 plus the bias in input 2, each number for `repeat` channels.
    fn by_channel(&mut self, node: &Node, x: &Act, repeat: usize) -> Result<Act> {
        let channels = self.channels(node, x)?;
        let mut shape = vec![1; x.dims.len()];
        shape[1] = channels;
        let mut spread = Vec::with_capacity(2);
        for slot in [1, 2] {
            let Some(parameter) = self.parameter(node, slot)? else {
                return Err(self.unsupported(node, "needs a scale and a bias in inputs 1 and 2"));
            };
            if parameter.count().checked_mul(repeat) != Some(channels) {
                return Err(Error::shape(format!(
                    "input {slot} has shape {} for {channels} channels, {repeat} to each of its numbers",
                    parameter.shape()
                )));
            }
            spread.push(Tensor::from_fn(shape.clone(), |channel| parameter.data()[channel / repeat]));
        }
        self.scaled_and_moved(node, x, Some(&spread[0]), Some(&spread[1]))
    }

    /// x ⊙ scale + bias; x itself where these are ones and zeros.
    fn scaled_and_moved(&mut self, node: &Node, x: &Act, scale: Option<&Tensor>, bias: Option<&Tensor>) -> Result<Act> {
        let all = |tensor: Option<&Tensor>, number: f32| {
            tensor.is_none_or(|tensor| tensor.data().iter().all(|element| element.to_bits() == number.to_bits()))
        };
        if all(scale, 1.0) && all(bias, 0.0) {
            return Ok(x.clone());
        }
        let in_sample = |tensor: Option<&Tensor>, otherwise: f32| match tensor {
            None => Ok(Tensor::scalar(otherwise)),
            Some(tensor) => self.constant_of_sample(tensor, &x.dims).ok_or_else(|| {
                let dims = extent::show(&x.dims);
                Error::shape(format!("a scale or bias of shape {} does not fit {dims}", tensor.shape()))
            }),
        };
        let (scale, bias) = (in_sample(scale, 1.0)?, in_sample(bias, 0.0)?);
        self.affine_act(node, "scale", x, scale, bias)
    }

    fn affine_act(&mut self, node: &Node, part: &str, x: &Act, scale: Tensor, offset: Tensor) -> Result<Act> {
        match self.affine(node, part, x, scale, offset)? {
            Fact::Activation(y) => Ok(y),
            Fact::Float(_) | Fact::Integer(_) | Fact::Index(_) | Fact::Opaque(_) => {
                Err(Error::internal("an affine layer makes an activation"))
            }
        }
    }
}
