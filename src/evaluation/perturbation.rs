//! What a perturbed region becomes.

use crate::attribution::Baseline;
use crate::error::{Error, Result};
use crate::patches::Patches;
use crate::random::Stream;
use crate::tensor::Shape;

/// What a perturbed region becomes: each gives a whole sample, of which regions are taken.
#[derive(Debug, Clone, PartialEq)]
pub enum Perturbation {
    /// Given values: zero, black, or a sample.
    Baseline(Baseline),
    /// The mean of the sample's values.
    Mean,
    /// Uniform noise between the sample's least and greatest value, for each element (Samek et al. 2017).
    Uniform,
    /// The sample, each element the mean of those up to `radius` away along the axes that regions move along.
    Blur {
        /// How far the mean reaches, in elements.
        radius: usize,
    },
}

impl Default for Perturbation {
    /// Zeros.
    fn default() -> Self {
        Perturbation::Baseline(Baseline::default())
    }
}

impl Perturbation {
    pub(super) fn check(&self, shape: &Shape) -> Result<()> {
        match self {
            Perturbation::Baseline(baseline) => baseline.values(shape).map(drop),
            Perturbation::Blur { radius: 0 } => {
                Err(Error::argument("a blur of radius 0 changes nothing").help("take 1 or more"))
            }
            Perturbation::Mean | Perturbation::Uniform | Perturbation::Blur { .. } => Ok(()),
        }
    }

    /// The sample that regions are taken from.
    pub(super) fn replacement(&self, sample: &[f32], patches: &Patches, shape: &Shape, seed: u64) -> Vec<f32> {
        match self {
            // Checked to fit before.
            Perturbation::Baseline(baseline) => baseline.values(shape).unwrap_or_default(),
            Perturbation::Mean => {
                let sum: f64 = sample.iter().copied().map(f64::from).sum();
                vec![(sum / sample.len().max(1) as f64) as f32; sample.len()]
            }
            Perturbation::Uniform => {
                // Another sequence than the one that orders regions.
                let mut stream = Stream::of_sample(!seed, sample);
                let span = |(low, high): (f32, f32), &x: &f32| (low.min(x), high.max(x));
                let (low, high) = sample.iter().fold((f32::INFINITY, f32::NEG_INFINITY), span);
                sample.iter().map(|_| low + (high - low) * stream.uniform() as f32).collect()
            }
            Perturbation::Blur { radius } => {
                let axes = (0..shape.rank()).filter(|&axis| patches.moves_along(axis));
                axes.fold(sample.to_vec(), |sample, axis| blurred(&sample, shape, axis, *radius))
            }
        }
    }
}

/// The means of the elements up to `radius` away along an axis; at its ends, of those that are there.
fn blurred(sample: &[f32], shape: &Shape, axis: usize, radius: usize) -> Vec<f32> {
    let (extent, stride) = (shape.dims()[axis], shape.strides()[axis]);
    let mean = |element: usize| {
        let at = element / stride % extent;
        let (from, to) = (at.saturating_sub(radius), extent.min(at + radius + 1));
        let first = element - at * stride;
        let sum: f64 = (from..to).map(|at| f64::from(sample[first + at * stride])).sum();
        (sum / (to - from) as f64) as f32
    };
    (0..sample.len()).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(perturbation: &Perturbation, sample: &[f32], shape: [usize; 3]) -> Vec<f32> {
        let shape = Shape::new(shape);
        let patches = Patches::new(&shape, &[1, 1], &[1, 1]).unwrap();
        perturbation.replacement(sample, &patches, &shape, 3)
    }

    #[test]
    fn a_blur_is_the_mean_of_the_pixels_around_within_a_channel() {
        let sample = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0];
        let found = replaced(&Perturbation::Blur { radius: 1 }, &sample, [2, 2, 3]);
        assert_eq!(found[..3], [3.0, 3.5, 4.0]);
        assert_eq!(found[6..9], [30.0, 35.0, 40.0]);
    }

    #[test]
    fn noise_stays_in_the_samples_range_and_depends_on_seed_and_sample() {
        let sample: Vec<f32> = (0..1000).map(|i| (i % 7) as f32 - 2.0).collect();
        let noise = replaced(&Perturbation::Uniform, &sample, [1, 1, 1000]);
        assert!(noise.iter().all(|x| (-2.0..=4.0).contains(x)));
        let mean = noise.iter().sum::<f32>() / 1000.0;
        // Five standard errors: 6 / √12 / √1000.
        approx::assert_abs_diff_eq!(mean, 1.0, epsilon = 0.28);
        assert_eq!(noise, replaced(&Perturbation::Uniform, &sample, [1, 1, 1000]));
        let other: Vec<f32> = sample.iter().map(|x| x + 0.5).collect();
        assert_ne!(noise[0], replaced(&Perturbation::Uniform, &other, [1, 1, 1000])[0] - 0.5);
        assert_eq!(replaced(&Perturbation::Mean, &[1.0, 2.0, 6.0], [1, 1, 3]), [3.0; 3]);
    }
}
