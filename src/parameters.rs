//! Numbers that a plan's steps read beside data: one a column, computed once a plan, the same for every executor.

mod windows;

use crate::composite::Assignment;
use crate::error::{Error, Result};
use crate::layers::Layer;
use crate::network::{LayerId, Network};
use crate::plan::{Beside, ChannelMask, Layout, Op, Parameter, Plan, Step};
use crate::rules::{BiasPart, Group, InputPart, LinearRule, Rule, WeightPart};
use crate::tensor::{Shape, Tensor};
use windows::Extents;

/// The parameters of a plan, each one period of the rows that it stands beside.
#[derive(Debug)]
pub(crate) struct Parameters {
    /// Those of each layer.
    of_layers: Vec<Vec<Resolved>>,
    masks: Vec<Resolved>,
}

#[derive(Debug)]
struct Resolved {
    parameter: Parameter,
    /// Column c of a row stands beside element c modulo the length of a period.
    columns: Vec<f32>,
    /// How many periods there are: one, or one for each target of a sample.
    periods: usize,
    /// The root mean square over the columns.
    rms: f32,
}

impl Parameters {
    /// Computes every parameter that a plan's steps read.
    ///
    /// # Errors
    /// If a parameter does not fit its layer.
    pub(crate) fn new(network: &Network, rules: &Assignment, plan: &Plan) -> Result<Self> {
        let of_layers = network.layers().iter().map(|_| Vec::new()).collect();
        let mut parameters = Parameters { of_layers, masks: Vec::new() };
        for parameter in plan.steps.iter().flat_map(Step::ops).filter_map(Op::parameter) {
            if parameters.like(&parameter).iter().all(|known| known.parameter != parameter) {
                let columns = resolve(network, rules, plan, &parameter)?;
                let periods = match parameter {
                    Parameter::Mask(mask) => plan.masks[mask].channels.len(),
                    _ => 1,
                };
                let squares: f64 = columns.iter().map(|&p| f64::from(p) * f64::from(p)).sum();
                let rms = (squares / columns.len() as f64).sqrt() as f32;
                let like = match parameter.layer() {
                    Some(layer) => &mut parameters.of_layers[layer.index()],
                    None => &mut parameters.masks,
                };
                like.push(Resolved { parameter, columns, periods, rms });
            }
        }
        Ok(parameters)
    }

    /// The same numbers in periods of at least so many, each repeated, for executors that read them one after another.
    pub(crate) fn repeated(mut self, least: usize) -> Self {
        for Resolved { columns, periods, .. } in self.of_layers.iter_mut().flatten().chain(&mut self.masks) {
            let length = (columns.len() / *periods).max(1);
            *columns = columns.chunks(length).flat_map(|period| period.repeat(least.div_ceil(length))).collect();
        }
        self
    }

    /// The parameters of the same layer, or all masks.
    fn like(&self, parameter: &Parameter) -> &[Resolved] {
        parameter.layer().map_or(&self.masks, |layer| &self.of_layers[layer.index()])
    }

    fn find(&self, parameter: &Parameter) -> &Resolved {
        let found = self.like(parameter).iter().find(|known| known.parameter == *parameter);
        found.expect("every parameter of the plan was resolved")
    }

    /// What stands beside column c of a row is element c modulo the length, which divides the row's width unless it was
    /// [`repeated`](Self::repeated): one number for each channel, where rows hold many positions of each. `target` is the row's among those
    /// of its sample.
    pub(crate) fn period(&self, parameter: &Parameter, target: usize) -> &[f32] {
        let Resolved { columns, periods, .. } = self.find(parameter);
        let length = columns.len() / periods;
        &columns[target % periods * length..][..length]
    }

    /// All periods of a parameter, one after another, and how many there are: one, or one for each target.
    #[cfg(feature = "gpu")]
    pub(crate) fn periods(&self, parameter: &Parameter) -> (&[f32], usize) {
        let Resolved { columns, periods, .. } = self.find(parameter);
        (columns, *periods)
    }

