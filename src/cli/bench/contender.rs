//! A backend that takes part, and the check that its relevance is right.

use relprop::{Backend, Error, ErrorKind, Explainer, Input, Options, Relevance, Request, Result, Targets, Tensor};

use super::samples::Samples;
use crate::cli::agreement::{distances, median_and_worst};
use crate::cli::engine::BackendChoice;
use crate::cli::interrupt;
use crate::cli::model::Model;
use crate::cli::source::Values;

/// Samples that are checked, where the reference is quick enough.
const MOST_CHECKED: usize = 16;
/// Floating-point operations that the reference is given unasked: some seconds.
const MOST_OPERATIONS: u64 = 1_000_000_000;
/// How far the middle sample's relevance may lie from float64.
const MEDIAN: f64 = 1e-5;
/// How far any sample's may, unless float32 itself moves it farther.
const WORST: f64 = 1e-4;
/// How many times as far as its own input's rounding moves it.
const SLACK: f64 = 3.0;

/// A backend that takes part.
#[derive(Debug)]
pub struct Contender {
    /// The model on it.
    pub explainer: Explainer,
    /// What it computes on, in words.
    pub adapter: String,
    /// What another network is explained with on the same backend.
    pub options: Options,
}

impl Contender {
    /// Starts a backend; `steps` tells whether each step is timed, which slows short ones down on a device.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(choice: &BackendChoice, model: &Model, threads: Option<usize>, steps: bool) -> Result<Self> {
        let mut options = Options { threads, ..choice.options()? };
        #[cfg(feature = "gpu")]
        {
            options.device.profile = steps;
        }
        #[cfg(not(feature = "gpu"))]
        let _ = steps;
        let explainer = Explainer::with_options(model.network.clone(), &model.composite, options.clone())?;
        options.backend = explainer.backend();
        #[cfg(feature = "gpu")]
        {
            options.gpu = explainer.gpu().cloned();
        }
        Ok(Contender { adapter: explainer.adapter(), explainer, options })
    }

    /// What it is called where several are compared.
    pub fn name(&self) -> String {
        format!("{} {}", self.explainer.backend(), self.adapter)
    }
}

/// The float64 reference's answer on a few samples, which every contender must give too.
#[derive(Debug)]
pub struct Judge {
    values: Vec<Values>,
    expected: Relevance,
    targets: Targets,
    /// How far each sample's relevance moves when its input is rounded otherwise.
    moved: Vec<f64>,
}

impl Judge {
    /// Asks the reference about as many samples as it explains in seconds; if it takes longer for one, only where that
    /// `is_wanted`.
    ///
    /// # Errors
    /// If the model cannot be explained.
    pub fn new(model: &Model, samples: &Samples, is_wanted: bool) -> Result<Option<Self>> {
        let reference = Explainer::new(model.network.clone(), &model.composite, Backend::Reference)?;
        let plan = reference.plan(&Request::new(Targets::ArgMax))?;
        let operations = plan.cost(reference.network(), 1).operations.max(1);
        if operations > MOST_OPERATIONS && !is_wanted {
            return Ok(None);
        }
        let checked = usize::try_from(MOST_OPERATIONS / operations).unwrap_or(MOST_CHECKED).clamp(1, MOST_CHECKED);
        let values = samples.batch(checked)?;
        let expected = explain(&reference, &values, &Targets::ArgMax)?;
        let targets = Targets::Each(expected.targets.data().to_vec());
        interrupt::check()?;
        let nudged: Vec<Values> = values.iter().map(nudge).collect();
        let moved = distances(&explain(&reference, &nudged, &targets)?, &expected);
        Ok(Some(Judge { values, expected, targets, moved }))
    }

    /// Compares a contender's relevance with the reference's, and says how near it is.
    ///
    /// # Errors
    /// [`ErrorKind::Data`] if it is wrong; other kinds if the contender cannot explain.
    pub fn check(&self, contender: &Contender) -> Result<String> {
        let relevance = explain(&contender.explainer, &self.values, &self.targets)?;
        let name = contender.name();
        if contender.explainer.backend() == Backend::Gpu && relevance.run.dispatches == 0 {
            return Err(Error::new(ErrorKind::Data, format!("{name} ran no kernel"))
                .help("this is a fault in relprop; please report it with what `relprop devices` prints"));
        }
        let found = distances(&relevance, &self.expected);
        let (median, worst) = median_and_worst(found.clone());
        let spread = format!("{median:.1e} (median) and {worst:.1e} (worst) of float64 on {} samples", found.len());
        if is_right(&found, &self.moved) {
            return Ok(format!("checked {name}: relevance is within {spread}"));
        }
        Err(Error::new(ErrorKind::Data, format!("{name}: relevance is wrong, only within {spread}"))
            .help("nothing was timed; report this with the model, or leave the backend out with --backend"))
    }
}

/// Whether samples' distances from float64 are what float32 can do, where rounding the input alone moves them by `moved`.
fn is_right(found: &[f64], moved: &[f64]) -> bool {
    let middle = |numbers: &[f64]| median_and_worst(numbers.to_vec()).0;
    let is_near = |(&found, &moved): (&f64, &f64)| found <= WORST.max(SLACK * moved);
    middle(found) <= MEDIAN.max(SLACK * middle(moved)) && found.iter().zip(moved).all(is_near)
}

fn explain(explainer: &Explainer, values: &[Values], targets: &Targets) -> Result<Relevance> {
    let inputs: Vec<Input<'_>> = values.iter().map(Values::input).collect();
    explainer.explain(&inputs, targets)
}

/// The values with every real number moved to a neighbour that float32 has: what rounding an input does. How far this
/// moves relevance says how much of a distance is float32's own, on a network where that is much.
fn nudge(values: &Values) -> Values {
    match values {
        Values::Float(tensor) => {
            let neighbour = |position: usize| {
                let x = tensor.data()[position];
                // No pattern of a period that layers share.
                if position.wrapping_mul(2_654_435_761) & 64 == 0 { x.next_up() } else { x.next_down() }
            };
            Values::Float(Tensor::from_fn(tensor.shape().clone(), neighbour))
        }
        Values::Integer(tensor) => Values::Integer(tensor.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_beyond_float32_are_wrong() {
        let moved = [1e-7; 3];
        assert!(is_right(&[1e-7, 9e-5, 1e-6], &moved));
        assert!(!is_right(&[1e-7, 2e-4, 1e-6], &moved), "the worst sample");
        assert!(!is_right(&[2e-5, 2e-5, 1e-6], &moved), "the middle sample");
        assert!(!is_right(&[f64::NAN, 1e-7, 1e-6], &moved));
        assert!(is_right(&[1e-7, 2e-4, 1e-6], &[1e-7, 1e-4, 1e-7]), "a sample that rounding moves");
    }
}
