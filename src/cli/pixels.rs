//! `--scale` and its kin: how pixels become model inputs.

use clap::{Args, ValueEnum};
use relprop::Shape;
use relprop::input::{Channels, ImageLayout, ImageOptions};

/// How pictures and uint8 arrays are read.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Pictures and uint8 arrays")]
pub struct PixelArguments {
    /// Bring the shorter side of each picture to N pixels
    #[arg(long, value_name = "N")]
    pub resize: Option<usize>,

    /// Then cut a square of N pixels from its centre
    #[arg(long, value_name = "N")]
    pub crop: Option<usize>,

    /// Multiply pixels, which go from 0 to 255, by X; 1/255 unless told
    #[arg(long, value_name = "X")]
    pub scale: Option<f32>,

    /// Then subtract: one number, or one a channel; nothing unless told
    #[arg(long, value_name = "A,B,C", value_delimiter = ',', allow_negative_numbers = true)]
    pub mean: Vec<f32>,

    /// Then divide: one number, or one a channel; nothing unless told
    #[arg(long, value_name = "A,B,C", value_delimiter = ',')]
    pub std: Vec<f32>,

    /// The channels that the model reads, in order; as many as its input has, RGB for three, unless told
    #[arg(long, value_name = "ORDER")]
    pub channels: Option<ChannelOrder>,

    /// Where pictures and uint8 samples have their channels; where the model's input seems to unless told
    ///
    /// A uint8 array with its channels at the other end than the model's is turned, and relevance turned back. For other
    /// arrays it says only where --sum-channels and --heatmap find channels.
    #[arg(long, value_name = "AXES")]
    pub layout: Option<Layout>,
}

/// Channels in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ChannelOrder {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// Luminance.
    Gray,
}

/// Where the channel axis is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Layout {
    /// Before the rows.
    Nchw,
    /// After the columns.
    Nhwc,
}

impl PixelArguments {
    /// The options for a model input whose samples have the shape `sample` and their channels where `layout` says.
    pub fn options(&self, sample: &Shape, layout: ImageLayout) -> ImageOptions {
        let channels = match self.channels {
            Some(ChannelOrder::Rgb) => Channels::Rgb,
            Some(ChannelOrder::Bgr) => Channels::Bgr,
            Some(ChannelOrder::Gray) => Channels::Gray,
            None => match (sample.dims(), layout) {
                (&[3, _, _], ImageLayout::Nchw) | (&[_, _, 3], ImageLayout::Nhwc) => Channels::Rgb,
                _ => Channels::Gray,
            },
        };
        let defaults = ImageOptions::default();
        ImageOptions {
            resize: self.resize,
            crop: self.crop,
            scale: self.scale.unwrap_or(defaults.scale),
            mean: self.mean.clone(),
            std: self.std.clone(),
            channels,
            layout,
        }
    }

    /// Where samples of a shape have their channel axis: last only where that alone looks like channels.
    pub fn layout(&self, sample: &Shape) -> ImageLayout {
        match (self.asked_layout(), sample.dims()) {
            (Some(layout), _) => layout,
            (None, &[first, _, 1 | 3]) if first != 1 && first != 3 => ImageLayout::Nhwc,
            (None, _) => ImageLayout::Nchw,
        }
    }

    /// `--layout`, if it was given.
    pub fn asked_layout(&self) -> Option<ImageLayout> {
        self.layout.map(|layout| match layout {
            Layout::Nchw => ImageLayout::Nchw,
            Layout::Nhwc => ImageLayout::Nhwc,
        })
    }

    /// The first of the flags that only pictures heed, if one was given.
    pub fn for_pictures(&self) -> Option<&'static str> {
        let flags = [
            (self.resize.is_some(), "--resize"),
            (self.crop.is_some(), "--crop"),
            (self.channels.is_some(), "--channels"),
        ];
        flags.into_iter().find(|(given, _)| *given).map(|(_, flag)| flag)
    }

    /// The first of these flags that was given, if any; but `--layout`, which results heed too.
    pub fn given(&self) -> Option<&'static str> {
        let flags = [
            (self.resize.is_some(), "--resize"),
            (self.crop.is_some(), "--crop"),
            (self.scale.is_some(), "--scale"),
            (!self.mean.is_empty(), "--mean"),
            (!self.std.is_empty(), "--std"),
            (self.channels.is_some(), "--channels"),
        ];
        flags.into_iter().find(|(given, _)| *given).map(|(_, flag)| flag)
    }

    /// The formula, in words.
    pub fn describe(&self) -> String {
        let scale = self.scale.map_or_else(|| "pixel / 255".to_owned(), |scale| format!("pixel · {scale}"));
        let listed = |values: &[f32]| values.iter().map(f32::to_string).collect::<Vec<_>>().join(", ");
        let centred = match self.mean.as_slice() {
            [] => scale,
            mean => format!("({scale} − [{}])", listed(mean)),
        };
        match self.std.as_slice() {
            [] => centred,
            std => format!("{centred} / [{}]", listed(std)),
        }
    }
}
