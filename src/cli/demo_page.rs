//! The demo's picture: a row a class, each image beside its heatmap.

use relprop::input::{Channels, ImageLayout};
use relprop::output::{Canvas, Cell, ColorMap, Grid, GridRow, Heatmap, ScaleBy};
use relprop::{Relevance, Result, Shape};

use super::demo::Data;

/// The classes' names, by label.
pub const CLASSES: [&str; 10] =
    ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];

/// Images of a class that are classified right.
const RIGHT: usize = 4;
const WIDTH: usize = 1400;
/// Blue over white to red, in steps that look even, dark at both ends.
pub const COLORS: &str = "053061,2166ac,4393c3,92c5de,d1e5f0,80:ffffff,fddbc7,f4a582,d6604d,b2182b,67001f";

/// A page with the first images of each class that are classified right, and the surest mistake.
///
/// # Errors
/// If it cannot be drawn.
pub fn draw(data: &Data, relevance: &Relevance) -> Result<Canvas> {
    let shape = Shape::new(&data.images.shape().dims()[1..]);
    let colormap: ColorMap = COLORS.parse()?;
    let heatmap = Heatmap { colormap, scale_by: ScaleBy::Sample, clip_percent: 0.5, ..Heatmap::default() };
    let maps = heatmap.maps(relevance.input())?;
    let guess = |sample: usize| relevance.targets.data()[sample];
    let mut rows = Vec::new();
    for (class, name) in CLASSES.iter().enumerate() {
        let members: Vec<usize> = (0..data.labels.len()).filter(|&sample| data.labels[sample] == class).collect();
        let right = members.iter().copied().filter(|&sample| guess(sample) == class).take(RIGHT);
        let wrong = members.iter().copied().filter(|&sample| guess(sample) != class);
        let surest = wrong.max_by(|&a, &b| certainty(relevance, a).total_cmp(&certainty(relevance, b)));
        let cell = |sample: usize| {
            let pixels = data.images.row(sample);
            let is_wrong = guess(sample) != class;
            let percent = certainty(relevance, sample) * 100.0;
            Ok(Cell {
                input: Some(Canvas::from_input(
                    pixels,
                    &shape,
                    ImageLayout::Nchw,
                    Channels::Gray,
                    Some((&[0.0], &[1.0])),
                )?),
                relevance: maps[sample].clone(),
                caption: format!("{} {percent:.0} %", CLASSES[guess(sample)]),
                wrong: is_wrong,
            })
        };
        let cells = right.chain(surest).map(cell).collect::<Result<Vec<_>>>()?;
        if !cells.is_empty() {
            rows.push(GridRow { label: (*name).to_owned(), cells });
        }
    }
    let grid = Grid {
        title: "What an MLP looked at in Fashion-MNIST".to_owned(),
        subtitle:
            "each image beside the relevance of its pixels for the predicted class, which stands below: red speaks \
                   for it, blue against it; on the right the surest mistake"
                .to_owned(),
        rows,
        width: WIDTH,
        ..Grid::default()
    };
    grid.draw(&heatmap)
}

/// The network's probability of the class that it predicts.
fn certainty(relevance: &Relevance, sample: usize) -> f32 {
    let logits = relevance.logits.row(sample);
    let greatest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    1.0 / logits.iter().map(|logit| (logit - greatest).exp()).sum::<f32>()
}
