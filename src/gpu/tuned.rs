//! Which kernel is the fastest for a product's shape, where it was timed: a table of this device, kept in a file of the caller's folder.
//!
//! `serde_json` writes the table, as it writes the crate's other records.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::keyed_file::KeyedFile;
use crate::error::{Error, ErrorKind, Result};
use crate::kernels::{Direction, Tiling};

/// What makes rows of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProductKind {
    /// A dense layer, or a convolution of one position.
    Dense,
    /// A convolution, whose rows are pixels.
    Convolution,
}

/// What the time of a product's kernels depends on. Layers whose products have one shape share what was timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProductShape {
    /// What makes its rows.
    pub kind: ProductKind,
    /// Which way through the weight.
    pub direction: Direction,
    /// The rows of all samples that are computed together, rounded up to a power of two: batches that are nearly as large share a choice.
    pub rows: usize,
    /// Elements of a source row that a weight's row meets: channels, where there are windows.
    pub depth: usize,
    /// Elements of a target row that one unit makes.
    pub columns: usize,
    /// Positions of the window.
    pub taps: usize,
    /// Groups times phases, each with rows and columns of its own.
    pub units: usize,
}

impl ProductShape {
    /// The shape of several samples, where this is that of one with its rows as they are.
    pub(super) fn of_samples(self, samples: usize) -> ProductShape {
        ProductShape { rows: (samples * self.rows).next_power_of_two(), ..self }
    }
}

/// A shape with the kernel that is taken for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tuned {
    /// The product.
    pub shape: ProductShape,
    /// How it is cut into workgroups.
    pub tiling: Tiling,
}

/// What is known of a device.
#[derive(Debug, Default)]
pub(super) struct Table {
    known: Mutex<HashMap<ProductShape, Tiling>>,
    file: Option<KeyedFile>,
}

impl Table {
    /// What a folder has for an adapter whose weights lie as they do.
    pub(super) fn open(folder: Option<&Path>, info: &wgpu::AdapterInfo, half_weights: bool) -> Self {
        let kind = if half_weights { "tiles-half" } else { "tiles" };
        let file = folder.map(|folder| KeyedFile::new(folder, kind, info));
        let known = file.as_ref().map(in_file).unwrap_or_default();
        Table { known: Mutex::new(known.into_iter().map(|Tuned { shape, tiling }| (shape, tiling)).collect()), file }
    }

    /// Where it is kept.
    pub(super) fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(KeyedFile::path)
    }

    /// All choices, in no order.
    pub(super) fn all(&self) -> Vec<Tuned> {
        self.known().iter().map(|(&shape, &tiling)| Tuned { shape, tiling }).collect()
    }

    /// The choices for the product of one sample, by the rows of several.
    pub(super) fn of(&self, sample: ProductShape) -> Vec<(usize, Tiling)> {
        let known = self.known();
        let is_of = |shape: &ProductShape| ProductShape { rows: sample.rows, ..*shape } == sample;
        known.iter().filter(|(shape, _)| is_of(shape)).map(|(shape, &tiling)| (shape.rows, tiling)).collect()
    }

    /// Takes choices from now on, in place of those that it has of the same shapes, and writes them where a folder was named.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] for a kernel that would change a sample's bits; [`ErrorKind::Io`] if the file cannot be written: the
    /// choices are taken nevertheless.
    pub(super) fn adopt(&self, choices: &[Tuned]) -> Result<()> {
        if let Some(Tuned { tiling, .. }) = choices.iter().find(|choice| !choice.tiling.is_interchangeable()) {
            return Err(Error::argument(format!(
                "the tile {tiling} adds in another order than the one it would replace"
            ))
            .help("take one of `Tiling::INTERCHANGEABLE`"));
        }
        let mut known = self.known();
        known.extend(choices.iter().map(|choice| (choice.shape, choice.tiling)));
        let Some(file) = &self.file else { return Ok(()) };
        // Other processes may have written since.
        let mut all: HashMap<_, _> = in_file(file).into_iter().map(|choice| (choice.shape, choice.tiling)).collect();
        all.extend(known.iter().map(|(&shape, &tiling)| (shape, tiling)));
        let mut all: Vec<Tuned> = all.into_iter().map(|(shape, tiling)| Tuned { shape, tiling }).collect();
        all.sort_by_key(|choice| choice.shape);
        let data = serde_json::to_vec(&all).map_err(|error| Error::internal(format!("the choices: {error}")))?;
        file.write(&data).map_err(|error| {
            Error::new(ErrorKind::Io, format!("{} cannot be written: {error}", file.path().display()))
                .help("name another folder for what is kept between starts")
                .caused_by(error)
        })
    }

    fn known(&self) -> MutexGuard<'_, HashMap<ProductShape, Tiling>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The choices of a file; none where one of them is not what this version writes.
