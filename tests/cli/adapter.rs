//! The adapter that tests of the GPU backend run on.

use crate::program::Folder;

/// A name for `--backend gpu:NAME`: what `RELPROP_TEST_ADAPTER` says, else the first adapter there is, software too.
///
/// # Panics
/// If there is none: no test of the GPU passes by being left out.
pub fn name() -> String {
    if let Ok(name) = std::env::var("RELPROP_TEST_ADAPTER") {
        return name;
    }
    let first = devices()["adapters"][0]["full_name"].as_str().map(str::to_owned);
    first.expect("no GPU adapter: run tests/run.sh, which installs a software driver")
}

/// The `--backend` of these tests.
pub fn backend() -> String {
    format!("gpu:{}", name())
}

/// What `relprop devices --json` prints.
pub fn devices() -> serde_json::Value {
    let run = Folder::new().relprop(&["devices", "--json"]).succeeds();
    serde_json::from_str(&run.stdout).expect("JSON")
}
