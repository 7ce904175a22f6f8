//! Composites: ordered tables from layers to rules; the first match wins.

mod bounds;
mod gates;
mod presets;
mod selector;
#[cfg(test)]
mod tests;

pub use presets::{PRESETS, PresetOptions};
pub use selector::Selector;

use std::borrow::Cow;

use crate::error::{Error, Result};
use crate::layers::{Activation, Family, Layer};
use crate::network::{LayerId, LayerNode, Network};
use crate::rules::{Bounds, LinearRule, Quotient, Rule};
use crate::tensor::Shape;

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
    entries: Vec<Entry>,
    finish: Finish,
    uses: Vec<Parameter>,
    bounds: Option<Bounds>,
    options: PresetOptions,
}

/// A line of a composite: the layers that it is for, and their rule.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    selector: Selector,
    rule: Rule,
    /// The place that it was read from.
    origin: Option<String>,
    /// The bounds of the model's input, where its box rule has its own.
    bounds: Option<Bounds>,
    /// Whether it is there for whatever model comes, and not missed where no layer takes it.
    is_general: bool,
}

impl Entry {
    fn new(selector: Selector, rule: Rule) -> Self {
        Entry { selector, rule, origin: None, bounds: None, is_general: false }
    }

    fn describe(&self) -> String {
        match &self.origin {
            Some(origin) => format!("{origin}: {}", self.selector.describe()),
            None => self.selector.describe(),
        }
    }

    /// Names the place that the entry was read from.
    fn place(&self, error: Error) -> Error {
        match &self.origin {
            Some(origin) => error.context(origin),
            None => error,
        }
    }
}

/// What a composite was made with, or still reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parameter {
    /// [`PresetOptions::epsilon`].
    Epsilon,
    /// [`PresetOptions::stabilizer`].
    Stabilizer,
    /// [`PresetOptions::gamma`].
    Gamma,
    /// [`PresetOptions::dialect`].
    Dialect,
    /// The bounds of the model's input, [`Composite::with_input_bounds`].
    Bounds,
}

impl Composite {
    /// A composite without entries.
    pub fn new(name: impl Into<String>) -> Self {
        Composite {
            name: name.into(),
            entries: Vec::new(),
            finish: Finish::Relevance,
            uses: Vec::new(),
            bounds: None,
            options: PresetOptions::default(),
        }
    }

    /// Adds an entry after the ones there are.
    #[must_use]
    pub fn with(mut self, selector: Selector, rule: Rule) -> Self {
        self.entries.push(Entry::new(selector, rule));
        self
    }

    /// Adds an entry before the ones there are, so that it wins over them.
    #[must_use]
    pub fn with_first(mut self, selector: Selector, rule: Rule) -> Self {
        self.entries.insert(0, Entry::new(selector, rule));
        self
    }

    /// Adds an entry after the ones there are, with the place that it was read from, which reasons and errors name, and
    /// the bounds of the model's input for a box rule that has none.
    #[must_use]
    pub fn with_from(
        mut self,
        origin: impl Into<String>,
        selector: Selector,
        rule: Rule,
        bounds: Option<Bounds>,
    ) -> Self {
        self.entries.push(Entry { origin: Some(origin.into()), bounds, ..Entry::new(selector, rule) });
        self
    }

    fn with_general(mut self, selector: Selector, rule: Rule) -> Self {
        self.entries.push(Entry { is_general: true, ..Entry::new(selector, rule) });
        self
    }

    /// Adds another composite's entries after the ones there are, and takes over its finish and options.
    #[must_use]
    pub fn followed_by(mut self, base: Composite) -> Self {
        self.entries.extend(base.entries);
        self.uses.extend(base.uses);
        self.finish = base.finish;
        self.options = base.options;
        self
    }

    pub(crate) fn made_with(mut self, options: PresetOptions) -> Self {
        self.options = options;
        self
    }

    /// The options that it was made with.
    pub fn options(&self) -> PresetOptions {
        self.options
    }

