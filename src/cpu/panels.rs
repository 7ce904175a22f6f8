//! Weights as products read them: panels of some columns, and panels that are made of another weight's while they are read.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::gemm::LINE;
use super::simd::{self, Level, Loop};
use crate::rules::WeightPart;

/// Rows of a product for each sample from which on panels of its weight may be made while they are read: making them then takes a quarter of
/// the time at most.
pub(super) const MANY_ROWS: usize = 16;

/// A matrix in panels of some columns, each with one row of columns a summed element.
#[derive(Debug)]
pub(super) struct Panels {
    elements: Vec<f32>,
    /// The first element of the first panel: it begins a cache line, so that no row of a panel lies in one line more
    /// than it fills.
    first: usize,
    /// Columns of a panel.
    pub(super) width: usize,
    depth: usize,
    columns: usize,
}

impl Panels {
    /// All zeros.
    pub(super) fn zeros(width: usize, depth: usize, columns: usize) -> Self {
        let elements = vec![0.0; columns.div_ceil(width) * depth * width + LINE];
        let first = beginning_of_line(&elements);
        Panels { elements, first, width, depth, columns }
    }

    /// `fill` gets a panel's position and the panel, full of zeros.
    pub(super) fn new(width: usize, depth: usize, columns: usize, fill: impl Fn(usize, &mut [f32])) -> Self {
        let mut panels = Panels::zeros(width, depth, columns);
        let end = panels.elements.len() - LINE + panels.first;
        let of_panel = (depth * width).max(1);
        let each = panels.elements[panels.first..end].chunks_exact_mut(of_panel).enumerate();
        each.for_each(|(panel, packed)| fill(panel, packed));
        panels
    }

    /// Rows and columns.
    pub(super) fn extents(&self) -> [usize; 2] {
        [self.depth, self.columns]
    }

    /// Some columns of a row, from a multiple of their number on.
    pub(super) fn columns_mut<const COUNT: usize>(&mut self, row: usize, first: usize) -> &mut [f32; COUNT] {
        let place = (first / self.width * self.depth + row) * self.width + first % self.width;
        self.elements[self.first + place..].first_chunk_mut().expect("panels are whole multiples of them")
    }

    /// Rows of a panel; nothing behind the last.
    pub(super) fn rows(&self, panel: usize, rows: Range<usize>) -> &[f32] {
        if panel * self.width >= self.columns {
            return &[];
        }
        let first = self.first + panel * self.depth * self.width;
        &self.elements[first + rows.start * self.width..first + rows.end * self.width]
    }

    /// Rows of a panel to come; none behind the last.
    pub(super) fn ahead(&self, panel: usize, rows: Range<usize>) -> Ahead<'_> {
        let elements = self.rows(panel, rows);
        Ahead { elements, apart: self.width, rows: 0..elements.len() / self.width }
    }
}

/// The first element that begins a cache line, among more than fill one.
fn beginning_of_line(elements: &[f32]) -> usize {
    elements.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE)
}

/// Rows that are brought closer before they are read. They lie in blocks of as many as a panel has columns.
#[derive(Debug, Clone, Default)]
pub(super) struct Ahead<'a> {
    /// From the first block on.
    pub(super) elements: &'a [f32],
    /// Rows from the beginning of a block to that of the next.
    pub(super) apart: usize,
    pub(super) rows: Range<usize>,
}

impl Ahead<'_> {
    /// The first `count` rows, and those behind them.
    pub(super) fn split(self, count: usize) -> [Self; 2] {
        let middle = self.rows.end.min(self.rows.start + count);
        let (first, rest) = (self.rows.start..middle, middle..self.rows.end);
        [Ahead { rows: first, ..self.clone() }, Ahead { rows: rest, ..self }]
    }
}

/// Panels that are made of another weight's while they are read. Of few rows a product reads a panel once or twice, from memory: making
/// it there takes little time, and one weight in memory serves several products. For more rows they are kept once made.
#[derive(Debug)]
pub(super) struct Made {
    of: Arc<Panels>,
    way: Way,
    kept: OnceLock<Panels>,
}

/// How panels are made of others.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way {
    /// Each element's part of the weight.
    Part(WeightPart),
    /// The transpose times a power of two.
    Transposed(f32),
}

