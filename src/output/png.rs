//! PNG files, by the `png` crate: the image world's own, and unlike `image` it writes palettes.

use std::io;
use std::path::Path;

use png::{BitDepth, ColorType, Encoder, EncodingError};

use super::canvas::{Canvas, Rgb};
use super::file::{NewFile, unwritable};
use crate::error::{Error, Result};

/// Writes a picture.
///
/// # Errors
/// [`ErrorKind::Io`](crate::ErrorKind::Io) if the file cannot be written,
/// [`ErrorKind::Shape`](crate::ErrorKind::Shape) for a picture without pixels.
pub fn write_png(path: &Path, picture: &Canvas) -> Result<()> {
    write(path, (picture.width(), picture.height()), ColorType::Rgb, None, picture.pixels().as_flattened())
}

/// Writes a picture of `width` by `height` palette numbers, rows from the top.
///
/// # Errors
/// Those of [`write_png`].
pub fn write_paletted_png(
    path: &Path,
    width: usize,
    height: usize,
    indices: &[u8],
    palette: &[Rgb; 256],
) -> Result<()> {
    write(path, (width, height), ColorType::Indexed, Some(palette), indices)
}

fn write(
    path: &Path,
    (width, height): (usize, usize),
    color: ColorType,
    palette: Option<&[Rgb; 256]>,
    data: &[u8],
) -> Result<()> {
    let channels = color.samples();
    let fits = width.checked_mul(height).and_then(|count| count.checked_mul(channels)) == Some(data.len());
    let (Ok(wide), Ok(high), true) = (u32::try_from(width), u32::try_from(height), fits && !data.is_empty()) else {
        return Err(Error::shape(format!("{}: {width}×{height} pixels make no PNG", path.display()))
            .help("draw at least one pixel"));
    };
    let mut file = NewFile::create(path)?;
    let failed = |error: EncodingError| match error {
        EncodingError::IoError(error) => unwritable(path, error),
        other => unwritable(path, io::Error::other(other)),
    };
    let mut encoder = Encoder::new(&mut file, wide, high);
    encoder.set_color(color);
    encoder.set_depth(BitDepth::Eight);
    if let Some(palette) = palette {
        encoder.set_palette(palette.as_flattened().to_vec());
    }
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(data).map_err(failed)?;
    writer.finish().map_err(failed)?;
    file.finish()
}
