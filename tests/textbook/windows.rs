//! Every rule on convolutions and average pools, and what their windows cover by definition.

use relprop::layers::{AveragePool, Conv, ConvWay, Divisor, Layer, Window, WindowAxis};
use relprop::network::Network;
use relprop::{Tensor, reference};

use crate::assert_close;
use crate::formulas;
use crate::linear_layers::{Case, check};
use crate::linear_map::{LinearMap, output};
use crate::numbers::Numbers;

/// kernel, stride, dilation, padding before and behind.
type Axis = (usize, usize, usize, usize, usize);

fn window(axes: &[Axis]) -> Window {
    let axis = |&(kernel, stride, dilation, before, after): &Axis| WindowAxis {
        kernel,
        stride,
        dilation,
        before,
        after,
        overhang: 0,
    };
    Window::new(axes.iter().map(axis).collect()).unwrap()
}

fn network(layer: Layer, shape: &[usize]) -> Network {
    let mut builder = Network::builder();
    let x = builder.input("x", shape.to_vec());
    let z = builder.layer("layer", layer, vec![x]).unwrap();
    builder.build(z).unwrap()
}

struct Geometry {
    shape: &'static [usize],
    outputs: usize,
    groups: usize,
    axes: &'static [Axis],
}

/// One to three spatial axes; strides, dilations, uneven padding, groups, depthwise, a stride beyond the kernel.
const PLAIN: [Geometry; 9] = [
    Geometry { shape: &[3, 9], outputs: 2, groups: 1, axes: &[(3, 2, 1, 1, 0)] },
    Geometry { shape: &[2, 11], outputs: 3, groups: 1, axes: &[(3, 1, 2, 2, 1)] },
    Geometry { shape: &[1, 7], outputs: 1, groups: 1, axes: &[(2, 3, 1, 0, 2)] },
    Geometry { shape: &[2, 5, 4], outputs: 3, groups: 1, axes: &[(3, 2, 1, 1, 2), (2, 1, 1, 0, 1)] },
    Geometry { shape: &[4, 5, 4], outputs: 6, groups: 2, axes: &[(3, 1, 1, 1, 1), (3, 2, 1, 1, 0)] },
    Geometry { shape: &[3, 5, 5], outputs: 6, groups: 3, axes: &[(3, 2, 1, 1, 1), (2, 1, 2, 1, 0)] },
    Geometry { shape: &[3, 5, 4], outputs: 4, groups: 1, axes: &[(1, 2, 1, 0, 0), (1, 2, 1, 0, 0)] },
    Geometry {
        shape: &[2, 2, 3, 4],
        outputs: 3,
        groups: 1,
        axes: &[(2, 1, 1, 0, 1), (3, 2, 1, 1, 1), (2, 2, 1, 0, 0)],
    },
    Geometry {
        shape: &[4, 3, 2, 3],
        outputs: 4,
        groups: 4,
        axes: &[(3, 1, 1, 1, 1), (2, 1, 1, 1, 0), (2, 1, 2, 0, 0)],
    },
];

/// As above, with the output padding of each axis.
const TRANSPOSED: [(Geometry, &[usize]); 6] = [
    (Geometry { shape: &[3, 4], outputs: 2, groups: 1, axes: &[(3, 2, 1, 1, 1)] }, &[1]),
    (Geometry { shape: &[2, 3], outputs: 2, groups: 2, axes: &[(2, 3, 1, 0, 0)] }, &[0]),
    (Geometry { shape: &[2, 3, 4], outputs: 3, groups: 1, axes: &[(3, 2, 1, 1, 0), (2, 2, 1, 0, 0)] }, &[1, 0]),
    (Geometry { shape: &[4, 3, 3], outputs: 6, groups: 2, axes: &[(3, 1, 2, 1, 2), (4, 3, 1, 2, 1)] }, &[0, 2]),
    (Geometry { shape: &[3, 2, 3], outputs: 3, groups: 3, axes: &[(3, 2, 1, 1, 1), (3, 2, 1, 1, 1)] }, &[1, 1]),
    (
        Geometry {
            shape: &[2, 2, 2, 3],
            outputs: 2,
            groups: 1,
            axes: &[(2, 2, 1, 0, 0), (3, 1, 1, 1, 1), (2, 1, 1, 0, 0)],
        },
        &[0, 0, 0],
    ),
];

