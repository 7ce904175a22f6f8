//! Steps without a product: elements copied, reordered, mapped along an axis, looked up or reduced.

use super::chain::Chain;
use super::crew::{Crew, Written};
use super::loops::{self, read_through};
use crate::error::{Error, ErrorKind, Result};
use crate::layers::Lookup;
use crate::plan::{Operand, Step, Work};

/// Elements that a part of a step copies at most: they stay in cache for the chain.
const PIECE: usize = 1 << 14;

/// Runs of a transposed row of fewer elements than this, such as an image's channels, are read together, so many at most: each by itself would
/// be made of a few reads from far apart.
const SHORT: usize = 8;
const MOST_TOGETHER: usize = 16;

/// Runs a step that moves or reduces rows, then its chain.
pub(super) fn apply(chain: &Chain<'_>, step: &Step, width: usize, written: Written<'_>, crew: Crew<'_>) {
    let Some(source) = step.source else {
        return crew.pieces(written, 1, PIECE, |first, piece, _| {
            piece.target.fill(0.0);
            chain.finish(first, width, piece);
        });
    };
    let elements = chain.memory.read(source.buffer);
    let source_width = chain.plan.buffers[source.buffer.index()].width;
    match &step.work {
        Work::Transpose { dims, order } => {
            let turn = Turn::new(dims, order);
            crew.pieces(written, turn.run(), (PIECE / turn.run()).max(1), |first, piece, _| {
                turn.copy(elements, first, piece.target);
                read_through(&source, piece.target);
                chain.finish(first * turn.run(), width, piece);
            });
        }
        Work::Strips { count, length, source: (from_step, from), target: (to_step, to) } => {
            assert_eq!(width, count * to_step, "strips divide a row evenly");
            crew.pieces(written, *to_step, (PIECE / to_step).max(1), |first, piece, _| {
                for (position, unit) in piece.target.chunks_exact_mut(*to_step).enumerate() {
                    let (row, strip) = ((first + position) / count, (first + position) % count);
                    let stored = &elements[row * source_width + strip * from_step + from..][..*length];
                    loops::read(&source, stored, &mut unit[*to..][..*length]);
                }
                chain.finish(first * to_step, width, piece);
            });
        }
        Work::Rms => crew.pieces(written, 1, 1, |row, to, _| {
            let from = &elements[row * source_width..][..source_width];
            let squares: f64 = from.iter().map(|&d| f64::from(d) * f64::from(d)).sum();
            to.target[0] = (squares / from.len() as f64).sqrt() as f32;
        }),
        Work::Elementwise
        | Work::Product { .. }
        | Work::Convolve { .. }
        | Work::AveragePool { .. }
        | Work::MaxPool
        | Work::Winners
        | Work::Unpool { .. }
        | Work::AlongAxis { .. }
        | Work::Lookup
        | Work::Start
        | Work::Measure(_) => crew.pieces(written, 1, PIECE, |first, piece, _| {
            loops::read(&source, &elements[first..][..piece.target.len()], piece.target);
            chain.finish(first, width, piece);
        }),
    }
}

/// A transposition of every row, by runs along the target's last axis.
struct Turn {
    /// The target's axes: extent, and distance in the source.
    axes: Vec<(usize, usize)>,
    width: usize,
}

impl Turn {
    fn new(dims: &[usize], order: &[usize]) -> Self {
        let distance = |axis: usize| dims[axis + 1..].iter().product();
        let axes = order.iter().map(|&axis| (dims[axis], distance(axis))).collect();
        Turn { axes, width: dims.iter().product() }
    }

    /// Elements along the target's last axis.
    fn run(&self) -> usize {
        self.axes.last().map_or(1, |(extent, _)| *extent)
    }

    /// Fills whole runs of the target, from run `first` on, counted over rows.
    fn copy(&self, elements: &[f32], first: usize, target: &mut [f32]) {
        let (run, runs_a_row) = (self.run(), self.width / self.run());
        let distance = self.axes.last().map_or(1, |(_, distance)| *distance);
        let (mut at, mut target) = (first, target);
        while !target.is_empty() {
            let (row, mut rest) = (at / runs_a_row, at % runs_a_row);
            let mut from = row * self.width;
            let together = self.together(rest).min(target.len() / run);
            for &(extent, distance) in self.axes.iter().rev().skip(1) {
                from += rest % extent * distance;
                rest /= extent;
            }
            let runs = target.split_off_mut(..together * run).expect("whole runs");
            if together == 1 {
                runs.iter_mut().zip(elements[from..].iter().step_by(distance)).for_each(|(to, from)| *to = *from);
            } else {
                for element in 0..run {
                    let from = &elements[from + element * distance..][..together];
                    runs[element..].iter_mut().step_by(run).zip(from).for_each(|(to, from)| *to = *from);
                }
            }
            at += together;
        }
    }

    /// How many runs from the one at a position of a row on are read together: whose sources lie side by side.
    fn together(&self, position: usize) -> usize {
        match self.axes.iter().rev().nth(1) {
            Some(&(extent, 1)) if self.run() < SHORT => MOST_TOGETHER.min(extent - position % extent),
            _ => 1,
        }
    }
}

/// Maps blocks of `[positions][after]` along their first axis; `taps` holds sources and weights of each position.
pub(super) fn along_axis(
    chain: &Chain<'_>,
    source: &Operand,
    (taps, after): (&[Vec<(usize, f32)>], usize),
    (source_block, width): (usize, usize),
    written: Written<'_>,
    crew: Crew<'_>,
) {
    let elements = chain.memory.read(source.buffer);
    let block = taps.len() * after;
    crew.pieces(written, block, (PIECE / block).max(1), |first, piece, room| {
        let read = &mut room.rows;
        read.resize(read.len().max(source_block), 0.0);
        let read = &mut read[..source_block];
        for (position, to) in piece.target.chunks_exact_mut(block).enumerate() {
            loops::read(source, &elements[(first + position) * source_block..][..source_block], read);
            for (to, taps) in to.chunks_exact_mut(after).zip(taps) {
                to.fill(0.0);
                for &(from, weight) in taps {
                    let from = &read[from * after..][..after];
                    loops::zip(to, from, move |sum: f32, x: f32| sum + weight * x);
                }
            }
        }
        chain.finish(first * block, width, piece);
    });
}

/// Rows of the table picked by `indices`.
pub(super) fn lookup(layer: &Lookup, indices: &[i64], target: &mut [f32]) -> Result<()> {
    let entries = layer.entries() as i64;
    let width = layer.table().count() / layer.entries();
    for (position, (&index, row)) in indices.iter().zip(target.chunks_exact_mut(width)).enumerate() {
        let entry = if index < 0 { index + entries } else { index };
        if !(0..entries).contains(&entry) {
            let message = format!("index {index} at position {position} is outside a table of {entries} entries");
            return Err(Error::new(ErrorKind::Data, message));
        }
        row.copy_from_slice(layer.table().row(entry as usize));
    }
    Ok(())
}
