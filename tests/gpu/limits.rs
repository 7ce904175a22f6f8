//! Devices with less than this one has, run on it under exactly those limits.

use relprop::layers::{Window, WindowAxis};
use relprop::wgpu;

use super::*;

/// The adapter's limits, changed.
fn under(change: impl FnOnce(&mut wgpu::Limits)) -> relprop::Result<Gpu> {
    let mut limits = device::shared().device().limits();
    change(&mut limits);
    open(|options| options.limits = Some(limits))
}

/// What WebGPU promises everywhere, and nothing more.
fn of_webgpu() -> Arc<Gpu> {
    static OPEN: OnceLock<Arc<Gpu>> = OnceLock::new();
    let opened = || Arc::new(open(|options| options.limits = Some(wgpu::Limits::default())).unwrap());
    Arc::clone(OPEN.get_or_init(opened))
}

fn assert_agrees_on(gpu: &Arc<Gpu>, network: Network, composite: &Composite, ask: &Request, what: &str) -> Relevance {
    let network = Arc::new(network);
    let data = inputs(&network, 12, 90);
    let exact = explain(&network, composite, by(Backend::Reference), &data, ask);
    let found = explain(&network, composite, in_pairs(gpu), &data, ask);
    assert_agrees(found.clone(), &exact, what);
    found
}

#[test]
fn rules_of_many_groups_agree_under_webgpus_own_limits() {
    let gpu = of_webgpu();
    assert_eq!(gpu.device().limits().max_storage_buffers_per_shader_stage, 8);
    let ask = Request::new(Targets::ArgMax).report(true);
    let composite = composite_of(LinearRule::epsilon(Stabilizer::Rms(0.25)));
    assert_agrees_on(&gpu, tangle(6), &composite, &ask, "tangle");
    for rule in [LinearRule::gamma(0.25, damped()), LinearRule::alpha_beta(2.0, Stabilizer::Rms(0.25))] {
        let composite = composite_of(rule.clone());
        // Without a rectifier, gamma's masks and both of its groups stay.
        let network = mlp(60, &[9, 14, 8, 4], Activation::Tanh, true);
        assert_agrees_on(&gpu, network, &composite, &ask, &format!("mlp {}", rule.name));
    }
}

#[test]
fn chains_that_read_more_than_a_stage_binds_are_cut() {
    let composite = composite_of(LinearRule::epsilon(damped()));
    let ask = Request::new(Targets::ArgMax).keep("sum");
    let cut = assert_agrees_on(&of_webgpu(), wide_sum(61, 20), &composite, &ask, "8 storage buffers");
    let gpu = Arc::new(under(|limits| limits.max_storage_buffers_per_shader_stage = 9).unwrap());
    let larger = assert_agrees_on(&gpu, wide_sum(61, 20), &composite, &ask, "9 storage buffers");
    assert!(cut.run.dispatches > larger.run.dispatches, "{} and {}", cut.run.dispatches, larger.run.dispatches);
    assert_eq!(bits(&cut), bits(&larger));
}

#[test]
fn weights_larger_than_a_binding_are_cut_and_give_the_same_bits() {
    const MIB: u64 = 1 << 20;
    let small = Arc::new(under(|limits| limits.max_storage_buffer_binding_size = MIB).unwrap());
    // Parts of 256 columns, of a part and a bit, and with rows that are filled up.
    for (widths, parts) in [(vec![1024, 1024, 8], 4), (vec![700, 801, 5], 3), (vec![9, 1024, 1030, 8], 5)] {
        for (rule, targets) in
            [(LinearRule::epsilon(damped()), Targets::ArgMax), (LinearRule::gamma(0.25, damped()), Targets::Top(2))]
        {
            let network = Arc::new(mlp(62, &widths, Activation::Relu, true));
            let composite = composite_of(rule);
            let data = inputs(&network, 9, 91);
            let ask = Request::new(targets);
            let whole = explain(&network, &composite, in_pairs(&device::shared()), &data, &ask);
            let explainer = explainer(&network, &composite, in_pairs(&small));
            let cut = explainer.explain_with(&borrowed(&data), &ask).unwrap();
            assert!(bits(&cut) == bits(&whole), "{widths:?}: cut weights give other bits");
            assert_eq!(cut.logits, whole.logits, "{widths:?}");
            let more = cut.run.dispatches / cut.run.chunks - explainer.plan(&ask).unwrap().steps.len();
            assert_eq!(more % (parts - 1), 0, "each product of the cut layer takes {parts} dispatches, {more} more");
            assert!(more >= 2 * (parts - 1), "forward and backward are cut");
        }
    }
}

