//! `--composite` and the flags of its rules: what they change, what a file says instead, and what is refused.

use relprop::Tensor;

use crate::linear_model::{self, weight};
use crate::program::{Folder, MODEL, Run, fixture, npy_of_bytes};

const BOX: &str = "base = \"epsilon\"\n\n[[entry]]\nfirst = true\nrule = \"box\"\n";

fn folder() -> Folder {
    let folder = Folder::new();
    folder.write_samples("in.npy", 3);
    std::fs::write(folder.path("box.toml"), BOX).unwrap();
    folder
}

fn of(folder: &Folder, more: &[&str]) -> Tensor {
    folder.explain("in.npy", more).succeeds();
    folder.read("out.npy")
}

#[test]
fn flags_say_what_a_file_says() {
    let folder = folder();
    let file = |text: &str| {
        std::fs::write(folder.path("mine.toml"), text).unwrap();
        of(&folder, &["--composite", "mine.toml"])
    };
    let gamma = |line: &str| {
        file(&format!(
            "[[entry]]\nfamily = \"linear\"\nrule = \"gamma\"\n{line}\n[[entry]]\nfamily = \"pointwise\"\nrule = \"pass\""
        ))
    };
    assert_eq!(of(&folder, &["--composite", "gamma", "--gamma", "2"]), gamma("gamma = 2"));
    assert_eq!(of(&folder, &["--composite", "gamma"]), gamma(""));
    assert_ne!(gamma("gamma = 2"), gamma(""));
    assert_eq!(
        of(&folder, &["--composite", "epsilon", "--epsilon", "clip:0.25"]),
        file(&format!(
            "{}epsilon = \"clip:0.25\"",
            "[[entry]]\nfamily = \"pointwise\"\nrule = \"pass\"\n[[entry]]\nfamily = \"linear\"\nrule = \"epsilon\"\n"
        ))
    );

    let told = file(&format!("{BOX}low = -2\nhigh = 1.5"));
    let bounds = ["--composite", "box.toml", "--low", "-2", "--high", "1.5"];
    assert_eq!(of(&folder, &bounds), told);
    folder.write("low.npy", &[1, 4, 5], vec![-2.0; 20]);
    assert_eq!(of(&folder, &["--composite", "box.toml", "--low", "low.npy", "--high", "1.5"]), told);
    assert_ne!(of(&folder, &["--composite", "box.toml", "--low", "-3", "--high", "1.5"]), told);
    folder.explain("in.npy", &["--composite", "gamma", "--gamma", "2", "--report", "report.json"]).succeeds();
    let report = folder.json("report.json");
    assert_eq!((&report["composite"]["name"], &report["composite"]["gamma"]), (&"gamma".into(), &2.0.into()));
    assert_eq!(report["layers"][0]["rule"], "gamma(2)");
}

/// R = Σ (x w − l w⁺ − h w⁻) R / Σ …, for the one layer of the linear model.
fn boxed(x: &[f32], output: usize, low: impl Fn(usize) -> f32, high: impl Fn(usize) -> f32) -> Vec<f32> {
    let score: f32 = x.iter().enumerate().map(|(i, x)| x * weight(i, output)).sum();
    let part = |(i, x): (usize, &f32)| {
        let w = weight(i, output);
        x * w - low(i) * w.max(0.0) - high(i) * w.min(0.0)
    };
    let parts: Vec<f32> = x.iter().enumerate().map(part).collect();
    let sum: f32 = parts.iter().sum();
    parts.iter().map(|part| part / sum * score).collect()
}

