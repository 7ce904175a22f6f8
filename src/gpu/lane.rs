//! The way of one chunk: its inputs up, its results down. Several lanes let chunks overlap.

use futures_intrusive::channel::shared::{OneshotReceiver, OneshotSender, oneshot_channel};

use super::copy::{copy_down, copy_up};
use super::device::{Device, Refusal};
use super::prepared::Memory;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{Plan, Rows};

/// Mapped memory for what goes up and what comes down, used again chunk after chunk.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) up: Mapped,
    pub(super) down: Mapped,
    pub(super) stamps: Option<Stamps>,
    pub(super) pending: Option<Pending>,
}

/// A chunk on its way.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) first: usize,
    pub(super) samples: usize,
    pub(super) submission: wgpu::SubmissionIndex,
    /// How many timestamps it takes, where the lane takes any.
    pub(super) stamps: u32,
    pub(super) readable: Arrival,
    pub(super) writable: Arrival,
}

/// Tells when a buffer is mapped.
pub(super) type Arrival = OneshotReceiver<Result<(), wgpu::BufferAsyncError>>;

/// A buffer that the host reads or writes, with room for each part of a full chunk.
#[derive(Debug)]
pub(super) struct Mapped {
    pub(super) buffer: wgpu::Buffer,
    offsets: Vec<u64>,
}

/// Parts of what goes up: the batch, each input, the explained targets, given starts.
pub(super) mod up {
    pub(crate) const BATCH: usize = 0;
    pub(crate) const INPUTS: usize = 1;
}

/// Parts of what comes down: logits, the explained targets, sums, stamps, each result.
pub(super) mod down {
    pub(crate) const LOGITS: usize = 0;
    pub(crate) const EXPLAINED: usize = 1;
    pub(crate) const SUMS: usize = 2;
    pub(crate) const STAMPS: usize = 3;
    pub(crate) const RESULTS: usize = 4;
}

/// Timestamps of a chunk, and the buffer that takes them.
#[derive(Debug)]
pub(super) struct Stamps {
    pub(super) queries: wgpu::QuerySet,
    pub(super) resolved: wgpu::Buffer,
}

impl Stamps {
    /// Before uploads, before and after kernels, after downloads; dispatches that are timed have two each behind these.
    pub(super) const OF_CHUNK: u32 = 4;

    fn new(device: &Device, dispatches: usize) -> Option<Self> {
        let wanted = wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::TIMESTAMP_QUERY_INSIDE_ENCODERS;
        let count = Self::OF_CHUNK + 2 * dispatches as u32;
        if !device.features.contains(wanted) || count > wgpu::QUERY_SET_MAX_QUERIES {
            return None;
        }
        let label = Some("timestamps");
        let queries =
            device.device.create_query_set(&wgpu::QuerySetDescriptor { label, ty: wgpu::QueryType::Timestamp, count });
        let resolved = device.device.create_buffer(&wgpu::BufferDescriptor {
            label,
            size: u64::from(count * wgpu::QUERY_SIZE),
            usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        Some(Stamps { queries, resolved })
    }
}

impl Lane {
    /// Memory for a plan's chunks; `timed` is how many dispatches are timed each by itself.
    pub(super) fn new(device: &Device, plan: &Plan, memory: &Memory, timed: usize) -> Result<Self, Refusal> {
        let stamps = Stamps::new(device, timed);
        let singles = [memory.batch.size()];
        let ups = singles.into_iter().chain(memory.inputs.iter().map(wgpu::Buffer::size));
        let ups = ups.chain([memory.explained.size(), memory.given.size()]);
        let logits = plan.rows(Rows::Sample, plan.chunk) * plan.buffers[plan.logits.index()].width * size_of::<f32>();
        let stamp_bytes = stamps.as_ref().map_or(0, |stamps| stamps.resolved.size());
        let downs = [logits as u64, memory.explained.size(), memory.sums.size(), stamp_bytes];
        let downs = downs.into_iter().chain(memory.results.iter().map(wgpu::Buffer::size));
        Ok(Lane {
            up: Mapped::new(device, "inputs", ups, wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC)?,
            down: Mapped::new(device, "results", downs, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST)?,
            stamps,
            pending: None,
        })
    }

    /// Bytes that the host shares with the device.
    pub(super) fn bytes(&self) -> u64 {
        self.up.buffer.size() + self.down.buffer.size()
    }
}

impl Mapped {
    pub(super) fn new(
        device: &Device,
        label: &'static str,
        parts: impl Iterator<Item = u64>,
        usage: wgpu::BufferUsages,
    ) -> Result<Self, Refusal> {
        let mut size = 0;
        let offsets = parts.map(|bytes| {
            let offset = size;
            size += bytes.next_multiple_of(wgpu::MAP_ALIGNMENT);
            offset
        });
        let offsets = offsets.collect();
        let is_written = usage.contains(wgpu::BufferUsages::MAP_WRITE);
        let descriptor = wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: is_written };
        Ok(Mapped { buffer: device.buffer(&descriptor)?, offsets })
    }

    /// Where a part begins.
    pub(super) fn offset(&self, part: usize) -> u64 {
        self.offsets[part]
    }

    /// Writes a part.
    pub(super) fn write(&self, part: usize, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let from = self.offset(part);
        let range = from..from + bytes.len() as u64;
        copy_up(bytes, self.buffer.get_mapped_range_mut(range).map_err(not_mapped)?.slice(..));
        Ok(())
    }

    /// Reads a part.
    pub(super) fn read(&self, part: usize, bytes: &mut [u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let from = self.offset(part);
        let range = from..from + bytes.len() as u64;
        copy_down(&self.buffer.get_mapped_range(range).map_err(not_mapped)?, bytes);
        Ok(())
    }

    /// Asks for the buffer to be mapped when the encoder's work is done.
    pub(super) fn map_after(&self, encoder: &wgpu::CommandEncoder, mode: wgpu::MapMode) -> Arrival {
        let (sender, receiver): (OneshotSender<_>, _) = oneshot_channel();
        encoder.map_buffer_on_submit(&self.buffer, mode, .., move |mapped| {
            // Nobody waits any more where the run was given up.
            let _ = sender.send(mapped);
        });
        receiver
    }
}

fn not_mapped(error: wgpu::MapRangeError) -> Error {
    Error::new(ErrorKind::Device, format!("the device's memory cannot be read: {error}"))
        .help("run again; if it happens again, take the cpu backend")
}

/// Waits for a buffer to be mapped.
pub(super) async fn arrival(receiver: &Arrival) -> Result<()> {
    match receiver.receive().await {
        Some(Ok(())) => Ok(()),
        Some(Err(error)) => Err(Error::new(ErrorKind::Device, format!("results cannot be read: {error}"))
            .help("run again; if it happens again, take the cpu backend")),
        None => Err(Error::new(ErrorKind::Device, "the device gave up its work").help("run again")),
    }
}
