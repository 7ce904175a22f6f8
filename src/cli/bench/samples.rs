//! The samples that are timed: random ones, always the same, or those of files.
//!
//! `fastrand` makes the random ones: it is small, seeded, and in the tree already, behind `tempfile`.

use std::path::PathBuf;

use fastrand::Rng;
use relprop::layers::Layer;
use relprop::network::{InputKind, ValueId};
use relprop::{Network, Result, Tensor};

use crate::cli::console::Console;
use crate::cli::pixels::PixelArguments;
use crate::cli::source::{Source, Values};

/// What random numbers begin from.
pub const SEED: u64 = 2026;
/// Samples that are kept of files.
const MOST_READ: usize = 4096;

/// Samples that batches of any size are made of.
#[derive(Debug)]
pub enum Samples {
    /// Made as they are needed.
    Random(Vec<Door>),
    /// Read from files: the values of each input.
    Read(Vec<Values>),
}

/// What random values one input takes.
#[derive(Debug)]
pub struct Door {
    /// The shape of a sample.
    dims: Vec<usize>,
    /// The number of entries that integers point into; none for real numbers.
    entries: Option<usize>,
}

impl Samples {
    /// The samples of files, or random ones if there are no files.
    ///
    /// # Errors
    /// If a file cannot be read or does not fit the network.
    pub fn new(files: &[PathBuf], network: &Network, pixels: &PixelArguments, console: Console) -> Result<Self> {
        if !files.is_empty() {
            let mut source = Source::open(files, network, pixels, false, console)?;
            let values = source.read(0..source.samples.min(MOST_READ))?;
            return Ok(Samples::Read(values));
        }
        if let Some(flag) = pixels.given() {
            return Err(crate::cli::model::usage(format!("{flag} is for pictures, and there are none"), "give some"));
        }
        Ok(Samples::random(network))
    }

    /// Random ones.
    pub fn random(network: &Network) -> Self {
        let door = |input: &relprop::network::Input| Door {
            dims: network.shape(input.value).dims().to_vec(),
            entries: (input.kind == InputKind::Integer).then(|| entries(network, input.value)),
        };
        Samples::Random(network.inputs().iter().map(door).collect())
    }

    /// As many samples, from the first on; files that have fewer begin again.
    ///
    /// # Errors
    /// Never, for samples that fit the network.
    pub fn batch(&self, samples: usize) -> Result<Vec<Values>> {
        match self {
            Samples::Random(doors) => {
                doors.iter().zip(SEED..).map(|(door, seed)| door.random(samples, Rng::with_seed(seed))).collect()
            }
            Samples::Read(values) => values.iter().map(|values| repeated(values, samples)).collect(),
        }
    }
}

impl Door {
    fn random(&self, samples: usize, mut rng: Rng) -> Result<Values> {
        let dims = [&[samples], self.dims.as_slice()].concat();
        Ok(match self.entries {
            None => Values::Float(Tensor::from_fn(dims, |_| rng.f32() * 2.0 - 1.0)),
            Some(entries) => Values::Integer(Tensor::from_fn(dims, |_| rng.i64(0..entries.max(1) as i64))),
        })
    }
}

/// The entries of the smallest table that an integer input points into.
fn entries(network: &Network, value: ValueId) -> usize {
    let readers = network.layers().iter().filter(|node| node.inputs.contains(&value));
    let tables = readers.filter_map(|node| match &node.layer {
        Layer::Lookup(lookup) => Some(lookup.entries()),
        _ => None,
    });
    tables.min().unwrap_or(1)
}

fn repeated(values: &Values, samples: usize) -> Result<Values> {
    fn rows<T: Copy>(tensor: &Tensor<T>, samples: usize) -> Result<Tensor<T>> {
        let (rows, mut dims) = (tensor.rows(), tensor.shape().dims().to_vec());
        dims[0] = samples;
        Tensor::new(dims, (0..samples).flat_map(|sample| tensor.row(sample % rows)).copied().collect())
    }
    Ok(match values {
        Values::Float(tensor) => Values::Float(rows(tensor, samples)?),
        Values::Integer(tensor) => Values::Integer(rows(tensor, samples)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_samples_are_always_the_same() {
        let samples = Samples::Random(vec![Door { dims: vec![3], entries: None }]);
        let float = |values: Vec<Values>| values[0].float().unwrap().clone();
        let (few, many) = (float(samples.batch(2).unwrap()), float(samples.batch(5).unwrap()));
        assert_eq!(few.data(), &many.data()[..6]);
        assert!(many.data().iter().all(|x| x.abs() <= 1.0));
    }

    #[test]
    fn samples_of_files_begin_again() {
        let values = Values::Float(Tensor::new([2, 1], vec![1.0, 2.0]).unwrap());
        let batch = repeated(&values, 5).unwrap();
        assert_eq!(batch.float().unwrap().data(), [1.0, 2.0, 1.0, 2.0, 1.0]);
    }
}
