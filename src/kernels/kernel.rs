//! A kernel: its text, what it binds, what it is told, and how many workgroups it takes.

use std::sync::OnceLock;

use minijinja::{Environment, UndefinedBehavior};
use serde::Serialize;

use super::chain::{Beside, Writer};
use super::step::Step;
use crate::error::{Error, Result};

/// How a binding is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Access {
    Uniform,
    Read,
    Write,
}

/// A kernel's text with what it binds: the same for every layer that differs in numbers only.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Kernel {
    /// Which kernel it is, for people and profiles.
    pub label: &'static str,
    /// The WGSL.
    pub text: String,
    /// The bindings of group 0 with their numbers.
    pub bindings: Vec<(u32, Access)>,
}

/// A kernel with what one dispatch of it is told.
#[derive(Debug, Clone)]
pub(crate) struct Dispatch {
    pub kernel: Kernel,
    pub step: Step,
    pub grid: Grid,
}

/// How workgroups cover rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    /// Rows a sample.
    pub rows: usize,
    /// Rows that workgroups cover together, `cells` cells in each.
    pub tile_rows: usize,
    /// Cells of each tile of rows.
    pub cells: usize,
    /// Cells that one workgroup computes.
    pub lanes: usize,
}

impl Grid {
    /// Whether two dimensions of at most `most` workgroups each cover a number of samples.
    pub(crate) fn fits(&self, samples: usize, most: u32) -> bool {
        self.groups(samples) <= u64::from(most) * u64::from(most)
    }

    fn groups(&self, samples: usize) -> u64 {
        let tiles = (samples * self.rows).div_ceil(self.tile_rows) * self.cells;
        tiles.div_ceil(self.lanes) as u64
    }

    /// The workgroups for a number of samples that fits, in two dimensions of at most `most` each.
    pub(crate) fn workgroups(&self, samples: usize, most: u32) -> (u32, u32) {
        let groups = self.groups(samples);
        let most = u64::from(most);
        if groups <= most {
            return (groups as u32, 1);
        }
        // Near a square, so that few workgroups find nothing to do.
        let across = groups.isqrt().max(groups.div_ceil(most)).min(most);
        (across as u32, groups.div_ceil(across) as u32)
    }
}

/// Numbers of bindings; operands come behind.
pub(crate) mod binding {
    pub(crate) const STEP: u32 = 0;
    pub(crate) const BATCH: u32 = 1;
    pub(crate) const WEIGHT: u32 = 2;
    pub(crate) const TARGET: u32 = 3;
    pub(crate) const SOURCE: u32 = 4;
    pub(crate) const PARAMETERS: u32 = 5;
    /// A table of positions or entries, or the explained targets.
    pub(crate) const TABLE: u32 = 6;
    pub(crate) const GIVEN: u32 = 7;
    /// The rows of the second of two products that are summed.
    pub(crate) const ADDEND: u32 = 8;
    /// Operands, then the targets beside the first.
    pub(crate) const OPERANDS: u32 = 9;
}

/// An operand as the templates see it.
#[derive(Debug, Serialize)]
pub(super) struct OperandText {
    name: String,
    binding: u32,
    kind: &'static str,
    of_sample: bool,
    aligned: bool,
}

/// Operands in their order; `aligned` says of each whether its rows begin at multiples of 4.
pub(super) fn operand_texts(operands: &[Beside], aligned: impl Fn(usize) -> bool) -> Vec<OperandText> {
    let text = |(index, beside): (usize, &Beside)| OperandText {
        name: format!("operand_{index}"),
        binding: binding::OPERANDS + index as u32,
        kind: if beside.is_scalar { "scalar" } else { "row" },
        of_sample: beside.of_sample,
        aligned: aligned(index) && !beside.is_scalar,
    };
    operands.iter().enumerate().map(text).collect()
}

impl Kernel {
    /// Renders a template; `bound` are its bindings beside the uniforms, the parameters and the operands.
    ///
    /// # Errors
    /// If the context lacks what the template reads.
    pub(super) fn new(
        label: &'static str,
        template: &str,
        context: impl Serialize,
        bound: &[(u32, Access)],
        writer: &Writer,
        operands: usize,
    ) -> Result<Self> {
        let mut bindings = vec![(binding::STEP, Access::Uniform), (binding::BATCH, Access::Uniform)];
        bindings.extend(bound);
        bindings.extend(writer.has_parameters().then_some((binding::PARAMETERS, Access::Read)));
        bindings.extend((0..operands as u32).map(|index| (binding::OPERANDS + index, Access::Read)));
        bindings.extend(writer.targets().iter().map(|&target| (target, Access::Write)));
        let rendered = templates().get_template(template).and_then(|template| template.render(context));
        let text = rendered.map_err(|error| Error::internal(format!("{template} does not render: {error:#}")))?;
        Ok(Kernel { label, text, bindings })
    }

