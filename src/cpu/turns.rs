//! The turns of Winograd's convolutions: a tile of sources, a filter of three taps and the products of both, along one axis.
//!
//! A tile of m targets y of a filter g of three taps reads m + 2 sources d. That is a product of polynomials, transposed: evaluated at
//! m + 1 points and at infinity (Toom and Cook), one multiplication a point makes all m targets,
//! y = Aᵀ((G g) ⊙ (Bᵀ d)), where plain sums take three a target (S. Winograd, *Arithmetic Complexity of Computations*, 1980;
//! A. Lavin and S. Gray, *Fast Algorithms for Convolutional Neural Networks*, 2015). Along two axes both turns follow one another.
//!
//! For a point p, and M(x) the product of (x − p) over all finite points: the row of Bᵀ holds the coefficients of M(x) / (x − p), and
//! that of infinity those of M(x); the row of G is (1, p, p²), and that of infinity (0, 0, 1); the column of Aᵀ is
//! (1, p, p², …) / M'(p), where the division costs nothing, and that of infinity (0, …, 0, 1). A point's row of Bᵀ and column of Aᵀ may
//! both change sign.

/// Some channels of one source, product or target.
type Lanes<const N: usize> = [f32; N];

/// The turns of tiles of `SIDE` targets along an axis, which read `SPAN` sources.
pub(super) trait Turn<const SIDE: usize, const SPAN: usize> {
    /// Bᵀ d.
    fn sources<const FUSED: bool, const N: usize>(d: &[Lanes<N>; SPAN]) -> [Lanes<N>; SPAN];

    /// G g.
    fn filter<const FUSED: bool, const N: usize>(g: &[Lanes<N>; 3]) -> [Lanes<N>; SPAN];

    /// Aᵀ m.
    fn products<const FUSED: bool, const N: usize>(m: &[Lanes<N>; SPAN]) -> [Lanes<N>; SIDE];
}

/// Tiles of two targets: the points 0, 1 and −1.
pub(super) struct Two;

/// Tiles of four targets: the points 0, ±1/√2 and ±√2, whose powers stay nearest to one; with ±1 and ±2 in their place
/// targets lose two to four times as much to rounding.
pub(super) struct Four;

impl Turn<2, 4> for Two {
    #[inline(always)]
    fn sources<const FUSED: bool, const N: usize>(d: &[Lanes<N>; 4]) -> [Lanes<N>; 4] {
        [minus(&d[0], &d[2]), plus(&d[2], &d[1]), minus(&d[2], &d[1]), minus(&d[3], &d[1])]
    }

    #[inline(always)]
    fn filter<const FUSED: bool, const N: usize>([g0, g1, g2]: &[Lanes<N>; 3]) -> [Lanes<N>; 4] {
        let even = plus(g0, g2);
        [*g0, plus(&even, g1), minus(&even, g1), *g2]
    }

    #[inline(always)]
    fn products<const FUSED: bool, const N: usize>(m: &[Lanes<N>; 4]) -> [Lanes<N>; 2] {
        // M'(±1) = 2.
        let of = |m0: &Lanes<N>, of_points: &Lanes<N>| add_times::<FUSED, N>(m0, 0.5, of_points);
        [of(&m[0], &plus(&m[1], &m[2])), of(&m[3], &minus(&m[1], &m[2]))]
    }
}

/// The points of [`Four`], and their squares.
const NEAR: f64 = std::f64::consts::FRAC_1_SQRT_2;
const FAR: f64 = std::f64::consts::SQRT_2;
const NEAR_SQUARED: f64 = 0.5;
const FAR_SQUARED: f64 = 2.0;

impl Turn<4, 6> for Four {
    #[inline(always)]
    fn sources<const FUSED: bool, const N: usize>(d: &[Lanes<N>; 6]) -> [Lanes<N>; 6] {
        // M(x) = x (x² − NEAR²) (x² − FAR²) = x⁵ − MIDDLE x³ + x.
        const MIDDLE: f32 = (NEAR_SQUARED + FAR_SQUARED) as f32;
        let even = |squared: f64| add_times::<FUSED, N>(&d[4], -squared as f32, &d[2]);
        let odd = |squared: f64| add_times::<FUSED, N>(&d[3], -squared as f32, &d[1]);
        let (even_near, odd_near) = (even(FAR_SQUARED), odd(FAR_SQUARED));
        let (even_far, odd_far) = (even(NEAR_SQUARED), odd(NEAR_SQUARED));
        [
            add_times::<FUSED, N>(&plus(&d[0], &d[4]), -MIDDLE, &d[2]),
            add_times::<FUSED, N>(&even_near, NEAR as f32, &odd_near),
            add_times::<FUSED, N>(&even_near, -NEAR as f32, &odd_near),
            add_times::<FUSED, N>(&even_far, FAR as f32, &odd_far),
            add_times::<FUSED, N>(&even_far, -FAR as f32, &odd_far),
            add_times::<FUSED, N>(&plus(&d[1], &d[5]), -MIDDLE, &d[3]),
        ]
    }

