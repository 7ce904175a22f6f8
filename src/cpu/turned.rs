//! A weight turned for Winograd's tiles: made of the plain weight while it is read, or kept.
//!
//! A turned weight is 1.8 or 4 times the plain one. Of few tiles a product reads each element of it but a few times: then what comes from memory
//! is the plain weight, some source and target channels at a time, and what that is turned to at all points stays in the second-level cache. One
//! weight in memory serves every part of it in both directions. More tiles than that are worth a turned weight that stays.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::filters::Channels;
use super::gemm::{self, LINE, PackedWeight};
use super::panels::{Ahead, Panels, beginning_of_line};
use super::simd::{self, Level, Loop, transpose};
use super::turns::{Four, Turn, Two};
use super::winograd::{Side, TAPS};
use crate::rules::WeightPart;
use crate::tensor::Tensor;

/// Positions of a window.
const POSITIONS: usize = TAPS * TAPS;
/// Elements of the summed axis that are turned at a time, at most: all points' stay in the second-level cache beside the tiles that they are
/// multiplied with.
const MOST_MADE: usize = 128;
/// Source channels whose filters are laid out at a time.
const GROUP: usize = LINE;

/// Where the filters of a plain weight lie.
#[derive(Debug, Clone)]
pub(super) struct Plain {
    pub(super) weight: Arc<Tensor>,
    pub(super) channels: Channels,
    /// Elements from a source channel to the next, and from a target channel.
    pub(super) apart: [usize; 2],
    /// The first of the window's positions that are read.
    pub(super) first: usize,
    /// Whether the window's last position meets the lowest source.
    pub(super) is_mirrored: bool,
}

/// Filters of some source channels and a line of target channels: all positions of the first source channel, then those of the next.
type Filters = [[f32; LINE]; GROUP * POSITIONS];

impl Plain {
    /// Filters of source channels from `source` on.
    fn filters(&self, source: usize, target: usize, to: &mut Filters) {
        let [of_source, of_target] = self.apart;
        let elements = &self.weight.data()[source * of_source + target * of_target + self.first..];
        if of_source == POSITIONS {
            let (blocks, _) = to.as_chunks_mut::<LINE>();
            for (block, to) in blocks.iter_mut().enumerate() {
                transpose::<LINE>(&elements[block * LINE..], of_target, to);
            }
        } else if of_target == POSITIONS {
            let (of_sources, _) = to.as_chunks_mut::<POSITIONS>();
            for (source, to) in of_sources.iter_mut().enumerate() {
                transpose::<POSITIONS>(&elements[source * of_source..], of_target, to);
            }
        } else {
            for (at, to) in to.iter_mut().enumerate() {
                let (source, position) = (at / POSITIONS, at % POSITIONS);
                *to = std::array::from_fn(|target| elements[source * of_source + target * of_target + position]);
            }
        }
    }
}

/// A convolution's weight, changed by a part and turned, for each point of both axes.
#[derive(Debug)]
pub(super) struct Turned {
    plain: Plain,
    part: WeightPart,
    side: Side,
    /// Elements of the summed axis of a chain, at most.
    chain: usize,
    kept: OnceLock<Vec<PackedWeight>>,
}

impl Turned {
    pub(super) fn new(plain: Plain, part: WeightPart, side: Side, chain: usize) -> Self {
        Turned { plain, part, side, chain, kept: OnceLock::new() }
    }

    pub(super) fn is_kept(&self) -> bool {
        self.kept.get().is_some()
    }

    /// Makes all there is, unless it is there, and keeps it.
    pub(super) fn keep(&self) {
        self.of_points();
    }

    /// What products read at each point; kept from the first time on.
    pub(super) fn of_points(&self) -> &[PackedWeight] {
        self.kept.get_or_init(|| {
            let Channels { source, target, .. } = self.plain.channels;
            let new = || PackedWeight::panels(source, target);
            let mut points: Vec<Panels> = (0..self.side.points()).map(|_| new()).collect();
            let mut room = Vec::new();
            for (panel, (range, _)) in
                (0..self.panels()).flat_map(|panel| self.ranges().map(move |range| (panel, range)))
            {
                let made = self.make(panel, range.clone(), &mut room);
                for (point, made) in points.iter_mut().zip(made.of_points()) {
                    point.rows_mut(panel, range.clone()).copy_from_slice(made);
                }
            }
            points.into_iter().map(|panels| PackedWeight::of(panels).in_chains_of(self.chain)).collect()
        })
    }

