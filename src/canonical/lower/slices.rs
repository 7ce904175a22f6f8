//! Operators that pick, repeat or add positions along axes: slice, split, gather, pad, tile, expand.

use super::{Act, Extent, Fact, Lowering, Mode};
use crate::canonical::extent;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{Node, PadMode};
use crate::layers::{AxisMap, AxisMapKind, Layer};
use crate::tensor::Tensor;

/// The positions that a slice takes of an axis.
pub(super) struct Positions {
    first: i64,
    step: i64,
    count: usize,
}

impl Positions {
    /// From `start` to before `end` by `step` on an axis of `length`; negative positions count from the end.
    pub fn new(start: i64, end: i64, step: i64, length: usize) -> Option<Self> {
        let length = i64::try_from(length).ok()?;
        let bound = |at: i64, least: i64, most: i64| {
            let at = if at < 0 { at.saturating_add(length) } else { at };
            at.clamp(least, most.max(least))
        };
        let (first, span) = match step {
            0 => return None,
            1.. => (bound(start, 0, length), bound(end, 0, length) - bound(start, 0, length)),
            _ => {
                let first = bound(start, 0, length - 1);
                (first, first - bound(end, -1, length - 1))
            }
        };
        let count = u64::try_from(span).unwrap_or(0).div_ceil(step.unsigned_abs());
        Some(Positions { first, step, count: usize::try_from(count).ok()? })
    }

    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        // Every product lies within the axis, so none overflows.
        (0..self.count).map(|i| (self.first + self.step * i as i64) as usize)
    }
}

/// One axis of a slice.
struct Cut {
    axis: usize,
    start: Extent,
    end: Extent,
    step: Extent,
}

