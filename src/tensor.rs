//! Tensors: a shape and its elements in row-major order.

use std::fmt;

use crate::error::{Error, Result};

/// The extents of a tensor, outermost axis first. The empty shape is a scalar's.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Shape(Vec<usize>);

impl Shape {
    /// A shape from its extents.
    pub fn new(dims: impl Into<Vec<usize>>) -> Self {
        Shape(dims.into())
    }

    /// The extents, outermost first.
    pub fn dims(&self) -> &[usize] {
        &self.0
    }

    /// The number of axes.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// The number of elements: the product of the extents.
    ///
    /// Saturates, so that a shape no memory could hold compares larger than any real size.
    pub fn count(&self) -> usize {
        self.0.iter().fold(1usize, |product, &dim| product.saturating_mul(dim))
    }

    /// Row-major strides, in elements.
    pub fn strides(&self) -> Vec<usize> {
        let mut strides = vec![1; self.0.len()];
        for axis in (1..self.0.len()).rev() {
            strides[axis - 1] = strides[axis] * self.0[axis];
        }
        strides
    }

    /// This shape with one more axis in front.
    #[must_use]
    pub fn prepend(&self, dim: usize) -> Shape {
        let mut dims = Vec::with_capacity(self.0.len() + 1);
        dims.push(dim);
        dims.extend_from_slice(&self.0);
        Shape(dims)
    }
}