    /// What the kernel binds, as groups of bindings are made for it.
    pub(crate) fn layout(&self, device: &wgpu::Device) -> wgpu::BindGroupLayout {
        let entry = |&(binding, access): &(u32, Access)| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: match access {
                    Access::Uniform => wgpu::BufferBindingType::Uniform,
                    Access::Read => wgpu::BufferBindingType::Storage { read_only: true },
                    Access::Write => wgpu::BufferBindingType::Storage { read_only: false },
                },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        };
        let entries: Vec<_> = self.bindings.iter().map(entry).collect();
        let descriptor = wgpu::BindGroupLayoutDescriptor { label: Some(self.label), entries: &entries };
        device.create_bind_group_layout(&descriptor)
    }

    /// Compiles the kernel, by what a cache knows if there is one; errors go to the device's error scope.
    pub(crate) fn compile(&self, device: &wgpu::Device, cache: Option<&wgpu::PipelineCache>) -> wgpu::ComputePipeline {
        let label = Some(self.label);
        let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label,
            bind_group_layouts: &[Some(&self.layout(device))],
            immediate_size: 0,
        });
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label,
            source: wgpu::ShaderSource::Wgsl(self.text.as_str().into()),
        });
        device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(&layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                // Every kernel writes its workgroup memory before it reads it; zeroing costs some drivers far more.
                zero_initialize_workgroup_memory: false,
                ..wgpu::PipelineCompilationOptions::default()
            },
            cache,
        })
    }
}

fn templates() -> &'static Environment<'static> {
    static TEMPLATES: OnceLock<Environment<'static>> = OnceLock::new();
    TEMPLATES.get_or_init(|| {
        let mut templates = Environment::new();
        templates.set_undefined_behavior(UndefinedBehavior::Strict);
        templates.set_trim_blocks(true);
        templates.set_lstrip_blocks(true);
        for (name, text) in TEXTS {
            templates.add_template(name, text).expect("the crate's own templates parse, as the tests show");
        }
        templates
    })
}

/// All that the texts of kernels are made from.
pub(crate) fn texts() -> impl Iterator<Item = &'static str> {
    TEXTS.into_iter().map(|(_, text)| text)
}

const TEXTS: [(&str, &str); 17] = [
    ("block.wgsl", include_str!("../../shaders/block.wgsl")),
    ("convolve.wgsl", include_str!("../../shaders/convolve.wgsl")),
    ("elementwise.wgsl", include_str!("../../shaders/elementwise.wgsl")),
    ("few.wgsl", include_str!("../../shaders/few.wgsl")),
    ("free.wgsl", include_str!("../../shaders/free.wgsl")),
    ("lib/chain.wgsl", include_str!("../../shaders/lib/chain.wgsl")),
    ("lib/functions.wgsl", include_str!("../../shaders/lib/functions.wgsl")),
    ("lib/pair.wgsl", include_str!("../../shaders/lib/pair.wgsl")),
    ("lib/part.wgsl", include_str!("../../shaders/lib/part.wgsl")),
    ("lib/slices.wgsl", include_str!("../../shaders/lib/slices.wgsl")),
    ("lib/step.wgsl", include_str!("../../shaders/lib/step.wgsl")),
    ("lib/tile.wgsl", include_str!("../../shaders/lib/tile.wgsl")),
    ("linear.wgsl", include_str!("../../shaders/linear.wgsl")),
    ("reduce.wgsl", include_str!("../../shaders/reduce.wgsl")),
    ("start.wgsl", include_str!("../../shaders/start.wgsl")),
    ("tiled.wgsl", include_str!("../../shaders/tiled.wgsl")),
    ("window.wgsl", include_str!("../../shaders/window.wgsl")),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workgroups_cover_every_cell_within_the_device() {
        for (rows, tile_rows, cells, lanes) in [(1, 1, 1, 1), (3, 32, 7, 1), (5, 1, 75, 64), (1, 128, 2, 1)] {
            let grid = Grid { rows, tile_rows, cells, lanes };
            for most in [1, 2, 7, 8, 65535] {
                for samples in [1, 2, 48, 49, 50, 63, 64, 65, 100_000] {
                    let needed = (samples * rows).div_ceil(tile_rows) * cells;
                    let is_covered = needed.div_ceil(lanes) as u64 <= u64::from(most) * u64::from(most);
                    assert_eq!(grid.fits(samples, most), is_covered, "{grid:?}, {samples} samples, {most}");
                    if is_covered {
                        let (x, y) = grid.workgroups(samples, most);
                        assert!(x <= most && y <= most, "{grid:?}, {samples} samples: {x} x {y} of {most}");
                        assert!(x as usize * y as usize * lanes >= needed, "{grid:?}, {samples} samples: {x} x {y}");
                    }
                }
            }
        }
    }
}
