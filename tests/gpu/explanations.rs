//! Whole explanations beside the reference and the CPU: every shape of tile at its edges, every preset.

use super::*;

#[test]
fn alpha_beta_takes_fewer_products_where_the_forward_pass_is_split() {
    // Deeper than a slice of the sums.
    let network = Arc::new(mlp(39, &[9, 1100, 24, 4], Activation::Relu, true));
    let composite = composite_of(LinearRule::alpha_beta(2.0, damped()));
    let data = inputs(&network, 5, 77);
    let explainer = explainer(&network, &composite, in_pairs(&device::shared()));
    let split = Request::new(Targets::ArgMax);
    let whole = split.clone().facts(Facts { split_forward: false, ..Facts::default() });
    let operations = |ask: &Request| explainer.plan(ask).unwrap().cost(&network, 1).operations;
    assert!(operations(&split) < operations(&whole), "{} and {}", operations(&split), operations(&whole));
    let exact = explain(&network, &composite, by(Backend::Reference), &data, &split);
    for ask in [split, whole] {
        let found = explainer.explain_with(&borrowed(&data), &ask).unwrap();
        assert_runs_its_plan(&explainer, &ask, &found, "αβ");
        assert_agrees(found, &exact, "αβ");
    }
}

#[test]
fn two_products_that_are_added_are_one_dispatch() {
    // Two products go on with one another in each layer: back, and in the first one's denominators.
    for (what, network) in [("dense", mlp(38, &[9, 300, 24, 4], Activation::Relu, true)), ("tokens", tokens(37))] {
        let network = Arc::new(network);
        let composite = composite_of(LinearRule::alpha_beta(1.5, damped()));
        let data = inputs(&network, 5, 76);
        let explainer = explainer(&network, &composite, in_pairs(&device::shared()));
        let paired = Request::new(Targets::Top(2));
        let apart = paired.clone().facts(Facts { pair: false, ..Facts::default() });
        let cost = |ask: &Request| explainer.plan(ask).unwrap().cost(&network, 5);
        let (with, without) = (cost(&paired), cost(&apart));
        assert_eq!((with.operations, with.products), (without.operations, without.products), "{what}");
        assert!(with.bytes < without.bytes, "{what}: {} and {} bytes", with.bytes, without.bytes);
        let exact = explain(&network, &composite, by(Backend::Reference), &data, &paired);
        let mut dispatches = Vec::new();
        for ask in [paired, apart] {
            let found = explainer.explain_with(&borrowed(&data), &ask).unwrap();
            assert_runs_its_plan(&explainer, &ask, &found, what);
            dispatches.push(found.run.dispatches);
            assert_agrees(found, &exact, what);
        }
        assert!(dispatches[0] < dispatches[1], "{what}: {dispatches:?}");
    }
}

