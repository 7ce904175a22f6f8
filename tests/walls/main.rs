//! The walls of the house: which rooms of `src/` know which, and the few things that no room may do.
//!
//! The table below is the one in ARCHITECTURE.md. A test that fails here says that a room reached for something it
//! should not know: move the code, or argue for the new entry where it is added.

mod source;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use source::{Named, Source, files};

/// What a room's code outside tests may name.
struct Room {
    /// The file or folder of `src/`.
    name: &'static str,
    /// Rooms, or items of rooms.
    knows: &'static [&'static str],
    /// Crates besides std.
    crates: &'static [&'static str],
    /// Modules of std that touch the outside ([`OUTSIDE`]).
    std: &'static [&'static str],
}

const ROOMS: &[Room] = &[
    Room { name: "error", knows: &[], crates: &["strsim"], std: &[] },
    Room { name: "tensor", knows: &["error"], crates: &[], std: &[] },
    Room { name: "layers", knows: &["error", "tensor"], crates: &[], std: &[] },
    Room { name: "rules", knows: &["error", "tensor"], crates: &[], std: &[] },
    Room { name: "graph", knows: &["error", "layers", "tensor"], crates: &[], std: &[] },
    Room { name: "network", knows: &["error", "layers", "tensor"], crates: &[], std: &[] },
    Room {
        name: "onnx",
        knows: &["error", "graph", "layers", "tensor"],
        crates: &["half", "prost", "sha2"],
        std: &["fs"],
    },
    Room {
        name: "canonical",
        knows: &["error", "graph", "layers", "network", "tensor"],
        crates: &["strsim"],
        std: &[],
    },
    Room {
        name: "composite",
        knows: &["error", "layers", "network", "rules", "start", "tensor"],
        crates: &["glob"],
        std: &[],
    },
    Room {
        name: "composite_file",
        knows: &["composite", "error", "input::Array", "input::read_npy", "layers::Family", "rules", "tensor"],
        crates: &["serde", "toml"],
        std: &["fs"],
    },
    Room { name: "start", knows: &["error", "network::Link", "tensor"], crates: &[], std: &[] },
    Room { name: "relevance", knows: &["tensor"], crates: &[], std: &[] },
    Room { name: "batch", knows: &["start"], crates: &[], std: &[] },
    Room { name: "chain", knows: &["layers", "rules"], crates: &[], std: &[] },
    Room {
        name: "plan",
        knows: &[
            "chain",
            "composite::Assignment",
            "composite::Finish",
            "error",
            "layers",
            "network",
            "rules",
            // How a shape lies.
            "tensor::Shape",
        ],
        crates: &[],
        std: &[],
    },
    Room {
        name: "parameters",
        knows: &["composite::Assignment", "error", "layers", "network", "plan", "rules", "tensor"],
        crates: &[],
        std: &[],
    },
    Room {
        name: "reference",
        knows: &[
            "composite::Assignment",
            "composite::Finish",
            "error",
            "layers",
            "network",
            "relevance::LayerSums",
            "rules",
            "tensor",
        ],
        crates: &["libm"],
        std: &[],
    },
    Room {
        name: "cpu",
        knows: &[
            "batch",
            "composite::Assignment",
            "error",
            "layers",
            "network",
            "parameters",
            "plan",
            "relevance::LayerSums",
            // The data that a rule is made of, as steps carry it; never a rule by its name ([`RULES_BY_NAME`]).
            "rules",
            "sharing",
            "start",
            "stopwatch",
            "tensor",
        ],
        crates: &["rayon"],
        std: &[],
    },
    Room { name: "stopwatch", knows: &[], crates: &[], std: &["time"] },
    // Threads for copies, checks and packing.
    Room { name: "sharing", knows: &[], crates: &[], std: &["thread"] },
    Room {
        name: "kernels",
        // The float64 functions of the reference judge the kernels in their twins on the CPU.
        knows: &["chain", "error", "layers", "reference", "rules"],
        crates: &["bytemuck", "minijinja", "serde", "wgpu"],
        std: &[],
    },
    Room {
        name: "gpu",
        knows: &[
            "batch",
            "chain",
            "composite::Assignment",
            "error",
            "kernels",
            "layers",
            "network",
            "parameters",
            "plan",
            "relevance",
            "rules",
            "sharing",
            "start",
            "stopwatch",
            "tensor",
        ],
        crates: &[
            "bytemuck",
            "futures_intrusive",
            "half",
            "pollster",
            "serde",
            "serde_json",
            "sha2",
            "tempfile",
            "wgpu",
        ],
        // Texts of kernels, pipelines and choices are written where a caller names a folder, kernels compile on threads.
        std: &["fs", "thread"],
    },
    Room {
        name: "explain",
        knows: &[
            "batch",
            "composite",
            "cpu",
            "error",
            "gpu",
            "layers",
            "network",
            "plan",
            "reference",
            "relevance",
            "rules",
            "sharing",
            "start",
            "tensor",
        ],
        crates: &["pollster"],
        std: &[],
    },
    // Boxes over a sample's axes, and random numbers by seed: geometry and arithmetic alone.
    Room { name: "patches", knows: &["error", "tensor"], crates: &[], std: &[] },
    Room { name: "random", knows: &[], crates: &["libm"], std: &[] },
    Room { name: "variants", knows: &["error", "explain", "tensor"], crates: &[], std: &[] },
    // What is built on explanations sees the explainer as every user does: no plan, no backend, no rule.
    Room {
        name: "attribution",
        knows: &[
            "error",
            "explain",
            "network::Input",
            "network::InputKind",
            "network::ValueId",
            "patches",
            "random",
            "relevance",
            "start",
            "tensor",
            "variants",
        ],
        crates: &[],
        std: &[],
    },
    Room {
        name: "evaluation",
        knows: &[
            // The values that stand for nothing are the same whether a path begins or a region ends there.
            "attribution::Baseline",
            "error",
            "explain",
            "network::Input",
            "network::InputKind",
            "patches",
            "random",
            "start",
            "tensor",
            "variants",
        ],
        crates: &[],
        std: &[],
    },
    Room {
        name: "input",
        knows: &["error", "tensor"],
        crates: &["flate2", "half", "image", "safetensors", "zip"],
        std: &["fs"],
    },
    Room {
        name: "output",
        // The names of formats and layouts are the same whether a file is read or written; the readers stay unknown.
        knows: &["error", "input::Channels", "input::FileFormat", "input::ImageLayout", "tensor"],
        crates: &[
            "ab_glyph",
            "half",
            "plotters",
            "png",
            "safetensors",
            "serde",
            "serde_json",
            "strsim",
            "tempfile",
            "zip",
        ],
        std: &["fs"],
    },
    // The program: `relprop` is the library as every other user sees it.
    Room {
        name: "cli",
        knows: &[],
        crates: &[
            "anstream",
            "anstyle",
            "bytesize",
            "clap",
            "ctrlc",
            "etcetera",
            "fastrand",
            "indicatif",
            "relprop",
            "serde",
            "serde_json",
            "strsim",
        ],
        std: &["env", "fs", "process", "thread", "time"],
    },
    Room { name: "main", knows: &["cli"], crates: &["clap", "relprop"], std: &["env", "process"] },
];

