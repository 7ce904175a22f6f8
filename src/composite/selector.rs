//! Which layers an entry of a composite is for.

use std::ops::RangeInclusive;

use glob::Pattern;

use crate::error::{Error, ErrorKind, Result};
use crate::layers::{Family, KINDS};
use crate::network::{LayerNode, Network};

/// Names that stand for several kinds of layers.
const GROUPS: [(&str, &[&str]); 1] = [("convolution", &["conv", "conv-transpose"])];

/// Which layers an entry of a composite is for.
#[derive(Debug, Clone, PartialEq)]
pub enum Selector {
    /// Layers whose name matches a pattern such as `classifier.*`.
    Name(Pattern),
    /// Layers of a kind, such as `dense` or `relu`, or of a group of kinds: `convolution`.
    Kind(String),
    /// Layers of a family.
    Family(Family),
    /// Linear layers reached from an input without passing another linear layer.
    First,
    /// Linear layers by the fewest linear layers on a way from an input to them, themselves included: the first
    /// ones have depth 1.
    Depth(RangeInclusive<usize>),
    /// Layers that any of these is for.
    Any(Vec<Selector>),
    /// Layers that all of these are for.
    All(Vec<Selector>),
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

    /// Layers of a kind, such as `dense` or `relu`, or of a group of kinds: `convolution`.
    pub fn kind(kind: impl Into<String>) -> Self {
        Selector::Kind(kind.into())
    }

    /// Layers of a kind or group of kinds whose name is known.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] with the nearest name if there is no such kind.
    pub fn known_kind(kind: &str) -> Result<Self> {
        let known = KINDS.into_iter().chain(GROUPS.map(|(group, _)| group));
        match known.clone().any(|known| known == kind) {
            true => Ok(Selector::kind(kind)),
            false => Err(crate::error::unknown("kind of layer", kind, known)),
        }
    }

    pub(super) fn matches(&self, node: &LayerNode, depth: Option<usize>) -> bool {
        let kind = node.layer.kind();
        match self {
            Selector::Name(pattern) => pattern.matches(&node.name),
            Selector::Kind(wanted) => {
                wanted == kind || GROUPS.iter().any(|(group, kinds)| group == wanted && kinds.contains(&kind))
            }
            Selector::Family(family) => node.layer.family() == *family,
            Selector::First => depth == Some(1),
            Selector::Depth(wanted) => depth.is_some_and(|depth| wanted.contains(&depth)),
            Selector::Any(selectors) => selectors.iter().any(|selector| selector.matches(node, depth)),
            Selector::All(selectors) => selectors.iter().all(|selector| selector.matches(node, depth)),
        }
    }

    /// The patterns of names that the selector holds.
    pub(super) fn patterns(&self) -> Vec<&Pattern> {
        match self {
            Selector::Name(pattern) => vec![pattern],
            Selector::Any(selectors) | Selector::All(selectors) => {
                selectors.iter().flat_map(Selector::patterns).collect()
            }
            Selector::Kind(_) | Selector::Family(_) | Selector::First | Selector::Depth(_) => Vec::new(),
        }
    }

    pub(super) fn describe(&self) -> String {
        let join = |selectors: &[Selector], word: &str| {
            selectors.iter().map(Selector::describe).collect::<Vec<_>>().join(word)
        };
        match self {
            Selector::Name(pattern) => format!("name matches `{pattern}`"),
            Selector::Kind(kind) => format!("kind is {kind}"),
            Selector::Family(family) => format!("family is {family:?}").to_lowercase(),
            Selector::First => "first linear layer after an input".to_owned(),
            Selector::Depth(depth) if depth.start() == depth.end() => format!("depth is {}", depth.start()),
            Selector::Depth(depth) => format!("depth is {} to {}", depth.start(), depth.end()),
            Selector::Any(selectors) => join(selectors, " or "),
            Selector::All(selectors) if selectors.is_empty() => "any layer".to_owned(),
            Selector::All(selectors) => join(selectors, ", "),
        }
    }
}

/// For each linear layer, the fewest linear layers on a way from an input to it, itself included.
pub(super) fn depths(network: &Network) -> Vec<Option<usize>> {
    let mut passed = vec![None; network.values().len()];
    for input in network.inputs() {
        passed[input.value.index()] = Some(0);
    }
    let mut depths = vec![None; network.layers().len()];
    for (id, node) in network.layer_ids() {
        let before = node.inputs.iter().filter_map(|input| passed[input.index()]).min();
        passed[node.output.index()] = match node.layer.family() {
            Family::Linear => {
                depths[id.index()] = before.map(|before: usize| before + 1);
                depths[id.index()]
            }
            Family::Pointwise | Family::Affine | Family::Routing | Family::Bilinear | Family::Lookup => before,
        };
    }
    depths
}
