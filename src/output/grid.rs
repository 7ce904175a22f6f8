//! A page of heatmaps: rows of cells, each the input beside its relevance, with words and a colour bar.

use super::canvas::{Canvas, INK, Rgb, WHITE};
use super::colorbar;
use super::heatmap::{Heatmap, Limits, Map, ScaleBy};
use super::text::{Align, Style, draw, fit, length};
use crate::error::{Error, Result};

const MARGIN: usize = 20;
const TITLE_FONT: f32 = 20.0;
const SUBTITLE_FONT: f32 = 13.0;
const ROW_FONT: f32 = 14.0;
const CAPTION_FONT: f32 = 12.0;
const CAPTION_HEIGHT: usize = 20;
/// Between the input and its relevance.
const SEAM: usize = 2;
/// Between cells.
const GAP: usize = 12;
const FRAME: Rgb = [200; 3];
const WRONG: Rgb = [178, 24, 43];

/// One sample of a [`Grid`].
#[derive(Debug, Clone)]
pub struct Cell {
    /// What the model saw, drawn left of the relevance or under it.
    pub input: Option<Canvas>,
    /// Where its score came from.
    pub relevance: Map,
    /// A line under the pictures; cut where it is too long.
    pub caption: String,
    /// Whether the caption is red: a prediction that is wrong.
    pub wrong: bool,
}

/// Cells side by side.
#[derive(Debug, Clone, Default)]
pub struct GridRow {
    /// Words left of the row.
    pub label: String,
    /// Its samples.
    pub cells: Vec<Cell>,
}

/// A page of heatmaps.
#[derive(Debug, Clone)]
pub struct Grid {
    /// The page's title.
    pub title: String,
    /// A smaller line under the title.
    pub subtitle: String,
    /// The samples.
    pub rows: Vec<GridRow>,
    /// The width to aim for, in pixels. Pictures are enlarged a whole number of times as far as they fit; a page of
    /// larger pictures is wider.
    pub width: usize,
    /// With an alpha from 0 to 1, relevance is laid over the input's greys as [`Heatmap::opacity`] has it, in place of
    /// both side by side.
    pub overlay: Option<f32>,
    /// Whether a colour bar stands at the right.
    pub colorbar: bool,
}

impl Default for Grid {
    fn default() -> Self {
        Grid {
            title: String::new(),
            subtitle: String::new(),
            rows: Vec::new(),
            width: 1200,
            overlay: None,
            colorbar: true,
        }
    }
}

/// Where everything on a page goes, in pixels.
struct Layout {
    /// The factor that pictures are enlarged by.
    enlarge: usize,
    labels: usize,
    cell: usize,
    picture_height: usize,
    row_height: usize,
    top: usize,
    bar: Vec<(f64, String)>,
    size: (usize, usize),
}

impl Grid {
    /// Cells in reading order, in rows as near to a square page as the width allows.
    pub fn of_cells(cells: Vec<Cell>, width: usize) -> Self {
        let widest = cells.iter().map(|cell| natural_width(cell, None)).max().unwrap_or(1);
        let columns = (cells.len() as f64).sqrt().ceil() as usize;
        let columns = columns.clamp(1, (width.saturating_sub(4 * MARGIN) / (widest + GAP)).max(1));
        let mut cells = cells.into_iter().peekable();
        let mut rows = Vec::new();
        while cells.peek().is_some() {
            rows.push(GridRow { label: String::new(), cells: cells.by_ref().take(columns).collect() });
        }
        Grid { rows, width, ..Grid::default() }
    }