#[test]
fn pixels_bound_the_box_as_they_are_prepared() {
    let folder = folder();
    linear_model::write(&folder, "colours.onnx", &[3, 2, 4]);
    let pixels: Vec<u8> = (0..24).map(|i| (i * 53 % 256) as u8).collect();
    std::fs::write(folder.path("pixels.npy"), npy_of_bytes("1, 3, 2, 4", &pixels)).unwrap();
    let (mean, std) = ([0.25_f32, 0.5, 0.75], [0.5_f32, 0.25, 2.0]);
    let flags = ["--mean", "0.25,0.5,0.75", "--std", "0.5,0.25,2", "--target", "1", "--composite", "box.toml"];
    let explain = |input: &str, more: &[&str]| -> Run {
        folder.relprop(&[&["explain", "colours.onnx", input, "-o", "out.npy"], more].concat())
    };
    explain("pixels.npy", &flags).succeeds();
    let found = folder.read("out.npy");
    let x: Vec<f32> = (0..24).map(|i| (f32::from(pixels[i]) / 255.0 - mean[i / 8]) / std[i / 8]).collect();
    let ends = |pixel: f32| move |i: usize| (pixel - mean[i / 8]) / std[i / 8];
    for (found, expected) in found.data().iter().zip(boxed(&x, 1, ends(0.0), ends(1.0))) {
        approx::assert_relative_eq!(*found, expected, epsilon = 1e-4, max_relative = 1e-3);
    }
    // The same, said.
    let said = ["--low", "-0.5,-2,-0.375", "--high", "1.5,2,0.125"];
    explain("pixels.npy", &[&flags[..], &said].concat()).succeeds();
    for (said, found) in folder.read("out.npy").data().iter().zip(found.data()) {
        approx::assert_relative_eq!(said, found, epsilon = 1e-6, max_relative = 1e-5);
    }
    // Numbers have no bounds of their own.
    folder.write("numbers.npy", &[1, 3, 2, 4], x);
    let run = explain("numbers.npy", &["--composite", "box.toml"]);
    assert!(run.status == 2 && run.stderr.contains("--low and --high"), "{}", run.stderr);
}

#[test]
fn a_dialect_is_a_flag_or_a_line_of_the_file() {
    let folder = folder();
    let flag = |dialect: &str| of(&folder, &["--composite", "gamma", "--dialect", dialect]);
    let file = |dialect: &str| {
        std::fs::write(folder.path("dialect.toml"), format!("dialect = \"{dialect}\"\nbase = \"gamma\"")).unwrap();
        of(&folder, &["--composite", "dialect.toml"])
    };
    assert_eq!(flag("zennit"), of(&folder, &["--composite", "gamma"]));
    assert_eq!(flag("captum"), file("captum"));
    assert_ne!(flag("captum"), flag("zennit"));

    let report = |more: &[&str]| {
        folder.explain("in.npy", &[more, &["--report", "report.json"]].concat()).succeeds();
        folder.json("report.json")
    };
    let found = report(&["--composite", "preset-a", "--dialect", "innvestigate"]);
    let composite = &found["composite"];
    assert_eq!((&composite["name"], &composite["dialect"]), (&"sequential-preset-a".into(), &"innvestigate".into()));
    assert_eq!((&composite["epsilon"], &composite["stabilizer"]), (&"1e-1".into(), &"clip:1e-7".into()));
    assert_eq!(found["layers"][0]["rule"], "epsilon(1e-1)");
    let found = report(&["--composite", "dialect.toml"]);
    assert_eq!((&found["composite"]["dialect"], &found["composite"]["epsilon"]), (&"captum".into(), &"1e-9".into()));

    let refused = [
        (["gradient", "captum"], "--dialect makes no difference to the composite `gradient`"),
        (["dialect.toml", "zennit"], "--dialect makes no difference"),
        (["epsilon", "kaptum"], "there is no dialect `kaptum`"),
        (["gamma", "innvestigate"], "innvestigate has no rule gamma"),
    ];
    for ([composite, dialect], words) in refused {
        let run = folder.explain("in.npy", &["--composite", composite, "--dialect", dialect]);
        assert!(run.status == 2 && run.stderr.contains(words), "{words}: {}", run.stderr);
    }
}

