"""One peer on one of torchvision's networks in a process of its own: network_worker.py TOOL NETWORK INPUT.npy COMPOSITE THREADS DEVICE

TOOL is torch (gradient x input), zennit, or probe (which only multiplies matrices). DEVICE is cpu; cuda, where products are float32's;
or cuda-tf32, where their factors are rounded to 10 bits. Times run from host to host: images up, result back. Answers the lines of serving.py.
"""

import sys

import numpy as np
import torch
from torch import nn

import networks
import versions
from serving import serve

VERSIONS = {"torch": "2.15.0", "zennit": "1.0.0"}
# What begins with 1 at the chosen logit, as a derivative does.
GRADIENTS = ["guided-backprop", "deconvnet"]


def composites(device):
    from zennit import composites as c
    from zennit import types
    from zennit.layer import Sum
    from zennit.rules import Epsilon, Norm, Pass

    low, high = (torch.full((1, 3, 1, 1), bound, device=device) for bound in (-3.0, 3.0))
    epsilon = [(types.Activation, Pass()), (Sum, Norm()), (types.AvgPool, Norm()), (types.Linear, Epsilon())]
    return {
        "epsilon": lambda canonizers: c.LayerMapComposite(epsilon, canonizers=canonizers),
        "epsilon-plus": lambda canonizers: c.EpsilonPlus(canonizers=canonizers),
        "epsilon-alpha2-beta1": lambda canonizers: c.EpsilonAlpha2Beta1(canonizers=canonizers),
        "epsilon-gamma-box": lambda canonizers: c.EpsilonGammaBox(low=low, high=high, canonizers=canonizers),
        "epsilon-plus-flat": lambda canonizers: c.EpsilonPlusFlat(canonizers=canonizers),
        "epsilon-alpha2-beta1-flat": lambda canonizers: c.EpsilonAlpha2Beta1Flat(canonizers=canonizers),
        "excitation-backprop": lambda canonizers: c.ExcitationBackprop(canonizers=canonizers),
        "guided-backprop": lambda canonizers: c.GuidedBackprop(canonizers=canonizers),
        "deconvnet": lambda canonizers: c.DeconvNet(canonizers=canonizers),
    }


def with_rules(name, network, composite, device):
    from zennit.torchvision import ResNetCanonizer, VGGCanonizer

    canonizer = ResNetCanonizer if name.startswith(("resnet", "resnext")) else VGGCanonizer
    composites(device)[composite]([canonizer()]).register(network)
    for part in network.modules():
        # zennit leaves 0 in batch norms that it merged, which some versions of PyTorch refuse; 1 + 1e-12 is 1 in float32.
        if isinstance(part, nn.BatchNorm2d) and part.eps == 0:
            part.eps = 1e-12
    return network


def one_hot(logits):
    return nn.functional.one_hot(logits.argmax(1), logits.shape[1]).to(logits.dtype)


def main():
    tool, name, source, composite, threads, where = sys.argv[1:]
    versions.check(VERSIONS)
    device, _, tf32 = where.partition("-")
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = bool(tf32)
    torch.set_num_threads(int(threads))
    if tool == "probe":
        return serve(None, None, device)
    x = torch.from_numpy(np.load(source))
    plain = networks.module(name).to(device)
    hooked = with_rules(name, networks.module(name).to(device), composite, device) if tool == "zennit" else plain

    def forward():
        with torch.inference_mode():
            return plain(x.to(device)).cpu()

    def explain():
        leaf = x.to(device).detach().requires_grad_()
        logits = hooked(leaf)
        chosen = one_hot(logits.detach())
        start = chosen * logits.detach() if tool == "zennit" and composite not in GRADIENTS else chosen
        (gradient,) = torch.autograd.grad(logits, leaf, start)
        if tool == "zennit":
            return gradient.cpu()
        with torch.no_grad():
            return gradient.mul_(leaf).cpu()

    serve(forward, explain, device)


if __name__ == "__main__":
    main()
