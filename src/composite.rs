//! Composites: ordered tables from layers to rules; the first match wins.

use glob::Pattern;

use crate::error::{Error, ErrorKind, Result};
use crate::layers::Family;
use crate::network::{LayerId, LayerNode, Network};
use crate::rules::{InputPart, LinearRule, PointwiseRule, Rule, Stabilizer};
use crate::tensor::Shape;

/// Which layers an entry of a composite is for.
#[derive(Debug, Clone, PartialEq)]
pub enum Selector {
    /// Layers whose name matches a pattern such as `classifier.*`.
    Name(Pattern),
    /// Layers of a kind, such as `dense` or `relu`.
    Kind(String),
    /// Layers of a family.
    Family(Family),
    /// Linear layers reached from an input without passing another linear layer.
    First,
}

impl Selector {
    /// Layers whose name matches `pattern`, in which `*` stands for any text, `?` for one character and `[…]` for one
    /// of several.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] if the pattern is malformed.
    pub fn name(pattern: &str) -> Result<Self> {
        Pattern::new(pattern).map(Selector::Name).map_err(|error| {
            Error::new(ErrorKind::Argument, format!("`{pattern}` is no pattern of layer names: {error}"))
                .help("use * for any text, ? for one character, [abc] for one of several")
        })
    }

    /// Layers of a kind, such as `dense` or `relu`.
    pub fn kind(kind: impl Into<String>) -> Self {
        Selector::Kind(kind.into())
    }

    fn matches(&self, node: &LayerNode, is_first: bool) -> bool {
        match self {
            Selector::Name(pattern) => pattern.matches(&node.name),
            Selector::Kind(kind) => node.layer.kind() == kind,
            Selector::Family(family) => node.layer.family() == *family,
            Selector::First => is_first,
        }
    }

    fn describe(&self) -> String {
        match self {
            Selector::Name(pattern) => format!("name matches `{pattern}`"),
            Selector::Kind(kind) => format!("kind is {kind}"),
            Selector::Family(family) => format!("family is {family:?}").to_lowercase(),
            Selector::First => "first linear layer after an input".to_owned(),
        }
    }
}

/// What the relevance at the inputs is multiplied with in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// Nothing: it is the relevance.
    Relevance,
    /// The input, element by element.
    TimesInput,
}

/// An ordered table from layers to rules; the first match wins.
///
/// ```
/// use relprop::composite::{Composite, Selector};
/// use relprop::rules::{LinearRule, Rule, Stabilizer};
///
/// let gentle = Rule::Linear(LinearRule::epsilon(Stabilizer::Absolute(0.25)));
/// let composite = Composite::preset("epsilon-plus")?.with_first(Selector::name("head.*")?, gentle);
/// # Ok::<(), relprop::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Composite {
    name: String,
    entries: Vec<(Selector, Rule)>,
    finish: Finish,
}

/// The parameters of presets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PresetOptions {
    /// The ε rule's own stabiliser.
    pub epsilon: Stabilizer,
    /// Every other denominator's stabiliser.
    pub stabilizer: Stabilizer,
}

impl Default for PresetOptions {
    fn default() -> Self {
        PresetOptions { epsilon: Stabilizer::DEFAULT, stabilizer: Stabilizer::DEFAULT }
    }
}

/// The names of the presets.
pub const PRESETS: [&str; 5] = ["epsilon", "epsilon-plus", "zero", "gradient", "gradient-x-input"];

impl Composite {
    /// A composite without entries.
    pub fn new(name: impl Into<String>) -> Self {
        Composite { name: name.into(), entries: Vec::new(), finish: Finish::Relevance }
    }

    /// A preset with its default parameters; `_` may stand for `-` in its name.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] with the nearest name if there is no such preset.
    pub fn preset(name: &str) -> Result<Self> {
        Composite::preset_with(name, PresetOptions::default())
    }

    /// A preset with given parameters.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] with the nearest name if there is no such preset.
    pub fn preset_with(name: &str, options: PresetOptions) -> Result<Self> {
        let wanted = name.replace('_', "-");
        let composite = Composite::new(&wanted);
        match wanted.as_str() {
            "epsilon" | "epsilon-plus" => {
                Ok(composite.with_lrp(LinearRule::epsilon(options.epsilon), LinearRule::norm(options.stabilizer)))
            }
            "zero" => Ok(composite.with_lrp(LinearRule::zero(), LinearRule::zero())),
            "gradient" => Ok(composite.with_gradient(Finish::Relevance)),
            "gradient-x-input" => Ok(composite.with_gradient(Finish::TimesInput)),
            _ => Err(crate::error::unknown("composite", name, PRESETS)),
        }
    }

