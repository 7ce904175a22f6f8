//! Convolutions, plain and transposed.

use std::sync::Arc;

use super::emit::check_finite;
use super::windows::Stated;
use super::{Act, Extent, Fact, Lowering};
use crate::canonical::draft::DraftId;
use crate::canonical::extent;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{Node, Padding, Sliding};
use crate::layers::{Conv, Layer, Transpose, Window, WindowAxis, window::MOST_AXES};
use crate::tensor::{Shape, Tensor};

/// What a convolution reads.
struct Operands {
    x: Act,
    /// Samples inside one sample: the rows of axis 0 beside the batch.
    rows: usize,
    /// The extents of the spatial axes.
    spatial: Vec<usize>,
    weight: Arc<Tensor>,
    bias: Option<Arc<Tensor>>,
}

impl Operands {
    /// The window's positions along each spatial axis.
    fn kernel(&self) -> Vec<usize> {
        self.weight.shape().dims()[2..].to_vec()
    }
}

impl Lowering<'_> {
    pub(super) fn conv(&mut self, node: &Node, sliding: &Sliding, groups: i64) -> Result<Fact> {
        let operands = self.operands(node, sliding)?;
        let kernel = operands.kernel();
        let window = self.window(node, sliding, &kernel, &operands.spatial)?;
        let outputs = window.outputs(&operands.spatial)?;
        let groups = groups_of(groups)?;
        let channels = operands.weight.shape().dims()[0];
        let make = |weight, bias, window| Conv::new(weight, bias, window, groups);
        self.convolved(node, operands, window, (channels, outputs), make)
    }

    pub(super) fn conv_transpose(
        &mut self,
        node: &Node,
        sliding: &Sliding,
        groups: i64,
        output_padding: Option<&[i64]>,
        output_shape: Option<&[i64]>,
    ) -> Result<Fact> {
        let operands = self.operands(node, sliding)?;
        let kernel = operands.kernel();
        let stated = self.stated(node, sliding, &kernel)?;
        let mut axes = Vec::with_capacity(kernel.len());
        let mut behind = Vec::with_capacity(kernel.len());
        let mut outputs = Vec::with_capacity(kernel.len());
        for (index, (axis, &extent)) in stated.iter().zip(&operands.spatial).enumerate() {
            let added = number_of("output_padding", output_padding, index, kernel.len())?.unwrap_or(0);
            let wanted = number_of("output_shape", output_shape, index, kernel.len())?;
            let fine = fine_extent(axis, &sliding.padding, extent as i64, added, wanted)?;
            axes.push(axis.axis(fine.pads, 0)?);
            behind.push(fine.behind);
            outputs.push(fine.extent);
        }
        let groups = groups_of(groups)?;
        let channels = operands.weight.shape().dims()[1].saturating_mul(groups);
        let rows = operands.rows;
        if rows > 1 {
            behind.insert(0, 0);
        }
        let make = |weight, bias, window| Conv::transposed(weight, bias, window, groups, behind);
        self.convolved(node, operands, Window::new(axes)?, (channels, outputs), make)
    }

    /// The inputs of a convolution.
    fn operands(&self, node: &Node, sliding: &Sliding) -> Result<Operands> {
        let x = self.activation(node, 0)?;
        let weight = match self.input(node, 1)? {
            Fact::Float(weight) => weight,
            Fact::Activation(_) => return Err(self.unsupported(node, "with a weight that depends on the input")),
            Fact::Integer(_) | Fact::Index(_) | Fact::Opaque(_) => {
                return Err(self.unsupported(node, "needs a constant weight of real numbers"));
            }
        };
        let bias = match self.optional(node, 2)? {
            None => None,
            Some(Fact::Float(bias)) => Some(bias),
            Some(_) => return Err(self.unsupported(node, "needs a constant bias of real numbers")),
        };
        let rank = weight.shape().rank();
        if rank != x.dims.len() || rank < 3 {
            return Err(self.unsupported(node, "needs an input and a weight of equal rank, 3 or more"));
        }
        let kernel = &weight.shape().dims()[2..];
        let stated = sliding.kernel.as_ref().is_none_or(|stated| {
            stated.len() == kernel.len() && stated.iter().zip(kernel).all(|(&a, &b)| usize::try_from(a) == Ok(b))
        });
        if !stated {
            return Err(Error::shape(format!(
                "the attribute kernel_shape {:?} is not that of a weight of shape {}",
                sliding.kernel.as_deref().unwrap_or_default(),
                weight.shape()
            )));
        }
        check_finite(&weight, "weight")?;
        bias.iter().try_for_each(|bias| check_finite(bias, "bias"))?;
        if extent::batch_axis(&x.dims).is_some_and(|batch| batch != 0) {
            return Err(self.unsupported(node, "needs the batch as its leading axis"));
        }
        let rows = usize::try_from(x.dims[0].factor()).unwrap_or(0);
        Ok(Operands { rows, spatial: self.spatial(&x)?, x, weight, bias })
    }

    /// The extents of the axes behind the channels.
    pub(super) fn spatial(&self, x: &Act) -> Result<Vec<usize>> {
        let extents = x.dims.iter().skip(2).map(|dim| usize::try_from(dim.known()?).ok()).collect::<Option<Vec<_>>>();
        let axes = extents.as_ref().map_or(0, Vec::len);
        match extents {
            Some(extents) if (1..=MOST_AXES).contains(&axes) => Ok(extents),
            _ => {
                let message =
                    format!("an input of shape {} has not 1 to {MOST_AXES} spatial axes", extent::show(&x.dims));
                Err(Error::new(ErrorKind::Unsupported, message)
                    .help("export the model with the batch first, the channels second and at most 3 axes behind"))
            }
        }
    }

    /// Adds the convolution that `make` makes.
    ///
    /// Where axis 0 holds more than the batch, its rows become a spatial axis that the window does not mix.
    fn convolved(
        &mut self,
        node: &Node,
        operands: Operands,
        window: Window,
        (channels, outputs): (usize, Vec<usize>),
        make: impl FnOnce(Arc<Tensor>, Option<Arc<Tensor>>, Window) -> Result<Conv>,
    ) -> Result<Fact> {
        let Operands { x, rows, spatial, weight, bias } = operands;
        let fixed = |extent: usize| Extent::fixed(i64::try_from(extent).unwrap_or(i64::MAX));
        let dims: Vec<Extent> =
            [x.dims[0], fixed(channels)].into_iter().chain(outputs.iter().map(|&extent| fixed(extent))).collect();
        self.sample(&dims)?;
        let inputs = usize::try_from(x.dims[1].factor()).unwrap_or(0);
        if rows == 1 {
            let id = self.reshaped(node, x.id, &Shape::new([&[inputs], &spatial[..]].concat()))?;
            return self.emit(node, "", Layer::Conv(make(weight, bias, window)?), &[id], dims);
        }
        if window.axes().len() == MOST_AXES {
            return Err(self.unsupported(node, "over three spatial axes needs the batch alone as its leading axis"));
        }
        let window = Window::new([&[WindowAxis::new(1)], window.axes()].concat())?;
        let (lead, kernel) = weight.shape().dims().split_at(2);
        let widened = [lead, &[1], kernel].concat();
        let weight = Arc::new(Tensor::clone(&weight).reshape(widened)?);
        let id = self.reshaped(node, x.id, &Shape::new([&[rows, inputs], &spatial[..]].concat()))?;
        let id = self.exchanged(node, "rows", id)?;
        let id = self.add_layer(node, "", Layer::Conv(make(weight, bias, window)?), &[id])?;
        let id = self.exchanged(node, "channels", id)?;
        let want = self.sample(&dims)?;
        Ok(Fact::Activation(Act::new(self.reshaped(node, id, &want)?, dims)))
    }

    /// A value with its first two axes exchanged.
    fn exchanged(&mut self, node: &Node, part: &str, id: DraftId) -> Result<DraftId> {
        let mut order: Vec<usize> = (0..self.draft.values[id].shape.rank()).collect();
        order.swap(0, 1);
        self.add_layer(node, part, Layer::Transpose(Transpose::new(order)?), &[id])
    }
}

