#!/usr/bin/env bash
# Runs the whole test suite: unit, integration, documentation and example tests, then the crate without its features.
# Needs Rust and a C linker and nothing else: no part of relprop uses a GPU or a driver yet.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v cargo >/dev/null; then
    echo 'tests/run.sh: cargo is not here; install Rust from https://rustup.rs' >&2
    exit 1
fi

# Optimised: the suite explains whole data sets and compares them with float64, and `cargo run --release -- demo` has
# built most of it already.
printf '== all features\n'
cargo test --locked --release --all-targets --all-features
printf '== examples in the documentation\n'
cargo test --locked --release --all-features --doc
printf '== without features\n'
cargo test --locked --release --no-default-features
