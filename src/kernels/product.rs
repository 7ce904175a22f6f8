//! Products with a dense layer's weight: one text for each shape of tile, direction, weight part and chain.

use minijinja::{Value, context};
use serde::{Deserialize, Serialize};

use super::chain::{Beside, Op, Outputs, Writer};
use super::kernel::{Access, Dispatch, Grid, Kernel, binding, operand_texts};
use super::step::{Place, Step};
use super::tile::{Tile, slice};
use crate::error::Result;
use crate::layers::Activation;
use crate::rules::{InputPart, WeightPart};

/// Which way rows pass through a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Σ over inputs: x W̃ᵀ.
    Forward,
    /// Σ over outputs: q W̃.
    Backward,
}

/// The name of a weight part in the templates.
pub(super) fn part_text(part: WeightPart) -> &'static str {
    match part {
        WeightPart::WHOLE => "whole",
        WeightPart::Scaled { .. } => "scaled",
        WeightPart::Squared => "squared",
        WeightPart::One => "one",
    }
}

/// The same for a tile: one that shares texts has the whole weight as the part with both coefficients 1. The parts of a pair are told by
/// their coefficients alone.
pub(super) fn part_in_tile(part: WeightPart, tile: Tile, is_pair: bool) -> &'static str {
    match part {
        WeightPart::Scaled { .. } if tile.shares() || is_pair => "scaled",
        part => part_text(part),
    }
}

/// How a tile reads a source. One that shares texts has one for all bounds forward, where some layers read through a rectifier and
/// others do not. What the step is told is the same for every tile.
pub(super) fn source_in_tile(
    writer: &mut Writer,
    (activation, part): (Option<Activation>, InputPart),
    tile: Tile,
    direction: Direction,
) -> String {
    match direction {
        Direction::Forward => writer.read_within(activation, part, "x", !tile.shares()),
        Direction::Backward => writer.read(activation, part, "x"),
    }
}

/// c₊ and c₋ of a weight part.
pub(super) fn coefficients(part: WeightPart) -> (f32, f32) {
    match part {
        WeightPart::Scaled { positive, negative } => (positive, negative),
        WeightPart::Squared | WeightPart::One => (1.0, 1.0),
    }
}

/// The second of two products that are summed: other rows through another part of the same weight.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addend {
    pub activation: Option<Activation>,
    pub part: InputPart,
    /// Both products' parts are scaled ones.
    pub weight: WeightPart,
}

impl Addend {
    /// What it adds to a kernel: what the templates see, and its coefficients in the step.
    pub(super) fn told(
        addend: Option<Self>,
        writer: &mut Writer,
        step: &mut Step,
        tile: Tile,
        direction: Direction,
    ) -> Value {
        let Some(Addend { activation, part, weight }) = addend else { return Value::from(()) };
        (step.added_positive, step.added_negative) = coefficients(weight);
        let through = source_in_tile(writer, (activation, part), tile, direction);
        context! { through, binding => binding::ADDEND }
    }
}

/// A product as it is asked for.
#[derive(Debug)]
pub(crate) struct Product<'a> {
    pub tile: Tile,
    pub direction: Direction,
    pub weight: WeightPart,
    /// Whether the weight's elements are float16.
    pub half_weights: bool,
    /// Elements of a source row.
    pub depth: usize,
    /// Elements of a target row.
    pub width: usize,
    /// The columns of the target that this dispatch makes.
    pub first: usize,
    pub columns: usize,
    /// Source rows a sample.
    pub rows: usize,
    /// How many rows the tile is for, where it leaves open how many it takes at a time.
    pub tile_rows: usize,
    /// Rows that lie side by side in one row of the target's buffer.
    pub parts: usize,
    /// K, where the source has a row a sample and target; 1 where it has one a sample.
    pub targets: usize,
    pub activation: Option<Activation>,
    pub part: InputPart,
    pub addend: Option<Addend>,
    /// Whether no two terms of a sum have different signs.
    pub of_one_sign: bool,
    pub prologue: &'a [Op],
    pub epilogue: &'a [Op],
    pub outputs: Outputs<'a>,
    /// Operands of both chains; the first `before` are the prologue's.
    pub operands: &'a [Beside],
    pub before: usize,
    /// Where each parameter lies.
    pub places: &'a [Place],
}

impl Product<'_> {
    /// vec4s from one row of an uploaded weight to the next.
    pub(crate) fn stride(direction: Direction, depth: usize, columns: usize) -> usize {
        match direction {
            Direction::Forward => depth.div_ceil(4),
            Direction::Backward => columns.div_ceil(4),
        }
    }

    /// The product as a dispatch.
    ///
    /// # Errors
    /// If a chain holds more numbers than a step.
    pub(crate) fn dispatch(&self) -> Result<Dispatch> {
        let mut writer = Writer::default();
        let aligned = self.width.is_multiple_of(4) && self.first.is_multiple_of(4);
        let source_aligned = self.depth.is_multiple_of(4);
        let geometry = self.tile.geometry(self.tile_rows, self.columns);
        let (positive, negative) = coefficients(self.weight);
        let mut step = Step {
            depth: self.depth as u32,
            width: self.width as u32,
            first: self.first as u32,
            columns: self.columns as u32,
            stride: Self::stride(self.direction, self.depth, self.columns) as u32,
            rows: self.rows as u32,
            parts: self.parts as u32,
            targets: self.targets as u32,
            positive,
            negative,
            slice: slice(self.of_one_sign),
            ..Step::default()
        };
        let text = context! {
            units => false,
            windowed => false,
            within_taps => false,
            backward => self.direction == Direction::Backward,
            several => self.targets > 1,
            parts => self.parts > 1 || self.tile.shares(),
            lattice => false,
            weight => part_in_tile(self.weight, self.tile, self.addend.is_some()),
            half_weights => self.half_weights,
            source => context! {
                aligned => source_aligned,
                through => source_in_tile(&mut writer, (self.activation, self.part), self.tile, self.direction),
            },
            added => Addend::told(self.addend, &mut writer, &mut step, self.tile, self.direction),
            prologue => writer.lines(self.prologue),
            epilogue => writer.lines(self.epilogue),
            outputs => writer.outputs(self.outputs, self.operands.len()),
            operands => operand_texts(self.operands, |index| if index < self.before { source_aligned } else { aligned }),
            parameters => writer.has_parameters(),
            aligned,
            ..Value::from_serialize(geometry)
        };
        let mut bound =
            vec![(binding::WEIGHT, Access::Read), (binding::TARGET, Access::Write), (binding::SOURCE, Access::Read)];
        bound.extend(self.addend.map(|_| (binding::ADDEND, Access::Read)));
        let label = match self.direction {
            Direction::Forward => "linear forward",
            Direction::Backward => "linear backward",
        };
        writer.fill(&mut step)?;
        step.place(self.places);
        let kernel = Kernel::new(label, "linear.wgsl", text, &bound, &writer, self.operands.len())?;
        let (tile_rows, tile_columns) = self.tile.covers(self.tile_rows, self.columns, self.direction);
        let grid = Grid { rows: self.rows, tile_rows, cells: self.columns.div_ceil(tile_columns), lanes: 1 };
        Ok(Dispatch { kernel, step, grid })
    }
}
