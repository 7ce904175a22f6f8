//! Blocks of channels and of the image exchanged: a reshape, a transpose and a reshape.

use super::{Act, Extent, Fact, Lowering};
use crate::error::{Error, Result};
use crate::graph::Node;

impl Lowering<'_> {
    pub(super) fn depth_to_space(&mut self, node: &Node, block: i64, channel_first: bool) -> Result<Fact> {
        let (x, [n, c, h, w], b) = self.image(node, block)?;
        let inner = c.divide(b).and_then(|c| c.divide(b));
        let whole = inner.and_then(|inner| inner.multiply(b)?.multiply(b)) == Some(c);
        let Some(inner) = inner.filter(|_| whole) else { return Err(self.uneven(&x, block)) };
        let (split, order) = if channel_first {
            ([n, inner, b, b, h, w], [0, 1, 4, 2, 5, 3])
        } else {
            ([n, b, b, inner, h, w], [0, 3, 4, 1, 5, 2])
        };
        let (high, wide) = (h.multiply(b), w.multiply(b));
        let (Some(high), Some(wide)) = (high, wide) else { return Err(self.uneven(&x, block)) };
        self.rearranged(node, &x, split.to_vec(), &order, vec![n, inner, high, wide])
    }

    pub(super) fn space_to_depth(&mut self, node: &Node, block: i64, channel_first: bool) -> Result<Fact> {
        let (x, [n, c, h, w], b) = self.image(node, block)?;
        let halves = |extent: Extent| extent.divide(b).filter(|part| part.multiply(b) == Some(extent));
        let (Some(high), Some(wide)) = (halves(h), halves(w)) else { return Err(self.uneven(&x, block)) };
        let Some(channels) = c.multiply(b).and_then(|c| c.multiply(b)) else { return Err(self.uneven(&x, block)) };
        let split = vec![n, c, high, b, wide, b];
        let order = if channel_first { [0, 1, 3, 5, 2, 4] } else { [0, 3, 5, 1, 2, 4] };
        self.rearranged(node, &x, split, &order, vec![n, channels, high, wide])
    }

    fn image(&self, node: &Node, block: i64) -> Result<(Act, [Extent; 4], Extent)> {
        let x = self.activation(node, 0)?;
        match (<[Extent; 4]>::try_from(x.dims.clone()), block) {
            (Ok(dims), 1..) => Ok((x, dims, Extent::fixed(block))),
            _ => Err(self.uneven(&x, block)),
        }
    }

    fn uneven(&self, x: &Act, block: i64) -> Error {
        let dims = crate::canonical::extent::show(&x.dims);
        Error::shape(format!("an input of shape {dims} does not divide into blocks of {block} by {block}"))
            .help("check the extents that the model declares for its inputs")
    }

    fn rearranged(
        &mut self,
        node: &Node,
        x: &Act,
        split: Vec<Extent>,
        order: &[usize],
        joined: Vec<Extent>,
    ) -> Result<Fact> {
        let parts = self.with_dims(node, x, split)?;
        let turned = self.permuted(node, "transpose", &parts, order)?;
        if turned.turned.is_some() {
            return Err(self.unsupported(node, "needs the batch as its leading axis"));
        }
        self.with_dims(node, &turned, joined).map(Fact::Activation)
    }
}
