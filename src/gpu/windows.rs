//! Steps of layers with windows → kernels: convolutions, pools and what wins in them.

use std::ops::Range;

use super::steps::{Choice, Job, Translator};
use crate::error::{Error, Result};
use crate::kernels::{Convolve, Direction, Lattice, WindowWork, Windowed};
use crate::layers::{Conv, Layer};
use crate::network::{LayerNode, Network};
use crate::plan::{self, Rows, Step, Work};
use crate::rules::WeightPart;

/// How the device computes a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// A window of one position that moves by 1: a dense layer on each pixel.
    Dense,
    /// One channel of each grid a group.
    Channels,
    /// As a product whose rows are pixels.
    Product,
}

impl Way {
    /// The way of a layer.
    pub(super) fn of(network: &Network, node: &LayerNode, conv: &Conv) -> Result<Way> {
        if conv.groups() == 1 && lattice(network, node, plan::Direction::Forward)?.is_pointwise() {
            return Ok(Way::Dense);
        }
        let is_channels = conv.groups() == conv.coarse_channels() && conv.groups() == conv.fine_channels();
        Ok(if is_channels && conv.groups() > 1 { Way::Channels } else { Way::Product })
    }
}

/// Which way through the weight, as kernels see it: forward is from the fine grid to the coarse one.
pub(super) fn through_weight(conv: &Conv, direction: plan::Direction) -> Direction {
    match (direction, conv.is_transposed()) {
        (plan::Direction::Forward, false) | (plan::Direction::Backward, true) => Direction::Forward,
        (plan::Direction::Backward, false) | (plan::Direction::Forward, true) => Direction::Backward,
    }
}

/// How a layer's targets reach their sources in a direction; none where the layer has no window.
fn lattice(network: &Network, node: &LayerNode, direction: plan::Direction) -> Result<Lattice> {
    let input = &network.shape(node.inputs[0]).dims()[1..];
    let output = &network.shape(node.output).dims()[1..];
    let (source, target) = match direction {
        plan::Direction::Forward => (input, output),
        plan::Direction::Backward => (output, input),
    };
    let (window, is_to_coarse) = match &node.layer {
        Layer::Conv(conv) => (conv.window(), through_weight(conv, direction) == Direction::Forward),
        Layer::AveragePool(pool) => (pool.window(), direction == plan::Direction::Forward),
        Layer::MaxPool(pool) => (pool.window(), direction == plan::Direction::Forward),
        _ => return Err(Error::internal("the layer has no window")),
    };
    let phases = if is_to_coarse { vec![window.to_coarse(target)] } else { window.to_fine(target) };
    Ok(Lattice::new(&phases, source, target, &window.kernel()))
}

/// The direction of a step whose layer has a window.
fn direction(work: &Work) -> plan::Direction {
    match work {
        Work::Convolve { direction, .. } | Work::AveragePool { direction, .. } => *direction,
        Work::Unpool { .. } => plan::Direction::Backward,
        _ => plan::Direction::Forward,
    }
}

impl Translator<'_> {
    /// Translates a step whose layer has a window.
    pub(super) fn windows(&self, job: &Job<'_>) -> Result<Vec<Choice>> {
        let (node, lattice) = self.windowed(job.step)?;
        let work = match (&job.step.work, &node.layer) {
            (Work::Convolve { direction, weight }, Layer::Conv(conv)) => match Way::of(self.network, node, conv)? {
                Way::Channels => WindowWork::Convolve(*weight),
                Way::Dense | Way::Product => {
                    return self.convolution(job, conv, through_weight(conv, *direction), *weight);
                }
            },
            (Work::AveragePool { direction: plan::Direction::Forward, weight }, _) => WindowWork::Average(*weight),
            (Work::AveragePool { direction: plan::Direction::Backward, weight }, _) => WindowWork::Spread(*weight),
            (Work::MaxPool, _) => WindowWork::Greatest,
            (Work::Winners, _) => WindowWork::Winners,
            (Work::Unpool { winners }, _) => {
                let of_sample = job.targets > 1 && self.plan.buffers[winners.index()].rows == Rows::Sample;
                WindowWork::Unpool { of_sample }
            }
            _ => return Err(Error::internal("the step has no window")),
        };
        let source = job.source()?;
        let windowed = Windowed {
            work,
            lattice: &lattice,
            channels: self.network.shape(node.output).dims()[0],
            targets: job.targets,
            activation: source.activation,
            part: source.part,
            epilogue: job.epilogue,
            operands: &job.bindings.operands,
            places: &job.bindings.places,
        };
        Ok(vec![self.only(windowed.dispatch()?)])
    }

    fn convolution(&self, job: &Job<'_>, conv: &Conv, direction: Direction, weight: WeightPart) -> Result<Vec<Choice>> {
        let (node, lattice) = self.windowed(job.step)?;
        let (depth, width) = match direction {
            Direction::Forward => (conv.fine_channels(), conv.coarse_channels()),
            Direction::Backward => (conv.coarse_channels(), conv.fine_channels()),
        };
        if Way::of(self.network, node, conv)? == Way::Dense {
            return self.dense(job, direction, weight, [depth, width]);
        }
        let (source, groups) = (job.source()?, conv.groups());
        let rows = lattice.targets() * job.targets * groups;
        let choice = |columns: &Range<usize>| {
            self.choice((rows, columns.len() / groups), |tile, tile_rows| {
                let convolve = Convolve {
                    tile,
                    direction,
                    weight,
                    lattice: &lattice,
                    groups,
                    depth: depth / groups,
                    width,
                    first: columns.start,
                    columns: columns.len(),
                    targets: job.targets,
                    tile_rows,
                    activation: source.activation,
                    part: source.part,
                    epilogue: job.epilogue,
                    operands: &job.bindings.operands,
                    places: &job.bindings.places,
                };
                convolve.dispatch()
            })
        };
        job.parts.iter().map(choice).collect()
    }

    /// The layer of a step that has a window, and how the step's targets reach their sources.
    fn windowed(&self, step: &Step) -> Result<(&LayerNode, Lattice)> {
        let layer = step.layer.ok_or_else(|| Error::internal("a window is of a layer"))?;
        let node = self.network.layer(layer);
        Ok((node, lattice(self.network, node, direction(&step.work))?))
    }

    /// What the kernels of a step with a window look up.
    pub(super) fn window_table(&self, step: &Step) -> Result<Vec<u32>> {
        let (node, lattice) = self.windowed(step)?;
        let table = match &node.layer {
            Layer::Conv(conv) => match Way::of(self.network, node, conv)? {
                Way::Dense => Vec::new(),
                Way::Product => lattice.phase_table(),
                Way::Channels => lattice.remainder_table(),
            },
            _ => lattice.remainder_table(),
        };
        Ok(bytemuck::cast_vec(table.concat()))
    }
}
