//! How well relevance explains: pixel flipping, which perturbs the regions of a sample in an order and watches the score.
//!
//! Relevance that is right about what counts makes the score fall fast where the most relevant regions go first (MoRF), and
//! slowly where the least relevant do (LeRF). Samek, Binder, Montavon, Lapuschkin and Müller 2017, "Evaluating the
//! Visualization of What a Deep Neural Network Has Learned" (arXiv:1509.06321), whose areas [`Curves`] gives; with regions
//! of one pixel it is Bach et al.'s pixel flipping (2015), and what Quantus calls `PixelFlipping`.
//!
//! ```
//! use relprop::evaluation::{Order, PixelFlipping};
//! use relprop::{Backend, Composite, Explainer, Input, Network, Targets, Tensor};
//!
//! let mut builder = Network::builder();
//! let x = builder.input("x", [3]);
//! let y = builder.dense("fc", x, Tensor::new([1, 3], vec![1.0, 2.0, 4.0])?, None)?;
//! let explainer = Explainer::new(builder.build(y)?, &Composite::preset("epsilon")?, Backend::Cpu)?;
//!
//! let samples = Tensor::new([1, 3], vec![1.0, 1.0, 1.0])?;
//! let inputs = [Input::from(&samples)];
//! let relevance = explainer.explain(&inputs, &Targets::ArgMax)?;
//! let order = Order::MostRelevantFirst(relevance.input());
//! let curves = PixelFlipping::new([1]).curves(&explainer, &inputs, &Targets::ArgMax, order)?;
//! // 4, 2 and 1 are set to zero, one after the other.
//! assert_eq!(curves.scores.data(), [7.0, 3.0, 1.0, 0.0]);
//! # Ok::<(), relprop::Error>(())
//! ```

mod curves;
mod order;
mod perturbation;

use crate::error::{Error, ErrorKind, Result};
use crate::explain::{Explainer, Input};
use crate::network::InputKind;
use crate::patches::Patches;
use crate::start::{Start, Targets};
use crate::tensor::{Shape, Tensor};
use crate::variants::Variants;

pub use curves::Curves;
pub use order::Order;
pub use perturbation::Perturbation;

/// How samples are perturbed, and what is watched.
///
/// The network has one input of real numbers; integers stay as they are. Perturbed samples are rows of large batches on
/// the explainer's backend, by the forward pass alone.
#[derive(Debug, Clone, PartialEq)]
pub struct PixelFlipping {
    /// The extents of a region along the last axes of a sample; it reaches over the whole of the axes before them, so that
    /// [1, 1] is a pixel of [channels, rows, columns] with all its channels. Regions tile the sample; those at its ends are
    /// smaller where the extents do not divide it.
    pub region: Vec<usize>,
    /// Regions perturbed in a step: Quantus' `features_in_step`.
    pub per_step: usize,
    /// L, how many steps; until everything is perturbed if not given.
    pub steps: Option<usize>,
    /// What a perturbed region becomes: Quantus' `perturb_baseline`.
    pub perturbation: Perturbation,
    /// What is watched.
    pub score: Score,
    /// Whether regions are ordered by Σ |R| instead of Σ R: Quantus' `abs`.
    pub absolute: bool,
    /// What random orders and noise are drawn from, together with the sample's own values: a sample's curve does not depend
    /// on its neighbours or its place.
    pub seed: u64,
    /// Rows of a batch: steps of samples that go through together; chosen to fit memory if not given. No result depends
    /// on it.
    pub rows: Option<usize>,
}

/// What is watched of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Score {
    /// Its logit.
    #[default]
    Logit,
    /// The model's probability: [`Start::Probability`].
    Probability,
}

impl Score {
    fn start(self) -> Start {
        match self {
            Score::Logit => Start::Logit,
            Score::Probability => Start::Probability,
        }
    }
}

/// The input whose regions are perturbed.
struct Perturbed {
    position: usize,
    shape: Shape,
    patches: Patches,
}

impl PixelFlipping {
    /// Regions one a step, set to zero, until everything is.
    pub fn new(region: impl Into<Vec<usize>>) -> Self {
        PixelFlipping {
            region: region.into(),
            per_step: 1,
            steps: None,
            perturbation: Perturbation::default(),
            score: Score::default(),
            absolute: false,
            seed: 0,
            rows: None,
        }
    }

    /// How many regions a sample has.
    ///
    /// # Errors
    /// If the network has not one input of real numbers, or regions do not fit it.
    pub fn regions(&self, explainer: &Explainer) -> Result<usize> {
        self.perturbed(explainer).map(|input| input.patches.len())
    }

    /// L: how many steps are taken. Curves have one score more, that of the sample itself.
    ///
    /// # Errors
    /// As [`regions`](Self::regions), and for more steps than there are regions to perturb.
    pub fn steps(&self, explainer: &Explainer) -> Result<usize> {
        let regions = self.regions(explainer)?;
        if self.per_step == 0 {
            return Err(Error::argument("0 regions a step perturb nothing").help("take 1 or more"));
        }
        let all = regions.div_ceil(self.per_step);
        match self.steps {
            None => Ok(all),
            Some(0) => Err(Error::argument("0 steps perturb nothing").help("take 1 or more")),
            Some(steps) if steps <= all => Ok(steps),
            Some(steps) => Err(Error::argument(format!(
                "{steps} steps of {} regions are more than the {regions} regions that a sample has",
                self.per_step
            ))
            .help(format!("take {all} steps at most, fewer regions a step, or smaller regions"))),
        }
    }

