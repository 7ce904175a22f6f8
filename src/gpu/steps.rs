//! A plan's step → a kernel's dispatch: which buffers it binds, and what it is told.

use crate::chain;
use crate::error::{Error, Result};
use crate::kernels::{
    Beside, Columns, Direction, Dispatch, Elementwise, Move, Op, Operand, Product, Reduce, Reduction, Slot, Start,
    Strips, Tile,
};
use crate::layers::Layer;
use crate::network::Network;
use crate::parameters::Parameters;
use crate::plan::{self, BufferId, Denominator, Parameter, Plan, Rows, Step, Work};
use crate::rules::{InputPart, Stabilizer};

/// A step as the device runs it: one dispatch, or one for each part that its weight was cut into.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) parts: Vec<Choice>,
    /// The buffers of the chain, in the order of their bindings.
    pub(super) operands: Vec<BufferId>,
    /// The numbers that stand beside rows, one parameter after another.
    pub(super) parameters: Vec<f32>,
}

/// Dispatches that give the same bits, each the fastest for some number of rows.
#[derive(Debug)]
pub(super) struct Choice {
    /// From the fewest rows to the most.
    pub(super) variants: Vec<(Shape, Dispatch)>,
    pub(super) chooser: Chooser,
}

/// What a variant of a product is known by: its tile, and the rows that a workgroup takes.
pub(super) type Shape = (Option<Tile>, usize);

/// Says which variant fits a number of samples.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chooser {
    /// Rows a sample, and the columns; none where there is no choice.
    product: Option<(usize, usize)>,
    /// The samples of a full chunk, whatever memory there was for it.
    setting: usize,
    is_software: bool,
    forced: Option<Tile>,
}

impl Chooser {
    /// The variant for a number of samples.
    pub(super) fn choose(&self, samples: usize) -> Shape {
        let Some((rows, columns)) = self.product else { return (None, 0) };
        let (most, rows) = (self.setting * rows, samples * rows);
        let tile = self.forced.unwrap_or_else(|| Tile::choose_within(most, rows, columns, self.is_software));
        // Rows at a time change no bits, but the kernel for few rows is made for its setting alone.
        let rows = if tile == Tile::Few { most } else { rows };
        (Some(tile), tile.rows_at_a_time(rows))
    }
}

/// What translating a step needs to know.
pub(super) struct Translator<'a> {
    pub(super) network: &'a Network,
    pub(super) plan: &'a Plan,
    pub(super) parameters: &'a Parameters,
    /// The samples of a full chunk, whatever memory there was for it.
    pub(super) setting: usize,
    pub(super) is_software: bool,
    pub(super) tile: Option<Tile>,
}

/// The operands and parameters of one step.
struct Bindings<'a> {
    translator: &'a Translator<'a>,
    /// Whether the step's rows are one a sample and target.
    rows: Rows,
    /// Elements of a row.
    width: usize,
    buffers: Vec<BufferId>,
    operands: Vec<Beside>,
    known: Vec<Parameter>,
    parameters: Vec<f32>,
    offsets: Vec<u32>,
}

