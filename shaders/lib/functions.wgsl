// Activations, their derivatives and stabilisers. NaN stays NaN, as no NaN is below or above anything and `select` keeps it. Where a
// comparison and a `select` come to a minimum or a maximum, NVIDIA's compiler makes one of them, which loses NaN: there bits are compared.
// It also multiplies sums out, x · (a + b) to x · a + x · b, where nothing stands between.
// Ranges are reduced and polynomials fitted as in the Cephes library (S. Moshier), because the precision of WGSL's own
// functions differs from device to device.

// By its bits: a comparison with NaN may be compiled away.
fn is_nan(x: vec4<f32>) -> vec4<bool> {
    return (bitcast<vec4<u32>>(x) & vec4(0x7fffffffu)) > vec4(0x7f800000u);
}

fn relu(x: vec4<f32>) -> vec4<f32> {
    let is_below_zero = bitcast<vec4<u32>>(x) - vec4(0x80000001u) < vec4(0x7f800000u);
    return select(x, vec4(0.0), is_below_zero);
}

fn negative(x: vec4<f32>) -> vec4<f32> {
    let is_above_zero = bitcast<vec4<u32>>(x) - vec4(1u) < vec4(0x7f800000u);
    return select(x, vec4(0.0), is_above_zero);
}

fn relu_slope(x: vec4<f32>) -> vec4<f32> {
    return select(vec4(0.0), vec4(1.0), x > vec4(0.0));
}

fn leaky_relu(x: vec4<f32>, slope: f32) -> vec4<f32> {
    return select(x, slope * x, x < vec4(0.0));
}

fn leaky_relu_slope(x: vec4<f32>, slope: f32) -> vec4<f32> {
    return select(vec4(slope), vec4(1.0), x > vec4(0.0));
}

// x within the range of float32's exponential.
fn exponential_range(given: vec4<f32>) -> vec4<f32> {
    let above = select(given, vec4(-87.0), given < vec4(-87.0));
    let within = select(above, vec4(88.0), above > vec4(88.0));
    return select(within, given, is_nan(given));
}

// e^(x − n ln 2) − 1.
fn exponential_rest(x: vec4<f32>, n: vec4<f32>) -> vec4<f32> {
    let r = fma(n, vec4(2.12194440e-4), fma(n, vec4(-0.693359375), x));
    var series = fma(vec4(1.9875691e-4), r, vec4(1.3981999e-3));
    series = fma(series, r, vec4(8.3334519e-3));
    series = fma(series, r, vec4(4.1665796e-2));
    series = fma(series, r, vec4(0.16666665));
    series = fma(series, r, vec4(0.5));
    return fma(series * r, r, r);
}

// 2ⁿ, put together from its bits. NaN has no integer; what it is multiplied with is NaN already.
fn power_of_two(n: vec4<f32>) -> vec4<f32> {
    return bitcast<vec4<f32>>((vec4<i32>(n) + 127) << vec4(23u));
}

// eˣ; at the ends of float32's range it stays finite and positive.
fn exponential(given: vec4<f32>) -> vec4<f32> {
    let x = exponential_range(given);
    let n = round(x * 1.44269504);
    return (exponential_rest(x, n) + 1.0) * power_of_two(n);
}

// eˣ − 1 without the cancellation near zero, where the power of two is 1.
fn exponential_minus_one(given: vec4<f32>) -> vec4<f32> {
    let x = exponential_range(given);
    let n = round(x * 1.44269504);
    let power = power_of_two(n);
    return fma(exponential_rest(x, n), power, power - 1.0);
}

fn sigmoid(x: vec4<f32>) -> vec4<f32> {
    return 1.0 / (1.0 + exponential(-x));
}

fn sigmoid_slope(x: vec4<f32>) -> vec4<f32> {
    return sigmoid(x) * sigmoid(-x);
}

// x with the sign of y.
fn with_sign(x: vec4<f32>, y: vec4<f32>) -> vec4<f32> {
    return select(x, -x, y < vec4(0.0));
}

