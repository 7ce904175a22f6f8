//! Composites by name, with zennit's or innvestigate's assignments where they have the name.
//!
//! A preset says which rule each layer gets; the [`Dialect`] says whose formula that is, zennit's unless told.
//! "First layer" is every linear layer reached from an input without passing another; zennit takes the first in the
//! order in which modules are listed, which is the same on a chain. Sums and average pools take the norm rule wherever a
//! preset does not give one rule to all (`zero`, where norm would be the same with another ε, and the gradients).
//!
//! The sequential presets are innvestigate's (`lrp.sequential_preset_a` and its kin): ε = 0.1 on dense layers, on
//! convolutions α = 1 (A) or α = 2 (B), and flat where the input is read. Batch norms, to which innvestigate gives a rule of
//! their own, are part of the linear layer before them here.
//!
//! `deep-taylor` is Montavon et al. 2017, Explaining NonLinear Classification Decisions with Deep Taylor Decomposition, on
//! networks of rectifiers: z⁺ on linear layers, and with `deep-taylor-box` zᴮ on the first ones, whose input has bounds; for
//! inputs of any real number the paper has w² there, which an entry of one's own gives. innvestigate's analyzer of that
//! name also cuts the output at zero, and gives w² to layers without an activation of their own, the last one among them.
//! `excitation-backprop` is Zhang et al. 2016, Top-Down Neural Attention by Excitation Backprop.

use super::{Composite, Finish, Parameter, Selector};
use crate::error::{Error, Result};
use crate::layers::Family;
use crate::rules::{BilinearRule, Dialect, LinearRule, PointwiseRule, Rule, Stabilizer};

/// The parameters of presets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PresetOptions {
    /// The ε rule's own stabiliser; unless told, the preset's if it has one, else the dialect's.
    pub epsilon: Option<Stabilizer>,
    /// Every other denominator's stabiliser; the dialect's unless told.
    pub stabilizer: Option<Stabilizer>,
    /// γ.
    pub gamma: f32,
    /// Whose formulas the rules' names stand for.
    pub dialect: Dialect,
}

impl Default for PresetOptions {
    fn default() -> Self {
        PresetOptions { epsilon: None, stabilizer: None, gamma: 0.25, dialect: Dialect::default() }
    }
}

impl PresetOptions {
    /// The ε rule's own stabiliser, told or the dialect's.
    pub fn resolved_epsilon(&self) -> Stabilizer {
        self.epsilon.unwrap_or(self.dialect.default_epsilon())
    }

    /// Every other denominator's stabiliser, told or the dialect's.
    pub fn resolved_stabilizer(&self) -> Stabilizer {
        self.stabilizer.unwrap_or(self.dialect.default_stabilizer())
    }
}

/// β of the preset `beta-smooth`.
const BETA: f32 = 10.0;

/// ε of innvestigate's presets.
const SEQUENTIAL_EPSILON: Stabilizer = Stabilizer::Absolute(0.1);

/// What other names of presets begin with, innvestigate's own among them, and what is meant.
const ALIASES: [(&str, &str); 2] = [("lrp.", ""), ("preset-", "sequential-preset-")];

/// The names of the presets.
pub const PRESETS: [&str; 20] = [
    "epsilon",
    "gamma",
    "epsilon-plus",
    "epsilon-plus-flat",
    "epsilon-alpha2-beta1",
    "epsilon-alpha2-beta1-flat",
    "epsilon-gamma-box",
    "sequential-preset-a",
    "sequential-preset-a-flat",
    "sequential-preset-b",
    "sequential-preset-b-flat",
    "deep-taylor",
    "deep-taylor-box",
    "excitation-backprop",
    "deconvnet",
    "guided-backprop",
    "beta-smooth",
    "zero",
    "gradient",
    "gradient-x-input",
];

impl Composite {
    /// A preset with its default parameters. `_` may stand for `-` in its name, and `preset-a` for `sequential-preset-a`.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`](crate::ErrorKind::Argument) with the nearest name if there is no such preset.
    pub fn preset(name: &str) -> Result<Self> {
        Composite::preset_with(name, PresetOptions::default())
    }