/// A network, the rule of its dense layers, and the targets.
type Case = (&'static str, Network, LinearRule, Targets);

/// Widths one below, at and above the tiles' columns and steps of k.
fn edges() -> Vec<Case> {
    let relu = Activation::Relu;
    vec![
        ("above", mlp(40, &[65, 129, 33, 5], relu, true), LinearRule::epsilon(damped()), Targets::ArgMax),
        ("at", mlp(41, &[64, 128, 32, 4], relu, true), LinearRule::epsilon(damped()), Targets::ArgMax),
        // The second of two products begins within a step of the first, and behind a slice.
        ("pairs", mlp(44, &[33, 271, 66, 5], relu, true), LinearRule::alpha_beta(2.0, damped()), Targets::ArgMax),
        ("below", mlp(42, &[63, 127, 31, 3], relu, true), LinearRule::epsilon(damped()), Targets::ArgMax),
    ]
}

/// Rows of several targets and of tokens, and coefficients.
fn rows() -> Vec<Case> {
    vec![
        (
            "gamma, several",
            mlp(43, &[37, 67, 5], Activation::Relu, true),
            LinearRule::gamma(0.25, damped()),
            Targets::All,
        ),
        ("alpha-beta, tokens", tokens(44), LinearRule::alpha_beta(2.0, damped()), Targets::Top(2)),
    ]
}

/// Rows one below, at and above the tiles'.
const SAMPLES: [usize; 8] = [1, 8, 31, 32, 33, 127, 128, 129];

fn assert_agrees_with(tile: Tile, cases: Vec<Case>) {
    let gpu = with_tile(tile);
    for (case, network, rule, targets) in cases {
        let network = Arc::new(network);
        let composite = composite_of(rule);
        let most = *SAMPLES.last().unwrap();
        let data = inputs(&network, most, 78);
        let ask = Request::new(targets);
        let exact = explain(&network, &composite, by(Backend::Reference), &data, &ask);
        let cpu = explain(&network, &composite, by(Backend::Cpu), &data, &ask);
        let explainer = explainer(&network, &composite, Options { batch_size: Some(most), ..on(&gpu) });
        let all = explainer.explain_with(&borrowed(&data), &ask).unwrap();
        let of_all = bits(&all);
        let what = format!("{tile:?}, {case}");
        assert_runs_its_plan(&explainer, &ask, &all, &what);
        assert_agrees(all.clone(), &exact, &what);
        assert_agrees(all, &cpu, &format!("{what}, beside the CPU"));
        for samples in SAMPLES {
            let some = explainer.explain_with(&borrowed(&first(&data, samples)), &ask).unwrap();
            let width = of_all.len() / most;
            assert!(bits(&some) == of_all[..samples * width], "{what}: {samples} samples have other bits than {most}");
        }
    }
}

#[test]
fn large_tiles_agree_at_their_edges() {
    assert_agrees_with(Tile::Large, edges());
}

#[test]
fn medium_tiles_agree_at_their_edges() {
    assert_agrees_with(Tile::Medium, edges());
}

#[test]
fn small_tiles_agree_at_their_edges() {
    assert_agrees_with(Tile::Small, edges());
}

/// Pairs of products and rows of targets; the edges of its 256 rows are met in tests/kernels and by pixels.
#[test]
fn narrow_tiles_agree() {
    assert_agrees_with(Tile::Narrow, vec![edges().swap_remove(2), rows().swap_remove(0)]);
}

#[test]
fn tiles_for_few_rows_agree_at_their_edges() {
    assert_agrees_with(Tile::Few, edges());
}

#[test]
fn tiles_without_workgroup_memory_agree_at_their_edges() {
    assert_agrees_with(Tile::Free, edges());
}

#[test]
fn slim_tiles_agree() {
    assert_agrees_with(Tile::Slim, vec![edges().swap_remove(2), rows().swap_remove(0)]);
}

#[test]
fn rows_of_targets_and_tokens_agree_in_every_kind_of_tile() {
    // The large tiles differ from the small one in extents alone, the narrow one has a test of its own, as those of software have.
    for tile in [Tile::Small, Tile::Few] {
        assert_agrees_with(tile, rows());
    }
}

#[test]
fn each_number_of_few_rows_agrees() {
    let network = Arc::new(mlp(45, &[150, 70, 6], Activation::Relu, true));
    let composite = composite_of(LinearRule::epsilon(damped()));
    let data = inputs(&network, 9, 79);
    let ask = Request::new(Targets::ArgMax);
    let exact = explain(&network, &composite, by(Backend::Reference), &data, &ask);
    for tile in [Tile::Few, Tile::Free] {
        for batch_size in [1, 2, 3, 8] {
            let options = Options { batch_size: Some(batch_size), ..on(&with_tile(tile)) };
            let found = explain(&network, &composite, options, &data, &ask);
            assert_eq!(found.run.chunks, 9_usize.div_ceil(batch_size));
            assert_agrees(found, &exact, &format!("{tile:?}, batches of {batch_size}"));
        }
    }
}

#[test]
fn every_preset_agrees() {
    for preset in PRESETS {
        // Damped as in tests/backends: what random sums near zero are divided by is no measure of a kernel.
        let options = PresetOptions { epsilon: Some(damped()), stabilizer: Some(damped()), ..PresetOptions::default() };
        let composite = Composite::preset_with(preset, options).unwrap().with_input_bounds(bounds());
        let networks = [("mlp", mlp(46, &[18, 35, 22, 6], Activation::Relu, true)), ("tangle", tangle(47))];
        for (what, network) in networks.into_iter().filter(|(what, _)| *what == "mlp" || fits_tangle(preset)) {
            let network = Arc::new(network);
            let data = inputs(&network, 9, 80);
            let ask = Request::new(Targets::Top(2)).report(true);
            let exact = explain(&network, &composite, by(Backend::Reference), &data, &ask);
            let explainer = explainer(&network, &composite, in_pairs(&device::shared()));
            let found = explainer.explain_with(&borrowed(&data), &ask).unwrap();
            let what = format!("{preset}, {what}");
            assert_runs_its_plan(&explainer, &ask, &found, &what);
            assert_agrees(found, &exact, &what);
        }
    }
}

#[test]
fn a_plain_mlp_takes_two_dispatches_a_layer_and_one_more() {
    for layers in 1..5 {
        let widths: Vec<usize> = (0..=layers).map(|layer| 12 + layer).collect();
        let network = Arc::new(mlp(48, &widths, Activation::Relu, true));
        let data = inputs(&network, 7, 81);
        let composite = Composite::preset("epsilon").unwrap();
        let explainer = explainer(&network, &composite, Options { batch_size: Some(3), ..on(&device::shared()) });
        let found = explainer.explain(&borrowed(&data), &Targets::ArgMax).unwrap();
        assert_eq!((found.run.chunks, found.run.dispatches), (3, 3 * (2 * layers + 1)));
        let logits = explainer.forward(&borrowed(&data)).unwrap();
        assert_eq!(logits, found.logits, "the forward pass alone gives the same bits");
    }
}

#[test]
fn looked_up_words_agree() {
    let network = Arc::new(words(49));
    let composite = composite_of(LinearRule::epsilon(damped()));
    let ids = Tensor::from_fn([40, 3], |i| [0_i64, -1, 9, 3, -10, 5, 1][i % 7]);
    let x = Numbers(4).tensor(&[40, 5]);
    let data = [Input::from(&ids), Input::from(&x)];
    let ask = Request::new(Targets::All).keep("mixed").keep("embedded").report(true);
    let exact = explainer(&network, &composite, by(Backend::Reference)).explain_with(&data, &ask).unwrap();
    let explainer = explainer(&network, &composite, in_pairs(&device::shared()));
    let found = explainer.explain_with(&data, &ask).unwrap();
    assert_runs_its_plan(&explainer, &ask, &found, "words");
    assert_agrees(found, &exact, "words");
}

#[test]
fn a_network_that_ends_in_an_activation_agrees() {
    let mut numbers = Numbers(50);
    let mut builder = Network::builder();
    let x = builder.input("x", [10]);
    let z = dense(&mut builder, &mut numbers, x, 7, true);
    let y = builder.activation("y", z, Activation::Tanh).unwrap();
    let network = Arc::new(builder.build(y).unwrap());
    assert_starts_agree(&network, [Start::Logit, Start::Contrast, Start::NegativeLogit], "ends in tanh");
}

fn assert_starts_agree(network: &Arc<Network>, starts: [Start; 3], what: &str) {
    let data = inputs(network, 20, 82);
    let composite = Composite::preset("gradient-x-input").unwrap();
    for start in starts {
        let ask = Request::new(Targets::Top(3)).start(start.clone());
        let exact = explain(network, &composite, by(Backend::Reference), &data, &ask);
        let found = explain(network, &composite, in_pairs(&device::shared()), &data, &ask);
        assert_agrees(found, &exact, &format!("{what}, start {start}"));
    }
}

/// As many lanes as a start has at most, fewer, and outputs that they take in several rounds; every fifth output has an equal.
#[test]
fn relevance_starts_among_many_outputs() {
    for (outputs, seed) in [(100, 53), (1000, 54)] {
        let mut numbers = Numbers(seed);
        let mut builder = Network::builder();
        let x = builder.input("x", [6]);
        let rows = numbers.weight(outputs, 6);
        let of = |output: usize| if output % 5 == 4 { output - 2 } else { output };
        let weight = Tensor::from_fn([outputs, 6], |at| rows.data()[of(at / 6) * 6 + at % 6]);
        let z = builder.dense("z", x, weight, None).unwrap();
        let network = Arc::new(builder.build(z).unwrap());
        let starts = [Start::Logit, Start::Probability, Start::Contrast];
        assert_starts_agree(&network, starts, &format!("{outputs} outputs"));
    }
}

#[test]
fn sums_of_more_inputs_than_a_chain_holds_agree() {
    let network = Arc::new(wide_sum(51, 20));
    let data = inputs(&network, 11, 83);
    let composite = composite_of(LinearRule::epsilon(damped()));
    let ask = Request::new(Targets::ArgMax).report(true);
    let exact = explain(&network, &composite, by(Backend::Reference), &data, &ask);
    assert_agrees(explain(&network, &composite, in_pairs(&device::shared()), &data, &ask), &exact, "a sum of twenty");
}
