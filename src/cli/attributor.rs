//! `--attributor` and its kin: attribution beside LRP.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use relprop::attribution::{Baseline, IntegratedGradients, Occlusion, Shows, SmoothGrad};
use relprop::input::ImageLayout;
use relprop::network::InputKind;
use relprop::{Attributor, Result, Start};

use super::engine::positive;
use super::fill::Fill;
use super::model::{CompositeChoice, ModelArguments, usage};
use super::source::{Door, Source};

/// Pixels of a window unless told, as in zennit.
const WINDOW: usize = 8;

/// How a composite is used.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Attribution beside LRP")]
pub struct AttributorArguments {
    /// `gradient`, one pass back (unless told), integrated-gradients, smoothgrad or occlusion
    ///
    /// `gradient` gives the composite's relevance itself. integrated-gradients: its mean along a straight path from
    /// --baseline to the sample, times the way from there. smoothgrad: its mean under noise on the input. Both take the
    /// composite `gradient` unless --composite names another, and are then the methods of their papers. occlusion: what
    /// the score loses where a window is covered, shared over the window; it runs the model forward only and has no
    /// composite.
    #[arg(long, value_name = "NAME", default_value = "gradient", hide_default_value = true)]
    pub attributor: AttributorName,

    /// Steps of integrated-gradients, noises of smoothgrad; 20 unless told. Each costs a pass
    #[arg(long, value_name = "N", value_parser = positive)]
    pub steps: Option<usize>,

    /// Where the path of integrated-gradients begins, and what occlusion covers with; 0 unless told
    ///
    /// black and white are pixels 0 and 255, prepared as the pictures are. Numbers are as the model reads them.
    #[arg(long, value_name = "black|white|X|A,B,C|FILE.npy", allow_hyphen_values = true)]
    pub baseline: Option<Fill>,

    /// The noise of smoothgrad: its standard deviation as a part of the sample's range; 0.1 unless told
    #[arg(long, value_name = "X", value_parser = level, allow_negative_numbers = true)]
    pub noise: Option<f32>,

    /// What the noise of smoothgrad is drawn from; 0 unless told. The same seed gives the same bits
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// The window of occlusion, in pixels: one number, or rows,columns; 8 unless told, and 1 where samples have one axis
    ///
    /// It covers all channels of its pixels.
    #[arg(long, value_name = "N|H,W")]
    pub window: Option<Extents>,

    /// How far the window of occlusion moves; its own size unless told, so that windows tile the sample
    #[arg(long, value_name = "N|H,W")]
    pub stride: Option<Extents>,

    /// Show occlusion's window alone, and sum the score that is left, as zennit does
    #[arg(long)]
    pub window_alone: bool,
}

/// The methods by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AttributorName {
    /// One pass back.
    Gradient,
    /// The mean along a path.
    IntegratedGradients,
    /// The mean under noise.
    #[value(name = "smoothgrad", alias = "smooth-grad")]
    SmoothGrad,
    /// What a covered window costs.
    Occlusion,
}

/// Extents along the axes of pixels: one for all, or one each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extents(Vec<usize>);

impl FromStr for Extents {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sizes = text.split(',').map(|size| positive(size.trim()));
        sizes.collect::<Result<_, _>>().map(Extents).map_err(|_| "give a number from 1 on, or rows,columns".to_owned())
    }
}

impl Extents {
    /// As many pixels along every axis.
    pub fn of(size: usize) -> Self {
        Extents(vec![size])
    }

    /// An extent for each of the last axes of a sample: one number goes to all axes of pixels, and channels that come
    /// last are taken whole.
    pub fn along(&self, door: &Door) -> Vec<usize> {
        let (pixels, channels) = pixel_axes(door);
        let mut extents = match self.0.as_slice() {
            &[one] => vec![one; pixels],
            several => several.to_vec(),
        };
        extents.extend(channels);
        extents
    }
}

/// How many axes of pixels a sample has, and its channels if they come after.
pub fn pixel_axes(door: &Door) -> (usize, Option<usize>) {
    match (door.sample.dims(), door.layout) {
        (dims @ [_, _, .., channels], ImageLayout::Nhwc) if dims.len() > 2 => (dims.len() - 1, Some(*channels)),
        (dims, _) if dims.len() > 2 => (dims.len() - 1, None),
        (dims, _) => (dims.len(), None),
    }
}

impl AttributorArguments {
    /// The file that is read for these.
    pub fn file(&self) -> Option<&PathBuf> {
        self.baseline.as_ref().and_then(Fill::file)
    }

