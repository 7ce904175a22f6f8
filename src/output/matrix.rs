//! A matrix of values as coloured cells: rows are methods or samples, columns are input features.

use super::axis::two_decimals;
use super::canvas::{Canvas, INK, Rgb, WHITE, luma};
use super::colorbar;
use super::heatmap::Heatmap;
use super::text::{Align, Style, draw, draw_upward, fit, length};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

const TITLE_FONT: f32 = 17.0;
const FONT: f32 = 14.0;
const TICK: usize = 4;
const FRAME: Rgb = [200; 3];
/// Above a cell this dark, numbers are white.
const DARK: u8 = 140;

/// A plot of a matrix [rows, columns], every value one cell.
#[derive(Debug, Clone)]
pub struct MatrixPlot {
    /// Above the cells.
    pub title: String,
    /// Under the columns.
    pub x_title: String,
    /// Left of the rows, read upward.
    pub y_title: String,
    /// A name a row, or none; where rows are too low for all, some are left out.
    pub row_labels: Vec<String>,
    /// A name a column, or none; without, columns are numbered. Where they are too narrow for all, some are left out.
    pub column_labels: Vec<String>,
    /// Whether every cell bears its value with two decimals.
    pub annotate: bool,
    /// Whether a colour bar stands at the right.
    pub colorbar: bool,
    /// Width and height in pixels.
    pub size: (usize, usize),
}

impl Default for MatrixPlot {
    fn default() -> Self {
        MatrixPlot {
            title: String::new(),
            x_title: String::new(),
            y_title: String::new(),
            row_labels: Vec::new(),
            column_labels: Vec::new(),
            annotate: false,
            colorbar: true,
            size: (1000, 600),
        }
    }
}

/// The rectangle that holds the cells, in pixels.
#[derive(Clone, Copy)]
struct Area {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
}

impl Area {
    /// The edges of cell `index` of `count` along `length` pixels: cells differ by at most one pixel.
    fn cell(index: usize, count: usize, length: usize) -> (usize, usize) {
        (index * length / count, (index + 1) * length / count)
    }
}

impl MatrixPlot {
    /// A plot whose size suits a matrix: cells of a whole number of pixels, as large as a page of about 1000×600 allows
    /// and at least one pixel each.
    pub fn for_cells(rows: usize, columns: usize) -> Self {
        /// Pixels that words and the colour bar take.
        const WORDS: (usize, usize) = (220, 130);
        let across = (780 / columns.max(1)).clamp(1, 90);
        let down = (470 / rows.max(1)).clamp(1, 60);
        let size =
            (columns.saturating_mul(across).saturating_add(WORDS.0), rows.saturating_mul(down).saturating_add(WORDS.1));
        MatrixPlot { size: (size.0.max(400), size.1.max(200)), ..MatrixPlot::default() }
    }

    /// Draws the plot. One scale serves all cells, or each row has its own, as the heatmap's `scale_by` says.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) if the values are no matrix or labels do not count up to it,
    /// [`ErrorKind::Argument`](crate::ErrorKind::Argument) if the size has no room for one pixel a cell.
    pub fn draw(&self, values: &Tensor, heatmap: &Heatmap) -> Result<Canvas> {
        heatmap.check()?;
        let &[rows, columns] = values.shape().dims() else {
            return Err(
                Error::shape(format!("values of shape {} are no matrix", values.shape())).help("give [rows, columns]")
            );
        };
        for (what, labels, count) in [("row", &self.row_labels, rows), ("column", &self.column_labels, columns)] {
            if rows == 0 || columns == 0 || (!labels.is_empty() && labels.len() != count) {
                return Err(Error::shape(format!("{} {what} labels for a matrix of {rows}×{columns}", labels.len()))
                    .help("give one label a row and column, or none, and at least one cell"));
            }
        }
        let maps = heatmap.maps(values)?;
        let limits = heatmap.limits(&maps.iter().collect::<Vec<_>>());
        let same = limits.iter().all(|other| *other == limits[0]);
        let bar = if self.colorbar {
            colorbar::labels(same.then_some(limits[0]), heatmap.symmetric, self.size.1)
        } else {
            Vec::new()
        };
        let area = self.area(rows, columns, &bar)?;
        let mut page = Canvas::new(self.size.0, self.size.1, WHITE)?;
        for (row, (map, &limits)) in maps.iter().zip(&limits).enumerate() {
            let colors = heatmap.paint(map, limits)?;
            self.draw_row(&mut page, area, (row, rows), map.values(), colors.pixels());
        }
        // Pale cells at the rim would have no edge on the white page.
        page.frame(area.left, area.top, area.width, area.height, FRAME);
        self.draw_labels(&mut page, area, rows, columns);
        if self.colorbar {
            colorbar::draw_bar(&mut page, heatmap, &bar, (area.left + area.width + 16, area.top), area.height);
        }
        Ok(page)
    }

