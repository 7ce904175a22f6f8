//! Numbers that tests compute with.

/// Scattered between −1 and 1, and the same for an index whenever it is asked for.
pub(super) fn number(index: usize) -> f32 {
    (index.wrapping_mul(2_654_435_761) % 1009) as f32 / 504.5 - 1.0
}
