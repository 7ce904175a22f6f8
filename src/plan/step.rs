//! The vocabulary of a plan: buffers, parameters, work and steps.

use crate::chain;
use crate::network::LayerId;
use crate::rules::{BiasPart, WeightPart};

/// A buffer of a [`Plan`](super::Plan).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferId(pub(super) usize);

impl BufferId {
    /// The buffer at a position.
    #[cfg(test)]
    pub(crate) const fn of(position: usize) -> Self {
        BufferId(position)
    }

    /// The buffer's position in [`Plan::buffers`](super::Plan::buffers).
    pub fn index(self) -> usize {
        self.0
    }
}

/// How many rows a buffer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rows {
    /// One a sample.
    Sample,
    /// One a sample and target: row sample·K + target.
    Target,
}

/// What a buffer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The float input of a position, owned by the caller.
    Input(usize),
    /// The integer input of a position, owned by the caller.
    Index(usize),
    /// Made and read by steps.
    Scratch,
    /// The result of a position in [`Plan::results`](super::Plan::results), owned by the caller.
    Result(usize),
    /// The sums of a step that measures; it holds no rows.
    Sums,
}

/// A buffer: `rows` × `width` float32 elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buffer {
    /// For reports: what it holds.
    pub name: String,
    /// How many rows.
    pub rows: Rows,
    /// Elements a row.
    pub width: usize,
    /// What it is for.
    pub role: Role,
}

/// A plan's buffers, for K targets a sample.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Buffers<'a> {
    pub(crate) known: &'a [Buffer],
    pub(crate) targets: usize,
}

impl Buffers<'_> {
    /// Whether two buffers have as many rows as each other, as wide.
    pub(crate) fn are_like(&self, one: BufferId, other: BufferId) -> bool {
        let (one, other) = (&self.known[one.index()], &self.known[other.index()]);
        one.width == other.width && (one.rows == other.rows || self.targets == 1)
    }
}

/// A buffer of the plan as it is read.
pub type Operand = chain::Operand<BufferId>;

/// What a quotient of the plan divides by.
pub type Denominator = chain::Denominator<BufferId, Parameter>;

/// An elementwise operation of the plan.
pub type Op = chain::Op<BufferId, Parameter>;

/// Numbers that come from a layer's parameters and its rule; one a column. Executors compute them once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Parameter {
    /// b̃ of a layer, repeated over its rows.
    Bias {
        /// The layer.
        layer: LayerId,
        /// Which part of the bias.
        part: BiasPart,
    },
    /// s of an affine layer, changed as a weight is.
    Scale {
        /// The layer.
        layer: LayerId,
        /// Which part of s.
        part: WeightPart,
    },
    /// The lowest value of the layer's input.
    Low(LayerId),
    /// The highest value of the layer's input.
    High(LayerId),
    /// 1 where a mask of [`Plan::masks`](super::Plan::masks) lets relevance pass, 0 elsewhere.
    Mask(usize),
    /// 1 / N for each output of a layer with windows: N inputs of it are in the image.
    Evenly(LayerId),
    /// The part of a group's denominator that holds no x, with b̃, less what `beside` already counts.
    Constant {
        /// The layer.
        layer: LayerId,
        /// The position of the group in its rule.
        group: usize,
        /// What the rest of the denominator already holds.
        beside: Beside,
    },
}

impl Parameter {
    /// The layer that the numbers come from; none for a mask.
    pub fn layer(&self) -> Option<LayerId> {
        match self {
            Parameter::Bias { layer, .. } | Parameter::Scale { layer, .. } | Parameter::Constant { layer, .. } => {
                Some(*layer)
            }
            Parameter::Low(layer) | Parameter::High(layer) | Parameter::Evenly(layer) => Some(*layer),
            Parameter::Mask(_) => None,
        }
    }
}

/// What the data-dependent part of a denominator already holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    /// Products without a bias, or nothing.
    Products,
    /// The forward pass's own z, and so b.
    ForwardOutput,
    /// Half of the forward pass's own z, and so half of b.
    HalfOutput,
}

/// Which way a product goes through a layer's weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// x W̃ᵀ.
    Forward,
    /// q W̃.
    Backward,
}

/// What a step measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Measure {
    /// Relevance that arrives at the layer's output.
    AtOutput,
    /// Relevance that the layer gives to an input; non-finite elements are counted too.
    AtInput,
    /// Relevance that the bias absorbs.
    Bias,
    /// Relevance that the stabiliser absorbs.
    Epsilon,
}

/// Other rows through another part of the same weight, in the same direction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Addend {
    /// What is read.
    pub source: Operand,
    /// W̃.
    pub weight: WeightPart,
}

