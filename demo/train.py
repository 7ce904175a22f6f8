"""Trains the demo's network on Fashion-MNIST and packs the test images beside it.

    python train.py [FOLDER WITH THE FOUR idx3/idx1 .gz FILES]

Debian's package dataset-fashion-mnist installs the files to the default folder.
Writes fashion-mlp.onnx and fashion-mnist-test.npz into this script's folder.
"""

import gzip
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
import onnxscript
import torch
from torch import nn

VERSIONS = {"torch": (torch, "2.15.0"), "onnx": (onnx, "1.23.2"), "numpy": (np, "2.4.6"), "onnxscript": (onnxscript, "0.7.2")}
SEED = 20261123
EPOCHS = 20
BATCH = 128
DATA = pathlib.Path("/usr/share/datasets/fashion-mnist")
HERE = pathlib.Path(__file__).resolve().parent


def check_versions():
    for name, (module, wanted) in VERSIONS.items():
        found = module.__version__.split("+")[0]
        if found != wanted:
            sys.exit(f"{name} is {found}; this script was made for {wanted}")


def read_idx(path):
    """An IDX file: two zero bytes, the type (8 is uint8), the number of axes, the extents, the values."""
    raw = gzip.decompress(path.read_bytes())
    if raw[:3] != b"\0\0\x08":
        sys.exit(f"{path} is not an IDX file of bytes")
    axes = raw[3]
    shape = np.frombuffer(raw, dtype=">u4", count=axes, offset=4)
    return np.frombuffer(raw, dtype=np.uint8, offset=4 + 4 * axes).reshape(shape)


class FashionMlp(nn.Module):
    """784-512-256-10. Mean and deviation of the training pixels are part of the model, so that it takes pixel / 255."""

    def __init__(self, mean, std):
        super().__init__()
        self.register_buffer("mean", torch.full((1,), mean))
        self.register_buffer("std", torch.full((1,), std))
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(784, 512),
            nn.ReLU(),
            nn.Dropout(0.25),
            nn.Linear(512, 256),
            nn.ReLU(),
            nn.Dropout(0.25),
            nn.Linear(256, 10),
        )

    def forward(self, image):
        return self.layers((image - self.mean) / self.std)


def train(images, labels):
    pixels = images.astype(np.float64) / 255
    model = FashionMlp(float(pixels.mean()), float(pixels.std()))
    x = torch.from_numpy(images.astype(np.float32) / 255).unsqueeze(1)
    y = torch.from_numpy(labels.astype(np.int64))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    steps = EPOCHS * -(-len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps)
    for epoch in range(EPOCHS):
        model.train()
        total = 0.0
        for rows in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad(set_to_none=True)
            loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(rows)
        print(f"epoch {epoch + 1:2}: loss {total / len(x):.4f}", file=sys.stderr)
    return model.eval()


def export(model, path):
    torch.onnx.export(
        model,
        (torch.zeros(2, 1, 28, 28),),
        path,
        dynamo=True,
        external_data=False,
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes={"image": {0: torch.export.Dim("batch")}},
    )


def strip_paths(path):
    """The exporter notes stack traces, which name folders of the machine that ran it."""
    model = onnx.load(path)
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in [*model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer]:
        del value.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.metadata_props[:]
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def main():
    check_versions()
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(2)
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else DATA
    read = lambda name: read_idx(folder / f"{name}-ubyte.gz")
    model = train(read("train-images-idx3"), read("train-labels-idx1"))

    onnx_path = HERE / "fashion-mlp.onnx"
    export(model, onnx_path)
    strip_paths(onnx_path)

    images, labels = read("t10k-images-idx3")[:, None], read("t10k-labels-idx1")
    np.savez_compressed(HERE / "fashion-mnist-test.npz", image=images, label=labels)

    session = onnxruntime.InferenceSession(onnx_path, providers=["CPUExecutionProvider"])
    logits = session.run(["logits"], {"image": images.astype(np.float32) / 255})[0]
    accuracy = float((logits.argmax(1) == labels).mean())
    print(f"accuracy on the {len(labels)} test images: {accuracy:.4f}")
    if accuracy < 0.885:
        sys.exit("below 0.885")


if __name__ == "__main__":
    main()