    /// The root mean square over a parameter's columns.
    pub(crate) fn rms(&self, parameter: &Parameter) -> f32 {
        self.find(parameter).rms
    }
}

fn resolve(network: &Network, rules: &Assignment, plan: &Plan, parameter: &Parameter) -> Result<Vec<f32>> {
    let (layer, columns) = match *parameter {
        Parameter::Bias { layer, part } => (layer, bias(network, layer, part)?.narrow()),
        Parameter::Scale { layer, part } => {
            let Layer::Affine(affine) = &network.layer(layer).layer else {
                return Err(Error::internal("only an affine layer has a scale"));
            };
            let scale = spread(network, layer, affine.scale())?;
            (layer, Runs::of_each(scale.data().iter().map(|&s| part.of(s)).collect()))
        }
        Parameter::Low(layer) => return bound_as_read(network, rules, plan, layer, InputPart::Low),
        Parameter::High(layer) => return bound_as_read(network, rules, plan, layer, InputPart::High),
        Parameter::Mask(mask) => return Ok(masks(network, plan, &plan.masks[mask])),
        Parameter::Evenly(layer) => (layer, Runs::of_each(evenly(network, layer)?)),
        Parameter::Constant { layer, group, beside } => {
            (layer, constant(network, rules, layer, group, beside)?.narrow())
        }
    };
    let output = network.layer(layer).output;
    Ok(laid_out(columns, network.shape(output), plan.layouts[output.index()]))
}

/// Numbers in ONNX order, each of as many elements that follow one another: of one, or of all positions of a channel, which would be millions for
/// an image.
struct Runs<T> {
    numbers: Vec<T>,
    each: usize,
}

impl<T: Copy> Runs<T> {
    fn of_each(numbers: Vec<T>) -> Self {
        Runs { numbers, each: 1 }
    }

    /// A number for each element.
    fn written_out(self) -> Vec<T> {
        if self.each == 1 {
            return self.numbers;
        }
        self.numbers.into_iter().flat_map(|number| std::iter::repeat_n(number, self.each)).collect()
    }
}

impl Runs<f64> {
    fn narrow(self) -> Runs<f32> {
        Runs { numbers: self.numbers.into_iter().map(|number| number as f32).collect(), each: self.each }
    }
}

/// Columns as they lie, cut to their period.
fn laid_out(columns: Runs<f32>, shape: &Shape, layout: Layout) -> Vec<f32> {
    let channels = shape.dims().first().copied().unwrap_or(1);
    if layout == Layout::ChannelsLast && columns.numbers.len() == channels {
        return columns.numbers;
    }
    let columns = columns.written_out();
    let mut columns = match layout {
        Layout::Natural => columns,
        Layout::ChannelsLast => {
            let positions = columns.len() / channels;
            (0..columns.len()).map(|at| columns[at % channels * positions + at / channels]).collect()
        }
    };
    let last = layout.physical(shape).last().copied().unwrap_or(1);
    let (first, rest) = columns.split_at(last);
    if rest.chunks_exact(last).all(|row| row == first) {
        columns.truncate(last);
    }
    columns
}

/// 1 at the channels that pass and 0 elsewhere, one period for each list of channels.
fn masks(network: &Network, plan: &Plan, mask: &ChannelMask) -> Vec<f32> {
    let (shape, layout) = (network.shape(mask.value), plan.layouts[mask.value.index()]);
    let positions = shape.count() / shape.dims().first().copied().unwrap_or(1);
    let whole: Vec<Vec<f32>> = (mask.channels.iter())
        .map(|channels| {
            let passes = |at: usize| f32::from(u8::from(channels.contains(&(at / positions))));
            laid_out(Runs::of_each((0..shape.count()).map(passes).collect()), shape, layout)
        })
        .collect();
    // One list may repeat sooner than another; all take the longest period.
    let length = whole.iter().map(Vec::len).max().unwrap_or(0);
    whole.iter().flat_map(|period| period.iter().copied().cycle().take(length)).collect()
}

