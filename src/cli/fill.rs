//! `--baseline`: the values that count as nothing there.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use relprop::attribution::Baseline;
use relprop::input::{ImageLayout, read_npy};
use relprop::{Error, Result, Tensor};

use super::model::usage;
use super::source::Door;

/// Values in place of an input's own.
#[derive(Debug, Clone, PartialEq)]
pub enum Fill {
    /// The pixel 0, prepared as the pictures are.
    Black,
    /// The pixel 255, prepared as the pictures are.
    White,
    /// One number as the model reads it, or one a channel.
    Numbers(Vec<f32>),
    /// A sample.
    File(PathBuf),
}

impl FromStr for Fill {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "black" => return Ok(Fill::Black),
            "white" => return Ok(Fill::White),
            "zero" => return Ok(Fill::Numbers(vec![0.0])),
            _ if text.ends_with(".npy") => return Ok(Fill::File(text.into())),
            _ => {}
        }
        let numbers = text.split(',').map(|number| number.trim().parse::<f32>().ok().filter(|x| x.is_finite()));
        let numbers: Option<Vec<f32>> = numbers.collect();
        numbers.map(Fill::Numbers).ok_or_else(|| {
            usage(
                format!("`{text}` is no baseline"),
                "give black, white, a number, one a channel as a,b,c, or FILE.npy",
            )
        })
    }
}

impl fmt::Display for Fill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fill::Black => f.write_str("black"),
            Fill::White => f.write_str("white"),
            Fill::Numbers(numbers) => f.write_str(&numbers.iter().map(f32::to_string).collect::<Vec<_>>().join(",")),
            Fill::File(path) => path.display().fmt(f),
        }
    }
}

impl Fill {
    /// The file that is read for it.
    pub fn file(&self) -> Option<&PathBuf> {
        match self {
            Fill::File(path) => Some(path),
            Fill::Black | Fill::White | Fill::Numbers(_) => None,
        }
    }

    /// Its values for an input; `flag` is what errors call it.
    ///
    /// # Errors
    /// If the input has no pixels or other channels, or the file cannot be read.
    pub fn baseline(&self, door: &Door, flag: &str) -> Result<Baseline> {
        let bounds = || match &door.pixels {
            Some(pixels) => pixels.bounds(),
            None => Err(usage(
                format!("{flag} black and white are for pictures and uint8 arrays, and `{}` is neither", door.name),
                "give the number that the model reads for it, such as 0",
            )),
        };
        match self {
            Fill::Black => spread(&bounds()?.0, door, flag),
            Fill::White => spread(&bounds()?.1, door, flag),
            Fill::Numbers(numbers) => spread(numbers, door, flag),
            Fill::File(path) => {
                let array = read_npy(path)?.into_f32();
                // An axis for samples says nothing where there is one.
                let array = match array.shape().dims().split_first() {
                    Some((1, rest)) if rest.len() == door.sample.rank() => array.clone().reshape(rest)?,
                    _ => array,
                };
                array.broadcast_to(&door.sample).map(Baseline::Sample).map_err(|_| {
                    let shapes = format!("shape {} does not fit samples of {}", array.shape(), door.sample);
                    usage(format!("{flag} {}: {shapes}", path.display()), "give an array of a sample's shape")
                })
            }
        }
    }
}

/// One number for all, or one a channel.
fn spread(numbers: &[f32], door: &Door, flag: &str) -> Result<Baseline> {
    let channels = match (door.sample.dims(), door.layout) {
        (&[channels, ref pixels @ ..], ImageLayout::Nchw) if !pixels.is_empty() => {
            Some((channels, [vec![channels], vec![1; pixels.len()]].concat()))
        }
        (&[.., channels], ImageLayout::Nhwc) => Some((channels, vec![channels])),
        _ => None,
    };
    match (numbers, channels) {
        (&[one], _) => Ok(Baseline::Value(one)),
        (several, Some((channels, dims))) if several.len() == channels => {
            Ok(Baseline::Sample(Tensor::new(dims, several.to_vec())?))
        }
        (several, _) => Err(usage(
            format!("{flag}: {} numbers do not fit samples of shape {}", several.len(), door.sample),
            "give one number, or one for each channel",
        )),
    }
}