    #[inline(always)]
    fn filter<const FUSED: bool, const N: usize>([g0, g1, g2]: &[Lanes<N>; 3]) -> [Lanes<N>; 6] {
        let even = |squared: f64| add_times::<FUSED, N>(g0, squared as f32, g2);
        let (even_near, even_far) = (even(NEAR_SQUARED), even(FAR_SQUARED));
        [
            *g0,
            add_times::<FUSED, N>(&even_near, NEAR as f32, g1),
            add_times::<FUSED, N>(&even_near, -NEAR as f32, g1),
            add_times::<FUSED, N>(&even_far, FAR as f32, g1),
            add_times::<FUSED, N>(&even_far, -FAR as f32, g1),
            *g2,
        ]
    }

    #[inline(always)]
    fn products<const FUSED: bool, const N: usize>(m: &[Lanes<N>; 6]) -> [Lanes<N>; 4] {
        // M'(p) = 2 p² (p² − the other point's square): −3/2 and 6. What odd powers of the points multiply holds one as the machine has it, so
        // that they stand for what makes p² of it.
        const ODD_NEAR: f64 = NEAR_SQUARED / (NEAR as f32) as f64;
        let (even_near, odd_near) = (plus(&m[1], &m[2]), minus(&m[1], &m[2]));
        let (even_far, odd_far) = (plus(&m[3], &m[4]), minus(&m[3], &m[4]));
        let of = |near: &Lanes<N>, factor: f32, far: &Lanes<N>| add_times::<FUSED, N>(near, factor, far);
        let zero = [0.0; N];
        [
            add_third::<FUSED, N>(&m[0], -2.0, &of(&even_near, -0.25, &even_far)),
            add_third::<FUSED, N>(&zero, -2.0 * ODD_NEAR, &of(&odd_near, -0.5, &odd_far)),
            add_third::<FUSED, N>(&zero, -1.0, &of(&even_near, -1.0, &even_far)),
            add_third::<FUSED, N>(&m[5], -ODD_NEAR, &of(&odd_near, -2.0, &odd_far)),
        ]
    }
}

#[inline(always)]
fn plus<const N: usize>(a: &Lanes<N>, b: &Lanes<N>) -> Lanes<N> {
    let mut sum = *a;
    for lane in 0..N {
        sum[lane] += b[lane];
    }
    sum
}

#[inline(always)]
fn minus<const N: usize>(a: &Lanes<N>, b: &Lanes<N>) -> Lanes<N> {
    let mut difference = *a;
    for lane in 0..N {
        difference[lane] -= b[lane];
    }
    difference
}

/// a + factor / 3 · b, as if the factor were exact: rounded it is off by the same for all tiles, and what they cancel is not small beside a target.
#[inline(always)]
fn add_third<const FUSED: bool, const N: usize>(a: &Lanes<N>, factor: f64, b: &Lanes<N>) -> Lanes<N> {
    let rounded = (factor / 3.0) as f32;
    let rest = (factor / 3.0 - f64::from(rounded)) as f32;
    add_times::<FUSED, N>(&add_times::<FUSED, N>(a, rest, b), rounded, b)
}

/// a + factor · b.
#[inline(always)]
fn add_times<const FUSED: bool, const N: usize>(a: &Lanes<N>, factor: f32, b: &Lanes<N>) -> Lanes<N> {
    let mut sum = *a;
    for lane in 0..N {
        sum[lane] = if FUSED { factor.mul_add(b[lane], a[lane]) } else { a[lane] + factor * b[lane] };
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whole numbers, so that only the points' roots round.
    fn number(at: usize) -> f64 {
        (at * 37 % 101) as f64 - 50.0
    }

    fn check<T: Turn<SIDE, SPAN>, const SIDE: usize, const SPAN: usize, const FUSED: bool>() {
        for seed in 0..20 {
            let d: [f64; SPAN] = std::array::from_fn(|i| number(seed * 7 + i));
            let g: [f64; 3] = std::array::from_fn(|i| number(seed * 5 + i + 3));
            let turned = T::sources::<FUSED, 1>(&d.map(|d| [d as f32]));
            let filter = T::filter::<FUSED, 1>(&g.map(|g| [g as f32]));
            let products = std::array::from_fn(|i| [turned[i][0] * filter[i][0]]);
            for (target, y) in T::products::<FUSED, 1>(&products).iter().enumerate() {
                let expected: f64 = (0..3).map(|tap| g[tap] * d[target + tap]).sum();
                approx::assert_abs_diff_eq!(f64::from(y[0]), expected, epsilon = 1e-2);
            }
        }
    }

    #[test]
    fn thirds_are_off_by_no_more_one_way_than_the_other() {
        // A rounded third alone is off by 3e-8, always upwards.
        let off = |at: usize| {
            let b = 1.0 + at as f32 / 4096.0;
            let [third] = add_third::<true, 1>(&[0.0], 1.0, &[b]);
            f64::from(third) / (f64::from(b) / 3.0) - 1.0
        };
        let mean = (0..4096).map(off).sum::<f64>() / 4096.0;
        assert!(mean.abs() < 3e-9, "{mean:e}");
        assert!((0..4096).all(|at| off(at).abs() < 6.1e-8));
    }

    #[test]
    fn tiles_of_either_side_are_what_three_taps_make() {
        check::<Two, 2, 4, false>();
        check::<Two, 2, 4, true>();
        check::<Four, 4, 6, false>();
        check::<Four, 4, 6, true>();
    }
}
