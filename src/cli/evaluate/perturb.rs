//! `--perturb`: what a perturbed region becomes.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use relprop::evaluation::Perturbation;
use relprop::{Error, Result};

use crate::cli::attributor::pixel_axes;
use crate::cli::engine::positive;
use crate::cli::fill::Fill;
use crate::cli::model::usage;
use crate::cli::source::Door;

/// `--perturb` as it was given.
#[derive(Debug, Clone, PartialEq)]
pub enum PerturbChoice {
    /// Given values.
    Fill(Fill),
    /// The mean of the sample.
    Mean,
    /// Noise over the sample's range.
    Uniform,
    /// The mean of the pixels around, up to a radius if told.
    Blur(Option<usize>),
}

impl FromStr for PerturbChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let unknown = |_| {
            usage(
                format!("`{text}` is no perturbation"),
                "give black, white, zero, a number, one a channel as a,b,c, FILE.npy, mean, uniform, blur or blur:RADIUS",
            )
        };
        match text.split_once(':') {
            Some(("blur", radius)) => positive(radius).map(|radius| PerturbChoice::Blur(Some(radius))).map_err(|_| {
                usage(format!("`{text}`: the radius of a blur is a number from 1 on"), "give blur, or such as blur:3")
            }),
            Some(_) | None => match text {
                "mean" => Ok(PerturbChoice::Mean),
                "uniform" => Ok(PerturbChoice::Uniform),
                "blur" => Ok(PerturbChoice::Blur(None)),
                _ => text.parse().map(PerturbChoice::Fill).map_err(unknown),
            },
        }
    }
}

impl fmt::Display for PerturbChoice {
    /// As `--perturb` takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PerturbChoice::Fill(fill) => fill.fmt(f),
            PerturbChoice::Mean => f.write_str("mean"),
            PerturbChoice::Uniform => f.write_str("uniform"),
            PerturbChoice::Blur(None) => f.write_str("blur"),
            PerturbChoice::Blur(Some(radius)) => write!(f, "blur:{radius}"),
        }
    }
}

impl PerturbChoice {
    /// What is taken unless another is asked for.
    pub fn default_for(door: &Door) -> Self {
        PerturbChoice::Fill(if door.pixels.is_some() { Fill::Black } else { Fill::Numbers(vec![0.0]) })
    }

    /// The file that is read for it.
    pub fn file(&self) -> Option<&PathBuf> {
        match self {
            PerturbChoice::Fill(fill) => fill.file(),
            PerturbChoice::Mean | PerturbChoice::Uniform | PerturbChoice::Blur(_) => None,
        }
    }

    /// The perturbation of an input.
    ///
    /// # Errors
    /// If given values do not fit the input.
    pub fn perturbation(&self, door: &Door) -> Result<Perturbation> {
        Ok(match self {
            PerturbChoice::Fill(fill) => Perturbation::Baseline(fill.baseline(door, "--perturb")?),
            PerturbChoice::Mean => Perturbation::Mean,
            PerturbChoice::Uniform => Perturbation::Uniform,
            PerturbChoice::Blur(Some(radius)) => Perturbation::Blur { radius: *radius },
            PerturbChoice::Blur(None) => {
                // An eighth of the shorter side hides what pixels show and keeps where they are.
                let (axes, channels) = pixel_axes(door);
                let dims = door.sample.dims();
                let dims = &dims[..dims.len() - usize::from(channels.is_some())];
                let shorter = dims[dims.len() - axes..].iter().min().copied().unwrap_or(1);
                Perturbation::Blur { radius: (shorter / 8).max(1) }
            }
        })
    }
}
