//! Weights as products read them: panels of some columns, and panels that are made of another weight's while they are read.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::ahead::Ahead;
use super::gemm::LINE;
use super::simd::{self, Level, Loop};
use crate::rules::WeightPart;

/// Rows of a product for each sample from which on what it reads may be made while it is read (making it then takes a quarter to a third of
/// the time at most), and large dense weights are packed.
pub(super) const MANY_ROWS: usize = 16;

/// A matrix in panels of some columns, each with one row of columns a summed element. The last is half as wide where that holds its columns.
#[derive(Debug)]
pub(super) struct Panels {
    elements: Vec<f32>,
    /// The first element of the first panel: it begins a cache line, so that no row of a panel lies in one line more
    /// than it fills.
    first: usize,
    /// Columns of a panel, and of the last one.
    width: usize,
    last: usize,
    depth: usize,
    columns: usize,
}

impl Panels {
    /// All zeros, in panels that are all of one width.
    pub(super) fn zeros(width: usize, depth: usize, columns: usize) -> Self {
        Panels::with_last(width, [width, depth, columns])
    }

    fn with_last(last: usize, [width, depth, columns]: [usize; 3]) -> Self {
        let whole = columns.div_ceil(width).saturating_sub(1);
        let elements = vec![0.0; (whole * width + last) * depth + LINE];
        let first = beginning_of_line(&elements);
        Panels { elements, first, width, last, depth, columns }
    }

    /// `fill` gets a panel's first column, its width and the panel, full of zeros.
    pub(super) fn new(width: usize, depth: usize, columns: usize, fill: impl Fn(usize, usize, &mut [f32])) -> Self {
        let is_half = (1..=width / 2).contains(&(columns % width));
        let mut panels = Panels::with_last(if is_half { width / 2 } else { width }, [width, depth, columns]);
        for panel in 0..columns.div_ceil(width) {
            let of_panel = panels.width(panel);
            fill(panel * width, of_panel, panels.rows_mut(panel, 0..depth));
        }
        panels
    }

    /// Columns of a panel.
    pub(super) fn width(&self, panel: usize) -> usize {
        if (panel + 1) * self.width < self.columns { self.width } else { self.last }
    }

    /// Columns of all panels but the last.
    pub(super) fn full_width(&self) -> usize {
        self.width
    }

    /// Rows and columns.
    pub(super) fn extents(&self) -> [usize; 2] {
        [self.depth, self.columns]
    }

    /// Rows of a panel to come; none behind the last.
    pub(super) fn ahead(&self, panel: usize, rows: Range<usize>) -> Ahead<'_> {
        let (elements, apart) = (self.rows(panel, rows), self.width(panel));
        Ahead { elements, apart, rows: 0..elements.len() / apart }
    }

    pub(super) fn rows_mut(&mut self, panel: usize, rows: Range<usize>) -> &mut [f32] {
        let (first, width) = (self.first + panel * self.depth * self.width, self.width(panel));
        &mut self.elements[first + rows.start * width..first + rows.end * width]
    }

    /// Rows of a panel; nothing behind the last.
    pub(super) fn rows(&self, panel: usize, rows: Range<usize>) -> &[f32] {
        if panel * self.width >= self.columns {
            return &[];
        }
        let (first, width) = (self.first + panel * self.depth * self.width, self.width(panel));
        &self.elements[first + rows.start * width..first + rows.end * width]
    }
}

/// The first element that begins a cache line, among more than fill one.
pub(super) fn beginning_of_line(elements: &[f32]) -> usize {
    elements.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE)
}

/// A part of another weight, whose panels are made while they are read. Of few rows a product reads a panel once or twice, from memory: making
/// it there takes little time, and one weight in memory serves several products. For more rows they are kept once made.
#[derive(Debug)]
pub(super) struct Made {
    of: Arc<Panels>,
    part: WeightPart,
    kept: OnceLock<Panels>,
}

impl Made {
    pub(super) fn new(of: Arc<Panels>, part: WeightPart) -> Self {
        Made { of, part, kept: OnceLock::new() }
    }

    /// Those that products read: what is kept, or what the panels are made of.
    pub(super) fn in_memory(&self) -> &Panels {
        self.kept.get().unwrap_or(&self.of)
    }

