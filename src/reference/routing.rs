//! Layers that move elements: relevance moves back with its element, in the share that interpolation gave it.

use super::connections::each_connection;
use super::window::winners;
use super::{Given, Step};
use crate::layers::{Concat, MaxPool, Transpose};
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

    pub(super) fn max_pool(&self, pool: &MaxPool) -> Given {
        let x = self.input(0);
        let (input, output) = (self.network.shape(self.node.inputs[0]), self.network.shape(self.node.output));
        let mut share = vec![0.0; x.len()];
        for (winner, r) in winners(pool, input, output, x).into_iter().zip(self.arriving) {
            if let Some(winner) = winner {
                share[winner] += r;
            }
        }
        Given { shares: vec![share], sums: None }
    }

    pub(super) fn axis_map(&self) -> Given {
        let mut share = vec![0.0; self.input(0).len()];
        each_connection(self.network, self.node, |i, _, j, w| share[j] += w * self.arriving[i]);
        Given { shares: vec![share], sums: None }
    }
}
