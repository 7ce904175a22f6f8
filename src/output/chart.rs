//! Line charts on logarithmic or linear axes, as SVG or PNG.
//!
//! `plotters` draws them: it writes both formats from one drawing, takes our own font through `ab_glyph`, and without its
//! default features brings three small crates of its own. `charming` and `plotly` draw with JavaScript, `poloto` writes no PNG,
//! and `kuva` and `charts-rs` bring a renderer of SVG for theirs.

use std::fmt::Display;
use std::ops::Range;
use std::path::Path;

use plotters::backend::{BitMapBackend, DrawingBackend, SVGBackend};
use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::combinators::{BindKeyPoints, IntoLogRange};
use plotters::coord::ranged1d::{Ranged, ValueFormatter};
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{Circle, PathElement, Text};
use plotters::series::{DashedLineSeries, LineSeries};
use plotters::style::{Color, FontStyle, IntoFont, RGBColor, ShapeStyle, TextStyle, register_font};

use super::canvas::{Canvas, Rgb};
use super::file::NewFile;
use super::png::write_png;
use super::text;
use crate::error::{Error, Result};

/// Colours that stay apart for colour-blind eyes and in print: Okabe and Ito's.
const COLORS: [Rgb; 7] =
    [[0, 114, 178], [213, 94, 0], [0, 158, 115], [204, 121, 167], [86, 180, 233], [230, 159, 0], [0, 0, 0]];

const WIDTH: u32 = 1000;
/// The height of the chart without its legend.
const HEIGHT: u32 = 560;
const LEGEND_LINE: u32 = 26;
const MARGIN: u32 = 24;
const FONT: &str = "sans-serif";

/// Points of a line above which they are no longer marked.
const MARKED: usize = 48;

/// A chart of lines.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// What stands above it.
    pub title: String,
    /// What the horizontal axis is, with its unit.
    pub x: String,
    /// What the vertical axis is, with its unit.
    pub y: String,
    /// How numbers lie along both axes.
    pub scale: Scale,
    /// The lines; the legend has them in two columns.
    pub lines: Vec<Line>,
}

/// How numbers lie along the axes of a [`Chart`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// By their logarithms; ticks of the horizontal axis are where the lines have points.
    Logarithmic,
    /// By themselves.
    Linear,
}

/// One line of a [`Chart`].
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Its name in the legend.
    pub name: String,
    /// Its colour, counted from 0; there are seven, then they begin again.
    pub color: usize,
    /// Whether it is dashed.
    pub dashed: bool,
    /// Its points; those with a number that is not finite, or on logarithmic axes not above zero, are left out.
    pub points: Vec<(f64, f64)>,
}

/// The formats of charts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Svg,
    Png,
}

/// Whether charts can be written under a name, to be asked before long work.
///
/// # Errors
/// [`ErrorKind::Argument`](crate::ErrorKind::Argument) for another ending than `.svg` and `.png`.
pub fn check_chart_path(path: &Path) -> Result<()> {
    format(path).map(drop)
}

fn format(path: &Path) -> Result<Format> {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    match ending.as_deref() {
        Some("svg") => Ok(Format::Svg),
        Some("png") => Ok(Format::Png),
        _ => Err(Error::argument(format!("{}: charts are drawn as .svg or .png", path.display()))
            .help("name a file that ends in one of them")),
    }
}