fn convolution(geometry: &Geometry, output_padding: Option<&[usize]>, with_bias: bool, numbers: &mut Numbers) -> Conv {
    let Geometry { shape, outputs, groups, axes } = *geometry;
    let channels = match output_padding {
        None => [outputs, shape[0] / groups],
        Some(_) => [shape[0], outputs / groups],
    };
    let kernel: Vec<usize> = axes.iter().map(|axis| axis.0).collect();
    let weight = numbers.dyadic_tensor(&[&channels[..], &kernel].concat());
    let bias = with_bias.then(|| numbers.dyadic_tensor(&[outputs]).into());
    match output_padding {
        None => Conv::new(weight, bias, window(axes), groups),
        Some(padding) => Conv::transposed(weight, bias, window(axes), groups, padding.to_vec()),
    }
    .unwrap()
}

fn convolution_cases() -> Vec<Case> {
    let mut numbers = Numbers(41);
    let plain = PLAIN.iter().map(|geometry| (geometry, None));
    let transposed = TRANSPOSED.iter().map(|(geometry, padding)| (geometry, Some(*padding)));
    let cases = plain.chain(transposed).enumerate().map(|(position, (geometry, padding))| {
        let conv = convolution(geometry, padding, position % 3 != 2, &mut numbers);
        let Geometry { shape, outputs, groups, axes } = geometry;
        let name = format!("conv of {shape:?} to {outputs}, groups {groups}, {axes:?}, output padding {padding:?}");
        Case::new(name, network(Layer::Conv(conv), shape), &mut numbers)
    });
    cases.collect()
}

/// Windows of powers of two positions, so that averages of dyadic numbers are exact; one that overhangs its padding.
fn pool_cases() -> Vec<Case> {
    let mut numbers = Numbers(42);
    let overhanging = WindowAxis { kernel: 2, stride: 2, dilation: 1, before: 1, after: 0, overhang: 1 };
    let plain: [(&[usize], &[Axis]); 5] = [
        (&[3, 8], &[(4, 2, 1, 2, 2)]),
        (&[2, 5, 4], &[(2, 1, 1, 1, 0), (2, 2, 1, 0, 0)]),
        (&[2, 5, 6], &[(2, 2, 2, 1, 1), (1, 3, 1, 0, 0)]),
        (&[3, 4, 2], &[(4, 1, 1, 0, 0), (2, 1, 1, 0, 0)]),
        (&[2, 2, 4, 2], &[(2, 1, 1, 1, 1), (4, 4, 1, 0, 0), (2, 2, 1, 0, 0)]),
    ];
    let plain = plain.map(|(shape, axes)| (shape, window(axes)));
    let overhanging = [
        (&[2, 6][..], Window::new(vec![overhanging]).unwrap()),
        (&[1, 6, 4][..], Window::new(vec![overhanging; 2]).unwrap()),
    ];
    let mut cases = Vec::new();
    for (shape, window) in plain.into_iter().chain(overhanging) {
        for divisor in [Divisor::Inside, Divisor::InsidePadded, Divisor::One] {
            let layer = Layer::AveragePool(AveragePool::new(window.clone(), divisor));
            let name = format!("average pool of {shape:?}, {divisor:?}, {window:?}");
            cases.push(Case::new(name, network(layer, shape), &mut numbers));
        }
    }
    cases
}

pub fn window_cases() -> Vec<Case> {
    convolution_cases().into_iter().chain(pool_cases()).collect()
}

#[test]
fn every_rule_on_every_convolution_is_the_papers_formula() {
    let mut numbers = Numbers(43);
    for case in convolution_cases() {
        for formula in formulas::all() {
            check(&case, formula, &mut numbers);
        }
    }
}

#[test]
fn every_rule_on_every_average_pool_is_the_papers_formula() {
    let mut numbers = Numbers(44);
    for case in pool_cases() {
        for formula in formulas::all() {
            check(&case, formula, &mut numbers);
        }
    }
}

