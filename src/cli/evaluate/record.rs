//! What was found, as JSON and as a table.

use std::collections::BTreeMap;
use std::path::Path;

use relprop::Result;
use relprop::evaluation::Curves;
use serde::Serialize;

use super::OrderName;
use crate::cli::console::thousands;
use crate::cli::table::table;

/// Samples of which the table has a line each; of more there are the means alone, and --samples.
const LISTED: usize = 16;

/// What was evaluated, and how.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// The model's file.
    pub model: String,
    /// How many samples.
    pub samples: usize,
    /// `--target` as given.
    pub target: String,
    /// What is watched.
    pub score: &'static str,
    /// The extents of a region along the last axes.
    pub region: Vec<usize>,
    /// How many regions a sample has.
    pub regions: usize,
    /// How many are perturbed in a step.
    pub regions_per_step: usize,
    /// L.
    pub steps: usize,
    /// What regions become.
    pub perturbation: String,
    /// What random orders and noise are drawn from.
    pub seed: u64,
    /// What computed.
    pub backend: String,
    /// The instruction set and threads, or the GPU's name and interface.
    pub adapter: String,
    /// The time it took.
    pub seconds: f64,
}

/// Every explanation that was evaluated.
#[derive(Debug)]
pub struct Evaluation {
    /// What was evaluated.
    pub summary: Summary,
    /// The explanations, and in the end the order by chance.
    pub explanations: Vec<Explanation>,
}

/// One explanation's samples.
#[derive(Debug)]
pub struct Explanation {
    /// The composite, the file, or `random`.
    pub name: String,
    /// Its samples; only the areas are kept.
    samples: Vec<SampleRecord>,
    /// The sums of the curves, by order.
    sums: BTreeMap<OrderName, Vec<f64>>,
}

/// One sample under one explanation.
#[derive(Debug, Clone)]
pub struct SampleRecord {
    /// The sample's position.
    pub index: usize,
    target: usize,
    score: f64,
    aopc: BTreeMap<OrderName, f64>,
    auc: BTreeMap<OrderName, f64>,
    abpc: Option<f64>,
    curves: BTreeMap<OrderName, Vec<f64>>,
}

/// A line of `--samples`.
#[derive(Debug, Serialize)]
pub struct SampleLine<'a> {
    index: usize,
    source: String,
    target: usize,
    score: f64,
    explanation: &'a str,
    aopc: BTreeMap<&'static str, f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    abpc: Option<f64>,
    curves: BTreeMap<&'static str, &'a [f64]>,
}

impl SampleRecord {
    /// The samples of a block, of which the first has the position `first`.
    ///
    /// # Errors
    /// Never, for curves of the same samples and steps.
    pub fn of_block(curves: &[(OrderName, Curves)], first: usize) -> Result<Vec<Self>> {
        let find = |wanted: OrderName| curves.iter().find(|(order, _)| *order == wanted).map(|(_, curves)| curves);
        let between = match (find(OrderName::Lerf), find(OrderName::Morf)) {
            (Some(least), Some(most)) => Some(least.above(most)?),
            (Some(_), None) | (None, _) => None,
        };
        let aopc: Vec<Vec<f64>> = curves.iter().map(|(_, curves)| curves.aopc()).collect();
        let auc: Vec<Vec<f64>> = curves.iter().map(|(_, curves)| curves.auc()).collect();
        let of_sample = |sample: usize| {
            let by_order = |areas: &[Vec<f64>]| {
                curves.iter().zip(areas).map(|((order, _), area)| (*order, area[sample])).collect()
            };
            let any = &curves[0].1;
            SampleRecord {
                index: first + sample,
                target: any.targets[sample],
                score: any.scores.row(sample)[0],
                aopc: by_order(&aopc),
                auc: by_order(&auc),
                abpc: between.as_ref().map(|between| between[sample]),
                curves: curves.iter().map(|(order, curves)| (*order, curves.scores.row(sample).to_vec())).collect(),
            }
        };
        Ok((0..curves[0].1.targets.len()).map(of_sample).collect())
    }

    /// Its line in `--samples`.
    pub fn line<'a>(&'a self, explanation: &'a str, source: &Path) -> SampleLine<'a> {
        SampleLine {
            index: self.index,
            source: source.display().to_string(),
            target: self.target,
            score: self.score,
            explanation,
            aopc: named(&self.aopc),
            abpc: self.abpc,
            curves: self.curves.iter().map(|(order, curve)| (order.name(), curve.as_slice())).collect(),
        }
    }
}

impl Explanation {
    /// One without samples yet.
    pub fn new(name: &str) -> Self {
        Explanation { name: name.to_owned(), samples: Vec::new(), sums: BTreeMap::new() }
    }

    /// Whether it was evaluated in any order.
    pub fn has_curves(&self) -> bool {
        !self.sums.is_empty()
    }

    /// Adds samples; of their curves the sum is kept.
    pub fn add(&mut self, samples: Vec<SampleRecord>) {
        for mut sample in samples {
            for (order, curve) in std::mem::take(&mut sample.curves) {
                let sum = self.sums.entry(order).or_insert_with(|| vec![0.0; curve.len()]);
                sum.iter_mut().zip(curve).for_each(|(sum, score)| *sum += score);
            }
            self.samples.push(sample);
        }
    }

