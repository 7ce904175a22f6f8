#!/bin/sh
# What a real GPU's compiler makes of the perceptron's kernels, in every shape of tile, on two generations of AMD GPUs.
# Needs Debian's mesa-vulkan-drivers and libvulkan1; executes nothing on a GPU.
set -eu
cd "$(dirname "$0")"
texts=$(mktemp -d)
trap 'rm -rf "$texts"' EXIT
cargo build --release --manifest-path Cargo.toml
cargo run --release --manifest-path ../../Cargo.toml --example kernel_texts -- "$texts"
program=${CARGO_TARGET_DIR:-target}/release/kernelstat
for family in NAVI21 GFX1100; do
    for tile in large medium small few; do
        printf '\n%s, %s\n\n' "$family" "$tile"
        case $tile in
        large | medium) least=0.85 ;;
        small) least=0.80 ;;
        *) least=0 ;;
        esac
        env -u VK_ICD_FILENAMES -u VK_DRIVER_FILES "$program" --family "$family" --least "$least" "$texts/$tile"/linear*.wgsl
    done
done
