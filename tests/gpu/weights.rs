//! Weights that leave host memory once they are on the device.

use std::sync::atomic::{AtomicUsize, Ordering};

use relprop::ErrorKind;
use relprop::explain::Reload;

use super::*;

/// An explainer that may read its network again, and how often it did.
fn reloading(seeds: [u64; 2]) -> (Explainer, Arc<AtomicUsize>) {
    let network = move |seed| mlp(seed, &[9, 40, 5], Activation::Relu, true);
    let read = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&read);
    let reload = Reload::new(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        Ok(network(seeds[1]))
    });
    let options = Options { reload: Some(reload), ..in_pairs(&device::shared()) };
    (Explainer::with_options(network(seeds[0]), &Composite::preset("epsilon").unwrap(), options).unwrap(), read)
}

#[test]
fn weights_are_read_again_only_for_plans_that_are_new() {
    let (lean, read) = reloading([60, 60]);
    let network = Arc::new(mlp(60, &[9, 40, 5], Activation::Relu, true));
    let full = explainer(&network, &Composite::preset("epsilon").unwrap(), in_pairs(&device::shared()));
    let data = inputs(&network, 20, 89);
    for (times, ask) in [
        (0, Request::new(Targets::ArgMax)),
        (0, Request::new(Targets::ArgMax)),
        (1, Request::new(Targets::Top(2))),
        (1, Request::new(Targets::Top(2))),
    ] {
        let found = lean.explain_with(&borrowed(&data), &ask).unwrap();
        let expected = full.explain_with(&borrowed(&data), &ask).unwrap();
        assert_eq!(bits(&found), bits(&expected));
        assert_eq!(read.load(Ordering::Relaxed), times, "{ask:?}");
    }
    // What is left of the network is its biases.
    assert_eq!(lean.network().parameter_bytes(), (40 + 5) * 4);
    assert!(full.network().parameter_bytes() > lean.network().parameter_bytes());
    let again = Explainer::new(Arc::clone(lean.network()), &Composite::preset("epsilon").unwrap(), Backend::Cpu);
    assert_eq!(again.unwrap_err().kind(), ErrorKind::Argument);
}

#[test]
fn a_model_that_changed_meanwhile_is_an_error() {
    let (lean, _) = reloading([61, 62]);
    let data = inputs(&Arc::new(mlp(61, &[9, 40, 5], Activation::Relu, true)), 3, 90);
    lean.explain(&borrowed(&data), &Targets::ArgMax).unwrap();
    let error = lean.explain(&borrowed(&data), &Targets::Top(2)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    // What was made ready still serves.
    lean.explain(&borrowed(&data), &Targets::ArgMax).unwrap();
}
