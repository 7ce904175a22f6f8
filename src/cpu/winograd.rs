//! Convolutions of 3 × 3 windows by fewer products: Winograd's F(2 × 2, 3 × 3) and F(4 × 4, 3 × 3).
//!
//! Targets are made in square tiles. A tile's sources are [turned](super::turns), and for each point of both axes the turned sources of
//! many tiles are the rows of a product with the weight turned at that point; what the products come to is turned into targets. A tile
//! of 2 × 2 takes 16 multiplications in place of 36, one of 4 × 4 takes 36 in place of 144. A step's two products are summed
//! before they are turned.
//!
//! What it costs: targets of a tile share their roundings, so each is off by what is small beside the tile's greatest, not beside itself;
//! a source that is no number reaches all of them; and the turned weight is 16 or 36 ninths of the weight. Which layers take it depends on their shape alone, and a sample's tiles
//! are its own, so a sample's bits depend on nothing else.

use std::ops::Range;
use std::sync::Arc;

use super::chain::{self, Chain};
use super::crew::{Crew, Room, Written};
use super::filters::{Channels, Phase};
use super::functions::{Function, WithFunction};
use super::gemm::{self, LINE, PackedWeight, Slice};
use super::lattice::Extents;
use super::simd::{self, Level, Loop};
use super::turns::{Four, Turn, Two};
use crate::layers::Reach;
use crate::plan::{Operand, Step};

/// Taps of a window along each axis.
const TAPS: usize = 3;
/// Fewer channels on either side leave sums too short beside the turns, and windows that are all zeros likely.
const FEW: usize = 32;
/// Samples that share a reading of the weight, about.
const SAMPLES: usize = 4;
/// Multiply-adds in the time that one element of a weight takes from memory.
const READING: usize = 16;
/// Multiply-adds in the time that turning one element takes, to products' points or back.
const TURNING: usize = 8;
/// Bytes of turned sources and products at a time, about: they stay near a core.
const HELD: usize = 1 << 19;
/// Tiles at a time at least, so that reading the weight does not count.
const ENOUGH_TILES: usize = 32;

/// How targets are cut into tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Two = 2,
    Four = 4,
}

impl Side {
    /// Sources that a tile reads along an axis.
    fn span(self) -> usize {
        self as usize + TAPS - 1
    }

    /// What a layer costs by such tiles, in multiply-adds for each pair of channels.
    fn cost(self, [lines, columns]: [usize; 2], channels: Channels) -> f64 {
        let tiles = lines.div_ceil(self as usize) * columns.div_ceil(self as usize);
        let turns = TURNING as f64 * (1.0 / channels.source as f64 + 1.0 / channels.target as f64);
        let points = (self.span() * self.span()) as f64;
        points * ((SAMPLES * tiles) as f64 * (1.0 + turns) + READING as f64)
    }

    /// The tiles that a layer takes, if any pay.
    fn of(targets: [usize; 2], channels: Channels) -> Option<Side> {
        let direct = (TAPS * TAPS * (SAMPLES * targets[0] * targets[1] + READING)) as f64;
        let [two, four] = [Side::Two, Side::Four].map(|side| side.cost(targets, channels));
        // Large tiles round more and have larger weights: they must be much better.
        if four < 0.7 * two.min(direct) {
            Some(Side::Four)
        } else if two < 0.8 * direct {
            Some(Side::Two)
        } else {
            None
        }
    }
}

/// A convolution's weight, changed by a part and turned, for each point of both axes.
#[derive(Debug)]
pub(super) struct Turned(Vec<PackedWeight>);

/// What a step of such a convolution reads beside data.
#[derive(Debug)]
pub(super) struct Winograd {
    side: Side,
    channels: Channels,
    /// Lines and columns.
    sources: [usize; 2],
    targets: [usize; 2],
    /// The lowest source of the first tile along each axis; it may lie outside.
    lowest: [isize; 2],
    /// A weight for each product that the step sums.
    pub(super) weights: Vec<Arc<Turned>>,
}