    /// The scores of each sample's target while its regions are perturbed in an order.
    ///
    /// `inputs` are as [`Explainer::explain`] takes them. Targets are chosen once, by the logits of the samples as they are.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] for inputs or relevance that do not fit, [`ErrorKind::Argument`] for parameters and targets out
    /// of range and for several targets a sample, [`ErrorKind::Data`] for relevance, samples or scores that are not finite.
    pub fn curves(
        &self,
        explainer: &Explainer,
        inputs: &[Input<'_>],
        targets: &Targets,
        order: Order<'_>,
    ) -> Result<Curves> {
        let input = self.perturbed(explainer)?;
        let steps = self.steps(explainer)?;
        let logits = explainer.forward(inputs)?;
        let samples = logits.rows();
        let values = match inputs[input.position] {
            Input::Float(tensor) => tensor.data(),
            Input::Integer(_) => return Err(Error::internal("an input of real numbers holds integers")),
        };
        let targets = chosen(targets, &logits, explainer)?;
        let mut scores = vec![0.0; samples * (steps + 1)];
        let watch = Watch { explainer, start: self.score.start(), targets: &targets };
        (0..samples).for_each(|sample| scores[sample * (steps + 1)] = watch.score(sample, logits.row(sample)));
        let ranked = order.ranked(&input.patches, &input.shape, samples, self.absolute)?;
        let mut state = State::default();
        let perturb = |place: crate::variants::Place, row: &mut [f32]| {
            if place.input != input.position {
                return;
            }
            let (sample, step) = (place.row / steps, place.row % steps);
            // Rows come in order: each has the regions of the row before and those of its own step.
            if step == 0 {
                state = State {
                    order: ranked.of_sample(sample, self.seed, row),
                    replacement: self.perturbation.replacement(row, &input.patches, &input.shape, self.seed),
                    values: row.to_vec(),
                };
            }
            let regions = state.order.iter().skip(step * self.per_step).take(self.per_step);
            for run in regions.flat_map(|&region| input.patches.runs(region)) {
                state.values[run.clone()].copy_from_slice(&state.replacement[run]);
            }
            row.copy_from_slice(&state.values);
        };
        self.perturbation.check(&input.shape)?;
        check_finite(values, &input.shape)?;
        let variants = Variants::new(explainer, inputs, explainer.outputs(), self.rows);
        variants.each_batch(
            samples * steps,
            |row| row / steps,
            perturb,
            |range, batch| {
                let logits = explainer.forward(batch)?;
                for (offset, row) in range.enumerate() {
                    let (sample, step) = (row / steps, row % steps);
                    scores[sample * (steps + 1) + step + 1] = watch.score(sample, logits.row(offset));
                }
                Ok(())
            },
        )?;
        if let Some(position) = scores.iter().position(|score| !score.is_finite()) {
            let (sample, step) = (position / (steps + 1), position % (steps + 1));
            let message = format!("the score of sample {sample} is {} after {step} steps", scores[position]);
            return Err(Error::new(ErrorKind::Data, message).help("perturb with values that the model can take"));
        }
        Ok(Curves { targets, scores: Tensor::new([samples, steps + 1], scores)? })
    }

    fn perturbed(&self, explainer: &Explainer) -> Result<Perturbed> {
        let network = explainer.network();
        let is_float = |(_, input): &(usize, &crate::network::Input)| input.kind == InputKind::Float;
        let mut floats = network.inputs().iter().enumerate().filter(is_float);
        let (Some((position, input)), None) = (floats.next(), floats.next()) else {
            return Err(Error::new(ErrorKind::Unsupported, "regions are those of one input of real numbers")
                .help("evaluate a model that has one"));
        };
        let value = network.value(input.value);
        let place = |error: Error| error.context(format!("regions of input `{}`", value.name));
        let patches = Patches::new(&value.shape, &self.region, &self.region).map_err(place)?;
        Ok(Perturbed { position, shape: value.shape.clone(), patches })
    }
}

/// The sample that is being perturbed.
#[derive(Default)]
struct State {
    order: Vec<usize>,
    replacement: Vec<f32>,
    values: Vec<f32>,
}

struct Watch<'a> {
    explainer: &'a Explainer,
    start: Start,
    targets: &'a [usize],
}

impl Watch<'_> {
    fn score(&self, sample: usize, logits: &[f32]) -> f64 {
        let (network, target) = (self.explainer.network(), self.targets[sample]);
        let logits: Vec<f64> = logits.iter().copied().map(f64::from).collect();
        self.start.of_sample(&logits, target, network.classes(), network.link())[target]
    }
}

/// The target of each sample.
fn chosen(targets: &Targets, logits: &Tensor, explainer: &Explainer) -> Result<Vec<usize>> {
    targets.check(logits.rows(), explainer.outputs())?;
    if targets.is_several() {
        return Err(
            Error::argument("a curve is of one target a sample").help("choose argmax, one output, or one a sample")
        );
    }
    let of_sample = |sample: usize| {
        let logits: Vec<f64> = logits.row(sample).iter().copied().map(f64::from).collect();
        targets.of_sample(sample, &logits)
    };
    Ok((0..logits.rows()).flat_map(of_sample).collect())
}

fn check_finite(values: &[f32], shape: &Shape) -> Result<()> {
    let Some(position) = values.iter().position(|x| !x.is_finite()) else { return Ok(()) };
    let (value, width) = (values[position], shape.count());
    let message = format!("sample {} holds {value} in element {}", position / width, position % width);
    Err(Error::new(ErrorKind::Data, message).help("mend the data"))
}
