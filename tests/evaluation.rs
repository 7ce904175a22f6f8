//! Pixel flipping against curves and areas worked by hand, and against explicit perturbation through `Explainer::forward`.

#[cfg(feature = "gpu")]
mod device;

use approx::assert_abs_diff_eq;
use relprop::attribution::Baseline;
use relprop::evaluation::{Order, Perturbation, PixelFlipping, Score};
use relprop::layers::{Conv, Layer, Window, WindowAxis};
use relprop::network::Link;
use relprop::{Backend, Composite, ErrorKind, Explainer, Input, Network, Options, Targets, Tensor};

fn explainer(network: Network, backend: Backend) -> Explainer {
    Explainer::new(network, &Composite::preset("epsilon").unwrap(), backend).unwrap()
}

/// y = W x, of six inputs and two outputs.
fn linear() -> Network {
    let mut builder = Network::builder();
    let x = builder.input("x", [6]);
    let weight = vec![1.0, -2.0, 4.0, 0.5, 3.0, -1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0];
    let y = builder.dense("fc", x, tensor(&[2, 6], weight), None).unwrap();
    builder.link(Some(Link::Softmax));
    builder.build(y).unwrap()
}

/// A perceptron on two channels of 4 × 5 pixels.
fn picture_network() -> Network {
    let mut builder = Network::builder();
    let x = builder.input("image", [2, 4, 5]);
    let flat = builder.reshape("flat", x, [40]).unwrap();
    let weight = |i: usize| ((i * 37 % 29) as f32 - 14.0) / 20.0;
    let z = builder.dense("fc1", flat, Tensor::from_fn([7, 40], weight), None).unwrap();
    let a = builder.relu("relu", z).unwrap();
    let y = builder.dense("fc2", a, Tensor::from_fn([3, 7], |i| weight(i + 5)), None).unwrap();
    builder.build(y).unwrap()
}

/// A convolution of 3 × 3 on the same pixels, a mean over all places, and three scores.
fn convolutional() -> Network {
    let mut builder = Network::builder();
    let x = builder.input("image", [2, 4, 5]);
    let weight = |i: usize| ((i * 37 % 29) as f32 - 14.0) / 20.0;
    let window = Window::new(vec![WindowAxis { before: 1, after: 1, ..WindowAxis::new(3) }; 2]).unwrap();
    let conv = Conv::new(Tensor::from_fn([6, 2, 3, 3], weight), None, window, 1).unwrap();
    let z = builder.layer("conv", Layer::Conv(conv), vec![x]).unwrap();
    let a = builder.relu("relu", z).unwrap();
    let mean = builder.global_average_pool("mean", a).unwrap();
    let flat = builder.reshape("flat", mean, [6]).unwrap();
    let y = builder.dense("fc", flat, Tensor::from_fn([3, 6], |i| weight(i + 5)), None).unwrap();
    builder.build(y).unwrap()
}

fn pictures(samples: usize) -> Tensor {
    Tensor::from_fn([samples, 2, 4, 5], |i| ((i * 53 % 97) as f32 - 40.0) / 30.0)
}

fn tensor(shape: &[usize], data: Vec<f32>) -> Tensor {
    Tensor::new(shape, data).unwrap()
}

