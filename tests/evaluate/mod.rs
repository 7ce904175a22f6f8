//! A network's forward pass in float64 with plain loops, and its link: what import is judged by.

use relprop::layers::{Activation, GeluForm, Layer};
use relprop::network::{Link, Network};
use relprop::tensor::Tensor;

/// The model's outputs, link applied, for `count` samples that lie behind each other in each input.
pub fn batch(network: &Network, count: usize, inputs: &[Vec<f64>]) -> Vec<f64> {
    let sample = |index: usize| -> Vec<f64> {
        let cut = inputs.iter().map(|data| {
            let width = data.len() / count;
            data[index * width..(index + 1) * width].to_vec()
        });
        forward(network, cut.collect())
    };
    (0..count).flat_map(sample).collect()
}

fn forward(network: &Network, inputs: Vec<Vec<f64>>) -> Vec<f64> {
    let mut values: Vec<Vec<f64>> = vec![Vec::new(); network.values().len()];
    for (input, data) in network.inputs().iter().zip(inputs) {
        assert_eq!(data.len(), network.shape(input.value).count(), "input {}", network.value(input.value).name);
        values[input.value.index()] = data;
    }
    for node in network.layers() {
        let x: Vec<&Vec<f64>> = node.inputs.iter().map(|input| &values[input.index()]).collect();
        let dims = network.shape(node.inputs[0]).dims();
        values[node.output.index()] = match &node.layer {
            Layer::Dense(dense) => {
                let (weight, inputs) = (dense.weight().data(), dense.inputs());
                let bias = |o: usize| dense.bias().map_or(0.0, |bias| f64::from(bias.data()[o]));
                let z = |row: &[f64], o: usize| -> f64 {
                    let w = &weight[o * inputs..(o + 1) * inputs];
                    row.iter().zip(w).map(|(x, w)| x * f64::from(*w)).sum::<f64>() + bias(o)
                };
                x[0].chunks(inputs)
                    .flat_map(|row| (0..dense.outputs()).map(|o| z(row, o)).collect::<Vec<_>>())
                    .collect()
            }
            Layer::Sum(sum) => (0..x[0].len())
                .map(|i| x.iter().zip(sum.signs()).map(|(x, sign)| f64::from(sign.factor()) * x[i]).sum())
                .collect(),
            Layer::Affine(affine) => {
                let full = |tensor: &Tensor| tensor.broadcast_to(network.shape(node.inputs[0])).unwrap().into_data();
                let (scale, offset) = (full(affine.scale()), full(affine.offset()));
                x[0].iter().zip(scale).zip(offset).map(|((x, s), o)| x * f64::from(s) + f64::from(o)).collect()
            }
            Layer::Activation(activation) => x[0].iter().map(|&x| activate(activation, x)).collect(),
            Layer::Reshape(_) => x[0].clone(),
            Layer::Transpose(transpose) => {
                Tensor::new(dims.to_vec(), x[0].clone()).unwrap().transpose(transpose.order()).into_data()
            }
            Layer::Concat(concat) => {
                let outer: usize = dims[..concat.axis()].iter().product();
                let part = |block: usize, x: &Vec<f64>| {
                    let width = x.len() / outer;
                    x[block * width..(block + 1) * width].to_vec()
                };
                (0..outer).flat_map(|block| x.iter().flat_map(|x| part(block, x)).collect::<Vec<_>>()).collect()
            }
            Layer::Lookup(lookup) => {
                let entries = lookup.entries() as i64;
                let row = |index: f64| (index as i64).rem_euclid(entries) as usize;
                x[0].iter().flat_map(|&x| lookup.table().row(row(x)).iter().map(|&x| f64::from(x))).collect()
            }
        };
    }
    let output = &values[network.output().index()];
    let width = network.shape(network.output()).dims().last().copied().unwrap_or(1);
    match network.link() {
        None => output.clone(),
        Some(Link::Sigmoid) => output.iter().map(|&x| activate(&Activation::Sigmoid, x)).collect(),
        Some(Link::Softmax) => output.chunks(width).flat_map(softmax).collect(),
        Some(Link::LogSoftmax) => output.chunks(width).flat_map(softmax).map(f64::ln).collect(),
    }
}

/// Softmax of one row.
pub fn softmax(row: &[f64]) -> Vec<f64> {
    let max = row.iter().copied().fold(f64::MIN, f64::max);
    let sum: f64 = row.iter().map(|x| (x - max).exp()).sum();
    row.iter().map(|x| (x - max).exp() / sum).collect()
}

fn activate(activation: &Activation, x: f64) -> f64 {
    match activation {
        Activation::Relu => x.max(0.0),
        Activation::LeakyRelu { slope } => {
            if x >= 0.0 {
                x
            } else {
                f64::from(*slope) * x
            }
        }
        Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Activation::Tanh => x.tanh(),
        Activation::Gelu(GeluForm::Erf) => 0.5 * x * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2)),
        Activation::Gelu(GeluForm::Tanh) => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        }
        Activation::Erf => libm::erf(x),
        Activation::Softplus { beta } => (f64::from(*beta) * x).exp().ln_1p() / f64::from(*beta),
    }
}
