//! Where the data lies. Every other test too has NaN beside its data and looks beside its results.

use relprop::layers::{Activation, GeluForm};

use super::{
    Device, Epsilon, EpsilonBuffers, EpsilonShape, Forward, ForwardBuffers, ForwardShape, InputPart, Tile, kernels,
    shared,
};

fn forward(tile: Tile, [rows, inputs, outputs]: [usize; 3]) -> Forward {
    Forward::new(ForwardShape { tile: Some(tile), ..ForwardShape::new(rows, inputs, outputs) })
}

fn epsilon(tile: Tile, [rows, inputs, outputs]: [usize; 3]) -> Epsilon {
    Epsilon::new(EpsilonShape { tile: Some(tile), targets: 2, ..EpsilonShape::new(rows, inputs, outputs) })
}

/// The bytes that a kernel asks for are enough: what it reads beyond them the device may replace by anything.
#[test]
fn bindings_may_be_as_small_as_asked_for() {
    for tile in Tile::ALL {
        // Rows that begin anywhere, and rows that begin at multiples of 4.
        for extents in [[3, 7, 13], [3, 8, 12]] {
            let work = forward(tile, extents);
            let kernel = work.compile(shared());
            let [x, weight] = [&work.x, &work.padded()].map(|elements| shared().given(elements));
            let bias = shared().given(work.bias.as_ref().unwrap());
            let z = shared().wanted(extents[0] * extents[2]);
            let found = shared().run(&z, |encoder| {
                let bias = Some(bias.exact());
                let buffers = ForwardBuffers { x: x.exact(), weight: weight.exact(), bias, z: z.exact() };
                kernel.encode(encoder, buffers).unwrap();
            });
            assert_eq!(found, work.run_with(&kernel, shared()), "{tile:?} forward, {extents:?}");

            let work = epsilon(tile, extents);
            let kernel = work.compile(shared());
            let [x, weight, z, relevance] =
                [&work.x, &work.padded(), &work.z, &work.relevance].map(|elements| shared().given(elements));
            let result = shared().wanted(extents[0] * 2 * extents[1]);
            let found = shared().run(&result, |encoder| {
                let buffers = EpsilonBuffers {
                    x: x.exact(),
                    weight: weight.exact(),
                    z: z.exact(),
                    relevance: relevance.exact(),
                    result: result.exact(),
                };
                kernel.encode(encoder, buffers).unwrap();
            });
            assert_eq!(found, work.run_with(&kernel, shared()), "{tile:?} backward, {extents:?}");
        }
    }
}

/// One kernel, encoded twice into one encoder: the second reads what the first wrote.
#[test]
fn a_kernel_is_encoded_again_on_other_buffers() {
    let work = forward(Tile::Small, [5, 9, 9]);
    let kernel = work.compile(shared());
    let [x, weight] = [&work.x, &work.padded()].map(|elements| shared().given(elements));
    let bias = shared().given(work.bias.as_ref().unwrap());
    let (between, z) = (shared().wanted(45), shared().wanted(45));
    let found = shared().run(&z, |encoder| {
        for (x, z) in [(&x, &between), (&between, &z)] {
            let bias = Some(bias.open());
            kernel.encode(encoder, ForwardBuffers { x: x.open(), weight: weight.open(), bias, z: z.open() }).unwrap();
        }
    });
    let once = Forward { x: work.run_with(&kernel, shared()), ..work };
    assert_eq!(found, once.check_with(&kernel, shared()));
}

/// What fills up the rows of a weight takes no part; a caller may have left there what it liked, as long as it is finite.
#[test]
fn the_filling_of_a_weight_takes_no_part() {
    let filled = |weight: Vec<f32>, inputs: usize| -> Vec<f32> {
        let row = inputs.next_multiple_of(4);
        weight.into_iter().enumerate().map(|(at, w)| if at % row < inputs { w } else { 1e9 }).collect()
    };
    for tile in Tile::ALL {
        let work = forward(tile, [9, 6, 13]);
        let kernel = work.compile(shared());
        let (x, weight) = (shared().given(&work.x), shared().given(&filled(work.padded(), 6)));
        let bias = shared().given(work.bias.as_ref().unwrap());
        let z = shared().wanted(9 * 13);
        let found = shared().run(&z, |encoder| {
            let bias = Some(bias.open());
            kernel.encode(encoder, ForwardBuffers { x: x.open(), weight: weight.open(), bias, z: z.open() }).unwrap();
        });
        assert_eq!(found, work.run_with(&kernel, shared()), "{tile:?}");
    }
    assert_eq!(kernels::pad_rows(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3), [1.0, 2.0, 3.0, 0.0, 4.0, 5.0, 6.0, 0.0]);
}