    /// Draws the page.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`](crate::ErrorKind::Argument) for a page without cells or options out of range,
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) where an overlay's input and relevance differ in size,
    /// [`ErrorKind::Limit`](crate::ErrorKind::Limit) for a page of more than 2²⁸ pixels.
    pub fn draw(&self, heatmap: &Heatmap) -> Result<Canvas> {
        heatmap.check()?;
        let maps: Vec<&Map> = self.cells().map(|cell| &cell.relevance).collect();
        if maps.is_empty() {
            return Err(Error::argument("a page of heatmaps without samples").help("give at least one sample"));
        }
        if let Some(alpha) = self.overlay.filter(|alpha| !(0.0..=1.0).contains(alpha)) {
            return Err(Error::argument(format!("an overlay of alpha {alpha}")).help("give a number from 0 to 1"));
        }
        let limits = heatmap.limits(&maps);
        let shared = (heatmap.scale_by == ScaleBy::Grid || limits.len() == 1).then(|| limits[0]);
        let layout = self.layout(heatmap, shared);
        let mut page = Canvas::new(layout.size.0, layout.size.1, WHITE)?;
        self.draw_head(&mut page);
        let mut limits = limits.into_iter();
        for (index, row) in self.rows.iter().enumerate() {
            let top = layout.top + index * layout.row_height;
            let style = Style { size: ROW_FONT, color: INK, align: Align::Start };
            draw(&mut page, &row.label, MARGIN as f32, (top + layout.picture_height / 2) as f32, style);
            for (column, (cell, limits)) in row.cells.iter().zip(&mut limits).enumerate() {
                let left = MARGIN + layout.labels + column * (layout.cell + GAP);
                self.draw_cell(&mut page, heatmap, cell, limits, (left, top), &layout)?;
            }
        }
        if self.colorbar {
            let height = (self.rows.len() * layout.row_height - (layout.row_height - layout.picture_height)).max(60);
            let left = layout.size.0 - MARGIN - colorbar::width(&layout.bar);
            colorbar::draw_bar(&mut page, heatmap, &layout.bar, (left, layout.top), height.min(420));
        }
        Ok(page)
    }

    fn cells(&self) -> impl Iterator<Item = &Cell> {
        self.rows.iter().flat_map(|row| &row.cells)
    }

    fn layout(&self, heatmap: &Heatmap, shared: Option<Limits>) -> Layout {
        let columns = self.rows.iter().map(|row| row.cells.len()).max().unwrap_or(1).max(1);
        let widest = self.cells().map(|cell| natural_width(cell, self.overlay)).max().unwrap_or(1);
        let highest = self.cells().map(natural_height).max().unwrap_or(1);
        let longest = self.rows.iter().map(|row| length(&row.label, ROW_FONT)).fold(0.0, f32::max).ceil() as usize;
        let labels = if longest == 0 { 0 } else { longest + GAP };
        let bar = if self.colorbar {
            colorbar::labels(shared, heatmap.symmetric, self.rows.len() * highest.max(60))
        } else {
            Vec::new()
        };
        let bar_width = if self.colorbar { GAP + colorbar::width(&bar) } else { 0 };
        let fixed = 2 * MARGIN + labels + (columns - 1) * GAP + bar_width + columns * SEAM;
        // A narrow, high picture would otherwise grow far higher than the page is wide.
        let room = (self.width.saturating_sub(fixed) / (columns * widest)).min(self.width / highest.max(1));
        let enlarge = room.max(1);
        let cell = widest * enlarge + SEAM;
        let captions = if self.cells().any(|cell| !cell.caption.is_empty()) { CAPTION_HEIGHT } else { 0 };
        let picture_height = highest * enlarge;
        let row_height = picture_height + captions + GAP;
        let top = MARGIN + if self.title.is_empty() { 0 } else { 34 } + if self.subtitle.is_empty() { 0 } else { 26 };
        let head = length(&self.title, TITLE_FONT).max(length(&self.subtitle, SUBTITLE_FONT)).ceil() as usize;
        let body = labels + columns * cell + (columns - 1) * GAP + bar_width;
        // The bar and its numbers need some height even beside a single small map.
        let height = top + (self.rows.len() * row_height).max(if self.colorbar { 80 } else { 0 }) + MARGIN - GAP;
        let size = (2 * MARGIN + body.max(head), height);
        Layout { enlarge, labels, cell, picture_height, row_height, top, bar, size }
    }

    fn draw_head(&self, page: &mut Canvas) {
        let middle = page.width() as f32 / 2.0;
        let title = Style { size: TITLE_FONT, color: INK, align: Align::Middle };
        draw(page, &self.title, middle, MARGIN as f32 + 8.0, title);
        let below = if self.title.is_empty() { 6.0 } else { 38.0 };
        let subtitle = Style { size: SUBTITLE_FONT, color: [90; 3], ..title };
        draw(page, &self.subtitle, middle, MARGIN as f32 + below, subtitle);
    }

    fn draw_cell(
        &self,
        page: &mut Canvas,
        heatmap: &Heatmap,
        cell: &Cell,
        limits: Limits,
        (left, top): (usize, usize),
        layout: &Layout,
    ) -> Result<()> {
        let heat = heatmap.paint(&cell.relevance, limits)?;
        let pictures = match (&cell.input, self.overlay) {
            (Some(input), Some(alpha)) => {
                let opacity = heatmap.opacity(&cell.relevance, limits, alpha);
                vec![input.overlay(&heat, &opacity)?]
            }
            (Some(input), None) => vec![input.clone(), heat],
            (None, _) => vec![heat],
        };
        let mut x = left;
        for picture in pictures {
            let picture = picture.enlarge(layout.enlarge)?;
            page.frame(x, top, picture.width(), picture.height(), FRAME);
            page.paste(x, top, &picture);
            x += picture.width() + SEAM;
        }
        let middle = (left + x - SEAM) as f32 / 2.0;
        let caption = fit(&cell.caption, CAPTION_FONT, layout.cell as f32);
        let style = Style { size: CAPTION_FONT, color: if cell.wrong { WRONG } else { INK }, align: Align::Middle };
        draw(page, &caption, middle, (top + layout.picture_height + CAPTION_HEIGHT / 2 + 1) as f32, style);
        Ok(())
    }
}

/// Pixels that a cell takes before it is enlarged.
fn natural_width(cell: &Cell, overlay: Option<f32>) -> usize {
    match &cell.input {
        Some(input) if overlay.is_none() => input.width() + cell.relevance.width(),
        _ => cell.relevance.width(),
    }
}

fn natural_height(cell: &Cell) -> usize {
    cell.relevance.height().max(cell.input.as_ref().map_or(0, Canvas::height))
}
