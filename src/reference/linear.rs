//! Any rule on any linear layer, from the formula of [`crate::rules`].

use super::connections::{biases, each_connection};
use super::{Given, Step};
use crate::relevance::LayerSums;
use crate::rules::{BiasPart, Group, InputPart, LinearRule, Mask, Quotient, Share, Stabilizer, Term, WeightPart};

impl Step<'_> {
    pub(super) fn linear(&self, rule: &LinearRule) -> Given {
        let mut shares: Vec<Vec<f64>> =
            (0..self.node.inputs.len()).map(|slot| vec![0.0; self.input(slot).len()]).collect();
        let mut sums = LayerSums { at_output: self.arriving.iter().sum(), ..LayerSums::default() };
        let bounds = Bounds::of(rule, self);
        for group in &rule.groups {
            self.group(group, &bounds, &mut shares, &mut sums);
        }
        sums.at_input = shares.iter().flatten().sum();
        sums.size = shares.iter().flatten().chain(self.arriving).map(|r| r.abs()).sum();
        sums.nonfinite = shares.iter().flatten().filter(|share| !share.is_finite()).count() as u64;
        sums.close();
        Given { shares, sums: Some(sums) }
    }

    fn group(&self, group: &Group, bounds: &Bounds, shares: &mut [Vec<f64>], sums: &mut LayerSums) {
        let outputs = self.arriving.len();
        let factor = f64::from(group.factor);
        let inputs: Vec<&[f64]> = (0..shares.len()).map(|slot| self.input(slot)).collect();
        let contribution = |term: &Term, slot: usize, j: usize, w: f64| {
            let x = bounds.input_part(term.input, inputs[slot][j], j);
            f64::from(term.sign.factor()) * x * weight_part(term.weight, w)
        };
        let bias: Vec<f64> = biases(self.network, self.node).iter().map(|&b| bias_part(group.bias, b)).collect();
        let mut d = bias.clone();
        each_connection(self.network, self.node, |i, slot, j, w| {
            for term in &group.terms {
                d[i] += contribution(term, slot, j, w);
            }
        });
        let damped = match group.quotient {
            Quotient::Divided(stabilizer) => stabilize(stabilizer, &d),
            Quotient::Plain => d.clone(),
        };
        let q: Vec<f64> = (0..outputs)
            .map(|i| match (is_served(group.mask, self.output()[i]), group.quotient) {
                (false, _) => 0.0,
                (true, Quotient::Plain) => self.arriving[i],
                (true, Quotient::Divided(_)) if damped[i] == 0.0 => 0.0,
                (true, Quotient::Divided(_)) => self.arriving[i] / damped[i],
            })
            .collect();
        each_connection(self.network, self.node, |i, slot, j, w| {
            for term in &group.terms {
                shares[slot][j] += factor * contribution(term, slot, j, w) * q[i];
            }
        });
        let held: Vec<f64> = (0..outputs).map(|i| factor * (bias[i] + damped[i] - d[i]) * q[i]).collect();
        match group.share {
            Share::Absorbed => {
                sums.bias += (0..outputs).map(|i| factor * bias[i] * q[i]).sum::<f64>();
                sums.epsilon += (0..outputs).map(|i| factor * (damped[i] - d[i]) * q[i]).sum::<f64>();
            }
            Share::Redistributed => {
                let mut fan_in = vec![0.0; outputs];
                each_connection(self.network, self.node, |i, _, _, _| fan_in[i] += 1.0);
                each_connection(self.network, self.node, |i, slot, j, _| shares[slot][j] += held[i] / fan_in[i]);
            }
        }
    }
}

/// The bounds of the box rule, spread over the layer's input. They hold for every input of a sum, which all have one
/// shape.
struct Bounds {
    low: Vec<f64>,
    high: Vec<f64>,
}

impl Bounds {
    fn of(rule: &LinearRule, step: &Step<'_>) -> Self {
        match &rule.bounds {
            None => Bounds { low: Vec::new(), high: Vec::new() },
            Some(bounds) => Bounds { low: step.spread(&bounds.low), high: step.spread(&bounds.high) },
        }
    }

    fn input_part(&self, part: InputPart, x: f64, element: usize) -> f64 {
        match part {
            InputPart::Whole => x,
            InputPart::Positive if x < 0.0 => 0.0,
            InputPart::Negative if x > 0.0 => 0.0,
            InputPart::Positive | InputPart::Negative => x,
            InputPart::Magnitude => x.abs(),
            InputPart::Low => self.low[element],
            InputPart::High => self.high[element],
            InputPart::One => 1.0,
        }
    }
}

fn weight_part(part: WeightPart, w: f64) -> f64 {
    match part {
        WeightPart::Scaled { positive, negative } => {
            w.max(0.0) * f64::from(positive) + w.min(0.0) * f64::from(negative)
        }
        WeightPart::Squared => w * w,
        WeightPart::One => 1.0,
    }
}

fn bias_part(part: BiasPart, b: f64) -> f64 {
    match part {
        BiasPart::Absent => 0.0,
        BiasPart::Scaled { positive, negative } => b.max(0.0) * f64::from(positive) + b.min(0.0) * f64::from(negative),
        BiasPart::Squared => b * b,
    }
}

fn is_served(mask: Mask, z: f64) -> bool {
    match mask {
        Mask::Everywhere => true,
        Mask::Positive => z > 0.0,
        Mask::Negative => z < 0.0,
    }
}

fn stabilize(stabilizer: Stabilizer, d: &[f64]) -> Vec<f64> {
    let sign = |d: f64| if d >= 0.0 { 1.0 } else { -1.0 };
    let epsilon = f64::from(stabilizer.epsilon());
    match stabilizer {
        Stabilizer::Absolute(_) => d.iter().map(|&d| d + epsilon * sign(d)).collect(),
        // Not `max`, which would turn NaN into ε.
        Stabilizer::Clip(_) => d.iter().map(|&d| if d.abs() < epsilon { sign(d) * epsilon } else { d }).collect(),
        Stabilizer::Rms(_) => {
            let rms = (d.iter().map(|d| d * d).sum::<f64>() / d.len() as f64).sqrt();
            d.iter().map(|&d| d + epsilon * rms * sign(d)).collect()
        }
    }
}
