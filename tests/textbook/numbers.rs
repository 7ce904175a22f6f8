//! Repeatable numbers for tests.

use relprop::Tensor;

/// A SplitMix64 stream.
pub struct Numbers(pub u64);

impl Numbers {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A multiple of 1/16 in [−2, 2] that is not zero. Sums of products of such numbers are exact in float64, so that
    /// denominators agree to the bit whatever the order of the sum and a small one magnifies no error.
    pub fn dyadic(&mut self) -> f64 {
        let size = (1 + self.bits() % 32) as f64 / 16.0;
        if self.bits().is_multiple_of(2) { size } else { -size }
    }

    /// The same, but zero one time in six.
    pub fn dyadic_or_zero(&mut self) -> f64 {
        if self.bits().is_multiple_of(6) { 0.0 } else { self.dyadic() }
    }

    /// A number in [−1, 1).
    pub fn smooth(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }

    pub fn dyadics(&mut self, count: usize) -> Vec<f64> {
        (0..count).map(|_| self.dyadic()).collect()
    }

    pub fn smooths(&mut self, count: usize) -> Vec<f64> {
        (0..count).map(|_| self.smooth()).collect()
    }

    pub fn dyadic_tensor(&mut self, shape: &[usize]) -> Tensor {
        Tensor::from_fn(shape.to_vec(), |_| self.dyadic() as f32)
    }

    pub fn smooth_tensor(&mut self, shape: &[usize]) -> Tensor {
        Tensor::from_fn(shape.to_vec(), |_| self.smooth() as f32)
    }
}
