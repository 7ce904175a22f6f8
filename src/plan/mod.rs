//! Network and rules → [`Plan`]: steps and buffers as pure data.
//!
//! A step computes rows (a product with a weight, a move, or nothing), passes them through a chain of elementwise
//! operations, and writes one buffer or several. The forward pass leaves the pre-activations z that relevance needs; activations
//! are derived from them when read. The plan knows no device and none of the data's numbers, so that tests can build
//! it for invented devices, and it prints itself.

mod buffers;
mod cells;
mod cost;
mod deferred;
mod factor;
mod facts;
mod forward;
mod fuse;
mod halves;
mod layout;
mod linear;
pub(crate) mod order;
mod pair;
mod print;
mod relevance;
mod split;
mod step;
mod sums;
mod terms;

use crate::composite::Assignment;
use crate::error::{Error, ErrorKind, Result};
use crate::layers::Layer;
use crate::network::{InputKind, LayerId, Network, ValueId};

pub use buffers::{Placements, Slot};
pub use cost::{Cost, StepCost};
pub use facts::Facts;
pub use layout::Layout;
pub(crate) use step::Buffers;
pub use step::{
    Addend, Also, Beside, Buffer, BufferId, Denominator, Direction, Measure, Op, Operand, Parameter, Role, Rows, Step,
    Work,
};

/// Which channels of a value relevance passes: what concept relevance propagation calls a condition (Achtibat et al.
/// 2023, arXiv:2206.03208).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ChannelMask {
    /// The value.
    pub value: ValueId,
    /// The channels, positions along the sample's first axis: one list for every target, or one a target.
    pub channels: Vec<Vec<usize>>,
}

/// What is asked of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ask {
    /// K: targets a sample. They share the forward pass.
    pub targets: usize,
    /// Values whose relevance is wanted besides the inputs'.
    pub keep: Vec<ValueId>,
    /// Channels that relevance passes at some values.
    pub masks: Vec<ChannelMask>,
    /// Whether a sample's targets are one and the same, so that only masks tell their relevance apart.
    pub alike: bool,
    /// Whether each layer's sums are measured.
    pub report: bool,
    /// Whether only the outputs are wanted, and no relevance.
    pub forward_only: bool,
    /// Which facts the planner may use to remove work.
    pub facts: Facts,
}

impl Default for Ask {
    fn default() -> Self {
        Ask {
            targets: 1,
            keep: Vec::new(),
            masks: Vec::new(),
            alike: false,
            report: false,
            forward_only: false,
            facts: Facts::default(),
        }
    }
}

/// What an executor demands of a plan, its memory above all: plain data, so that tests build plans for invented devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Target {
    /// Bytes that all scratch memory of a chunk may take.
    pub budget: usize,
    /// Bytes that one buffer may take.
    pub binding: usize,
    /// The most samples a chunk may hold.
    pub samples: usize,
    /// How many copies of inputs and results the executor holds of a chunk beside the caller's own.
    pub copies: usize,
    /// The most buffers that a step's chains may read, and write beside its target.
    pub operands: usize,
    /// Whether each kind of step is compiled by itself, so that kinds of a few steps do not pay.
    pub compiles: bool,
    /// Whether two products of one convolution may run together, part by part, so that the first one's part is near when the second reads it,
    /// and with them those of the next one, where it reads single positions, and a product before them that their chains alone read. What is
    /// passed on has its slot all the same: the executor may run them one by one.
    pub together: bool,
}

impl Target {
    /// A target without limits.
    pub const UNLIMITED: Target = Target {
        budget: usize::MAX,
        binding: usize::MAX,
        samples: usize::MAX,
        copies: 0,
        operands: usize::MAX,
        compiles: false,
        together: false,
    };
}

