//! Broken and hostile ONNX files end in an error with a way out: no panic, no memory that they only claim to need.

#![cfg(feature = "onnx")]

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use relprop::canonical::{Options, canonicalize};
use relprop::{Error, Network, onnx};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx")
}

fn network(path: &Path) -> Result<Network, Error> {
    canonicalize(&onnx::load(path)?, &Options::default())
}

#[test]
fn every_bad_file_is_refused_with_a_way_out() {
    let cases = std::fs::read_to_string(folder().join("bad/cases.tsv")).unwrap();
    let mut failures = Vec::new();
    for case in cases.lines() {
        let (name, reason) = case.split_once('\t').unwrap();
        match network(&folder().join("bad").join(format!("{name}.onnx"))) {
            Ok(_) => failures.push(format!("{name} ({reason}) is accepted")),
            Err(error) if error.advice().is_none() => failures.push(format!("{name}: no way out in: {error}")),
            Err(error) => println!("{name} ({reason})\n  {error}\n"),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
