//! Layers that only move elements: relevance moves back with its element.

use super::{Given, Step};
use crate::layers::{Concat, Transpose};
use crate::tensor::Tensor;

impl Step<'_> {
    pub(super) fn transpose(&self, transpose: &Transpose) -> Given {
        let mut back = vec![0; transpose.order().len()];
        for (to, &from) in transpose.order().iter().enumerate() {
            back[from] = to;
        }
        let shape = self.network.shape(self.node.output).clone();
        let arriving = Tensor::new(shape, self.arriving.to_vec()).expect("relevance has its value's shape");
        Given { shares: vec![arriving.transpose(&back).into_data()], sums: None }
    }

    pub(super) fn concat(&self, concat: &Concat) -> Given {
        let shapes = self.node.inputs.iter().map(|&input| self.network.shape(input));
        let widths: Vec<usize> = shapes.map(|shape| shape.dims()[concat.axis()..].iter().product()).collect();
        let total: usize = widths.iter().sum();
        let mut from = 0;
        let mut shares = Vec::new();
        for width in widths {
            shares.push(self.arriving.chunks_exact(total).flat_map(|row| &row[from..from + width]).copied().collect());
            from += width;
        }
        Given { shares, sums: None }
    }
}
