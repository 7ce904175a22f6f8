//! Pools and reductions: one number from each window, or from whole axes.
//!
//! A pool never mixes what stands in front of its spatial axes, so all of that can be the layer's channels; a reduction
//! is a pool whose window is as long as the axes that it reduces.

use super::{Act, Extent, Fact, Lowering};
use crate::canonical::extent;
use crate::error::{Error, Result};
use crate::graph::{Node, Reduction, Sliding};
use crate::layers::{AveragePool, Divisor, Layer, MaxPool, Transpose, Window, WindowAxis, window::MOST_AXES};
use crate::tensor::Shape;

/// What a norm does with relevance.
const OF_NORMS: &str = "each element gets its share |x|ᵖ / Σ|x|ᵖ of the norm's relevance";

impl Lowering<'_> {
    pub(super) fn max_pool(&mut self, node: &Node, sliding: &Sliding) -> Result<Fact> {
        let (x, window, extents) = self.pool_window(node, sliding)?;
        for (axis, &extent) in window.axes().iter().zip(&extents) {
            if let Some(empty) = without_input(axis, extent) {
                return Err(Error::shape(format!(
                    "window {empty} of {axis:?} lies in the padding alone of an axis of {extent} positions"
                ))
                .help("export the model with padding that is smaller than its windows"));
            }
        }
        let layer = Layer::MaxPool(MaxPool::new(window.clone()));
        self.pooled(node, "", &x, &window, &extents, layer).map(Fact::Activation)
    }

    pub(super) fn average_pool(&mut self, node: &Node, sliding: &Sliding, counts_padding: bool) -> Result<Fact> {
        let (x, window, extents) = self.pool_window(node, sliding)?;
        let divisor = if counts_padding { Divisor::InsidePadded } else { Divisor::Inside };
        let layer = Layer::AveragePool(AveragePool::new(window.clone(), divisor));
        self.pooled(node, "", &x, &window, &extents, layer).map(Fact::Activation)
    }

    fn pool_window(&self, node: &Node, sliding: &Sliding) -> Result<(Act, Window, Vec<usize>)> {
        let x = self.activation(node, 0)?;
        let extents = self.spatial(&x)?;
        let kernel = sliding.kernel.clone().unwrap_or_default();
        let kernel = kernel.iter().map(|&positions| usize::try_from(positions).ok()).collect::<Option<Vec<_>>>();
        let Some(kernel) = kernel.filter(|kernel| kernel.len() == extents.len()) else {
            let (kernel, axes) = (sliding.kernel.clone().unwrap_or_default(), extents.len());
            return Err(Error::shape(format!(
                "the attribute kernel_shape {kernel:?} does not fit {axes} spatial axes"
            )));
        };
        let window = self.window(node, sliding, &kernel, &extents)?;
        Ok((x, window, extents))
    }

    pub(super) fn pooled(
        &mut self,
        node: &Node,
        part: &str,
        x: &Act,
        window: &Window,
        extents: &[usize],
        layer: Layer,
    ) -> Result<Act> {
        let outputs = window.outputs(extents)?;
        let fixed = |&extent: &usize| Extent::fixed(i64::try_from(extent).unwrap_or(i64::MAX));
        let dims: Vec<Extent> = x.dims[..2].iter().copied().chain(outputs.iter().map(fixed)).collect();
        self.sample(&dims)?;
        let channels = self.sample(&x.dims)?.count() / extents.iter().product::<usize>().max(1);
        let id = self.reshaped(node, x.id, &Shape::new([&[channels], extents].concat()))?;
        self.emit_act(node, part, layer, &[id], dims)
    }

    pub(super) fn global_pool(&mut self, node: &Node, reduction: Reduction) -> Result<Fact> {
        let x = self.activation(node, 0)?;
        let reduced: Vec<bool> = (0..x.dims.len()).map(|axis| axis >= 2).collect();
        if let Reduction::Norm { .. } = reduction {
            self.compose(node, OF_NORMS);
        }
        self.reduced(node, "", &x, &reduced, reduction, true).map(Fact::Activation)
    }

    /// (Σ|x|ᵖ)^(1/p) of each window.
    pub(super) fn norm_pool(&mut self, node: &Node, sliding: &Sliding, p: i64) -> Result<Fact> {
        let (x, window, extents) = self.pool_window(node, sliding)?;
        self.compose(node, OF_NORMS);
        let powers = self.powers(node, &x, p)?;
        let layer = Layer::AveragePool(AveragePool::new(window.clone(), Divisor::One));
        let part = if p == 1 { "" } else { "sum" };
        let sums = self.pooled(node, part, &powers, &window, &extents, layer)?;
        self.root(node, &sums, p).map(Fact::Activation)
    }

    pub(super) fn reduce(
        &mut self,
        node: &Node,
        reduction: Reduction,
        keep_axes: bool,
        empty_is_none: bool,
    ) -> Result<Fact> {
        let x = self.activation(node, 0)?;
        let axes = self.optional_integers(node, 1)?.unwrap_or_default();
        if axes.is_empty() && empty_is_none {
            return Ok(Fact::Activation(x));
        }
        let mut reduced = vec![axes.is_empty(); x.dims.len()];
        for axis in axes {
            let axis =
                axis.known().ok_or_else(|| self.unsupported(node, "along axes that depend on the batch size"))?;
            reduced[self.axis(node, axis, &x.dims)?] = true;
        }
        if let Reduction::Norm { .. } = reduction {
            self.compose(node, OF_NORMS);
        }
        self.reduced(node, "", &x, &reduced, reduction, keep_axes).map(Fact::Activation)
    }

    /// One number from all elements along the axes that are `reduced`.
    pub(super) fn reduced(
        &mut self,
        node: &Node,
        part: &str,
        x: &Act,
        reduced: &[bool],
        reduction: Reduction,
        keep_axes: bool,
    ) -> Result<Act> {
        if let Reduction::Norm { p } = reduction {
            let powers = self.powers(node, x, p)?;
            let part = if p == 1 { part } else { "sum" };
            let sums = self.reduced(node, part, &powers, reduced, Reduction::Sum, keep_axes)?;
            return self.root(node, &sums, p);
        }
        let one = Extent::fixed(1);
        let mut dims = Vec::with_capacity(x.dims.len());
        let mut sample_reduced = vec![false; self.sample(&x.dims)?.rank()];
        for (axis, (&dim, &gone)) in x.dims.iter().zip(reduced).enumerate() {
            match extent::sample_axis(&x.dims, axis) {
                _ if !gone => dims.push(dim),
                None => return Err(self.unsupported(node, "over the batch axis mixes samples")),
                Some(sample_axis) => {
                    sample_reduced[sample_axis] = true;
                    dims.extend(keep_axes.then_some(one));
                }
            }
        }
        let want = self.sample(&dims)?;
        let shape = self.draft.values[x.id].shape.clone();
        if !shape.dims().iter().zip(&sample_reduced).any(|(&extent, &gone)| gone && extent > 1) {
            return Ok(Act::new(self.reshaped(node, x.id, &want)?, dims));
        }
        let (id, extents, gone) = match pooling_view(shape.dims(), &sample_reduced) {
            Some((extents, gone)) => (x.id, extents, gone),
            None => {
                let kept = |gone: bool| (0..shape.rank()).filter(|&axis| sample_reduced[axis] == gone).collect();
                let (kept, reduced): (Vec<usize>, Vec<usize>) = (kept(false), kept(true));
                let count = |axes: &[usize]| axes.iter().map(|&axis| shape.dims()[axis]).product();
                let extents = vec![count(&kept), count(&reduced)];
                let turn = Layer::Transpose(Transpose::new([kept, reduced].concat())?);
                (self.add_layer(node, "transpose", turn, &[x.id])?, extents, vec![false, true])
            }
        };
        let id = self.reshaped(node, id, &Shape::new(extents.clone()))?;
        let axes = extents.iter().zip(gone).skip(1);
        let axes = axes.map(|(&extent, gone)| WindowAxis::new(if gone { extent } else { 1 }));
        let window = Window::new(axes.collect())?;
        let layer = match reduction {
            Reduction::Mean => Layer::AveragePool(AveragePool::new(window, Divisor::Inside)),
            Reduction::Sum | Reduction::Norm { .. } => Layer::AveragePool(AveragePool::new(window, Divisor::One)),
            Reduction::Max => Layer::MaxPool(MaxPool::new(window)),
        };
        self.emit_act(node, part, layer, &[id], dims)
    }
}

