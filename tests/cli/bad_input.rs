//! What is wrong is said in one clear error with the way out; nothing half-written stays.

use std::process::Command;

use crate::program::{Folder, MODEL, PROGRAM, fixture, npy_of_bytes};

/// Arguments after `explain MODEL`, the exit status, and words of the error.
struct Case {
    arguments: &'static [&'static str],
    status: i32,
    words: &'static [&'static str],
}

const fn case(arguments: &'static [&'static str], status: i32, words: &'static [&'static str]) -> Case {
    Case { arguments, status, words }
}

const CASES: &[Case] = &[
    case(&["nope.npy", "-o", "out.npy"], 1, &["nope.npy", "cannot be read", "help: check the path"]),
    case(&["in.txt", "-o", "out.npy"], 1, &["in.txt", "no known format", ".npy"]),
    case(&["cut.npy", "-o", "out.npy"], 1, &["cut.npy", "needs", "cut short"]),
    case(
        &["wide.npy", "-o", "out.npy"],
        1,
        &["wide.npy", "[2, 1, 4, 6]", "[1, 4, 5]", "give an array of shape [N, 1, 4, 5]"],
    ),
    case(
        &["nan.npy", "-o", "out.npy"],
        1,
        &["nan.npy", "`image` holds NaN in sample 1, element [0, 1, 2]", "--allow-nonfinite"],
    ),
    case(
        &["inf.npy", "-o", "out.npy", "--memory", "1KiB", "--threads", "1"],
        1,
        &["inf.npy", "holds inf in sample 2, element [0, 0, 0]"],
    ),
    case(&["empty.npy", "-o", "out.npy"], 1, &["empty.npy", "holds no samples", "give at least one"]),
    case(&["in.npy", "-o", "out.npy", "--target", "5"], 2, &["target 5 is out of range", "5 outputs", "0 to 4"]),
    case(&["in.npy", "-o", "out.npy", "--target", "0,9"], 2, &["target 9 is out of range"]),
    case(&["in.npy", "-o", "out.npy", "--target", "top:6"], 2, &["top:6", "5 outputs"]),
    case(&["in.npy", "-o", "out.npy", "--target", "top:0"], 2, &["`top:0` is no target"]),
    case(&["in.npy", "-o", "out.npy", "--target", "argmx"], 2, &["`argmx` is no target", "did you mean argmax"]),
    case(&["in.npy", "-o", "out.npy", "--target", "four.npy"], 2, &["four.npy", "4 targets are given for 3 samples"]),
    case(&["in.npy", "-o", "out.npy", "--target", "minus.npy"], 2, &["minus.npy", "sample 1: target -1"]),
    case(&["in.npy", "-o", "out.npy", "--start", "four.npy"], 1, &["four.npy", "[4]", "[3, 5]"]),
    case(&["in.npy", "-o", "out.npy", "--start", "turned.npy"], 1, &["turned.npy", "[5, 3]", "[3, 5]", "transpose"]),
    case(&["in.npy", "-o", "out.npy", "--start", "logits"], 2, &["`logits` is no start", "probability"]),
    case(
        &["in.npy", "-o", "out.npy", "--composite", "epsilon-plas"],
        2,
        &["epsilon-plas", "did you mean `epsilon-plus`"],
    ),
    case(&["in.npy", "-o", "out.npy", "--epsilon", "soft:1"], 2, &["soft:1", "clip:1e-6"]),
    case(
        &["in.npy", "-o", "out.npz", "--keep", "/layers/layers.2/Gem"],
        2,
        &["/layers/layers.2/Gem", "/layers/layers.2/Gemm"],
    ),
    case(&["in.npy", "-o", "out.npy", "--keep", "/layers/layers.2/Gemm"], 2, &["holds one array", "write .npz"]),
    case(&["in.npy", "-o", "out.npy", "--output-name", "outptu"], 2, &["outptu", "output"]),
    case(&["in.npy", "-o", "out.npy", "--dim", "batsh=3"], 2, &["no dimension `batsh`", "batch"]),
    case(&["in.npy", "-o", "out.npy", "--dim", "batch"], 2, &["seq=128"]),
    case(&["in.npy", "-o", "no/folder/out.npy"], 1, &["the folder no/folder is not there", "make the folder first"]),
    case(&["in.npy", "-o", "out.npy", "--report", "no/report.json"], 1, &["the folder no is not there"]),
    case(&["in.npy", "-o", "out.npy", "--heatmap", "heat.jpg"], 2, &["heat.jpg", ".png"]),
    case(&["in.npy", "-o", "out.npy", "--cmap", "hot"], 2, &["--heatmap"]),
    case(&["in.npy", "-o", "out.npy", "--heatmap", "h.png", "--cmap", "cool"], 2, &["cool", "did you mean"]),
    case(&["in.npy", "-o", "out.npy", "--heatmap", "h.png", "--clip-percent", "100"], 2, &["100 percent"]),
    case(&["in.npy", "-o", "out.csv"], 2, &["out.csv", ".npy"]),
    case(&["in.npy", "-o", "in.npy"], 2, &["in.npy: is named twice"]),
    case(&["in.npy", "-o", "./in.npy"], 2, &["in.npy: is named twice"]),
    case(&["./in.npy", "-o", "out.npy", "--samples", "in.npy"], 2, &["in.npy: is named twice"]),
    case(&["in.npy", "-o", "out.npy", "--report", "./out.npy"], 2, &["./out.npy: is named twice"]),
    case(&["in.npy", "-o", "./four.npy", "--target", "four.npy"], 2, &["./four.npy: is named twice"]),
    case(&["in.npy", "-o", "./turned.npy", "--start", "turned.npy"], 2, &["./turned.npy: is named twice"]),
    case(&["in.npy", "-o", "out.npy", "--scale", "2"], 2, &["--scale is for pictures and uint8 arrays"]),
    case(&["in.npy", "in.npy", "-o", "out.npy"], 2, &["not all are pictures"]),
    case(&["broken.png", "-o", "out.npy"], 1, &["broken.png", "cannot be decoded"]),
    case(&["bytes.npy", "-o", "out.npy", "--std", "0"], 2, &["std"]),
    case(&["in.npy", "-o", "out.npy", "--backend", "tpu"], 2, &["tpu", "gpu:NAME", "reference"]),
    case(&["in.npy", "-o", "out.npy", "--memory", "lots"], 2, &["2GiB"]),
    case(&["in.npy", "-o", "out.npy", "--threads", "0"], 2, &["from 1 on"]),
    case(&["in.npy", "-o", "out.npy", "--gamma", "0.25"], 2, &["--gamma"]),
    case(&["in.npy"], 2, &["--output"]),
];

