//! The bounds of a model's input, where the layer with the box rule reads it: moved as its elements move, and through
//! the factors and offsets on their way.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::layers::{Affine, AxisMap, Layer};
use crate::network::{Network, ValueId};
use crate::rules::Bounds;
use crate::tensor::{Shape, Tensor};

/// The bounds of `value` for model inputs within `given`.
///
/// # Errors
/// If they do not fit an input, or a layer on the way changes elements in another way than an affine one.
pub(super) fn bounds_at(network: &Network, value: ValueId, given: &Bounds) -> Result<Bounds> {
    let [low, high] = ends_at(network, value, given)?;
    Ok(Bounds { low: Arc::new(low), high: Arc::new(high) })
}

fn ends_at(network: &Network, value: ValueId, given: &Bounds) -> Result<[Tensor; 2]> {
    let shape = network.shape(value);
    let Some(layer) = network.producer(value) else {
        return of_input(given, shape).map_err(|error| error.context(format!("input `{}`", network.value(value).name)));
    };
    let node = network.layer(layer);
    let before = || ends_at(network, node.inputs[0], given);
    match &node.layer {
        Layer::Reshape(_) => {
            let [low, high] = before()?;
            Ok([low.reshape(shape.clone())?, high.reshape(shape.clone())?])
        }
        Layer::Transpose(transpose) => Ok(before()?.map(|end| end.transpose(transpose.order()))),
        Layer::Affine(affine) => {
            let [low, high] = before()?;
            let (one, other) = (scaled(affine, low)?, scaled(affine, high)?);
            let pick = |choose: fn(f32, f32) -> f32| {
                Tensor::from_fn(shape.clone(), |i| choose(one.data()[i], other.data()[i]))
            };
            Ok([pick(f32::min), pick(f32::max)])
        }
        Layer::Concat(concat) => {
            let before: Vec<[Tensor; 2]> =
                node.inputs.iter().map(|&input| ends_at(network, input, given)).collect::<Result<_>>()?;
            let join = |end: usize| {
                let parts: Vec<&Tensor> = before.iter().map(|ends| &ends[end]).collect();
                joined(&parts, concat.axis(), shape)
            };
            Ok([join(0)?, join(1)?])
        }
        Layer::AxisMap(map) if map.is_picking() => Ok(before()?.map(|end| picked(map, &end, shape))),
        Layer::Dense(_)
        | Layer::Conv(_)
        | Layer::AveragePool(_)
        | Layer::Sum(_)
        | Layer::Activation(_)
        | Layer::MaxPool(_)
        | Layer::AxisMap(_)
        | Layer::Multiply(_)
        | Layer::Lookup(_) => {
            let message = format!("bounds of the model's input are not known behind a {} layer", node.layer.kind());
            Err(Error::argument(message)
                .at(&node.name)
                .help("give the box rule bounds of its own, or put it on a layer that reads the input"))
        }
    }
}

fn of_input(given: &Bounds, shape: &Shape) -> Result<[Tensor; 2]> {
    let low = spread(&given.low, shape).map_err(|error| error.context("lower bound"))?;
    let high = spread(&given.high, shape).map_err(|error| error.context("upper bound"))?;
    match low.data().iter().zip(high.data()).find(|(low, high)| low > high) {
        None => Ok([low, high]),
        Some((low, high)) => Err(Error::argument(format!("the lower bound {low} is above the upper bound {high}"))
            .help("give the lowest and highest values that inputs can take")),
    }
}

/// A bound over all elements. A list of numbers is one a channel: along the first axis if that has as many.
fn spread(bound: &Tensor, shape: &Shape) -> Result<Tensor> {
    match (bound.shape().dims(), shape.dims()) {
        (&[count], &[first, _, ..]) if count > 1 && count == first => {
            let mut dims = vec![1; shape.rank()];
            dims[0] = count;
            bound.clone().reshape(dims)?.broadcast_to(shape)
        }
        _ => bound.broadcast_to(shape),
    }
    .map_err(|error| error.help("give one number, one a channel, or an array of the input's shape without samples"))
}

