//! Text in pictures: DejaVu Sans (a subset, in assets/), drawn by `ab_glyph`, the smallest kept crate that fills outlines.

use std::sync::OnceLock;

use ab_glyph::{Font, FontRef, PxScale, ScaleFont, point};

use super::canvas::{Canvas, Rgb};

pub(super) static BYTES: &[u8] = include_bytes!("../../assets/DejaVuSans-subset.ttf");

/// Which point of a text its position names, along the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Start,
    Middle,
    End,
}

/// How a text is drawn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    /// The font's size (its em) in pixels.
    pub size: f32,
    pub color: Rgb,
    pub align: Align,
}

/// The font, unless its bytes are damaged: then pictures come without words.
fn font() -> Option<&'static FontRef<'static>> {
    static FONT: OnceLock<Option<FontRef<'static>>> = OnceLock::new();
    FONT.get_or_init(|| FontRef::try_from_slice(BYTES).ok()).as_ref()
}

/// `ab_glyph` measures a font by ascent less descent, everyone else by its em.
fn scale(font: &FontRef<'_>, size: f32) -> PxScale {
    PxScale::from(size * font.height_unscaled() / font.units_per_em().unwrap_or(2048.0))
}

/// A text's length in pixels.
pub(super) fn length(text: &str, size: f32) -> f32 {
    let Some(font) = font() else { return 0.0 };
    let font = font.as_scaled(scale(font, size));
    let (mut length, mut previous) = (0.0, None);
    for glyph in text.chars().map(|c| font.glyph_id(c)) {
        length += previous.map_or(0.0, |previous| font.kern(previous, glyph)) + font.h_advance(glyph);
        previous = Some(glyph);
    }
    length
}

/// The text, cut with an ellipsis where it is longer than `limit` pixels.
pub(super) fn fit(text: &str, size: f32, limit: f32) -> String {
    if length(text, size) <= limit {
        return text.to_owned();
    }
    let mut cut: Vec<char> = text.chars().collect();
    while cut.pop().is_some() {
        let shorter: String = cut.iter().collect::<String>().trim_end().to_owned() + "…";
        if length(&shorter, size) <= limit {
            return shorter;
        }
    }
    String::new()
}

/// Draws a line of text at (x, y): x by the style's alignment, y at half the height of its capitals.
pub(super) fn draw(canvas: &mut Canvas, text: &str, x: f32, y: f32, style: Style) {
    cover(text, style, |across, down, coverage| {
        canvas.tint((x.round() as i64) + across, (y.round() as i64) + down, style.color, coverage);
    });
}

/// Draws a line of text that is read from the bottom up; (x, y) as for [`draw`], turned.
pub(super) fn draw_upward(canvas: &mut Canvas, text: &str, x: f32, y: f32, style: Style) {
    cover(text, style, |across, down, coverage| {
        canvas.tint((x.round() as i64) + down, (y.round() as i64) - across, style.color, coverage);
    });
}

/// Calls `pixel(across, down, coverage)` for every pixel that the text touches, from its position.
fn cover(text: &str, style: Style, mut pixel: impl FnMut(i64, i64, f32)) {
    /// Height of DejaVu's capitals in ems.
    const CAPITALS: f32 = 0.729;
    let Some(font) = font() else { return };
    let scale = scale(font, style.size);
    let scaled = font.as_scaled(scale);
    let length = length(text, style.size);
    let mut x = match style.align {
        Align::Start => 0.0,
        Align::Middle => (-length / 2.0).round(),
        Align::End => -length.round(),
    };
    // A baseline on a whole pixel keeps stems and bars sharp.
    let baseline = (style.size * CAPITALS / 2.0).round();
    let mut previous = None;
    for id in text.chars().map(|c| font.glyph_id(c)) {
        x += previous.map_or(0.0, |previous| scaled.kern(previous, id));
        if let Some(outline) = font.outline_glyph(id.with_scale_and_position(scale, point(x, baseline))) {
            let corner = outline.px_bounds().min;
            outline.draw(|across, down, coverage| {
                pixel(corner.x as i64 + i64::from(across), corner.y as i64 + i64::from(down), coverage.min(1.0));
            });
        }
        x += scaled.h_advance(id);
        previous = Some(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_to_its_place() {
        let text = "Layer-wise Relevance Propagation";
        assert_eq!(fit(text, 12.0, 1000.0), text);
        let cut = fit(text, 12.0, 80.0);
        assert!(cut.ends_with('…') && length(&cut, 12.0) <= 80.0, "{cut}");
        assert_eq!(fit(text, 12.0, 2.0), "");
    }

    #[test]
    fn the_font_has_the_signs_of_the_plots() {
        let font = font().unwrap();
        for sign in "−·ε×…→αβγ+0Az".chars() {
            assert_ne!(font.glyph_id(sign).0, 0, "{sign}");
        }
    }
}
