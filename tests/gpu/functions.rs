//! Activations and their derivatives as kernels compute them, beside float64: the bounds are those of the CPU's.

use relprop::reference;

use super::*;

const ALL: [Activation; 22] = [
    Activation::Relu,
    Activation::LeakyRelu { slope: 0.01 },
    Activation::Sigmoid,
    Activation::Tanh,
    Activation::Erf,
    Activation::Gelu(GeluForm::Erf),
    Activation::Gelu(GeluForm::Tanh),
    Activation::Softplus { beta: 1.0 },
    Activation::Softplus { beta: 10.0 },
    Activation::Elu { alpha: 1.0 },
    Activation::Selu { alpha: 1.673_263_2, gamma: 1.050_701 },
    Activation::Celu { alpha: 0.5 },
    Activation::Silu { beta: 1.0 },
    Activation::Silu { beta: 1.702 },
    Activation::HardSigmoid { slope: 0.25, offset: 0.5 },
    Activation::HardSwish,
    Activation::Mish,
    Activation::Clip { low: 0.0, high: 6.0 },
    Activation::Clip { low: -1.0, high: f32::INFINITY },
    Activation::ThresholdedRelu { threshold: 1.0 },
    Activation::Softsign,
    Activation::Abs,
];

/// Powers, at bases above zero of any size.
const POWERS: [Activation; 8] = [
    Activation::Power { offset: 0.0, exponent: 2.0 },
    Activation::Power { offset: 0.0, exponent: 0.5 },
    Activation::Power { offset: 0.0, exponent: -0.5 },
    Activation::Power { offset: 0.0, exponent: -1.0 },
    Activation::Power { offset: 0.0, exponent: 3.0 },
    Activation::Power { offset: 0.0, exponent: 0.75 },
    Activation::Power { offset: 0.0, exponent: -0.75 },
    Activation::Power { offset: 0.0, exponent: 1.5 },
];

/// x → activation → a dense layer of `weight`.
fn network(activation: Activation, weight: Tensor) -> Arc<Network> {
    let mut builder = Network::builder();
    let x = builder.input("x", [weight.shape().dims()[1]]);
    let y = builder.activation("y", x, activation).unwrap();
    let output = builder.dense("identity", y, weight, None).unwrap();
    Arc::new(builder.build(output).unwrap())
}

/// f of each point: a dense layer of ones and zeros passes it on exactly.
fn values(activation: Activation, points: &Tensor) -> Vec<f32> {
    let width = points.shape().dims()[1];
    let identity = Tensor::from_fn([width, width], |i| if i / width == i % width { 1.0 } else { 0.0 });
    let network = network(activation, identity);
    let explainer = explainer(&network, &Composite::preset("gradient").unwrap(), in_pairs(&device::shared()));
    explainer.forward(&[Input::from(points)]).unwrap().into_data()
}

/// f′ at each point: the gradient of their sum.
fn slopes(activation: Activation, points: &Tensor) -> Vec<f32> {
    let ones = Tensor::from_fn([1, points.shape().dims()[1]], |_| 1.0);
    let network = network(activation, ones);
    let ask = Request::new(Targets::Class(0)).start(Start::One).allow_nonfinite(true);
    let composite = Composite::preset("gradient").unwrap();
    explain(&network, &composite, in_pairs(&device::shared()), std::slice::from_ref(points), &ask)
        .input()
        .data()
        .to_vec()
}

/// Points a sample: so many that pairs of samples are few.
const WIDTH: usize = 256;

#[test]
fn values_and_derivatives_follow_float64() {
    let even = (-40_000..=40_000).map(|i| i as f32 * 5e-4);
    let small = (1..60).flat_map(|i| [0.5_f32.powi(i), -(0.5_f32.powi(i))]);
    let mut points: Vec<f32> = even.chain(small).collect();
    points.resize(points.len().next_multiple_of(WIDTH), 0.0);
    let points = Tensor::new([points.len() / WIDTH, WIDTH], points).unwrap();
    for activation in ALL {
        let (values, slopes) = (values(activation, &points), slopes(activation, &points));
        let mut worst = [0.0_f64; 2];
        for ((&x, value), slope) in points.data().iter().zip(values).zip(slopes) {
            let exact = reference::value(&activation, f64::from(x));
            let exact_slope = reference::derivative(&activation, f64::from(x));
            // Units in the last place of the value, or of the size that the tails vanish from.
            let units = |found: f32, exact: f64, size: f64| {
                let unit = f64::from(f32::EPSILON) * exact.abs().max(size).max(f64::MIN_POSITIVE);
                (f64::from(found) - exact).abs() / unit
            };
            let tail = match activation {
                Activation::Gelu(_) => 0.1 * f64::from(x.abs()).min(1.0),
                // βx is rounded before its exponential is taken: |βx| / 2 units more.
                Activation::Softplus { beta } => exact.max(1e-6) * (1.0 + f64::from((beta * x).abs()) / 16.0),
                Activation::Silu { beta } => exact.abs().max(1e-6) * (1.0 + f64::from((beta * x).abs()) / 16.0),
                _ => 1e-6,
            };
            let found = [units(value, exact, tail), units(slope, exact_slope, 1.0)];
            assert!(found[0] <= 8.0, "{activation:?}({x}) is {value}, not {exact}");
            assert!(found[1] <= 8.0, "{activation:?}′({x}) is {slope}, not {exact_slope}");
            worst = [worst[0].max(found[0]), worst[1].max(found[1])];
        }
        println!("{activation:?}: {:.2} units of the value, {:.2} of the derivative", worst[0], worst[1]);
    }
}

