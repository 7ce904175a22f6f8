//! A plan's step → a kernel's dispatch: which buffers it binds, and what it is told.

use std::ops::Range;

use super::bindings::Bindings;
use super::tuned::{ProductKind, ProductShape, Table};
use crate::error::{Error, Result};
use crate::kernels::{
    Addend, DeviceKind, Direction, Dispatch, Elementwise, Move, Op, Operand, Outputs, Product, Reduce, Reduction,
    Start, Strips, Tile, Tiling,
};
use crate::layers::{AxisMap, Layer};
use crate::network::Network;
use crate::parameters::Parameters;
use crate::plan::{self, BufferId, Plan, Rows, Step, Work};
use crate::rules::{InputPart, WeightPart};
use crate::tensor::Tensor;

/// A step as the device runs it: one dispatch, or one for each part that its weight was cut into.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) parts: Vec<Choice>,
    /// The buffers of the chain, in the order of their bindings.
    pub(super) operands: Vec<BufferId>,
    /// The numbers that stand beside rows, one parameter after another.
    pub(super) parameters: Vec<f32>,
    /// What the kernels look up beside, where they do.
    pub(super) table: Option<Vec<u32>>,
}

/// Dispatches that give the same bits, each the fastest for some number of rows.
#[derive(Debug)]
pub(super) struct Choice {
    /// From the fewest rows to the most.
    pub(super) variants: Vec<(Shape, Dispatch)>,
    pub(super) chooser: Chooser,
}

impl Choice {
    /// The dispatch for a number of samples.
    pub(super) fn dispatch(&self, samples: usize) -> Option<&Dispatch> {
        let wanted = self.chooser.choose(samples);
        self.variants.iter().find(|(shape, _)| *shape == wanted).map(|(_, dispatch)| dispatch)
    }
}

/// What a variant of a product is known by; none where there is no choice.
pub(super) type Shape = Option<Tiling>;

/// How the variants of a product are chosen.
#[derive(Debug, Clone, Copy)]
pub(super) enum Selection<'a> {
    /// One shape of tile for every product.
    Forced(Tile),
    /// By what was timed, else by the rules of thumb.
    Best(&'a Table),
    /// By the rules of thumb, with all that may stand for them beside, to be timed.
    Candidates,
}

/// Says which variant fits a number of samples.
#[derive(Debug, Clone)]
pub(super) struct Chooser {
    /// The product of one sample; none where there is no choice.
    pub(super) product: Option<ProductShape>,
    /// The samples of a full chunk, whatever memory there was for it.
    setting: usize,
    kind: DeviceKind,
    forced: Option<Tile>,
    /// What was timed, by rows.
    tuned: Vec<(usize, Tiling)>,
}

impl Chooser {
    /// The variant for a number of samples.
    pub(super) fn choose(&self, samples: usize) -> Shape {
        let product = self.product?;
        let (most, rows) = (self.setting * product.rows, samples * product.rows);
        // Each unit has tiles of its own: all of them together fill a GPU, and software takes one after another.
        let of_unit = if self.kind == DeviceKind::Software { rows.div_ceil(product.units) } else { rows };
        let by_rule = || Tile::choose_within(most, of_unit, product.columns, self.kind);
        let tile = self.forced.unwrap_or_else(by_rule);
        // The kernel for few rows is made for its setting alone; for the others rows at a time change no bits.
        let chosen = Tiling::of(tile, if tile == Tile::Few { most } else { of_unit });
        if self.forced.is_some() || !chosen.is_interchangeable() {
            return Some(chosen);
        }
        let rows = product.of_samples(samples).rows;
        let tuned = self.tuned.iter().find(|(of_rows, _)| *of_rows == rows);
        Some(tuned.map_or(chosen, |(_, tiling)| *tiling))
    }
}

/// What translating a step needs to know.
pub(super) struct Translator<'a> {
    pub(super) network: &'a Network,
    pub(super) plan: &'a Plan,
    pub(super) parameters: &'a Parameters,
    /// The samples of a full chunk, whatever memory there was for it.
    pub(super) setting: usize,
    pub(super) kind: DeviceKind,
    /// Whether weights of products lie as float16.
    pub(super) half_weights: bool,
    pub(super) selection: Selection<'a>,
}

