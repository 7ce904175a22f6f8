//! Pictures in memory: pixels, rectangles, and other pictures set into them.

use crate::error::{Error, ErrorKind, Result};
use crate::input::{Channels, ImageLayout};
use crate::tensor::Shape;

/// Red, green, blue.
pub type Rgb = [u8; 3];

pub(super) const WHITE: Rgb = [255; 3];
pub(super) const INK: Rgb = [38; 3];

/// More pixels than a page needs; beyond this a picture is refused before memory is asked for.
const MAX_PIXELS: usize = 1 << 28;

/// An RGB picture, rows from the top.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<Rgb>,
}

impl Canvas {
    /// A picture of one colour, `width` by `height` pixels.
    ///
    /// # Errors
    /// [`ErrorKind::Limit`] beyond 2²⁸ pixels.
    pub fn new(width: usize, height: usize, color: Rgb) -> Result<Self> {
        match width.checked_mul(height) {
            Some(count) if count <= MAX_PIXELS => Ok(Canvas { width, height, pixels: vec![color; count] }),
            _ => Err(Error::new(ErrorKind::Limit, format!("a picture of {width}×{height} pixels is too large"))
                .help("draw fewer samples, or enlarge them less")),
        }
    }

    /// A picture from its pixels, rows from the top.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] if `pixels` does not hold `width · height` of them.
    pub fn from_pixels(width: usize, height: usize, pixels: Vec<Rgb>) -> Result<Self> {
        if width.checked_mul(height) != Some(pixels.len()) {
            return Err(Error::shape(format!("{} pixels make no picture of {width}×{height}", pixels.len()))
                .help("give width times height pixels"));
        }
        Ok(Canvas { width, height, pixels })
    }

    /// One model input of shape `[H, W]`, `[C, H, W]` or `[H, W, C]` (1 or 3 channels) as a picture.
    ///
    /// `bounds` are the values of pixels 0 and 255, one number a channel
    /// ([`ImageOptions::bounds`](crate::input::ImageOptions::bounds)); without them the least value becomes black and
    /// the greatest white. Of `order` only [`Channels::Bgr`] matters: its first channel is the last of the picture.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] if the shape is no picture's or the bounds do not count up to its channels.
    pub fn from_input(
        values: &[f32],
        shape: &Shape,
        layout: ImageLayout,
        order: Channels,
        bounds: Option<(&[f32], &[f32])>,
    ) -> Result<Self> {
        let (channels, height, width) = match (shape.dims(), layout) {
            (&[height, width], _) => (1, height, width),
            (&[channels @ (1 | 3), height, width], ImageLayout::Nchw) => (channels, height, width),
            (&[height, width, channels @ (1 | 3)], ImageLayout::Nhwc) => (channels, height, width),
            _ => (0, 0, 0),
        };
        if channels == 0 || values.len() != shape.count() {
            return Err(Error::shape(format!(
                "{} values of shape {shape} are no picture of 1 or 3 channels",
                values.len()
            ))
            .help("check the layout (NCHW or NHWC), or draw the relevance without the input"));
        }
        if let Some((low, high)) = bounds.filter(|(low, high)| low.len() != channels || high.len() != channels) {
            return Err(Error::shape(format!("{} and {} bounds for {channels} channels", low.len(), high.len()))
                .help("give the values of pixels 0 and 255, one a channel"));
        }
        let least = values.iter().copied().fold(f32::INFINITY, f32::min);
        let greatest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let pixel = |position: usize, color: usize| {
            let channel = if order == Channels::Bgr { 2 - color } else { color }.min(channels - 1);
            let index = match layout {
                ImageLayout::Nchw => channel * height * width + position,
                ImageLayout::Nhwc => position * channels + channel,
            };
            let (low, high) = bounds.map_or((least, greatest), |(low, high)| (low[channel], high[channel]));
            ((values[index] - low) / (high - low) * 255.0).round() as u8
        };
        let pixels = (0..height * width).map(|at| std::array::from_fn(|color| pixel(at, color))).collect();
        Canvas::from_pixels(width, height, pixels)
    }

