//! Resizing as one map an axis: nearest neighbours pick, linear interpolation weighs two neighbours.
//!
//! Positions are calculated in float32, as onnxruntime does: where one falls between two neighbours, the last bit
//! decides which is the nearest.

use super::{Act, Extent, Fact, Lowering};
use crate::canonical::extent;
use crate::error::{Error, Result};
use crate::graph::{Coordinates, Interpolation, Node, Policy, Resize, Rounding, Scales};
use crate::layers::{AxisMap, AxisMapKind};

/// One axis that changes.
struct Resized {
    axis: usize,
    inputs: usize,
    outputs: usize,
    scale: f32,
}

impl Lowering<'_> {
    pub(super) fn resize(&mut self, node: &Node, resize: &Resize) -> Result<Fact> {
        let mut x = self.activation(node, 0)?;
        let axes = match &resize.axes {
            None => (0..x.dims.len()).collect::<Vec<_>>(),
            Some(axes) => axes.iter().map(|&axis| self.axis(node, axis, &x.dims)).collect::<Result<_>>()?,
        };
        for resized in self.resized_axes(node, resize, &x, &axes)? {
            let Resized { axis, inputs, outputs, .. } = resized;
            self.reserve(outputs.saturating_mul(2))?;
            let sources: Vec<Vec<(usize, f32)>> =
                (0..outputs).map(|output| sources(resize, &resized, output)).collect();
            let moved = sources.iter().enumerate().any(|(output, source)| source[..] != [(output, 1.0)]);
            if moved || inputs != outputs {
                x = self.mapped(node, "", &x, axis, outputs, |sample_axis| {
                    AxisMap::new(AxisMapKind::Resize, sample_axis, inputs, sources)
                })?;
            }
        }
        Ok(Fact::Activation(x))
    }

    /// The axes that change, from factors or extents.
    fn resized_axes(&self, node: &Node, resize: &Resize, x: &Act, axes: &[usize]) -> Result<Vec<Resized>> {
        let extents = match resize.scales {
            Scales::Input(slot) => self.optional_integers(node, slot + 1)?.filter(|extents| !extents.is_empty()),
            Scales::Attribute(_) => None,
        };
        if let Some(extents) = extents {
            return self.axes_by_extents(node, resize, x, axes, &extents);
        }
        let scales = match &resize.scales {
            Scales::Attribute(scales) => scales.clone(),
            Scales::Input(slot) => match self.optional(node, *slot)? {
                Some(Fact::Float(scales)) => scales.data().to_vec(),
                _ => return Err(self.unsupported(node, "needs constant factors, or extents that the shapes give")),
            },
        };
        if scales.len() != axes.len() {
            return Err(self.unsupported(node, &format!("by {} factors for {} axes", scales.len(), axes.len())));
        }
        let mut resized = Vec::new();
        for (&axis, &scale) in axes.iter().zip(&scales).filter(|&(_, &scale)| scale != 1.0) {
            let inputs = self.length(node, x, axis)?;
            let outputs = inputs as f32 * scale;
            if !(1.0..=1e9).contains(&outputs) {
                return Err(Error::shape(format!(
                    "a factor of {scale} does not fit axis {axis} of {inputs} positions"
                ))
                .help("the file is damaged or was edited by hand; export the model again"));
            }
            resized.push(Resized { axis, inputs, outputs: outputs as usize, scale });
        }
        Ok(resized)
    }

    fn axes_by_extents(
        &self,
        node: &Node,
        resize: &Resize,
        x: &Act,
        axes: &[usize],
        extents: &[Extent],
    ) -> Result<Vec<Resized>> {
        if extents.len() != axes.len() {
            return Err(self.unsupported(node, &format!("to {} extents for {} axes", extents.len(), axes.len())));
        }
        let mut target = x.dims.clone();
        // The batch is never resized: an extent for it is the batch size of the export.
        let wanted = axes.iter().zip(extents).filter(|&(&axis, _)| !x.dims[axis].is_batch());
        wanted.for_each(|(&axis, &extent)| target[axis] = extent);
        let mut resized = Vec::new();
        for &axis in axes.iter().filter(|&&axis| target[axis] != x.dims[axis]) {
            let inputs = self.length(node, x, axis)?;
            let outputs = target[axis].known().and_then(|extent| usize::try_from(extent).ok());
            let Some(outputs @ 1..) = outputs else {
                return Err(self.unsupported(node, &format!("to {}", extent::show(&target))));
            };
            resized.push(Resized { axis, inputs, outputs, scale: outputs as f32 / inputs as f32 });
        }
        let scales = || resized.iter().map(|axis| axis.scale);
        let common = match resize.policy {
            Policy::Stretch => return Ok(resized),
            Policy::NotLarger => scales().fold(f32::INFINITY, f32::min),
            Policy::NotSmaller => scales().fold(0.0, f32::max),
        };
        for axis in &mut resized {
            axis.scale = common;
            axis.outputs = ((axis.inputs as f32 * common).round() as usize).max(1);
        }
        Ok(resized)
    }
}

/// Positions and weights of the inputs that one output sums.
fn sources(resize: &Resize, axis: &Resized, output: usize) -> Vec<(usize, f32)> {
    let last = axis.inputs - 1;
    let at = coordinate(resize.coordinates, axis, output);
    match resize.interpolation {
        Interpolation::Nearest(rounding) => {
            vec![(nearest(rounding, at, axis.scale < 1.0).min(last as f32) as usize, 1.0)]
        }
        Interpolation::Linear => {
            let at = at.clamp(0.0, last as f32);
            let lower = (at as usize).min(last);
            let share = at - lower as f32;
            if lower == last || share == 0.0 {
                vec![(lower, 1.0)]
            } else {
                vec![(lower, 1.0 - share), (lower + 1, share)]
            }
        }
    }
}

/// Where an output's position lies in the input.
fn coordinate(coordinates: Coordinates, axis: &Resized, output: usize) -> f32 {
    let (x, scale, inputs) = (output as f32, axis.scale, axis.inputs as f32);
    match coordinates {
        Coordinates::HalfPixel => (x + 0.5) / scale - 0.5,
        Coordinates::HalfPixelSymmetric => {
            let adjustment = axis.outputs as f32 / (scale * inputs);
            let offset = inputs / 2.0 * (1.0 - adjustment);
            offset + (x + 0.5) / scale - 0.5
        }
        Coordinates::PytorchHalfPixel if axis.outputs == 1 => 0.0,
        Coordinates::PytorchHalfPixel => (x + 0.5) / scale - 0.5,
        Coordinates::TfHalfPixelForNearest => (x + 0.5) / scale,
        Coordinates::Asymmetric => x / scale,
        Coordinates::AlignCorners if axis.outputs == 1 => 0.0,
        Coordinates::AlignCorners => x * (inputs - 1.0) / (axis.outputs as f32 - 1.0),
    }
}

fn nearest(rounding: Rounding, at: f32, shrinks: bool) -> f32 {
    let near = match rounding {
        // Halves go down.
        Rounding::PreferFloor => (at - 0.5).ceil(),
        Rounding::PreferCeil => (at + 0.5).floor(),
        Rounding::Floor => at.floor(),
        Rounding::Ceil => at.ceil(),
        Rounding::Simple if shrinks => at.ceil(),
        Rounding::Simple => at.floor(),
    };
    near.max(0.0)
}
