//! Answers worked out by others or by hand on networks small enough to follow on paper.

use std::f64::consts::TAU;

use relprop::composite::{Composite, Selector};
use relprop::layers::{Activation, Window, WindowAxis};
use relprop::network::{Network, NetworkBuilder, ValueId};
use relprop::rules::{LinearRule, Rule, Stabilizer};
use relprop::{Result, Tensor};

use crate::{assert_close, at_inputs, everywhere, explained};

/// Parameters such as 0.1 are float32 and off by up to 6e-8 of their value; a handful of them meet in a product.
const FLOAT32: f64 = 1e-6;

/// Parameters are exact and ε is 0: a few roundings of values below 200.
const EXACT: f64 = 1e-12;

fn matrix<const M: usize, const N: usize>(rows: [[f32; N]; M]) -> Tensor {
    Tensor::new([M, N], rows.concat()).unwrap()
}

fn network(build: impl FnOnce(&mut NetworkBuilder) -> Result<ValueId>) -> Network {
    let mut builder = Network::builder();
    let output = build(&mut builder).unwrap();
    builder.build(output).unwrap()
}

fn named(composite: Composite, name: &str, rule: LinearRule) -> Composite {
    composite.with_first(Selector::name(name).unwrap(), Rule::Linear(rule))
}

fn relevance(network: &Network, composite: &Composite, input: &[f64], start: &[f64]) -> Vec<f64> {
    at_inputs(network, &explained(network, composite, &[input.to_vec()], start))
}

const NONE: Stabilizer = Stabilizer::Absolute(0.0);

fn captum_simple(first_weight: f32) -> Network {
    network(|builder| {
        let x = builder.input("x", [3]);
        let weight = matrix([[first_weight, 2.0, 2.0], [2.0; 3], [2.0; 3]]);
        let z = builder.dense("fc1", x, weight, None)?;
        let a = builder.relu("relu", z)?;
        builder.dense("fc2", a, matrix([[3.0; 3]]), None)
    })
}

#[test]
fn captums_simple_model_gives_its_epsilon_relevance() {
    let network = captum_simple(2.0);
    // captum states its answers to four decimals at ε = 1e-9; ours is 1e-6 of denominators of 12 and more.
    let epsilon = Composite::preset("epsilon").unwrap();
    let tolerance = 1e-4;
    assert_close(&relevance(&network, &epsilon, &[1.0, 2.0, 3.0], &[108.0]), &[18.0, 36.0, 54.0], tolerance, "x");
    let thrice = relevance(&network, &epsilon, &[3.0, 6.0, 9.0], &[324.0]);
    assert_close(&thrice, &[54.0, 108.0, 162.0], tolerance, "3x");
}

#[test]
fn captums_simple_model_with_a_negative_weight_gives_its_gamma_and_alpha_beta_relevance() {
    let network = captum_simple(-2.0);
    let gamma = named(everywhere(LinearRule::gamma(0.25, NONE)), "fc1", LinearRule::gamma(1.0, NONE));
    let explanation = explained(&network, &gamma, &[vec![1.0, 2.0, 3.0]], &[96.0]);
    let hidden = explanation.at(network.find_value("fc1").unwrap());
    assert_close(hidden, &[24.0, 36.0, 36.0], EXACT, "first layer's output");
    let expected = [28.0 / 3.0, 104.0 / 3.0, 52.0];
    assert_close(&at_inputs(&network, &explanation), &expected, EXACT, "gamma(1) then gamma(.25)");

    let positive = everywhere(LinearRule::alpha_beta(1.0, NONE));
    let found = relevance(&network, &positive, &[1.0, 2.0, 3.0], &[96.0]);
    assert_close(&found, &[12.0, 33.6, 50.4], EXACT, "alpha1-beta0");
}

#[test]
fn captums_tanh_net_passes_relevance_through_the_activation() {
    let network = network(|builder| {
        let x = builder.input("x", [3]);
        let z = builder.dense("fc1", x, matrix([[0.1; 3]; 3]), None)?;
        let a = builder.activation("tanh", z, Activation::Tanh)?;
        builder.dense("fc2", a, matrix([[0.1; 3]]), None)
    });
    let score = 0.3 * 0.6_f64.tanh();
    let found = relevance(&network, &Composite::preset("zero").unwrap(), &[1.0, 2.0, 3.0], &[score]);
    assert_close(&found, &[0.0269, 0.0537, 0.0806], 1e-4, "captum, to its four decimals");
    assert_close(&found, &[score / 6.0, score / 3.0, score / 2.0], FLOAT32, "in closed form");
}

