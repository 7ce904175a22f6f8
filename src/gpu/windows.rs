//! Steps of layers with windows → kernels: convolutions, pools and what wins in them.

use std::ops::Range;

use super::steps::{Choice, Job, Translator};
use super::tuned::{ProductKind, ProductShape};
use crate::error::{Error, Result};
use crate::kernels::{Convolve, Direction, Lattice, Tiling, WindowWork, Windowed};
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
            (Work::Convolve { direction, weight, .. }, Layer::Conv(conv)) => match Way::of(self.network, node, conv)? {
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
            outputs: job.outputs,
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
            let shape = ProductShape {
                kind: ProductKind::Convolution,
                direction,
                rows,
                depth: depth / groups,
                columns: columns.len() / groups,
                taps: lattice.positions(),
                units: lattice.phases() * groups,
            };
            self.choice(shape, |Tiling { tile, rows: tile_rows }| {
                let convolve = Convolve {
                    tile,
                    direction,
                    weight,
                    half_weights: self.half_weights,
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
                    addend: job.addend(),
                    of_one_sign: job.is_of_one_sign(),
                    epilogue: job.epilogue,
                    outputs: job.outputs,
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;

    use super::*;
    use crate::composite::{Assignment, Composite, PRESETS};
    use crate::gpu::steps::Selection;
    use crate::gpu::tuned::Table;
    use crate::kernels::DeviceKind;
    use crate::layers::{Window, WindowAxis};
    use crate::network::{NetworkBuilder, ValueId};
    use crate::parameters::Parameters;
    use crate::plan::{Ask, Plan, Target};
    use crate::rules::Bounds;
    use crate::tensor::Tensor;

    fn window(kernel: usize, stride: usize) -> Window {
        let padding = kernel / 2;
        let axis = WindowAxis { stride, before: padding, after: padding, ..WindowAxis::new(kernel) };
        Window::new(vec![axis; 2]).unwrap()
    }

    fn conv(builder: &mut NetworkBuilder, x: ValueId, outputs: usize, kernel: usize, stride: usize) -> ValueId {
        let inputs = builder.shape(x).dims()[0];
        let weight = Tensor::from_fn([outputs, inputs, kernel, kernel], |_| 0.0);
        let bias = Tensor::from_fn([outputs], |_| 0.0);
        builder.conv("conv", x, weight, Some(bias), window(kernel, stride), 1).unwrap()
    }

    /// ResNet-50 (He et al. 2016) after its batch norms are folded.
    fn resnet() -> Network {
        let mut builder = Network::builder();
        let x = builder.input("x", [3, 224, 224]);
        let stem = conv(&mut builder, x, 64, 7, 2);
        let stem = builder.relu("relu", stem).unwrap();
        let mut value = builder.max_pool("max", stem, window(3, 2)).unwrap();
        for (stage, blocks) in [3, 4, 6, 3].into_iter().enumerate() {
            let width = 64 << stage;
            for block in 0..blocks {
                let stride = if block == 0 && stage > 0 { 2 } else { 1 };
                let reduced = conv(&mut builder, value, width, 1, 1);
                let reduced = builder.relu("relu", reduced).unwrap();
                let middle = conv(&mut builder, reduced, width, 3, stride);
                let middle = builder.relu("relu", middle).unwrap();
                let wide = conv(&mut builder, middle, 4 * width, 1, 1);
                let shortcut = if block == 0 { conv(&mut builder, value, 4 * width, 1, stride) } else { value };
                let sum = builder.sum("sum", &[wide, shortcut]).unwrap();
                value = builder.relu("relu", sum).unwrap();
            }
        }
        let average = builder.global_average_pool("average", value).unwrap();
        let flat = builder.reshape("flat", average, [2048]).unwrap();
        let weight = Tensor::from_fn([1000, 2048], |_| 0.0);
        let logits = builder.dense("dense", flat, weight, None).unwrap();
        builder.build(logits).unwrap()
    }

    /// Presets with what they need beside.
    fn presets() -> impl Iterator<Item = (&'static str, Composite)> {
        let bounds = Bounds { low: Arc::new(Tensor::scalar(-3.0)), high: Arc::new(Tensor::scalar(3.0)) };
        PRESETS
            .into_iter()
            .map(move |preset| (preset, Composite::preset(preset).unwrap().with_input_bounds(bounds.clone())))
    }

    fn plan_of(network: &Network, rules: &Assignment, samples: usize) -> Plan {
        let target = Target { samples, compiles: true, ..Target::UNLIMITED };
        plan::build(network, rules, &Ask::default(), &target).unwrap()
    }

    /// The texts that a device with workgroup memory compiles for full chunks of `setting` samples, and for chunks of any size up to it.
    fn texts(network: &Network, composite: &Composite, setting: usize) -> [usize; 2] {
        let rules = composite.assign(network).unwrap();
        let plan = plan_of(network, &rules, setting);
        let parameters = Parameters::new(network, &rules, &plan).unwrap();
        let table = Table::default();
        let selection = Selection::Best(&table);
        let translator = Translator {
            network,
            plan: &plan,
            parameters: &parameters,
            setting,
            kind: DeviceKind::ManyRegisters,
            half_weights: false,
            selection,
        };
        let (mut of_full, mut of_all) = (HashSet::new(), HashSet::new());
        for step in &plan.steps {
            let columns = plan.buffers[step.target.index()].width / translator.side_by_side(step);
            let bound = translator.bind(step, std::slice::from_ref(&(0..columns))).unwrap();
            for choice in bound.parts {
                let full = choice.chooser.choose(setting);
                for (shape, dispatch) in choice.variants {
                    if shape == full {
                        of_full.insert(dispatch.kernel.text.clone());
                    }
                    of_all.insert(dispatch.kernel.text);
                }
            }
        }
        [of_full.len(), of_all.len()]
    }

    #[test]
    fn a_residual_network_takes_few_texts() {
        let network = resnet();
        for (preset, composite) in presets() {
            for setting in [1, 8, 16, 64] {
                let [of_full, of_any] = texts(&network, &composite, setting);
                println!("{preset}, {setting} samples: {of_full} texts, {of_any} for any number up to that");
                assert!(of_full <= 38 && of_any <= 40, "{preset} takes {of_full} and {of_any} texts for {setting}");
            }
        }
    }

    #[test]
    fn a_residual_network_moves_hardly_more_bytes_than_the_least() {
        let network = resnet();
        for (preset, composite) in presets() {
            let plan = plan_of(&network, &composite.assign(&network).unwrap(), 8);
            let cost = plan.cost(&network, 8);
            let times = cost.bytes as f64 / cost.least_bytes as f64;
            println!(
                "{preset}: {times:.2} times the least, {} products and {} other steps",
                cost.products, cost.others
            );
            assert!(times <= 1.3, "{preset} moves {times} times the least");
        }
    }
}
