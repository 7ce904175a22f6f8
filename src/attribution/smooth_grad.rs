//! SmoothGrad (Smilkov, Thorat, Kim, Viégas and Wattenberg 2017, arXiv:1706.03825).
//!
//! R = 1/n Σ_{k=1…n} ∂f/∂x (x + ε_k), ε_k ~ N(0, σ²) with σ = noise · (max x − min x) of the sample. ε_n is zero, as in
//! zennit, so that n = 1 is the gradient.

use super::check_request;
use super::mean::{Variant, mean};
use crate::error::{Error, Result};
use crate::explain::{Explainer, Input, Request};
use crate::network::InputKind;
use crate::random::Stream;
use crate::relevance::Relevance;

/// The mean of a composite's relevance under normal noise on the input.
///
/// The noise depends on the seed, the step and the element alone: every sample gets the same, stretched to its own range,
/// so that its relevance does not depend on its neighbours or its place.
#[derive(Debug, Clone, PartialEq)]
pub struct SmoothGrad {
    /// n, how many noises the mean is over; the last is none.
    pub steps: usize,
    /// σ / (max x − min x), taken for each sample and input.
    pub noise: f32,
    /// What the noise is drawn from.
    pub seed: u64,
    /// Rows of a batch: noises of samples that go through together; chosen to fit memory if not given. No result depends
    /// on it.
    pub rows: Option<usize>,
}

impl Default for SmoothGrad {
    /// 20 noises at a level of 0.1, as in zennit.
    fn default() -> Self {
        SmoothGrad { steps: 20, noise: 0.1, seed: 0, rows: None }
    }
}

impl SmoothGrad {
    pub(super) fn check(&self, request: &Request) -> Result<()> {
        check_request(request, "SmoothGrad")?;
        if self.steps == 0 {
            return Err(Error::argument("SmoothGrad of 0 noises").help("take 1 or more"));
        }
        if !(self.noise.is_finite() && self.noise >= 0.0) {
            return Err(Error::argument(format!("a noise level of {}", self.noise))
                .help("give a number of zero or more, such as 0.1"));
        }
        Ok(())
    }

    pub(super) fn explain(&self, explainer: &Explainer, inputs: &[Input<'_>], request: &Request) -> Result<Relevance> {
        self.check(request)?;
        let noises = self.noises(explainer);
        let disturbed = |Variant { step, input }: Variant, sample: &mut [f32]| {
            let span = |(low, high): (f32, f32), &x: &f32| (low.min(x), high.max(x));
            let (low, high) = sample.iter().fold((f32::INFINITY, f32::NEG_INFINITY), span);
            let sigma = self.noise * (high - low);
            sample.iter_mut().zip(&noises[input][step]).for_each(|(x, noise)| *x += sigma * noise);
        };
        mean(explainer, inputs, request, (self.steps, self.rows), disturbed)
    }

    /// ε / σ of every step but the last, for each input; nothing for integers.
    fn noises(&self, explainer: &Explainer) -> Vec<Vec<Vec<f32>>> {
        let network = explainer.network();
        let of_input = |(position, input): (usize, &crate::network::Input)| {
            let width = match input.kind {
                InputKind::Float => network.shape(input.value).count(),
                InputKind::Integer => 0,
            };
            let of_step = |step: usize| {
                let mut stream = Stream::new(self.seed, (position * self.steps + step) as u64);
                (0..width).map(|_| stream.normal() as f32).collect()
            };
            (0..self.steps - 1).map(of_step).collect()
        };
        network.inputs().iter().enumerate().map(of_input).collect()
    }
}