/// Draws a chart in the format that the ending of `path` names.
///
/// # Errors
/// [`ErrorKind::Argument`](crate::ErrorKind::Argument) for an ending that cannot be written or a chart without points,
/// [`ErrorKind::Io`](crate::ErrorKind::Io) if the file cannot be written.
pub fn write_chart(path: &Path, chart: &Chart) -> Result<()> {
    let format = format(path)?;
    // Without a font charts come without words, as other pictures do.
    let _ = register_font(FONT, FontStyle::Normal, text::BYTES);
    let legend = LEGEND_LINE * chart.lines.len().div_ceil(2) as u32 + MARGIN;
    let size = |scale: u32| (WIDTH * scale, (HEIGHT + legend) * scale);
    match format {
        Format::Svg => {
            let mut text = String::new();
            chart.draw(&SVGBackend::with_string(&mut text, size(1)).into_drawing_area(), 1)?;
            let mut file = NewFile::create(path)?;
            file.append(text.as_bytes())?;
            file.finish()
        }
        Format::Png => {
            const SHARP: u32 = 2;
            let (width, height) = size(SHARP);
            let mut bytes = vec![0; (width * height * 3) as usize];
            chart.draw(&BitMapBackend::with_buffer(&mut bytes, (width, height)).into_drawing_area(), SHARP)?;
            let pixels = bytes.as_chunks::<3>().0.to_vec();
            write_png(path, &Canvas::from_pixels(width as usize, height as usize, pixels)?)
        }
    }
}

impl Chart {
    /// Draws everything, `scale` times as large.
    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>, scale: u32) -> Result<()> {
        area.fill(&color(super::canvas::WHITE)).map_err(undrawable)?;
        let (body, legend) = area.split_vertically(HEIGHT * scale);
        self.draw_body(&body, scale)?;
        self.draw_legend(&legend, scale)?;
        area.present().map_err(undrawable)
    }

    fn points(&self) -> impl Iterator<Item = (f64, f64)> + Clone {
        self.lines.iter().flat_map(|line| line.placed(self.scale))
    }

    fn draw_body<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>, scale: u32) -> Result<()> {
        let (Some(across), Some(up)) = (span(self.points().map(|p| p.0)), span(self.points().map(|p| p.1))) else {
            return Err(Error::argument("a chart without points").help("give lines with points that the axes have"));
        };
        match self.scale {
            Scale::Logarithmic => self.draw_logarithmic(area, scale, (across, up)),
            Scale::Linear => {
                let (across, up) = (widened(across, 0.0), widened(up, 0.05));
                let chart = ChartBuilder::on(area)
                    .caption(&self.title, words(20, scale))
                    .margin(MARGIN * scale)
                    .x_label_area_size(52 * scale)
                    .y_label_area_size(84 * scale)
                    .build_cartesian_2d(across, up)
                    .map_err(undrawable)?;
                self.draw_lines(chart, scale)
            }
        }
    }

    fn draw_logarithmic<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        scale: u32,
        (across, up): (Range<f64>, Range<f64>),
    ) -> Result<()> {
        let mut columns: Vec<f64> = self.points().map(|point| point.0).collect();
        columns.sort_by(f64::total_cmp);
        columns.dedup();
        let (up, ticks) = rounded(&up);
        let chart = ChartBuilder::on(area)
            .caption(&self.title, words(20, scale))
            .margin(MARGIN * scale)
            .x_label_area_size(52 * scale)
            .y_label_area_size(84 * scale)
            .build_cartesian_2d(
                (across.start / 1.2..across.end * 1.2).log_scale().with_key_points(columns),
                up.log_scale().with_key_points(ticks),
            )
            .map_err(undrawable)?;
        self.draw_lines(chart, scale)
    }

    /// The axes, and the lines over them.
    fn draw_lines<B, X, Y>(&self, mut chart: ChartContext<'_, B, Cartesian2d<X, Y>>, scale: u32) -> Result<()>
    where
        B: DrawingBackend,
        X: Ranged<ValueType = f64> + ValueFormatter<f64>,
        Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        chart
            .configure_mesh()
            .x_desc(&self.x)
            .y_desc(&self.y)
            .axis_desc_style(words(16, scale))
            .label_style(words(14, scale))
            .x_label_formatter(&|value| ((value * 1e6).round() / 1e6).to_string())
            .y_label_formatter(&|value| short(*value))
            .bold_line_style(color([222; 3]).stroke_width(scale))
            .light_line_style(color(super::canvas::WHITE))
            .draw()
            .map_err(undrawable)?;
        for line in &self.lines {
            let style = line.style(scale);
            if line.dashed {
                let dashed = DashedLineSeries::new(line.placed(self.scale), 8 * scale, 6 * scale, style);
                chart.draw_series(dashed).map_err(undrawable)?;
            } else {
                chart.draw_series(LineSeries::new(line.placed(self.scale), style)).map_err(undrawable)?;
            }
            if line.points.len() > MARKED {
                continue;
            }
            let dots = line.placed(self.scale).map(|point| Circle::new(point, 4 * scale, line.color().filled()));
            chart.draw_series(dots).map_err(undrawable)?;
        }
        Ok(())
    }

    /// Two columns of lines and their names.
    fn draw_legend<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>, scale: u32) -> Result<()> {
        const SIZE: u32 = 14;
        const SAMPLE: u32 = 44;
        let column = (WIDTH - 2 * MARGIN) / 2;
        for (position, line) in self.lines.iter().enumerate() {
            let (left, top) =
                (MARGIN + position as u32 % 2 * column, position as u32 / 2 * LEGEND_LINE + LEGEND_LINE / 2);
            let at = |x: u32, y: u32| ((x * scale) as i32, (y * scale) as i32);
            let dashes: &[(u32, u32)] = if line.dashed { &[(0, 8), (14, 22), (28, 36)] } else { &[(0, 36)] };
            for &(from, to) in dashes {
                let ends = vec![at(left + from, top), at(left + to, top)];
                area.draw(&PathElement::new(ends, line.style(scale))).map_err(undrawable)?;
            }
            let name = text::fit(&line.name, SIZE as f32, (column - SAMPLE - MARGIN) as f32);
            area.draw(&Text::new(name, at(left + SAMPLE, top - SIZE / 3), words(SIZE, scale))).map_err(undrawable)?;
        }
        Ok(())
    }
}

