//! Flatten, reshape, squeeze and unsqueeze: the extents that they give, with the batch in them.

use super::{Act, Extent, Fact, Lowering, Mode};
use crate::canonical::extent::{self, product};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{Node, Op};

impl Lowering<'_> {
    pub(super) fn reshape(&mut self, node: &Node) -> Result<Fact> {
        match self.input(node, 0)? {
            Fact::Activation(_) => {
                let x = self.activation(node, 0)?;
                let dims = self.reshaped_dims(node, &x.dims)?;
                let want = self.sample(&dims)?;
                Ok(Fact::Activation(Act::new(self.reshaped(node, x.id, &want)?, dims)))
            }
            // A lookup puts the reshape behind itself, because only lookups read integers.
            Fact::Index(x) => {
                let dims = self.reshaped_dims(node, &x.dims)?;
                self.sample(&dims)?;
                Ok(Fact::Index(Act::new(x.id, dims)))
            }
            Fact::Float(_) | Fact::Integer(_) | Fact::Opaque(_) => {
                Err(self.unsupported(node, "of this constant is not supported"))
            }
        }
    }

    /// The extents that a flatten, reshape, squeeze or unsqueeze makes of `dims`.
    pub(super) fn reshaped_dims(&self, node: &Node, dims: &[Extent]) -> Result<Vec<Extent>> {
        let found = match &node.op {
            Op::Flatten { axis } => {
                let rank = dims.len() as i64;
                let split = if *axis == rank { Some(dims.len()) } else { extent::position(*axis, dims.len()) };
                split.and_then(|split| Some(vec![product(&dims[..split])?, product(&dims[split..])?]))
            }
            Op::Reshape { zero_copies } => {
                let target = self.integers(node, 1)?;
                self.resolve(dims, &target, *zero_copies)
            }
            Op::Squeeze => match self.optional_integers(node, 1)? {
                Some(axes) => self.squeezed(dims, &axes),
                None => Some(dims.iter().copied().filter(|&dim| dim != Extent::fixed(1)).collect()),
            },
            Op::Unsqueeze => unsqueezed(dims, &self.integers(node, 1)?),
            _ => return Err(Error::internal("only reshapes have reshaped extents")),
        };
        found.ok_or_else(|| {
            let to = node.inputs.get(1).copied().flatten().and_then(|value| match self.fact(value) {
                Ok(Fact::Integer(target)) => Some(format!(" by {}", extent::show(target.data()))),
                _ => None,
            });
            Error::shape(format!(
                "{} of shape {}{} has another number of elements",
                node.op_type,
                extent::show(dims),
                to.unwrap_or_default()
            ))
            .help("the elements must agree for every batch size N; export the model with a dynamic batch axis")
        })
    }

    /// The extents of a reshape to `target`.
    ///
    /// A literal batch size in the target's first axis, or a multiple of it, becomes the same multiple of N.
    fn resolve(&self, dims: &[Extent], target: &[Extent], zero_copies: bool) -> Option<Vec<Extent>> {
        let total = product(dims)?;
        if let (Mode::Batched { literal: Some(literal) }, Some(first)) = (self.mode, target.first()) {
            let rows = first.known().filter(|&rows| rows > 0 && literal > 0 && rows % literal as i64 == 0);
            if let Some(rows) = rows {
                let mut rewritten = target.to_vec();
                rewritten[0] = Extent::batches(rows / literal as i64);
                if let Some(found) = filled(dims, &rewritten, zero_copies, total) {
                    return Some(found);
                }
            }
        }
        filled(dims, target, zero_copies, total)
    }

    fn squeezed(&self, dims: &[Extent], axes: &[Extent]) -> Option<Vec<Extent>> {
        let mut gone = vec![false; dims.len()];
        for axis in axes {
            let axis = extent::position(axis.known()?, dims.len())?;
            if dims[axis] != Extent::fixed(1) {
                return None;
            }
            gone[axis] = true;
        }
        Some(dims.iter().zip(gone).filter(|(_, gone)| !gone).map(|(&dim, _)| dim).collect())
    }

    /// The integers in input `slot`, N among them.
    pub(super) fn integers(&self, node: &Node, slot: usize) -> Result<Vec<Extent>> {
        self.optional_integers(node, slot)?.ok_or_else(|| {
            Error::new(ErrorKind::Malformed, format!("the node lacks its input {slot}"))
                .help("the file is damaged or was edited by hand; export the model again")
        })
    }

    /// The integers in input `slot`; none if it is left out.
    pub(super) fn optional_integers(&self, node: &Node, slot: usize) -> Result<Option<Vec<Extent>>> {
        match self.optional(node, slot)? {
            None => Ok(None),
            Some(Fact::Integer(tensor)) => Ok(Some(tensor.data().to_vec())),
            Some(_) => Err(self.unsupported(node, "with a shape or position that the input's values decide")),
        }
    }
}

/// `target` with its zeros and its −1 replaced, if it has the elements of `dims`.
fn filled(dims: &[Extent], target: &[Extent], zero_copies: bool, total: Extent) -> Option<Vec<Extent>> {
    let mut open = None;
    let mut out = Vec::with_capacity(target.len());
    for (axis, &dim) in target.iter().enumerate() {
        out.push(match dim.known() {
            Some(0) if zero_copies => *dims.get(axis)?,
            Some(-1) if open.is_none() => {
                open = Some(axis);
                Extent::fixed(1)
            }
            Some(known) if known < 0 => return None,
            _ => dim,
        });
    }
    let rest = product(&out)?;
    match open {
        Some(axis) => {
            out[axis] = total.divide(rest)?;
            (product(&out)? == total).then_some(out)
        }
        None => (rest == total).then_some(out),
    }
}

fn unsqueezed(dims: &[Extent], axes: &[Extent]) -> Option<Vec<Extent>> {
    let rank = dims.len() + axes.len();
    let mut new = vec![false; rank];
    for axis in axes {
        let axis = extent::position(axis.known()?, rank)?;
        if std::mem::replace(&mut new[axis], true) {
            return None;
        }
    }
    let mut old = dims.iter().copied();
    new.into_iter().map(|new| if new { Some(Extent::fixed(1)) } else { old.next() }).collect()
}
