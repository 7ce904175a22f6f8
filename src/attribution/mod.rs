//! Attribution beside LRP, composed with any composite: integrated gradients, SmoothGrad and occlusion, as zennit's attributors.
//!
//! Under the composite `gradient` they are the methods of their papers; under another, its relevance takes the gradient's
//! place. Steps, noises and windows are rows of large batches on the explainer's backend. Targets are chosen once, by the
//! logits of the samples as they are; the start is a function of each row's own logits, as in zennit.
//!
//! ```
//! use relprop::attribution::{Attributor, IntegratedGradients};
//! use relprop::{Backend, Composite, Explainer, Input, Network, Request, Targets, Tensor};
//!
//! let mut builder = Network::builder();
//! let x = builder.input("x", [2]);
//! let y = builder.dense("fc", x, Tensor::new([1, 2], vec![3.0, -1.0])?, None)?;
//! let explainer = Explainer::new(builder.build(y)?, &Composite::preset("gradient")?, Backend::Cpu)?;
//!
//! let samples = Tensor::new([1, 2], vec![1.0, 2.0])?;
//! let method = Attributor::IntegratedGradients(IntegratedGradients::default());
//! let relevance = method.explain(&explainer, &[Input::from(&samples)], &Request::new(Targets::ArgMax))?;
//! // Of a linear function the path gives w (x − baseline).
//! approx::assert_abs_diff_eq!(relevance.input().data()[0], 3.0, epsilon = 1e-5);
//! approx::assert_abs_diff_eq!(relevance.input().data()[1], -2.0, epsilon = 1e-5);
//! # Ok::<(), relprop::Error>(())
//! ```

mod baseline;
mod integrated_gradients;
mod mean;
mod occlusion;
mod smooth_grad;

use crate::error::{Error, Result};
use crate::explain::{Explainer, Input, Request};
use crate::relevance::Relevance;

pub use baseline::Baseline;
pub use integrated_gradients::IntegratedGradients;
pub use occlusion::{Occlusion, Shows};
pub use smooth_grad::SmoothGrad;

/// A method of attribution over an [`Explainer`].
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Attributor {
    /// The composite's relevance itself, by one pass back: [`Explainer::explain_with`].
    #[default]
    Gradient,
    /// Its mean along a path from a baseline.
    IntegratedGradients(IntegratedGradients),
    /// Its mean under noise.
    SmoothGrad(SmoothGrad),
    /// What the score loses where a window is covered.
    Occlusion(Occlusion),
}

impl Attributor {
    /// The attribution of every input element for each target, shaped as [`Explainer::explain_with`] gives it.
    ///
    /// # Errors
    /// As [`Explainer::explain_with`], and those of [`check`](Self::check).
    pub fn explain(&self, explainer: &Explainer, inputs: &[Input<'_>], request: &Request) -> Result<Relevance> {
        match self {
            Attributor::Gradient => explainer.explain_with(inputs, request),
            Attributor::IntegratedGradients(method) => method.explain(explainer, inputs, request),
            Attributor::SmoothGrad(method) => method.explain(explainer, inputs, request),
            Attributor::Occlusion(method) => method.explain(explainer, inputs, request),
        }
    }

    /// Checks the method's parameters against a network and a request, before long work.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`](crate::ErrorKind::Argument) for parameters out of range, and for a request that the method
    /// cannot serve; [`ErrorKind::Shape`](crate::ErrorKind::Shape) for a baseline or window that does not fit the inputs.
    pub fn check(&self, explainer: &Explainer, request: &Request) -> Result<()> {
        match self {
            Attributor::Gradient => Ok(()),
            Attributor::IntegratedGradients(method) => method.check(explainer, request),
            Attributor::SmoothGrad(method) => method.check(request),
            Attributor::Occlusion(method) => method.check(explainer, request).map(drop),
        }
    }

    /// How many times a sample goes through the network for one target.
    pub fn passes(&self, explainer: &Explainer) -> usize {
        match self {
            Attributor::Gradient => 1,
            Attributor::IntegratedGradients(method) => method.steps,
            Attributor::SmoothGrad(method) => method.steps,
            Attributor::Occlusion(method) => method.passes(explainer),
        }
    }
}

/// Refuses what only one pass back can give.
fn check_request(request: &Request, method: &str) -> Result<()> {
    if request.keep.is_empty() && !request.report {
        return Ok(());
    }
    Err(Error::argument(format!("{method} takes many passes: it gives no report and no relevance of inner values"))
        .help("ask for them with one pass back, the attributor `gradient`"))
}
