//! Channels through windows, each by itself: pools, what wins in them, and convolutions that keep channels apart.

use minijinja::context;

use super::chain::{Beside, Op, Outputs, Writer};
use super::kernel::{Access, Dispatch, Grid, Kernel, binding, operand_texts};
use super::lattice::Lattice;
use super::product::{coefficients, part_text};
use super::step::{Place, Step};
use crate::error::Result;
use crate::layers::Activation;
use crate::rules::{InputPart, WeightPart};

/// Invocations of a workgroup, as every device has them.
const LANES: usize = 64;

/// What happens to the elements that a target reaches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum WindowWork {
    /// Σ W̃ x, a weight for each window position and channel.
    Convolve(WeightPart),
    /// Σ x, times the W̃ of the target.
    Average(WeightPart),
    /// Σ W̃ x, a weight for each source position.
    Spread(WeightPart),
    /// The greatest.
    Greatest,
    /// The window position of the greatest.
    Winners,
    /// Σ of those whose window position won.
    Unpool {
        /// Whether the winners have a row a sample while the kernel works on a row a sample and target.
        of_sample: bool,
    },
}

/// Work of windows as it is asked for; rows lie channels last.
#[derive(Debug)]
pub(crate) struct Windowed<'a> {
    pub work: WindowWork,
    pub lattice: &'a Lattice,
    pub channels: usize,
    /// K, where the source has a row a sample and target; 1 where it has one a sample.
    pub targets: usize,
    pub activation: Option<Activation>,
    pub part: InputPart,
    pub epilogue: &'a [Op],
    pub outputs: Outputs<'a>,
    pub operands: &'a [Beside],
    pub places: &'a [Place],
}

impl Windowed<'_> {
    /// The work as a dispatch.
    ///
    /// # Errors
    /// If the chain holds more numbers than a step.
    pub(crate) fn dispatch(&self) -> Result<Dispatch> {
        let mut writer = Writer::default();
        let aligned = self.channels.is_multiple_of(4);
        let (label, work, weight) = match self.work {
            WindowWork::Convolve(weight) => ("convolve channels", "convolve", Some(weight)),
            WindowWork::Average(weight) => ("average pool", "average", Some(weight)),
            WindowWork::Spread(weight) => ("average pool backward", "spread", Some(weight)),
            WindowWork::Greatest => ("max pool", "greatest", None),
            WindowWork::Winners => ("winners", "winners", None),
            WindowWork::Unpool { .. } => ("unpool", "unpool", None),
        };
        let pixels = self.lattice.targets();
        let text = context! {
            work,
            lanes => LANES,
            lattice => false,
            several => self.targets > 1,
            parts => pixels > 1,
            weighted => weight.is_some(),
            added => false,
            weight => part_text(weight.unwrap_or(WeightPart::WHOLE)),
            of_sample => self.work == WindowWork::Unpool { of_sample: true },
            source => context! { through => writer.read(self.activation, self.part, "x") },
            epilogue => writer.lines(self.epilogue),
            outputs => writer.outputs(self.outputs, self.operands.len()),
            operands => operand_texts(self.operands, |_| aligned),
            parameters => writer.has_parameters(),
            aligned,
        };
        let mut bound =
            vec![(binding::TARGET, Access::Write), (binding::SOURCE, Access::Read), (binding::TABLE, Access::Read)];
        if weight.is_some() || matches!(self.work, WindowWork::Unpool { .. }) {
            bound.push((binding::WEIGHT, Access::Read));
        }
        let (positive, negative) = coefficients(weight.unwrap_or(WeightPart::WHOLE));
        let rows = pixels * self.targets;
        let mut step = Step {
            depth: self.channels as u32,
            width: self.channels as u32,
            columns: self.channels as u32,
            stride: self.channels.div_ceil(4) as u32,
            rows: rows as u32,
            parts: pixels as u32,
            targets: self.targets as u32,
            positive,
            negative,
            window: self.lattice.of_window(),
            ..Step::default()
        };
        writer.fill(&mut step)?;
        step.place(self.places);
        let kernel = Kernel::new(label, "window.wgsl", text, &bound, &writer, self.operands.len())?;
        let grid = Grid { rows, tile_rows: 1, cells: self.channels.div_ceil(4), lanes: LANES };
        Ok(Dispatch { kernel, step, grid })
    }
}
