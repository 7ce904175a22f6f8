//! Relevance as colours: channels joined, a scale chosen, values mapped to a palette.
//!
//! The mapping is zennit's: (x − low) / (high − low) · 255 in float32, clipped, rounded down; symmetric limits put 0 at
//! the palette's middle.

use std::path::Path;

use super::canvas::{Canvas, Rgb};
use super::colormap::ColorMap;
use super::png::write_paletted_png;
use crate::error::{Error, Result};
use crate::input::ImageLayout;
use crate::tensor::Tensor;

/// How the channels of a pixel become one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reduce {
    /// Their sum: relevance adds up.
    #[default]
    Sum,
    /// The sum of their magnitudes.
    Abs,
    /// The greatest magnitude among them.
    Max,
}

/// What shares one colour scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ScaleBy {
    /// Every map has its own.
    #[default]
    Sample,
    /// All maps of a picture share one.
    Grid,
}

/// One sample's relevance as a picture: a number a pixel, rows from the top.
#[derive(Debug, Clone, PartialEq)]
pub struct Map {
    width: usize,
    height: usize,
    values: Vec<f32>,
}

impl Map {
    /// A map from its numbers.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) if there are not `width · height` of them, or none.
    pub fn new(width: usize, height: usize, values: Vec<f32>) -> Result<Self> {
        if values.is_empty() || width.checked_mul(height) != Some(values.len()) {
            return Err(Error::shape(format!("{} values make no map of {width}×{height}", values.len()))
                .help("give width times height values, at least one"));
        }
        Ok(Map { width, height, values })
    }

    /// Pixels in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The numbers, rows from the top.
    pub fn values(&self) -> &[f32] {
        &self.values
    }
}

/// The values at the two ends of a colour map.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// The value of the first colour.
    pub low: f32,
    /// The value of the last colour.
    pub high: f32,
}

/// How relevance becomes colours.
#[derive(Debug, Clone, PartialEq)]
pub struct Heatmap {
    /// The colours.
    pub colormap: ColorMap,
    /// How channels are joined.
    pub reduce: Reduce,
    /// Whether the limits are −m and m, m the greatest magnitude, so that 0 has the middle colour. Otherwise they are
    /// the least and the greatest value.
    pub symmetric: bool,
    /// The percentage of values, those farthest out, that the limits leave outside: 0 to below 100.
    pub clip_percent: f32,
    /// The stretch of the colours: above 1 the ends are reached earlier, below 1 only the middle is used.
    pub level: f32,
    /// What shares a scale.
    pub scale_by: ScaleBy,
    /// Where relevance has its channel axis.
    pub layout: ImageLayout,
}

impl Default for Heatmap {
    fn default() -> Self {
        Heatmap {
            colormap: ColorMap::default(),
            reduce: Reduce::default(),
            symmetric: true,
            clip_percent: 0.0,
            level: 1.0,
            scale_by: ScaleBy::default(),
            layout: ImageLayout::default(),
        }
    }
}

impl Heatmap {
    /// One map a sample. Relevance `[N, C, H, W]` or `[N, H, W, C]` (by the layout) loses its channels, `[N, H, W]` has
    /// none, and the values of `[N]` and `[N, F]` lie in one row.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) for other shapes and for samples without values.
    pub fn maps(&self, relevance: &Tensor) -> Result<Vec<Map>> {
        let dims = relevance.shape().dims();
        let (channels, height, width) = match (dims, self.layout) {
            (&[_], _) => (1, 1, 1),
            (&[_, width], _) => (1, 1, width),
            (&[_, height, width], _) => (1, height, width),
            (&[_, channels, height, width], ImageLayout::Nchw) => (channels, height, width),
            (&[_, height, width, channels], ImageLayout::Nhwc) => (channels, height, width),
            _ => {
                return Err(Error::shape(format!("relevance of shape {} is no batch of pictures", relevance.shape()))
                    .help("give [N, F], [N, H, W], [N, C, H, W] or [N, H, W, C]; other shapes can be saved as .npy"));
            }
        };
        let area = height.saturating_mul(width);
        if channels.saturating_mul(area) == 0 {
            return Err(Error::shape(format!("relevance of shape {} has samples without values", relevance.shape()))
                .help("give at least one value a sample"));
        }
        let (pixel, channel) = match self.layout {
            ImageLayout::Nchw => (1, area),
            ImageLayout::Nhwc => (channels, 1),
        };
        let join = |sample: &[f32], at: usize| {
            let values = (0..channels).map(|c| sample[at * pixel + c * channel]);
            match self.reduce {
                Reduce::Sum => values.sum(),
                Reduce::Abs => values.map(f32::abs).sum(),
                Reduce::Max => values.map(f32::abs).fold(0.0, f32::max),
            }
        };
        let samples = relevance.data().chunks_exact(channels * area);
        samples.map(|sample| Map::new(width, height, (0..area).map(|at| join(sample, at)).collect())).collect()
    }

    /// The limits of each map: its own, or those of all together.
    pub fn limits(&self, maps: &[&Map]) -> Vec<Limits> {
        match self.scale_by {
            ScaleBy::Sample => maps.iter().map(|map| self.limits_of(map.values.iter().copied())).collect(),
            ScaleBy::Grid => {
                let limits = self.limits_of(maps.iter().flat_map(|map| map.values.iter().copied()));
                vec![limits; maps.len()]
            }
        }
    }