impl<T: Into<Vec<usize>>> From<T> for Shape {
    fn from(dims: T) -> Self {
        Shape(dims.into())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (axis, dim) in self.0.iter().enumerate() {
            if axis > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{dim}")?;
        }
        f.write_str("]")
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A dense tensor: `shape.count()` elements in row-major order.
#[derive(Clone, PartialEq)]
pub struct Tensor<T = f32> {
    shape: Shape,
    data: Vec<T>,
}

impl<T> Tensor<T> {
    /// A tensor from its elements in row-major order.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) if `data` does not hold `shape.count()` elements.
    pub fn new(shape: impl Into<Shape>, data: Vec<T>) -> Result<Self> {
        let shape = shape.into();
        if shape.count() != data.len() {
            return Err(Error::shape(format!(
                "shape {shape} needs {} elements but {} are given",
                shape.count(),
                data.len()
            )));
        }
        Ok(Tensor { shape, data })
    }

    /// A tensor of one axis.
    pub fn vector(data: Vec<T>) -> Self {
        Tensor { shape: Shape::new([data.len()]), data }
    }

    /// A tensor of no axes: one element.
    pub fn scalar(value: T) -> Self {
        Tensor { shape: Shape::default(), data: vec![value] }
    }

    /// A tensor whose elements come from their row-major position.
    pub fn from_fn(shape: impl Into<Shape>, element: impl FnMut(usize) -> T) -> Self {
        let shape = shape.into();
        let data = (0..shape.count()).map(element).collect();
        Tensor { shape, data }
    }

    /// The extents.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The elements in row-major order.
    pub fn data(&self) -> &[T] {
        &self.data
    }

    /// The elements in row-major order, to be changed in place.
    pub fn data_mut(&mut self) -> &mut [T] {
        &mut self.data
    }

    /// The elements, without their shape.
    pub fn into_data(self) -> Vec<T> {
        self.data
    }

    /// The number of elements.
    pub fn count(&self) -> usize {
        self.data.len()
    }

    /// The same elements under another shape of the same count.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) if the counts differ.
    pub fn reshape(self, shape: impl Into<Shape>) -> Result<Self> {
        let from = self.shape;
        Tensor::new(shape, self.data).map_err(|error| error.context(format!("reshape of {from}")))
    }

    /// Every element changed by `f`.
    pub fn map<U>(&self, f: impl FnMut(&T) -> U) -> Tensor<U> {
        Tensor { shape: self.shape.clone(), data: self.data.iter().map(f).collect() }
    }

    /// The extent of the leading axis; 1 for a scalar.
    pub fn rows(&self) -> usize {
        self.shape.dims().first().copied().unwrap_or(1)
    }

    /// The elements of position `row` along the leading axis.
    ///
    /// # Panics
    /// If `row` is not below [`rows`](Self::rows).
    pub fn row(&self, row: usize) -> &[T] {
        let width = self.data.len() / self.rows();
        &self.data[row * width..(row + 1) * width]
    }
}

impl<T: Clone + Default> Tensor<T> {
    /// A tensor of default elements (zeros).
    pub fn zeros(shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        let data = vec![T::default(); shape.count()];
        Tensor { shape, data }
    }
}

impl<T: Copy> Tensor<T> {
    /// The element at a position, one index an axis.
    ///
    /// # Panics
    /// If an index is out of its axis.
    pub fn at(&self, index: &[usize]) -> T {
        assert_eq!(index.len(), self.shape.rank(), "one index an axis");
        let mut offset = 0;
        for ((&i, &dim), stride) in index.iter().zip(self.shape.dims()).zip(self.shape.strides()) {
            assert!(i < dim, "index {i} is outside an axis of {dim}");
            offset += i * stride;
        }
        self.data[offset]
    }

    /// The elements with axes reordered: axis `i` of the result is axis `order[i]` of this tensor.
    ///
    /// # Panics
    /// If `order` is not a permutation of the axes.
    #[must_use]
    pub fn transpose(&self, order: &[usize]) -> Self {
        let strides = self.shape.strides();
        let dims: Vec<usize> = order.iter().map(|&axis| self.shape.dims()[axis]).collect();
        let steps: Vec<usize> = order.iter().map(|&axis| strides[axis]).collect();
        assert_eq!(order.len(), strides.len(), "a permutation names every axis once");
        Tensor { data: gather(&self.data, &dims, &steps), shape: Shape(dims) }
    }

    /// The elements repeated along axes of extent 1 (and along new leading axes) until `shape` is filled,
    /// as NumPy broadcasts.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) if an axis has neither extent 1 nor the wanted one.
    pub fn broadcast_to(&self, shape: &Shape) -> Result<Self> {
        let misfit = || Error::shape(format!("{} does not broadcast to {shape}", self.shape));
        let lead = shape.rank().checked_sub(self.shape.rank()).ok_or_else(misfit)?;
        let strides = self.shape.strides();
        let mut steps = vec![0; shape.rank()];
        for (axis, (&have, stride)) in self.shape.dims().iter().zip(strides).enumerate() {
            steps[lead + axis] = match have {
                have if have == shape.dims()[lead + axis] => stride,
                1 => 0,
                _ => return Err(misfit()),
            };
        }
        Ok(Tensor { data: gather(&self.data, shape.dims(), &steps), shape: shape.clone() })
    }
}

/// Elements of `data` in row-major order over `dims`, axis `i` advancing by `steps[i]`.
fn gather<T: Copy>(data: &[T], dims: &[usize], steps: &[usize]) -> Vec<T> {
    let count = dims.iter().product();
    let mut out = Vec::with_capacity(count);
    let mut index = vec![0; dims.len()];
    let mut offset = 0;
    for _ in 0..count {
        out.push(data[offset]);
        for axis in (0..dims.len()).rev() {
            index[axis] += 1;
            offset += steps[axis];
            if index[axis] < dims[axis] {
                break;
            }
            offset -= steps[axis] * dims[axis];
            index[axis] = 0;
        }
    }
    out
}

impl<T: fmt::Debug> fmt::Debug for Tensor<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        write!(f, "Tensor{} ", self.shape)?;
        f.debug_list().entries(self.data.iter().take(SHOWN)).finish()?;
        if self.data.len() > SHOWN { f.write_str("…") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_of_the_wrong_count_is_refused() {
        let error = Tensor::new([2, 3], vec![0.0_f32; 5]).unwrap_err();
        assert_eq!(error.message(), "shape [2, 3] needs 6 elements but 5 are given");
    }

    #[test]
    fn transpose_reorders_axes() {
        let tensor = Tensor::from_fn([2, 3, 4], |i| i);
        let turned = tensor.transpose(&[2, 0, 1]);
        assert_eq!(turned.shape().dims(), [4, 2, 3]);
        assert_eq!(turned.at(&[3, 1, 2]), tensor.at(&[1, 2, 3]));
    }

    #[test]
    fn broadcast_repeats_axes_of_one() {
        let tensor = Tensor::new([2, 1], vec![5, 7]).unwrap();
        let wide = tensor.broadcast_to(&Shape::new([3, 2, 2])).unwrap();
        assert_eq!(wide.data(), [5, 5, 7, 7, 5, 5, 7, 7, 5, 5, 7, 7]);
        assert!(tensor.broadcast_to(&Shape::new([3, 2])).is_err());
    }

    #[test]
    fn a_shape_beyond_memory_saturates() {
        assert_eq!(Shape::new([usize::MAX, 3]).count(), usize::MAX);
    }
}