#[test]
fn captums_skip_connection_shares_relevance_with_the_branch() {
    let network = network(|builder| {
        let x = builder.input("x", [2]);
        let z = builder.dense("fc", x, matrix([[5.0; 2]; 2]), None)?;
        builder.sum("add", &[z, x])
    });
    let found = relevance(&network, &everywhere(LinearRule::zero()), &[2.0, 3.0], &[0.0, 28.0]);
    assert_close(&found, &[10.0, 18.0], EXACT, "input");
}

#[test]
fn captums_convolution_gives_its_epsilon_relevance() {
    let network = network(|builder| {
        let x = builder.input("x", [1, 4, 4]);
        let window = Window::new(vec![WindowAxis::new(3); 2])?;
        let weight = Tensor::from_fn([2, 1, 3, 3], |_| 1.0);
        let z = builder.conv("conv", x, weight, Some(Tensor::vector(vec![-50.0, -75.0])), window, 1)?;
        let a = builder.relu("relu", z)?;
        let flat = builder.reshape("flat", a, [8])?;
        builder.dense("fc", flat, matrix([[1.0, 1.0, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0]]), None)
    });
    let x: Vec<f64> = (0..16).map(f64::from).collect();
    let explanation = explained(&network, &everywhere(LinearRule::zero()), &[x], &[54.0]);
    assert_close(&explanation.values[network.output().index()], &[54.0], EXACT, "score");
    let conv = explanation.at(network.find_value("conv").unwrap());
    assert_close(conv, &[0.0, 4.0, 31.0, 40.0, 0.0, 0.0, -6.0, -15.0], EXACT, "convolution's output");
    let expected = [[0.0, 1.0, 2.0, 3.0], [0.0, 5.0, 6.0, 7.0], [0.0, 9.0, 10.0, 11.0], [0.0; 4]].concat();
    assert_close(&at_inputs(&network, &explanation), &expected, EXACT, "input");
}

#[test]
fn zennit_crps_toy_adds_the_relevance_of_both_branches() {
    let build = |builder: &mut NetworkBuilder| {
        let x = builder.input("x", [2]);
        let first = builder.dense("layer1", x, matrix([[1.0, 2.0], [0.0, 1.0]]), None)?;
        let second = builder.dense("layer2", x, matrix([[2.0, 3.0], [0.0, 0.0]]), None)?;
        builder.concat("concat", &[first, second], 0)
    };
    let whole = network(|builder| {
        let joined = build(builder)?;
        builder.dense("out", joined, matrix([[1.0, 4.0, 5.0, 0.0]]), None)
    });
    let zero = everywhere(LinearRule::zero());
    let explanation = explained(&whole, &zero, &[vec![-1.0, 1.0]], &[10.0]);
    assert_close(explanation.at(whole.find_value("layer1").unwrap()), &[1.0, 4.0], EXACT, "layer1");
    assert_close(explanation.at(whole.find_value("layer2").unwrap()), &[5.0, 0.0], EXACT, "layer2");
    assert_close(&at_inputs(&whole, &explanation), &[-11.0, 21.0], EXACT, "input");

    let cut = network(build);
    let conditioned = relevance(&cut, &zero, &[-1.0, 1.0], &[1.0, 0.0, 0.0, 0.0]);
    assert_close(&conditioned, &[-1.0, 2.0], EXACT, "conditioned on the first unit of layer1");
}

fn tutorial() -> Network {
    network(|builder| {
        let x = builder.input("x", [4]);
        let weight = matrix([[1.0, -1.0, 2.0, 0.5], [0.5, 1.0, -1.0, 1.0]]);
        let z = builder.dense("fc1", x, weight, Some(Tensor::vector(vec![0.1, -0.05])))?;
        let a = builder.relu("relu", z)?;
        builder.dense("fc2", a, matrix([[1.5, -1.0]]), Some(Tensor::vector(vec![-0.4])))
    })
}

