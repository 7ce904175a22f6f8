//! Convolutions as products of gathered rows, or of rows as they lie.
//!
//! Each phase of targets is a product: a row of A holds what one target's window covers, taps in the order of the
//! source, channels last. Rows are gathered for a block of targets and a slice of taps at a time, through the source's
//! activation, so that A stays in cache; sums go on from slice to slice in one order.

use std::ops::Range;
use std::sync::Arc;

use super::ahead::{Coming, Soon};
use super::chain::{self, Chain, Part};
use super::crew::{Crew, Room, Written};
use super::filters::{Channels, Filters, Phase};
use super::functions::{Function, WithFunction};
use super::gemm::{self, LINE, PackedWeight, Slice};
use super::grouped;
use super::lattice::{Extents, Lattice, advance, coordinates};
use super::loops;
use super::narrow;
use super::planar::Planar;
use super::simd::{self, Level, Loop};
use crate::layers::Reach;
use crate::layers::window::MOST_AXES;
use crate::plan::{BufferId, Operand, Step};

/// Rows that are a multiple of this many floats apart lie in the same lines of a first-level cache.
const CONFLICT: usize = 1024;
/// A block's rows of up to so many floats stay in the second-level cache.
const NEAR: usize = 512;

/// What a convolution's step reads beside data.
#[derive(Debug)]
pub(super) struct Convolution {
    pub(super) channels: Channels,
    pub(super) lattice: Lattice,
    pub(super) phases: Vec<Phase>,
    /// For each product that the step sums; all of one kind.
    pub(super) filters: Vec<Arc<Filters>>,
    pub(super) reads: Reads,
}

/// How a convolution reads its sources; its filters are of the same kind.
#[derive(Debug)]
pub(super) enum Reads {
    /// In rows for panels: gathered, or as they lie where each target reads its own position alone.
    Gathered,
    /// Laid out channel by channel, for few target channels.
    Planar(Planar),
    /// Laid out for groups of few channels.
    Grouped(grouped::Layout),
}

impl Convolution {
    /// Packed weights of all products, if that is what they read.
    pub(super) fn packed(&self) -> impl Iterator<Item = &PackedWeight> {
        self.filters.iter().flat_map(|filters| filters.packed())
    }

    /// Positions of a unit of the targets, one or a line, and how many units a part of the step makes at most.
    fn units(&self) -> (usize, usize) {
        let line = self.lattice.targets[2];
        let (stretch, lines) = match &self.reads {
            Reads::Gathered => return (1, gemm::row_block() * self.phases.len()),
            Reads::Planar(planar) => (planar.stretch, planar.lines),
            Reads::Grouped(layout) => (layout.stretch, layout.lines),
        };
        if stretch < line { (1, stretch) } else { (line, lines) }
    }

    /// Whether each target reads the channels at its own position, and no others.
    fn has_single_positions(&self) -> bool {
        let is_whole = |axis: &Reach| axis.taps == 1 && axis.stride == 1 && axis.start == 0;
        let [phase] = &self.phases[..] else { return false };
        phase.axes.iter().all(is_whole) && self.lattice.sources == self.lattice.targets
    }

    fn is_pointwise(&self, chain: &Chain<'_>, source: Operand) -> bool {
        let has_same_rows = chain.plan.targets == 1 || chain.plan.buffers[source.buffer.index()].rows == chain.rows;
        self.has_single_positions() && has_same_rows
    }

    /// Whether rows of the source, one behind the other, are the rows of A; read in place, or all of a block at once.
    fn is_product(&self, chain: &Chain<'_>, source: Operand) -> bool {
        self.is_pointwise(chain, source) && self.takes_rows(source)
    }

    /// Whether a product reads rows of the source as they lie one behind the other, where targets have single positions.
    fn takes_rows(&self, source: Operand) -> bool {
        let channels = self.channels.source;
        // Rows such a distance apart would compete for a few lines of the first-level cache.
        let is_spread = !channels.is_multiple_of(CONFLICT);
        let is_near = source.is_whole() || channels <= NEAR;
        matches!(self.reads, Reads::Gathered) && self.channels.groups == 1 && is_spread && is_near
    }

    /// Whether a step by this convolution can be made of parts of its sources, as steps by another make them.
    pub(super) fn takes_parts_of(&self, step: &Step, other: &Convolution) -> bool {
        self.has_single_positions()
            && self.lattice.count() == other.lattice.count()
            && self.channels.source == other.channels.target
            && step.products().all(|(source, _)| self.takes_rows(source))
    }

