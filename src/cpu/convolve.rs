//! Convolutions as products of rows: gathered (`gathered.rs`), or as they lie; or as other kernels make them, of planes (`narrow.rs`) and of
//! groups (`grouped`).

use std::ops::Range;
use std::sync::Arc;

use super::ahead::{Coming, Soon};
use super::chain::{self, Chain, Part};
use super::chosen::{self, Chosen};
use super::crew::{Crew, Room, Written};
use super::filters::{Channels, Filters, Phase};
use super::gathered::{InPhase, places};
use super::gemm::{self, PackedWeight, Slice};
use super::grouped;
use super::lattice::Lattice;
use super::loops;
use super::narrow;
use super::planar::Planar;
use crate::layers::Reach;
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
        self.channels.source == other.channels.target && self.makes_positions_of(step, other)
    }

    /// Whether a step by this convolution can make the parts that chains of steps by another read.
    pub(super) fn gives_parts_to(&self, step: &Step, other: &Convolution) -> bool {
        self.channels.target == other.channels.target && self.makes_positions_of(step, other)
    }

    /// Whether a step makes any positions of another convolution's, of its own sources' alone.
    fn makes_positions_of(&self, step: &Step, other: &Convolution) -> bool {
        self.has_single_positions()
            && self.lattice.count() == other.lattice.count()
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

/// The products of steps that run together.
pub(super) fn factors<'a>(steps: &[&Step], convs: &[&'a Convolution]) -> Vec<Factor<'a>> {
    let mut factors = Vec::new();
    for (position, (step, conv)) in steps.iter().zip(convs).enumerate() {
        let products = step.products().zip(&conv.filters).enumerate();
        factors.extend(products.map(|(product, ((source, _), filters))| Factor {
            source,
            filters,
            step: position,
            goes_on: product > 0,
        }));
    }
    // The first product of every step, then what is added to it: those of one source are made of one reading of it.
    factors.sort_by_key(|factor| factor.goes_on);
    factors
}

/// Steps of one convolution's products that run together.
pub(super) struct Products<'a> {
    chains: &'a [Chain<'a>],
    conv: &'a Convolution,
    factors: Vec<Factor<'a>>,
    chosen: Option<Chosen>,
    coming: Coming<'a>,
}

impl<'a> Products<'a> {
    /// `made`: the buffers that steps before them make part by part; `passes`: those that no step reads but these.
    pub(super) fn new(
        chains: &'a [Chain<'a>],
        convs: &[&'a Convolution],
        made: &[BufferId],
        passes: &[BufferId],
    ) -> Self {
        let steps: Vec<&Step> = chains.iter().map(|chain| chain.step).collect();
        let factors = factors(&steps, convs);
        let chosen = Chosen::of(chains[0].plan, &steps, &factors, passes);
        // Both products are made of one reading of their panels.
        let read = if chosen.is_some() { &factors[1..] } else { &factors[..] };
        let coming = convs[0].coming(chains, read, made);
        Products { chains, conv: convs[0], factors, chosen, coming }
    }

    /// Makes `count` positions from one on, counted over rows, and applies the chains.
    fn part<'r>(
        &self,
        (first, count): (usize, usize),
        mut written: Vec<Written<'r>>,
        rows: &mut Vec<f32>,
        room: &'r mut Vec<f32>,
        given: &[Part<'_>],
    ) -> Vec<Part<'r>> {
        let Products { conv, chosen, .. } = self;
        let chains: Vec<Chain<'_>> = match chosen {
            Some(Chosen { step, .. }) => {
                // The first of the two steps writes nothing that is kept.
                written.drain(..written.len() - 1);
                vec![Chain { made: given, step, ..self.chains[0] }]
            }
            None => self.chains.iter().map(|chain| Chain { made: given, ..*chain }).collect(),
        };
        let (channels, width) = (conv.channels.target, conv.lattice.count() * conv.channels.target);
        chain::make(&chains, (first * channels, count * channels, width), written, room, |targets| {
            self.sum(&chains[0], first, targets, rows);
        })
    }

    /// The sums of the steps' products, without the chains; one where signs choose.
    fn sum(&self, chain: &Chain<'_>, first: usize, targets: &mut [&mut [f32]], room: &mut Vec<f32>) {
        let Products { conv, factors, coming, .. } = self;
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
        let signs = self.chosen.as_ref().map(|of| chain.elements_of(of.signs, first * target, count * target));
        if factors.iter().all(|factor| conv.is_product(chain, factor.source)) {
            let of = |factors| Block { chain, conv, factors, signs };
            return of_sources().for_each(|factors| of(factors).multiply(first, targets, room, &mut soon));
        }
        for (index, phase) in conv.phases.iter().enumerate() {
            let places = places(conv, phase, first, count);
            for (places, factors) in
                places.chunks(gemm::row_block()).flat_map(|places| of_sources().map(move |of| (places, of)))
            {
                let of = Block { chain, conv, factors, signs };
                InPhase { of, phase, index, places }.run(targets, room, &mut soon);
            }
        }
    }
}

