//! Constant folding: operators whose inputs are all known, mostly on shapes.

use std::sync::Arc;

use super::{Extent, Fact, Lowering};
use crate::canonical::extent;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{Arithmetic, Constant, ElementType, Graph, Node, Op, plausible};
use crate::tensor::{Shape, Tensor};

/// Elements that folding may make beyond a few copies of the model's own constants.
const MAX_GROWTH: usize = 1 << 24;

/// Elements that folding may make for a graph, so that a small file cannot ask for much memory in many small steps.
pub(super) fn budget(graph: &Graph) -> usize {
    let own = graph.values.iter().flat_map(|value| &value.constant).map(|constant| constant.shape().count());
    own.fold(MAX_GROWTH, |sum, count| sum.saturating_add(count.saturating_mul(4)))
}

/// Applies one expression to a constant of either element type.
macro_rules! each {
    ($fact:expr, $tensor:ident => $result:expr) => {
        match $fact {
            Fact::Float($tensor) => Some(Fact::Float(Arc::new($result))),
            Fact::Integer($tensor) => Some(Fact::Integer(Arc::new($result))),
            Fact::Activation(_) | Fact::Index(_) | Fact::Opaque(_) => None,
        }
    };
}

impl Lowering<'_> {
    /// The node's result, if all that it reads is known; none if it is not, or not folded.
    pub(super) fn fold_constants(&mut self, node: &Node) -> Result<Option<Fact>> {
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for slot in 0..node.inputs.len() {
            match self.optional(node, slot)? {
                Some(Fact::Activation(_) | Fact::Index(_) | Fact::Opaque(_)) => return Ok(None),
                known => inputs.push(known),
            }
        }
        let folded = self.folded(node, &inputs)?;
        if let Some(Fact::Float(_) | Fact::Integer(_)) = &folded {
            let count = folded.as_ref().map_or(0, count);
            self.reserve(count)?;
        }
        Ok(folded)
    }

    /// Counts `elements` against what folding may make.
    pub(super) fn reserve(&mut self, elements: usize) -> Result<()> {
        self.budget = self.budget.checked_sub(elements).ok_or_else(too_large)?;
        Ok(())
    }

    fn folded(&mut self, node: &Node, inputs: &[Option<Fact>]) -> Result<Option<Fact>> {
        let first = inputs.first().cloned().flatten();
        let second = inputs.get(1).cloned().flatten();
        Ok(match (&node.op, first, second) {
            (Op::Identity, first, _) => first,
            (Op::Cast(to), Some(x), _) => cast(&x, *to),
            (Op::Arithmetic(op), Some(Fact::Float(a)), Some(Fact::Float(b))) => {
                let f = |a: f32, b: f32| match op {
                    Arithmetic::Add => a + b,
                    Arithmetic::Sub => a - b,
                    Arithmetic::Mul => a * b,
                    Arithmetic::Div => a / b,
                };
                Some(Fact::Float(Arc::new(zip(&a, &b, f)?)))
            }
            (Op::Arithmetic(op), Some(Fact::Integer(a)), Some(Fact::Integer(b))) => {
                self.integers_of(node, *op, &a, &b)?
            }
            (Op::Pow, Some(Fact::Float(a)), Some(Fact::Float(b))) => {
                Some(Fact::Float(Arc::new(zip(&a, &b, f32::powf)?)))
            }
            (Op::Elementary(function), Some(Fact::Float(x)), _) => {
                Some(Fact::Float(Arc::new(x.map(|&x| function.of(x)))))
            }
            (Op::Compare(comparison), Some(Fact::Integer(a)), Some(Fact::Integer(b))) => {
                super::choices::compared(*comparison, &a, &b)?
            }
            (Op::Where, Some(Fact::Integer(which)), Some(then)) => match inputs.get(2).cloned().flatten() {
                Some(otherwise) => super::choices::chosen(&which, &then, &otherwise)?,
                None => None,
            },
            (Op::Neg, Some(Fact::Float(x)), _) => Some(Fact::Float(Arc::new(x.map(|x| -x)))),
            (Op::Neg, Some(Fact::Integer(x)), _) => whole(x.map(|x| x.negate())),
            (Op::Flatten { .. } | Op::Reshape { .. } | Op::Squeeze | Op::Unsqueeze, Some(x), _) => {
                let dims: Vec<Extent> = shape(&x).dims().iter().map(|&dim| Extent::fixed(dim as i64)).collect();
                let dims = self.reshaped_dims(node, &dims)?;
                let shape = known_shape(&dims).ok_or_else(|| self.unsupported(node, "does not work out"))?;
                each!(x, t => Tensor::clone(&t).reshape(shape)?)
            }
            (Op::Transpose { order }, Some(x), _) => {
                let order = self.order(node, order.as_deref(), shape(&x).rank())?;
                each!(x, t => t.transpose(&order))
            }
            (Op::Concat { axis }, Some(_), _) => self.joined(node, inputs, *axis)?,
            (Op::Gather { axis }, Some(x), Some(Fact::Integer(at))) => {
                let axis = position(node, *axis, &x)?;
                let extent = shape(&x).dims()[axis].max(1);
                let gathered_count = (count(&x) / extent).saturating_mul(at.count());
                // As many rows as the table has are no growth, however large the table is.
                self.fits(gathered_count.saturating_sub(count(&x)))?;
                each!(x, t => gathered(&t, &at, axis)?)
            }
            (Op::Slice, Some(x), _) => self.sliced_constant(node, x)?,
            (Op::Dequantize { axis }, Some(Fact::Integer(x)), _) => {
                self.fits(x.count() / 4)?;
                Some(self.dequantized_constant(node, &x, *axis)?)
            }
            (Op::Quantize { axis }, Some(Fact::Float(x)), _) => {
                self.fits(x.count() / 4)?;
                Some(self.quantized_constant(node, &x, *axis)?)
            }
            (Op::Expand, Some(x), Some(Fact::Integer(target))) => {
                let Some(target) = known_shape(target.data()) else { return Ok(None) };
                let out = broadcast(shape(&x), &target)?;
                self.fits(out.count())?;
                each!(x, t => t.broadcast_to(&out)?)
            }
            (Op::ConstantOfShape(value), Some(Fact::Integer(target)), _) => {
                let Some(shape) = known_shape(target.data()) else { return Ok(None) };
                self.fits(shape.count())?;
                filled(value, shape)
            }
            (Op::Range, Some(Fact::Float(start)), Some(Fact::Float(end))) => {
                let Some(Fact::Float(step)) = inputs.get(2).cloned().flatten() else { return Ok(None) };
                self.real_range(&start, &end, &step)?
            }
            (Op::Range, Some(Fact::Integer(start)), Some(Fact::Integer(end))) => {
                let Some(Fact::Integer(step)) = inputs.get(2).cloned().flatten() else { return Ok(None) };
                self.range(&start, &end, &step)?
            }
            (Op::ReduceProd { keep_axes }, Some(Fact::Integer(x)), axes) if axes.is_none() || x.shape().rank() == 1 => {
                let shape = if *keep_axes { vec![1; x.shape().rank()] } else { Vec::new() };
                match extent::product(x.data()) {
                    Some(product) => Some(Fact::Integer(Arc::new(Tensor::new(shape, vec![product])?))),
                    None => None,
                }
            }
            _ => None,
        })
    }

    fn fits(&self, elements: usize) -> Result<()> {
        if elements > MAX_GROWTH { Err(too_large()) } else { Ok(()) }
    }

    fn integers_of(&self, node: &Node, op: Arithmetic, a: &Tensor<Extent>, b: &Tensor<Extent>) -> Result<Option<Fact>> {
        let f = |a: Extent, b: Extent| match op {
            Arithmetic::Add => a.add(b),
            Arithmetic::Sub => b.negate().and_then(|b| a.add(b)),
            Arithmetic::Mul => a.multiply(b),
            Arithmetic::Div => a.divide(b),
        };
        let found = whole(zip(a, b, f)?);
        found.map(Some).ok_or_else(|| self.unsupported(node, "of integers does not work out for every batch size"))
    }

    fn joined(&self, node: &Node, inputs: &[Option<Fact>], axis: i64) -> Result<Option<Fact>> {
        let mut floats = Vec::new();
        let mut integers = Vec::new();
        for input in inputs.iter().flatten() {
            match input {
                Fact::Float(tensor) => floats.push(Arc::clone(tensor)),
                Fact::Integer(tensor) => integers.push(Arc::clone(tensor)),
                Fact::Activation(_) | Fact::Index(_) | Fact::Opaque(_) => return Ok(None),
            }
        }
        let total: usize = floats.iter().map(|t| t.count()).chain(integers.iter().map(|t| t.count())).sum();
        self.fits(total / 4)?;
        Ok(match (&floats[..], &integers[..]) {
            ([first, ..], []) => {
                let axis = position(node, axis, &Fact::Float(Arc::clone(first)))?;
                Some(Fact::Float(Arc::new(concat(&floats, axis)?)))
            }
            ([], [first, ..]) => {
                let axis = position(node, axis, &Fact::Integer(Arc::clone(first)))?;
                Some(Fact::Integer(Arc::new(concat(&integers, axis)?)))
            }
            _ => return Err(self.unsupported(node, "of different element types is not possible")),
        })
    }

    fn real_range(&self, start: &Tensor, end: &Tensor, step: &Tensor) -> Result<Option<Fact>> {
        let ([start], [end], [step]) = (start.data(), end.data(), step.data()) else { return Ok(None) };
        let count = ((f64::from(*end) - f64::from(*start)) / f64::from(*step)).ceil();
        if !count.is_finite() {
            return Ok(None);
        }
        // A negative count saturates to none.
        self.fits(count as usize)?;
        Ok(Some(Fact::Float(Arc::new(Tensor::vector((0..count as usize).map(|i| start + i as f32 * step).collect())))))
    }

    fn range(&self, start: &Tensor<Extent>, end: &Tensor<Extent>, step: &Tensor<Extent>) -> Result<Option<Fact>> {
        let number = |tensor: &Tensor<Extent>| match tensor.data() {
            [only] => only.known(),
            _ => None,
        };
        let (Some(start), Some(end), Some(step)) = (number(start), number(end), number(step)) else { return Ok(None) };
        if step == 0 {
            return Ok(None);
        }
        let count =
            (i128::from(end) - i128::from(start) + i128::from(step) - i128::from(step.signum())) / i128::from(step);
        self.fits(usize::try_from(count.max(0)).unwrap_or(usize::MAX))?;
        let numbers = (0..count.max(0) as i64).map(|i| Extent::fixed(start.wrapping_add(i.wrapping_mul(step))));
        Ok(Some(Fact::Integer(Arc::new(Tensor::vector(numbers.collect())))))
    }
}

