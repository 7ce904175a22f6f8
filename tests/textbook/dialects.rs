//! Single neurons on which tools differ: every tool's number by its dialect, ours by default, on the reference and on
//! the CPU.
//!
//! Captum's numbers are those that captum 0.9.0 gives (`neurons` in `tests/goldens/by_captum.py`). innvestigate's were read
//! off its rules in 2.1.2 and are what it computes on TensorFlow 2.14.1.

use relprop::network::Network;
use relprop::rules::{Dialect, LinearRule, Stabilizer};
use relprop::{Backend, Explainer, Input, Request, Start, Targets, Tensor};

use crate::{assert_close, at_inputs, everywhere, explained};

/// Parameters are exact and ε is 0: a few roundings of values below 10.
const EXACT: f64 = 1e-12;

/// The same in float32.
const FLOAT32: f64 = 5e-6;

const NONE: Stabilizer = Stabilizer::Absolute(0.0);

/// A neuron of two inputs: x, w, b, R.
type Neuron = ([f32; 2], [f32; 2], f32, f32);

const A: Neuron = ([1.0, 2.0], [1.0, -2.0], 0.0, -3.0);
const B: Neuron = ([1.0, -2.0], [2.0, 1.0], 1.0, 1.0);
const B2: Neuron = ([1.0, 2.0], [1.0, -0.25], 1.0, 1.5);
const C: Neuron = ([1.0, 2.0], [1.0, -2.0], -0.5, 1.0);
const D: Neuron = ([-1.0, 2.0], [-1.0, 1.0], 0.0, 1.0);
const E: Neuron = ([0.5, 0.25], [1.0, 2.0], 3.0, 1.0);
const F: Neuron = ([1.0, 1.0], [2.0, -1.0], -1.0, 1.0);
/// Both products of x⁻ are there, and neither of x⁺.
const G: Neuron = ([-1.0, -2.0], [1.0, -1.0], 0.0, 1.0);

fn assert_gives(rule: LinearRule, (x, w, b, start): Neuron, expected: [f64; 2], case: &str) {
    let mut builder = Network::builder();
    let input = builder.input("x", [2]);
    let weight = Tensor::new([1, 2], w.to_vec()).unwrap();
    let z = builder.dense("neuron", input, weight, Some(Tensor::vector(vec![b]))).unwrap();
    let network = builder.build(z).unwrap();
    let composite = everywhere(rule);

    let exact = explained(&network, &composite, &[x.map(f64::from).to_vec()], &[f64::from(start)]);
    assert_close(&at_inputs(&network, &exact), &expected, EXACT, &format!("{case}, reference"));

    let explainer = Explainer::new(network, &composite, Backend::Cpu).unwrap();
    let request = Request::new(Targets::Class(0)).start(Start::Given(Tensor::new([1, 1], vec![start]).unwrap()));
    let x = Tensor::new([1, 2], x.to_vec()).unwrap();
    let found = explainer.explain_with(&[Input::from(&x)], &request).unwrap();
    let found: Vec<f64> = found.inputs[0].relevance.data().iter().map(|&r| f64::from(r)).collect();
    assert_close(&found, &expected, FLOAT32, &format!("{case}, cpu"));
}

/// A rule by its name in a dialect; none where the tool lacks it.
type Named = fn(Dialect) -> Option<LinearRule>;

#[test]
fn single_neurons_on_which_tools_differ_give_each_tools_answer_in_its_dialect() {
    let gamma: Named = |dialect| dialect.gamma(1.0, NONE).ok();
    let gamma_of_a_quarter: Named = |dialect| dialect.gamma(0.25, NONE).ok();
    let z_plus: Named = |dialect| Some(dialect.z_plus(NONE));
    let alpha1_beta0: Named = |dialect| dialect.alpha_beta(1.0, NONE).ok();
    let alpha2_beta1: Named = |dialect| dialect.alpha_beta(2.0, NONE).ok();
    let w_square: Named = |dialect| dialect.w_square(NONE).ok();
    let binder: Named = |dialect| dialect.alpha_beta_x([1.0, 1.0], [0.0, 0.0], NONE).ok();
    type Answer = Option<[f64; 2]>;
    // zennit's (ours), captum's, innvestigate's.
    let cases: [(&str, Named, Neuron, [Answer; 3]); 10] = [
        ("A, gamma", gamma, A, [Some([3.0 / 7.0, -24.0 / 7.0]), Some([3.0, -6.0]), None]),
        ("B, gamma", gamma, B, [Some([1.0, -0.5]), Some([4.0, -4.0]), None]),
        ("B2, gamma", gamma_of_a_quarter, B2, [Some([0.9375, -0.375]), Some([15.0 / 14.0, -6.0 / 14.0]), None]),
        ("C, z-plus", z_plus, C, [Some([1.0, 0.0]), Some([2.0, 0.0]), Some([1.0, 0.0])]),
        ("C, alpha1-beta0", alpha1_beta0, C, [Some([1.0, 0.0]), Some([2.0, 0.0]), Some([2.0, 0.0])]),
        ("D, z-plus", z_plus, D, [Some([1.0 / 3.0, 2.0 / 3.0]), Some([0.0, 1.0]), Some([1.0 / 3.0, 2.0 / 3.0])]),
        (
            "D, alpha1-beta0",
            alpha1_beta0,
            D,
            [Some([1.0 / 3.0, 2.0 / 3.0]), Some([0.0, 1.0]), Some([1.0 / 3.0, 2.0 / 3.0])],
        ),
        ("E, w-square", w_square, E, [Some([1.0 / 14.0, 4.0 / 14.0]), None, Some([0.2, 0.8])]),
        ("F, alpha2-beta1", alpha2_beta1, F, [Some([2.0, -0.5]), None, Some([4.0, -0.5])]),
        ("G, alpha-beta-x 1001", binder, G, [Some([0.0, 1.0]), None, Some([0.0, 0.0])]),
    ];
    for (case, rule, neuron, answers) in cases {
        for (dialect, expected) in Dialect::ALL.into_iter().zip(answers) {
            let place = format!("{case}, {dialect}");
            let found = rule(dialect);
            assert_eq!(found.is_some(), expected.is_some(), "{place}");
            if let Some((rule, expected)) = found.zip(expected) {
                assert_gives(rule, neuron, expected, &place);
            }
        }
    }
}