impl Made {
    /// None for a transpose whose blocks would not be whole.
    pub(super) fn new(of: Arc<Panels>, way: Way) -> Option<Self> {
        let is_whole = [of.depth, of.columns].iter().all(|extent| extent.is_multiple_of(of.width));
        let can_be_made = is_whole || matches!(way, Way::Part(_));
        can_be_made.then(|| Made { of, way, kept: OnceLock::new() })
    }

    pub(super) fn width(&self) -> usize {
        self.of.width
    }

    /// Rows and columns.
    pub(super) fn extents(&self) -> [usize; 2] {
        let Panels { depth, columns, .. } = *self.of;
        match self.way {
            Way::Part(_) => [depth, columns],
            Way::Transposed(_) => [columns, depth],
        }
    }

    pub(super) fn is_kept(&self) -> bool {
        self.kept.get().is_some()
    }

    /// Makes all panels, unless they are there, and keeps them.
    pub(super) fn keep(&self) {
        let [depth, columns] = self.extents();
        let fill = |panel: usize, to: &mut [f32]| self.make(panel, 0..depth, to);
        self.kept.get_or_init(|| Panels::new(self.of.width, depth, columns, fill));
    }

    /// Rows of a panel, made in `room` unless all are kept.
    pub(super) fn rows<'a>(&'a self, panel: usize, rows: Range<usize>, room: &'a mut Vec<f32>) -> &'a [f32] {
        if let Some(kept) = self.kept.get() {
            return kept.rows(panel, rows);
        }
        let length = rows.len() * self.of.width;
        room.resize(room.len().max(length + LINE), 0.0);
        let first = beginning_of_line(room);
        let room = &mut room[first..][..length];
        self.make(panel, rows, room);
        room
    }

    /// Rows of a panel to come, or what they are made of.
    pub(super) fn ahead(&self, panel: usize, rows: Range<usize>) -> Ahead<'_> {
        match (self.kept.get(), self.way) {
            (Some(kept), _) => kept.ahead(panel, rows),
            (None, Way::Part(_)) => self.of.ahead(panel, rows),
            (None, Way::Transposed(_)) => {
                let Panels { width, depth, .. } = *self.of;
                if panel * width >= depth {
                    return Ahead::default();
                }
                // From the first panel's lines to the last one's.
                let first = self.of.first + (rows.start / width * depth + panel * width) * width;
                Ahead { elements: &self.of.elements[first..], apart: depth, rows: 0..rows.len() }
            }
        }
    }

    /// Makes rows of a panel.
    fn make(&self, panel: usize, rows: Range<usize>, to: &mut [f32]) {
        match self.way {
            Way::Part(part) => simd::run(Level::widest(), OfPart(part, self.of.rows(panel, rows), to)),
            Way::Transposed(factor) if self.of.width == 16 => self.transpose::<16>(panel, rows, to, factor),
            Way::Transposed(factor) => self.transpose::<32>(panel, rows, to, factor),
        }
    }

    /// Rows of the transpose, block by block: all of them are columns of this one panel of the other weight's rows.
    fn transpose<const WIDTH: usize>(&self, panel: usize, rows: Range<usize>, to: &mut [f32], factor: f32) {
        let lines = panel * WIDTH..(panel + 1) * WIDTH;
        let of_panel = |panel: usize| self.of.rows(panel, lines.clone()).as_chunks::<WIDTH>().0;
        let mut row = rows.start;
        while row < rows.end {
            let (from, next) = (of_panel(row / WIDTH), of_panel(row / WIDTH + 1));
            let from: &[[f32; WIDTH]; WIDTH] =
                from.first_chunk().expect("weights that are transposed are whole blocks");
            let (lane, count) = (row % WIDTH, (WIDTH - row % WIDTH).min(rows.end - row));
            let to = to[(row - rows.start) * WIDTH..].as_chunks_mut::<WIDTH>().0;
            if let Some(to) = to.first_chunk_mut().filter(|_| count == WIDTH) {
                simd::transpose(from, next, to, factor);
            } else {
                for (to, column) in to.iter_mut().zip(lane..lane + count) {
                    to.iter_mut().zip(from).for_each(|(to, from)| *to = factor * from[column]);
                }
            }
            row += count;
        }
    }
}

/// Parts of elements.
struct OfPart<'a>(WeightPart, &'a [f32], &'a mut [f32]);

