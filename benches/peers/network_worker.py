"""One peer on one of torchvision's networks in a process of its own: network_worker.py TOOL NETWORK INPUT.npy COMPOSITE THREADS

TOOL is torch (gradient x input), zennit, or probe (which only multiplies matrices). Answers the lines of serving.py.
"""

import importlib.metadata
import sys

import numpy as np
import torch
from torch import nn

import networks
from serving import serve

VERSIONS = {"torch": "2.15.0", "zennit": "1.0.0"}


def composites():
    from zennit import composites as c
    from zennit import types
    from zennit.layer import Sum
    from zennit.rules import Epsilon, Norm, Pass

    low, high = torch.full((1, 3, 1, 1), -3.0), torch.full((1, 3, 1, 1), 3.0)
    epsilon = [(types.Activation, Pass()), (Sum, Norm()), (types.AvgPool, Norm()), (types.Linear, Epsilon())]
    return {
        "epsilon": lambda canonizers: c.LayerMapComposite(epsilon, canonizers=canonizers),
        "epsilon-plus": lambda canonizers: c.EpsilonPlus(canonizers=canonizers),
        "epsilon-alpha2-beta1": lambda canonizers: c.EpsilonAlpha2Beta1(canonizers=canonizers),
        "epsilon-gamma-box": lambda canonizers: c.EpsilonGammaBox(low=low, high=high, canonizers=canonizers),
    }


def with_rules(name, network, composite):
    from zennit.torchvision import ResNetCanonizer, VGGCanonizer

    canonizer = ResNetCanonizer if name.startswith("resnet") else VGGCanonizer
    composites()[composite]([canonizer()]).register(network)
    return network


def one_hot(logits):
    return nn.functional.one_hot(logits.argmax(1), logits.shape[1]).to(logits.dtype)


def main():
    tool, name, source, composite, threads = sys.argv[1:]
    for package, wanted in VERSIONS.items():
        found = importlib.metadata.version(package).split("+")[0]
        if found != wanted:
            sys.exit(f"{package} is {found}, not {wanted}")
    torch.set_num_threads(int(threads))
    if tool == "probe":
        return serve(None, None)
    x = torch.from_numpy(np.load(source))
    plain = networks.module(name)
    hooked = with_rules(name, networks.module(name), composite) if tool == "zennit" else plain

    def forward():
        with torch.inference_mode():
            return plain(x)

    def explain():
        leaf = x.detach().requires_grad_()
        logits = hooked(leaf)
        chosen = one_hot(logits.detach())
        start = chosen * logits.detach() if tool == "zennit" else chosen
        (gradient,) = torch.autograd.grad(logits, leaf, start)
        if tool == "zennit":
            return gradient
        with torch.no_grad():
            return gradient.mul_(x)

    serve(forward, explain)


if __name__ == "__main__":
    main()
