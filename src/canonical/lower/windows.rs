//! Windows from the numbers that a model states: every one checked, since a file may hold anything.

use super::Lowering;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{Node, Padding, Sliding};
use crate::layers::{Window, WindowAxis};

/// Kernels, strides, dilations and pads beyond what any real model has.
const MOST: i64 = 1 << 24;

/// One axis of a window before its padding is known.
#[derive(Clone, Copy)]
pub(super) struct Stated {
    pub kernel: i64,
    pub stride: i64,
    pub dilation: i64,
    /// What the model states around the input.
    pub pads: (i64, i64),
}

impl Stated {
    /// The positions from the window's first to its last.
    pub fn span(&self) -> i64 {
        self.dilation * (self.kernel - 1) + 1
    }

    pub fn axis(&self, (before, after): (i64, i64), overhang: i64) -> Result<WindowAxis> {
        let number =
            |number: i64| usize::try_from(number).map_err(|_| Error::internal("a window's number is negative"));
        Ok(WindowAxis {
            kernel: number(self.kernel)?,
            stride: number(self.stride)?,
            dilation: number(self.dilation)?,
            before: number(before)?,
            after: number(after)?,
            overhang: number(overhang)?,
        })
    }
}

impl Lowering<'_> {
    /// The numbers of a window of `kernel` positions, checked, one for each spatial axis.
    pub(super) fn stated(&self, node: &Node, sliding: &Sliding, kernel: &[usize]) -> Result<Vec<Stated>> {
        let axes = kernel.len();
        let numbers = |name: &str, given: &Option<Vec<i64>>, count: usize, default: i64, least: i64| {
            let numbers = given.clone().unwrap_or_else(|| vec![default; count]);
            let fits = numbers.len() == count && numbers.iter().all(|number| (least..=MOST).contains(number));
            if fits { Ok(numbers) } else { Err(misfit(node, name, &numbers, count, least)) }
        };
        let held: Vec<i64> = kernel.iter().map(|&extent| i64::try_from(extent).unwrap_or(i64::MAX)).collect();
        let kernel = numbers("kernel_shape", &Some(held), axes, 1, 1)?;
        let strides = numbers("strides", &sliding.strides, axes, 1, 1)?;
        let dilations = numbers("dilations", &sliding.dilations, axes, 1, 1)?;
        let pads = match &sliding.padding {
            Padding::Explicit(pads) => numbers("pads", pads, 2 * axes, 0, 0)?,
            Padding::SameUpper | Padding::SameLower | Padding::Valid => vec![0; 2 * axes],
        };
        let stated = |axis: usize| Stated {
            kernel: kernel[axis],
            stride: strides[axis],
            dilation: dilations[axis],
            pads: (pads[axis], pads[axes + axis]),
        };
        Ok((0..axes).map(stated).collect())
    }

    /// The window that slides over spatial axes of `extents`.
    pub(super) fn window(&self, node: &Node, sliding: &Sliding, kernel: &[usize], extents: &[usize]) -> Result<Window> {
        let stated = self.stated(node, sliding, kernel)?;
        let axes = stated.iter().zip(extents).map(|(axis, &extent)| {
            let extent = i64::try_from(extent).map_err(|_| Error::internal("an extent beyond 63 bits"))?;
            let pads = padding(axis, &sliding.padding, extent);
            let room = extent + pads.0 + pads.1 - axis.span();
            let overhang = if sliding.ceil { overhang(axis, extent, pads, room) } else { 0 };
            if room + overhang < 0 {
                let (kernel, dilation) = (axis.kernel, axis.dilation);
                return Err(Error::shape(format!(
                    "a window of {kernel} positions at distances of {dilation} does not fit an axis of {extent} positions \
                     with padding of {} and {}",
                    pads.0, pads.1
                ))
                .help("check the extents that the model declares for its inputs"));
            }
            axis.axis(pads, overhang)
        });
        Window::new(axes.collect::<Result<_>>()?)
    }
}

fn misfit(node: &Node, name: &str, numbers: &[i64], count: usize, least: i64) -> Error {
    let few = numbers.len() == count && name == "pads" && numbers.iter().any(|&number| number < 0);
    let (kind, help) = if few {
        (ErrorKind::Unsupported, "cut the input with a Slice node instead of negative padding")
    } else {
        (ErrorKind::Malformed, "the file is damaged or was edited by hand; export the model again")
    };
    let message =
        format!("the attribute {name} is {numbers:?}; it needs {count} numbers from {least} to {MOST} in a window");
    Error::new(kind, message).at(node.place()).help(help)
}

/// What stands before and behind an input of `extent`.
fn padding(axis: &Stated, padding: &Padding, extent: i64) -> (i64, i64) {
    let outputs = (extent + axis.stride - 1) / axis.stride;
    let missing = ((outputs - 1) * axis.stride + axis.span() - extent).max(0);
    match padding {
        Padding::Explicit(_) => axis.pads,
        Padding::SameUpper => (missing / 2, missing - missing / 2),
        Padding::SameLower => (missing - missing / 2, missing / 2),
        Padding::Valid => (0, 0),
    }
}

/// How far the last window reaches beyond the padding in ceil mode.
///
/// As in PyTorch and ONNX, a window that would start behind the input is left out, although it would touch padding.
fn overhang(axis: &Stated, extent: i64, (before, _): (i64, i64), room: i64) -> i64 {
    let mut steps = (room + axis.stride - 1).div_euclid(axis.stride);
    if steps * axis.stride >= extent + before {
        steps -= 1;
    }
    (steps * axis.stride - room).max(0)
}
