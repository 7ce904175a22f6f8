//! What a dispatch is told: the uniforms of every kernel.

use bytemuck::{Pod, Zeroable};

/// How many numbers a chain may hold.
pub(crate) const NUMBERS: usize = 32;
/// How many parameters a chain may read.
pub(crate) const PARAMETERS: usize = 16;

/// The `Step` of `shaders/lib/step.wgsl`, field by field.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable, Default)]
pub(crate) struct Step {
    pub depth: u32,
    pub width: u32,
    pub first: u32,
    pub columns: u32,
    pub stride: u32,
    pub rows: u32,
    pub parts: u32,
    pub targets: u32,
    pub positive: f32,
    pub negative: f32,
    pub entries: u32,
    pub unused: u32,
    pub geometry: [[u32; 4]; 2],
    pub offsets: [u32; PARAMETERS],
    pub numbers: [f32; NUMBERS],
}

/// The `Batch` of `shaders/lib/step.wgsl`, as large as a uniform buffer must be.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable, Default)]
pub(crate) struct Batch {
    pub samples: u32,
    pub start: u32,
    pub is_ranked: u32,
    pub unused: u32,
}