    /// A preset with given parameters.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`](crate::ErrorKind::Argument) with the nearest name if there is no such preset, or if the
    /// dialect's tool lacks a rule of it.
    pub fn preset_with(name: &str, options: PresetOptions) -> Result<Self> {
        use Parameter::{Bounds, Epsilon, Gamma, Stabilizer};
        let wanted = canonical(name);
        let options = match wanted.starts_with("sequential-preset-") {
            true => PresetOptions { epsilon: options.epsilon.or(Some(SEQUENTIAL_EPSILON)), ..options },
            false => options,
        };
        let PresetOptions { gamma, dialect, .. } = options;
        let (epsilon, stabilizer) = (options.resolved_epsilon(), options.resolved_stabilizer());
        let empty = Composite::new(&wanted).made_with(options);
        let norms = |uses: &[Parameter]| {
            let composite = empty.clone().using(&[Stabilizer, Parameter::Dialect]).using(uses);
            // Both add up what they read, with factors that are no parameters.
            ["sum", "average-pool"].into_iter().fold(composite, |composite, kind| {
                composite.with_general(Selector::kind(kind), Rule::Linear(LinearRule::norm(stabilizer)))
            })
        };
        let flat = || Ok::<_, Error>(norms(&[Epsilon]).with(Selector::First, Rule::Linear(dialect.flat(stabilizer)?)));
        let z_plus = || dialect.z_plus(stabilizer);
        let alpha_beta = |alpha| dialect.alpha_beta(alpha, stabilizer);
        let dense = LinearRule::epsilon(epsilon);
        let pass = PointwiseRule::Pass;
        Ok(match wanted.as_str() {
            "epsilon" => norms(&[Epsilon]).rest(dense, pass),
            "gamma" => norms(&[Gamma]).rest(dialect.gamma(gamma, stabilizer)?, pass),
            "epsilon-plus" => norms(&[Epsilon]).convolutions(z_plus()).rest(dense, pass),
            "epsilon-plus-flat" => flat()?.convolutions(z_plus()).rest(dense, pass),
            "epsilon-alpha2-beta1" => norms(&[Epsilon]).convolutions(alpha_beta(2.0)?).rest(dense, pass),
            "epsilon-alpha2-beta1-flat" => flat()?.convolutions(alpha_beta(2.0)?).rest(dense, pass),
            "epsilon-gamma-box" => {
                let first = Selector::All(vec![Selector::First, Selector::kind("convolution")]);
                norms(&[Epsilon, Gamma, Bounds])
                    .with(first, Rule::Linear(dialect.zbox(stabilizer)?))
                    .convolutions(dialect.gamma(gamma, stabilizer)?)
                    .rest(dense, pass)
            }
            "sequential-preset-a" => norms(&[Epsilon]).convolutions(alpha_beta(1.0)?).rest(dense, pass),
            "sequential-preset-a-flat" => flat()?.convolutions(alpha_beta(1.0)?).rest(dense, pass),
            "sequential-preset-b" => norms(&[Epsilon]).convolutions(alpha_beta(2.0)?).rest(dense, pass),
            "sequential-preset-b-flat" => flat()?.convolutions(alpha_beta(2.0)?).rest(dense, pass),
            "deep-taylor" => norms(&[]).rest(z_plus(), pass),
            "deep-taylor-box" => {
                let zbox = Rule::Linear(dialect.zbox(stabilizer)?);
                norms(&[Bounds]).with(Selector::First, zbox).rest(z_plus(), pass)
            }
            "excitation-backprop" => norms(&[]).rest(z_plus(), PointwiseRule::Gradient),
            "deconvnet" => empty.rectifiers(PointwiseRule::Deconvnet),
            "guided-backprop" => empty.rectifiers(PointwiseRule::GuidedBackprop),
            "beta-smooth" => empty.rectifiers(PointwiseRule::BetaSmooth { beta: BETA }),
            "zero" => empty.using(&[Parameter::Dialect]).rest(dialect.zero(), pass),
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

/// The name in [`PRESETS`] that is meant.
fn canonical(name: &str) -> String {
    ALIASES.into_iter().fold(name.replace('_', "-"), |name, (start, meant)| match name.strip_prefix(start) {
        Some(rest) => format!("{meant}{rest}"),
        None => name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rule of the first entry for a kind or group of kinds, if the preset names it.
    fn named(preset: &str, kind: &str, dialect: Dialect) -> Option<String> {
        let composite = Composite::preset_with(preset, PresetOptions { dialect, ..Default::default() }).unwrap();
        let entry = composite.entries.iter().find(|entry| entry.selector == Selector::kind(kind));
        entry.map(|entry| entry.rule.describe())
    }

    #[test]
    fn sums_and_average_pools_take_the_norm_rule() {
        for preset in PRESETS {
            let gives_one_rule_to_all =
                ["deconvnet", "guided-backprop", "beta-smooth", "zero", "gradient", "gradient-x-input"];
            let expected = (!gives_one_rule_to_all.contains(&preset)).then(|| "norm(1e-6)".to_owned());
            for kind in ["sum", "average-pool"] {
                assert_eq!(named(preset, kind, Dialect::Zennit), expected, "{preset}, {kind}");
            }
        }
        assert_eq!(named("epsilon", "sum", Dialect::Captum).unwrap(), "norm(1e-9)");
        assert_eq!(named("epsilon", "sum", Dialect::Innvestigate).unwrap(), "norm(clip:1e-7)");
    }

    #[test]
    fn convolutions_take_the_rule_of_the_presets_name() {
        let innvestigate = Dialect::Innvestigate;
        let expected = [
            ("epsilon-plus", Dialect::Zennit, "z-plus"),
            ("epsilon-plus-flat", innvestigate, "z-plus, bias left out"),
            ("epsilon-plus", Dialect::Captum, "captum's z-plus"),
            ("epsilon-alpha2-beta1", Dialect::Zennit, "alpha-beta(2)"),
            ("epsilon-gamma-box", Dialect::Zennit, "gamma(0.25)"),
            ("sequential-preset-a", Dialect::Zennit, "alpha-beta(1)"),
            ("sequential-preset-a", Dialect::Captum, "captum's z-plus"),
            ("sequential-preset-a-flat", innvestigate, "innvestigate's alpha-beta(1)"),
            ("sequential-preset-b", innvestigate, "innvestigate's alpha-beta(2)"),
            ("sequential-preset-b-flat", Dialect::Zennit, "alpha-beta(2)"),
        ];
        for (preset, dialect, rule) in expected {
            assert_eq!(named(preset, "convolution", dialect).as_deref(), Some(rule), "{preset}, {dialect}");
        }
    }

    #[test]
    fn other_names_of_presets_are_taken() {
        for (name, canonical) in [
            ("preset_a", "sequential-preset-a"),
            ("preset-b-flat", "sequential-preset-b-flat"),
            ("lrp.sequential_preset_a_flat", "sequential-preset-a-flat"),
            ("lrp.epsilon", "epsilon"),
            ("deep_taylor", "deep-taylor"),
        ] {
            assert_eq!(Composite::preset(name).unwrap().name(), canonical);
        }
    }

    #[test]
    fn what_is_not_told_is_the_presets_own_or_the_dialects() {
        let options = |preset, given| Composite::preset_with(preset, given).unwrap().options();
        let innvestigate = PresetOptions { dialect: Dialect::Innvestigate, ..Default::default() };
        assert_eq!(options("epsilon", innvestigate).resolved_epsilon(), Stabilizer::Absolute(1e-7));
        assert_eq!(options("epsilon", innvestigate).resolved_stabilizer(), Stabilizer::Clip(1e-7));
        assert_eq!(options("preset-a", innvestigate).resolved_epsilon(), Stabilizer::Absolute(0.1));
        let told = PresetOptions { epsilon: Some(Stabilizer::Rms(0.5)), ..innvestigate };
        assert_eq!(options("preset-a", told).resolved_epsilon(), Stabilizer::Rms(0.5));
    }

    #[test]
    fn presets_with_a_rule_that_the_dialects_tool_lacks_are_refused() {
        let refused = |dialect| {
            let with = |preset: &&str| Composite::preset_with(preset, PresetOptions { dialect, ..Default::default() });
            PRESETS.into_iter().filter(|preset| with(preset).is_err()).collect::<Vec<_>>()
        };
        assert!(refused(Dialect::Zennit).is_empty());
        assert_eq!(refused(Dialect::Innvestigate), ["gamma", "epsilon-gamma-box"]);
        let of_captum = refused(Dialect::Captum);
        assert!(of_captum.contains(&"epsilon-plus-flat") && of_captum.contains(&"deep-taylor-box"), "{of_captum:?}");
        assert!(!of_captum.contains(&"gamma") && !of_captum.contains(&"deep-taylor"), "{of_captum:?}");
    }
}
