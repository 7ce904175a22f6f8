//! Properties that hold for any network, on random ones.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

use relprop::Tensor;
use relprop::composite::Composite;
use relprop::layers::{Divisor, Family, Window, WindowAxis};
use relprop::network::Network;
use relprop::reference::Explanation;

use crate::formulas::{self, Formula};
use crate::numbers::Numbers;
use crate::{assert_close, at_inputs, everywhere, explained};

/// Dense layers with rectifiers between them and a skip connection where two extents agree.
fn perceptron(sizes: &[usize], with_bias: bool, numbers: &mut Numbers) -> Network {
    let mut builder = Network::builder();
    let mut value = builder.input("x", [sizes[0]]);
    for (depth, pair) in sizes.windows(2).enumerate() {
        let active = if depth > 0 { builder.relu(&format!("relu{depth}"), value).unwrap() } else { value };
        let weight = numbers.smooth_tensor(&[pair[1], pair[0]]);
        let bias = with_bias.then(|| numbers.smooth_tensor(&[pair[1]]));
        value = builder.dense(&format!("fc{depth}"), active, weight, bias).unwrap();
        if pair[0] == pair[1] {
            value = builder.sum(&format!("skip{depth}"), &[value, active]).unwrap();
        }
    }
    builder.build(value).unwrap()
}

/// Convolutions with rectifiers, a max pool and an average pool between them, and a shortcut where two shapes agree.
fn convolutions(grid: &Grid, with_bias: bool, numbers: &mut Numbers) -> Network {
    let &Grid { channels, extents, kernel, stride, groups } = grid;
    let axis =
        |kernel: usize, stride, before| WindowAxis { stride, before, after: kernel / 2, ..WindowAxis::new(kernel) };
    let window = |stride| Window::new(vec![axis(kernel[0], stride, kernel[0] / 2), axis(kernel[1], 1, 0)]).unwrap();
    let mut builder = Network::builder();
    let mut value = builder.input("x", [groups * channels, extents[0], extents[1]]);
    for depth in 0..2 {
        let weight = numbers.smooth_tensor(&[groups * channels, channels, kernel[0], kernel[1]]);
        let bias = with_bias.then(|| numbers.smooth_tensor(&[groups * channels]));
        let z = builder.conv(&format!("conv{depth}"), value, weight, bias, window(stride), groups).unwrap();
        let a = builder.relu(&format!("relu{depth}"), z).unwrap();
        let is_same = builder.shape(a) == builder.shape(value);
        value = if is_same { builder.sum(&format!("skip{depth}"), &[a, value]).unwrap() } else { a };
        let pool = Window::new(vec![axis(2, 1, 1), axis(1, 1, 0)]).unwrap();
        value = match depth {
            0 => builder.max_pool("max", value, pool).unwrap(),
            _ => builder.average_pool("average", value, pool, Divisor::Inside).unwrap(),
        };
    }
    let features = builder.shape(value).count();
    let flat = builder.reshape("flat", value, [features]).unwrap();
    let scores = builder.dense("scores", flat, numbers.smooth_tensor(&[3, features]), None).unwrap();
    builder.build(scores).unwrap()
}

#[derive(Debug, Clone)]
struct Grid {
    channels: usize,
    extents: [usize; 2],
    kernel: [usize; 2],
    stride: usize,
    groups: usize,
}

fn grids() -> impl Strategy<Value = Grid> {
    let grid = (1..4_usize, [4..9_usize, 4..9_usize], [1..4_usize, 1..4_usize], 1..3_usize, 1..3_usize);
    grid.prop_map(|(channels, extents, kernel, stride, groups)| Grid { channels, extents, kernel, stride, groups })
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1..12_usize, 2..6)
}

fn largest(explanation: &Explanation) -> f64 {
    explanation.relevance.iter().flatten().fold(1.0, |most, r| most.max(r.abs()))
}

/// The least |z| of linear layers where relevance arrives: quotients enlarge rounding by its inverse.
fn least_denominator(network: &Network, explanation: &Explanation) -> f64 {
    let linear = network.layers().iter().filter(|node| node.layer.family() == Family::Linear);
    let z = linear.flat_map(|node| explanation.values[node.output.index()].iter().zip(explanation.at(node.output)));
    z.filter(|(_, r)| r.abs() > 0.0).fold(f64::INFINITY, |least, (z, _)| least.min(z.abs()))
}