fn groups_of(groups: i64) -> Result<usize> {
    usize::try_from(groups).map_err(|_| Error::new(ErrorKind::Malformed, format!("the attribute group is {groups}")))
}

/// The number of an axis in an attribute that may be left out.
fn number_of(name: &str, numbers: Option<&[i64]>, axis: usize, axes: usize) -> Result<Option<i64>> {
    const MOST: i64 = 1 << 28;
    match numbers {
        None | Some([]) => Ok(None),
        // Some exporters write the batch and the channels too.
        Some(numbers) if numbers.len() == axes || (name == "output_shape" && numbers.len() == axes + 2) => {
            let number = numbers[numbers.len() - axes + axis];
            if (0..=MOST).contains(&number) {
                return Ok(Some(number));
            }
            Err(Error::new(ErrorKind::Malformed, format!("the attribute {name} is {numbers:?}")))
        }
        Some(numbers) => Err(Error::new(
            ErrorKind::Malformed,
            format!("the attribute {name} is {numbers:?}, with other than {axes} numbers"),
        )),
    }
}

/// One axis of a transposed convolution's output.
struct Fine {
    extent: usize,
    /// What the padding takes away in front and behind.
    pads: (i64, i64),
    /// Positions behind that the window does not reach.
    behind: usize,
}

fn fine_extent(axis: &Stated, padding: &Padding, extent: i64, added: i64, wanted: Option<i64>) -> Result<Fine> {
    let whole = axis.stride * (extent - 1) + axis.span() + added;
    let same = matches!(padding, Padding::SameUpper | Padding::SameLower);
    let wanted = wanted.or(same.then_some(axis.stride * extent));
    let (pads, behind) = match wanted {
        Some(wanted) => {
            let taken = (whole - wanted).max(0);
            let pads = match padding {
                Padding::SameUpper => (taken / 2, taken - taken / 2),
                Padding::SameLower | Padding::Explicit(_) | Padding::Valid => (taken - taken / 2, taken / 2),
            };
            (pads, added + (wanted - whole).max(0))
        }
        None => (axis.pads, added),
    };
    let left = whole - added + behind - pads.0 - pads.1;
    match (usize::try_from(left), usize::try_from(behind)) {
        (Ok(extent @ 1..), Ok(behind)) => Ok(Fine { extent, pads, behind }),
        _ => Err(Error::shape(format!(
            "padding of {} and {} leaves nothing of an output of {whole} positions",
            pads.0, pads.1
        ))),
    }
}
