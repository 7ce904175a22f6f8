//! The order in which regions are perturbed.

use crate::error::{Error, ErrorKind, Result};
use crate::patches::Patches;
use crate::random::Stream;
use crate::tensor::{Shape, Tensor};

/// Which regions go first. Relevance is `[samples, …sample]`, or that of one sample without its leading axis; a region's is
/// the sum over its elements. Of equals the first goes first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Order<'a> {
    /// MoRF: a good explanation makes the score fall at once.
    MostRelevantFirst(&'a Tensor),
    /// LeRF: a good explanation keeps the score up, or lets it rise, until the end.
    LeastRelevantFirst(&'a Tensor),
    /// By chance, each sample in an order of its own: what both are compared with.
    Random,
}

/// The orders of all samples.
pub(super) enum Ranked {
    Known(Vec<Vec<usize>>),
    Random(usize),
}

impl Order<'_> {
    /// The regions of each sample in this order.
    pub(super) fn ranked(self, patches: &Patches, shape: &Shape, samples: usize, absolute: bool) -> Result<Ranked> {
        let (relevance, is_most) = match self {
            Order::MostRelevantFirst(relevance) => (relevance, true),
            Order::LeastRelevantFirst(relevance) => (relevance, false),
            Order::Random => return Ok(Ranked::Random(patches.len())),
        };
        let is_one = samples == 1 && relevance.shape() == shape;
        if *relevance.shape() != shape.prepend(samples) && !is_one {
            let message = format!("relevance of shape {} is not of {samples} samples of {shape}", relevance.shape());
            return Err(Error::shape(message).help("give the relevance of these very samples, one value an element"));
        }
        let width = shape.count();
        if let Some(position) = relevance.data().iter().position(|r| !r.is_finite()) {
            let (value, sample) = (relevance.data()[position], position / width);
            let message = format!("relevance holds {value} in sample {sample}, element {}", position % width);
            return Err(Error::new(ErrorKind::Data, message).help("only finite numbers have an order"));
        }
        let of_sample = |relevance: &[f32]| {
            let size = |r: &f32| if absolute { f64::from(r.abs()) } else { f64::from(*r) };
            let of_region =
                |region| patches.runs(region).into_iter().flat_map(|run| &relevance[run]).map(size).sum::<f64>();
            let sums: Vec<f64> = (0..patches.len()).map(of_region).collect();
            let mut order: Vec<usize> = (0..patches.len()).collect();
            // A stable sort keeps equals in their places.
            order.sort_by(|&a, &b| if is_most { sums[b].total_cmp(&sums[a]) } else { sums[a].total_cmp(&sums[b]) });
            order
        };
        Ok(Ranked::Known(relevance.data().chunks_exact(width.max(1)).map(of_sample).collect()))
    }
}

impl Ranked {
    /// The regions of a sample, of which `values` are the elements.
    pub(super) fn of_sample(&self, sample: usize, seed: u64, values: &[f32]) -> Vec<usize> {
        match self {
            Ranked::Known(orders) => orders[sample].clone(),
            Ranked::Random(regions) => Stream::of_sample(seed, values).shuffled(*regions),
        }
    }
}
