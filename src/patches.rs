//! Patches: boxes that move over the last axes of a sample, as occlusion and pixel flipping take them.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::tensor::Shape;

/// Boxes at regular places of a sample. They reach over the whole of the axes before those that they move along, so that
/// a window over rows and columns takes all channels of its pixels. The last along an axis ends where the axis does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Patches {
    axes: Vec<Axis>,
}

/// How patches lie along one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Axis {
    extent: usize,
    window: usize,
    stride: usize,
    /// How many there are.
    count: usize,
}

impl Axis {
    fn range(self, position: usize) -> Range<usize> {
        let first = position * self.stride;
        first..self.extent.min(first + self.window)
    }
}

impl Patches {
    /// The patches of samples of `shape`. `window` and `stride` are for its last axes, as many as they have extents.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`](crate::ErrorKind::Argument) for more extents than the sample has axes, unlike many, or 0.
    pub(crate) fn new(shape: &Shape, window: &[usize], stride: &[usize]) -> Result<Self> {
        let listed = |sizes: &[usize]| sizes.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        let refuse =
            |what: String| Err(Error::argument(what).help("give one extent for each axis that it moves along"));
        if window.len() > shape.rank() || window.is_empty() {
            return refuse(format!("a window of {} does not fit samples of shape {shape}", listed(window)));
        }
        if stride.len() != window.len() {
            return refuse(format!("a stride of {} does not fit a window of {}", listed(stride), listed(window)));
        }
        if window.contains(&0) || stride.contains(&0) {
            return refuse("windows and strides are at least 1".to_owned());
        }
        let lead = shape.rank() - window.len();
        let whole = shape.dims()[..lead].iter().map(|&extent| (extent, extent, extent.max(1)));
        let moved = shape.dims()[lead..].iter().zip(window.iter().zip(stride));
        let moved = moved.map(|(&extent, (&window, &stride))| (extent, window.min(extent), stride));
        let axis = |(extent, window, stride): (usize, usize, usize)| {
            // None begins behind one that reaches the end, and none beyond the end.
            let count = (1 + (extent - window).div_ceil(stride)).min(extent.div_ceil(stride)).max(1);
            Axis { extent, window, stride, count }
        };
        Ok(Patches { axes: whole.chain(moved).map(axis).collect() })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.axes.iter().map(|axis| axis.count).product()
    }

    /// The elements of a patch, as ranges of the sample's elements.
    pub(crate) fn runs(&self, patch: usize) -> Vec<Range<usize>> {
        let mut rest = patch;
        let mut ranges: Vec<(Range<usize>, usize)> = Vec::with_capacity(self.axes.len());
        for axis in self.axes.iter().rev() {
            ranges.push((axis.range(rest % axis.count), axis.extent));
            rest /= axis.count;
        }
        ranges.reverse();
        // The axes at the end that the patch takes whole lie in one run.
        let is_whole = |(range, extent): &&(Range<usize>, usize)| *range == (0..*extent);
        let whole = ranges.iter().rev().take_while(is_whole).count();
        let (cut, whole) = ranges.split_at(ranges.len() - whole);
        let inner: usize = whole.iter().map(|(_, extent)| extent).product();
        let Some(((last, extent), outer)) = cut.split_last() else { return std::iter::once(0..inner).collect() };
        let mut starts = vec![0];
        for (range, extent) in outer {
            starts = starts.iter().flat_map(|start| range.clone().map(move |at| start * extent + at)).collect();
        }
        let run = |start: usize| (start * extent + last.start) * inner..(start * extent + last.end) * inner;
        starts.into_iter().map(run).collect()
    }

    /// Whether there are several along an axis.
    pub(crate) fn moves_along(&self, axis: usize) -> bool {
        self.axes[axis].count > 1
    }

    /// How many elements a patch has.
    pub(crate) fn size(&self, patch: usize) -> usize {
        self.runs(patch).iter().map(ExactSizeIterator::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elements(patches: &Patches, patch: usize) -> Vec<usize> {
        patches.runs(patch).into_iter().flatten().collect()
    }

    #[test]
    fn a_window_takes_all_channels_of_its_pixels() {
        let first = Patches::new(&Shape::new([2, 3, 4]), &[2, 2], &[2, 2]).unwrap();
        assert_eq!(first.len(), 4);
        assert_eq!(elements(&first, 1), [2, 3, 6, 7, 14, 15, 18, 19]);
        // Two rows do not divide three: the last window has one.
        assert_eq!(elements(&first, 2), [8, 9, 20, 21]);
        assert_eq!(first.size(2), 4);
        let last = Patches::new(&Shape::new([3, 4, 2]), &[2, 2, 2], &[2, 2, 2]).unwrap();
        assert_eq!((last.len(), last.runs(1)), (4, vec![4..8, 12..16]));
    }

    #[test]
    fn windows_overlap_and_end_with_the_axis() {
        let patches = Patches::new(&Shape::new([7]), &[3], &[2]).unwrap();
        let all: Vec<_> = (0..patches.len()).map(|patch| elements(&patches, patch)).collect();
        assert_eq!(all, [[0, 1, 2], [2, 3, 4], [4, 5, 6]]);
        let cut = Patches::new(&Shape::new([7]), &[4], &[2]).unwrap();
        assert_eq!((cut.len(), cut.runs(2)), (3, std::iter::once(4..7).collect()));
        let sparse = Patches::new(&Shape::new([10]), &[3], &[5]).unwrap();
        assert_eq!((sparse.len(), sparse.runs(1)), (2, std::iter::once(5..8).collect()));
        let larger = Patches::new(&Shape::new([7]), &[8], &[8]).unwrap();
        assert_eq!((larger.len(), larger.size(0)), (1, 7));
    }

    #[test]
    fn windows_that_fit_no_sample_are_refused() {
        for (window, stride) in
            [(&[][..], &[][..]), (&[2, 2, 2], &[1, 1, 1]), (&[2, 2], &[1]), (&[0], &[1]), (&[1], &[0])]
        {
            assert!(Patches::new(&Shape::new([4, 5]), window, stride).unwrap_err().advice().is_some(), "{window:?}");
        }
    }
}
