"""torchvision's networks with seeded random weights: written once as ONNX, and loaded by every PyTorch tool from the same state."""

import numpy as np
import torch
import torchvision
from torch import nn

import versions

TORCHVISION = "0.29.2"
SEED = 7
NAMES = ["vgg16", "resnet18", "resnet50", "mobilenet_v2", "efficientnet_b0", "resnext50_32x4d", "convnext_tiny"]


def module(name):
    """The network as torchvision makes it, in inference mode; batch norms get statistics as after training."""
    versions.check({"torchvision": TORCHVISION})
    torch.manual_seed(SEED)
    network = torchvision.models.get_model(name, weights=None)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.uniform_(-0.1, 0.1)
            part.running_var.uniform_(0.5, 1.5)
            part.weight.data.uniform_(0.5, 1.0)
            part.bias.data.uniform_(-0.1, 0.1)
        elif isinstance(part, nn.Linear):
            # torchvision's small initial weights leave logits near zero, where relevance is mostly rounding.
            nn.init.normal_(part.weight, 0, part.in_features**-0.5)
    return network.eval().requires_grad_(False)


def pixels(batch, size):
    """Images as a network sees them: normalised, with neighbours alike."""
    rng = np.random.default_rng(SEED)
    coarse = rng.normal(size=(batch, 3, size // 8, size // 8)).astype(np.float32)
    fine = rng.normal(size=(batch, 3, size, size)).astype(np.float32)
    return coarse.repeat(8, axis=2).repeat(8, axis=3) + 0.3 * fine


def write(folder, name, batch, size):
    """model.onnx and input.npy with `batch` images."""
    x = torch.from_numpy(pixels(batch, size))
    names = {"input_names": ["image"], "output_names": ["logits"]}
    torch.onnx.export(module(name), (x[:1],), folder / "model.onnx", dynamo=False, dynamic_axes={"image": {0: "batch"}}, **names)
    np.save(folder / "input.npy", x.numpy())
