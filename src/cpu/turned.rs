//! A weight turned for Winograd's tiles: made of the plain weight while it is read, or kept.
//!
//! A turned weight is 1.8 or 4 times the plain one. Of few tiles a product reads each element of it but a few times: then what comes from memory
//! is the plain weight, some source and target channels at a time, and what that is turned to at all points stays in the second-level cache. One
//! weight in memory serves every part of it in both directions. More tiles than that are worth a turned weight that stays.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::ahead::Ahead;
use super::filters::Channels;
use super::gemm::{self, LINE, PackedWeight};
use super::panels::{Panels, beginning_of_line, take_part};
use super::simd::{self, Level, Loop, transpose};
use super::turns::{Four, Turn, Two};
use super::winograd::{Side, TAPS};
use crate::rules::WeightPart;
use crate::tensor::Tensor;

/// Positions of a window.
const POSITIONS: usize = TAPS * TAPS;
/// Elements of the summed axis that are turned at a time, at most, where a row of a panel has so many cache lines: all points' stay in the
/// second-level cache beside the tiles that they are multiplied with, and what they are made of has a column for each of 36 points.
const fn most_made(of_row: usize) -> usize {
    64 * of_row
}

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
type Lanes = [[f32; LINE]; GROUP * POSITIONS];

impl Plain {
    /// Filters of source channels from `source` on.
    fn filters(&self, source: usize, target: usize, to: &mut Lanes) {
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
                for (point, made) in points.iter_mut().zip(made.each()) {
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
        gemm::whole_chains(self.plain.channels.source, self.chain, most_made(PackedWeight::width() / LINE))
    }

    /// A share of what a panel's rows are made of, for each point one. None behind the last panel, nor where positions lie between those that
    /// are read.
    pub(super) fn ahead(&self, panel: usize, sources: Range<usize>, point: usize) -> Ahead<'_> {
        let Plain { ref weight, apart: [of_source, of_target], first, .. } = self.plain;
        let targets = self.targets(panel);
        if targets.is_empty() || of_source.min(of_target) != POSITIONS {
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
        let [begin, end] = [column, column + 1].map(|column| (column * points).div_ceil(columns));
        let of_point = |point: usize| (point - begin) * rows / (end - begin);
        let elements = weight.data().get(from + column * PackedWeight::width()..).unwrap_or_default();
        Ahead { elements, apart, rows: of_point(point)..of_point(point + 1) }
    }

    /// Makes a panel's rows for each point, in `room`.
    pub(super) fn make<'a>(&self, panel: usize, sources: Range<usize>, room: &'a mut Vec<f32>) -> OfPoints<'a> {
        let width = PackedWeight::width();
        let length = sources.len() * width;
        let plane = lines_of_point(width / LINE) * LINE;
        let all = self.side.points() * plane;
        room.resize(room.len().max(all + LINE), 0.0);
        let first = beginning_of_line(room);
        let (to, _) = room[first..][..all].as_chunks_mut::<LINE>();
        self.turn(self.targets(panel), sources, to);
        OfPoints { elements: &room[first..][..all], plane, length }
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
                take_part(*part, filters.as_flattened_mut());
                let filters = &filters.as_chunks().0[of_group.clone()];
                let place = (first - sources.start) * PackedWeight::width() / LINE + line;
                let is_mirrored = plain.is_mirrored;
                simd::run(Level::widest(), TurnFilters { side: *side, is_mirrored, filters, to, place });
            }
        }
    }
}

/// Cache lines of a point's rows, each of `of_row`: an odd number, because what lies a power of two apart would compete for a few lines of the
/// first-level cache.
const fn lines_of_point(of_row: usize) -> usize {
    (most_made(of_row) * of_row) | 1
}

/// A panel's rows for each point. What stands in columns behind the last target channel's means nothing.
pub(super) struct OfPoints<'a> {
    elements: &'a [f32],
    plane: usize,
    length: usize,
}

impl<'a> OfPoints<'a> {
    /// In the order of points.
    pub(super) fn each(&self) -> impl Iterator<Item = &'a [f32]> {
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
            16 => self.at::<FUSED, 2, { lines_of_point(2) }>(),
            _ => self.at::<FUSED, 1, { lines_of_point(1) }>(),
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

#[cfg(test)]
mod tests {
    use super::super::numbers::number;
    use std::f64::consts::{FRAC_1_SQRT_2, SQRT_2};

    use super::super::tile::Blocking;
    use super::*;

    /// What three taps are at each point of an axis: a polynomial's values, and its last coefficient.
    fn at_points(side: Side, [g0, g1, g2]: [f64; 3]) -> Vec<f64> {
        let points: &[f64] = match side {
            Side::Two => &[0.0, 1.0, -1.0],
            Side::Four => &[0.0, FRAC_1_SQRT_2, -FRAC_1_SQRT_2, SQRT_2, -SQRT_2],
        };
        points.iter().map(|p| g0 + p * g1 + p * p * g2).chain([g2]).collect()
    }

    /// A filter at each point of both axes.
    fn turned(side: Side, g: impl Fn(usize) -> f32) -> Vec<f64> {
        let line = |line: usize| at_points(side, std::array::from_fn(|column| f64::from(g(line * TAPS + column))));
        let lines: [Vec<f64>; TAPS] = std::array::from_fn(line);
        let of_column = |column: usize| at_points(side, std::array::from_fn(|line| lines[line][column]));
        let columns: Vec<_> = (0..side.span()).map(of_column).collect();
        (0..side.points()).map(|point| columns[point % side.span()][point / side.span()]).collect()
    }

