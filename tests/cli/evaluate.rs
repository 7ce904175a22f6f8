//! `relprop evaluate`: pixel flipping, as a table, JSON, lines and curves.

use approx::assert_abs_diff_eq;
use relprop::Tensor;
use serde_json::Value;

use crate::program::{Folder, MODEL, Run, fixture, npy_of_bytes};

fn evaluate(folder: &Folder, more: &[&str]) -> Run {
    folder.relprop(&[&["evaluate", &fixture(MODEL), "in.npy", "--backend", "cpu"], more].concat())
}

fn document(run: &Run) -> Value {
    serde_json::from_str(&run.stdout).expect("one JSON object")
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|x| x.as_f64().expect("a number")).collect()
}

/// The scores of samples for one target.
fn scores(folder: &Folder, samples: &Tensor, target: &str) -> Vec<f64> {
    folder.write("some.npy", samples.shape().dims(), samples.data().to_vec());
    let more = ["-o", "some_out.npy", "--target", target, "--samples", "some.jsonl", "--backend", "cpu"];
    folder.relprop(&[&["explain", &fixture(MODEL), "some.npy"], &more[..]].concat()).succeeds();
    let score = |line: &str| serde_json::from_str::<Value>(line).unwrap()["score"].as_f64().unwrap();
    folder.text("some.jsonl").lines().map(score).collect()
}

#[test]
fn the_curve_is_what_hand_made_perturbations_score() {
    let folder = Folder::new();
    let samples = folder.write_samples("in.npy", 1);
    let relevance: Vec<f32> = (0..20).map(|i| (i * 7 % 20) as f32).collect();
    folder.write("r.npy", &[1, 1, 4, 5], relevance.clone());
    let run = evaluate(
        &folder,
        &["--relevance", "r.npy", "--target", "3", "--regions-per-step", "6", "--perturb", "0.5", "--json"],
    );
    let document = document(&run.succeeds());
    let curve = |order: &str| numbers(&document["explanations"][0]["curves"][order]);
    let perturbed = Tensor::from_fn([5, 1, 4, 5], |i| {
        let (step, pixel) = (i / 20, i % 20);
        // The ranks are the relevance itself: 19 goes first.
        if 19.0 - relevance[pixel] < 6.0 * step as f32 { 0.5 } else { samples.data()[pixel] }
    });
    let known = scores(&folder, &perturbed, "3");
    assert_eq!(curve("morf").len(), 5);
    for (found, known) in curve("morf").iter().zip(&known) {
        assert_abs_diff_eq!(*found, known, epsilon = 1e-5);
    }
    assert_abs_diff_eq!(curve("lerf")[4], known[4], epsilon = 1e-5);
    let part = &document["explanations"][0];
    let aopc = known.iter().map(|score| known[0] - score).sum::<f64>() / 5.0;
    assert_abs_diff_eq!(part["aopc"]["morf"].as_f64().unwrap(), aopc, epsilon = 1e-5);
    let between: f64 = curve("lerf").iter().zip(curve("morf")).map(|(least, most)| least - most).sum::<f64>() / 5.0;
    assert_abs_diff_eq!(part["abpc"].as_f64().unwrap(), between, epsilon = 1e-9);
    assert_eq!(document["explanations"][1]["name"], "random");
    let about = |key: &str| document[key].clone();
    assert_eq!((about("regions"), about("regions_per_step"), about("steps")), (20.into(), 6.into(), 4.into()));
    assert_eq!((about("perturbation"), about("score"), about("target")), ("0.5".into(), "logit".into(), "3".into()));
}

