//! How the elements of each value lie.
//!
//! Outside a plan everything is in ONNX order. Windows (convolutions and pools) run on channels that lie last, where a
//! window's position is a run of neighbours; values stay so through elementwise layers, sums and joins. A door, which
//! is a transposition, stands only where a layer needs the other order: at inputs, at results, and at layers that mix
//! axes.

use super::{BufferId, Builder, Operand, Plan, Role, Rows, Work};
use crate::layers::Layer;
use crate::network::{LayerNode, Network, ValueId};
use crate::tensor::Shape;

/// How the elements of a sample lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// In ONNX order: the first axis (channels) is outermost.
    Natural,
    /// With the first axis innermost: `[spatial…][channels]`.
    ChannelsLast,
}

impl Layout {
    /// The shape of a sample as it lies.
    pub fn physical(self, shape: &Shape) -> Vec<usize> {
        let mut dims = shape.dims().to_vec();
        if self == Layout::ChannelsLast && !dims.is_empty() {
            dims.rotate_left(1);
        }
        dims
    }

    /// Where an axis of the sample is among the axes as they lie.
    pub fn axis(self, axis: usize, rank: usize) -> usize {
        match self {
            Layout::Natural => axis,
            Layout::ChannelsLast => (axis + rank - 1) % rank,
        }
    }

    /// Whether the two layouts put the elements of a shape in one order: there is one channel, or one position.
    fn makes_no_difference(shape: &Shape) -> bool {
        let channels = shape.dims().first().copied().unwrap_or(1);
        channels <= 1 || shape.count() == channels
    }
}

/// The layout of every value.
pub(super) fn layouts(network: &Network) -> Vec<Layout> {
    let mut layouts = vec![Layout::Natural; network.values().len()];
    for node in network.layers() {
        let of = |input: &ValueId| layouts[input.index()];
        layouts[node.output.index()] = match &node.layer {
            Layer::Conv(_) | Layer::AveragePool(_) | Layer::MaxPool(_) => Layout::ChannelsLast,
            Layer::Activation(_) | Layer::Affine(_) | Layer::AxisMap(_) => of(&node.inputs[0]),
            Layer::Sum(_) | Layer::Multiply(_) | Layer::Concat(_) => {
                let is_last = node.inputs.iter().any(|input| of(input) == Layout::ChannelsLast);
                if is_last { Layout::ChannelsLast } else { Layout::Natural }
            }
            Layer::Transpose(transpose) => turned(transpose.order(), of(&node.inputs[0])).unwrap_or(Layout::Natural),
            Layer::Dense(_) | Layer::Reshape(_) | Layer::Lookup(_) => Layout::Natural,
        };
    }
    layouts
}

/// The layout under which a transposed value lies as its source does, if there is one: a model that keeps its channels
/// last moves them to the front in its own order only.
pub(super) fn turned(order: &[usize], source: Layout) -> Option<Layout> {
    let last = order.len().checked_sub(1)?;
    let to_front = order.iter().copied().eq(std::iter::once(last).chain(0..last));
    let to_back = order.iter().copied().eq((1..=last).chain([0]));
    match source {
        Layout::Natural if to_front => Some(Layout::ChannelsLast),
        Layout::ChannelsLast if to_back => Some(Layout::Natural),
        Layout::Natural | Layout::ChannelsLast => None,
    }
}

fn layout_read(layouts: &[Layout], node: &LayerNode, slot: usize) -> Layout {
    match &node.layer {
        Layer::Conv(_) | Layer::AveragePool(_) | Layer::MaxPool(_) => Layout::ChannelsLast,
        Layer::Activation(_)
        | Layer::Affine(_)
        | Layer::AxisMap(_)
        | Layer::Sum(_)
        | Layer::Multiply(_)
        | Layer::Concat(_) => layouts[node.output.index()],
        Layer::Transpose(transpose) => {
            let source = layouts[node.inputs[slot].index()];
            if turned(transpose.order(), source).is_some() { source } else { Layout::Natural }
        }
        Layer::Dense(_) | Layer::Reshape(_) | Layer::Lookup(_) => Layout::Natural,
    }
}

impl Plan {
    /// The layout in which a layer reads its first input.
    pub(crate) fn layout_read(&self, node: &LayerNode) -> Layout {
        layout_read(&self.layouts, node, 0)
    }
}

impl Builder<'_> {
    /// The layout of a value.
    pub(super) fn layout(&self, value: ValueId) -> Layout {
        self.layouts[value.index()]
    }

    /// The layout in which a layer reads its inputs, which is that of what it gives back to them.
    pub(super) fn layout_read(&self, node: &LayerNode, slot: usize) -> Layout {
        layout_read(&self.layouts, node, slot)
    }

    /// How a computed value is read in a layout; a door is made where it lies in the other one.
    pub(super) fn operand_in(&mut self, value: ValueId, layout: Layout) -> Operand {
        let read = self.operand(value);
        let shape = self.network.shape(value);
        if self.layout(value) == layout || Layout::makes_no_difference(shape) {
            return read;
        }
        if let Some(door) = self.doors[value.index()] {
            return door;
        }
        let name = format!("{}, {}", self.network.value(value).name, words(layout));
        let target = self.buffer(name, Rows::Sample, shape.count(), Role::Scratch);
        let work = self.door(value, layout);
        self.steps.push(super::Step::new(None, work, Some(read), Vec::new(), target));
        let door = Operand::whole(target);
        self.doors[value.index()] = Some(door);
        door
    }

    /// Relevance of a value that lies in `from`, in `to`, after `chain`.
    pub(super) fn relevance_in(&mut self, value: ValueId, relevance: BufferId, from: Layout, to: Layout) -> BufferId {
        if from == to || Layout::makes_no_difference(self.network.shape(value)) {
            return relevance;
        }
        let target = self.relevance_buffer(value, self.buffers[relevance.index()].rows);
        let (work, source) = (self.door(value, to), Some(Operand::whole(relevance)));
        self.steps.push(super::Step::new(None, work, source, Vec::new(), target));
        target
    }

    /// The transposition that brings a value into a layout from the other one.
    fn door(&self, value: ValueId, to: Layout) -> Work {
        let shape = self.network.shape(value);
        let channels = shape.dims()[0];
        let positions = shape.count() / channels;
        let dims = match to {
            Layout::ChannelsLast => vec![channels, positions],
            Layout::Natural => vec![positions, channels],
        };
        Work::Transpose { dims, order: vec![1, 0] }
    }
}

fn words(layout: Layout) -> &'static str {
    match layout {
        Layout::Natural => "channels first",
        Layout::ChannelsLast => "channels last",
    }
}
