//! Convolutions as products whose rows are pixels: one text for each shape of tile, direction, weight part and chain.

use minijinja::{Value, context};

use super::chain::{Beside, Op, Outputs, Writer};
use super::kernel::{Access, Dispatch, Grid, Kernel, binding, operand_texts};
use super::lattice::Lattice;
use super::product::{Addend, Direction, coefficients, part_in_tile, source_in_tile};
use super::step::{Place, Step};
use super::tile::{DEEPEST, Tile, slice};
use crate::error::Result;
use crate::layers::Activation;
use crate::rules::{InputPart, WeightPart};

/// A convolution as it is asked for; its rows lie channels last.
#[derive(Debug)]
pub(crate) struct Convolve<'a> {
    pub tile: Tile,
    /// Forward from the fine grid to the coarse one, whatever the layer calls its output.
    pub direction: Direction,
    pub weight: WeightPart,
    /// Whether the weight's elements are float16.
    pub half_weights: bool,
    pub lattice: &'a Lattice,
    /// Groups of channels that are kept apart.
    pub groups: usize,
    /// Channels of a source pixel in each group.
    pub depth: usize,
    /// Channels of a target pixel, those of all groups.
    pub width: usize,
    /// The target channels that this dispatch makes; all of them where there are groups.
    pub first: usize,
    pub columns: usize,
    /// K, where the source has a row a sample and target; 1 where it has one a sample.
    pub targets: usize,
    /// How many rows the tile is for, where it leaves open how many it takes at a time.
    pub tile_rows: usize,
    pub activation: Option<Activation>,
    pub part: InputPart,
    pub addend: Option<Addend>,
    /// Whether no two terms of a sum have different signs.
    pub of_one_sign: bool,
    pub epilogue: &'a [Op],
    pub outputs: Outputs<'a>,
    pub operands: &'a [Beside],
    pub places: &'a [Place],
}

impl Convolve<'_> {
    /// The convolution as a dispatch.
    ///
    /// # Errors
    /// If the chain holds more numbers than a step.
    pub(crate) fn dispatch(&self) -> Result<Dispatch> {
        let mut writer = Writer::default();
        let columns = self.columns / self.groups;
        let begins_whole = self.groups == 1 || columns.is_multiple_of(4);
        let aligned = begins_whole && self.width.is_multiple_of(4) && self.first.is_multiple_of(4);
        let source_aligned = self.depth.is_multiple_of(4);
        let geometry = self.tile.geometry(self.tile_rows, columns);
        let backward = self.direction == Direction::Backward;
        let is_whole = self.lattice.is_whole();
        // The weight's rows are coarse channels.
        let group_rows = if backward { self.depth } else { columns };
        let weight_rows = (group_rows * self.groups, group_rows);
        let fine = if backward { columns } else { self.depth };
        let units = self.lattice.phases() * self.groups;
        let (positive, negative) = coefficients(self.weight);
        let rows = self.lattice.rows() * self.targets;
        let mut step = Step {
            depth: self.depth as u32,
            width: self.width as u32,
            first: self.first as u32,
            columns: columns as u32,
            stride: fine.div_ceil(4) as u32,
            rows: rows as u32,
            parts: self.lattice.targets() as u32,
            targets: self.targets as u32,
            positive,
            negative,
            slice: slice(self.of_one_sign),
            units: units as u32,
            window: self.lattice.of_convolution(
                self.depth * self.groups,
                self.depth.next_multiple_of(4),
                self.groups,
                weight_rows,
            ),
            ..Step::default()
        };
        let step_of_k = if self.addend.is_some() { DEEPEST } else { geometry.depth };
        let text = context! {
            units => true,
            windowed => true,
            // Steps of k that never leave a tap find its pixels once a tap.
            within_taps => geometry.depth > 0 && self.depth.is_multiple_of(step_of_k),
            backward,
            // Backward some layers have phases, and others do not.
            lattice => !is_whole || backward && self.tile.shares(),
            several => self.targets > 1,
            parts => self.lattice.targets() > 1,
            weight => part_in_tile(self.weight, self.tile, self.addend.is_some()),
            half_weights => self.half_weights,
            source => context! {
                aligned => source_aligned,
                through => source_in_tile(&mut writer, (self.activation, self.part), self.tile, self.direction),
            },
            added => Addend::told(self.addend, &mut writer, &mut step, self.tile, self.direction),
            epilogue => writer.lines(self.epilogue),
            outputs => writer.outputs(self.outputs, self.operands.len()),
            operands => operand_texts(self.operands, |_| aligned),
            parameters => writer.has_parameters(),
            aligned,
            ..Value::from_serialize(geometry)
        };
        let mut bound = vec![
            (binding::WEIGHT, Access::Read),
            (binding::TARGET, Access::Write),
            (binding::SOURCE, Access::Read),
            (binding::TABLE, Access::Read),
        ];
        bound.extend(self.addend.map(|_| (binding::ADDEND, Access::Read)));
        let label = if backward { "convolve backward" } else { "convolve forward" };
        writer.fill(&mut step)?;
        step.place(self.places);
        let kernel = Kernel::new(label, "convolve.wgsl", text, &bound, &writer, self.operands.len())?;
        let (tile_rows, tile_columns) = self.tile.covers(self.tile_rows, columns, self.direction);
        let grid = Grid { rows, tile_rows, cells: columns.div_ceil(tile_columns) * units, lanes: 1 };
        Ok(Dispatch { kernel, step, grid })
    }
}