/// The parts of std that reach files, the environment, other processes, threads and clocks.
const OUTSIDE: &[&str] = &["env", "fs", "net", "process", "thread", "time"];

/// Modules that may allow `unsafe`, each use with its argument in a `// SAFETY:` comment.
const UNSAFE: &[&str] = &["src/cpu/simd.rs", "src/gpu/kept.rs"];

/// The rooms that may call a rule by its name; for the others a rule is its terms, groups and masks.
const RULES_BY_NAME: &[&str] = &["rules", "composite", "composite_file", "cli"];

/// The rooms that may print.
const PRINTING: &[&str] = &["cli", "main"];

/// The most lines that a file may have.
const LONGEST: usize = 500;

/// Files that may be longer: the most lines, and why.
const LONG: &[(&str, usize, &str)] = &[];

/// Names that say nothing of what is inside.
const NAMELESS: &[&str] = &["common", "helper", "helpers", "misc", "shared", "util", "utils"];

fn room_of(source: &Source) -> String {
    match source.path.to_str() {
        Some("src/main.rs") => "main".to_owned(),
        _ => source.module().first().cloned().unwrap_or_else(|| "lib".to_owned()),
    }
}

fn at(source: &Source, line: usize) -> String {
    format!("{}:{line}", source.path.display())
}

