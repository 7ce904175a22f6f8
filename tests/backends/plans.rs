//! Plans: how many steps and bytes, and the facts that remove work.

use super::*;

#[test]
fn a_plain_mlp_takes_two_steps_a_layer_and_one_more() {
    for activation in [Activation::Relu, Activation::Tanh, Activation::Gelu(GeluForm::Erf)] {
        for layers in 1..6 {
            let widths: Vec<usize> = (0..=layers).map(|layer| 5 + layer).collect();
            let network = mlp(19, &widths, activation, true);
            let plan = plan_of(&network, &Composite::preset("epsilon").unwrap(), &Ask::default());
            assert_eq!(plan.steps.len(), 2 * layers + 1, "{}", plan.describe(&network));
            let cost = plan.cost(&network, 64);
            assert_eq!(cost.operations, 2 * cost.forward_operations, "ε costs one product forward and one back");
        }
    }
}

#[test]
fn a_plain_mlp_moves_hardly_more_bytes_than_the_least() {
    let network = mlp(19, &[784, 300, 200, 10], Activation::Relu, true);
    let plan = plan_of(&network, &Composite::preset("epsilon").unwrap(), &Ask::default());
    for samples in [1, 64, 4096] {
        let cost = plan.cost(&network, samples);
        assert!(cost.bytes as f64 <= 1.3 * cost.least_bytes as f64, "{cost:?}");
        assert!(cost.bytes >= cost.least_bytes, "{cost:?}");
    }
}

/// Switches off one fact; asserts that the plan gets larger without it and the result stays equal within rounding.
fn assert_fact_pays(network: Network, composite: &Composite, off: Facts) {
    let with = plan_of(&network, composite, &Ask::default());
    let without = plan_of(&network, composite, &Ask { facts: off, ..Ask::default() });
    let work = |plan: &plan::Plan| {
        let cost = plan.cost(&network, 1);
        (cost.operations, plan.steps.len(), cost.bytes)
    };
    assert!(work(&with) < work(&without), "with:\n{}without:\n{}", with.describe(&network), without.describe(&network));
    let network = Arc::new(network);
    let data = inputs(&network, 8, 10);
    let ask = Request::new(Targets::ArgMax);
    let found = explain(&network, composite, on(Backend::Cpu), &data, &ask);
    let plain = explain(&network, composite, on(Backend::Cpu), &data, &ask.facts(off));
    assert_close(found.input(), plain.input(), 3e-5, composite.name());
}

#[test]
fn each_fact_removes_work_and_keeps_the_result() {
    let net = || mlp(20, &[9, 14, 8, 4], Activation::Relu, true);
    let gamma = composite_of(LinearRule::gamma(0.25, damped()));
    let epsilon = composite_of(LinearRule::epsilon(damped()));
    assert_fact_pays(net(), &gamma, Facts { nonnegative: false, ..Facts::default() });
    assert_fact_pays(net(), &gamma, Facts { dead_below_zero: false, ..Facts::default() });
    assert_fact_pays(net(), &epsilon, Facts { reuse_forward: false, ..Facts::default() });
    assert_fact_pays(net(), &epsilon, Facts { fuse: false, ..Facts::default() });
    assert_fact_pays(residual_convnet(20), &epsilon, Facts { factor: false, ..Facts::default() });
    assert_fact_pays(residual_convnet(20), &epsilon, Facts { follow: false, ..Facts::default() });
    assert_fact_pays(residual_convnet(20), &gamma, Facts { derive: false, ..Facts::default() });
    let boxed = Composite::preset("epsilon-gamma-box").unwrap().with_input_bounds(bounds());
    assert_fact_pays(residual_convnet(20), &boxed, Facts { weight_in_parts: false, ..Facts::default() });
    let alpha_beta = composite_of(LinearRule::alpha_beta(2.0, damped()));
    assert_fact_pays(net(), &alpha_beta, Facts { split_forward: false, ..Facts::default() });
    assert_fact_pays(net(), &alpha_beta, Facts { pair: false, ..Facts::default() });
    assert_fact_pays(net(), &alpha_beta, Facts { rest: false, ..Facts::default() });
    for rule in [alpha_beta, composite_of(LinearRule::z_plus(damped()))] {
        let both_signs = mlp(20, &[70, 72, 66, 4], Activation::Tanh, true);
        assert_fact_pays(both_signs, &rule, Facts { halve: false, ..Facts::default() });
    }
}