impl Lowering<'_> {
    /// x with other positions along an axis of the model's tensor: for each the one of x, or none for a zero.
    pub(super) fn picked(
        &mut self,
        node: &Node,
        part: &str,
        kind: AxisMapKind,
        x: &Act,
        axis: usize,
        positions: Vec<Option<usize>>,
    ) -> Result<Act> {
        let length = self.length(node, x, axis)?;
        if positions.iter().copied().eq((0..length).map(Some)) {
            return Ok(x.clone());
        }
        self.mapped(node, part, x, axis, positions.len(), |sample_axis| {
            AxisMap::picking(kind, sample_axis, length, positions)
        })
    }

    /// x through the map that `make` makes for the sample's axis.
    pub(super) fn mapped(
        &mut self,
        node: &Node,
        part: &str,
        x: &Act,
        axis: usize,
        outputs: usize,
        make: impl FnOnce(usize) -> Result<AxisMap>,
    ) -> Result<Act> {
        let Some(sample_axis) = extent::sample_axis(&x.dims, axis) else {
            return Err(self.unsupported(node, "along the batch axis mixes samples"));
        };
        let mut dims = x.dims.clone();
        dims[axis] = Extent::fixed(i64::try_from(outputs).unwrap_or(i64::MAX));
        self.sample(&dims)?;
        self.emit_act(node, part, Layer::AxisMap(make(sample_axis)?), &[x.id], dims)
    }

    /// The extent of an axis that is not the batch.
    pub(super) fn length(&self, node: &Node, x: &Act, axis: usize) -> Result<usize> {
        let known = x.dims[axis].known().and_then(|length| usize::try_from(length).ok());
        known.ok_or_else(|| self.unsupported(node, "along the batch axis mixes samples"))
    }

    /// The cuts of a slice of a tensor of `rank` axes.
    fn cuts(&self, node: &Node, rank: usize) -> Result<Vec<Cut>> {
        let (starts, ends) = (self.integers(node, 1)?, self.integers(node, 2)?);
        let axes = self.optional_integers(node, 3)?;
        let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).map(Extent::fixed).collect());
        let steps = self.optional_integers(node, 4)?.unwrap_or_else(|| vec![Extent::fixed(1); starts.len()]);
        if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
            return Err(self.unsupported(node, "with starts, ends, axes and steps of different lengths makes no sense"));
        }
        let mut cuts = Vec::with_capacity(starts.len());
        for (((start, end), axis), step) in starts.into_iter().zip(ends).zip(axes).zip(steps) {
            let axis = axis.known().and_then(|axis| extent::position(axis, rank));
            let axis = axis.ok_or_else(|| self.unsupported(node, "along an axis that its input lacks"))?;
            cuts.push(Cut { axis, start, end, step });
        }
        Ok(cuts)
    }

    fn positions(&self, node: &Node, cut: &Cut, length: usize) -> Result<Positions> {
        let numbers = (cut.start.known(), cut.end.known(), cut.step.known());
        let (Some(start), Some(end), Some(step)) = numbers else {
            return Err(self.unsupported(node, "with positions that depend on the batch size"));
        };
        Positions::new(start, end, step, length)
            .ok_or_else(|| self.unsupported(node, "with a step of 0 makes no sense"))
    }

    /// A slice of a constant.
    pub(super) fn sliced_constant(&self, node: &Node, mut x: Fact) -> Result<Option<Fact>> {
        for cut in self.cuts(node, super::constants::shape(&x).rank())? {
            let positions = self.positions(node, &cut, super::constants::shape(&x).dims()[cut.axis])?;
            let rows = positions.iter().map(|row| Extent::fixed(row as i64)).collect();
            let Some(part) = super::constants::rows_of(&x, &Tensor::vector(rows), cut.axis)? else { return Ok(None) };
            x = part;
        }
        Ok(Some(x))
    }

    pub(super) fn slice(&mut self, node: &Node) -> Result<Fact> {
        let mut x = self.activation(node, 0)?;
        for cut in self.cuts(node, x.dims.len())? {
            if x.dims[cut.axis].is_batch() && self.takes_all(&cut, x.dims[cut.axis]) {
                continue;
            }
            let length = self.length(node, &x, cut.axis)?;
            let positions = self.positions(node, &cut, length)?;
            self.reserve(positions.count)?;
            let positions = positions.iter().map(Some).collect();
            x = self.picked(node, "", AxisMapKind::Slice, &x, cut.axis, positions)?;
        }
        Ok(Fact::Activation(x))
    }

    /// Whether a cut along the batch takes every sample; a literal batch size counts as all.
    fn takes_all(&self, cut: &Cut, batch: Extent) -> bool {
        const ALL: i64 = i32::MAX as i64;
        let literal = match self.mode {
            Mode::Batched { literal } => literal.and_then(|literal| i64::try_from(literal).ok()),
            Mode::Whole { .. } => None,
        };
        let all = literal.and_then(|literal| literal.checked_mul(batch.factor())).unwrap_or(ALL);
        let to_the_end = cut.end == batch || cut.end.known().is_some_and(|end| end >= all);
        cut.start == Extent::fixed(0) && cut.step == Extent::fixed(1) && to_the_end
    }

    /// The parts of a split, one for each of the node's outputs.
    pub(super) fn split(&mut self, node: &Node, axis: i64, parts: Option<i64>) -> Result<Vec<Fact>> {
        let input = self.input(node, 0)?;
        let dims = self.dims(node)?;
        let axis = self.axis(node, axis, &dims)?;
        let known = dims[axis].known().and_then(|length| usize::try_from(length).ok());
        let length = known.ok_or_else(|| self.unsupported(node, "along the batch axis mixes samples"))?;
        let mut start = 0;
        let mut facts = Vec::with_capacity(node.outputs.len());
        for part in self.part_lengths(node, length, parts)? {
            let rows = start..start + part;
            start += part;
            facts.push(match &input {
                Fact::Activation(x) => {
                    let x = x.clone();
                    self.reserve(part)?;
                    let name = format!("{}", facts.len());
                    let picked = rows.map(Some).collect();
                    Fact::Activation(self.picked(node, &name, AxisMapKind::Slice, &x, axis, picked)?)
                }
                constant => {
                    let rows = Tensor::vector(rows.map(|row| Extent::fixed(row as i64)).collect());
                    super::constants::rows_of(constant, &rows, axis)?
                        .ok_or_else(|| self.unsupported(node, "of this value is not supported"))?
                }
            });
        }
        Ok(facts)
    }

    /// The lengths of a split's parts, which make up the axis.
    fn part_lengths(&self, node: &Node, length: usize, parts: Option<i64>) -> Result<Vec<usize>> {
        let outputs = node.outputs.len();
        let lengths = match self.optional_integers(node, 1)? {
            Some(lengths) => lengths.iter().map(|part| usize::try_from(part.known()?).ok()).collect::<Option<Vec<_>>>(),
            None => {
                let parts = parts.and_then(|parts| usize::try_from(parts).ok()).unwrap_or(outputs);
                // The last part is shorter where the axis does not divide.
                let part = length.div_ceil(parts.max(1));
                let cut = |index: usize| part.min(length.saturating_sub(part.saturating_mul(index)));
                (parts == outputs).then(|| (0..parts).map(cut).collect())
            }
        };
        let sum = |lengths: &[usize]| lengths.iter().try_fold(0_usize, |sum, &part| sum.checked_add(part));
        lengths
            .filter(|lengths| lengths.len() >= outputs && sum(lengths) == Some(length))
            .ok_or_else(|| self.unsupported(node, &format!("of {length} positions into these parts does not work out")))
    }

    /// Chosen positions of an activation along an axis; positions of no axes drop it.
    pub(super) fn gather_rows(&mut self, node: &Node, x: &Act, at: &Tensor<Extent>, axis: i64) -> Result<Fact> {
        let axis = self.axis(node, axis, &x.dims)?;
        let length = self.length(node, x, axis)?;
        let rows = at.data().iter().map(|row| row.known().and_then(|row| extent::position(row, length)));
        let rows: Option<Vec<Option<usize>>> = rows.map(|row| row.map(Some)).collect();
        let rows = rows.ok_or_else(|| {
            Error::shape(format!("a position is outside of axis {axis} of an input of shape {}", extent::show(&x.dims)))
                .help("the file is damaged or was edited by hand; export the model again")
        })?;
        self.reserve(rows.len())?;
        let rows = self.picked(node, "", AxisMapKind::Gather, x, axis, rows)?;
        let mut dims = rows.dims.clone();
        dims.splice(axis..=axis, at.shape().dims().iter().map(|&dim| Extent::fixed(dim as i64)));
        self.with_dims(node, &rows, dims).map(Fact::Activation)
    }

    /// x under other extents of the same count.
    pub(super) fn with_dims(&mut self, node: &Node, x: &Act, dims: Vec<Extent>) -> Result<Act> {
        let want = self.sample(&dims)?;
        Ok(Act::new(self.reshaped(node, x.id, &want)?, dims))
    }

    pub(super) fn pad(&mut self, node: &Node, mode: PadMode, value: f32) -> Result<Fact> {
        let mut x = self.activation(node, 0)?;
        let value = match self.optional(node, 2)? {
            None => value,
            Some(Fact::Float(value)) if value.count() == 1 => value.data()[0],
            Some(_) => return Err(self.unsupported(node, "needs one constant number to pad with")),
        };
        let amounts = self.integers(node, 1)?;
        let axes: Vec<Extent> = match self.optional_integers(node, 3)? {
            Some(axes) => axes,
            None => (0..x.dims.len() as i64).map(Extent::fixed).collect(),
        };
        if Some(amounts.len()) != axes.len().checked_mul(2) {
            return Err(self.unsupported(node, &format!("by {} numbers for {} axes", amounts.len(), axes.len())));
        }
        // The offset of the padded positions: `value` wherever one axis has no input.
        let mut added: Vec<(usize, Vec<bool>)> = Vec::new();
        for (index, axis) in axes.iter().enumerate() {
            let axis =
                axis.known().ok_or_else(|| self.unsupported(node, "along axes that depend on the batch size"))?;
            let axis = self.axis(node, axis, &x.dims)?;
            let (Some(before), Some(after)) = (amounts[index].known(), amounts[index + axes.len()].known()) else {
                return Err(self.unsupported(node, "by amounts that depend on the batch size"));
            };
            if (before, after) == (0, 0) {
                continue;
            }
            let length = self.length(node, &x, axis)?;
            let positions = self.pad_positions(node, mode, length, before, after)?;
            added.push((axis, positions.iter().map(Option::is_none).collect()));
            x = self.picked(node, "", AxisMapKind::Pad, &x, axis, positions)?;
        }
        if value == 0.0 || mode != PadMode::Constant || !added.iter().any(|(_, added)| added.contains(&true)) {
            return Ok(Fact::Activation(x));
        }
        if !value.is_finite() {
            return Err(self.unsupported(node, &format!("with {value}; give the pool behind it the padding instead")));
        }
        let offset = self.offset_of(&x, &added, value)?;
        self.affine(node, "value", &x, Tensor::scalar(1.0), offset)
    }

    /// The input position of each padded one; none where a constant is added.
    fn pad_positions(
        &mut self,
        node: &Node,
        mode: PadMode,
        length: usize,
        before: i64,
        after: i64,
    ) -> Result<Vec<Option<usize>>> {
        let length = i64::try_from(length).map_err(|_| Error::internal("an extent beyond 63 bits"))?;
        if mode != PadMode::Constant && (before < 0 || after < 0) {
            return Err(self.unsupported(node, "by negative amounts is supported with a constant only"));
        }
        let count = length.checked_add(before).and_then(|count| count.checked_add(after)).unwrap_or(i64::MAX);
        self.reserve(usize::try_from(count).unwrap_or(0))?;
        let source = |position: i64| {
            let at = position.saturating_sub(before);
            let inside = match mode {
                PadMode::Constant => return usize::try_from(at).ok().filter(|_| at < length),
                PadMode::Edge => at.clamp(0, length - 1),
                PadMode::Wrap => at.rem_euclid(length),
                PadMode::Reflect => {
                    let period = (2 * (length - 1)).max(1);
                    let at = at.rem_euclid(period);
                    at.min(period - at).min(length - 1)
                }
            };
            usize::try_from(inside).ok()
        };
        Ok((0..count.max(0)).map(source).collect())
    }

    /// `value` at every position of x that an axis has in `added`, in the axes of one sample.
    fn offset_of(&mut self, x: &Act, added: &[(usize, Vec<bool>)], value: f32) -> Result<Tensor> {
        let mut offset = Tensor::scalar(0.0);
        for (axis, added) in added {
            self.reserve(added.len().saturating_mul(offset.count()))?;
            let Some(sample_axis) = extent::sample_axis(&x.dims, *axis) else { continue };
            let mut shape = vec![1; self.draft.values[x.id].shape.rank()];
            shape[sample_axis] = added.len();
            let of_axis = Tensor::from_fn(shape, |i| if added[i] { value } else { 0.0 });
            offset = super::constants::zip(&offset, &of_axis, |a, b| if a == 0.0 { b } else { a })?;
        }
        Ok(offset)
    }

    pub(super) fn tile(&mut self, node: &Node) -> Result<Fact> {
        let mut x = self.activation(node, 0)?;
        let repeats = self.integers(node, 1)?;
        if repeats.len() != x.dims.len() {
            return Err(self.unsupported(node, &format!("by {} numbers of repeats", repeats.len())));
        }
        for (axis, repeats) in repeats.into_iter().enumerate().filter(|(_, repeats)| *repeats != Extent::fixed(1)) {
            let length = self.length(node, &x, axis)?;
            let repeats = repeats.known().and_then(|repeats| usize::try_from(repeats).ok());
            let repeats = repeats.ok_or_else(|| self.unsupported(node, "by these numbers of repeats"))?;
            self.reserve(length.saturating_mul(repeats))?;
            let positions = (0..length * repeats).map(|position| Some(position % length)).collect();
            x = self.picked(node, "", AxisMapKind::Expand, &x, axis, positions)?;
        }
        Ok(Fact::Activation(x))
    }

    pub(super) fn expand(&mut self, node: &Node) -> Result<Fact> {
        let x = self.activation(node, 0)?;
        let target = self.integers(node, 1)?;
        let out = extent::broadcast(&x.dims, &self.with_batch(&x, target)).ok_or_else(|| {
            Error::shape(format!("{} does not expand to these extents", extent::show(&x.dims)))
                .help("the file is damaged or was edited by hand; export the model again")
        })?;
        self.expanded(node, &x, &out).map(Fact::Activation)
    }

    /// Extents with a literal batch size where x has the batch replaced by the batch.
    pub(super) fn with_batch(&self, x: &Act, mut dims: Vec<Extent>) -> Vec<Extent> {
        if let (Mode::Batched { literal: Some(literal) }, Some(batch)) = (self.mode, extent::batch_axis(&x.dims))
            && let Some(lead) = dims.len().checked_sub(x.dims.len())
            && let Some(rows) = i64::try_from(literal).ok().and_then(|n| n.checked_mul(x.dims[batch].factor()))
            && dims[lead + batch] == Extent::fixed(rows)
        {
            dims[lead + batch] = x.dims[batch];
        }
        dims
    }

    /// x repeated along axes of 1 until it has the extents `out`.
    pub(super) fn expanded(&mut self, node: &Node, x: &Act, out: &[Extent]) -> Result<Act> {
        let one = Extent::fixed(1);
        let mut dims = vec![one; out.len() - x.dims.len()];
        dims.extend_from_slice(&x.dims);
        let mut act = self.with_dims(node, x, dims)?;
        for axis in 0..out.len() {
            if act.dims[axis] == out[axis] {
                continue;
            }
            let copies = out[axis].known().and_then(|copies| usize::try_from(copies).ok());
            let Some(copies) = copies.filter(|_| act.dims[axis] == one) else {
                let message = format!("{} is not repeated to {}", extent::show(&x.dims), extent::show(out));
                return Err(Error::new(ErrorKind::Unsupported, message)
                    .help("export the model with both operands of this node in their full shape"));
            };
            self.reserve(copies)?;
            act = self.picked(node, "expand", AxisMapKind::Expand, &act, axis, vec![Some(0); copies])?;
        }
        Ok(act)
    }
}