    fn panels(&self) -> usize {
        self.plain.channels.target.div_ceil(PackedWeight::width())
    }

    /// Ranges of the summed axis for which panels are made at a time, of whole chains, and the length of those.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (Range<usize>, usize)> {
        gemm::whole_chains(self.plain.channels.source, self.chain, MOST_MADE)
    }

    /// A share of what a panel's rows are made of, for each point one: all of it for all points. None behind the last panel.
    pub(super) fn ahead(&self, panel: usize, sources: Range<usize>, point: usize) -> Ahead<'_> {
        let Plain { ref weight, apart: [of_source, of_target], first, .. } = self.plain;
        let targets = self.targets(panel);
        if targets.is_empty() {
            return Ahead::default();
        }
        let from = sources.start * of_source + targets.start * of_target + first;
        // Rows of filters that follow one another, in columns as wide as a panel; a column is some points' share.
        let (rows, apart, row) = if of_source < of_target {
            (targets.len(), of_target, sources.len() * of_source)
        } else {
            (sources.len(), of_source, targets.len() * of_target)
        };
        let (points, columns) = (self.side.points(), row.div_ceil(PackedWeight::width()));
        let column = point * columns / points;
        let [first, end] = [column, column + 1].map(|column| (column * points).div_ceil(columns));
        let of_point = |point: usize| (point - first) * rows / (end - first);
        let elements = weight.data().get(from + column * PackedWeight::width()..).unwrap_or_default();
        Ahead { elements, apart, rows: of_point(point)..of_point(point + 1) }
    }

    /// Makes a panel's rows for each point, in `room`.
    pub(super) fn make<'a>(&self, panel: usize, sources: Range<usize>, room: &'a mut Vec<f32>) -> Made<'a> {
        let width = PackedWeight::width();
        let length = sources.len() * width;
        let plane = plane(width / LINE) * LINE;
        let all = self.side.points() * plane;
        room.resize(room.len().max(all + LINE), 0.0);
        let first = beginning_of_line(room);
        let (to, _) = room[first..][..all].as_chunks_mut::<LINE>();
        self.turn(self.targets(panel), sources, to);
        Made { elements: &room[first..][..all], plane, length }
    }

    fn targets(&self, panel: usize) -> Range<usize> {
        let width = PackedWeight::width();
        panel * width..self.plain.channels.target.min((panel + 1) * width)
    }

    /// Turns the filters of some channels into planes of rows.
    fn turn(&self, targets: Range<usize>, sources: Range<usize>, to: &mut [[f32; LINE]]) {
        let Turned { plain, part, side, .. } = self;
        let mut filters = [[0.0; LINE]; GROUP * POSITIONS];
        for first in sources.clone().step_by(GROUP) {
            // The last group begins before the range ends by as many.
            let begin = first.min(plain.channels.source - GROUP);
            let of_group = first - begin..GROUP.min(sources.end - begin);
            for (line, target) in targets.clone().step_by(LINE).enumerate() {
                plain.filters(begin, target, &mut filters);
                if *part != WeightPart::WHOLE {
                    simd::run(Level::widest(), TakePart(*part, filters.as_flattened_mut()));
                }
                let filters = &filters.as_chunks().0[of_group.clone()];
                let place = (first - sources.start) * PackedWeight::width() / LINE + line;
                let is_mirrored = plain.is_mirrored;
                simd::run(Level::widest(), TurnFilters { side: *side, is_mirrored, filters, to, place });
            }
        }
    }
}

/// Cache lines of rows for a point, each of some: an odd number of them, because planes a power of two apart would compete for a few lines of the
/// first-level cache.
const fn plane(of_source: usize) -> usize {
    (MOST_MADE * of_source) | 1
}

/// A panel's rows for each point. What stands in columns behind the last target channel's means nothing.
pub(super) struct Made<'a> {
    elements: &'a [f32],
    plane: usize,
    length: usize,
}

