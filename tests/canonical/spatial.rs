//! Operators of images, sequences and volumes on graphs made in code: what fixtures of whole models do not reach.

use approx::assert_abs_diff_eq;
use relprop::canonical::{Options, canonicalize};
use relprop::graph::{
    Constant, Coordinates, Dim, Interpolation, Op, PadMode, Padding, Policy, Reduction, Resize, Rounding, Scales,
    Sliding,
};
use relprop::network::BatchAxis;
use relprop::{Error, ErrorKind, Tensor};

use crate::writer::{ADD, MUL, RELU, Writer, numbers};
use crate::{kinds, run};

fn wide(count: usize) -> Vec<f64> {
    numbers(count).into_iter().map(f64::from).collect()
}

/// What one node makes of x (a sample of `dims`), of which `op` is given the constants that `inputs` adds.
fn applied(dims: &[usize], op: &Op, inputs: impl Fn(&mut Writer) -> Vec<relprop::graph::ValueId>) -> Vec<f64> {
    let mut graph = Writer::default();
    let x = graph.samples("x", dims);
    let all = [vec![x], inputs(&mut graph)].concat();
    let output = graph.node("output", op.clone(), &all);
    run(&graph.network(output), &wide(dims.iter().product()))
}

#[test]
fn every_set_of_axes_is_reduced_to_what_it_holds() {
    let dims = [2, 3, 2, 3, 2];
    let count: usize = dims.iter().product();
    let x = wide(count);
    for set in 1..32_usize {
        let axes: Vec<usize> = (0..5).filter(|axis| set >> axis & 1 == 1).collect();
        for (reduction, keep_axes) in [(Reduction::Mean, true), (Reduction::Sum, false), (Reduction::Max, false)] {
            let op = Op::Reduce { reduction, keep_axes, empty_is_none: false };
            // The batch is axis 0 of the model's tensor; half of the axes count from the end.
            let named: Vec<i64> =
                axes.iter().map(|&axis| if axis % 2 == 0 { axis as i64 + 1 } else { axis as i64 - 5 }).collect();
            let found = applied(&dims, &op, |graph| vec![graph.integers(&named)]);
            let mut groups: std::collections::BTreeMap<Vec<usize>, Vec<f64>> = Default::default();
            for (index, &value) in x.iter().enumerate() {
                let mut rest = index;
                let mut place = [0; 5];
                for axis in (0..5).rev() {
                    place[axis] = rest % dims[axis];
                    rest /= dims[axis];
                }
                let kept = (0..5).filter(|axis| !axes.contains(axis)).map(|axis| place[axis]).collect();
                groups.entry(kept).or_default().push(value);
            }
            let wanted: Vec<f64> = groups
                .values()
                .map(|group| match reduction {
                    Reduction::Mean => group.iter().sum::<f64>() / group.len() as f64,
                    Reduction::Sum => group.iter().sum(),
                    Reduction::Max => group.iter().copied().fold(f64::MIN, f64::max),
                    Reduction::Norm { p } => {
                        group.iter().map(|x| x.abs().powi(p as i32)).sum::<f64>().powf(1.0 / p as f64)
                    }
                })
                .collect();
            assert_abs_diff_eq!(found[..], wanted[..], epsilon = 1e-6);
        }
    }
}

#[test]
fn a_reduction_over_no_axes_is_one_over_all_or_none() {
    let mut graph = Writer::default();
    let x = graph.samples("x", &[2, 3]);
    let z = graph.node("z", RELU, &[x]);
    let op = |empty_is_none| Op::Reduce { reduction: Reduction::Mean, keep_axes: true, empty_is_none };
    let output = graph.node("output", op(true), &[z]);
    assert_eq!(kinds(&graph.network(output)), ["relu"]);
    let mut graph = Writer::default();
    let x = graph.input("x", &[Dim::Fixed(4)]);
    let output = graph.node("output", op(false), &[x]);
    assert_abs_diff_eq!(run(&graph.network(output), &[1.0, 2.0, 3.0, 6.0])[..], [3.0][..], epsilon = 1e-6);
}

