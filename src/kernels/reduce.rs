//! Rows reduced to a number or a record each.

use minijinja::context;

use super::chain::{Beside, Op, Operand, Writer};
use super::kernel::{Access, Dispatch, Grid, Kernel, binding, operand_texts};
use super::step::{Place, Step};
use crate::error::Result;

/// What a row becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reduction {
    /// Its root mean square.
    Rms,
    /// A record of Σ v, Σ |v| and how many v are not finite.
    Sums,
}

/// A reduction as it is asked for.
#[derive(Debug)]
pub(crate) struct Reduce<'a> {
    pub reduction: Reduction,
    pub source: Operand,
    /// Elements of a row.
    pub width: usize,
    /// Rows a sample.
    pub rows: usize,
    /// K, where there is a row a sample and target; 1 where there is one a sample.
    pub targets: usize,
    pub epilogue: &'a [Op],
    pub operands: &'a [Beside],
    pub places: &'a [Place],
}

impl Reduce<'_> {
    /// The reduction as a dispatch.
    ///
    /// # Errors
    /// If the chain holds more numbers than a step.
    pub(crate) fn dispatch(&self) -> Result<Dispatch> {
        let mut writer = Writer::default();
        let aligned = self.width.is_multiple_of(4);
        let name = match self.reduction {
            Reduction::Rms => "rms",
            Reduction::Sums => "sums",
        };
        let text = context! {
            work => name,
            several => self.targets > 1,
            parts => false,
            lattice => false,
            source => writer.operand(&self.source),
            epilogue => writer.lines(self.epilogue),
            operands => operand_texts(self.operands, |_| aligned),
            parameters => writer.has_parameters(),
            aligned,
        };
        let mut step = Step {
            depth: self.width as u32,
            width: self.width as u32,
            columns: self.width as u32,
            rows: self.rows as u32,
            parts: 1,
            targets: self.targets as u32,
            ..Step::default()
        };
        writer.fill(&mut step)?;
        step.place(self.places);
        let bound = [(binding::TARGET, Access::Write)];
        let kernel = Kernel::new(name, "reduce.wgsl", text, &bound, &writer, self.operands.len())?;
        Ok(Dispatch { kernel, step, grid: Grid { rows: self.rows, tile_rows: 1, cells: 1, lanes: 1 } })
    }
}