/// A path from the crate's root, if it names something of this crate.
fn resolved(source: &Source, path: &Named) -> Option<Vec<String>> {
    let mut module = source.module();
    module.extend(path.inside.iter().cloned());
    let mut rest = path.segments.as_slice();
    match rest.first().map(String::as_str) {
        Some("crate") => {
            module.clear();
            rest = &rest[1..];
        }
        Some("self") => rest = &rest[1..],
        Some("super") => {
            while rest.first().is_some_and(|first| first == "super") {
                module.pop();
                rest = &rest[1..];
            }
        }
        _ => return None,
    }
    module.extend(rest.iter().cloned());
    Some(module)
}

fn is_within(path: &[String], allowed: &str) -> bool {
    let allowed: Vec<&str> = allowed.split("::").collect();
    path.len() >= allowed.len() && allowed.iter().zip(path).all(|(allowed, segment)| allowed == segment)
}

/// What a file names that its room may not know.
fn strangers(source: &Source, room: &Room, dependencies: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    let local = source.declared_modules();
    for path in source.paths() {
        let place = at(source, path.line);
        let text = path.segments.join("::");
        if let Some(inside) = resolved(source, &path) {
            let own = inside.is_empty() || inside[0] == room.name;
            if !own && !room.knows.iter().any(|known| is_within(&inside, known)) {
                found.push(format!("{place}: `{}` may not know `{}`", room.name, inside.join("::")));
            }
            continue;
        }
        let first = path.segments[0].as_str();
        if first == "std" {
            let outside = OUTSIDE.iter().find(|module| path.segments[1] == **module);
            // Constants of the target are no look outside.
            let constant =
                is_within(&path.segments, "std::env::consts") || is_within(&path.segments, "std::time::Duration");
            if let Some(module) = outside.filter(|module| !room.std.contains(module) && !constant) {
                found.push(format!("{place}: `{}` may not reach std::{module}: {text}", room.name));
            }
        } else if dependencies.iter().any(|name| name == first)
            && !local.iter().any(|module| module == first)
            && !room.crates.contains(&first)
        {
            found.push(format!("{place}: `{}` may not use the crate `{first}`", room.name));
        }
        if first == "LinearRule" && !RULES_BY_NAME.contains(&room.name) {
            found.push(format!("{place}: `{}` may not call a rule by its name: {text}", room.name));
        }
    }
    found
}

/// Uses of `unsafe` outside the listed files or without their argument.
fn unproven(source: &Source, listed: &[&str]) -> Vec<String> {
    let may = listed.iter().any(|path| Path::new(path) == source.path);
    let mut found = Vec::new();
    for word in source.words_with_tests() {
        let place = at(source, word.line);
        match word.text.as_str() {
            "unsafe" | "unsafe_code" if !may => found.push(format!("{place}: {} is not allowed here", word.text)),
            "unsafe" if !source.comment_above_says(word.line, "// SAFETY:") => {
                found.push(format!("{place}: unsafe without a `// SAFETY:` comment"));
            }
            _ => {}
        }
    }
    found
}

