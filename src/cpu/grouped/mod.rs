//! Convolutions of groups with few channels, depthwise ones among them.
//!
//! Lines of sources are laid out once for all the targets that read them: read through the activation, with zeros beside them for what
//! windows cover beyond the image, and each channel of a group spread over the target channels that read it. Then a lane of a register is a
//! target channel, whatever groups there are, and one weight serves several positions of a line. The lines that one line of targets reads
//! are held; the next one brings what it lacks.

mod layout;
mod multiply;

use std::ops::Range;

use super::ahead::{Coming, Trickle};
use super::chain::Chain;
use super::convolve::{Convolution, Factor};
use super::filters::{Channels, Filters};
use super::gemm::LINE;
use super::lattice::{Lattice, Stretch, among};
use super::loops;
use super::panels::beginning_of_line;
use super::simd::{self, Level, Loop};
use crate::layers::Reach;
use crate::plan::Operand;

use layout::{apart, laid_out};
use multiply::Multiply;

pub(super) use layout::Layout;

/// The weight of such a convolution.
#[derive(Debug)]
pub(super) struct Grouped {
    /// `[window position][channel of the group][target channel]`, in rows of whole lines.
    elements: Vec<[f32; LINE]>,
    /// Elements of a sum's chains, at most.
    chain: usize,
}

impl Grouped {
    /// `element` is the weight at a position of the window, of a channel of the group and a target channel.
    pub(super) fn new(
        channels: Channels,
        positions: usize,
        chain: usize,
        element: impl Fn(usize, usize, usize) -> f32,
    ) -> Self {
        let of_group = channels.source_group();
        let mut elements = vec![[0.0; LINE]; positions * of_group * row(channels)];
        for (at, to) in elements.chunks_exact_mut(row(channels)).enumerate() {
            let to = &mut to.as_flattened_mut()[..channels.target];
            to.iter_mut().enumerate().for_each(|(target, to)| *to = element(at / of_group, at % of_group, target));
        }
        Grouped { elements, chain }
    }
}

/// Lines of a row of a weight.
fn row(channels: Channels) -> usize {
    channels.target.div_ceil(LINE)
}

/// Makes the targets of steps that run together from position `first` on, counted over rows, by products of one source and without the chains:
/// whole lines, or a stretch of one.
pub(super) fn run<'a>(
    chain: &Chain<'_>,
    factors: &[Factor<'a>],
    (conv, layout): (&'a Convolution, &'a Layout),
    first: usize,
    targets: &mut [&mut [f32]],
    (room, coming): (&mut Vec<f32>, &Coming<'_>),
) {
    let (source, channels) = (factors[0].source, conv.channels.target);
    for (stretch, range) in conv.lattice.stretches(first, targets[0].len() / channels) {
        let elements = chain.row(source.buffer, stretch.row);
        let beside = (first + range.start) * channels;
        let range = range.start * channels..range.end * channels;
        let mut targets: Vec<_> = targets.iter_mut().map(|of| &mut of[range.clone()]).collect();
        // A plan sums no two products of groups in a step.
        let weight = |factor: &Factor<'a>| match factor.filters {
            Filters::Grouped(weight) if !factor.goes_on => (factor.step, weight),
            _ => unreachable!("one product of groups a step"),
        };
        let weights = factors.iter().map(weight).collect();
        let part = Part::new(conv, layout, weights, stretch);
        part.run(source, elements, &mut targets, (&mut *room, coming, beside));
    }
}

/// Lines of one plane of targets, or a stretch of one line.
struct Part<'a> {
    conv: &'a Convolution,
    layout: &'a Layout,
    /// The weights that read the same sources, each with the position of its step.
    weights: Vec<(usize, &'a Grouped)>,
    stretch: Stretch,
    /// Which of their targets are made by each kind of reach along a line.
    reaches: Vec<(Reach, Range<usize>)>,
    /// The positions that are laid out.
    positions: Range<isize>,
}

