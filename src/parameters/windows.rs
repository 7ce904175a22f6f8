//! Numbers that layers with windows put beside data: products of inputs that hold no x, and how many inputs are in the
//! image.

use crate::error::Result;
use crate::layers::{AveragePool, Conv, window};
use crate::rules::WeightPart;

/// The spatial extents of a layer's input and output.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extents<'a> {
    pub(super) input: &'a [usize],
    pub(super) output: &'a [usize],
}

impl Extents<'_> {
    fn inputs(&self) -> usize {
        self.input.iter().product()
    }

    fn outputs(&self) -> usize {
        self.output.iter().product()
    }
}

/// Every connection of a convolution's grids: output position, input position, window position.
fn connections(conv: &Conv, extents: Extents<'_>, mut visit: impl FnMut(usize, usize, usize)) {
    let kernel = conv.window().kernel();
    for reaches in conv.forward(extents.output) {
        window::visit(&reaches, [extents.output, extents.input, &kernel], &mut visit);
    }
}

/// Adds sign · W̃ x to d, both `[channels, spatial…]`.
///
/// Where x is one number a channel, its products with the weights are summed over channels once for each window
/// position, which leaves a sum over window positions for each output.
pub(super) fn add_convolved(conv: &Conv, x: &[f32], part: WeightPart, sign: f64, extents: Extents<'_>, d: &mut [f64]) {
    let (sources, targets, positions) = (extents.inputs(), extents.outputs(), conv.window().positions());
    let (of_group, outputs) = (conv.inputs() / conv.groups(), conv.outputs());
    let weights = conv.weight().data();
    let first_input = |output: usize| output / (outputs / conv.groups()) * of_group;
    let is_flat = x.chunks_exact(sources).all(|channel| channel.iter().all(|value| *value == channel[0]));
    if is_flat {
        let mut sums = vec![0.0; outputs * positions];
        for (output, sums) in sums.chunks_exact_mut(positions).enumerate() {
            for input in 0..of_group {
                let value = f64::from(x[(first_input(output) + input) * sources]);
                let weights = &weights[conv.weight_offset(output, input)..][..positions];
                sums.iter_mut().zip(weights).for_each(|(sum, &w)| *sum += f64::from(part.of(w)) * value);
            }
        }
        return connections(conv, extents, |target, _, position| {
            for output in 0..outputs {
                d[output * targets + target] += sign * sums[output * positions + position];
            }
        });
    }
    connections(conv, extents, |target, source, position| {
        for output in 0..outputs {
            let products = (0..of_group).map(|input| {
                let w = part.of(weights[conv.weight_offset(output, input) + position]);
                f64::from(w) * f64::from(x[(first_input(output) + input) * sources + source])
            });
            d[output * targets + target] += sign * products.sum::<f64>();
        }
    });
}

/// Adds sign · W̃ x of an average pool to d, both `[channels, spatial…]`.
///
/// # Errors
/// If the window does not fit.
pub(super) fn add_pooled(
    pool: &AveragePool,
    x: &[f32],
    part: WeightPart,
    sign: f64,
    extents: Extents<'_>,
    d: &mut [f64],
) -> Result<()> {
    let weights = pool.weights(extents.input)?;
    let kernel = pool.window().kernel();
    let reaches = pool.forward(extents.output);
    for (x, d) in x.chunks_exact(extents.inputs()).zip(d.chunks_exact_mut(extents.outputs())) {
        window::visit(&reaches, [extents.output, extents.input, &kernel], &mut |target, source, _| {
            d[target] += sign * f64::from(part.of(weights[target])) * f64::from(x[source]);
        });
    }
    Ok(())
}

/// 1 / N for each output of a convolution.
pub(super) fn evenly_convolved(conv: &Conv, extents: Extents<'_>) -> Vec<f32> {
    let mut counts = vec![0_usize; extents.outputs()];
    connections(conv, extents, |target, _, _| counts[target] += conv.inputs() / conv.groups());
    over_channels(&counts, conv.outputs())
}

/// 1 / N for each output of an average pool over `channels`.
pub(super) fn evenly_pooled(pool: &AveragePool, channels: usize, extents: Extents<'_>) -> Vec<f32> {
    let mut counts = vec![0_usize; extents.outputs()];
    let kernel = pool.window().kernel();
    let reaches = pool.forward(extents.output);
    window::visit(&reaches, [extents.output, extents.input, &kernel], &mut |target, _, _| counts[target] += 1);
    over_channels(&counts, channels)
}

/// 1 / count at each position of every channel; 0 where nothing is in the image.
fn over_channels(counts: &[usize], channels: usize) -> Vec<f32> {
    let of = |&count: &usize| if count == 0 { 0.0 } else { 1.0 / count as f32 };
    (0..channels).flat_map(|_| counts.iter().map(of)).collect()
}