    fn with_lrp(self, dense: LinearRule, sum: LinearRule) -> Self {
        self.with(Selector::kind("sum"), Rule::Linear(sum))
            .with(Selector::Family(Family::Linear), Rule::Linear(dense))
            .with(Selector::Family(Family::Pointwise), Rule::Pointwise(PointwiseRule::Pass))
            .with(Selector::Family(Family::Affine), Rule::Pointwise(PointwiseRule::Pass))
    }

    fn with_gradient(mut self, finish: Finish) -> Self {
        self.finish = finish;
        self.with(Selector::Family(Family::Linear), Rule::Linear(LinearRule::gradient()))
            .with(Selector::Family(Family::Pointwise), Rule::Pointwise(PointwiseRule::Gradient))
            .with(Selector::Family(Family::Affine), Rule::Pointwise(PointwiseRule::Gradient))
    }

    /// Adds an entry after the ones there are.
    #[must_use]
    pub fn with(mut self, selector: Selector, rule: Rule) -> Self {
        self.entries.push((selector, rule));
        self
    }

    /// Adds an entry before the ones there are, so that it wins over them.
    #[must_use]
    pub fn with_first(mut self, selector: Selector, rule: Rule) -> Self {
        self.entries.insert(0, (selector, rule));
        self
    }

    /// Sets what the relevance at the inputs is multiplied with in the end.
    #[must_use]
    pub fn finish(mut self, finish: Finish) -> Self {
        self.finish = finish;
        self
    }

    /// The composite's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The start that the composite is meant for: 1 for gradients, the logit for relevance.
    pub fn default_start(&self) -> crate::start::Start {
        let is_gradient = |rule: &Rule| matches!(rule, Rule::Pointwise(PointwiseRule::Gradient));
        match self.entries.iter().any(|(_, rule)| is_gradient(rule)) {
            true => crate::start::Start::One,
            false => crate::start::Start::Logit,
        }
    }

    /// One rule for each layer of a network that takes one.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] naming the layer if no entry is for it or its rule is not for its family, or if a
    /// pattern of names matches no layer, or a rule lacks its bounds; [`ErrorKind::Shape`] if bounds do not fit the
    /// layer's input.
    pub fn assign(&self, network: &Network) -> Result<Assignment> {
        let first = first_linear_layers(network);
        let mut choices = Vec::with_capacity(network.layers().len());
        for (id, node) in network.layer_ids() {
            choices.push(self.choose(network, node, first[id.index()])?);
        }
        for (selector, _) in &self.entries {
            let Selector::Name(pattern) = selector else { continue };
            if !network.layers().iter().any(|node| pattern.matches(&node.name)) {
                let names = network.layers().iter().map(|node| node.name.as_str());
                return Err(crate::error::unknown("layer of the composite", pattern.as_str(), names));
            }
        }
        Ok(Assignment { choices, finish: self.finish })
    }

    fn choose(&self, network: &Network, node: &LayerNode, is_first: bool) -> Result<Option<Choice>> {
        let family = node.layer.family();
        if matches!(family, Family::Routing | Family::Lookup) {
            return Ok(None);
        }
        let entry = self.entries.iter().find(|(selector, _)| selector.matches(node, is_first));
        let Some((selector, rule)) = entry else {
            return Err(Error::argument(format!(
                "composite `{}` has no rule for {} layers",
                self.name,
                node.layer.kind()
            ))
            .at(&node.name)
            .help("add an entry for its name, kind or family"));
        };
        let fits = match (family, rule) {
            (Family::Linear, Rule::Linear(_)) | (Family::Pointwise | Family::Affine, Rule::Pointwise(_)) => true,
            (Family::Affine, Rule::Linear(rule)) => rule.bounds.is_none(),
            (Family::Linear, Rule::Pointwise(_)) | (Family::Pointwise, Rule::Linear(_)) => false,
            (Family::Routing | Family::Lookup, _) => false,
        };
        if !fits {
            let message = format!("a {} layer cannot take the rule {}", node.layer.kind(), rule.describe());
            return Err(Error::argument(message).at(&node.name).help("give it a rule of its family"));
        }
        if let Rule::Linear(rule) = rule {
            check_bounds(rule, network.shape(node.inputs[0])).map_err(|error| error.at(&node.name))?;
        }
        Ok(Some(Choice { rule: rule.clone(), reason: selector.describe() }))
    }
}

/// Bounds are there where a term reads them, and fit the layer's input.
fn check_bounds(rule: &LinearRule, shape: &Shape) -> Result<()> {
    let is_bound = |input| matches!(input, InputPart::Low | InputPart::High);
    match &rule.bounds {
        Some(bounds) => {
            bounds.low.broadcast_to(shape).map_err(|error| error.context("lower bound"))?;
            bounds.high.broadcast_to(shape).map_err(|error| error.context("upper bound"))?;
            Ok(())
        }
        None if rule.groups.iter().flat_map(|group| &group.terms).any(|term| is_bound(term.input)) => {
            Err(Error::argument(format!("the rule {} reads the bounds of its input but has none", rule.name))
                .help("give the rule its bounds"))
        }
        None => Ok(()),
    }
}