/// A step with everything that its kernels share.
pub(super) struct Job<'a> {
    pub(super) step: &'a Step,
    /// The columns of each part that its weight was cut into.
    pub(super) parts: &'a [Range<usize>],
    /// K, where its rows are one a sample and target; 1 where they are one a sample.
    pub(super) targets: usize,
    pub(super) epilogue: &'a [Op],
    pub(super) outputs: Outputs<'a>,
    pub(super) bindings: &'a Bindings<'a>,
}

impl Translator<'_> {
    /// Translates a step; `parts` are the columns of each part that its weight was cut into.
    pub(super) fn bind(&self, step: &Step, parts: &[Range<usize>]) -> Result<Bound> {
        let target = &self.plan.buffers[step.target.index()];
        let measured = step.source.filter(|_| matches!(step.work, Work::Measure(_)));
        let rows = if measured.is_some() { Rows::Target } else { target.rows };
        let width = measured.map_or(target.width, |source| self.plan.buffers[source.buffer.index()].width);
        let mut bindings = Bindings::new(self, rows, width, width / self.side_by_side(step));
        let targets = if rows == Rows::Target { self.plan.targets } else { 1 };
        let source =
            step.source.filter(|_| reads_source_as_operand(&step.work)).map(|source| bindings.operand(&source));
        let mut ops = |chain: &[plan::Op]| chain.iter().map(|op| bindings.op(op)).collect::<Vec<Op>>();
        let epilogue = ops(&step.chain);
        let also: Vec<Vec<Op>> = step.also.iter().map(|also| ops(&also.chain)).collect();
        let then = ops(&step.then);
        let outputs = Outputs { then: &then, also: &also };
        let job = Job { step, parts, targets, epilogue: &epilogue, outputs, bindings: &bindings };
        let choices = match &step.work {
            Work::Product { .. } => self.products(&job)?,
            Work::Convolve { .. } | Work::AveragePool { .. } | Work::MaxPool | Work::Winners | Work::Unpool { .. } => {
                self.windows(&job)?
            }
            Work::Start => vec![self.only(self.start(&job)?)],
            Work::Measure(_) | Work::Rms => vec![self.only(self.reduction(&job, source)?)],
            Work::Elementwise
            | Work::Transpose { .. }
            | Work::Strips { .. }
            | Work::AlongAxis { .. }
            | Work::Lookup => vec![self.only(self.elementwise(&job, source)?)],
        };
        let table = self.table(step)?;
        Ok(Bound { parts: choices, operands: bindings.buffers, parameters: bindings.parameters, table })
    }

    fn start(&self, job: &Job<'_>) -> Result<Dispatch> {
        let start = Start {
            width: job.bindings.width,
            classes: self.network.classes(),
            targets: self.plan.targets,
            alike: job.targets < self.plan.targets,
            epilogue: job.epilogue,
            operands: &job.bindings.operands,
            places: &job.bindings.places,
        };
        start.dispatch()
    }

    fn reduction(&self, job: &Job<'_>, source: Option<Operand>) -> Result<Dispatch> {
        let source = source.ok_or_else(|| Error::internal("a reduction reads rows"))?;
        let reduction = match job.step.work {
            Work::Rms => Reduction::Rms,
            _ => Reduction::Sums,
        };
        let reduce = Reduce {
            reduction,
            source,
            width: self.plan.buffers[job.bindings.buffers[source.buffer.0].index()].width,
            rows: job.targets,
            targets: job.targets,
            epilogue: job.epilogue,
            operands: &job.bindings.operands,
            places: &job.bindings.places,
        };
        reduce.dispatch()
    }

    /// Rows of the kernel that lie side by side in one row of the target's buffer: tokens or pixels.
    pub(super) fn side_by_side(&self, step: &Step) -> usize {
        let width = self.plan.buffers[step.target.index()].width;
        let Some(layer) = step.layer else { return 1 };
        let node = self.network.layer(layer);
        match (&step.work, &node.layer) {
            (Work::Product { direction, .. }, Layer::Dense(dense)) => {
                let columns = match direction {
                    plan::Direction::Forward => dense.outputs(),
                    plan::Direction::Backward => dense.inputs(),
                };
                width / columns
            }
            (Work::Convolve { direction, .. } | Work::AveragePool { direction, .. }, _) => match direction {
                plan::Direction::Forward => width / self.network.shape(node.output).dims()[0],
                plan::Direction::Backward => width / self.network.shape(node.inputs[0]).dims()[0],
            },
            (Work::MaxPool | Work::Winners | Work::Unpool { .. }, _) => {
                width / self.network.shape(node.output).dims()[0]
            }
            _ => 1,
        }
    }

    fn products(&self, job: &Job<'_>) -> Result<Vec<Choice>> {
        let (Work::Product { direction, weight, .. }, Some(layer)) = (&job.step.work, job.step.layer) else {
            return Err(Error::internal("a product is of a layer"));
        };
        let Layer::Dense(dense) = &self.network.layer(layer).layer else {
            return Err(Error::internal("only a dense layer is a product"));
        };
        let (direction, depth, width) = match direction {
            plan::Direction::Forward => (Direction::Forward, dense.inputs(), dense.outputs()),
            plan::Direction::Backward => (Direction::Backward, dense.outputs(), dense.inputs()),
        };
        self.dense(job, direction, *weight, [depth, width])
    }

    /// Rows of `depth` elements times a weight that makes rows of `width`.
    pub(super) fn dense(
        &self,
        job: &Job<'_>,
        direction: Direction,
        weight: WeightPart,
        [depth, width]: [usize; 2],
    ) -> Result<Vec<Choice>> {
        let source = job.source()?;
        let parts = job.bindings.width / width;
        let rows = parts * job.targets;
        let choice = |columns: &Range<usize>| {
            let shape = ProductShape {
                kind: ProductKind::Dense,
                direction,
                rows,
                depth,
                columns: columns.len(),
                taps: 1,
                units: 1,
            };
            self.choice(shape, |Tiling { tile, rows: tile_rows }| {
                let product = Product {
                    tile,
                    direction,
                    weight,
                    half_weights: self.half_weights,
                    depth,
                    width,
                    first: columns.start,
                    columns: columns.len(),
                    rows,
                    tile_rows,
                    parts,
                    targets: job.targets,
                    activation: source.activation,
                    part: source.part,
                    addend: job.addend(),
                    of_one_sign: job.is_of_one_sign(),
                    prologue: &[],
                    epilogue: job.epilogue,
                    outputs: job.outputs,
                    operands: &job.bindings.operands,
                    before: 0,
                    places: &job.bindings.places,
                };
                product.dispatch()
            })
        };
        job.parts.iter().map(choice).collect()
    }

    /// A dispatch for each variant that the chunks' rows may call for; the product is that of one sample.
    pub(super) fn choice(
        &self,
        product: ProductShape,
        dispatch: impl Fn(Tiling) -> Result<Dispatch>,
    ) -> Result<Choice> {
        let (chooser, chunk) = (self.chooser(Some(product)), self.plan.chunk);
        let has_candidates = matches!(self.selection, Selection::Candidates)
            && chooser.choose(chunk).is_some_and(Tiling::is_interchangeable);
        let candidates = has_candidates.then(|| Tiling::candidates(product.columns, self.kind)).into_iter().flatten();
        let mut variants: Vec<(Shape, Dispatch)> = Vec::new();
        // Doubling passes every shape but for sizes near a border, which then take the next one.
        let doubling = (0..usize::BITS).map(|power| 1_usize << power).take_while(|samples| *samples < chunk);
        let chosen = doubling.chain([chunk]).filter_map(|samples| chooser.choose(samples));
        for tiling in candidates.chain(chosen) {
            if variants.iter().all(|(known, _)| *known != Some(tiling)) {
                variants.push((Some(tiling), dispatch(tiling)?));
            }
        }
        Ok(Choice { variants, chooser })
    }

    /// The one way to run a step.
    pub(super) fn only(&self, dispatch: Dispatch) -> Choice {
        Choice { variants: vec![(None, dispatch)], chooser: self.chooser(None) }
    }

    fn chooser(&self, product: Option<ProductShape>) -> Chooser {
        let (forced, tuned) = match (self.selection, product) {
            (Selection::Forced(tile), _) => (Some(tile), Vec::new()),
            (Selection::Best(table), Some(product)) => (None, table.of(product)),
            (Selection::Best(_) | Selection::Candidates, _) => (None, Vec::new()),
        };
        Chooser { product, setting: self.setting, kind: self.kind, forced, tuned }
    }

    /// What a step's kernels look up: where elements come from.
    fn table(&self, step: &Step) -> Result<Option<Vec<u32>>> {
        match &step.work {
            Work::Transpose { dims, order } => {
                Ok(Some(Tensor::from_fn(dims.as_slice(), |position| position as u32).transpose(order).into_data()))
            }
            Work::AlongAxis { direction, .. } => Ok(Some(entries(self.axis_map(step)?, *direction))),
            Work::Convolve { .. } | Work::AveragePool { .. } | Work::MaxPool | Work::Winners | Work::Unpool { .. } => {
                self.window_table(step).map(Some)
            }
            Work::Product { .. }
            | Work::Elementwise
            | Work::Strips { .. }
            | Work::Lookup
            | Work::Start
            | Work::Rms
            | Work::Measure(_) => Ok(None),
        }
    }

    fn axis_map(&self, step: &Step) -> Result<&AxisMap> {
        let layer = step.layer.ok_or_else(|| Error::internal("a map along an axis is a layer"))?;
        match &self.network.layer(layer).layer {
            Layer::AxisMap(map) => Ok(map),
            _ => Err(Error::internal("only a map along an axis has sources")),
        }
    }

    fn elementwise(&self, job: &Job<'_>, source: Option<Operand>) -> Result<Dispatch> {
        let Job { step, targets, epilogue, outputs, bindings, .. } = *job;
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
            (Work::AlongAxis { direction, after, .. }, _) => {
                let map = self.axis_map(step)?;
                let (inputs, outputs, after) = (map.inputs(), map.sources().len(), *after);
                let positions = match direction {
                    plan::Direction::Forward => [inputs, outputs],
                    plan::Direction::Backward => [outputs, inputs],
                };
                Move::Along { positions, after }
            }
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
            outputs,
            operands: &bindings.operands,
            places: &bindings.places,
        }
        .dispatch()
    }
}

