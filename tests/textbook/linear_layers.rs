//! Every rule on every linear layer.

use relprop::layers::sum::Sign;
use relprop::layers::{Layer, Sum};
use relprop::network::Network;
use relprop::{Tensor, reference};

use crate::formulas::{self, Answer, Formula};
use crate::linear_map::LinearMap;
use crate::numbers::Numbers;
use crate::{assert_close, at_inputs, everywhere, explained};

/// A network of one linear layer with a sample for it.
pub struct Case {
    pub name: String,
    pub network: Network,
    pub inputs: Vec<Vec<f64>>,
}

impl Case {
    pub fn new(name: String, network: Network, numbers: &mut Numbers) -> Self {
        let sizes = network.inputs().iter().map(|input| network.shape(input.value).count());
        let inputs = sizes.map(|size| (0..size).map(|_| numbers.dyadic_or_zero()).collect()).collect();
        Case { name, network, inputs }
    }

    pub fn outputs(&self) -> usize {
        self.network.shape(self.network.output()).count()
    }

    fn last_extent(&self) -> usize {
        *self.network.shape(self.network.inputs()[0].value).dims().last().unwrap()
    }
}

fn dense(shape: &[usize], outputs: usize, with_bias: bool, numbers: &mut Numbers) -> Case {
    let mut builder = Network::builder();
    let x = builder.input("x", shape.to_vec());
    let weight = numbers.dyadic_tensor(&[outputs, *shape.last().unwrap()]);
    let bias = with_bias.then(|| numbers.dyadic_tensor(&[outputs]));
    let z = builder.dense("dense", x, weight, bias).unwrap();
    Case::new(format!("dense {shape:?} to {outputs}, bias {with_bias}"), builder.build(z).unwrap(), numbers)
}

fn sum(shape: &[usize], signs: &[Sign], numbers: &mut Numbers) -> Case {
    let mut builder = Network::builder();
    let inputs = (0..signs.len()).map(|slot| builder.input(format!("x{slot}"), shape.to_vec())).collect();
    let z = builder.layer("sum", Layer::Sum(Sum::new(signs.to_vec()).unwrap()), inputs).unwrap();
    Case::new(format!("sum {shape:?} {signs:?}"), builder.build(z).unwrap(), numbers)
}

fn affine(shape: &[usize], scale: &[usize], offset: &[usize], numbers: &mut Numbers) -> Case {
    let mut builder = Network::builder();
    let x = builder.input("x", shape.to_vec());
    let (scale_tensor, offset_tensor) = (numbers.dyadic_tensor(scale), numbers.dyadic_tensor(offset));
    let z = builder.affine("affine", x, scale_tensor, offset_tensor).unwrap();
    Case::new(format!("affine {shape:?}, scale {scale:?}, offset {offset:?}"), builder.build(z).unwrap(), numbers)
}

pub fn mixing_cases() -> Vec<Case> {
    let mut numbers = Numbers(1);
    let mut cases = Vec::new();
    let shapes: [&[usize]; 9] = [&[1], &[2], &[3], &[17], &[33], &[129], &[2, 5], &[3, 7], &[2, 3, 4]];
    for (shape, outputs) in shapes.into_iter().zip([1, 3, 2, 5, 7, 2, 3, 4, 3]) {
        for with_bias in [true, false] {
            cases.push(dense(shape, outputs, with_bias, &mut numbers));
        }
    }
    let (plus, minus) = (Sign::Plus, Sign::Minus);
    let signs: [&[Sign]; 5] = [&[minus], &[plus, plus], &[plus, minus], &[minus, plus, minus], &[plus, plus, plus]];
    for signs in signs {
        cases.push(sum(&[5], signs, &mut numbers));
        cases.push(sum(&[2, 3], signs, &mut numbers));
    }
    cases
}

pub fn affine_cases() -> Vec<Case> {
    let mut numbers = Numbers(2);
    let geometries: [(&[usize], &[usize], &[usize]); 4] =
        [(&[7], &[7], &[7]), (&[5], &[], &[]), (&[2, 3], &[3], &[2, 1]), (&[3, 2, 2], &[3, 1, 1], &[1])];
    geometries.map(|(shape, scale, offset)| affine(shape, scale, offset, &mut numbers)).into()
}

/// Relative to the sum of all absolute terms. Denominators are exact up to their stabiliser, except that a root mean
/// square and a sum of the report add up to 129 numbers: 129 unit roundoffs of 1.1e-16 are 1.4e-14.
const ROUNDING: f64 = 1e-13;

