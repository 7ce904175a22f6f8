"""What float16 weights cost in accuracy: half_weights.py [--networks NAME ...] [--size N] [--samples N] [--backend NAME]

`relprop explain` runs on a GPU with and without --half-weights. Prints each sample's relative distance (L2) of relevance: median and worst.
"""

import argparse
import pathlib
import subprocess
import tempfile

import numpy as np

import networks
from compare_networks import COMPOSITES

RELPROP = pathlib.Path(__file__).resolve().parents[2] / "target/release/relprop"


def relevance(folder, composite, backend, *more):
    bounds = ["--low=-3", "--high=3"] if composite.endswith("box") else []
    out = folder / "relevance.npy"
    # One output for both: rounding may change which is the greatest.
    command = [RELPROP, "explain", "model.onnx", "input.npy", "--output", out, "--composite", composite, "--target", "0", "--backend", backend, "--quiet"]
    subprocess.run([*command, *bounds, *more], cwd=folder, check=True)
    found = np.load(out).astype(np.float64)
    return found.reshape(len(found), -1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["resnet18"])
    parser.add_argument("--size", type=int, default=64, help="pixels of a side, a multiple of 32")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--backend", default="gpu:llvmpipe")
    options = parser.parse_args()
    print("| network | composite | median | worst |\n| --- | --- | --- | --- |", flush=True)
    for name in options.networks:
        with tempfile.TemporaryDirectory() as temporary:
            folder = pathlib.Path(temporary)
            networks.write(folder, name, options.samples, options.size)
            for composite in COMPOSITES:
                whole = relevance(folder, composite, options.backend)
                half = relevance(folder, composite, options.backend, "--half-weights")
                off = np.linalg.norm(half - whole, axis=1) / np.linalg.norm(whole, axis=1)
                print(f"| {name} | {composite} | {np.median(off):.1e} | {off.max():.1e} |", flush=True)


if __name__ == "__main__":
    main()