/// A parameter of a layer broadcast over its first input.
fn spread(network: &Network, layer: LayerId, tensor: &Tensor) -> Result<Tensor> {
    tensor.broadcast_to(network.shape(network.layer(layer).inputs[0]))
}

/// b̃ of a layer, of its output.
fn bias(network: &Network, layer: LayerId, part: BiasPart) -> Result<Runs<f64>> {
    let node = network.layer(layer);
    let output = network.shape(node.output);
    let (width, channels) = (output.count(), output.dims().first().copied().unwrap_or(1));
    let of_channels = |numbers| Runs { numbers, each: width / channels };
    let of = |b: f32| f64::from(part.of(b));
    Ok(match &node.layer {
        Layer::Dense(dense) => match dense.bias() {
            Some(bias) => Runs::of_each(bias.data().iter().map(|&b| of(b)).cycle().take(width).collect()),
            None => of_channels(vec![0.0; channels]),
        },
        Layer::Conv(conv) => of_channels(match conv.bias() {
            Some(bias) => bias.data().iter().map(|&b| of(b)).collect(),
            None => vec![0.0; channels],
        }),
        Layer::Affine(affine) => {
            Runs::of_each(spread(network, layer, affine.offset())?.data().iter().map(|&b| of(b)).collect())
        }
        Layer::AveragePool(_)
        | Layer::Sum(_)
        | Layer::Activation(_)
        | Layer::Reshape(_)
        | Layer::Transpose(_)
        | Layer::Concat(_)
        | Layer::MaxPool(_)
        | Layer::AxisMap(_)
        | Layer::Multiply(_)
        | Layer::Lookup(_) => of_channels(vec![0.0; channels]),
    })
}

/// 1 / N for each output of a layer with windows, in ONNX order.
fn evenly(network: &Network, layer: LayerId) -> Result<Vec<f32>> {
    let node = network.layer(layer);
    match &node.layer {
        Layer::Conv(conv) => Ok(windows::evenly_convolved(conv, extents(network, layer))),
        Layer::AveragePool(pool) => {
            let channels = network.shape(node.output).dims()[0];
            Ok(windows::evenly_pooled(pool, channels, extents(network, layer)))
        }
        _ => Err(Error::internal("only a layer with windows counts its inputs")),
    }
}

/// The spatial extents of a layer with windows.
fn extents(network: &Network, layer: LayerId) -> Extents<'_> {
    let node = network.layer(layer);
    Extents { input: &network.shape(node.inputs[0]).dims()[1..], output: &network.shape(node.output).dims()[1..] }
}

fn linear_rule(rules: &Assignment, layer: LayerId) -> Result<&LinearRule> {
    match rules.rule(layer) {
        Some(Rule::Linear(rule)) => Ok(rule),
        _ => Err(Error::internal("only a linear rule has a denominator")),
    }
}

fn bound(network: &Network, rules: &Assignment, layer: LayerId, part: InputPart) -> Result<Tensor> {
    let bounds = linear_rule(rules, layer)?.bounds.as_ref().ok_or_else(|| Error::internal("the rule has no bounds"))?;
    spread(network, layer, if part == InputPart::Low { &bounds.low } else { &bounds.high })
}

/// A bound beside the layer's input, as the layer reads it.
fn bound_as_read(
    network: &Network,
    rules: &Assignment,
    plan: &Plan,
    layer: LayerId,
    part: InputPart,
) -> Result<Vec<f32>> {
    let bound = bound(network, rules, layer, part)?;
    let shape = bound.shape().clone();
    Ok(laid_out(Runs::of_each(bound.into_data()), &shape, plan.layout_read(network.layer(layer))))
}