impl Winograd {
    /// The convolution without its weights, if its shape is one for which tiles pay.
    pub(super) fn new(channels: Channels, sources: Extents, phases: &[Phase]) -> Option<Self> {
        let [phase] = phases else { return None };
        let [outer, lines, columns] = &phase.axes;
        let is_dense = |axis: &Reach| axis.taps == TAPS && axis.stride == 1 && axis.spread.abs() == 1;
        let is_flat = outer.taps == 1 && outer.count == 1 && sources[0] == 1 && outer.start == 0;
        let fits = channels.groups == 1
            && [channels.source, channels.target].iter().all(|c| *c >= FEW && c.is_multiple_of(LINE));
        if !(is_flat && is_dense(lines) && is_dense(columns) && fits) {
            return None;
        }
        let targets = [lines.count, columns.count];
        let lowest = [1, 2].map(|axis| phase.lowest[axis].first().copied().flatten());
        let [Some(of_lines), Some(of_columns)] = lowest else { return None };
        let side = Side::of(targets, channels)?;
        let (sources, lowest) = ([sources[1], sources[2]], [of_lines, of_columns]);
        Some(Winograd { side, channels, sources, targets, lowest, weights: Vec::new() })
    }

    /// A weight for it, whose products would be sums of chains of `chain` without tiles; `element` gets a tap of the window, counted as the
    /// sources rise, and the channels of source and target.
    pub(super) fn turned(&self, chain: usize, element: impl Fn(usize, usize, usize) -> f32) -> Turned {
        let points = match self.side {
            Side::Two => turned_filters::<Two, 2, 4>(self.channels, element),
            Side::Four => turned_filters::<Four, 4, 6>(self.channels, element),
        };
        // Turns round as well, so that products may lose half as much.
        Turned(points.into_iter().map(|point| point.in_chains_of(chain / 2)).collect())
    }

    /// Points of both axes.
    fn points(&self) -> usize {
        self.side.span() * self.side.span()
    }

    /// How many tiles are turned at a time.
    fn tiles_at_once(&self) -> usize {
        let of_tile = self.points() * (self.channels.source + self.channels.target) * size_of::<f32>();
        (HELD / of_tile).max(ENOUGH_TILES)
    }

    /// Tiles along each axis.
    fn tiles(&self) -> [usize; 2] {
        self.targets.map(|targets| targets.div_ceil(self.side as usize))
    }

    /// The lines of targets that a strip of tiles makes, strips counted over all rows of a chunk.
    fn lines(&self, strip: usize) -> Range<usize> {
        let first = strip % self.tiles()[0] * self.side as usize;
        first..self.targets[0].min(first + self.side as usize)
    }
}

/// G g Gᵀ for each pair of channels, packed for each point.
fn turned_filters<T: Turn<SIDE, SPAN>, const SIDE: usize, const SPAN: usize>(
    channels: Channels,
    element: impl Fn(usize, usize, usize) -> f32,
) -> Vec<PackedWeight> {
    let pairs = channels.source * channels.target;
    // A cache line between points, which would else compete for a few lines of the first-level cache.
    let point = pairs + LINE;
    let mut points = vec![0.0_f32; SPAN * SPAN * point];
    for source in 0..channels.source {
        for target in 0..channels.target {
            let g = |tap: usize| f64::from(element(tap, source, target));
            let lines: [[f64; SPAN]; TAPS] =
                std::array::from_fn(|line| T::filter(std::array::from_fn(|column| g(line * TAPS + column))));
            for column in 0..SPAN {
                let turned = T::filter(lines.map(|line| line[column]));
                for (line, turned) in turned.into_iter().enumerate() {
                    points[(line * SPAN + column) * point + source * channels.target + target] = turned as f32;
                }
            }
        }
    }
    let pack = |point: &[f32]| {
        PackedWeight::new(channels.source, channels.target, |source, target| point[source * channels.target + target])
    };
    points.chunks_exact(point).map(pack).collect()
}

/// Makes a step's targets and applies its chains.
pub(super) fn run(chain: &Chain<'_>, step: &Step, conv: &Winograd, written: Written<'_>, crew: Crew<'_>) {
    let [strips_a_row, tiles_a_strip] = conv.tiles();
    let line = conv.targets[1] * conv.channels.target;
    let strips = written.target.len() / (conv.targets[0] * line) * strips_a_row;
    let shares = crew.shares(strips, (conv.tiles_at_once() / tiles_a_strip).max(1));
    let lines = |strips: Range<usize>| strips.map(|strip| conv.lines(strip).len()).sum::<usize>();
    let pieces = written.cut(shares.clone().map(|strips| lines(strips) * line));
    crew.each(shares.zip(pieces), |(strips, piece), room| Part { chain, step, conv, strips }.run(piece, room));
}

/// Some strips of tiles.
struct Part<'a> {
    chain: &'a Chain<'a>,
    step: &'a Step,
    conv: &'a Winograd,
    /// Counted over all rows of the chunk.
    strips: Range<usize>,
}