impl<'a> Part<'a> {
    fn new(conv: &'a Convolution, layout: &'a Layout, weights: Vec<(usize, &'a Grouped)>, stretch: Stretch) -> Self {
        let mut reaches: Vec<(Reach, Range<usize>)> = Vec::new();
        for reach in conv.phases.iter().map(|phase| phase.axes[2]) {
            let targets = among(reach, &stretch.positions);
            if !targets.is_empty() && reaches.iter().all(|(known, _)| known.first != reach.first) {
                reaches.push((reach, targets));
            }
        }
        let positions = laid_out(&conv.phases, &stretch.positions);
        Part { conv, layout, weights, stretch, reaches, positions }
    }

    /// `elements` are the row's.
    fn run(
        &self,
        source: Operand,
        elements: &[f32],
        targets: &mut [&mut [f32]],
        (room, coming, beside): (&mut Vec<f32>, &Coming<'_>, usize),
    ) {
        let channels = self.conv.channels;
        for first in (0..channels.target).step_by(self.layout.slice) {
            let slice = first..channels.target.min(first + self.layout.slice);
            self.slice(slice, source, elements, targets, (&mut *room, coming, beside));
        }
    }

    /// Makes some target channels of whole groups.
    fn slice(
        &self,
        slice: Range<usize>,
        source: Operand,
        elements: &[f32],
        targets: &mut [&mut [f32]],
        (room, coming, beside): (&mut Vec<f32>, &Coming<'_>, usize),
    ) {
        let Part { conv, layout, weights, stretch, .. } = self;
        let (channels, lattice, [planes, lines]) = (conv.channels, &conv.lattice, layout.held);
        let places = planes.count * lines.count;
        let of_group = channels.source_group();
        let (apart, across) = (apart(channels, slice.len()), slice.len().div_ceil(LINE));
        let of_line = self.positions.len() * apart;
        let read = self.inside().len() * (slice.len() / channels.target_group() * of_group);
        let length = places * of_line * LINE;
        room.resize(room.len().max(length + LINE + read), 0.0);
        let begin = beginning_of_line(room);
        let (laid, read) = room[begin..].split_at_mut(length);
        let (laid, _) = laid.as_chunks_mut::<LINE>();
        let mut held = vec![None; places];
        let (mut taps, mut read_lines) = (Vec::new(), Vec::new());
        let line_of_targets = stretch.positions.len() * channels.target;
        for (position, line) in stretch.lines.clone().enumerate() {
            let of_planes = lattice.taps(0, stretch.outer).iter();
            let both = of_planes.flat_map(|plane| lattice.taps(1, line).iter().map(move |line| (plane, line)));
            read_lines.clear();
            for (&(plane, of_plane), &(line, of_line_tap)) in both {
                let place = planes.place(plane) * lines.count + lines.place(line);
                if held[place].replace((plane, line)) != Some((plane, line)) {
                    let from = &elements[(plane * lattice.sources[1] + line) * lattice.sources[2] * channels.source..];
                    let to = &mut laid[place * of_line..][..of_line];
                    self.lay_out(&source, from, &slice, to, read);
                }
                let position = (of_plane * lattice.kernel[1] + of_line_tap) * lattice.kernel[2];
                read_lines.push((place * of_line, position));
            }
            let mut trickle = Trickle::default();
            if slice.start == 0 {
                let beside = beside + position * line_of_targets;
                let shares = stretch.positions.len() * across * weights.len();
                let sources = self.to_come(line + 1, &held, elements);
                trickle = coming.trickle(beside..beside + line_of_targets, sources, shares);
            }
            for (reach, made) in &self.reaches {
                taps.clear();
                for (place, tap) in read_lines.iter().flat_map(|of| (0..reach.taps).map(move |tap| (*of, tap))) {
                    let at = (reach.start + reach.spread * tap as isize - self.positions.start
                        + (reach.stride * made.start) as isize) as usize;
                    let position = place.1 + reach.tap + reach.tap_step * tap;
                    taps.extend((0..of_group).map(|channel| {
                        let of_weight = (position * of_group + channel) * row(channels) + slice.start / LINE;
                        (place.0 + at * apart + channel * across, of_weight)
                    }));
                }
                let first = reach.first + reach.step * made.start - stretch.positions.start;
                let targets_apart = reach.step * channels.target;
                for &(of, weight) in weights {
                    let to = &mut targets[of][position * line_of_targets..][..line_of_targets];
                    let to = &mut to[first * channels.target + slice.start..];
                    if taps.is_empty() {
                        to.chunks_mut(targets_apart).take(made.len()).for_each(|to| to[..slice.len()].fill(0.0));
                        continue;
                    }
                    let multiply = Multiply {
                        laid,
                        apart: reach.stride * apart,
                        taps: &taps,
                        weight,
                        count: made.len(),
                        channels: slice.len(),
                        targets: to,
                        targets_apart,
                        trickle: &mut trickle,
                    };
                    simd::run(Level::widest(), multiply);
                }
            }
        }
    }

    /// The lines of sources that a line of targets of the part lays out, beside those that are held.
    fn to_come<'e>(
        &'e self,
        line: usize,
        held: &'e [Option<(usize, usize)>],
        elements: &'e [f32],
    ) -> impl Iterator<Item = &'e [f32]> {
        let (Lattice { sources: [_, middles, inners], .. }, [planes, lines]) = (&self.conv.lattice, self.layout.held);
        let (lattice, length) = (&self.conv.lattice, inners * self.conv.channels.source);
        let of_planes = if line < self.stretch.lines.end { lattice.taps(0, self.stretch.outer) } else { &[] };
        let of_lines = move |plane: usize| lattice.taps(1, line).iter().map(move |(line, _)| (plane, *line));
        let both = of_planes.iter().flat_map(move |(plane, _)| of_lines(*plane));
        let is_held = move |place: &(usize, usize)| {
            held[planes.place(place.0) * lines.count + lines.place(place.1)] == Some(*place)
        };
        let to_come = both.filter(move |place| !is_held(place));
        to_come.map(move |(plane, line)| &elements[(plane * middles + line) * length..][..length])
    }

    /// The positions of a line of sources that are laid out and lie inside.
    fn inside(&self) -> Range<usize> {
        let inside = |at: isize| usize::try_from(at).unwrap_or(0).min(self.conv.lattice.sources[2]);
        inside(self.positions.start)..inside(self.positions.end)
    }

    /// Lays out the source channels of some target channels, of a line that begins with `from`. `read` has room for them as they are.
    fn lay_out(&self, source: &Operand, from: &[f32], slice: &Range<usize>, to: &mut [[f32; LINE]], read: &mut [f32]) {
        let channels = self.conv.channels;
        let [of_group, to_group] = [channels.source_group(), channels.target_group()];
        let (apart, inside) = (apart(channels, slice.len()), self.inside());
        if inside.is_empty() {
            return to.as_flattened_mut().fill(0.0);
        }
        let (first, count) = (slice.start / to_group * of_group, slice.len() / to_group * of_group);
        let before = (inside.start as isize - self.positions.start) as usize * apart;
        let (before, to) = to.split_at_mut(before);
        let (to, behind) = to.split_at_mut(inside.len() * apart);
        before.as_flattened_mut().fill(0.0);
        behind.as_flattened_mut().fill(0.0);
        let from = &from[inside.start * channels.source + first..];
        if of_group * to_group == 1 {
            return loops::read_runs(source, from, to.as_flattened_mut(), count, [channels.source, apart * LINE]);
        }
        let read = &mut read[..inside.len() * count];
        loops::read_runs(source, from, read, count, [channels.source, count]);
        let across = slice.len().div_ceil(LINE);
        simd::run(Level::widest(), Spread { groups: [of_group, to_group], count, read, apart, across, to });
    }
}

/// Spreads each channel of groups over the target channels that read it.
struct Spread<'a> {
    /// Channels of a group, of sources and of targets.
    groups: [usize; 2],
    /// Source channels of a position.
    count: usize,
    read: &'a [f32],
    /// Lines from position to position, and from one channel of the groups to the next.
    apart: usize,
    across: usize,
    to: &'a mut [[f32; LINE]],
}

