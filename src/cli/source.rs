//! Inputs, block by block: what files hold, fitted to what the network reads.

use std::ops::Range;
use std::path::{Path, PathBuf};

use relprop::input::{Array, DType, FileFormat, ImageLayout, ImageOptions, NpyReader, read_arrays, read_images};
use relprop::network::InputKind;
use relprop::{Error, ErrorKind, Input, Network, Result, Shape, Tensor};

use super::console::Console;
use super::fit::{Content, Fit, Found, Turn, fit, is_row};
use super::model::{nearest, usage};
use super::pixels::PixelArguments;

/// The samples of a job.
#[derive(Debug)]
pub struct Source {
    /// How many there are.
    pub samples: usize,
    /// Whether the files hold one sample without an axis for samples.
    pub is_single: bool,
    /// One for each input of the network.
    pub doors: Vec<Door>,
    origin: Origin,
    paths: Vec<PathBuf>,
    allow_nonfinite: bool,
}

/// How one input of the network is filled.
#[derive(Debug)]
pub struct Door {
    /// The input's name.
    pub name: String,
    /// What it reads.
    pub kind: InputKind,
    /// The shape of a sample as the network reads it.
    pub sample: Shape,
    /// The shape of a sample as the file holds it: results have it too.
    pub given: Shape,
    /// How its pixels become numbers, if it is filled with pixels.
    pub pixels: Option<ImageOptions>,
    /// Where samples as the network reads them have their channels.
    pub layout: ImageLayout,
    /// How the file's channels move to become the network's.
    pub turn: Option<Turn>,
    /// What errors call it.
    place: String,
}

#[derive(Debug)]
enum Origin {
    /// A `.npy` file, read by rows.
    Rows(Box<NpyReader>),
    /// Arrays in memory, in the order of the doors.
    Arrays(Vec<Array>),
    /// Pictures, decoded when they are needed.
    Pictures,
}

/// A block of samples in the form that the explainer takes.
#[derive(Debug)]
pub enum Values {
    /// Real numbers.
    Float(Tensor),
    /// Integers.
    Integer(Tensor<i64>),
}

impl Values {
    /// As the explainer takes them.
    pub fn input(&self) -> Input<'_> {
        match self {
            Values::Float(tensor) => Input::from(tensor),
            Values::Integer(tensor) => Input::from(tensor),
        }
    }

    /// The real numbers, if these are some.
    pub fn float(&self) -> Option<&Tensor> {
        match self {
            Values::Float(tensor) => Some(tensor),
            Values::Integer(_) => None,
        }
    }
}

impl Source {
    /// Opens input files and checks that they fit the network, before any work.
    ///
    /// # Errors
    /// If a file cannot be read or does not fit.
    pub fn open(
        paths: &[PathBuf],
        network: &Network,
        pixels: &PixelArguments,
        allow_nonfinite: bool,
        console: Console,
    ) -> Result<Source> {
        let formats = paths.iter().map(|path| FileFormat::of(path)).collect::<Result<Vec<_>>>()?;
        let (origin, found) = match formats.as_slice() {
            [FileFormat::Npy] => open_rows(&paths[0], network)?,
            _ if formats.iter().all(|format| *format == FileFormat::Image) => open_pictures(paths, network, pixels)?,
            [_] => open_arrays(&paths[0], network)?,
            _ => {
                return Err(usage(
                    format!("{} input files of which not all are pictures", paths.len()),
                    "give pictures, or one .npy, .npz, .safetensors or IDX file",
                ));
            }
        };
        let mut source =
            Source { samples: 0, is_single: false, doors: Vec::new(), origin, paths: paths.to_vec(), allow_nonfinite };
        for (input, found) in network.inputs().iter().zip(found) {
            let value = network.value(input.value);
            source.add(input.kind, &value.name, &value.shape, found, pixels, console)?;
        }
        if let (Some(flag), true) = (pixels.given(), source.doors.iter().all(|door| door.pixels.is_none())) {
            return Err(usage(
                format!("{flag} is for pictures and uint8 arrays, but {} holds neither", paths[0].display()),
                "leave it out, and prepare the array as the model was trained",
            ));
        }
        if let (Some(flag), false) = (pixels.for_pictures(), matches!(source.origin, Origin::Pictures)) {
            return Err(usage(
                format!("{flag} is for pictures, but {} holds an array", paths[0].display()),
                "leave it out: a uint8 array keeps its size and the order of its channels; prepare it before saving",
            ));
        }
        Ok(source)
    }

