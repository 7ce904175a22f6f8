//! Weights on the device: each uploaded once, whole where a binding can hold it, else in parts.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::device::{Device, Refusal};
use crate::error::{Error, ErrorKind, Result};
use crate::layers::{Dense, Layer};
use crate::network::{LayerId, Network};
use crate::plan::Direction;

/// The weights of a network that are on the device.
#[derive(Debug, Default)]
pub(super) struct Weights {
    known: Mutex<HashMap<Key, Arc<Vec<Part>>>>,
}

/// A layer's weight; by direction where it is cut, for each direction cuts it along the axis that its kernel writes.
type Key = (LayerId, Option<Direction>);

/// Columns of a product's result, and the weights that make them.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) columns: Range<usize>,
    pub(super) buffer: wgpu::Buffer,
}

impl Weights {
    /// Bytes on the device.
    pub(super) fn bytes(&self) -> u64 {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.values().flat_map(|parts| parts.iter()).map(|part| part.buffer.size()).sum()
    }

    /// The weight of a dense layer for a direction.
    pub(super) async fn dense(
        &self,
        device: &Device,
        network: &Network,
        layer: LayerId,
        direction: Direction,
    ) -> Result<Arc<Vec<Part>>, Refusal> {
        let node = network.layer(layer);
        let Layer::Dense(dense) = &node.layer else {
            return Err(Error::internal("only a dense layer is a product").into());
        };
        let columns = match direction {
            Direction::Forward => dense.outputs(),
            Direction::Backward => dense.inputs(),
        };
        let is_whole = padded_bytes(dense.outputs(), dense.inputs()) <= device.binding();
        let key = (layer, (!is_whole).then_some(direction));
        let cuts = if is_whole { whole(columns) } else { cuts(dense, direction, device.binding(), &node.name)? };
        let parts = self.part(key, device, cuts, |device, columns| match direction {
            _ if is_whole => dense_rows(device, dense, 0..dense.outputs(), 0..dense.inputs()),
            Direction::Forward => dense_rows(device, dense, columns, 0..dense.inputs()),
            Direction::Backward => dense_rows(device, dense, 0..dense.outputs(), columns),
        });
        let parts = parts.await?;
        if !is_whole {
            return Ok(parts);
        }
        // One buffer serves both directions, which count its columns along different axes.
        Ok(Arc::new(
            whole(columns).into_iter().map(|columns| Part { columns, buffer: parts[0].buffer.clone() }).collect(),
        ))
    }

    /// The table of a lookup.
    pub(super) async fn table(
        &self,
        device: &Device,
        network: &Network,
        layer: LayerId,
    ) -> Result<Arc<Vec<Part>>, Refusal> {
        let node = network.layer(layer);
        let Layer::Lookup(lookup) = &node.layer else {
            return Err(Error::internal("only a lookup layer looks up").into());
        };
        let count = lookup.table().count();
        if count * size_of::<f32>() > device.binding() {
            let message = format!(
                "the table of {} entries takes {} bytes, and one binding of {} holds {}",
                lookup.entries(),
                count * size_of::<f32>(),
                device.name(),
                device.binding()
            );
            return Err(Error::new(ErrorKind::Limit, message).at(&node.name).help("take the cpu backend").into());
        }
        let upload = |device: &Device, _| {
            filled(device, "table", wgpu::BufferUsages::STORAGE, &[bytemuck::cast_slice(lookup.table().data())])
        };
        self.part((layer, None), device, whole(count), upload).await
    }

    async fn part(
        &self,
        key: Key,
        device: &Device,
        cuts: Vec<Range<usize>>,
        upload: impl Fn(&Device, Range<usize>) -> Result<wgpu::Buffer, Refusal>,
    ) -> Result<Arc<Vec<Part>>, Refusal> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let parts = device.scoped(|| {
            let part = |columns: Range<usize>| Ok(Part { buffer: upload(device, columns.clone())?, columns });
            cuts.into_iter().map(part).collect::<Result<Vec<_>, Refusal>>().map(Arc::new)
        });
        let parts = parts.await??;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::clone(&parts));
        Ok(parts)
    }
}

/// One part with all columns.
fn whole(columns: usize) -> Vec<Range<usize>> {
    std::iter::once(0..columns).collect()
}

