//! Where relevance starts: which outputs are explained, and how much relevance each begins with.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};
use crate::network::Link;
use crate::tensor::Tensor;

/// Which outputs of each sample are explained. Several targets of a sample share one forward pass; what several share may be computed
/// otherwise than for one, so that relevance may differ in its last bits from that of a run for one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Targets {
    /// The output with the largest logit (the first of equals).
    ArgMax,
    /// One output for every sample.
    Class(usize),
    /// The same list of outputs for every sample.
    Classes(Vec<usize>),
    /// One output a sample.
    Each(Vec<usize>),
    /// The `k` outputs with the largest logits, largest first (the first of equals first).
    Top(usize),
    /// Every output.
    All,
}

impl Targets {
    /// How many targets each sample has; `outputs` is the number of outputs.
    pub fn per_sample(&self, outputs: usize) -> usize {
        match self {
            Targets::ArgMax | Targets::Class(_) | Targets::Each(_) => 1,
            Targets::Classes(classes) => classes.len(),
            Targets::Top(k) => *k,
            Targets::All => outputs,
        }
    }

    /// Whether results carry an axis for the targets: true where a sample may have several.
    pub fn is_several(&self) -> bool {
        matches!(self, Targets::Classes(_) | Targets::Top(_) | Targets::All)
    }

    /// Checks every index against the number of outputs and the number of samples.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] if an index is not below `outputs`, a list is empty or has the wrong length.
    pub fn check(&self, samples: usize, outputs: usize) -> Result<()> {
        let in_range = |index: usize| {
            if index < outputs {
                return Ok(());
            }
            Err(Error::argument(format!("target {index} is out of range: the model has {outputs} outputs"))
                .help(format!("targets are numbered from 0 to {}", outputs - 1)))
        };
        match self {
            Targets::ArgMax | Targets::All => Ok(()),
            Targets::Class(index) => in_range(*index),
            Targets::Classes(list) if list.is_empty() => {
                Err(Error::argument("the list of targets is empty").help("name at least one output"))
            }
            Targets::Classes(list) => list.iter().try_for_each(|&index| in_range(index)),
            Targets::Each(list) if list.len() != samples => {
                Err(Error::argument(format!("{} targets are given for {samples} samples", list.len()))
                    .help("give one target a sample"))
            }
            Targets::Each(list) => list.iter().enumerate().try_for_each(|(sample, &index)| {
                in_range(index).map_err(|error| error.context(format!("sample {sample}")))
            }),
            Targets::Top(0) => Err(Error::argument("top:0 asks for no target").help("ask for top:1 or more")),
            Targets::Top(k) if *k > outputs => {
                Err(Error::argument(format!("top:{k} asks for more targets than the model's {outputs} outputs"))
                    .help(format!("ask for top:{outputs} at most")))
            }
            Targets::Top(_) => Ok(()),
        }
    }

    /// The targets of one sample, from its logits.
    pub fn of_sample(&self, sample: usize, logits: &[f64]) -> Vec<usize> {
        match self {
            Targets::ArgMax => ranked(logits, 1),
            Targets::Class(index) => vec![*index],
            Targets::Classes(list) => list.clone(),
            Targets::Each(list) => vec![list[sample]],
            Targets::Top(k) => ranked(logits, *k),
            Targets::All => (0..logits.len()).collect(),
        }
    }
}

/// The positions of the `count` largest values, largest first and the first of equals first; NaN comes last.
fn ranked(values: &[f64], count: usize) -> Vec<usize> {
    let is_before = |a: usize, b: usize| values[a] > values[b] || values[b].is_nan() && !values[a].is_nan();
    if count == 1 {
        return vec![(1..values.len()).fold(0, |best, index| if is_before(index, best) { index } else { best })];
    }
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| is_before(b, a).cmp(&is_before(a, b)));
    order.truncate(count);
    order
}

/// How much relevance a target begins with. f are the logits, t the target.
#[derive(Debug, Clone, PartialEq)]
pub enum Start {
    /// f_t.
    Logit,
    /// 1.
    One,
    /// The model's probability of t: softmax of the logits along the last axis, or the logistic function where the model
    /// ends in it.
    Probability,
    /// −f_t.
    NegativeLogit,
    /// f_t at the target and −f_o at the strongest other output o of its row along the last axis: explains the difference
    /// f_t − f_o.
    Contrast,
    /// Given relevance at every output: `[samples, …output]`, or `[samples, targets, …output]` for several targets.
    Given(Tensor),
}

