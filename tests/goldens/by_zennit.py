"""Goldens from zennit 1.0.0: hooks on torch modules, relevance read as the gradient at the inputs."""

import copy

import numpy as np
import onnx
import torch
import zennit.types
from torch import nn
from zennit.composites import (
    BetaSmooth,
    DeconvNet,
    EpsilonAlpha2Beta1,
    EpsilonAlpha2Beta1Flat,
    EpsilonGammaBox,
    EpsilonPlus,
    EpsilonPlusFlat,
    ExcitationBackprop,
    GuidedBackprop,
    LayerMapComposite,
    SpecialFirstLayerMapComposite,
)
from zennit.core import Stabilizer
from zennit.layer import Sum
from zennit.rules import AlphaBeta, Epsilon, Gamma, Norm, Pass, WSquare, ZBox

import golden
import networks
from networks import Mlp
from starts import start

SEED = 1701
SAMPLES = 64
ONNX = "tests/fixtures/onnx"


class SumOfTwo(nn.Module):
    """networks.Add as zennit wants it, so that its norm rule finds the addition."""

    def __init__(self):
        super().__init__()
        self.sum = Sum(dim=-1)

    def forward(self, a, b):
        return self.sum(torch.stack([a, b], dim=-1))


def with_sums(network):
    for name, module in list(network.named_modules()):
        if isinstance(module, networks.Add):
            network.set_submodule(name, SumOfTwo())
    return network


def epsilon(stabilizer):
    return LayerMapComposite(
        [
            (zennit.types.Activation, Pass()),
            (Sum, Norm()),
            (zennit.types.AvgPool, Norm()),
            (zennit.types.BatchNorm, Pass()),
            (zennit.types.Linear, Epsilon(epsilon=stabilizer)),
        ]
    )


def of_linear(rule, first=None):
    """One rule on every linear layer, another on the first, the rest as zennit's Epsilon composites have it."""
    rest = [
        (zennit.types.Activation, Pass()),
        (Sum, Norm()),
        (zennit.types.AvgPool, Norm()),
        (zennit.types.BatchNorm, Pass()),
        (zennit.types.Linear, rule),
    ]
    return SpecialFirstLayerMapComposite(rest, [(zennit.types.Linear, first)]) if first else LayerMapComposite(rest)


def boxed_gamma():
    return of_linear(Gamma(gamma=0.5), ZBox(low=torch.tensor(-3.0), high=torch.tensor(3.5)))


# Presets by their own names, and composites of ours whose file lies beside this script.
PRESETS = {
    "gamma": lambda: of_linear(Gamma(gamma=0.25)),
    "epsilon-plus-flat": EpsilonPlusFlat,
    "epsilon-alpha2-beta1": EpsilonAlpha2Beta1,
    "epsilon-alpha2-beta1-flat": EpsilonAlpha2Beta1Flat,
    "epsilon-gamma-box": lambda: EpsilonGammaBox(*map(torch.tensor, BOX)),
    "excitation-backprop": ExcitationBackprop,
    "deconvnet": DeconvNet,
    "guided-backprop": GuidedBackprop,
    "beta-smooth": BetaSmooth,
    "box_gamma.toml": boxed_gamma,
    "w_square_alpha_beta.toml": lambda: of_linear(AlphaBeta(alpha=3, beta=2), WSquare()),
    "bias_left_out.toml": lambda: of_linear(Epsilon(zero_params="bias"), Gamma(gamma=0.25, zero_params="bias")),
}
BOX = (-3.0, 3.0)
GRADIENTS = ["gradient", "deconvnet", "guided-backprop", "beta-smooth"]

COMPOSITES = {
    "epsilon": ("1e-6", lambda: epsilon(1e-6)),
    "epsilon-0.01": ("1e-2", lambda: epsilon(1e-2)),
    "epsilon-0.25": ("0.25", lambda: epsilon(0.25)),
    "epsilon-clip-0.01": ("clip:1e-2", lambda: epsilon(Stabilizer(epsilon=1e-2, clip=True))),
    "epsilon-clip-0.25": ("clip:0.25", lambda: epsilon(Stabilizer(epsilon=0.25, clip=True))),
    "epsilon-rms-0.01": ("rms:1e-2", lambda: epsilon(Stabilizer(epsilon=1e-2, norm_scale=True))),
    "epsilon-rms-0.25": ("rms:0.25", lambda: epsilon(Stabilizer(epsilon=0.25, norm_scale=True))),
    "epsilon-plus": ("1e-6", EpsilonPlus),
    "gradient": ("none", lambda: None),
    "gradient-x-input": ("none", lambda: None),
}


