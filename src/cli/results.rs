//! Relevance into its file: row by row into `.npy`, in the end into `.npz` and `.safetensors`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use relprop::input::{FileFormat, ImageLayout};
use relprop::output::{NewFile, NpyWriter, Precision, check_writable, write_tensors};
use relprop::{Relevance, Result, Shape, Tensor};

use super::fit::Turn;
use super::model::usage;
use super::source::{Door, Source};

/// What one array of the results is.
#[derive(Debug, Clone)]
pub struct Column {
    /// Its name in a file of several.
    pub name: String,
    /// The shape of a row for one target.
    pub shape: Shape,
    /// Channels to be summed away.
    channels: Option<Channels>,
    /// The shape of a row as the network has it, and how its channels move to lie as the file's.
    turn: Option<(Shape, Turn)>,
    /// Squares of pixels to be summed, of what the rest gives.
    squares: Option<Squares>,
}

/// Squares of pixels in rows that lie as `[…][height][width][after]`.
#[derive(Debug, Clone, Copy)]
struct Squares {
    height: usize,
    width: usize,
    after: usize,
    /// Pixels of a side.
    side: usize,
}

impl Squares {
    fn sums(&self, rows: &[f32]) -> Vec<f32> {
        let Squares { height, width, after, side } = *self;
        let (lines, squares) = (height.div_ceil(side), width.div_ceil(side));
        let mut sums = vec![0.0; rows.len() / (height * width) * lines * squares];
        let pictures = rows.chunks_exact(height * width * after);
        for (sums, picture) in sums.chunks_exact_mut(lines * squares * after).zip(pictures) {
            for (pixel, values) in picture.chunks_exact(after).enumerate() {
                let square = pixel / width / side * squares + pixel % width / side;
                sums[square * after..][..after].iter_mut().zip(values).for_each(|(sum, r)| *sum += r);
            }
        }
        sums
    }
}

/// Where a sample has its channels.
#[derive(Debug, Clone, Copy)]
struct Channels {
    count: usize,
    /// Values between two channels of a pixel.
    stride: usize,
}

impl Column {
    /// The relevance of an input, in the shape that its file has.
    pub fn of_door(door: &Door) -> Self {
        let turn = door.turn.map(|turn| (door.sample.clone(), turn.back()));
        Column { name: door.name.clone(), shape: door.given.clone(), channels: None, turn, squares: None }
    }

    /// The relevance of a value inside the network.
    pub fn of_value(name: &str, shape: &Shape) -> Self {
        Column { name: name.to_owned(), shape: shape.clone(), channels: None, turn: None, squares: None }
    }

    /// The relevance of each pixel of an input.
    ///
    /// # Errors
    /// If the input's samples are no pictures.
    pub fn of_pixels(door: &Door) -> Result<Self> {
        let (channels, pixels) = match (door.sample.dims(), door.layout) {
            (&[count, height, width], ImageLayout::Nchw) => {
                (Channels { count, stride: height * width }, [height, width])
            }
            (&[height, width, count], ImageLayout::Nhwc) => (Channels { count, stride: 1 }, [height, width]),
            _ => {
                return Err(usage(
                    format!("--sum-channels: the input `{}` of shape {} has no channels", door.name, door.sample),
                    "leave it out: there is nothing to sum",
                ));
            }
        };
        let (name, shape) = (door.name.clone(), Shape::new(pixels));
        Ok(Column { name, shape, channels: Some(channels), turn: None, squares: None })
    }

    /// The same with relevance summed over squares of `side` pixels; what is left at the border is a square too.
    ///
    /// # Errors
    /// If the input's samples are no pictures.
    pub fn pooled(self, door: &Door, side: usize) -> Result<Self> {
        let is_first = (door.layout == ImageLayout::Nchw) != door.turn.is_some();
        let (before, [height, width], after) = match *self.shape.dims() {
            [height, width] => (1, [height, width], 1),
            [channels, height, width] if is_first => (channels, [height, width], 1),
            [height, width, channels] => (1, [height, width], channels),
            _ => {
                return Err(usage(
                    format!("--pool: the input `{}` of shape {} has no pixels", door.name, door.sample),
                    "leave it out: there are no squares to sum over",
                ));
            }
        };
        let (lines, squares) = (height.div_ceil(side), width.div_ceil(side));
        let shape = match self.shape.rank() {
            2 => Shape::new([lines, squares]),
            _ if is_first => Shape::new([before, lines, squares]),
            _ => Shape::new([lines, squares, after]),
        };
        Ok(Column { shape, squares: Some(Squares { height, width, after, side }), ..self })
    }