impl Line {
    /// The points that have a place on the axes.
    fn placed(&self, scale: Scale) -> impl Iterator<Item = (f64, f64)> + Clone {
        let has_place = move |x: f64| match scale {
            Scale::Logarithmic => x.is_finite() && x > 0.0,
            Scale::Linear => x.is_finite(),
        };
        self.points.iter().copied().filter(move |&(x, y)| has_place(x) && has_place(y))
    }

    fn color(&self) -> RGBColor {
        color(COLORS[self.color % COLORS.len()])
    }

    fn style(&self, scale: u32) -> ShapeStyle {
        self.color().stroke_width(2 * scale)
    }
}

fn color([red, green, blue]: Rgb) -> RGBColor {
    RGBColor(red, green, blue)
}

/// How words of a size are drawn.
fn words(size: u32, scale: u32) -> TextStyle<'static> {
    let mut style = TextStyle::from((FONT, size * scale).into_font());
    style.color = color(super::canvas::INK).to_backend_color();
    style
}

/// The least and the greatest of some numbers.
fn span(numbers: impl Iterator<Item = f64>) -> Option<Range<f64>> {
    numbers.fold(None, |span, number| match span {
        None => Some(number..number),
        Some(Range { start, end }) => Some(number.min(start)..number.max(end)),
    })
}

/// A range with a part of itself more at both ends; one of a single number gets a place around it.
fn widened(Range { start, end }: Range<f64>, part: f64) -> Range<f64> {
    let more = if end > start { (end - start) * part } else { 0.5 };
    start - more..end + more
}

/// A range that ends at round numbers and holds another, and its ticks: 1, 2 and 5 times powers of ten, or the powers alone
/// where they are many.
fn rounded(range: &Range<f64>) -> (Range<f64>, Vec<f64>) {
    let power = |x: f64| x.log10().floor() as i32;
    let decades = power(range.start)..=power(range.end) + 1;
    let round: Vec<f64> = decades.flat_map(|power| [1.0, 2.0, 5.0].map(|step| step * 10f64.powi(power))).collect();
    let below = round.iter().copied().rfind(|tick| *tick <= range.start).unwrap_or(range.start);
    let above = round.iter().copied().find(|tick| *tick > below && *tick >= range.end).unwrap_or(range.end);
    let steps = if above / below > 2000.0 { 3 } else { 1 };
    let ticks = round.into_iter().step_by(steps).filter(|tick| (below..=above).contains(tick)).collect();
    (below..above, ticks)
}

