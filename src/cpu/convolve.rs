//! Convolutions as products of gathered rows.
//!
//! Each phase of targets is a product: a row of A holds what one target's window covers, taps in the order of the
//! source, channels last. Rows are gathered for a block of targets and a slice of taps at a time, through the source's
//! activation, so that A stays in cache; sums go on from slice to slice in one order.

use std::ops::Range;

use super::chain::{self, Chain};
use super::depthwise;
use super::filters::{Channels, Filters, Phase};
use super::gemm::{self, LINE, ROW_BLOCK, Slice};
use super::lattice::{Extents, Lattice, coordinates};
use crate::layers::window::MOST_AXES;
use crate::plan::{Operand, Step};
use std::sync::Arc;

/// Summed elements that are gathered at once.
const GATHERED: usize = 512;

/// What a convolution's step reads beside data.
#[derive(Debug)]
pub(super) struct Convolution {
    pub(super) channels: Channels,
    pub(super) lattice: Lattice,
    pub(super) phases: Vec<Phase>,
    pub(super) filters: Arc<Filters>,
}

impl Convolution {
    /// How many targets a part of the step makes at most.
    pub(super) fn block(&self) -> usize {
        ROW_BLOCK * self.phases.len()
    }
}

/// Makes the targets from position `first` on, counted over all rows of the chunk; the chain follows.
pub(super) fn run(
    chain: &Chain<'_>,
    step: &Step,
    conv: &Convolution,
    first: usize,
    targets: &mut [f32],
    room: &mut Vec<f32>,
) {
    let source = step.source.expect("a convolution reads rows");
    match &*conv.filters {
        Filters::Panels(panels) => {
            for (phase, panels) in conv.phases.iter().zip(panels) {
                let places = places(conv, phase, first, targets.len() / conv.channels.target);
                for places in places.chunks(ROW_BLOCK) {
                    let block = Block { chain, source, conv, phase, places };
                    block.run(panels, targets, room);
                }
            }
        }
        Filters::Direct(weights) => depthwise::run(chain, source, conv, weights, first, targets),
    }
    let width = conv.lattice.count() * conv.channels.target;
    chain.apply_to(first * conv.channels.target, width, targets);
}

/// One target of a phase.
struct Place {
    /// Where its channels begin among the targets of the part.
    start: usize,
    /// The row of the target's buffer.
    row: usize,
    /// The source at the first tap of each axis.
    origin: [isize; MOST_AXES],
}

/// The targets of a phase among `count` from position `first` on.
fn places(conv: &Convolution, phase: &Phase, first: usize, count: usize) -> Vec<Place> {
    let positions = conv.lattice.count();
    let mut places = Vec::with_capacity(count / conv.phases.len() + 1);
    for position in 0..count {
        let at = coordinates((first + position) % positions, conv.lattice.targets);
        let mut origin = [0; MOST_AXES];
        let belongs = phase.axes.iter().zip(at).zip(&mut origin).all(|((reach, at), origin)| {
            let i = at.wrapping_sub(reach.first) / reach.step;
            *origin = (reach.stride * i) as isize + reach.start;
            at % reach.step == reach.first % reach.step && i < reach.count
        });
        if belongs {
            let row = (first + position) / positions;
            // The lowest source, whichever way the taps go.
            let lowest = std::array::from_fn(|axis| origin[axis] + phase.offset(axis, 0));
            places.push(Place { start: position * conv.channels.target, row, origin: lowest });
        }
    }
    places
}

/// Some targets of one phase.
struct Block<'a> {
    chain: &'a Chain<'a>,
    source: Operand,
    conv: &'a Convolution,
    phase: &'a Phase,
    places: &'a [Place],
}

impl Block<'_> {
    fn run(&self, panels: &[gemm::PackedWeight], targets: &mut [f32], room: &mut Vec<f32>) {
        if panels.is_empty() {
            let channels = self.conv.channels.target;
            self.places.iter().for_each(|place| targets[place.start..][..channels].fill(0.0));
            return;
        }
        for (group, weight) in panels.iter().enumerate() {
            let starts: Vec<usize> =
                self.places.iter().map(|place| place.start + group * self.conv.channels.target_group()).collect();
            for from in (0..weight.depth()).step_by(GATHERED) {
                let to = weight.depth().min(from + GATHERED);
                let stride = to - from + LINE;
                room.resize(room.len().max(self.places.len() * stride), 0.0);
                self.gather(group, from..to, stride, room);
                gemm::multiply_slice(
                    Slice { a: room, stride, b: weight, from, to, goes_on: from > 0 },
                    targets,
                    &starts,
                );
            }
        }
    }

    /// Rows of A of a group: summed elements `summed`.
    fn gather(&self, group: usize, summed: Range<usize>, stride: usize, rows: &mut [f32]) {
        let (mut row, mut elements) = (usize::MAX, [].as_slice());
        for (place, to) in self.places.iter().zip(rows.chunks_exact_mut(stride)) {
            if place.row != row {
                (row, elements) = (place.row, self.chain.row(self.source.buffer, place.row));
            }
            self.gather_row(place, group, summed.clone(), elements, &mut to[..summed.len()]);
        }
    }

    fn gather_row(&self, place: &Place, group: usize, summed: Range<usize>, elements: &[f32], mut to: &mut [f32]) {
        let Channels { source: channels, .. } = self.conv.channels;
        let (of_group, extents) = (self.conv.channels.source_group(), self.conv.lattice.sources);
        let [_, middle, inner] = &self.phase.axes;
        // Taps of the innermost axis that follow one another are one run.
        let is_run = inner.taps == 1 || (inner.spread.abs() == 1 && of_group == channels);
        let run = if is_run { inner.taps * of_group } else { of_group };
        let runs_a_line = inner.taps * of_group / run;
        let mut k = summed.start;
        while !to.is_empty() {
            let (line, of_line) = (k / run / runs_a_line, k / run % runs_a_line);
            let (part, rest) = to.split_at_mut((run - k % run).min(to.len()));
            let at = self.phase.offset(2, of_line) - self.phase.offset(2, 0) + place.origin[2];
            match line_at(place, self.phase, line / middle.taps, line % middle.taps, extents) {
                Some(line) => {
                    let elements = &elements[line * extents[2] * channels..][..extents[2] * channels];
                    let offset = at * channels as isize + (group * of_group + k % run) as isize;
                    self.copy(elements, offset, part);
                }
                None => part.fill(0.0),
            }
            k += part.len();
            to = rest;
        }
    }

    /// Elements of a line from `offset` on, zeros where there are none.
    fn copy(&self, line: &[f32], offset: isize, to: &mut [f32]) {
        let missing = usize::try_from(-offset).unwrap_or(0).min(to.len());
        let from = usize::try_from(offset).unwrap_or(0).min(line.len());
        let (before, to) = to.split_at_mut(missing);
        let (inside, behind) = to.split_at_mut(to.len().min(line.len() - from));
        before.fill(0.0);
        chain::read(&self.source, &line[from..][..inside.len()], inside);
        behind.fill(0.0);
    }
}

/// The line of the source that the taps of the outer axes read, if there is one.
fn line_at(place: &Place, phase: &Phase, outer: usize, middle: usize, extents: Extents) -> Option<usize> {
    let along = |axis: usize, tap: usize| {
        let at = place.origin[axis] + phase.offset(axis, tap) - phase.offset(axis, 0);
        usize::try_from(at).ok().filter(|at| *at < extents[axis])
    };
    Some(along(0, outer)? * extents[1] + along(1, middle)?)
}