impl Loop for Spread<'_> {
    #[inline(always)]
    fn run<const FUSED: bool, const LANES: usize>(self) {
        match self.groups[1] {
            1 => self.over::<1>(),
            2 => self.over::<2>(),
            4 => self.over::<4>(),
            8 => self.over::<8>(),
            16 => self.over::<16>(),
            _ => self.over_any(),
        }
    }
}

impl Spread<'_> {
    #[inline(always)]
    fn over<const TARGETS: usize>(self) {
        let [of_group, _] = self.groups;
        for (to, from) in self.to.chunks_exact_mut(self.apart).zip(self.read.chunks_exact(self.count)) {
            for (channel, to) in to.chunks_exact_mut(self.across).take(of_group).enumerate() {
                for (to, x) in to
                    .as_flattened_mut()
                    .as_chunks_mut::<TARGETS>()
                    .0
                    .iter_mut()
                    .zip(from[channel..].iter().step_by(of_group))
                {
                    *to = [*x; TARGETS];
                }
            }
        }
    }

    #[inline(always)]
    fn over_any(self) {
        let [of_group, to_group] = self.groups;
        for (to, from) in self.to.chunks_exact_mut(self.apart).zip(self.read.chunks_exact(self.count)) {
            for (channel, to) in to.chunks_exact_mut(self.across).take(of_group).enumerate() {
                for (to, x) in
                    to.as_flattened_mut().chunks_exact_mut(to_group).zip(from[channel..].iter().step_by(of_group))
                {
                    to.fill(*x);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::tests::{Axes, assert_close, explain_by, window_of};
    use crate::composite::PresetOptions;
    use crate::layers::{Activation, Conv, Layer, Window, WindowAxis};
    use crate::network::Network;
    use crate::rules::Stabilizer;
    use crate::{Backend, Composite, Options, Tensor};

    /// Groups and their channels of sources and of targets, windows, and whether they are of a transposed convolution.
    const KINDS: [([usize; 3], Axes, bool); 24] = [
        ([33, 1, 1], &[[14, 3, 1, 1, 1], [15, 3, 1, 1, 1]], false),
        ([96, 1, 1], &[[12, 3, 2, 1, 1], [11, 3, 2, 1, 1]], false),
        ([20, 1, 1], &[[9, 7, 1, 1, 3], [70, 7, 1, 1, 3]], false),
        ([40, 1, 1], &[[3, 5, 2, 1, 2], [3, 5, 2, 1, 2]], true),
        ([17, 1, 2], &[[8, 3, 1, 2, 2], [9, 3, 1, 2, 2]], false),
        ([12, 2, 1], &[[8, 4, 3, 1, 1], [7, 2, 3, 1, 0]], false),
        ([32, 4, 4], &[[10, 3, 1, 1, 1], [9, 3, 1, 1, 1]], false),
        ([24, 4, 4], &[[10, 3, 2, 1, 1], [9, 3, 2, 1, 0]], true),
        ([16, 8, 8], &[[7, 3, 1, 1, 1], [7, 3, 1, 1, 1]], false),
        ([7, 3, 5], &[[6, 3, 1, 1, 1], [5, 1, 1, 1, 0]], false),
        ([5, 6, 9], &[[5, 2, 1, 1, 0], [6, 3, 2, 1, 2]], true),
        ([3, 15, 15], &[[5, 3, 1, 1, 1], [4, 3, 1, 1, 1]], false),
        ([9, 16, 2], &[[5, 1, 1, 1, 0], [6, 1, 1, 1, 0]], false),
        ([11, 2, 16], &[[4, 3, 1, 1, 1], [4, 3, 1, 1, 1]], false),
        ([35, 1, 1], &[[9000, 5, 2, 1, 2]], false),
        ([18, 2, 2], &[[40, 3, 1, 36, 36], [38, 3, 1, 36, 36]], false),
        ([6, 4, 4], &[[5, 2, 1, 3, 3], [4, 2, 1, 1, 0], [9, 3, 2, 2, 2]], false),
        ([21, 1, 1], &[[9, 2, 4, 1, 1], [10, 2, 4, 1, 1]], false),
        // Targets that read nothing, more than are made at a time.
        ([32, 1, 1], &[[41, 1, 4, 1, 1]], false),
        ([48, 1, 1], &[[17, 1, 2, 1, 1], [33, 1, 2, 1, 1]], false),
        // Stretches before the image, and behind it.
        ([192, 1, 1], &[[100, 3, 1, 1, 900]], false),
        ([8, 4, 4], &[[3, 3, 1, 1, 1], [700, 5, 1, 1, 2]], false),
        // Too much to be laid out.
        ([40, 1, 1], &[[8, 3, 1, 32768, 32768], [5, 3, 1, 1, 1]], false),
        ([33, 1, 1], &[[5, 3, 1, 1, 1], [8, 3, 1, 32768, 32768]], false),
    ];

    const ACTIVATIONS: [Activation; 3] =
        [Activation::Silu { beta: 1.0 }, Activation::Relu, Activation::HardSigmoid { slope: 0.25, offset: 0.5 }];

    fn tensor(shape: &[usize], seed: usize) -> Tensor {
        Tensor::from_fn(shape, |index| ((index + 31 * seed).wrapping_mul(2_654_435_761) % 1009) as f32 / 504.5 - 1.0)
    }

    /// Two channels made many, an activation, the convolution, and a dense layer behind it.
    fn network(
        [groups, sources, targets]: [usize; 3],
        axes: Axes,
        is_transposed: bool,
        activation: Activation,
    ) -> Network {
        let [sources, targets] = [groups * sources, groups * targets];
        let mut builder = Network::builder();
        let extents: Vec<usize> = axes.iter().map(|axis| axis[0]).collect();
        let x = builder.input("x", [&[2], &extents[..]].concat());
        let pointwise = Window::new(vec![WindowAxis::new(1); axes.len()]).unwrap();
        let weight = tensor(&[&[sources, 2], &vec![1; axes.len()][..]].concat(), 1);
        let z = builder.conv("many", x, weight, Some(tensor(&[sources], 2)), pointwise, 1).unwrap();
        let a = builder.activation("activated", z, activation).unwrap();
        let window = window_of(axes);
        let channels = if is_transposed { [sources, targets / groups] } else { [targets, sources / groups] };
        let weight = tensor(&[&channels[..], &window.kernel()[..]].concat(), 3);
        let bias = Some(Arc::new(tensor(&[targets], 4)));
        let conv = match is_transposed {
            true => Conv::transposed(weight, bias, window, groups, vec![0; axes.len()]),
            false => Conv::new(weight, bias, window, groups),
        };
        let z = builder.layer("groups", Layer::Conv(conv.unwrap()), vec![a]).unwrap();
        let a = builder.relu("rectified", z).unwrap();
        let flat = builder.shape(a).count();
        let rows = builder.reshape("flat", a, [flat]).unwrap();
        let logits = builder.dense("head", rows, tensor(&[3, flat], 5), None).unwrap();
        builder.build(logits).unwrap()
    }

    #[test]
    fn groups_of_few_channels_agree_with_the_reference_and_have_the_same_bits_however_they_are_cut() {
        // With the usual ε a z that rounds to the other side of zero turns a share around, by any way of summing.
        let softly = Some(Stabilizer::Absolute(0.1));
        let soft = PresetOptions { epsilon: softly, stabilizer: softly, ..PresetOptions::default() };
        for (at, (groups, axes, is_transposed)) in KINDS.into_iter().enumerate() {
            let activation = ACTIVATIONS[at % ACTIVATIONS.len()];
            let network = Arc::new(network(groups, axes, is_transposed, activation));
            let preset = ["epsilon", "epsilon-plus-flat", "epsilon-alpha2-beta1", "gamma"][at % 4];
            let composite = Composite::preset_with(preset, soft).unwrap();
            let x = tensor(network.shape(network.inputs()[0].value).prepend(3).dims(), 6 + at);
            let on = |backend, threads, batch_size| {
                let options = Options { backend, threads: Some(threads), batch_size, ..Options::default() };
                explain_by(&network, &composite, options, &x)
            };
            let (found, exact) = (on(Backend::Cpu, 1, None), on(Backend::Reference, 2, None));
            let what = format!("{groups:?}, {axes:?}, {activation:?}, {preset}");
            assert_close(&found.logits, &exact.logits, &what);
            assert_close(found.input(), exact.input(), &what);
            for (threads, batch_size) in [(1, Some(1)), (2, None), (5, Some(2))] {
                let other = on(Backend::Cpu, threads, batch_size);
                assert_eq!(other.input(), found.input(), "{what}: {threads} threads");
                assert_eq!(other.logits, found.logits, "{what}: {threads} threads");
            }
        }
    }
}