pub(super) fn too_large() -> Error {
    Error::new(ErrorKind::Limit, "computing the model's constants would need far more memory than the model itself")
        .help("fold the constants with onnxsim or onnxruntime's offline optimisation, then load the result")
}

pub(super) fn shape(fact: &Fact) -> Shape {
    match fact {
        Fact::Float(tensor) => tensor.shape().clone(),
        Fact::Integer(tensor) => tensor.shape().clone(),
        Fact::Activation(_) | Fact::Index(_) | Fact::Opaque(_) => Shape::default(),
    }
}

fn count(fact: &Fact) -> usize {
    shape(fact).count()
}

fn known_shape(dims: &[Extent]) -> Option<Shape> {
    let dims = dims.iter().map(|dim| usize::try_from(dim.known()?).ok()).collect::<Option<Vec<_>>>();
    dims.map(Shape::new).filter(plausible)
}

fn position(node: &Node, axis: i64, fact: &Fact) -> Result<usize> {
    extent::position(axis, shape(fact).rank()).ok_or_else(|| {
        Error::shape(format!("axis {axis} does not fit a constant of shape {}", shape(fact)))
            .at(node.place())
            .help("the file is damaged or was edited by hand; export the model again")
    })
}

pub(super) fn whole(tensor: Tensor<Option<Extent>>) -> Option<Fact> {
    let shape = tensor.shape().clone();
    let data = tensor.into_data().into_iter().collect::<Option<Vec<_>>>()?;
    Tensor::new(shape, data).ok().map(|tensor| Fact::Integer(Arc::new(tensor)))
}

