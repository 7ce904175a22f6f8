//! Rules that no preset has, made of the data type itself.

use std::sync::Arc;

use relprop::composite::{Composite, Selector};
use relprop::layers::Family;
use relprop::network::Network;
use relprop::relevance::LayerSums;
use relprop::rules::{
    Bias, BiasPart, Bounds, Group, InputPart, LinearRule, Mask, PointwiseRule, Quotient, Rule, Share, Stabilizer, Term,
    TermSign, WeightPart,
};
use relprop::{ErrorKind, Tensor};

use crate::formulas::{self, stabilized};
use crate::linear_layers::{affine_cases, mixing_cases};
use crate::linear_map::LinearMap;
use crate::numbers::Numbers;
use crate::windows::window_cases;
use crate::{assert_close, at_inputs, everywhere, explained};

/// Parameters and inputs are dyadic; a few roundings of values below 100.
const EXACT: f64 = 1e-12;

const NONE: Stabilizer = Stabilizer::Absolute(0.0);

fn term(input: InputPart, weight: WeightPart) -> Term {
    Term { sign: TermSign::Plus, input, weight }
}

/// LRP-0 as a group, to be changed.
fn whole() -> Group {
    Group {
        factor: 1.0,
        terms: vec![term(InputPart::Whole, WeightPart::WHOLE)],
        bias: BiasPart::WHOLE,
        mask: Mask::Everywhere,
        quotient: Quotient::Divided(NONE),
        share: Share::Absorbed,
    }
}

fn rule(groups: Vec<Group>) -> LinearRule {
    LinearRule { name: "custom".to_owned(), groups, bounds: None }
}

fn neurons(rows: &[[f32; 2]], bias: &[f32]) -> Network {
    let mut builder = Network::builder();
    let x = builder.input("x", [2]);
    let weight = Tensor::new([rows.len(), 2], rows.concat()).unwrap();
    let z = builder.dense("dense", x, weight, Some(Tensor::vector(bias.to_vec()))).unwrap();
    builder.build(z).unwrap()
}

/// The relevance at the input and the layer's sums.
fn apply(network: &Network, rule: LinearRule, x: [f64; 2], arriving: &[f64]) -> (Vec<f64>, LayerSums) {
    let explanation = explained(network, &everywhere(rule), &[x.to_vec()], arriving);
    (at_inputs(network, &explanation), explanation.layers[0].unwrap())
}

fn parts(sums: LayerSums) -> [f64; 5] {
    [sums.at_output, sums.at_input, sums.bias, sums.epsilon, sums.dropped]
}

#[test]
fn redistributed_bias_and_epsilon_conserve_on_every_linear_layer() {
    let mut numbers = Numbers(11);
    for case in mixing_cases().iter().chain(&affine_cases()).chain(&window_cases()) {
        for stabilizer in [Stabilizer::Absolute(0.25), Stabilizer::Clip(0.5), Stabilizer::Rms(0.5)] {
            let place = format!("{stabilizer:?} on {}", case.name);
            let (map, x) = (LinearMap::of(&case.network), case.inputs.concat());
            let arriving = numbers.dyadics(case.outputs());
            let group = Group { quotient: Quotient::Divided(stabilizer), share: Share::Redistributed, ..whole() };
            let explanation = explained(&case.network, &everywhere(rule(vec![group])), &case.inputs, &arriving);

            let z = map.apply(&x);
            let damped = stabilized(stabilizer, &z);
            let mut expected = vec![0.0; x.len()];
            // A transposed convolution has outputs that no input reaches: nobody can take their relevance.
            let mut lost = 0.0;
            for (i, row) in map.jacobian.iter().enumerate() {
                let members = row.iter().filter(|w| **w != 0.0).count() as f64;
                lost += if members > 0.0 { 0.0 } else { arriving[i] };
                let held = map.offset[i] + damped[i] - z[i];
                for (j, w) in row.iter().enumerate().filter(|(_, w)| **w != 0.0) {
                    expected[j] += (x[j] * w + held / members) * arriving[i] / damped[i];
                }
            }
            // Denominators of 0.25 and more: terms stay below 1000, and 33 of them are added.
            assert_close(&at_inputs(&case.network, &explanation), &expected, 1e-11, &place);
            let arrived: f64 = arriving.iter().sum();
            let sums = parts(explanation.layers[0].unwrap());
            assert_close(&sums, &[arrived, arrived - lost, 0.0, 0.0, lost], 1e-11, &place);
        }
    }
}

