//! A convolution's weight as its kernels read it, and the phases that it is packed for.

use super::convolve::Reads;
use super::gemm::{self, PackedWeight};
use super::grouped::Grouped;
use super::lattice::{Extents, filled};
use super::narrow::Narrow;
use crate::layers::window::MOST_AXES;
use crate::layers::{Conv, Reach};
use crate::plan::Direction;
use crate::rules::WeightPart;

/// Fewer target channels than this fill too little of a panel.
pub(super) const FEW: usize = 8;

/// A group with fewer channels than this on either side fills too little of a panel.
const FEW_OF_GROUP: usize = 16;

/// The weight of a convolution, changed by a part and packed for one direction.
#[derive(Debug)]
pub(super) enum Filters {
    /// For each phase and group, what [`multiply`](super::gemm::multiply) reads; summed are taps, then channels.
    Panels(Vec<Vec<PackedWeight>>),
    /// For groups of few channels.
    Grouped(Grouped),
    /// For few target channels.
    Narrow(Narrow),
}

/// One phase of targets along each axis, taps in the order of their sources.
#[derive(Debug)]
pub(super) struct Phase {
    pub(super) axes: [Reach; MOST_AXES],
    /// For each axis and target that belongs to the phase, the lowest source of its taps; it may lie outside.
    pub(super) lowest: [Vec<Option<isize>>; MOST_AXES],
}

impl Phase {
    /// A phase of targets with the given extents.
    fn new(reaches: &[Reach], targets: Extents) -> Self {
        let single =
            Reach { count: 1, first: 0, step: 1, stride: 1, start: 0, spread: 1, taps: 1, tap: 0, tap_step: 1 };
        let mut axes = [single; MOST_AXES];
        axes[MOST_AXES - reaches.len()..].copy_from_slice(reaches);
        let mut phase = Phase { axes, lowest: Default::default() };
        for axis in 0..MOST_AXES {
            let (reach, to_lowest) = (axes[axis], phase.offset(axis, 0));
            let mut lowest = vec![None; targets[axis]];
            for i in 0..reach.count {
                lowest[reach.first + reach.step * i] = Some((reach.stride * i) as isize + reach.start + to_lowest);
            }
            phase.lowest[axis] = lowest;
        }
        phase
    }

    /// The source's offset along an axis at each of its taps, in the order that sums take them: rising.
    pub(super) fn offset(&self, axis: usize, tap: usize) -> isize {
        self.axes[axis].spread * self.turned(axis, tap) as isize
    }

    fn turned(&self, axis: usize, tap: usize) -> usize {
        if self.axes[axis].spread < 0 { self.axes[axis].taps.saturating_sub(1 + tap) } else { tap }
    }

    /// The window's row-major position at each tap, in the order that sums take them.
    pub(super) fn positions(&self, kernel: Extents) -> Vec<usize> {
        let along = |axis: usize| {
            let Reach { taps, tap, tap_step, .. } = self.axes[axis];
            (0..taps).map(move |t| tap + tap_step * self.turned(axis, t))
        };
        let middle = |outer: usize| along(1).map(move |middle| outer * kernel[1] + middle);
        let inner = |line: usize| along(2).map(move |inner| line * kernel[2] + inner);
        along(0).flat_map(middle).flat_map(inner).collect()
    }
}

/// The phases of a direction; `input` and `output` are the layer's spatial extents.
pub(super) fn phases(conv: &Conv, direction: Direction, input: &[usize], output: &[usize]) -> Vec<Phase> {
    let (reaches, targets) = match direction {
        Direction::Forward => (conv.forward(output), filled(output)),
        Direction::Backward => (conv.backward(input), filled(input)),
    };
    reaches.iter().map(|reaches| Phase::new(reaches, targets)).collect()
}

/// Channels of a convolution as a direction sees them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Channels {
    pub(super) source: usize,
    pub(super) target: usize,
    pub(super) groups: usize,
}

impl Channels {
    pub(super) fn new(conv: &Conv, direction: Direction) -> Self {
        let (source, target) = match direction {
            Direction::Forward => (conv.inputs(), conv.outputs()),
            Direction::Backward => (conv.outputs(), conv.inputs()),
        };
        Channels { source, target, groups: conv.groups() }
    }

    /// Source channels of a group.
    pub(super) fn source_group(&self) -> usize {
        self.source / self.groups
    }

    /// Target channels of a group.
    pub(super) fn target_group(&self) -> usize {
        self.target / self.groups
    }

    /// Whether there are groups, of too few channels for panels.
    pub(super) fn is_grouped(&self) -> bool {
        self.groups > 1 && self.source_group().min(self.target_group()) < FEW_OF_GROUP
    }
}