#[test]
fn the_tutorials_network_gives_its_gradient_and_its_relevance() {
    let (network, x) = (tutorial(), [0.1, 0.2, 0.3, 0.4]);
    let gradient = relevance(&network, &Composite::preset("gradient").unwrap(), &x, &[1.0]);
    assert_close(&gradient, &[1.0, -2.5, 4.0, -0.25], EXACT, "gradient");

    let explanation = explained(&network, &Composite::preset("zero").unwrap(), &[x.to_vec()], &[1.0]);
    let value = |name: &str| &explanation.values[network.find_value(name).unwrap().index()];
    assert_close(value("fc1"), &[0.8, 0.3], FLOAT32, "z");
    assert_close(value("fc2"), &[0.5], FLOAT32, "f");
    let relevance = at_inputs(&network, &explanation);
    assert_close(&relevance, &[0.2, -1.0, 2.4, -0.2], 10.0 * FLOAT32, "LRP-0 from 1");

    let sums = |name: &str| explanation.layers[network.find_layer(name).unwrap().index()].unwrap();
    let biases = [sums("fc1").bias, sums("fc2").bias, relevance.iter().sum()];
    assert_close(&biases, &[0.3 + 0.1, -0.8, 1.4], 10.0 * FLOAT32, "bias shares and the sum at the input");
    assert_close(&[biases.iter().sum()], &[1.0], EXACT, "all of it");
}

#[test]
fn the_tutorials_gradient_times_input_is_its_relevance_started_at_the_logit() {
    let (network, x) = (tutorial(), [0.1, 0.2, 0.3, 0.4]);
    let product = relevance(&network, &Composite::preset("gradient-x-input").unwrap(), &x, &[1.0]);
    assert_close(&product, &[0.1, -0.5, 1.2, -0.1], EXACT, "gradient × input");
    let logit = explained(&network, &Composite::preset("zero").unwrap(), &[x.to_vec()], &[0.0]).values
        [network.output().index()][0];
    let started_at_logit = relevance(&network, &Composite::preset("zero").unwrap(), &x, &[logit]);
    assert_close(&started_at_logit, &product, EXACT, "LRP-0 from the logit");
}

