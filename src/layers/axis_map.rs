//! Maps along one axis: slices, gathers, padding, expansion and resizing.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::tensor::Shape;

/// Each position along an axis is a weighted sum of input positions along it: none (zero padding), one of weight 1
/// (slices, gathers, nearest neighbours) or several (linear interpolation).
#[derive(Debug, Clone, PartialEq)]
pub struct AxisMap {
    kind: AxisMapKind,
    axis: usize,
    inputs: usize,
    sources: Arc<Vec<Vec<(usize, f32)>>>,
}

/// What an [`AxisMap`] is in the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AxisMapKind {
    /// A part of the axis.
    Slice,
    /// Chosen positions.
    Gather,
    /// Positions added around.
    Pad,
    /// One position repeated.
    Expand,
    /// Interpolation.
    Resize,
}

impl AxisMapKind {
    /// The name as composites and reports use it.
    pub fn name(self) -> &'static str {
        match self {
            AxisMapKind::Slice => "slice",
            AxisMapKind::Gather => "gather",
            AxisMapKind::Pad => "pad",
            AxisMapKind::Expand => "expand",
            AxisMapKind::Resize => "resize",
        }
    }
}

impl AxisMap {
    /// A map along `axis` of the sample, which has `inputs` positions; `sources` holds position and weight of what
    /// each output position sums.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) if there is no output or a source lies outside the axis.
    pub fn new(kind: AxisMapKind, axis: usize, inputs: usize, sources: Vec<Vec<(usize, f32)>>) -> Result<Self> {
        if sources.is_empty() {
            return Err(Error::shape(format!("nothing is left of axis {axis}")));
        }
        if let Some((outside, _)) = sources.iter().flatten().find(|(source, _)| *source >= inputs) {
            return Err(Error::shape(format!("position {outside} is outside axis {axis} of {inputs} positions")));
        }
        Ok(AxisMap { kind, axis, inputs, sources: Arc::new(sources) })
    }

    /// A map that takes one input position for each output position, or zero where there is none.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn picking(
        kind: AxisMapKind,
        axis: usize,
        inputs: usize,
        picked: impl IntoIterator<Item = Option<usize>>,
    ) -> Result<Self> {
        let sources = picked.into_iter().map(|source| source.map(|source| (source, 1.0)).into_iter().collect());
        AxisMap::new(kind, axis, inputs, sources.collect())
    }

    /// What it is in the model.
    pub fn kind(&self) -> AxisMapKind {
        self.kind
    }

    /// The axis of the sample.
    pub fn axis(&self) -> usize {
        self.axis
    }

    /// Positions of the input along the axis.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Position and weight of what each output position sums.
    pub fn sources(&self) -> &Arc<Vec<Vec<(usize, f32)>>> {
        &self.sources
    }

    /// Output position and weight of what each input position gives to: the map back.
    pub fn targets(&self) -> Vec<Vec<(usize, f32)>> {
        let mut targets = vec![Vec::new(); self.inputs];
        for (output, sources) in self.sources.iter().enumerate() {
            for &(source, weight) in sources {
                targets[source].push((output, weight));
            }
        }
        targets
    }

    /// Whether each output position takes one input position as it is, or none.
    pub fn is_picking(&self) -> bool {
        self.sources.iter().all(|sources| matches!(sources[..], [] | [(_, 1.0)]))
    }

    /// Whether every output is at least 0 where every input is.
    pub fn keeps_nonnegative(&self) -> bool {
        self.sources.iter().flatten().all(|(_, weight)| *weight >= 0.0)
    }

    pub(super) fn output_shape(&self, input: &Shape) -> Result<Shape> {
        if input.dims().get(self.axis) != Some(&self.inputs) {
            return Err(Error::shape(format!(
                "a map of {} positions along axis {} does not fit an input of shape {input}",
                self.inputs, self.axis
            )));
        }
        let mut dims = input.dims().to_vec();
        dims[self.axis] = self.sources.len();
        Ok(Shape::new(dims))
    }
}