/// How a step's rows come to be, before the chain.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// Source rows times a dense layer's weight.
    Product {
        /// Which way.
        direction: Direction,
        /// W̃.
        weight: WeightPart,
        /// What the same sums go on with.
        addend: Option<Addend>,
    },
    /// Source rows through a convolution's weight. Source and target lie channels last, as with every window.
    Convolve {
        /// Which way.
        direction: Direction,
        /// W̃.
        weight: WeightPart,
        /// What the same sums go on with.
        addend: Option<Addend>,
    },
    /// Source rows through an average pool's weights, each 1 / n.
    AveragePool {
        /// Which way.
        direction: Direction,
        /// W̃.
        weight: WeightPart,
    },
    /// The greatest element of each window of a max pool.
    MaxPool,
    /// For each window of a max pool, the position in the window of its greatest element, as a number.
    Winners,
    /// Each element gets what its max pool's windows hold that it won.
    Unpool {
        /// The positions that won.
        winners: BufferId,
    },
    /// The layer's map along an axis of rows that lie as `[before][positions][after]`.
    AlongAxis {
        /// Which way.
        direction: Direction,
        /// Blocks of positions in a row.
        before: usize,
        /// Elements at each position.
        after: usize,
    },
    /// The source as it is.
    Elementwise,
    /// The source's axes reordered within each row.
    Transpose {
        /// The shape of a source row.
        dims: Vec<usize>,
        /// Axis `i` of the target is axis `order[i]` of the source.
        order: Vec<usize>,
    },
    /// Strips copied from each source row into each target row; the rest of the target is left as it is.
    Strips {
        /// How many strips a row has.
        count: usize,
        /// Elements a strip.
        length: usize,
        /// Distance of strips in the source and the offset of the first.
        source: (usize, usize),
        /// Distance of strips in the target and the offset of the first.
        target: (usize, usize),
    },
    /// Rows of the layer's table, picked by the source.
    Lookup,
    /// Relevance at the output, from the logits in the source.
    Start,
    /// The root mean square of each source row.
    Rms,
    /// The sum of the source's elements after the chain, added to the layer's sums.
    Measure(Measure),
}

/// What a step makes of its elements, while it has them: `chain` goes on from what the step's chain came to, to a target beside the
/// step's own.
#[derive(Debug, Clone, PartialEq)]
pub struct Also {
    /// What happens to each element on its way to that target.
    pub chain: Vec<Op>,
    /// What is written; its rows are those of the step's target.
    pub target: BufferId,
}

/// One step: `work` on `source`, then `chain`. What that comes to goes on to every target: through `then` to `target`, and through a
/// chain of its own to each of `also`.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The layer that the step serves; none for the start and for the relevance of inputs.
    pub layer: Option<LayerId>,
    /// How rows come to be.
    pub work: Work,
    /// What is read.
    pub source: Option<Operand>,
    /// What happens to each element on its way to every target.
    pub chain: Vec<Op>,
    /// What happens to it then on its way to `target` alone.
    pub then: Vec<Op>,
    /// What is written.
    pub target: BufferId,
    /// What else is.
    pub also: Vec<Also>,
}

impl Step {
    /// A step with one target.
    pub(super) fn new(
        layer: Option<LayerId>,
        work: Work,
        source: Option<Operand>,
        chain: Vec<Op>,
        target: BufferId,
    ) -> Self {
        Step { layer, work, source, chain, then: Vec::new(), target, also: Vec::new() }
    }

    /// The buffers that the step writes.
    pub fn writes(&self) -> impl Iterator<Item = BufferId> + '_ {
        [self.target].into_iter().chain(self.also.iter().map(|also| also.target))
    }

    /// The operations of the step's chains.
    pub fn ops(&self) -> impl Iterator<Item = &Op> {
        self.chain.iter().chain(self.also.iter().flat_map(|also| &also.chain)).chain(&self.then)
    }

    /// The same, to change them.
    pub(super) fn ops_mut(&mut self) -> impl Iterator<Item = &mut Op> {
        self.chain.iter_mut().chain(self.also.iter_mut().flat_map(|also| &mut also.chain)).chain(&mut self.then)
    }

    /// The products that the step sums: what is read, and through which part of the weight. Other work has none.
    pub fn products(&self) -> impl Iterator<Item = (Operand, WeightPart)> + '_ {
        let (weight, addend) = match self.work {
            Work::Product { weight, addend, .. } | Work::Convolve { weight, addend, .. } => (Some(weight), addend),
            _ => (None, None),
        };
        self.source.into_iter().zip(weight).chain(addend.map(|addend| (addend.source, addend.weight)))
    }

    /// The buffers that the step's work reads.
    pub fn sources(&self) -> impl Iterator<Item = BufferId> + '_ {
        let beside = match self.work {
            Work::Unpool { winners } => Some(winners),
            Work::Product { addend, .. } | Work::Convolve { addend, .. } => addend.map(|addend| addend.source.buffer),
            _ => None,
        };
        self.source.iter().map(|source| source.buffer).chain(beside)
    }

    /// The buffers that the step reads, with repetitions.
    pub fn reads(&self) -> impl Iterator<Item = BufferId> + '_ {
        self.sources().chain(self.ops().flat_map(Op::reads))
    }
}