#[test]
fn filters_larger_than_a_binding_are_cut_and_give_the_same_bits() {
    let small = Arc::new(under(|limits| limits.max_storage_buffer_binding_size = 1 << 16).unwrap());
    let mut builder = relprop::Network::builder();
    let mut numbers = Numbers(64);
    let x = builder.input("x", [48, 5, 4]);
    // 3 · 3 · 66 · 48 numbers are two bindings and a bit forward, and two backward.
    let axis = WindowAxis { stride: 2, before: 1, after: 1, ..WindowAxis::new(3) };
    let window = Window::new(vec![axis; 2]).unwrap();
    let weight = Tensor::from_fn([66, 48, 3, 3], |_| numbers.next() * 0.08);
    let z = builder.conv("conv", x, weight, Some(numbers.tensor(&[66])), window, 1).unwrap();
    let z = builder.relu("relu", z).unwrap();
    let flat = builder.reshape("flat", z, [66 * 6]).unwrap();
    let output = dense(&mut builder, &mut numbers, flat, 3, true);
    let network = Arc::new(builder.build(output).unwrap());
    let composite = composite_of(LinearRule::gamma(0.25, damped()));
    let data = inputs(&network, 9, 93);
    let ask = Request::new(Targets::Top(2));
    let whole = explain(&network, &composite, in_pairs(&device::shared()), &data, &ask);
    let explainer = explainer(&network, &composite, in_pairs(&small));
    let cut = explainer.explain_with(&borrowed(&data), &ask).unwrap();
    assert!(bits(&cut) == bits(&whole), "cut filters give other bits");
    assert_eq!(cut.logits, whole.logits);
    let more = cut.run.dispatches / cut.run.chunks - explainer.plan(&ask).unwrap().steps.len();
    assert!(more >= 2, "forward and backward are cut, {more} dispatches more");
    assert_agrees(cut, &explain(&network, &composite, by(Backend::Reference), &data, &ask), "cut filters");
}

#[test]
fn images_of_more_workgroups_than_a_dimension_has_agree() {
    let few = Arc::new(under(|limits| limits.max_compute_workgroups_per_dimension = 5).unwrap());
    let network = Arc::new(residual_convnet(65));
    let composite = composite_of(LinearRule::epsilon(damped()));
    let data = inputs(&network, 12, 90);
    let ask = Request::new(Targets::ArgMax);
    let exact = explain(&network, &composite, by(Backend::Reference), &data, &ask);
    // More samples at a time than two, so that their pixels take the second dimension.
    let found = explain(&network, &composite, Options { batch_size: Some(8), ..on(&few) }, &data, &ask);
    assert_agrees(found, &exact, "few workgroups");
}

#[test]
fn weights_that_cannot_be_cut_are_an_error_that_names_the_layer() {
    let small = Arc::new(under(|limits| limits.max_storage_buffer_binding_size = 1 << 12).unwrap());
    let network = Arc::new(mlp(63, &[1000, 400, 2], Activation::Relu, true));
    let data = inputs(&network, 1, 92);
    let explainer = explainer(&network, &Composite::preset("epsilon").unwrap(), on(&small));
    let error = explainer.explain(&borrowed(&data), &Targets::ArgMax).unwrap_err();
    assert_eq!(error.kind(), relprop::ErrorKind::Limit, "{error}");
    assert_eq!(error.node(), Some("dense"), "{error}");
    assert!(error.message().contains("400 x 1000") && error.message().contains("4096"), "{error}");
}

