//! The model and its composite: what `explain` and `inspect` both begin with.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use clap::Args;
use relprop::canonical::{self, canonicalize};
use relprop::composite::{Parameter, PresetOptions};
use relprop::graph::Graph;
use relprop::input::read_npy;
use relprop::rules::{Bounds, Dialect, Stabilizer};
use relprop::{Composite, Error, Network, Result, Start, Tensor, composite_file, onnx};

use super::interrupt;

/// The composite unless another is asked for.
pub const DEFAULT: &str = "epsilon-plus";

/// Which model, and which rules.
#[derive(Debug, Clone, Args)]
pub struct ModelArguments {
    /// The model, as ONNX
    #[arg(value_name = "MODEL.onnx")]
    pub path: PathBuf,

    /// The rules: a preset's name; `epsilon-plus` unless told
    ///
    /// A composite gives each layer its rule. Presets: epsilon, gamma, epsilon-plus, epsilon-plus-flat,
    /// epsilon-alpha2-beta1, epsilon-alpha2-beta1-flat, epsilon-gamma-box, sequential-preset-a, sequential-preset-a-flat,
    /// sequential-preset-b, sequential-preset-b-flat, deep-taylor, deep-taylor-box, excitation-backprop, deconvnet,
    /// guided-backprop, beta-smooth, zero, gradient, gradient-x-input. On dense layers `epsilon-plus` is the epsilon rule.
    ///
    /// A file that ends in .toml holds a composite of your own: a table from layers to rules (README.md, "Your own rules").
    #[arg(long, value_name = "NAME|FILE.toml", value_parser = composite_choice, help_heading = "Rules")]
    pub composite: Option<CompositeChoice>,

    #[command(flatten)]
    pub rules: RuleArguments,
}

/// The parameters of rules, and what of the model is explained.
#[derive(Debug, Clone, Args)]
pub struct RuleArguments {
    /// The epsilon rule's own stabiliser: X, clip:X or rms:X; unless told 1e-6, or the preset's or dialect's own
    #[arg(long, value_name = "X", help_heading = "Rules")]
    pub epsilon: Option<Stabilizer>,

    /// Every other denominator's stabiliser: X, clip:X or rms:X; unless told 1e-6, or the dialect's own
    #[arg(long, value_name = "X", help_heading = "Rules")]
    pub stabilizer: Option<Stabilizer>,

    /// The gamma rule's γ; 0.25 unless told
    #[arg(long, value_name = "X", value_parser = gamma, allow_negative_numbers = true, help_heading = "Rules")]
    pub gamma: Option<f32>,

    /// Whose formulas the rules' names stand for: zennit, captum or innvestigate; zennit unless told
    ///
    /// Tools give one name to different formulas and small numbers. A rule that the tool does not have is refused; the
    /// default has them all.
    #[arg(long, value_name = "TOOL", help_heading = "Rules")]
    pub dialect: Option<Dialect>,

    /// The lowest value that the model's input can take, for the box rule: a number, one a channel, or an array
    ///
    /// Pictures and uint8 arrays need neither --low nor --high: pixels 0 and 255, prepared as the others, are their bounds.
    #[arg(
        long,
        value_name = "X|A,B,C|FILE.npy",
        allow_hyphen_values = true,
        requires = "high",
        help_heading = "Rules"
    )]
    pub low: Option<Bound>,

    /// The highest value that the model's input can take, for the box rule
    #[arg(long, value_name = "X|A,B,C|FILE.npy", allow_hyphen_values = true, requires = "low", help_heading = "Rules")]
    pub high: Option<Bound>,

    /// Explain this output, or any value inside the model; the first output of real numbers unless told
    #[arg(long, value_name = "NAME", help_heading = "Rules")]
    pub output_name: Option<String>,

    /// The extent of a symbolic dimension other than the batch, such as seq=128; repeat it for several
    #[arg(long = "dim", value_name = "NAME=SIZE", value_parser = dimension, help_heading = "Rules")]
    pub dims: Vec<(String, usize)>,

    /// Merge batch norms, factors and offsets that no layer before them takes into the dense layer or convolution behind
    ///
    /// The scores stay; the relevance that an offset holds is absorbed by the merged bias instead of passed on. Unless told
    /// they are layers of their own and pass it, as in zennit.
    #[arg(long, help_heading = "Rules")]
    pub merge_behind: bool,
}

