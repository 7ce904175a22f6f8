//! Elements copied, reordered or looked up, each through a chain of elementwise operations.

use minijinja::context;

use super::chain::{Beside, Op, Operand, Outputs, Writer};
use super::kernel::{Access, Dispatch, Grid, Kernel, binding, operand_texts};
use super::step::{Place, Step};
use crate::error::Result;
use crate::layers::Activation;
use crate::rules::InputPart;

/// Invocations of a workgroup, as every device has them.
const LANES: usize = 64;

/// Where elements come from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Move {
    /// An operand, element by element.
    Copy(Operand),
    /// Nowhere: zeros.
    Zeros,
    /// Positions in the source row, from a table of one a column.
    Transpose,
    /// Strips of the source row become the target row.
    Gather(Strips),
    /// The source row becomes strips of the target row; what lies between them stays.
    Scatter(Strips),
    /// Sums over positions along an axis, from a table of each position's sources and their weights.
    Along {
        /// Positions of the source and of the target.
        positions: [usize; 2],
        /// Elements at each position.
        after: usize,
    },
    /// Entries of a table.
    Lookup {
        /// How many a row.
        lookups: usize,
        /// Elements of an entry.
        entry: usize,
        /// Entries of the table.
        entries: usize,
    },
}

/// Stretches of a row at equal distances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Strips {
    pub length: usize,
    pub distance: usize,
    pub first: usize,
}

/// Elementwise work as it is asked for.
#[derive(Debug)]
pub(crate) struct Elementwise<'a> {
    pub source: Move,
    /// How the source is read, but for [`Move::Copy`].
    pub activation: Option<Activation>,
    pub part: InputPart,
    /// Elements of a source row.
    pub depth: usize,
    /// Elements of a target row.
    pub width: usize,
    /// Rows a sample.
    pub rows: usize,
    /// K, where the target has a row a sample and target; 1 where it has one a sample.
    pub targets: usize,
    pub epilogue: &'a [Op],
    pub outputs: Outputs<'a>,
    pub operands: &'a [Beside],
    pub places: &'a [Place],
}

impl Elementwise<'_> {
    /// The work as a dispatch.
    ///
    /// # Errors
    /// If the chain holds more numbers than a step.
    pub(crate) fn dispatch(&self) -> Result<Dispatch> {
        let mut writer = Writer::default();
        let aligned = self.width.is_multiple_of(4);
        let strips = |strips: Strips| [strips.length as u32, strips.distance as u32, strips.first as u32, 0];
        let whole = Strips { length: self.depth, distance: self.depth, first: 0 };
        let source = (binding::SOURCE, Access::Read);
        let table = (binding::TABLE, Access::Read);
        let mut bound = vec![(binding::TARGET, Access::Write)];
        let mut columns = self.width;
        let (label, work, geometry) = match self.source {
            Move::Copy(_) => ("elementwise", "copy", [[0; 4]; 2]),
            Move::Zeros => ("zeros", "zeros", [[0; 4]; 2]),
            Move::Transpose => {
                bound.extend([source, table]);
                ("transpose", "transpose", [[0; 4]; 2])
            }
            Move::Gather(from) => {
                bound.push(source);
                ("gather", "gather", [strips(from), [0; 4]])
            }
            Move::Scatter(to) => {
                bound.push(source);
                columns = self.depth;
                ("scatter", "scatter", [strips(whole), strips(to)])
            }
            Move::Along { positions: [sources, targets], after } => {
                bound.extend([source, table]);
                let blocks = [targets * after, sources * after, after].map(|extent| extent as u32);
                ("along axis", "along", [[blocks[0], blocks[1], blocks[2], targets as u32], [0; 4]])
            }
            Move::Lookup { lookups, entry, .. } => {
                bound.extend([source, table]);
                ("lookup", "lookup", [[lookups as u32, entry as u32, 0, 0], [0; 4]])
            }
        };
        let copied = match self.source {
            Move::Copy(operand) => writer.operand(&operand),
            _ => String::new(),
        };
        let text = context! {
            work,
            lanes => LANES,
            several => self.targets > 1,
            parts => false,
            lattice => false,
            source => copied,
            // Whether four columns are at one position.
            quads => matches!(self.source, Move::Along { after, .. } if after.is_multiple_of(4)),
            through => writer.read(self.activation, self.part, "x"),
            epilogue => writer.lines(self.epilogue),
            outputs => writer.outputs(self.outputs, self.operands.len()),
            operands => operand_texts(self.operands, |_| aligned),
            parameters => writer.has_parameters(),
            aligned => aligned && work != "scatter",
        };
        let mut step = Step {
            depth: self.depth as u32,
            width: self.width as u32,
            columns: columns as u32,
            rows: self.rows as u32,
            parts: 1,
            targets: self.targets as u32,
            entries: match self.source {
                Move::Lookup { entries, .. } => entries as u32,
                _ => 0,
            },
            geometry,
            ..Step::default()
        };
        writer.fill(&mut step)?;
        step.place(self.places);
        let kernel = Kernel::new(label, "elementwise.wgsl", text, &bound, &writer, self.operands.len())?;
        let grid = Grid { rows: self.rows, tile_rows: 1, cells: columns.div_ceil(4), lanes: LANES };
        Ok(Dispatch { kernel, step, grid })
    }
}