#[test]
fn bias_policies_change_the_bias_alone() {
    let network = neurons(&[[1.0, -2.0], [0.5, 1.0], [-1.0, 0.25]], &[0.5, -1.0, -0.5]);
    let without = neurons(&[[1.0, -2.0], [0.5, 1.0], [-1.0, 0.25]], &[0.0; 3]);
    let (x, arriving) = ([1.5, -0.5], [1.0, -2.0, 4.0]);
    for rule in [
        LinearRule::epsilon(Stabilizer::Absolute(0.5)),
        LinearRule::gamma_original(0.5, Stabilizer::Clip(0.25)),
        LinearRule::alpha_beta(1.5, Stabilizer::Absolute(0.5)),
        LinearRule::w_square(Stabilizer::Absolute(0.5)),
        LinearRule::gradient(),
    ] {
        let counted = rule.clone().with_bias(Bias::Counted);
        assert_eq!(counted, rule);
        // Left out: what a layer without a bias gives.
        let (found, sums) = apply(&network, rule.clone().with_bias(Bias::LeftOut), x, &arriving);
        let (expected, _) = apply(&without, rule.clone(), x, &arriving);
        assert_close(&found, &expected, EXACT, &rule.name);
        assert_close(&[sums.bias], &[0.0], 0.0, &rule.name);
        // Redistributed: the part of bias and ε reaches the inputs.
        let (counted, before) = apply(&network, rule.clone(), x, &arriving);
        let (found, after) = apply(&network, rule.clone().with_bias(Bias::Redistributed), x, &arriving);
        let more: f64 = found.iter().zip(&counted).map(|(found, counted)| found - counted).sum();
        assert_close(&[more], &[before.bias + before.epsilon], EXACT, &rule.name);
        assert_close(&[after.bias, after.epsilon], &[0.0, 0.0], 0.0, &rule.name);
    }
}

#[test]
fn gamma_with_the_bias_left_out_still_reads_the_sign_that_the_bias_made() {
    // W x = 3 but z = −1: the group for z < 0 serves, over its own sum without b.
    let network = neurons(&[[1.0, 1.0]], &[-4.0]);
    let rule = LinearRule::gamma(1.0, NONE).with_bias(Bias::LeftOut);
    let (found, _) = apply(&network, rule, [1.0, 2.0], &[6.0]);
    assert_close(&found, &[2.0, 4.0], EXACT, "x⁺ (w + γ w⁻)");
}

#[test]
fn a_weight_of_zero_connects_its_input_all_the_same() {
    let network = neurons(&[[0.0, 2.0]], &[1.0]);
    let (flat, _) = apply(&network, LinearRule::flat(NONE), [3.0, 0.5], &[4.0]);
    assert_close(&flat, &[2.0, 2.0], EXACT, "flat");
    let shared = rule(vec![Group { share: Share::Redistributed, ..whole() }]);
    let (found, _) = apply(&network, shared, [3.0, 0.5], &[4.0]);
    assert_close(&found, &[1.0, 3.0], EXACT, "half of the bias each");
}

#[test]
fn redistributed_gamma_conserves_where_no_output_is_zero() {
    let mut gamma = LinearRule::gamma(0.25, Stabilizer::Absolute(0.5));
    gamma.groups.iter_mut().for_each(|group| group.share = Share::Redistributed);
    let network = neurons(&[[1.0, -2.0], [0.5, 1.0], [-1.0, 0.25]], &[0.5, -1.0, -0.5]);
    let (relevance, sums) = apply(&network, gamma, [1.5, -0.5], &[1.0, -2.0, 4.0]);
    assert_close(&[relevance.iter().sum()], &[3.0], EXACT, "sum at the input");
    assert_close(&parts(sums), &[3.0, 3.0, 0.0, 0.0, 0.0], EXACT, "sums");
}

