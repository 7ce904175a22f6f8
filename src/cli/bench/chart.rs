//! `--plot`: samples a second over batch sizes.

use std::path::Path;

use relprop::Result;
use relprop::output::{Chart, Line, Scale, write_chart};

use super::record::Record;

/// Draws a line a backend for explanations, and a dashed one for forward passes, into an `.svg` or `.png` file.
///
/// # Errors
/// If the file cannot be written.
pub fn draw(path: &Path, records: &[Record]) -> Result<()> {
    let Some(first) = records.first() else { return Ok(()) };
    let mut lines: Vec<Line> = Vec::new();
    for group in records.chunk_by(Record::is_of_the_backend_of) {
        let points =
            |rate: fn(&Record) -> f64| group.iter().map(|record| (record.batch as f64, rate(record))).collect();
        let (name, color) = (format!("{}: {}", group[0].backend, group[0].adapter), lines.len() / 2);
        lines.push(Line {
            name: format!("{name}, explain"),
            color,
            dashed: false,
            points: points(|it| it.samples_per_s),
        });
        let forward = points(Record::forward_samples_per_s);
        lines.push(Line { name: format!("{name}, forward"), color, dashed: true, points: forward });
    }
    let chart = Chart {
        title: format!("{}, {}", super::file_name(&first.model), first.composite),
        x: "batch size (samples a call)".to_owned(),
        y: "samples a second".to_owned(),
        scale: Scale::Logarithmic,
        lines,
    };
    write_chart(path, &chart)
}
