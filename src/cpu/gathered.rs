//! Products of gathered rows.
//!
//! Each phase of targets is a product: a row of A holds what one target's window covers, taps in the order of the
//! source, channels last. Rows are gathered for a block of targets and a slice of taps at a time, through the source's
//! activation, so that A stays in cache; sums go on from slice to slice in one order.

use std::ops::Range;

use super::ahead::Soon;
use super::convolve::{Block, Convolution};
use super::filters::{Channels, Phase};
use super::functions::{Function, WithFunction};
use super::gemm::{self, LINE};
use super::lattice::{Extents, advance, coordinates};
use super::loops;
use super::simd::{self, Level, Loop};
use crate::layers::window::MOST_AXES;
use crate::plan::Operand;

/// One target of a phase.
pub(super) struct Place {
    /// Where its channels begin among the targets of the part.
    start: usize,
    /// The row of the target's buffer.
    row: usize,
    /// The lowest source that it reads along each axis.
    origin: [isize; MOST_AXES],
}

/// The targets of a phase among `count` from position `first` on.
pub(super) fn places(conv: &Convolution, phase: &Phase, first: usize, count: usize) -> Vec<Place> {
    let (positions, targets) = (conv.lattice.count(), conv.lattice.targets);
    let mut places = Vec::with_capacity(count / conv.phases.len() + 1);
    let (mut row, mut at) = (first / positions, coordinates(first % positions, targets));
    for position in 0..count {
        let [outer, middle, inner] = &phase.lowest;
        if let (Some(outer), Some(middle), Some(inner)) = (outer[at[0]], middle[at[1]], inner[at[2]]) {
            places.push(Place { start: position * conv.channels.target, row, origin: [outer, middle, inner] });
        }
        row += usize::from(advance(&mut at, targets) && at == [0; MOST_AXES]);
    }
    places
}

/// Some targets of one phase, and products of one source.
pub(super) struct InPhase<'a> {
    pub(super) of: Block<'a>,
    pub(super) phase: &'a Phase,
    /// The phase's position.
    pub(super) index: usize,
    pub(super) places: &'a [Place],
}

impl InPhase<'_> {
    pub(super) fn run(&self, targets: &mut [&mut [f32]], room: &mut Vec<f32>, soon: &mut Soon<'_>) {
        let Block { conv, factors, .. } = self.of;
        let panels = factors[0].filters.panels(self.index);
        if panels.is_empty() {
            let channels = conv.channels.target;
            for target in targets.iter_mut().filter(|_| !factors[0].goes_on) {
                self.places.iter().for_each(|place| target[place.start..][..channels].fill(0.0));
            }
            return;
        }
        for (group, weight) in panels.iter().enumerate() {
            let starts: Vec<usize> =
                self.places.iter().map(|place| place.start + group * conv.channels.target_group()).collect();
            for Range { start: from, end: to } in gemm::slices(weight.depth()) {
                let stride = to - from + LINE;
                room.resize(room.len().max(self.places.len() * stride), 0.0);
                self.gather(group, from..to, stride, room);
                self.of.add(
                    |filters| &filters.panels(self.index)[group],
                    (room, stride),
                    from..to,
                    targets,
                    &starts,
                    soon,
                );
            }
        }
    }

    /// Rows of A of a group: summed elements `summed`.
    fn gather(&self, group: usize, summed: Range<usize>, stride: usize, rows: &mut [f32]) {
        let Operand { activation, part, .. } = self.of.factors[0].source;
        loops::through(activation, part, Gather { block: self, group, summed, stride, rows });
    }
}

/// Copies what windows cover into rows of A, through the source's activation.
struct Gather<'a> {
    block: &'a InPhase<'a>,
    group: usize,
    summed: Range<usize>,
    stride: usize,
    rows: &'a mut [f32],
}