/// The rule that a layer got, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// The rule.
    pub rule: Rule,
    /// Which entry of the composite chose it.
    pub reason: String,
}

/// One rule for each layer that takes one.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    choices: Vec<Option<Choice>>,
    finish: Finish,
}

impl Assignment {
    /// The rule of a layer; none for layers that only move elements or stop relevance.
    pub fn rule(&self, layer: LayerId) -> Option<&Rule> {
        self.choices[layer.index()].as_ref().map(|choice| &choice.rule)
    }

    /// The rule of a layer with the reason it got it.
    pub fn choice(&self, layer: LayerId) -> Option<&Choice> {
        self.choices[layer.index()].as_ref()
    }

    /// What the relevance at the inputs is multiplied with in the end.
    pub fn finish(&self) -> Finish {
        self.finish
    }
}

/// For each layer, whether it is linear and reached from an input without passing another linear layer.
fn first_linear_layers(network: &Network) -> Vec<bool> {
    let mut fresh = vec![false; network.values().len()];
    for input in network.inputs() {
        fresh[input.value.index()] = true;
    }
    let mut first = vec![false; network.layers().len()];
    for (id, node) in network.layer_ids() {
        let reached = node.inputs.iter().any(|input| fresh[input.index()]);
        match node.layer.family() {
            Family::Linear => first[id.index()] = reached,
            Family::Pointwise | Family::Affine | Family::Routing | Family::Lookup => {
                fresh[node.output.index()] = reached;
            }
        }
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Tensor;

    fn two_layers() -> Network {
        let mut builder = Network::builder();
        let x = builder.input("x", [2]);
        let scaled = builder.affine("scale", x, Tensor::scalar(2.0), Tensor::scalar(0.0)).unwrap();
        let hidden = builder.dense("fc1", scaled, Tensor::from_fn([2, 2], |i| i as f32), None).unwrap();
        let active = builder.relu("relu", hidden).unwrap();
        let output = builder.dense("fc2", active, Tensor::from_fn([1, 2], |i| i as f32), None).unwrap();
        builder.build(output).unwrap()
    }

    #[test]
    fn the_first_match_wins_and_affine_layers_are_never_first() {
        let composite = Composite::preset("epsilon_plus")
            .unwrap()
            .with_first(Selector::First, Rule::Linear(LinearRule::flat(Stabilizer::DEFAULT)));
        let assignment = composite.assign(&two_layers()).unwrap();
        let names: Vec<String> = (0..4).map(|i| assignment.rule(LayerId(i)).unwrap().describe()).collect();
        assert_eq!(names, ["pass", "flat", "pass", "epsilon(1e-6)"]);
        assert_eq!(assignment.choice(LayerId(1)).unwrap().reason, "first linear layer after an input");
    }

    #[test]
    fn an_unknown_preset_names_the_nearest() {
        let error = Composite::preset("epsilon-plas").unwrap_err();
        assert!(error.advice().unwrap().contains("epsilon-plus"), "{error}");
    }

    #[test]
    fn a_rule_of_another_family_is_refused() {
        let pass = Rule::Pointwise(PointwiseRule::Pass);
        let composite = Composite::preset("epsilon").unwrap().with_first(Selector::name("fc*").unwrap(), pass);
        let error = composite.assign(&two_layers()).unwrap_err();
        assert_eq!(error.node(), Some("fc1"));
    }

    #[test]
    fn a_pattern_that_matches_no_layer_is_an_error() {
        let rule = Rule::Linear(LinearRule::zero());
        let composite = Composite::preset("epsilon").unwrap().with_first(Selector::name("fc9").unwrap(), rule);
        assert!(composite.assign(&two_layers()).unwrap_err().advice().unwrap().contains("fc"));
    }

    #[test]
    fn bounds_that_are_missing_or_do_not_fit_are_refused() {
        let boxed = |width: usize| {
            let bound = std::sync::Arc::new(Tensor::zeros([width]));
            LinearRule::zbox(crate::rules::Bounds { low: bound.clone(), high: bound }, Stabilizer::DEFAULT)
        };
        let assign = |rule: LinearRule| {
            let composite = Composite::preset("epsilon").unwrap();
            composite.with_first(Selector::First, Rule::Linear(rule)).assign(&two_layers())
        };
        assert!(assign(boxed(2)).is_ok());
        let error = assign(boxed(3)).unwrap_err();
        assert_eq!((error.node(), error.kind()), (Some("fc1"), ErrorKind::Shape));
        let error = assign(LinearRule { bounds: None, ..boxed(2) }).unwrap_err();
        assert_eq!((error.node(), error.kind()), (Some("fc1"), ErrorKind::Argument));
    }
}
