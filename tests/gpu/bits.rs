//! A sample's bits: whatever its neighbours, its place, the chunks, the memory, the threads and the shape of tile.

use super::*;

/// Its rms is a sum over each row.
fn damped_by_rms() -> Composite {
    composite_of(LinearRule::epsilon(Stabilizer::Rms(0.1)))
}

#[test]
fn every_shape_of_tile_but_few_gives_the_same_bits() {
    let others = [Tile::Small, Tile::Medium, Tile::Large, Tile::Narrow, Tile::Slim];
    for (network, rule, targets, tiles) in [
        (
            mlp(40, &[65, 129, 33, 5], Activation::Relu, true),
            LinearRule::epsilon(damped()),
            Targets::ArgMax,
            &others[..],
        ),
        (
            mlp(44, &[33, 271, 66, 5], Activation::Relu, true),
            LinearRule::alpha_beta(2.0, damped()),
            Targets::ArgMax,
            &others[..],
        ),
        (mlp(43, &[37, 67, 5], Activation::Relu, true), LinearRule::gamma(0.25, damped()), Targets::All, &others[..1]),
    ] {
        let network = Arc::new(network);
        let data = inputs(&network, 70, 84);
        let composite = composite_of(rule);
        let of_tile =
            |tile| explain(&network, &composite, in_pairs(&with_tile(tile)), &data, &Request::new(targets.clone()));
        let expected = bits(&of_tile(Tile::Free));
        for &tile in tiles {
            assert!(bits(&of_tile(tile)) == expected, "{tile:?} differs from Free");
        }
        assert!(bits(&of_tile(Tile::Few)) == bits(&of_tile(Tile::Few)), "Few differs from itself");
    }
}

#[test]
fn bits_do_not_change_with_batch_sizes_or_memory() {
    let network = Arc::new(mlp(52, &[31, 70, 33, 7], Activation::Relu, true));
    let data = inputs(&network, 53, 85);
    let composite = Composite::preset("epsilon").unwrap();
    let ask = Request::new(Targets::ArgMax);
    let gpu = with_tile(Tile::Small);
    let whole = explain(&network, &composite, on(&gpu), &data, &ask);
    assert_eq!(whole.run.chunks, 1);
    for batch_size in [1, 7, 13, 52, 53, 1000] {
        let again = explain(&network, &composite, Options { batch_size: Some(batch_size), ..on(&gpu) }, &data, &ask);
        assert_eq!(again.run.chunks, 53_usize.div_ceil(batch_size));
        assert!(bits(&again) == bits(&whole), "batches of {batch_size}");
    }
    for memory in [5_000, 50_000] {
        let again = explain(&network, &composite, Options { memory: Some(memory), ..on(&gpu) }, &data, &ask);
        assert!(again.run.chunks > 1, "{memory} bytes hold {} chunks", again.run.chunks);
        assert!(bits(&again) == bits(&whole), "{memory} bytes");
    }
    let starved = explainer(&network, &composite, Options { memory: Some(100), ..on(&gpu) });
    let error = starved.explain(&borrowed(&data), &Targets::ArgMax).unwrap_err();
    assert_eq!(error.kind(), relprop::ErrorKind::Limit);
    assert!(error.message().ends_with("but 100 are allowed"), "{error}");
}

#[test]
fn a_samples_bits_do_not_change_with_its_neighbours_or_its_place() {
    for network in [mlp(53, &[31, 70, 33, 7], Activation::Tanh, true), tangle(54), tokens(55), convnet(58)] {
        let network = Arc::new(network);
        let explainer = explainer(&network, &damped_by_rms(), in_pairs(&device::shared()));
        let data = inputs(&network, 40, 86);
        let many = explainer.explain(&borrowed(&data), &Targets::Top(2)).unwrap();
        let again = explainer.explain(&borrowed(&data), &Targets::Top(2)).unwrap();
        assert_eq!(bits(&many), bits(&again), "runs repeat");
        for sample in [0, 1, 7, 8, 39] {
            let alone: Vec<Tensor> = (data.iter().zip(network.inputs()))
                .map(|(data, input)| {
                    Tensor::new(network.shape(input.value).prepend(1), data.row(sample).to_vec()).unwrap()
                })
                .collect();
            let one = explainer.explain(&borrowed(&alone), &Targets::Top(2)).unwrap();
            for (many, one) in many.inputs.iter().zip(&one.inputs) {
                assert_eq!(many.relevance.row(sample), one.relevance.data(), "sample {sample}");
            }
        }
    }
}

