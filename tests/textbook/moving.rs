//! Max pools and maps along an axis: relevance goes back the way the value came.

use relprop::Tensor;
use relprop::layers::{AxisMap, AxisMapKind, Layer, MaxPool, Window, WindowAxis};
use relprop::network::Network;
use relprop::reference::Explanation;
use relprop::rules::LinearRule;

use crate::linear_map::LinearMap;
use crate::numbers::Numbers;
use crate::{assert_close, at_inputs, everywhere, explained};

fn network(layer: Layer, shape: &[usize]) -> Network {
    let mut builder = Network::builder();
    let x = builder.input("x", shape.to_vec());
    let y = builder.layer("layer", layer, vec![x]).unwrap();
    builder.build(y).unwrap()
}

fn window(kernel: usize, stride: usize, before: usize, after: usize) -> WindowAxis {
    WindowAxis { kernel, stride, dilation: 1, before, after, overhang: 0 }
}

/// The output and the explanation of a max pool.
fn pooled(axes: Vec<WindowAxis>, shape: &[usize], x: &[f64], start: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let network = network(Layer::MaxPool(MaxPool::new(Window::new(axes).unwrap())), shape);
    let explanation = explained(&network, &everywhere(LinearRule::zero()), &[x.to_vec()], start);
    assert!(explanation.layers[0].is_none(), "a routing layer has no rule");
    (explanation.values[network.output().index()].clone(), at_inputs(&network, &explanation))
}

#[test]
fn a_max_pool_sends_relevance_to_the_winner_and_to_the_first_of_equals() {
    let (y, r) = pooled(vec![window(2, 2, 0, 0)], &[1, 6], &[1.0, 3.0, 2.0, 2.0, -1.0, -4.0], &[5.0, 7.0, 11.0]);
    assert_close(&y, &[3.0, 2.0, -1.0], 0.0, "maxima");
    assert_close(&r, &[0.0, 5.0, 7.0, 0.0, 11.0, 0.0], 0.0, "the first of equals");

    // Windows that share an element add up in it.
    let (y, r) = pooled(vec![window(3, 1, 0, 0)], &[1, 5], &[0.0, 1.0, 4.0, 4.0, 0.0], &[5.0, 7.0, 11.0]);
    assert_close(&y, &[4.0; 3], 0.0, "maxima that overlap");
    assert_close(&r, &[0.0, 0.0, 23.0, 0.0, 0.0], 0.0, "they add");

    // In two dimensions first means row-major: (0, 1) before (1, 0).
    let ties = [0.0, 9.0, 9.0, 9.0];
    let (_, r) = pooled(vec![window(2, 2, 0, 0); 2], &[1, 2, 2], &ties, &[3.0]);
    assert_close(&r, &[0.0, 3.0, 0.0, 0.0], 0.0, "row-major");
    // Channels are apart.
    let (y, r) = pooled(vec![window(2, 1, 0, 0)], &[2, 2], &[1.0, 2.0, 8.0, 4.0], &[5.0, 7.0]);
    assert_close(&y, &[2.0, 8.0], 0.0, "channels");
    assert_close(&r, &[0.0, 5.0, 7.0, 0.0], 0.0, "channels");
}

#[test]
fn padding_never_wins_and_nan_is_not_hidden() {
    let negative = [-5.0, -3.0, -2.0];
    let (y, r) = pooled(vec![window(2, 2, 1, 0)], &[1, 3], &negative, &[5.0, 7.0]);
    assert_close(&y, &[-5.0, -2.0], 0.0, "negative maxima beside padding");
    assert_close(&r, &[5.0, 0.0, 7.0], 0.0, "negative maxima beside padding");

    let dilated = WindowAxis { dilation: 3, ..window(2, 1, 2, 0) };
    let (y, _) = pooled(vec![dilated], &[1, 3], &negative, &[1.0; 2]);
    assert_close(&y, &[-3.0, -2.0], 0.0, "windows of -2, 1 and of -1, 2");

    for x in [[f64::NAN, 1.0], [1.0, f64::NAN], [f64::NEG_INFINITY, f64::NAN]] {
        let (y, r) = pooled(vec![window(2, 2, 0, 0)], &[1, 2], &x, &[3.0]);
        assert!(y[0].is_nan(), "{x:?}");
        let place = x.iter().position(|x| x.is_nan()).unwrap();
        assert_close(&[r[place], r[1 - place]], &[3.0, 0.0], 0.0, "to the NaN");
    }
    let lowest = [f64::NEG_INFINITY; 2];
    let (y, r) = pooled(vec![window(2, 2, 0, 0)], &[1, 2], &lowest, &[3.0]);
    assert!(y[0] == f64::NEG_INFINITY);
    assert_close(&r, &[3.0, 0.0], 0.0, "the first of -infinity");
}

#[test]
fn captums_max_pool_sends_relevance_to_the_winner() {
    let mut builder = Network::builder();
    let x = builder.input("x", [2, 2]);
    let z = builder.dense("fc", x, Tensor::from_fn([2, 2], |_| 2.0), None).unwrap();
    let pool = MaxPool::new(Window::new(vec![window(2, 2, 0, 0)]).unwrap());
    let y = builder.layer("pool", Layer::MaxPool(pool), vec![z]).unwrap();
    let flat = builder.reshape("flat", y, [2]).unwrap();
    let network = builder.build(flat).unwrap();
    let input = [1.0, 2.0, 5.0, 6.0];
    let explanation = explained(&network, &everywhere(LinearRule::zero()), &[input.to_vec()], &[0.0, 22.0]);
    assert_close(&at_inputs(&network, &explanation), &[0.0, 0.0, 10.0, 12.0], 1e-12, "input");
}

