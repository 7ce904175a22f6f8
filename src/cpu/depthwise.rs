//! Convolutions of groups with few channels, a target at a time along its channels.

use super::chain::Chain;
use super::convolve::Convolution;
use super::functions::{Function, WithFunction};
use super::lattice::{Sources, Walk};
use super::loops;
use super::simd::{self, Level, Loop};
use crate::plan::Operand;

/// Channels whose sums stay in registers.
const CHANNELS: usize = 32;

/// Makes the targets from position `first` on, without the chain. `weights` are
/// `[window position][channel of the group][target channel]`.
pub(super) fn run(
    chain: &Chain<'_>,
    source: Operand,
    conv: &Convolution,
    weights: &[f32],
    first: usize,
    targets: &mut [f32],
) {
    let channels = conv.channels;
    if channels.groups == channels.source && channels.source == channels.target {
        let part = Depthwise { chain, source, conv, weights, first, targets };
        return loops::through(source.activation, source.part, part);
    }
    let mut walk = Walk::new(&conv.lattice, first);
    let mut spread = Spread { read: vec![0.0; channels.source], across: vec![0.0; channels.target] };
    for target in targets.chunks_exact_mut(channels.target) {
        let Sources { row, taps, offset, .. } = walk.next();
        let elements = &chain.row(source.buffer, row)[offset * channels.source..];
        spread.sum(conv, &source, elements, weights, taps, target);
    }
}

/// Targets each of whose channels reads its own of the source.
struct Depthwise<'a> {
    chain: &'a Chain<'a>,
    source: Operand,
    conv: &'a Convolution,
    weights: &'a [f32],
    first: usize,
    targets: &'a mut [f32],
}

impl WithFunction for Depthwise<'_> {
    fn run(self, f: impl Function) {
        struct Body<'a, F>(Depthwise<'a>, F);
        impl<F: Function> Loop for Body<'_, F> {
            #[inline(always)]
            fn run<const FUSED: bool, const LANES: usize>(self) {
                let Body(Depthwise { chain, source, conv, weights, first, targets }, f) = self;
                let channels = conv.channels.source;
                let mut walk = Walk::new(&conv.lattice, first);
                for target in targets.chunks_exact_mut(channels) {
                    let Sources { row, taps, offset, .. } = walk.next();
                    let elements = &chain.row(source.buffer, row)[offset * channels..];
                    let (blocks, rest) = target.as_chunks_mut::<CHANNELS>();
                    let at = blocks.len() * CHANNELS;
                    for (block, target) in blocks.iter_mut().enumerate() {
                        *target = sum::<CHANNELS, FUSED>(f, elements, weights, taps, block * CHANNELS, channels);
                    }
                    let (blocks, rest) = rest.as_chunks_mut::<8>();
                    for (block, target) in blocks.iter_mut().enumerate() {
                        *target = sum::<8, FUSED>(f, elements, weights, taps, at + block * 8, channels);
                    }
                    let at = at + blocks.len() * 8;
                    for (block, target) in rest.iter_mut().enumerate() {
                        [*target] = sum::<1, FUSED>(f, elements, weights, taps, at + block, channels);
                    }
                }
            }
        }
        simd::run(Level::widest(), Body(self, f));
    }
}

/// `N` channels of a target from `first` on.
#[inline(always)]
fn sum<const N: usize, const FUSED: bool>(
    f: impl Function,
    elements: &[f32],
    weights: &[f32],
    taps: &[(usize, usize)],
    first: usize,
    channels: usize,
) -> [f32; N] {
    let mut sums = [0.0; N];
    for &(source, tap) in taps {
        let x = elements[source * channels + first..].first_chunk::<N>().expect("blocks end within the channels");
        let w = weights[tap * channels + first..].first_chunk::<N>().expect("blocks end within the channels");
        add::<FUSED>(&mut sums, &f.of_all(*x), w);
    }
    sums
}

/// sums ← sums + x w.
#[inline(always)]
fn add<const FUSED: bool>(sums: &mut [f32], x: &[f32], w: &[f32]) {
    for ((sum, &x), &w) in sums.iter_mut().zip(x).zip(w) {
        *sum = if FUSED { x.mul_add(w, *sum) } else { x * w + *sum };
    }
}

/// The channels of a source position, as it stores them and spread over the target channels that read them.
struct Spread {
    read: Vec<f32>,
    across: Vec<f32>,
}

impl Spread {
    fn sum(
        &mut self,
        conv: &Convolution,
        source: &Operand,
        elements: &[f32],
        weights: &[f32],
        taps: &[(usize, usize)],
        target: &mut [f32],
    ) {
        let channels = conv.channels;
        let (of_group, to_group) = (channels.source_group(), channels.target_group());
        target.fill(0.0);
        for &(from, tap) in taps {
            loops::read(source, &elements[from * channels.source..][..channels.source], &mut self.read);
            for channel in 0..of_group {
                let groups = self.read[channel..].iter().step_by(of_group).zip(self.across.chunks_exact_mut(to_group));
                groups.for_each(|(&x, across)| across.fill(x));
                let w = &weights[(tap * of_group + channel) * channels.target..][..channels.target];
                simd::run(Level::widest(), Add { x: &self.across, w, sums: target });
            }
        }
    }
}

/// sums ← sums + x w.
struct Add<'a> {
    x: &'a [f32],
    w: &'a [f32],
    sums: &'a mut [f32],
}

impl Loop for Add<'_> {
    #[inline(always)]
    fn run<const FUSED: bool, const LANES: usize>(self) {
        add::<FUSED>(self.sums, self.x, self.w);
    }
}
