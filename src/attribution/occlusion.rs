//! Occlusion (Zeiler and Fergus 2014, arXiv:1311.2901): what the score loses where a window is covered.
//!
//! R_i = mean over the windows w that hold i of (f(x) − f(x with w covered)) / |w|: a window's loss is shared by its elements,
//! and where windows do not overlap the relevance of a sample sums to their losses. captum gives each element the whole loss
//! of a window, |w| times as much.
//!
//! zennit covers everything but the window instead, and adds the score: R_i = Σ over the windows that hold i of
//! f(x with all but w covered). Its windows begin again at the other border where they do not divide the sample; ours end there.

use std::ops::Range;

use super::check_request;
use crate::attribution::Baseline;
use crate::error::{Error, ErrorKind, Result};
use crate::explain::{Explainer, Input, Request};
use crate::network::{InputKind, ValueId};
use crate::patches::Patches;
use crate::relevance::{Named, Relevance, Run};
use crate::start::{Start, Targets};
use crate::tensor::{Shape, Tensor};
use crate::variants::Variants;

/// Relevance by covering a window at every place of a sample; it needs the forward pass alone and heeds no rule.
///
/// The score is what the request's start gives the target: its logit unless told, its probability, or the difference of
/// [`Start::Contrast`]. Where the network has several inputs of real numbers, one is covered at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct Occlusion {
    /// The window's extents along the last axes of a sample; it reaches over the whole of the axes before them, so that
    /// [h, w] covers all channels of [channels, rows, columns]. A window larger than its axis covers the axis.
    pub window: Vec<usize>,
    /// How far it moves along these axes from place to place.
    pub stride: Vec<usize>,
    /// What covers.
    pub baseline: Baseline,
    /// What is seen of the sample.
    pub shows: Shows,
    /// Rows of a batch: windows of samples that go through together; chosen to fit memory if not given. No result depends
    /// on it.
    pub rows: Option<usize>,
}

/// What of a sample is left to be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shows {
    /// All but the window: relevance is what the score loses, shared over the window.
    #[default]
    Rest,
    /// The window alone: relevance is the score that is left, as zennit's `Occlusion` gives it.
    Window,
}

/// An input of real numbers whose parts are covered.
struct Covered {
    position: usize,
    value: ValueId,
    patches: Patches,
    baseline: Vec<f32>,
}

/// The questions that all windows are asked.
struct Scores<'a> {
    explainer: &'a Explainer,
    start: Start,
    /// The targets of each sample.
    targets: Vec<Vec<usize>>,
}

impl Occlusion {
    /// A window that moves by its own extents, so that windows tile the sample.
    pub fn new(window: impl Into<Vec<usize>>) -> Self {
        let window = window.into();
        let stride = window.clone();
        Occlusion { window, stride, baseline: Baseline::default(), shows: Shows::default(), rows: None }
    }

    pub(super) fn check(&self, explainer: &Explainer, request: &Request) -> Result<()> {
        check_request(request, "occlusion")?;
        let reason = match request.start {
            Some(Start::One) => "a start of 1 is the same whatever is covered",
            Some(Start::Given(_)) => "a given start is the same whatever is covered",
            Some(Start::Logit | Start::Probability | Start::NegativeLogit | Start::Contrast) | None => {
                return self.covered(explainer).map(drop);
            }
        };
        Err(Error::argument(format!("occlusion compares scores, and {reason}"))
            .help("start from logit, probability, negative-logit or contrast"))
    }

    pub(super) fn passes(&self, explainer: &Explainer) -> usize {
        self.covered(explainer).map_or(1, |inputs| 1 + inputs.iter().map(|input| input.patches.len()).sum::<usize>())
    }

    fn covered(&self, explainer: &Explainer) -> Result<Vec<Covered>> {
        let network = explainer.network();
        let mut covered = Vec::new();
        for (position, input) in network.inputs().iter().enumerate() {
            if input.kind == InputKind::Integer {
                continue;
            }
            let value = network.value(input.value);
            let place = |error: Error| error.context(format!("input `{}`", value.name));
            let patches = Patches::new(&value.shape, &self.window, &self.stride).map_err(place)?;
            let baseline = self.baseline.values(&value.shape).map_err(place)?;
            covered.push(Covered { position, value: input.value, patches, baseline });
        }
        if covered.is_empty() {
            return Err(Error::argument("occlusion covers real numbers, and every input of the network is looked up")
                .help("explain it with rules instead"));
        }
        Ok(covered)
    }