impl Part<'_> {
    fn run(&self, written: Written<'_>, room: &mut Room) {
        let Part { chain, conv, .. } = *self;
        let Room { rows, made } = room;
        let line = conv.targets[1] * conv.channels.target;
        let width = conv.targets[0] * line;
        let first = self.strips.start / conv.tiles()[0] * width + conv.lines(self.strips.start).start * line;
        chain.make(first, width, written, made, |targets| {
            let tiles = self.strips.len() * conv.tiles()[1];
            let at_once = tiles.div_ceil(tiles.div_ceil(conv.tiles_at_once()));
            for from in (0..tiles).step_by(at_once) {
                let to = tiles.min(from + at_once);
                Batch { part: self, tiles: from..to }.run(targets, rows);
            }
        });
    }

    /// The lines of the part's targets before a strip of it.
    fn lines_before(&self, strip: usize) -> usize {
        let lines = |strip: usize| strip / self.conv.tiles()[0] * self.conv.targets[0] + self.conv.lines(strip).start;
        lines(self.strips.start + strip) - lines(self.strips.start)
    }
}

/// Tiles of a part that are turned at a time.
struct Batch<'a> {
    part: &'a Part<'a>,
    /// Counted from the part's first.
    tiles: Range<usize>,
}

/// Where the elements of tiles lie in one plane for each point.
#[derive(Clone, Copy)]
struct Planes {
    /// Elements from tile to tile.
    tile: usize,
    /// Elements from plane to plane: an odd number of cache lines, because planes a power of two apart would compete for a few lines of
    /// the first-level cache.
    plane: usize,
}

impl Planes {
    fn new(tiles: usize, tile: usize) -> Self {
        Planes { tile, plane: ((tiles * tile / LINE) | 1) * LINE }
    }
}

impl Batch<'_> {
    fn run(&self, targets: &mut [f32], room: &mut Vec<f32>) {
        let conv = self.part.conv;
        let (channels, points, tiles) = (conv.channels, conv.points(), self.tiles.len());
        let (sources, products) = (Planes::new(tiles, channels.source + LINE), Planes::new(tiles, channels.target));
        room.resize(room.len().max(points * (sources.plane + products.plane)), 0.0);
        let (of_sources, rest) = room.split_at_mut(points * sources.plane);
        let of_products = &mut rest[..points * products.plane];
        let starts: Vec<usize> = (0..tiles).map(|tile| tile * products.tile).collect();
        for (position, ((source, _), weight)) in self.part.step.products().zip(&conv.weights).enumerate() {
            let turn = TurnSources { batch: self, source, planes: sources, to: &mut *of_sources };
            chain::through(source.activation, source.part, turn);
            let planes = of_sources.chunks_exact(sources.plane).zip(of_products.chunks_exact_mut(products.plane));
            for (weight, (a, c)) in weight.0.iter().zip(planes) {
                for Range { start: from, end: to } in gemm::slices(weight.depth()) {
                    let goes_on = position > 0 || from > 0;
                    let slice = Slice { a: &a[from..], stride: sources.tile, b: weight, from, to, goes_on };
                    gemm::multiply_slice(slice, c, &starts);
                }
            }
        }
        simd::run(Level::widest(), TurnProducts { batch: self, planes: products, products: of_products, targets });
    }
}

/// Turns the sources of tiles, read through the source's activation, zeros where there are none.
struct TurnSources<'a> {
    batch: &'a Batch<'a>,
    source: Operand,
    planes: Planes,
    to: &'a mut [f32],
}

impl WithFunction for TurnSources<'_> {
    fn run(self, f: impl Function) {
        struct Body<'a, F>(TurnSources<'a>, F);
        impl<F: Function> Loop for Body<'_, F> {
            #[inline(always)]
            fn run<const FUSED: bool, const LANES: usize>(self) {
                match self.0.batch.part.conv.side {
                    Side::Two => turn_sources::<FUSED, Two, 2, 4>(self.0, self.1),
                    Side::Four => turn_sources::<FUSED, Four, 4, 6>(self.0, self.1),
                }
            }
        }
        simd::run(Level::widest(), Body(self, f));
    }
}