    fn mirrored(is_mirrored: bool, position: usize) -> usize {
        if is_mirrored { POSITIONS - 1 - position } else { position }
    }

    fn kinds() -> impl Iterator<Item = (Side, bool)> {
        [Side::Two, Side::Four].into_iter().flat_map(|side| [(side, false), (side, true)])
    }

    #[test]
    fn filters_are_turned_at_every_level_where_panels_of_it_have_them() {
        let filters: Vec<[[f32; LINE]; POSITIONS]> = (0..5)
            .map(|source| std::array::from_fn(|at| std::array::from_fn(|lane| number((source * 9 + at) * LINE + lane))))
            .collect();
        for (level, (side, is_mirrored)) in simd::levels().into_iter().flat_map(|l| kinds().map(move |kind| (l, kind)))
        {
            let width = Blocking::of_level(level).panel / LINE;
            let plane = lines_of_point(width);
            let mut to = vec![[f32::NAN; LINE]; side.points() * plane];
            let place = 3 * width + width - 1;
            let (filters, to_planes) = (filters.as_slice(), to.as_mut_slice());
            simd::run(level, TurnFilters { side, is_mirrored, filters, to: to_planes, place });
            assert_eq!(to.iter().filter(|line| !line[0].is_nan()).count(), filters.len() * side.points(), "{level:?}");
            for (source, lane) in (0..filters.len()).flat_map(|source| (0..LINE).map(move |lane| (source, lane))) {
                let g = |position: usize| filters[source][mirrored(is_mirrored, position)][lane];
                for (point, expected) in turned(side, g).into_iter().enumerate() {
                    let found = f64::from(to[point * plane + place + source * width][lane]);
                    approx::assert_abs_diff_eq!(found, expected, epsilon = 4e-6);
                }
            }
        }
    }

    #[test]
    fn rows_are_made_of_filters_wherever_they_lie_and_are_what_is_kept() {
        let (source, target) = (80, 48);
        let channels = Channels { source, target, groups: 1 };
        // Forward, back, and of three planes the middle one.
        for (apart, positions, first) in
            [([9, 9 * source], 9, 0), ([9 * target, 9], 9, 0), ([27, 27 * source], 27, 9), ([27 * target, 27], 27, 9)]
        {
            let weight = Arc::new(Tensor::from_fn([source * target * positions], number));
            for (side, is_mirrored) in kinds() {
                let plain = Plain { weight: Arc::clone(&weight), channels, apart, first, is_mirrored };
                let part = WeightPart::Scaled { positive: 1.0, negative: 0.25 };
                let (of_few, of_many) = [(); 2].map(|()| Turned::new(plain.clone(), part, side, 64)).into();
                of_many.keep();
                assert!(of_many.is_kept() && !of_few.is_kept());
                let width = PackedWeight::width();
                for (panel, sources) in
                    (0..target.div_ceil(width)).flat_map(|panel| [0..16, 37..80, 64..80, 79..80].map(|s| (panel, s)))
                {
                    let mut room = vec![f32::NAN; 3];
                    let made: Vec<_> = of_few.make(panel, sources.clone(), &mut room).each().collect();
                    assert_eq!(made.len(), side.points());
                    for (row, k) in sources.enumerate() {
                        for lane in 0..width.min(target - panel * width) {
                            let n = panel * width + lane;
                            let place = first + k * apart[0] + n * apart[1];
                            let g = |position| part.of(weight.data()[place + mirrored(is_mirrored, position)]);
                            for (point, expected) in turned(side, g).into_iter().enumerate() {
                                let found = made[point][row * width + lane];
                                approx::assert_abs_diff_eq!(f64::from(found), expected, epsilon = 4e-6);
                                assert_eq!(of_many.of_points()[point].element(k, n), found, "{side:?}, {k}, {n}");
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn points_bring_all_that_the_next_rows_are_made_of_closer() {
        let (source, target) = (128, 96);
        let channels = Channels { source, target, groups: 1 };
        let weight = Arc::new(Tensor::from_fn([source * target * POSITIONS], number));
        for apart in [[9, 9 * source], [9 * target, 9]] {
            let plain = Plain { weight: Arc::clone(&weight), channels, apart, first: 0, is_mirrored: false };
            let turned = Turned::new(plain, WeightPart::WHOLE, Side::Four, 64);
            let (range, _) = turned.ranges().next().unwrap();
            let mut brought = vec![false; weight.data().len()];
            for point in 0..Side::Four.points() {
                let Ahead { elements, apart, rows } = turned.ahead(1, range.clone(), point);
                let begin = weight.data().len() - elements.len();
                for row in rows {
                    let end = brought.len().min(begin + row * apart + PackedWeight::width());
                    brought[begin + row * apart..end].fill(true);
                }
            }
            let targets = turned.targets(1);
            for (k, n) in range.flat_map(|k| targets.clone().map(move |n| (k, n))) {
                let filter = k * apart[0] + n * apart[1];
                assert!(brought[filter..filter + POSITIONS].iter().all(|is| *is), "{k}, {n}, {apart:?}");
            }
            assert!(turned.ahead(target.div_ceil(PackedWeight::width()), 0..16, 0).rows.is_empty());
        }
    }
}
