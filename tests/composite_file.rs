//! Composites from TOML files: the README's example, every rule, and errors that name the line.
#![cfg(feature = "files")]

use std::path::{Path, PathBuf};

use relprop::composite::{Composite, Parameter, PresetOptions};
use relprop::composite_file::{RULES, read};
use relprop::rules::Dialect;
use relprop::{ErrorKind, Network, Result, Tensor};

struct File(tempfile::TempDir);

impl File {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("mine.toml"), text).unwrap();
        File(folder)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("mine.toml")
    }
}

fn parsed(text: &str) -> Result<Composite> {
    read(&File::new(text).path(), PresetOptions::default())
}

/// Three channels in, two dense layers, as an exporter names them.
fn network() -> Network {
    let mut builder = Network::builder();
    let x = builder.input("x", [3, 2, 2]);
    let flat = builder.reshape("/flatten", x, [12]).unwrap();
    let hidden = builder.dense("/layers/1", flat, Tensor::from_fn([4, 12], |i| i as f32 - 20.0), None).unwrap();
    let active = builder.relu("/layers/2", hidden).unwrap();
    let output = builder.dense("/layers/3", active, Tensor::from_fn([2, 4], |i| i as f32), None).unwrap();
    builder.build(output).unwrap()
}

fn rules(composite: &Composite) -> Vec<(String, String)> {
    let network = network();
    let assignment = composite.assign(&network).unwrap();
    let choices = network.layer_ids().filter_map(|(id, _)| assignment.choice(id));
    choices.map(|choice| (choice.rule.describe(), choice.reason.clone())).collect()
}

#[test]
fn the_example_of_the_readme_gives_its_rules_and_says_why() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let example = readme.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let composite = parsed(example).unwrap();
    assert_eq!(composite.name(), "mine");
    let found = rules(&composite);
    let names: Vec<&str> = found.iter().map(|(rule, _)| rule.as_str()).collect();
    assert_eq!(names, ["box", "pass", "gamma(0.5), bias left out"]);
    assert!(found[0].1.ends_with("mine.toml, line 4: first linear layer after an input"), "{found:?}");
    assert!(found[2].1.contains("line 10: name matches `/layers/*`, kind is dense or kind is sum, depth is 2 to 3"));
    assert!(composite.uses(Parameter::Epsilon), "by its base");
    assert!(!composite.uses(Parameter::Gamma) && !composite.uses(Parameter::Bounds), "told");
}

#[test]
fn the_table_of_the_readme_has_every_rule() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let table = readme.split("| rule | its parameters |\n| --- | --- |\n").nth(1).unwrap();
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    let listed = rows.flat_map(|row| row.split('|').nth(1).unwrap().split(',').map(|name| name.trim().to_owned()));
    let (mut listed, mut known): (Vec<String>, Vec<String>) = (listed.collect(), RULES.map(str::to_owned).into());
    listed.sort();
    known.sort();
    assert_eq!(listed, known);
}

#[test]
fn every_rule_takes_its_parameters() {
    let cases = [
        ("epsilon\"\nepsilon = \"clip:0.25\"", "epsilon(clip:2.5e-1)"),
        ("epsilon\"\nepsilon = 1\nbias = \"redistributed\"", "epsilon(1e0), bias redistributed"),
        ("zero\"", "zero"),
        ("norm\"\nstabilizer = 0.5", "norm(5e-1)"),
        ("gamma\"", "gamma(0.25)"),
        ("gamma_original\"\ngamma = 2\nstabilizer = \"rms:0.1\"", "gamma-original(2)"),
        ("alpha-beta\"\nalpha = 3", "alpha-beta(3)"),
        ("alpha-beta\"\nbeta = 0.5", "alpha-beta(1.5)"),
        ("alpha-beta-x\"\nalpha = [1, 0]\nbeta = [0.0, -1]", "alpha-beta-x(1, 0; 0, -1)"),
        ("z-plus\"\nbias = \"counted\"", "z-plus"),
        ("box\"\nlow = 0\nhigh = [1, 2, 3]", "box"),
        ("w-square\"", "w-square"),
        ("flat\"\nstabilizer = 0", "flat"),
        ("gradient\"", "gradient"),
    ];
    for (rule, expected) in cases {
        let composite = parsed(&format!("base = \"epsilon\"\n[[entry]]\nfirst = true\nrule = \"{rule}")).unwrap();
        assert_eq!(rules(&composite)[0].0, expected, "{rule}");
    }
    for (rule, expected) in [
        ("pass\"", "pass"),
        ("gradient\"", "gradient"),
        ("deconvnet\"", "deconvnet"),
        ("guided-backprop\"", "guided-backprop"),
        ("beta-smooth\"\nbeta = 3", "beta-smooth(3)"),
    ] {
        let composite = parsed(&format!("base = \"gradient\"\n[[entry]]\nkind = \"relu\"\nrule = \"{rule}")).unwrap();
        assert_eq!(rules(&composite)[1].0, expected, "{rule}");
    }
}

