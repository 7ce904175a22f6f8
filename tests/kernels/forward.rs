//! Batches through dense layers.

use relprop::layers::{Activation, GeluForm};

use super::{Forward, ForwardShape, InputPart, Tile, WEIGHTS, edges};

fn shape(tile: Tile, [rows, inputs, outputs]: [usize; 3]) -> ForwardShape {
    ForwardShape { tile: Some(tile), ..ForwardShape::new(rows, inputs, outputs) }
}

/// Rows, the step along the sum, and columns of each tile.
const EXTENTS: [(Tile, [usize; 3]); 7] = [
    (Tile::Large, [128, 8, 128]),
    (Tile::Medium, [64, 16, 64]),
    (Tile::Small, [32, 16, 32]),
    (Tile::Narrow, [256, 8, 4]),
    (Tile::Few, [8, 256, 16]),
    (Tile::Free, [32, 4, 128]),
    (Tile::Slim, [32, 4, 16]),
];

fn check_edges_of(tile: Tile) {
    for (_, extents) in EXTENTS.into_iter().filter(|(of, _)| *of == tile) {
        for extents in edges(extents) {
            Forward::new(shape(tile, extents)).check();
        }
    }
}

#[test]
fn large_tiles_are_right_at_their_edges() {
    check_edges_of(Tile::Large);
}

#[test]
fn medium_tiles_are_right_at_their_edges() {
    check_edges_of(Tile::Medium);
}

#[test]
fn small_tiles_are_right_at_their_edges() {
    check_edges_of(Tile::Small);
}

#[test]
fn narrow_tiles_are_right_at_their_edges() {
    check_edges_of(Tile::Narrow);
}

#[test]
fn tiles_of_few_rows_are_right_at_their_edges() {
    check_edges_of(Tile::Few);
    for rows in 1..=4 {
        Forward::new(shape(Tile::Few, [rows, 300, 33])).check();
    }
}

#[test]
fn tiles_without_workgroup_memory_are_right_at_their_edges() {
    check_edges_of(Tile::Free);
    // Up to 8 rows are made by other texts.
    for extents in [[1, 9, 129], [2, 4, 128], [8, 5, 127], [9, 8, 128]] {
        Forward::new(shape(Tile::Free, extents)).check();
    }
}

#[test]
fn slim_tiles_are_right_at_their_edges() {
    check_edges_of(Tile::Slim);
    // 128 rows and more, and up to 4 columns, are made by other texts.
    for extents in [[128, 9, 17], [129, 4, 16], [255, 5, 3], [256, 8, 4], [257, 4, 5], [33, 7, 3]] {
        Forward::new(shape(Tile::Slim, extents)).check();
    }
}

#[test]
fn long_sums_are_right() {
    for (index, tile) in Tile::ALL.into_iter().enumerate() {
        Forward::new(shape(tile, [3, 1025 + index, 5])).check();
    }
}

/// Every tile with every part of the weight, each of them with every part of x, with and without a bias.
#[test]
fn parts_of_weight_and_input_are_read() {
    let inputs = [InputPart::Whole, InputPart::Positive, InputPart::Negative, InputPart::Magnitude];
    // With and without rows that begin at multiples of 4.
    let extents = [[7, 10, 13], [8, 12, 16], [5, 12, 13], [6, 9, 20]];
    for (i, tile) in Tile::ALL.into_iter().enumerate() {
        for (j, weight) in WEIGHTS.into_iter().enumerate() {
            let shape = shape(tile, extents[(i + j) % 4]);
            let (input, has_bias) = (inputs[(i + j) % 4], (i + j / 2) % 2 == 0);
            Forward::new(ForwardShape { weight, input, has_bias, ..shape }).check();
        }
    }
}

#[test]
fn every_activation_ends_the_forward_pass() {
    let activations = [
        Activation::Relu,
        Activation::LeakyRelu { slope: 0.1 },
        Activation::LeakyRelu { slope: 1.5 },
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::Gelu(GeluForm::Erf),
        Activation::Gelu(GeluForm::Tanh),
        Activation::Erf,
        Activation::Softplus { beta: 2.0 },
        Activation::Elu { alpha: 0.75 },
        Activation::Selu { alpha: 1.5, gamma: 1.125 },
        Activation::Celu { alpha: 0.5 },
        Activation::Silu { beta: 1.5 },
        Activation::HardSigmoid { slope: 0.25, offset: 0.5 },
        Activation::HardSwish,
        Activation::Mish,
        Activation::Clip { low: -0.5, high: 0.5 },
        Activation::ThresholdedRelu { threshold: -9.0 },
        Activation::Softsign,
        Activation::Abs,
    ];
    let tiles = [Tile::Free, Tile::Small, Tile::Few];
    for (index, activation) in activations.into_iter().enumerate() {
        let shape = shape(tiles[index % 3], [8, 7 + index, 19]);
        Forward::new(ForwardShape { activation: Some(activation), has_bias: index % 2 == 0, ..shape }).check();
    }
}
