//! Weights on the device: each uploaded once, whole where a binding can hold it, else in parts.
//!
//! `half` rounds to float16, where that is asked for: models' tensors are read with it too.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use half::f16;

use super::device::{Device, Refusal};
use super::windows::{Way, through_weight};
use crate::error::{Error, ErrorKind, Result};
use crate::kernels;
use crate::layers::Layer;
use crate::network::{LayerId, Network};
use crate::plan::Direction;

/// The weights of a network that are on the device.
#[derive(Debug, Default)]
pub(super) struct Weights {
    known: Mutex<HashMap<Key, Arc<Vec<Part>>>>,
}

/// A layer's weight; by axis where it is cut, for each direction cuts it along the axis that its kernel writes.
type Key = (LayerId, Option<Axis>);

/// An axis of a weight on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Axis {
    /// A dense layer's outputs, a convolution's coarse channels.
    Rows,
    /// A dense layer's inputs, a convolution's fine channels.
    Columns,
}

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
        let matrix = Matrix {
            node: &node.name,
            positions: 1,
            rows: dense.outputs(),
            columns: dense.inputs(),
            data: dense.weight().data(),
            is_half: device.half_weights,
        };
        let written = match direction {
            Direction::Forward => Axis::Rows,
            Direction::Backward => Axis::Columns,
        };
        self.matrix(device, layer, &matrix, written).await
    }

    /// The weight of a convolution for a direction.
    pub(super) async fn convolution(
        &self,
        device: &Device,
        network: &Network,
        layer: LayerId,
        direction: Direction,
    ) -> Result<Arc<Vec<Part>>, Refusal> {
        let node = network.layer(layer);
        let Layer::Conv(conv) = &node.layer else {
            return Err(Error::internal("only a convolution is one").into());
        };
        let (rows, columns) = (conv.coarse_channels(), conv.fine_channels() / conv.groups());
        let (node_name, data, positions) = (node.name.as_str(), conv.weight().data(), conv.window().positions());
        let written = match through_weight(conv, direction) {
            kernels::Direction::Forward => Axis::Rows,
            kernels::Direction::Backward => Axis::Columns,
        };
        let by_channels = match Way::of(network, node, conv)? {
            // Channels are neighbours, for each window position.
            Way::Channels => Matrix { node: node_name, positions, rows: 1, columns: rows, data, is_half: false },
            Way::Dense | Way::Product => {
                Matrix { node: node_name, positions, rows, columns, data, is_half: device.half_weights }
            }
        };
        if conv.groups() == 1 {
            return self.matrix(device, layer, &by_channels, written).await;
        }
        if by_channels.bytes() > device.binding() {
            let message = format!("a weight of {} in groups does not fit one binding", conv.weight().shape());
            return Err(Error::new(ErrorKind::Limit, message).at(&node.name).help("take the cpu backend").into());
        }
        let columns = match written {
            Axis::Rows => conv.coarse_channels(),
            Axis::Columns => conv.fine_channels(),
        };
        let upload = |device: &Device, _| by_channels.upload(device, 0..by_channels.rows, 0..by_channels.columns);
        let parts = self.part((layer, None), device, whole(columns), upload).await?;
        Ok(recounted(&parts, columns))
    }

    /// 1 / n for each output position of an average pool.
    pub(super) async fn averages(
        &self,
        device: &Device,
        network: &Network,
        layer: LayerId,
    ) -> Result<Arc<Vec<Part>>, Refusal> {
        let node = network.layer(layer);
        let Layer::AveragePool(pool) = &node.layer else {
            return Err(Error::internal("only an average pool averages").into());
        };
        let weights = pool.weights(&network.shape(node.inputs[0]).dims()[1..])?;
        let upload = |device: &Device, _| {
            filled(device, "weight", wgpu::BufferUsages::STORAGE, &[bytemuck::cast_slice(&weights)])
        };
        self.part((layer, None), device, whole(weights.len()), upload).await
    }

    /// A weight whole where a binding holds it, else cut along the axis that its kernel writes.
    async fn matrix(
        &self,
        device: &Device,
        layer: LayerId,
        matrix: &Matrix<'_>,
        written: Axis,
    ) -> Result<Arc<Vec<Part>>, Refusal> {
        let columns = match written {
            Axis::Rows => matrix.rows,
            Axis::Columns => matrix.columns,
        };
        let is_whole = matrix.bytes() <= device.binding();
        let key = (layer, (!is_whole).then_some(written));
        let cuts = if is_whole { whole(columns) } else { matrix.cuts(written, device.binding())? };
        let parts = self.part(key, device, cuts, |device, columns| match written {
            _ if is_whole => matrix.upload(device, 0..matrix.rows, 0..matrix.columns),
            Axis::Rows => matrix.upload(device, columns, 0..matrix.columns),
            Axis::Columns => matrix.upload(device, 0..matrix.rows, columns),
        });
        let parts = parts.await?;
        Ok(if is_whole { recounted(&parts, columns) } else { parts })
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

/// The one buffer of both directions, which count its columns along different axes.
fn recounted(parts: &[Part], columns: usize) -> Arc<Vec<Part>> {
    let part = |columns| Part { columns, buffer: parts[0].buffer.clone() };
    Arc::new(whole(columns).into_iter().map(part).collect())
}

/// A weight [rows][columns][positions] as a layer has it. On the device its positions are outermost, and its rows are
/// filled up to whole vectors.
struct Matrix<'a> {
    /// The layer's name.
    node: &'a str,
    positions: usize,
    rows: usize,
    columns: usize,
    data: &'a [f32],
    /// Whether its elements become float16.
    is_half: bool,
}