fn cast(fact: &Fact, to: ElementType) -> Option<Fact> {
    match (fact, to) {
        (Fact::Float(_), ElementType::Float) | (Fact::Integer(_), ElementType::Integer) => Some(fact.clone()),
        (Fact::Float(tensor), ElementType::Integer) => {
            Some(Fact::Integer(Arc::new(tensor.map(|&x| Extent::fixed(x as i64)))))
        }
        (Fact::Integer(tensor), ElementType::Float) => {
            let data = tensor.data().iter().map(|x| x.known().map(|x| x as f32)).collect::<Option<Vec<f32>>>()?;
            Tensor::new(tensor.shape().clone(), data).ok().map(|tensor| Fact::Float(Arc::new(tensor)))
        }
        _ => None,
    }
}

fn filled(value: &Constant, shape: Shape) -> Option<Fact> {
    match value {
        Constant::Float(tensor) => {
            let fill = *tensor.data().first()?;
            Some(Fact::Float(Arc::new(Tensor::from_fn(shape, |_| fill))))
        }
        Constant::Integer(tensor) => {
            let fill = Extent::fixed(*tensor.data().first()?);
            Some(Fact::Integer(Arc::new(Tensor::from_fn(shape, |_| fill))))
        }
        Constant::Bool(tensor) => {
            let fill = Extent::fixed((*tensor.data().first()?).into());
            Some(Fact::Integer(Arc::new(Tensor::from_fn(shape, |_| fill))))
        }
        Constant::Opaque { .. } => None,
    }
}

