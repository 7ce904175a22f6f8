//! `relprop explain --attributor`: methods beside LRP.

use approx::assert_abs_diff_eq;
use relprop::Tensor;

use crate::program::{Folder, MODEL, fixture};

fn explained(folder: &Folder, more: &[&str]) -> Tensor {
    folder.explain("in.npy", &[&["--backend", "cpu"], more].concat()).succeeds();
    folder.read("out.npy")
}

#[test]
fn integrated_gradients_are_complete_and_the_gradient_is_theirs_unless_told() {
    let folder = Folder::new();
    folder.write_samples("in.npy", 3);
    let lines = |name: &str| {
        let text = folder.text(name);
        let number = |line: &str, key: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()[key].as_f64();
        let parts = text.lines().map(|line| (number(line, "score").unwrap(), number(line, "relevance_sum").unwrap()));
        parts.collect::<Vec<_>>()
    };
    let method = ["--attributor", "integrated-gradients", "--target", "2"];
    let found = explained(&folder, &[&method[..], &["--steps", "400", "--samples", "s.jsonl"]].concat());
    folder.write("zero.npy", &[1, 1, 4, 5], vec![0.0; 20]);
    let more = ["--target", "2", "--samples", "zero.jsonl", "--quiet"];
    folder.relprop(&[&["explain", &fixture(MODEL), "zero.npy", "-o", "zero_out.npy"], &more[..]].concat()).succeeds();
    let empty = lines("zero.jsonl")[0].0;
    for (score, sum) in lines("s.jsonl") {
        // The right Riemann sum of 400 steps.
        assert_abs_diff_eq!(sum, score - empty, epsilon = 0.02);
    }
    let named = explained(&folder, &[&method[..], &["--steps", "400", "--composite", "gradient"]].concat());
    assert_eq!(found, named);
    let composed = explained(&folder, &[&method[..], &["--steps", "400", "--composite", "epsilon"]].concat());
    assert_ne!(found, composed);
}

#[test]
fn a_baseline_comes_as_a_number_or_a_file() {
    let folder = Folder::new();
    folder.write_samples("in.npy", 2);
    folder.write("same.npy", &[1, 4, 5], vec![0.25; 20]);
    folder.write("batched.npy", &[1, 1, 4, 5], vec![0.25; 20]);
    for method in ["integrated-gradients", "occlusion"] {
        let with = |baseline: &str| explained(&folder, &["--attributor", method, "--baseline", baseline]);
        let number = with("0.25");
        assert_eq!(number, with("same.npy"), "{method}");
        assert_eq!(number, with("batched.npy"), "{method}");
        assert_ne!(number, with("-0.25"), "{method}");
    }
    let run = folder.explain("in.npy", &["--attributor", "occlusion", "--baseline", "black"]);
    assert_eq!(run.status, 2);
    assert!(run.stderr.contains("pictures") && run.stderr.contains("help:"), "{}", run.stderr);
}

#[test]
fn smoothgrad_repeats_by_its_seed_and_without_noise_is_the_gradient() {
    let folder = Folder::new();
    folder.write_samples("in.npy", 5);
    let smooth = |more: &[&str]| explained(&folder, &[&["--attributor", "smoothgrad"], more].concat());
    let first = smooth(&["--seed", "7"]);
    assert_eq!(first, smooth(&["--seed", "7", "--memory", "64KiB", "--threads", "1"]));
    assert_ne!(first, smooth(&["--seed", "8"]));
    let gradient = explained(&folder, &["--composite", "gradient"]);
    let still = smooth(&["--noise", "0", "--steps", "3"]);
    for (still, gradient) in still.data().iter().zip(gradient.data()) {
        assert_abs_diff_eq!(still, gradient, epsilon = 1e-6);
    }
}

#[test]
fn occlusion_covers_windows_of_pixels() {
    let folder = Folder::new();
    let samples = folder.write_samples("in.npy", 2);
    let method = ["--attributor", "occlusion", "--target", "1"];
    let found = explained(&folder, &[&method[..], &["--window", "2,5"]].concat());
    let score = |data: Vec<f32>| {
        folder.write("one.npy", &[1, 1, 4, 5], data);
        let more = ["-o", "one_out.npy", "--target", "1", "--samples", "one.jsonl", "--backend", "cpu"];
        folder.relprop(&[&["explain", &fixture(MODEL), "one.npy"], &more[..]].concat()).succeeds();
        serde_json::from_str::<serde_json::Value>(&folder.text("one.jsonl")).unwrap()["score"].as_f64().unwrap()
    };
    let x = samples.row(1);
    let whole = score(x.to_vec());
    for (rows, hidden) in [(0..10, 3), (10..20, 17)] {
        let left = score((0..20).map(|i| if rows.contains(&i) { 0.0 } else { x[i] }).collect());
        assert_abs_diff_eq!(f64::from(found.row(1)[hidden]), (whole - left) / 10.0, epsilon = 1e-5);
        let alone = explained(&folder, &[&method[..], &["--window", "2,5", "--window-alone"]].concat());
        let shown = score((0..20).map(|i| if rows.contains(&i) { x[i] } else { 0.0 }).collect());
        assert_abs_diff_eq!(f64::from(alone.row(1)[hidden]), shown, epsilon = 1e-5);
    }
    // 8 pixels, the window unless told, are the whole sample here.
    let default = explained(&folder, &method);
    assert!(default.row(0).iter().all(|r| (r - default.row(0)[0]).abs() < 1e-6));
    assert_eq!(default, explained(&folder, &[&method[..], &["--window", "8", "--stride", "3"]].concat()));
}

#[test]
fn what_a_method_has_no_use_for_is_refused() {
    let folder = Folder::new();
    folder.write_samples("in.npy", 1);
    let cases: &[(&[&str], &str)] = &[
        (&["--steps", "5"], "--steps is for integrated-gradients and smoothgrad"),
        (&["--attributor", "occlusion", "--steps", "5"], "--steps is for"),
        (&["--attributor", "integrated-gradients", "--noise", "0.1"], "--noise is for smoothgrad"),
        (&["--attributor", "integrated-gradients", "--seed", "1"], "--seed is for smoothgrad"),
        (&["--attributor", "smoothgrad", "--window", "2"], "--window is for occlusion"),
        (&["--attributor", "smoothgrad", "--baseline", "0"], "--baseline is for"),
        (&["--attributor", "occlusion", "--composite", "epsilon"], "--composite makes no difference to occlusion"),
        (&["--attributor", "occlusion", "--start", "one"], "the same whatever is covered"),
        (&["--attributor", "occlusion", "--window", "2,2,2,2"], "does not fit"),
        (&["--attributor", "occlusion", "--baseline", "1,2,3"], "3 numbers do not fit"),
        (&["--attributor", "smoothgrad", "--report", "report.json"], "gives no report"),
        (&["--attributor", "nonsense"], "possible values"),
        (&["--attributor", "smoothgrad", "--noise", "-1"], "zero or more"),
    ];
    for (more, message) in cases {
        let run = folder.explain("in.npy", more);
        assert_eq!(run.status, 2, "{more:?}: {}", run.stderr);
        assert!(run.stderr.contains(message), "{more:?}: {}", run.stderr);
    }
    assert_eq!(folder.files(), ["in.npy"]);
}