    /// The room that words leave.
    fn area(&self, rows: usize, columns: usize, bar: &[(f64, String)]) -> Result<Area> {
        let (width, height) = self.size;
        let longest = self.row_labels.iter().map(|label| length(label, FONT)).fold(0.0, f32::max);
        let named = (longest.ceil() as usize).min(width / 3);
        let left = 24 + if self.y_title.is_empty() { 0 } else { 28 } + if named > 0 { named + 8 + TICK } else { 0 };
        let right = 24 + if self.colorbar { 16 + colorbar::width(bar) } else { 0 };
        let top = if self.title.is_empty() { 20 } else { 52 };
        let bottom = 44 + if self.x_title.is_empty() { 0 } else { 28 };
        let (cells_wide, cells_high) = (width.saturating_sub(left + right), height.saturating_sub(top + bottom));
        if cells_wide < columns || cells_high < rows {
            return Err(Error::argument(format!("{width}×{height} pixels are too few for {rows}×{columns} cells"))
                .help("make the plot larger, or draw fewer samples"));
        }
        Ok(Area { left, top, width: cells_wide, height: cells_high })
    }

    fn draw_row(&self, page: &mut Canvas, area: Area, (row, rows): (usize, usize), values: &[f32], colors: &[Rgb]) {
        let (upper, lower) = Area::cell(row, rows, area.height);
        for (column, (&value, &color)) in values.iter().zip(colors).enumerate() {
            let (left, right) = Area::cell(column, colors.len(), area.width);
            page.fill(area.left + left, area.top + upper, right - left, lower - upper, color);
            if self.annotate {
                let ink = if luma(color) < DARK { WHITE } else { INK };
                let style = Style { size: FONT, color: ink, align: Align::Middle };
                let middle = |from: usize, to: usize, start: usize| start as f32 + (from + to) as f32 / 2.0;
                let text = two_decimals(value);
                // A number that does not fit its cell would run into the next.
                if length(&text, FONT) + 2.0 <= (right - left) as f32 && FONT <= (lower - upper) as f32 {
                    draw(page, &text, middle(left, right, area.left), middle(upper, lower, area.top), style);
                }
            }
        }
    }

    fn draw_labels(&self, page: &mut Canvas, area: Area, rows: usize, columns: usize) {
        let ink = Style { size: FONT, color: INK, align: Align::Middle };
        let (center, middle) = (area.left + area.width / 2, area.top + area.height / 2);
        let title = Style { size: TITLE_FONT, ..ink };
        draw(page, &self.title, center as f32, area.top as f32 - 20.0, title);
        let foot = area.top + area.height;
        draw(page, &self.x_title, center as f32, foot as f32 + 46.0, ink);
        draw_upward(page, &self.y_title, 28.0, middle as f32, ink);

        let numbers: Vec<String>;
        let names = if self.column_labels.is_empty() {
            numbers = (0..columns).map(|column| column.to_string()).collect();
            &numbers
        } else {
            &self.column_labels
        };
        let longest = names.iter().map(|name| length(name, FONT)).fold(0.0, f32::max) + 10.0;
        let every = round_step(longest * columns as f32 / area.width as f32);
        for (column, name) in names.iter().enumerate().step_by(every) {
            let (left, right) = Area::cell(column, columns, area.width);
            let x = area.left + (left + right) / 2;
            page.fill(x, foot, 1, TICK, INK);
            draw(page, name, x as f32, (foot + TICK + 12) as f32, ink);
        }

        let every = round_step((FONT + 4.0) * rows as f32 / area.height as f32);
        for (row, name) in self.row_labels.iter().enumerate().step_by(every) {
            let (upper, lower) = Area::cell(row, rows, area.height);
            let y = area.top + (upper + lower) / 2;
            page.fill(area.left - TICK, y, TICK, 1, INK);
            let name = fit(name, FONT, self.size.0 as f32 / 3.0);
            draw(page, &name, (area.left - TICK - 6) as f32, y as f32, Style { align: Align::End, ..ink });
        }
    }
}

/// The least of 1, 2, 5, 10, 20, 50, … that reaches `least`.
fn round_step(least: f32) -> usize {
    let powers = (0..9).map(|power| 10usize.pow(power));
    powers
        .flat_map(|power| [1, 2, 5].map(|round| round * power))
        .find(|&step| step as f32 >= least)
        .unwrap_or(usize::MAX)
}