/// A number with the SI prefix that makes it short.
fn short(value: f64) -> String {
    let prefixes = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    match prefixes.into_iter().find(|(size, _)| value >= size * 0.999) {
        Some((size, prefix)) => format!("{} {prefix}", (value / size * 1e3).round() / 1e3),
        None => format!("{}", (value * 1e6).round() / 1e6),
    }
}

fn undrawable(error: impl Display) -> Error {
    Error::internal(format!("the chart cannot be drawn: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart() -> Chart {
        let line = |name: &str, dashed: bool, factor: f64| Line {
            name: name.to_owned(),
            color: 0,
            dashed,
            points: [1.0, 16.0, 256.0].map(|x: f64| (x, factor * x.sqrt())).to_vec(),
        };
        Chart {
            title: "model.onnx".to_owned(),
            x: "batch size".to_owned(),
            y: "samples a second".to_owned(),
            scale: Scale::Logarithmic,
            lines: vec![line("explain", false, 900.0), line("forward", true, 2000.0)],
        }
    }

    #[test]
    fn both_formats_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let (svg, png) = (folder.path().join("chart.svg"), folder.path().join("chart.PNG"));
        write_chart(&svg, &chart()).unwrap();
        write_chart(&png, &chart()).unwrap();
        let text = std::fs::read_to_string(svg).unwrap();
        for word in ["<svg", "model.onnx", "batch size", "samples a second", "256", "1 k", "forward"] {
            assert!(text.contains(word), "{word}");
        }
        let picture = image::open(png).unwrap().into_rgb8();
        let [red, green, blue] = COLORS[0];
        assert!(picture.pixels().filter(|pixel| pixel.0 == [red, green, blue]).count() > 500);
    }

    #[test]
    fn a_chart_of_one_point_is_drawn_and_of_none_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chart.svg");
        let mut chart = chart();
        chart.lines.truncate(1);
        chart.lines[0].points = vec![(8.0, 100.0), (16.0, 0.0)];
        write_chart(&path, &chart).unwrap();
        chart.lines[0].points.clear();
        assert!(write_chart(&path, &chart).unwrap_err().advice().is_some());
        assert!(check_chart_path(Path::new("chart.pdf")).unwrap_err().advice().is_some());
    }

    #[test]
    fn linear_axes_hold_zero_and_what_is_below() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chart.svg");
        let mut chart = Chart { scale: Scale::Linear, ..chart() };
        chart.lines[0].points = vec![(0.0, 3.0), (0.5, -2.0), (1.0, f64::NAN)];
        chart.lines.truncate(1);
        write_chart(&path, &chart).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("-2") && text.contains("0.5") && text.matches("<circle").count() == 2, "{text}");
        assert_eq!(widened(3.0..3.0, 0.1), 2.5..3.5);
        assert_eq!(widened(1.0..3.0, 0.5), 0.0..4.0);
    }

    #[test]
    fn ticks_are_written_short() {
        assert_eq!([0.5, 20.0, 1e3, 2e5, 5e6].map(short), ["0.5", "20", "1 k", "200 k", "5 M"]);
        assert_eq!(rounded(&(14.0..700.0)), (10.0..1000.0, vec![10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0]));
        assert_eq!(rounded(&(3.0..41_000.0)), (2.0..50_000.0, vec![10.0, 100.0, 1e3, 1e4]));
        assert_eq!(rounded(&(5.0..5.0)), (5.0..10.0, vec![5.0, 10.0]));
    }
}