impl Start {
    /// The relevance at every output for one target of a sample, from its logits.
    ///
    /// Outputs of several axes are rows along the last axis, `classes` long: probability and contrast are taken within
    /// the target's row. [`Start::Given`] is not a function of the logits: its rows are taken as they are, and this
    /// gives zeros.
    pub fn of_sample(&self, logits: &[f64], target: usize, classes: usize, link: Option<Link>) -> Vec<f64> {
        let mut relevance = vec![0.0; logits.len()];
        let row = target / classes * classes..(target / classes + 1) * classes;
        match self {
            Start::Logit => relevance[target] = logits[target],
            Start::One => relevance[target] = 1.0,
            Start::Probability => relevance[target] = probability(&logits[row], logits[target], link),
            Start::NegativeLogit => relevance[target] = -logits[target],
            Start::Contrast => {
                relevance[target] = logits[target];
                let others = row.filter(|&index| index != target);
                let strongest = others.reduce(|best, index| if logits[index] > logits[best] { index } else { best });
                if let Some(other) = strongest {
                    relevance[other] = -logits[other];
                }
            }
            Start::Given(_) => {}
        }
        relevance
    }
}

fn probability(row: &[f64], logit: f64, link: Option<Link>) -> f64 {
    match link {
        Some(Link::Sigmoid) => 1.0 / (1.0 + (-logit).exp()),
        Some(Link::Softmax | Link::LogSoftmax) | None => {
            let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = row.iter().map(|logit| (logit - largest).exp()).sum();
            (logit - largest).exp() / sum
        }
    }
}

const START_NAMES: [&str; 5] = ["logit", "one", "probability", "negative-logit", "contrast"];

impl FromStr for Start {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.replace('_', "-").as_str() {
            "logit" => Ok(Start::Logit),
            "one" => Ok(Start::One),
            "probability" => Ok(Start::Probability),
            "negative-logit" => Ok(Start::NegativeLogit),
            "contrast" => Ok(Start::Contrast),
            _ => Err(Error::new(ErrorKind::Argument, format!("`{text}` is no start"))
                .help(format!("starts are {}, or a .npy file", START_NAMES.join(", ")))),
        }
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Start::Logit => "logit",
            Start::One => "one",
            Start::Probability => "probability",
            Start::NegativeLogit => "negative-logit",
            Start::Contrast => "contrast",
            Start::Given(_) => "given",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn top_targets_are_ordered_and_ties_go_to_the_first_and_nan_comes_last() {
        assert_eq!(Targets::Top(3).of_sample(0, &[1.0, 3.0, 3.0, 2.0]), [1, 2, 3]);
        let awkward = [f64::NAN, -0.0, 0.0, f64::NAN, -1.0];
        assert_eq!(Targets::Top(5).of_sample(0, &awkward), [1, 2, 4, 0, 3]);
        for values in [&awkward[..], &[1.0, 3.0, 3.0], &[f64::NAN, f64::NAN], &[-5.0]] {
            assert_eq!(Targets::ArgMax.of_sample(0, values), Targets::Top(values.len()).of_sample(0, values)[..1]);
        }
    }

    #[test]
    fn contrast_explains_the_difference_to_the_strongest_other_of_the_row() {
        assert_eq!(Start::Contrast.of_sample(&[1.0, 4.0, 2.0], 1, 3, None), [0.0, 4.0, -2.0]);
        assert_eq!(Start::Contrast.of_sample(&[1.0, 4.0, 2.0], 2, 3, None), [0.0, -4.0, 2.0]);
        assert_eq!(Start::Contrast.of_sample(&[9.0, 8.0, 1.0, 2.0], 3, 2, None), [0.0, 0.0, -1.0, 2.0]);
    }

    #[test]
    fn probability_follows_the_link_along_the_last_axis() {
        let softmax = Start::Probability.of_sample(&[7.0, 9.0, 0.0, 0.0], 2, 2, Some(Link::Softmax));
        approx::assert_relative_eq!(softmax[2], 0.5);
        let sigmoid = Start::Probability.of_sample(&[1000.0, 3.0], 1, 2, Some(Link::Sigmoid));
        approx::assert_relative_eq!(sigmoid[1], 1.0 / (1.0 + (-3.0_f64).exp()));
    }

    #[test]
    fn targets_out_of_range_say_what_is_in_range() {
        let error = Targets::Each(vec![0, 7]).check(2, 5).unwrap_err();
        assert_eq!(error.message(), "sample 1: target 7 is out of range: the model has 5 outputs");
        assert!(Targets::Top(6).check(1, 5).is_err());
        assert!(Targets::Classes(vec![]).check(1, 5).is_err());
    }
}