fn hyperbolic_tangent(x: vec4<f32>) -> vec4<f32> {
    let square = x * x;
    var series = fma(vec4(-5.70498872e-3), square, vec4(2.06390887e-2));
    series = fma(series, square, vec4(-5.37397155e-2));
    series = fma(series, square, vec4(0.133314422));
    series = fma(series, square, vec4(-0.333332819));
    let near = fma(series * square, x, x);
    let far = with_sign(1.0 - 2.0 / (exponential(2.0 * abs(x)) + 1.0), x);
    return select(far, near, abs(x) < vec4(0.625));
}

fn hyperbolic_tangent_slope(x: vec4<f32>) -> vec4<f32> {
    let y = hyperbolic_tangent(x);
    return 1.0 - y * y;
}

// erf on −1..1.
fn error_series(x: vec4<f32>) -> vec4<f32> {
    let square = x * x;
    var series = fma(vec4(7.85386146e-5), square, vec4(-8.01019371e-4));
    series = fma(series, square, vec4(5.18832775e-3));
    series = fma(series, square, vec4(-2.68538129e-2));
    series = fma(series, square, vec4(0.112835854));
    series = fma(series, square, vec4(-0.376126269));
    series = fma(series, square, vec4(1.12837918));
    return x * series;
}

// 1 − erf(x) for x ≥ 1.
fn error_tail(x: vec4<f32>) -> vec4<f32> {
    let inverse = 1.0 / x;
    let square = inverse * inverse;
    var near = fma(vec4(2.326819970e-2), square, vec4(-0.1387039388));
    near = fma(near, square, vec4(0.3687424674));
    near = fma(near, square, vec4(-0.5824733027));
    near = fma(near, square, vec4(0.6210004621));
    near = fma(near, square, vec4(-0.4944515323));
    near = fma(near, square, vec4(0.3404879937));
    near = fma(near, square, vec4(-0.2741127028));
    near = fma(near, square, vec4(0.5638259427));
    var far = fma(vec4(-10.47766399), square, vec4(12.97719955));
    far = fma(far, square, vec4(-7.495518717));
    far = fma(far, square, vec4(2.921019019));
    far = fma(far, square, vec4(-1.015265279));
    far = fma(far, square, vec4(0.4218463358));
    far = fma(far, square, vec4(-0.2820767439));
    far = fma(far, square, vec4(0.5641895067));
    return exponential(-x * x) * inverse * select(far, near, x < vec4(2.0));
}

fn error_function(x: vec4<f32>) -> vec4<f32> {
    let size = abs(x);
    let is_near = size < vec4(1.0);
    let far = with_sign(1.0 - error_tail(select(size, vec4(1.0), is_near)), x);
    return select(far, error_series(x), is_near | is_nan(x));
}

// 2/√π · e^(−x²).
fn error_function_slope(x: vec4<f32>) -> vec4<f32> {
    return 1.12837917 * exponential(-x * x);
}

// Φ(x), accurate in its lower tail too.
fn normal_distribution(x: vec4<f32>) -> vec4<f32> {
    let scaled = x * 0.707106781;
    let size = abs(scaled);
    let is_near = size < vec4(1.0);
    let tail = 0.5 * error_tail(select(size, vec4(1.0), is_near));
    let far = select(1.0 - tail, tail, scaled < vec4(0.0));
    return select(far, 0.5 + 0.5 * error_series(scaled), is_near | is_nan(x));
}

fn gelu(x: vec4<f32>) -> vec4<f32> {
    return x * normal_distribution(x);
}

// Φ(x) + x·φ(x).
fn gelu_slope(x: vec4<f32>) -> vec4<f32> {
    return normal_distribution(x) + x * 0.398942280 * exponential(-0.5 * x * x);
}

// √(2/π)(x + 0.044715 x³).
fn gelu_inner(x: vec4<f32>) -> vec4<f32> {
    return 0.797884561 * (x + 0.044715 * x * x * x);
}

