#!/bin/sh
# Times relprop beside PyTorch, zennit and captum: `run.sh mlp` on a perceptron, `run.sh networks` on VGG16, ResNet-18,
# ResNet-50, MobileNetV2, EfficientNet-B0, ResNeXt-50 and ConvNeXt-T, `run.sh` on both; and `run.sh targets` K targets beside K runs.
# Further arguments go to compare.py, compare_networks.py or compare_targets.py (--help).
set -eu
cd "$(dirname "$0")"
work=${1:-both}
[ $# = 0 ] || shift
case $work in
mlp | networks | targets | both) ;;
*)
    echo "usage: run.sh [mlp | networks | targets | both] [arguments]" >&2
    exit 2
    ;;
esac
python=.venv/bin/python
if [ -n "${RELPROP_PEERS_ANY_VERSION:-}" ]; then
    # The tools that are there, whatever their versions: for machines without network.
    python=python3
else
    if [ ! -x .venv/bin/python ]; then
        python3 -m venv .venv
    fi
    .venv/bin/pip install --quiet --requirement requirements.txt
    # zennit 1.0.0 asks for Python 3.11.11; without the flag, older ones get 0.5.1, which computes other numbers.
    .venv/bin/pip install --quiet --ignore-requires-python zennit==1.0.0
fi
cargo build --release --example peer_worker --manifest-path ../../Cargo.toml
case $work in
targets) "$python" compare_targets.py "$@" ;;
*)
    [ "$work" = networks ] || "$python" compare.py "$@"
    [ "$work" = mlp ] || "$python" compare_networks.py "$@"
    ;;
esac