/// The first window of an axis that covers no position of the input.
fn without_input(axis: &WindowAxis, extent: usize) -> Option<usize> {
    let outputs = axis.outputs(extent)?;
    (0..outputs).find(|output| {
        let start = output * axis.stride;
        // The window's first position that is not in the padding in front.
        let first = axis.before.saturating_sub(start).div_ceil(axis.dilation);
        first >= axis.kernel || start + first * axis.dilation >= extent + axis.before
    })
}

/// A sample as channels and at most three axes behind them, of which each is reduced or kept as a whole.
///
/// None if the reduced axes lie too scattered.
fn pooling_view(dims: &[usize], reduced: &[bool]) -> Option<(Vec<usize>, Vec<bool>)> {
    let behind_channels = |mut extents: Vec<usize>, mut gone: Vec<bool>| {
        if gone.first() != Some(&false) {
            extents.insert(0, 1);
            gone.insert(0, false);
        }
        (extents.len() <= MOST_AXES + 1).then_some((extents, gone))
    };
    behind_channels(dims.to_vec(), reduced.to_vec()).or_else(|| {
        let mut extents: Vec<usize> = Vec::new();
        let mut gone: Vec<bool> = Vec::new();
        for (&extent, &is_reduced) in dims.iter().zip(reduced) {
            match extents.last_mut() {
                Some(last) if gone.last() == Some(&is_reduced) => *last *= extent,
                _ => {
                    extents.push(extent);
                    gone.push(is_reduced);
                }
            }
        }
        behind_channels(extents, gone)
    })
}