fn gelu_tanh(x: vec4<f32>) -> vec4<f32> {
    return x * sigmoid(2.0 * gelu_inner(x));
}

fn gelu_tanh_slope(x: vec4<f32>) -> vec4<f32> {
    let inner = 2.0 * gelu_inner(x);
    let inner_slope = 1.595769122 * (1.0 + 0.134145 * x * x);
    return sigmoid(inner) * (1.0 + x * sigmoid(-inner) * inner_slope);
}

// ln(1 + x) − x for 1 + x between √½ and √2.
fn logarithm_rest(x: vec4<f32>) -> vec4<f32> {
    let square = x * x;
    var series = fma(vec4(7.0376836292e-2), x, vec4(-0.11514610310));
    series = fma(series, x, vec4(0.11676998740));
    series = fma(series, x, vec4(-0.12420140846));
    series = fma(series, x, vec4(0.14249322787));
    series = fma(series, x, vec4(-0.16668057665));
    series = fma(series, x, vec4(0.20000714765));
    series = fma(series, x, vec4(-0.24999993993));
    series = fma(series, x, vec4(0.33333331174));
    return fma(series * square, x, -0.5 * square);
}

// ln(1 + y) for y in 0..=1: the logarithm of a number between √½ and √2, after a halving where 1 + y is beyond.
fn logarithm_after_one(y: vec4<f32>) -> vec4<f32> {
    let is_far = y > vec4(0.41421356);
    let x = select(y, 0.5 * y - 0.5, is_far);
    let series = logarithm_rest(x);
    return select(series + x, series - 2.12194440e-4 + x + 0.693359375, is_far);
}

// ln x of a positive number: that of its significand, between √½ and √2, and its exponent's share.
fn logarithm(x: vec4<f32>) -> vec4<f32> {
    let shifted = bitcast<vec4<u32>>(x) - vec4(0x3f3504f3u);
    let n = vec4<f32>(bitcast<vec4<i32>>(shifted) >> vec4(23u));
    let significand = bitcast<vec4<f32>>((shifted & vec4(0x007fffffu)) + vec4(0x3f3504f3u)) - 1.0;
    return fma(n, vec4(-2.12194440e-4), logarithm_rest(significand)) + significand + n * 0.693359375;
}

// ln(1 + e^(βx)) / β, by the exponential of −|βx|, which stays within 1.
fn softplus(x: vec4<f32>, beta: f32) -> vec4<f32> {
    let z = beta * x;
    return (relu(z) + logarithm_after_one(exponential(-abs(z)))) / beta;
}

fn softplus_slope(x: vec4<f32>, beta: f32) -> vec4<f32> {
    return sigmoid(beta * x);
}

// x above zero, α(eˣ − 1) below.
fn elu(x: vec4<f32>, alpha: f32) -> vec4<f32> {
    return select(alpha * exponential_minus_one(x), x, x > vec4(0.0));
}

fn elu_slope(x: vec4<f32>, alpha: f32) -> vec4<f32> {
    return select(alpha * exponential(x), vec4(1.0), x > vec4(0.0));
}

fn selu(x: vec4<f32>, alpha: f32, gamma: f32) -> vec4<f32> {
    return gamma * elu(x, alpha);
}

fn selu_slope(x: vec4<f32>, alpha: f32, gamma: f32) -> vec4<f32> {
    return gamma * elu_slope(x, alpha);
}

// x above zero, α(e^(x/α) − 1) below.
fn celu(x: vec4<f32>, alpha: f32) -> vec4<f32> {
    return select(alpha * exponential_minus_one(x / alpha), x, x > vec4(0.0));
}

fn celu_slope(x: vec4<f32>, alpha: f32) -> vec4<f32> {
    return select(exponential(x / alpha), vec4(1.0), x > vec4(0.0));
}

fn silu(x: vec4<f32>, beta: f32) -> vec4<f32> {
    return x * sigmoid(beta * x);
}

