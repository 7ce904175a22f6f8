//! Integrated gradients (Sundararajan, Taly and Yan 2017, arXiv:1703.01365).
//!
//! R_i = (x_i − b_i) · 1/n Σ_{k=1…n} ∂f/∂x_i (b + k/n (x − b)): the right Riemann sum, as zennit takes it. With n its sum
//! goes to f(x) − f(b): relevance is complete.

use super::check_request;
use super::mean::{Variant, mean};
use crate::attribution::Baseline;
use crate::error::{Error, Result};
use crate::explain::{Explainer, Input, Request};
use crate::network::InputKind;
use crate::relevance::Relevance;

/// The mean of a composite's relevance along the straight path from a baseline, times the way from there.
///
/// Under another composite than `gradient` its relevance takes the gradient's place, as in zennit; a rule that multiplies
/// by its input does so before.
#[derive(Debug, Clone, PartialEq)]
pub struct IntegratedGradients {
    /// n, the steps of the path; the last is the sample itself.
    pub steps: usize,
    /// b, where the path begins.
    pub baseline: Baseline,
    /// Rows of a batch: steps of samples that go through together; chosen to fit memory if not given. No result depends
    /// on it.
    pub rows: Option<usize>,
}

impl Default for IntegratedGradients {
    /// 20 steps from zeros, as in zennit.
    fn default() -> Self {
        IntegratedGradients { steps: 20, baseline: Baseline::default(), rows: None }
    }
}

impl IntegratedGradients {
    pub(super) fn check(&self, explainer: &Explainer, request: &Request) -> Result<()> {
        check_request(request, "integrated gradients")?;
        if self.steps == 0 {
            return Err(Error::argument("integrated gradients of 0 steps").help("take 1 step or more"));
        }
        self.baselines(explainer).map(drop)
    }

    /// b of each input; nothing for integers.
    fn baselines(&self, explainer: &Explainer) -> Result<Vec<Option<Vec<f32>>>> {
        let network = explainer.network();
        let of_input = |input: &crate::network::Input| match input.kind {
            InputKind::Float => self.baseline.values(network.shape(input.value)).map(Some),
            InputKind::Integer => Ok(None),
        };
        network.inputs().iter().map(of_input).collect()
    }

    pub(super) fn explain(&self, explainer: &Explainer, inputs: &[Input<'_>], request: &Request) -> Result<Relevance> {
        self.check(explainer, request)?;
        let baselines = self.baselines(explainer)?;
        let on_path = |Variant { step, input }: Variant, sample: &mut [f32]| {
            let alpha = (step + 1) as f32 / self.steps as f32;
            let Some(baseline) = &baselines[input] else { return };
            sample.iter_mut().zip(baseline).for_each(|(x, b)| *x = b + alpha * (*x - b));
        };
        let mut relevance = mean(explainer, inputs, request, (self.steps, self.rows), on_path)?;
        let targets = relevance.targets.count() / relevance.targets.rows();
        let floats = inputs.iter().zip(&baselines).filter_map(|(input, baseline)| match (input, baseline) {
            (Input::Float(input), Some(baseline)) => Some((input.data(), baseline)),
            (Input::Float(_) | Input::Integer(_), _) => None,
        });
        for ((input, baseline), found) in floats.zip(&mut relevance.inputs) {
            let width = baseline.len().max(1);
            for (row, relevance) in found.relevance.data_mut().chunks_exact_mut(width).enumerate() {
                let sample = &input[row / targets * width..][..width];
                relevance.iter_mut().zip(sample.iter().zip(baseline)).for_each(|(r, (x, b))| *r *= x - b);
            }
        }
        Ok(relevance)
    }
}
