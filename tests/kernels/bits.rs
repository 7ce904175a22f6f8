//! What is equal bit by bit, on one device.

use relprop::layers::Activation;

use super::{Epsilon, EpsilonShape, Forward, ForwardShape, InputPart, Mask, Stabilizer, Tile, WEIGHTS, shared};

/// The tiles that add in the order of the summed axis.
const IN_ORDER: [Tile; 6] = [Tile::Large, Tile::Medium, Tile::Small, Tile::Narrow, Tile::Free, Tile::Slim];

fn bits(elements: &[f32]) -> Vec<u32> {
    elements.iter().map(|element| element.to_bits()).collect()
}

fn forward(tile: Tile, [rows, inputs, outputs]: [usize; 3]) -> Forward {
    let shape = ForwardShape {
        tile: Some(tile),
        weight: WEIGHTS[1],
        activation: Some(Activation::Tanh),
        ..ForwardShape::new(rows, inputs, outputs)
    };
    Forward::new(shape)
}

fn epsilon(tile: Tile, [rows, inputs, outputs]: [usize; 3], targets: usize) -> Epsilon {
    let shape = EpsilonShape {
        targets,
        tile: Some(tile),
        weight: WEIGHTS[1],
        mask: Mask::Positive,
        factor: 0.3,
        ..EpsilonShape::new(rows, inputs, outputs)
    };
    Epsilon::new(shape)
}

#[test]
fn tiles_that_add_in_order_agree() {
    for extents in [[37, 69, 70], [33, 68, 72]] {
        let all = IN_ORDER.map(|tile| bits(&forward(tile, extents).run(shared())));
        assert!(all.iter().all(|bits| bits == &all[0]), "forward, {extents:?}");
        let all = IN_ORDER.map(|tile| bits(&epsilon(tile, extents, 2).run(shared())));
        assert!(all.iter().all(|bits| bits == &all[0]), "backward, {extents:?}");
    }
}

/// 2²⁴ and then ones: a one alone vanishes beside 2²⁴, and what a slice sums from zero does not.
#[test]
fn sums_are_made_of_slices() {
    const SLICE: usize = 512;
    for tile in IN_ORDER {
        // Rows of whole vectors and others, for which the tile has texts of their own.
        for (inputs, outputs) in [(2 * SLICE + 6, 5), (2 * SLICE + 8, 4)] {
            let mut row = vec![1.0; inputs];
            row[0] = 16_777_216.0;
            let expected = row[0] + inputs.saturating_sub(SLICE) as f32;
            let forward = Forward {
                shape: ForwardShape { tile: Some(tile), has_bias: false, ..ForwardShape::new(3, inputs, outputs) },
                x: row.repeat(3),
                weight: vec![1.0; inputs * outputs],
                bias: None,
            };
            let what = format!("{tile:?}, {inputs} to {outputs}");
            assert_eq!(forward.run(shared()), vec![expected; 3 * outputs], "forward, {what}");

            let epsilon = Epsilon {
                shape: EpsilonShape {
                    tile: Some(tile),
                    input: InputPart::One,
                    stabilizer: Stabilizer::Clip(1.0),
                    ..EpsilonShape::new(3, outputs, inputs)
                },
                x: vec![1.0; 3 * outputs],
                weight: vec![1.0; inputs * outputs],
                z: vec![1.0; 3 * inputs],
                relevance: row.repeat(3),
            };
            assert_eq!(epsilon.run(shared()), vec![expected; 3 * outputs], "backward, {what}");
        }
    }
}

#[test]
fn runs_repeat() {
    for tile in Tile::ALL {
        let (forward, epsilon) = (forward(tile, [19, 45, 34]), epsilon(tile, [7, 34, 45], 3));
        let kernels = (forward.compile(shared()), epsilon.compile(shared()));
        let run = || (bits(&forward.run_with(&kernels.0, shared())), bits(&epsilon.run_with(&kernels.1, shared())));
        let once = run();
        for _ in 0..2 {
            assert_eq!(once, run(), "{tile:?}");
        }
        // And compiled anew.
        assert_eq!(once.0, bits(&forward.run(shared())), "{tile:?}");
    }
}

/// A sample gives the same among any number of others, though the tile's text depends on how many there are.
#[test]
fn a_sample_does_not_depend_on_its_neighbours() {
    for (tile, counts) in [(Tile::Few, &[1, 2, 3, 4, 8, 11][..]), (Tile::Free, &[1, 8, 9, 40]), (Tile::Small, &[1, 33])]
    {
        let most = *counts.last().unwrap();
        let (inputs, outputs) = (301, 133);
        let whole_forward = forward(tile, [most, inputs, outputs]);
        let whole_epsilon = epsilon(tile, [most, inputs, outputs], 1);
        let (z, result) = (bits(&whole_forward.run(shared())), bits(&whole_epsilon.run(shared())));
        for &count in &counts[..counts.len() - 1] {
            // The last samples: they begin elsewhere than in the whole.
            let from = most - count;
            let mut part = whole_forward.clone();
            part.shape.rows = count;
            part.x = whole_forward.x[from * inputs..].to_vec();
            assert_eq!(bits(&part.run(shared())), z[from * outputs..], "{tile:?} forward, {count} of {most}");
            let mut part = whole_epsilon.clone();
            part.shape.rows = count;
            part.x = whole_epsilon.x[from * inputs..].to_vec();
            part.z = whole_epsilon.z[from * outputs..].to_vec();
            part.relevance = whole_epsilon.relevance[from * outputs..].to_vec();
            assert_eq!(bits(&part.run(shared())), result[from * inputs..], "{tile:?} backward, {count} of {most}");
        }
    }
}
