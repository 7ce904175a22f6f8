//! The CNN demo's picture: a row a class, one image of it under one preset after another.

use std::sync::Arc;

use relprop::input::{Channels, ImageLayout};
use relprop::output::{Canvas, Cell, ColorMap, Grid, GridRow, Heatmap, ScaleBy};
use relprop::rules::Bounds;
use relprop::{Backend, Composite, Explainer, Input, Network, Relevance, Result, Shape, Targets, Tensor};

use super::demo::Data;
use super::demo_page::{CLASSES, COLORS};

/// The columns: presets that differ on convolutions.
const COLUMNS: [&str; 7] = [
    "epsilon",
    "epsilon-plus",
    "epsilon-plus-flat",
    "epsilon-alpha2-beta1",
    "epsilon-gamma-box",
    "guided-backprop",
    "gradient-x-input",
];
const WIDTH: usize = 1500;

/// A page with the first image of each class that is classified right, and its relevance under each preset.
///
/// # Errors
/// If it cannot be explained or drawn.
pub fn draw(network: &Arc<Network>, data: &Data, relevance: &Relevance) -> Result<Canvas> {
    let guess = |sample: usize| relevance.targets.data()[sample];
    let chosen: Vec<usize> = (0..CLASSES.len())
        .filter_map(|class| {
            (0..data.labels.len()).find(|&sample| data.labels[sample] == class && guess(sample) == class)
        })
        .collect();
    let width = data.images.count() / data.images.rows();
    let mut dims = data.images.shape().dims().to_vec();
    dims[0] = chosen.len();
    let images = Tensor::new(dims, chosen.iter().flat_map(|&sample| data.images.row(sample)).copied().collect())?;
    let targets = Targets::Each(chosen.iter().map(|&sample| guess(sample)).collect());
    let heatmap = Heatmap {
        colormap: COLORS.parse::<ColorMap>()?,
        scale_by: ScaleBy::Sample,
        clip_percent: 0.5,
        ..Heatmap::default()
    };
    // Pixels go from 0 to 1 where the network reads them.
    let bound = |value: f32| Arc::new(Tensor::scalar(value));
    let mut columns = Vec::with_capacity(COLUMNS.len());
    for preset in COLUMNS {
        let composite = Composite::preset(preset)?.with_input_bounds(Bounds { low: bound(0.0), high: bound(1.0) });
        let explainer = Explainer::new(Arc::clone(network), &composite, Backend::Cpu)?;
        columns.push(heatmap.maps(explainer.explain(&[Input::from(&images)], &targets)?.input())?);
    }
    let shape = Shape::new(&data.images.shape().dims()[1..]);
    let mut rows = Vec::with_capacity(chosen.len());
    for position in 0..chosen.len() {
        let pixels = &images.data()[position * width..][..width];
        let picture = Canvas::from_input(pixels, &shape, ImageLayout::Nchw, Channels::Gray, Some((&[0.0], &[1.0])))?;
        let mut picture = Some(picture);
        let cells = columns.iter().zip(COLUMNS).map(|(maps, preset)| Cell {
            input: picture.take(),
            relevance: maps[position].clone(),
            caption: preset.to_owned(),
            wrong: false,
        });
        rows.push(GridRow { label: CLASSES[data.labels[chosen[position]]].to_owned(), cells: cells.collect() });
    }
    let grid = Grid {
        title: "How rules differ: a CNN on Fashion-MNIST".to_owned(),
        subtitle:
            "the first image of each class that is classified right, and the relevance of its pixels for that class \
                   under one preset after another; red speaks for it, blue against it"
                .to_owned(),
        rows,
        width: WIDTH,
        ..Grid::default()
    };
    grid.draw(&heatmap)
}
