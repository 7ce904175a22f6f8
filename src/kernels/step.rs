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
    pub units: u32,
    pub added_positive: f32,
    pub added_negative: f32,
    pub slice: u32,
    pub unused: u32,
    pub geometry: [[u32; 4]; 2],
    pub window: [[i32; 4]; 7],
    pub offsets: [u32; PARAMETERS],
    pub periods: [u32; PARAMETERS],
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

/// Where a parameter lies beside others, and after how many columns it repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub offset: u32,
    pub period: u32,
}

impl Step {
    /// Tells where parameters lie.
    pub(super) fn place(&mut self, places: &[Place]) {
        for (index, place) in places.iter().enumerate() {
            self.offsets[index] = place.offset;
            self.periods[index] = place.period;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    /// The name, offset and size of every member of a struct of `shaders/lib/step.wgsl`, and the struct's size.
    fn members(name: &str) -> (Vec<(String, usize, usize)>, usize) {
        // The head of the text is no template.
        let text = include_str!("../../shaders/lib/step.wgsl").split("fn rows").next().unwrap();
        let module = naga::front::wgsl::parse_str(text).unwrap();
        let mut layouter = naga::proc::Layouter::default();
        layouter.update(module.to_ctx()).unwrap();
        let (_, found) = module.types.iter().find(|(_, known)| known.name.as_deref() == Some(name)).unwrap();
        let naga::TypeInner::Struct { members, span } = &found.inner else { panic!("{name} is a struct") };
        let of = |member: &naga::StructMember| {
            (member.name.clone().unwrap(), member.offset as usize, layouter[member.ty].size as usize)
        };
        (members.iter().map(of).collect(), *span as usize)
    }

    /// The name, offset and size of fields.
    macro_rules! fields {
        ($of:ty: $($field:ident),+) => {
            vec![$((stringify!($field).to_owned(), offset_of!($of, $field), size_of_val(&<$of>::default().$field))),+]
        };
    }

    #[test]
    fn uniforms_lie_as_the_kernels_read_them() {
        let fields = fields!(
            Step: depth, width, first, columns, stride, rows, parts, targets, positive, negative, entries, units,
                added_positive, added_negative, slice, unused, geometry, window, offsets, periods, numbers
        );
        assert_eq!(members("Step"), (fields, size_of::<Step>()));
        let (members, size) = members("Batch");
        assert_eq!(members, fields!(Batch: samples, start, is_ranked));
        // A uniform buffer is as large as whole vectors.
        assert_eq!(size.next_multiple_of(16), size_of::<Batch>());
    }
}