#[test]
fn the_jacobian_reproduces_the_forward_pass() {
    for case in window_cases() {
        let inputs: Vec<&[f64]> = case.inputs.iter().map(Vec::as_slice).collect();
        let values = reference::forward(&case.network, &inputs).unwrap();
        let z = LinearMap::of(&case.network).apply(&case.inputs.concat());
        // Dyadic parameters make both sides exact.
        assert_close(&values[case.network.output().index()], &z, 0.0, &case.name);
    }
}

/// Positions of a grid in row-major order.
fn positions(extents: &[usize]) -> Vec<Vec<usize>> {
    extents.iter().fold(vec![Vec::new()], |found, &extent| {
        found.iter().flat_map(|place| (0..extent).map(move |p| [&place[..], &[p]].concat())).collect()
    })
}

/// The element of `[channels, spatial…]` data at a place that may lie outside.
fn at(data: &[f64], channel: usize, extents: &[usize], place: &[isize]) -> f64 {
    let mut position = channel;
    for (&extent, &p) in extents.iter().zip(place) {
        if p < 0 || p >= extent as isize {
            return 0.0;
        }
        position = position * extent + p as usize;
    }
    data[position]
}

/// Where each output's window positions lie.
fn covered(axes: &[Axis], p: &[usize], t: &[usize]) -> Vec<isize> {
    let axis = |((&(_, stride, dilation, before, _), &p), &t): ((&Axis, &usize), &usize)| {
        (stride * p + dilation * t) as isize - before as isize
    };
    axes.iter().zip(p).zip(t).map(axis).collect()
}

#[test]
fn a_convolution_is_its_definition() {
    let mut numbers = Numbers(45);
    for geometry in &PLAIN {
        let &Geometry { shape, outputs, groups, axes } = geometry;
        let conv = convolution(geometry, None, true, &mut numbers);
        let (weight, bias) = (conv.weight().map(|&w| f64::from(w)), conv.bias().unwrap().clone());
        let network = network(Layer::Conv(conv), shape);
        let x = numbers.dyadics(shape.iter().product());
        let (kernel, in_group): (Vec<usize>, usize) = (axes.iter().map(|axis| axis.0).collect(), shape[0] / groups);
        let mut expected = Vec::new();
        for o in 0..outputs {
            for p in positions(&network.shape(network.output()).dims()[1..]) {
                let mut z = f64::from(bias.data()[o]);
                for c in 0..in_group {
                    let channel = o / (outputs / groups) * in_group + c;
                    for (position, t) in positions(&kernel).iter().enumerate() {
                        let w = weight.data()[(o * in_group + c) * kernel.iter().product::<usize>() + position];
                        z += w * at(&x, channel, &shape[1..], &covered(axes, &p, t));
                    }
                }
                expected.push(z);
            }
        }
        assert_close(&output(&network, &[x]), &expected, 0.0, &format!("{shape:?} {axes:?}"));
    }
}

#[test]
fn a_transposed_convolution_is_the_convolution_transposed() {
    let mut numbers = Numbers(46);
    for (geometry, padding) in &TRANSPOSED {
        let conv = convolution(geometry, Some(padding), false, &mut numbers);
        assert_eq!(conv.way(), &ConvWay::Transposed { output_padding: padding.to_vec() });
        let plain = Conv::new(conv.weight().clone(), None, conv.window().clone(), conv.groups()).unwrap();
        let transposed = network(Layer::Conv(conv), geometry.shape);
        let fine = transposed.shape(transposed.output()).dims().to_vec();
        let plain = network(Layer::Conv(plain), &fine);
        // The output padding is what makes the fine grid one that the convolution takes to the coarse one.
        assert_eq!(plain.shape(plain.output()).dims(), geometry.shape);
        let (there, back) = (LinearMap::of(&transposed).jacobian, LinearMap::of(&plain).jacobian);
        for (j, column) in back.iter().enumerate() {
            let row: Vec<f64> = there.iter().map(|row| row[j]).collect();
            assert_close(&row, column, 0.0, &format!("{:?}, input {j}", geometry.shape));
        }
    }
}

