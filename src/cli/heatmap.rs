//! `--heatmap`: the first samples' relevance as a picture.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use relprop::input::{Channels, ImageLayout};
use relprop::network::InputKind;
use relprop::output::{Canvas, Cell, ColorMap, Grid, Heatmap, Reduce, ScaleBy, write_png};
use relprop::{Error, ErrorKind, Relevance, Result, Shape, Tensor};

use super::console::{Console, thousands};
use super::source::{Door, Source, Values};

/// As many cells as a page stays legible with.
const MOST_CELLS: usize = 64;
const PAGE_WIDTH: usize = 1200;
/// The pixels that all cells may take before they are enlarged; larger ones are fewer.
const MOST_PIXELS: usize = 1 << 23;
/// The pixels that the only cell of a page may take.
const LARGEST_CELL: usize = 1 << 24;
/// What a cell has around its pictures, at least.
const FRAME: usize = 32;

/// How relevance is drawn.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Drawing")]
pub struct HeatmapArguments {
    /// Draw the first samples, each input beside its relevance, into this PNG file
    #[arg(long, value_name = "OUT.png")]
    pub heatmap: Option<PathBuf>,

    /// The colours: a map of zennit's by name, mpl:NAME for matplotlib's, or colours such as 00f,fff,f00; bwr unless told
    #[arg(long, value_name = "NAME", requires = "heatmap")]
    pub cmap: Option<ColorMap>,

    /// How a pixel's channels become one number; their sum unless told
    #[arg(long, value_name = "HOW", requires = "heatmap")]
    pub reduce: Option<Reduction>,

    /// The percentage of values, those farthest out, that may exceed the colours' ends; 0 unless told
    #[arg(long, value_name = "P", requires = "heatmap")]
    pub clip_percent: Option<f32>,

    /// The stretch of the colours: above 1 their ends are reached earlier; 1 unless told
    #[arg(long, value_name = "X", requires = "heatmap")]
    pub level: Option<f32>,

    /// What shares one scale of colours: each sample has its own unless told
    #[arg(long, value_name = "WHAT", requires = "heatmap")]
    pub scale_by: Option<Sharing>,

    /// Lay relevance over the input with this opacity, 0 to 1, in place of both side by side
    #[arg(long, value_name = "ALPHA", requires = "heatmap")]
    pub overlay: Option<f32>,
}

/// How channels are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Reduction {
    /// Their sum.
    Sum,
    /// The sum of their magnitudes.
    Abs,
    /// Their greatest magnitude.
    Max,
}

/// What shares a scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Sharing {
    /// Each sample has its own.
    Sample,
    /// All samples share one.
    Grid,
}

impl HeatmapArguments {
    fn options(&self, layout: ImageLayout) -> Heatmap {
        let defaults = Heatmap::default();
        Heatmap {
            colormap: self.cmap.clone().unwrap_or(defaults.colormap),
            reduce: match self.reduce {
                Some(Reduction::Abs) => Reduce::Abs,
                Some(Reduction::Max) => Reduce::Max,
                Some(Reduction::Sum) | None => Reduce::Sum,
            },
            symmetric: true,
            clip_percent: self.clip_percent.unwrap_or(defaults.clip_percent),
            level: self.level.unwrap_or(defaults.level),
            scale_by: match self.scale_by {
                Some(Sharing::Grid) => ScaleBy::Grid,
                Some(Sharing::Sample) | None => ScaleBy::Sample,
            },
            layout,
        }
    }
}

/// A page in the making.
#[derive(Debug)]
pub struct Page {
    path: PathBuf,
    heatmap: Heatmap,
    overlay: Option<f32>,
    cells: Vec<Cell>,
    /// As many cells as the page has room for.
    most: usize,
    /// How many cells all samples and targets would make.
    all: usize,
    /// Why nothing can be drawn. It is told when all results are written, which it must not cost.
    failure: Option<Error>,
}