/// Macros that leave work undone or print where nothing may be printed.
fn unwanted_macros(source: &Source, room: &str) -> Vec<String> {
    let printing: &[&str] = &["print!", "println!", "eprint!", "eprintln!"];
    let unwanted = |text: &str| {
        ["todo!", "unimplemented!", "dbg!"].contains(&text) || (printing.contains(&text) && !PRINTING.contains(&room))
    };
    let words = source.words().into_iter().filter(|word| unwanted(&word.text));
    words.map(|word| format!("{}: {}", at(source, word.line), word.text)).collect()
}

/// Files with more lines than they may have, and entries of the list that are no longer needed.
fn overlong(files: &[(PathBuf, usize)], listed: &[(&str, usize, &str)]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, lines) in files {
        let entry = listed.iter().find(|(listed, ..)| Path::new(listed) == path);
        let most = entry.map_or(LONGEST, |(_, most, _)| *most);
        if *lines > most {
            found.push(format!("{}: {lines} lines; at most {most}", path.display()));
        } else if entry.is_some() && *lines <= LONGEST {
            found.push(format!("{}: has {lines} lines and needs no entry", path.display()));
        }
    }
    for (path, ..) in listed {
        if !files.iter().any(|(known, _)| known == Path::new(path)) {
            found.push(format!("{path}: is listed but not there"));
        }
    }
    found
}

fn nameless(path: &Path) -> bool {
    path.components().any(|part| {
        let stem = Path::new(part.as_os_str()).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        NAMELESS.contains(&stem.as_str())
    })
}

/// The names of `[dependencies]` as code spells them, and the library's own for the program.
fn dependencies(manifest: &str) -> Vec<String> {
    let section = manifest.split("\n[dependencies]\n").nth(1).unwrap_or_default();
    let lines = section.lines().take_while(|line| !line.starts_with('['));
    let names = lines.filter_map(|line| line.split_once('=')).map(|(name, _)| name.trim().replace('-', "_"));
    names.chain(["relprop".to_owned()]).collect()
}

fn manifest() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap()
}

fn assert_none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

#[test]
fn every_room_names_only_what_it_may_know() {
    let dependencies = dependencies(&manifest());
    assert!(dependencies.iter().any(|name| name == "rayon"), "the manifest is read: {dependencies:?}");
    let mut found = Vec::new();
    for source in files("src") {
        let name = room_of(&source);
        match ROOMS.iter().find(|room| room.name == name) {
            Some(room) => found.extend(strangers(&source, room, &dependencies)),
            None if name == "lib" => {}
            None => found.push(format!("{}: the room `{name}` has no walls; add it to ROOMS", source.path.display())),
        }
    }
    assert_none("rooms that know too much", &found);
}

#[test]
fn the_root_of_the_library_holds_no_logic() {
    let root = files("src").into_iter().find(|source| source.path == Path::new("src/lib.rs")).unwrap();
    let words: BTreeSet<String> = root.words().into_iter().map(|word| word.text).collect();
    for keyword in ["fn", "struct", "enum", "impl", "trait", "const", "static", "macro_rules!"] {
        assert!(!words.contains(keyword), "src/lib.rs has a `{keyword}`");
    }
}

#[test]
fn unsafe_code_is_where_it_is_listed_and_says_why_it_is_sound() {
    let sources = files("src");
    let found: Vec<String> = sources.iter().flat_map(|source| unproven(source, UNSAFE)).collect();
    assert_none("unsafe", &found);
    for path in UNSAFE {
        let listed = sources.iter().find(|source| source.path == Path::new(path));
        let uses = listed.is_some_and(|source| source.words().iter().any(|word| word.text == "unsafe"));
        assert!(uses, "{path} is listed but has no unsafe code");
    }
    assert!(manifest().contains("unsafe_code = \"deny\""), "Cargo.toml denies unsafe_code");
}

#[test]
fn nothing_is_left_undone_and_only_the_program_prints() {
    let found: Vec<String> = files("src").iter().flat_map(|source| unwanted_macros(source, &room_of(source))).collect();
    assert_none("unwanted macros", &found);
}

