"""One peer in a process of its own: torch_worker.py TOOL MODEL.onnx INPUT.npy COMPOSITE THREADS

Answers the lines of serving.py.
"""

import sys

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

import versions
from serving import serve

VERSIONS = {"torch": "2.15.0", "zennit": "1.0.0", "captum": "0.9.0"}


def load(path):
    """Gemm and Relu nodes as torch modules with the file's weights."""
    graph = onnx.load(path).graph
    arrays = {item.name: torch.from_numpy(numpy_helper.to_array(item).copy()) for item in graph.initializer}
    modules = []
    for node in graph.node:
        if node.op_type == "Gemm":
            weight, bias = arrays[node.input[1]], arrays[node.input[2]]
            linear = nn.Linear(weight.shape[1], weight.shape[0])
            linear.load_state_dict({"weight": weight, "bias": bias})
            modules.append(linear)
        elif node.op_type == "Relu":
            modules.append(nn.ReLU())
        else:
            sys.exit(f"{node.op_type} is not part of this work")
    network = nn.Sequential(*modules).eval()
    # Nobody asks for gradients of the weights; without this every peer would pay for them.
    return network.requires_grad_(False)


def start(logits):
    """The arg-max logit of every sample, at its place."""
    logits = logits.detach()
    return nn.functional.one_hot(logits.argmax(1), logits.shape[1]) * logits


class GradientXInput:
    def __init__(self, network, x):
        self.network, self.x = network, x

    def explain(self):
        x = self.x.detach().requires_grad_()
        logits = self.network(x)
        chosen = nn.functional.one_hot(logits.detach().argmax(1), logits.shape[1]).to(logits.dtype)
        (gradient,) = torch.autograd.grad(logits, x, chosen)
        with torch.no_grad():
            return gradient.mul_(x)


class Zennit:
    def __init__(self, network, x):
        import zennit.types
        from zennit.composites import LayerMapComposite
        from zennit.rules import Epsilon, Pass

        self.network, self.x = network, x
        composite = LayerMapComposite([(zennit.types.Activation, Pass()), (zennit.types.Linear, Epsilon(epsilon=1e-6))])
        composite.register(network)

    def explain(self):
        x = self.x.detach().requires_grad_()
        logits = self.network(x)
        (relevance,) = torch.autograd.grad(logits, x, start(logits))
        return relevance


class Captum:
    """captum wants the target before it starts, so the arg-max is taken once, outside the timed part."""

    def __init__(self, network, x):
        from captum.attr import LRP
        from captum.attr._utils.lrp_rules import EpsilonRule

        self.network, self.x, self.lrp, self.rule = network, x, LRP(network), EpsilonRule
        with torch.inference_mode():
            self.target = network(x).argmax(1)
        self.target = self.target.clone()

    def explain(self):
        for module in self.network:
            if isinstance(module, nn.Linear):
                module.rule = self.rule(epsilon=1e-6)
        return self.lrp.attribute(self.x.detach().requires_grad_(), target=self.target).detach()


def main():
    tool, model, source, composite, threads = sys.argv[1:]
    versions.check(VERSIONS)
    if composite != "epsilon":
        sys.exit(f"no composite {composite} here")
    torch.set_num_threads(int(threads))
    network, x = load(model), torch.from_numpy(np.load(source))
    if tool.endswith("-float64"):
        network, x = network.double(), x.double()
    # zennit hangs hooks on its copy; inference is timed without them.
    plain = load(model).to(x.dtype) if tool.startswith("zennit") else network
    worker = {"torch": GradientXInput, "zennit": Zennit, "captum": Captum}[tool.removesuffix("-float64")](network, x)

    def forward():
        with torch.inference_mode():
            return plain(x)

    serve(forward, worker.explain)


if __name__ == "__main__":
    main()
