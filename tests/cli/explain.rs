//! `relprop explain` where all is well.

use approx::assert_relative_eq;
use relprop::input::{Array, read_npz, read_safetensors};
use relprop::output::{Precision, write_npz};

use crate::program::{Folder, fixture, npy_of_bytes};

#[test]
fn relevance_has_the_shape_of_the_input() {
    let folder = Folder::new();
    folder.write_samples("in.npy", 3);
    let run = folder.explain("in.npy", &[]).succeeds();
    assert_eq!(folder.read("out.npy").shape().dims(), [3, 1, 4, 5]);
    assert_eq!(run.stdout, "");
    assert!(run.stderr.contains("softmax") && run.stderr.contains("explained 3 samples"), "{}", run.stderr);
    assert_eq!(folder.files(), ["in.npy", "out.npy"]);
}

#[test]
fn a_quiet_run_says_nothing() {
    let folder = Folder::new();
    folder.write_samples("in.npy", 1);
    let run = folder.explain("in.npy", &["--quiet"]).succeeds();
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""));
}

#[test]
fn several_targets_add_an_axis() {
    let folder = Folder::new();
    folder.write_samples("in.npy", 3);
    for (target, count) in [("top:2", 2), ("all", 5), ("0,3,1,4", 4)] {
        folder.explain("in.npy", &["--target", target]).succeeds();
        assert_eq!(folder.read("out.npy").shape().dims(), [3, count, 1, 4, 5], "{target}");
    }
    folder.explain("in.npy", &["--target", "4"]).succeeds();
    let fourth = folder.read("out.npy");
    folder.explain("in.npy", &["--target", "all"]).succeeds();
    let all = folder.read("out.npy");
    for sample in 0..3 {
        assert_eq!(fourth.row(sample), &all.row(sample)[4 * 20..]);
    }
}

#[test]
fn targets_come_from_a_file_one_a_sample() {
    let folder = Folder::new();
    folder.write_samples("in.npy", 3);
    folder.write("targets.npy", &[3], vec![4.0, 0.0, 2.0]);
    folder.explain("in.npy", &["--target", "targets.npy", "--samples", "samples.jsonl"]).succeeds();
    let lines = lines(&folder, "samples.jsonl");
    let targets: Vec<u64> = lines.iter().map(|line| line["target"].as_u64().unwrap()).collect();
    assert_eq!(targets, [4, 0, 2]);
}

#[test]
fn a_sample_line_and_the_report_agree_with_the_relevance() {
    let folder = Folder::new();
    folder.write_samples("in.npy", 7);
    let files = ["--samples", "samples.jsonl", "--report", "report.json", "--target", "top:2"];
    folder.explain("in.npy", &files).succeeds();
    let relevance = folder.read("out.npy");
    let lines = lines(&folder, "samples.jsonl");
    assert_eq!(lines.len(), 14);
    for (row, line) in lines.iter().enumerate() {
        let sum: f64 = relevance.data()[row * 20..][..20].iter().map(|&r| f64::from(r)).sum();
        assert_relative_eq!(line["relevance_sum"].as_f64().unwrap(), sum, epsilon = 1e-6);
        assert_eq!(line["index"], row / 2);
        assert_eq!(line["source"], "in.npy");
    }
    let report = folder.json("report.json");
    let total = |key: &str| report["totals"][key].as_f64().unwrap();
    let scores: f64 = lines.iter().map(|line| line["score"].as_f64().unwrap()).sum();
    let arrived: f64 = relevance.data().iter().map(|&r| f64::from(r)).sum();
    assert_relative_eq!(total("at_output"), scores, epsilon = 1e-5);
    assert_relative_eq!(total("at_input"), arrived, epsilon = 1e-5);
    let accounted = total("at_input") + total("bias") + total("epsilon") + total("dropped");
    assert_relative_eq!(total("at_output"), accounted, epsilon = 1e-9);
    assert_eq!((total("samples"), total("targets")), (7.0, 2.0));
    assert_eq!(report["totals"]["conserves"], true);
    for layer in report["layers"].as_array().unwrap() {
        let part = |key: &str| layer[key].as_f64().unwrap();
        let given = part("at_input") + part("bias") + part("epsilon") + part("dropped");
        assert_relative_eq!(part("at_output"), given, epsilon = 1e-9);
        assert_eq!(layer["nonfinite"], 0);
    }
    let first = &report["layers"][0];
    assert_relative_eq!(first["at_input"].as_f64().unwrap(), arrived, epsilon = 1e-5);
    assert_eq!(report["model"]["digest"].as_str().unwrap().len(), 64);
    assert_eq!(report["composite"]["name"], "epsilon-plus");
    assert!(report["dispatches"].as_u64().unwrap() > 0);
}