impl<'a> Made<'a> {
    /// In the order of points.
    pub(super) fn of_points(&self) -> impl Iterator<Item = &'a [f32]> {
        let length = self.length;
        self.elements.chunks_exact(self.plane).map(move |plane| &plane[..length])
    }
}

/// G g Gᵀ for a line of target channels and each of some source channels.
struct TurnFilters<'a> {
    side: Side,
    is_mirrored: bool,
    filters: &'a [[[f32; LINE]; POSITIONS]],
    /// Planes of rows.
    to: &'a mut [[f32; LINE]],
    /// Where the first source channel's begins in a plane.
    place: usize,
}

impl Loop for TurnFilters<'_> {
    #[inline(always)]
    fn run<const FUSED: bool, const LANES: usize>(self) {
        match LANES {
            16 => self.at::<FUSED, 2, { plane(2) }>(),
            _ => self.at::<FUSED, 1, { plane(1) }>(),
        }
    }
}

impl TurnFilters<'_> {
    /// `WIDTH`: cache lines of a row.
    #[inline(always)]
    fn at<const FUSED: bool, const WIDTH: usize, const PLANE: usize>(self) {
        match (self.side, self.is_mirrored) {
            (Side::Two, false) => turn_filters::<FUSED, false, WIDTH, PLANE, Two, 2, 4, 16>(self),
            (Side::Two, true) => turn_filters::<FUSED, true, WIDTH, PLANE, Two, 2, 4, 16>(self),
            (Side::Four, false) => turn_filters::<FUSED, false, WIDTH, PLANE, Four, 4, 6, 36>(self),
            (Side::Four, true) => turn_filters::<FUSED, true, WIDTH, PLANE, Four, 4, 6, 36>(self),
        }
    }
}

#[inline(always)]
fn turn_filters<
    const FUSED: bool,
    const MIRRORED: bool,
    const WIDTH: usize,
    const PLANE: usize,
    T: Turn<SIDE, SPAN>,
    const SIDE: usize,
    const SPAN: usize,
    const POINTS: usize,
>(
    of: TurnFilters<'_>,
) {
    let (planes, _) = of.to.as_chunks_mut::<PLANE>();
    let to: &mut [_; POINTS] = planes.first_chunk_mut().expect("a plane for every point");
    for (source, g) in of.filters.iter().enumerate() {
        turn_filter::<FUSED, MIRRORED, PLANE, T, SIDE, SPAN, POINTS>(g, to, of.place + source * WIDTH);
    }
}

/// G g Gᵀ for a line of target channels.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "only loops that count are written out")]
fn turn_filter<
    const FUSED: bool,
    const MIRRORED: bool,
    const PLANE: usize,
    T: Turn<SIDE, SPAN>,
    const SIDE: usize,
    const SPAN: usize,
    const POINTS: usize,
>(
    g: &[[f32; LINE]; POSITIONS],
    to: &mut [[[f32; LINE]; PLANE]; POINTS],
    place: usize,
) {
    let at = |line: usize, column: usize| {
        let position = line * TAPS + column;
        g[if MIRRORED { POSITIONS - 1 - position } else { position }]
    };
    // Loops, not closures over arrays: those become functions of their own, without the level's instructions.
    let mut of_columns = [[[0.0; LINE]; TAPS]; SPAN];
    for column in 0..TAPS {
        let turned = T::filter::<FUSED, LINE>(&[at(0, column), at(1, column), at(2, column)]);
        for line in 0..SPAN {
            of_columns[line][column] = turned[line];
        }
    }
    for line in 0..SPAN {
        let turned = T::filter::<FUSED, LINE>(&of_columns[line]);
        for column in 0..SPAN {
            to[line * SPAN + column][place] = turned[column];
        }
    }
}

/// Changes elements to their parts.
struct TakePart<'a>(WeightPart, &'a mut [f32]);

impl Loop for TakePart<'_> {
    #[inline(always)]
    fn run<const FUSED: bool, const LANES: usize>(self) {
        let each = self.1.iter_mut();
        match self.0 {
            WeightPart::POSITIVE => each.for_each(|w| *w = WeightPart::POSITIVE.of(*w)),
            WeightPart::NEGATIVE => each.for_each(|w| *w = WeightPart::NEGATIVE.of(*w)),
            part => each.for_each(|w| *w = part.of(*w)),
        }
    }
}
