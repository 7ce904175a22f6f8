//! The forward pass of one sample in float64.

use super::connections::{biases, each_connection};
use super::pointwise::value;
use super::window::winners;
use crate::error::{Error, ErrorKind, Result};
use crate::layers::{Layer, Lookup};
use crate::network::{LayerNode, Network};
use crate::tensor::Tensor;

/// Every value of one sample, in the order of [`Network::values`].
///
/// # Errors
/// [`ErrorKind::Shape`] if an input has the wrong number of elements, [`ErrorKind::Data`] if an integer input points
/// outside its table.
pub fn forward(network: &Network, inputs: &[&[f64]]) -> Result<Vec<Vec<f64>>> {
    if inputs.len() != network.inputs().len() {
        return Err(Error::shape(format!("the network has {} inputs, not {}", network.inputs().len(), inputs.len())));
    }
    let mut values: Vec<Vec<f64>> = vec![Vec::new(); network.values().len()];
    for (input, data) in network.inputs().iter().zip(inputs) {
        let known = network.value(input.value);
        if data.len() != known.shape.count() {
            return Err(Error::shape(format!(
                "input `{}` has {} elements but its shape is {}",
                known.name,
                data.len(),
                known.shape
            )));
        }
        values[input.value.index()] = data.to_vec();
    }
    for node in network.layers() {
        let output = apply(network, node, &values).map_err(|error| error.at(&node.name))?;
        values[node.output.index()] = output;
    }
    Ok(values)
}

fn apply(network: &Network, node: &LayerNode, values: &[Vec<f64>]) -> Result<Vec<f64>> {
    let x = &values[node.inputs[0].index()];
    let shape = network.shape(node.inputs[0]);
    match &node.layer {
        Layer::Dense(_) | Layer::Conv(_) | Layer::AveragePool(_) | Layer::Sum(_) | Layer::AxisMap(_) => {
            let mut z = biases(network, node);
            let inputs: Vec<&[f64]> = node.inputs.iter().map(|input| values[input.index()].as_slice()).collect();
            each_connection(network, node, |i, slot, j, w| z[i] += w * inputs[slot][j]);
            Ok(z)
        }
        Layer::Affine(affine) => {
            let (s, o) = (affine.scale().broadcast_to(shape)?, affine.offset().broadcast_to(shape)?);
            Ok(x.iter().zip(s.data()).zip(o.data()).map(|((x, &s), &o)| x * f64::from(s) + f64::from(o)).collect())
        }
        Layer::Activation(activation) => Ok(x.iter().map(|&x| value(activation, x)).collect()),
        Layer::Reshape(_) => Ok(x.clone()),
        Layer::Transpose(transpose) => {
            Ok(Tensor::new(shape.clone(), x.clone())?.transpose(transpose.order()).into_data())
        }
        Layer::Concat(concat) => {
            let parts: Vec<&[f64]> = node.inputs.iter().map(|input| values[input.index()].as_slice()).collect();
            let shapes = node.inputs.iter().map(|&input| network.shape(input));
            let widths: Vec<usize> = shapes.map(|shape| shape.dims()[concat.axis()..].iter().product()).collect();
            let rows = parts[0].len() / widths[0];
            let row = |row: usize| parts.iter().zip(&widths).flat_map(move |(part, w)| &part[row * w..(row + 1) * w]);
            Ok((0..rows).flat_map(row).copied().collect())
        }
        Layer::Lookup(layer) => lookup(layer, x),
        Layer::MaxPool(pool) => {
            let winners = winners(pool, shape, network.shape(node.output), x);
            Ok(winners.into_iter().map(|winner| winner.map_or(f64::NEG_INFINITY, |winner| x[winner])).collect())
        }
        Layer::Multiply(_) => Ok(x.iter().zip(&values[node.inputs[1].index()]).map(|(a, b)| a * b).collect()),
    }
}

fn lookup(layer: &Lookup, x: &[f64]) -> Result<Vec<f64>> {
    let entries = layer.entries() as f64;
    let mut out = Vec::new();
    for (position, &index) in x.iter().enumerate() {
        if !(index >= -entries && index < entries && index.fract() == 0.0) {
            return Err(Error::new(
                ErrorKind::Data,
                format!("index {index} at position {position} is outside a table of {entries} entries"),
            ));
        }
        let entry = if index < 0.0 { index + entries } else { index } as usize;
        out.extend(layer.table().row(entry).iter().copied().map(f64::from));
    }
    Ok(out)
}