fn folder() -> Folder {
    let folder = Folder::new();
    let samples = folder.write_samples("in.npy", 3).into_data();
    std::fs::write(folder.path("in.txt"), "1 2 3").unwrap();
    let bytes = std::fs::read(folder.path("in.npy")).unwrap();
    std::fs::write(folder.path("cut.npy"), &bytes[..bytes.len() - 8]).unwrap();
    folder.write("wide.npy", &[2, 1, 4, 6], vec![0.0; 48]);
    folder.write("empty.npy", &[0, 1, 4, 5], Vec::new());
    for (name, position, value) in [("nan.npy", 27, f32::NAN), ("inf.npy", 40, f32::INFINITY)] {
        let mut data = samples.clone();
        data[position] = value;
        folder.write(name, &[3, 1, 4, 5], data);
    }
    folder.write("four.npy", &[4], vec![0.0; 4]);
    folder.write("turned.npy", &[5, 3], vec![0.0; 15]);
    folder.write("minus.npy", &[3], vec![0.0, -1.0, 0.0]);
    std::fs::write(folder.path("broken.png"), b"\x89PNG\r\n\x1a\n....").unwrap();
    std::fs::write(folder.path("bytes.npy"), npy_of_bytes("1, 1, 4, 5", &[9; 20])).unwrap();
    folder
}