fn explained_map(map: AxisMap, shape: &[usize], numbers: &mut Numbers) -> (LinearMap, Vec<f64>, Explanation, Network) {
    let network = network(Layer::AxisMap(map), shape);
    let start = numbers.dyadics(network.shape(network.output()).count());
    let x = numbers.dyadics(shape.iter().product());
    let explanation = explained(&network, &everywhere(LinearRule::zero()), &[x], &start);
    (LinearMap::of(&network), start, explanation, network)
}

/// A map of every kind along each axis of a sample of three.
fn maps(axis: usize, extent: usize) -> Vec<AxisMap> {
    let picking = |kind, picked: Vec<Option<usize>>| AxisMap::picking(kind, axis, extent, picked).unwrap();
    let last = extent - 1;
    let nearest = (0..2 * extent).map(|i| Some(i / 2)).collect();
    let linear = (0..2 * extent).map(|i| {
        // Half-pixel centres: output i lies at (i + ½)/2 − ½.
        let (low, is_odd) = ((i as isize - 1).div_euclid(2), i % 2 == 1);
        let clamped = |place: isize| place.clamp(0, last as isize) as usize;
        let (near, far) = if is_odd { (0.75, 0.25) } else { (0.25, 0.75) };
        vec![(clamped(low), near), (clamped(low + 1), far)]
    });
    vec![
        picking(AxisMapKind::Slice, vec![Some(last)]),
        picking(AxisMapKind::Slice, (0..extent).rev().step_by(2).map(Some).collect()),
        picking(AxisMapKind::Gather, vec![Some(last), Some(0), Some(last)]),
        picking(AxisMapKind::Pad, [vec![None, None], (0..extent).map(Some).collect(), vec![None]].concat()),
        picking(AxisMapKind::Pad, [vec![Some(1)], (0..extent).map(Some).collect(), vec![Some(last - 1)]].concat()),
        picking(AxisMapKind::Resize, nearest),
        AxisMap::new(AxisMapKind::Resize, axis, extent, linear.collect()).unwrap(),
    ]
}

#[test]
fn maps_along_an_axis_send_relevance_back_through_their_jacobian() {
    let mut numbers = Numbers(51);
    let shape = [2, 3, 4];
    for axis in 0..3 {
        let expanded = AxisMap::picking(AxisMapKind::Expand, axis, 1, [Some(0); 3]).unwrap();
        let narrow: Vec<usize> = (0..3).map(|other| if other == axis { 1 } else { shape[other] }).collect();
        let wide = maps(axis, shape[axis]).into_iter().map(|map| (map, shape.to_vec()));
        for (map, shape) in wide.chain([(expanded, narrow)]) {
            let place = format!("{map:?} of {shape:?}");
            let (jacobian, start, explanation, network) = explained_map(map, &shape, &mut numbers);
            let column = |j: usize| jacobian.jacobian.iter().zip(&start).map(|(row, r)| row[j] * r).sum();
            let expected: Vec<f64> = (0..shape.iter().product()).map(column).collect();
            // Dyadic relevances and weights only move and add.
            assert_close(&at_inputs(&network, &explanation), &expected, 0.0, &place);
            assert_close(&jacobian.offset, &vec![0.0; start.len()], 0.0, &place);
            assert!(explanation.layers[0].is_none(), "{place}");
        }
    }
}

#[test]
fn maps_along_an_axis_give_what_a_hand_gives() {
    let x: Vec<f64> = (1..=6).map(f64::from).collect();
    let picking = |kind, axis, inputs, picked: &[Option<usize>]| {
        AxisMap::picking(kind, axis, inputs, picked.iter().copied()).unwrap()
    };
    let resized = vec![vec![(0, 1.0)], vec![(0, 0.5), (1, 0.5)], vec![(1, 1.0)]];
    let cases: [(AxisMap, &[f64]); 4] = [
        (picking(AxisMapKind::Slice, 1, 3, &[Some(2), Some(0)]), &[3.0, 1.0, 6.0, 4.0]),
        (picking(AxisMapKind::Gather, 0, 2, &[Some(1), Some(1)]), &[4.0, 5.0, 6.0, 4.0, 5.0, 6.0]),
        (
            picking(AxisMapKind::Pad, 1, 3, &[None, Some(0), Some(1), Some(2)]),
            &[0.0, 1.0, 2.0, 3.0, 0.0, 4.0, 5.0, 6.0],
        ),
        (AxisMap::new(AxisMapKind::Resize, 0, 2, resized).unwrap(), &[1.0, 2.0, 3.0, 2.5, 3.5, 4.5, 4.0, 5.0, 6.0]),
    ];
    for (map, expected) in cases {
        let place = format!("{map:?}");
        let found = crate::linear_map::output(&network(Layer::AxisMap(map), &[2, 3]), std::slice::from_ref(&x));
        assert_close(&found, expected, 0.0, &place);
    }
}

#[test]
fn the_maps_of_an_interpolation_keep_the_sum_of_relevance() {
    let mut numbers = Numbers(52);
    let map = maps(1, 5).pop().unwrap();
    let (_, start, explanation, network) = explained_map(map, &[2, 5], &mut numbers);
    let (started, arrived): (f64, f64) = (start.iter().sum(), at_inputs(&network, &explanation).iter().sum());
    assert_close(&[arrived], &[started], 0.0, "linear resize");
}