    /// The rows of this column from a block's relevance.
    ///
    /// # Errors
    /// Never, for relevance of this column.
    fn rows(&self, relevance: &Tensor) -> Result<Vec<f32>> {
        let rows = self.whole_rows(relevance)?;
        Ok(match self.squares {
            Some(squares) => squares.sums(&rows),
            None => rows,
        })
    }

    /// Rows before squares are summed.
    fn whole_rows(&self, relevance: &Tensor) -> Result<Vec<f32>> {
        if let Some((sample, turn)) = &self.turn {
            let rows = relevance.count() / sample.count().max(1);
            return Ok(turn.apply(&relevance.clone().reshape(sample.prepend(rows))?).into_data());
        }
        let Some(Channels { count, stride }) = self.channels else { return Ok(relevance.data().to_vec()) };
        let sum = |sample: &[f32], pixel: usize| {
            let first = if stride == 1 { pixel * count } else { pixel };
            (0..count).map(|channel| sample[first + channel * stride]).sum()
        };
        let pixels = self.squares.map_or(self.shape.count(), |squares| squares.height * squares.width);
        let rows = relevance.data().chunks_exact(count * pixels);
        Ok(rows.flat_map(|row| (0..pixels).map(move |at| sum(row, at))).collect())
    }
}

/// The file that relevance goes to.
#[derive(Debug)]
pub struct Results {
    path: PathBuf,
    precision: Precision,
    columns: Vec<Column>,
    /// Axes before those of a row: samples (unless there is one without that axis) and targets (unless one a sample).
    lead: Vec<usize>,
    sink: Sink,
}

#[derive(Debug)]
enum Sink {
    /// Rows go to the file as they come.
    Stream(NpyWriter),
    /// Each column's rows wait for the end.
    Held(Vec<Vec<f32>>),
}

impl Results {
    /// Starts the file, so that a path that cannot be written fails before the work. `targets` is given where results
    /// have an axis for them.
    ///
    /// # Errors
    /// If the file cannot be started or its format cannot hold the results.
    pub fn create(
        path: &Path,
        columns: Vec<Column>,
        source: &Source,
        targets: Option<usize>,
        precision: Precision,
    ) -> Result<Self> {
        let samples = (!source.is_single).then_some(source.samples);
        let lead: Vec<usize> = samples.into_iter().chain(targets).collect();
        let format = check_writable(path, columns.len()).map_err(|error| {
            let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
            error.context(format!("the results are {}", names.join(", ")))
        })?;
        let sink = match (format, samples) {
            (FileFormat::Npy, Some(_)) => {
                let dims = [&lead, columns[0].shape.dims()].concat();
                Sink::Stream(NpyWriter::create(path, dims, precision)?)
            }
            _ => {
                try_create(path)?;
                Sink::Held(vec![Vec::new(); columns.len()])
            }
        };
        Ok(Results { path: path.to_owned(), precision, columns, lead, sink })
    }

    /// Appends a block's relevance: of the float inputs, then of the kept values.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn append(&mut self, relevance: &Relevance) -> Result<()> {
        let blocks = relevance.inputs.iter().chain(&relevance.kept).map(|named| &named.relevance);
        for (position, (column, block)) in self.columns.iter().zip(blocks).enumerate() {
            let rows = column.rows(block)?;
            match &mut self.sink {
                Sink::Stream(writer) => {
                    let samples = relevance.targets.rows();
                    let dims = [&[samples], &self.lead[1..], column.shape.dims()].concat();
                    writer.append(&Tensor::new(dims, rows)?)?;
                }
                Sink::Held(held) => held[position].extend(rows),
            }
        }
        Ok(())
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(self) -> Result<()> {
        let Results { path, precision, columns, lead, sink } = self;
        let held = match sink {
            Sink::Stream(writer) => return writer.finish(),
            Sink::Held(held) => held,
        };
        let named = columns.into_iter().zip(held).map(|(column, rows)| {
            let shape = Shape::new([&lead, column.shape.dims()].concat());
            Ok((column.name, Tensor::new(shape, rows)?))
        });
        write_tensors(&path, &named.collect::<Result<BTreeMap<_, _>>>()?, precision)
    }
}

/// Tries whether a file can be written at `path`, before long work.
///
/// # Errors
/// If its folder is missing or may not be written to.
pub fn try_create(path: &Path) -> Result<()> {
    NewFile::create(path).map(drop)
}