    /// Pixels in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The pixels, rows from the top.
    pub fn pixels(&self) -> &[Rgb] {
        &self.pixels
    }

    /// The picture with every pixel as a square of `factor` pixels.
    ///
    /// # Errors
    /// [`ErrorKind::Limit`] beyond 2²⁸ pixels.
    pub fn enlarge(&self, factor: usize) -> Result<Self> {
        let mut large = Canvas::new(self.width.saturating_mul(factor), self.height.saturating_mul(factor), WHITE)?;
        for (index, pixel) in large.pixels.iter_mut().enumerate() {
            let (x, y) = (index % large.width / factor, index / large.width / factor);
            *pixel = self.pixels[y * self.width + x];
        }
        Ok(large)
    }

    /// This picture in greys, with `heat` of the same size laid over it. `opacity` has a number a pixel: 0 shows only
    /// the greys, 1 only the heat.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] if the sizes differ.
    pub fn overlay(&self, heat: &Canvas, opacity: &[f32]) -> Result<Self> {
        if (self.width, self.height) != (heat.width, heat.height) || opacity.len() != self.pixels.len() {
            return Err(Error::shape(format!(
                "a heatmap of {}×{} pixels does not lie over an input of {}×{}",
                heat.width, heat.height, self.width, self.height
            ))
            .help("draw them side by side, or give the relevance of the input itself"));
        }
        let pixels = self.pixels.iter().zip(&heat.pixels).zip(opacity);
        let pixels = pixels.map(|((&below, &above), &opacity)| blend([luma(below); 3], above, opacity)).collect();
        Canvas::from_pixels(self.width, self.height, pixels)
    }

    /// Fills a rectangle; what lies outside the picture is left out.
    pub(super) fn fill(&mut self, left: usize, top: usize, width: usize, height: usize, color: Rgb) {
        let (right, bottom) = (left.saturating_add(width).min(self.width), top.saturating_add(height).min(self.height));
        for y in top..bottom {
            if left < right {
                self.pixels[y * self.width + left..y * self.width + right].fill(color);
            }
        }
    }

    /// The outline, one pixel wide, of the rectangle that lies inside it.
    pub(super) fn frame(&mut self, left: usize, top: usize, width: usize, height: usize, color: Rgb) {
        let (x, y) = (left.saturating_sub(1), top.saturating_sub(1));
        self.fill(x, y, width + 2, 1, color);
        self.fill(x, top + height, width + 2, 1, color);
        self.fill(x, y, 1, height + 2, color);
        self.fill(left + width, y, 1, height + 2, color);
    }

    /// Sets another picture in; what lies outside is left out.
    pub(super) fn paste(&mut self, left: usize, top: usize, picture: &Canvas) {
        let width = picture.width.min(self.width.saturating_sub(left));
        for y in 0..picture.height.min(self.height.saturating_sub(top)) {
            let start = (top + y) * self.width + left;
            self.pixels[start..start + width].copy_from_slice(&picture.pixels[y * picture.width..][..width]);
        }
    }

    /// Blends a colour into one pixel; a position outside is left out.
    pub(super) fn tint(&mut self, x: i64, y: i64, color: Rgb, alpha: f32) {
        let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) else { return };
        if x < self.width && y < self.height {
            let pixel = &mut self.pixels[y * self.width + x];
            *pixel = blend(*pixel, color, alpha);
        }
    }
}

/// A colour's brightness by Rec. 601.
pub(super) fn luma(color: Rgb) -> u8 {
    let [red, green, blue] = color.map(u32::from);
    ((299 * red + 587 * green + 114 * blue + 500) / 1000) as u8
}

fn blend(below: Rgb, above: Rgb, alpha: f32) -> Rgb {
    std::array::from_fn(|i| (f32::from(below[i]) * (1.0 - alpha) + f32::from(above[i]) * alpha).round() as u8)
}
