//! What a plan costs: operations, bytes and dispatches, beside the least that is possible.

use super::{Buffer, BufferId, Plan, Role, Rows, Step, Work};
use crate::layers::Layer;
use crate::network::{LayerNode, Network};

/// Multiply-adds in the time in which an element is written to memory and read again.
pub(super) const BUFFER: usize = 64;

/// What one step does for a number of samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StepCost {
    /// Floating-point operations of products: 2 · rows · inputs · outputs.
    pub operations: u64,
    /// Bytes read from buffers.
    pub read: u64,
    /// Bytes written to buffers.
    pub written: u64,
    /// Bytes of weights.
    pub weights: u64,
}

impl StepCost {
    /// All bytes moved.
    pub fn bytes(&self) -> u64 {
        self.read + self.written + self.weights
    }
}

/// What a plan does for a number of samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Steps that products need.
    pub products: usize,
    /// All other steps.
    pub others: usize,
    /// Floating-point operations of products.
    pub operations: u64,
    /// Floating-point operations of the forward pass's products.
    pub forward_operations: u64,
    /// Bytes moved.
    pub bytes: u64,
    /// The least bytes possible: each weight read once a use; of what products make or read, each z written once and read twice, and
    /// each quotient or share of relevance written once and read once; input and output once.
    pub least_bytes: u64,
}

impl Plan {
    /// What a step does for `samples` samples.
    pub fn step_cost(&self, network: &Network, step: &Step, samples: usize) -> StepCost {
        let bytes = |buffer: BufferId| {
            let Buffer { rows, width, .. } = &self.buffers[buffer.index()];
            (self.rows(*rows, samples) * width * size_of::<f32>()) as u64
        };
        let mut reads: Vec<BufferId> = step.reads().collect();
        reads.sort_unstable();
        reads.dedup();
        let mut cost = StepCost { read: reads.into_iter().map(bytes).sum(), ..StepCost::default() };
        let target = &self.buffers[step.target.index()];
        let of_target = match step.work {
            Work::Measure(_) => 0,
            Work::Strips { count, length, .. } => {
                (self.rows(target.rows, samples) * count * length * size_of::<f32>()) as u64
            }
            _ => bytes(step.target),
        };
        cost.written = of_target + step.also.iter().map(|also| bytes(also.target)).sum::<u64>();
        if let (Work::Product { .. } | Work::Convolve { .. }, Some(layer)) = (&step.work, step.layer) {
            let node = network.layer(layer);
            let (each, weights) = multiply_adds(network, node);
            let products = step.products().count() as u64;
            cost.operations = products * 2 * (self.rows(target.rows, samples) * each) as u64;
            cost.weights = products * (weights * size_of::<f32>()) as u64;
        }
        cost
    }

    /// What the plan does for `samples` samples in one chunk.
    pub fn cost(&self, network: &Network, samples: usize) -> Cost {
        let mut cost = Cost::default();
        for (position, step) in self.steps.iter().enumerate() {
            let of_step = self.step_cost(network, step, samples);
            let products = step.products().count();
            cost.products += products;
            cost.others += usize::from(products == 0);
            cost.operations += of_step.operations;
            cost.forward_operations += if position < self.forward { of_step.operations } else { 0 };
            cost.bytes += of_step.bytes();
            cost.least_bytes += of_step.weights;
        }
        cost.least_bytes += self.least_buffer_bytes(samples);
        cost
    }

    /// Bytes of what products make or read, of inputs and of results, each moved as often as it must.
    fn least_buffer_bytes(&self, samples: usize) -> u64 {
        let mut bytes = 0;
        for (index, buffer) in self.buffers.iter().enumerate() {
            let index = BufferId(index);
            let is_used = self.steps.iter().any(|step| step.writes().chain(step.reads()).any(|used| used == index));
            let is_of_products = self.steps.iter().any(|step| {
                is_product_or_start(&step.work) && step.writes().chain(step.sources()).any(|used| used == index)
            });
            let uses = match (buffer.role, buffer.rows) {
                _ if !is_used => 0,
                (Role::Input(_) | Role::Index(_) | Role::Result(_), _) => 1,
                (Role::Scratch, Rows::Sample) if is_of_products => 3,
                (Role::Scratch, Rows::Target) if is_of_products => 2,
                (Role::Scratch | Role::Sums, _) => 0,
            };
            bytes += uses * self.rows(buffer.rows, samples) * buffer.width * size_of::<f32>();
        }
        bytes as u64
    }

    /// How many rows a buffer has for `samples` samples.
    pub fn rows(&self, rows: Rows, samples: usize) -> usize {
        match rows {
            Rows::Sample => samples,
            Rows::Target => samples * self.targets,
        }
    }
}

fn is_product_or_start(work: &Work) -> bool {
    matches!(work, Work::Product { .. } | Work::Convolve { .. } | Work::Start)
}

/// Multiply-adds of a layer for one sample, the same in both directions, and how many weights it has. A convolution's
/// padding is counted as if it were data, as everyone counts.
pub(super) fn multiply_adds(network: &Network, node: &LayerNode) -> (usize, usize) {
    match &node.layer {
        Layer::Dense(dense) => (network.shape(node.output).count() * dense.inputs(), dense.inputs() * dense.outputs()),
        Layer::Conv(conv) => {
            let coarse = if conv.is_transposed() { node.inputs[0] } else { node.output };
            let each = conv.window().positions() * conv.fine_channels() / conv.groups();
            (network.shape(coarse).count() * each, conv.coarse_channels() * each)
        }
        Layer::AveragePool(_)
        | Layer::Sum(_)
        | Layer::Affine(_)
        | Layer::Activation(_)
        | Layer::Reshape(_)
        | Layer::Transpose(_)
        | Layer::Concat(_)
        | Layer::MaxPool(_)
        | Layer::AxisMap(_)
        | Layer::Multiply(_)
        | Layer::Lookup(_) => (0, 0),
    }
}