/// Parts and activations hide no NaN: neither the kernel's nor the function's.
#[test]
fn nan_stays_nan() {
    for (input, activation) in [
        (InputPart::Positive, Activation::Relu),
        (InputPart::Negative, Activation::LeakyRelu { slope: 0.1 }),
        (InputPart::Whole, Activation::Sigmoid),
        (InputPart::Whole, Activation::Tanh),
        (InputPart::Whole, Activation::Gelu(GeluForm::Erf)),
        (InputPart::Whole, Activation::Erf),
    ] {
        let shape = ForwardShape { input, activation: Some(activation), ..ForwardShape::new(3, 6, 5) };
        let mut work = Forward::new(shape);
        work.x[7] = f32::NAN;
        let mut z = vec![0.0; 15];
        kernels::linear_forward(&work.shape, &work.x, &work.padded(), work.bias.as_deref(), &mut z);
        for z in [z, work.run(shared())] {
            let is_nan: Vec<bool> = z.iter().map(|z| z.is_nan()).collect();
            assert_eq!(is_nan, [[false; 5], [true; 5], [false; 5]].concat(), "{:?}", work.shape);
        }
    }
    for input in [InputPart::Positive, InputPart::Negative] {
        let mut work = Epsilon::new(EpsilonShape { input, ..EpsilonShape::new(3, 6, 5) });
        work.x[7] = f32::NAN;
        let mut result = vec![0.0; 18];
        kernels::linear_epsilon(&work.shape, &work.x, &work.padded(), &work.z, &work.relevance, &mut result);
        for result in [result, work.run(shared())] {
            assert!(result.iter().enumerate().all(|(at, r)| r.is_nan() == (at == 7)), "{input:?}: {result:?}");
        }
    }
}

/// NaN and infinity stay with their sample.
#[test]
fn a_sample_that_is_not_finite_harms_no_other() {
    for tile in Tile::ALL {
        let clean = forward(tile, [11, 6, 13]);
        let mut ill = clean.clone();
        (ill.x[4 * 6 + 1], ill.x[9 * 6]) = (f32::NAN, f32::INFINITY);
        let kernel = clean.compile(shared());
        let (clean, ill) = (clean.run_with(&kernel, shared()), ill.run_with(&kernel, shared()));
        for (row, (clean, ill)) in clean.chunks(13).zip(ill.chunks(13)).enumerate() {
            match row {
                4 => assert!(ill.iter().all(|z| z.is_nan()), "{tile:?}"),
                9 => assert!(ill.iter().any(|z| !z.is_finite()), "{tile:?}"),
                _ => assert_eq!(clean, ill, "{tile:?}, row {row}"),
            }
        }
        let clean = epsilon(tile, [11, 6, 13]);
        let mut ill = clean.clone();
        // The second target of sample 3.
        ill.relevance[7 * 13 + 12] = f32::NAN;
        let kernel = clean.compile(shared());
        let (clean, ill) = (clean.run_with(&kernel, shared()), ill.run_with(&kernel, shared()));
        for (row, (clean, ill)) in clean.chunks(6).zip(ill.chunks(6)).enumerate() {
            match row {
                7 => assert!(ill.iter().all(|r| r.is_nan()), "{tile:?}"),
                _ => assert_eq!(clean, ill, "{tile:?}, row {row}"),
            }
        }
    }
}

/// More workgroups than one dimension may have: the grid gets a second, and some of its workgroups find nothing to do.
#[test]
fn grids_of_two_dimensions_cover_everything() {
    let narrow = Device::open(|limits| limits.max_compute_workgroups_per_dimension = 7);
    assert_eq!(narrow.device.limits().max_compute_workgroups_per_dimension, 7);
    // 38 to 45 workgroups each, of at most 49.
    let cases = [
        (Tile::Large, [5 * 128 - 1, 5, 7 * 128 + 4], [5 * 128 - 2, 7 * 128 + 4, 5]),
        (Tile::Medium, [5 * 64 - 1, 5, 7 * 64 + 4], [5 * 64 - 2, 7 * 64 + 4, 5]),
        (Tile::Narrow, [5 * 256 - 1, 5, 7 * 4 + 2], [5 * 256 - 2, 7 * 4 + 2, 5]),
        (Tile::Small, [19 * 32 + 5, 9, 33], [19 * 32 - 6, 33, 9]),
        (Tile::Few, [20 * 8 + 5, 9, 17], [20 * 8 - 6, 33, 9]),
        (Tile::Free, [20 * 32 + 5, 9, 129], [20 * 32 - 6, 129, 9]),
        (Tile::Slim, [13 * 128 + 5, 9, 33], [14 * 128 - 6, 33, 9]),
    ];
    for (tile, to, back) in cases {
        let work = forward(tile, to);
        work.check_with(&work.compile(&narrow), &narrow);
        let work = epsilon(tile, [back[0] / 2, back[1], back[2]]);
        work.check_with(&work.compile(&narrow), &narrow);
    }
}
