//! `relprop bench`.

use serde_json::Value;

use crate::program::{Folder, MODEL, Run, fixture};

/// The keys that scripts rely on.
const KEYS: [&str; 13] = [
    "model",
    "composite",
    "backend",
    "adapter",
    "batch",
    "repeats",
    "explain_s",
    "forward_s",
    "samples_per_s",
    "gflop",
    "gflop_per_s",
    "peak_memory_bytes",
    "device_memory_bytes",
];

fn bench(folder: &Folder, more: &[&str]) -> Run {
    folder.relprop(&[&["bench", &fixture(MODEL)], more].concat())
}

fn json(run: Run) -> Value {
    serde_json::from_str(&run.succeeds().stdout).expect("JSON")
}

#[track_caller]
fn assert_record(record: &Value, backend: &str, batch: usize) {
    assert_eq!((record["backend"].as_str(), record["batch"].as_u64()), (Some(backend), Some(batch as u64)), "{record}");
    let number = |key: &str| record[key].as_f64().unwrap();
    assert!(number("explain_s") > 0.0 && number("forward_s") > 0.0, "{record}");
    approx::assert_relative_eq!(number("samples_per_s"), batch as f64 / number("explain_s"), max_relative = 1e-9);
    // Forward and back once a sample, two operations a multiply-add.
    let operations = 2 * 2 * (20 * 33 + 33 * 17 + 17 * 5) * batch;
    approx::assert_relative_eq!(number("gflop"), operations as f64 * 1e-9, max_relative = 1e-9);
    approx::assert_relative_eq!(number("gflop_per_s"), number("gflop") / number("explain_s"), max_relative = 1e-9);
}

#[test]
fn one_measurement_is_one_object_with_the_keys_that_scripts_rely_on() {
    let folder = Folder::new();
    let run = json(bench(&folder, &["--backend", "cpu", "--batch-size", "8", "--repeats", "3", "--json", "--quiet"]));
    let mut keys: Vec<&str> = run.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = KEYS.to_vec();
    keys.sort_unstable();
    expected.sort_unstable();
    assert_eq!(keys, expected);
    assert_record(&run, "cpu", 8);
    assert_eq!((&run["composite"], &run["repeats"]), (&"epsilon-plus".into(), &3.into()));
    assert_eq!(run["device_memory_bytes"], 0);
    assert!(cfg!(not(target_os = "linux")) || run["peak_memory_bytes"].as_u64().unwrap() > 1 << 20);
}