impl Translator<'_> {
    /// Translates a step; `parts` are the columns of each part that its weight was cut into.
    pub(super) fn bind(&self, step: &Step, parts: &[std::ops::Range<usize>]) -> Result<Bound> {
        let target = &self.plan.buffers[step.target.index()];
        let measured = step.source.filter(|_| matches!(step.work, Work::Measure(_)));
        let rows = if measured.is_some() { Rows::Target } else { target.rows };
        let width = measured.map_or(target.width, |source| self.plan.buffers[source.buffer.index()].width);
        let mut bindings = Bindings {
            translator: self,
            rows,
            width,
            buffers: Vec::new(),
            operands: Vec::new(),
            known: Vec::new(),
            parameters: Vec::new(),
            offsets: Vec::new(),
        };
        let targets = if rows == Rows::Target { self.plan.targets } else { 1 };
        let source =
            step.source.filter(|_| reads_source_as_operand(&step.work)).map(|source| bindings.operand(&source));
        let epilogue: Vec<Op> = step.chain.iter().map(|op| bindings.op(op)).collect();
        let parts = match &step.work {
            Work::Product { .. } => self.products(step, parts, targets, &epilogue, &bindings)?,
            Work::Convolve { .. }
            | Work::AveragePool { .. }
            | Work::MaxPool
            | Work::Winners
            | Work::Unpool { .. }
            | Work::AlongAxis { .. } => unreachable!("interim"),
            Work::Start => {
                let start = Start {
                    width: target.width,
                    classes: self.network.classes(),
                    targets: self.plan.targets,
                    epilogue: &epilogue,
                    operands: &bindings.operands,
                    offsets: &bindings.offsets,
                };
                vec![self.only(start.dispatch()?)]
            }
            Work::Measure(_) | Work::Rms => {
                let source = source.ok_or_else(|| Error::internal("a reduction reads rows"))?;
                let width = self.plan.buffers[bindings.buffers[source.buffer.0].index()].width;
                let reduction = match step.work {
                    Work::Rms => Reduction::Rms,
                    _ => Reduction::Sums,
                };
                let offsets = &bindings.offsets;
                let operands = &bindings.operands;
                let reduce =
                    Reduce { reduction, source, width, rows: targets, targets, epilogue: &epilogue, operands, offsets };
                vec![self.only(reduce.dispatch()?)]
            }
            Work::Elementwise | Work::Transpose { .. } | Work::Strips { .. } | Work::Lookup => {
                vec![self.only(self.elementwise(step, source, targets, &epilogue, &bindings)?)]
            }
        };
        Ok(Bound { parts, operands: bindings.buffers, parameters: bindings.parameters })
    }

    /// Rows of a product for each row of its target's buffer: tokens, where the layer works on each.
    pub(super) fn parts(&self, step: &Step) -> Result<usize> {
        let (Work::Product { direction, .. }, Some(layer)) = (&step.work, step.layer) else { return Ok(1) };
        let Layer::Dense(dense) = &self.network.layer(layer).layer else {
            return Err(Error::internal("only a dense layer is a product"));
        };
        let columns = match direction {
            plan::Direction::Forward => dense.outputs(),
            plan::Direction::Backward => dense.inputs(),
        };
        Ok(self.plan.buffers[step.target.index()].width / columns)
    }

    fn products(
        &self,
        step: &Step,
        parts: &[std::ops::Range<usize>],
        targets: usize,
        epilogue: &[Op],
        bindings: &Bindings<'_>,
    ) -> Result<Vec<Choice>> {
        let (Work::Product { direction, weight }, Some(layer), Some(source)) = (&step.work, step.layer, step.source)
        else {
            return Err(Error::internal("a product is of a layer and reads rows"));
        };
        let Layer::Dense(dense) = &self.network.layer(layer).layer else {
            return Err(Error::internal("only a dense layer is a product"));
        };
        let (direction, depth, width) = match direction {
            plan::Direction::Forward => (Direction::Forward, dense.inputs(), dense.outputs()),
            plan::Direction::Backward => (Direction::Backward, dense.outputs(), dense.inputs()),
        };
        let side_by_side = self.parts(step)?;
        let rows = side_by_side * targets;
        let dispatch = |columns: &std::ops::Range<usize>, tile: Tile, tile_rows: usize| {
            Product {
                tile,
                direction,
                weight: *weight,
                depth,
                width,
                first: columns.start,
                columns: columns.len(),
                rows,
                tile_rows,
                parts: side_by_side,
                targets,
                activation: source.activation,
                part: source.part,
                prologue: &[],
                epilogue,
                operands: &bindings.operands,
                before: 0,
                offsets: &bindings.offsets,
            }
            .dispatch()
        };
        let choice = |columns: &std::ops::Range<usize>| {
            let (chooser, chunk) = (self.chooser(Some((rows, columns.len()))), self.plan.chunk);
            let mut variants: Vec<(Shape, Dispatch)> = Vec::new();
            // Doubling passes every shape but for sizes near a border, which then take the next one.
            let doubling = (0..usize::BITS).map(|power| 1_usize << power).take_while(|samples| *samples < chunk);
            for shape in doubling.chain([chunk]).map(|samples| chooser.choose(samples)) {
                if let ((Some(tile), tile_rows), true) = (shape, variants.iter().all(|(known, _)| *known != shape)) {
                    variants.push((shape, dispatch(columns, tile, tile_rows)?));
                }
            }
            Ok(Choice { variants, chooser })
        };
        parts.iter().map(choice).collect()
    }

    /// The one way to run a step.
    fn only(&self, dispatch: Dispatch) -> Choice {
        Choice { variants: vec![((None, 0), dispatch)], chooser: self.chooser(None) }
    }

    fn chooser(&self, product: Option<(usize, usize)>) -> Chooser {
        Chooser { product, setting: self.setting, is_software: self.is_software, forced: self.tile }
    }

    fn elementwise(
        &self,
        step: &Step,
        source: Option<Operand>,
        targets: usize,
        epilogue: &[Op],
        bindings: &Bindings<'_>,
    ) -> Result<Dispatch> {
        let width = self.plan.buffers[step.target.index()].width;
        let depth = step.source.map_or(width, |source| self.plan.buffers[source.buffer.index()].width);
        let strips = |length, (distance, first)| Strips { length, distance, first };
        let from = match (&step.work, source) {
            (Work::Elementwise, Some(source)) => Move::Copy(source),
            (Work::Elementwise, None) => Move::Zeros,
            (Work::Transpose { .. }, _) => Move::Transpose,
            (Work::Strips { length, source, target, .. }, _) if *target == (*length, 0) => {
                Move::Gather(strips(*length, *source))
            }
            (Work::Strips { length, target, .. }, _) => Move::Scatter(strips(*length, *target)),
            (Work::Lookup, _) => {
                let layer = step.layer.ok_or_else(|| Error::internal("a lookup is a layer"))?;
                let Layer::Lookup(lookup) = &self.network.layer(layer).layer else {
                    return Err(Error::internal("only a lookup layer looks up"));
                };
                let entry = lookup.table().count() / lookup.entries();
                Move::Lookup { lookups: depth, entry, entries: lookup.entries() }
            }
            (
                Work::Product { .. }
                | Work::Convolve { .. }
                | Work::AveragePool { .. }
                | Work::MaxPool
                | Work::Winners
                | Work::Unpool { .. }
                | Work::AlongAxis { .. }
                | Work::Start
                | Work::Rms
                | Work::Measure(_),
                _,
            ) => {
                return Err(Error::internal("the step is not elementwise"));
            }
        };
        Elementwise {
            source: from,
            activation: step.source.and_then(|source| source.activation),
            part: step.source.map_or(InputPart::Whole, |source| source.part),
            depth,
            width,
            rows: targets,
            targets,
            epilogue,
            operands: &bindings.operands,
            offsets: &bindings.offsets,
        }
        .dispatch()
    }
}

