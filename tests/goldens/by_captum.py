"""Goldens from captum 0.9.0: LRP with one rule on every linear layer, captum's published vectors, and its single neurons."""

import copy
import warnings

import torch
from captum.attr import LRP, LayerLRP
from captum.attr._utils.custom_modules import Addition_Module
from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule, EpsilonRule, GammaRule
from torch import nn

import golden
from networks import Mlp
from starts import start

SEED = 1702
SAMPLES = 64
ONNX = "tests/fixtures/onnx"


def explain(network, x, target, rule):
    # captum writes to the weights while it works.
    network = copy.deepcopy(network).to(x.dtype)
    for module in network.modules():
        if isinstance(module, nn.Linear):
            module.rule = rule()
    return LRP(network).attribute(x.clone().requires_grad_(), target=target).detach()


def write(name, model, network, x, target, epsilon, notes, known=None, seed="none", extra=None, rule=None, composite="epsilon"):
    """With captum's epsilon rule, or with another one that `composite` is in captum's dialect."""
    dialect = "captum" if rule else None
    rule = rule or (lambda: EpsilonRule(epsilon=epsilon))
    with torch.no_grad():
        logits, logits64 = network(x), copy.deepcopy(network).double()(x.double())
    tensors = {
        "input": x.numpy(),
        "target": target.numpy(),
        "logits": logits.numpy(),
        "logits64": logits64.numpy(),
        "start": start("logit", logits, target).numpy(),
        "start64": start("logit", logits64, target).numpy(),
        "relevance": explain(network, x, target, rule).numpy(),
        "relevance64": explain(network, x.double(), target, rule).numpy(),
        **(extra or {}),
    }
    if known is not None:
        wanted = torch.tensor(known)
        assert torch.allclose(torch.from_numpy(tensors["relevance"]), wanted, atol=1e-4), (name, tensors["relevance"])
        tensors["known"] = wanted.numpy()
    epsilon = f"{epsilon:g}" if epsilon else "none"
    golden.write(name, tensors, "captum", "0.9.0", seed, model, composite, epsilon, "1e-9", "logit", notes, dialect)
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


def dialect():
    generator = torch.Generator().manual_seed(SEED)
    model = f"{ONNX}/mlp_dynamo.onnx"
    network = golden.load(model, Mlp([20, 33, 17, 5], nn.ReLU)).layers
    x = torch.randn(SAMPLES, 20, generator=generator)
    with torch.no_grad():
        target = network(x).argmax(1)
    rules = {"gamma": lambda: GammaRule(gamma=0.25), "deep-taylor": Alpha1_Beta0_Rule}
    for composite, rule in rules.items():
        note = "targets: argmax; captum's dialect"
        write(f"captum_mlp_{composite}", model, network, x, target, None, note, seed=SEED, rule=rule, composite=composite)


def neurons():
    """What tests/textbook/dialects.rs says of captum: x, w, b, R and the answer."""
    cases = [
        (GammaRule(gamma=1.0), [1, 2], [1, -2], 0, -3, [3, -6]),
        (GammaRule(gamma=1.0), [1, -2], [2, 1], 1, 1, [4, -4]),
        (GammaRule(gamma=0.25), [1, 2], [1, -0.25], 1, 1.5, [15 / 14, -6 / 14]),
        (Alpha1_Beta0_Rule(), [1, 2], [1, -2], -0.5, 1, [2, 0]),
        (Alpha1_Beta0_Rule(), [-1, 2], [-1, 1], 0, 1, [0, 1]),
    ]
    for rule, x, w, b, start, answer in cases:
        neuron = nn.Linear(2, 1).double()
        neuron.weight.data, neuron.bias.data = torch.tensor([w]).double(), torch.tensor([b]).double()
        x = torch.tensor([x]).double()
        score = neuron(x).item()
        found = explain(nn.Sequential(neuron), x, 0, lambda: rule) * start / score
        assert torch.allclose(found, torch.tensor([answer]).double(), atol=1e-6), (rule, found)


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
    dialect()
    neurons()
    known()
