//! The mean relevance over variants of each sample, of which the last is the sample itself.

use crate::error::Result;
use crate::explain::{Explainer, Input, Request};
use crate::relevance::Relevance;
use crate::start::{Start, Targets};
use crate::tensor::{Shape, Tensor};
use crate::variants::Variants;

/// Which variant of which input is to be made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Variant {
    /// Counted from 0; the last, the sample itself, is never asked for.
    pub(super) step: usize,
    /// The input's position.
    pub(super) input: usize,
}

/// The mean over `steps` variants. `vary` makes one of a copy of the sample; sums are float64 in the order of the steps.
///
/// # Errors
/// As [`Explainer::explain_with`].
pub(super) fn mean(
    explainer: &Explainer,
    inputs: &[Input<'_>],
    request: &Request,
    (steps, rows): (usize, Option<usize>),
    mut vary: impl FnMut(Variant, &mut [f32]),
) -> Result<Relevance> {
    // The sample itself chooses the targets, and is checked as every explanation is.
    let mut relevance = explainer.explain_with(inputs, request)?;
    let others = steps - 1;
    if others == 0 {
        return Ok(relevance);
    }
    let targets = relevance.targets.clone();
    let lines = Lines::new(&request.targets, &targets);
    let start = request.start.as_ref();
    let output = explainer.network().shape(explainer.network().output());
    let mut run = relevance.run.clone();
    let mut sums: Vec<Vec<f64>> = Vec::new();
    let width: usize = relevance.inputs.iter().map(|input| input.relevance.count()).sum();
    Variants::new(explainer, inputs, width / lines.count(), rows).each_batch(
        lines.count() * others,
        |row| lines.sample(row / others),
        |place, sample| vary(Variant { step: place.row % others, input: place.input }, sample),
        |range, batch| {
            let asked = range.clone().map(|row| row / others);
            // What is not finite was refused in the samples themselves.
            let request = Request {
                targets: lines.targets(asked.clone()),
                start: start.map(|start| lines.start(start, asked, output)),
                allow_nonfinite: true,
                ..request.clone()
            };
            let part = explainer.explain_with(batch, &request)?;
            run.add(&part.run);
            for (offset, row) in range.clone().enumerate() {
                let (line, is_last) = (row / others, row % others == others - 1);
                sums.resize_with(part.inputs.len(), Vec::new);
                let inputs = part.inputs.iter().zip(&mut sums).zip(&mut relevance.inputs);
                for ((part, sum), whole) in inputs {
                    let width = part.relevance.count() / range.len();
                    sum.resize(width, 0.0);
                    let found = &part.relevance.data()[offset * width..][..width];
                    sum.iter_mut().zip(found).for_each(|(sum, &r)| *sum += f64::from(r));
                    if is_last {
                        let whole = &mut whole.relevance.data_mut()[line * width..][..width];
                        let of_all = |(whole, sum): (&mut f32, &mut f64)| {
                            *whole = ((*sum + f64::from(*whole)) / steps as f64) as f32;
                            *sum = 0.0;
                        };
                        whole.iter_mut().zip(sum).for_each(of_all);
                    }
                }
            }
            Ok(())
        },
    )?;
    relevance.run = run;
    Ok(relevance)
}

/// What rows are asked: a line is a sample with all of its targets where every sample has the same, else one target of it.
#[derive(Debug)]
struct Lines<'a> {
    /// The targets that all samples have, if they are told.
    shared: Option<&'a Targets>,
    /// The targets of each sample.
    targets: &'a Tensor<usize>,
    /// K.
    per_sample: usize,
}

impl<'a> Lines<'a> {
    fn new(asked: &'a Targets, targets: &'a Tensor<usize>) -> Self {
        let shared = match asked {
            Targets::Classes(_) | Targets::All => Some(asked),
            // The logits of a variant may choose others than those of its sample.
            Targets::ArgMax | Targets::Class(_) | Targets::Each(_) | Targets::Top(_) => None,
        };
        Lines { shared, targets, per_sample: targets.count() / targets.rows() }
    }

    fn count(&self) -> usize {
        if self.shared.is_some() { self.targets.rows() } else { self.targets.count() }
    }

    fn sample(&self, line: usize) -> usize {
        if self.shared.is_some() { line } else { line / self.per_sample }
    }

    /// The targets of rows, by the line of each.
    fn targets(&self, lines: impl Iterator<Item = usize>) -> Targets {
        match self.shared {
            Some(shared) => shared.clone(),
            None => Targets::Each(lines.map(|line| self.targets.data()[line]).collect()),
        }
    }

    /// The start of rows, by the line of each; `output` is the shape of a sample's outputs.
    fn start(&self, start: &Start, lines: impl ExactSizeIterator<Item = usize>, output: &Shape) -> Start {
        match start {
            Start::Given(given) => {
                let (rows, width) = (lines.len(), given.count() / self.count());
                let dims = [&[rows, width / output.count()], output.dims()].concat();
                let data = lines.flat_map(|line| &given.data()[line * width..][..width]).copied().collect();
                Start::Given(Tensor::new(dims, data).expect("a row a line"))
            }
            Start::Logit | Start::One | Start::Probability | Start::NegativeLogit | Start::Contrast => start.clone(),
        }
    }
}
