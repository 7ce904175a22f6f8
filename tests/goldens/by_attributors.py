"""Goldens of attributors: zennit's IntegratedGradients and Occlusion, captum's Occlusion."""

import copy

import captum.attr
import torch
from torch import nn
from zennit.attribution import IntegratedGradients, Occlusion

import golden
from by_zennit import ONNX, SAMPLES, SEED, epsilon
from networks import Mlp
from starts import start


def write(name, tool, model, make, composite, start_name, attributor, explain, notes):
    """`explain(network, x, target)` gives the tool's attribution."""
    features = make().layers[0].in_features
    x = torch.randn(SAMPLES, features, generator=torch.Generator().manual_seed(SEED))
    network = golden.load(model, make())
    with torch.no_grad():
        target = network(x).argmax(-1)
    tensors = {"input": x.numpy(), "target": target.numpy()}
    for bits, kind in [("", torch.float32), ("64", torch.float64)]:
        typed = copy.deepcopy(network).to(kind)
        with torch.no_grad():
            logits = typed(x.to(kind))
        tensors |= {f"logits{bits}": logits.numpy(), f"start{bits}": start(start_name, logits, target).numpy()}
        tensors[f"relevance{bits}"] = explain(typed, x.to(kind), target).detach().numpy()
    version = {"zennit": "1.0.0", "captum": "0.9.0"}[tool]
    eps = "none" if composite == "gradient" else "1e-6"
    golden.write(name, tensors, tool, version, SEED, model, composite, eps, "1e-6", start_name, notes, attributor=attributor)


def on_path(composite, start_name, steps):
    def explain(network, x, target):
        attributor = IntegratedGradients(
            network,
            composite=composite and composite(),
            attr_output=lambda logits: start(start_name, logits.detach(), target),
            n_iter=steps,
        )
        return attributor(x)[1]

    return explain


def window_alone(network, x, target):
    attributor = Occlusion(network, attr_output=lambda logits: start("logit", logits, target), window=(4,), stride=(4,))
    return attributor(x)[1]


def captum_window(network, x, target):
    """captum gives each element the whole loss of a window of 4."""
    with torch.no_grad():
        return captum.attr.Occlusion(network).attribute(x, (4,), strides=(2,), target=target) / 4


def main():
    plain = (f"{ONNX}/mlp_dynamo.onnx", lambda: Mlp([20, 33, 17, 5]))
    curved = (f"{ONNX}/mlp_sigmoid_dynamo.onnx", lambda: Mlp([10, 16, 12, 4], nn.Sigmoid))
    along = lambda steps: {"attributor": "integrated-gradients", "steps": str(steps)}
    note = "zennit.attribution.IntegratedGradients from zeros; targets: argmax"
    for name, network in [("mlp", plain), ("sigmoid", curved)]:
        explain = on_path(None, "one", 20)
        write(f"zennit_{name}_integrated-gradients", "zennit", *network, "gradient", "one", along(20), explain, note)
    explain = on_path(lambda: epsilon(1e-6), "logit", 5)
    write("zennit_mlp_integrated-epsilon", "zennit", *plain, "epsilon", "logit", along(5), explain, note)
    alone = {"attributor": "occlusion", "window": "4", "stride": "4", "shows": "window"}
    note = "zennit.attribution.Occlusion, which shows the window alone; targets: argmax"
    write("zennit_mlp_occlusion", "zennit", *plain, "gradient", "logit", alone, window_alone, note)
    lost = {"attributor": "occlusion", "window": "4", "stride": "2", "shows": "rest"}
    note = "captum.attr.Occlusion, a quarter of it: captum gives each element the whole loss; targets: argmax"
    write("captum_mlp_occlusion", "captum", *plain, "gradient", "logit", lost, captum_window, note)