#[test]
fn a_residual_block_stores_no_denominator_that_one_quotient_reads() {
    let network = residual_convnet(20);
    let composite = Composite::preset("epsilon-plus").unwrap();
    let goes_on = |plan: &plan::Plan| plan.steps.iter().filter(|step| !step.also.is_empty()).count();
    let divides = |plan: &plan::Plan| {
        plan.steps.iter().flat_map(Step::ops).filter(|op| matches!(op, plan::Op::DivideInto { .. })).count()
    };
    let plan = plan_of(&network, &composite, &Ask::default());
    assert!(goes_on(&plan) > 0 && divides(&plan) > 0, "{}", plan.describe(&network));
    let nothing_joins = Facts { fuse: false, follow: false, ..Facts::default() };
    let apart = plan_of(&network, &composite, &Ask { facts: nothing_joins, ..Ask::default() });
    assert_eq!((goes_on(&apart), divides(&apart)), (0, 0));
    // A denominator has a row a sample, and its quotients a row a target.
    let several = plan_of(&network, &composite, &Ask { targets: 3, ..Ask::default() });
    assert_eq!(divides(&several), 0, "{}", several.describe(&network));
}

#[test]
fn what_two_quotients_alone_read_is_stored_by_no_step() {
    let network = residual_convnet(20);
    let composite = Composite::preset("epsilon-alpha2-beta1").unwrap();
    let plan = plan_of(&network, &composite, &Ask::default());
    // Each group's quotient is made where its relevance is. Where blocks meet, others read that too, and it stays.
    let relevance = &plan.steps[plan.forward..];
    let elementwise = relevance.iter().filter(|step| step.work == plan::Work::Elementwise).count();
    let (gone, kept) = (
        relevance.iter().filter(|step| !step.then.is_empty() && step.also.len() == 1).count(),
        relevance.iter().filter(|step| step.then.is_empty() && step.also.len() > 1).count(),
    );
    assert!(elementwise == 0 && gone > 2 && kept > 0, "{elementwise}, {gone}, {kept}: {}", plan.describe(&network));
    // z of a convolution whose output is only added to its block's shortcut.
    let is_sum = |op: &&plan::Op| matches!(op, plan::Op::MultiplySum(_));
    assert!(plan.steps.iter().flat_map(Step::ops).filter(is_sum).count() >= 4, "{}", plan.describe(&network));
    let read = |buffer| plan.steps.iter().any(|step| step.reads().any(|read| read == buffer));
    let is_result = |buffer| plan.results.iter().any(|(_, result)| *result == buffer);
    for written in relevance.iter().flat_map(plan::Step::writes) {
        assert!(read(written) || is_result(written), "{}", plan.describe(&network));
    }
    // With several targets, z has a row a sample, and what it is multiplied with a row a target.
    let ask = Request::new(Targets::Top(2)).report(true);
    assert_backends_agree(residual_convnet(20), &composite, 3, &ask, "several targets");
}

#[test]
fn generalised_gamma_takes_four_products_where_outputs_have_both_signs() {
    let network = mlp(23, &[9, 14, 8, 4], Activation::Sigmoid, true);
    let layer = network.layer_ids().nth(2).unwrap().0;
    let gamma = composite_of(LinearRule::gamma(0.25, damped()));
    assert_eq!(products_of(&plan_of(&network, &gamma, &Ask::default()), layer), 4);
    let without = Ask { facts: Facts { derive: false, ..Facts::default() }, ..Ask::default() };
    assert_eq!(products_of(&plan_of(&network, &gamma, &without), layer), 5);
    // What holds of α − β = 1 without masks would leave roundings where a part is small.
    let alpha_beta = composite_of(LinearRule::alpha_beta(2.0, damped()));
    let asked = |derive| Ask { facts: Facts { derive, split_forward: false, ..Facts::default() }, ..Ask::default() };
    let products = |derive| products_of(&plan_of(&network, &alpha_beta, &asked(derive)), layer);
    assert_eq!(products(true), products(false));
}

#[test]
fn alpha_beta_costs_two_products_forward_and_two_back() {
    let network = mlp(23, &[9, 14, 8, 4], Activation::Relu, true);
    let layer = network.layer_ids().nth(2).unwrap().0;
    let composite = composite_of(LinearRule::alpha_beta(2.0, damped()));
    assert_eq!(products_of(&plan_of(&network, &composite, &Ask::default()), layer), 4);
    let forward = plan_of(&network, &composite, &Ask { forward_only: true, ..Ask::default() });
    assert_eq!(products_of(&forward, layer), 1, "who asks for outputs alone pays for them alone");
    assert_eq!(forward.steps.len(), forward.forward);
}

