//! WGSL kernels, usable without a model.
mod chain;
mod elementwise;
mod kernel;
mod product;
mod reduce;
mod start;
mod step;

pub use product::Tile;
pub(crate) use chain::{Beside, Columns, Op, Operand, Slot};
pub(crate) use elementwise::{Elementwise, Move, Strips};
pub(crate) use kernel::{Dispatch, Grid, Kernel, Access, binding};
pub(crate) use product::{Direction, Product};
pub(crate) use reduce::{Reduce, Reduction};
pub(crate) use start::{Mode, Start};
pub(crate) use step::{Batch, Step};
