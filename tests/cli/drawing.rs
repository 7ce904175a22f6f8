//! `--heatmap`: its options, its size, and that it costs no result.

use std::process::Command;

use relprop::Tensor;

use crate::linear_model;
use crate::program::{Folder, MODEL, PROGRAM, fixture};

/// The page that options give for the same samples.
fn page(folder: &Folder, options: &[&str]) -> image::RgbImage {
    folder.explain("in.npy", &[&["--heatmap", "heat.png"], options].concat()).succeeds();
    image::open(folder.path("heat.png")).unwrap().into_rgb8()
}

#[test]
fn every_option_changes_the_page() {
    let folder = Folder::new();
    folder.write_samples("in.npy", 4);
    let plain = page(&folder, &[]);
    assert_eq!(page(&folder, &["--scale-by", "sample", "--level", "1", "--reduce", "sum"]), plain);
    let mut pages = vec![plain.clone()];
    let options = [
        &["--overlay", "0.5"][..],
        &["--overlay", "1"],
        &["--reduce", "abs"],
        &["--level", "2"],
        &["--scale-by", "grid"],
        &["--clip-percent", "50"],
        &["--cmap", "mpl:coolwarm"],
    ];
    for options in options {
        let page = page(&folder, options);
        assert!(!pages.contains(&page), "{options:?}");
        pages.push(page);
    }
    for wrong in [["--overlay", "1.5"], ["--level", "0"], ["--level", "NaN"]] {
        let run = folder.explain("in.npy", &[&["--heatmap", "heat.png"], &wrong[..]].concat());
        assert!(run.status == 2 && run.stderr.contains("help: "), "{wrong:?}: {}", run.stderr);
    }
}

#[test]
fn channels_are_joined_as_reduce_says() {
    let folder = Folder::new();
    linear_model::write(&folder, "model.onnx", &[3, 2, 4]);
    let samples = Tensor::from_fn([2, 3, 2, 4], |i| (i * 37 % 11) as f32 / 5.0 - 1.0);
    folder.write("in.npy", &[2, 3, 2, 4], samples.into_data());
    let pages: Vec<_> = ["sum", "abs", "max"]
        .iter()
        .map(|reduce| {
            let files = ["explain", "model.onnx", "in.npy", "-o", "out.npy", "--heatmap", "heat.png"];
            folder.relprop(&[&files[..], &["--reduce", reduce]].concat()).succeeds();
            std::fs::read(folder.path("heat.png")).unwrap()
        })
        .collect();
    assert!(pages[0] != pages[1] && pages[1] != pages[2] && pages[0] != pages[2]);
}

#[test]
fn large_samples_make_fewer_cells_or_are_refused_before_the_work() {
    let folder = Folder::new();
    let explain = |more: &[&str]| {
        folder.relprop(&[&["explain", "model.onnx", "in.npy", "-o", "out.npy", "--heatmap", "heat.png"], more].concat())
    };
    linear_model::write(&folder, "model.onnx", &[1, 900, 1100]);
    folder.write("in.npy", &[6, 1, 900, 1100], vec![0.5; 6 * 900 * 1100]);
    let run = explain(&[]).succeeds();
    assert!(run.stderr.contains("shows the first 4 of 6"), "{}", run.stderr);
    // A narrow picture is not enlarged into a tower.
    linear_model::write(&folder, "model.onnx", &[1, 3000, 1]);
    folder.write("in.npy", &[6, 1, 3000, 1], vec![0.5; 6 * 3000]);
    explain(&[]).succeeds();
    let page = image::open(folder.path("heat.png")).unwrap();
    assert!(page.height() < 8000, "{}", page.height());
    linear_model::write(&folder, "model.onnx", &[300_000]);
    folder.write("in.npy", &[1, 300_000], vec![0.5; 300_000]);
    std::fs::remove_file(folder.path("out.npy")).unwrap();
    let run = explain(&[]);
    assert!(run.status == 1 && run.stderr.contains("too large") && run.stderr.contains("help: "), "{}", run.stderr);
    assert!(!folder.path("out.npy").exists());
}

#[cfg(unix)]
#[test]
fn a_heatmap_that_cannot_be_written_costs_no_result() {
    let folder = Folder::new();
    folder.write_samples("in.npy", 20);
    // Files end at 6 KiB: relevance and lines stay below, the page does not.
    let script = format!(
        "trap '' XFSZ; ulimit -f 6; exec {PROGRAM} explain {} in.npy -o out.npy --samples samples.jsonl --heatmap heat.png",
        fixture(MODEL)
    );
    let run = folder.run(Command::new("bash").args(["-c", &script]));
    assert_eq!(run.status, 1, "{}", run.stderr);
    assert!(run.stderr.contains("relevance is written, but its heatmap is not: heat.png"), "{}", run.stderr);
    assert_eq!(folder.files(), ["in.npy", "out.npy", "samples.jsonl"]);
    assert_eq!(folder.text("samples.jsonl").lines().count(), 20);
}
