//! Products of two activations.

use super::{Given, Step};
use crate::rules::BilinearRule;

impl Step<'_> {
    pub(super) fn product(&self, rule: BilinearRule) -> Given {
        let shares: Vec<Vec<f64>> = match rule {
            BilinearRule::Shares(shares) => {
                shares.iter().map(|&share| self.arriving.iter().map(|r| f64::from(share) * r).collect()).collect()
            }
            BilinearRule::Gradient => {
                let times = |partner: &[f64]| self.arriving.iter().zip(partner).map(|(r, x)| r * x).collect();
                vec![times(self.input(1)), times(self.input(0))]
            }
            BilinearRule::Gated | BilinearRule::Half => unreachable!("a composite resolves these to shares"),
        };
        let sums = Some(self.plain_sums(&shares));
        Given { shares, sums }
    }
}