#[test]
fn a_dialect_gives_every_rule_of_the_file_and_its_base_the_tools_own_terms() {
    let of = |dialect: &str, rule: &str| {
        let text = format!("dialect = \"{dialect}\"\nbase = \"epsilon\"\n[[entry]]\nfirst = true\nrule = \"{rule}\"");
        let found = rules(&parsed(&text).unwrap());
        [found[0].0.clone(), found[2].0.clone()]
    };
    let cases = [
        ("zennit", "z-plus", ["z-plus", "epsilon(1e-6)"]),
        ("captum", "z-plus", ["captum's z-plus", "epsilon(1e-9)"]),
        ("captum", "gamma", ["captum's gamma(0.25)", "epsilon(1e-9)"]),
        ("captum", "gamma_original", ["captum's gamma(0.25)", "epsilon(1e-9)"]),
        ("captum", "alpha-beta\"\nalpha = 1\nbias = \"left-out", ["captum's z-plus, bias left out", "epsilon(1e-9)"]),
        ("captum", "norm", ["norm(1e-9)", "epsilon(1e-9)"]),
        ("innvestigate", "epsilon", ["epsilon(1e-7)", "epsilon(1e-7)"]),
        ("innvestigate", "zero", ["innvestigate's zero", "epsilon(1e-7)"]),
        ("innvestigate", "norm", ["norm(clip:1e-7)", "epsilon(1e-7)"]),
        ("innvestigate", "alpha-beta", ["innvestigate's alpha-beta(2)", "epsilon(1e-7)"]),
        (
            "innvestigate",
            "alpha-beta-x\"\nalpha = [2, 0]\nbeta = [1, 0]\nstabilizer = \"1e-3",
            ["innvestigate's alpha-beta-x(2, 0; 1, 0)", "epsilon(1e-7)"],
        ),
        ("innvestigate", "z-plus", ["z-plus, bias left out", "epsilon(1e-7)"]),
        ("innvestigate", "w-square", ["w-square, bias left out", "epsilon(1e-7)"]),
        ("innvestigate", "flat", ["flat", "epsilon(1e-7)"]),
    ];
    for (dialect, rule, expected) in cases {
        assert_eq!(of(dialect, rule), expected, "{dialect}, {rule}");
    }

    let entry =
        "[[entry]]\nfamily = \"linear\"\nrule = \"epsilon\"\n[[entry]]\nfamily = \"pointwise\"\nrule = \"pass\"";
    let fixed = parsed(&format!("dialect = \"captum\"\n{entry}")).unwrap();
    assert!(!fixed.uses(Parameter::Dialect), "the file says whose");
    assert_eq!(fixed.options().resolved_epsilon().to_string(), "1e-9");
    let open = File::new(entry);
    assert!(read(&open.path(), PresetOptions::default()).unwrap().uses(Parameter::Dialect));
    let asked = PresetOptions { dialect: Dialect::Innvestigate, ..PresetOptions::default() };
    assert_eq!(rules(&read(&open.path(), asked).unwrap())[0].0, "epsilon(1e-7)");
    let told = File::new(&format!("dialect = \"captum\"\n{entry}"));
    assert_eq!(rules(&read(&told.path(), asked).unwrap())[0].0, "epsilon(1e-9)", "the file wins");
}

#[test]
fn arrays_beside_the_file_bound_the_box() {
    let file = File::new("base = \"epsilon\"\n[[entry]]\nfirst = true\nrule = \"box\"\nlow = \"low.npy\"\nhigh = 9");
    let low = Tensor::from_fn([3, 2, 2], |i| -(i as f32));
    relprop::output::write_npy(&file.0.path().join("low.npy"), &low, relprop::output::Precision::F32).unwrap();
    let network = network();
    let assignment = read(&file.path(), PresetOptions::default()).unwrap().assign(&network).unwrap();
    let (id, _) = network.layer_ids().nth(1).unwrap();
    let Some(relprop::rules::Rule::Linear(rule)) = assignment.rule(id) else { panic!("a linear rule") };
    let bounds = rule.bounds.as_ref().unwrap();
    assert_eq!((bounds.low.data(), bounds.high.data()), (low.data(), &[9.0; 12][..]));
}