    /// Takes the gradient where no composite was named: so these methods are those of their papers.
    ///
    /// # Errors
    /// If the method has no use for the composite.
    pub fn choose_composite(&self, model: &mut ModelArguments) -> Result<()> {
        match self.attributor {
            AttributorName::Gradient => return Ok(()),
            AttributorName::Occlusion if model.composite.is_some() => {
                return Err(usage(
                    "--composite makes no difference to occlusion, which runs the model forward only",
                    "leave it out",
                ));
            }
            AttributorName::IntegratedGradients | AttributorName::SmoothGrad | AttributorName::Occlusion => {}
        }
        model.composite.get_or_insert_with(|| CompositeChoice::Preset("gradient".to_owned()));
        Ok(())
    }

    /// The start unless another is asked for; `of_composite` is the composite's.
    pub fn default_start(&self, of_composite: Start) -> Start {
        match self.attributor {
            AttributorName::Occlusion => Start::Logit,
            AttributorName::Gradient | AttributorName::IntegratedGradients | AttributorName::SmoothGrad => of_composite,
        }
    }

    /// The method. `memory` is how many bytes its variants may take, if told, of which each has `bytes`.
    ///
    /// # Errors
    /// For flags of other methods, and for windows and baselines that do not fit.
    pub fn resolve(&self, source: &Source, memory: Option<usize>, bytes: usize) -> Result<Attributor> {
        self.check_flags()?;
        let rows = memory.map(|memory| (memory / bytes.max(1)).max(1));
        let door = source.doors.iter().find(|door| door.kind == InputKind::Float);
        let baseline = match (&self.baseline, door) {
            (Some(fill), Some(door)) => fill.baseline(door, "--baseline")?,
            _ => Baseline::default(),
        };
        Ok(match self.attributor {
            AttributorName::Gradient => Attributor::Gradient,
            AttributorName::IntegratedGradients => {
                let steps = self.steps.unwrap_or(IntegratedGradients::default().steps);
                Attributor::IntegratedGradients(IntegratedGradients { steps, baseline, rows })
            }
            AttributorName::SmoothGrad => {
                let default = SmoothGrad::default();
                Attributor::SmoothGrad(SmoothGrad {
                    steps: self.steps.unwrap_or(default.steps),
                    noise: self.noise.unwrap_or(default.noise),
                    seed: self.seed.unwrap_or(default.seed),
                    rows,
                })
            }
            AttributorName::Occlusion => {
                let along = |extents: &Extents| door.map_or_else(|| extents.0.clone(), |door| extents.along(door));
                let is_row = door.is_some_and(|door| pixel_axes(door).0 < 2);
                let window = self.window.clone().unwrap_or_else(|| Extents::of(if is_row { 1 } else { WINDOW }));
                let stride = self.stride.as_ref().unwrap_or(&window);
                let shows = if self.window_alone { Shows::Window } else { Shows::Rest };
                let (window, stride) = (along(&window), along(stride));
                Attributor::Occlusion(Occlusion { window, stride, baseline, shows, rows })
            }
        })
    }

    /// Refuses flags of other methods.
    fn check_flags(&self) -> Result<()> {
        use AttributorName::{IntegratedGradients, Occlusion, SmoothGrad};
        let flags: [(bool, &str, &[AttributorName], &str); 7] = [
            (
                self.steps.is_some(),
                "--steps",
                &[IntegratedGradients, SmoothGrad],
                "integrated-gradients and smoothgrad",
            ),
            (
                self.baseline.is_some(),
                "--baseline",
                &[IntegratedGradients, Occlusion],
                "integrated-gradients and occlusion",
            ),
            (self.noise.is_some(), "--noise", &[SmoothGrad], "smoothgrad"),
            (self.seed.is_some(), "--seed", &[SmoothGrad], "smoothgrad"),
            (self.window.is_some(), "--window", &[Occlusion], "occlusion"),
            (self.stride.is_some(), "--stride", &[Occlusion], "occlusion"),
            (self.window_alone, "--window-alone", &[Occlusion], "occlusion"),
        ];
        match flags.into_iter().find(|(given, _, serves, _)| *given && !serves.contains(&self.attributor)) {
            None => Ok(()),
            Some((_, flag, _, methods)) => {
                Err(usage(format!("{flag} is for {methods}"), "leave it out, or choose one with --attributor"))
            }
        }
    }
}

fn level(text: &str) -> Result<f32, String> {
    let level = text.parse::<f32>().ok().filter(|level| level.is_finite() && *level >= 0.0);
    level.ok_or_else(|| "give a number of zero or more, such as 0.1".to_owned())
}
