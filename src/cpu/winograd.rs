//! Convolutions of 3 × 3 windows by fewer products: Winograd's F(2 × 2, 3 × 3) and F(4 × 4, 3 × 3).
//!
//! Targets are made in square tiles. A tile's sources are [turned](super::turns), and for each point of both axes the turned sources of
//! many tiles are the rows of a product with the weight turned at that point; what the products come to is turned into targets. A tile
//! of 2 × 2 takes 16 multiplications in place of 36, one of 4 × 4 takes 36 in place of 144. A step's two products are summed
//! before they are turned.
//!
//! What it costs: targets of a tile share their roundings, so each is off by what is small beside the tile's greatest, not beside itself;
//! a source that is no number reaches all of them; and the turned weight is 16 or 36 ninths of the weight. Which layers take it depends on their shape and on how many
//! targets are explained at once, and a sample's tiles are its own, so a sample's bits depend on nothing else.

use std::ops::Range;
use std::sync::Arc;

use super::filters::{self, Channels, Phase};
use super::gemm::{LINE, PackedWeight};
use super::lattice::Extents;
use super::panels::MANY_ROWS;
use super::turned::{Plain, Turned};
use crate::layers::{Conv, Reach};
use crate::plan::Direction;
use crate::rules::WeightPart;

/// Taps of a window along each axis.
pub(super) const TAPS: usize = 3;
/// Fewer channels on either side leave sums too short beside the turns, and windows that are all zeros likely.
const FEW: usize = 32;
/// Samples that share a reading of the weight, about, where one has no more rows.
const SAMPLES: usize = 8;
/// Multiply-adds in the time that one element of a weight takes from memory.
const READING: usize = 16;
/// Multiply-adds in the time that turning one element takes, to products' points or back.
const TURNING: usize = 8;
/// A weight turned for large tiles is not worth reading where it is more than this many times what those that share its reading read and write.
const HEAVY: usize = 8;
/// What of a convolution's chains those of its tiles' products are: turns round as well, so that products may lose half as much.
const PRODUCTS_SHARE: usize = 2;
/// Elements of a turned weight that is read once for many tiles, by all threads together: more than stay in caches of their own.
const READ_TOGETHER: usize = 1 << 20;
/// Bytes of turned sources and products that all threads work on together, at most, where each has a strip.
const MOST_TOGETHER: usize = 1 << 26;

/// How targets are cut into tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Side {
    Two = 2,
    Four = 4,
}

impl Side {
    /// Sources that a tile reads along an axis.
    pub(super) fn span(self) -> usize {
        self as usize + TAPS - 1
    }

    /// Points of both axes.
    pub(super) fn points(self) -> usize {
        self.span() * self.span()
    }

    /// What a layer costs by such tiles, in multiply-adds for each pair of channels; `rows` share a reading of the weight.
    fn cost(self, [lines, columns]: [usize; 2], channels: Channels, rows: usize) -> f64 {
        let tiles = lines.div_ceil(self as usize) * columns.div_ceil(self as usize);
        let turns = TURNING as f64 * (1.0 / channels.source as f64 + 1.0 / channels.target as f64);
        self.points() as f64 * ((rows * tiles) as f64 * (1.0 + turns) + READING as f64)
    }

    /// The tiles that a layer takes, if any pay; `rows` are what a sample has of them.
    fn of(targets: [usize; 2], channels: Channels, rows: usize) -> Option<Side> {
        let rows = rows.max(SAMPLES);
        let positions = rows * targets[0] * targets[1];
        let direct = (TAPS * TAPS * (positions + READING)) as f64;
        let [two, four] = [Side::Two, Side::Four].map(|side| side.cost(targets, channels, rows));
        let is_heavy = Side::Four.points() * channels.source * channels.target
            > HEAVY * positions * (channels.source + channels.target);
        // Large tiles round more, and their weights are larger.
        if four < 0.8 * two.min(direct) && !is_heavy {
            Some(Side::Four)
        } else if two < 0.8 * direct {
            Some(Side::Two)
        } else {
            None
        }
    }
}

/// What a step of such a convolution reads beside data.
#[derive(Debug)]
pub(super) struct Winograd {
    pub(super) side: Side,
    pub(super) channels: Channels,
    /// Lines and columns.
    pub(super) sources: [usize; 2],
    pub(super) targets: [usize; 2],
    /// The lowest source of the first tile along each axis; it may lie outside.
    pub(super) lowest: [isize; 2],
    /// Whether the window's last position meets the lowest source.
    is_mirrored: bool,
    /// The first of the window's positions that targets read: windows along three axes may lie across the image.
    first: usize,
    /// A weight for each product that the step sums.
    pub(super) weights: Vec<Arc<Turned>>,
}

