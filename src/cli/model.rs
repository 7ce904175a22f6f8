//! The model and its composite: what `explain` and `inspect` both begin with.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use relprop::canonical::{self, canonicalize};
use relprop::composite::PresetOptions;
use relprop::graph::Graph;
use relprop::rules::Stabilizer;
use relprop::{Composite, Error, Network, Result, Start, onnx};

use super::interrupt;

/// Which model, and which rules.
#[derive(Debug, Clone, Args)]
pub struct ModelArguments {
    /// The model, as ONNX
    #[arg(value_name = "MODEL.onnx")]
    pub path: PathBuf,

    /// The rules: a preset's name; `epsilon-plus` unless told
    ///
    /// A composite gives each layer its rule. Presets: epsilon, gamma, epsilon-plus, epsilon-plus-flat,
    /// epsilon-alpha2-beta1, epsilon-alpha2-beta1-flat, epsilon-gamma-box, excitation-backprop, deconvnet,
    /// guided-backprop, beta-smooth, zero, gradient, gradient-x-input. On dense layers `epsilon-plus` is the epsilon rule.
    #[arg(long, value_name = "NAME", default_value = "epsilon-plus", hide_default_value = true)]
    #[arg(value_parser = composite_name, help_heading = "Rules")]
    pub composite: String,

    /// The epsilon rule's own stabiliser: X, clip:X or rms:X; 1e-6 unless told
    #[arg(long, value_name = "X", default_value = "1e-6", hide_default_value = true, help_heading = "Rules")]
    pub epsilon: Stabilizer,

    /// Every other denominator's stabiliser: X, clip:X or rms:X; 1e-6 unless told
    #[arg(long, value_name = "X", default_value = "1e-6", hide_default_value = true, help_heading = "Rules")]
    pub stabilizer: Stabilizer,

    /// Explain this output, or any value inside the model; the first output of real numbers unless told
    #[arg(long, value_name = "NAME", help_heading = "Rules")]
    pub output_name: Option<String>,

    /// The extent of a symbolic dimension other than the batch, such as seq=128; repeat it for several
    #[arg(long = "dim", value_name = "NAME=SIZE", value_parser = dimension, help_heading = "Rules")]
    pub dims: Vec<(String, usize)>,
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
        let options = PresetOptions { epsilon: self.epsilon, stabilizer: self.stabilizer, ..PresetOptions::default() };
        let composite = Composite::preset_with(&self.composite, options)?;
        let (graph, network) = self.read()?;
        // Reading a large model takes a while.
        interrupt::check()?;
        Ok(Model { graph, network: Arc::new(network), composite })
    }

    fn read(&self) -> Result<(Graph, Network)> {
        let graph = onnx::load(&self.path)?;
        let options = canonical::Options { output: self.output_name.clone(), dims: self.dims.clone() };
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

impl Model {
    /// The start that is used unless another is asked for.
    pub fn default_start(&self) -> Start {
        self.composite.default_start()
    }
}

fn composite_name(name: &str) -> Result<String> {
    Composite::preset(name).map(|composite| composite.name().to_owned())
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