/// A model that was read, with what makes its explanation.
#[derive(Debug)]
pub struct Model {
    /// The file's graph.
    pub graph: Graph,
    /// The network that is explained.
    pub network: Arc<Network>,
    /// Its rules.
    pub composite: Composite,
}

impl ModelArguments {
    /// Reads the model.
    ///
    /// # Errors
    /// If it cannot be read or explained.
    pub fn load(&self) -> Result<Model> {
        let composite = self.composite()?;
        self.rules.check_used(std::slice::from_ref(&composite))?;
        let (graph, network) = self.read()?;
        // Reading a large model takes a while.
        interrupt::check()?;
        Ok(Model { graph, network: Arc::new(network), composite })
    }

    /// Reads the model for several composites; parameters go to those that have them.
    ///
    /// # Errors
    /// If it cannot be read, or no composite has a use for a parameter.
    pub fn load_for(&self, choices: &[CompositeChoice]) -> Result<(Arc<Network>, Vec<Composite>)> {
        let of_choice = |choice: &CompositeChoice| ModelArguments { composite: Some(choice.clone()), ..self.clone() };
        let composites = choices.iter().map(|choice| of_choice(choice).composite()).collect::<Result<Vec<_>>>()?;
        self.rules.check_used(&composites)?;
        let (_, network) = self.read()?;
        interrupt::check()?;
        Ok((Arc::new(network), composites))
    }

    /// The files that are read.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let composite = self.composite.as_ref().and_then(|choice| match choice {
            CompositeChoice::File(path) => Some(path),
            CompositeChoice::Preset(_) => None,
        });
        [&self.path].into_iter().chain(composite).chain(self.rules.files())
    }

    /// The preset's name, or the file's.
    pub fn composite_name(&self) -> String {
        match &self.composite {
            None => DEFAULT.to_owned(),
            Some(CompositeChoice::Preset(name)) => name.clone(),
            Some(CompositeChoice::File(path)) => path.display().to_string(),
        }
    }

    /// The parameters of presets, as they were given.
    pub fn options(&self) -> PresetOptions {
        self.rules.options()
    }

    fn composite(&self) -> Result<Composite> {
        let composite = match &self.composite {
            None => Composite::preset_with(DEFAULT, self.options())?,
            Some(CompositeChoice::Preset(name)) => Composite::preset_with(name, self.options())?,
            Some(CompositeChoice::File(path)) => composite_file::read(path, self.options())?,
        };
        Ok(match (&self.rules.low, &self.rules.high) {
            (Some(low), Some(high)) if composite.uses(Parameter::Bounds) => {
                composite.with_input_bounds(Bounds { low: low.read()?, high: high.read()? })
            }
            _ => composite,
        })
    }

    fn read(&self) -> Result<(Graph, Network)> {
        let graph = onnx::load(&self.path)?;
        let options = canonical::Options {
            output: self.rules.output_name.clone(),
            dims: self.rules.dims.clone(),
            merge_behind: self.rules.merge_behind,
        };
        let network = canonicalize(&graph, &options).map_err(|error| error.context(self.path.display()))?;
        Ok((graph, network))
    }

    /// Reads the network again, for an explainer that holds its weights on a device only.
    #[cfg(feature = "gpu")]
    pub fn reload(&self) -> relprop::explain::Reload {
        let arguments = self.clone();
        relprop::explain::Reload::new(move || arguments.read().map(|(_, network)| network))
    }
}

