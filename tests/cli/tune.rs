//! `relprop tune`.

use std::process::Command;

use serde_json::Value;

use crate::adapter;
use crate::linear_model::{self, OUTPUTS};
use crate::program::{Folder, MODEL, PROGRAM, Run, fixture};

const MODEL_NAME: &str = "linear.onnx";

/// A folder with the smallest model there is: compiling its kernels takes a software adapter long enough.
fn folder() -> Folder {
    let folder = Folder::new();
    linear_model::write(&folder, MODEL_NAME, &[2, 3]);
    folder
}

fn tune(folder: &Folder, more: &[&str]) -> Run {
    let backend = adapter::backend();
    folder.relprop(&[&["tune", MODEL_NAME, "--backend", &backend, "--batch-size", "16"], more].concat())
}

/// `--software` where the adapter of these tests is one.
fn consent() -> &'static [&'static str] {
    let adapter = &adapter::devices()["adapters"];
    let name = adapter::name().to_lowercase();
    let is_named = |found: &&Value| found["full_name"].as_str().unwrap().to_lowercase().contains(&name);
    let found = adapter.as_array().unwrap().iter().find(is_named).unwrap();
    if found["is_software"] == true { &["--software"] } else { &[] }
}

#[test]
fn help_teaches_what_is_chosen_and_where_it_is_kept() {
    let run = Folder::new().relprop(&["tune", "--help"]).succeeds();
    for words in
        ["RELPROP_CACHE", "--software", "--batch-size", "Examples:", "fastest", "gpu:NAME", "--json", "--quiet"]
    {
        assert!(run.stdout.contains(words), "{words}\n{}", run.stdout);
    }
    assert!(Folder::new().relprop(&["--help"]).succeeds().stdout.contains("relprop tune"));
}

#[test]
fn a_software_adapter_is_refused_unless_asked_for() {
    if consent().is_empty() {
        return;
    }
    let folder = folder();
    let run = tune(&folder, &[]);
    assert_eq!(run.status, 2, "{}", run.stderr);
    assert!(run.stderr.contains("software adapter") && run.stderr.contains("--software"), "{}", run.stderr);
    assert!(run.stdout.is_empty());
    let kept = std::fs::read_dir(folder.path("cache")).unwrap().count();
    assert_eq!(kept, 0, "nothing was timed");
}

#[test]
fn what_has_no_kernels_or_no_folder_is_refused() {
    let folder = folder();
    for (more, words) in [
        (&["--backend", "cpu"][..], "--backend gpu"),
        (&["--backend", "reference"], "--backend gpu"),
        (&["--batch-size", "0"], "from 1 on"),
    ] {
        let run = folder.relprop(&[&["tune", MODEL_NAME], more].concat());
        assert!(run.status == 2 && run.stderr.contains(words), "{more:?}: {}", run.stderr);
    }
    std::fs::write(folder.path("file"), "").unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(["tune", MODEL_NAME]).env("RELPROP_CACHE", "file/below");
    let run = folder.run(&mut command);
    assert!(run.status == 1 && run.stderr.contains("RELPROP_CACHE=FOLDER"), "{}", run.stderr);
    let run = folder.relprop(&["tune", MODEL_NAME, "--backend", "gpu:of no such name"]);
    assert!(run.status == 1 && run.stderr.contains("of no such name"), "{}", run.stderr);
}

#[test]
fn choices_are_printed_kept_and_change_nothing_of_a_result() {
    let folder = folder();
    let data = (0..16 * 6).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect();
    folder.write("in.npy", &[16, 2, 3], data);
    let explain = || {
        let backend = adapter::backend();
        let arguments = ["explain", MODEL_NAME, "in.npy", "-o", "out.npy", "--backend", &backend, "--batch-size", "16"];
        folder.relprop(&arguments).succeeds();
        folder.read("out.npy")
    };
    let before = explain();

    let run = tune(&folder, &[consent(), &["--json", "--quiet"]].concat()).succeeds();
    assert!(run.stderr.is_empty(), "{}", run.stderr);
    let record: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((&record["model"], &record["composite"]), (&MODEL_NAME.into(), &"epsilon-plus".into()));
    assert_eq!((&record["batch"], &record["without_choice"]), (&16.into(), &0.into()));
    assert!(["timestamps", "host"].contains(&record["clock"].as_str().unwrap()), "{record}");
    assert!(record["adapter"].as_str().unwrap().to_lowercase().contains(&adapter::name().to_lowercase()));
    assert!(record["seconds_after"].as_f64().unwrap() <= record["seconds_before"].as_f64().unwrap(), "{record}");
    let shapes = record["shapes"].as_array().unwrap();
    let found: Vec<_> =
        shapes.iter().map(|shape| ["direction", "rows", "depth", "columns"].map(|key| &shape[key])).collect();
    let (forward, backward) = ("forward".into(), "backward".into());
    let [rows, depth, columns] = [16, 6, OUTPUTS].map(Value::from);
    assert_eq!(found, [[&forward, &rows, &depth, &columns], [&backward, &rows, &columns, &depth]]);
    for shape in shapes {
        let candidates = shape["candidates"].as_array().unwrap();
        assert_eq!(candidates.len(), 6, "{shape}");
        let names: Vec<&Value> = candidates.iter().map(|candidate| &candidate["name"]).collect();
        assert!(names.contains(&&shape["choice"]) && names.contains(&&shape["heuristic"]), "{shape}");
        for candidate in candidates {
            assert!(candidate["seconds"].as_f64().unwrap() > 0.0 && candidate["difference"] == 0.0, "{candidate}");
        }
    }
    let file = std::path::PathBuf::from(record["file"].as_str().unwrap());
    assert!(file.starts_with(folder.path("cache")) && file.exists(), "{}", file.display());

    assert_eq!(explain(), before);
    // The kernels are compiled now, so the table comes quickly.
    let run = tune(&folder, &[consent(), &["--host-clock"]].concat()).succeeds();
    for words in
        ["dense forward", "dense backward", "small µs", "free 2 µs", "slim 32 µs", "the host's clock", "by the choices"]
    {
        assert!(run.stdout.contains(words), "{words}\n{}", run.stdout);
    }
    assert!(run.stderr.contains("2 choices are kept in"), "{}", run.stderr);
}

#[test]
fn targets_of_single_samples_are_no_matter_of_kernels() {
    let folder = folder();
    folder.write("targets.npy", &[1], vec![0.0]);
    let run = tune(&folder, &[consent(), &["--target", "targets.npy"]].concat());
    assert!(run.status == 2 && run.stderr.contains("leave --target out"), "{}", run.stderr);
    let run = folder.relprop(&["tune", &fixture(MODEL), "--composite", "nonsense"]);
    assert_eq!(run.status, 2, "{}", run.stderr);
}
