//! `--report` and `--samples` as JSON.

use relprop::relevance::{LayerReport, LayerSums};
use relprop::{Composite, Relevance, Start, network::Link};
use serde::Serialize;

use super::model::Model;

/// A line of `--samples`.
#[derive(Debug, Serialize)]
pub struct SampleLine {
    /// The sample's position.
    pub index: usize,
    /// The file it came from.
    pub source: String,
    /// The explained output.
    pub target: usize,
    /// Its logit.
    pub score: f32,
    /// The relevance that arrives at all inputs together.
    pub relevance_sum: f64,
}

/// `--report`.
#[derive(Debug, Serialize)]
pub struct ReportFile {
    /// What was explained.
    pub model: ModelPart,
    /// The rules, resolved.
    pub composite: CompositePart,
    /// `--target` as given.
    pub target: String,
    /// What computed.
    pub backend: String,
    /// The instruction set and threads, or the GPU's name and interface.
    pub adapter: String,
    /// Whether a GPU held weights as float16.
    pub half_weights: bool,
    /// Versions of the programs at work.
    pub versions: Versions,
    /// On a GPU, the kernels that it ran in all. On the CPU, the plan's steps, each taken once for every chunk of samples;
    /// how many chunks there were is not known here. 0 with the reference.
    pub dispatches: usize,
    /// Sums over all samples, targets and layers.
    pub totals: Totals,
    /// What each layer did, from the input on.
    pub layers: Vec<LayerPart>,
}

/// The model of a report.
#[derive(Debug, Serialize)]
pub struct ModelPart {
    /// The file.
    pub path: String,
    /// SHA-256 of the file's bytes.
    pub digest: String,
    /// The program that wrote it.
    pub producer: String,
    /// Its operator set.
    pub opset: i64,
    /// The explained output.
    pub output: String,
    /// What was folded or left out.
    pub notes: Vec<String>,
}

/// The composite of a report, with every parameter that it has.
#[derive(Debug, Serialize)]
pub struct CompositePart {
    /// Its name.
    pub name: String,
    /// The epsilon rule's own stabiliser.
    pub epsilon: String,
    /// Every other denominator's.
    pub stabilizer: String,
    /// The gamma rule's γ.
    pub gamma: f32,
    /// Whose formulas the rules' names stand for.
    pub dialect: &'static str,
    /// Where relevance starts.
    pub start: String,
}

/// Versions of the programs at work.
#[derive(Debug, Serialize)]
pub struct Versions {
    /// This program's.
    pub relprop: &'static str,
}

/// Sums over all samples, targets and layers: at_output = at_input + bias + epsilon + dropped.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Totals {
    /// How many samples were explained.
    pub samples: usize,
    /// For how many targets each.
    pub targets: usize,
    /// The time it took, reading and writing included.
    pub seconds: f64,
    /// Samples a second.
    pub samples_per_second: f64,
    /// Relevance that the targets began with.
    pub at_output: f64,
    /// Relevance that arrives at the inputs.
    pub at_input: f64,
    /// Relevance that biases absorb.
    pub bias: f64,
    /// Relevance that stabilisers absorb.
    pub epsilon: f64,
    /// The rest.
    pub dropped: f64,
    /// How many relevances are NaN or infinite.
    pub nonfinite: u64,
    /// Whether every layer's relevance is accounted for.
    pub conserves: bool,
}

/// A layer of a report.
#[derive(Debug, Serialize)]
pub struct LayerPart {
    /// Its name.
    pub name: String,
    /// Its rule with its parameters.
    pub rule: String,
    /// Relevance that arrives at its output.
    pub at_output: f64,
    /// Relevance that it gives to its inputs.
    pub at_input: f64,
    /// Relevance that its bias absorbs.
    pub bias: f64,
    /// Relevance that its stabiliser absorbs.
    pub epsilon: f64,
    /// The rest.
    pub dropped: f64,
    /// How many relevances that it gives are NaN or infinite.
    pub nonfinite: u64,
    /// Whether all relevance is accounted for.
    pub conserves: bool,
}

