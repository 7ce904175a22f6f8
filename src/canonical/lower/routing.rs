//! Operators that move elements: transpose, concat, embedding lookup; and those that only ask for extents.

use std::sync::Arc;

use super::emit::check_finite;
use super::{Act, Extent, Fact, Lowering};
use crate::canonical::extent;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::Node;
use crate::layers::{AxisMapKind, Concat, Layer, Lookup, Transpose};
use crate::tensor::Tensor;

impl Lowering<'_> {
    pub(super) fn transpose(&mut self, node: &Node, order: Option<&[i64]>) -> Result<Fact> {
        let Fact::Activation(x) = self.input(node, 0)? else {
            return Err(self.unsupported(node, "of this value is not supported"));
        };
        let order = self.order(node, order, x.dims.len())?;
        self.permuted(node, "", &x, &order).map(Fact::Activation)
    }

    /// A transpose's order as positions; reversed if none is given.
    pub(super) fn order(&self, node: &Node, order: Option<&[i64]>, rank: usize) -> Result<Vec<usize>> {
        let order: Vec<usize> = match order {
            None => (0..rank).rev().collect(),
            Some(order) => order.iter().filter_map(|&axis| extent::position(axis, rank)).collect(),
        };
        let mut sorted = order.clone();
        sorted.sort_unstable();
        if sorted.iter().copied().eq(0..rank) {
            return Ok(order);
        }
        Err(Error::new(ErrorKind::Malformed, format!("the order {order:?} is no permutation of {rank} axes"))
            .at(node.place())
            .help("the file is damaged or was edited by hand; export the model again"))
    }

    /// x with its axes in `order`.
    ///
    /// A transpose that moves the batch inwards is kept back, until another one brings the batch out again.
    pub(super) fn permuted(&mut self, node: &Node, part: &str, x: &Act, order: &[usize]) -> Result<Act> {
        let dims: Vec<Extent> = order.iter().map(|&axis| x.dims[axis]).collect();
        let order: Vec<usize> = match &x.turned {
            None => order.to_vec(),
            Some(turned) => order.iter().map(|&axis| turned[axis]).collect(),
        };
        if self.sample(&dims).is_err() {
            return Ok(Act { id: x.id, dims, turned: Some(order) });
        }
        let batch = extent::batch_axis(&dims).filter(|&batch| dims[batch].factor() == 1).map(|batch| order[batch]);
        let rank_before = |axis: usize| axis - usize::from(batch.is_some_and(|batch| batch < axis));
        let kept = order.iter().filter(|&&axis| Some(axis) != batch);
        let order: Vec<usize> = kept.map(|&axis| rank_before(axis)).collect();
        if order.iter().copied().eq(0..order.len()) {
            return Ok(Act::new(x.id, dims));
        }
        self.emit_act(node, part, Layer::Transpose(Transpose::new(order)?), &[x.id], dims)
    }

    pub(super) fn concat(&mut self, node: &Node, axis: i64) -> Result<Fact> {
        let parts: Vec<Fact> = (0..node.inputs.len()).map(|slot| self.input(node, slot)).collect::<Result<_>>()?;
        let extents = |part: &Fact| match part {
            Fact::Activation(act) => Some(act.dims.clone()),
            Fact::Float(tensor) => Some(tensor.shape().dims().iter().map(|&dim| Extent::fixed(dim as i64)).collect()),
            Fact::Integer(_) | Fact::Index(_) | Fact::Opaque(_) => None,
        };
        let Some(all) = parts.iter().map(extents).collect::<Option<Vec<Vec<Extent>>>>() else {
            return Err(self.unsupported(node, "of activations with other values is not supported"));
        };
        let acts: Vec<&Act> =
            parts.iter().filter_map(|part| if let Fact::Activation(act) = part { Some(act) } else { None }).collect();
        let Some(&first) = acts.first() else { return Err(self.unsupported(node, "of constants is not supported")) };
        let mut dims = first.dims.clone();
        let axis = self.axis(node, axis, &dims)?;
        let Some(sample_axis) = extent::sample_axis(&dims, axis) else {
            return Err(self.unsupported(node, "along the batch axis mixes samples"));
        };
        dims[axis] = Extent::fixed(0);
        for part in &all {
            // A constant holds one sample where the model was exported for a batch of 1.
            let part = self.with_batch(first, part.clone());
            let fits = part.len() == dims.len() && (0..dims.len()).all(|i| i == axis || part[i] == dims[i]);
            let joined = dims[axis].add(*part.get(axis).unwrap_or(&dims[axis])).filter(|_| fits);
            dims[axis] = joined.ok_or_else(|| {
                let shapes = (extent::show(&first.dims), extent::show(&part));
                Error::shape(format!("{} and {} cannot be joined along axis {axis}", shapes.0, shapes.1))
                    .help("check the extents that the model declares for its inputs")
            })?;
        }
        if acts.len() < parts.len() {
            return self.joined_with_constants(node, &parts, axis, dims);
        }
        let ids: Vec<usize> = acts.iter().map(|act| act.id).collect();
        self.emit(node, "", Layer::Concat(Concat::new(sample_axis)), &ids, dims)
    }

    /// Activations and constants side by side: zeros where the constants are, to which those are added.
    fn joined_with_constants(&mut self, node: &Node, parts: &[Fact], axis: usize, dims: Vec<Extent>) -> Result<Fact> {
        self.reserve(self.sample(&dims)?.count())?;
        let (mut ids, mut positions, mut offsets) = (Vec::new(), Vec::new(), Vec::new());
        let (mut joined, mut held) = (dims.clone(), 0);
        for part in parts {
            match part {
                Fact::Activation(act) => {
                    let length = self.length(node, act, axis)?;
                    positions.extend((held..held + length).map(Some));
                    held += length;
                    ids.push(act.id);
                    let zeros = act.dims.iter().map(|dim| dim.known().unwrap_or(1) as usize).collect::<Vec<_>>();
                    offsets.push(Arc::new(Tensor::zeros(zeros)));
                }
                Fact::Float(tensor) => {
                    positions.extend(std::iter::repeat_n(None, tensor.shape().dims()[axis]));
                    offsets.push(Arc::clone(tensor));
                }
                Fact::Integer(_) | Fact::Index(_) | Fact::Opaque(_) => {
                    return Err(self.unsupported(node, "of activations with other values is not supported"));
                }
            }
        }
        joined[axis] = Extent::fixed(held as i64);
        let sample_axis = extent::sample_axis(&dims, axis).unwrap_or(axis);
        let x = match ids[..] {
            [only] => Act::new(only, joined),
            _ => self.emit_act(node, "joined", Layer::Concat(Concat::new(sample_axis)), &ids, joined)?,
        };
        let x = self.picked(node, "", AxisMapKind::Pad, &x, axis, positions)?;
        let offset = super::constants::concat(&offsets, axis)?;
        self.with_constant(node, &x, &offset, |c| (1.0, c))
    }

    pub(super) fn gather(&mut self, node: &Node, axis: i64) -> Result<Fact> {
        match (self.input(node, 0)?, self.input(node, 1)?) {
            (Fact::Float(table), Fact::Index(index)) => {
                if extent::position(axis, table.shape().rank()) != Some(0) {
                    return Err(
                        self.unsupported(node, "from a table along another axis than its first is not supported")
                    );
                }
                check_finite(&table, "table")?;
                let mut dims = index.dims;
                dims.extend(table.shape().dims()[1..].iter().map(|&dim| Extent::fixed(dim as i64)));
                self.emit(node, "", Layer::Lookup(Lookup::new(table)?), &[index.id], dims)
            }
            (Fact::Activation(_), Fact::Integer(at)) => {
                let x = self.activation(node, 0)?;
                self.gather_rows(node, &x, &at, axis)
            }
            (Fact::Activation(_), _) => Err(self.unsupported(node, "from an activation needs constant positions")),
            _ => Err(self.unsupported(node, "of these values is not supported")),
        }
    }

    pub(super) fn shape_of(&self, node: &Node, start: i64, end: Option<i64>) -> Result<Fact> {
        let dims = self.dims(node)?;
        let rank = dims.len() as i64;
        let bound = |at: i64| if at < 0 { at.saturating_add(rank) } else { at }.clamp(0, rank) as usize;
        let (start, end) = (bound(start), bound(end.unwrap_or(rank)));
        let part = dims.get(start..end).unwrap_or_default().to_vec();
        Ok(Fact::Integer(Arc::new(Tensor::vector(part))))
    }

    pub(super) fn size_of(&self, node: &Node) -> Result<Fact> {
        let count = extent::product(&self.dims(node)?);
        let count = count.ok_or_else(|| self.unsupported(node, "of this value does not work out"))?;
        Ok(Fact::Integer(Arc::new(Tensor::scalar(count))))
    }

    /// The extents of input 0.
    pub(super) fn dims(&self, node: &Node) -> Result<Vec<Extent>> {
        let fixed = |dims: &[usize]| dims.iter().map(|&dim| Extent::fixed(dim as i64)).collect();
        Ok(match self.input(node, 0)? {
            Fact::Activation(act) | Fact::Index(act) => act.dims,
            Fact::Float(tensor) => fixed(tensor.shape().dims()),
            Fact::Integer(tensor) => fixed(tensor.shape().dims()),
            Fact::Opaque(_) => return Err(self.unsupported(node, "of this constant is not supported")),
        })
    }
}