/// A fixed seed, so that a run says the same as the one before; nothing is written beside the tests.
fn config() -> Config {
    Config { cases: 300, rng_seed: RngSeed::Fixed(31), failure_persistence: None, ..Config::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn relevance_is_linear_in_the_start(
        sizes in sizes(),
        seed: u64,
        formula in prop::sample::select(formulas::all()),
        (a, b) in (-4.0..4.0_f64, -4.0..4.0_f64),
    ) {
        let mut numbers = Numbers(seed);
        let network = perceptron(&sizes, true, &mut numbers);
        let input = vec![numbers.smooths(sizes[0])];
        let outputs = *sizes.last().unwrap();
        let (first, second) = (numbers.smooths(outputs), numbers.smooths(outputs));
        let mixed: Vec<f64> = first.iter().zip(&second).map(|(r, s)| a * r + b * s).collect();
        let composite = everywhere(formula.rule(&Tensor::scalar(-1.0), &Tensor::scalar(64.0)));
        let [first, second, mixed] = [first, second, mixed].map(|start| explained(&network, &composite, &input, &start));
        let expected: Vec<f64> = at_inputs(&network, &first)
            .iter()
            .zip(at_inputs(&network, &second))
            .map(|(r, s)| a * r + b * s)
            .collect();
        // The denominators are the same to the bit; terms of a sum may exceed it by a large factor near a zero of z.
        let tolerance = 1e-10 * (a.abs() * largest(&first) + b.abs() * largest(&second) + largest(&mixed));
        assert_close(&at_inputs(&network, &mixed), &expected, tolerance, &format!("{formula:?} on {sizes:?}"));
    }

    #[test]
    fn relevance_is_conserved_without_biases_and_epsilon(sizes in sizes(), seed: u64) {
        let mut numbers = Numbers(seed);
        let network = perceptron(&sizes, false, &mut numbers);
        let (input, start) = (vec![numbers.smooths(sizes[0])], numbers.smooths(*sizes.last().unwrap()));
        let explanation = explained(&network, &Composite::preset("zero").unwrap(), &input, &start);
        prop_assume!(least_denominator(&network, &explanation) > 1e-4);
        let (started, arrived): (f64, f64) = (start.iter().sum(), at_inputs(&network, &explanation).iter().sum());
        // Eleven terms a sum, four layers: 1e-14, times the 1e4 that a small z may enlarge it by.
        assert_close(&[arrived], &[started], 1e-10 * largest(&explanation), &format!("{sizes:?}"));
        for sums in explanation.layers.iter().flatten() {
            assert_close(&[sums.bias, sums.epsilon], &[0.0, 0.0], 0.0, "bias and ε");
        }
    }

    #[test]
    fn convolutions_without_biases_conserve_relevance(grid in grids(), seed: u64) {
        let mut numbers = Numbers(seed);
        let network = convolutions(&grid, false, &mut numbers);
        let input = vec![numbers.smooths(network.shape(network.inputs()[0].value).count())];
        let start = numbers.smooths(3);
        let explanation = explained(&network, &Composite::preset("zero").unwrap(), &input, &start);
        prop_assume!(least_denominator(&network, &explanation) > 1e-4);
        let (started, arrived): (f64, f64) = (start.iter().sum(), at_inputs(&network, &explanation).iter().sum());
        // Some hundred terms a sum and five layers: 1e-13, times the 1e4 that a small z may enlarge it by.
        assert_close(&[arrived], &[started], 1e-9 * largest(&explanation), &format!("{grid:?}"));
    }

    #[test]
    fn what_bias_and_epsilon_absorb_is_what_the_input_lacks(
        sizes in sizes(),
        seed: u64,
        formula in prop::sample::select(formulas::all()),
    ) {
        // The rules whose groups share out all relevance; α − β = 1 does so only where no denominator is zero.
        prop_assume!(matches!(
            formula,
            Formula::Epsilon(_) | Formula::Norm(_) | Formula::WSquare(_) | Formula::Flat(_) | Formula::Gamma(..)
        ));
        let mut numbers = Numbers(seed);
        let network = perceptron(&sizes, true, &mut numbers);
        let (input, start) = (vec![numbers.smooths(sizes[0])], numbers.smooths(*sizes.last().unwrap()));
        let composite = everywhere(formula.rule(&Tensor::scalar(-1.0), &Tensor::scalar(64.0)));
        let explanation = explained(&network, &composite, &input, &start);
        prop_assume!(least_denominator(&network, &explanation) > 1e-4);
        let absorbed: f64 = explanation.layers.iter().flatten().map(|sums| sums.bias + sums.epsilon).sum();
        let (started, arrived): (f64, f64) = (start.iter().sum(), at_inputs(&network, &explanation).iter().sum());
        let place = format!("{formula:?} on {sizes:?}");
        assert_close(&[arrived + absorbed], &[started], 1e-9 * largest(&explanation), &place);
    }
}
