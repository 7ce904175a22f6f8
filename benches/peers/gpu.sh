#!/bin/sh
# Times relprop's GPU backend beside burn's gradient × input on the same adapter; arguments go to compare_gpu.py.
set -eu
cd "$(dirname "$0")"
if [ ! -x .venv/bin/python ]; then
    python3 -m venv .venv
fi
.venv/bin/pip install --quiet --requirement requirements-gpu.txt
case " $* " in
*" -h "* | *" --help "*) ;;
*)
    cargo build --release --example peer_worker --manifest-path ../../Cargo.toml
    cargo build --release --manifest-path burn/Cargo.toml
    ;;
esac
exec .venv/bin/python compare_gpu.py "$@"
