//! `relprop inspect`: what a model became, which rule each layer got, and what an explanation costs.

use std::fmt::Write as _;

use bytesize::ByteSize;
use clap::Args;
use relprop::composite::Finish;
use relprop::network::{BatchAxis, InputKind, LayerNode};
use relprop::plan::Plan;
use relprop::{Backend, Explainer, Network, Request, Result, Shape};
use serde::Serialize;

use super::console::{thousands, to_json, to_stdout};
use super::engine::positive;
use super::model::{Model, ModelArguments};
use super::table::table;
use super::target::{TargetChoice, resolve_targets};

const AFTER_HELP: &str = "\
Examples:
  relprop inspect model.onnx
  relprop inspect model.onnx --composite gradient --target all
  relprop inspect model.onnx --batch-size 4096 --json > plan.json";

/// Show a model's layers, the rule each gets and why, the plan's steps, and what they cost.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,

    /// The targets to plan for: argmax (unless told), an index, several as i,j,…, top:K or all
    #[arg(long, value_name = "WHICH", default_value = "argmax", hide_default_value = true)]
    target: TargetChoice,

    /// The number of samples to count memory and work for; 256 unless told
    #[arg(long, value_name = "N", value_parser = positive, default_value = "256", hide_default_value = true)]
    batch_size: usize,

    /// Print one JSON object instead
    #[arg(long)]
    json: bool,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Inspection {
    model: String,
    digest: String,
    producer: String,
    opset: i64,
    inputs: Vec<ValueLine>,
    output: ValueLine,
    notes: Vec<String>,
    composite: String,
    layers: Vec<LayerLine>,
    plan: PlanPart,
}

/// A value of the model's own.
#[derive(Debug, Serialize)]
struct ValueLine {
    name: String,
    kind: &'static str,
    shape: String,
}

/// A layer with its rule.
#[derive(Debug, Serialize)]
struct LayerLine {
    name: String,
    kind: &'static str,
    inputs: Vec<Vec<usize>>,
    output: Vec<usize>,
    parameters: usize,
    rule: Option<String>,
    why: Option<String>,
}

/// What an explanation of a batch does.
#[derive(Debug, Serialize)]
struct PlanPart {
    batch: usize,
    targets: usize,
    steps: Vec<String>,
    forward_steps: usize,
    dispatches: usize,
    product_dispatches: usize,
    other_dispatches: usize,
    multiply_adds: u64,
    forward_multiply_adds: u64,
    bytes: u64,
    least_bytes: u64,
    scratch_bytes: usize,
    scratch_bytes_a_sample: usize,
    weight_bytes: usize,
}

/// Prints what a model became.
///
/// # Errors
/// If the model cannot be read or explained.
pub fn run(arguments: &Arguments) -> Result<()> {
    let model = arguments.model.load()?;
    let explainer = Explainer::new(model.network.clone(), &model.composite, Backend::Cpu)?;
    let targets = match &arguments.target {
        TargetChoice::File(path) => {
            return Err(super::model::usage(
                format!("{}: a plan does not depend on the targets of each sample", path.display()),
                "leave --target out: one target a sample is what it plans for",
            ));
        }
        choice => resolve_targets(choice, arguments.batch_size, explainer.outputs())?,
    };
    let plan = explainer.plan(&Request::new(targets))?;
    super::interrupt::check()?;
    let inspection = Inspection::new(arguments, &model, &explainer, &plan);
    if arguments.json {
        return to_stdout(&to_json(&inspection)?);
    }
    to_stdout(&inspection.text())
}