impl Job<'_> {
    /// What the step reads.
    pub(super) fn source(&self) -> Result<plan::Operand> {
        self.step.source.ok_or_else(|| Error::internal("the step reads rows"))
    }

    /// Whether the step is a part of a denominator in which inputs and weights of one sign each meet, or a half of one. An input that is
    /// not rectified may slip in where the rule takes it as it is: that costs time, and no accuracy.
    pub(super) fn is_of_one_sign(&self) -> bool {
        let (Work::Product { direction, weight, .. } | Work::Convolve { direction, weight, .. }) = &self.step.work
        else {
            return false;
        };
        let is_part = matches!(*weight, WeightPart::POSITIVE | WeightPart::NEGATIVE) || weight.is_half();
        *direction == plan::Direction::Forward && is_part
    }

    /// The second product that its sums go on with.
    pub(super) fn addend(&self) -> Option<Addend> {
        let (Work::Product { addend, .. } | Work::Convolve { addend, .. }) = &self.step.work else { return None };
        addend.map(|plan::Addend { source, weight }| Addend {
            activation: source.activation,
            part: source.part,
            weight,
        })
    }
}

/// For each position of a map, where its entries begin and, behind the last, where they end; each entry is the position
/// that is read and the bits of its weight.
fn entries(map: &AxisMap, direction: plan::Direction) -> Vec<u32> {
    let targets = match direction {
        plan::Direction::Forward => map.sources().to_vec(),
        plan::Direction::Backward => map.targets(),
    };
    let mut table = vec![0; targets.len() + 1];
    for (target, sources) in targets.iter().enumerate() {
        table[target] = table.len() as u32;
        table.extend(sources.iter().flat_map(|&(source, weight)| [source as u32, weight.to_bits()]));
    }
    table[targets.len()] = table.len() as u32;
    table
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_counts_the_rows_of_one_unit_and_a_gpu_those_of_all() {
        let chosen = |units, kind| {
            let (rows, direction) = (196, Direction::Backward);
            let product = ProductShape {
                kind: ProductKind::Convolution,
                direction,
                rows,
                depth: 20,
                columns: 10,
                taps: 4,
                units,
            };
            Chooser { product: Some(product), setting: 8, kind, forced: None, tuned: Vec::new() }.choose(1)
        };
        let of_software = [1, 2, 4].map(|units| chosen(units, DeviceKind::Software));
        let expected =
            [(Tile::Slim, 128), (Tile::Slim, 32), (Tile::Free, 32)].map(|(tile, rows)| Tiling { tile, rows });
        assert_eq!(of_software, expected.map(Some));
        assert_eq!(chosen(1, DeviceKind::ManyRegisters), chosen(4, DeviceKind::ManyRegisters));
    }
}