fn silu_slope(x: vec4<f32>, beta: f32) -> vec4<f32> {
    let z = beta * x;
    return sigmoid(z) * (1.0 + z * sigmoid(-z));
}

// x, at least `low` and at most `high`.
fn clip(x: vec4<f32>, low: f32, high: f32) -> vec4<f32> {
    let above = select(x, vec4(low), x < vec4(low));
    let within = select(above, vec4(high), above > vec4(high));
    return select(within, x, is_nan(x));
}

// 1 between the bounds, both excluded, 0 elsewhere.
fn clip_slope(x: vec4<f32>, low: f32, high: f32) -> vec4<f32> {
    return select(vec4(0.0), vec4(1.0), (x > vec4(low)) & (x < vec4(high)));
}

fn hard_sigmoid(x: vec4<f32>, slope: f32, offset: f32) -> vec4<f32> {
    return clip(slope * x + offset, 0.0, 1.0);
}

fn hard_sigmoid_slope(x: vec4<f32>, slope: f32, offset: f32) -> vec4<f32> {
    return slope * clip_slope(slope * x + offset, 0.0, 1.0);
}

// By x + 3, so that nothing cancels near −3.
fn hard_swish(x: vec4<f32>) -> vec4<f32> {
    return x * (clip(x + 3.0, 0.0, 6.0) * 0.166666667);
}

fn hard_swish_slope(x: vec4<f32>) -> vec4<f32> {
    let above = select(x * 0.333333333 + 0.5, vec4(1.0), x >= vec4(3.0));
    return select(above, vec4(0.0), x <= vec4(-3.0));
}

// With u = e^−|x|, tanh(ln(1 + eˣ)) is this over the sum of this and `softplus_rest`, both positive and at most 3.
fn softplus_held(x: vec4<f32>, u: vec4<f32>) -> vec4<f32> {
    return select(1.0 + 2.0 * u, u * (u + 2.0), x < vec4(0.0));
}

fn softplus_rest(x: vec4<f32>, u: vec4<f32>) -> vec4<f32> {
    return select(2.0 * u * u, vec4(2.0), x < vec4(0.0));
}

fn mish(x: vec4<f32>) -> vec4<f32> {
    let u = exponential(-abs(x));
    let held = softplus_held(x, u);
    return x * held / (held + softplus_rest(x, u));
}

// t + x(1 − t²)σ(x) with t = tanh(ln(1 + eˣ)), where 1 − t² would cancel.
fn mish_slope(x: vec4<f32>) -> vec4<f32> {
    let u = exponential(-abs(x));
    let held = softplus_held(x, u);
    let rest = softplus_rest(x, u);
    let inverse = 1.0 / (held + rest);
    return held * inverse + x * sigmoid(x) * (rest * inverse) * ((2.0 * held + rest) * inverse);
}

fn thresholded_relu(x: vec4<f32>, threshold: f32) -> vec4<f32> {
    return select(x, vec4(0.0), x <= vec4(threshold));
}

fn thresholded_relu_slope(x: vec4<f32>, threshold: f32) -> vec4<f32> {
    return select(vec4(0.0), vec4(1.0), x > vec4(threshold));
}

fn softsign(x: vec4<f32>) -> vec4<f32> {
    return x / (1.0 + abs(x));
}

fn softsign_slope(x: vec4<f32>) -> vec4<f32> {
    let size = 1.0 + abs(x);
    return 1.0 / (size * size);
}

fn exponential_slope(x: vec4<f32>) -> vec4<f32> {
    return exponential(x);
}

fn magnitude(x: vec4<f32>) -> vec4<f32> {
    return abs(x);
}

fn magnitude_slope(x: vec4<f32>) -> vec4<f32> {
    let above = select(x * 0.0, vec4(1.0), x > vec4(0.0));
    return select(above, vec4(-1.0), x < vec4(0.0));
}

fn square(x: vec4<f32>, offset: f32) -> vec4<f32> {
    let base = x + offset;
    return base * base;
}

