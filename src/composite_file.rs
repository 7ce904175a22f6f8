//! Composites from TOML files: a user's own table from layers to rules.
//!
//! ```toml
//! base = "epsilon-plus"          # optional: a preset whose entries follow the file's own
//! dialect = "zennit"             # optional: whose formulas the rules' names stand for; zennit, captum, innvestigate
//!
//! [[entry]]                      # the first entry that is for a layer gives it its rule
//! first = true                   # linear layers reached from an input without passing another
//! rule = "box"
//! low = -1.0                     # a number, one a channel as [a, b, c], or "FILE.npy" beside this file
//! high = 1.0
//!
//! [[entry]]
//! name = "classifier.*"          # * any text, ? one character, [abc] one of several
//! kind = ["dense", "convolution"]
//! depth = [2, 4]                 # or one number: linear layers counted from the input
//! rule = "gamma"
//! gamma = 0.5
//! bias = "left-out"              # counted (unless told), left-out, redistributed
//! ```
//!
//! An entry is for the layers that all of its `name`, `kind`, `family`, `first` and `depth` fit. What a rule is not told
//! comes from the [`PresetOptions`]; bounds of the model's input that an entry is not told come from
//! [`Composite::with_input_bounds`].
//!
//! Files are read with `toml`, Cargo's own reader: kept by the TOML project, and it knows the line of every value.
//! `basic-toml` is smaller but knows no lines; `toml_edit` keeps comments and spaces, which nobody asks for here.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use toml::{Spanned, Table, Value};

use crate::composite::{Composite, Parameter, PresetOptions, Selector};
use crate::error::{Error, ErrorKind, Result};
use crate::input::{Array, read_npy};
use crate::layers::Family;
use crate::rules::{Bias, Bounds, LinearRule, PointwiseRule, Rule, Stabilizer};
use crate::tensor::Tensor;

/// The names of the rules that an entry can give.
pub const RULES: [&str; 16] = [
    "epsilon",
    "zero",
    "norm",
    "gamma",
    "gamma-original",
    "alpha-beta",
    "alpha-beta-x",
    "z-plus",
    "box",
    "w-square",
    "flat",
    "gradient",
    "pass",
    "deconvnet",
    "guided-backprop",
    "beta-smooth",
];

/// Every key that an entry can have.
const KEYS: [&str; 14] = [
    "name",
    "kind",
    "family",
    "first",
    "depth",
    "rule",
    "epsilon",
    "stabilizer",
    "gamma",
    "alpha",
    "beta",
    "low",
    "high",
    "bias",
];

/// Kinds and groups of kinds whose layers are z = W x + b.
const LINEAR_KINDS: [&str; 6] = ["dense", "sum", "average-pool", "convolution", "conv", "conv-transpose"];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: Option<String>,
    base: Option<Spanned<String>>,
    dialect: Option<Spanned<String>>,
    #[serde(default)]
    entry: Vec<Spanned<Table>>,
}

