//! Relevance at the output: targets chosen from the logits, and what each begins with.

use minijinja::context;

use super::chain::{Beside, Op, Outputs, Writer};
use super::kernel::{Access, Dispatch, Grid, Kernel, binding, operand_texts};
use super::step::{Place, Step};
use crate::error::Result;

/// What a target begins with; the numbers are those of `shaders/start.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Logit = 0,
    One = 1,
    Softmax = 2,
    Sigmoid = 3,
    NegativeLogit = 4,
    Contrast = 5,
    Given = 6,
}

/// A start as it is asked for. What it begins with and how targets are chosen are told with each batch.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    /// Outputs a sample.
    pub width: usize,
    /// Outputs along the last axis.
    pub classes: usize,
    /// K.
    pub targets: usize,
    /// Whether all targets begin as one, in one row a sample.
    pub alike: bool,
    pub epilogue: &'a [Op],
    pub operands: &'a [Beside],
    pub places: &'a [Place],
}

impl Start<'_> {
    /// The start as a dispatch.
    ///
    /// # Errors
    /// If the chain holds more numbers than a step.
    pub(crate) fn dispatch(&self) -> Result<Dispatch> {
        let mut writer = Writer::default();
        let aligned = self.width.is_multiple_of(4);
        let text = context! {
            several => self.targets > 1 && !self.alike,
            alike => self.alike,
            // A lane stores a quad of outputs at a time: no more than there are quads, and no fewer than a software adapter's vector has.
            lanes => self.width.div_ceil(4).next_power_of_two().clamp(8, 64),
            parts => false,
            lattice => false,
            epilogue => writer.lines(self.epilogue),
            outputs => writer.outputs(Outputs::default(), self.operands.len()),
            operands => operand_texts(self.operands, |_| aligned),
            parameters => writer.has_parameters(),
            aligned,
        };
        let bound = [
            (binding::TARGET, Access::Write),
            (binding::SOURCE, Access::Read),
            (binding::TABLE, Access::Write),
            (binding::GIVEN, Access::Read),
        ];
        let mut step = Step {
            depth: self.width as u32,
            width: self.width as u32,
            columns: self.width as u32,
            rows: 1,
            parts: 1,
            targets: self.targets as u32,
            geometry: [[self.classes as u32, 0, 0, 0], [0; 4]],
            ..Step::default()
        };
        writer.fill(&mut step)?;
        step.place(self.places);
        let kernel = Kernel::new("start", "start.wgsl", text, &bound, &writer, self.operands.len())?;
        Ok(Dispatch { kernel, step, grid: Grid { rows: 1, tile_rows: 1, cells: 1, lanes: 1 } })
    }
}
