//! Steps without a product: elements copied, reordered, looked up or reduced.

use super::chain::{Chain, read_through};
use crate::error::{Error, ErrorKind, Result};
use crate::layers::Lookup;
use crate::plan::{Operand, Step, Work};

/// Runs a step that moves or reduces rows, then its chain.
pub(super) fn apply(chain: &Chain<'_>, step: &Step, width: usize, target: &mut [f32]) {
    let Some(source) = step.source else {
        target.fill(0.0);
        return super::chain_rows(chain, width, target);
    };
    let elements = chain.memory.read(source.buffer);
    let source_width = chain.plan.buffers[source.buffer.index()].width;
    let rows = elements.chunks_exact(source_width).zip(target.chunks_exact_mut(width));
    match &step.work {
        Work::Transpose { dims, order } => {
            let positions = transposed(dims, order);
            for (row, (from, to)) in rows.enumerate() {
                to.iter_mut().zip(&positions).for_each(|(to, &position)| *to = from[position]);
                finish(chain, &source, row, to);
            }
        }
        Work::Strips { count, length, source: (from_step, from), target: (to_step, to) } => {
            for (row, (source_row, target_row)) in rows.enumerate() {
                for strip in 0..*count {
                    let strip_out = &mut target_row[strip * to_step + to..][..*length];
                    strip_out.copy_from_slice(&source_row[strip * from_step + from..][..*length]);
                    read_through(&source, strip_out);
                }
                if !chain.ops.is_empty() {
                    chain.apply(row, 0, target_row);
                }
            }
        }
        Work::Rms => {
            for (from, to) in rows {
                let squares: f64 = from.iter().map(|&d| f64::from(d) * f64::from(d)).sum();
                to[0] = (squares / from.len() as f64).sqrt() as f32;
            }
        }
        Work::Convolve { .. }
        | Work::AveragePool { .. }
        | Work::MaxPool
        | Work::Winners
        | Work::Unpool { .. }
        | Work::AlongAxis { .. } => unreachable!("interim"),
        Work::Elementwise | Work::Product { .. } | Work::Lookup | Work::Start | Work::Measure(_) => {
            for (row, (from, to)) in rows.enumerate() {
                to.copy_from_slice(from);
                finish(chain, &source, row, to);
            }
        }
    }
}

fn finish(chain: &Chain<'_>, source: &Operand, row: usize, elements: &mut [f32]) {
    read_through(source, elements);
    chain.apply(row, 0, elements);
}

/// For each element of a transposed row, its position in the source row.
fn transposed(dims: &[usize], order: &[usize]) -> Vec<usize> {
    crate::tensor::Tensor::from_fn(dims, |position| position).transpose(order).into_data()
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