#[test]
fn every_mistake_is_named_with_its_way_out() {
    let folder = folder();
    let before = folder.files();
    let model = fixture(MODEL);
    let mut faults = Vec::new();
    for Case { arguments, status, words } in CASES {
        let run = folder.relprop(&[&["explain", &model], *arguments].concat());
        let missing: Vec<_> = words.iter().filter(|word| !run.stderr.contains(**word)).collect();
        if run.status != *status || !missing.is_empty() || !run.stdout.is_empty() || !run.stderr.contains("error:") {
            faults.push(format!("{arguments:?}: status {}, lacks {missing:?} in:\n{}", run.status, run.stderr));
        }
        // What clap refuses points to --help, or lists what it takes.
        if !["help: ", "tip: ", "try '--help'"].iter().any(|way| run.stderr.contains(way)) {
            faults.push(format!("{arguments:?}: no way out in:\n{}", run.stderr));
        }
        if folder.files() != before {
            faults.push(format!("{arguments:?}: left {:?}", folder.files()));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn broken_models_are_refused() {
    let folder = folder();
    let before = folder.files();
    for line in std::fs::read_to_string(fixture("onnx/bad/cases.tsv")).unwrap().lines() {
        let (name, reason) = line.split_once('\t').expect("a name, a tab, a reason");
        let model = format!("{}/{name}.onnx", fixture("onnx/bad"));
        if !std::path::Path::new(&model).exists() {
            continue;
        }
        let run = folder.relprop(&["explain", &model, "in.npy", "-o", "out.npy"]);
        assert!(matches!(run.status, 1 | 2), "{name} ({reason}): {}", run.stderr);
        assert!(run.stderr.starts_with("error:"), "{name}: {}", run.stderr);
        assert_eq!(folder.files(), before, "{name}");
    }
    let run = folder.relprop(&["explain", "nope.onnx", "in.npy", "-o", "out.npy"]);
    assert!(run.status == 1 && run.stderr.contains("nope.onnx"), "{}", run.stderr);
}

#[test]
fn inputs_are_asked_for_by_name() {
    let folder = folder();
    let model = fixture("onnx/two_inputs_legacy.onnx");
    let run = folder.relprop(&["explain", &model, "in.npy", "-o", "out.npz"]);
    assert!(run.status == 2 && run.stderr.contains("image, table"), "{}", run.stderr);
    let inputs = fixture("onnx/mlp_softmax_legacy.safetensors");
    let run = folder.relprop(&["explain", &model, &inputs, "-o", "out.npz"]);
    assert!(run.status == 2 && run.stderr.contains("`table`"), "{}", run.stderr);
    let inputs = fixture("onnx/two_inputs_legacy.safetensors");
    let run = folder.relprop(&["explain", &model, &inputs, "-o", "out.npy"]);
    assert!(run.status == 2 && run.stderr.contains("image, table"), "{}", run.stderr);
}

#[cfg(unix)]
#[test]
fn a_device_is_not_replaced_by_a_result() {
    let folder = folder();
    let run = folder.explain("in.npy", &["--report", "/dev/null"]);
    assert!(run.status == 1 && run.stderr.contains("is a device"), "{}", run.stderr);
    assert!(!folder.path("out.npy").exists());
}

#[cfg(unix)]
#[test]
fn a_disk_that_fills_up_leaves_no_result() {
    let folder = Folder::new();
    folder.write_samples("in.npy", 4000);
    let before = folder.files();
    let script = format!(
        "trap '' XFSZ; ulimit -f 64; exec {PROGRAM} explain {} in.npy -o out.npy --samples samples.jsonl",
        fixture(MODEL)
    );
    let run = folder.run(Command::new("bash").args(["-c", &script]));
    assert_eq!(run.status, 1, "{}", run.stderr);
    assert!(run.stderr.contains("cannot be written"), "{}", run.stderr);
    assert_eq!(folder.files(), before);
}

#[cfg(unix)]
#[test]
fn a_reader_that_stops_early_is_no_failure() {
    let folder = Folder::new();
    let script = format!("set -o pipefail; {PROGRAM} inspect {} | true", fixture(MODEL));
    let run = folder.run(Command::new("bash").args(["-c", &script]));
    assert_eq!((run.status, run.stderr.as_str()), (0, ""));
}

#[cfg(target_os = "linux")]
#[test]
fn words_that_cannot_be_written_are_a_failure() {
    let folder = Folder::new();
    let script = format!("exec {PROGRAM} inspect {} > /dev/full", fixture(MODEL));
    let run = folder.run(Command::new("bash").args(["-c", &script]));
    assert!(run.status == 1 && run.stderr.contains("stdout cannot be written to"), "{}", run.stderr);
}

#[cfg(unix)]
#[test]
fn a_pipe_is_no_input() {
    let folder = folder();
    for name in ["pipe.npy", "pipe.safetensors", "pipe.png", "pipe.idx"] {
        assert!(Command::new("mkfifo").arg(folder.path(name)).status().unwrap().success());
        let run = folder.explain(name, &[]);
        let words = format!("{name}: is a pipe or device");
        assert!(run.status == 1 && run.stderr.contains(&words) && run.stderr.contains("help: "), "{}", run.stderr);
    }
}

#[cfg(unix)]
#[test]
fn a_result_does_not_replace_the_file_behind_a_link() {
    let folder = folder();
    std::os::unix::fs::symlink(folder.path("in.npy"), folder.path("link.npy")).unwrap();
    std::os::unix::fs::symlink(folder.path(""), folder.path("here")).unwrap();
    let model = fixture(MODEL);
    for (input, output) in [("link.npy", "in.npy"), ("here/in.npy", "in.npy"), ("in.npy", "here/in.npy")] {
        let run = folder.relprop(&["explain", &model, input, "-o", output]);
        assert!(run.status == 2 && run.stderr.contains("is named twice"), "{input} {output}: {}", run.stderr);
    }
}

#[test]
fn wrong_commands_explain_themselves() {
    let folder = Folder::new();
    let run = folder.relprop(&["explian"]);
    assert!(run.status == 2 && run.stderr.contains("explain"), "{}", run.stderr);
    let run = folder.relprop(&["--help"]).succeeds();
    assert!(run.stdout.contains("Examples:"));
}