#[test]
fn what_is_wrong_is_named_with_its_line_and_the_way_out() {
    let entry = |lines: &str| format!("base = \"epsilon\"\n\n[[entry]]\n{lines}");
    let cases = [
        ("".to_owned(), "holds neither entries nor a base", "[[entry]]"),
        ("base = \"epsilonn\"".to_owned(), "line 1: there is no composite `epsilonn`", "epsilon"),
        ("bse = \"epsilon\"".to_owned(), "line 1: unknown field `bse`", "README"),
        ("base = \"epsilon\"\nname = 3".to_owned(), "line 2: invalid type", "README"),
        (entry("first = true\nrule = "), "line 5", "README"),
        (entry("rule = \"zero\""), "line 3: the entry does not say which layers", "first or depth"),
        (entry("first = true"), "line 3: the entry has no rule", "epsilon"),
        (entry("first = false\nrule = \"zero\""), "line 3: first = false", "true"),
        (entry("nmae = \"fc\"\nfirst = true\nrule = \"zero\""), "line 3: there is no key `nmae`", "`name`"),
        (entry("first = true\nrule = \"epsilom\""), "line 3: there is no rule `epsilom`", "`epsilon`"),
        (
            entry("first = true\nrule = \"zero\"\ngamma = 1"),
            "line 3: the entry's rule takes no `gamma`",
            "leave it out",
        ),
        (
            entry("first = true\nrule = \"alpha-beta\"\nalpha = 2\nbeta = 2"),
            "alpha − beta is 0, not 1",
            "the other follows",
        ),
        (entry("first = true\nrule = \"alpha-beta-x\"\nalpha = [1]"), "alpha = [1]", "two numbers"),
        (entry("first = true\nrule = \"gamma\"\ngamma = -1"), "gamma = -1", "zero or more"),
        (entry("first = true\nrule = \"epsilon\"\nepsilon = \"soft:1\""), "`soft:1` is no stabiliser", "clip:1e-6"),
        (entry("first = true\nrule = \"zero\"\nbias = \"no\""), "bias = \"no\"", "left-out"),
        (entry("first = true\nrule = \"box\"\nlow = 1"), "one bound of two", "both"),
        (entry("first = true\nrule = \"box\"\nlow = \"no.npy\"\nhigh = 1"), "no.npy", "check the path"),
        (entry("kind = \"dens\"\nrule = \"zero\""), "there is no kind of layer `dens`", "dense"),
        (entry("family = \"conv\"\nrule = \"zero\""), "family = \"conv\"", "pointwise"),
        (entry("depth = [3, 2]\nrule = \"zero\""), "depth = [3, 2]", "from 1 on"),
        (entry("name = \"fc\"\nrule = \"gradient\""), "the rule gradient is of every family", "family ="),
        ("dialect = \"capttum\"".to_owned(), "line 1: there is no dialect `capttum`", "`captum`"),
        (
            format!("dialect = \"captum\"\n{}", entry("first = true\nrule = \"flat\"")),
            "line 4: captum has no rule flat",
            "z-plus",
        ),
        (
            "dialect = \"captum\"\nbase = \"epsilon-plus-flat\"".to_owned(),
            "line 2: captum has no rule flat",
            "leave the dialect out",
        ),
        (entry("name = \"[\"\nrule = \"zero\""), "no pattern of layer names", "one of several"),
    ];
    for (text, message, help) in cases {
        let error = parsed(&text).unwrap_err();
        assert!(error.message().contains("mine.toml"), "{error}");
        assert!(error.message().contains(message), "{message}: {error}");
        assert!(error.advice().unwrap_or_default().contains(help), "{help}: {error}");
    }
    let missing = read(Path::new("nowhere/mine.toml"), PresetOptions::default()).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Io);
}

#[test]
fn entries_that_do_not_fit_the_model_are_errors_with_their_line_or_notes() {
    let assign = |entry: &str| parsed(&format!("base = \"epsilon\"\n[[entry]]\n{entry}")).unwrap().assign(&network());
    let refused = |entry: &str| assign(entry).unwrap_err();
    assert!(refused("name = \"/layer/*\"\nrule = \"zero\"").message().contains("line 2: there is no layer"));
    assert!(refused("name = \"/layers/*\"\nkind = \"sum\"\nrule = \"zero\"").message().contains("kind is sum"));
    let error = refused("kind = \"relu\"\nrule = \"zero\"");
    assert!(error.message().contains("line 2") && error.node() == Some("/layers/2"), "{error}");
    let error = refused("first = true\nrule = \"box\"");
    assert!(error.advice().unwrap().contains("--low and --high"), "{error}");
    let error = refused("depth = 2\nrule = \"box\"\nlow = 0\nhigh = 1");
    assert!(error.message().contains("not known behind a relu layer"), "{error}");
    let error = refused("first = true\nrule = \"box\"\nlow = [0, 1, 2, 3]\nhigh = 1");
    assert!(error.advice().unwrap().contains("one a channel"), "{error}");

    let notes = |entry: &str| assign(entry).unwrap().notes().to_vec();
    assert!(notes("kind = \"convolution\"\nrule = \"zero\"")[0].contains("the model has no such layer"));
    let twice = "kind = \"dense\"\nrule = \"zero\"\n[[entry]]\nfirst = true\nrule = \"flat\"";
    assert!(notes(twice)[0].contains("line 5") && notes(twice)[0].contains("entries before it"), "{:?}", notes(twice));
}
