//! Inputs: integers that are looked up, and what is refused.

use super::*;

#[test]
fn integer_inputs_are_looked_up_and_relevance_stops_there() {
    let network = Arc::new(words(30));
    let composite = composite_of(LinearRule::epsilon(damped()));
    let ids = Tensor::from_fn([4, 3], |i| [0_i64, -1, 9, 3, -10, 5][i % 6]);
    let x = Numbers(4).tensor(&[4, 5]);
    let ask = Request::new(Targets::All).keep("mixed").keep("embedded").report(true);
    let on = |backend| {
        let explainer = Explainer::new(Arc::clone(&network), &composite, backend).unwrap();
        explainer.explain_with(&[Input::from(&ids), Input::from(&x)], &ask).unwrap()
    };
    let (found, exact) = (on(Backend::Cpu), on(Backend::Reference));
    assert_eq!(found.inputs.len(), 1, "the integer input has no relevance");
    assert_close(found.input(), exact.input(), 3e-5, "x");
    for (found, exact) in found.kept.iter().zip(&exact.kept) {
        assert_close(&found.relevance, &exact.relevance, 3e-5, &found.name);
    }
    for (found, exact) in found.report.unwrap().layers.iter().zip(&exact.report.unwrap().layers) {
        assert_sums_close(&found.sums, &exact.sums, &found.name);
    }

    let explainer = Explainer::new(Arc::clone(&network), &composite, Backend::Cpu).unwrap();
    let far = Tensor::from_fn([4, 3], |i| if i == 7 { 10 } else { 0 });
    let error = explainer.explain(&[Input::from(&far), Input::from(&x)], &Targets::ArgMax).unwrap_err();
    assert!(error.message().contains("input `ids` holds 10 in sample 2, element 1"), "{error}");
    let keep_ids = Request::new(Targets::ArgMax).keep("ids").keep("mixed");
    assert!(explainer.explain_with(&[Input::from(&ids), Input::from(&x)], &keep_ids).is_err());
}

#[test]
fn a_network_of_integer_inputs_alone_gives_the_relevance_of_what_it_looks_up() {
    let mut numbers = Numbers(31);
    let mut builder = Network::builder();
    let ids = builder.integer_input("ids", [2]);
    let embedded = builder.lookup("embedded", ids, numbers.tensor(&[10, 4])).unwrap();
    let flat = builder.reshape("flat", embedded, [8]).unwrap();
    let output = dense(&mut builder, &mut numbers, flat, 3, true);
    let network = Arc::new(builder.build(output).unwrap());
    let ids = Tensor::from_fn([4, 2], |i| i as i64);
    for backend in [Backend::Cpu, Backend::Reference] {
        let explainer = Explainer::new(Arc::clone(&network), &Composite::preset("zero").unwrap(), backend).unwrap();
        let error = explainer.explain(&[Input::from(&ids)], &Targets::ArgMax).unwrap_err();
        assert!(error.advice().unwrap().contains("embedded"), "{error}");
        let ask = Request::new(Targets::ArgMax).keep("embedded");
        let relevance = explainer.explain_with(&[Input::from(&ids)], &ask).unwrap();
        assert_eq!(relevance.kept[0].relevance.shape().dims(), [4, 2, 4]);
        assert!(relevance.inputs.is_empty());
    }
}

#[test]
fn wrong_inputs_are_refused_with_their_place() {
    let network = Arc::new(mlp(25, &[4, 3], Activation::Relu, true));
    let explainer = Explainer::new(Arc::clone(&network), &Composite::preset("epsilon").unwrap(), Backend::Cpu).unwrap();
    let explain = |tensor: &Tensor| explainer.explain(&[Input::from(tensor)], &Targets::ArgMax);
    let mut spoiled = Tensor::zeros([3, 4]);
    spoiled.data_mut()[6] = f32::INFINITY;
    let message = |result: relprop::Result<Relevance>| result.unwrap_err().message().to_owned();
    assert_eq!(message(explain(&spoiled)), "input `x` holds inf in sample 1, element 2");
    assert_eq!(message(explain(&Tensor::zeros([0, 4]))), "input `x` of shape [0, 4] holds no samples");
    assert_eq!(message(explain(&Tensor::zeros([3, 5]))), "input `x` has shape [3, 5]; one sample has shape [4]");
    let good: Tensor = Tensor::zeros([2, 4]);
    let far = explainer.explain(&[Input::from(&good)], &Targets::Class(3));
    assert_eq!(message(far), "target 3 is out of range: the model has 3 outputs");
    let short = Request::new(Targets::ArgMax).start(Start::Given(Tensor::zeros([1, 3])));
    assert!(explainer.explain_with(&[Input::from(&good)], &short).is_err());
    assert!(explainer.explain_with(&[Input::from(&good)], &Request::new(Targets::ArgMax).keep("nowhere")).is_err());
}