#[inline(always)]
fn turn_sources<const FUSED: bool, T: Turn<SIDE, SPAN>, const SIDE: usize, const SPAN: usize>(
    of: TurnSources<'_>,
    f: impl Function,
) {
    let TurnSources { batch, source, planes, to } = of;
    let Part { chain, conv, ref strips, .. } = *batch.part;
    // All in cache lines from here on.
    let (channels, [lines, columns]) = (conv.channels.source / LINE, conv.sources);
    let (of_tile, of_plane, to) = (planes.tile / LINE, planes.plane / LINE, to.as_chunks_mut::<LINE>().0);
    let inside = |at: isize, extent: usize| usize::try_from(at).ok().filter(|at| *at < extent);
    // Outside the loops, which overwrite all of it: filled anew for all channels it took a fiftieth of an explanation.
    let mut turned = [[[0.0; LINE]; SPAN]; SPAN];
    for (position, tile) in batch.tiles.clone().enumerate() {
        let strip = strips.start + tile / conv.tiles()[1];
        let elements = chain.row(source.buffer, strip / conv.tiles()[0]).as_chunks::<LINE>().0;
        let first = [conv.lines(strip).start, tile % conv.tiles()[1] * SIDE];
        let mut places = [[None; SPAN]; SPAN];
        for (line, places) in places.iter_mut().enumerate() {
            let Some(line) = inside(conv.lowest[0] + (first[0] + line) as isize, lines) else { continue };
            for (column, place) in places.iter_mut().enumerate() {
                let column = inside(conv.lowest[1] + (first[1] + column) as isize, columns);
                *place = column.map(|column| (line * columns + column) * channels);
            }
        }
        for channel in 0..channels {
            for column in 0..SPAN {
                let mut d = [[0.0; LINE]; SPAN];
                for line in 0..SPAN {
                    let Some(place) = places[line][column] else { continue };
                    if column >= SPAN - SIDE {
                        // What the next tile reads for the first time.
                        simd::prefetch::<_, true>(elements, place + SIDE * channels + channel);
                    }
                    d[line] = f.of_all(elements[place + channel]);
                }
                let of_column = T::sources::<FUSED, LINE>(&d);
                for line in 0..SPAN {
                    turned[line][column] = of_column[line];
                }
            }
            for (line, turned) in turned.iter().enumerate() {
                for (column, turned) in T::sources::<FUSED, LINE>(turned).iter().enumerate() {
                    to[(line * SPAN + column) * of_plane + position * of_tile + channel] = *turned;
                }
            }
        }
    }
}

/// Turns products into targets of a part.
struct TurnProducts<'a> {
    batch: &'a Batch<'a>,
    planes: Planes,
    products: &'a [f32],
    targets: &'a mut [f32],
}

impl Loop for TurnProducts<'_> {
    #[inline(always)]
    fn run<const FUSED: bool, const LANES: usize>(self) {
        match self.batch.part.conv.side {
            Side::Two => turn_products::<FUSED, Two, 2, 4>(self),
            Side::Four => turn_products::<FUSED, Four, 4, 6>(self),
        }
    }
}

