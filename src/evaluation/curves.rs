//! Curves of scores, and the areas that sum them up.

use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Scores while a sample is perturbed step by step.
#[derive(Debug, Clone, PartialEq)]
pub struct Curves {
    /// The output whose score it is, of each sample.
    pub targets: Vec<usize>,
    /// f(x⁽ᵏ⁾) for k = 0…L: `[samples, L + 1]`. The first is the score of the sample as it is.
    pub scores: Tensor<f64>,
}

impl Curves {
    /// AOPC of each sample, the area over the perturbation curve: 1/(L + 1) Σ_{k=0…L} (f(x⁽⁰⁾) − f(x⁽ᵏ⁾)), equation 12 of
    /// Samek et al. 2017 (arXiv:1509.06321) before the mean over samples. The larger of MoRF the better, the smaller of LeRF.
    pub fn aopc(&self) -> Vec<f64> {
        let of_sample =
            |scores: &[f64]| scores.iter().map(|score| scores[0] - score).sum::<f64>() / scores.len() as f64;
        (0..self.scores.rows()).map(|sample| of_sample(self.scores.row(sample))).collect()
    }

    /// The area under each curve by trapezoids, over L: the mean height. Quantus gives Σ of the trapezoids instead, without
    /// the first score.
    pub fn auc(&self) -> Vec<f64> {
        let of_sample = |scores: &[f64]| {
            let trapezoids = scores.windows(2).map(|ends| (ends[0] + ends[1]) / 2.0);
            trapezoids.sum::<f64>() / (scores.len() - 1).max(1) as f64
        };
        (0..self.scores.rows()).map(|sample| of_sample(self.scores.row(sample))).collect()
    }

    /// ABPC of each sample, the area between the curves: 1/(L + 1) Σ_{k=0…L} (f(x_LeRF⁽ᵏ⁾) − f(x_MoRF⁽ᵏ⁾)), Samek et al.
    /// 2017. These are the curves of the least relevant first. The larger the better; about 0 for an order by chance.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) if the curves have not as many samples and steps.
    pub fn above(&self, most_relevant_first: &Curves) -> Result<Vec<f64>> {
        let (least, most) = (&self.scores, &most_relevant_first.scores);
        if least.shape() != most.shape() {
            return Err(Error::shape(format!("curves of {} and {} have no area between", least.shape(), most.shape()))
                .help("take as many steps of the same samples in both orders"));
        }
        let of_sample = |sample: usize| {
            let pairs = least.row(sample).iter().zip(most.row(sample));
            pairs.map(|(least, most)| least - most).sum::<f64>() / least.row(sample).len() as f64
        };
        Ok((0..least.rows()).map(of_sample).collect())
    }

    /// The mean curve over the samples.
    pub fn mean(&self) -> Vec<f64> {
        let (rows, steps) = (self.scores.rows(), self.scores.count() / self.scores.rows().max(1));
        (0..steps).map(|step| (0..rows).map(|row| self.scores.row(row)[step]).sum::<f64>() / rows as f64).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curves(scores: &[f64]) -> Curves {
        Curves { targets: vec![0, 1], scores: Tensor::new([2, scores.len() / 2], scores.to_vec()).unwrap() }
    }

    #[test]
    fn areas_are_those_worked_out_by_hand() {
        let most = curves(&[8.0, 2.0, 0.0, 0.0, 4.0, 4.0, 4.0, 0.0]);
        let least = curves(&[8.0, 8.0, 6.0, 0.0, 4.0, 6.0, 2.0, 0.0]);
        assert_eq!(most.aopc(), [(0.0 + 6.0 + 8.0 + 8.0) / 4.0, 1.0]);
        assert_eq!(least.aopc(), [2.5, 1.0]);
        assert_eq!(least.above(&most).unwrap(), [(0.0 + 6.0 + 6.0 + 0.0) / 4.0, 0.0]);
        assert_eq!(most.auc(), [(5.0 + 1.0 + 0.0) / 3.0, (4.0 + 4.0 + 2.0) / 3.0]);
        assert_eq!(least.mean(), [6.0, 7.0, 4.0, 0.0]);
        // The area between is the difference of the areas over.
        let apart: Vec<f64> = most.aopc().iter().zip(least.aopc()).map(|(most, least)| most - least).collect();
        assert_eq!(least.above(&most).unwrap(), apart);
        assert!(least.above(&curves(&[1.0, 0.0])).unwrap_err().advice().is_some());
    }
}