/// A bound moved along an axis; zero where the map pads.
fn picked(map: &AxisMap, end: &Tensor, shape: &Shape) -> Tensor {
    let after: usize = shape.dims()[map.axis() + 1..].iter().product();
    let outputs = map.sources().len();
    Tensor::from_fn(shape.clone(), |index| {
        let (before, at, inner) = (index / after / outputs, index / after % outputs, index % after);
        map.sources()[at]
            .first()
            .map_or(0.0, |&(source, _)| end.data()[(before * map.inputs() + source) * after + inner])
    })
}

fn scaled(affine: &Affine, mut end: Tensor) -> Result<Tensor> {
    let (scale, offset) = (affine.scale().broadcast_to(end.shape())?, affine.offset().broadcast_to(end.shape())?);
    for (x, (s, o)) in end.data_mut().iter_mut().zip(scale.data().iter().zip(offset.data())) {
        *x = *x * s + o;
    }
    Ok(end)
}

/// Tensors side by side along an axis.
fn joined(parts: &[&Tensor], axis: usize, shape: &Shape) -> Result<Tensor> {
    let outer: usize = shape.dims()[..axis].iter().product();
    let mut data = Vec::with_capacity(shape.count());
    for strip in 0..outer {
        for part in parts {
            let length = part.count() / outer.max(1);
            data.extend_from_slice(&part.data()[strip * length..][..length]);
        }
    }
    Tensor::new(shape.clone(), data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(low: f32, high: f32) -> Bounds {
        Bounds {
            low: Arc::new(Tensor::scalar(low)),
            high: Arc::new(Tensor::new([1, 2], vec![high, high + 1.0]).unwrap()),
        }
    }

    #[test]
    fn bounds_move_with_elements_and_through_factors() {
        let mut builder = Network::builder();
        let x = builder.input("x", [2, 2]);
        let turned = builder.transpose("turn", x, vec![1, 0]).unwrap();
        let factors = Tensor::new([2, 1], vec![2.0, -1.0]).unwrap();
        let scaled = builder.affine("scale", turned, factors, Tensor::scalar(1.0)).unwrap();
        let joined = builder.concat("join", &[scaled, turned], 1).unwrap();
        let flat = builder.reshape("flat", joined, [8]).unwrap();
        let network = builder.build(flat).unwrap();
        let found = bounds_at(&network, flat, &bounds(-1.0, 3.0)).unwrap();
        assert_eq!(found.low.data(), [-1.0, -1.0, -1.0, -1.0, -3.0, -3.0, -1.0, -1.0]);
        assert_eq!(found.high.data(), [7.0, 7.0, 3.0, 3.0, 2.0, 2.0, 4.0, 4.0]);
        let refused = bounds_at(&network, flat, &bounds(3.5, 3.0)).unwrap_err();
        assert!(refused.message().contains("above the upper bound"), "{refused}");
    }

    #[test]
    fn a_list_is_one_a_channel() {
        let of = |shape: &[usize]| spread(&Tensor::vector(vec![1.0, 2.0]), &Shape::new(shape));
        assert_eq!(of(&[2, 1, 2]).unwrap().data(), [1.0, 1.0, 2.0, 2.0]);
        assert_eq!(of(&[3, 2]).unwrap().data(), [1.0, 2.0, 1.0, 2.0, 1.0, 2.0]);
        assert!(of(&[3, 4]).unwrap_err().advice().unwrap().contains("one a channel"));
    }

    #[test]
    fn bounds_behind_an_activation_are_refused() {
        let mut builder = Network::builder();
        let x = builder.input("x", [2]);
        let active = builder.relu("relu", x).unwrap();
        let network = builder.build(active).unwrap();
        assert_eq!(bounds_at(&network, active, &bounds(0.0, 1.0)).unwrap_err().node(), Some("relu"));
    }
}