#[test]
fn activations_have_their_known_values_and_slopes() {
    use relprop::layers::GeluForm;
    use relprop::reference::{derivative, value};
    // Φ(1) and φ(1) of the normal distribution.
    let (above, density) = (0.841_344_746_068_542_9, (-0.5_f64).exp() / TAU.sqrt());
    let logistic = 1.0 / (1.0 + (-1.0_f64).exp());
    let known = [
        (Activation::Relu, -1.0, 0.0, 0.0),
        (Activation::Relu, 0.0, 0.0, 0.0),
        (Activation::Relu, 2.0, 2.0, 1.0),
        (Activation::LeakyRelu { slope: 0.25 }, -2.0, -0.5, 0.25),
        (Activation::LeakyRelu { slope: 0.25 }, 0.0, 0.0, 0.25),
        (Activation::LeakyRelu { slope: 0.25 }, 2.0, 2.0, 1.0),
        (Activation::Sigmoid, 1.0, logistic, logistic * (1.0 - logistic)),
        (Activation::Tanh, 0.0, 0.0, 1.0),
        (Activation::Gelu(GeluForm::Erf), 1.0, above, above + density),
        (Activation::Gelu(GeluForm::Tanh), 1.0, 0.841_191_990_608_276_8, 1.082_964_083_845_782_6),
        (Activation::Softplus { beta: 1.0 }, 0.0, 2.0_f64.ln(), 0.5),
        (Activation::Softplus { beta: 2.0 }, 0.5, (1.0 + 1.0_f64.exp()).ln() / 2.0, logistic),
        (Activation::Softplus { beta: 10.0 }, 200.0, 200.0, 1.0),
        (Activation::Elu { alpha: 2.0 }, 3.0, 3.0, 1.0),
        (Activation::Elu { alpha: 2.0 }, 0.0, 0.0, 2.0),
        (Activation::Elu { alpha: 2.0 }, -1.0, 2.0 * (-1.0_f64).exp_m1(), 2.0 * (-1.0_f64).exp()),
        (Activation::Selu { alpha: 1.5, gamma: 2.0 }, 3.0, 6.0, 2.0),
        (Activation::Selu { alpha: 1.5, gamma: 2.0 }, 0.0, 0.0, 3.0),
        (Activation::Selu { alpha: 1.5, gamma: 2.0 }, -1.0, 3.0 * (-1.0_f64).exp_m1(), 3.0 * (-1.0_f64).exp()),
        (Activation::Celu { alpha: 2.0 }, 3.0, 3.0, 1.0),
        (Activation::Celu { alpha: 2.0 }, 0.0, 0.0, 1.0),
        (Activation::Celu { alpha: 2.0 }, -1.0, 2.0 * (-0.5_f64).exp_m1(), (-0.5_f64).exp()),
        (Activation::Silu { beta: 1.0 }, 1.0, logistic, logistic + logistic * (1.0 - logistic)),
        (Activation::Silu { beta: 2.0 }, 0.5, 0.5 * logistic, logistic + logistic * (1.0 - logistic)),
        (Activation::HardSigmoid { slope: 0.25, offset: 0.5 }, 1.0, 0.75, 0.25),
        (Activation::HardSigmoid { slope: 0.25, offset: 0.5 }, -2.0, 0.0, 0.0),
        (Activation::HardSigmoid { slope: 0.25, offset: 0.5 }, 2.0, 1.0, 0.0),
        (Activation::HardSigmoid { slope: 0.25, offset: 0.5 }, 9.0, 1.0, 0.0),
        (Activation::HardSwish, -3.0, 0.0, 0.0),
        (Activation::HardSwish, -1.5, -0.375, 0.0),
        (Activation::HardSwish, 1.5, 1.125, 1.0),
        (Activation::HardSwish, 3.0, 3.0, 1.0),
        (Activation::HardSwish, 4.0, 4.0, 1.0),
        // tanh(ln 2) = 3/5, and tanh(ln(1 + e)) = (e² + 2e) / (e² + 2e + 2).
        (Activation::Mish, 0.0, 0.0, 0.6),
        (Activation::Mish, 1.0, 0.865_098_388_267_310_3, 1.049_036_220_099_792_2),
        (Activation::Clip { low: 0.0, high: 6.0 }, -1.0, 0.0, 0.0),
        (Activation::Clip { low: 0.0, high: 6.0 }, 0.0, 0.0, 0.0),
        (Activation::Clip { low: 0.0, high: 6.0 }, 2.5, 2.5, 1.0),
        (Activation::Clip { low: 0.0, high: 6.0 }, 6.0, 6.0, 0.0),
        (Activation::Clip { low: 0.0, high: 6.0 }, 7.0, 6.0, 0.0),
        (Activation::Clip { low: 2.0, high: 1.0 }, 1.5, 1.0, 0.0),
        (Activation::ThresholdedRelu { threshold: 1.0 }, 1.0, 0.0, 0.0),
        (Activation::ThresholdedRelu { threshold: 1.0 }, 1.5, 1.5, 1.0),
        (Activation::ThresholdedRelu { threshold: -1.0 }, -0.5, -0.5, 1.0),
        (Activation::Softsign, -1.0, -0.5, 0.25),
        (Activation::Exp, 0.0, 1.0, 1.0),
        (Activation::Abs, -1.5, 1.5, -1.0),
        (Activation::Abs, 0.0, 0.0, 0.0),
        (Activation::Power { offset: 1.0, exponent: 2.0 }, -3.0, 4.0, -4.0),
        (Activation::Power { offset: 0.0, exponent: 3.0 }, -2.0, -8.0, 12.0),
        (Activation::Power { offset: 1.0, exponent: 0.5 }, 3.0, 2.0, 0.25),
        (Activation::Power { offset: 0.0, exponent: 0.5 }, 0.0, 0.0, 0.0),
        (Activation::Power { offset: 0.0, exponent: -0.5 }, 4.0, 0.5, -0.0625),
        (Activation::Power { offset: 0.0, exponent: -1.0 }, -2.0, -0.5, -0.25),
        (Activation::Power { offset: 1.0, exponent: -0.75 }, 15.0, 0.125, -0.75 / 128.0),
        (Activation::Erf, 0.5, 0.520_499_877_813_046_5, 2.0 / (TAU / 2.0).sqrt() * (-0.25_f64).exp()),
    ];
    for (activation, x, y, slope) in known {
        let found = [value(&activation, x), derivative(&activation, x)];
        assert_close(&found, &[y, slope], EXACT, &format!("{activation:?} at {x}"));
        assert!(value(&activation, f64::NAN).is_nan(), "{activation:?} of NaN");
    }
}

#[test]
fn a_clip_at_zero_without_an_upper_end_is_a_rectifier() {
    let infinity = f32::INFINITY;
    assert_eq!(Activation::clip(0.0, infinity), Activation::Relu);
    assert_eq!(Activation::clip(-0.0, infinity), Activation::Relu);
    assert_eq!(Activation::clip(0.0, 6.0), Activation::Clip { low: 0.0, high: 6.0 });
    assert_eq!(Activation::clip(-infinity, infinity), Activation::Clip { low: -infinity, high: infinity });
}