#[test]
fn an_output_of_zero_is_in_neither_mask() {
    // z = (2, 0, −2).
    let network = neurons(&[[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]], &[0.0; 3]);
    let masked = |mask| rule(vec![Group { mask, ..whole() }]);
    let arriving = [5.0, 7.0, 11.0];
    let (above, sums) = apply(&network, masked(Mask::Positive), [1.0, 1.0], &arriving);
    assert_close(&above, &[2.5, 2.5], EXACT, "z > 0");
    assert_close(&parts(sums), &[23.0, 5.0, 0.0, 0.0, 18.0], EXACT, "z > 0");
    let (below, sums) = apply(&network, masked(Mask::Negative), [1.0, 1.0], &arriving);
    assert_close(&below, &[5.5, 5.5], EXACT, "z < 0");
    assert_close(&parts(sums), &[23.0, 11.0, 0.0, 0.0, 12.0], EXACT, "z < 0");
    let (both, sums) = apply(&network, LinearRule::gamma(1.0, Stabilizer::DEFAULT), [1.0, 1.0], &arriving);
    // ε = 1e-6 in denominators of 4 takes 16 · 2.5e-7.
    assert_close(&both, &[8.0, 8.0], 1e-5, "γ");
    assert_close(&[sums.dropped], &[7.0], EXACT, "γ");
}

#[test]
fn masks_read_the_forward_passs_sign_with_the_bias_even_where_the_group_leaves_it_out() {
    // W x = 3 but z = −1.
    let network = neurons(&[[1.0, 1.0]], &[-4.0]);
    let without_bias = |mask| rule(vec![Group { mask, bias: BiasPart::Absent, ..whole() }]);
    let (above, _) = apply(&network, without_bias(Mask::Positive), [1.0, 2.0], &[6.0]);
    assert_close(&above, &[0.0, 0.0], 0.0, "z > 0");
    let (below, _) = apply(&network, without_bias(Mask::Negative), [1.0, 2.0], &[6.0]);
    assert_close(&below, &[2.0, 4.0], EXACT, "z < 0");
}

#[test]
fn each_part_of_the_bias_stands_in_its_denominator() {
    let scaled = |positive, negative| BiasPart::Scaled { positive, negative };
    // W x = 4; what b̃ is for b = 2 and for b = −2.
    let known = [
        (BiasPart::Absent, 0.0, 0.0),
        (BiasPart::WHOLE, 2.0, -2.0),
        (scaled(1.5, 0.5), 3.0, -1.0),
        (scaled(0.0, 1.0), 0.0, -2.0),
        (BiasPart::Squared, 4.0, 4.0),
    ];
    for (bias, at_two, at_minus_two) in known {
        for (b, part) in [(2.0, at_two), (-2.0, at_minus_two)] {
            let place = format!("{bias:?} at {b}");
            let network = neurons(&[[1.0, 3.0]], &[b]);
            let (found, sums) = apply(&network, rule(vec![Group { bias, ..whole() }]), [1.0, 1.0], &[8.0]);
            let q = 8.0 / (4.0 + part);
            assert_close(&found, &[q, 3.0 * q], EXACT, &place);
            assert_close(&parts(sums), &[8.0, 4.0 * q, part * q, 0.0, 0.0], EXACT, &place);
        }
    }
}

