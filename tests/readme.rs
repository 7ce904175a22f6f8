//! The README's lists are the code's: operators and composites.

use std::collections::BTreeSet;
use std::path::Path;

use relprop::composite::PRESETS;

fn text(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The names between commas of the first line that begins with `start`, up to `end`.
fn list_behind(text: &str, start: &str, end: char) -> BTreeSet<String> {
    let line = text.lines().find_map(|line| line.strip_prefix(start)).unwrap_or_else(|| panic!("no line `{start}…`"));
    line.split(end).next().unwrap().split(',').map(|name| name.trim().to_owned()).collect()
}

/// The operators that the tables of `src/onnx` name in their patterns.
fn operators_that_are_read() -> BTreeSet<String> {
    let tables =
        ["operators", "activations", "normalizations", "spatial"].map(|name| text(&format!("src/onnx/{name}.rs")));
    let source = tables.concat();
    let patterns =
        source.lines().filter_map(|line| line.trim().strip_prefix(['"', '('])?.split_once("=>").map(|_| line));
    let patterns = patterns.filter_map(|line| line.split("=>").next());
    let quoted = patterns.flat_map(|pattern| pattern.split('"').skip(1).step_by(2).map(str::to_owned));
    quoted.filter(|name| name.starts_with(|first: char| first.is_ascii_uppercase())).collect()
}

#[test]
fn the_operators_of_the_readme_are_those_that_are_read() {
    let readme = text("README.md");
    let mut listed = list_behind(&readme, "| with activations | ", '|');
    listed.extend(list_behind(&readme, "| in shapes and constants, or as part of an activation | ", '|'));
    let read = operators_that_are_read();
    assert!(
        read.contains("Gemm") && read.contains("Upsample") && read.contains("LogSoftmax") && read.contains("Scaler"),
        "{read:?}"
    );
    assert_eq!(listed, read);
}

#[test]
fn the_composites_of_the_readme_are_the_presets() {
    let listed = list_behind(&text("README.md"), "**Composites** (presets): ", '.');
    assert_eq!(listed, PRESETS.map(str::to_owned).into());
}

#[test]
fn every_link_of_the_documents_leads_to_a_file() {
    for document in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "benches/README.md"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
        let text = text(document);
        let targets = text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
        for target in targets.filter(|target| !target.starts_with("http")) {
            let path = folder.parent().unwrap().join(target.split('#').next().unwrap());
            assert!(path.exists(), "{document} links to {target}, which is not there");
        }
    }
}