impl Inspection {
    fn new(arguments: &Arguments, model: &Model, explainer: &Explainer, plan: &Plan) -> Self {
        let network = &model.network;
        let input = |input: &relprop::network::Input| {
            let kind = if input.kind == InputKind::Float { "real numbers" } else { "integers" };
            value_line(network, input.value, kind)
        };
        let layer = |(id, node): (relprop::network::LayerId, &LayerNode)| {
            let choice = explainer.rules().choice(id);
            LayerLine {
                name: node.name.clone(),
                kind: node.layer.kind(),
                inputs: node.inputs.iter().map(|&value| network.shape(value).dims().to_vec()).collect(),
                output: network.shape(node.output).dims().to_vec(),
                parameters: node.layer.parameters().iter().map(|tensor| tensor.count()).sum(),
                rule: choice.map(|choice| choice.rule.describe()),
                why: choice.map(|choice| choice.reason.clone()),
            }
        };
        let finish = match explainer.rules().finish() {
            Finish::Relevance => "",
            Finish::TimesInput => ", in the end times the input",
        };
        Inspection {
            model: arguments.model.path.display().to_string(),
            digest: model.graph.digest.clone(),
            producer: model.graph.producer.clone(),
            opset: model.graph.opset,
            inputs: network.inputs().iter().map(input).collect(),
            output: value_line(network, network.output(), "explained"),
            notes: network.notes().iter().chain(explainer.rules().notes()).cloned().collect(),
            composite: format!("{}{finish}", model.composite.name()),
            layers: network.layer_ids().map(layer).collect(),
            plan: PlanPart::new(network, plan, arguments.batch_size),
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |key: &str, value: &str| {
            let _ = writeln!(text, "{key:<10} {value}");
        };
        line("model", &self.model);
        line("sha256", &self.digest);
        line("producer", &format!("{}, opset {}", self.producer, self.opset));
        for input in &self.inputs {
            line("input", &format!("{} {}, {}", input.name, input.shape, input.kind));
        }
        line("output", &format!("{} {}, {}", self.output.name, self.output.shape, self.output.kind));
        line("composite", &self.composite);
        self.notes.iter().for_each(|note| line("note", note));
        text.push_str("\nLayers, from the input on; shapes are one sample's\n");
        text.push_str(&table(&self.layer_rows()));
        text.push_str(&self.plan.text());
        text
    }

    fn layer_rows(&self) -> Vec<Vec<String>> {
        let head = ["", "name", "kind", "input", "output", "parameters", "rule", "why"].map(str::to_owned).to_vec();
        let row = |(position, layer): (usize, &LayerLine)| {
            let inputs: Vec<String> = layer.inputs.iter().map(|dims| Shape::new(dims.as_slice()).to_string()).collect();
            vec![
                position.to_string(),
                layer.name.clone(),
                layer.kind.to_owned(),
                inputs.join(" "),
                Shape::new(layer.output.as_slice()).to_string(),
                thousands(layer.parameters),
                layer.rule.clone().unwrap_or_else(|| "–".to_owned()),
                layer.why.clone().unwrap_or_else(|| "moves elements, or stops relevance".to_owned()),
            ]
        };
        std::iter::once(head).chain(self.layers.iter().enumerate().map(row)).collect()
    }
}

impl PlanPart {
    fn new(network: &Network, plan: &Plan, batch: usize) -> Self {
        let cost = plan.cost(network, batch);
        let scratch = plan.placements.bytes_per_sample();
        PlanPart {
            batch,
            targets: plan.targets,
            steps: plan.steps.iter().map(|step| plan.describe_step(network, step)).collect(),
            forward_steps: plan.forward,
            dispatches: plan.steps.len(),
            product_dispatches: cost.products,
            other_dispatches: cost.others,
            multiply_adds: cost.operations / 2,
            forward_multiply_adds: cost.forward_operations / 2,
            bytes: cost.bytes,
            least_bytes: cost.least_bytes,
            scratch_bytes: scratch.saturating_mul(batch),
            scratch_bytes_a_sample: scratch,
            weight_bytes: network.parameter_bytes(),
        }
    }

    fn text(&self) -> String {
        let mut text = format!("\nPlan for {} samples of {} target(s)\n", thousands(self.batch), self.targets);
        for (position, step) in self.steps.iter().enumerate() {
            let phase = if position < self.forward_steps { "forward" } else { "relevance" };
            let _ = writeln!(text, "{position:4}  {phase:<9}  {step}");
        }
        let size = |bytes: u64| ByteSize::b(bytes).to_string();
        let ratio = self.bytes as f64 / self.least_bytes.max(1) as f64;
        let rows = [
            (
                "dispatches",
                format!("{}: {} products, {} others", self.dispatches, self.product_dispatches, self.other_dispatches),
            ),
            (
                "multiply-adds",
                format!("{}, of which forward {}", scaled(self.multiply_adds), scaled(self.forward_multiply_adds)),
            ),
            (
                "bytes moved",
                format!("{}, {ratio:.2} times the least possible ({})", size(self.bytes), size(self.least_bytes)),
            ),
            (
                "scratch",
                format!("{}, {} a sample", size(self.scratch_bytes as u64), size(self.scratch_bytes_a_sample as u64)),
            ),
            ("weights", size(self.weight_bytes as u64)),
        ];
        text.push('\n');
        for (key, value) in rows {
            let _ = writeln!(text, "{key:<14} {value}");
        }
        text
    }
}

/// A count in three digits with the SI prefix that fits.
fn scaled(count: u64) -> String {
    let prefixes = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    match prefixes.into_iter().find(|(size, _)| count as f64 >= *size) {
        Some((size, prefix)) => format!("{:.1} {prefix}", count as f64 / size),
        None => count.to_string(),
    }
}

fn value_line(network: &Network, value: relprop::network::ValueId, kind: &'static str) -> ValueLine {
    let shape = network.shape(value);
    let shape = match network.batch() {
        BatchAxis::Leading => {
            let dims = std::iter::once("N".to_owned()).chain(shape.dims().iter().map(usize::to_string));
            format!("[{}]", dims.collect::<Vec<_>>().join(", "))
        }
        BatchAxis::Absent | BatchAxis::Fixed(_) => shape.to_string(),
    };
    ValueLine { name: network.value(value).name.clone(), kind, shape }
}
