"""Goldens from zennit 1.0.0 on networks with convolutions: every preset, BatchNorm merged by zennit's own canonizers."""

import torch
from torch import nn
from zennit.canonizers import NamedMergeBatchNorm, SequentialMergeBatchNorm
from zennit.composites import EpsilonGammaBox

import golden
import networks_cnn as cnn
from by_zennit import BOX, GRADIENTS, ONNX, PRESETS, SEED, SumOfTwo, door, first_images, write

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


class DemoResidual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.inner = nn.Sequential(*convolution(width, width), nn.ReLU(), *convolution(width, width))
        self.add = SumOfTwo()
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(self.add(x, self.inner(x)))


def convolution(inputs, outputs):
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)


class DemoCnn(nn.Module):
    """demo/train_cnn.py's network after its normalisation, which is handed over from outside."""

    def __init__(self, door):
        super().__init__()
        self.door = door
        stage = lambda inputs, outputs: [*convolution(inputs, outputs), nn.ReLU()]
        self.layers = nn.Sequential(
            *stage(1, 16),
            nn.MaxPool2d(2),
            *stage(16, 32),
            nn.MaxPool2d(2),
            *stage(32, 64),
            DemoResidual(64),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(64, 10),
        )

    def forward(self, x):
        return self.layers(self.door(x))


def demo():
    """The box rule's bounds are those of a pixel, 0 and 1, as the first convolution sees them: after the normalisation."""
    model = "demo/fashion-cnn.onnx"
    arrays = golden.weights(model)
    mean, std = (float(arrays[key].item()) for key in ["mean", "std"])
    # Before an even background, max pooling has ties, and rounding chooses among them. Noise below a pixel's step leaves none.
    noise = torch.rand(8, 1, 28, 28, generator=torch.Generator().manual_seed(SEED))
    images = {"image": (first_images(8) * 255 + noise) / 256}
    box = lambda: EpsilonGammaBox(low=torch.tensor((0 - mean) / std), high=torch.tensor((1 - mean) / std))
    for composite in ["epsilon-0.25", "epsilon-plus", "epsilon-alpha2-beta1-flat", "epsilon-gamma-box"]:
        boxed = composite == "epsilon-gamma-box"
        write(
            f"zennit_demo_cnn_{composite}",
            model,
            golden.load(model, DemoCnn(door(mean, std))),
            images,
            composite,
            notes=f"the first 8 test images, with noise below a pixel's step; normalisation passes relevance on; {MERGED}",
            canonizers=[SequentialMergeBatchNorm()],
            bounds=(0.0, 1.0) if boxed else None,
            make=box if boxed else None,
        )


def main():
    presets()
    folded_by_the_exporter()
    demo()