impl Winograd {
    /// The convolution without its weights, if its shape is one for which tiles pay. `rows` are what a sample has of it: one, or one for each
    /// explained target.
    pub(super) fn new(channels: Channels, sources: Extents, phases: &[Phase], rows: usize) -> Option<Self> {
        let [phase] = phases else { return None };
        let [outer, lines, columns] = &phase.axes;
        let is_dense = |axis: &Reach| {
            axis.taps == TAPS && axis.stride == 1 && axis.spread.abs() == 1 && (axis.tap, axis.tap_step) == (0, 1)
        };
        let is_flat = outer.taps == 1 && outer.count == 1 && sources[0] == 1 && outer.start == 0;
        let fits = channels.groups == 1
            && [channels.source, channels.target].iter().all(|c| *c >= FEW && c.is_multiple_of(LINE));
        if !(is_flat && is_dense(lines) && is_dense(columns) && fits) {
            return None;
        }
        let targets = [lines.count, columns.count];
        let lowest = [1, 2].map(|axis| phase.lowest[axis].first().copied().flatten());
        let [Some(of_lines), Some(of_columns)] = lowest else { return None };
        let side = Side::of(targets, channels, rows)?;
        let (sources, lowest, is_mirrored) = ([sources[1], sources[2]], [of_lines, of_columns], lines.spread < 0);
        let first = outer.tap * TAPS * TAPS;
        Some(Winograd { side, channels, sources, targets, lowest, is_mirrored, first, weights: Vec::new() })
    }

    /// A part of the layer's weight for it, whose products would be sums of chains of `chain` without tiles.
    pub(super) fn turned(&self, conv: &Conv, direction: Direction, part: WeightPart, chain: usize) -> Turned {
        let at = filters::weight_index(conv, direction);
        let plain = Plain {
            weight: Arc::clone(conv.weight()),
            channels: self.channels,
            apart: [at(0, 1, 0, 0), at(0, 0, 1, 0)],
            first: self.first,
            is_mirrored: self.is_mirrored,
        };
        Turned::new(plain, part, self.side, chain / PRODUCTS_SHARE)
    }

    /// Whether threads work on the same tiles: where a turned weight is too large for each to read it for some at a time.
    pub(super) fn is_run_together(&self, threads: usize) -> bool {
        self.elements() > READ_TOGETHER && threads * self.tiles()[1] * self.bytes_a_tile() <= MOST_TOGETHER
    }

    /// Bytes of a tile's turned sources and products.
    pub(super) fn bytes_a_tile(&self) -> usize {
        self.points() * (self.channels.source + self.channels.target) * size_of::<f32>()
    }

    /// Whether weights are made of plain ones while few rows read them, by so many threads: where turned ones are large, there are enough tiles
    /// and each thread has panels of its own.
    pub(super) fn makes_weights(&self, threads: usize) -> bool {
        self.side == Side::Four
            && self.is_run_together(threads)
            && self.tiles().iter().product::<usize>() >= MANY_ROWS
            && self.channels.target.div_ceil(PackedWeight::width()) >= threads
    }

    /// Elements of a turned weight.
    fn elements(&self) -> usize {
        self.points() * self.channels.source * self.channels.target
    }

    /// Elements of a line of targets.
    pub(super) fn line(&self) -> usize {
        self.targets[1] * self.channels.target
    }

    /// Points of both axes.
    pub(super) fn points(&self) -> usize {
        self.side.points()
    }

    /// Tiles along each axis.
    pub(super) fn tiles(&self) -> [usize; 2] {
        self.targets.map(|targets| targets.div_ceil(self.side as usize))
    }