/// Reads a composite from a TOML file.
///
/// # Errors
/// [`ErrorKind::Io`] if the file cannot be read; [`ErrorKind::Malformed`] or [`ErrorKind::Argument`] naming the line if
/// it is no composite.
pub fn read(path: &Path, mut options: PresetOptions) -> Result<Composite> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Error::new(ErrorKind::Io, format!("{}: cannot be read: {error}", path.display()))
            .help("check the path; presets are named without .toml")
            .caused_by(error)
    })?;
    let at = |span: Option<std::ops::Range<usize>>| {
        let before = span.and_then(|span| text.get(..span.start)).unwrap_or_default();
        format!("{}, line {}", path.display(), before.matches('\n').count() + 1)
    };
    let file: File = toml::from_str(&text).map_err(|error| {
        Error::new(ErrorKind::Malformed, format!("{}: {}", at(error.span()), error.message()))
            .help("README.md shows what a composite's file may hold: name, base, dialect and [[entry]]")
    })?;
    if let Some(dialect) = &file.dialect {
        options.dialect = dialect.get_ref().parse().map_err(|error: Error| error.context(at(Some(dialect.span()))))?;
    }
    let stem = || path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut composite = Composite::new(file.name.unwrap_or_else(stem)).made_with(options);
    for table in &file.entry {
        let origin = at(Some(table.span()));
        let mut entry =
            Entry { left: table.get_ref().clone(), asked: Vec::new(), folder: path, options, uses: Vec::new() };
        let read = entry.selector().and_then(|selector| {
            let bounds = entry.bounds()?;
            let rule = entry.rule(&selector)?;
            entry.finish()?;
            Ok((selector, rule, bounds))
        });
        let (selector, rule, bounds) = read.map_err(|error| error.context(&origin))?;
        let reads_bounds = matches!(&rule, Rule::Linear(rule) if rule.reads_bounds());
        if reads_bounds && bounds.is_none() {
            entry.uses.push(Parameter::Bounds);
        }
        composite = entry.uses.into_iter().fold(composite, Composite::with_use_of);
        composite = composite.with_from(origin, selector.described(), rule, bounds);
    }
    let composite = match file.base {
        None if file.entry.is_empty() => {
            return Err(Error::new(
                ErrorKind::Malformed,
                format!("{}: holds neither entries nor a base", path.display()),
            )
            .help("add an [[entry]] with a rule, or base = \"epsilon-plus\""));
        }
        None => composite,
        Some(base) => {
            let preset = Composite::preset_with(base.get_ref(), options);
            composite.followed_by(preset.map_err(|error| error.context(at(Some(base.span()))))?)
        }
    };
    Ok(match file.dialect {
        None => composite,
        Some(_) => composite.without_use_of(Parameter::Dialect),
    })
}

/// The layers that an entry is for.
struct Layers {
    conditions: Vec<Selector>,
    /// Whether they have weights, if that is said.
    is_linear: Option<bool>,
}

impl Layers {
    fn described(mut self) -> Selector {
        match self.conditions.len() {
            1 => self.conditions.remove(0),
            _ => Selector::All(self.conditions),
        }
    }
}

/// An entry while it is read: what is left of it, and what was asked for.
struct Entry<'a> {
    left: Table,
    asked: Vec<&'static str>,
    folder: &'a Path,
    options: PresetOptions,
    uses: Vec<Parameter>,
}

fn wrong(key: &str, value: &Value, wanted: &str) -> Error {
    Error::new(ErrorKind::Malformed, format!("{key} = {value} is not {wanted}")).help(format!("give {key} {wanted}"))
}

