//! Numbers along an axis: round ones, evenly spaced, written as short as they can be.

use super::heatmap::Limits;

/// Round numbers inside the limits and how they are written; about `wanted` of them, 0 among them if it is inside.
pub(super) fn ticks(limits: Limits, wanted: usize) -> Vec<(f64, String)> {
    let (low, high) = (f64::from(limits.low), f64::from(limits.high));
    let rough = (high - low) / wanted.max(1) as f64;
    if !(rough.is_finite() && rough > 0.0) {
        return Vec::new();
    }
    let magnitude = 10f64.powi(rough.log10().floor() as i32);
    let step =
        [1.0, 2.0, 2.5, 5.0, 10.0].map(|round| round * magnitude).into_iter().find(|&step| step >= rough * 0.999);
    let step = step.unwrap_or(rough);
    let (first, last) = ((low / step - 1e-6).ceil() as i64, (high / step + 1e-6).floor() as i64);
    (first..=last).map(|i| i as f64 * step).map(|value| (value, write(value, step))).collect()
}

/// A number to the precision of `step`, with a real minus sign; far from 1 with a power of ten.
fn write(value: f64, step: f64) -> String {
    let text = if value == 0.0 {
        "0".to_owned()
    } else if !(1e-4..1e5).contains(&step) {
        let written = format!("{value:.1e}");
        written.replace(".0e", "e")
    } else {
        let decimals =
            (0..6).find(|&n| (step * 10f64.powi(n)).fract().min(1.0 - (step * 10f64.powi(n)).fract()) < 1e-6);
        format!("{value:.*}", decimals.unwrap_or(6) as usize)
    };
    text.replace('-', "−")
}

/// A number with two decimals and a real minus sign; what rounds to nothing has none.
pub(super) fn two_decimals(value: f32) -> String {
    let text = format!("{value:.2}");
    if text == "-0.00" { "0.00".to_owned() } else { text.replace('-', "−") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(low: f32, high: f32, wanted: usize) -> Vec<String> {
        ticks(Limits { low, high }, wanted).into_iter().map(|tick| tick.1).collect()
    }

    #[test]
    fn ticks_are_round_and_short() {
        assert_eq!(written(-1.0, 1.0, 4), ["−1.0", "−0.5", "0", "0.5", "1.0"]);
        assert_eq!(written(-2.4, 2.4, 4), ["−2", "0", "2"]);
        assert_eq!(written(-0.37, 0.37, 4), ["−0.2", "0", "0.2"]);
        assert_eq!(written(0.0, 30.0, 3), ["0", "10", "20", "30"]);
        assert_eq!(written(-3e-7, 3e-7, 2), ["0"].map(String::from));
        assert_eq!(written(f32::NAN, 1.0, 4), [""; 0]);
    }

    #[test]
    fn nothing_has_no_sign() {
        assert_eq!([-0.001, -2.5, 0.125].map(two_decimals), ["0.00", "−2.50", "0.12"]);
    }
}
