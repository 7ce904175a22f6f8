//! Random numbers by seed and place: the same on every machine, and whatever was drawn before.
//!
//! SplitMix64 (Steele, Lea and Flood 2014) with own code: `fastrand` may change its sequence from version to version, and
//! results that are named by a seed must outlive that; `rand` with `rand_distr` is a dozen crates for these lines. `libm`
//! gives the normal distribution's functions the same bits everywhere.

/// The odd number nearest to 2⁶⁴ over the golden ratio.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A sequence of random numbers.
#[derive(Debug, Clone)]
pub(crate) struct Stream {
    state: u64,
}

impl Stream {
    /// The sequence of a seed at a place.
    pub(crate) fn new(seed: u64, place: u64) -> Self {
        Stream { state: mixed(mixed(seed).wrapping_add(place.wrapping_mul(STEP))) }
    }

    /// The sequence of a seed for a sample's elements: one of its own, wherever the sample stands.
    pub(crate) fn of_sample(seed: u64, elements: &[f32]) -> Self {
        let joined = |hash: u64, x: &f32| mixed(hash ^ u64::from(x.to_bits()));
        Stream { state: elements.iter().fold(mixed(seed), joined) }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(STEP);
        mixed(self.state)
    }

    /// A number from 0 up to 1, which is left out.
    pub(crate) fn uniform(&mut self) -> f64 {
        const STEPS: f64 = (1u64 << 53) as f64;
        (self.next() >> 11) as f64 / STEPS
    }

    /// A number of the standard normal distribution (Box and Muller 1958).
    pub(crate) fn normal(&mut self) -> f64 {
        // 1 − u is never 0, whose logarithm is not finite.
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.uniform()));
        radius * libm::cos(std::f64::consts::TAU * self.uniform())
    }

    /// The positions below `count` in random order (Fisher and Yates).
    pub(crate) fn shuffled(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            let chosen = (u128::from(self.next()) * (last as u128 + 1)) >> 64;
            order.swap(last, chosen as usize);
        }
        order
    }
}

/// SplitMix64's mixing of a state.
fn mixed(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_that_of_the_published_code() {
        // The first numbers of splitmix64.c (Vigna 2015) from the state 1234567.
        let mut stream = Stream { state: 1_234_567 };
        let known = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([stream.next(), stream.next(), stream.next()], known);
    }

    #[test]
    fn normal_numbers_have_the_moments_of_their_distribution() {
        let mut stream = Stream::new(7, 3);
        let numbers: Vec<f64> = (0..100_000).map(|_| stream.normal()).collect();
        let moment = |power: i32| numbers.iter().map(|x| x.powi(power)).sum::<f64>() / numbers.len() as f64;
        // Five standard errors: √(1, 2, 96) / √100,000.
        approx::assert_abs_diff_eq!(moment(1), 0.0, epsilon = 0.016);
        approx::assert_abs_diff_eq!(moment(2), 1.0, epsilon = 0.023);
        approx::assert_abs_diff_eq!(moment(4), 3.0, epsilon = 0.16);
    }

    #[test]
    fn every_order_comes_up_equally_often_and_places_differ() {
        let mut counts = std::collections::BTreeMap::new();
        for place in 0..6000 {
            *counts.entry(Stream::new(1, place).shuffled(3)).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 6);
        // Five standard deviations of a sixth of 6000.
        assert!(counts.values().all(|count| (855..1145).contains(count)), "{counts:?}");
        let of = |x: f32| Stream::of_sample(1, &[0.5, x]).shuffled(20);
        assert_eq!(of(2.0), of(2.0));
        assert_ne!(of(2.0), of(2.1));
    }
}