impl Page {
    /// A page for a job of so many samples and targets, if one is asked for.
    ///
    /// # Errors
    /// If an option is out of its range, a sample is too large to be drawn, or the file cannot be written.
    pub fn new(arguments: &HeatmapArguments, source: &Source, targets: usize) -> Result<Option<Page>> {
        let Some(path) = &arguments.heatmap else { return Ok(None) };
        let door = source.doors.iter().find(|door| door.kind == InputKind::Float);
        let layout = door.map_or(ImageLayout::Nchw, |door| door.layout);
        let heatmap = arguments.options(layout);
        heatmap.check()?;
        if let Some(alpha) = arguments.overlay.filter(|alpha| !(0.0..=1.0).contains(alpha)) {
            return Err(super::model::usage(format!("--overlay {alpha}"), "give an opacity from 0 to 1"));
        }
        if path.extension().is_none_or(|ending| !ending.eq_ignore_ascii_case("png")) {
            return Err(super::model::usage(
                format!("{}: heatmaps are drawn as .png", path.display()),
                "name a file that ends in .png",
            ));
        }
        let pixels = door.map_or(1, |door| cell_pixels(door, arguments.overlay.is_some()));
        if let Some(door) = door.filter(|_| pixels > LARGEST_CELL) {
            let sample = &door.sample;
            let message = format!("--heatmap: a drawing of samples of shape {sample} is too large");
            return Err(
                Error::new(ErrorKind::Limit, message).help("leave it out, and draw parts of the relevance file")
            );
        }
        super::results::try_create(path)?;
        let (path, overlay, all) = (path.clone(), arguments.overlay, source.samples * targets);
        let most = (MOST_PIXELS / pixels).clamp(1, MOST_CELLS);
        Ok(Some(Page { path, heatmap, overlay, cells: Vec::new(), most, all, failure: None }))
    }

    /// Adds the cells of a block that still have a place; `first` is the position of its first sample.
    pub fn add(&mut self, relevance: &Relevance, values: &[Values], doors: &[Door], first: usize) {
        if self.failure.is_none() {
            self.failure = self.try_add(relevance, values, doors, first).err();
        }
    }

    fn try_add(&mut self, relevance: &Relevance, values: &[Values], doors: &[Door], first: usize) -> Result<()> {
        let inputs = values.iter().zip(doors).find_map(|(values, door)| Some((values.float()?, door)));
        let Some((input, door)) = inputs else { return Ok(()) };
        let shape = picture_shape(door);
        let width = shape.count();
        let targets = relevance.targets.count() / relevance.targets.rows();
        let scores = relevance.scores();
        for sample in 0..relevance.targets.rows() {
            for k in 0..targets {
                if self.cells.len() == self.most {
                    return Ok(());
                }
                let row = sample * targets + k;
                let data = relevance.input().data()[row * width..][..width].to_vec();
                let map = self.heatmap.maps(&Tensor::new(shape.prepend(1), data)?)?.remove(0);
                let seen = &input.data()[sample * width..][..width];
                let (target, score) = (relevance.targets.data()[row], scores.data()[row]);
                self.cells.push(Cell {
                    input: self.picture(seen, &shape, door),
                    relevance: map,
                    caption: format!("{}: target {target}, {score:.2}", first + sample).replace('-', "−"),
                    wrong: false,
                });
            }
        }
        Ok(())
    }

    /// The input as a picture, if it is one.
    fn picture(&self, values: &[f32], shape: &Shape, door: &Door) -> Option<Canvas> {
        let layout = self.heatmap.layout;
        let order = door.pixels.as_ref().map_or(Channels::Rgb, |options| options.channels);
        let bounds = door.pixels.as_ref().and_then(|options| options.bounds().ok());
        let bounds = bounds.as_ref().map(|(low, high)| (low.as_slice(), high.as_slice()));
        let draw = |bounds| Canvas::from_input(values, shape, layout, order, bounds).ok();
        draw(bounds).or_else(|| draw(None))
    }

    /// Draws the page into its file.
    ///
    /// # Errors
    /// If it cannot be drawn or written.
    pub fn finish(self, console: Console) -> Result<()> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        if self.cells.len() < self.all {
            let (drawn, all) = (self.cells.len(), thousands(self.all));
            console.note(&format!("{} shows the first {drawn} of {all} explanations", self.path.display()));
        }
        let grid = Grid { overlay: self.overlay, ..Grid::of_cells(self.cells, PAGE_WIDTH) };
        write_png(&self.path, &grid.draw(&self.heatmap)?)
    }
}

/// The pixels of a sample's cell before it is enlarged.
fn cell_pixels(door: &Door, is_overlay: bool) -> usize {
    let shape = picture_shape(door);
    let (height, width) = match (shape.dims(), door.layout) {
        (&[height, width], _) | (&[_, height, width], ImageLayout::Nchw) | (&[height, width, _], ImageLayout::Nhwc) => {
            (height, width)
        }
        _ => (1, shape.count()),
    };
    let side_by_side = if is_overlay { 1 } else { 2 };
    width.saturating_mul(side_by_side).saturating_add(FRAME).saturating_mul(height.saturating_add(FRAME))
}

/// The shape under which a sample is drawn: the model's or the file's, whichever is a picture; else one row.
fn picture_shape(door: &Door) -> Shape {
    let is_picture = |shape: &&Shape| matches!(shape.rank(), 2 | 3);
    let drawn = [&door.sample, &door.given].into_iter().find(is_picture);
    drawn.cloned().unwrap_or_else(|| Shape::new([door.sample.count()]))
}
