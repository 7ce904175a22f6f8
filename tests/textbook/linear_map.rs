//! The dense Jacobian of a network of one linear layer, from its forward pass alone.

use relprop::network::Network;
use relprop::reference::forward;

/// z = J x + b over all inputs of the network, one after the other.
pub struct LinearMap {
    /// J, a row an output element.
    pub jacobian: Vec<Vec<f64>>,
    /// b.
    pub offset: Vec<f64>,
}

impl LinearMap {
    /// Sends zeros and every unit vector forward. Exact for dyadic parameters.
    pub fn of(network: &Network) -> Self {
        let sizes: Vec<usize> = network.inputs().iter().map(|input| network.shape(input.value).count()).collect();
        let elements = sizes.iter().sum();
        let run = |x: &[f64]| output(network, &split(x, &sizes));
        let offset = run(&vec![0.0; elements]);
        let mut jacobian = vec![vec![0.0; elements]; offset.len()];
        for column in 0..elements {
            let mut unit = vec![0.0; elements];
            unit[column] = 1.0;
            for ((row, z), b) in jacobian.iter_mut().zip(run(&unit)).zip(&offset) {
                row[column] = z - b;
            }
        }
        LinearMap { jacobian, offset }
    }

    /// J x + b.
    pub fn apply(&self, x: &[f64]) -> Vec<f64> {
        let rows = self.jacobian.iter().zip(&self.offset);
        rows.map(|(row, b)| row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>() + b).collect()
    }

    /// One number for each (output, input) pair, from x_j and w_ij.
    pub fn contributions(&self, x: &[f64], contribution: impl Fn(usize, f64, f64) -> f64) -> Vec<Vec<f64>> {
        let row = |row: &Vec<f64>| row.iter().zip(x).enumerate().map(|(j, (&w, &x))| contribution(j, x, w)).collect();
        self.jacobian.iter().map(row).collect()
    }
}

/// The network's output for one sample.
pub fn output(network: &Network, inputs: &[Vec<f64>]) -> Vec<f64> {
    let inputs: Vec<&[f64]> = inputs.iter().map(Vec::as_slice).collect();
    forward(network, &inputs).unwrap().swap_remove(network.output().index())
}

/// Cuts a list into pieces of the given sizes.
pub fn split(mut x: &[f64], sizes: &[usize]) -> Vec<Vec<f64>> {
    let mut pieces = Vec::new();
    for &size in sizes {
        let (piece, rest) = x.split_at(size);
        pieces.push(piece.to_vec());
        x = rest;
    }
    pieces
}
