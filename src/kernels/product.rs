//! Products with a dense layer's weight: one text for each shape of tile, direction, weight part and chain.

use minijinja::context;

use super::chain::{Beside, Op, Writer};
use super::kernel::{Access, Dispatch, Grid, Kernel, binding, operand_texts};
use super::step::Step;
use crate::error::Result;
use crate::layers::Activation;
use crate::rules::{InputPart, WeightPart};

/// Which way rows pass through a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Direction {
    /// Σ over inputs: x W̃ᵀ.
    Forward,
    /// Σ over outputs: q W̃.
    Backward,
}

/// How a product is cut into workgroups.
///
/// All shapes but [`Tile::Few`] make every element of the result by one chain of fused multiply-adds in the order of the
/// summed axis, so their results are equal bit by bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tile {
    /// 128 × 128 in workgroup memory, 8 × 8 an invocation: the fastest where there are enough tiles to fill a device.
    Large,
    /// 128 × 64 in workgroup memory, 8 × 4 an invocation.
    Medium,
    /// 32 × 32 in workgroup memory, 4 × 4 an invocation: for small products.
    Small,
    /// Up to 8 rows, reduced inside a workgroup: reading the weight is all its work.
    Few,
    /// Without workgroup memory and barriers: for adapters that are software.
    Free,
}

/// What the template of a tile is told.
struct Geometry {
    body: &'static str,
    rows: usize,
    columns: usize,
    depth: usize,
    thread_rows: usize,
    thread_columns: usize,
    lanes: usize,
}

/// Rows that the kernel for few rows takes.
const FEW: usize = 8;

impl Tile {
    /// Every shape.
    pub const ALL: [Tile; 5] = [Tile::Large, Tile::Medium, Tile::Small, Tile::Few, Tile::Free];

    /// The shape for a number of rows and columns, on a device that is software or not.
    pub fn choose(rows: usize, columns: usize, is_software: bool) -> Tile {
        const ENOUGH: usize = 64;
        let tiles = |tile_rows: usize, tile_columns: usize| rows.div_ceil(tile_rows) * columns.div_ceil(tile_columns);
        match () {
            () if is_software => Tile::Free,
            () if rows <= FEW => Tile::Few,
            () if tiles(128, 128) >= ENOUGH && columns > 64 => Tile::Large,
            () if tiles(128, 64) >= ENOUGH && columns > 32 => Tile::Medium,
            () => Tile::Small,
        }
    }

    /// The shape for `rows` of at most `most` rows: as `most` decides where shapes differ in bits, as `rows` where not.
    pub(crate) fn choose_within(most: usize, rows: usize, columns: usize, is_software: bool) -> Tile {
        Tile::choose(if most <= FEW { most } else { rows.max(FEW + 1) }, columns, is_software)
    }

    /// How many rows a workgroup takes where the shape leaves it open, for work of `rows` rows.
    pub(crate) fn rows_at_a_time(self, rows: usize) -> usize {
        match self {
            Tile::Large | Tile::Medium => 128,
            Tile::Small => 32,
            Tile::Few => rows.next_power_of_two().min(FEW),
            Tile::Free => match rows {
                // Not 1: lavapipe takes 3 ms for each dispatch of such a kernel where the depth is no multiple of 4.
                0..=2 => 2,
                3..=8 => 8,
                _ => 32,
            },
        }
    }

    fn geometry(self, rows: usize) -> Geometry {
        let rows = self.rows_at_a_time(rows);
        let tiled = |columns, depth, thread_rows, thread_columns| Geometry {
            body: "linear_tiled.wgsl",
            rows,
            columns,
            depth,
            thread_rows,
            thread_columns,
            lanes: 0,
        };
        let untiled =
            |body, columns, lanes| Geometry { body, rows, columns, lanes, depth: 0, thread_rows: 0, thread_columns: 0 };
        match self {
            Tile::Large => tiled(128, 8, 8, 8),
            Tile::Medium => tiled(64, 16, 8, 4),
            Tile::Small => tiled(32, 16, 4, 4),
            Tile::Few => untiled("linear_few.wgsl", 0, 0),
            Tile::Free => untiled("linear_free.wgsl", 16, 8),
        }
    }