#[test]
fn what_mixes_the_batch_is_named() {
    let over_batch = |op: Op, integers: &[i64]| {
        let mut graph = Writer::default();
        let x = graph.samples("x", &[2, 3]);
        let integers = graph.integers(integers);
        let mixed = graph.node("mixed", op, &[x, integers]);
        // What follows is refused too, so that the whole model is no way out.
        let output = graph.node("output", Op::Pow, &[mixed, mixed]);
        canonicalize(&graph.graph(output), &Options::default())
    };
    let reduce = Op::Reduce { reduction: Reduction::Sum, keep_axes: true, empty_is_none: false };
    for (op, integers) in [(reduce, vec![0]), (Op::Tile, vec![2, 1, 1]), (Op::Gather { axis: 0 }, vec![0])] {
        let error = over_batch(op, &integers).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.node().is_some() && error.advice().is_some(), "{error}");
    }
}

/// Rows merged into the batch stay rows of their sample: each is convolved and pooled alone.
#[test]
fn rows_in_front_of_the_channels_are_convolved_one_by_one() {
    let mut graph = Writer::default();
    let x = graph.samples("x", &[3, 2, 4, 5]);
    let merged = graph.integers(&[-1, 2, 4, 5]);
    let split = graph.integers(&[-1, 3, 2, 1, 2]);
    let (weight, bias) = (graph.numbers(&[2, 1, 3, 2]), graph.numbers(&[2]));
    let rows = graph.node("rows", Op::Reshape { zero_copies: true }, &[x, merged]);
    let sliding = Sliding { strides: Some(vec![1, 2]), ..Sliding::default() };
    let z = graph.node("z", Op::Conv { sliding, groups: 2 }, &[rows, weight, bias]);
    let pool = Sliding { kernel: Some(vec![2, 1]), ..Sliding::default() };
    let pooled = graph.node("pooled", Op::MaxPool(pool.clone()), &[z]);
    let output = graph.node("output", Op::Reshape { zero_copies: true }, &[pooled, split]);
    let network = graph.network(output);
    assert_eq!(network.batch(), BatchAxis::Leading);
    let mut alone = Writer::default();
    let x = alone.samples("x", &[2, 4, 5]);
    let (weight, bias) = (alone.numbers(&[2, 1, 3, 2]), alone.numbers(&[2]));
    let sliding = Sliding { strides: Some(vec![1, 2]), ..Sliding::default() };
    let z = alone.node("z", Op::Conv { sliding, groups: 2 }, &[x, weight, bias]);
    let output = alone.node("pooled", Op::MaxPool(pool), &[z]);
    let alone = alone.network(output);
    let x = wide(120);
    let wanted: Vec<f64> = x.chunks(40).flat_map(|row| run(&alone, row)).collect();
    assert_abs_diff_eq!(run(&network, &x)[..], wanted[..], epsilon = 1e-6);
}

#[test]
fn a_slice_takes_the_positions_that_onnx_means() {
    let cases: [(i64, i64, i64, &[usize]); 9] = [
        (1, 4, 1, &[1, 2, 3]),
        (0, i64::MAX, 2, &[0, 2, 4]),
        (-2, i64::MAX, 1, &[3, 4]),
        (-100, 2, 1, &[0, 1]),
        (4, 0, -1, &[4, 3, 2, 1]),
        (i64::MAX, i64::MIN, -2, &[4, 2, 0]),
        (-1, -4, -1, &[4, 3, 2]),
        (3, i64::MIN, i64::MIN, &[3]),
        (1, 100, i64::MAX, &[1]),
    ];
    let x = wide(5);
    for (start, end, step, wanted) in cases {
        let found = applied(&[5], &Op::Slice, |graph| [start, end, 1, step].map(|i| graph.integers(&[i])).to_vec());
        assert_eq!(found, wanted.iter().map(|&at| x[at]).collect::<Vec<_>>(), "{start}:{end}:{step}");
    }
}

#[test]
fn a_slice_of_the_whole_batch_is_none() {
    for (literal, end) in [(None, i64::MAX), (Some(2), 2), (None, i64::from(i32::MAX))] {
        let mut graph = Writer::default();
        let batch = literal.map_or(Dim::Named("batch".to_owned()), Dim::Fixed);
        let x = graph.input("x", &[batch, Dim::Fixed(4)]);
        let constants = [vec![0, 1], vec![end, 3], vec![0, 1]].map(|numbers| graph.integers(&numbers));
        let output = graph.node("output", Op::Slice, &[&[x], &constants[..]].concat());
        let network = graph.network(output);
        assert_eq!((network.batch(), kinds(&network)), (BatchAxis::Leading, vec!["slice"]));
    }
}