#[test]
fn each_term_reads_its_parts_of_input_and_weight() {
    let bounds = Bounds { low: Arc::new(Tensor::scalar(-3.0)), high: Arc::new(Tensor::vector(vec![5.0, 7.0])) };
    let (x, w) = ([1.5, -0.5], [2.0, -4.0]);
    let network = neurons(&[[2.0, -4.0]], &[0.0]);
    let inputs = [
        (InputPart::Whole, x),
        (InputPart::Positive, [1.5, 0.0]),
        (InputPart::Negative, [0.0, -0.5]),
        (InputPart::Magnitude, [1.5, 0.5]),
        (InputPart::Low, [-3.0, -3.0]),
        (InputPart::High, [5.0, 7.0]),
        (InputPart::One, [1.0, 1.0]),
    ];
    let weights = [
        (WeightPart::WHOLE, w),
        (WeightPart::POSITIVE, [2.0, 0.0]),
        (WeightPart::NEGATIVE, [0.0, -4.0]),
        (WeightPart::Scaled { positive: 0.5, negative: 3.0 }, [1.0, -12.0]),
        (WeightPart::Squared, [4.0, 16.0]),
        (WeightPart::One, [1.0, 1.0]),
    ];
    for (input, x) in inputs {
        for (weight, w) in weights {
            for (sign, sigma) in [(TermSign::Plus, 1.0), (TermSign::Minus, -1.0)] {
                let quotient = Quotient::Divided(Stabilizer::Absolute(0.5));
                let group = Group { terms: vec![Term { sign, input, weight }], quotient, ..whole() };
                let custom = LinearRule { bounds: Some(bounds.clone()), ..rule(vec![group]) };
                let (found, _) = apply(&network, custom, [1.5, -0.5], &[3.0]);
                let c = [sigma * x[0] * w[0], sigma * x[1] * w[1]];
                let d = c[0] + c[1];
                let q = 3.0 / if d < 0.0 { d - 0.5 } else { d + 0.5 };
                assert_close(&found, &[c[0] * q, c[1] * q], EXACT, &format!("{sign:?} {input:?} {weight:?}"));
            }
        }
    }
}

#[test]
fn factors_weigh_groups_and_their_sums() {
    let network = neurons(&[[1.0, -2.0], [3.0, 0.5]], &[0.5, -1.0]);
    let (x, arriving, stabilizer) = ([1.0, 2.0], [3.0, -5.0], Stabilizer::Absolute(0.25));
    let (first, second) = (LinearRule::epsilon(stabilizer), LinearRule::w_square(stabilizer));
    let weighed = |rule: &LinearRule, factor| Group { factor, ..rule.groups[0].clone() };
    let mixed = rule(vec![weighed(&first, 0.75), weighed(&second, -1.5), weighed(&second, 0.0)]);
    let (found, sums) = apply(&network, mixed, x, &arriving);
    let (first, first_sums) = apply(&network, first, x, &arriving);
    let (second, second_sums) = apply(&network, second, x, &arriving);
    let mix = |first: f64, second: f64| 0.75 * first - 1.5 * second;
    assert_close(&found, &[mix(first[0], second[0]), mix(first[1], second[1])], EXACT, "relevance");
    let expected = [mix(first_sums.bias, second_sums.bias), mix(first_sums.epsilon, second_sums.epsilon)];
    assert_close(&[sums.bias, sums.epsilon], &expected, EXACT, "bias and ε");
}

#[test]
fn a_group_without_quotient_multiplies_by_relevance_itself() {
    // z = (−1.5, 5.25), so that one output is in each mask.
    let network = neurons(&[[1.0, -2.0], [3.0, 1.5]], &[0.5, 0.0]);
    let (x, arriving) = ([1.0, 1.5], [3.0, -5.0]);
    let plain = |terms, mask, share| {
        rule(vec![Group { terms: vec![terms], mask, share, quotient: Quotient::Plain, ..whole() }])
    };
    let gradient = plain(term(InputPart::One, WeightPart::WHOLE), Mask::Positive, Share::Absorbed);
    assert_close(&apply(&network, gradient, x, &arriving).0, &[-15.0, -7.5], EXACT, "gradient where z > 0");

    let contribution = term(InputPart::Whole, WeightPart::WHOLE);
    let (found, sums) = apply(&network, plain(contribution, Mask::Everywhere, Share::Absorbed), x, &arriving);
    assert_close(&found, &[3.0 - 15.0, -9.0 - 11.25], EXACT, "x ⊙ Wᵀ R");
    assert_close(&[sums.bias, sums.epsilon], &[1.5, 0.0], EXACT, "b R");
    let (found, sums) = apply(&network, plain(contribution, Mask::Everywhere, Share::Redistributed), x, &arriving);
    assert_close(&found, &[3.0 - 15.0 + 0.75, -9.0 - 11.25 + 0.75], EXACT, "x ⊙ Wᵀ R + b R / N");
    assert_close(&[sums.at_input, sums.bias], &[-1.5 * 3.0 - 5.25 * 5.0, 0.0], EXACT, "Σ z R");
}