#[test]
fn samples_of_nan_leave_no_trace_in_those_after_them() {
    for (network, targets) in [
        (tangle(17), Targets::All),
        (tokens(56), Targets::Top(2)),
        (residual_convnet(57), Targets::Top(2)),
        (mlp(26, &[31, 70, 33, 7], Activation::Relu, true), Targets::Class(1)),
    ] {
        let network = Arc::new(network);
        // Small chunks: the same memory serves the spoiled chunks and then the clean ones.
        let explainer = explainer(&network, &damped_by_rms(), in_pairs(&device::shared()));
        let clean = inputs(&network, 40, 8);
        let ask = Request::new(targets).allow_nonfinite(true).report(true);
        let before = explainer.explain_with(&borrowed(&clean), &ask).unwrap();
        let spoiled: Vec<Tensor> = clean.iter().map(|tensor| spoil(tensor, 15)).collect();
        let after = explainer.explain_with(&borrowed(&spoiled), &ask).unwrap();
        for (before, after) in before.inputs.iter().zip(&after.inputs) {
            let spoiled = before.relevance.count() / 40 * 15;
            assert!(after.relevance.data()[..spoiled].iter().any(|r| r.is_nan()), "NaN goes through");
            assert_eq!(before.relevance.data()[spoiled..], after.relevance.data()[spoiled..]);
        }
        assert!(after.report.unwrap().layers.iter().any(|layer| layer.sums.nonfinite > 0), "and is counted");
        let again = explainer.explain_with(&borrowed(&clean), &ask).unwrap();
        assert_eq!(
            after.targets.data()[after.targets.count() / 2..],
            before.targets.data()[before.targets.count() / 2..]
        );
        assert_eq!(bits(&again), bits(&before));
    }
}

#[test]
fn an_explainer_is_shared_between_threads() {
    let network = Arc::new(mlp(18, &[12, 20, 5], Activation::Relu, true));
    let composite = Composite::preset("epsilon").unwrap();
    let explainer = explainer(&network, &composite, in_pairs(&device::shared()));
    let data = inputs(&network, 50, 9);
    let expected = bits(&explainer.explain(&borrowed(&data), &Targets::ArgMax).unwrap());
    std::thread::scope(|scope| {
        for k in 1..=4 {
            let (explainer, data, expected) = (&explainer, &data, &expected);
            scope.spawn(move || {
                for _ in 0..3 {
                    let top = explainer.explain(&borrowed(data), &Targets::Top(k)).unwrap();
                    assert_eq!(top.targets.shape().dims(), [50, k]);
                    assert_eq!(&bits(&explainer.explain(&borrowed(data), &Targets::ArgMax).unwrap()), expected);
                }
            });
        }
    });
}

#[test]
fn explainers_that_share_a_device_share_its_kernels_and_not_their_weights() {
    let gpu = Arc::new(open(|_| {}).unwrap());
    let composite = Composite::preset("epsilon").unwrap();
    let networks = [57, 58].map(|seed| Arc::new(mlp(seed, &[12, 20, 5], Activation::Relu, true)));
    let explainers = networks.each_ref().map(|network| explainer(network, &composite, in_pairs(&gpu)));
    let data = inputs(&networks[0], 20, 87);
    let mut kernels = Vec::new();
    for (network, explainer) in networks.iter().zip(&explainers) {
        let found = explainer.explain(&borrowed(&data), &Targets::ArgMax).unwrap();
        let ask = Request::new(Targets::ArgMax);
        assert_agrees(found, &explain(network, &composite, by(Backend::Cpu), &data, &ask), "one of two");
        kernels.push(gpu.kernels());
    }
    assert_eq!(kernels[0], kernels[1], "networks of one shape need the same kernels");
    assert!(kernels[0] > 0);
}

#[test]
fn jobs_of_a_thread_pool_may_explain_at_once() {
    let network = Arc::new(mlp(56, &[31, 70, 7], Activation::Relu, true));
    let data = inputs(&network, 8, 88);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    // Plans are made while others wait for them; a job that waits must not take up one that waits for it.
    for seed in 0..3 {
        let explainer = explainer(&network, &damped_by_rms(), in_pairs(&open(|_| {}).map(Arc::new).unwrap()));
        let expected = pool.install(|| {
            use rayon::prelude::*;
            let explained =
                (0..16).into_par_iter().map(|_| explainer.explain(&borrowed(&data), &Targets::ArgMax).unwrap());
            explained.map(|relevance| bits(&relevance)).collect::<Vec<_>>()
        });
        assert!(expected.iter().all(|found| *found == expected[0]), "round {seed}");
    }
}

/// 2²⁴ and then ones: a one alone vanishes beside 2²⁴, and what a slice sums from zero does not.
#[test]
fn parts_of_a_denominator_are_made_of_short_slices() {
    const SLICE: usize = 128;
    let inputs = 2 * SLICE + 44;
    let mut builder = Network::builder();
    let x = builder.input("x", [inputs]);
    let x = builder.relu("relu", x).unwrap();
    let z = builder.dense("z", x, Tensor::from_fn([1, inputs], |_| 1.0), None).unwrap();
    let network = Arc::new(builder.build(z).unwrap());
    let data = [Tensor::from_fn([9, inputs], |at| if at.is_multiple_of(inputs) { 16_777_216.0 } else { 1.0 })];
    let composite = composite_of(LinearRule::alpha_beta(2.0, damped()));
    for tile in [Tile::Small, Tile::Free] {
        let options = Options { batch_size: Some(9), ..on(&with_tile(tile)) };
        let found = explain(&network, &composite, options, &data, &Request::new(Targets::Class(0)));
        let expected = 16_777_216.0 + (inputs - SLICE) as f32;
        assert!(found.logits.data().iter().all(|z| *z == expected), "{tile:?}: {:?}", found.logits.data());
    }
}