/// Whether the source is bound as an operand, read at the place that is computed.
fn reads_source_as_operand(work: &Work) -> bool {
    match work {
        Work::Elementwise | Work::Rms | Work::Measure(_) => true,
        Work::Product { .. }
        | Work::Convolve { .. }
        | Work::AveragePool { .. }
        | Work::MaxPool
        | Work::Winners
        | Work::Unpool { .. }
        | Work::AlongAxis { .. }
        | Work::Transpose { .. }
        | Work::Strips { .. }
        | Work::Lookup
        | Work::Start => false,
    }
}

impl Bindings<'_> {
    fn slot(&mut self, buffer: BufferId, is_scalar: bool) -> Slot {
        if let Some(known) = self.buffers.iter().position(|known| *known == buffer) {
            return Slot(known);
        }
        let of_sample = self.rows == Rows::Target
            && self.translator.plan.targets > 1
            && self.translator.plan.buffers[buffer.index()].rows == Rows::Sample;
        self.buffers.push(buffer);
        self.operands.push(Beside { of_sample, is_scalar });
        Slot(self.buffers.len() - 1)
    }

    fn operand(&mut self, operand: &plan::Operand) -> Operand {
        Operand { buffer: self.slot(operand.buffer, false), activation: operand.activation, part: operand.part }
    }

    fn columns(&mut self, parameter: Parameter) -> Columns {
        if let Some(index) = self.known.iter().position(|known| *known == parameter) {
            return Columns { index };
        }
        self.known.push(parameter);
        self.offsets.push(self.parameters.len() as u32);
        let period = self.translator.parameters.period(&parameter).iter().copied();
        self.parameters.extend(period.cycle().take(self.width));
        // The next one begins at a whole vector.
        self.parameters.resize(self.parameters.len().next_multiple_of(4), 0.0);
        Columns { index: self.known.len() - 1 }
    }

    fn op(&mut self, op: &plan::Op) -> Op {
        match *op {
            plan::Op::Scale(factor) => Op::Scale(factor),
            plan::Op::AddParameter(parameter) => Op::AddParameter(self.columns(parameter)),
            plan::Op::MultiplyParameter(parameter) => Op::MultiplyParameter(self.columns(parameter)),
            plan::Op::Activate(activation) => Op::Activate(activation),
            plan::Op::Part(part) => Op::Part(part),
            plan::Op::Add { operand, factor } => Op::Add { operand: self.operand(&operand), factor },
            plan::Op::Multiply(operand) => Op::Multiply(self.operand(&operand)),
            plan::Op::MultiplyDerivative { activation, at } => {
                Op::MultiplyDerivative { activation, at: self.operand(&at) }
            }
            plan::Op::Mask { by, mask } => Op::Mask { by: self.operand(&by), mask },
            plan::Op::Divide { by, stabilizer, rms } => {
                let (by, stabilizer, rms) = self.denominator(by, stabilizer, rms);
                Op::Divide { by, stabilizer, rms }
            }
            plan::Op::MultiplyDamping { by, stabilizer, rms } => {
                let (by, stabilizer, rms) = self.denominator(by, stabilizer, rms);
                Op::MultiplyDamping { by, stabilizer, rms }
            }
        }
    }

    fn denominator(
        &mut self,
        by: Denominator,
        stabilizer: Stabilizer,
        rms: Option<BufferId>,
    ) -> (chain::Denominator<Slot, Columns>, Stabilizer, Option<Slot>) {
        match by {
            Denominator::Buffer(buffer) => {
                let rms = rms.map(|rms| self.slot(rms, true));
                (chain::Denominator::Buffer(self.slot(buffer, false)), stabilizer, rms)
            }
            Denominator::Parameter(parameter) => {
                // The rms of what is the same for every sample is a number already.
                let stabilizer = match stabilizer {
                    Stabilizer::Rms(epsilon) => {
                        Stabilizer::Absolute(epsilon * self.translator.parameters.rms(&parameter))
                    }
                    Stabilizer::Absolute(_) | Stabilizer::Clip(_) => stabilizer,
                };
                (chain::Denominator::Parameter(self.columns(parameter)), stabilizer, None)
            }
        }
    }
}
