#!/bin/sh
# Times relprop beside PyTorch, zennit and captum on the same network and batch; arguments go to compare.py.
set -eu
cd "$(dirname "$0")"
if [ ! -x .venv/bin/python ]; then
    python3 -m venv .venv
fi
.venv/bin/pip install --quiet --requirement requirements.txt
# zennit 1.0.0 asks for Python 3.11.11; without the flag, older ones get 0.5.1, which computes other numbers.
.venv/bin/pip install --quiet --ignore-requires-python zennit==1.0.0
cargo build --release --example peer_worker --manifest-path ../../Cargo.toml
exec .venv/bin/python compare.py "$@"