#[test]
fn deep_taylor_takes_the_box_rule_where_the_input_is_read_and_bounded() {
    let folder = folder();
    let file = "base = \"deep-taylor\"\n[[entry]]\nfirst = true\nrule = \"box\"\nlow = -2\nhigh = 2";
    std::fs::write(folder.path("mine.toml"), file).unwrap();
    let boxed = of(&folder, &["--composite", "deep-taylor-box", "--low", "-2", "--high", "2"]);
    assert_eq!(boxed, of(&folder, &["--composite", "mine.toml"]));
    assert_ne!(boxed, of(&folder, &["--composite", "deep-taylor"]));
    let run = folder.explain("in.npy", &["--composite", "deep-taylor-box"]);
    assert!(run.status == 2 && run.stderr.contains("--low and --high"), "{}", run.stderr);
}

#[test]
fn flags_without_use_are_refused() {
    let folder = folder();
    let cases: [(&[&str], &str); 9] = [
        (&["--gamma", "1"], "--gamma makes no difference to the composite `epsilon-plus`"),
        (&["--composite", "gradient", "--epsilon", "1"], "--epsilon makes no difference to the composite `gradient`"),
        (&["--composite", "guided-backprop", "--stabilizer", "1"], "--stabilizer makes no difference"),
        (&["--composite", "gamma", "--epsilon", "1"], "--epsilon makes no difference"),
        (&["--composite", "epsilon", "--low", "0", "--high", "1"], "--low makes no difference"),
        (&["--composite", "box.toml", "--low", "0"], "--high"),
        (&["--composite", "box.toml", "--low", "2", "--high", "1"], "the lower bound 2 is above the upper bound 1"),
        (&["--composite", "box.toml", "--low", "x", "--high", "1"], "one a channel as a,b,c"),
        (&["--composite", "gamma", "--gamma", "-1"], "zero or more"),
    ];
    for (more, words) in cases {
        let run = folder.explain("in.npy", more);
        assert!(run.status == 2 && run.stderr.contains(words), "{more:?}: {}", run.stderr);
    }
    folder.write("low.npy", &[], vec![0.0]);
    for (report, more) in [("./box.toml", ["--low", "0"]), ("./low.npy", ["--low", "low.npy"])] {
        let run = folder
            .explain("in.npy", &[&["--composite", "box.toml", "--high", "9", "--report", report], &more[..]].concat());
        assert!(run.status == 2 && run.stderr.contains("is named twice"), "{}", run.stderr);
    }
    let run = folder.explain("in.npy", &["--composite", "no.toml"]);
    assert!(run.status == 1 && run.stderr.contains("no.toml: cannot be read"), "{}", run.stderr);
    std::fs::write(folder.path("slip.toml"), "[[entry]]\nfirst = true\nrul = \"zero\"").unwrap();
    let run = folder.explain("in.npy", &["--composite", "slip.toml"]);
    assert!(run.status != 0 && run.stderr.contains("slip.toml, line 1"), "{}", run.stderr);
}

#[test]
fn inspect_says_which_line_gave_each_rule_and_what_no_layer_took() {
    let folder = folder();
    let text = "base = \"epsilon-plus\"\n\n[[entry]]\nname = \"*layers.2*\"\nrule = \"z-plus\"\n";
    std::fs::write(folder.path("mine.toml"), text).unwrap();
    let run = folder.relprop(&["inspect", &fixture(MODEL), "--composite", "mine.toml"]).succeeds();
    for words in ["z-plus", "mine.toml, line 3: name matches `*layers.2*`", "family is linear", "no such layer"] {
        assert!(run.stdout.contains(words), "{words}\n{}", run.stdout);
    }
}

#[test]
fn a_preset_for_layers_that_the_model_lacks_runs_with_a_note() {
    let folder = folder();
    let run = folder.explain("in.npy", &["--composite", "epsilon-gamma-box", "--low", "-1", "--high", "1"]).succeeds();
    assert!(run.stderr.contains("no layer takes the rule box"), "{}", run.stderr);
    let boxed = folder.read("out.npy");
    let run = folder.explain("in.npy", &[]).succeeds();
    assert!(!run.stderr.contains("no layer takes"), "{}", run.stderr);
    assert_eq!(folder.read("out.npy"), boxed, "on dense layers both are the epsilon rule");
    assert_eq!(folder.explain("in.npy", &["--composite", "epsilon-gamma-box", "--quiet"]).succeeds().stderr, "");
}