#[test]
fn files_stay_short() {
    let lines: Vec<(PathBuf, usize)> =
        files("src").into_iter().map(|source| (source.path, source.text.lines().count())).collect();
    assert_none("long files", &overlong(&lines, LONG));
    assert!(LONG.iter().all(|(.., reason)| !reason.is_empty()));
}

#[test]
fn every_file_has_a_name_that_says_what_is_inside() {
    let found: Vec<String> = ["src", "tests", "examples"]
        .iter()
        .flat_map(|folder| files(folder))
        .filter(|source| nameless(&source.path))
        .map(|source| source.path.display().to_string())
        .collect();
    assert_none("nameless files", &found);
}

/// The checks themselves can fail.
mod checks {
    use super::*;

    fn file(path: &str, text: &str) -> Source {
        Source { path: path.into(), text: text.to_owned() }
    }

    fn strangers_in(path: &str, text: &str) -> Vec<String> {
        let source = file(path, text);
        let name = room_of(&source);
        let room = ROOMS.iter().find(|room| room.name == name).unwrap();
        strangers(&source, room, &dependencies(&manifest()))
    }

    #[test]
    fn a_room_that_knows_another_is_found_however_it_names_it() {
        for text in [
            "use crate::plan::Step;",
            "use crate::{error::Error, plan};",
            "use crate::{error::{Error, Result}, plan::{self as p, Step}};",
            "fn f() { crate::plan::build() }",
            "fn f() { debug_assert!(crate::plan::is_good()) }",
            "use super::super::plan;",
            "fn f(x: crate::plan::Step) {}",
            "fn f() -> super::super::plan::Step { panic!() }",
            "mod inner { use super::super::super::plan; }",
            "use crate::Explainer;",
        ] {
            assert!(!strangers_in("src/layers/dense.rs", text).is_empty(), "{text}");
        }
    }

    #[test]
    fn what_a_room_may_know_is_not_found() {
        for text in [
            "use crate::{error::{Error, Result}, tensor::Tensor};",
            "use super::Layer;",
            "use crate::layers::Sum;",
            "//! [`crate::plan`] reads this.\n/// See [`Explainer`](crate::Explainer).\nfn f() {}",
            "fn f() -> &'static str { \"crate::plan::Step\" }",
            "#[cfg(test)]\nmod tests { use crate::plan::Step; fn f() { todo!() } }",
            "#[cfg(test)]\nuse crate::plan::Step;",
            "mod inner { use super::super::Layer; }",
            "fn f<'a>(x: &'a str) -> std::collections::BTreeMap<char, &'a str> { [('\"', x)].into() }",
        ] {
            assert_eq!(strangers_in("src/layers/dense.rs", text), Vec::<String>::new(), "{text}");
        }
        assert_eq!(strangers_in("src/plan/cost.rs", "use crate::composite::Assignment;").len(), 0);
        assert_eq!(strangers_in("src/plan/cost.rs", "use crate::composite::Composite;").len(), 1);
        let not_for_tests = "#[cfg(not(test))]\nuse crate::plan::Step;";
        assert_eq!(strangers_in("src/layers/dense.rs", not_for_tests).len(), 1);
    }

    #[test]
    fn a_crate_or_a_part_of_std_in_the_wrong_room_is_found() {
        assert_eq!(strangers_in("src/reference/linear.rs", "use rayon::prelude::*;").len(), 1);
        assert_eq!(strangers_in("src/cpu/mod.rs", "use rayon::prelude::*;").len(), 0);
        assert_eq!(strangers_in("src/graph.rs", "use prost::Message as _;").len(), 1);
        assert_eq!(strangers_in("src/plan/mod.rs", "use std::{fmt, time::Instant};").len(), 1);
        assert_eq!(strangers_in("src/explain.rs", "fn f() { std::env::var(\"X\"); }").len(), 1);
        assert_eq!(strangers_in("src/cpu/gemm.rs", "fn f() -> &'static str { std::env::consts::ARCH }").len(), 0);
        let own_module_of_the_same_name = "mod png;\npub use png::write_png;";
        assert_eq!(strangers_in("src/input/mod.rs", own_module_of_the_same_name).len(), 0);
        assert_eq!(strangers_in("src/input/image.rs", "use png::Encoder;").len(), 1);
    }

