//! Weights as float16, and weights that leave host memory once they are on the device.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use half::f16;
use relprop::ErrorKind;
use relprop::explain::Reload;
use relprop::layers::{Dense, Layer, Window, WindowAxis};
use relprop::network::ValueId;

use super::*;

/// The network with its dense layers' and convolutions' weights rounded to float16, but for depthwise ones.
fn rounded(network: &Network) -> Network {
    let round =
        |weight: &Tensor| Tensor::from_fn(weight.shape().dims(), |at| f16::from_f32(weight.data()[at]).to_f32());
    let mut builder = Network::builder();
    let mut values: HashMap<ValueId, ValueId> = HashMap::new();
    for input in network.inputs() {
        let value = network.value(input.value);
        values.insert(input.value, builder.input(value.name.clone(), value.shape.clone()));
    }
    for node in network.layers() {
        let layer = match &node.layer {
            Layer::Dense(dense) => Layer::Dense(Dense::new(round(dense.weight()), dense.bias().cloned()).unwrap()),
            Layer::Conv(conv) if conv.groups() == 1 || conv.groups() < conv.inputs().max(conv.outputs()) => {
                Layer::Conv(conv.with_parameters(round(conv.weight()), conv.bias().cloned()).unwrap())
            }
            other => other.clone(),
        };
        let inputs = node.inputs.iter().map(|input| values[input]).collect();
        values.insert(node.output, builder.layer(&node.name, layer, inputs).unwrap());
    }
    builder.build(values[&network.output()]).unwrap()
}

#[test]
fn float16_weights_explain_the_model_whose_weights_are_rounded() {
    let half = Arc::new(open(|options| options.half_weights = true).unwrap());
    let mlp = mlp(63, &[9, 70, 14, 5], Activation::Relu, true);
    let networks = [(mlp, "epsilon-alpha2-beta1"), (convnet(64), "epsilon"), (depthwise(64), "epsilon")];
    for (network, composite) in networks {
        let (of_halves, network) = (Arc::new(rounded(&network)), Arc::new(network));
        let data = inputs(&network, 3, 91);
        let composite = Composite::preset(composite).unwrap();
        let on = |network: &Arc<Network>, gpu: &Arc<Gpu>| {
            let explainer = explainer(network, &composite, in_pairs(gpu));
            explainer.explain(&borrowed(&data), &Targets::ArgMax).unwrap()
        };
        let (found, rounded) = (on(&network, &half), on(&of_halves, &device::shared()));
        assert_eq!(bits(&found), bits(&rounded), "{}", composite.name());
        assert!(bits(&found) != bits(&on(&network, &device::shared())), "{} saw float32 weights", composite.name());
    }
}

#[test]
fn float16_weights_are_the_rounded_ones_in_tiles_of_workgroup_memory() {
    let network = Arc::new(convnet(64));
    let of_halves = Arc::new(rounded(&network));
    let data = inputs(&network, 3, 91);
    let composite = composite_of(LinearRule::epsilon(damped()));
    for tile in [Tile::Small, Tile::Narrow] {
        let on = |network: &Arc<Network>, half: bool| {
            let gpu = Arc::new(open(|options| (options.half_weights, options.tile) = (half, Some(tile))).unwrap());
            bits(&explain(network, &composite, in_pairs(&gpu), &data, &Request::new(Targets::ArgMax)))
        };
        assert!(on(&network, true) == on(&of_halves, false), "{tile}");
    }
}

#[test]
fn float16_takes_half_the_memory_and_refuses_what_it_cannot_hold() {
    let half = Arc::new(open(|options| options.half_weights = true).unwrap());
    let bytes = |gpu: &Arc<Gpu>| {
        let network = Arc::new(mlp(65, &[64, 400, 5], Activation::Relu, false));
        let explainer = explainer(&network, &Composite::preset("epsilon").unwrap(), in_pairs(gpu));
        explainer.explain(&borrowed(&inputs(&network, 2, 92)), &Targets::ArgMax).unwrap();
        explainer.device_memory().unwrap()
    };
    let saved = bytes(&device::shared()) - bytes(&half);
    assert_eq!(saved, (64 * 400 + 5 * 400) * 2);

    for groups in [1, 2] {
        let mut builder = Network::builder();
        let x = builder.input("x", [4, 3]);
        let weight = Tensor::from_fn([4, 4 / groups, 2], |at| if at == 3 { -7e4 } else { 1.0 });
        let window = Window::new(vec![WindowAxis::new(2)]).unwrap();
        let z = builder.conv("loud", x, weight, None, window, groups).unwrap();
        let flat = builder.reshape("flat", z, [8]).unwrap();
        let network = Arc::new(builder.build(flat).unwrap());
        let loud = explainer(&network, &Composite::preset("epsilon").unwrap(), in_pairs(&half));
        let error = loud.explain(&borrowed(&inputs(&network, 2, 93)), &Targets::ArgMax).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit);
        assert!(error.to_string().contains("loud") && error.to_string().contains("-70000"), "{error}");
    }
}

#[test]
fn float16_weights_larger_than_a_binding_are_cut_and_give_the_same_bits() {
    let network = Arc::new(mlp(66, &[9, 1024, 1030, 8], Activation::Relu, true));
    let composite = Composite::preset("epsilon").unwrap();
    let data = inputs(&network, 2, 94);
    let opened = |binding: Option<u64>| {
        let mut limits = device::shared().device().limits();
        limits.max_storage_buffer_binding_size = binding.unwrap_or(limits.max_storage_buffer_binding_size);
        let open = open(|options| (options.half_weights, options.limits) = (true, Some(limits)));
        explainer(&network, &composite, in_pairs(&Arc::new(open.unwrap())))
            .explain(&borrowed(&data), &Targets::ArgMax)
            .unwrap()
    };
    let (whole, cut) = (opened(None), opened(Some(1 << 20)));
    // 2,109,440 bytes in three parts, where float32 would take five.
    assert_eq!(cut.run.dispatches - whole.run.dispatches, 2 * 2);
    assert_eq!(bits(&cut), bits(&whole));
}

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
