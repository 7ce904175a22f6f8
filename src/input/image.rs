//! Pictures as model inputs: decode, resize the shorter side, cut the centre, scale, normalise.
//!
//! The `image` crate decodes: the most used one, in safe Rust, with limits on what a file may claim.

use std::path::Path;

use image::imageops::{self, FilterType};
use image::{DynamicImage, ImageReader, Limits};

use super::{malformed, open, unreadable};
use crate::error::{Error, ErrorKind, Result};
use crate::tensor::Tensor;

/// The longest side that is decoded, in pixels.
const MAX_SIDE: u32 = 32_768;
/// The most memory that decoding one picture may take, in bytes.
const MAX_DECODED: u64 = 1 << 30;
/// What decoding may take whatever the file's size.
const FREE_DECODED: u64 = 1 << 26;
/// PNG packs at most 1032 to 1 and JPEG rarely better than 200 to 1; decoders hold rows beside the picture.
const MAX_RATIO: u64 = 2048;

/// The channels that a model reads, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Channels {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// One channel: luminance.
    Gray,
}

impl Channels {
    /// How many they are.
    pub fn count(self) -> usize {
        match self {
            Channels::Rgb | Channels::Bgr => 3,
            Channels::Gray => 1,
        }
    }
}

/// Where a batch of pictures has its channel axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ImageLayout {
    /// [N, C, H, W], as PyTorch models read.
    #[default]
    Nchw,
    /// [N, H, W, C], as TensorFlow models read.
    Nhwc,
}

/// How a pixel becomes a model input: (pixel · scale − mean) / std, after resize and crop.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageOptions {
    /// The length that the shorter side is brought to, in pixels; the sides keep their ratio.
    pub resize: Option<usize>,
    /// The side of the square that is cut from the centre, in pixels.
    pub crop: Option<usize>,
    /// The factor on pixels, which go from 0 to 255.
    pub scale: f32,
    /// Subtracted after scaling: one number a channel, one for all, or none.
    pub mean: Vec<f32>,
    /// Divided by after the mean is gone: one number a channel, one for all, or none.
    pub std: Vec<f32>,
    /// The channels and their order.
    pub channels: Channels,
    /// The order of the axes.
    pub layout: ImageLayout,
}

impl Default for ImageOptions {
    fn default() -> Self {
        ImageOptions {
            resize: None,
            crop: None,
            scale: 1.0 / 255.0,
            mean: Vec::new(),
            std: Vec::new(),
            channels: Channels::default(),
            layout: ImageLayout::default(),
        }
    }
}

impl ImageOptions {
    /// The pixels of a uint8 array as model inputs: scaled and normalised along the channel axis that the layout
    /// gives; neither resized nor cut, and its channels stay in their order.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] if `mean` or `std` have several numbers and the array no such channel axis.
    pub fn scale_pixels(&self, pixels: &Tensor<u8>) -> Result<Tensor> {
        let dims = pixels.shape().dims();
        let axis = match self.layout {
            ImageLayout::Nchw => 1,
            ImageLayout::Nhwc => dims.len().saturating_sub(1),
        };
        let channels = dims.get(axis).copied().unwrap_or(1);
        if self.mean.len() <= 1 && self.std.len() <= 1 {
            let table = self.table(1)?;
            return Ok(pixels.map(|&pixel| table[usize::from(pixel)]));
        }
        let table =
            self.table(channels).map_err(|error| error.context(format!("array of shape {}", pixels.shape())))?;
        let inner: usize = dims[axis + 1..].iter().product();
        let data = pixels.data().iter().enumerate();
        let data = data.map(|(i, &pixel)| table[i / inner % channels * 256 + usize::from(pixel)]).collect();
        Tensor::new(pixels.shape().clone(), data)
    }

    /// What pixel 0 and pixel 255 become, one number a channel: the bounds of the box rule.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] if `mean` or `std` do not fit the channels, or a `std` is 0.
    pub fn bounds(&self) -> Result<(Vec<f32>, Vec<f32>)> {
        let table = self.table(self.channels.count())?;
        let (mut low, mut high) = (Vec::new(), Vec::new());
        for values in table.chunks_exact(256) {
            low.push(values[0].min(values[255]));
            high.push(values[0].max(values[255]));
        }
        Ok((low, high))
    }

    /// What each pixel value becomes: 256 numbers a channel.
    fn table(&self, channels: usize) -> Result<Vec<f32>> {
        for (name, values) in [("mean", &self.mean), ("std", &self.std)] {
            if values.len() > 1 && values.len() != channels {
                return Err(Error::argument(format!("{name} has {} numbers for {channels} channels", values.len()))
                    .help("give one number, or one a channel; check --channels and --layout"));
            }
        }
        if self.std.iter().any(|&std| std == 0.0 || !std.is_finite()) || !self.scale.is_finite() {
            return Err(Error::argument(format!("std {:?} and scale {} cannot be used", self.std, self.scale))
                .help("std divides: give numbers that are finite and not 0"));
        }
        let of = |values: &[f32], channel: usize, none: f32| match values {
            [] => none,
            [one] => *one,
            several => several[channel],
        };
        Ok((0..channels)
            .flat_map(|channel| {
                let (mean, std) = (of(&self.mean, channel, 0.0), of(&self.std, channel, 1.0));
                (0..=255u8).map(move |pixel| (f32::from(pixel) * self.scale - mean) / std)
            })
            .collect())
    }