/// Numbers followed by hand, so that no geometry of the crate's own stands behind them.
#[test]
fn windows_give_what_a_hand_gives() {
    let one =
        |kernel, stride, before, after, overhang| WindowAxis { kernel, stride, dilation: 1, before, after, overhang };
    let window = |axis| Window::new(vec![axis]).unwrap();
    let weight = |outputs, inputs, values: &[f32]| {
        Tensor::new([outputs, inputs, values.len() / outputs / inputs], values.to_vec()).unwrap()
    };
    let pool = |axis, divisor| Layer::AveragePool(AveragePool::new(window(axis), divisor));
    let conv = Conv::new(weight(1, 1, &[1.0, 10.0, 100.0]), None, window(one(3, 2, 1, 0, 0)), 1).unwrap();
    let turned =
        Conv::transposed(weight(1, 1, &[1.0, 10.0, 100.0]), None, window(one(3, 2, 1, 0, 0)), 1, vec![1]).unwrap();
    let groups = Conv::new(weight(4, 1, &[1.0, 2.0, 3.0, 4.0]), None, window(one(1, 1, 0, 0, 0)), 2).unwrap();
    let back = Conv::transposed(weight(2, 2, &[1.0, 2.0, 3.0, 4.0]), None, window(one(1, 1, 0, 0, 0)), 2, vec![0]);
    /// Name, layer, shape, x and z.
    type Known<'a> = (&'a str, Layer, &'a [usize], &'a [f64], &'a [f64]);
    let cases: [Known<'_>; 8] = [
        // Windows of (0 1 2) and (2 3 4).
        ("conv", Layer::Conv(conv), &[1, 4], &[1.0, 2.0, 3.0, 4.0], &[210.0, 432.0]),
        // 1 spread to places −1, 0, 1 and 2 to places 1, 2, 3; then one place more.
        ("conv-transpose", Layer::Conv(turned), &[1, 2], &[1.0, 2.0], &[10.0, 102.0, 20.0, 200.0, 0.0]),
        ("conv, 2 groups", Layer::Conv(groups), &[2, 1], &[5.0, 7.0], &[5.0, 10.0, 21.0, 28.0]),
        ("conv-transpose, 2 groups", Layer::Conv(back.unwrap()), &[2, 1], &[5.0, 7.0], &[5.0, 10.0, 21.0, 28.0]),
        ("inside", pool(one(2, 2, 1, 0, 1), Divisor::Inside), &[1, 4], &[1.0, 2.0, 4.0, 8.0], &[1.0, 3.0, 8.0]),
        // The first window has one place of padding, which counts; the last one overhangs, which does not.
        ("padded", pool(one(2, 2, 1, 0, 1), Divisor::InsidePadded), &[1, 4], &[1.0, 2.0, 4.0, 8.0], &[0.5, 3.0, 8.0]),
        ("sum", pool(one(2, 2, 1, 0, 1), Divisor::One), &[1, 4], &[1.0, 2.0, 4.0, 8.0], &[1.0, 6.0, 8.0]),
        ("thirds", pool(one(3, 1, 0, 0, 0), Divisor::Inside), &[1, 3], &[1.0, 2.0, 5.0], &[8.0 / 3.0]),
    ];
    for (name, layer, shape, x, expected) in cases {
        // A third of float64.
        assert_close(&output(&network(layer, shape), &[x.to_vec()]), expected, 1e-15, name);
    }
}

#[test]
fn padding_receives_nothing_and_is_not_counted() {
    use relprop::rules::{LinearRule, Stabilizer};
    let none = Stabilizer::Absolute(0.0);
    let weight = Tensor::new([1, 1, 3], vec![1.0, -2.0, 3.0]).unwrap();
    let conv = Conv::new(weight, None, window(&[(3, 1, 1, 1, 1)]), 1).unwrap();
    let network = network(Layer::Conv(conv), &[1, 2]);
    let relevance = |rule| {
        let explanation = crate::explained(&network, &crate::everywhere(rule), &[vec![3.0, 0.5]], &[6.0, 12.0]);
        crate::at_inputs(&network, &explanation)
    };
    // Each of the two outputs sees both inputs and one place of padding.
    assert_close(&relevance(LinearRule::flat(none)), &[9.0, 9.0], 1e-14, "flat");
    let expected = [6.0 * 4.0 / 13.0 + 12.0 / 5.0, 6.0 * 9.0 / 13.0 + 12.0 * 4.0 / 5.0];
    assert_close(&relevance(LinearRule::w_square(none)), &expected, 1e-14, "w²");
}
