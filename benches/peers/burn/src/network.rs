//! The ONNX file's network over burn's tensors: what multilayer perceptrons and small convolutional networks have.

use std::sync::Arc;

use burn::backend::wgpu::WgpuDevice;
use burn::tensor::activation::relu;
use burn::tensor::backend::Backend;
use burn::tensor::module::{avg_pool2d, conv2d, linear, max_pool2d};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Tensor, TensorData};
use relprop::layers::sum::Sign;
use relprop::layers::{Activation, Divisor, Layer, Window, WindowAxis};
use relprop::network::LayerNode;

use crate::{Gpu, Result, Traced};

/// A value of the network: `[N, features]` or `[N, channels, height, width]`.
#[derive(Clone)]
pub enum Value<B: Backend> {
    Flat(Tensor<B, 2>),
    Grid(Tensor<B, 4>),
}

/// A layer's work. Weights are plain tensors, so autodiff computes no gradients of them.
#[derive(Clone)]
enum Work<B: Backend> {
    Dense {
        weight: Tensor<B, 2>,
        bias: Tensor<B, 1>,
    },
    Conv {
        weight: Tensor<B, 4>,
        bias: Tensor<B, 1>,
        options: ConvOptions<2>,
    },
    /// x s + b with one s and one b.
    Affine {
        scale: f32,
        offset: f32,
    },
    Relu,
    MaxPool(Pool),
    AveragePool {
        pool: Pool,
        counts_padding: bool,
    },
    Add,
    Flatten,
}

#[derive(Clone)]
struct Pool {
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    dilation: [usize; 2],
}

/// Work with where it reads and writes, as places in a list of values.
#[derive(Clone)]
struct Step<B: Backend> {
    work: Work<B>,
    inputs: Vec<usize>,
    output: usize,
}

#[derive(Clone)]
pub struct Steps<B: Backend> {
    steps: Vec<Step<B>>,
    values: usize,
    input: usize,
    output: usize,
}

/// A window of two axes as burn takes it: padded alike on both sides.
fn pool(window: &Window) -> Result<Pool> {
    let [rows, columns] = window.axes() else {
        return Err("a window without two axes is not part of this work".into());
    };
    let even = |axis: &&WindowAxis| axis.before == axis.after && axis.overhang == 0;
    if ![rows, columns].iter().all(even) {
        return Err("a window padded unevenly is not part of this work".into());
    }
    let both = |of: fn(&WindowAxis) -> usize| [of(rows), of(columns)];
    Ok(Pool {
        kernel: both(|axis| axis.kernel),
        stride: both(|axis| axis.stride),
        padding: both(|axis| axis.before),
        dilation: both(|axis| axis.dilation),
    })
}

/// The file's layers, canonical as relprop's own: batch norms are folded into convolutions for both.
pub fn load(path: &str, device: &WgpuDevice) -> Result<Steps<Gpu>> {
    let network = relprop::canonical::canonicalize(&relprop::onnx::load(path)?, &Default::default())?;
    let vector = |bias: Option<&Arc<relprop::Tensor>>, length: usize| {
        let bias = bias.map_or(vec![0.0; length], |bias| bias.data().to_vec());
        Tensor::from_data(TensorData::new(bias, [length]), device)
    };
    let work = |layer: &Layer| -> Result<Work<Gpu>> {
        Ok(match layer {
            Layer::Dense(dense) => {
                let shape = [dense.outputs(), dense.inputs()];
                let weight = TensorData::new(dense.weight().data().to_vec(), shape);
                // burn's own dense layers hold [inputs, outputs]; made so through the host, for a plain contiguous buffer.
                let weight = Tensor::<Gpu, 2>::from_data(weight, device).transpose().into_data();
                Work::Dense { weight: Tensor::from_data(weight, device), bias: vector(dense.bias(), dense.outputs()) }
            }
            Layer::Conv(conv) if !conv.is_transposed() => {
                let Pool { stride, padding, dilation, .. } = pool(conv.window())?;
                let weight = TensorData::new(conv.weight().data().to_vec(), conv.weight().shape().dims().to_vec());
                Work::Conv {
                    weight: Tensor::from_data(weight, device),
                    bias: vector(conv.bias(), conv.outputs()),
                    options: ConvOptions::new(stride, padding, dilation, conv.groups()),
                }
            }
            Layer::Affine(affine) => match (affine.scale().data(), affine.offset().data()) {
                (&[scale], &[offset]) => Work::Affine { scale, offset },
                _ => return Err("an affine layer with more than one factor is not part of this work".into()),
            },
            Layer::Activation(Activation::Relu) => Work::Relu,
            Layer::MaxPool(layer) => Work::MaxPool(pool(layer.window())?),
            Layer::AveragePool(layer) if layer.divisor() != Divisor::One => Work::AveragePool {
                pool: pool(layer.window())?,
                counts_padding: layer.divisor() == Divisor::InsidePadded,
            },
            Layer::Sum(sum) if sum.signs().iter().all(|&sign| sign == Sign::Plus) => Work::Add,
            Layer::Reshape(_) => Work::Flatten,
            other => return Err(format!("{other:?} is not part of this work").into()),
        })
    };
    let step = |node: &LayerNode| -> Result<Step<Gpu>> {
        let inputs = node.inputs.iter().map(|value| value.index()).collect();
        Ok(Step { work: work(&node.layer)?, inputs, output: node.output.index() })
    };
    let [input] = network.inputs() else {
        return Err("a network with several inputs is not part of this work".into());
    };
    Ok(Steps {
        steps: network.layers().iter().map(step).collect::<Result<_>>()?,
        values: network.values().len(),
        input: input.value.index(),
        output: network.output().index(),
    })
}

