//! Which sources each target of a window reads, as tables along each axis.
//!
//! Fewer than three spatial axes are filled up in front with axes of one position, so that every loop has three.

use std::ops::Range;

use crate::layers::Reach;
use crate::layers::window::MOST_AXES;

/// Extents of the three axes, outermost first.
pub(super) type Extents = [usize; MOST_AXES];

/// How targets read sources through a window.
#[derive(Debug)]
pub(super) struct Lattice {
    /// For each axis and target, the sources inside and the window's positions there.
    taps: [Vec<Vec<(usize, usize)>>; MOST_AXES],
    pub(super) sources: Extents,
    pub(super) targets: Extents,
    pub(super) kernel: Extents,
    /// The innermost axis' tables by kind: targets whose taps differ only in where they begin share one.
    kinds: Kinds,
}

/// Kinds of taps along an axis.
#[derive(Debug)]
struct Kinds {
    /// For each target, its kind and the source that its taps begin at.
    of_target: Vec<(usize, usize)>,
    /// For each kind, sources from the first on and the window's positions there.
    taps: Vec<Vec<(usize, usize)>>,
}

impl Kinds {
    fn new(taps: &[Vec<(usize, usize)>]) -> Self {
        let mut kinds = Kinds { of_target: Vec::with_capacity(taps.len()), taps: Vec::new() };
        for taps in taps {
            let first = taps.iter().map(|(source, _)| *source).min().unwrap_or(0);
            let from_first: Vec<_> = taps.iter().map(|&(source, tap)| (source - first, tap)).collect();
            let known = kinds.taps.iter().position(|known| *known == from_first).unwrap_or_else(|| {
                kinds.taps.push(from_first);
                kinds.taps.len() - 1
            });
            kinds.of_target.push((known, first));
        }
        kinds
    }
}

impl Lattice {
    /// The tables of `phases`, which together make every target once, from spatial extents.
    pub(super) fn new(phases: &[Vec<Reach>], sources: &[usize], targets: &[usize], kernel: &[usize]) -> Self {
        let (sources, targets, kernel) = (filled(sources), filled(targets), filled(kernel));
        let mut taps: [Vec<Vec<(usize, usize)>>; MOST_AXES] = targets.map(|extent| vec![Vec::new(); extent]);
        for phase in phases {
            let absent = MOST_AXES - phase.len();
            taps[..absent].iter_mut().for_each(|taps| taps[0] = vec![(0, 0)]);
            for ((taps, reach), &extent) in taps[absent..].iter_mut().zip(phase).zip(&sources[absent..]) {
                for i in 0..reach.count {
                    let inside = (0..reach.taps).filter_map(|tap| {
                        let source = (reach.stride * i) as isize + reach.start + reach.spread * tap as isize;
                        let source = usize::try_from(source).ok().filter(|source| *source < extent)?;
                        Some((source, reach.tap + reach.tap_step * tap))
                    });
                    taps[reach.first + reach.step * i] = inside.collect();
                }
            }
        }
        let kinds = Kinds::new(&taps[2]);
        Lattice { taps, sources, targets, kernel, kinds }
    }

    /// How many targets there are.
    pub(super) fn count(&self) -> usize {
        self.targets.iter().product()
    }

    /// The sources inside that a target reads along an axis, and the window's positions there.
    pub(super) fn taps(&self, axis: usize, target: usize) -> &[(usize, usize)] {
        &self.taps[axis][target]
    }