#[test]
fn several_measurements_are_listed_below_the_first_backends_largest() {
    let folder = Folder::new();
    let more = ["--backend", "reference,cpu", "--batch-size", "4,2", "--repeats", "2", "--json"];
    let document = json(bench(&folder, &more));
    assert_record(&document, "reference", 4);
    let runs = document["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 4);
    for (run, (backend, batch)) in runs.iter().zip([("reference", 2), ("reference", 4), ("cpu", 2), ("cpu", 4)]) {
        assert_record(run, backend, batch);
        assert!(KEYS.iter().all(|key| run.get(key).is_some()), "{run}");
    }
}

#[test]
fn backends_are_checked_before_they_are_timed_and_stdout_is_the_table() {
    let folder = Folder::new();
    let run = bench(&folder, &["--backend", "cpu", "--batch-size", "4", "--repeats", "1"]).succeeds();
    assert!(run.stderr.contains("checked cpu") && run.stderr.contains("float64"), "{}", run.stderr);
    for words in ["forward/s", "explain/s", "explain/forward", "GFLOP/s", "upload", "compute", "download"] {
        assert!(run.stdout.contains(words), "{words}\n{}", run.stdout);
    }
}

#[test]
fn samples_come_from_files_on_request() {
    let folder = Folder::new();
    folder.write_samples("in.npy", 3);
    let run = bench(&folder, &["in.npy", "--backend", "cpu", "--batch-size", "7", "--repeats", "1", "--json"]);
    assert_record(&json(run), "cpu", 7);
    folder.write("wrong.npy", &[3, 7], vec![0.0; 21]);
    let run = bench(&folder, &["wrong.npy", "--backend", "cpu"]);
    assert!(run.status == 1 && run.stderr.contains("[3, 7]"), "{}", run.stderr);
}

#[test]
fn models_that_look_integers_up_are_timed() {
    let folder = Folder::new();
    let model = fixture("onnx/two_inputs_legacy.onnx");
    let run = folder.relprop(&["bench", &model, "--backend", "cpu", "--batch-size", "2", "--repeats", "1", "--json"]);
    assert_eq!(json(run)["batch"], 2);
}

#[test]
fn the_plot_is_a_picture_or_a_drawing() {
    let folder = Folder::new();
    for name in ["speed.svg", "speed.png"] {
        let more = ["--backend", "cpu", "--batch-size", "1,4,16", "--repeats", "1", "--plot", name];
        bench(&folder, &more).succeeds();
    }
    let svg = folder.text("speed.svg");
    for words in ["mlp_softmax_legacy.onnx", "batch size", "samples a second", "explain", "forward"] {
        assert!(svg.contains(words), "{words}\n{svg}");
    }
    let picture = image::open(folder.path("speed.png")).unwrap();
    assert!(picture.width() > 1000 && picture.height() > 600);
    assert_eq!(folder.files(), ["speed.png", "speed.svg"]);
}

#[test]
fn wrong_usage_is_told_before_any_work() {
    let folder = Folder::new();
    for (more, words) in [
        (&["--plot", "speed.pdf"][..], ".svg"),
        (&["--batch-size", "0"], "from 1 on"),
        (&["--batch-size", "1,many"], "from 1 on"),
        (&["--repeats", "0"], "from 1 on"),
        (&["--backend", "cpu,tpu"], "no backend"),
        (&["--mean", "0.5"], "--mean"),
    ] {
        let run = bench(&folder, more);
        assert!(run.status == 2 && run.stderr.contains(words) && run.stdout.is_empty(), "{more:?} {}", run.stderr);
    }
    assert_eq!(folder.files(), [""; 0]);
}

#[cfg(feature = "gpu")]
mod on_a_device {
    use super::*;
    use crate::adapter;

    #[test]
    fn the_gpu_is_timed_beside_the_cpu_with_the_shares_of_its_time() {
        let folder = Folder::new();
        let device = adapter::backend();
        let more = ["--backend", "cpu", "--backend", &device, "--batch-size", "4", "--repeats", "2"];
        let run = bench(&folder, &more).succeeds();
        assert!(run.stderr.contains("checked gpu"), "{}", run.stderr);
        let line =
            run.stdout.lines().find(|line| line.trim().starts_with("gpu")).unwrap_or_else(|| panic!("{}", run.stdout));
        assert!(line.contains('%'), "upload and download took time: {line}");
        let document = json(bench(&folder, &[&more[..], &["--json"]].concat()));
        let runs = document["runs"].as_array().unwrap();
        assert_record(&runs[0], "cpu", 4);
        assert_record(&runs[1], "gpu", 4);
        assert!(runs[1]["device_memory_bytes"].as_u64().unwrap() > 0, "weights are on the device: {document}");
    }

    #[test]
    fn unless_told_every_backend_takes_part() {
        let folder = Folder::new();
        let document = json(bench(&folder, &["--batch-size", "2", "--repeats", "1", "--json"]));
        let backends: Vec<&str> =
            document["runs"].as_array().unwrap().iter().map(|run| run["backend"].as_str().unwrap()).collect();
        assert!(backends.contains(&"cpu") && backends.contains(&"gpu"), "{document}");
        assert_eq!(document["backend"], adapter::devices()["auto"]["backend"]);
    }
}

#[test]
fn a_profile_tells_each_steps_time_work_and_bytes() {
    let folder = Folder::new();
    let asked = ["--backend", "cpu", "--batch-size", "8", "--repeats", "2", "--composite", "epsilon", "--quiet"];
    let run = json(bench(&folder, &[&asked[..], &["--profile", "--json", "--trace", "trace.json"]].concat()));
    let profile = &run[0];
    assert_eq!((&profile["backend"], &profile["batch"]), (&"cpu".into(), &8.into()));
    assert!(profile["peak"]["gflop_per_s"].as_f64().unwrap() > 0.0);
    assert!(profile["peak"]["gb_per_s"].as_f64().unwrap() > 0.0);
    let steps = profile["steps"].as_array().unwrap();
    let total = |key: &str| steps.iter().map(|step| step[key].as_f64().unwrap()).sum::<f64>();
    approx::assert_relative_eq!(total("seconds"), profile["seconds"].as_f64().unwrap(), max_relative = 1e-9);
    // Forward and back once a sample, two operations a multiply-add.
    approx::assert_relative_eq!(total("operations"), f64::from(2 * 2 * (20 * 33 + 33 * 17 + 17 * 5) * 8));
    assert!(steps.iter().all(|step| step["seconds"].as_f64().unwrap() > 0.0 && step["bytes"].as_u64().unwrap() > 0));
    let phases: Vec<&str> = steps.iter().map(|step| step["phase"].as_str().unwrap()).collect();
    assert_eq!((phases.first(), phases.last()), (Some(&"forward"), Some(&"relevance")));

    let events = folder.json("trace.json");
    let events = events.as_array().unwrap();
    assert_eq!(events.len(), steps.len());
    let mut end = 0.0;
    for event in events {
        assert_eq!(event["ph"], "X", "{event}");
        approx::assert_relative_eq!(event["ts"].as_f64().unwrap(), end, max_relative = 1e-9, epsilon = 1e-9);
        end += event["dur"].as_f64().unwrap();
    }

    let text = bench(&folder, &[&asked[..], &["--profile"]].concat()).succeeds().stdout;
    assert!(text.contains("of roofline") && text.contains("all products of relevance"), "{text}");
}

#[test]
fn a_profile_needs_a_backend_that_times_its_steps() {
    let folder = Folder::new();
    let run = bench(&folder, &["--backend", "reference", "--batch-size", "1", "--profile", "--quiet"]);
    assert!(run.status == 1 && run.stderr.contains("cannot time its steps"), "{}", run.stderr);
    let run = bench(&folder, &["--trace", "trace.json", "--quiet"]);
    assert!(run.status == 2 && run.stderr.contains("--profile"), "{}", run.stderr);
}