    /// What is read once the sums of a part are made: by the chains, and by the next part's products, unless that is `made` part by part.
    fn coming<'a>(&self, chains: &'a [Chain<'a>], factors: &[Factor<'_>], made: &[BufferId]) -> Coming<'a> {
        let sources =
            factors.iter().map(|factor| factor.source).filter(|source| self.is_pointwise(&chains[0], *source));
        let panels = factors.iter().flat_map(|factor| factor.filters.packed()).map(PackedWeight::panels_read).sum();
        Coming::behind(chains, sources.map(|source| source.buffer), panels, made)
    }
}

/// A product that a step sums.
pub(super) struct Factor<'a> {
    pub(super) source: Operand,
    pub(super) filters: &'a Filters,
    /// Which of the steps that run together it is of.
    pub(super) step: usize,
    /// Whether it is added to products before it.
    pub(super) goes_on: bool,
}

impl Factor<'_> {
    /// Whether it is made of one reading of its source with another, each the same product of its step.
    pub(super) fn reads_with(&self, other: &Self) -> bool {
        (self.source, self.goes_on) == (other.source, other.goes_on)
    }
}

/// Steps of one convolution's products that run together.
pub(super) struct Products<'a> {
    chains: &'a [Chain<'a>],
    conv: &'a Convolution,
    factors: Vec<Factor<'a>>,
    coming: Coming<'a>,
}

impl<'a> Products<'a> {
    /// `made`: the buffers that steps before them make part by part.
    pub(super) fn new(chains: &'a [Chain<'a>], convs: &[&'a Convolution], made: &[BufferId]) -> Self {
        let mut factors = Vec::new();
        for (step, (chain, conv)) in chains.iter().zip(convs).enumerate() {
            let products = chain.step.products().zip(&conv.filters).enumerate();
            factors.extend(products.map(|(position, ((source, _), filters))| Factor {
                source,
                filters,
                step,
                goes_on: position > 0,
            }));
        }
        // The first product of every step, then what is added to it: those of one source are made of one reading of it.
        factors.sort_by_key(|factor| factor.goes_on);
        let coming = convs[0].coming(chains, &factors, made);
        Products { chains, conv: convs[0], factors, coming }
    }

    /// Makes `count` positions from one on, counted over rows, and applies the chains.
    fn part<'r>(
        &self,
        (first, count): (usize, usize),
        written: Vec<Written<'r>>,
        rows: &mut Vec<f32>,
        room: &'r mut Vec<f32>,
        given: &[Part<'_>],
    ) -> Vec<Part<'r>> {
        let Products { chains, conv, factors, coming } = self;
        let chains: Vec<Chain<'_>> = chains.iter().map(|chain| Chain { made: given, ..*chain }).collect();
        let (channels, width) = (conv.channels.target, conv.lattice.count() * conv.channels.target);
        chain::make(&chains, (first * channels, count * channels, width), written, room, |targets| {
            products(&chains[0], conv, factors, coming, first, targets, rows);
        })
    }
}

/// Makes the targets of steps that run together and applies their chains; part by part also those `behind`, which read single positions of
/// what these make. `written` holds what all steps write, in their order.
pub(super) fn run(of: &Products<'_>, behind: Option<&Products<'_>>, written: Vec<Written<'_>>, crew: Crew<'_>) {
    let (unit, mut most) = of.conv.units();
    if behind.is_some() {
        // What several steps make of a part stays in the second-level cache.
        most = if unit > 1 { most.div_ceil(2) } else { most.min(gemm::row_block()) };
    }
    let channels = |position| match behind.filter(|_| position >= of.chains.len()) {
        Some(behind) => behind.conv.channels.target,
        None => of.conv.channels.target,
    };
    let written = written.into_iter().enumerate().map(|(position, of)| (of, unit * channels(position))).collect();
    let positions = of.chains[0].elements() / of.conv.channels.target;
    crew.pieces_of_all(written, positions / unit, most, |units, mut pieces, room| {
        let of_behind = pieces.split_off(of.chains.len());
        let Room { rows, made, behind: room_behind } = room;
        let part = (units.start * unit, units.len() * unit);
        let made = of.part(part, pieces, rows, made, &[]);
        if let Some(behind) = behind {
            behind.part(part, of_behind, rows, room_behind, &made);
        }
    });
}