    /// The pixels of one picture after resize and crop, channels last.
    fn prepare(&self, path: &Path) -> Result<(usize, usize, Vec<u8>)> {
        let mut picture = decode(path)?;
        if let Some(side) = self.resize {
            picture = resize(&picture, side)?;
        }
        let (width, height) = (picture.width(), picture.height());
        if let Some(side) = self.crop {
            if side == 0 || side > width.min(height) as usize {
                return Err(Error::argument(format!("a crop of {side} does not fit {width}×{height} pixels"))
                    .help("crop less, or resize first so that the shorter side is long enough"));
            }
            let side = side as u32;
            let margin = |extent: u32| (f64::from(extent - side) / 2.0).round_ties_even() as u32;
            picture = picture.crop_imm(margin(width), margin(height), side, side);
        }
        let size = (picture.width() as usize, picture.height() as usize);
        let mut pixels = match self.channels {
            Channels::Gray => luminance(picture),
            Channels::Rgb | Channels::Bgr => picture.into_rgb8().into_raw(),
        };
        if self.channels == Channels::Bgr {
            pixels.chunks_exact_mut(3).for_each(|pixel| pixel.swap(0, 2));
        }
        Ok((size.0, size.1, pixels))
    }
}

/// Pictures as one batch of model inputs, [N, C, H, W] or [N, H, W, C].
///
/// Transparency is dropped, as PyTorch's loaders do.
///
/// # Errors
/// [`ErrorKind::Io`] or [`ErrorKind::Malformed`] if a file cannot be read or decoded, [`ErrorKind::Shape`] if pictures
/// differ in size, [`ErrorKind::Argument`] for options that do not fit, [`ErrorKind::Data`] for no picture at all.
pub fn read_images(paths: &[impl AsRef<Path>], options: &ImageOptions) -> Result<Tensor> {
    let channels = options.channels.count();
    let table = options.table(channels)?;
    let Some(first) = paths.first() else {
        return Err(Error::new(ErrorKind::Data, "no picture is given").help("name at least one .png or .jpg file"));
    };
    let mut data = Vec::new();
    let mut size = None;
    for path in paths {
        let path = path.as_ref();
        let (width, height, pixels) = options.prepare(path).map_err(|error| error.context(path.display()))?;
        let (first_width, first_height) = *size.get_or_insert((width, height));
        if (width, height) != (first_width, first_height) {
            return Err(Error::shape(format!(
                "{} is {width}×{height} pixels but {} is {first_width}×{first_height}",
                path.display(),
                first.as_ref().display()
            ))
            .help("bring all to one size with resize and crop"));
        }
        let value = |channel: usize, pixel: u8| table[channel * 256 + usize::from(pixel)];
        match options.layout {
            ImageLayout::Nhwc => data.extend(pixels.iter().enumerate().map(|(i, &pixel)| value(i % channels, pixel))),
            ImageLayout::Nchw => {
                for channel in 0..channels {
                    data.extend(pixels.iter().skip(channel).step_by(channels).map(|&pixel| value(channel, pixel)));
                }
            }
        }
    }
    let (width, height) = size.unwrap_or_default();
    match options.layout {
        ImageLayout::Nchw => Tensor::new([paths.len(), channels, height, width], data),
        ImageLayout::Nhwc => Tensor::new([paths.len(), height, width, channels], data),
    }
}

fn decode(path: &Path) -> Result<DynamicImage> {
    let (file, size) = open(path)?;
    let mut reader = ImageReader::new(file).with_guessed_format().map_err(|error| unreadable(path, error))?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(size.saturating_mul(MAX_RATIO).saturating_add(FREE_DECODED).min(MAX_DECODED));
    reader.limits(limits);
    reader.decode().map_err(|error| match error {
        image::ImageError::IoError(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
            unreadable(path, error)
        }
        image::ImageError::Limits(error) => Error::new(ErrorKind::Limit, format!("the picture is too large: {error}"))
            .help("make it smaller first; models read far smaller pictures")
            .caused_by(error),
        error => {
            malformed(format!("cannot be decoded: {error}")).help("give a whole PNG or JPEG file").caused_by(error)
        }
    })
}

/// The weights of Rec. 601, which Pillow and thereby PyTorch's loaders use; the `image` crate's are Rec. 709's.
fn luminance(picture: DynamicImage) -> Vec<u8> {
    if picture.color().channel_count() < 3 {
        return picture.into_luma8().into_raw();
    }
    let rgb = picture.into_rgb8().into_raw();
    let luma = |rgb: &[u8]| 19_595 * u32::from(rgb[0]) + 38_470 * u32::from(rgb[1]) + 7_471 * u32::from(rgb[2]);
    rgb.chunks_exact(3).map(|pixel| ((luma(pixel) + 0x8000) >> 16) as u8).collect()
}

/// The picture with its shorter side brought to `side`, smoothed over all source pixels when it shrinks.
fn resize(picture: &DynamicImage, side: usize) -> Result<DynamicImage> {
    let longest = MAX_SIDE as usize;
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let shorter = width.min(height).max(1);
    let (width, height) = (width.saturating_mul(side) / shorter, height.saturating_mul(side) / shorter);
    if side == 0 || width > longest || height > longest {
        return Err(Error::argument(format!("a resize to {side} would give {width}×{height} pixels"))
            .help(format!("no side may be 0 or longer than {longest}")));
    }
    let (width, height) = (width as u32, height as u32);
    Ok(match picture.color().channel_count() {
        1 => DynamicImage::ImageLuma8(imageops::resize(&picture.to_luma8(), width, height, FilterType::Triangle)),
        _ => DynamicImage::ImageRgb8(imageops::resize(&picture.to_rgb8(), width, height, FilterType::Triangle)),
    })
}