    /// Adds the door of one more input, if what is found fits it.
    fn add(
        &mut self,
        kind: InputKind,
        name: &str,
        sample: &Shape,
        mut found: Found,
        pixels: &PixelArguments,
        console: Console,
    ) -> Result<()> {
        if kind == InputKind::Integer {
            found.content = Content::Numbers;
        }
        let Fit { samples, given, turn } = fit(&found, sample, name, pixels.asked_layout())?;
        self.join(samples, name)?;
        // Where the network reads one row, only the file's shape tells where channels are.
        let seen = if is_row(sample) { &given } else { sample };
        let layout = turn.map_or_else(|| pixels.layout(seen), Turn::layout);
        let place = found.place;
        if found.content == Content::Pixels {
            console.note(&format!("{place}: uint8, read as {}", pixels.describe()));
        }
        if given != *sample && samples.is_some() {
            console.note(&format!("{place}: each sample of shape {given} is read as {sample}"));
        }
        let pixels = (found.content != Content::Numbers).then(|| pixels.options(seen, layout));
        let (name, sample) = (name.to_owned(), sample.clone());
        self.doors.push(Door { name, kind, sample, given, pixels, layout, turn, place });
        Ok(())
    }

    /// Notes the number of samples of one more input; none for a sample without an axis for samples.
    fn join(&mut self, samples: Option<usize>, name: &str) -> Result<()> {
        let count = samples.unwrap_or(1);
        if count == 0 {
            return Err(Error::new(ErrorKind::Data, format!("{}: holds no samples", self.paths[0].display()))
                .help("give at least one sample"));
        }
        if !self.doors.is_empty() && count != self.samples {
            let message = format!("input `{name}` has {count} samples but the inputs before it have {}", self.samples);
            return Err(Error::new(ErrorKind::Shape, message).help("give every input as many samples"));
        }
        self.samples = count;
        self.is_single |= samples.is_none();
        Ok(())
    }

    /// The file that a sample comes from.
    pub fn file_of(&self, sample: usize) -> &Path {
        match self.origin {
            Origin::Pictures => &self.paths[sample],
            Origin::Rows(_) | Origin::Arrays(_) => &self.paths[0],
        }
    }

    /// The values of a block of samples, one for each input of the network.
    ///
    /// # Errors
    /// If reading fails, or a value is NaN or infinite and that is not allowed.
    pub fn read(&mut self, block: Range<usize>) -> Result<Vec<Values>> {
        let mut values = Vec::with_capacity(self.doors.len());
        for position in 0..self.doors.len() {
            let door = &self.doors[position];
            let read = match &mut self.origin {
                Origin::Pictures => door.read_pictures(&self.paths[block.clone()])?,
                Origin::Rows(reader) if self.is_single => door.convert(reader.read()?, 1)?,
                Origin::Rows(reader) => door.convert(reader.rows(block.clone())?, block.len())?,
                Origin::Arrays(arrays) if self.is_single => door.convert(arrays[position].clone(), 1)?,
                Origin::Arrays(arrays) => door.convert(arrays[position].rows(block.clone())?, block.len())?,
            };
            if let (Values::Float(tensor), false) = (&read, self.allow_nonfinite) {
                door.check_finite(tensor, block.start, self.file_of(block.start))?;
            }
            values.push(read);
        }
        Ok(values)
    }
}

impl Door {
    fn convert(&self, array: Array, samples: usize) -> Result<Values> {
        let shape = self.sample.prepend(samples);
        let place = |error: Error| error.context(&self.place);
        Ok(match (self.kind, array, &self.pixels) {
            (InputKind::Integer, array, _) => Values::Integer(array.to_i64().map_err(place)?.reshape(shape)?),
            (InputKind::Float, Array::U8(pixels), Some(options)) => {
                let pixels = match self.turn {
                    Some(turn) => turn.apply(&pixels.reshape(self.given.prepend(samples))?),
                    None => pixels.reshape(if is_row(&self.sample) {
                        self.given.prepend(samples)
                    } else {
                        shape.clone()
                    })?,
                };
                Values::Float(options.scale_pixels(&pixels).map_err(place)?.reshape(shape)?)
            }
            (InputKind::Float, array, _) => Values::Float(array.into_f32().reshape(shape)?),
        })
    }

