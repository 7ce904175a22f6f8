//! Operators that move elements: transpose, concat, embedding lookup; and those that only ask for extents.

use std::sync::Arc;

use super::emit::check_finite;
use super::{Act, Extent, Fact, Lowering};
use crate::canonical::extent;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::Node;
use crate::layers::{Concat, Layer, Lookup, Transpose};
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
        let acts: Option<Vec<&Act>> =
            parts.iter().map(|part| if let Fact::Activation(act) = part { Some(act) } else { None }).collect();
        let Some(acts) = acts else {
            return Err(self.unsupported(node, "of activations with other values is not supported yet"));
        };
        let mut dims = acts.first().map(|act| act.dims.clone()).unwrap_or_default();
        let axis = self.axis(node, axis, &dims)?;
        let Some(sample_axis) = extent::sample_axis(&dims, axis) else {
            return Err(self.unsupported(node, "along the batch axis mixes samples"));
        };
        for act in &acts[1..] {
            let fits = act.dims.len() == dims.len() && (0..dims.len()).all(|i| i == axis || act.dims[i] == dims[i]);
            let joined = dims[axis].add(*act.dims.get(axis).unwrap_or(&dims[axis])).filter(|_| fits);
            dims[axis] = joined.ok_or_else(|| {
                let shapes = (extent::show(&acts[0].dims), extent::show(&act.dims));
                Error::shape(format!("{} and {} cannot be joined along axis {axis}", shapes.0, shapes.1))
                    .help("check the extents that the model declares for its inputs")
            })?;
        }
        let ids: Vec<usize> = acts.iter().map(|act| act.id).collect();
        self.emit(node, "", Layer::Concat(Concat::new(sample_axis)), &ids, dims)
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