fn square_slope(x: vec4<f32>, offset: f32) -> vec4<f32> {
    return 2.0 * (x + offset);
}

fn root(x: vec4<f32>, offset: f32) -> vec4<f32> {
    return sqrt(x + offset);
}

// 0 where the root begins.
fn root_slope(x: vec4<f32>, offset: f32) -> vec4<f32> {
    return quotient(vec4(0.5), sqrt(x + offset));
}

// By a root and a division, whose precision WGSL promises; that of its inverse root is wider.
fn inverse_root(x: vec4<f32>, offset: f32) -> vec4<f32> {
    return 1.0 / sqrt(x + offset);
}

fn inverse_root_slope(x: vec4<f32>, offset: f32) -> vec4<f32> {
    let base = x + offset;
    return -0.5 / (base * sqrt(base));
}

fn inverse(x: vec4<f32>, offset: f32) -> vec4<f32> {
    return 1.0 / (x + offset);
}

fn inverse_slope(x: vec4<f32>, offset: f32) -> vec4<f32> {
    let inverse = 1.0 / (x + offset);
    return -inverse * inverse;
}

// base^exponent by e^(exponent ln |base|): a base below zero has the sign of an integer power, and else none.
fn power_of(base: vec4<f32>, exponent: f32) -> vec4<f32> {
    let size = exponential(exponent * logarithm(abs(base)));
    let parity = 0.5 * exponent - floor(0.5 * exponent);
    let not_a_number = bitcast<f32>(bitcast<u32>(exponent) | 0x7fc00000u);
    let below = select(select(not_a_number, -1.0, parity == 0.5), 1.0, parity == 0.0);
    // Of zero, and of NaN, which stays.
    let at_zero = select(base + select(0.0, 1.0, exponent == 0.0), 1.0 / abs(base), exponent < 0.0);
    let signed = select(at_zero, below * size, base < vec4(0.0));
    return select(signed, size, base > vec4(0.0));
}

fn power(x: vec4<f32>, offset: f32, exponent: f32) -> vec4<f32> {
    return power_of(x + offset, exponent);
}

// 0 where a root begins.
fn power_slope(x: vec4<f32>, offset: f32, exponent: f32) -> vec4<f32> {
    let base = x + offset;
    let slope = exponent * power_of(base, exponent - 1.0);
    let is_root = exponent > 0.0 && exponent < 1.0;
    return select(slope, vec4(0.0), (base == vec4(0.0)) & vec4(is_root));
}

// sign(d), with sign(0) = +1.
fn sign_of(d: vec4<f32>) -> vec4<f32> {
    return select(vec4(-1.0), vec4(1.0), d >= vec4(0.0));
}

fn stabilize_absolute(d: vec4<f32>, epsilon: f32) -> vec4<f32> {
    return d + epsilon * sign_of(d);
}

fn stabilize_clip(d: vec4<f32>, epsilon: f32) -> vec4<f32> {
    return select(d, epsilon * sign_of(d), abs(d) < vec4(epsilon));
}

// stab(d) − d, without the rounding of d.
fn damping_absolute(d: vec4<f32>, epsilon: f32) -> vec4<f32> {
    return epsilon * sign_of(d);
}

fn damping_clip(d: vec4<f32>, epsilon: f32) -> vec4<f32> {
    return select(vec4(0.0), epsilon * sign_of(d) - d, abs(d) < vec4(epsilon));
}

// v / d; 0 where d is exactly 0.
fn quotient(v: vec4<f32>, d: vec4<f32>) -> vec4<f32> {
    let is_zero = d == vec4(0.0);
    return select(v / select(d, vec4(1.0), is_zero), vec4(0.0), is_zero);
}

// factor / stable, where stable is d stabilised, and 0 where d does not have the sign. NaN stays NaN.
fn quotient_of_sign(sign: f32, factor: f32, d: vec4<f32>, stable: vec4<f32>) -> vec4<f32> {
    return select(vec4(factor) / stable, vec4(0.0), sign * d <= vec4(0.0));
}