#[test]
fn the_curves_of_a_linear_function_are_its_products_one_by_one() {
    for backend in [Backend::Cpu, Backend::Reference] {
        let explainer = explainer(linear(), backend);
        let samples = tensor(&[1, 6], vec![1.0, 1.0, 1.0, 2.0, 1.0, 2.0]);
        let inputs = [Input::from(&samples)];
        // w x = 1, −2, 4, 1, 3, −2, in all 5; equals keep their places.
        let relevance = tensor(&[1, 6], vec![1.0, -2.0, 4.0, 1.0, 3.0, -2.0]);
        let curve = |flipping: &PixelFlipping, order: Order<'_>| {
            let curves = flipping.curves(&explainer, &inputs, &Targets::Class(0), order).unwrap();
            assert_eq!(curves.targets, [0]);
            curves.scores.into_data()
        };
        let one = PixelFlipping::new([1]);
        assert_eq!(curve(&one, Order::MostRelevantFirst(&relevance)), [5.0, 1.0, -2.0, -3.0, -4.0, -2.0, 0.0]);
        assert_eq!(curve(&one, Order::LeastRelevantFirst(&relevance)), [5.0, 7.0, 9.0, 8.0, 7.0, 4.0, 0.0]);
        let two = PixelFlipping { per_step: 2, steps: Some(2), ..PixelFlipping::new([1]) };
        assert_eq!(curve(&two, Order::MostRelevantFirst(&relevance)), [5.0, -2.0, -4.0]);
        // The last step has what is left.
        let four = PixelFlipping { per_step: 4, ..PixelFlipping::new([1]) };
        assert_eq!(curve(&four, Order::LeastRelevantFirst(&relevance)), [5.0, 7.0, 0.0]);
        // By size: 4, 3, −2, −2, 1, 1.
        let absolute = PixelFlipping { absolute: true, ..PixelFlipping::new([1]) };
        assert_eq!(curve(&absolute, Order::MostRelevantFirst(&relevance)), [5.0, 1.0, -2.0, 0.0, 2.0, 1.0, 0.0]);
        // Pairs have −1, 5 and 1.
        let pairs = PixelFlipping::new([2]);
        assert_eq!(curve(&pairs, Order::MostRelevantFirst(&relevance)), [5.0, 0.0, -1.0, 0.0]);
        // Set to 1 instead of 0, only the elements that were 2 change.
        let ones = PixelFlipping { perturbation: Perturbation::Baseline(Baseline::Value(1.0)), ..one };
        assert_eq!(curve(&ones, Order::MostRelevantFirst(&relevance)), [5.0, 5.0, 5.0, 5.0, 4.5, 4.5, 5.5]);
    }
}

#[test]
fn the_areas_of_a_linear_function_are_those_of_the_papers_formula() {
    let explainer = explainer(linear(), Backend::Cpu);
    let samples = tensor(&[1, 6], vec![1.0, 1.0, 1.0, 2.0, 1.0, 2.0]);
    let inputs = [Input::from(&samples)];
    let relevance = explainer.explain(&inputs, &Targets::Class(0)).unwrap();
    let flipping = PixelFlipping::new([1]);
    let curves = |order| flipping.curves(&explainer, &inputs, &Targets::Class(0), order).unwrap();
    let most = curves(Order::MostRelevantFirst(relevance.input()));
    let least = curves(Order::LeastRelevantFirst(relevance.input()));
    // Σ (f(x) − f) over MoRF: 0 + 4 + 7 + 8 + 9 + 7 + 5; over LeRF: 0 − 2 − 4 − 3 − 2 + 1 + 5.
    assert_abs_diff_eq!(most.aopc()[0], 40.0 / 7.0, epsilon = 1e-6);
    assert_abs_diff_eq!(least.aopc()[0], -5.0 / 7.0, epsilon = 1e-6);
    assert_abs_diff_eq!(least.above(&most).unwrap()[0], 45.0 / 7.0, epsilon = 1e-6);
}

