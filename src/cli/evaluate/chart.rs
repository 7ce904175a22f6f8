//! `--plot`: the mean curves.

use std::path::Path;

use relprop::Result;
use relprop::output::{Chart, Line, Scale, write_chart};

use super::OrderName;
use super::record::Evaluation;

/// The colour of the order by chance, the last of the chart's.
const BLACK: usize = 6;

/// Draws a line an explanation for MoRF, and a dashed one for LeRF, into an `.svg` or `.png` file.
///
/// # Errors
/// If the file cannot be written.
pub fn draw(path: &Path, evaluation: &Evaluation) -> Result<()> {
    let summary = &evaluation.summary;
    let mut lines = Vec::new();
    for (position, explanation) in evaluation.explanations.iter().enumerate() {
        for (order, curve) in explanation.curves() {
            let is_random = order == OrderName::Random;
            let percent = |step: usize| {
                (step * summary.regions_per_step).min(summary.regions) as f64 * 100.0 / summary.regions as f64
            };
            lines.push(Line {
                name: if is_random { "random".to_owned() } else { format!("{}, {}", explanation.name, order.title()) },
                color: if is_random { BLACK } else { position % BLACK },
                dashed: order == OrderName::Lerf,
                points: curve.into_iter().enumerate().map(|(step, score)| (percent(step), score)).collect(),
            });
        }
    }
    let model = Path::new(&summary.model).file_name().unwrap_or_default().display();
    let chart = Chart {
        title: format!("{model}, {} samples", summary.samples),
        x: format!("regions that became {} (%)", summary.perturbation),
        y: format!("{} of the target (mean)", summary.score),
        scale: Scale::Linear,
        lines,
    };
    write_chart(path, &chart)
}
