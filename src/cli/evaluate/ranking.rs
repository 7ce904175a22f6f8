//! What ranks the regions: a composite's relevance, or a file's.

use std::path::Path;

use relprop::input::{Array, FileFormat, ImageLayout, read_arrays, read_npy};
use relprop::{Composite, Error, ErrorKind, Result, Tensor};

use crate::cli::source::{Door, Source};

/// Where relevance comes from.
#[derive(Debug)]
pub enum Ranking {
    /// It is computed.
    Composite(Composite),
    /// It was read: one value an element of every sample, as the network has them.
    Read(Tensor),
}

/// The relevance of a file for every sample of the source's input.
///
/// # Errors
/// If the file cannot be read or holds relevance of another shape.
pub fn read(path: &Path, source: &Source, door: &Door) -> Result<Tensor> {
    let array = match FileFormat::of(path)? {
        FileFormat::Npy => read_npy(path)?,
        _ => {
            let mut held = read_arrays(path)?;
            let only = if held.len() == 1 { held.pop_first().map(|(_, array)| array) } else { None };
            only.or_else(|| held.remove(&door.name)).ok_or_else(|| {
                let message = format!("{}: holds no array for the input `{}`", path.display(), door.name);
                Error::new(ErrorKind::Data, message).help("name it as the model names its input, or give a .npy file")
            })?
        }
    };
    fitted(array, source.samples, source.is_single, door).map_err(|error| error.context(path.display()))
}

fn fitted(array: Array, samples: usize, is_single: bool, door: &Door) -> Result<Tensor> {
    let relevance = array.into_f32();
    let dims = relevance.shape().dims();
    let is_of = |sample: &[usize]| {
        dims.split_first().is_some_and(|(&rows, rest)| rows == samples && rest == sample)
            || (is_single && dims == sample)
    };
    let whole = door.sample.prepend(samples);
    if is_of(door.sample.dims()) {
        return relevance.reshape(whole);
    }
    if is_of(door.given.dims()) {
        let relevance = relevance.reshape(door.given.prepend(samples))?;
        return match door.turn {
            Some(turn) => Ok(turn.apply(&relevance)),
            None => relevance.reshape(whole),
        };
    }
    let (channels, pixels, axis) = match (door.sample.dims(), door.layout) {
        (&[channels, ref pixels @ ..], ImageLayout::Nchw) if pixels.len() > 1 => (channels, pixels, 1),
        (&[ref pixels @ .., channels], ImageLayout::Nhwc) if pixels.len() > 1 => (channels, pixels, pixels.len() + 1),
        _ => return Err(misfit(&relevance, samples, door)),
    };
    if !is_of(pixels) {
        return Err(misfit(&relevance, samples, door));
    }
    // A pixel's relevance is shared by its channels, so that a region's sum stays what it is.
    let mut dims = [&[samples], pixels].concat();
    dims.insert(axis, 1);
    relevance.map(|r| r / channels as f32).reshape(dims)?.broadcast_to(&whole)
}

fn misfit(relevance: &Tensor, samples: usize, door: &Door) -> Error {
    let message =
        format!("relevance of shape {} does not fit {samples} samples of shape {}", relevance.shape(), door.given);
    Error::new(ErrorKind::Shape, message)
        .help("give the relevance of these very samples for one target each: a value an element, or a value a pixel")
}