    /// Cuts `count` targets from position `first` on, counted over rows, into whole lines of one plane, and stretches of lines; each with its
    /// positions, counted from `first`.
    pub(super) fn stretches(
        &self,
        first: usize,
        count: usize,
    ) -> impl Iterator<Item = (Stretch, Range<usize>)> + use<> {
        let [outers, middles, inners] = self.targets;
        let (mut at, end) = (first, first + count);
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let (line, begin) = (at / inners, at % inners);
            let lines = if begin > 0 { 1 } else { ((end - at) / inners).clamp(1, middles - line % middles) };
            let positions = begin..inners.min(begin + end - at);
            let range = at - first..at - first + lines * positions.len();
            at += range.len();
            let (row, outer) = (line / middles / outers, line / middles % outers);
            let stretch = Stretch { row, outer, lines: line % middles..line % middles + lines, positions };
            Some((stretch, range))
        })
    }

    /// The taps of a kind of target in a line.
    fn fill(&self, kind: usize, outer: usize, middle: usize, taps: &mut Vec<(usize, usize)>) {
        taps.clear();
        for &(outer, outer_tap) in &self.taps[0][outer] {
            for &(middle, middle_tap) in &self.taps[1][middle] {
                let source = (outer * self.sources[1] + middle) * self.sources[2];
                let position = (outer_tap * self.kernel[1] + middle_tap) * self.kernel[2];
                taps.extend(self.kinds.taps[kind].iter().map(|&(inner, tap)| (source + inner, position + tap)));
            }
        }
    }
}

/// Lines of one plane of targets, or a stretch of one line.
pub(super) struct Stretch {
    pub(super) row: usize,
    /// The plane.
    pub(super) outer: usize,
    pub(super) lines: Range<usize>,
    pub(super) positions: Range<usize>,
}

/// Which of a reach's targets are among some.
pub(super) fn among(reach: Reach, targets: &Range<usize>) -> Range<usize> {
    let until = |end: usize| end.saturating_sub(reach.first).div_ceil(reach.step).min(reach.count);
    until(targets.start)..until(targets.end)
}

/// A walk over targets in order, from row to row, which looks the lattice up once for each kind of target in a line.
pub(super) struct Walk<'a> {
    lattice: &'a Lattice,
    row: usize,
    at: Extents,
    /// For each kind, whether its taps are those of this line, and they.
    kinds: Vec<(bool, Vec<(usize, usize)>)>,
}

/// What a target reads.
pub(super) struct Sources<'a> {
    /// The row that the target is in.
    pub(super) row: usize,
    /// The target's position in the row.
    pub(super) position: usize,
    /// The sources, each meant `offset` farther behind, and the window's positions there, in the window's order or
    /// against it.
    pub(super) taps: &'a [(usize, usize)],
    pub(super) offset: usize,
}

impl<'a> Walk<'a> {
    /// A walk from target `first` on, counted over rows.
    pub(super) fn new(lattice: &'a Lattice, first: usize) -> Self {
        let at = coordinates(first % lattice.count(), lattice.targets);
        let kinds = vec![(false, Vec::new()); lattice.kinds.taps.len()];
        Walk { lattice, row: first / lattice.count(), at, kinds }
    }

    /// The next target.
    pub(super) fn next(&mut self) -> Sources<'_> {
        let (row, [outer, middle, inner]) = (self.row, self.at);
        let is_last_of_line = advance(&mut self.at, self.lattice.targets);
        self.row += usize::from(is_last_of_line && self.at == [0; MOST_AXES]);
        let lattice = self.lattice;
        let position = (outer * lattice.targets[1] + middle) * lattice.targets[2] + inner;
        if inner == 0 {
            self.kinds.iter_mut().for_each(|(is_of_line, _)| *is_of_line = false);
        }
        let (kind, offset) = lattice.kinds.of_target[inner];
        let (is_of_line, taps) = &mut self.kinds[kind];
        if !*is_of_line {
            *is_of_line = true;
            lattice.fill(kind, outer, middle, taps);
        }
        Sources { row, position, taps, offset }
    }
}

/// Goes on to the next coordinates, after the last to the first; tells whether a line ended.
#[inline(always)]
pub(super) fn advance(at: &mut Extents, extents: Extents) -> bool {
    for axis in (0..MOST_AXES).rev() {
        at[axis] += 1;
        if at[axis] < extents[axis] {
            return axis < MOST_AXES - 1;
        }
        at[axis] = 0;
    }
    true
}

/// Extents with axes of one position in front.
pub(super) fn filled(extents: &[usize]) -> Extents {
    let mut filled = [1; MOST_AXES];
    filled[MOST_AXES - extents.len()..].copy_from_slice(extents);
    filled
}

/// The coordinates of a row-major position.
pub(super) fn coordinates(position: usize, [_, middle, inner]: Extents) -> Extents {
    [position / inner / middle, position / inner % middle, position % inner]
}