def explain(network, composite, inputs, target, start_name, canonizers=(), make=None):
    """Relevance for every float input; `target` may have a column for each of K targets."""
    columns = target if target.ndim == 2 else target[:, None]
    made = (make or PRESETS.get(composite) or COMPOSITES[composite][1])()
    hooked = copy.deepcopy(network)
    results = []
    if made is not None:
        made.canonizers = list(canonizers)
        made.register(hooked)
    for column in columns.unbind(1):
        leaves = {k: v.clone().requires_grad_(v.is_floating_point()) for k, v in inputs.items()}
        logits = hooked(*leaves.values())
        r = start(start_name, logits.detach(), column)
        wanted = [leaf for leaf in leaves.values() if leaf.requires_grad]
        gradients = torch.autograd.grad(logits, wanted, r)
        if composite == "gradient-x-input":
            gradients = [g * leaf.detach() for g, leaf in zip(gradients, wanted)]
        results.append((r, gradients))
    if made is not None:
        made.remove()
    join = (lambda parts: torch.stack(parts, 1)) if target.ndim == 2 else (lambda parts: parts[0])
    names = [k for k, v in inputs.items() if v.is_floating_point()]
    relevance = {k: join([g[i] for _, g in results]).numpy() for i, k in enumerate(names)}
    return logits.detach(), join([r for r, _ in results]).numpy(), relevance


def write(
    name,
    model,
    network,
    inputs,
    composite,
    start_name="logit",
    targets="argmax",
    seed=SEED,
    notes="",
    canonizers=(),
    bounds=None,
    make=None,
):
    """`targets` is argmax, random, or top:K. `make` makes the composite where it is not the one of that name."""
    network = with_sums(network).eval()
    for module in network.modules():
        if isinstance(module, (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.GELU)):
            assert isinstance(module, zennit.types.Activation), module
    with torch.no_grad():
        logits = network(*inputs.values())
    match targets.split(":"):
        case ["argmax"]:
            target = logits.argmax(-1)
        case ["random"]:
            target = torch.randint(logits.shape[-1], logits.shape[:1], generator=torch.Generator().manual_seed(seed))
        case ["top", k]:
            target = logits.topk(int(k), dim=-1).indices
    logits, r, relevance = explain(network, composite, inputs, target, start_name, canonizers, make)
    wide = {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}
    logits64, r64, relevance64 = explain(copy.deepcopy(network).double(), composite, wide, target, start_name, canonizers, make)
    suffix = (lambda key: "") if len(inputs) == 1 else (lambda key: f".{key}")
    tensors = {f"input{suffix(k)}": v.numpy() for k, v in inputs.items()}
    tensors |= {f"relevance{suffix(k)}": v for k, v in relevance.items()}
    tensors |= {f"relevance64{suffix(k)}": v for k, v in relevance64.items()}
    tensors |= {
        "target": target.numpy(),
        "logits": logits.numpy(),
        "logits64": logits64.numpy(),
        "start": r,
        "start64": r64,
    }
    if composite in PRESETS:
        eps, composite_name = "none", f"tests/goldens/{composite}" if composite.endswith(".toml") else composite
    else:
        eps = COMPOSITES[composite][0]
        composite_name = "epsilon" if composite.startswith("epsilon-") and composite != "epsilon-plus" else composite
    notes = "; ".join(filter(None, [notes, f"targets: {targets}"]))
    golden.write(name, tensors, "zennit", "1.0.0", seed, model, composite_name, eps, "1e-6", start_name, notes, bounds)
    for key in relevance:
        a, b = relevance[key].reshape(len(r), -1).astype(np.float64), relevance64[key].reshape(len(r), -1)
        error = np.linalg.norm(a - b, axis=1) / np.maximum(np.linalg.norm(b, axis=1), 1e-30)
        print(f"{name} {key}: float32 against float64, median {np.median(error):.1e}, worst {error.max():.1e}")


def rows(features, generator):
    return {"x": torch.randn(SAMPLES, features, generator=generator)}


def mlps():
    model = f"{ONNX}/mlp_dynamo.onnx"
    network = lambda: golden.load(model, Mlp([20, 33, 17, 5]))
    inputs = rows(20, torch.Generator().manual_seed(SEED))
    for composite in COMPOSITES:
        write(f"zennit_mlp_{composite}", model, network(), inputs, composite, "one" if composite == "gradient" else "logit")
    for start_name in ["one", "probability", "negative-logit", "contrast"]:
        write(f"zennit_mlp_start_{start_name}", model, network(), inputs, "epsilon", start_name)
    write("zennit_mlp_random_targets", model, network(), inputs, "epsilon", targets="random")
    write("zennit_mlp_top3", model, network(), inputs, "epsilon", targets="top:3")


