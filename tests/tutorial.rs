//! The tutorial's network has answers that can be checked by hand: built in code, and as both torch exporters write it.

#![cfg(all(feature = "onnx", feature = "files"))]

use std::path::Path;

use approx::assert_abs_diff_eq;
use relprop::canonical::{self, canonicalize};
use relprop::network::BatchAxis;
use relprop::{Backend, Composite, Explainer, Input, Network, Request, Start, Targets, Tensor, onnx};

#[allow(dead_code, reason = "the example's own program is not run here")]
#[path = "../examples/simple_model.rs"]
mod simple_model;

use simple_model::{INPUT, METHODS, Parameters};

const BACKENDS: [Backend; 2] = [Backend::Cpu, Backend::Reference];

/// A few roundings of float32 numbers of at most 4.
const TOLERANCE: f32 = 2e-6;

fn built() -> Network {
    simple_model::network(Parameters::fixed()).unwrap()
}

fn exported(name: &str) -> Network {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx").join(name);
    canonicalize(&onnx::load(path).unwrap(), &canonical::Options::default()).unwrap()
}

fn networks() -> [(&'static str, Network); 3] {
    [
        ("built in code", built()),
        ("torch's exporter", exported("tutorial_dynamo.onnx")),
        ("torch's older exporter", exported("tutorial_legacy.onnx")),
    ]
}

fn assert_all_near(what: &str, found: &[f32], expected: &[f32]) {
    let near = approx::abs_diff_eq!(*found, *expected, epsilon = TOLERANCE);
    assert!(near, "{what}: {found:?} is not {expected:?}");
}

#[test]
fn the_gradient_and_lrp_0_are_those_computed_by_hand() {
    for (name, network) in networks() {
        for backend in BACKENDS {
            let what = format!("{name} on {backend:?}");
            let (f, scores) = simple_model::scores(&network, backend).unwrap();
            assert_abs_diff_eq!(f, 0.5, epsilon = TOLERANCE);
            assert_eq!(METHODS.map(|(name, _)| name), ["gradient", "LRP-0"]);
            assert_all_near(&what, scores.row(0), &[1.0, -2.5, 4.0, -0.25]);
            assert_all_near(&what, scores.row(1), &[0.2, -1.0, 2.4, -0.2]);
            assert_abs_diff_eq!(scores.row(1).iter().sum::<f32>(), 1.4, epsilon = 2.0 * TOLERANCE);
        }
    }
}

#[test]
fn the_biases_hold_what_the_inputs_receive_beyond_1() {
    for (name, network) in networks() {
        // The three files name their layers differently, but each has two dense ones with a rectifier between.
        let names: Vec<String> = network.layers().iter().map(|node| node.name.clone()).collect();
        let [first, _, last] = names.as_slice() else { panic!("{name}: {names:?}") };
        for backend in BACKENDS {
            let explainer = Explainer::new(network.clone(), &Composite::preset("zero").unwrap(), backend).unwrap();
            let request = Request::new(Targets::Class(0)).start(Start::One).keep(first).report(true);
            let x = Tensor::vector(INPUT.to_vec());
            let relevance = explainer.explain_with(&[Input::from(&x)], &request).unwrap();

            // R of the hidden layer is (1.5 · 0.8, −1 · 0.3) / 0.5; of it, a bias takes b / z.
            let hidden = relevance.kept[0].relevance.data();
            assert_all_near(name, hidden, &[2.4, -0.6]);
            assert_abs_diff_eq!(hidden[0] * 0.1 / 0.8, 0.3, epsilon = TOLERANCE);
            assert_abs_diff_eq!(hidden[1] * -0.05 / 0.3, 0.1, epsilon = TOLERANCE);

            let report = relevance.report.unwrap();
            let bias = |layer: &str| report.layers.iter().find(|found| found.name == layer).unwrap().sums.bias;
            assert_abs_diff_eq!(bias(first), 0.3 + 0.1, epsilon = 1e-6);
            assert_abs_diff_eq!(bias(last), -0.8, epsilon = 1e-6);
            assert!(report.layers.iter().all(|layer| layer.sums.conserves()), "{name}: {report:?}");
        }
    }
}

#[test]
fn the_pre_activations_are_those_computed_by_hand() {
    let parameters = Parameters::fixed();
    let mut builder = Network::builder();
    let x = builder.input("x", [4]);
    let w1 = Tensor::new([2, 4], parameters.w1).unwrap();
    let z = builder.dense("fc1", x, w1, Some(Tensor::vector(parameters.b1))).unwrap();
    let first_layer = builder.build(z).unwrap();
    for backend in BACKENDS {
        let explainer = Explainer::new(first_layer.clone(), &Composite::preset("zero").unwrap(), backend).unwrap();
        let z = explainer.forward(&[Input::from(&Tensor::vector(INPUT.to_vec()))]).unwrap();
        assert_all_near("z", z.data(), &[0.8, 0.3]);
    }
}

#[test]
fn the_exported_models_have_no_batch_axis() {
    for name in ["tutorial_dynamo.onnx", "tutorial_legacy.onnx"] {
        assert_eq!(exported(name).batch(), BatchAxis::Absent);
    }
}

#[test]
fn random_weights_are_torchs_default() {
    for seed in 0..50 {
        let Parameters { w1, b1, w2, b2 } = Parameters::random(seed);
        assert!(w1.iter().chain(&b1).all(|weight| weight.abs() <= 0.5), "four inputs: ±1/√4");
        assert!(w2.iter().chain(&b2).all(|weight| weight.abs() <= 0.5_f32.sqrt()), "two inputs: ±1/√2");
    }
    let all: Vec<f32> = (0..500).flat_map(|seed| Parameters::random(seed).w1).collect();
    // Uniform in ±½: the mean is 0 and the variance 1/12; of 4,000 numbers both are this close.
    assert_abs_diff_eq!(all.iter().sum::<f32>() / 4000.0, 0.0, epsilon = 0.02);
    assert_abs_diff_eq!(all.iter().map(|w| w * w).sum::<f32>() / 4000.0, 1.0 / 12.0, epsilon = 0.005);
    assert_eq!(Parameters::random(7).w1, Parameters::random(7).w1);
}
