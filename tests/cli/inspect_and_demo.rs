//! `relprop inspect` and `relprop demo`.

#[cfg(feature = "gpu")]
use std::process::Command;

#[cfg(feature = "gpu")]
use crate::adapter;
#[cfg(feature = "gpu")]
use crate::program::PROGRAM;
use crate::program::{Folder, MODEL, fixture};

#[test]
fn inspect_shows_layers_rules_and_the_plan() {
    let folder = Folder::new();
    let run = folder.relprop(&["inspect", &fixture(MODEL)]).succeeds();
    for words in [
        "image [N, 1, 4, 5], real numbers",
        "opset 17",
        "the last softmax",
        "/layers/layers.4/Gemm",
        "epsilon(1e-6)",
        "family is linear",
        "R(image) =",
        "7: 6 products, 1 others",
        "times the least possible",
        "a sample",
    ] {
        assert!(run.stdout.contains(words), "{words}\n{}", run.stdout);
    }
    assert_eq!(run.stderr, "");
}

#[test]
fn inspect_names_what_was_made_of_simple_layers_and_what_was_merged() {
    let folder = Folder::new();
    let run = folder.relprop(&["inspect", &fixture("onnx/instance_norm.onnx")]).succeeds();
    for words in ["InstanceNormalization (", "is a gate and gets no relevance", "/variance", "power", "gated("] {
        assert!(run.stdout.contains(words), "{words}\n{}", run.stdout);
    }
    let model = fixture("onnx/batch_norm_relu_conv.onnx");
    assert!(!folder.relprop(&["inspect", &model]).succeeds().stdout.contains("merged into the layer behind"));
    let behind = fixture("onnx/batch_norm_after_relu.onnx");
    let run = folder.relprop(&["inspect", &behind, "--merge-behind"]).succeeds();
    assert!(run.stdout.contains("merged into the layer behind, as asked"), "{}", run.stdout);
}

#[test]
fn inspect_gives_json_on_request() {
    let folder = Folder::new();
    let run = folder.relprop(&["inspect", &fixture(MODEL), "--json", "--target", "all", "--batch-size", "10"]);
    let json: serde_json::Value = serde_json::from_str(&run.succeeds().stdout).unwrap();
    assert_eq!(json["plan"]["targets"], 5);
    assert_eq!(json["plan"]["batch"], 10);
    // Forward once a sample, backward once a target: (20·33 + 33·17 + 17·5) · 10 · (1 + 5).
    assert_eq!(json["plan"]["multiply_adds"], (20 * 33 + 33 * 17 + 17 * 5) * 10 * 6);
    assert_eq!(json["layers"][1]["rule"], "epsilon(1e-6)");
}

#[test]
fn inspect_knows_every_composite() {
    let folder = Folder::new();
    for composite in relprop::composite::PRESETS {
        let bounds: &[&str] = if composite.ends_with("-box") { &["--low", "-1", "--high", "1"] } else { &[] };
        let model = fixture(MODEL);
        let run = folder.relprop(&[&["inspect", &model, "--composite", composite], bounds].concat()).succeeds();
        assert!(run.stdout.contains(composite), "{}", run.stdout);
    }
}

#[test]
fn the_demo_explains_its_own_images_anywhere() {
    let folder = Folder::new();
    let run = folder.relprop(&["demo", "--images", "80", "--out", "results"]).succeeds();
    for words in ["accuracy", "images a second", "conservation", "with float64 on 64 images", "heatmaps.png"] {
        assert!(run.stdout.contains(words), "{words}\n{}", run.stdout);
    }
    assert_eq!(folder.read("results/relevance.npy").shape().dims(), [80, 1, 28, 28]);
    let page = image::open(folder.path("results/heatmaps.png")).unwrap();
    assert!(page.width() > 800 && page.height() > 800);
}

#[cfg(feature = "gpu")]
#[test]
fn the_demo_compares_every_backend_and_needs_no_adapter() {
    let folder = Folder::new();
    let demo = |interfaces: &str| {
        let mut command = Command::new(PROGRAM);
        command.args(["demo", "--images", "70", "--out", "results"]).env("WGPU_BACKEND", interfaces);
        folder.run(&mut command).succeeds().stdout
    };
    let without = demo(if cfg!(target_os = "macos") { "vulkan" } else { "metal" });
    assert!(without.contains("no GPU adapter") && !without.contains("\n  gpu"), "{without}");
    let run = folder.relprop(&["demo", "--images", "70", "--out", "results"]).succeeds();
    let table = run.stdout.split("Every backend").nth(1).unwrap();
    for adapter in adapter::devices()["adapters"].as_array().unwrap() {
        assert!(table.contains(adapter["full_name"].as_str().unwrap()), "{adapter}\n{table}");
    }
    assert!(table.contains("\n  cpu") && table.contains("\n  gpu") && !table.contains("fails"), "{table}");
}

#[test]
fn the_demo_of_a_cnn_draws_a_column_a_preset() {
    let folder = Folder::new();
    let run =
        folder.relprop(&["demo", "--model", "cnn", "--images", "80", "--backend", "cpu", "--out", "cnn"]).succeeds();
    assert!(run.stdout.contains("CNN of"), "{}", run.stdout);
    let page = image::open(folder.path("cnn/heatmaps.png")).unwrap();
    assert!(page.width() > page.height() / 2 && page.width() > 1000);
}

#[test]
fn the_demo_names_a_folder_that_cannot_be_made() {
    let folder = Folder::new();
    std::fs::write(folder.path("file"), "").unwrap();
    let run = folder.relprop(&["demo", "--images", "1", "--out", "file/results"]);
    assert!(run.status == 1 && run.stderr.contains("--out"), "{}", run.stderr);
}