    /// Says that the composite was made with a parameter, or reads it.
    #[must_use]
    pub fn with_use_of(mut self, parameter: Parameter) -> Self {
        self.uses.push(parameter);
        self
    }

    /// Forgets a parameter that was fixed where the composite was read from.
    #[cfg(feature = "files")]
    pub(crate) fn without_use_of(mut self, parameter: Parameter) -> Self {
        self.uses.retain(|used| *used != parameter);
        self
    }

    /// Gives the bounds of the model's inputs to box rules that have none of their own. They are moved to the layer
    /// as the input's elements move, and through the factors and offsets on the way. A list of numbers is one a channel:
    /// along the first axis of a sample that has as many, else along the last.
    #[must_use]
    pub fn with_input_bounds(mut self, bounds: Bounds) -> Self {
        self.bounds = Some(bounds);
        self
    }

    /// Whether a preset's option, or the bounds of the model's input, make a difference to the composite.
    pub fn uses(&self, parameter: Parameter) -> bool {
        self.uses.contains(&parameter)
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

    /// The start that the composite is meant for: 1 where no rule divides (the gradient and its kin), the logit for
    /// relevance.
    pub fn default_start(&self) -> crate::start::Start {
        let divides = |entry: &Entry| match &entry.rule {
            Rule::Linear(rule) => rule.groups.iter().any(|group| group.quotient != Quotient::Plain),
            Rule::Pointwise(_) | Rule::Bilinear(_) => false,
        };
        match self.entries.iter().any(divides) {
            true => crate::start::Start::Logit,
            false => crate::start::Start::One,
        }
    }

    /// One rule for each layer of a network that takes one.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`](crate::ErrorKind::Argument) naming the layer if no entry is for it or its rule is not
    /// for its family, or if an entry with a pattern of names is for no layer, or a rule lacks its bounds;
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) if bounds do not fit the layer's input.
    pub fn assign(&self, network: &Network) -> Result<Assignment> {
        let depths = selector::depths(network);
        let mut choices = Vec::with_capacity(network.layers().len());
        let mut matched = vec![false; self.entries.len()];
        let mut taken = vec![false; self.entries.len()];
        for (id, node) in network.layer_ids() {
            let matches = self.entries.iter().map(|entry| entry.selector.matches(node, depths[id.index()]));
            let matches: Vec<bool> = matches.collect();
            matched.iter_mut().zip(&matches).for_each(|(any, this)| *any |= this);
            if matches!(node.layer.family(), Family::Routing | Family::Lookup) {
                choices.push(None);
                continue;
            }
            let Some(position) = matches.iter().position(|&is_match| is_match) else {
                let message = format!("composite `{}` has no rule for {} layers", self.name, node.layer.kind());
                let error = Error::argument(message).at(&node.name);
                return Err(error.help("add an entry for its name, kind or family"));
            };
            taken[position] = true;
            choices.push(Some(self.choice(network, node, &self.entries[position])?));
        }
        self.check_patterns(network, &matched)?;
        let rule = |id: LayerId| choices[id.index()].as_ref().map(|choice: &Choice| &choice.rule);
        gates::check(network, rule)?;
        let notes = (self.entries.iter().zip(matched).zip(taken))
            .filter(|((entry, _), is_taken)| !is_taken && !entry.is_general)
            .map(|((entry, is_matched), _)| self.note(entry, is_matched))
            .collect();
        Ok(Assignment { choices, finish: self.finish, notes })
    }

    /// Why no layer took an entry.
    fn note(&self, entry: &Entry, is_matched: bool) -> String {
        let why = if is_matched { "entries before it are for every such layer" } else { "the model has no such layer" };
        format!(
            "composite `{}`, {}: no layer takes the rule {}: {why}",
            self.name,
            entry.describe(),
            entry.rule.describe()
        )
    }

