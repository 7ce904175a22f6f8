//! Comparisons of known integers and choices by them, which exporters write around shapes.

use std::sync::Arc;

use super::constants::{broadcast, too_large, whole, zip};
use super::{Extent, Fact};
use crate::error::Result;
use crate::graph::Comparison;
use crate::tensor::Tensor;

/// Elements that a choice may make beyond those of its inputs.
const MAX_GROWTH: usize = 1 << 24;

/// Where the comparison holds, as 0 and 1; none where that depends on the batch size.
pub(super) fn compared(comparison: Comparison, a: &Tensor<Extent>, b: &Tensor<Extent>) -> Result<Option<Fact>> {
    let holds = |a: Extent, b: Extent| {
        let less = less_than(a, b)?;
        let greater = less_than(b, a)?;
        let found = match comparison {
            Comparison::Equal => !less && !greater,
            Comparison::Greater => greater,
            Comparison::Less => less,
        };
        Some(Extent::fixed(found.into()))
    };
    Ok(whole(zip(a, b, holds)?))
}

/// Whether a < b for every batch size N, or for none.
fn less_than(a: Extent, b: Extent) -> Option<bool> {
    match (a.known(), b.known()) {
        (Some(a), Some(b)) => Some(a < b),
        _ if a == b => Some(false),
        // N is 1 or more.
        (Some(a), None) if b.factor() > 0 && a <= 0 => Some(true),
        (None, Some(b)) if a.factor() > 0 && b <= 0 => Some(false),
        _ => None,
    }
}

/// `then` where `which` is not 0, else `otherwise`; none for values of different types.
pub(super) fn chosen(which: &Tensor<Extent>, then: &Fact, otherwise: &Fact) -> Result<Option<Fact>> {
    Ok(match (then, otherwise) {
        (Fact::Float(then), Fact::Float(otherwise)) => Some(Fact::Float(Arc::new(choose(which, then, otherwise)?))),
        (Fact::Integer(then), Fact::Integer(otherwise)) => {
            Some(Fact::Integer(Arc::new(choose(which, then, otherwise)?)))
        }
        _ => None,
    })
}

fn choose<T: Copy>(which: &Tensor<Extent>, then: &Tensor<T>, otherwise: &Tensor<T>) -> Result<Tensor<T>> {
    let shape = broadcast(broadcast(which.shape().clone(), then.shape())?, otherwise.shape())?;
    if shape.count() > MAX_GROWTH.max(then.count()).max(otherwise.count()) {
        return Err(too_large());
    }
    let which = which.broadcast_to(&shape)?;
    let (then, otherwise) = (then.broadcast_to(&shape)?, otherwise.broadcast_to(&shape)?);
    let pairs = then.data().iter().zip(otherwise.data());
    let picked = which.data().iter().zip(pairs).map(|(which, (then, otherwise))| match which.known() {
        Some(0) => *otherwise,
        _ => *then,
    });
    Tensor::new(shape.clone(), picked.collect())
}