#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "what is indexed by a column are not the rows that hold it")]
fn turn_products<const FUSED: bool, T: Turn<SIDE, SPAN>, const SIDE: usize, const SPAN: usize>(of: TurnProducts<'_>) {
    let TurnProducts { batch, planes, products, targets } = of;
    let Part { conv, ref strips, .. } = *batch.part;
    // All in cache lines from here on.
    let (channels, columns) = (conv.channels.target / LINE, conv.targets[1]);
    let (of_tile, of_plane) = (planes.tile / LINE, planes.plane / LINE);
    let (products, targets) = (products.as_chunks::<LINE>().0, targets.as_chunks_mut::<LINE>().0);
    let mut turned = [[[0.0; LINE]; SPAN]; SIDE];
    for (position, tile) in batch.tiles.clone().enumerate() {
        let (strip, first_column) = (tile / conv.tiles()[1], tile % conv.tiles()[1] * SIDE);
        let (first_line, lines) = (batch.part.lines_before(strip), conv.lines(strips.start + strip).len());
        for channel in 0..channels {
            for column in 0..SPAN {
                let mut m = [[0.0; LINE]; SPAN];
                for (line, m) in m.iter_mut().enumerate() {
                    let at = (line * SPAN + column) * of_plane + position * of_tile + channel;
                    // What the next tile reads; the machine does not follow so many planes by itself.
                    simd::prefetch::<_, true>(products, at + of_tile);
                    *m = products[at];
                }
                let of_column = T::products::<FUSED, LINE>(&m);
                for line in 0..SIDE {
                    turned[line][column] = of_column[line];
                }
            }
            for (line, turned) in turned[..lines].iter().enumerate() {
                let of_line = (first_line + line) * columns;
                for (column, y) in T::products::<FUSED, LINE>(turned).iter().enumerate() {
                    if first_column + column < columns {
                        targets[(of_line + first_column + column) * channels + channel] = *y;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::filters::phases;
    use super::super::lattice::filled;
    use super::super::tests::TILED;
    use super::*;
    use crate::Tensor;
    use crate::layers::{Conv, Window, WindowAxis};
    use crate::plan::Direction;

    /// The tiles that a direction of a convolution takes.
    fn taken(conv: &Conv, direction: Direction, input: &[usize]) -> Option<Side> {
        let output = conv.window().outputs(input).unwrap();
        let sources = if direction == Direction::Forward { input } else { &output };
        let phases = phases(conv, direction, input, &output);
        Winograd::new(Channels::new(conv, direction), filled(sources), &phases).map(|winograd| winograd.side)
    }

    fn conv(channels: [usize; 2], groups: usize, axes: Vec<WindowAxis>) -> Conv {
        let window = Window::new(axes).unwrap();
        let weight = Tensor::from_fn([&[channels[1], channels[0] / groups], &window.kernel()[..]].concat(), |_| 1.0);
        Conv::new(weight, None, window, groups).unwrap()
    }

    #[test]
    fn the_shapes_that_are_compared_with_the_reference_take_tiles_both_ways() {
        let mut found = Vec::new();
        for (sources, targets, extents, [before, after]) in TILED {
            let axes = vec![WindowAxis { before, after, ..WindowAxis::new(3) }; 2];
            for direction in [Direction::Forward, Direction::Backward] {
                found.push(taken(&conv([sources, targets], 1, axes.clone()), direction, &extents));
            }
        }
        assert!(found.iter().all(Option::is_some), "{found:?}");
        assert!([Side::Two, Side::Four].iter().all(|side| found.contains(&Some(*side))), "{found:?}");
    }

    #[test]
    fn other_windows_and_few_channels_take_none() {
        let axis = WindowAxis { before: 1, after: 1, ..WindowAxis::new(3) };
        let others = [
            ("stride", conv([64, 64], 1, vec![WindowAxis { stride: 2, ..axis }; 2]), vec![28, 28]),
            ("dilation", conv([64, 64], 1, vec![WindowAxis { dilation: 2, ..axis }; 2]), vec![28, 28]),
            ("groups", conv([64, 64], 2, vec![axis; 2]), vec![28, 28]),
            ("one line", conv([64, 64], 1, vec![axis]), vec![784]),
            ("pointwise lines", conv([64, 64], 1, vec![WindowAxis::new(1), axis]), vec![28, 28]),
            (
                "large window",
                conv([64, 64], 1, vec![WindowAxis { before: 2, after: 2, ..WindowAxis::new(5) }; 2]),
                vec![28, 28],
            ),
            ("depth", conv([32, 32], 1, vec![axis; 3]), vec![8, 28, 28]),
            ("several images", conv([64, 64], 1, vec![WindowAxis::new(1), axis, axis]), vec![2, 28, 28]),
            ("few channels", conv([16, 64], 1, vec![axis; 2]), vec![28, 28]),
            ("channels that fill no line", conv([40, 64], 1, vec![axis; 2]), vec![28, 28]),
        ];
        for (what, conv, input) in others {
            for direction in [Direction::Forward, Direction::Backward] {
                assert_eq!(taken(&conv, direction, &input), None, "{what}, {direction:?}");
            }
        }
    }

    #[test]
    fn an_axis_of_one_position_in_front_changes_nothing() {
        let axis = WindowAxis { before: 1, after: 1, ..WindowAxis::new(3) };
        let conv = conv([64, 64], 1, vec![WindowAxis::new(1), axis, axis]);
        assert_eq!(taken(&conv, Direction::Forward, &[1, 28, 28]), Some(Side::Four));
    }

    fn channels(source: usize, target: usize) -> Channels {
        Channels { source, target, groups: 1 }
    }

    #[test]
    fn images_take_large_tiles_and_their_last_stages_small_ones() {
        for extent in [28, 56, 112, 224] {
            assert_eq!(Side::of([extent, extent], channels(64, 64)), Some(Side::Four), "{extent}");
        }
        for extent in [7, 14] {
            assert_eq!(Side::of([extent, extent], channels(512, 512)), Some(Side::Two), "{extent}");
        }
        // The turned weight is read for a few targets only.
        assert_eq!(Side::of([2, 2], channels(512, 512)), None);
    }
}