#[test]
fn the_probability_is_that_of_the_models_link() {
    let explainer = explainer(linear(), Backend::Cpu);
    let samples = tensor(&[1, 6], vec![1.0, 1.0, 1.0, 2.0, 1.0, 2.0]);
    let relevance = tensor(&[1, 6], vec![0.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
    let flipping = PixelFlipping { score: Score::Probability, steps: Some(1), ..PixelFlipping::new([1]) };
    let order = Order::MostRelevantFirst(&relevance);
    let curves = flipping.curves(&explainer, &[Input::from(&samples)], &Targets::ArgMax, order).unwrap();
    // The logits are (5, 5), the first of equals is the target, and then (1, 5).
    assert_eq!(curves.targets, [0]);
    assert_abs_diff_eq!(curves.scores.data()[0], 0.5, epsilon = 1e-6);
    assert_abs_diff_eq!(curves.scores.data()[1], 1.0 / (1.0 + 4.0_f64.exp()), epsilon = 1e-6);
}

/// The order, the replacement and the scores of one sample by plain loops.
fn by_loops(explainer: &Explainer, x: &[f32], relevance: &[f32], filled: &[f32], target: usize) -> Vec<f64> {
    let pixel = |i: usize| (i / 5 % 4, i % 5);
    // Regions of 2 × 3 pixels on 4 × 5: the right ones have two columns.
    let region = |i: usize| pixel(i).0 / 2 * 2 + pixel(i).1 / 3;
    let sum = |wanted: usize| (0..40).filter(|&i| region(i) == wanted).map(|i| f64::from(relevance[i])).sum::<f64>();
    let mut order = [0, 1, 2, 3];
    order.sort_by(|&a, &b| sum(b).total_cmp(&sum(a)));
    let score = |gone: &[usize]| {
        let data = (0..40).map(|i| if gone.contains(&region(i)) { filled[i] } else { x[i] }).collect();
        f64::from(explainer.forward(&[Input::from(&tensor(&[1, 2, 4, 5], data))]).unwrap().data()[target])
    };
    (0..=4).map(|count| score(&order[..count])).collect()
}

#[test]
fn regions_take_all_channels_and_become_what_they_should() {
    let explainer = explainer(picture_network(), Backend::Cpu);
    let samples = pictures(3);
    let inputs = [Input::from(&samples)];
    let relevance = explainer.explain(&inputs, &Targets::Class(2)).unwrap();
    let mean = |x: &[f32]| x.iter().map(|&x| f64::from(x)).sum::<f64>() as f32 / 40.0;
    let given = Tensor::from_fn([2, 1, 1], |channel| channel as f32 - 0.25);
    type Filled<'a> = Box<dyn Fn(&[f32]) -> Vec<f32> + 'a>;
    let cases: [(Perturbation, Filled<'_>); 3] = [
        (Perturbation::default(), Box::new(|_| vec![0.0; 40])),
        (Perturbation::Mean, Box::new(|x| vec![mean(x); 40])),
        (
            Perturbation::Baseline(Baseline::Sample(given.clone())),
            Box::new(|_| (0..40).map(|i| given.data()[i / 20]).collect()),
        ),
    ];
    for (perturbation, filled) in cases {
        let flipping = PixelFlipping { perturbation, ..PixelFlipping::new([2, 3]) };
        let order = Order::MostRelevantFirst(relevance.input());
        let curves = flipping.curves(&explainer, &inputs, &Targets::Class(2), order).unwrap();
        for sample in 0..3 {
            let x = samples.row(sample);
            let known = by_loops(&explainer, x, relevance.input().row(sample), &filled(x), 2);
            for (found, known) in curves.scores.row(sample).iter().zip(known) {
                assert_abs_diff_eq!(*found, known, epsilon = 2e-6);
            }
        }
    }
}

#[test]
fn neighbours_places_and_batches_change_no_bit() {
    let explainer = explainer(picture_network(), Backend::Cpu);
    let samples = pictures(5);
    let relevance = explainer.explain(&[Input::from(&samples)], &Targets::ArgMax).unwrap();
    let orders: [fn(&Tensor) -> Order<'_>; 3] =
        [|r| Order::MostRelevantFirst(r), |r| Order::LeastRelevantFirst(r), |_| Order::Random];
    for order in orders {
        let flipping = PixelFlipping { perturbation: Perturbation::Uniform, seed: 5, ..PixelFlipping::new([1, 2]) };
        let curves = |flipping: &PixelFlipping, x: &Tensor, relevance: &Tensor| {
            flipping.curves(&explainer, &[Input::from(x)], &Targets::ArgMax, order(relevance)).unwrap()
        };
        let whole = curves(&flipping, &samples, relevance.input());
        for rows in [1, 3, 1000] {
            let cut = PixelFlipping { rows: Some(rows), ..flipping.clone() };
            assert_eq!(curves(&cut, &samples, relevance.input()), whole, "batches of {rows}");
        }
        for sample in 0..5 {
            let alone = tensor(&[2, 4, 5], samples.row(sample).to_vec());
            let r = tensor(&[2, 4, 5], relevance.input().row(sample).to_vec());
            assert_eq!(curves(&flipping, &alone, &r).scores.data(), whole.scores.row(sample));
        }
        let other = PixelFlipping { seed: 6, ..flipping.clone() };
        assert_ne!(curves(&other, &samples, relevance.input()).scores, whole.scores);
    }
}

#[test]
fn random_orders_end_where_the_others_do_and_differ_between_samples() {
    let explainer = explainer(linear(), Backend::Cpu);
    let samples = tensor(&[2, 6], vec![1.0, 1.0, 1.0, 2.0, 1.0, 2.0, 1.0, 1.0, 1.0, 2.0, 1.0, 2.0001]);
    let flipping = PixelFlipping::new([1]);
    let curves = flipping.curves(&explainer, &[Input::from(&samples)], &Targets::Class(0), Order::Random).unwrap();
    let (first, second) = (curves.scores.row(0), curves.scores.row(1));
    assert_eq!((first[6], second[6]), (0.0, 0.0));
    assert!((1..6).any(|step| (first[step] - second[step]).abs() > 0.1), "{first:?} {second:?}");
}

#[test]
fn a_better_explanation_has_the_larger_area() {
    let explainer = explainer(picture_network(), Backend::Cpu);
    let samples = pictures(20);
    let inputs = [Input::from(&samples)];
    let relevance = explainer.explain(&inputs, &Targets::ArgMax).unwrap();
    let wrong = relevance.input().map(|r| -r);
    let area = |relevance: &Tensor| {
        let curves = |order| PixelFlipping::new([1, 1]).curves(&explainer, &inputs, &Targets::ArgMax, order).unwrap();
        let (most, least) = (curves(Order::MostRelevantFirst(relevance)), curves(Order::LeastRelevantFirst(relevance)));
        least.above(&most).unwrap().iter().sum::<f64>() / 20.0
    };
    assert!(area(relevance.input()) > 0.5, "{}", area(relevance.input()));
    assert!(area(&wrong) < -0.5, "{}", area(&wrong));
}

#[test]
fn a_convolutional_network_has_the_same_curves_on_every_backend() {
    let samples = pictures(4);
    let inputs = [Input::from(&samples)];
    let on = |options: Options| {
        let composite = Composite::preset("epsilon-plus").unwrap();
        let explainer = Explainer::with_options(convolutional(), &composite, options).unwrap();
        let relevance = explainer.explain(&inputs, &Targets::ArgMax).unwrap();
        let flipping = PixelFlipping { perturbation: Perturbation::Mean, ..PixelFlipping::new([2, 2]) };
        let of = |order| flipping.curves(&explainer, &inputs, &Targets::ArgMax, order).unwrap().scores;
        [of(Order::MostRelevantFirst(relevance.input())), of(Order::LeastRelevantFirst(relevance.input()))]
    };
    let by = |backend| Options { backend, ..Options::default() };
    let exact = on(by(Backend::Reference));
    let backends = [
        by(Backend::Cpu),
        #[cfg(feature = "gpu")]
        Options { gpu: Some(device::shared()), ..by(Backend::Gpu) },
    ];
    for options in backends {
        for (found, exact) in on(options).iter().zip(&exact) {
            assert_eq!(found.shape(), exact.shape());
            for (found, exact) in found.data().iter().zip(exact.data()) {
                assert_abs_diff_eq!(found, exact, epsilon = 1e-5);
            }
        }
    }
}

#[test]
fn integers_stay_as_they_are() {
    let mut builder = Network::builder();
    let (token, x) = (builder.integer_input("token", [1]), builder.input("x", [2]));
    let row = builder.lookup("table", token, tensor(&[2, 2], vec![0.0, 1.0, 2.0, 3.0])).unwrap();
    let row = builder.reshape("row", row, [2]).unwrap();
    let sum = builder.sum("sum", &[row, x]).unwrap();
    let y = builder.dense("fc", sum, tensor(&[1, 2], vec![2.0, -3.0]), None).unwrap();
    let explainer = explainer(builder.build(y).unwrap(), Backend::Cpu);
    let token = Tensor::new([2, 1], vec![1_i64, 0]).unwrap();
    let x = tensor(&[2, 2], vec![1.0, 1.0, 2.0, 0.5]);
    let inputs = [Input::from(&token), Input::from(&x)];
    let order = Order::MostRelevantFirst(&x);
    let curves = PixelFlipping::new([1]).curves(&explainer, &inputs, &Targets::ArgMax, order).unwrap();
    assert_eq!(curves.scores.data(), [-6.0, -8.0, -5.0, -0.5, -4.5, -3.0]);
}

#[test]
fn what_makes_no_sense_is_refused_with_the_way_out() {
    let explainer = explainer(picture_network(), Backend::Cpu);
    let samples = pictures(2);
    let relevance = pictures(2);
    let refused = |flipping: PixelFlipping, targets: Targets, relevance: &Tensor, kind: ErrorKind| {
        let order = Order::MostRelevantFirst(relevance);
        let error = flipping.curves(&explainer, &[Input::from(&samples)], &targets, order).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.advice().is_some(), "{error}");
        error.to_string()
    };
    let pixel = || PixelFlipping::new([1, 1]);
    let text = refused(PixelFlipping { steps: Some(21), ..pixel() }, Targets::ArgMax, &relevance, ErrorKind::Argument);
    assert!(text.contains("20 regions") && text.contains("take 20 steps at most"), "{text}");
    for flipping in [
        PixelFlipping { steps: Some(0), ..pixel() },
        PixelFlipping { per_step: 0, ..pixel() },
        PixelFlipping { steps: Some(4), per_step: 7, ..pixel() },
        PixelFlipping { perturbation: Perturbation::Blur { radius: 0 }, ..pixel() },
        PixelFlipping::new([1, 1, 1, 1]),
        PixelFlipping::new([0, 1]),
    ] {
        refused(flipping, Targets::ArgMax, &relevance, ErrorKind::Argument);
    }
    refused(pixel(), Targets::Top(2), &relevance, ErrorKind::Argument);
    refused(pixel(), Targets::Class(3), &relevance, ErrorKind::Argument);
    let text = refused(pixel(), Targets::ArgMax, &pictures(3), ErrorKind::Shape);
    assert!(text.contains("[3, 2, 4, 5]") && text.contains("2 samples of [2, 4, 5]"), "{text}");
    let mut spoiled = pictures(2);
    spoiled.data_mut()[45] = f32::NAN;
    let text = refused(pixel(), Targets::ArgMax, &spoiled, ErrorKind::Data);
    assert!(text.contains("sample 1, element 5"), "{text}");
    let wrong = Perturbation::Baseline(Baseline::Sample(Tensor::zeros([7])));
    refused(PixelFlipping { perturbation: wrong, ..pixel() }, Targets::ArgMax, &relevance, ErrorKind::Shape);
    let order = Order::MostRelevantFirst(&relevance);
    let error = pixel().curves(&explainer, &[Input::from(&spoiled)], &Targets::ArgMax, order).unwrap_err();
    assert!(error.message().contains("sample 1"), "{error}");
}