/// The sums of the steps' products, without the chains.
fn products(
    chain: &Chain<'_>,
    conv: &Convolution,
    factors: &[Factor<'_>],
    coming: &Coming<'_>,
    first: usize,
    targets: &mut [&mut [f32]],
    room: &mut Vec<f32>,
) {
    let of_sources = || factors.chunk_by(Factor::reads_with);
    match &conv.reads {
        Reads::Planar(planar) => return narrow::run(chain, factors, (conv, planar), first, targets, room),
        Reads::Grouped(layout) => {
            let run = |factors| grouped::run(chain, factors, (conv, layout), first, targets, (room, coming));
            return of_sources().for_each(run);
        }
        Reads::Gathered => {}
    }
    let Channels { source, target, .. } = conv.channels;
    let count = targets[0].len() / target;
    let end = first + count;
    let mut soon = coming.soon(first * target..end * target, end * source..(end + count) * source);
    if factors.iter().all(|factor| conv.is_product(chain, factor.source)) {
        of_sources().for_each(|factors| multiply(chain, conv, factors, first, targets, room, &mut soon));
        return;
    }
    for (index, phase) in conv.phases.iter().enumerate() {
        let places = places(conv, phase, first, count);
        for (places, factors) in
            places.chunks(gemm::row_block()).flat_map(|places| of_sources().map(move |of| (places, of)))
        {
            Block { chain, factors, conv, phase, index, places }.run(targets, room, &mut soon);
        }
    }
}

/// Products of rows of one source, one behind the other.
fn multiply(
    chain: &Chain<'_>,
    conv: &Convolution,
    factors: &[Factor<'_>],
    first: usize,
    targets: &mut [&mut [f32]],
    room: &mut Vec<f32>,
    soon: &mut Soon<'_>,
) {
    let (source, stride) = (factors[0].source, conv.channels.source);
    let starts: Vec<usize> = (0..targets[0].len()).step_by(conv.channels.target).collect();
    let length = starts.len() * stride;
    let in_place = chain.elements_of(source.buffer, first * stride, length);
    let a = if source.is_whole() {
        in_place
    } else {
        room.resize(room.len().max(length), 0.0);
        loops::read(&source, in_place, &mut room[..length]);
        room
    };
    for factor in factors {
        let b = &factor.filters.panels(0)[0];
        for Range { start: from, end: to } in gemm::slices(stride) {
            let slice = Slice { a: &a[from..], stride, b, from, to, goes_on: factor.goes_on || from > 0 };
            gemm::multiply_slice(slice, targets[factor.step], &starts, soon);
        }
    }
}

/// One target of a phase.
struct Place {
    /// Where its channels begin among the targets of the part.
    start: usize,
    /// The row of the target's buffer.
    row: usize,
    /// The lowest source that it reads along each axis.
    origin: [isize; MOST_AXES],
}

/// The targets of a phase among `count` from position `first` on.
fn places(conv: &Convolution, phase: &Phase, first: usize, count: usize) -> Vec<Place> {
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
struct Block<'a> {
    chain: &'a Chain<'a>,
    factors: &'a [Factor<'a>],
    conv: &'a Convolution,
    phase: &'a Phase,
    /// The phase's position.
    index: usize,
    places: &'a [Place],
}

impl Block<'_> {
    fn run(&self, targets: &mut [&mut [f32]], room: &mut Vec<f32>, soon: &mut Soon<'_>) {
        let panels = self.factors[0].filters.panels(self.index);
        if panels.is_empty() {
            let channels = self.conv.channels.target;
            for factor in self.factors.iter().filter(|factor| !factor.goes_on) {
                self.places.iter().for_each(|place| targets[factor.step][place.start..][..channels].fill(0.0));
            }
            return;
        }
        for (group, weight) in panels.iter().enumerate() {
            let starts: Vec<usize> =
                self.places.iter().map(|place| place.start + group * self.conv.channels.target_group()).collect();
            for Range { start: from, end: to } in gemm::slices(weight.depth()) {
                let stride = to - from + LINE;
                room.resize(room.len().max(self.places.len() * stride), 0.0);
                self.gather(group, from..to, stride, room);
                for factor in self.factors {
                    let b = &factor.filters.panels(self.index)[group];
                    let slice = Slice { a: room, stride, b, from, to, goes_on: factor.goes_on || from > 0 };
                    gemm::multiply_slice(slice, targets[factor.step], &starts, soon);
                }
            }
        }
    }

    /// Rows of A of a group: summed elements `summed`.
    fn gather(&self, group: usize, summed: Range<usize>, stride: usize, rows: &mut [f32]) {
        let Operand { activation, part, .. } = self.factors[0].source;
        loops::through(activation, part, Gather { block: self, group, summed, stride, rows });
    }
}

/// Copies what windows cover into rows of A, through the source's activation.
struct Gather<'a> {
    block: &'a Block<'a>,
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
                let (channels, extents) = (block.conv.channels.source, block.conv.lattice.sources);
                let (mut row, mut elements) = (usize::MAX, [].as_slice());
                for (place, to) in block.places.iter().zip(rows.chunks_exact_mut(stride)) {
                    if place.row != row {
                        (row, elements) = (place.row, block.chain.row(block.factors[0].source.buffer, place.row));
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

impl Block<'_> {
    /// What windows cover of the summed elements of a group.
    fn runs(&self, group: usize, summed: Range<usize>) -> Vec<Run> {
        let Channels { source: channels, .. } = self.conv.channels;
        let of_group = self.conv.channels.source_group();
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
