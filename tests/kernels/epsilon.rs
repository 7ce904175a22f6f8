//! Relevance back through dense layers.

use super::{Epsilon, EpsilonShape, InputPart, Mask, Stabilizer, Tile, WEIGHTS, edges, shared};

/// A tile for `rows` of relevance, sums over `outputs`, and columns that are inputs.
fn shape(tile: Tile, [rows, outputs, inputs]: [usize; 3]) -> EpsilonShape {
    EpsilonShape { tile: Some(tile), ..EpsilonShape::new(rows, inputs, outputs) }
}

/// As for the forward pass; only the tile of few rows is cut otherwise.
const EXTENTS: [(Tile, [usize; 3]); 7] = [
    (Tile::Large, [128, 8, 128]),
    (Tile::Medium, [64, 16, 64]),
    (Tile::Small, [32, 16, 32]),
    (Tile::Narrow, [256, 8, 4]),
    (Tile::Few, [8, 128, 32]),
    (Tile::Free, [32, 4, 128]),
    (Tile::Slim, [32, 4, 16]),
];

fn check_edges_of(tile: Tile) {
    for (_, extents) in EXTENTS.into_iter().filter(|(of, _)| *of == tile) {
        for extents in edges(extents) {
            Epsilon::new(shape(tile, extents)).check();
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
        Epsilon::new(shape(Tile::Few, [rows, 300, 33])).check();
    }
}

#[test]
fn tiles_without_workgroup_memory_are_right_at_their_edges() {
    check_edges_of(Tile::Free);
    // Up to 8 rows are made by other texts.
    for extents in [[1, 9, 129], [2, 4, 128], [8, 5, 127], [9, 8, 128]] {
        Epsilon::new(shape(Tile::Free, extents)).check();
    }
}

#[test]
fn slim_tiles_are_right_at_their_edges() {
    check_edges_of(Tile::Slim);
    // 128 rows and more, and up to 4 columns, are made by other texts.
    for extents in [[128, 9, 17], [129, 4, 16], [255, 5, 3], [256, 8, 4], [257, 4, 5], [33, 7, 3]] {
        Epsilon::new(shape(Tile::Slim, extents)).check();
    }
}

#[test]
fn long_sums_are_right() {
    for (index, tile) in Tile::ALL.into_iter().enumerate() {
        Epsilon::new(shape(tile, [3, 1025 + index, 5])).check();
    }
}

/// Every tile with every part of the weight, each of them with every part of x and every mask.
#[test]
fn parts_of_weight_and_input_are_read() {
    let inputs = [InputPart::Whole, InputPart::Positive, InputPart::Negative, InputPart::Magnitude, InputPart::One];
    let masks = [Mask::Everywhere, Mask::Positive, Mask::Negative];
    let stabilizers = [Stabilizer::DEFAULT, Stabilizer::Clip(0.25), Stabilizer::Absolute(0.25), Stabilizer::Clip(1e-6)];
    // With and without rows that begin at multiples of 4.
    let extents = [[7, 10, 13], [8, 12, 16], [5, 12, 13], [6, 9, 20]];
    for (i, tile) in Tile::ALL.into_iter().enumerate() {
        for (j, weight) in WEIGHTS.into_iter().enumerate() {
            let shape = shape(tile, extents[(i + j) % 4]);
            let (input, mask, stabilizer) = (inputs[(i + 2 * j) % 5], masks[(i + j) % 3], stabilizers[(i + j / 2) % 4]);
            let factor = [1.0, -0.75][j % 2];
            Epsilon::new(EpsilonShape { weight, input, mask, stabilizer, factor, ..shape }).check();
        }
    }
}

/// Row sample · K + target reads x and z of its sample.
#[test]
fn several_targets_share_a_sample() {
    for (index, tile) in Tile::ALL.into_iter().enumerate() {
        for targets in [2, 3] {
            // The second has more rows than a tile of 8 or 32, and samples that two tiles share.
            let extents = [[5, 12, 10], [15, 9, 12]][(index + targets) % 2];
            Epsilon::new(EpsilonShape { targets, ..shape(tile, extents) }).check();
        }
    }
}

/// What arrives at an output that is exactly 0 goes nowhere without an ε, and by a mask for either sign.
#[test]
fn outputs_of_zero_give_nothing() {
    let shape = shape(Tile::Small, [2, 6, 5]);
    let zero = Stabilizer::Absolute(0.0);
    let variants = [
        EpsilonShape { stabilizer: zero, ..shape.clone() },
        EpsilonShape { stabilizer: Stabilizer::Clip(0.0), ..shape.clone() },
        EpsilonShape { mask: Mask::Positive, ..shape.clone() },
        EpsilonShape { mask: Mask::Negative, stabilizer: zero, ..shape },
    ];
    for tile in [Tile::Small, Tile::Few, Tile::Free] {
        for shape in &variants {
            let mut work = Epsilon::new(EpsilonShape { tile: Some(tile), ..shape.clone() });
            let kernel = work.compile(shared());
            work.z.fill(0.0);
            work.z[3] = -0.0;
            assert!(work.check_with(&kernel, shared()).iter().all(|&r| r == 0.0), "{:?}", work.shape);
            // The other outputs still give theirs.
            work.z[1] = 0.5;
            work.z[2] = -0.5;
            assert!(work.check_with(&kernel, shared()).iter().any(|&r| r != 0.0), "{:?}", work.shape);
        }
    }
}