impl From<&LayerReport> for LayerPart {
    fn from(layer: &LayerReport) -> Self {
        let LayerSums { at_output, at_input, bias, epsilon, dropped, nonfinite, .. } = layer.sums;
        LayerPart {
            name: layer.name.clone(),
            rule: layer.rule.clone(),
            at_output,
            at_input,
            bias,
            epsilon,
            dropped,
            nonfinite,
            conserves: layer.sums.conserves(),
        }
    }
}

impl ModelPart {
    /// The part of a model that was read.
    pub fn new(path: &std::path::Path, model: &Model) -> Self {
        ModelPart {
            path: path.display().to_string(),
            digest: model.graph.digest.clone(),
            producer: model.graph.producer.clone(),
            opset: model.graph.opset,
            output: model.network.value(model.network.output()).name.clone(),
            notes: model.network.notes().to_vec(),
        }
    }
}

impl CompositePart {
    /// The part of a composite with its start.
    pub fn new(composite: &Composite, start: &Start) -> Self {
        let options = composite.options();
        CompositePart {
            name: composite.name().to_owned(),
            epsilon: options.resolved_epsilon().to_string(),
            stabilizer: options.resolved_stabilizer().to_string(),
            gamma: options.gamma,
            dialect: options.dialect.name(),
            start: start.to_string(),
        }
    }
}

/// Sums that grow from block to block.
#[derive(Debug, Default)]
pub struct Tally {
    layers: Vec<LayerReport>,
    at_output: f64,
    at_input: f64,
}

impl Tally {
    /// Adds a block's report.
    pub fn add(&mut self, relevance: &Relevance, start: &Start, link: Option<Link>) {
        self.at_output += started(relevance, start, link);
        let arrived = relevance.inputs.iter().flat_map(|named| named.relevance.data());
        self.at_input += arrived.map(|&r| f64::from(r)).sum::<f64>();
        let Some(report) = &relevance.report else { return };
        if self.layers.is_empty() {
            self.layers.clone_from(&report.layers);
        } else {
            self.layers.iter_mut().zip(&report.layers).for_each(|(total, block)| total.sums.add(&block.sums));
        }
    }

    /// The totals and the layers' lines.
    pub fn finish(&self, samples: usize, targets: usize, seconds: f64) -> (Totals, Vec<LayerPart>) {
        let sum = |part: fn(&LayerSums) -> f64| self.layers.iter().map(|layer| part(&layer.sums)).sum::<f64>();
        let (bias, epsilon) = (sum(|sums| sums.bias), sum(|sums| sums.epsilon));
        let totals = Totals {
            samples,
            targets,
            seconds,
            samples_per_second: samples as f64 / seconds.max(f64::MIN_POSITIVE),
            at_output: self.at_output,
            at_input: self.at_input,
            bias,
            epsilon,
            dropped: self.at_output - self.at_input - bias - epsilon,
            nonfinite: self.layers.iter().map(|layer| layer.sums.nonfinite).sum(),
            conserves: self.layers.iter().all(|layer| layer.sums.conserves()),
        };
        (totals, self.layers.iter().map(LayerPart::from).collect())
    }
}

/// The relevance that a block's targets began with.
fn started(relevance: &Relevance, start: &Start, link: Option<Link>) -> f64 {
    if let Start::Given(given) = start {
        return given.data().iter().map(|&r| f64::from(r)).sum();
    }
    let samples = relevance.targets.rows();
    // Classes compete along the last axis; a scalar output is a class of its own.
    let classes = relevance.logits.shape().dims()[1..].last().copied().unwrap_or(1);
    let of_sample = |sample: usize| {
        let logits: Vec<f64> = relevance.logits.row(sample).iter().map(|&logit| f64::from(logit)).collect();
        let targets = relevance.targets.row(sample).iter();
        targets.map(|&target| start.of_sample(&logits, target, classes, link).iter().sum::<f64>()).sum::<f64>()
    };
    (0..samples).map(of_sample).sum()
}
