"""Goldens from captum 0.9.0: LRP with the epsilon rule on every linear layer, and captum's published vectors."""

import copy
import warnings

import torch
from captum.attr import LRP, LayerLRP
from captum.attr._utils.custom_modules import Addition_Module
from captum.attr._utils.lrp_rules import EpsilonRule
from torch import nn

import golden
from networks import Mlp
from starts import start

SEED = 1702
SAMPLES = 64
ONNX = "tests/fixtures/onnx"


def explain(network, x, target, epsilon):
    # captum writes to the weights while it works.
    network = copy.deepcopy(network).to(x.dtype)
    for module in network.modules():
        if isinstance(module, nn.Linear):
            module.rule = EpsilonRule(epsilon=epsilon)
    return LRP(network).attribute(x.clone().requires_grad_(), target=target).detach()


def write(name, model, network, x, target, epsilon, notes, known=None, seed="none", extra=None):
    with torch.no_grad():
        logits, logits64 = network(x), copy.deepcopy(network).double()(x.double())
    tensors = {
        "input": x.numpy(),
        "target": target.numpy(),
        "logits": logits.numpy(),
        "logits64": logits64.numpy(),
        "start": start("logit", logits, target).numpy(),
        "start64": start("logit", logits64, target).numpy(),
        "relevance": explain(network, x, target, epsilon).numpy(),
        "relevance64": explain(network, x.double(), target, epsilon).numpy(),
        **(extra or {}),
    }
    if known is not None:
        wanted = torch.tensor(known)
        assert torch.allclose(torch.from_numpy(tensors["relevance"]), wanted, atol=1e-4), (name, tensors["relevance"])
        tensors["known"] = wanted.numpy()
    golden.write(name, tensors, "captum", "0.9.0", seed, model, "epsilon", f"{epsilon:g}", "1e-9", "logit", notes)
    print(name)


def networks():
    generator = torch.Generator().manual_seed(SEED)
    for kind, widths, activation in [("mlp", [20, 33, 17, 5], nn.ReLU), ("mlp_tanh", [10, 16, 12, 4], nn.Tanh)]:
        model = f"{ONNX}/{kind}_dynamo.onnx"
        network = golden.load(model, Mlp(widths, activation)).layers
        x = torch.randn(SAMPLES, widths[0], generator=generator)
        with torch.no_grad():
            target = network(x).argmax(1)
        for epsilon in [1e-9, 1e-2]:
            write(f"captum_{kind}_epsilon{epsilon:g}", model, network, x, target, epsilon, "targets: argmax", seed=SEED)


class Simple(nn.Module):
    def __init__(self, activation):
        super().__init__()
        self.linear = nn.Linear(3, 3, bias=False)
        self.activation = activation()
        self.linear2 = nn.Linear(3, 1, bias=False)

    def forward(self, x):
        return self.linear2(self.activation(self.linear(x)))


class Skip(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 2, bias=False)
        self.add = Addition_Module()

    def forward(self, x):
        return self.add(self.linear(x), x)


def known():
    zeros = lambda n: torch.zeros(n, dtype=torch.int64)
    x = torch.tensor([[1.0, 2.0, 3.0], [3.0, 6.0, 9.0]])
    model = f"{ONNX}/known_simple.onnx"
    answer = [[18.0, 36.0, 54.0], [54.0, 108.0, 162.0]]
    write("captum_known_simple", model, golden.load(model, Simple(nn.ReLU)), x, zeros(2), 1e-9, "batch {x, 3x}", answer)

    model = f"{ONNX}/known_negative_weight.onnx"
    network = golden.load(model, Simple(nn.ReLU))
    layer = copy.deepcopy(network)
    at_layer = LayerLRP(layer, layer.linear).attribute(x[:1].clone().requires_grad_(), target=0, attribute_to_layer_input=False)
    at_layer = at_layer[0] if isinstance(at_layer, tuple) else at_layer
    assert torch.allclose(at_layer, torch.tensor([[24.0, 36.0, 36.0]])), at_layer
    extra = {"relevance.z": at_layer.detach().numpy()}
    note = "relevance.z is relevance at the first layer's output, value `z` of the model"
    write("captum_known_negative_weight", model, network, x[:1], zeros(1), 1e-9, note, extra=extra)

    model = f"{ONNX}/known_tanh.onnx"
    answer = [[0.0269, 0.0537, 0.0806]]
    write("captum_known_tanh", model, golden.load(model, Simple(nn.Tanh)), x[:1], zeros(1), 1e-9, "tanh", answer)

    model = f"{ONNX}/known_skip.onnx"
    x = torch.tensor([[2.0, 3.0]])
    write("captum_known_skip", model, golden.load(model, Skip()), x, torch.tensor([1]), 1e-9, "target 1", [[10.0, 18.0]])


def main():
    warnings.filterwarnings("ignore")
    networks()
    known()
