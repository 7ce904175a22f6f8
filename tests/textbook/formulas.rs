//! The rules as the papers write them: R_j = Σ_i c_ij R_i / stab(d_i), with c_ij from x_j and w_ij.

use std::sync::Arc;

use relprop::Tensor;
use relprop::rules::{Bounds, Dialect, LinearRule, Stabilizer};

use crate::linear_map::LinearMap;

/// A rule with its parameters.
#[derive(Debug, Clone, Copy)]
pub enum Formula {
    Epsilon(Stabilizer),
    Zero,
    Norm(Stabilizer),
    Gradient,
    Gamma(f32, Stabilizer),
    GammaOriginal(f32, Stabilizer),
    AlphaBeta(f32, Stabilizer),
    AlphaBetaX([f32; 2], [f32; 2], Stabilizer),
    ZPlus(Stabilizer),
    Box(Stabilizer),
    WSquare(Stabilizer),
    Flat(Stabilizer),
    CaptumGamma(f32, Stabilizer),
    CaptumZPlus(Stabilizer),
    InnvestigateAlphaBeta(f32, Stabilizer),
    InnvestigateAlphaBetaX([f32; 2], [f32; 2], Stabilizer),
    InnvestigateZPlus(Stabilizer),
    InnvestigateWSquare(Stabilizer),
}

/// Each rule at several parameters. γ is such that 1 + γ is exact in float32.
pub fn all() -> Vec<Formula> {
    use Formula::{
        AlphaBeta, AlphaBetaX, Box, CaptumGamma, CaptumZPlus, Epsilon, Flat, Gamma, GammaOriginal, Gradient,
        InnvestigateAlphaBeta, InnvestigateAlphaBetaX, InnvestigateWSquare, InnvestigateZPlus, Norm, WSquare, ZPlus,
        Zero,
    };
    let small = Stabilizer::DEFAULT;
    let stabilizers = [small, Stabilizer::Absolute(0.25), Stabilizer::Clip(0.75), Stabilizer::Rms(0.125)];
    let mut formulas = vec![Zero, Gradient];
    for s in stabilizers {
        formulas.extend([
            Epsilon(s),
            Norm(s),
            Gamma(0.25, s),
            GammaOriginal(0.25, s),
            AlphaBetaX([1.5, 0.5], [0.25, 0.75], s),
            AlphaBeta(2.0, s),
            ZPlus(s),
            Box(s),
            WSquare(s),
            Flat(s),
        ]);
    }
    // The tools' own forms differ from the papers' in what is summed, not in how it is damped.
    for s in [small, Stabilizer::Clip(0.75)] {
        formulas.extend([
            CaptumGamma(0.25, s),
            CaptumZPlus(s),
            InnvestigateAlphaBeta(1.0, s),
            InnvestigateAlphaBeta(2.0, s),
            InnvestigateAlphaBetaX([1.5, 0.5], [0.25, 0.75], s),
            InnvestigateZPlus(s),
            InnvestigateWSquare(s),
        ]);
    }
    formulas.extend([Gamma(0.0, small), Gamma(1.0, small), Gamma(99.5, small)]);
    formulas.extend([GammaOriginal(0.0, small), GammaOriginal(99.5, small)]);
    formulas.extend([AlphaBetaX([1.0, 0.0], [0.0, -1.0], small), AlphaBetaX([1.0, 1.0], [0.0, 0.0], small)]);
    formulas.extend([-1.0, 0.0, 0.5, 1.0, 1.3, 3.7].map(|alpha| AlphaBeta(alpha, small)));
    formulas
}

/// The relevance of every input element, and what bias and stabiliser absorb.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    pub relevance: Vec<f64>,
    /// Σ b̃ q.
    pub bias: f64,
    /// Σ (stab(d) − d) q.
    pub epsilon: f64,
    /// Σ |c| |q| over everything added: what rounding is relative to.
    pub scale: f64,
}

impl Answer {
    fn divide(&mut self, factor: f64, c: &[Vec<f64>], bias: &[f64], stabilizer: Stabilizer, arriving: &[f64]) {
        let d: Vec<f64> = c.iter().zip(bias).map(|(row, b)| row.iter().sum::<f64>() + b).collect();
        let damped = stabilized(stabilizer, &d);
        self.relevance.resize(c[0].len(), 0.0);
        for i in 0..d.len() {
            let q = if damped[i] == 0.0 { 0.0 } else { factor * arriving[i] / damped[i] };
            for (relevance, c) in self.relevance.iter_mut().zip(&c[i]) {
                *relevance += c * q;
                self.scale += (c * q).abs();
            }
            self.bias += bias[i] * q;
            self.epsilon += (damped[i] - d[i]) * q;
            self.scale += (bias[i] * q).abs() + (damped[i] * q).abs();
        }
    }
}