/// The shape that two tensors broadcast to.
pub(super) fn broadcast(a: Shape, b: &Shape) -> Result<Shape> {
    let rank = a.rank().max(b.rank());
    let at = |shape: &Shape, axis: usize| (axis + shape.rank()).checked_sub(rank).map_or(1, |axis| shape.dims()[axis]);
    let dims: Option<Vec<usize>> = (0..rank)
        .map(|axis| match (at(&a, axis), at(b, axis)) {
            (x, y) if x == y || y == 1 => Some(x),
            (1, y) => Some(y),
            _ => None,
        })
        .collect();
    dims.map(Shape::new).filter(plausible).ok_or_else(|| {
        Error::shape(format!("constants of shapes {a} and {b} do not broadcast"))
            .help("the file is damaged or was edited by hand; export the model again")
    })
}

/// Two constants combined element by element with NumPy's broadcasting.
pub(in crate::canonical) fn zip<T: Copy, U>(a: &Tensor<T>, b: &Tensor<T>, f: impl Fn(T, T) -> U) -> Result<Tensor<U>> {
    let shape = broadcast(a.shape().clone(), b.shape())?;
    if shape.count() > MAX_GROWTH.max(a.count()).max(b.count()) {
        return Err(too_large());
    }
    let (a, b) = (a.broadcast_to(&shape)?, b.broadcast_to(&shape)?);
    Tensor::new(shape, a.data().iter().zip(b.data()).map(|(&a, &b)| f(a, b)).collect())
}

/// The positions `rows` of a constant along an axis; none if it is no constant.
pub(super) fn rows_of(fact: &Fact, rows: &Tensor<Extent>, axis: usize) -> Result<Option<Fact>> {
    Ok(each!(fact, t => gathered(t, rows, axis)?))
}

fn gathered<T: Copy>(tensor: &Tensor<T>, at: &Tensor<Extent>, axis: usize) -> Result<Tensor<T>> {
    let dims = tensor.shape().dims();
    let rows = at.data().iter().map(|row| row.known().and_then(|row| extent::position(row, dims[axis])));
    let rows: Option<Vec<usize>> = rows.collect();
    let rows = rows.ok_or_else(|| {
        Error::shape(format!("a position is outside of axis {axis} of a constant of shape {}", tensor.shape()))
            .help("the file is damaged or was edited by hand; export the model again")
    })?;
    let inner: usize = dims[axis + 1..].iter().product();
    let outer: usize = dims[..axis].iter().product();
    let mut shape = dims[..axis].to_vec();
    shape.extend_from_slice(at.shape().dims());
    shape.extend_from_slice(&dims[axis + 1..]);
    let shape = Shape::new(shape);
    if !plausible(&shape) {
        return Err(too_large());
    }
    let mut data = Vec::with_capacity(shape.count());
    for block in 0..outer {
        for row in &rows {
            let start = (block * dims[axis] + row) * inner;
            data.extend_from_slice(&tensor.data()[start..start + inner]);
        }
    }
    Tensor::new(shape, data)
}

pub(super) fn concat<T: Copy>(parts: &[Arc<Tensor<T>>], axis: usize) -> Result<Tensor<T>> {
    let first = parts[0].shape().dims();
    let mut dims = first.to_vec();
    dims[axis] = 0;
    for part in parts {
        let other = part.shape().dims();
        let fits = other.len() == first.len() && (0..first.len()).all(|i| i == axis || other[i] == first[i]);
        if !fits {
            return Err(Error::shape(format!(
                "constants of shapes {} and {} cannot be joined along axis {axis}",
                parts[0].shape(),
                part.shape()
            ))
            .help("the file is damaged or was edited by hand; export the model again"));
        }
        dims[axis] += other[axis];
    }
    let dims = Shape::new(dims);
    if !plausible(&dims) {
        return Err(too_large());
    }
    let outer: usize = first[..axis].iter().product();
    let mut data = Vec::with_capacity(dims.count());
    for block in 0..outer {
        for part in parts {
            let width = part.count() / outer.max(1);
            data.extend_from_slice(&part.data()[block * width..(block + 1) * width]);
        }
    }
    Tensor::new(dims, data)
}