    pub(super) fn explain(&self, explainer: &Explainer, inputs: &[Input<'_>], request: &Request) -> Result<Relevance> {
        self.check(explainer, request)?;
        let covered = self.covered(explainer)?;
        let logits = explainer.forward(inputs)?;
        if !request.allow_nonfinite {
            check_finite(explainer, inputs)?;
        }
        let samples = logits.rows();
        request.targets.check(samples, explainer.outputs())?;
        let start = request.start.clone().unwrap_or(Start::Logit);
        let of_sample = |sample| request.targets.of_sample(sample, &exact(logits.row(sample)));
        let scores = Scores { explainer, start, targets: (0..samples).map(of_sample).collect() };
        let whole: Vec<Vec<f64>> = (0..samples).map(|sample| scores.of(sample, logits.row(sample))).collect();
        let variants = Variants::new(explainer, inputs, explainer.outputs(), self.rows);
        let dims = lead(explainer, inputs, samples, &request.targets);
        let mut found = Vec::with_capacity(covered.len());
        for input in &covered {
            let data = self.relevance(&variants, input, &scores, &whole)?;
            let value = explainer.network().value(input.value);
            let shape = Shape::new([dims.as_slice(), value.shape.dims()].concat());
            found.push(Named { name: value.name.clone(), relevance: Tensor::new(shape, data)? });
        }
        let per_sample = request.targets.per_sample(explainer.outputs());
        Ok(Relevance {
            inputs: found,
            kept: Vec::new(),
            logits,
            targets: Tensor::new([samples, per_sample], scores.targets.concat())?,
            report: None,
            run: Run::default(),
        })
    }

    /// The relevance of one input's elements, for every sample and target.
    fn relevance(
        &self,
        variants: &Variants<'_>,
        input: &Covered,
        scores: &Scores<'_>,
        whole: &[Vec<f64>],
    ) -> Result<Vec<f32>> {
        let (patches, width) = (input.patches.len(), input.baseline.len());
        let targets = whole.first().map_or(0, Vec::len);
        let holding = holding(&input.patches, width);
        let mut found: Vec<f32> = Vec::with_capacity(whole.len() * targets * width);
        let mut sums = vec![0.0_f64; targets * width];
        let cover = |place: crate::variants::Place, sample: &mut [f32]| {
            if place.input != input.position {
                return;
            }
            let runs = input.patches.runs(place.row % patches);
            match self.shows {
                Shows::Rest => {
                    runs.into_iter().for_each(|run| sample[run.clone()].copy_from_slice(&input.baseline[run]))
                }
                Shows::Window => {
                    let mut covered = input.baseline.clone();
                    runs.into_iter().for_each(|run| covered[run.clone()].copy_from_slice(&sample[run]));
                    sample.copy_from_slice(&covered);
                }
            }
        };
        let count = whole.len() * patches;
        variants.each_batch(
            count,
            |row| row / patches,
            cover,
            |range: Range<usize>, batch| {
                let logits = scores.explainer.forward(batch)?;
                for (offset, row) in range.enumerate() {
                    let (sample, patch) = (row / patches, row % patches);
                    let runs = input.patches.runs(patch);
                    let left = scores.of(sample, logits.row(offset));
                    for ((sum, left), whole) in sums.chunks_exact_mut(width).zip(left).zip(&whole[sample]) {
                        let share = match self.shows {
                            Shows::Rest => (whole - left) / input.patches.size(patch) as f64,
                            Shows::Window => left,
                        };
                        runs.iter().for_each(|run| sum[run.clone()].iter_mut().for_each(|sum| *sum += share));
                    }
                    if patch + 1 == patches {
                        let mean = |(position, sum): (usize, &f64)| match self.shows {
                            Shows::Rest => (sum / f64::from(holding[position % width].max(1))) as f32,
                            Shows::Window => *sum as f32,
                        };
                        found.extend(sums.iter().enumerate().map(mean));
                        sums.fill(0.0);
                    }
                }
                Ok(())
            },
        )?;
        Ok(found)
    }
}

impl Scores<'_> {
    /// The score of each target of a sample, from the logits of one of its variants.
    fn of(&self, sample: usize, logits: &[f32]) -> Vec<f64> {
        let (logits, network) = (exact(logits), self.explainer.network());
        let score = |&target: &usize| {
            self.start.of_sample(&logits, target, network.classes(), network.link()).iter().sum::<f64>()
        };
        self.targets[sample].iter().map(score).collect()
    }
}

fn exact(logits: &[f32]) -> Vec<f64> {
    logits.iter().copied().map(f64::from).collect()
}

/// How many patches hold each element.
fn holding(patches: &Patches, width: usize) -> Vec<u32> {
    let mut holding = vec![0; width];
    for patch in 0..patches.len() {
        patches.runs(patch).into_iter().flatten().for_each(|element| holding[element] += 1);
    }
    holding
}

/// The axes of results before those of a sample.
fn lead(explainer: &Explainer, inputs: &[Input<'_>], samples: usize, targets: &Targets) -> Vec<usize> {
    let network = explainer.network();
    let is_single =
        inputs.iter().zip(network.inputs()).all(|(input, known)| input.shape() == network.shape(known.value));
    let samples = (!is_single).then_some(samples);
    let targets = targets.is_several().then(|| targets.per_sample(explainer.outputs()));
    samples.into_iter().chain(targets).collect()
}

fn check_finite(explainer: &Explainer, inputs: &[Input<'_>]) -> Result<()> {
    let network = explainer.network();
    for (input, known) in inputs.iter().zip(network.inputs()) {
        let Input::Float(tensor) = input else { continue };
        let value = network.value(known.value);
        if let Some(position) = tensor.data().iter().position(|x| !x.is_finite()) {
            let width = value.shape.count();
            let place = format!("sample {}, element {}", position / width, position % width);
            let message = format!("input `{}` holds {} in {place}", value.name, tensor.data()[position]);
            return Err(Error::new(ErrorKind::Data, message).help("mend the data, or allow non-finite values to go on"));
        }
    }
    Ok(())
}
