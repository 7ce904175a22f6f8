//! A network's outputs by the reference, with its link: what import is judged by.

use relprop::network::{Link, Network};
use relprop::reference;

/// The model's outputs, link applied, for `count` samples that lie behind each other in each input.
pub fn batch(network: &Network, count: usize, inputs: &[Vec<f64>]) -> Vec<f64> {
    let sample = |index: usize| -> Vec<f64> {
        let cut = |data: &'_ Vec<f64>| {
            let width = data.len() / count;
            data[index * width..(index + 1) * width].to_vec()
        };
        let cut: Vec<Vec<f64>> = inputs.iter().map(cut).collect();
        let cut: Vec<&[f64]> = cut.iter().map(Vec::as_slice).collect();
        let mut values = reference::forward(network, &cut).unwrap();
        linked(network, values.swap_remove(network.output().index()))
    };
    (0..count).flat_map(sample).collect()
}

fn linked(network: &Network, output: Vec<f64>) -> Vec<f64> {
    let width = network.classes();
    match network.link() {
        None => output,
        Some(Link::Sigmoid) => output.iter().map(|&z| 1.0 / (1.0 + (-z).exp())).collect(),
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