/// A damped denominator; sign(0) = +1.
pub fn stabilized(stabilizer: Stabilizer, d: &[f64]) -> Vec<f64> {
    let sign = |d: f64| if d < 0.0 { -1.0 } else { 1.0 };
    match stabilizer {
        Stabilizer::Absolute(epsilon) => d.iter().map(|d| d + f64::from(epsilon) * sign(*d)).collect(),
        Stabilizer::Clip(epsilon) => {
            d.iter().map(|&d| if d.abs() < f64::from(epsilon) { f64::from(epsilon) * sign(d) } else { d }).collect()
        }
        Stabilizer::Rms(epsilon) => {
            let mean_square = d.iter().map(|d| d * d).sum::<f64>() / d.len() as f64;
            d.iter().map(|d| d + f64::from(epsilon) * mean_square.sqrt() * sign(*d)).collect()
        }
    }
}

pub fn p(v: f64) -> f64 {
    if v > 0.0 { v } else { 0.0 }
}

pub fn n(v: f64) -> f64 {
    if v < 0.0 { v } else { 0.0 }
}

impl Formula {
    /// The crate's rule, given the box's bounds.
    pub fn rule(self, low: &Tensor, high: &Tensor) -> LinearRule {
        match self {
            Formula::Epsilon(s) => LinearRule::epsilon(s),
            Formula::Zero => LinearRule::zero(),
            Formula::Norm(s) => LinearRule::norm(s),
            Formula::Gradient => LinearRule::gradient(),
            Formula::Gamma(gamma, s) => LinearRule::gamma(gamma, s),
            Formula::GammaOriginal(gamma, s) => LinearRule::gamma_original(gamma, s),
            Formula::AlphaBeta(alpha, s) => LinearRule::alpha_beta(alpha, s),
            Formula::AlphaBetaX(alpha, beta, s) => LinearRule::alpha_beta_x(alpha, beta, s),
            Formula::ZPlus(s) => LinearRule::z_plus(s),
            Formula::Box(s) => LinearRule::zbox(Bounds { low: Arc::new(low.clone()), high: Arc::new(high.clone()) }, s),
            Formula::WSquare(s) => LinearRule::w_square(s),
            Formula::Flat(s) => LinearRule::flat(s),
            Formula::CaptumGamma(gamma, s) => Dialect::Captum.gamma(gamma, s).unwrap(),
            Formula::CaptumZPlus(s) => Dialect::Captum.z_plus(s),
            Formula::InnvestigateAlphaBeta(alpha, s) => Dialect::Innvestigate.alpha_beta(alpha, s).unwrap(),
            Formula::InnvestigateAlphaBetaX(alpha, beta, s) => {
                Dialect::Innvestigate.alpha_beta_x(alpha, beta, s).unwrap()
            }
            Formula::InnvestigateZPlus(s) => Dialect::Innvestigate.z_plus(s),
            Formula::InnvestigateWSquare(s) => Dialect::Innvestigate.w_square(s).unwrap(),
        }
    }

