//! The CPU backend against the float64 reference: awkward shapes, every rule, facts, targets, reports, and bits.

mod agreement;
mod bits;
mod conditions;
mod convolutional;
mod deferred;
#[cfg(feature = "gpu")]
#[path = "../device/mod.rs"]
mod device;
mod halves;
mod input_checks;
mod plans;
#[path = "../zoo/mod.rs"]
mod zoo;

use std::sync::Arc;

use relprop::composite::{Composite, PresetOptions, Selector};
use relprop::explain::Options;
use relprop::layers::{Activation, Family, GeluForm, Window, WindowAxis};
use relprop::network::{LayerId, Network};
use relprop::plan::{self, Ask, Facts, Step, Target};
use relprop::rules::{BiasPart, Bounds, LinearRule, PointwiseRule, Rule, Share, Stabilizer};
use relprop::{Backend, Explainer, Input, Relevance, Request, Start, Targets, Tensor};
use zoo::*;

fn on(backend: Backend) -> Options {
    #[cfg(feature = "gpu")]
    if backend == Backend::Gpu {
        // Small chunks: batches are cut, and software adapters compile the kernels for two rows many times faster.
        return Options { backend, gpu: Some(device::shared()), batch_size: Some(2), ..Options::default() };
    }
    Options { backend, ..Options::default() }
}

fn plan_of(network: &Network, composite: &Composite, ask: &Ask) -> plan::Plan {
    plan::build(network, &composite.assign(network).unwrap(), ask, &Target::UNLIMITED).unwrap()
}

/// Every backend that is judged by the reference.
fn compared() -> Vec<Options> {
    let mut backends = vec![on(Backend::Cpu)];
    if cfg!(feature = "gpu") {
        backends.push(on(Backend::Gpu));
    }
    backends
}

/// The backends for the network of a position under the composite of a position. A software adapter takes up to a second to
/// compile a text, and each composite has texts of its own: the GPU takes its turn on one network under each composite,
/// and so on each network under several.
fn in_turn(composite: usize, network: usize, networks: usize) -> Vec<Options> {
    if composite % networks == network { compared() } else { vec![on(Backend::Cpu)] }
}

fn assert_backends_agree(network: Network, composite: &Composite, samples: usize, ask: &Request, what: &str) {
    assert_agree(compared(), network, composite, samples, ask, what);
}

fn assert_agree(
    backends: Vec<Options>,
    network: Network,
    composite: &Composite,
    samples: usize,
    ask: &Request,
    what: &str,
) {
    let network = Arc::new(network);
    let data = inputs(&network, samples, 77);
    let exact = explain(&network, composite, on(Backend::Reference), &data, ask);
    for options in backends {
        let what = format!("{} {what}", options.backend);
        let is_gpu = options.backend == Backend::Gpu;
        let found = explain(&network, composite, options, &data, ask);
        assert_eq!(found.run.dispatches > 0, is_gpu, "{what}");
        assert_agrees(found, &exact, &what);
    }
}