/// RelevancePropagation.jl's `GammaRule` is our `gamma-original`, and innvestigate's `ZPlusFast` captum's z⁺ without the bias.
#[test]
fn single_neurons_give_other_tools_answers_by_rules_that_are_theirs() {
    use relprop::rules::Bias;
    let original = |gamma| LinearRule::gamma_original(gamma, NONE);
    let fast = || LinearRule::captum_z_plus(NONE).with_bias(Bias::LeftOut);
    assert_gives(original(1.0), A, [3.0, -6.0], "A, RelevancePropagation.jl");
    assert_gives(original(1.0), B, [2.0, -2.0], "B, RelevancePropagation.jl");
    assert_gives(original(0.25), B2, [0.9375, -0.375], "B2, RelevancePropagation.jl, where it is zennit's");
    assert_gives(fast(), C, [1.0, 0.0], "C, ZPlusFast");
    assert_gives(fast(), D, [0.0, 1.0], "D, ZPlusFast");
}

/// z is 0 exactly: x w = (1, −1). zennit's 0 is not a number there, ours and captum's relevance is dropped, and
/// innvestigate divides by 1e-7.
#[test]
fn a_denominator_of_zero_is_dropped_or_replaced() {
    let neuron: Neuron = ([1.0, 1.0], [1.0, -1.0], 0.0, 0.25);
    for dialect in [Dialect::Zennit, Dialect::Captum] {
        assert_gives(dialect.zero(), neuron, [0.0, 0.0], &format!("{dialect}"));
    }
    let epsilon = f64::from(1e-7_f32);
    let exact = Dialect::Innvestigate.zero();
    let mut builder = Network::builder();
    let input = builder.input("x", [2]);
    let z = builder.dense("neuron", input, Tensor::new([1, 2], neuron.1.to_vec()).unwrap(), None).unwrap();
    let network = builder.build(z).unwrap();
    let found = at_inputs(&network, &explained(&network, &everywhere(exact), &[vec![1.0, 1.0]], &[0.25]));
    // 2.5e6 in float64.
    assert_close(&found, &[0.25 / epsilon, -0.25 / epsilon], 1e-8, "innvestigate");
}

#[test]
fn each_dialect_has_its_own_small_numbers() {
    let known = [(Dialect::Zennit, "1e-6", "1e-6"), (Dialect::Captum, "1e-9", "1e-9")];
    for (dialect, epsilon, stabilizer) in known.into_iter().chain([(Dialect::Innvestigate, "1e-7", "clip:1e-7")]) {
        assert_eq!(dialect.default_epsilon().to_string(), epsilon, "{dialect}");
        assert_eq!(dialect.default_stabilizer().to_string(), stabilizer, "{dialect}");
    }
}

#[test]
fn a_rule_that_a_tool_lacks_is_refused_by_name() {
    let refused = [
        (Dialect::Innvestigate.gamma(0.25, NONE), "innvestigate has no rule gamma"),
        (Dialect::Innvestigate.gamma_original(0.25, NONE), "innvestigate has no rule gamma-original"),
        (Dialect::Captum.alpha_beta(2.0, NONE), "captum has no rule alpha-beta with alpha = 2"),
        (Dialect::Captum.alpha_beta_x([1.0, 0.0], [0.0, 0.0], NONE), "captum has no rule alpha-beta-x"),
        (Dialect::Captum.zbox(NONE), "captum has no rule box"),
        (Dialect::Captum.w_square(NONE), "captum has no rule w-square"),
        (Dialect::Captum.flat(NONE), "captum has no rule flat"),
    ];
    for (rule, message) in refused {
        let error = rule.unwrap_err();
        assert_eq!(error.message(), message);
        assert!(error.advice().unwrap().contains("z-plus"), "{error}");
    }
}
