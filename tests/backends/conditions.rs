//! Relevance that passes chosen channels only.

use super::*;
use relprop::Condition;

/// Two layers side by side, joined: [[1, 2], [0, 1]] and [[2, 3], [0, 0]] on (−1, 1).
fn parallel() -> Network {
    let weight = |elements: [f32; 4]| Tensor::new([2, 2], elements.to_vec()).unwrap();
    let mut builder = Network::builder();
    let x = builder.input("x", [2]);
    let first = builder.dense("layer1", x, weight([1.0, 2.0, 0.0, 1.0]), None).unwrap();
    let second = builder.dense("layer2", x, weight([2.0, 3.0, 0.0, 0.0]), None).unwrap();
    let joined = builder.concat("joined", &[first, second], 0).unwrap();
    let output = builder.dense("last", joined, Tensor::new([1, 4], vec![1.0, 4.0, 5.0, 0.0]).unwrap(), None).unwrap();
    builder.build(output).unwrap()
}

#[test]
fn a_condition_gives_zennit_crps_known_answer() {
    let network = Arc::new(parallel());
    let composite = composite_of(LinearRule::gradient());
    let x = [Tensor::new([1, 2], vec![-1.0, 1.0]).unwrap()];
    let ask = || Request::new(Targets::ArgMax).start(Start::One).keep("layer1");
    let free = explain(&network, &composite, on(Backend::Cpu), &x, &ask());
    let conditioned = ask().condition(Condition::new().only("layer1", [0]).only("layer2", []));
    for options in [on(Backend::Reference)].into_iter().chain(compared()) {
        let found = explain(&network, &composite, options, &x, &conditioned);
        assert_eq!(found.input().data(), [1.0, 2.0], "the first row of layer1");
        assert_eq!(found.kept[0].relevance.data(), [1.0, 0.0]);
    }
    assert_eq!(free.input().data(), [11.0, 21.0]);
    assert_eq!(free.kept[0].relevance.data(), [1.0, 4.0]);
}

#[test]
fn several_conditions_share_a_pass_and_each_is_bit_for_bit_a_run_of_its_own() {
    let network = convnet(31);
    let names: Vec<String> = network
        .layers()
        .iter()
        .filter(|node| matches!(node.layer, relprop::layers::Layer::Conv(_)))
        .map(|node| node.name.clone())
        .collect();
    let (first, last) = (names.first().unwrap().as_str(), names.last().unwrap().as_str());
    let conditions =
        [Condition::new().only(last, [0, 2]), Condition::new().only(first, [1]).only(last, [1]), Condition::new()];
    let composite = composite_of(LinearRule::epsilon(damped()));
    let several = conditions
        .iter()
        .fold(Request::new(Targets::Classes(vec![1, 1, 2])), |ask, condition| ask.condition(condition.clone()));
    assert_backends_agree(network.clone(), &composite, 5, &several, "three conditions");
    let single = Request::new(Targets::Class(1)).condition(conditions[1].clone());
    assert_backends_agree(network.clone(), &composite, 5, &single, "one condition");

    let network = Arc::new(network);
    let data = inputs(&network, 5, 3);
    for options in compared() {
        let all = explain(&network, &composite, options.clone(), &data, &several);
        for (k, (class, condition)) in [1, 1, 2].into_iter().zip(&conditions).enumerate() {
            let ask = Request::new(Targets::Class(class)).condition(condition.clone());
            let one = explain(&network, &composite, options.clone(), &data, &ask);
            let width = one.input().count() / 5;
            for sample in 0..5 {
                let of_all = &all.input().data()[(sample * 3 + k) * width..][..width];
                assert_eq!(of_all, one.input().row(sample), "condition {k}, sample {sample}");
            }
        }
    }
}

/// Four conditions on one class, at layers in the middle and at the end of branches.
fn four_conditions(name: &str) -> Request {
    let channels: [&[usize]; 4] = [&[0], &[1, 2], &[], &[3]];
    let like = Request::new(Targets::Classes(vec![1; 4])).keep("relu").keep("average");
    channels.into_iter().fold(like, |ask, channels| ask.condition(Condition::new().only(name, channels)))
}

#[test]
fn conditions_on_one_class_share_the_way_back_above_them() {
    let network = Arc::new(residual_convnet(34));
    let convolutions = network.layers().iter().filter(|node| matches!(node.layer, relprop::layers::Layer::Conv(_)));
    let convolutions: Vec<&str> = convolutions.map(|node| node.name.as_str()).collect();
    let data = inputs(&network, 5, 3);
    let composite = composite_of(LinearRule::gamma(0.25, damped()));
    for (place, name) in convolutions.iter().enumerate() {
        let ask = four_conditions(name);
        let apart = ask.clone().facts(Facts { share: false, ..Facts::default() });
        let exact = explain(&network, &composite, on(Backend::Reference), &data, &ask);
        // The GPU takes its turn at the end of a block and at the shortcut of the next.
        for options in in_turn(2, place % 3, 3) {
            let explainer = Explainer::with_options(Arc::clone(&network), &composite, options.clone()).unwrap();
            let operations = |ask: &Request| explainer.plan(ask).unwrap().cost(&network, 5).operations;
            assert!(operations(&ask) < operations(&apart), "{name}: {} operations", operations(&ask));
            let what = format!("{} {name}", options.backend);
            let found = explain(&network, &composite, options.clone(), &data, &ask);
            let plain = explain(&network, &composite, options, &data, &apart);
            assert_close(found.input(), plain.input(), 1e-6, &what);
            assert_agrees(found, &exact, &what);
        }
    }
}

#[test]
fn what_a_condition_does_not_reach_is_the_same_for_every_target() {
    // Three equal targets that no condition tells apart: there is none, or one for all of them.
    for preset in ["gradient-x-input", "epsilon-plus"] {
        let composite = Composite::preset(preset).unwrap();
        let ask = Request::new(Targets::Classes(vec![2; 3])).start(Start::Contrast).keep("relu");
        assert_backends_agree(residual_convnet(35), &composite, 3, &ask, preset);
        let ask = ask.condition(Condition::new().only("sum", [0, 5]));
        assert_agree(vec![on(Backend::Cpu)], residual_convnet(35), &composite, 3, &ask, preset);
        assert_backends_agree(
            mlp(36, &[9, 14, 8, 4], Activation::Relu, true),
            &composite,
            3,
            &Request::new(Targets::Classes(vec![2; 3])),
            preset,
        );
    }
}

#[test]
fn conditions_that_do_not_fit_are_refused_with_what_fits() {
    let network = Arc::new(parallel());
    let explainer = Explainer::with_options(network, &composite_of(LinearRule::zero()), on(Backend::Cpu)).unwrap();
    let x = Tensor::new([1, 2], vec![-1.0, 1.0]).unwrap();
    let refused = |ask: Request| explainer.explain_with(&[Input::from(&x)], &ask).unwrap_err();
    let outside = refused(Request::new(Targets::ArgMax).condition(Condition::new().only("layer1", [2])));
    assert!(outside.message().contains("channel 2") && outside.advice().unwrap().contains("0 to 1"), "{outside}");
    let unknown = refused(Request::new(Targets::ArgMax).condition(Condition::new().only("layer9", [0])));
    assert!(unknown.advice().unwrap().contains("layer"), "{unknown}");
    let input = refused(Request::new(Targets::ArgMax).condition(Condition::new().only("x", [0])));
    assert!(input.message().contains("is an input"), "{input}");
    let two = Request::new(Targets::ArgMax).condition(Condition::new()).condition(Condition::new());
    assert!(refused(two).message().contains("2 conditions"));
}