impl Entry<'_> {
    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.asked.push(key);
        self.left.remove(key)
    }

    fn selector(&mut self) -> Result<Layers> {
        let mut conditions = Vec::new();
        let mut is_linear = None;
        if let Some(value) = self.take("name") {
            let pattern = value.as_str().ok_or_else(|| wrong("name", &value, "a text such as \"classifier.*\""))?;
            conditions.push(Selector::name(pattern)?);
        }
        if let Some(value) = self.take("kind") {
            let names = match &value {
                Value::Array(names) => names.iter().map(Value::as_str).collect(),
                one => one.as_str().map(|one| vec![one]),
            };
            let names: Vec<&str> =
                names.ok_or_else(|| wrong("kind", &value, "a text, or several as [\"dense\", \"sum\"]"))?;
            let mut kinds = names.iter().map(|name| Selector::known_kind(name)).collect::<Result<Vec<_>>>()?;
            let linear = |name: &&str| LINEAR_KINDS.contains(name);
            is_linear = Some(names.iter().all(linear));
            conditions.push(if kinds.len() == 1 { kinds.remove(0) } else { Selector::Any(kinds) });
        }
        if let Some(value) = self.take("family") {
            let family = match value.as_str() {
                Some("linear") => Family::Linear,
                Some("pointwise") => Family::Pointwise,
                Some("affine") => Family::Affine,
                _ => return Err(wrong("family", &value, "\"linear\", \"pointwise\" or \"affine\"")),
            };
            is_linear = Some(family == Family::Linear);
            conditions.push(Selector::Family(family));
        }
        if let Some(value) = self.take("first") {
            match value.as_bool() {
                Some(true) => conditions.push(Selector::First),
                _ => return Err(wrong("first", &value, "true, or leave it out")),
            }
            is_linear = Some(true);
        }
        if let Some(value) = self.take("depth") {
            let count =
                |value: &Value| value.as_integer().and_then(|depth| usize::try_from(depth).ok()).filter(|&d| d > 0);
            let range = match value.as_array().map(Vec::as_slice) {
                Some([from, to]) => count(from).zip(count(to)),
                Some(_) => None,
                None => count(&value).map(|depth| (depth, depth)),
            };
            let (from, to) = range
                .filter(|(from, to)| from <= to)
                .ok_or_else(|| wrong("depth", &value, "a number from 1 on, or two as [from, to]"))?;
            conditions.push(Selector::Depth(from..=to));
            is_linear = Some(true);
        }
        if conditions.is_empty() {
            return Err(Error::new(ErrorKind::Malformed, "the entry does not say which layers it is for")
                .help("give it name, kind, family, first or depth"));
        }
        Ok(Layers { conditions, is_linear })
    }

    fn rule(&mut self, layers: &Layers) -> Result<Rule> {
        let Some(value) = self.take("rule") else {
            return Err(
                Error::new(ErrorKind::Malformed, "the entry has no rule").help("add rule = \"epsilon\" or another")
            );
        };
        let name = value.as_str().map(|name| name.replace('_', "-")).unwrap_or_default();
        let pointwise = match name.as_str() {
            "pass" => Some(PointwiseRule::Pass),
            "deconvnet" => Some(PointwiseRule::Deconvnet),
            "guided-backprop" => Some(PointwiseRule::GuidedBackprop),
            "beta-smooth" => Some(PointwiseRule::BetaSmooth { beta: self.number("beta")?.unwrap_or(10.0) }),
            "gradient" => match layers.is_linear {
                Some(true) => return Ok(Rule::Linear(LinearRule::gradient())),
                Some(false) => Some(PointwiseRule::Gradient),
                None => {
                    return Err(Error::new(ErrorKind::Malformed, "the rule gradient is of every family")
                        .help("say which layers are meant: family = \"linear\" or \"pointwise\""));
                }
            },
            _ => None,
        };
        if let Some(rule) = pointwise {
            return Ok(Rule::Pointwise(rule));
        }
        let rule = self.linear(&name)?.ok_or_else(|| crate::error::unknown("rule", &name, RULES))?;
        Ok(Rule::Linear(rule.with_bias(self.bias()?)))
    }

    fn linear(&mut self, name: &str) -> Result<Option<LinearRule>> {
        let dialect = self.options.dialect;
        let rule = match name {
            "epsilon" => {
                let given = self.options.resolved_epsilon();
                LinearRule::epsilon(self.stabilizer("epsilon", Parameter::Epsilon, given)?)
            }
            "zero" => dialect.zero(),
            "norm" => LinearRule::norm(self.others()?),
            "gamma" => dialect.gamma(self.gamma()?, self.others()?)?,
            "gamma-original" => dialect.gamma_original(self.gamma()?, self.others()?)?,
            "alpha-beta" => {
                let (alpha, beta) = (self.number("alpha")?, self.number("beta")?);
                let alpha = alpha.or(beta.map(|beta| beta + 1.0)).unwrap_or(2.0);
                let beta = beta.unwrap_or(alpha - 1.0);
                if (alpha - beta - 1.0).abs() > 1e-6 {
                    let message = format!("alpha − beta is {}, not 1", alpha - beta);
                    return Err(Error::new(ErrorKind::Malformed, message).help("give one of them; the other follows"));
                }
                dialect.alpha_beta(alpha, self.others()?)?
            }
            "alpha-beta-x" => dialect.alpha_beta_x(self.pair("alpha")?, self.pair("beta")?, self.others()?)?,
            "z-plus" => dialect.z_plus(self.others()?),
            "box" => dialect.zbox(self.others()?)?,
            "w-square" => dialect.w_square(self.others()?)?,
            "flat" => dialect.flat(self.others()?)?,
            _ => return Ok(None),
        };
        self.uses.push(Parameter::Dialect);
        Ok(Some(rule))
    }

    fn number(&mut self, key: &'static str) -> Result<Option<f32>> {
        let Some(value) = self.take(key) else { return Ok(None) };
        float(&value).map(Some).ok_or_else(|| wrong(key, &value, "a number"))
    }

    fn pair(&mut self, key: &'static str) -> Result<[f32; 2]> {
        let value = self.take(key).unwrap_or(Value::Array(Vec::new()));
        let numbers: Option<Vec<f32>> = value.as_array().and_then(|values| values.iter().map(float).collect());
        numbers.and_then(|numbers| numbers.try_into().ok()).ok_or_else(|| wrong(key, &value, "two numbers as [a, b]"))
    }

    fn gamma(&mut self) -> Result<f32> {
        let gamma = self.number("gamma")?;
        if gamma.is_none() {
            self.uses.push(Parameter::Gamma);
        }
        match gamma.unwrap_or(self.options.gamma) {
            gamma if gamma >= 0.0 => Ok(gamma),
            gamma => Err(wrong("gamma", &Value::Float(gamma.into()), "a number of zero or more")),
        }
    }

    fn others(&mut self) -> Result<Stabilizer> {
        self.stabilizer("stabilizer", Parameter::Stabilizer, self.options.resolved_stabilizer())
    }

    fn stabilizer(&mut self, key: &'static str, parameter: Parameter, given: Stabilizer) -> Result<Stabilizer> {
        match self.take(key) {
            None => {
                self.uses.push(parameter);
                Ok(given)
            }
            Some(Value::String(text)) => text.parse(),
            Some(value) => match float(&value).filter(|epsilon| *epsilon >= 0.0) {
                Some(epsilon) => Ok(Stabilizer::Absolute(epsilon)),
                None => Err(wrong(key, &value, "a number of zero or more, \"clip:X\" or \"rms:X\"")),
            },
        }
    }

    fn bias(&mut self) -> Result<Bias> {
        let Some(value) = self.take("bias") else { return Ok(Bias::Counted) };
        match value.as_str() {
            Some("counted") => Ok(Bias::Counted),
            Some("left-out") => Ok(Bias::LeftOut),
            Some("redistributed") => Ok(Bias::Redistributed),
            _ => Err(wrong("bias", &value, "\"counted\", \"left-out\" or \"redistributed\"")),
        }
    }

    /// `low` and `high`, if the entry's rule is the one that reads them.
    fn bounds(&mut self) -> Result<Option<Bounds>> {
        if self.left.get("rule").and_then(Value::as_str) != Some("box") {
            return Ok(None);
        }
        match (self.bound("low")?, self.bound("high")?) {
            (Some(low), Some(high)) => Ok(Some(Bounds { low: Arc::new(low), high: Arc::new(high) })),
            (None, None) => Ok(None),
            _ => {
                Err(Error::new(ErrorKind::Malformed, "the box rule has one bound of two")
                    .help("give both low and high"))
            }
        }
    }

    fn bound(&mut self, key: &'static str) -> Result<Option<Tensor>> {
        let wanted = "a number, one a channel as [a, b, c], or \"FILE.npy\"";
        let Some(value) = self.take(key) else { return Ok(None) };
        match &value {
            Value::String(file) => {
                let path = self.folder.parent().unwrap_or(Path::new("")).join(file);
                read_npy(&path).map(Array::into_f32).map(Some)
            }
            Value::Array(numbers) => {
                let numbers: Option<Vec<f32>> = numbers.iter().map(float).collect();
                numbers.map(|numbers| Some(Tensor::vector(numbers))).ok_or_else(|| wrong(key, &value, wanted))
            }
            one => float(one).map(|one| Some(Tensor::scalar(one))).ok_or_else(|| wrong(key, one, wanted)),
        }
    }

    /// Nothing of the entry may be left unread.
    fn finish(&self) -> Result<()> {
        let Some(key) = self.left.keys().next() else { return Ok(()) };
        match KEYS.contains(&key.as_str()) {
            true => Err(Error::new(ErrorKind::Malformed, format!("the entry's rule takes no `{key}`"))
                .help(format!("leave it out; the entry may have {}", self.asked.join(", ")))),
            false => Err(crate::error::unknown("key", key, KEYS)),
        }
    }
}

fn float(value: &Value) -> Option<f32> {
    let number = match value {
        Value::Float(number) => *number as f32,
        Value::Integer(number) => *number as f32,
        _ => return None,
    };
    number.is_finite().then_some(number)
}
