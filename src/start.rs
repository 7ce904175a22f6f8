//! Where relevance starts: which outputs are explained, and how much relevance each begins with.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};
use crate::network::Link;
use crate::tensor::Tensor;

/// Which outputs of each sample are explained. Several targets of a sample share one forward pass.
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
                Err(Error::argument(format!("top:{k} asks for more targets than the model's {outputs} outputs")))
            }
            Targets::Top(_) => Ok(()),
        }
    }

    /// The targets of one sample, from its logits.
    pub fn of_sample(&self, sample: usize, logits: &[f64]) -> Vec<usize> {
        match self {
            Targets::ArgMax => vec![arg_max(logits)],
            Targets::Class(index) => vec![*index],
            Targets::Classes(list) => list.clone(),
            Targets::Each(list) => vec![list[sample]],
            Targets::Top(k) => {
                let mut order: Vec<usize> = (0..logits.len()).collect();
                order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
                order.truncate(*k);
                order
            }
            Targets::All => (0..logits.len()).collect(),
        }
    }
}

/// The position of the largest value, the first of equals; NaN is never the largest.
fn arg_max(values: &[f64]) -> usize {
    let mut best = 0;
    for (index, &value) in values.iter().enumerate() {
        if value > values[best] || values[best].is_nan() {
            best = index;
        }
    }
    best
}

/// How much relevance a target begins with. f are the logits, t the target.
#[derive(Debug, Clone, PartialEq)]
pub enum Start {
    /// f_t.
    Logit,
    /// 1.
    One,
    /// The model's probability of t: softmax of the logits, or the logistic function where the model ends in it.
    Probability,
    /// −f_t.
    NegativeLogit,
    /// f_t at the target and −f_o at the strongest other output o: explains the difference f_t − f_o.
    Contrast,
    /// Given relevance at every output: `[samples, …output]`, or `[samples, targets, …output]` for several targets.
    Given(Tensor),
}

impl Start {
    /// The relevance at every output for one target of a sample, from its logits.
    ///
    /// [`Start::Given`] is not a function of the logits: its rows are taken as they are, and this gives zeros.
    pub fn of_sample(&self, logits: &[f64], target: usize, link: Option<Link>) -> Vec<f64> {
        let mut relevance = vec![0.0; logits.len()];
        match self {
            Start::Logit => relevance[target] = logits[target],
            Start::One => relevance[target] = 1.0,
            Start::Probability => relevance[target] = probability(logits, target, link),
            Start::NegativeLogit => relevance[target] = -logits[target],
            Start::Contrast => {
                relevance[target] = logits[target];
                if let Some(other) = strongest_other(logits, target) {
                    relevance[other] = -logits[other];
                }
            }
            Start::Given(_) => {}
        }
        relevance
    }
}

fn strongest_other(logits: &[f64], target: usize) -> Option<usize> {
    let others = (0..logits.len()).filter(|&index| index != target);
    others.reduce(|best, index| if logits[index] > logits[best] { index } else { best })
}

fn probability(logits: &[f64], target: usize, link: Option<Link>) -> f64 {
    match link {
        Some(Link::Sigmoid) => 1.0 / (1.0 + (-logits[target]).exp()),
        Some(Link::Softmax | Link::LogSoftmax) | None => {
            let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = logits.iter().map(|logit| (logit - largest).exp()).sum();
            (logits[target] - largest).exp() / sum
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
    fn top_targets_are_ordered_and_ties_go_to_the_first() {
        assert_eq!(Targets::Top(3).of_sample(0, &[1.0, 3.0, 3.0, 2.0]), [1, 2, 3]);
        assert_eq!(Targets::ArgMax.of_sample(0, &[1.0, 3.0, 3.0]), [1]);
    }

    #[test]
    fn contrast_explains_the_difference_to_the_strongest_other() {
        assert_eq!(Start::Contrast.of_sample(&[1.0, 4.0, 2.0], 1, None), [0.0, 4.0, -2.0]);
        assert_eq!(Start::Contrast.of_sample(&[1.0, 4.0, 2.0], 2, None), [0.0, -4.0, 2.0]);
    }

    #[test]
    fn probability_follows_the_link() {
        let softmax = Start::Probability.of_sample(&[0.0, 0.0], 0, Some(Link::Softmax));
        approx::assert_relative_eq!(softmax[0], 0.5);
        let sigmoid = Start::Probability.of_sample(&[1000.0, 3.0], 1, Some(Link::Sigmoid));
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