#[test]
fn what_is_left_of_z_divides_and_is_reported_as_a_denominator_that_is_kept() {
    let rests = |plan: &plan::Plan| {
        let is_rest = |op: &&plan::Op| {
            let by = |by: &plan::Denominator| matches!(by, plan::Denominator::Rest { .. });
            match op {
                plan::Op::Divide { by: d, .. } | plan::Op::MultiplyDamping { by: d, .. } => by(d),
                plan::Op::MultiplyQuotients { of_sum, .. } => *of_sum,
                _ => false,
            }
        };
        plan.steps.iter().flat_map(Step::ops).filter(is_rest).count()
    };
    let rule = |stabilizer| composite_of(LinearRule::alpha_beta(2.0, stabilizer));
    let reported = Ask { report: true, ..Ask::default() };
    for stabilizer in [damped(), Stabilizer::Clip(0.05), Stabilizer::Rms(0.1)] {
        for network in [mlp(20, &[9, 14, 8, 4], Activation::Relu, true), residual_convnet(20)] {
            let is_relative = matches!(stabilizer, Stabilizer::Rms(_));
            for ask in [&Ask::default(), &reported] {
                let plan = plan_of(&network, &rule(stabilizer), ask);
                // A relative stabiliser measures a denominator where z is below zero too.
                assert_eq!(rests(&plan) == 0, is_relative, "{}", plan.describe(&network));
            }
            let ask = Request::new(Targets::Top(2)).report(true);
            assert_backends_agree(network, &rule(stabilizer), 5, &ask, &format!("αβ, {stabilizer}"));
        }
    }
    // Relevance lives below zero behind tanh.
    let signed = mlp(20, &[9, 14, 8, 4], Activation::Tanh, true);
    assert_eq!(rests(&plan_of(&signed, &rule(damped()), &Ask::default())), 0);
    // z less what lowers it is no sum of one sign where only that counts the bias.
    let mut unlike = LinearRule::alpha_beta(2.0, damped());
    (unlike.groups[0].bias, unlike.groups[1].bias) = (BiasPart::Absent, BiasPart::WHOLE);
    let network = mlp(20, &[9, 14, 8, 4], Activation::Relu, true);
    assert_eq!(rests(&plan_of(&network, &composite_of(unlike), &Ask::default())), 0);
}

#[test]
fn alpha_beta_on_inputs_of_both_signs_sums_all_its_products_but_z_two_at_a_time() {
    let network = mlp(23, &[9, 14, 8, 4], Activation::Relu, true);
    let first = network.layer_ids().next().unwrap().0;
    let plan = plan_of(&network, &composite_of(LinearRule::alpha_beta(2.0, damped())), &Ask::default());
    let sums = plan.steps.iter().filter(|step| step.layer == Some(first) && step.products().count() > 0);
    assert_eq!((products_of(&plan, first), sums.count()), (7, 4), "{}", plan.describe(&network));
}

fn products_of(plan: &plan::Plan, layer: LayerId) -> usize {
    plan.steps.iter().filter(|step| step.layer == Some(layer)).map(|step| step.products().count()).sum()
}

#[test]
fn groups_for_negative_outputs_stay_where_relevance_lives_below_zero() {
    // Layer 2 is the second dense layer, between two rectifiers.
    let network = mlp(21, &[9, 14, 8, 4], Activation::Relu, true);
    let hidden = network.layer_ids().nth(2).unwrap().0;
    let gamma = || composite_of(LinearRule::gamma(0.25, damped()));
    let last = network.layers().last().unwrap().name.clone();
    let above = |rule: LinearRule| gamma().with_first(Selector::name(&last).unwrap(), Rule::Linear(rule));
    let dropped = products_of(&plan_of(&network, &gamma(), &Ask::default()), hidden);
    assert_eq!(dropped, 3, "the forward product, one denominator and one back");

    let mut spread = LinearRule::epsilon(damped());
    spread.groups[0].share = Share::Redistributed;
    for rule in [LinearRule::flat(damped()), LinearRule::w_square(damped()), spread] {
        let plan = plan_of(&network, &above(rule.clone()), &Ask::default());
        assert!(products_of(&plan, hidden) > dropped, "γ below {}", rule.name);
        let ask = Request::new(Targets::ArgMax).report(true);
        assert_backends_agree(network.clone(), &above(rule.clone()), 7, &ask, &format!("γ below {}", rule.name));
    }

    // Relevance that is given in front of a rectifier lives below zero too, wherever it was negative.
    let cut = mlp(21, &[9, 14, 8], Activation::Relu, true);
    let last = cut.layer_ids().last().unwrap().0;
    assert!(products_of(&plan_of(&cut, &gamma(), &Ask::default()), last) > dropped, "γ where relevance is given");
    let given = Start::Given(Numbers(5).tensor(&[7, 8]));
    let ask = Request::new(Targets::Class(0)).start(given).report(true);
    assert_backends_agree(cut, &gamma(), 7, &ask, "γ where relevance is given");

    let sigmoid = mlp(21, &[9, 14, 8, 4], Activation::Sigmoid, true);
    assert!(products_of(&plan_of(&sigmoid, &gamma(), &Ask::default()), hidden) > dropped, "γ below a sigmoid");
}
