//! Extents that may hold the batch size: what the proof of the batch axis calculates with.

use std::fmt;

use crate::tensor::Shape;

/// An integer that is known, or a known multiple of the batch size N.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    factor: i64,
    batch: bool,
}

impl Extent {
    /// N itself.
    pub const BATCH: Extent = Extent { factor: 1, batch: true };

    pub fn fixed(value: i64) -> Self {
        Extent { factor: value, batch: false }
    }

    /// `factor`·N.
    pub fn batches(factor: i64) -> Self {
        Extent { factor, batch: factor != 0 }
    }

    pub fn is_batch(self) -> bool {
        self.batch
    }

    /// The number, or the number of rows a sample.
    pub fn factor(self) -> i64 {
        self.factor
    }

    /// The number, if N is not in it.
    pub fn known(self) -> Option<i64> {
        (!self.batch).then_some(self.factor)
    }

    pub fn add(self, other: Extent) -> Option<Extent> {
        match (self, other) {
            (zero, value) | (value, zero) if zero.factor == 0 => Some(value),
            (a, b) if a.batch == b.batch => Some(Extent { factor: a.factor.checked_add(b.factor)?, ..a }.normal()),
            _ => None,
        }
    }

    pub fn negate(self) -> Option<Extent> {
        Some(Extent { factor: self.factor.checked_neg()?, ..self })
    }

    pub fn multiply(self, other: Extent) -> Option<Extent> {
        if self.batch && other.batch {
            return None;
        }
        let factor = self.factor.checked_mul(other.factor)?;
        Some(Extent { factor, batch: self.batch || other.batch }.normal())
    }

    /// Division cut towards zero, as ONNX divides integers; none where N does not cancel.
    pub fn divide(self, other: Extent) -> Option<Extent> {
        let factor = self.factor.checked_div(other.factor)?;
        match (self.batch, other.batch) {
            (false, false) => Some(Extent::fixed(factor)),
            _ if self.factor % other.factor != 0 => None,
            (true, false) => Some(Extent::batches(factor)),
            (true, true) => Some(Extent::fixed(factor)),
            (false, true) => None,
        }
    }

    fn normal(self) -> Extent {
        Extent { batch: self.batch && self.factor != 0, ..self }
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.batch, self.factor) {
            (false, factor) => write!(f, "{factor}"),
            (true, 1) => f.write_str("N"),
            (true, factor) => write!(f, "{factor}N"),
        }
    }
}

/// The extents of a tensor as messages show them, with N for the batch.
pub(super) fn show(dims: &[Extent]) -> String {
    let dims: Vec<String> = dims.iter().map(Extent::to_string).collect();
    format!("[{}]", dims.join(", "))
}

/// The product of extents; none if N is in it twice or it overflows.
pub(super) fn product(dims: &[Extent]) -> Option<Extent> {
    dims.iter().try_fold(Extent::fixed(1), |product, &dim| product.multiply(dim))
}

/// The axis that carries the batch.
pub(super) fn batch_axis(dims: &[Extent]) -> Option<usize> {
    dims.iter().position(|dim| dim.is_batch())
}

/// The shape of one sample: N = 1, and without the batch axis where that carries nothing but the batch.
///
/// None if the batch is not outermost in row-major order, or in two axes.
pub(super) fn sample_shape(dims: &[Extent]) -> Option<Shape> {
    let batch = batch_axis(dims)?;
    let outermost = dims[..batch].iter().all(|&dim| dim == Extent::fixed(1));
    if !outermost || batch_axis(&dims[batch + 1..]).is_some() {
        return None;
    }
    let kept = dims.iter().enumerate().filter(|&(axis, dim)| axis != batch || dim.factor != 1);
    kept.map(|(_, dim)| usize::try_from(dim.factor).ok()).collect::<Option<Vec<_>>>().map(Shape::new)
}

/// The sample's axis that `axis` of the whole tensor is; none for the batch axis itself.
pub(super) fn sample_axis(dims: &[Extent], axis: usize) -> Option<usize> {
    match batch_axis(dims) {
        None => Some(axis),
        Some(batch) if batch == axis => None,
        Some(batch) if dims[batch].factor == 1 && axis > batch => Some(axis - 1),
        Some(_) => Some(axis),
    }
}

/// NumPy's broadcast of two shapes; none if they do not fit.
pub(super) fn broadcast(a: &[Extent], b: &[Extent]) -> Option<Vec<Extent>> {
    let rank = a.len().max(b.len());
    let one = Extent::fixed(1);
    let at = |dims: &[Extent], axis: usize| (axis + dims.len()).checked_sub(rank).map_or(one, |axis| dims[axis]);
    (0..rank)
        .map(|axis| match (at(a, axis), at(b, axis)) {
            (x, y) if x == y => Some(x),
            (x, y) if x == one => Some(y),
            (x, y) if y == one => Some(x),
            _ => None,
        })
        .collect()
}

/// The position of an axis that may count from the end.
pub(super) fn position(axis: i64, rank: usize) -> Option<usize> {
    let rank = i64::try_from(rank).ok()?;
    let axis = if axis < 0 { axis.checked_add(rank)? } else { axis };
    (0..rank).contains(&axis).then_some(axis as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    const N: Extent = Extent::BATCH;

    fn n(value: i64) -> Extent {
        Extent::fixed(value)
    }

    #[test]
    fn a_batch_behind_axes_of_one_is_outermost() {
        assert_eq!(sample_shape(&[N, n(3), n(4)]), Some(Shape::new([3, 4])));
        assert_eq!(sample_shape(&[n(1), N, n(4)]), Some(Shape::new([1, 4])));
        assert_eq!(sample_shape(&[Extent::batches(5), n(4)]), Some(Shape::new([5, 4])));
        assert_eq!(sample_shape(&[n(2), N]), None);
        assert_eq!(sample_shape(&[n(2), n(3)]), None);
    }

    #[test]
    fn extents_calculate_with_the_batch() {
        assert_eq!(product(&[N, n(3), n(4)]), Some(Extent::batches(12)));
        assert_eq!(Extent::batches(12).divide(n(4)), Some(Extent::batches(3)));
        assert_eq!(Extent::batches(12).divide(N), Some(n(12)));
        assert_eq!(Extent::batches(3).divide(n(2)), None);
        assert_eq!(n(7).divide(n(0)), None);
        assert_eq!(N.multiply(N), None);
        assert_eq!(N.add(n(1)), None);
        assert_eq!(N.add(n(0)), Some(N));
    }

    #[test]
    fn broadcasting_keeps_the_batch() {
        assert_eq!(broadcast(&[N, n(4)], &[n(4)]), Some(vec![N, n(4)]));
        assert_eq!(broadcast(&[N, n(4)], &[n(1), n(1), n(4)]), Some(vec![n(1), N, n(4)]));
        assert_eq!(broadcast(&[N, n(4)], &[n(2), n(4)]), None);
    }
}
