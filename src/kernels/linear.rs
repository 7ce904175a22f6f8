//! What the kernels of a dense layer share: a compiled product, and what their buffers must be.

use super::kernel::{Dispatch, binding};
use super::product::Product;
use super::step::{Batch, Step};
use crate::error::{Error, ErrorKind, Result};
use crate::rules::InputPart;

/// A compiled product with what it is told.
#[derive(Debug)]
pub(super) struct Linear {
    device: wgpu::Device,
    pipeline: wgpu::ComputePipeline,
    workgroups: (u32, u32),
    step: wgpu::Buffer,
    batch: wgpu::Buffer,
}

impl Linear {
    pub(super) fn new(device: &wgpu::Device, product: &Product<'_>, samples: usize) -> Result<Self> {
        let Dispatch { kernel, step, grid } = product.dispatch()?;
        let batch = Batch { samples: samples as u32, ..Batch::default() };
        Ok(Linear {
            device: device.clone(),
            pipeline: kernel.compile(device, None),
            workgroups: grid.workgroups(samples, device.limits().max_compute_workgroups_per_dimension),
            step: uniform(device, bytemuck::bytes_of::<Step>(&step)),
            batch: uniform(device, bytemuck::bytes_of::<Batch>(&batch)),
        })
    }

    pub(super) fn encode(&self, encoder: &mut wgpu::CommandEncoder, bound: Vec<(u32, wgpu::BufferBinding<'_>)>) {
        let uniforms = [(binding::STEP, &self.step), (binding::BATCH, &self.batch)];
        let uniforms = uniforms.map(|(binding, buffer)| (binding, buffer.as_entire_buffer_binding()));
        let entry =
            |(binding, buffer)| wgpu::BindGroupEntry { binding, resource: wgpu::BindingResource::Buffer(buffer) };
        let entries: Vec<_> = uniforms.into_iter().chain(bound).map(entry).collect();
        let group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &self.pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(self.workgroups.0, self.workgroups.1, 1);
    }
}

fn uniform(device: &wgpu::Device, bytes: &[u8]) -> wgpu::Buffer {
    use wgpu::util::DeviceExt as _;
    let descriptor =
        wgpu::util::BufferInitDescriptor { label: None, contents: bytes, usage: wgpu::BufferUsages::UNIFORM };
    device.create_buffer_init(&descriptor)
}

/// Elements of a row of a weight with `inputs` columns.
pub(super) fn row(inputs: usize) -> usize {
    inputs.next_multiple_of(4)
}

/// Rows of `columns` elements, each filled up with zeros to a multiple of 4, as weights lie on the device.
///
/// # Panics
/// If `columns` is 0 or the elements are no whole rows.
pub fn pad_rows(elements: &[f32], columns: usize) -> Vec<f32> {
    assert!(elements.len().is_multiple_of(columns), "{} elements are no rows of {columns}", elements.len());
    let padding = vec![0.0; row(columns) - columns];
    elements.chunks_exact(columns).flat_map(|row| row.iter().chain(&padding)).copied().collect()
}

pub(super) fn check_extents(extents: &[usize]) -> Result<()> {
    if extents.contains(&0) {
        return Err(
            Error::shape(format!("the kernel has an extent of 0 in {extents:?}")).help("give at least 1 of each")
        );
    }
    Ok(())
}

/// A part of X that is a function of X.
pub(super) fn part_of(part: InputPart) -> Result<InputPart> {
    match part {
        InputPart::Whole | InputPart::Positive | InputPart::Negative | InputPart::Magnitude => Ok(part),
        InputPart::Low | InputPart::High | InputPart::One => {
            Err(Error::new(ErrorKind::Unsupported, format!("{part:?} is no part of x"))
                .help("give a buffer of those values as x"))
        }
    }
}

/// x̃ of an element.
pub(super) fn read(part: InputPart, x: f32) -> f64 {
    // max(x, 0) would turn NaN into 0 and hide it.
    match part {
        InputPart::Positive if x < 0.0 => 0.0,
        InputPart::Negative if x > 0.0 => 0.0,
        InputPart::Magnitude => f64::from(x.abs()),
        InputPart::One => 1.0,
        InputPart::Whole | InputPart::Positive | InputPart::Negative | InputPart::Low | InputPart::High => f64::from(x),
    }
}

pub(super) fn check(name: &str, binding: &wgpu::BufferBinding<'_>, elements: usize) -> Result<()> {
    let has = binding.size.map_or(binding.buffer.size().saturating_sub(binding.offset), u64::from);
    // Kernels read whole vectors of four.
    let needs = (elements * size_of::<f32>()).next_multiple_of(16) as u64;
    if has < needs {
        let message = format!("`{name}` has {has} bytes, and the kernel needs {needs} for {elements} elements");
        return Err(Error::shape(message).help("make the buffer a multiple of 16 bytes that holds all elements"));
    }
    Ok(())
}