/// Σ σ W̃ x̃ over the terms that hold no x, with b̃, less what the forward pass's z, or half of it, holds of b already.
fn constant(network: &Network, rules: &Assignment, layer: LayerId, group: usize, beside: Beside) -> Result<Runs<f64>> {
    let group: &Group = &linear_rule(rules, layer)?.groups[group];
    let mut d = bias(network, layer, group.bias)?;
    let held = match beside {
        Beside::Products => 0.0,
        Beside::ForwardOutput => 1.0,
        Beside::HalfOutput => 0.5,
    };
    if held != 0.0 {
        let own = bias(network, layer, BiasPart::WHOLE)?;
        d.numbers.iter_mut().zip(own.numbers).for_each(|(d, b)| *d -= held * b);
    }
    for term in &group.terms {
        let x = match term.input {
            InputPart::Whole | InputPart::Positive | InputPart::Negative | InputPart::Magnitude => continue,
            InputPart::One => vec![1.0; network.shape(network.layer(layer).inputs[0]).count()],
            InputPart::Low | InputPart::High => bound(network, rules, layer, term.input)?.into_data(),
        };
        d = Runs::of_each(d.written_out());
        add_product(network, layer, &x, term.weight, f64::from(term.sign.factor()), &mut d.numbers)?;
    }
    Ok(d)
}

fn add_product(network: &Network, layer: LayerId, x: &[f32], part: WeightPart, sign: f64, d: &mut [f64]) -> Result<()> {
    match &network.layer(layer).layer {
        Layer::Dense(dense) => {
            for (x, d) in x.chunks_exact(dense.inputs()).zip(d.chunks_exact_mut(dense.outputs())) {
                for (d, weights) in d.iter_mut().zip(dense.weight().data().chunks_exact(dense.inputs())) {
                    let products = weights.iter().zip(x).map(|(&w, &x)| f64::from(part.of(w)) * f64::from(x));
                    *d += sign * products.sum::<f64>();
                }
            }
        }
        Layer::Sum(sum) => {
            let weight: f64 = sum.signs().iter().map(|sign| f64::from(part.of(sign.factor()))).sum();
            d.iter_mut().zip(x).for_each(|(d, &x)| *d += sign * weight * f64::from(x));
        }
        Layer::Affine(affine) => {
            let scale = spread(network, layer, affine.scale())?;
            let products = scale.data().iter().zip(x).map(|(&s, &x)| f64::from(part.of(s)) * f64::from(x));
            d.iter_mut().zip(products).for_each(|(d, product)| *d += sign * product);
        }
        Layer::Conv(conv) => windows::add_convolved(conv, x, part, sign, extents(network, layer), d),
        Layer::AveragePool(pool) => windows::add_pooled(pool, x, part, sign, extents(network, layer), d)?,
        Layer::Activation(_)
        | Layer::Reshape(_)
        | Layer::Transpose(_)
        | Layer::Concat(_)
        | Layer::MaxPool(_)
        | Layer::AxisMap(_)
        | Layer::Multiply(_)
        | Layer::Lookup(_) => {
            return Err(Error::internal("only a linear layer has a denominator"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_periods_hold_the_same_numbers_for_every_target() {
        let mask = |length: usize, periods: usize| {
            let columns: Vec<f32> = (0..length * periods).map(|column| column as f32).collect();
            let resolved = Resolved { parameter: Parameter::Mask(0), columns, periods, rms: 2.0 };
            Parameters { of_layers: Vec::new(), masks: vec![resolved] }
        };
        for (length, periods) in [(1, 1), (24, 3), (512, 2), (700, 1)] {
            let (plain, repeated) = (mask(length, periods), mask(length, periods).repeated(512));
            for target in 0..2 * periods {
                let [of_plain, of_repeated] =
                    [&plain, &repeated].map(|parameters| parameters.period(&Parameter::Mask(0), target));
                assert!(of_repeated.len() >= 512 && of_repeated.len().is_multiple_of(length));
                let again = of_plain.iter().cycle().take(of_repeated.len());
                assert!(of_repeated.iter().eq(again), "{length}, {periods}, {target}");
            }
            assert_eq!(repeated.rms(&Parameter::Mask(0)), 2.0);
        }
    }
}