impl Matrix<'_> {
    fn bytes(&self) -> usize {
        self.positions * self.padded_bytes(self.rows, self.columns)
    }

    fn padded_bytes(&self, rows: usize, columns: usize) -> usize {
        rows * columns.next_multiple_of(4) * if self.is_half { size_of::<f16>() } else { size_of::<f32>() }
    }

    /// The rows or columns of each part, where no binding holds them all.
    fn cuts(&self, written: Axis, binding: usize) -> Result<Vec<Range<usize>>> {
        let Matrix { positions, rows, columns, .. } = *self;
        let (count, most) = match written {
            Axis::Rows => (rows, binding / (positions * self.padded_bytes(1, columns))),
            Axis::Columns => (columns, binding / (positions * self.padded_bytes(rows, 1)) * 4),
        };
        // Parts begin at whole vectors of the target's rows.
        let most = most / 4 * 4;
        if most == 0 {
            let columns = columns * positions;
            let message = format!("a weight of {rows} x {columns} cannot be cut into bindings of {binding} bytes");
            return Err(Error::new(ErrorKind::Limit, message).at(self.node).help("take the cpu backend"));
        }
        Ok((0..count).step_by(most).map(|first| first..count.min(first + most)).collect())
    }

    fn upload(&self, device: &Device, rows: Range<usize>, columns: Range<usize>) -> Result<wgpu::Buffer, Refusal> {
        let (usage, across) = (wgpu::BufferUsages::STORAGE, self.columns);
        if self.is_half {
            let turned = self.turned(rows, columns, half).map_err(|error| error.at(self.node))?;
            return filled(device, "weight", usage, &[bytemuck::cast_slice(&turned)]);
        }
        if self.positions > 1 {
            let turned = self.turned(rows, columns, Ok)?;
            return filled(device, "weight", usage, &[bytemuck::cast_slice(&turned)]);
        }
        if columns.len() == across && across.is_multiple_of(4) {
            let rows = bytemuck::cast_slice(&self.data[rows.start * across..rows.end * across]);
            return filled(device, "weight", usage, &[rows]);
        }
        let padding = vec![0; (columns.len().next_multiple_of(4) - columns.len()) * size_of::<f32>()];
        let row = |row: usize| [bytemuck::cast_slice(&self.data[row * across..][columns.clone()]), &padding];
        filled(device, "weight", usage, &rows.flat_map(row).collect::<Vec<_>>())
    }

    /// Rows and columns with their positions outermost, and elements as the device holds them.
    fn turned<T: Copy + Default>(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
        stored: impl Fn(f32) -> Result<T>,
    ) -> Result<Vec<T>> {
        let stride = columns.len().next_multiple_of(4);
        let mut turned = vec![T::default(); self.positions * rows.len() * stride];
        for (to_row, row) in rows.clone().enumerate() {
            let elements = &self.data[row * self.columns * self.positions..];
            for (to_column, column) in columns.clone().enumerate() {
                let of_element = &elements[column * self.positions..][..self.positions];
                for (position, &element) in of_element.iter().enumerate() {
                    turned[(position * rows.len() + to_row) * stride + to_column] = stored(element)?;
                }
            }
        }
        Ok(turned)
    }
}

/// The nearest float16. It ends at 65504: what is rounded to more would become infinite.
fn half(w: f32) -> Result<u16> {
    const BORDER: f32 = 65520.0;
    if w.is_finite() && w.abs() >= BORDER {
        return Err(Error::new(ErrorKind::Limit, format!("a weight of {w} is more than float16 holds"))
            .help("keep the weights as float32"));
    }
    Ok(f16::from_f32(w).to_bits())
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