#[test]
fn several_composites_are_compared_in_one_run() {
    let folder = Folder::new();
    folder.write_samples("in.npy", 9);
    let files = ["--plot", "curves.svg", "--samples", "samples.jsonl"];
    let run =
        evaluate(&folder, &[&["--composite", "epsilon,gradient-x-input,zero", "--gamma", "0.5"], &files[..]].concat());
    assert_eq!(run.status, 2, "no composite of these has γ");
    let run =
        evaluate(&folder, &[&["--composite", "epsilon,gradient", "--epsilon", "0.1"], &files[..]].concat()).succeeds();
    for word in ["epsilon ", "gradient ", "random ", "AOPC MoRF", "AOPC LeRF", "ABPC", "means of 9 samples"] {
        assert!(run.stdout.contains(word), "{word}: {}", run.stdout);
    }
    assert!(run.stderr.contains("evaluated 9 samples"), "{}", run.stderr);
    let lines: Vec<Value> =
        folder.text("samples.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 27);
    let of = |name: &str| lines.iter().filter(|line| line["explanation"] == name).collect::<Vec<_>>();
    for (position, line) in of("gradient").into_iter().enumerate() {
        assert_eq!((line["index"].as_u64(), line["source"].as_str()), (Some(position as u64), Some("in.npy")));
        let curve = numbers(&line["curves"]["morf"]);
        assert_eq!((curve.len(), curve[0]), (21, line["score"].as_f64().unwrap()));
        let aopc = curve.iter().map(|score| curve[0] - score).sum::<f64>() / 21.0;
        assert_abs_diff_eq!(line["aopc"]["morf"].as_f64().unwrap(), aopc, epsilon = 1e-9);
        assert_eq!(line["score"], of("random")[position]["score"]);
    }
    assert!(of("random").iter().all(|line| line["abpc"].is_null()));
    // Each sample starts from its own strongest class.
    assert!(of("epsilon").iter().any(|line| line["target"] != lines[0]["target"]));
    let chart = folder.text("curves.svg");
    for word in ["epsilon, MoRF", "epsilon, LeRF", "gradient, MoRF", "random", "logit of the target"] {
        assert!(chart.contains(word), "{word}");
    }
}

#[test]
fn a_composites_relevance_and_the_file_it_wrote_are_one() {
    let folder = Folder::new();
    folder.write_samples("in.npy", 4);
    folder.explain("in.npy", &["--composite", "epsilon", "--target", "1", "--backend", "cpu"]).succeeds();
    let pixels = folder.read("out.npy").reshape([4, 4, 5]).unwrap();
    folder.write("pixels.npy", &[4, 4, 5], pixels.into_data());
    let perturbed = |perturb: &str, more: &[&str]| {
        let common = ["--target", "1", "--json", "--seed", "3", "--score", "probability", "--perturb", perturb];
        document(&evaluate(&folder, &[&common, more].concat()).succeeds())["explanations"][0]["curves"].clone()
    };
    let curves = |more: &[&str]| perturbed("uniform", more);
    let computed = curves(&["--composite", "epsilon"]);
    assert_eq!(computed, curves(&["--relevance", "out.npy"]));
    assert_eq!(computed, curves(&["--relevance", "pixels.npy"]));
    assert!(numbers(&computed["morf"]).iter().all(|p| (0.0..=1.0).contains(p)));
    assert_ne!(computed, curves(&["--relevance", "out.npy", "--abs"]));
    assert_ne!(computed, perturbed("mean", &["--relevance", "out.npy"]));
}

#[test]
fn seeds_and_memory_decide_what_they_should() {
    let folder = Folder::new();
    folder.write_samples("in.npy", 30);
    let random = |more: &[&str]| {
        let common = ["--order", "random", "--region", "2", "--json"];
        document(&evaluate(&folder, &[&common, more].concat()).succeeds())["explanations"].clone()
    };
    let first = random(&[]);
    assert_eq!(first.as_array().unwrap().len(), 1, "nothing but the order by chance was asked for");
    assert_eq!(first, random(&["--seed", "0", "--memory", "16KiB", "--threads", "1"]));
    assert_ne!(first, random(&["--seed", "1"]));
}

#[test]
fn black_is_the_pixel_of_a_picture_prepared_as_it_is() {
    let folder = Folder::new();
    let pixels: Vec<u8> = (0..20).map(|i| i * 12 + 5).collect();
    std::fs::write(folder.path("in.npy"), npy_of_bytes("1, 1, 4, 5", &pixels)).unwrap();
    let more =
        ["--mean", "0.5", "--std", "0.25", "--target", "0", "--regions-per-step", "20", "--order", "morf", "--json"];
    let curve = |perturb: &[&str]| {
        let run = evaluate(&folder, &[&more, perturb].concat()).succeeds();
        numbers(&document(&run)["explanations"][0]["curves"]["morf"])
    };
    let black = scores(&folder, &Tensor::from_fn([1, 1, 4, 5], |_| -2.0), "0")[0];
    let white = scores(&folder, &Tensor::from_fn([1, 1, 4, 5], |_| 2.0), "0")[0];
    assert_abs_diff_eq!(curve(&[])[1], black, epsilon = 1e-5);
    assert_abs_diff_eq!(curve(&["--perturb", "black"])[1], black, epsilon = 1e-5);
    assert_abs_diff_eq!(curve(&["--perturb", "white"])[1], white, epsilon = 1e-5);
}

#[test]
fn what_does_not_fit_is_refused_with_the_way_out() {
    let folder = Folder::new();
    folder.write_samples("in.npy", 2);
    folder.write("three.npy", &[3, 1, 4, 5], vec![0.0; 60]);
    folder.write("turned.npy", &[2, 5, 4], vec![0.0; 40]);
    folder.write("nan.npy", &[2, 1, 4, 5], vec![f32::NAN; 40]);
    let cases: &[(&[&str], i32, &str)] = &[
        (&["--relevance", "three.npy"], 1, "[3, 1, 4, 5] does not fit 2 samples of shape [1, 4, 5]"),
        (&["--relevance", "turned.npy"], 1, "does not fit 2 samples"),
        (&["--relevance", "nan.npy"], 1, "NaN"),
        (&["--relevance", "gone.npy"], 1, "gone.npy"),
        (&["--relevance", "three.npy", "--composite", "epsilon"], 2, "cannot be used with"),
        (&["--relevance", "three.npy", "--gamma", "1"], 2, "--gamma makes no difference"),
        (&["--relevance", "three.npy", "--start", "one"], 2, "--start is for composites"),
        (&["--steps", "21"], 2, "take 20 steps at most"),
        (&["--steps", "11", "--regions-per-step", "2"], 2, "take 10 steps at most"),
        (&["--region", "2,2,2,2"], 2, "does not fit"),
        (&["--region", "0"], 2, "from 1 on"),
        (&["--target", "top:2"], 2, "several targets a sample"),
        (&["--perturb", "nonsense"], 2, "no perturbation"),
        (&["--perturb", "black"], 2, "pictures"),
        (&["--perturb", "blur:0"], 2, "from 1 on"),
        (&["--composite", "epsilon,epsilon"], 2, "named twice"),
        (&["--composite", "epsilom"], 2, "epsilon"),
        (&["--plot", "curves.pdf"], 2, ".svg or .png"),
        (&["--samples", "in.npy"], 2, "named twice"),
    ];
    for (more, status, message) in cases {
        let run = evaluate(&folder, more);
        assert_eq!(run.status, *status, "{more:?}: {}", run.stderr);
        assert!(run.stderr.contains(message), "{more:?}: {}", run.stderr);
        assert_eq!(run.stdout, "", "{more:?}");
    }
    assert_eq!(folder.files(), ["in.npy", "nan.npy", "three.npy", "turned.npy"]);
}
