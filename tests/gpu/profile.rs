//! Times of steps, where the device can tell.

use relprop::wgpu;

use super::*;

#[test]
fn a_profile_times_each_step_and_the_steps_make_the_whole() {
    let gpu = Arc::new(open(|options| options.profile = true).unwrap());
    let wanted = wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::TIMESTAMP_QUERY_INSIDE_ENCODERS;
    let network = Arc::new(mlp(74, &[256, 512, 512, 10], Activation::Relu, true));
    let data = inputs(&network, 200, 99);
    let options = Options { batch_size: Some(100), ..on(&gpu) };
    let explainer = explainer(&network, &Composite::preset("epsilon").unwrap(), options);
    let ask = Request::new(Targets::ArgMax);
    let found = explainer.explain_with(&borrowed(&data), &ask).unwrap();
    if !gpu.device().features().contains(wanted) {
        assert!(found.run.compute.is_none() && found.run.steps.is_empty());
        return;
    }
    let (steps, compute) = (&found.run.steps, found.run.compute.unwrap());
    assert_eq!(steps.len(), explainer.plan(&ask).unwrap().steps.len());
    assert!(steps.iter().all(|&seconds| seconds > 0.0), "{steps:?}");
    let sum: f64 = steps.iter().sum();
    assert!(sum <= compute * 1.01 && sum >= compute * 0.3, "steps take {sum} s of {compute} s");
    // Steps that do not run leave no time.
    let forward = explainer.plan(&ask).unwrap().forward;
    assert!(forward < steps.len());
    assert_eq!(explainer.forward(&borrowed(&data)).unwrap(), found.logits);

    let plain = explain(&network, &Composite::preset("epsilon").unwrap(), on(&device::shared()), &data, &ask);
    assert!(plain.run.steps.is_empty(), "no step is timed unless asked for");
    assert!(plain.run.compute.is_some_and(|seconds| seconds > 0.0));
    assert_eq!(bits(&plain), bits(&found));
}