#[test]
fn powers_follow_float64() {
    let points: Vec<f32> = (-64..64).map(|i| 1.21_f32.powi(i)).chain((1..=1920).map(|i| i as f32 * 0.01)).collect();
    let points = Tensor::new([points.len() / 64, 64], points).unwrap();
    for power in POWERS {
        let Activation::Power { exponent, .. } = power else { continue };
        let (values, slopes) = (values(power, &points), slopes(power, &points));
        for ((&x, value), slope) in points.data().iter().zip(values).zip(slopes) {
            // The logarithm, up to |p ln x|, is rounded before its exponential is taken; roots may be off by some units.
            let logarithm = f64::from(exponent).abs().max(1.0) * (1.0 + f64::from(x).ln().abs());
            let bound = (8.0 + 2.0 * logarithm) * f64::from(f32::EPSILON);
            let exact = [reference::value(&power, f64::from(x)), reference::derivative(&power, f64::from(x))];
            for (found, exact) in [value, slope].into_iter().zip(exact) {
                let off = (f64::from(found) - exact).abs();
                assert!(off <= bound * exact.abs() + 1e-37, "{x}^{exponent}: {found}, not {exact}");
            }
        }
    }
}

#[test]
fn powers_of_zero_and_of_negative_numbers_are_those_of_float64() {
    let x = [0.0, -1.5, f32::NAN];
    let points = Tensor::new([3, 1], x.to_vec()).unwrap();
    for power in POWERS {
        let Activation::Power { exponent, .. } = power else { continue };
        let found = values(power, &points);
        for (&x, found) in x.iter().zip(found) {
            let exact = reference::value(&power, f64::from(x)) as f32;
            let same = found == exact || (found.is_nan() && exact.is_nan()) || (found / exact - 1.0).abs() <= 1e-6;
            assert!(same, "{x}^{exponent} is {found}, not {exact}");
        }
    }
}

/// The values between which an activation stays, and between which its derivative does.
fn range(activation: &Activation) -> [[f32; 2]; 2] {
    let infinity = f32::INFINITY;
    match activation {
        Activation::Sigmoid => [[0.0, 1.0], [0.0, 0.25]],
        Activation::HardSigmoid { slope, .. } => [[0.0, 1.0], [0.0, *slope]],
        Activation::Tanh | Activation::Softsign => [[-1.0, 1.0], [0.0, 1.0]],
        Activation::Erf => [[-1.0, 1.0], [0.0, 1.2]],
        Activation::Clip { low, high } => [[*low, *high], [0.0, 1.0]],
        Activation::Relu | Activation::ThresholdedRelu { .. } | Activation::Softplus { .. } => {
            [[0.0, infinity], [0.0, 1.0]]
        }
        Activation::LeakyRelu { .. } => [[-infinity, infinity], [0.0, 1.0]],
        Activation::Elu { alpha } => [[-alpha, infinity], [0.0, alpha.max(1.0)]],
        Activation::Celu { alpha } => [[-alpha, infinity], [0.0, 1.0]],
        Activation::Selu { alpha, gamma } => [[-alpha * gamma, infinity], [0.0, alpha * gamma]],
        Activation::Gelu(_) | Activation::Silu { .. } | Activation::HardSwish | Activation::Mish => {
            [[-0.4, infinity], [-0.2, 1.2]]
        }
        Activation::Abs => [[0.0, infinity], [-1.0, 1.0]],
        Activation::Exp | Activation::Power { .. } => [[-infinity, infinity]; 2],
    }
}

#[test]
fn values_stay_in_range_and_nan_stays_nan() {
    let x = [f32::NEG_INFINITY, -1e30, -100.0, -9.0, 0.0, 9.0, 100.0, 1e30, f32::INFINITY, f32::NAN, -f32::NAN];
    let points = Tensor::new([x.len(), 1], x.to_vec()).unwrap();
    for activation in ALL {
        let (values, slopes) = (values(activation, &points), slopes(activation, &points));
        assert!(values[9].is_nan() && values[10].is_nan(), "{activation:?} of NaN is {:?}", &values[9..]);
        let is_piecewise = matches!(
            activation,
            Activation::Relu
                | Activation::LeakyRelu { .. }
                | Activation::Clip { .. }
                | Activation::ThresholdedRelu { .. }
                | Activation::HardSigmoid { .. }
                | Activation::Abs
        );
        assert!(is_piecewise || slopes[9].is_nan(), "{activation:?}′ at NaN is {}", slopes[9]);
        let [within, slopes_within] = range(&activation);
        let is_bounded = within[1] < f32::INFINITY;
        // At the ends an unbounded function is a product with a number that float32 cannot hold; softsign is ∞/∞.
        let held = if is_bounded && activation != Activation::Softsign { 0..9 } else { 1..8 };
        assert!(values[held.clone()].iter().all(|y| y.is_finite()), "{activation:?}: {values:?}");
        assert!(values[2..8].iter().all(|y| (within[0]..=within[1]).contains(y)), "{activation:?}: {values:?}");
        let [least, most] = slopes_within;
        assert!(slopes[2..7].iter().all(|y| (least..=most).contains(y)), "{activation:?}′: {slopes:?}");
        if is_bounded {
            assert!(values[held].is_sorted(), "{activation:?}: {values:?}");
        } else {
            assert_eq!(values[8], f32::INFINITY, "{activation:?}");
        }
    }
}
