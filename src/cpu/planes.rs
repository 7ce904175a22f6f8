//! Where turned sources and products lie while tiles are made.

use super::gemm::LINE;
use super::winograd::Winograd;

/// Where the turned sources and the products of some tiles lie.
pub(super) struct Planes {
    pub(super) points: usize,
    /// Blocks of products, each with some of the target channels at all points.
    pub(super) blocks: usize,
    pub(super) sources: Layout,
    pub(super) products: Layout,
    /// Where each tile's products begin in a plane.
    pub(super) starts: Vec<usize>,
}

impl Planes {
    /// `block`: how many target channels a block of products has.
    pub(super) fn of(conv: &Winograd, tiles: usize, block: usize) -> Self {
        let layout = |stride| Layout::new(tiles, stride);
        let (sources, products) = (layout(conv.channels.source + LINE), layout(block));
        let starts = (0..tiles).map(|tile| tile * products.stride).collect();
        Planes { points: conv.points(), blocks: conv.channels.target.div_ceil(block), sources, products, starts }
    }

    /// Elements of a block of products.
    pub(super) fn block(&self) -> usize {
        self.points * self.products.plane
    }

    pub(super) fn blocks<'a>(&self, products: &'a mut [f32]) -> impl Iterator<Item = &'a mut [f32]> {
        products.chunks_exact_mut(self.block())
    }

    /// Room for turned sources and for products.
    pub(super) fn room<'a>(&self, room: &'a mut Vec<f32>) -> (&'a mut [f32], &'a mut [f32]) {
        let (sources, products) = (self.points * self.sources.plane, self.blocks * self.block());
        if room.len() < sources + products {
            // Let go first, so that nothing is copied and both are never there.
            drop(std::mem::take(room));
            *room = vec![0.0; sources + products];
        }
        room[..sources + products].split_at_mut(sources)
    }

    /// The turned sources and the products of each point, those of one block.
    pub(super) fn pairs<'a>(
        &self,
        sources: &'a [f32],
        products: &'a mut [f32],
    ) -> impl Iterator<Item = (&'a [f32], &'a mut [f32])> {
        sources.chunks_exact(self.sources.plane).zip(products.chunks_exact_mut(self.products.plane))
    }
}

/// Where the elements of tiles lie in one plane for each point.
pub(super) struct Layout {
    /// Elements from tile to tile.
    pub(super) stride: usize,
    /// Elements from plane to plane: an odd number of cache lines, because planes a power of two apart would compete for a few lines of
    /// the first-level cache.
    pub(super) plane: usize,
}

impl Layout {
    pub(super) fn new(tiles: usize, stride: usize) -> Self {
        Layout { stride, plane: ((tiles * stride / LINE) | 1) * LINE }
    }

    /// For each of several parts of the tiles, `lengths` long, its cache lines in every plane.
    pub(super) fn cut<'a>(
        &self,
        planes: &'a mut [f32],
        lengths: impl IntoIterator<Item = usize>,
    ) -> Vec<Vec<&'a mut [[f32; LINE]]>> {
        let mut rest: Vec<_> = planes.chunks_exact_mut(self.plane).map(|plane| plane.as_chunks_mut().0).collect();
        let mut part = |tiles: usize| {
            let length = tiles * self.stride / LINE;
            rest.iter_mut().map(|rest| rest.split_off_mut(..length).expect("parts lie within")).collect()
        };
        lengths.into_iter().map(&mut part).collect()
    }
}