fn padded_bytes(rows: usize, columns: usize) -> usize {
    rows * columns.next_multiple_of(4) * size_of::<f32>()
}

/// The columns of each part of a weight that no binding holds whole.
fn cuts(dense: &Dense, direction: Direction, binding: usize, node: &str) -> Result<Vec<Range<usize>>> {
    let (inputs, outputs) = (dense.inputs(), dense.outputs());
    let (columns, most) = match direction {
        Direction::Forward => (outputs, binding / padded_bytes(1, inputs)),
        Direction::Backward => (inputs, binding / padded_bytes(outputs, 1) * 4),
    };
    // Parts begin at whole vectors of the target's rows.
    let most = most / 4 * 4;
    if most == 0 {
        let message = format!("a weight of {outputs} x {inputs} cannot be cut into bindings of {binding} bytes");
        return Err(Error::new(ErrorKind::Limit, message).at(node).help("take the cpu backend"));
    }
    Ok((0..columns).step_by(most).map(|first| first..columns.min(first + most)).collect())
}

/// Rows and columns of a weight, each row filled up to whole vectors.
fn dense_rows(
    device: &Device,
    dense: &Dense,
    rows: Range<usize>,
    columns: Range<usize>,
) -> Result<wgpu::Buffer, Refusal> {
    let data = dense.weight().data();
    let inputs = dense.inputs();
    if columns.len() == inputs && inputs.is_multiple_of(4) {
        let rows = bytemuck::cast_slice(&data[rows.start * inputs..rows.end * inputs]);
        return filled(device, "weight", wgpu::BufferUsages::STORAGE, &[rows]);
    }
    let padding = vec![0; (columns.len().next_multiple_of(4) - columns.len()) * size_of::<f32>()];
    let row = |row: usize| [bytemuck::cast_slice(&data[row * inputs..][columns.clone()]), &padding];
    filled(device, "weight", wgpu::BufferUsages::STORAGE, &rows.flat_map(row).collect::<Vec<_>>())
}

/// Bytes that go up at a time.
const PIECE: usize = 32 << 20;

/// A buffer with these bytes, one stretch after another.
///
/// They go up in pieces, through buffers of our own: what `mapped_at_creation` makes for a buffer that the host cannot
/// map is as large as it is, stays until the next submission, and a device without memory for it counts as lost.
pub(super) fn filled(
    device: &Device,
    label: &'static str,
    usage: wgpu::BufferUsages,
    stretches: &[&[u8]],
) -> Result<wgpu::Buffer, Refusal> {
    let total: usize = stretches.iter().map(|stretch| stretch.len()).sum();
    let buffer = device.buffer(&wgpu::BufferDescriptor {
        label: Some(label),
        // Whole vectors, as kernels read them.
        size: total.next_multiple_of(16).max(16) as u64,
        usage: usage | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    })?;
    let mut rest = stretches.iter().copied();
    let mut stretch: &[u8] = &[];
    let most = usize::try_from(device.limits.max_buffer_size / 16 * 16).unwrap_or(PIECE).clamp(16, PIECE);
    for first in (0..total).step_by(most) {
        let size = most.min(total - first);
        let piece = device.buffer(&wgpu::BufferDescriptor {
            label: Some("piece"),
            size: size as u64,
            usage: wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: true,
        })?;
        // Where there was no memory, the error scope tells; there is nothing to fill then.
        let Ok(mut mapped) = piece.get_mapped_range_mut(..) else { break };
        let mut at = 0;
        while at < size {
            if stretch.is_empty() {
                stretch = rest.next().unwrap_or_default();
            }
            let taken = stretch.len().min(size - at);
            mapped.slice(at..at + taken).copy_from_slice(&stretch[..taken]);
            (at, stretch) = (at + taken, &stretch[taken..]);
        }
        drop(mapped);
        piece.unmap();
        let mut encoder = device.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some(label) });
        encoder.copy_buffer_to_buffer(&piece, 0, &buffer, first as u64, size as u64);
        let submission = device.queue.submit([encoder.finish()]);
        if size == most {
            device.wait(submission)?;
        }
    }
    Ok(buffer)
}
