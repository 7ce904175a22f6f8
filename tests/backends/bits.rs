//! A sample's bits: whatever its neighbours, its place, the threads, the chunks and the memory.

use super::*;

#[test]
fn bits_do_not_change_with_threads_chunks_or_batch_sizes() {
    let network = Arc::new(mlp(14, &[31, 130, 64, 7], Activation::Relu, true));
    let composite = Composite::preset("epsilon").unwrap();
    let data = inputs(&network, 203, 6);
    let ask = Request::new(Targets::ArgMax);
    let first = bits(&explain(&network, &composite, on(Backend::Cpu), &data, &ask));
    for threads in [1, 2, 7] {
        for batch_size in [None, Some(1), Some(13), Some(96), Some(1000)] {
            for memory in [None, Some(7 * 20_000), Some(1 << 30)] {
                let options = Options { threads: Some(threads), batch_size, memory, ..on(Backend::Cpu) };
                let again = bits(&explain(&network, &composite, options, &data, &ask));
                assert_eq!(again, first, "{threads} threads, batch size {batch_size:?}, memory {memory:?}");
            }
        }
    }
}

#[test]
fn bits_of_convolutional_networks_do_not_change_with_threads_chunks_or_batch_sizes() {
    let composite = Composite::preset("epsilon-plus").unwrap();
    for (name, network) in convolutional(14) {
        let network = Arc::new(network);
        let data = inputs(&network, 11, 6);
        let ask = Request::new(Targets::ArgMax);
        let first = bits(&explain(&network, &composite, on(Backend::Cpu), &data, &ask));
        for threads in [1, 3] {
            for batch_size in [None, Some(1), Some(4)] {
                let options = Options { threads: Some(threads), batch_size, ..on(Backend::Cpu) };
                let again = bits(&explain(&network, &composite, options, &data, &ask));
                assert_eq!(again, first, "{name}, {threads} threads, batch size {batch_size:?}");
            }
        }
    }
}

#[test]
fn memory_too_small_for_a_sample_is_an_error() {
    let network = mlp(14, &[31, 130, 64, 7], Activation::Relu, true);
    let options = Options { threads: Some(1), memory: Some(100), ..on(Backend::Cpu) };
    let data = inputs(&network, 2, 6);
    let explainer = Explainer::with_options(network, &Composite::preset("epsilon").unwrap(), options).unwrap();
    let error = explainer.explain(&borrowed(&data), &Targets::ArgMax).unwrap_err();
    assert_eq!(error.kind(), relprop::ErrorKind::Limit);
    assert!(error.message().ends_with("but 100 are allowed"), "{error}");
}

#[test]
fn a_samples_bits_do_not_change_with_its_neighbours_or_its_place() {
    for network in [mlp(15, &[31, 70, 33, 7], Activation::Tanh, true), tangle(16), convnet(16), gated(16)] {
        let network = Arc::new(network);
        let composite = Composite::preset("epsilon").unwrap();
        let explainer = Explainer::new(Arc::clone(&network), &composite, Backend::Cpu).unwrap();
        let data = inputs(&network, 40, 7);
        let many = explainer.explain(&borrowed(&data), &Targets::ArgMax).unwrap();
        for sample in [0, 1, 17, 39] {
            let alone: Vec<Tensor> = (data.iter().zip(network.inputs()))
                .map(|(tensor, input)| {
                    Tensor::new(network.shape(input.value).clone(), tensor.row(sample).to_vec()).unwrap()
                })
                .collect();
            let one = explainer.explain(&borrowed(&alone), &Targets::ArgMax).unwrap();
            for (many, one) in many.inputs.iter().zip(&one.inputs) {
                assert_eq!(many.relevance.row(sample), one.relevance.data(), "sample {sample}");
            }
        }
    }
}

#[test]
fn samples_of_nan_leave_no_trace_in_those_after_them() {
    for (network, targets) in [
        (tangle(17), Targets::Class(0)),
        (tangle(17), Targets::All),
        (mlp(26, &[31, 70, 33, 7], Activation::Relu, true), Targets::Class(1)),
        (depthwise(26), Targets::Class(1)),
        (unet(26), Targets::All),
    ] {
        let network = Arc::new(network);
        // One thread and small chunks: the same memory serves the spoiled chunks and then the clean ones.
        let options = Options { threads: Some(1), batch_size: Some(5), ..on(Backend::Cpu) };
        let composite = composite_of(LinearRule::gamma(0.25, Stabilizer::Rms(0.1)));
        let explainer = Explainer::with_options(Arc::clone(&network), &composite, options).unwrap();
        let clean = inputs(&network, 30, 8);
        let ask = Request::new(targets).allow_nonfinite(true).report(true);
        let before = explainer.explain_with(&borrowed(&clean), &ask).unwrap();
        let spoiled: Vec<Tensor> = clean.iter().map(|tensor| spoil(tensor, 15)).collect();
        let after = explainer.explain_with(&borrowed(&spoiled), &ask).unwrap();
        for (before, after) in before.inputs.iter().zip(&after.inputs) {
            let half = before.relevance.count() / 2;
            assert!(after.relevance.data()[..half].iter().any(|r| r.is_nan()), "NaN goes through");
            assert_eq!(before.relevance.data()[half..], after.relevance.data()[half..]);
        }
        assert!(after.report.unwrap().layers.iter().any(|layer| layer.sums.nonfinite > 0), "and is counted");
        let again = explainer.explain_with(&borrowed(&clean), &ask).unwrap();
        assert_eq!(bits(&again), bits(&before));
    }
}

#[test]
fn an_explainer_is_shared_between_threads() {
    let network = Arc::new(mlp(18, &[12, 20, 5], Activation::Relu, true));
    let explainer = Explainer::new(Arc::clone(&network), &Composite::preset("epsilon").unwrap(), Backend::Cpu).unwrap();
    let data = inputs(&network, 50, 9);
    let expected = bits(&explainer.explain(&borrowed(&data), &Targets::ArgMax).unwrap());
    std::thread::scope(|scope| {
        for k in 1..=4 {
            let (explainer, data, expected) = (&explainer, &data, &expected);
            scope.spawn(move || {
                let top = explainer.explain(&borrowed(data), &Targets::Top(k)).unwrap();
                assert_eq!(top.targets.shape().dims(), [50, k]);
                assert_eq!(&bits(&explainer.explain(&borrowed(data), &Targets::ArgMax).unwrap()), expected);
            });
        }
    });
}