pub fn check(case: &Case, formula: Formula, numbers: &mut Numbers) {
    let place = format!("{formula:?} on {}", case.name);
    let map = LinearMap::of(&case.network);
    let x = case.inputs.concat();
    let low: Vec<f64> = (0..case.last_extent()).map(|_| -2.0 - numbers.dyadic().abs()).collect();
    let low_tensor = Tensor::vector(low.iter().map(|&low| low as f32).collect());
    let spread_low: Vec<f64> = low.iter().copied().cycle().take(x.len()).collect();
    let high = vec![2.5; x.len()];
    let arriving = numbers.dyadics(case.outputs());

    let expected: Answer = formula.answer(&map, &x, &arriving, &spread_low, &high);
    let composite = everywhere(formula.rule(&low_tensor, &Tensor::scalar(2.5)));
    let explanation = explained(&case.network, &composite, &case.inputs, &arriving);
    let tolerance = ROUNDING * expected.scale;
    assert_close(&at_inputs(&case.network, &explanation), &expected.relevance, tolerance, &place);

    let sums = explanation.layers[0].unwrap();
    let arrived: f64 = arriving.iter().sum();
    let given: f64 = expected.relevance.iter().sum();
    let rest = arrived - given - expected.bias - expected.epsilon;
    let found = [sums.at_output, sums.at_input, sums.bias, sums.epsilon, sums.dropped];
    let wanted = [arrived, given, expected.bias, expected.epsilon, rest];
    let tolerance = ROUNDING * (expected.scale + arriving.iter().map(|r| r.abs()).sum::<f64>());
    assert_close(&found, &wanted, tolerance, &format!("sums (output, input, bias, ε, dropped) of {place}"));
    assert_eq!(sums.nonfinite, 0, "{place}");
}

#[test]
fn the_jacobian_reproduces_the_forward_pass() {
    for case in mixing_cases().iter().chain(&affine_cases()) {
        let inputs: Vec<&[f64]> = case.inputs.iter().map(Vec::as_slice).collect();
        let values = reference::forward(&case.network, &inputs).unwrap();
        let z = LinearMap::of(&case.network).apply(&case.inputs.concat());
        // Dyadic parameters make both sides exact.
        assert_close(&values[case.network.output().index()], &z, 0.0, &case.name);
    }
}

fn diagonal(entries: &[f64]) -> Vec<f64> {
    let row = |i: usize| (0..entries.len()).map(move |j| if i == j { entries[i] } else { 0.0 });
    (0..entries.len()).flat_map(row).collect()
}

#[test]
fn jacobians_hold_the_parameters_where_the_layer_puts_them() {
    let mut builder = Network::builder();
    let x = builder.input("x", [2, 2]);
    let weight = Tensor::new([3, 2], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
    let z = builder.dense("dense", x, weight, Some(Tensor::vector(vec![7.0, 8.0, 9.0]))).unwrap();
    let map = LinearMap::of(&builder.build(z).unwrap());
    let (w, o) = ([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], [0.0, 0.0]);
    let upper = w.map(|row| [row, o].concat());
    let lower = w.map(|row| [o, row].concat());
    assert_close(&map.jacobian.concat(), &[upper, lower].concat().concat(), 0.0, "dense J");
    assert_close(&map.offset, &[7.0, 8.0, 9.0, 7.0, 8.0, 9.0], 0.0, "dense b");

    let mut builder = Network::builder();
    let x = builder.input("x", [2, 3]);
    let scale = Tensor::vector(vec![1.0, 2.0, 3.0]);
    let offset = Tensor::new([2, 1], vec![4.0, 5.0]).unwrap();
    let z = builder.affine("affine", x, scale, offset).unwrap();
    let map = LinearMap::of(&builder.build(z).unwrap());
    assert_close(&map.jacobian.concat(), &diagonal(&[1.0, 2.0, 3.0, 1.0, 2.0, 3.0]), 0.0, "affine J");
    assert_close(&map.offset, &[4.0, 4.0, 4.0, 5.0, 5.0, 5.0], 0.0, "affine b");

    let map = LinearMap::of(&sum(&[2], &[Sign::Minus, Sign::Plus], &mut Numbers(5)).network);
    assert_close(&map.jacobian.concat(), &[-1.0, 0.0, 1.0, 0.0, 0.0, -1.0, 0.0, 1.0], 0.0, "sum J");
}

#[test]
fn every_rule_on_every_dense_layer_and_sum_is_the_papers_formula() {
    let mut numbers = Numbers(3);
    for case in mixing_cases() {
        for formula in formulas::all() {
            check(&case, formula, &mut numbers);
        }
    }
}

#[test]
fn every_rule_without_bounds_on_an_affine_layer_is_the_papers_formula() {
    let mut numbers = Numbers(4);
    for case in affine_cases() {
        for formula in formulas::all().into_iter().filter(|formula| !matches!(formula, Formula::Box(_))) {
            check(&case, formula, &mut numbers);
        }
    }
}