    /// The lines of targets that a strip of tiles makes, strips counted over all rows of a chunk.
    pub(super) fn lines(&self, strip: usize) -> Range<usize> {
        let first = strip % self.tiles()[0] * self.side as usize;
        first..self.targets[0].min(first + self.side as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::super::filters::phases;
    use super::super::lattice::filled;
    use super::super::tests::{TILED, assert_close, explain_by};
    use super::super::tools::{Tool, Weights};
    use super::*;
    use crate::layers::{Layer, Window, WindowAxis};
    use crate::network::Network;
    use crate::plan::Step;
    use crate::{Backend, Composite, Explainer, Options, Request, Targets, Tensor};

    /// How a direction of a convolution is made, if by tiles.
    fn found(conv: &Conv, direction: Direction, input: &[usize]) -> Option<Winograd> {
        let output = conv.window().outputs(input).unwrap();
        let sources = if direction == Direction::Forward { input } else { &output };
        let phases = phases(conv, direction, input, &output);
        Winograd::new(Channels::new(conv, direction), filled(sources), &phases, 1)
    }

    fn taken(conv: &Conv, direction: Direction, input: &[usize]) -> Option<Side> {
        found(conv, direction, input).map(|winograd| winograd.side)
    }

    fn conv(channels: [usize; 2], groups: usize, axes: Vec<WindowAxis>) -> Conv {
        let window = Window::new(axes).unwrap();
        let weight = Tensor::from_fn([&[channels[1], channels[0] / groups], &window.kernel()[..]].concat(), |_| 1.0);
        Conv::new(weight, None, window, groups).unwrap()
    }

    #[test]
    fn the_shapes_that_are_compared_with_the_reference_take_tiles_both_ways() {
        let mut all = Vec::new();
        for (sources, targets, extents, [before, after]) in TILED {
            let axes = vec![WindowAxis { before, after, ..WindowAxis::new(3) }; 2];
            for direction in [Direction::Forward, Direction::Backward] {
                let conv = conv([sources, targets], 1, axes.clone());
                all.extend(
                    found(&conv, direction, &extents).map(|winograd| (winograd.side, winograd.is_run_together(2))),
                );
            }
        }
        assert_eq!(all.len(), 2 * TILED.len(), "{all:?}");
        for kind in [Side::Two, Side::Four].into_iter().flat_map(|side| [(side, false), (side, true)]) {
            assert!(all.contains(&kind), "{kind:?} among {all:?}");
        }
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

    #[test]
    fn large_weights_of_enough_tiles_are_made_where_every_thread_has_panels() {
        let axis = WindowAxis { before: 1, after: 1, ..WindowAxis::new(3) };
        for (extent, count, makes) in
            [(14, 512, true), (7, 512, false), (14, 256, true), (56, 64, false), (4, 512, false)]
        {
            let tiles = found(&conv([count, count], 1, vec![axis; 2]), Direction::Backward, &[extent, extent]).unwrap();
            assert_eq!(tiles.makes_weights(2), makes, "{count} channels, {extent} pixels");
            assert!(!tiles.makes_weights(100), "{count} channels, {extent} pixels");
        }
    }

    fn channels(source: usize, target: usize) -> Channels {
        Channels { source, target, groups: 1 }
    }

    #[test]
    fn images_take_large_tiles_and_small_ones_where_those_would_reach_far_beyond_them_or_weigh_much() {
        for (extent, count) in [(7, 128), (14, 256), (14, 512), (28, 128), (56, 64), (224, 64)] {
            assert_eq!(Side::of([extent, extent], channels(count, count), 1), Some(Side::Four), "{extent}");
        }
        for (extent, count) in [(5, 128), (6, 512), (9, 64), (7, 512)] {
            assert_eq!(Side::of([extent, extent], channels(count, count), 1), Some(Side::Two), "{extent}");
        }
        // Many explained targets share a reading of the weight.
        for (rows, side) in [(8, Side::Two), (100, Side::Four)] {
            assert_eq!(Side::of([7, 7], channels(512, 512), rows), Some(side), "{rows} rows");
        }
        // The turned weight is read for a few targets only.
        assert_eq!(Side::of([2, 2], channels(512, 512), 1), None);
    }

    #[test]
    fn windows_of_three_axes_of_which_an_image_reads_one_plane_agree_with_the_reference() {
        for is_transposed in [false, true] {
            let weight = |shape: &[usize], seed: usize| {
                Tensor::from_fn(shape, |index| ((index + seed).wrapping_mul(2_654_435_761) % 1009) as f32 / 5e3 - 0.1)
            };
            let axis = WindowAxis { before: 1, after: 1, ..WindowAxis::new(3) };
            let window = Window::new(vec![WindowAxis { stride: 2, ..axis }, axis, axis]).unwrap();
            let pointwise = Window::new(vec![WindowAxis::new(1); 3]).unwrap();
            let mut builder = Network::builder();
            let x = builder.input("x", [2, 1, 28, 28]);
            let first = builder.conv("first", x, weight(&[64, 2, 1, 1, 1], 3), None, pointwise, 1).unwrap();
            let first = builder.relu("first, rectified", first).unwrap();
            let weight_of_planes = weight(&[64, 64, 3, 3, 3], 7);
            let conv = if is_transposed {
                Conv::transposed(weight_of_planes, None, window, 1, vec![0; 3]).unwrap()
            } else {
                Conv::new(weight_of_planes, None, window, 1).unwrap()
            };
            let z = builder.layer("planes", Layer::Conv(conv), vec![first]).unwrap();
            let pooled = builder.global_average_pool("average", z).unwrap();
            let flat = builder.reshape("flat", pooled, [64]).unwrap();
            let logits = builder.dense("head", flat, weight(&[3, 64], 11), None).unwrap();
            let network = Arc::new(builder.build(logits).unwrap());

            let composite = Composite::preset("epsilon-plus").unwrap();
            let by = |backend| Options { backend, ..Options::default() };
            let explainer = Explainer::with_options(Arc::clone(&network), &composite, by(Backend::Cpu)).unwrap();
            let plan = explainer.plan(&Request::new(Targets::ArgMax)).unwrap();
            let read_planes = |step: &&Step| step.layer.is_some_and(|id| network.layer(id).name == "planes");
            let is_tiled = |step: &Step| {
                matches!(Weights::default().tool(&network, &plan, step, Some(1)).unwrap(), Tool::Winograd(_))
            };
            let of_planes = || plan.steps.iter().filter(read_planes);
            assert!(of_planes().any(is_tiled), "{:?}", of_planes().map(is_tiled).collect::<Vec<_>>());
            let x = weight(&[2, 2, 1, 28, 28], 13);
            let [found, exact] =
                [Backend::Cpu, Backend::Reference].map(|backend| explain_by(&network, &composite, by(backend), &x));
            let what = format!("transposed: {is_transposed}");
            assert_close(&found.logits, &exact.logits, &what);
            assert_close(found.input(), exact.input(), &what);
        }
    }
}