    /// The mean curves, by order.
    pub fn curves(&self) -> impl Iterator<Item = (OrderName, Vec<f64>)> {
        let count = self.samples.len() as f64;
        self.sums.iter().map(move |(order, sum)| (*order, sum.iter().map(|score| score / count).collect()))
    }

    fn mean(&self, part: impl Fn(&SampleRecord) -> Option<f64>) -> Option<f64> {
        let parts: Option<Vec<f64>> = self.samples.iter().map(part).collect();
        parts.filter(|parts| !parts.is_empty()).map(|parts| parts.iter().sum::<f64>() / parts.len() as f64)
    }

    fn mean_aopc(&self, order: OrderName) -> Option<f64> {
        self.mean(|sample| sample.aopc.get(&order).copied())
    }

    fn mean_abpc(&self) -> Option<f64> {
        self.mean(|sample| sample.abpc)
    }

    /// The standard error of the mean ABPC, or of the only mean AOPC.
    fn error(&self) -> Option<f64> {
        let of_sample = |sample: &SampleRecord| sample.abpc.or_else(|| sample.aopc.values().next().copied());
        let mean = self.mean(of_sample)?;
        let count = self.samples.len() as f64;
        let variance = self.mean(|sample| of_sample(sample).map(|x| (x - mean).powi(2)))?;
        (count > 1.0).then(|| (variance / (count - 1.0)).sqrt())
    }
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
pub struct Document<'a> {
    #[serde(flatten)]
    summary: &'a Summary,
    explanations: Vec<ExplanationPart<'a>>,
}

/// An explanation of `--json`: means over the samples.
#[derive(Debug, Serialize)]
struct ExplanationPart<'a> {
    name: &'a str,
    aopc: BTreeMap<&'static str, f64>,
    auc: BTreeMap<&'static str, f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    abpc: Option<f64>,
    curves: BTreeMap<&'static str, Vec<f64>>,
}

impl<'a> Document<'a> {
    /// The document of an evaluation.
    pub fn new(evaluation: &'a Evaluation) -> Self {
        let part = |explanation: &'a Explanation| {
            let by_order = |of: &dyn Fn(OrderName) -> Option<f64>| {
                let orders = explanation.sums.keys();
                orders.filter_map(|order| of(*order).map(|mean| (order.name(), mean))).collect()
            };
            ExplanationPart {
                name: &explanation.name,
                aopc: by_order(&|order| explanation.mean_aopc(order)),
                auc: by_order(&|order| explanation.mean(|sample| sample.auc.get(&order).copied())),
                abpc: explanation.mean_abpc(),
                curves: explanation.curves().map(|(order, curve)| (order.name(), curve)).collect(),
            }
        };
        Document { summary: &evaluation.summary, explanations: evaluation.explanations.iter().map(part).collect() }
    }
}

fn named(by_order: &BTreeMap<OrderName, f64>) -> BTreeMap<&'static str, f64> {
    by_order.iter().map(|(order, &area)| (order.name(), area)).collect()
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.4}"))
}

/// The means as a table, and a line for each of a few samples.
pub fn text(evaluation: &Evaluation) -> String {
    let summary = &evaluation.summary;
    let region: Vec<String> = summary.region.iter().map(usize::to_string).collect();
    let head = format!(
        "{}: the {} of {} while regions of {} become {}, {} of {} a step, {} steps; means of {} samples\n\n",
        summary.model,
        summary.score,
        if summary.target == "argmax" {
            "the strongest class".to_owned()
        } else {
            format!("target {}", summary.target)
        },
        region.join(" × "),
        summary.perturbation,
        summary.regions_per_step,
        thousands(summary.regions),
        summary.steps,
        thousands(summary.samples),
    );
    let title = |more: &[&str]| more.iter().map(|&cell| cell.to_owned()).collect::<Vec<_>>();
    let mut rows = vec![title(&["explanation", "AOPC MoRF", "AOPC LeRF", "ABPC", "AOPC random", "standard error"])];
    rows.extend(evaluation.explanations.iter().map(|explanation| {
        let aopc = |order: OrderName| number(explanation.mean_aopc(order));
        vec![
            explanation.name.clone(),
            aopc(OrderName::Morf),
            aopc(OrderName::Lerf),
            number(explanation.mean_abpc()),
            aopc(OrderName::Random),
            number(explanation.error()),
        ]
    }));
    let mut text = head + &table(&rows);
    if summary.samples > 1 && summary.samples <= LISTED {
        text.push('\n');
        text.push_str(&table(&sample_rows(evaluation)));
    }
    text
}

fn sample_rows(evaluation: &Evaluation) -> Vec<Vec<String>> {
    let head = ["sample", "target", "score", "explanation", "AOPC MoRF", "AOPC LeRF", "ABPC", "AOPC random"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for index in 0..evaluation.summary.samples {
        for explanation in &evaluation.explanations {
            let sample = &explanation.samples[index];
            let aopc = |order: OrderName| number(sample.aopc.get(&order).copied());
            rows.push(vec![
                index.to_string(),
                sample.target.to_string(),
                number(Some(sample.score)),
                explanation.name.clone(),
                aopc(OrderName::Morf),
                aopc(OrderName::Lerf),
                number(sample.abpc),
                aopc(OrderName::Random),
            ]);
        }
    }
    rows
}
