//! Composites by name, with zennit's assignments where zennit has the name.
//!
//! "First layer" is every linear layer reached from an input without passing another; zennit takes the first in the
//! order in which modules are listed, which is the same on a chain.

use super::{Composite, Finish, Parameter, Selector};
use crate::error::Result;
use crate::layers::Family;
use crate::rules::{BilinearRule, LinearRule, PointwiseRule, Rule, Stabilizer};

/// The parameters of presets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PresetOptions {
    /// The ε rule's own stabiliser.
    pub epsilon: Stabilizer,
    /// Every other denominator's stabiliser.
    pub stabilizer: Stabilizer,
    /// γ.
    pub gamma: f32,
}

impl Default for PresetOptions {
    fn default() -> Self {
        PresetOptions { epsilon: Stabilizer::DEFAULT, stabilizer: Stabilizer::DEFAULT, gamma: 0.25 }
    }
}

/// β of the preset `beta-smooth`.
const BETA: f32 = 10.0;

/// The names of the presets.
pub const PRESETS: [&str; 14] = [
    "epsilon",
    "gamma",
    "epsilon-plus",
    "epsilon-plus-flat",
    "epsilon-alpha2-beta1",
    "epsilon-alpha2-beta1-flat",
    "epsilon-gamma-box",
    "excitation-backprop",
    "deconvnet",
    "guided-backprop",
    "beta-smooth",
    "zero",
    "gradient",
    "gradient-x-input",
];

impl Composite {
    /// A preset with its default parameters; `_` may stand for `-` in its name.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`](crate::ErrorKind::Argument) with the nearest name if there is no such preset.
    pub fn preset(name: &str) -> Result<Self> {
        Composite::preset_with(name, PresetOptions::default())
    }

    /// A preset with given parameters.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`](crate::ErrorKind::Argument) with the nearest name if there is no such preset.
    pub fn preset_with(name: &str, options: PresetOptions) -> Result<Self> {
        use Parameter::{Epsilon, Gamma, Stabilizer};
        let PresetOptions { epsilon, stabilizer, gamma } = options;
        let wanted = name.replace('_', "-");
        let empty = Composite::new(&wanted);
        let lrp = || empty.clone().using(&[Epsilon, Stabilizer]).general("sum", LinearRule::norm(stabilizer));
        let plus = || LinearRule::z_plus(stabilizer);
        let alpha_beta = || LinearRule::alpha_beta(2.0, stabilizer);
        let flat = || lrp().with(Selector::First, Rule::Linear(LinearRule::flat(stabilizer)));
        let dense = LinearRule::epsilon(epsilon);
        let pass = PointwiseRule::Pass;
        Ok(match wanted.as_str() {
            "epsilon" => lrp().rest(dense, pass),
            "gamma" => (empty.using(&[Stabilizer, Gamma]).general("sum", LinearRule::norm(stabilizer)))
                .rest(LinearRule::gamma(gamma, stabilizer), pass),
            "epsilon-plus" => lrp().convolutions(plus()).rest(dense, pass),
            "epsilon-plus-flat" => flat().convolutions(plus()).rest(dense, pass),
            "epsilon-alpha2-beta1" => lrp().convolutions(alpha_beta()).rest(dense, pass),
            "epsilon-alpha2-beta1-flat" => flat().convolutions(alpha_beta()).rest(dense, pass),
            "epsilon-gamma-box" => {
                let first = Selector::All(vec![Selector::First, Selector::kind("convolution")]);
                (lrp().using(&[Gamma, Parameter::Bounds]))
                    .with(first, Rule::Linear(LinearRule::zbox_unbounded(stabilizer)))
                    .convolutions(LinearRule::gamma(gamma, stabilizer))
                    .rest(dense, pass)
            }
            "excitation-backprop" => (empty.using(&[Stabilizer]).general("sum", LinearRule::norm(stabilizer)))
                .rest(plus(), PointwiseRule::Gradient),
            "deconvnet" => empty.rectifiers(PointwiseRule::Deconvnet),
            "guided-backprop" => empty.rectifiers(PointwiseRule::GuidedBackprop),
            "beta-smooth" => empty.rectifiers(PointwiseRule::BetaSmooth { beta: BETA }),
            "zero" => empty.rest(LinearRule::zero(), pass),
            "gradient" => empty.rest(LinearRule::gradient(), PointwiseRule::Gradient),
            "gradient-x-input" => {
                empty.rest(LinearRule::gradient(), PointwiseRule::Gradient).finish(Finish::TimesInput)
            }
            _ => return Err(crate::error::unknown("composite", name, PRESETS)),
        })
    }

    fn using(mut self, parameters: &[Parameter]) -> Self {
        self.uses.extend(parameters);
        self
    }

    /// An entry that is there for whatever model comes, and not missed where no layer takes it.
    fn general(self, kind: &str, rule: LinearRule) -> Self {
        self.with_general(Selector::kind(kind), Rule::Linear(rule))
    }

    fn convolutions(self, rule: LinearRule) -> Self {
        self.with(Selector::kind("convolution"), Rule::Linear(rule))
    }

    /// What rectifiers do; everything else takes the gradient.
    fn rectifiers(self, rule: PointwiseRule) -> Self {
        self.with(Selector::kind("relu"), Rule::Pointwise(rule)).rest(LinearRule::gradient(), PointwiseRule::Gradient)
    }

    fn rest(self, linear: LinearRule, elementwise: PointwiseRule) -> Self {
        self.with_general(Selector::Family(Family::Linear), Rule::Linear(linear))
            .with_general(Selector::Family(Family::Pointwise), Rule::Pointwise(elementwise))
            .with_general(Selector::Family(Family::Affine), Rule::Pointwise(elementwise))
            .with_general(Selector::Family(Family::Bilinear), Rule::Bilinear(products(elementwise)))
    }
}

/// What products of activations do beside activations that follow a rule: nothing is silently a gradient.
fn products(elementwise: PointwiseRule) -> BilinearRule {
    match elementwise {
        PointwiseRule::Gradient => BilinearRule::Gradient,
        PointwiseRule::Pass
        | PointwiseRule::Deconvnet
        | PointwiseRule::GuidedBackprop
        | PointwiseRule::BetaSmooth { .. } => BilinearRule::Gated,
    }
}