#[test]
fn both_parts_of_a_split_are_read_and_lengths_must_work_out() {
    let parts = |lengths: &[i64], count: usize| {
        let mut graph = Writer::default();
        let x = graph.samples("x", &[5]);
        let lengths = graph.integers(lengths);
        let parts = graph.nodes("parts", Op::Split { axis: -1, parts: None }, &[x, lengths], count);
        let turned: Vec<_> = parts.into_iter().rev().collect();
        let output = graph.node("output", Op::Concat { axis: 1 }, &turned);
        canonicalize(&graph.graph(output), &Options::default())
    };
    let network = parts(&[2, 3], 2).unwrap();
    let x = wide(5);
    assert_eq!(run(&network, &x), [x[2], x[3], x[4], x[0], x[1]]);
    assert_eq!(network.value(network.layers()[1].output).name, "parts/1");
    for (lengths, count) in [(vec![2, 2], 2), (vec![2, i64::MAX], 2), (vec![-1, 6], 2), (vec![5], 2)] {
        let error = parts(&lengths, count).unwrap_err();
        assert_eq!(error.node(), Some("parts (Op, opset 17)"), "{error}");
    }
}

#[test]
fn padding_takes_its_elements_from_where_the_mode_says() {
    type Sources<'a> = &'a [Option<usize>];
    let cases: [(PadMode, [i64; 2], Sources<'_>); 5] = [
        (PadMode::Constant, [1, 2], &[None, Some(0), Some(1), Some(2), None, None]),
        (PadMode::Constant, [-1, 1], &[Some(1), Some(2), None]),
        (PadMode::Edge, [2, 1], &[Some(0), Some(0), Some(0), Some(1), Some(2), Some(2)]),
        (PadMode::Reflect, [2, 1], &[Some(2), Some(1), Some(0), Some(1), Some(2), Some(1)]),
        (PadMode::Wrap, [1, 4], &[Some(2), Some(0), Some(1), Some(2), Some(0), Some(1), Some(2), Some(0)]),
    ];
    let x = wide(3);
    for (mode, [before, after], wanted) in cases {
        let op = Op::Pad { mode, value: 0.5 };
        let found = applied(&[3], &op, |graph| vec![graph.integers(&[0, before, 0, after])]);
        let wanted: Vec<f64> = wanted.iter().map(|source| source.map_or(0.5, |at| x[at])).collect();
        assert_eq!(found, wanted, "{mode:?}");
    }
}

#[test]
fn a_number_around_an_image_fills_its_corners_once() {
    let op = Op::Pad { mode: PadMode::Constant, value: 0.0 };
    let found =
        applied(&[1, 2, 1], &op, |graph| vec![graph.integers(&[0, 0, 1, 1, 0, 0, 0, 1]), graph.float(&[1], &[7.0])]);
    let x = wide(2);
    assert_eq!(found, [7.0, 7.0, 7.0, 7.0, x[0], 7.0, 7.0, x[1], 7.0]);
}

#[test]
fn tiles_and_chosen_rows_repeat_in_order() {
    let x = wide(4);
    let tiled = applied(&[2, 2], &Op::Tile, |graph| vec![graph.integers(&[1, 1, 2])]);
    assert_eq!(tiled, [x[0], x[1], x[0], x[1], x[2], x[3], x[2], x[3]]);
    let mut graph = Writer::default();
    let input = graph.samples("x", &[2, 2]);
    let at = graph.0.add_constant("at", Constant::Integer(Tensor::scalar(-1).into()));
    let output = graph.node("output", Op::Gather { axis: 1 }, &[input, at]);
    let network = graph.network(output);
    assert_eq!(network.shape(network.output()).dims(), [2]);
    assert_eq!(run(&network, &x), [x[2], x[3]]);
}

#[test]
fn extents_keep_proportions_where_the_policy_says() {
    let resized = |policy| {
        let mut graph = Writer::default();
        let x = graph.samples("x", &[1, 2, 4]);
        let (none, extents) = (graph.float(&[0], &[]), graph.integers(&[6, 6]));
        let resize = Resize {
            interpolation: Interpolation::Nearest(Rounding::Floor),
            coordinates: Coordinates::Asymmetric,
            scales: Scales::Input(2),
            axes: Some(vec![2, -1]),
            policy,
        };
        let output = graph.node("output", Op::Resize(resize), &[x, none, none, extents]);
        let network = graph.network(output);
        network.shape(network.output()).dims().to_vec()
    };
    assert_eq!(resized(Policy::Stretch), [1, 6, 6]);
    assert_eq!(resized(Policy::NotLarger), [1, 3, 6]);
    assert_eq!(resized(Policy::NotSmaller), [1, 6, 12]);
}

/// Quantisers drop a rectifier in front of integers that cannot go below zero.
#[test]
fn a_rectifier_that_quantisation_stands_for_is_put_back() {
    let quantised = |zero: i64, range: (i64, i64)| {
        let mut graph = Writer::default();
        let x = graph.samples("x", &[3]);
        let scale = graph.scalar(0.1);
        let zero = graph.integers(&[zero]);
        graph.0.values[zero.index()].range = Some(range);
        let q = graph.node("q", Op::Quantize { axis: 1 }, &[x, scale, zero]);
        let read = graph.node("read", Op::Dequantize { axis: 1 }, &[q, scale, zero]);
        let output = graph.dense("output", read, 3, 2);
        graph.network(output)
    };
    assert_eq!(kinds(&quantised(0, (0, 255))), ["relu", "dense"]);
    assert_eq!(kinds(&quantised(-128, (-128, 127))), ["relu", "dense"]);
    let signed = quantised(0, (-128, 127));
    assert_eq!(kinds(&signed), ["dense"]);
    assert!(signed.notes()[0].contains("rounding"), "{:?}", signed.notes());
}

fn refusal(op: &Op, dims: &[usize], weight: &[usize]) -> Error {
    let mut graph = Writer::default();
    let x = graph.samples("x", dims);
    let inputs = if weight.is_empty() { vec![x] } else { vec![x, graph.numbers(weight)] };
    let output = graph.node("output", op.clone(), &inputs);
    canonicalize(&graph.graph(output), &Options::default()).unwrap_err()
}

/// Numbers that no real model has are refused before anything is calculated or reserved with them.
#[test]
fn windows_of_absurd_numbers_are_refused_with_a_way_out() {
    let huge = i64::MAX;
    let slidings = [
        Sliding { strides: Some(vec![0, 1]), ..Sliding::default() },
        Sliding { strides: Some(vec![huge, huge]), ..Sliding::default() },
        Sliding { strides: Some(vec![1]), ..Sliding::default() },
        Sliding { dilations: Some(vec![huge, 1]), ..Sliding::default() },
        Sliding { dilations: Some(vec![1 << 24, 1]), ..Sliding::default() },
        Sliding { padding: Padding::Explicit(Some(vec![0, -1, 0, 0])), ..Sliding::default() },
        Sliding { padding: Padding::Explicit(Some(vec![huge; 4])), ..Sliding::default() },
        Sliding { padding: Padding::Explicit(Some(vec![1 << 24; 4])), ..Sliding::default() },
        Sliding { padding: Padding::Explicit(Some(vec![0; 3])), ..Sliding::default() },
        Sliding { kernel: Some(vec![5, 5]), ..Sliding::default() },
    ];
    for sliding in slidings {
        let with = |kernel: Option<Vec<i64>>| Sliding { kernel: kernel.or(sliding.kernel.clone()), ..sliding.clone() };
        let own = Some(vec![2, 2]);
        let transposed = Op::ConvTranspose { sliding: with(None), groups: 1, output_padding: None, output_shape: None };
        let mut errors = vec![
            refusal(&Op::Conv { sliding: with(None), groups: 1 }, &[2, 4, 4], &[3, 2, 2, 2]),
            refusal(&Op::MaxPool(with(own.clone().filter(|_| sliding.kernel.is_none()))), &[2, 4, 4], &[]),
        ];
        if sliding.dilations.as_ref().is_none_or(|dilations| dilations[0] == huge) {
            errors.push(refusal(&transposed, &[2, 4, 4], &[2, 3, 2, 2]));
        }
        for error in errors {
            assert!(error.kind() != ErrorKind::Internal && error.advice().is_some(), "{sliding:?}: {error}");
            assert_eq!(error.node(), Some("output (Op, opset 17)"), "{sliding:?}");
        }
    }
    let in_padding = Sliding {
        kernel: Some(vec![2, 1]),
        dilations: Some(vec![5, 1]),
        padding: Padding::Explicit(Some(vec![2, 0, 2, 0])),
        ..Sliding::default()
    };
    assert!(refusal(&Op::MaxPool(in_padding), &[1, 3, 3], &[]).message().contains("in the padding alone"));
    for groups in [0, -1, 3, huge] {
        let error = refusal(&Op::Conv { sliding: Sliding::default(), groups }, &[2, 4, 4], &[4, 2, 2, 2]);
        assert!(error.kind() != ErrorKind::Internal && error.advice().is_some(), "{groups}: {error}");
    }
    for output_shape in [vec![huge, 1], vec![-1, 1], vec![1 << 28, 1 << 28], vec![1]] {
        let output_shape = Some(output_shape);
        let op = Op::ConvTranspose { sliding: Sliding::default(), groups: 1, output_padding: None, output_shape };
        let error = refusal(&op, &[2, 4, 4], &[2, 3, 2, 2]);
        assert!(error.kind() != ErrorKind::Internal && error.advice().is_some(), "{error}");
    }
}

#[test]
fn positions_of_absurd_numbers_are_refused_with_a_way_out() {
    let refused = |op: Op, integers: &[&[i64]]| {
        let mut graph = Writer::default();
        let x = graph.samples("x", &[2, 3]);
        let inputs = [vec![x], integers.iter().map(|&numbers| graph.integers(numbers)).collect()].concat();
        let output = graph.node("output", op, &inputs);
        canonicalize(&graph.graph(output), &Options::default()).unwrap_err()
    };
    let most = i64::MAX;
    let pad = |mode| Op::Pad { mode, value: 1.0 };
    let resize = |scale: f32| {
        Op::Resize(Resize {
            interpolation: Interpolation::Linear,
            coordinates: Coordinates::HalfPixel,
            scales: Scales::Attribute(vec![1.0, scale, 1.0]),
            axes: None,
            policy: Policy::Stretch,
        })
    };
    let errors = [
        refused(Op::Tile, &[&[1, most, 1]]),
        refused(Op::Tile, &[&[1, -1, 1]]),
        refused(Op::Tile, &[&[1, 1 << 30, 1]]),
        refused(Op::Slice, &[&[0], &[2], &[1], &[0]]),
        refused(Op::Slice, &[&[2], &[1], &[1], &[1]]),
        refused(Op::Gather { axis: 1 }, &[&[2]]),
        refused(Op::Gather { axis: 7 }, &[&[0]]),
        refused(pad(PadMode::Constant), &[&[0, most, 0, 0, most, 0]]),
        refused(pad(PadMode::Edge), &[&[0, 1 << 40, 0, 0, 0, 0]]),
        refused(pad(PadMode::Wrap), &[&[0, -1, 0, 0, 0, 0]]),
        refused(pad(PadMode::Constant), &[&[0, 1]]),
        refused(Op::Expand, &[&[1, 2, most]]),
        refused(Op::DepthToSpace { block: most, channel_first: true }, &[]),
        refused(Op::DepthToSpace { block: 0, channel_first: true }, &[]),
        refused(Op::SpaceToDepth { block: 2, channel_first: false }, &[]),
        refused(Op::Split { axis: 1, parts: Some(3) }, &[]),
        refused(resize(1e30), &[]),
        refused(resize(f32::NAN), &[]),
        refused(resize(0.0), &[]),
    ];
    for (index, error) in errors.into_iter().enumerate() {
        assert!(error.kind() != ErrorKind::Internal && error.advice().is_some(), "{index}: {error}");
        assert_eq!(error.node(), Some("output (Op, opset 17)"), "{index}: {error}");
    }
}

/// Constant channels, such as coordinates, beside those of the input.
#[test]
fn constants_stand_beside_activations() {
    let mut graph = Writer::default();
    let x = graph.input("x", &[1, 2, 3].map(Dim::Fixed));
    let z = graph.node("z", RELU, &[x]);
    let (first, last) = (graph.float(&[1, 1, 3], &[4.0, 5.0, 6.0]), graph.float(&[1, 1, 3], &[7.0, 8.0, 9.0]));
    let output = graph.node("output", Op::Concat { axis: 1 }, &[first, x, last, z]);
    let network = graph.network(output);
    assert_eq!(network.batch(), BatchAxis::Leading);
    assert_eq!(kinds(&network), ["relu", "concat", "pad", "affine"]);
    let x = [1.0, -1.0, 2.0, -2.0, 3.0, -3.0];
    let wanted = [&[4.0, 5.0, 6.0], &x[..], &[7.0, 8.0, 9.0], &[1.0, 0.0, 2.0, 0.0, 3.0, 0.0]].concat();
    assert_eq!(run(&network, &x), wanted);
}

#[test]
fn real_numbers_in_a_row_are_a_constant() {
    let ranged = |start: f32, end: f32, step: f32| {
        let mut graph = Writer::default();
        let x = graph.samples("x", &[3]);
        let numbers = [start, end, step].map(|number| graph.scalar(number));
        let range = graph.node("range", Op::Range, &numbers);
        let output = graph.node("output", ADD, &[x, range]);
        canonicalize(&graph.graph(output), &Options::default())
    };
    assert_eq!(run(&ranged(0.5, 2.0, 0.5).unwrap(), &[0.0; 3]), [0.5, 1.0, 1.5]);
    assert_eq!(run(&ranged(3.0, 0.0, -1.0).unwrap(), &[0.0; 3]), [3.0, 2.0, 1.0]);
    for (start, end, step) in [(0.0, 1.0, 0.0), (0.0, 1e30, 1.0), (0.0, 1.0, -1.0), (0.0, f32::NAN, 1.0)] {
        let error = ranged(start, end, step).unwrap_err();
        assert!(error.kind() != ErrorKind::Internal && error.advice().is_some(), "{error}");
    }
}

#[test]
fn a_product_of_activations_repeats_the_smaller_one() {
    let mut graph = Writer::default();
    let x = graph.samples("x", &[2, 3]);
    let column = graph.dense("column", x, 3, 1);
    let output = graph.node("output", MUL, &[x, column]);
    let network = graph.network(output);
    assert_eq!(kinds(&network), ["dense", "expand", "multiply"]);
    let x = wide(6);
    let weight = [-0.5, 1.25, 0.25];
    let column = |row: usize| (0..3).map(|i| x[3 * row + i] * weight[i]).sum::<f64>();
    let wanted: Vec<f64> = (0..6).map(|i| x[i] * column(i / 3)).collect();
    assert_abs_diff_eq!(run(&network, &x)[..], wanted[..], epsilon = 1e-6);
    // A square is a product with itself.
    let mut graph = Writer::default();
    let x = graph.samples("x", &[3]);
    let z = graph.node("z", RELU, &[x]);
    let output = graph.node("output", MUL, &[z, z]);
    assert_eq!(run(&graph.network(output), &[-1.0, 2.0, 3.0]), [0.0, 4.0, 9.0]);
}

#[test]
fn a_sum_of_several_is_one_layer() {
    let mut graph = Writer::default();
    let x = graph.samples("x", &[2, 3]);
    let column = graph.dense("column", x, 3, 1);
    let active = graph.node("active", RELU, &[x]);
    let offset = graph.scalar(2.0);
    let output = graph.node("output", Op::Sum, &[x, column, offset, active]);
    let network = graph.network(output);
    assert_eq!(kinds(&network), ["dense", "relu", "expand", "sum", "affine"]);
    let x = wide(6);
    let weight = [-0.5, 1.25, 0.25];
    let column = |row: usize| (0..3).map(|i| x[3 * row + i] * weight[i]).sum::<f64>();
    let wanted: Vec<f64> = (0..6).map(|i| x[i] + column(i / 3) + 2.0 + x[i].max(0.0)).collect();
    assert_abs_diff_eq!(run(&network, &x)[..], wanted[..], epsilon = 1e-6);
}