    #[test]
    fn the_program_sees_the_library_from_outside() {
        assert_eq!(strangers_in("src/cli/explain.rs", "use relprop::Explainer;\nuse crate::cli::Flags;").len(), 0);
        assert_eq!(strangers_in("src/cli/explain.rs", "use crate::plan::Plan;").len(), 1);
        assert_eq!(strangers_in("src/main.rs", "mod cli;\nfn main() { crate::cli::run() }").len(), 0);
        assert_eq!(strangers_in("src/explain.rs", "use relprop::Tensor;").len(), 1);
    }

    #[test]
    fn a_rule_called_by_its_name_is_found() {
        let text = "fn f() -> LinearRule { LinearRule::epsilon(Stabilizer::DEFAULT) }";
        assert_eq!(strangers_in("src/cpu/mod.rs", text).len(), 1);
        assert_eq!(strangers_in("src/rules/epsilon.rs", text).len(), 0);
    }

    #[test]
    fn unsafe_code_without_a_listing_or_an_argument_is_found() {
        let bare = "fn f() { unsafe { g() } }";
        let argued = "fn f() {\n    // SAFETY: g has no demands.\n    unsafe { g() }\n}";
        let path = "src/cpu/simd.rs";
        assert_eq!(unproven(&file("src/graph.rs", argued), UNSAFE).len(), 1);
        assert_eq!(unproven(&file("src/graph.rs", "#![allow(unsafe_code)]"), UNSAFE).len(), 1);
        assert_eq!(unproven(&file(path, bare), UNSAFE).len(), 1);
        assert_eq!(unproven(&file(path, argued), UNSAFE).len(), 0);
        assert_eq!(unproven(&file(path, "// SAFETY: of another line.\n\nfn f() { unsafe { g() } }"), UNSAFE).len(), 1);
    }

    #[test]
    fn unwanted_macros_are_found() {
        for text in ["fn f() { todo!() }", "fn f() { dbg!(1); }", "fn f() { unimplemented!(\"x\") }"] {
            assert_eq!(unwanted_macros(&file("src/cli/mod.rs", text), "cli").len(), 1, "{text}");
        }
        let prints = "fn f() { println!(\"x\"); eprint!(\"y\") }";
        assert_eq!(unwanted_macros(&file("src/explain.rs", prints), "explain").len(), 2);
        assert_eq!(unwanted_macros(&file("src/cli/mod.rs", prints), "cli").len(), 0);
        let not_calls = "// todo!()\nfn f(print: bool) -> bool { let text = \"println!()\"; print != text.is_empty() }";
        assert_eq!(unwanted_macros(&file("src/explain.rs", not_calls), "explain").len(), 0);
    }

    #[test]
    fn long_files_and_idle_entries_are_found() {
        let files = [("a.rs".into(), LONGEST), ("b.rs".into(), LONGEST + 1), ("c.rs".into(), LONGEST + 1)];
        assert_eq!(overlong(&files, &[("b.rs", LONGEST + 1, "a list")]).len(), 1);
        assert_eq!(overlong(&files, &[("b.rs", 600, "x"), ("c.rs", 600, "x")]).len(), 0);
        assert_eq!(overlong(&files, &[("b.rs", 600, "x"), ("c.rs", 600, "x"), ("a.rs", 600, "x")]).len(), 1);
        assert_eq!(overlong(&files, &[("b.rs", 600, "x"), ("c.rs", 600, "x"), ("gone.rs", 600, "x")]).len(), 1);
    }

    #[test]
    fn names_that_say_nothing_are_found() {
        assert!(nameless(Path::new("src/utils.rs")));
        assert!(nameless(Path::new("src/plan/helpers/mod.rs")));
        assert!(!nameless(Path::new("src/plan/facts.rs")));
    }
}
