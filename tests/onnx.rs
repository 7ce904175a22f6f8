//! Every ONNX fixture: the network computes what onnxruntime computed when the fixture was made.

#![cfg(feature = "onnx")]

mod evaluate;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use approx::abs_diff_eq;
use relprop::canonical::{Options, canonicalize};
use relprop::graph::Graph;
use relprop::network::BatchAxis;
use relprop::{Network, onnx};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx")
}

fn fixtures() -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "onnx"))
        .collect();
    paths.sort();
    assert!(paths.len() > 20, "the fixtures are missing");
    paths
}

/// A tensor of a fixture's .safetensors file, as float64.
struct Recorded {
    shape: Vec<usize>,
    data: Vec<f64>,
    real: bool,
}

fn recorded(model: &Path) -> HashMap<String, Recorded> {
    let bytes = std::fs::read(model.with_extension("safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.iter().map(|(name, view)| (name.to_owned(), Recorded::new(name, &view))).collect()
}

impl Recorded {
    fn new(name: &str, view: &TensorView<'_>) -> Self {
        let data = view.data();
        let (data, real): (Vec<f64>, bool) = match view.dtype() {
            Dtype::F32 => (data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b).into()).collect(), true),
            Dtype::F64 => (data.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(), true),
            Dtype::F16 => (data.as_chunks().0.iter().map(|b| half::f16::from_le_bytes(*b).into()).collect(), true),
            Dtype::I64 => (data.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect(), false),
            Dtype::I32 => (data.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b).into()).collect(), false),
            Dtype::U8 | Dtype::BOOL => (data.iter().map(|&b| b.into()).collect(), false),
            other => panic!("{name}: {other:?} is not read"),
        };
        Recorded { shape: view.shape().to_vec(), data, real }
    }
}

/// The recorded output that a network explains: the graph's first one of real numbers that is recorded.
fn explained<'a>(graph: &Graph, recorded: &'a HashMap<String, Recorded>) -> Option<(String, &'a Recorded)> {
    let names = graph.outputs.iter().map(|&id| graph.value(id).name.clone());
    let mut real =
        names.filter(|name| name != "constant_output" && recorded.get(name).is_some_and(|tensor| tensor.real));
    real.next().map(|name| (name.clone(), &recorded[&name]))
}

/// The samples of each input, in the network's order, with the number of samples.
fn samples(network: &Network, recorded: &HashMap<String, Recorded>) -> (usize, Vec<Vec<f64>>) {
    let first = &network.value(network.inputs()[0].value);
    let count = recorded[&first.name].data.len() / first.shape.count();
    match network.batch() {
        BatchAxis::Leading => assert_eq!(count, recorded[&first.name].shape[0]),
        BatchAxis::Absent => assert_eq!(count, 1),
        BatchAxis::Fixed(extent) => assert_eq!(count * extent, recorded[&first.name].shape[0]),
    }
    let data = network.inputs().iter().map(|input| recorded[&network.value(input.value).name].data.clone());
    (count, data.collect())
}

/// Softmax over something else than the last axis is left out without a link, because no link says it: the
/// fixtures that end so compare after it.
fn apply_unnamed_softmax(stem: &str, network: &Network, outputs: &mut Vec<f64>) {
    let note = |network: &Network| network.notes().iter().any(|note| note.contains("softmax"));
    let count = network.shape(network.output()).count();
    let over = |outputs: &[f64], log: bool| -> Vec<f64> {
        outputs.chunks(count).flat_map(evaluate::softmax).map(|p| if log { p.ln() } else { p }).collect()
    };
    match stem {
        "softmax_flattens" | "log_softmax_flattens" => *outputs = over(outputs, stem.starts_with("log")),
        "softmax_one_axis" => {
            for sample in outputs.chunks_mut(6) {
                for column in 0..3 {
                    let p = evaluate::softmax(&[sample[column], sample[column + 3]]);
                    (sample[column], sample[column + 3]) = (p[0], p[1]);
                }
            }
        }
        _ => return,
    }
    assert!(network.link().is_none() && note(network));
}

/// How far from onnxruntime an output may be, beside the greatest one.
fn tolerance(graph: &Graph, stem: &str) -> f64 {
    let half = graph.values.iter().any(|value| value.name.contains("float16"));
    match stem {
        // Deviations of a thousandth of the mean, which float32 holds to a ten-thousandth.
        "instance_norm_far_from_zero" => 2e-4,
        // The rounding to 8 bits is left out.
        stem if stem.starts_with("qdq") => 2e-2,
        "float16_throughout" => 5e-3,
        _ if half => 5e-3,
        _ => 5e-6,
    }
}

