//! What windows cover, from their definition, and which element of a window wins.

use crate::layers::{MaxPool, Window};
use crate::tensor::Shape;

/// A window position that lies inside the fine grid. Each number counts in row-major order over the spatial axes.
pub(super) struct Pair {
    pub(super) coarse: usize,
    pub(super) fine: usize,
    pub(super) position: usize,
}

/// Every pair of a window between grids of these extents; those of one coarse position in row-major order of the
/// window's positions.
pub(super) fn pairs(window: &Window, fine: &[usize], coarse: &[usize]) -> Vec<Pair> {
    let mut pairs = vec![Pair { coarse: 0, fine: 0, position: 0 }];
    for ((axis, &fine), &coarse) in window.axes().iter().zip(fine).zip(coarse) {
        let mut longer = Vec::new();
        for pair in &pairs {
            for p in 0..coarse {
                for t in 0..axis.kernel {
                    let covered = (p * axis.stride + axis.dilation * t).checked_sub(axis.before);
                    if let Some(covered) = covered.filter(|covered| *covered < fine) {
                        longer.push(Pair {
                            coarse: pair.coarse * coarse + p,
                            fine: pair.fine * fine + covered,
                            position: pair.position * axis.kernel + t,
                        });
                    }
                }
            }
        }
        pairs = longer;
    }
    pairs
}

/// The input element that each output element of a max pool takes: the first of the greatest. NaN is greater than
/// everything, so that it stays seen; a window of nothing but padding takes none.
pub(super) fn winners(pool: &MaxPool, input: &Shape, output: &Shape, x: &[f64]) -> Vec<Option<usize>> {
    let pairs = pairs(pool.window(), &input.dims()[1..], &output.dims()[1..]);
    let (fine, coarse) = (input.count() / input.dims()[0], output.count() / output.dims()[0]);
    let mut winners: Vec<Option<usize>> = vec![None; output.count()];
    for channel in 0..input.dims()[0] {
        for pair in &pairs {
            let (candidate, winner) = (channel * fine + pair.fine, &mut winners[channel * coarse + pair.coarse]);
            let wins = match *winner {
                None => true,
                Some(best) => x[candidate] > x[best] || (x[candidate].is_nan() && !x[best].is_nan()),
            };
            if wins {
                *winner = Some(candidate);
            }
        }
    }
    winners
}
