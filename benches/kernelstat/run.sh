#!/bin/sh
# What a real GPU's compiler makes of the kernels of a perceptron and of a convolutional network, in every shape of tile, on two
# generations of AMD GPUs. `run.sh PROFILE` builds what writes them with a profile of Cargo.toml instead of release.
# Needs Debian's mesa-vulkan-drivers and libvulkan1; executes nothing on a GPU.
set -eu
cd "$(dirname "$0")"
texts=$(mktemp -d)
trap 'rm -rf "$texts"' EXIT
cargo build --locked --release --manifest-path Cargo.toml
cargo run --locked --profile "${1:-release}" --all-features --manifest-path ../../Cargo.toml --example kernel_texts -- "$texts"
program=${CARGO_TARGET_DIR:-target}/release/kernelstat
measure() {
    least=$1 waves=$2
    shift 2
    env -u VK_ICD_FILENAMES -u VK_DRIVER_FILES XDG_RUNTIME_DIR="$texts" "$program" --family "$family" --least "$least" --waves "$waves" "$@"
}
for family in NAVI21 GFX1100; do
    for tile in large large-half medium medium-half small small-half narrow narrow-half few few-half; do
        printf '\n%s, %s\n\n' "$family" "$tile"
        waves=8
        case $tile in
        large*) least=0.90 ;;
        medium* | small*) least=0.85 ;;
        # As many as its workgroup memory leaves: 256 rows for 64 invocations.
        narrow*) least=0.75 waves=6 ;;
        *) least=0 ;;
        esac
        measure "$least" "$waves" "$texts/$tile"/linear*.wgsl "$texts/$tile"/convolve-[fb]*.wgsl
    done
    # Channels by themselves and pools: whatever the tile, and bound by memory.
    printf '\n%s, windows\n\n' "$family"
    measure 0 8 "$texts"/small/convolve-channels*.wgsl "$texts"/small/*pool*.wgsl "$texts"/small/winners*.wgsl
done