/// Steps over buffers that explain a batch of samples. Sizes are per sample: any number of samples runs.
#[derive(Debug, Clone)]
pub struct Plan {
    /// K: targets a sample.
    pub targets: usize,
    /// The buffers that steps read and write.
    pub buffers: Vec<Buffer>,
    /// The steps in order; `forward` of them make the forward pass.
    pub steps: Vec<Step>,
    /// How many of the steps are the forward pass.
    pub forward: usize,
    /// The buffer of the explained output's logits.
    pub logits: BufferId,
    /// The masks that steps read.
    pub masks: Vec<ChannelMask>,
    /// How each value of the network lies in its buffers; inputs, logits and results are in ONNX order.
    pub layouts: Vec<Layout>,
    /// Values whose relevance the plan delivers, with their buffers: the float inputs first, then the kept ones.
    pub results: Vec<(ValueId, BufferId)>,
    /// Where each buffer lies.
    pub placements: Placements,
    /// How many samples are computed together.
    pub chunk: usize,
}

/// Buffers that one operation and its source may read: the source, and a denominator and its rms, or the two that it is the rest of.
const LEAST_OPERANDS: usize = 3;

/// Plans the explanation of a network under the rules of its layers.
///
/// # Errors
/// [`ErrorKind::Argument`] if no target is asked for, or a kept value is not of the network;
/// [`ErrorKind::Limit`] if not even one sample fits the target's memory.
pub fn build(network: &Network, rules: &Assignment, ask: &Ask, target: &Target) -> Result<Plan> {
    if ask.targets == 0 {
        return Err(Error::argument("a plan needs at least one target a sample"));
    }
    if let Some(stranger) = ask.keep.iter().find(|value| value.index() >= network.values().len()) {
        return Err(Error::argument(format!("value {} belongs to another network", stranger.index())));
    }
    for mask in &ask.masks {
        check_mask(network, ask, mask)?;
    }
    if target.operands < LEAST_OPERANDS {
        let message = format!("an operation may read {LEAST_OPERANDS} buffers, but a kernel binds {}", target.operands);
        return Err(Error::new(ErrorKind::Limit, message).help("name another device"));
    }
    let facts = facts::Known::new(network, rules, ask);
    let mut builder = Builder::new(network, rules, ask, target, facts);
    builder.forward();
    let mut forward = builder.steps.len();
    if !ask.forward_only {
        builder.relevance();
    }
    let Builder { mut buffers, mut steps, results, logits, layouts, .. } = builder;
    let logits = logits.expect("the forward pass ends with the output");
    // A network has few layers that stride, and what they do with a chain of its own would be kernels of their own.
    let may_join = |step: &Step| !(target.compiles && strides(network, step));
    if ask.facts.fuse {
        let buffers = Buffers { known: &buffers, targets: ask.targets };
        fuse::repeat_factors(&buffers, &mut steps, &mut forward);
        // Products back that read single positions then take the quotients as they are made, and what both read is read once: of a layer that
        // narrows, that is more than what the quotients are made of.
        let comes_first = |step: &Step| {
            let width = |id: BufferId| buffers.known[id.index()].width;
            let narrows = step.sources().any(|source| width(source) > width(step.target));
            target.together && narrows && order::is_pointwise(network, step)
        };
        fuse::fuse(&buffers, &mut steps, &mut forward, &may_join, &comes_first);
    }
    if ask.facts.factor {
        factor::factor(&buffers, &mut steps, &mut forward);
    }
    if ask.facts.pair {
        pair::pair(network, &buffers, &mut steps, &mut forward);
    }
    if ask.facts.follow {
        let buffers = Buffers { known: &buffers, targets: ask.targets };
        // A step that does again what it has done is a kernel of its own.
        fuse::follow(&buffers, &mut steps, &mut forward, &may_join, !target.compiles);
        sums::add_up_again(buffers.known, &mut steps, logits);
        fuse::forget(buffers.known, &mut steps, logits);
    }
    order::order(&mut steps, forward);
    if target.together {
        order::gather(network, &Buffers { known: &buffers, targets: ask.targets }, &mut steps, forward);
    }
    split::split(&mut buffers, &mut steps, &mut forward, target.operands);
    fuse::settle(&buffers, &mut steps, logits);
    let mut ends: Vec<usize> = (0..steps.len()).collect();
    if target.together {
        for run in order::runs(network, &Buffers { known: &buffers, targets: ask.targets }, &steps, forward) {
            ends[run.all()].fill(run.all().end - 1);
        }
    }
    let placements = Placements::new(&buffers, &steps, logits, ask.targets, &ends);
    let chunk = placements.samples_within(&buffers, ask.targets, target)?;
    let masks = ask.masks.clone();
    Ok(Plan { targets: ask.targets, buffers, steps, forward, logits, masks, layouts, results, placements, chunk })
}

