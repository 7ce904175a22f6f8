//! The forward pass of one sample in float64.

use super::pointwise::value;
use crate::error::{Error, ErrorKind, Result};
use crate::layers::{Dense, Layer, Lookup, Sum};
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
        Layer::Dense(layer) => Ok(dense(layer, x)),
        Layer::Sum(layer) => Ok(sum(layer, node, values)),
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
        Layer::Conv(_) | Layer::AveragePool(_) | Layer::MaxPool(_) | Layer::AxisMap(_) | Layer::Multiply(_) => {
            unreachable!("interim")
        }
    }
}

fn dense(layer: &Dense, x: &[f64]) -> Vec<f64> {
    let mut z = Vec::with_capacity(x.len() / layer.inputs() * layer.outputs());
    for row in x.chunks_exact(layer.inputs()) {
        for (i, weights) in layer.weight().data().chunks_exact(layer.inputs()).enumerate() {
            let bias = layer.bias().map_or(0.0, |bias| f64::from(bias.data()[i]));
            z.push(row.iter().zip(weights).map(|(x, &w)| x * f64::from(w)).sum::<f64>() + bias);
        }
    }
    z
}

fn sum(layer: &Sum, node: &LayerNode, values: &[Vec<f64>]) -> Vec<f64> {
    let mut total = vec![0.0; values[node.inputs[0].index()].len()];
    for (sign, input) in layer.signs().iter().zip(&node.inputs) {
        total.iter_mut().zip(&values[input.index()]).for_each(|(sum, x)| *sum += f64::from(sign.factor()) * x);
    }
    total
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