impl RuleArguments {
    /// The files that are read.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.low, &self.high].into_iter().flatten().filter_map(|bound| match bound {
            Bound::File(path) => Some(path),
            Bound::Numbers(_) => None,
        })
    }

    /// The parameters of presets, as they were given.
    fn options(&self) -> PresetOptions {
        let defaults = PresetOptions::default();
        PresetOptions {
            epsilon: self.epsilon,
            stabilizer: self.stabilizer,
            gamma: self.gamma.unwrap_or(defaults.gamma),
            dialect: self.dialect.unwrap_or(defaults.dialect),
        }
    }

    /// Refuses a parameter that no composite has a use for.
    ///
    /// # Errors
    /// If one was given.
    pub fn check_used(&self, composites: &[Composite]) -> Result<()> {
        let flags = [
            (self.epsilon.is_some(), "--epsilon", Parameter::Epsilon),
            (self.stabilizer.is_some(), "--stabilizer", Parameter::Stabilizer),
            (self.gamma.is_some(), "--gamma", Parameter::Gamma),
            (self.dialect.is_some(), "--dialect", Parameter::Dialect),
            (self.low.is_some(), "--low", Parameter::Bounds),
        ];
        let is_idle = |used: Parameter| !composites.iter().any(|composite| composite.uses(used));
        let Some((_, flag, _)) = flags.into_iter().find(|(given, _, used)| *given && is_idle(*used)) else {
            return Ok(());
        };
        let names: Vec<String> = composites.iter().map(|composite| format!("`{}`", composite.name())).collect();
        Err(usage(
            format!("{flag} makes no difference to the composite {}", names.join(", ")),
            "leave it out, or choose a composite whose rules have it; a .toml file may have set it itself",
        ))
    }
}

impl Model {
    /// The start that is used unless another is asked for.
    pub fn default_start(&self) -> Start {
        self.composite.default_start()
    }
}

/// `--composite`.
#[derive(Debug, Clone)]
pub enum CompositeChoice {
    /// A preset's name.
    Preset(String),
    /// A TOML file.
    File(PathBuf),
}

pub fn composite_choice(text: &str) -> Result<CompositeChoice> {
    match text.ends_with(".toml") {
        true => Ok(CompositeChoice::File(text.into())),
        false => Composite::preset(text).map(|composite| CompositeChoice::Preset(composite.name().to_owned())),
    }
}

fn gamma(text: &str) -> Result<f32, String> {
    let gamma = text.parse::<f32>().ok().filter(|gamma| gamma.is_finite() && *gamma >= 0.0);
    gamma.ok_or_else(|| "give a number of zero or more, such as 0.25".to_owned())
}

/// `--low` or `--high`.
#[derive(Debug, Clone)]
pub enum Bound {
    /// One number, or one a channel.
    Numbers(Vec<f32>),
    /// An array.
    File(PathBuf),
}

impl FromStr for Bound {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.ends_with(".npy") {
            return Ok(Bound::File(text.into()));
        }
        let numbers = text.split(',').map(|number| number.trim().parse::<f32>().ok().filter(|x| x.is_finite()));
        let numbers: Option<Vec<f32>> = numbers.collect();
        numbers.map(Bound::Numbers).ok_or_else(|| "give a number, one a channel as a,b,c, or FILE.npy".to_owned())
    }
}

impl Bound {
    fn read(&self) -> Result<Arc<Tensor>> {
        Ok(Arc::new(match self {
            Bound::Numbers(numbers) => spread_numbers(numbers),
            Bound::File(path) => read_npy(path)?.into_f32(),
        }))
    }
}

/// One number for all, or a list of them.
pub fn spread_numbers(numbers: &[f32]) -> Tensor {
    match numbers {
        [one] => Tensor::scalar(*one),
        several => Tensor::vector(several.to_vec()),
    }
}

fn dimension(text: &str) -> Result<(String, usize), String> {
    let parsed = text.split_once('=').and_then(|(name, extent)| Some((name.to_owned(), extent.parse().ok()?)));
    parsed.ok_or_else(|| "give the dimension's name and its extent, such as seq=128".to_owned())
}

/// The known name that is most like `name`.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = |known: &&str| strsim::jaro_winkler(name, known);
    known.into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
}

/// An error of wrong usage.
pub fn usage(message: impl Into<String>, help: impl Into<String>) -> Error {
    Error::new(relprop::ErrorKind::Argument, message).help(help)
}

#[cfg(test)]
mod tests {
    use relprop::composite::PRESETS;

    #[test]
    fn the_help_of_composite_names_every_preset() {
        use clap::CommandFactory;
        let mut command = crate::cli::Program::command();
        let explain = command.find_subcommand_mut("explain").expect("a command");
        let help = explain.render_long_help().to_string();
        for preset in PRESETS {
            assert!(help.contains(preset), "{preset}");
        }
    }
}
