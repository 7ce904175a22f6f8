//! Convolutions of groups with few channels, a target at a time along its channels.

use super::chain::{self, Chain};
use super::convolve::Convolution;
use super::functions::{self, Function, WithFunction};
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
    let is_depthwise = channels.groups == channels.source && channels.source == channels.target;
    let count = conv.lattice.count();
    let mut taps = Vec::new();
    let mut spread = Spread { read: vec![0.0; channels.source], across: vec![0.0; channels.target] };
    for (position, target) in targets.chunks_exact_mut(channels.target).enumerate() {
        let (row, position) = ((first + position) / count, (first + position) % count);
        let elements = chain.row(source.buffer, row);
        taps.clear();
        conv.lattice.visit(position, |from, tap| taps.push((from * channels.source, tap)));
        if is_depthwise {
            let sum = Depthwise { elements, weights, taps: &taps, target };
            chain::through(source.activation, source.part, sum);
        } else {
            spread.sum(conv, &source, elements, weights, &taps, target);
        }
    }
}

/// One target, each of whose channels reads its own of the source.
struct Depthwise<'a> {
    elements: &'a [f32],
    weights: &'a [f32],
    /// Where the source's channels begin, and the window's position.
    taps: &'a [(usize, usize)],
    target: &'a mut [f32],
}

impl WithFunction for Depthwise<'_> {
    fn run(self, f: impl Function) {
        struct Body<'a, F>(Depthwise<'a>, F);
        impl<F: Function> Loop for Body<'_, F> {
            #[inline(always)]
            fn run<const FUSED: bool, const LANES: usize>(self) {
                let Body(Depthwise { elements, weights, taps, target }, f) = self;
                let channels = target.len();
                let (blocks, rest) = target.as_chunks_mut::<CHANNELS>();
                for (block, target) in blocks.iter_mut().enumerate() {
                    let mut sums = [0.0; CHANNELS];
                    for &(from, tap) in taps {
                        let x = elements[from + block * CHANNELS..].first_chunk::<CHANNELS>();
                        let w = &weights[tap * channels + block * CHANNELS..][..CHANNELS];
                        let x = f.of_all(*x.expect("blocks end within the channels"));
                        add::<FUSED>(&mut sums, &x, w, functions::Identity);
                    }
                    *target = sums;
                }
                let first = channels - rest.len();
                rest.fill(0.0);
                for &(from, tap) in taps {
                    let x = &elements[from + first..][..rest.len()];
                    add::<FUSED>(rest, x, &weights[tap * channels + first..][..rest.len()], f);
                }
            }
        }
        simd::run(Level::widest(), Body(self, f));
    }
}

/// sums ← sums + f(x) w.
#[inline(always)]
fn add<const FUSED: bool>(sums: &mut [f32], x: &[f32], w: &[f32], f: impl Function) {
    for ((sum, &x), &w) in sums.iter_mut().zip(x).zip(w) {
        let x = f.of(x);
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
            chain::read(source, &elements[from..][..channels.source], &mut self.read);
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
        add::<FUSED>(self.sums, self.x, self.w, functions::Identity);
    }
}