    /// Names in a composite are of this model: one that is for no layer is a slip.
    fn check_patterns(&self, network: &Network, matched: &[bool]) -> Result<()> {
        for (entry, is_matched) in self.entries.iter().zip(matched) {
            let patterns = entry.selector.patterns();
            for pattern in &patterns {
                if !network.layers().iter().any(|node| pattern.matches(&node.name)) {
                    let names = network.layers().iter().map(|node| node.name.as_str());
                    let error = crate::error::unknown("layer of the composite", pattern.as_str(), names);
                    return Err(entry.place(error));
                }
            }
            if !patterns.is_empty() && !is_matched {
                let message = format!("no layer is such that its {}", entry.selector.describe());
                return Err(entry.place(Error::argument(message).help("ask for less, or leave the entry out")));
            }
        }
        Ok(())
    }

    fn choice(&self, network: &Network, node: &LayerNode, entry: &Entry) -> Result<Choice> {
        let fits = match (node.layer.family(), &entry.rule) {
            (Family::Linear, Rule::Linear(_)) => true,
            (Family::Affine, Rule::Linear(rule)) => !rule.reads_bounds(),
            (Family::Pointwise, Rule::Pointwise(rule)) => {
                !rule.is_for_rectifiers() || matches!(node.layer, Layer::Activation(Activation::Relu))
            }
            (Family::Affine, Rule::Pointwise(rule)) => !rule.is_for_rectifiers(),
            (Family::Bilinear, Rule::Bilinear(_)) => true,
            (Family::Linear, Rule::Pointwise(_) | Rule::Bilinear(_))
            | (Family::Pointwise, Rule::Linear(_) | Rule::Bilinear(_))
            | (Family::Affine, Rule::Bilinear(_))
            | (Family::Bilinear, Rule::Linear(_) | Rule::Pointwise(_)) => false,
            (Family::Routing | Family::Lookup, _) => false,
        };
        let place = |error: Error| entry.place(error.at(&node.name));
        if !fits {
            let message = format!("a {} layer cannot take the rule {}", node.layer.kind(), entry.rule.describe());
            let help = match &entry.rule {
                Rule::Pointwise(rule) if rule.is_for_rectifiers() => "give it to relu layers alone",
                Rule::Linear(_) | Rule::Pointwise(_) | Rule::Bilinear(_) => "give it a rule of its family",
            };
            return Err(place(Error::argument(message).help(help)));
        }
        let rule = match &entry.rule {
            Rule::Pointwise(rule) => Rule::Pointwise(*rule),
            Rule::Bilinear(rule) => Rule::Bilinear(gates::resolved(*rule, network, node)),
            Rule::Linear(rule) => Rule::Linear(self.bounded(rule, entry, network, node).map_err(place)?.into_owned()),
        };
        Ok(Choice { rule, reason: entry.describe() })
    }

    /// The rule with the bounds that its layer's input has, where it reads them.
    fn bounded<'r>(
        &self,
        rule: &'r LinearRule,
        entry: &Entry,
        network: &Network,
        node: &LayerNode,
    ) -> Result<Cow<'r, LinearRule>> {
        let shape = network.shape(node.inputs[0]);
        match (entry.bounds.as_ref().or(self.bounds.as_ref()), node.inputs.as_slice()) {
            (Some(given), [input]) if rule.reads_bounds() && rule.bounds.is_none() => {
                let bounds = bounds::bounds_at(network, *input, given)?;
                Ok(Cow::Owned(LinearRule { bounds: Some(bounds), ..rule.clone() }))
            }
            _ => check_bounds(rule, shape).map(|()| Cow::Borrowed(rule)),
        }
    }
}

/// Bounds are there where a term reads them, and fit the layer's input.
fn check_bounds(rule: &LinearRule, shape: &Shape) -> Result<()> {
    match &rule.bounds {
        Some(bounds) => {
            bounds.low.broadcast_to(shape).map_err(|error| error.context("lower bound"))?;
            bounds.high.broadcast_to(shape).map_err(|error| error.context("upper bound"))?;
            Ok(())
        }
        None if rule.reads_bounds() => {
            Err(Error::argument(format!("the rule {} reads the bounds of its input but has none", rule.name))
                .help("give the lowest and highest values that the input can take: --low and --high, or low and high of the entry"))
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
    notes: Vec<String>,
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

    /// The composite's own entries that no layer took, and why.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}