    /// Rows and columns that a workgroup makes.
    fn covers(self, rows: usize, direction: Direction) -> (usize, usize) {
        let Geometry { rows, columns, lanes, .. } = self.geometry(rows);
        match (self, direction) {
            (Tile::Large | Tile::Medium | Tile::Small, _) => (rows, columns),
            (Tile::Few, Direction::Forward) => (rows, 16),
            (Tile::Few, Direction::Backward) => (rows, 32),
            (Tile::Free, _) => (rows, columns * lanes),
        }
    }
}

/// A product as it is asked for.
#[derive(Debug)]
pub(crate) struct Product<'a> {
    pub tile: Tile,
    pub direction: Direction,
    pub weight: WeightPart,
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
    pub prologue: &'a [Op],
    pub epilogue: &'a [Op],
    /// Operands of both chains; the first `before` are the prologue's.
    pub operands: &'a [Beside],
    pub before: usize,
    /// Where each parameter begins.
    pub offsets: &'a [u32],
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
        let geometry = self.tile.geometry(self.tile_rows);
        let (positive, negative) = match self.weight {
            WeightPart::Scaled { positive, negative } => (positive, negative),
            WeightPart::Squared | WeightPart::One => (1.0, 1.0),
        };
        let text = context! {
            body => geometry.body,
            rows => geometry.rows,
            columns => geometry.columns,
            depth => geometry.depth,
            thread_rows => geometry.thread_rows,
            thread_columns => geometry.thread_columns,
            lanes => geometry.lanes,
            backward => self.direction == Direction::Backward,
            several => self.targets > 1,
            parts => self.parts > 1,
            weight => match self.weight {
                WeightPart::WHOLE => "whole",
                WeightPart::Scaled { .. } => "scaled",
                WeightPart::Squared => "squared",
                WeightPart::One => "one",
            },
            source => context! { aligned => source_aligned, through => writer.read(self.activation, self.part, "x") },
            prologue => writer.lines(self.prologue),
            epilogue => writer.lines(self.epilogue),
            operands => operand_texts(self.operands, |index| if index < self.before { source_aligned } else { aligned }),
            parameters => writer.has_parameters(),
            aligned,
        };
        let bound =
            [(binding::WEIGHT, Access::Read), (binding::TARGET, Access::Write), (binding::SOURCE, Access::Read)];
        let label = match self.direction {
            Direction::Forward => "linear forward",
            Direction::Backward => "linear backward",
        };
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
            ..Step::default()
        };
        writer.fill(&mut step)?;
        step.offsets[..self.offsets.len()].copy_from_slice(self.offsets);
        let kernel = Kernel::new(label, "linear.wgsl", text, &bound, &writer, self.operands.len())?;
        let (tile_rows, tile_columns) = self.tile.covers(self.tile_rows, self.direction);
        let grid = Grid { rows: self.rows, tile_rows, cells: self.columns.div_ceil(tile_columns), lanes: 1 };
        Ok(Dispatch { kernel, step, grid })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_setting_decides_for_the_kernel_that_adds_in_another_order() {
        for columns in [1, 10, 64, 100, 1024, 4096] {
            for rows in [1, 2, 8, 9, 100, 2048] {
                assert_ne!(Tile::choose_within(2048, rows, columns, false), Tile::Few);
                assert_eq!(Tile::choose_within(8, rows.min(8), columns, false), Tile::Few);
                assert_eq!(Tile::choose_within(2048, rows, columns, true), Tile::Free);
            }
        }
    }

    #[test]
    fn the_largest_tile_that_fills_a_device_is_taken() {
        assert_eq!(Tile::choose(2048, 1024, false), Tile::Large);
        assert_eq!(Tile::choose(512, 1024, false), Tile::Medium);
        assert_eq!(Tile::choose(64, 1024, false), Tile::Small);
        assert_eq!(Tile::choose(1 << 20, 10, false), Tile::Small);
    }
}