#[test]
fn a_denominator_of_zero_counts_as_positive_and_drops_relevance_only_without_epsilon() {
    let network = neurons(&[[1.0, -1.0]], &[0.0]);
    for stabilizer in [Stabilizer::Absolute(0.25), Stabilizer::Clip(0.25)] {
        let (found, sums) = apply(&network, LinearRule::epsilon(stabilizer), [1.0, 1.0], &[3.0]);
        assert_close(&found, &[12.0, -12.0], EXACT, &stabilizer.to_string());
        assert_close(&parts(sums), &[3.0, 0.0, 0.0, 3.0, 0.0], EXACT, &stabilizer.to_string());
    }
    for stabilizer in [NONE, Stabilizer::Clip(0.0), Stabilizer::Rms(0.25)] {
        let (found, sums) = apply(&network, LinearRule::epsilon(stabilizer), [1.0, 1.0], &[3.0]);
        assert_close(&found, &[0.0, 0.0], 0.0, &stabilizer.to_string());
        assert_close(&parts(sums), &[3.0, 0.0, 0.0, 0.0, 3.0], 0.0, &stabilizer.to_string());
    }
}

#[test]
fn every_stabilizer_lets_nan_and_infinity_through_to_the_report() {
    let network = neurons(&[[1.0, 1.0]], &[0.0]);
    for stabilizer in [NONE, Stabilizer::DEFAULT, Stabilizer::Clip(0.25), Stabilizer::Rms(0.25)] {
        let (found, sums) = apply(&network, LinearRule::epsilon(stabilizer), [f64::NAN, 1.0], &[1.0]);
        assert!(found.iter().all(|r| r.is_nan()), "{stabilizer}: {found:?}");
        assert_eq!(sums.nonfinite, 2, "{stabilizer}");
        let (found, sums) = apply(&network, LinearRule::epsilon(stabilizer), [f64::INFINITY, 1.0], &[1.0]);
        assert!(found[0].is_nan(), "{stabilizer}: {found:?}");
        assert!(sums.nonfinite > 0, "{stabilizer}");
    }
}

#[test]
fn rules_that_say_they_vanish_with_the_input_do_and_the_others_do_not() {
    let mut vanishing = 0;
    let (low, high) = (Tensor::scalar(-2.0), Tensor::scalar(2.0));
    let network = neurons(&[[1.0, -2.0], [3.0, 0.5]], &[0.5, -1.0]);
    for formula in formulas::all() {
        let rule = formula.rule(&low, &high);
        let claims = rule.vanishes_with_input();
        vanishing += usize::from(claims);
        let (found, _) = apply(&network, rule, [0.0, 1.0], &[2.0, 3.0]);
        assert_eq!(approx::abs_diff_eq!(found[0], 0.0, epsilon = 0.0), claims, "{formula:?}: {found:?}");
    }
    assert!(vanishing > 0 && vanishing < formulas::all().len());
}

#[test]
fn affine_layers_refuse_the_box_rule_and_otherwise_pass_or_derive() {
    for case in affine_cases() {
        let arriving = Numbers(12).dyadics(case.outputs());
        let pointwise = |rule| Composite::new("c").with(Selector::Family(Family::Affine), Rule::Pointwise(rule));
        let passed = explained(&case.network, &pointwise(PointwiseRule::Pass), &case.inputs, &arriving);
        assert_close(&at_inputs(&case.network, &passed), &arriving, 0.0, &case.name);
        let derived = explained(&case.network, &pointwise(PointwiseRule::Gradient), &case.inputs, &arriving);
        let map = LinearMap::of(&case.network);
        let expected: Vec<f64> = (0..arriving.len()).map(|i| map.jacobian[i][i] * arriving[i]).collect();
        assert_close(&at_inputs(&case.network, &derived), &expected, EXACT, &case.name);

        let bound = Arc::new(Tensor::scalar(0.0));
        let boxed = LinearRule::zbox(Bounds { low: bound.clone(), high: bound }, NONE);
        let refusal = everywhere(boxed).assign(&case.network).unwrap_err();
        assert_eq!(refusal.kind(), ErrorKind::Argument);
    }
}
