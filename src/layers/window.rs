//! Windows that slide over spatial axes: the geometry that convolutions and pools share.
//!
//! A window maps a fine grid (a convolution's input) to a coarse one (its output): coarse position p covers the fine
//! positions stride·p − before + dilation·t for t < kernel. What reads the fine grid to make the coarse one, and the
//! other way round, is a [`Reach`].

use crate::error::{Error, Result};

/// The most spatial axes that a window has.
pub const MOST_AXES: usize = 3;

/// One axis of a [`Window`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WindowAxis {
    /// Positions of the window.
    pub kernel: usize,
    /// How far it moves from one output to the next.
    pub stride: usize,
    /// Distance of its positions in the input.
    pub dilation: usize,
    /// Padding before the input.
    pub before: usize,
    /// Padding behind the input.
    pub after: usize,
    /// How far the last window may reach beyond the padding (ceil mode). No average counts it.
    pub overhang: usize,
}

impl WindowAxis {
    /// A window of `kernel` positions that moves by 1, without padding.
    pub fn new(kernel: usize) -> Self {
        WindowAxis { kernel, stride: 1, dilation: 1, before: 0, after: 0, overhang: 0 }
    }

    /// The positions of the input from the window's first to its last.
    pub fn span(&self) -> usize {
        self.dilation * (self.kernel - 1) + 1
    }

    /// How many outputs an input of `extent` gives; none where the window does not fit.
    pub fn outputs(&self, extent: usize) -> Option<usize> {
        let room = (extent + self.before + self.after + self.overhang).checked_sub(self.span())?;
        Some(room / self.stride + 1)
    }

    /// How many window positions of output `p` lie inside an input of `extent`.
    pub fn inside(&self, p: usize, extent: usize) -> usize {
        self.within(p, 0, extent as isize)
    }

    /// How many window positions of output `p` lie inside an input of `extent` or its padding.
    pub fn inside_padded(&self, p: usize, extent: usize) -> usize {
        self.within(p, -(self.before as isize), (extent + self.after) as isize)
    }

    fn within(&self, p: usize, from: isize, to: isize) -> usize {
        let first = (p * self.stride) as isize - self.before as isize;
        (0..self.kernel).filter(|t| (from..to).contains(&(first + (t * self.dilation) as isize))).count()
    }

    /// How coarse positions read fine ones.
    fn to_coarse(self, coarse: usize) -> Reach {
        Reach {
            count: coarse,
            first: 0,
            step: 1,
            stride: self.stride,
            start: -(self.before as isize),
            spread: self.dilation as isize,
            taps: self.kernel,
            tap: 0,
            tap_step: 1,
        }
    }

    /// How fine positions read coarse ones: one reach for each remainder of the position by the stride, because all
    /// positions of a remainder use the same window positions.
    fn to_fine(self, fine: usize) -> Vec<Reach> {
        let common = gcd(self.stride, self.dilation);
        let tap_step = self.stride / common;
        let phases = (0..self.stride.min(fine)).map(|first| {
            let remainder = (first + self.before) % self.stride;
            let tap = (0..tap_step.min(self.kernel)).find(|tap| tap * self.dilation % self.stride == remainder);
            let reaching = (first + self.before) as isize - (tap.unwrap_or(0) * self.dilation) as isize;
            Reach {
                count: (fine - first).div_ceil(self.stride),
                first,
                step: self.stride,
                stride: 1,
                start: if tap.is_some() { reaching / self.stride as isize } else { 0 },
                spread: -((self.dilation / common) as isize),
                taps: tap.map_or(0, |tap| (self.kernel - tap).div_ceil(tap_step)),
                tap: tap.unwrap_or(0),
                tap_step,
            }
        });
        phases.collect()
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// One axis of how targets read sources through a window: target `first + step·i`, for i < `count`, reads at each tap
/// t < `taps` the source position `stride·i + start + spread·t`, with the window's position `tap + tap_step·t`.
/// Positions outside the source hold nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reach {
    /// How many targets.
    pub count: usize,
    /// The first target.
    pub first: usize,
    /// From one target to the next.
    pub step: usize,
    /// How far the source moves with each target.
    pub stride: usize,
    /// The first target's source at the first tap.
    pub start: isize,
    /// How far the source moves with each tap.
    pub spread: isize,
    /// How many taps.
    pub taps: usize,
    /// The window's position at the first tap.
    pub tap: usize,
    /// From one tap's window position to the next.
    pub tap_step: usize,
}

/// Calls `visit` with target, source and window position of every connection that `reaches` makes, one reach for each
/// axis; each is a row-major position within `targets`, `sources` and `kernel`.
pub(crate) fn visit(
    reaches: &[Reach],
    [targets, sources, kernel]: [&[usize]; 3],
    visit: &mut impl FnMut(usize, usize, usize),
) {
    fn nested(
        reaches: &[Reach],
        [targets, sources, kernel]: [&[usize]; 3],
        [target, source, position]: [usize; 3],
        visit: &mut impl FnMut(usize, usize, usize),
    ) {
        let Some((reach, rest)) = reaches.split_first() else { return visit(target, source, position) };
        for i in 0..reach.count {
            for tap in 0..reach.taps {
                let from = (reach.stride * i) as isize + reach.start + reach.spread * tap as isize;
                if (0..sources[0] as isize).contains(&from) {
                    let at = [
                        target * targets[0] + reach.first + reach.step * i,
                        source * sources[0] + from as usize,
                        position * kernel[0] + reach.tap + reach.tap_step * tap,
                    ];
                    nested(rest, [&targets[1..], &sources[1..], &kernel[1..]], at, visit);
                }
            }
        }
    }
    nested(reaches, [targets, sources, kernel], [0; 3], visit);
}

/// A window over one, two or three spatial axes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Window {
    axes: Vec<WindowAxis>,
}

