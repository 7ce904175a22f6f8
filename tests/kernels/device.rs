//! The device that the kernels run on, opened as a caller of theirs would, and buffers full of traps.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use relprop::wgpu::{self, util::DeviceExt as _};

/// What result buffers hold before a kernel runs: a NaN that no computation gives.
const UNTOUCHED: u32 = 0x7fc0_dead;
/// Elements before and behind the data of every buffer. The first number is the largest alignment that WebGPU asks for.
const BEFORE: usize = 64;
const BEHIND: usize = 36;

/// A device with its queue.
#[derive(Debug)]
pub struct Device {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
}

/// A device for each of two tests that run at once: a software adapter compiles kernels on one thread a device.
pub fn shared() -> &'static Device {
    static SHARED: [OnceLock<Device>; 2] = [const { OnceLock::new() }; 2];
    static TESTS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static TURN: usize = TESTS.fetch_add(1, Ordering::Relaxed) % SHARED.len();
    }
    SHARED[TURN.with(|turn| *turn)].get_or_init(|| Device::open(|_| {}))
}

impl Device {
    /// Opens the adapter that `RELPROP_TEST_ADAPTER` is part of the name of, else the best there is, software too.
    pub fn open(change: impl FnOnce(&mut wgpu::Limits)) -> Self {
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        descriptor.backends = wgpu::Backends::PRIMARY;
        let adapters = wgpu::Instance::new(descriptor).enumerate_adapters(wgpu::Backends::all());
        let mut adapters = pollster::block_on(adapters);
        adapters.sort_by_key(|adapter| adapter.get_info().device_type == wgpu::DeviceType::Cpu);
        let wanted = std::env::var("RELPROP_TEST_ADAPTER").unwrap_or_default().to_lowercase();
        let adapter = adapters.iter().find(|adapter| adapter.get_info().name.to_lowercase().contains(&wanted));
        let adapter = adapter.unwrap_or_else(|| {
            panic!("no GPU adapter with `{wanted}` in its name: run tests/run.sh, which installs a software driver")
        });
        let mut limits = adapter.limits();
        change(&mut limits);
        let descriptor = wgpu::DeviceDescriptor { required_limits: limits, ..wgpu::DeviceDescriptor::default() };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).expect("the adapter opens");
        Device { device, queue }
    }

    /// Elements among traps: whoever reads beside them meets NaN.
    pub fn given(&self, elements: &[f32]) -> Buffer {
        self.buffer(elements.iter().map(|element| element.to_bits()), f32::NAN.to_bits())
    }

    /// Room for elements that a kernel writes.
    pub fn wanted(&self, elements: usize) -> Buffer {
        self.buffer((0..elements).map(|_| UNTOUCHED), UNTOUCHED)
    }

    fn buffer(&self, elements: impl ExactSizeIterator<Item = u32>, trap: u32) -> Buffer {
        let held = elements.len();
        let traps = |count| std::iter::repeat_n(trap, count);
        let behind = held.next_multiple_of(4) - held + BEHIND;
        let bits: Vec<u32> = traps(BEFORE).chain(elements).chain(traps(behind)).collect();
        let buffer = self.device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
            label: None,
            contents: bytemuck::cast_slice(&bits),
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC,
        });
        Buffer { buffer, held }
    }

    /// Submits what `encode` puts into an encoder and gives the elements of `result`, after making sure that each was
    /// written and that nothing beside them was.
    pub fn run(&self, result: &Buffer, encode: impl FnOnce(&mut wgpu::CommandEncoder)) -> Vec<f32> {
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encode(&mut encoder);
        self.queue.submit([encoder.finish()]);
        let bits = self.read(&result.buffer);
        let (before, rest) = bits.split_at(BEFORE);
        let (elements, behind) = rest.split_at(result.held);
        let is_untouched = |bits: &u32| *bits == UNTOUCHED;
        assert!(before.iter().chain(behind).all(is_untouched), "the kernel wrote beside its result");
        let missing = elements.iter().position(is_untouched);
        assert_eq!(missing, None, "the first of {} elements that the kernel did not write", result.held);
        elements.iter().map(|&bits| f32::from_bits(bits)).collect()
    }

    fn read(&self, buffer: &wgpu::Buffer) -> Vec<u32> {
        let (sender, receiver) = std::sync::mpsc::channel();
        wgpu::util::DownloadBuffer::read_buffer(&self.device, &self.queue, &buffer.slice(..), move |bytes| {
            sender.send(bytes.map(|bytes| bytemuck::pod_collect_to_vec::<u8, u32>(&bytes))).unwrap();
        });
        self.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        receiver.recv().unwrap().unwrap()
    }
}

/// Elements in the middle of a buffer.
#[derive(Debug)]
pub struct Buffer {
    buffer: wgpu::Buffer,
    held: usize,
}

impl Buffer {
    /// From the first element to the end of the buffer: the traps behind are in reach.
    pub fn open(&self) -> wgpu::BufferBinding<'_> {
        wgpu::BufferBinding { buffer: &self.buffer, offset: (BEFORE * size_of::<f32>()) as u64, size: None }
    }

    /// As many bytes as a kernel may ask for.
    pub fn exact(&self) -> wgpu::BufferBinding<'_> {
        self.bytes((self.held * size_of::<f32>()).next_multiple_of(16) as u64)
    }

    /// One vector of four less.
    pub fn short(&self) -> wgpu::BufferBinding<'_> {
        self.bytes((self.held * size_of::<f32>()).next_multiple_of(16) as u64 - 16)
    }

    fn bytes(&self, bytes: u64) -> wgpu::BufferBinding<'_> {
        wgpu::BufferBinding { size: std::num::NonZero::new(bytes), ..self.open() }
    }
}
