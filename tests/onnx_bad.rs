//! Broken and hostile ONNX files end in an error with a way out: no panic, no memory that they only claim to need.

#![cfg(feature = "onnx")]

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use relprop::canonical::{Options, canonicalize};
use relprop::graph::{Constant, Dim, Graph, Op, Padding};
use relprop::{Error, ErrorKind, Network, onnx};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx")
}

fn network(path: &Path) -> Result<Network, Error> {
    canonicalize(&onnx::load(path)?, &Options::default())
}

#[test]
fn every_bad_file_is_refused_with_a_way_out() {
    let cases = std::fs::read_to_string(folder().join("bad/cases.tsv")).unwrap();
    let mut failures = Vec::new();
    for case in cases.lines() {
        let (name, reason) = case.split_once('\t').unwrap();
        // Subgraphs are skipped, however deep, and this one is off the output's path.
        if name == "nested_subgraphs" {
            assert!(network(&folder().join("bad/nested_subgraphs.onnx")).is_ok());
            continue;
        }
        match network(&folder().join("bad").join(format!("{name}.onnx"))) {
            Ok(_) => failures.push(format!("{name} ({reason}) is accepted")),
            Err(error) if error.advice().is_none() => failures.push(format!("{name}: no way out in: {error}")),
            Err(error) => println!("{name} ({reason})\n  {error}\n"),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// How many files [`seeds`] gives.
const SEEDS: usize = 16;

/// What fuzzing starts from: small files that between them use most of the format.
fn seeds() -> Vec<Vec<u8>> {
    let names = [
        "u_net",
        "split_attribute",
        "resize_nearest_sizes",
        "conv_transpose2d_output_shape",
        "pad_before_padded_conv",
        "slice_backwards",
        "qdq_conv",
        "reduce_max_input_columns",
        "batch_norm_after_conv_bias",
        "space_to_depth",
        "forms_opset07",
        "forms_opset23",
        "mlp_gelu_tanh_legacy",
        "sklearn_binary",
        "shape_gather_concat",
        "lookup_dynamo",
    ];
    assert_eq!(names.len(), SEEDS);
    names.iter().map(|name| std::fs::read(folder().join(format!("{name}.onnx"))).unwrap()).collect()
}

/// One change that keeps the graph's form and may break its sense.
fn rewire(graph: &mut Graph, change: (u8, prop::sample::Index, prop::sample::Index, i64)) {
    let (kind, at, other, number) = change;
    let at_node = at.index(graph.nodes.len());
    match kind {
        0 => {
            let name = graph.values[other.index(graph.values.len())].name.clone();
            let value = graph.find(&name);
            if let Some(input) = graph.nodes[at_node].inputs.first_mut() {
                *input = value;
            }
        }
        1 => graph.nodes[at_node].op = graph.nodes[other.index(graph.nodes.len())].op.clone(),
        2 => match &mut graph.nodes[at_node].op {
            Op::Softmax { axis, .. } | Op::Flatten { axis } | Op::Concat { axis } | Op::Gather { axis } => {
                *axis = number
            }
            Op::Conv { sliding, groups } => (sliding.strides, *groups) = (Some(vec![number, number]), number),
            Op::ConvTranspose { sliding, output_padding, output_shape, .. } => {
                sliding.dilations = Some(vec![number; 2]);
                (*output_padding, *output_shape) = (Some(vec![number; 2]), Some(vec![number << 20; 2]));
            }
            Op::MaxPool(sliding) | Op::AveragePool { sliding, .. } => {
                sliding.padding = Padding::Explicit(Some(vec![number; 4]));
                (sliding.kernel, sliding.ceil) = (Some(vec![number + 1; 2]), number % 2 == 0);
            }
            Op::Split { axis, parts } => (*axis, *parts) = (number, Some(number)),
            Op::Resize(resize) => resize.axes = Some(vec![number]),
            Op::SpaceToDepth { block, .. } => *block = number,
            Op::Quantize { axis } | Op::Dequantize { axis } => *axis = number,
            Op::Transpose { order } => *order = Some(vec![number, 0]),
            Op::Shape { start, end } => (*start, *end) = (number, Some(number + 1)),
            other => *other = Op::Squeeze,
        },
        3 | 4 => {
            let index = at.index(graph.values.len());
            if let Some(Constant::Integer(tensor)) = &graph.values[index].constant {
                let number = if kind == 3 { number } else { number.saturating_mul(i64::MAX / 3) };
                graph.values[index].constant = Some(Constant::Integer(tensor.map(|_| number).into()));
            } else if let Some(Constant::Float(tensor)) = &graph.values[index].constant {
                let factor = number as f32 * if kind == 3 { 0.5 } else { f32::MAX };
                graph.values[index].constant = Some(Constant::Float(tensor.map(|x| x * factor).into()));
            }
        }
        _ => {
            let input = graph.inputs[at.index(graph.inputs.len())];
            let extent = usize::try_from(number).map_or(Dim::Unknown, Dim::Fixed);
            if let Some(dims) = &mut graph.values[input.index()].dims {
                dims.insert(other.index(dims.len() + 1), extent);
            }
        }
    }
}

/// Every error says the way out, whatever is broken.
fn advised<T>(result: Result<T, Error>) -> Result<Option<T>, TestCaseError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::Internal => Err(TestCaseError::fail(error.to_string())),
        Err(error) if error.advice().is_none() => Err(TestCaseError::fail(format!("no way out in: {error}"))),
        Err(_) => Ok(None),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_bytes_never_panic(
        seed in 0..SEEDS,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        end in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut bytes = seeds()[seed].clone();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(end) = end {
            bytes.truncate(end.index(bytes.len()));
        }
        if let Some(graph) = advised(onnx::parse(bytes, Some(&folder())))? {
            advised(canonicalize(&graph, &Options::default().dim("seq", 3)))?;
            advised(canonicalize(&graph, &Options::default()))?;
        }
    }

    #[test]
    fn rewired_graphs_never_panic(
        seed in 0..SEEDS,
        changes in prop::collection::vec((0..6_u8, any::<prop::sample::Index>(), any::<prop::sample::Index>(), -4..9_i64), 1..5),
    ) {
        let mut graph = onnx::parse(seeds()[seed].clone(), Some(&folder())).unwrap();
        changes.into_iter().for_each(|change| rewire(&mut graph, change));
        if let Some(network) = advised(canonicalize(&graph, &Options::default().dim("seq", 3)))? {
            prop_assert!(!network.layers().is_empty());
        }
        advised(canonicalize(&graph, &Options::default()))?;
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Some(graph) = advised(onnx::parse(bytes, None))? {
            advised(canonicalize(&graph, &Options::default()))?;
        }
    }
}
