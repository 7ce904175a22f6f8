//! WGSL kernels as a library of their own, usable without a model: batches through dense layers, and relevance back.
//!
//! A kernel is made once for its shape, works on the caller's [`wgpu::Buffer`]s and is added to the caller's encoder:
//! nothing is submitted, uploaded or waited for here. Each has a function of the same name and argument order that
//! computes the same on the CPU, in plain loops with float64 sums, to judge it. The kernels speak wgpu
//! 30, which is re-exported as [`relprop::wgpu`](crate::wgpu): a new major version of it is a new major version here.
//!
//! ```
//! use relprop::kernels::{self, EpsilonBuffers, EpsilonShape, ForwardBuffers, ForwardShape, LinearEpsilon, LinearForward};
//! use relprop::wgpu::{self, util::DeviceExt};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Any device will do.
//! let instance = wgpu::Instance::default();
//! let adapter = pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default()))?;
//! let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor::default()))?;
//!
//! // Two samples of three inputs, and a layer with two outputs. Rows of a weight are filled up to multiples of 4.
//! let x = [1.0, 2.0, 0.5, -1.0, 0.0, 3.0];
//! let weight = kernels::pad_rows(&[0.5, -1.0, 2.0, 1.5, 0.25, -0.5], 3);
//! let bias = [0.1, -0.2];
//! let buffer = |elements: &[f32]| {
//!     let mut elements = elements.to_vec();
//!     elements.resize(elements.len().next_multiple_of(4), 0.0); // whole 16 bytes
//!     let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
//!     let contents = bytemuck::cast_slice(&elements);
//!     device.create_buffer_init(&wgpu::util::BufferInitDescriptor { label: None, contents, usage })
//! };
//! let (x_buffer, weight_buffer, bias_buffer) = (buffer(&x), buffer(&weight), buffer(&bias));
//! let (z_buffer, result) = (buffer(&[0.0; 4]), buffer(&[0.0; 6]));
//!
//! // Forward: Z = X Wᵀ + b. Backward: all of Z is the relevance that arrives.
//! let shape = ForwardShape::new(2, 3, 2);
//! let forward = LinearForward::new(&device, &shape)?;
//! let epsilon_shape = EpsilonShape::new(2, 3, 2);
//! let epsilon = LinearEpsilon::new(&device, &epsilon_shape)?;
//! let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
//! let whole = wgpu::Buffer::as_entire_buffer_binding;
//! forward.encode(&mut encoder, ForwardBuffers {
//!     x: whole(&x_buffer),
//!     weight: whole(&weight_buffer),
//!     bias: Some(whole(&bias_buffer)),
//!     z: whole(&z_buffer),
//! })?;
//! epsilon.encode(&mut encoder, EpsilonBuffers {
//!     x: whole(&x_buffer),
//!     weight: whole(&weight_buffer),
//!     z: whole(&z_buffer),
//!     relevance: whole(&z_buffer),
//!     result: whole(&result),
//! })?;
//! queue.submit([encoder.finish()]);
//!
//! // The same on the CPU.
//! let (mut z, mut expected) = ([0.0; 4], [0.0; 6]);
//! kernels::linear_forward(&shape, &x, &weight, Some(&bias), &mut z);
//! kernels::linear_epsilon(&epsilon_shape, &x, &weight, &z, &z, &mut expected);
//!
//! let (sender, receiver) = std::sync::mpsc::channel();
//! wgpu::util::DownloadBuffer::read_buffer(&device, &queue, &result.slice(..24), move |bytes| {
//!     sender.send(bytes.map(|bytes| bytemuck::pod_collect_to_vec::<u8, f32>(&bytes))).unwrap();
//! });
//! device.poll(wgpu::PollType::wait_indefinitely())?;
//! for (found, expected) in receiver.recv()??.iter().zip(expected) {
//!     approx::assert_relative_eq!(*found, expected, epsilon = 1e-6);
//! }
//! # Ok(())
//! # }
//! ```

mod chain;
mod convolve;
mod device_kind;
mod elementwise;
mod kernel;
mod lattice;
mod linear;
mod linear_epsilon;
mod linear_forward;
mod product;
mod reduce;
mod start;
mod step;
mod tile;
mod window;

pub use device_kind::DeviceKind;
pub use linear::pad_rows;
pub use linear_epsilon::{EpsilonBuffers, EpsilonShape, LinearEpsilon, linear_epsilon};
pub use linear_forward::{ForwardBuffers, ForwardShape, LinearForward, linear_forward};
pub use product::Direction;
pub use tile::{Tile, Tiling};

pub(crate) use chain::{Beside, Columns, Op, Operand, Outputs, Repeat, Slot};
pub(crate) use convolve::Convolve;
pub(crate) use elementwise::{Elementwise, Move, Strips};
pub(crate) use kernel::{Access, Dispatch, Grid, Kernel, binding, texts};
pub(crate) use lattice::Lattice;
pub(crate) use product::{Addend, Product};
pub(crate) use reduce::{Reduce, Reduction};
pub(crate) use start::{Mode, Start};
pub(crate) use step::{Batch, Place, Step};
pub(crate) use window::{WindowWork, Windowed};