    fn read_pictures(&self, paths: &[PathBuf]) -> Result<Values> {
        let options = self.pixels.clone().unwrap_or_default();
        let tensor = read_images(paths, &options)?;
        if tensor.shape().dims()[1..] != *self.given.dims() {
            let message = format!("{}: a picture of shape {}", paths[0].display(), tensor.shape());
            return Err(Error::new(ErrorKind::Shape, format!("{message}, but the first one has {}", self.given))
                .help("bring all to one size with --resize and --crop"));
        }
        Ok(Values::Float(tensor.reshape(self.sample.prepend(paths.len()))?))
    }

    fn check_finite(&self, tensor: &Tensor, first: usize, file: &Path) -> Result<()> {
        let Some(position) = tensor.data().iter().position(|value| !value.is_finite()) else { return Ok(()) };
        let width = self.sample.count();
        let mut rest = position % width;
        let mut index = Vec::new();
        for stride in self.given.strides() {
            index.push(rest / stride);
            rest %= stride;
        }
        let (value, sample) = (tensor.data()[position], first + position / width);
        let message = format!(
            "{}: input `{}` holds {value} in sample {sample}, element {}",
            file.display(),
            self.name,
            Shape::new(index)
        );
        Err(Error::new(ErrorKind::Data, message).help("mend the data, or go on with --allow-nonfinite"))
    }
}

fn open_rows(path: &Path, network: &Network) -> Result<(Origin, Vec<Found>)> {
    if network.inputs().len() > 1 {
        return Err(usage(
            format!("{}: one array for the model's {} inputs", path.display(), network.inputs().len()),
            format!("give a .npz or .safetensors file with {}", names(network).join(", ")),
        ));
    }
    let reader = NpyReader::open(path)?;
    let found = Found {
        shape: reader.shape().clone(),
        content: if reader.dtype() == DType::U8 { Content::Pixels } else { Content::Numbers },
        place: path.display().to_string(),
    };
    Ok((Origin::Rows(Box::new(reader)), vec![found]))
}

fn open_pictures(paths: &[PathBuf], network: &Network, pixels: &PixelArguments) -> Result<(Origin, Vec<Found>)> {
    let [input] = network.inputs() else {
        return Err(usage(
            format!("pictures for a model of {} inputs", network.inputs().len()),
            format!("give a .npz or .safetensors file with {}", names(network).join(", ")),
        ));
    };
    let sample = network.shape(input.value);
    let first = read_images(&paths[..1], &pixels.options(sample, pixels.layout(sample)))?;
    let mut dims = first.shape().dims().to_vec();
    dims[0] = paths.len();
    let found = Found { shape: Shape::new(dims), content: Content::Pictures, place: paths[0].display().to_string() };
    Ok((Origin::Pictures, vec![found]))
}

/// Arrays by the names of the network's inputs; with one input, the only array there is.
fn open_arrays(path: &Path, network: &Network) -> Result<(Origin, Vec<Found>)> {
    let mut held = read_arrays(path)?;
    let mut arrays = Vec::new();
    let mut found = Vec::new();
    for name in names(network) {
        let array = match held.remove(name) {
            Some(array) => array,
            None if held.len() == 1 && network.inputs().len() == 1 => {
                held.pop_first().map(|(_, array)| array).expect("one array is held")
            }
            None => {
                let known: Vec<&str> = held.keys().map(String::as_str).collect();
                let near = nearest(name, known.iter().copied());
                let near = near.map_or_else(String::new, |near| format!("the nearest of them is `{near}`; "));
                return Err(usage(
                    format!("{}: holds no array for the input `{name}`, only {}", path.display(), known.join(", ")),
                    format!("{near}name the arrays as the model names its inputs: {}", names(network).join(", ")),
                ));
            }
        };
        let place = if network.inputs().len() == 1 {
            path.display().to_string()
        } else {
            format!("{}[{name}]", path.display())
        };
        let content = if matches!(array, Array::U8(_)) { Content::Pixels } else { Content::Numbers };
        found.push(Found { shape: array.shape().clone(), content, place });
        arrays.push(array);
    }
    Ok((Origin::Arrays(arrays), found))
}

fn names(network: &Network) -> Vec<&str> {
    network.inputs().iter().map(|input| network.value(input.value).name.as_str()).collect()
}