    pub(super) fn is_kept(&self) -> bool {
        self.kept.get().is_some()
    }

    /// Makes all panels, unless they are there, and keeps them.
    pub(super) fn keep(&self) {
        let Panels { width, depth, columns, .. } = *self.of;
        let fill = |first: usize, _, to: &mut [f32]| self.make(first / width, 0..depth, to);
        self.kept.get_or_init(|| Panels::new(width, depth, columns, fill));
    }

    /// Rows of a panel, made in `room` unless all are kept.
    pub(super) fn rows<'a>(&'a self, panel: usize, rows: Range<usize>, room: &'a mut Vec<f32>) -> &'a [f32] {
        if let Some(kept) = self.kept.get() {
            return kept.rows(panel, rows);
        }
        let length = rows.len() * self.of.width(panel);
        room.resize(room.len().max(length + LINE), 0.0);
        let first = beginning_of_line(room);
        let room = &mut room[first..][..length];
        self.make(panel, rows, room);
        room
    }

    fn make(&self, panel: usize, rows: Range<usize>, to: &mut [f32]) {
        to.copy_from_slice(self.of.rows(panel, rows));
        take_part(self.part, to);
    }
}

/// Changes elements to their parts.
pub(super) fn take_part(part: WeightPart, elements: &mut [f32]) {
    if part != WeightPart::WHOLE {
        simd::run(Level::widest(), TakePart(part, elements));
    }
}

struct TakePart<'a>(WeightPart, &'a mut [f32]);

impl Loop for TakePart<'_> {
    #[inline(always)]
    fn run<const FUSED: bool, const LANES: usize>(self) {
        let each = self.1.iter_mut();
        // Known when they are compiled, the usual parts take an instruction.
        match self.0 {
            WeightPart::POSITIVE => each.for_each(|w| *w = WeightPart::POSITIVE.of(*w)),
            WeightPart::NEGATIVE => each.for_each(|w| *w = WeightPart::NEGATIVE.of(*w)),
            part => each.for_each(|w| *w = part.of(*w)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_made_of_anothers_are_its_parts_kept_or_not() {
        for (width, depth, columns) in [(16, 32, 64), (32, 48, 40), (16, 80, 48), (32, 64, 96), (32, 71, 33)] {
            let element = |k: usize, column: usize| ((k * columns + column) * 37 % 101) as f32 - 50.0;
            let fill = |first: usize, width: usize, to: &mut [f32]| {
                for (k, to) in to.chunks_exact_mut(width).enumerate() {
                    (first..columns.min(first + width)).zip(to).for_each(|(column, to)| *to = element(k, column));
                }
            };
            let packed = Arc::new(Panels::new(width, depth, columns, fill));
            let scaled = WeightPart::Scaled { positive: 1.5, negative: 0.25 };
            for part in [WeightPart::POSITIVE, WeightPart::NEGATIVE, scaled, WeightPart::Squared] {
                check(&packed, part, |k, column| part.of(element(k, column)));
            }
        }
    }

    fn check(packed: &Arc<Panels>, part: WeightPart, element: impl Fn(usize, usize) -> f32) {
        let made = || Made::new(Arc::clone(packed), part);
        let (made, kept) = (made(), made());
        kept.keep();
        assert!(kept.is_kept() && !made.is_kept());
        let ([depth, columns], full) = (packed.extents(), packed.width);
        for rows in [0..depth, 0..1, depth / 3..depth / 2, depth - 5..depth] {
            for panel in 0..columns.div_ceil(full) {
                let width = packed.width(panel);
                let (mut room, mut none) = (vec![f32::NAN; 7], Vec::new());
                let found = made.rows(panel, rows.clone(), &mut room);
                let of_kept = kept.rows(panel, rows.clone(), &mut none);
                assert_eq!(found.len(), rows.len() * width);
                for (k, (found, kept)) in rows.clone().zip(found.chunks(width).zip(of_kept.chunks(width))) {
                    for lane in 0..width.min(columns - panel * full) {
                        let expected = element(k, panel * full + lane);
                        assert_eq!((found[lane], kept[lane]), (expected, expected), "{part:?}, {k}, {lane}");
                    }
                }
            }
        }
    }
}