#[test]
fn the_reference_agrees_with_the_cpu() {
    let folder = Folder::new();
    folder.write_samples("in.npy", 5);
    let model = fixture(crate::program::MODEL);
    for composite in ["epsilon", "epsilon_plus", "gradient", "gradient-x-input", "zero"] {
        let explain = |backend: &str, out: &str| {
            let arguments = ["explain", &model, "in.npy", "-o", out, "--backend", backend, "--composite", composite];
            folder.relprop(&arguments).succeeds();
            folder.read(out)
        };
        let (fast, exact) = (explain("cpu", "cpu.npy"), explain("reference", "reference.npy"));
        for (fast, exact) in fast.data().iter().zip(exact.data()) {
            assert_relative_eq!(fast, exact, epsilon = 2e-5, max_relative = 1e-4);
        }
    }
}

#[test]
fn small_blocks_and_batches_give_the_same_bits() {
    let folder = Folder::new();
    folder.write_samples("in.npy", 23);
    folder.explain("in.npy", &[]).succeeds();
    let whole = folder.read("out.npy");
    for more in
        [&["--memory", "4KiB", "--threads", "2"][..], &["--batch-size", "3", "--threads", "1"], &["--threads", "2"]]
    {
        folder.explain("in.npy", more).succeeds();
        assert_eq!(folder.read("out.npy"), whole, "{more:?}");
    }
}

#[test]
fn a_start_changes_what_is_explained() {
    let folder = Folder::new();
    folder.write_samples("in.npy", 2);
    let with = |start: &str| {
        folder.explain("in.npy", &["--start", start, "--target", "1"]).succeeds();
        folder.read("out.npy")
    };
    let (logit, negative) = (with("logit"), with("negative_logit"));
    logit.data().iter().zip(negative.data()).for_each(|(a, b)| assert_relative_eq!(*a, -b));
    let start = (0..10).map(|i| if i % 5 == 1 { 1.0 } else { 0.0 }).collect();
    folder.write("start.npy", &[2, 5], start);
    let (one, given) = (with("one"), with("start.npy"));
    one.data().iter().zip(given.data()).for_each(|(a, b)| assert_relative_eq!(a, b));
    assert_ne!(one, with("probability"));
    assert_ne!(logit, with("contrast"));
}

#[test]
fn uint8_arrays_without_a_channel_axis_are_scaled_and_fitted() {
    let folder = Folder::new();
    let pixels: Vec<u8> = (0..40).map(|i| (i * 53 % 256) as u8).collect();
    std::fs::write(folder.path("bytes.npy"), npy_of_bytes("2, 4, 5", &pixels)).unwrap();
    let run = folder.explain("bytes.npy", &[]).succeeds();
    assert!(run.stderr.contains("uint8, read as pixel / 255"), "{}", run.stderr);
    assert!(run.stderr.contains("[4, 5] is read as [1, 4, 5]"), "{}", run.stderr);
    let from_bytes = folder.read("out.npy");
    assert_eq!(from_bytes.shape().dims(), [2, 4, 5]);
    folder.write("floats.npy", &[2, 1, 4, 5], pixels.iter().map(|&p| f32::from(p) / 255.0).collect());
    folder.explain("floats.npy", &[]).succeeds();
    for (a, b) in from_bytes.data().iter().zip(folder.read("out.npy").data()) {
        assert_relative_eq!(a, b, epsilon = 1e-5, max_relative = 1e-4);
    }
}

#[test]
fn pictures_are_read_scaled_and_named() {
    let folder = Folder::new();
    let mut data = Vec::new();
    for (name, seed) in [("a.png", 3u32), ("b.png", 7)] {
        let picture = image::GrayImage::from_fn(5, 4, |x, y| image::Luma([((x * 40 + y * 17 + seed) % 256) as u8]));
        data.extend(picture.as_raw().iter().map(|&p| f32::from(p) / 255.0));
        picture.save(folder.path(name)).unwrap();
    }
    let model = fixture(crate::program::MODEL);
    let files = ["-o", "out.npy", "--samples", "samples.jsonl", "--heatmap", "heat.png", "--cmap", "mpl:coolwarm"];
    folder.relprop(&[&["explain", &model, "a.png", "b.png"], &files[..]].concat()).succeeds();
    let from_pictures = folder.read("out.npy");
    assert_eq!(from_pictures.shape().dims(), [2, 1, 4, 5]);
    let sources: Vec<String> =
        lines(&folder, "samples.jsonl").iter().map(|line| line["source"].as_str().unwrap().to_owned()).collect();
    assert_eq!(sources, ["a.png", "b.png"]);
    folder.write("in.npy", &[2, 1, 4, 5], data);
    folder.explain("in.npy", &[]).succeeds();
    for (a, b) in from_pictures.data().iter().zip(folder.read("out.npy").data()) {
        assert_relative_eq!(a, b, epsilon = 1e-5, max_relative = 1e-4);
    }
    let page = image::open(folder.path("heat.png")).unwrap();
    assert!(page.width() > 100 && page.height() > 50);
}

#[test]
fn one_array_serves_a_model_of_one_input() {
    let folder = Folder::new();
    let tensor = folder.write_samples("in.npy", 2);
    let archive = [("anything".to_owned(), tensor)].into();
    write_npz(&folder.path("in.npz"), &archive, Precision::F32).unwrap();
    folder.explain("in.npy", &[]).succeeds();
    let from_npy = folder.read("out.npy");
    folder.explain("in.npz", &[]).succeeds();
    assert_eq!(folder.read("out.npy"), from_npy);
    folder.explain(&fixture("onnx/mlp_softmax_legacy.safetensors"), &[]).succeeds();
    assert_eq!(folder.read("out.npy").shape().dims()[1..], [1, 4, 5]);
}

