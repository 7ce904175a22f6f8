//! The scale beside a picture: its colours from high to low, with numbers.

use super::axis::ticks;
use super::canvas::{Canvas, INK};
use super::heatmap::{Heatmap, Limits};
use super::text::{Align, Style, draw, length};

/// Thickness of the bar in pixels.
const THICKNESS: usize = 14;
const TICK: usize = 4;
const FONT: f32 = 12.0;

/// The numbers beside a bar: where they stand (0 at its foot, 1 at its top) and how they are written.
pub(super) fn labels(limits: Option<Limits>, symmetric: bool, height: usize) -> Vec<(f64, String)> {
    match limits {
        Some(limits) => {
            let (low, span) = (f64::from(limits.low), f64::from(limits.high) - f64::from(limits.low));
            let numbers = ticks(limits, (height / 50).clamp(2, 8));
            numbers.into_iter().map(|(value, text)| ((value - low) / span, text)).collect()
        }
        // Every map has its own scale: only its ends can be named.
        None if symmetric => vec![(0.0, "−max".into()), (0.5, "0".into()), (1.0, "max".into())],
        None => vec![(0.0, "min".into()), (1.0, "max".into())],
    }
}

/// The room that a bar with these numbers takes, in pixels.
pub(super) fn width(labels: &[(f64, String)]) -> usize {
    let longest = labels.iter().map(|(_, text)| length(text, FONT)).fold(0.0, f32::max);
    THICKNESS + TICK + 4 + longest.ceil() as usize
}

/// Draws the bar with its top left corner at (left, top).
pub(super) fn draw_bar(
    canvas: &mut Canvas,
    heatmap: &Heatmap,
    labels: &[(f64, String)],
    (left, top): (usize, usize),
    height: usize,
) {
    let palette = heatmap.palette();
    for row in 0..height {
        let index = 255 - row * 256 / height.max(1);
        canvas.fill(left, top + row, THICKNESS, 1, palette[index.min(255)]);
    }
    canvas.frame(left, top, THICKNESS, height, INK);
    for (place, text) in labels {
        let y = top + ((1.0 - place) * (height.saturating_sub(1)) as f64).round() as usize;
        canvas.fill(left + THICKNESS + 1, y, TICK, 1, INK);
        let style = Style { size: FONT, color: INK, align: Align::Start };
        draw(canvas, text, (left + THICKNESS + TICK + 4) as f32, y as f32, style);
    }
}