impl Loop for OfPart<'_> {
    #[inline(always)]
    fn run<const FUSED: bool, const LANES: usize>(self) {
        let OfPart(part, from, to) = self;
        match part {
            WeightPart::POSITIVE => from.iter().zip(to).for_each(|(from, to)| *to = WeightPart::POSITIVE.of(*from)),
            WeightPart::NEGATIVE => from.iter().zip(to).for_each(|(from, to)| *to = WeightPart::NEGATIVE.of(*from)),
            part => from.iter().zip(to).for_each(|(from, to)| *to = part.of(*from)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_made_of_anothers_are_its_parts_and_its_transpose_kept_or_not() {
        for (width, depth, columns) in [(16, 32, 64), (32, 48, 40), (16, 80, 48), (32, 64, 96), (32, 71, 33)] {
            let element = |k: usize, column: usize| ((k * columns + column) * 37 % 101) as f32 - 50.0;
            let fill = |panel: usize, to: &mut [f32]| {
                for (k, to) in to.chunks_exact_mut(width).enumerate() {
                    let columns = panel * width..columns.min((panel + 1) * width);
                    columns.zip(to).for_each(|(column, to)| *to = element(k, column));
                }
            };
            let packed = Arc::new(Panels::new(width, depth, columns, fill));
            let scaled = WeightPart::Scaled { positive: 1.5, negative: 0.25 };
            for part in [WeightPart::POSITIVE, WeightPart::NEGATIVE, scaled, WeightPart::Squared] {
                check(&packed, Way::Part(part), |k, column| part.of(element(k, column)));
            }
            if depth % width == 0 && columns % width == 0 {
                check(&packed, Way::Transposed(-0.5), |k, column| -0.5 * element(column, k));
            } else {
                assert!(Made::new(packed, Way::Transposed(-0.5)).is_none());
            }
        }
    }

    fn check(packed: &Arc<Panels>, way: Way, element: impl Fn(usize, usize) -> f32) {
        let made = || Made::new(Arc::clone(packed), way).unwrap();
        let (made, kept) = (made(), made());
        kept.keep();
        assert!(kept.is_kept() && !made.is_kept());
        let ([depth, columns], width) = (made.extents(), made.width());
        for rows in [0..depth, 0..1, depth / 3..depth / 2, depth - 5..depth] {
            for panel in 0..columns.div_ceil(width) {
                let (mut room, mut none) = (vec![f32::NAN; 7], Vec::new());
                let found = made.rows(panel, rows.clone(), &mut room);
                let of_kept = kept.rows(panel, rows.clone(), &mut none);
                assert_eq!(found.len(), rows.len() * width);
                for (k, (found, kept)) in rows.clone().zip(found.chunks(width).zip(of_kept.chunks(width))) {
                    for lane in 0..width.min(columns - panel * width) {
                        let expected = element(k, panel * width + lane);
                        assert_eq!((found[lane], kept[lane]), (expected, expected), "{way:?}, {k}, {lane}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_brought_closer_is_what_is_read_next() {
        let (width, depth, columns) = (16, 64, 80);
        let fill = |panel: usize, to: &mut [f32]| {
            to.iter_mut().enumerate().for_each(|(at, to)| *to = (panel * depth * width + at) as f32);
        };
        let packed = Arc::new(Panels::new(width, depth, columns, fill));
        let (part, transposed) = (
            Made::new(Arc::clone(&packed), Way::Part(WeightPart::Squared)).unwrap(),
            Made::new(packed, Way::Transposed(1.0)).unwrap(),
        );
        let lines = |ahead: &Ahead<'_>| -> Vec<usize> {
            let place = |row: usize| (row / width * ahead.apart + row % width) * width;
            ahead.rows.clone().map(|row| ahead.elements[place(row)] as usize).collect()
        };
        let of_panel = |panel: usize, rows: Range<usize>| rows.map(move |row| (panel * depth + row) * width);
        let [first, rest] = part.ahead(2, 7..40).split(20);
        assert_eq!(
            [lines(&first), lines(&rest)],
            [of_panel(2, 7..27).collect::<Vec<_>>(), of_panel(2, 27..40).collect()]
        );
        // Rows 16 to 48 of the transpose's third panel are lanes of two panels.
        let ahead = transposed.ahead(2, 16..48);
        assert_eq!(lines(&ahead), [1, 2].iter().flat_map(|&panel| of_panel(panel, 32..48)).collect::<Vec<_>>());
        assert!(part.ahead(5, 0..8).rows.is_empty() && transposed.ahead(4, 0..8).rows.is_empty());
    }
}
