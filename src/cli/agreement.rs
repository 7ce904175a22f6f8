//! How far relevance lies from the float64 reference's.

use relprop::Relevance;

/// ‖R − expected‖ / ‖expected‖ of each sample, over all inputs; of the samples that both have.
pub fn distances(relevance: &Relevance, expected: &Relevance) -> Vec<f64> {
    let square = |x: f64| x * x;
    let samples = relevance.targets.rows().min(expected.targets.rows());
    let distance = |sample: usize| {
        let (mut apart, mut size) = (0.0, 0.0);
        for (a, b) in relevance.inputs.iter().zip(&expected.inputs) {
            for (&a, &b) in a.relevance.row(sample).iter().zip(b.relevance.row(sample)) {
                apart += square(f64::from(a) - f64::from(b));
                size += square(f64::from(b));
            }
        }
        (apart / size.max(f64::MIN_POSITIVE)).sqrt()
    };
    (0..samples).map(distance).collect()
}

/// The middle of some numbers and the greatest; NaN counts as the greatest.
pub fn median_and_worst(mut numbers: Vec<f64>) -> (f64, f64) {
    numbers.sort_by(f64::total_cmp);
    (numbers.get(numbers.len() / 2).copied().unwrap_or(0.0), numbers.last().copied().unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_the_greatest_are_found() {
        assert_eq!(median_and_worst(vec![3.0, 1.0, 2.0]), (2.0, 3.0));
        assert!(median_and_worst(vec![f64::NAN, 1.0, 2.0]).1.is_nan());
    }
}