    /// The limits of some values. NaN and infinities are passed over; where nothing else is left, or all values are
    /// one, the limits are set 1 beside it, so that they never meet.
    pub fn limits_of(&self, values: impl Iterator<Item = f32>) -> Limits {
        let mut values: Vec<f32> = values.filter(|value| value.is_finite()).collect();
        if self.symmetric {
            values.iter_mut().for_each(|value| *value = value.abs());
            let clipped = quantile(&mut values, 1.0 - self.clip_percent / 100.0);
            // Sparse relevance can have zeros at the quantile: then nothing is clipped.
            let high = if clipped > 0.0 { clipped } else { quantile(&mut values, 1.0) };
            let high = if high > 0.0 { high } else { 1.0 };
            return Limits { low: -high, high };
        }
        let outside = self.clip_percent / 200.0;
        let (mut low, mut high) = (quantile(&mut values, outside), quantile(&mut values, 1.0 - outside));
        if low >= high {
            (low, high) = (quantile(&mut values, 0.0), quantile(&mut values, 1.0));
        }
        Limits { low, high: if low < high { high } else { low + 1.0 } }
    }

    /// The palette numbers of values; NaN gets the number of 0.
    pub fn indices(&self, values: &[f32], limits: Limits) -> Vec<u8> {
        let Limits { low, high } = limits;
        let index = |value: f32| ((value - low) / (high - low) * 255.0).clamp(0.0, 255.0) as u8;
        values.iter().map(|&value| index(if value.is_nan() { 0.0 } else { value })).collect()
    }

    /// The colours of the palette numbers.
    pub fn palette(&self) -> [Rgb; 256] {
        self.colormap.palette(self.level)
    }

    /// A map in colours, one pixel a value.
    ///
    /// # Errors
    /// [`ErrorKind::Limit`](crate::ErrorKind::Limit) for more pixels than a picture may have.
    pub fn paint(&self, map: &Map, limits: Limits) -> Result<Canvas> {
        let palette = self.palette();
        let indices = self.indices(&map.values, limits);
        Canvas::from_pixels(map.width, map.height, indices.into_iter().map(|i| palette[usize::from(i)]).collect())
    }

    /// How far each value covers an input under it: `alpha` at the limits, less towards 0, so that the input shows where
    /// relevance is weak. Without symmetric limits `alpha` everywhere.
    pub fn opacity(&self, map: &Map, limits: Limits, alpha: f32) -> Vec<f32> {
        // The root keeps half-strong relevance visible: its colours are pale already.
        let strength = |value: f32| if value.is_nan() { 0.0 } else { (value.abs() / limits.high).min(1.0).sqrt() };
        map.values.iter().map(|&value| if self.symmetric { alpha * strength(value) } else { alpha }).collect()
    }

    /// Writes one map as a paletted PNG, every value as a square of `enlarge` pixels.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) if the file cannot be written,
    /// [`ErrorKind::Argument`](crate::ErrorKind::Argument) for an option out of its range.
    pub fn save(&self, path: &Path, map: &Map, enlarge: usize) -> Result<()> {
        self.check()?;
        let indices = self.indices(&map.values, self.limits_of(map.values.iter().copied()));
        let size = map.width.checked_mul(enlarge).zip(map.height.checked_mul(enlarge));
        let Some((width, height)) =
            size.filter(|size| size.0.saturating_mul(size.1) <= u32::MAX as usize && enlarge > 0)
        else {
            return Err(Error::argument(format!("a heatmap cannot be enlarged {enlarge} times"))
                .help("give a whole number from 1 on that keeps the picture below 4 gigapixels"));
        };
        let mut large = Vec::with_capacity(width * height);
        for row in indices.chunks_exact(map.width) {
            let wide: Vec<u8> = row.iter().flat_map(|&index| std::iter::repeat_n(index, enlarge)).collect();
            (0..enlarge).for_each(|_| large.extend_from_slice(&wide));
        }
        write_paletted_png(path, width, height, &large, &self.palette())
    }

    /// Whether the options are in their ranges.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`](crate::ErrorKind::Argument) for one that is not.
    pub fn check(&self) -> Result<()> {
        if !(0.0..100.0).contains(&self.clip_percent) {
            return Err(Error::argument(format!("a clip of {} percent", self.clip_percent))
                .help("give a percentage from 0 to below 100"));
        }
        if !(self.level.is_finite() && self.level > 0.0) {
            return Err(Error::argument(format!("a colour level of {}", self.level))
                .help("give a number above 0; 1 spans the whole map"));
        }
        Ok(())
    }
}

/// The value below which the share `q` of the values lies, between neighbours by a straight line; 0 without values.
fn quantile(values: &mut [f32], q: f32) -> f32 {
    let Some(last) = values.len().checked_sub(1) else { return 0.0 };
    let place = f64::from(q.clamp(0.0, 1.0)) * last as f64;
    let (below, weight) = (place.floor() as usize, place.fract() as f32);
    let (_, &mut low, above) = values.select_nth_unstable_by(below, f32::total_cmp);
    let next = above.iter().copied().fold(f32::INFINITY, f32::min);
    if weight > 0.0 && next.is_finite() { low + (next - low) * weight } else { low }
}