impl Window {
    /// A window from its axes, outermost first.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) if there is no axis or more than three, or a kernel, stride or
    /// dilation is 0.
    pub fn new(axes: Vec<WindowAxis>) -> Result<Self> {
        if axes.is_empty() || axes.len() > MOST_AXES {
            return Err(Error::shape(format!("a window has 1 to {MOST_AXES} spatial axes, not {}", axes.len())));
        }
        if axes.iter().any(|axis| axis.kernel == 0 || axis.stride == 0 || axis.dilation == 0) {
            return Err(Error::shape("kernel, stride and dilation of a window are 1 or more"));
        }
        Ok(Window { axes })
    }

    /// The axes, outermost first.
    pub fn axes(&self) -> &[WindowAxis] {
        &self.axes
    }

    /// Positions along each axis.
    pub fn kernel(&self) -> Vec<usize> {
        self.axes.iter().map(|axis| axis.kernel).collect()
    }

    /// How many positions the window has.
    pub fn positions(&self) -> usize {
        self.axes.iter().map(|axis| axis.kernel).product()
    }

    /// The coarse extents that fine ones give.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) with both if the ranks differ or the window does not fit.
    pub fn outputs(&self, extents: &[usize]) -> Result<Vec<usize>> {
        if extents.len() != self.axes.len() {
            let (have, wanted) = (extents.len(), self.axes.len());
            return Err(Error::shape(format!("a window over {wanted} axes does not fit {have} spatial axes")));
        }
        let outputs = self.axes.iter().zip(extents).map(|(axis, &extent)| {
            axis.outputs(extent).ok_or_else(|| {
                let (span, before, after) = (axis.span(), axis.before, axis.after);
                Error::shape(format!(
                    "a window of {span} does not fit {extent} positions padded by {before} and {after}"
                ))
            })
        });
        outputs.collect()
    }

    /// How coarse positions read fine ones, an axis each.
    pub fn to_coarse(&self, coarse: &[usize]) -> Vec<Reach> {
        self.axes.iter().zip(coarse).map(|(axis, &coarse)| axis.to_coarse(coarse)).collect()
    }

    /// How fine positions read coarse ones: every combination of the axes' phases. Together they make each fine
    /// position once.
    pub fn to_fine(&self, fine: &[usize]) -> Vec<Vec<Reach>> {
        let mut phases: Vec<Vec<Reach>> = vec![Vec::new()];
        for (axis, &fine) in self.axes.iter().zip(fine) {
            let of_axis = axis.to_fine(fine);
            let longer = |phase: &Vec<Reach>| -> Vec<Vec<Reach>> {
                of_axis.iter().map(|&reach| phase.iter().copied().chain([reach]).collect()).collect()
            };
            phases = phases.iter().flat_map(longer).collect();
        }
        phases
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (target, source, window position) of every connection, from the definition.
    fn defined(axis: WindowAxis, fine: usize) -> Vec<(usize, usize, usize)> {
        let mut found = Vec::new();
        for p in 0..axis.outputs(fine).unwrap() {
            for t in 0..axis.kernel {
                let j = (p * axis.stride + t * axis.dilation) as isize - axis.before as isize;
                if (0..fine as isize).contains(&j) {
                    found.push((p, j as usize, t));
                }
            }
        }
        found.sort_unstable();
        found
    }

    fn reached(reach: Reach, sources: usize) -> Vec<(usize, usize, usize)> {
        let mut found = Vec::new();
        for i in 0..reach.count {
            for t in 0..reach.taps {
                let source = (reach.stride * i) as isize + reach.start + reach.spread * t as isize;
                if (0..sources as isize).contains(&source) {
                    found.push((reach.first + reach.step * i, source as usize, reach.tap + reach.tap_step * t));
                }
            }
        }
        found
    }

    #[test]
    fn both_ways_reach_what_the_window_covers() {
        for kernel in 1..5 {
            for stride in 1..5 {
                for dilation in 1..4 {
                    for (before, after, fine) in [(0, 0, 13), (1, 0, 11), (2, 3, 7), (0, 2, 14)] {
                        let axis = WindowAxis { kernel, stride, dilation, before, after, overhang: 0 };
                        let Some(coarse) = axis.outputs(fine) else { continue };
                        let wanted = defined(axis, fine);
                        let mut forward = reached(axis.to_coarse(coarse), fine);
                        forward.sort_unstable();
                        assert_eq!(forward, wanted, "{axis:?}");
                        let phases = axis.to_fine(fine);
                        let mut back: Vec<_> = phases.iter().flat_map(|&reach| reached(reach, coarse)).collect();
                        back.iter_mut().for_each(|(j, p, _)| std::mem::swap(j, p));
                        back.sort_unstable();
                        assert_eq!(back, wanted, "{axis:?}");
                        let mut targets: Vec<usize> =
                            phases.iter().flat_map(|r| (0..r.count).map(|i| r.first + r.step * i)).collect();
                        targets.sort_unstable();
                        assert_eq!(targets, (0..fine).collect::<Vec<_>>(), "{axis:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_window_that_overhangs_counts_its_padding_alone() {
        let axis = WindowAxis { kernel: 3, stride: 2, dilation: 1, before: 1, after: 1, overhang: 1 };
        assert_eq!(axis.outputs(6), Some(4));
        assert_eq!((0..4).map(|p| axis.inside(p, 6)).collect::<Vec<_>>(), [2, 3, 3, 1]);
        assert_eq!((0..4).map(|p| axis.inside_padded(p, 6)).collect::<Vec<_>>(), [3, 3, 3, 2]);
    }
}