fn check(path: &Path) -> Result<(), String> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let graph = onnx::load(path).map_err(|error| format!("load: {error}"))?;
    let recorded = recorded(path);
    let Some((_, want)) = explained(&graph, &recorded) else { return Err("no output is recorded".to_owned()) };
    let network = match canonicalize(&graph, &Options::default()) {
        Ok(network) => network,
        Err(error) => return Err(format!("canonicalize: {error}")),
    };
    let (count, inputs) = samples(&network, &recorded);
    let mut got = evaluate::batch(&network, count, &inputs);
    apply_unnamed_softmax(&stem, &network, &mut got);
    if got.len() != want.data.len() {
        return Err(format!("{} outputs, not {}", got.len(), want.data.len()));
    }
    let scale = want.data.iter().fold(1e-3_f64, |scale, x| scale.max(x.abs()));
    let tolerance = tolerance(&graph, &stem);
    for (index, (got, want)) in got.iter().zip(&want.data).enumerate() {
        if !abs_diff_eq!(got, want, epsilon = tolerance * scale) {
            return Err(format!("output {index} is {got}, not {want}\n{:#?}", network.notes()));
        }
    }
    Ok(())
}

#[test]
fn every_fixture_computes_what_onnxruntime_computed() {
    let mut failures = Vec::new();
    for path in fixtures() {
        if let Err(failure) = check(&path) {
            failures.push(format!("{}: {failure}", path.file_stem().unwrap().to_string_lossy()));
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// One of ONNX's own tests of an operator, on each output that it records.
fn check_node_test(model: &[u8], tensors: &HashMap<String, Recorded>) -> Result<(), String> {
    let graph = onnx::parse(model.to_vec(), None).map_err(|error| format!("load: {error}"))?;
    let mut outputs = 0;
    for (name, want) in tensors {
        let Some(output) = name.strip_prefix("output/") else { continue };
        outputs += 1;
        let network = canonicalize(&graph, &Options::default().output(output))
            .map_err(|error| format!("canonicalize: {error}"))?;
        let inputs = network.inputs().iter();
        let inputs: Vec<Vec<f64>> =
            inputs.map(|input| tensors[&format!("input/{}", network.value(input.value).name)].data.clone()).collect();
        let count = inputs[0].len() / network.shape(network.inputs()[0].value).count();
        let got = evaluate::batch(&network, count, &inputs);
        let scale = want.data.iter().fold(1e-3_f64, |scale, x| scale.max(x.abs()));
        let close = got.len() == want.data.len()
            && got.iter().zip(&want.data).all(|(got, want)| abs_diff_eq!(got, want, epsilon = 1e-5 * scale));
        if !close {
            return Err(format!("{output} is {got:?}, not {:?}", want.data));
        }
    }
    if outputs > 0 { Ok(()) } else { Err("no output is recorded".to_owned()) }
}

#[test]
fn onnx_own_tests_of_single_operators_pass() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx_node_tests.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut models: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut tensors: HashMap<String, HashMap<String, Recorded>> = HashMap::new();
    for (name, view) in file.iter() {
        let (test, part) = name.split_once('/').unwrap();
        if part == "model" {
            models.insert(test.to_owned(), view.data().to_vec());
        } else {
            tensors.entry(test.to_owned()).or_default().insert(part.to_owned(), Recorded::new(name, &view));
        }
    }
    assert!(models.len() >= 330, "{} tests are there", models.len());
    let failed = |(test, model): (&String, &Vec<u8>)| {
        check_node_test(model, &tensors[test]).err().map(|failure| format!("{test}: {failure:.300}"))
    };
    let failures: Vec<String> = models.iter().filter_map(failed).collect();
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// Import as the user sees it: the batch, the layers' kinds, and a word of the notes where there are any.
#[test]
fn fixtures_become_the_layers_that_their_authors_meant() {
    let cases: [(&str, BatchAxis, &str, &str); 37] = [
        ("tutorial_dynamo", BatchAxis::Absent, "dense relu dense", ""),
        ("tutorial_legacy", BatchAxis::Absent, "dense relu dense", ""),
        ("mlp_gelu_erf_legacy", BatchAxis::Leading, "dense gelu dense gelu dense", ""),
        ("mlp_gelu_tanh_legacy", BatchAxis::Leading, "dense gelu dense gelu dense", ""),
        ("mlp_softmax_batch1_legacy", BatchAxis::Leading, "reshape dense relu dense relu dense", "softmax"),
        ("mlp_softmax_batch8_dynamo", BatchAxis::Leading, "reshape dense relu dense relu dense", "softmax"),
        ("mlp_flatten_batch1_legacy", BatchAxis::Leading, "reshape dense relu dense relu dense", "softmax"),
        ("sklearn_binary", BatchAxis::Leading, "affine dense relu dense relu dense affine concat", "−z"),
        ("sklearn_three_classes", BatchAxis::Leading, "affine dense relu dense relu dense", "softmax"),
        ("sklearn_regressor", BatchAxis::Leading, "affine dense relu dense relu dense", ""),
        ("keras_rescaling", BatchAxis::Leading, "affine reshape dense relu dense", "softmax"),
        ("keras_functional", BatchAxis::Leading, "dense relu sum concat dense", ""),
        ("gemm_c_every_sample", BatchAxis::Fixed(3), "dense affine relu dense", "gemm_h"),
        ("float16_throughout", BatchAxis::Leading, "dense relu dense", "in float16; relprop computes in float32"),
        ("double_throughout", BatchAxis::Leading, "dense relu dense", "in double; relprop computes in float32"),
        ("batch_norm_after_conv_opset17", BatchAxis::Leading, "conv relu", ""),
        ("batch_norm_after_conv_transpose", BatchAxis::Leading, "conv-transpose", ""),
        ("conv2d_bias_added", BatchAxis::Leading, "conv", ""),
        ("scale_shift_after_conv_1c11", BatchAxis::Leading, "conv relu", ""),
        ("pad_zero", BatchAxis::Leading, "conv", ""),
        ("quantized_weights_channels", BatchAxis::Leading, "conv relu conv", ""),
        ("split_one_unused", BatchAxis::Leading, "conv relu slice slice affine sum", ""),
        ("depth_to_space_dcr", BatchAxis::Leading, "conv reshape transpose reshape conv", ""),
        ("reduce_mean_input_dropped", BatchAxis::Leading, "average-pool reshape", ""),
        ("resize_linear", BatchAxis::Leading, "conv resize resize conv", ""),
        ("residual_block", BatchAxis::Leading, "conv relu conv relu conv sum relu", ""),
        ("qdq_conv", BatchAxis::Leading, "conv relu conv average-pool reshape", "rounding"),
        ("scale_negative_before_max_pool", BatchAxis::Leading, "conv max-pool", ""),
        ("conv2d_valid", BatchAxis::Leading, "conv", ""),
        (
            "instance_norm_1d",
            BatchAxis::Leading,
            "average-pool expand sum power average-pool power expand multiply affine",
            "InstanceNormalization (instancenormalization_instancenormalization_0) is computed by simple layers",
        ),
        (
            "layer_norm_spelled",
            BatchAxis::Leading,
            "average-pool expand sum power average-pool affine power power expand multiply affine",
            "",
        ),
        (
            "rms_norm",
            BatchAxis::Leading,
            "power average-pool power expand multiply affine",
            "a gate and gets no relevance",
        ),
        ("lrn_root", BatchAxis::Leading, "power reshape average-pool reshape affine power multiply", "a gate"),
        ("lp_pool2d_1", BatchAxis::Leading, "abs average-pool", "|x|ᵖ / Σ|x|ᵖ"),
        ("lp_pool2d_3", BatchAxis::Leading, "abs power average-pool power", "|x|ᵖ / Σ|x|ᵖ"),
        (
            "normalize_spelled",
            BatchAxis::Leading,
            "power reshape average-pool reshape power clip power expand multiply",
            "ReduceL2",
        ),
        (
            "softmax_gate_spelled",
            BatchAxis::Leading,
            "conv exp reshape average-pool reshape power expand multiply conv multiply",
            "",
        ),
    ];
    for (name, batch, kinds, note) in cases {
        let graph = onnx::load(folder().join(format!("{name}.onnx"))).unwrap();
        let network = canonicalize(&graph, &Options::default()).unwrap();
        let found: Vec<&str> = network.layers().iter().map(|node| node.layer.kind()).collect();
        assert_eq!((network.batch(), found.join(" ").as_str()), (batch, kinds), "{name}");
        let notes = network.notes().join("; ");
        assert!(notes.contains(note) && notes.is_empty() == note.is_empty(), "{name}: {notes}");
    }
}

#[test]
fn a_graph_knows_where_it_came_from() {
    let path = folder().join("mlp_legacy.onnx");
    let graph = onnx::load(&path).unwrap();
    assert!(graph.producer.starts_with("pytorch"), "{}", graph.producer);
    assert_eq!((graph.opset, graph.digest.len()), (17, 64));
    let same = onnx::parse(std::fs::read(&path).unwrap(), None).unwrap();
    assert_eq!(same.digest, graph.digest);
}

/// Opsets that are read but not tested say so; those beyond are refused with the way out.
#[test]
fn an_opset_newer_than_the_tested_ones_is_noted() {
    let file = std::fs::read(folder().join("forms_opset23.onnx")).unwrap();
    // The version is field 2 of the file's one operator set.
    let at: Vec<usize> = (0..file.len() - 1).filter(|&i| file[i..].starts_with(&[0x10, 23])).collect();
    let [at] = at[..] else { panic!("the version stands at {at:?}") };
    let with = |opset: u8| {
        let mut file = file.clone();
        file[at + 1] = opset;
        onnx::parse(file, None)
    };
    assert!(with(23).unwrap().notes.is_empty());
    let notes = with(26).unwrap().notes.join("; ");
    assert!(notes.contains("opset 26, which is newer than what relprop is tested with (7 to 23)"), "{notes}");
    let error = with(29).unwrap_err();
    assert!(error.message().contains("7 to 28") && error.advice().is_some(), "{error}");
}

#[test]
fn external_data_needs_a_folder() {
    let bytes = std::fs::read(folder().join("external_offsets.onnx")).unwrap();
    let error = onnx::parse(bytes, None).unwrap_err();
    assert!(error.advice().unwrap().contains("by its path"), "{error}");
}
