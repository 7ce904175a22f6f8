"""Goldens from zennit 1.0.0 on networks with convolutions: every preset, BatchNorm merged by zennit's own canonizers."""

import torch
from torch import nn
from zennit.canonizers import NamedMergeBatchNorm, SequentialMergeBatchNorm

import golden
import networks_cnn as cnn
from by_zennit import BOX, GRADIENTS, ONNX, PRESETS, SEED, write

EVERY = ["epsilon", "epsilon-0.25", "epsilon-plus", "gradient-x-input", *(name for name in PRESETS if not name.endswith(".toml"))]
MERGED = "BatchNorm merged by SequentialMergeBatchNorm"


def after_its_convolution(network):
    """DenseNet's second norm of a layer follows a convolution of its own. The others have several sources, and Pass."""
    layers = [name for name, module in network.named_modules() if isinstance(module, cnn.DenseLayer)]
    return [NamedMergeBatchNorm([([f"{name}.conv1"], f"{name}.norm2") for name in layers])]


def without_norms(make):
    """The network as an exporter that folds BatchNorm leaves it: biases where the norms were."""
    network = make()
    modules = dict(network.named_modules())
    for name, module in modules.items():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
            network.set_submodule(name, nn.Identity())
        elif isinstance(module, nn.Conv2d) and module.bias is None:
            module.bias = nn.Parameter(torch.zeros(module.out_channels))
    return network


def images(samples, *shape):
    return {"x": torch.randn(samples, *shape, generator=torch.Generator().manual_seed(SEED))}


def networks():
    """name → (class, inputs)"""
    return {
        "vgg": (cnn.Vgg, images(8, 2, 13, 11)),
        "resnet": (cnn.ResNet, images(8, 2, 17, 15)),
        "mobilenet": (cnn.MobileNet, images(8, 2, 13, 11)),
        "densenet": (cnn.DenseNet, images(8, 2, 11, 9)),
        "sequence": (cnn.Sequence, images(64, 2, 21)),
        "volume": (cnn.Volume, images(16, 1, 5, 6, 7)),
        "pools": (cnn.Pools, images(16, 2, 9, 11)),
    }


def presets():
    for name, (make, inputs) in networks().items():
        model = f"{ONNX}/{name}_norms.onnx"
        note = "BatchNorm after a convolution merged, else passed" if name == "densenet" else MERGED
        for composite in EVERY:
            network = golden.load(model, make())
            canonizers = after_its_convolution(network) if name == "densenet" else [SequentialMergeBatchNorm()]
            start_name = "one" if composite in GRADIENTS else "logit"
            bounds = BOX if composite == "epsilon-gamma-box" else None
            write(
                f"zennit_{name}_{composite}",
                model,
                network,
                inputs,
                composite,
                start_name,
                notes=note,
                canonizers=canonizers,
                bounds=bounds,
            )


def folded_by_the_exporter():
    """The same networks in a file without BatchNormalization."""
    for name in ["vgg", "resnet"]:
        make, inputs = networks()[name]
        for exporter in ["dynamo", "legacy"]:
            model = f"{ONNX}/{name}_{exporter}.onnx"
            network = golden.load_in_order(model, without_norms(make), inputs["x"])
            write(
                f"zennit_{name}_{exporter}_epsilon-plus",
                model,
                network,
                inputs,
                "epsilon-plus",
                notes="BatchNorm folded by the exporter",
            )


def main():
    presets()
    folded_by_the_exporter()