/// The weight is `[coarse][fine of the group][position]`, and one of the grids is the target's.
fn target_is_coarse(conv: &Conv, direction: Direction) -> bool {
    (direction == Direction::Forward) != conv.is_transposed()
}

/// Where the weight of a group's source and target channel lies, at a position of the window.
pub(super) fn weight_index(conv: &Conv, direction: Direction) -> impl Fn(usize, usize, usize, usize) -> usize {
    let channels = Channels::new(conv, direction);
    let (sources, targets) = (channels.source_group(), channels.target_group());
    let (positions, target_is_coarse) = (conv.window().positions(), target_is_coarse(conv, direction));
    move |group, source, target, position| {
        let (coarse, fine, width) = match target_is_coarse {
            true => (group * targets + target, source, sources),
            false => (group * sources + source, target, targets),
        };
        (coarse * width + fine) * positions + position
    }
}

/// Elements of the summed axis of a chain of a convolution's products, at most. Where products of one sign are added up to z, a small one
/// loses many times over what they lose; `has_z` says that z has a product of its own instead. Halves of a denominator are added up too, and
/// their chains must be alike.
pub(super) fn chain(direction: Direction, part: WeightPart, has_z: bool) -> usize {
    match direction {
        Direction::Forward if part.is_half() || (part.has_one_sign() && !has_z) => gemm::CHAIN / 2,
        Direction::Forward | Direction::Backward => gemm::CHAIN,
    }
}

impl Filters {
    /// What reads as `reads` says is multiplied with; `chain` is how many elements of the summed axis a chain of a product takes at most.
    pub(super) fn new(
        conv: &Conv,
        (direction, part): (Direction, WeightPart),
        phases: &[Phase],
        (chain, reads): (usize, &Reads),
    ) -> Self {
        let channels = Channels::new(conv, direction);
        let (sources, targets) = (channels.source_group(), channels.target_group());
        let w = conv.weight().data();
        let at = &weight_index(conv, direction);
        if let Reads::Grouped(_) = reads {
            let positions = conv.window().positions();
            let element = |position: usize, source: usize, target: usize| {
                part.of(w[at(target / targets, source, target % targets, position)])
            };
            return Filters::Grouped(Grouped::new(channels, positions, chain, element));
        }
        if let Reads::Planar(_) = reads {
            let element = |position, source, target| part.of(w[at(0, source, target, position)]);
            let kernel = filled(&conv.window().kernel());
            return Filters::Narrow(Narrow::new(channels, (phases, kernel), chain, element));
        }
        let kernel = filled(&conv.window().kernel());
        let of_phase = |phase: &Phase| {
            let taps = phase.positions(kernel);
            let of_group = |group: usize| {
                let step = at(group, 0, 1.min(targets - 1), 0) - at(group, 0, 0, 0);
                let first: Vec<usize> =
                    taps.iter().flat_map(|&tap| (0..sources).map(move |source| at(group, source, 0, tap))).collect();
                let weight = PackedWeight::new(first.len(), targets, |k, n| part.of(w[first[k] + n * step]));
                weight.in_chains_of(chain)
            };
            if taps.is_empty() { Vec::new() } else { (0..channels.groups).map(of_group).collect() }
        };
        Filters::Panels(phases.iter().map(of_phase).collect())
    }

    /// A part of this whole weight, if that can be made while it is read.
    pub(super) fn of_part(&self, part: WeightPart, chain: usize) -> Option<Filters> {
        let Filters::Panels(of_phases) = self else { return None };
        let of_group = |whole: &PackedWeight| Some(whole.part(part)?.in_chains_of(chain));
        let of_phase = |groups: &Vec<PackedWeight>| groups.iter().map(of_group).collect::<Option<_>>();
        Some(Filters::Panels(of_phases.iter().map(of_phase).collect::<Option<_>>()?))
    }

    /// The packed weights of a phase, one for each group: none if no window of it covers anything, nor where products read others.
    pub(super) fn panels(&self, phase: usize) -> &[PackedWeight] {
        match self {
            Filters::Panels(of_phases) => &of_phases[phase],
            Filters::Grouped(_) | Filters::Narrow(_) => &[],
        }
    }

    /// Packed weights, if that is what its products read.
    pub(super) fn packed(&self) -> impl Iterator<Item = &PackedWeight> {
        match self {
            Filters::Panels(of_phases) => of_phases.as_slice(),
            Filters::Grouped(_) | Filters::Narrow(_) => &[],
        }
        .iter()
        .flatten()
    }
}