fn strides(network: &Network, step: &Step) -> bool {
    match (&step.work, step.layer.map(|layer| &network.layer(layer).layer)) {
        (Work::Convolve { .. }, Some(Layer::Conv(conv))) => conv.window().axes().iter().any(|axis| axis.stride > 1),
        _ => false,
    }
}

fn check_mask(network: &Network, ask: &Ask, mask: &ChannelMask) -> Result<()> {
    if mask.value.index() >= network.values().len() {
        return Err(Error::argument(format!("value {} belongs to another network", mask.value.index())));
    }
    let value = network.value(mask.value);
    if network.producer(mask.value).is_none() {
        let message = format!("`{}` is an input, and a condition is of a value inside the model", value.name);
        return Err(Error::argument(message).help("name a layer or what it makes"));
    }
    if ![1, ask.targets].contains(&mask.channels.len()) {
        let message = format!("{} conditions do not fit {} targets a sample", mask.channels.len(), ask.targets);
        return Err(Error::argument(message).help("give one condition for every target, or one a target"));
    }
    let channels = value.shape.dims().first().copied().unwrap_or(1);
    match mask.channels.iter().flatten().find(|channel| **channel >= channels) {
        None => Ok(()),
        Some(channel) => {
            let message =
                format!("channel {channel} of `{}` is out of range: its shape is {}", value.name, value.shape);
            Err(Error::argument(message).help(format!("its channels are numbered from 0 to {}", channels - 1)))
        }
    }
}

/// A plan in the making.
struct Builder<'a> {
    network: &'a Network,
    rules: &'a Assignment,
    ask: &'a Ask,
    target: &'a Target,
    known: facts::Known,
    buffers: Vec<Buffer>,
    steps: Vec<Step>,
    /// How each value is read in the forward pass, once it is computed.
    values: Vec<Option<Operand>>,
    layouts: Vec<Layout>,
    /// How each value is read in the layout that is not its own, once that is made.
    doors: Vec<Option<Operand>>,
    /// The denominators of each layer's groups that the forward pass leaves: made beside its output, or added up to that.
    parts: Vec<Vec<Option<Denominator>>>,
    /// The output in ONNX order, once it is computed.
    logits: Option<BufferId>,
    results: Vec<(ValueId, BufferId)>,
}

impl<'a> Builder<'a> {
    fn new(network: &'a Network, rules: &'a Assignment, ask: &'a Ask, target: &'a Target, known: facts::Known) -> Self {
        let mut builder = Builder {
            network,
            rules,
            ask,
            target,
            known,
            buffers: Vec::new(),
            steps: Vec::new(),
            values: vec![None; network.values().len()],
            layouts: layout::layouts(network),
            doors: vec![None; network.values().len()],
            parts: vec![Vec::new(); network.layers().len()],
            logits: None,
            results: Vec::new(),
        };
        for (position, input) in network.inputs().iter().enumerate() {
            let value = network.value(input.value);
            let role = match input.kind {
                InputKind::Float => Role::Input(position),
                InputKind::Integer => Role::Index(position),
            };
            let buffer = builder.buffer(value.name.clone(), Rows::Sample, value.shape.count(), role);
            builder.values[input.value.index()] = Some(Operand::whole(buffer));
        }
        builder
    }

    fn buffer(&mut self, name: String, rows: Rows, width: usize, role: Role) -> BufferId {
        self.buffers.push(Buffer { name, rows, width, role });
        BufferId(self.buffers.len() - 1)
    }

    fn width(&self, value: ValueId) -> usize {
        self.network.shape(value).count()
    }

    fn step(&mut self, layer: LayerId, work: Work, source: Operand, chain: Vec<Op>, target: BufferId) {
        self.steps.push(Step::new(Some(layer), work, Some(source), chain, target));
    }

    /// How a computed value is read.
    fn operand(&self, value: ValueId) -> Operand {
        self.values[value.index()].expect("layers are in topological order")
    }
}