/// The same tensors, for a backend that records what it computes.
pub fn traced(plain: &Steps<Gpu>) -> Steps<Traced> {
    let trace = |work: &Work<Gpu>| match work.clone() {
        Work::Dense { weight, bias } => {
            Work::Dense { weight: Tensor::from_inner(weight), bias: Tensor::from_inner(bias) }
        }
        Work::Conv { weight, bias, options } => {
            Work::Conv { weight: Tensor::from_inner(weight), bias: Tensor::from_inner(bias), options }
        }
        Work::Affine { scale, offset } => Work::Affine { scale, offset },
        Work::Relu => Work::Relu,
        Work::MaxPool(pool) => Work::MaxPool(pool),
        Work::AveragePool { pool, counts_padding } => Work::AveragePool { pool, counts_padding },
        Work::Add => Work::Add,
        Work::Flatten => Work::Flatten,
    };
    let step = |step: &Step<Gpu>| Step { work: trace(&step.work), inputs: step.inputs.clone(), output: step.output };
    let Steps { values, input, output, .. } = *plain;
    Steps { steps: plain.steps.iter().map(step).collect(), values, input, output }
}

impl<B: Backend> Work<B> {
    fn run(&self, inputs: Vec<Value<B>>) -> Value<B> {
        use Value::{Flat, Grid};
        match (self, inputs.as_slice()) {
            (Work::Dense { weight, bias }, [Flat(x)]) => Flat(linear(x.clone(), weight.clone(), Some(bias.clone()))),
            (Work::Conv { weight, bias, options }, [Grid(x)]) => {
                Grid(conv2d(x.clone(), weight.clone(), Some(bias.clone()), options.clone()))
            }
            (Work::Affine { scale, offset }, [Flat(x)]) => Flat(x.clone() * *scale + *offset),
            (Work::Affine { scale, offset }, [Grid(x)]) => Grid(x.clone() * *scale + *offset),
            (Work::Relu, [Flat(x)]) => Flat(relu(x.clone())),
            (Work::Relu, [Grid(x)]) => Grid(relu(x.clone())),
            (Work::MaxPool(pool), [Grid(x)]) => {
                Grid(max_pool2d(x.clone(), pool.kernel, pool.stride, pool.padding, pool.dilation, false))
            }
            (Work::AveragePool { pool, counts_padding }, [Grid(x)]) => {
                Grid(avg_pool2d(x.clone(), pool.kernel, pool.stride, pool.padding, *counts_padding, false))
            }
            (Work::Add, [Flat(a), Flat(b)]) => Flat(a.clone() + b.clone()),
            (Work::Add, [Grid(a), Grid(b)]) => Grid(a.clone() + b.clone()),
            (Work::Flatten, [Grid(x)]) => Flat(x.clone().flatten(1, 3)),
            (Work::Flatten, [Flat(x)]) => Flat(x.clone()),
            _ => unreachable!("the network's shapes were checked when it was read"),
        }
    }
}

impl<B: Backend> Steps<B> {
    pub fn logits(&self, x: Value<B>) -> Tensor<B, 2> {
        let mut values = vec![None; self.values];
        values[self.input] = Some(x);
        for step in &self.steps {
            let inputs = step.inputs.iter().map(|&input| values[input].clone().expect("layers are in order"));
            values[step.output] = Some(step.work.run(inputs.collect()));
        }
        match values[self.output].take() {
            Some(Value::Flat(logits)) => logits,
            _ => unreachable!("a classifier's output has one axis beside the batch"),
        }
    }
}

/// Samples, uploaded, as the value that their shape says.
pub fn value<B: Backend>(x: TensorData, device: &B::Device) -> Value<B> {
    match x.shape.len() {
        2 => Value::Flat(Tensor::from_data(x, device)),
        _ => Value::Grid(Tensor::from_data(x, device)),
    }
}
