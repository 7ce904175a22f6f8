"""torchvision's networks with random weights, too large to be kept here, and zennit's relevance on them.

    python tests/goldens/large.py OUTFOLDER [--size 64] [--samples 4] [--only NAME ...] [--composites NAME ...]

For every network OUTFOLDER gets `NAME_norms.onnx`, with each BatchNormalization as a node, and `NAME_dynamo.onnx`, as PyTorch's exporter writes it by
default, each with onnxruntime's answer in a .safetensors of the same name (see tests/fixtures/README.md); and where zennit sees the whole graph,
`NAME_COMPOSITE.safetensors` in the form of the goldens, whose `model` is the file name of `NAME_norms.onnx`. compare_large.py holds relprop against them.

DenseNet and EfficientNet join and gate values in `forward`, where zennit has no module to hook: they are exported only. VGG gets a small classifier after
a pool over all places, because its own expects images of 224 pixels.
"""

import argparse
import copy
import pathlib
import sys
import time
import warnings

import torch
import torchvision
from torch import nn
from torchvision.models.mobilenetv2 import InvertedResidual, MobileNetV2
from torchvision.models.resnet import BasicBlock, Bottleneck
from zennit.canonizers import SequentialMergeBatchNorm
from zennit.torchvision import ResNetCanonizer, VGGCanonizer

import golden  # Puts tests/fixtures on the path.
import by_zennit
import fixture
import make
from make_torch import export
from make_torch_cnn import with_norms

SCRIPT = "tests/goldens/large.py"
SEED = 1701
CLASSES = 10
COMPOSITES = [
    "epsilon",
    "epsilon-plus",
    "epsilon-plus-flat",
    "epsilon-alpha2-beta1",
    "epsilon-alpha2-beta1-flat",
    "epsilon-gamma-box",
    "excitation-backprop",
    "deconvnet",
    "guided-backprop",
    "beta-smooth",
]
CANONIZERS = {
    "vgg11_bn": VGGCanonizer,
    "resnet18": ResNetCanonizer,
    "resnet50": ResNetCanonizer,
    "mobilenet_v2": SequentialMergeBatchNorm,
}
NAMES = [*CANONIZERS, "densenet121", "efficientnet_b0"]


def network(name, size):
    """torchvision's own random weights, with norms measured on noise and then moved, so that activations stay near 1."""
    torch.manual_seed(SEED)
    made = getattr(torchvision.models, name)(weights=None, num_classes=CLASSES)
    if name == "vgg11_bn":
        made.avgpool = nn.AdaptiveAvgPool2d(1)
        made.classifier = nn.Sequential(nn.Linear(512, 128), nn.ReLU(), nn.Dropout(), nn.Linear(128, CLASSES))
    norms = [module for module in made.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
        nn.init.uniform_(norm.weight, 0.6, 1.3)
        nn.init.normal_(norm.bias, std=0.2)
    with torch.no_grad():
        made.train()(torch.randn(16, 3, size, size))
    for norm in norms:
        norm.running_mean += 0.1 * norm.running_var.sqrt() * torch.randn_like(norm.running_mean)
        norm.running_var *= torch.empty_like(norm.running_var).uniform_(0.7, 1.4)
    return made.eval()


class Pooled(nn.Module):
    """MobileNetV2 with its functional pool as a module, so that zennit's norm rule finds it."""

    def __init__(self, made):
        super().__init__()
        self.features, self.pool, self.classifier = made.features, nn.AdaptiveAvgPool2d(1), made.classifier

    def forward(self, x):
        return self.classifier(torch.flatten(self.pool(self.features(x)), 1))


class Residual(nn.Module):
    """MobileNetV2's `x + conv(x)` with the addition as zennit wants it."""

    def __init__(self, conv):
        super().__init__()
        self.conv = conv
        self.add = by_zennit.SumOfTwo()

    def forward(self, x):
        return self.add(x, self.conv(x))


class InTurns(nn.Module):
    """A ReLU for each of the calls of a module that a block reads several times: zennit keeps one input a module."""

    def __init__(self, calls):
        super().__init__()
        self.each = nn.ModuleList(nn.ReLU() for _ in range(calls))
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return self.each[(self.calls - 1) % len(self.each)](x)


def for_zennit(made):
    """A copy whose rectifiers each keep their input: not in place, and once a forward pass."""
    made = copy.deepcopy(made)
    for module in made.modules():
        if isinstance(module, (nn.ReLU, nn.ReLU6)):
            module.inplace = False
        if isinstance(module, (BasicBlock, Bottleneck)):
            module.relu = InTurns(3 if isinstance(module, Bottleneck) else 2)
    for name, module in list(made.named_modules()):
        if isinstance(module, InvertedResidual) and module.use_res_connect:
            made.set_submodule(name, Residual(module.conv))
    return Pooled(made) if isinstance(made, MobileNetV2) else made


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--composites", nargs="+", choices=COMPOSITES, default=COMPOSITES)
    arguments = parser.parse_args()
    make.check_versions()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(2)
    arguments.out.mkdir(parents=True, exist_ok=True)
    golden.FOLDER = fixture.FOLDER = arguments.out.resolve()
    generator = torch.Generator().manual_seed(SEED)
    inputs = {"x": torch.randn(arguments.samples, 3, arguments.size, arguments.size, generator=generator)}
    arrays = {"x": inputs["x"].numpy()}
    notes = f"torchvision {torchvision.__version__.split('+')[0]}, {arguments.size} pixels"
    for name in arguments.only:
        began = time.monotonic()
        made = network(name, arguments.size)
        fixture.write(f"{name}_norms", with_norms(made, inputs), arrays, SCRIPT, notes, SEED)
        fixture.write(f"{name}_dynamo", export(made, inputs, True, True), arrays, SCRIPT, notes, SEED)
        for composite in arguments.composites if name in CANONIZERS else []:
            by_zennit.write(
                f"{name}_{composite}",
                f"{name}_norms.onnx",
                for_zennit(made),
                inputs,
                composite,
                notes=notes,
                canonizers=[CANONIZERS[name]()],
                bounds=by_zennit.BOX if composite == "epsilon-gamma-box" else None,
            )
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
