"""Trains the demo's second network, a small CNN, on Fashion-MNIST.

    python train_cnn.py [FOLDER WITH THE FOUR idx3/idx1 .gz FILES]

Debian's package dataset-fashion-mnist installs the files to the default folder.
Writes fashion-cnn.onnx into this script's folder.
"""

import io
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from train import DATA, HERE, check_versions, read_idx, strip_paths

SEED = 20261125
EPOCHS = 5
BATCH = 256
RATE = 8e-3


def conv(inputs, outputs):
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.inner = nn.Sequential(*conv(width, width), nn.ReLU(), *conv(width, width))

    def forward(self, x):
        return torch.relu(x + self.inner(x))


class FashionCnn(nn.Module):
    """Stages of 16, 32 and 64 channels, the last one residual. Mean and deviation are part of the model, as in train.py."""

    def __init__(self, mean, std):
        super().__init__()
        self.register_buffer("mean", torch.full((1,), mean))
        self.register_buffer("std", torch.full((1,), std))
        self.layers = nn.Sequential(
            *conv(1, 16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            *conv(16, 32),
            nn.ReLU(),
            nn.MaxPool2d(2),
            *conv(32, 64),
            nn.ReLU(),
            Residual(64),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(64, 10),
        )

    def forward(self, image):
        return self.layers((image - self.mean) / self.std)


def train(images, labels):
    pixels = images.astype(np.float64) / 255
    # Channels last is the faster layout for convolutions on a CPU.
    model = FashionCnn(float(pixels.mean()), float(pixels.std())).to(memory_format=torch.channels_last)
    x = torch.from_numpy(images.astype(np.float32) / 255).unsqueeze(1)
    y = torch.from_numpy(labels.astype(np.int64))
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=2e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=RATE, total_steps=EPOCHS * -(-len(x) // BATCH))
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
        print(f"epoch {epoch + 1:2}: loss {total / len(x):.4f}", file=sys.stderr, flush=True)
    return model.to(memory_format=torch.contiguous_format).eval()


def export(model, path):
    """Every BatchNormalization stays a node of its own: folding it is the reader's affair."""
    buffer = io.BytesIO()
    torch.onnx.export(
        model,
        (torch.zeros(2, 1, 28, 28),),
        buffer,
        dynamo=False,
        opset_version=17,
        training=torch.onnx.TrainingMode.PRESERVE,
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
    )
    onnx.save(onnx.load_from_string(buffer.getvalue()), path)


def main():
    check_versions()
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else DATA
    read = lambda name: read_idx(folder / f"{name}-ubyte.gz")
    model = train(read("train-images-idx3"), read("train-labels-idx1"))

    onnx_path = HERE / "fashion-cnn.onnx"
    export(model, onnx_path)
    strip_paths(onnx_path)

    images, labels = read("t10k-images-idx3")[:, None], read("t10k-labels-idx1")
    session = onnxruntime.InferenceSession(onnx_path, providers=["CPUExecutionProvider"])
    logits = session.run(["logits"], {"image": images.astype(np.float32) / 255})[0]
    accuracy = float((logits.argmax(1) == labels).mean())
    print(f"accuracy on the {len(labels)} test images: {accuracy:.4f}")
    if accuracy < 0.91:
        sys.exit("below 0.91")


if __name__ == "__main__":
    main()