#[test]
fn several_inputs_come_and_leave_by_name() {
    let folder = Folder::new();
    let model = fixture("onnx/two_inputs_legacy.onnx");
    let inputs = fixture("onnx/two_inputs_legacy.safetensors");
    folder.relprop(&["explain", &model, &inputs, "-o", "out.npz"]).succeeds();
    folder.relprop(&["explain", &model, &inputs, "-o", "out.safetensors"]).succeeds();
    let given = read_safetensors(inputs.as_ref()).unwrap();
    let relevance = read_npz(&folder.path("out.npz")).unwrap();
    assert_eq!(relevance.keys().collect::<Vec<_>>(), ["image", "table"]);
    for (name, relevance) in &relevance {
        assert_eq!(relevance.shape(), given[name].shape());
    }
    assert_eq!(read_safetensors(&folder.path("out.safetensors")).unwrap(), relevance);
}

#[test]
fn kept_layers_are_written_beside_the_inputs() {
    let folder = Folder::new();
    folder.write_samples("in.npy", 3);
    let model = fixture(crate::program::MODEL);
    let keep = ["--keep", "/layers/layers.2/Gemm", "--target", "all"];
    folder.relprop(&[&["explain", &model, "in.npy", "-o", "out.npz"], &keep[..]].concat()).succeeds();
    let relevance = read_npz(&folder.path("out.npz")).unwrap();
    assert_eq!(relevance["image"].shape().dims(), [3, 5, 1, 4, 5]);
    assert_eq!(relevance["/layers/layers.2/Gemm"].shape().dims(), [3, 5, 17]);
}

#[test]
fn a_model_without_a_batch_axis_takes_one_sample_or_many() {
    let folder = Folder::new();
    let model = fixture("onnx/tutorial_legacy.onnx");
    folder.write("one.npy", &[4], vec![0.1, 0.2, 0.3, 0.4]);
    folder.write("two.npy", &[2, 4], vec![0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]);
    folder.relprop(&["explain", &model, "one.npy", "-o", "one_out.npy"]).succeeds();
    folder.relprop(&["explain", &model, "two.npy", "-o", "two_out.npy"]).succeeds();
    let (one, two) = (folder.read("one_out.npy"), folder.read("two_out.npy"));
    assert_eq!((one.shape().dims(), two.shape().dims()), (&[4][..], &[2, 4][..]));
    assert_eq!(one.data(), two.row(0));
}

#[test]
fn results_are_smaller_on_request() {
    let folder = Folder::new();
    folder.write_samples("in.npy", 3);
    folder.explain("in.npy", &[]).succeeds();
    let full = folder.read("out.npy");
    folder.explain("in.npy", &["--sum-channels", "--dtype", "f16"]).succeeds();
    let small = folder.read("out.npy");
    assert_eq!(small.shape().dims(), [3, 4, 5]);
    assert_eq!(std::fs::metadata(folder.path("out.npy")).unwrap().len(), 128 + 3 * 20 * 2);
    for (small, full) in small.data().iter().zip(full.data()) {
        assert_relative_eq!(small, full, epsilon = 1e-6, max_relative = 1e-3);
    }
}

#[test]
fn a_value_inside_the_model_can_be_explained() {
    let folder = Folder::new();
    folder.write_samples("in.npy", 2);
    folder.explain("in.npy", &["--output-name", "/layers/layers.2/Gemm_output_0", "--target", "16"]).succeeds();
    assert_eq!(folder.read("out.npy").shape().dims(), [2, 1, 4, 5]);
}

#[test]
fn nan_goes_through_when_it_is_allowed() {
    let folder = Folder::new();
    let mut samples = folder.write_samples("in.npy", 2);
    samples.data_mut()[25] = f32::NAN;
    folder.write("in.npy", &[2, 1, 4, 5], samples.into_data());
    folder.explain("in.npy", &["--allow-nonfinite", "--report", "report.json"]).succeeds();
    let relevance = folder.read("out.npy");
    assert!(relevance.row(0).iter().all(|r| r.is_finite()));
    assert!(relevance.row(1).iter().any(|r| !r.is_finite()));
    let report = folder.json("report.json");
    assert_eq!(report["totals"]["conserves"], false);
    assert!(report["totals"]["nonfinite"].as_u64().unwrap() > 0);
}

#[test]
fn arrays_of_doubles_are_read() {
    let folder = Folder::new();
    let array = relprop::input::read_npy(fixture("formats/f8.npy").as_ref()).unwrap();
    assert!(matches!(array, Array::F64(_)));
    folder.write_samples("in.npy", 2);
    folder.explain("in.npy", &["--epsilon", "rms:0.25", "--stabilizer", "clip:1e-3"]).succeeds();
}

/// The lines of a file of JSON lines.
fn lines(folder: &Folder, name: &str) -> Vec<serde_json::Value> {
    folder.text(name).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}