    /// The relevance by the paper; `low` and `high` have an entry for each input element.
    pub fn answer(self, map: &LinearMap, x: &[f64], arriving: &[f64], low: &[f64], high: &[f64]) -> Answer {
        let mut answer = Answer::default();
        let b = &map.offset;
        let bias = |part: fn(f64) -> f64| b.iter().map(|&b| part(b)).collect::<Vec<f64>>();
        match self {
            Formula::Epsilon(s) | Formula::Norm(s) => {
                answer.divide(1.0, &map.contributions(x, |_, x, w| x * w), b, s, arriving);
            }
            Formula::Zero => {
                let none = Stabilizer::Absolute(0.0);
                answer.divide(1.0, &map.contributions(x, |_, x, w| x * w), b, none, arriving);
            }
            Formula::Gradient => {
                let column = |j: usize| map.jacobian.iter().zip(arriving).map(|(row, r)| row[j] * r).sum();
                answer.relevance = (0..x.len()).map(column).collect();
                answer.scale = arriving.iter().map(|r| r.abs()).sum::<f64>() * 2.0;
            }
            Formula::Gamma(gamma, s) => gamma_answer(&mut answer, f64::from(gamma), s, map, x, arriving),
            Formula::GammaOriginal(gamma, s) => {
                let gamma = f64::from(gamma);
                let bias: Vec<f64> = b.iter().map(|&b| b + gamma * p(b)).collect();
                answer.divide(1.0, &map.contributions(x, |_, x, w| x * (w + gamma * p(w))), &bias, s, arriving);
            }
            Formula::AlphaBetaX(alpha, beta, s) => {
                four_parts(&mut answer, [alpha[0], alpha[1], -beta[0], -beta[1]], s, map, x, arriving);
            }
            // β₂ stands where α₂ is meant.
            Formula::InnvestigateAlphaBetaX(alpha, beta, s) => {
                four_parts(&mut answer, [alpha[0], beta[1], -beta[0], -beta[1]], s, map, x, arriving);
            }
            Formula::AlphaBeta(alpha, s) => {
                alpha_beta_answer(&mut answer, f64::from(alpha), s, map, x, [&bias(p), &bias(n)], arriving);
            }
            // Each copy of the layer brings its own part of b, and the two are added in both denominators.
            Formula::InnvestigateAlphaBeta(alpha, s) => {
                alpha_beta_answer(&mut answer, f64::from(alpha), s, map, x, [b, b], arriving);
            }
            Formula::CaptumGamma(gamma, s) => {
                let gamma = f64::from(gamma);
                answer.divide(1.0, &map.contributions(x, |_, x, w| x * (w + gamma * p(w))), b, s, arriving);
            }
            Formula::CaptumZPlus(s) => {
                answer.divide(1.0, &map.contributions(x, |_, x, w| x * p(w)), b, s, arriving);
            }
            Formula::InnvestigateZPlus(s) => {
                let c = map.contributions(x, |_, x, w| p(x * w));
                answer.divide(1.0, &c, &bias(|_| 0.0), s, arriving);
            }
            Formula::InnvestigateWSquare(s) => {
                answer.divide(1.0, &map.contributions(x, |_, _, w| w * w), &bias(|_| 0.0), s, arriving);
            }
            Formula::ZPlus(s) => {
                let c = map.contributions(x, |_, x, w| p(x * w));
                answer.divide(1.0, &c, &bias(p), s, arriving);
            }
            Formula::Box(s) => {
                let c = map.contributions(x, |j, x, w| x * w - low[j] * p(w) - high[j] * n(w));
                answer.divide(1.0, &c, &bias(|_| 0.0), s, arriving);
            }
            Formula::WSquare(s) => {
                answer.divide(1.0, &map.contributions(x, |_, _, w| w * w), &bias(|b| b * b), s, arriving);
            }
            Formula::Flat(s) => {
                // No weight of these tests is zero, so a zero in J is a pair that the layer does not connect.
                let c = map.contributions(x, |_, _, w| if w == 0.0 { 0.0 } else { 1.0 });
                answer.divide(1.0, &c, &bias(|_| 0.0), s, arriving);
            }
        }
        answer
    }
}

fn gamma_answer(answer: &mut Answer, gamma: f64, s: Stabilizer, map: &LinearMap, x: &[f64], arriving: &[f64]) {
    let z = map.apply(x);
    let served = |serves: fn(f64) -> bool| -> Vec<f64> {
        z.iter().zip(arriving).map(|(&z, &r)| if serves(z) { r } else { 0.0 }).collect()
    };
    let above = map.contributions(x, |_, x, w| p(x) * (w + gamma * p(w)) + n(x) * (w + gamma * n(w)));
    let bias_above: Vec<f64> = map.offset.iter().map(|&b| b + gamma * p(b)).collect();
    answer.divide(1.0, &above, &bias_above, s, &served(|z| z > 0.0));
    let below = map.contributions(x, |_, x, w| p(x) * (w + gamma * n(w)) + n(x) * (w + gamma * p(w)));
    let bias_below: Vec<f64> = map.offset.iter().map(|&b| b + gamma * n(b)).collect();
    answer.divide(1.0, &below, &bias_below, s, &served(|z| z < 0.0));
}

/// With the biases of the two denominators.
fn alpha_beta_answer(
    answer: &mut Answer,
    alpha: f64,
    s: Stabilizer,
    map: &LinearMap,
    x: &[f64],
    [above, below]: [&[f64]; 2],
    arriving: &[f64],
) {
    let raising = map.contributions(x, |_, x, w| p(x * w));
    answer.divide(alpha, &raising, above, s, arriving);
    let lowering = map.contributions(x, |_, x, w| n(x * w));
    answer.divide(-(alpha - 1.0), &lowering, below, s, arriving);
}

/// x⁺w⁺, x⁻w⁻, x⁺w⁻ and x⁻w⁺, each with its factor.
fn four_parts(answer: &mut Answer, factors: [f32; 4], s: Stabilizer, map: &LinearMap, x: &[f64], arriving: &[f64]) {
    let mut part = |factor: f32, c: fn(usize, f64, f64) -> f64, b: fn(f64) -> f64| {
        let bias: Vec<f64> = map.offset.iter().map(|&offset| b(offset)).collect();
        answer.divide(f64::from(factor), &map.contributions(x, c), &bias, s, arriving);
    };
    part(factors[0], |_, x, w| p(x) * p(w), p);
    part(factors[1], |_, x, w| n(x) * n(w), n);
    part(factors[2], |_, x, w| p(x) * n(w), n);
    part(factors[3], |_, x, w| n(x) * p(w), p);
}