fn in_file(file: &KeyedFile) -> Vec<Tuned> {
    let data = file.read();
    let choices: Option<Vec<Tuned>> = data.and_then(|data| serde_json::from_slice(&data).ok());
    let is_known = |choices: &Vec<Tuned>| choices.iter().all(|choice| choice.tiling.is_interchangeable());
    choices.filter(is_known).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Tile;

    const SAMPLE: ProductShape = ProductShape {
        kind: ProductKind::Dense,
        direction: Direction::Forward,
        rows: 3,
        depth: 20,
        columns: 10,
        taps: 1,
        units: 1,
    };

    fn info() -> wgpu::AdapterInfo {
        wgpu::AdapterInfo::new(wgpu::DeviceType::Other, wgpu::Backend::Noop)
    }

    fn sorted(mut choices: Vec<(usize, Tiling)>) -> Vec<(usize, Tiling)> {
        choices.sort_by_key(|(rows, _)| *rows);
        choices
    }

    #[test]
    fn batches_of_nearly_one_size_share_a_choice() {
        let rows = |samples| SAMPLE.of_samples(samples).rows;
        assert_eq!([1, 2, 3, 5, 6, 10, 11].map(rows), [4, 8, 16, 16, 32, 32, 64]);
    }

    #[test]
    fn choices_of_several_processes_meet_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Table::open(Some(folder.path()), &info(), false);
        let (first, second) = (open(), open());
        let of = |samples, tile| Tuned { shape: SAMPLE.of_samples(samples), tiling: Tiling::of(tile, 100) };
        first.adopt(&[of(1, Tile::Small), of(100, Tile::Small)]).unwrap();
        second.adopt(&[of(100, Tile::Large)]).unwrap();
        let known = [(4, Tiling::of(Tile::Small, 100)), (512, Tiling::of(Tile::Large, 100))];
        assert_eq!(sorted(open().of(SAMPLE)), known);
        assert_eq!(sorted(open().of(ProductShape { rows: 7, ..SAMPLE })), known, "rows are the samples' matter");
        assert_eq!(open().of(ProductShape { depth: 21, ..SAMPLE }), []);
        assert_eq!(open().all().len(), 2);
        assert_eq!(
            Table::open(Some(folder.path()), &info(), true).all(),
            [],
            "float16 kernels have times of their own"
        );
    }

    #[test]
    fn a_kernel_that_adds_in_another_order_is_refused_and_no_file_brings_one() {
        let folder = tempfile::tempdir().unwrap();
        let table = Table::open(Some(folder.path()), &info(), false);
        let few = Tuned { shape: SAMPLE, tiling: Tiling::of(Tile::Few, 4) };
        assert_eq!(table.adopt(&[few]).unwrap_err().kind(), ErrorKind::Argument);
        assert!(!table.path().unwrap().exists());
        table.file.as_ref().unwrap().write(&serde_json::to_vec(&[few]).unwrap()).unwrap();
        assert_eq!(Table::open(Some(folder.path()), &info(), false).all(), []);
    }
}
