//! What tuning found, as JSON and as a table.

use relprop::gpu::{Candidate, Clock, Gpu, ProductKind, ProductShape, TunedProduct, Tuning};
use relprop::kernels::{Direction, Tile};
use serde::Serialize;

use crate::cli::console::thousands;
use crate::cli::model::ModelArguments;
use crate::cli::table::table;

/// What was found on a device. Scripts read these keys.
#[derive(Debug, Serialize)]
pub struct Record {
    /// The model's file.
    model: String,
    /// The rules.
    composite: String,
    /// The device.
    adapter: String,
    /// Its driver with its version.
    driver: String,
    /// Samples computed together.
    batch: usize,
    /// `timestamps`, or `host`.
    clock: &'static str,
    /// Where the choices are kept.
    file: Option<String>,
    /// Dispatches of products that have one kernel alone.
    without_choice: usize,
    /// Seconds of a batch's products with a choice, by the rules of thumb.
    seconds_before: f64,
    /// The same by the choices.
    seconds_after: f64,
    /// Each distinct shape.
    shapes: Vec<Shape>,
}

/// One shape.
#[derive(Debug, Serialize)]
struct Shape {
    #[serde(flatten)]
    shape: ProductShape,
    /// The layer on whose product it was timed.
    layer: String,
    /// Dispatches of this shape in a batch.
    dispatches: usize,
    /// What may compute it.
    candidates: Vec<Line>,
    /// The kernel that the rules of thumb take.
    heuristic: String,
    /// The kernel that is taken from now on.
    choice: String,
    /// The part of its time that the choice saves.
    gain: f64,
}

/// One kernel.
#[derive(Debug, Serialize)]
struct Line {
    /// Its name in `heuristic` and `choice`.
    name: String,
    /// The shape of its tile.
    tile: Tile,
    /// Rows of a workgroup.
    rows: usize,
    /// Seconds of one dispatch; null where its numbers differ.
    seconds: Option<f64>,
    /// The greatest difference from the heuristic's numbers over the greatest of these; null where it has none.
    difference: f64,
}

impl Record {
    /// What was found, with what it is of.
    pub fn new(model: &ModelArguments, gpu: &Gpu, tuning: &Tuning) -> Self {
        let sum = |seconds: fn(&TunedProduct) -> f64| {
            tuning.products.iter().map(|product| product.dispatches as f64 * seconds(product)).sum()
        };
        let info = gpu.info();
        Record {
            model: model.path.display().to_string(),
            composite: model.composite_name(),
            adapter: gpu.name(),
            driver: [info.driver.as_str(), info.driver_info.as_str()].join(" ").trim().to_owned(),
            batch: tuning.samples,
            clock: match tuning.clock {
                Clock::Device => "timestamps",
                Clock::Host => "host",
            },
            file: tuning.path.as_ref().map(|path| path.display().to_string()),
            without_choice: tuning.without_choice,
            seconds_before: sum(TunedProduct::seconds_before),
            seconds_after: sum(TunedProduct::seconds_after),
            shapes: tuning.products.iter().map(Shape::new).collect(),
        }
    }

    /// The record as a table, a line a shape and a column a kernel.
    pub fn text(&self) -> String {
        let Record { model, composite, adapter, batch, without_choice, .. } = self;
        let clock = if self.clock == "host" { "the host's clock" } else { "timestamps" };
        let mut text = format!("{model}, {composite} on {adapter}, batch {batch}: best of several rounds by {clock}\n");
        if *without_choice > 0 {
            text += &format!(
                "{without_choice} products of few rows have one kernel alone, which adds in an order of its own.\n"
            );
        }
        if self.shapes.is_empty() {
            return text + "There is nothing to choose.\n";
        }
        let mut names: Vec<&str> = Vec::new();
        for line in self.shapes.iter().flat_map(|shape| &shape.candidates) {
            if !names.contains(&line.name.as_str()) {
                names.push(&line.name);
            }
        }
        let heads = ["product", "rows", "depth", "columns", "times"].into_iter().map(str::to_owned);
        let of_kernels = names.iter().map(|name| format!("{name} µs"));
        let heads = heads.chain(of_kernels).chain(["rule", "choice", "gain"].map(str::to_owned));
        let rows: Vec<Vec<String>> =
            std::iter::once(heads.collect()).chain(self.shapes.iter().map(|shape| shape.row(&names))).collect();
        let gain = gain(self.seconds_before, self.seconds_after);
        text += &format!(
            "\n{}\nThese products take {:.3} ms a batch by the rules of thumb and {:.3} ms by the choices: {:.1} % less.\n",
            table(&rows),
            self.seconds_before * 1e3,
            self.seconds_after * 1e3,
            gain * 100.0
        );
        text + &self.left_out()
    }

    /// The kernels that were left out.
    fn left_out(&self) -> String {
        let of_shape = |shape: &Shape| {
            let out = shape.candidates.iter().filter(|line| line.seconds.is_none());
            let words = out.map(|line| {
                format!(
                    "{} at {}: its numbers differ by {:.1e}, so it is left out.\n",
                    line.name, shape.layer, line.difference
                )
            });
            words.collect::<String>()
        };
        self.shapes.iter().map(of_shape).collect()
    }
}

impl Shape {
    fn new(product: &TunedProduct) -> Self {
        let line = |candidate: &Candidate| Line {
            name: candidate.tiling.to_string(),
            tile: candidate.tiling.tile,
            rows: candidate.tiling.rows,
            seconds: candidate.seconds,
            difference: candidate.difference,
        };
        let candidates: Vec<Line> = product.candidates.iter().map(line).collect();
        Shape {
            shape: product.shape,
            layer: product.layer.clone(),
            dispatches: product.dispatches,
            heuristic: candidates[product.heuristic].name.clone(),
            choice: candidates[product.choice].name.clone(),
            gain: gain(product.seconds_before(), product.seconds_after()),
            candidates,
        }
    }

    fn row(&self, names: &[&str]) -> Vec<String> {
        let ProductShape { kind, direction, rows, depth, columns, taps, units } = self.shape;
        let direction = match direction {
            Direction::Forward => "forward",
            Direction::Backward => "backward",
        };
        let product = match kind {
            ProductKind::Dense => format!("dense {direction}"),
            ProductKind::Convolution if units == 1 => format!("convolution {direction}, {taps} taps"),
            ProductKind::Convolution => format!("convolution {direction}, {taps} taps, {units} units"),
        };
        let mut row = vec![product, thousands(rows), thousands(depth), thousands(columns), thousands(self.dispatches)];
        row.extend(names.iter().map(|name| {
            let line = self.candidates.iter().find(|line| line.name == *name);
            let seconds = line.and_then(|line| line.seconds);
            seconds.map_or_else(|| "–".to_owned(), |seconds| format!("{:.1}", seconds * 1e6))
        }));
        row.extend([self.heuristic.clone(), self.choice.clone(), format!("{:.1} %", self.gain * 100.0)]);
        row
    }
}

/// The part of a time that is saved.
fn gain(before: f64, after: f64) -> f64 {
    if before > 0.0 { 1.0 - after / before } else { 0.0 }
}