/// Makes the targets of steps that run together and applies their chains; part by part, one stage of steps after another, of which the one at
/// `lead` says how large parts are, and the others make and read single positions. `written` holds what all steps write, in their order.
pub(super) fn run(stages: &[Products<'_>], lead: usize, written: Vec<Written<'_>>, crew: Crew<'_>) {
    let Products { chains, conv, .. } = &stages[lead];
    let (unit, mut most) = conv.units();
    if stages.len() > 1 {
        // What several steps make of a part stays in the second-level cache.
        most = if unit > 1 { most.div_ceil(2) } else { most.min(gemm::row_block()) };
    }
    let channels = stages.iter().flat_map(|stage| stage.chains.iter().map(|_| stage.conv.channels.target));
    let written = written.into_iter().zip(channels).map(|(of, channels)| (of, unit * channels)).collect();
    let positions = chains[0].elements() / conv.channels.target;
    crew.pieces_of_all(written, positions / unit, most, |units, pieces, room| {
        let Room { rows, made } = room;
        let part = (units.start * unit, units.len() * unit);
        let (mut pieces, mut given) = (pieces.into_iter(), Vec::new());
        for (stage, room) in stages.iter().zip(made) {
            let pieces = pieces.by_ref().take(stage.chains.len()).collect();
            let made = stage.part(part, pieces, rows, room, &given);
            given.extend(made);
        }
    });
}

/// Products of one source.
#[derive(Clone, Copy)]
pub(super) struct Block<'a> {
    pub(super) chain: &'a Chain<'a>,
    pub(super) conv: &'a Convolution,
    pub(super) factors: &'a [Factor<'a>],
    /// What chooses between the two products, element by element of the part, if anything does.
    signs: Option<&'a [f32]>,
}

impl Block<'_> {
    /// Products of rows of the source, one behind the other.
    fn multiply(&self, first: usize, targets: &mut [&mut [f32]], room: &mut Vec<f32>, soon: &mut Soon<'_>) {
        let Block { chain, conv, factors, .. } = self;
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
        for slice in gemm::slices(stride) {
            self.add(|filters| &filters.panels(0)[0], (&a[slice.start..], stride), slice, targets, &starts, soon);
        }
    }

    /// Adds a slice of rows times each factor's weight to the targets, whose rows begin at `starts`.
    pub(super) fn add(
        &self,
        weight: impl Fn(&Filters) -> &PackedWeight,
        (a, stride): (&[f32], usize),
        Range { start: from, end: to }: Range<usize>,
        targets: &mut [&mut [f32]],
        starts: &[usize],
        soon: &mut Soon<'_>,
    ) {
        for factor in self.factors {
            let b = weight(factor.filters);
            let slice = Slice { a, stride, b, from, to, goes_on: factor.goes_on || from > 0 };
            if let (Some(signs), [_, below]) = (self.signs, self.factors) {
                return chosen::multiply_slice(slice, weight(below.filters), signs, targets[0], starts, soon);
            }
            gemm::multiply_slice(slice, targets[factor.step], starts, soon);
        }
    }
}
