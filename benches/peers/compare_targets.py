"""Times K targets in one run of relprop beside K runs of one target, and prints a Markdown table.

The perceptron of compare.py at batch 4096 and at batch 1, ten targets; and the last stage of ResNet-18, cut out of the network, from
one sample of what it reads, a hundred targets.
"""

import argparse
import pathlib
import sys
import tempfile

import numpy as np
import onnx

import networks
import work
from workers import Worker

HERE = pathlib.Path(__file__).resolve().parent
RELPROP = HERE.parents[1] / "target/release/examples/peer_worker"
CUT = "/layer4/layer4.0/conv1/Conv"


def last_stage(folder, size):
    """model.onnx and input.npy: ResNet-18 from its last stage on."""
    networks.write(folder, "resnet18", 1, size)
    whole = onnx.shape_inference.infer_shapes(onnx.load(folder / "model.onnx"))
    entry = next(node.input[0] for node in whole.graph.node if node.name == CUT)
    onnx.save(whole, folder / "whole.onnx")
    onnx.utils.extract_model(folder / "whole.onnx", folder / "model.onnx", [entry], ["logits"])
    rng = np.random.default_rng(networks.SEED)
    np.save(folder / "input.npy", np.abs(rng.normal(size=(1, 256, size // 16, size // 16))).astype(np.float32))
    return folder / "model.onnx", folder / "input.npy"


def perceptron(folder, batch):
    work.write(folder, batch)
    return folder / "mlp.onnx", folder / "input.npy"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--composite", default="epsilon")
    options = parser.parse_args()
    if not RELPROP.exists():
        sys.exit("peer_worker is not built: cargo build --release --example peer_worker")
    print("| work | targets | one run s | one target s | times K runs |\n| --- | --- | --- | --- | --- |")
    works = [
        ("perceptron, batch 4096", 10, lambda folder: perceptron(folder, 4096)),
        ("perceptron, batch 1", 10, lambda folder: perceptron(folder, 1)),
        ("last stage of ResNet-18, batch 1", 100, lambda folder: last_stage(folder, 224)),
    ]
    for name, targets, write in works:
        with tempfile.TemporaryDirectory() as temporary:
            model, samples = write(pathlib.Path(temporary))
            relprop = Worker([RELPROP, model, samples, options.composite, str(options.threads)])
            several, single = [], []
            for repeat in range(options.repeats + 1):
                times = relprop.seconds(f"explain {targets}"), relprop.seconds("explain 1")
                if repeat > 0:
                    several.append(times[0])
                    single.append(times[1])
            relprop.quit()
            ratio = targets * min(single) / min(several)
            print(f"| {name} | {targets} | {min(several):.4f} | {min(single):.4f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