#[test]
fn tables_larger_than_a_binding_are_an_error_that_names_the_layer() {
    let small = Arc::new(under(|limits| limits.max_storage_buffer_binding_size = 1 << 12).unwrap());
    let mut numbers = Numbers(64);
    let mut builder = Network::builder();
    let ids = builder.integer_input("ids", [2]);
    let embedded = builder.lookup("embedded", ids, numbers.tensor(&[300, 4])).unwrap();
    let flat = builder.reshape("flat", embedded, [8]).unwrap();
    let output = dense(&mut builder, &mut numbers, flat, 3, true);
    let network = Arc::new(builder.build(output).unwrap());
    let ids = Tensor::from_fn([1, 2], |i| i as i64);
    let explainer = explainer(&network, &Composite::preset("epsilon").unwrap(), on(&small));
    let ask = Request::new(Targets::ArgMax).keep("embedded");
    let error = explainer.explain_with(&[Input::from(&ids)], &ask).unwrap_err();
    assert_eq!((error.kind(), error.node()), (relprop::ErrorKind::Limit, Some("embedded")), "{error}");
    assert!(error.message().contains("4800") && error.message().contains("4096"), "{error}");
}

#[test]
fn buffers_larger_than_a_device_has_make_chunks_smaller() {
    // Kept values and inputs share the memory that results come down in.
    let small = Arc::new(
        under(|limits| {
            limits.max_buffer_size = 1 << 18;
            limits.max_storage_buffer_binding_size = 1 << 17;
        })
        .unwrap(),
    );
    let network = Arc::new(mlp(65, &[64, 70, 66, 3], Activation::Relu, true));
    let data = inputs(&network, 600, 93);
    let composite = Composite::preset("epsilon").unwrap();
    let names: Vec<String> = network.layers().iter().map(|node| node.name.clone()).collect();
    let ask = names.iter().fold(Request::new(Targets::ArgMax).report(true), |ask, name| ask.keep(name));
    let whole = explain(&network, &composite, Options { batch_size: Some(600), ..on(&device::shared()) }, &data, &ask);
    let cut = explain(&network, &composite, Options { batch_size: Some(600), ..on(&small) }, &data, &ask);
    assert!(cut.run.chunks > 1 && whole.run.chunks == 1);
    assert_eq!(bits(&cut), bits(&whole));
    assert_eq!(cut.kept, whole.kept);
    let wide = Arc::new(mlp(66, &[100_000, 1], Activation::Relu, true));
    let error = explainer(&wide, &composite, on(&small))
        .explain(&borrowed(&inputs(&wide, 1, 94)), &Targets::ArgMax)
        .unwrap_err();
    assert_eq!(error.kind(), relprop::ErrorKind::Limit, "{error}");
}

#[test]
fn grids_larger_than_one_axis_spread_over_two_and_then_make_chunks_smaller() {
    let network = Arc::new(mlp(67, &[40, 300, 10], Activation::Relu, true));
    let data = inputs(&network, 200, 95);
    let composite = Composite::preset("epsilon").unwrap();
    let ask = Request::new(Targets::ArgMax).report(true);
    let whole = explain(&network, &composite, Options { batch_size: Some(200), ..on(&device::shared()) }, &data, &ask);
    for (most, chunks) in [(16, 1), (8, 4)] {
        let small = Arc::new(under(|limits| limits.max_compute_workgroups_per_dimension = most).unwrap());
        let found = explain(&network, &composite, Options { batch_size: Some(200), ..on(&small) }, &data, &ask);
        assert_eq!(found.run.chunks, chunks, "{most} workgroups along an axis");
        assert_eq!(bits(&found), bits(&whole), "{most} workgroups along an axis");
    }
    let one = Arc::new(under(|limits| limits.max_compute_workgroups_per_dimension = 1).unwrap());
    let error = explainer(&network, &composite, on(&one)).explain(&borrowed(&data), &Targets::ArgMax).unwrap_err();
    assert_eq!(error.kind(), relprop::ErrorKind::Limit, "{error}");
    assert!(error.message().contains("1 along each of two axes"), "{error}");
}