def presets():
    randn = lambda features: {"x": torch.randn(SAMPLES, features, generator=torch.Generator().manual_seed(SEED))}
    tokens = lambda: {"x": torch.randn(SAMPLES, 4, 6, generator=torch.Generator().manual_seed(SEED))}
    cases = {
        "mlp": (lambda: Mlp([20, 33, 17, 5]), lambda: randn(20), list(PRESETS)),
        "mlp_tanh": (lambda: Mlp([10, 16, 12, 4], nn.Tanh), lambda: randn(10), ["gamma", "excitation-backprop", "deconvnet"]),
        "residual": (networks.Residual, lambda: randn(12), [name for name in PRESETS if not name.endswith(".toml")]),
        "tokens": (networks.Tokens, tokens, ["gamma", "epsilon-plus-flat", "box_gamma.toml"]),
    }
    for name, (make, inputs, composites) in cases.items():
        model = f"{ONNX}/{name}_dynamo.onnx"
        for composite in composites:
            start_name = "one" if composite in GRADIENTS else "logit"
            golden_name = f"zennit_{name.removeprefix('mlp_')}_{composite.removesuffix('.toml')}"
            write(golden_name, model, golden.load(model, make()), inputs(), composite, start_name)


def activations():
    inputs = rows(10, torch.Generator().manual_seed(SEED))
    kinds = {
        "leaky_relu": lambda: nn.LeakyReLU(0.1),
        "tanh": nn.Tanh,
        "sigmoid": nn.Sigmoid,
        "gelu_erf": nn.GELU,
        "gelu_tanh": lambda: nn.GELU("tanh"),
    }
    for kind, make in kinds.items():
        model = f"{ONNX}/mlp_{kind}_dynamo.onnx"
        for composite in ["epsilon", "epsilon-0.01", "gradient-x-input"]:
            network = golden.load(model, Mlp([10, 16, 12, 4], make))
            write(f"zennit_{kind}_{composite}", model, network, inputs, composite, notes="activations pass relevance on")


def structure():
    randn = lambda *shape, seed=SEED: torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    cases = {
        "residual": (networks.Residual, {"x": randn(SAMPLES, 12)}),
        "read_twice": (networks.ReadTwice, {"x": randn(SAMPLES, 7)}),
        "two_inputs": (networks.TwoInputs, {"image": randn(SAMPLES, 1, 3, 4), "table": randn(SAMPLES, 5, seed=SEED + 1)}),
        "squeeze_unsqueeze": (networks.SqueezeUnsqueeze, {"x": randn(SAMPLES, 1, 6)}),
        "transpose_flatten": (networks.TransposeFlatten, {"x": randn(SAMPLES, 2, 3, 4)}),
        "tokens": (networks.Tokens, {"x": randn(SAMPLES, 4, 6)}),
        "lookup": (
            networks.Lookup,
            {
                "ids": torch.randint(10, (SAMPLES, 4), generator=torch.Generator().manual_seed(SEED)),
                "x": randn(SAMPLES, 5),
            },
        ),
    }
    for name, (make, inputs) in cases.items():
        model = f"{ONNX}/{name}_dynamo.onnx"
        for composite in ["epsilon", "epsilon-0.01", "epsilon-rms-0.25"] if name in ("residual", "tokens") else ["epsilon"]:
            notes = "additions of activations by the norm rule, 1e-6" if name in ("residual", "two_inputs") else ""
            write(f"zennit_{name}_{composite}", model, golden.load(model, make()), inputs, composite, notes=notes)


def first_images(count):
    with np.load(golden.ROOT / "demo/fashion-mnist-test.npz") as data:
        return torch.from_numpy(data["image"][:count].astype(np.float32) / 255)