impl WithFunction for Gather<'_> {
    fn run(self, f: impl Function) {
        struct Body<'a, F>(Gather<'a>, F);
        impl<F: Function> Loop for Body<'_, F> {
            #[inline(always)]
            fn run<const FUSED: bool, const LANES: usize>(self) {
                let Body(Gather { block, group, summed, stride, rows }, f) = self;
                let runs = block.runs(group, summed.clone());
                let (channels, extents) = (block.of.conv.channels.source, block.of.conv.lattice.sources);
                let (mut row, mut elements) = (usize::MAX, [].as_slice());
                for (place, to) in block.places.iter().zip(rows.chunks_exact_mut(stride)) {
                    if place.row != row {
                        (row, elements) = (place.row, block.of.chain.row(block.of.factors[0].source.buffer, place.row));
                    }
                    let mut to = &mut to[..summed.len()];
                    for run in &runs {
                        let (part, rest) = to.split_at_mut(run.length);
                        match line_at(place, run, extents) {
                            Some(line) => {
                                let line = &elements[line * extents[2] * channels..][..extents[2] * channels];
                                copy(f, line, place.origin[2] * channels as isize + run.offset, part);
                            }
                            None => part.fill(0.0),
                        }
                        to = rest;
                    }
                }
            }
        }
        simd::run(Level::widest(), Body(self, f));
    }
}

/// Elements of a line of the source that lie side by side in a row of A.
struct Run {
    /// The line, counted from the window's lowest corner.
    outer: isize,
    middle: isize,
    /// The first element, counted from the corner's.
    offset: isize,
    length: usize,
}

impl InPhase<'_> {
    /// What windows cover of the summed elements of a group.
    fn runs(&self, group: usize, summed: Range<usize>) -> Vec<Run> {
        let Channels { source: channels, .. } = self.of.conv.channels;
        let of_group = self.of.conv.channels.source_group();
        let [_, middle, inner] = &self.phase.axes;
        // Taps of the innermost axis that follow one another are one run.
        let is_run = inner.taps == 1 || (inner.spread.abs() == 1 && of_group == channels);
        let length = if is_run { inner.taps * of_group } else { of_group };
        let runs_a_line = inner.taps * of_group / length;
        let from_lowest = |axis: usize, tap: usize| self.phase.offset(axis, tap) - self.phase.offset(axis, 0);
        let mut runs = Vec::new();
        let mut k = summed.start;
        while k < summed.end {
            let (line, of_line, of_run) = (k / length / runs_a_line, k / length % runs_a_line, k % length);
            runs.push(Run {
                outer: from_lowest(0, line / middle.taps),
                middle: from_lowest(1, line % middle.taps),
                offset: from_lowest(2, of_line) * channels as isize + (group * of_group + of_run) as isize,
                length: (length - of_run).min(summed.end - k),
            });
            k += length - of_run;
        }
        runs
    }
}

/// The line of the source that a run lies in, if there is one.
#[inline(always)]
fn line_at(place: &Place, run: &Run, extents: Extents) -> Option<usize> {
    let along = |at: isize, extent: usize| usize::try_from(at).ok().filter(|at| *at < extent);
    Some(
        along(place.origin[0] + run.outer, extents[0])? * extents[1] + along(place.origin[1] + run.middle, extents[1])?,
    )
}

/// Elements of a line from `offset` on, zeros where there are none.
#[inline(always)]
fn copy(f: impl Function, line: &[f32], offset: isize, to: &mut [f32]) {
    if let Some(inside) = usize::try_from(offset).ok().and_then(|from| line.get(from..from + to.len())) {
        return read(f, inside, to);
    }
    let missing = usize::try_from(-offset).unwrap_or(0).min(to.len());
    let from = usize::try_from(offset).unwrap_or(0).min(line.len());
    let (before, to) = to.split_at_mut(missing);
    let (inside, behind) = to.split_at_mut(to.len().min(line.len() - from));
    before.fill(0.0);
    inside.iter_mut().zip(&line[from..]).for_each(|(to, &x)| *to = f.of(x));
    behind.fill(0.0);
}

/// Elements through a function. A run that ends within a vector ends with a whole one that overlaps the one before it,
/// which spares a loop over single elements.
#[inline(always)]
fn read(f: impl Function, from: &[f32], to: &mut [f32]) {
    const VECTOR: usize = 8;
    if to.len() < VECTOR {
        return loops::each(f, from, to, |_, _, x| x);
    }
    let whole = to.len() / VECTOR * VECTOR;
    let ends = (whole < to.len()).then(|| f.of_all(*from.last_chunk::<VECTOR>().expect("as long")));
    loops::each(f, &from[..whole], &mut to[..whole], |_, _, x| x);
    if let (Some(ends), Some(last)) = (ends, to.last_chunk_mut::<VECTOR>()) {
        *last = ends;
    }
}
