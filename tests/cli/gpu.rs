//! `--backend gpu:NAME` as a user gives it: kernels run, and results are the CPU's.

use std::process::Command;

use approx::assert_relative_eq;

use crate::adapter;
use crate::program::{Folder, MODEL, PROGRAM, fixture};

#[test]
fn relevance_from_the_gpu_agrees_with_the_reference_and_kernels_ran() {
    let folder = Folder::new();
    folder.write_samples("in.npy", 9);
    for composite in ["epsilon-plus", "gradient", "gradient-x-input", "zero"] {
        let more = ["--composite", composite, "--target", "top:2"];
        folder.explain("in.npy", &[&more[..], &["--backend", "reference"]].concat()).succeeds();
        let expected = folder.read("out.npy");
        let backend = adapter::backend();
        let gpu = [&more[..], &["--backend", &backend, "--report", "report.json"]].concat();
        let run = folder.explain("in.npy", &gpu).succeeds();
        for (r, expected) in folder.read("out.npy").data().iter().zip(expected.data()) {
            assert_relative_eq!(r, expected, epsilon = 2e-5, max_relative = 1e-4);
        }
        let report = folder.json("report.json");
        assert_eq!(report["backend"], "gpu");
        assert!(report["dispatches"].as_u64().unwrap() > 0, "{report}");
        let adapter = report["adapter"].as_str().unwrap();
        assert!(adapter.to_lowercase().contains(&adapter::name().to_lowercase()), "{adapter}");
        assert!(run.stderr.contains(adapter), "{}", run.stderr);
    }
}

#[test]
fn float16_weights_are_told_and_stay_near_and_are_the_gpus_alone() {
    let folder = Folder::new();
    folder.write_samples("in.npy", 2);
    folder.explain("in.npy", &["--backend", "reference"]).succeeds();
    let expected = folder.read("out.npy");
    let backend = adapter::backend();
    let half = ["--half-weights", "--report", "report.json", "--backend"];
    folder.explain("in.npy", &[&half[..], &[&backend]].concat()).succeeds();
    let norm = |v: &mut dyn Iterator<Item = f32>| v.map(|v| f64::from(v * v)).sum::<f64>().sqrt();
    let found = folder.read("out.npy");
    let differences = &mut found.data().iter().zip(expected.data()).map(|(found, expected)| found - expected);
    let off = norm(differences) / norm(&mut expected.data().iter().copied());
    assert!((1e-6..1e-2).contains(&off), "{off}");
    assert_eq!(folder.json("report.json")["half_weights"], true);
    for other in ["auto", "cpu", "reference"] {
        let refused = folder.explain("in.npy", &[&half[..], &[other]].concat());
        assert_eq!(refused.status, 2, "{other}");
        assert!(refused.stderr.contains("--backend gpu"), "{}", refused.stderr);
    }
}

#[test]
fn dispatches_of_a_gpu_add_up_over_batches() {
    let folder = Folder::new();
    folder.write_samples("in.npy", 8);
    let dispatches = |batch: &str| {
        let backend = adapter::backend();
        let more = ["--backend", &backend, "--batch-size", batch, "--report", "report.json"];
        folder.explain("in.npy", &more).succeeds();
        (folder.json("report.json")["dispatches"].as_u64().unwrap(), folder.read("out.npy"))
    };
    let (whole, quarters) = (dispatches("8"), dispatches("2"));
    assert_eq!(quarters.0, 4 * whole.0);
    for (a, b) in whole.1.data().iter().zip(quarters.1.data()) {
        assert_relative_eq!(a, b, epsilon = 2e-5, max_relative = 1e-4);
    }
}

#[test]
fn compiled_kernels_are_kept_where_the_environment_says() {
    let folder = Folder::new();
    folder.write_samples("in.npy", 2);
    let (model, backend) = (fixture(MODEL), adapter::backend());
    let arguments = ["explain", &model, "in.npy", "-o", "out.npy", "--backend", &backend];
    let mut results = Vec::new();
    for _ in 0..2 {
        folder.run(Command::new(PROGRAM).args(arguments).env("RELPROP_CACHE", "kept/here")).succeeds();
        results.push(folder.read("out.npy"));
    }
    assert_eq!(results[0], results[1]);
    // Interfaces other than Vulkan keep nothing.
    for file in std::fs::read_dir(folder.path("kept/here")).into_iter().flatten() {
        let name = file.unwrap().file_name().into_string().unwrap();
        assert!(name.starts_with("pipelines-") && name.ends_with(".bin"), "{name}");
    }
}

#[test]
fn the_text_of_kernels_is_kept_on_request() {
    let folder = Folder::new();
    folder.write_samples("in.npy", 2);
    let (model, backend) = (fixture(MODEL), adapter::backend());
    let arguments = ["explain", &model, "in.npy", "-o", "out.npy", "--backend", &backend];
    folder.run(Command::new(PROGRAM).args(arguments).env("RELPROP_DUMP_SHADERS", "texts/here")).succeeds();
    let texts: Vec<_> = std::fs::read_dir(folder.path("texts/here")).unwrap().collect();
    assert!(!texts.is_empty());
    for text in texts {
        let path = text.unwrap().path();
        assert!(std::fs::read_to_string(&path).unwrap().contains("@compute"), "{}", path.display());
    }
}