def door(mean, std):
    """Normalises forward, hands relevance through unchanged."""

    class Door(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return (x - mean) / std

        @staticmethod
        def backward(ctx, relevance):
            return relevance

    return Door.apply


def demo():
    """Mean and deviation stand before the first layer. Passed: relevance of the normalised pixel. Folded: of the pixel, by W / std."""
    model = "demo/fashion-mlp.onnx"
    arrays = golden.weights(model)
    image = first_images(SAMPLES)
    mean, std = (float(arrays[key].item()) for key in ["mean", "std"])

    class Layers(nn.Module):
        def __init__(self):
            super().__init__()
            drop = [nn.Identity(), nn.Identity()]
            self.layers = nn.Sequential(
                nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), drop[0], nn.Linear(512, 256), nn.ReLU(), drop[1], nn.Linear(256, 10)
            )

        def forward(self, x):
            return self.layers(x)

    class Passed(Layers):
        def forward(self, x):
            return self.layers(door(mean, std)(x))

    class Plain(Layers):
        def forward(self, x):
            return self.layers((x - mean) / std)

    for composite in ["epsilon", "epsilon-0.25"]:
        note = "the first 64 test images; normalisation passes relevance on"
        write(f"zennit_demo_{composite}", model, golden.load(model, Passed()), {"image": image}, composite, seed="none", notes=note)
    note = "the first 64 test images; gradient and pixel as they are at the network's own input"
    network = golden.load(model, Plain())
    write("zennit_demo_gradient-x-input", model, network, {"image": image}, "gradient-x-input", seed="none", notes=note)

    folded = golden.load(model, Layers())
    first = folded.layers[1]
    with torch.no_grad():
        w = first.weight.double() / std
        first.bias.copy_(first.bias.double() - w.sum(1) * mean)
        first.weight.copy_(w)
    note = "the first 64 test images; normalisation folded into the first layer's W and b (in float64, then rounded)"
    write("zennit_demo_epsilon_folded", model, folded, {"image": image}, "epsilon", seed="none", notes=note)


class Side(nn.Module):
    """Two linear layers side by side, joined."""

    def __init__(self):
        super().__init__()
        self.layer1 = nn.Linear(2, 2, bias=False)
        self.layer2 = nn.Linear(2, 2, bias=False)

    def forward(self, x):
        return torch.cat([self.layer1(x), self.layer2(x)], 1)


def from_tensor(name, model, make, x, begin, known, note):
    """One batch under epsilon 1e-6 with relevance started as a tensor; the answer must be the known one."""
    tensors = {"input": x.numpy(), "start": begin.numpy(), "start64": begin.double().numpy(), "known": np.float32(known)}
    for bits, kind in [("", torch.float32), ("64", torch.float64)]:
        network = golden.load(model, make()).to(kind)
        leaf = x.to(kind).requires_grad_()
        with epsilon(1e-6).context(network) as hooked:
            logits = hooked(leaf)
            (relevance,) = torch.autograd.grad(logits, leaf, begin.to(kind))
        tensors |= {f"logits{bits}": logits.detach().numpy(), f"relevance{bits}": relevance.numpy()}
    assert np.allclose(tensors["relevance64"], known, atol=1e-4), tensors["relevance64"]
    golden.write(name, tensors, "zennit", "1.0.0", "none", model, "epsilon", "1e-6", "1e-6", "tensor", note)


def known():
    begin = torch.tensor([[1.0, 4.0, 5.0, 0.0]])
    note = "known answer (-11, 21) for start (1, 4, 5, 0) at the concatenation"
    from_tensor("zennit_known_concat", f"{ONNX}/known_concat.onnx", Side, torch.tensor([[-1.0, 1.0]]), begin, [[-11, 21]], note)
    x = torch.tensor([0.1, 0.2, 0.3, 0.4])
    note = "no batch axis; LRP-0 from 1 is (0.2, -1, 2.4, -0.2)"
    model = f"{ONNX}/tutorial_dynamo.onnx"
    from_tensor("zennit_tutorial", model, networks.Tutorial, x, torch.ones(1), [0.2, -1, 2.4, -0.2], note)


def hidden():
    """Relevance of every value between the layers, under the value's ONNX name."""
    model = f"{ONNX}/mlp_dynamo.onnx"
    values = [node.output[0] for node in onnx.load(golden.ROOT / model).graph.node][:-1]
    inputs = rows(20, torch.Generator().manual_seed(SEED))
    tensors = {"input": inputs["x"].numpy()}
    for bits, kind in [("", torch.float32), ("64", torch.float64)]:
        network = golden.load(model, Mlp([20, 33, 17, 5])).to(kind)
        with epsilon(1e-6).context(network):
            at = [inputs["x"].to(kind).requires_grad_()]
            for layer in network.layers:
                at.append(layer(at[-1]))
            logits = at.pop()
            target = logits.argmax(1)
            r = start("logit", logits.detach(), target)
            relevance = torch.autograd.grad(logits, at, r)
        tensors |= {f"logits{bits}": logits.detach().numpy(), f"start{bits}": r.numpy(), f"relevance{bits}": relevance[0].numpy()}
        tensors |= {f"relevance{bits}.{value}": r.numpy() for value, r in zip(values, relevance[1:], strict=True)}
    tensors["target"] = target.numpy()
    note = "relevance.VALUE is relevance at that value of the model; targets: argmax"
    golden.write("zennit_mlp_hidden", tensors, "zennit", "1.0.0", SEED, model, "epsilon", "1e-6", "1e-6", "logit", note)


def main():
    mlps()
    presets()
    activations()
    structure()
    hidden()
    known()
    demo()
