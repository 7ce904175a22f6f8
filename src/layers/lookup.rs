//! Lookup: rows of a constant table picked by an integer input (an embedding). Relevance stops here.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::tensor::{Shape, Tensor};

/// y = `table[x]` for integer x: each position of the input is replaced by a row of the table.
#[derive(Debug, Clone)]
pub struct Lookup {
    table: Arc<Tensor>,
}

impl Lookup {
    /// A lookup in `table`, `[entries, …row]`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) if the table has no axis or no entry.
    pub fn new(table: impl Into<Arc<Tensor>>) -> Result<Self> {
        let table = table.into();
        if table.shape().rank() == 0 || table.count() == 0 {
            return Err(Error::shape(format!("a lookup table of shape {} has no entries", table.shape())));
        }
        Ok(Lookup { table })
    }

    /// The table, `[entries, …row]`.
    pub fn table(&self) -> &Arc<Tensor> {
        &self.table
    }

    /// The number of entries; a negative index counts from the end, as ONNX has it.
    pub fn entries(&self) -> usize {
        self.table.rows()
    }

    pub(super) fn output_shape(&self, input: &Shape) -> Shape {
        let mut dims = input.dims().to_vec();
        dims.extend_from_slice(&self.table.shape().dims()[1..]);
        Shape::new(dims)
    }
}
