//! Convolutions of groups with few channels, a target at a time along its channels.

use super::chain::{self, Chain};
use super::convolve::Convolution;
use super::simd::{self, Level, Loop};
use crate::plan::Operand;

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
    let (of_group, to_group) = (channels.source_group(), channels.target_group());
    let count = conv.lattice.count();
    let (mut read, mut spread) = (vec![0.0; channels.source], vec![0.0; channels.target]);
    for (position, target) in targets.chunks_exact_mut(channels.target).enumerate() {
        let (row, position) = ((first + position) / count, (first + position) % count);
        let elements = chain.row(source.buffer, row);
        target.fill(0.0);
        conv.lattice.visit(position, |from, tap| {
            chain::read(&source, &elements[from * channels.source..][..channels.source], &mut read);
            for channel in 0..of_group {
                let x = if channels.source == channels.target && of_group == 1 {
                    &read
                } else {
                    let sources = read[channel..].iter().step_by(of_group);
                    let groups = sources.zip(spread.chunks_exact_mut(to_group));
                    groups.for_each(|(&x, spread)| spread.fill(x));
                    &spread
                };
                let w = &weights[(tap * of_group + channel) * channels.target..][..channels.target];
                simd::run(Level::widest(), Add { x, w, sums: target });
            }
        });
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
        for ((&x, &w), sum) in self.x.iter().zip(self.w).zip(self.sums) {
            *sum = if FUSED { x.mul_add(w, *sum) } else { x * w + *sum };
        }
    }
}
