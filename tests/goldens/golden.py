"""Loads a network's weights from its ONNX file and writes one golden with where it came from."""

import pathlib
import sys

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

FOLDER = pathlib.Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
SCRIPT = "tests/goldens/make.py"
TORCH = "2.15.0"
LAYERS = {
    "Conv": (nn.Conv1d, nn.Conv2d, nn.Conv3d),
    "ConvTranspose": (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    "BatchNormalization": (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
    "Gemm": (nn.Linear,),
}

sys.path.insert(0, str(FOLDER.parent / "fixtures"))
import sorted_safetensors  # noqa: E402


def weights(model):
    """The file's initializers by name. MatMul stores a linear layer's weight turned, under a name the exporter made up."""
    loaded = onnx.load(ROOT / model)
    arrays = {item.name: numpy_helper.to_array(item) for item in loaded.graph.initializer}
    biases = {}
    for node in loaded.graph.node:
        if node.op_type == "Add":
            for name in node.input:
                if name in arrays:
                    biases[next(value for value in node.input if value != name)] = name
    for node in loaded.graph.node:
        if node.op_type == "MatMul" and node.output[0] in biases and node.input[1] in arrays:
            bias = biases[node.output[0]]
            arrays[bias.removesuffix("bias") + "weight"] = arrays[node.input[1]].T
    return arrays


def load(model, network):
    arrays = weights(model)
    keys = [key for key in network.state_dict() if not key.endswith("num_batches_tracked")]
    state = {key: torch.from_numpy(np.array(arrays[key])) for key in keys}
    network.load_state_dict(state, strict=False)
    return network.eval()


def load_in_order(model, network, x):
    """For files whose exporter made up names: the n-th layer that runs on `x` has the n-th weights of the graph."""
    loaded = onnx.load(ROOT / model)
    arrays = {item.name: numpy_helper.to_array(item) for item in loaded.graph.initializer}
    nodes = [node for node in loaded.graph.node if node.op_type in LAYERS]
    ran = []
    kinds = tuple(kind for group in LAYERS.values() for kind in group)
    hooks = [m.register_forward_hook(lambda m, *_: ran.append(m)) for m in network.modules() if isinstance(m, kinds)]
    network.eval()(x)
    for hook in hooks:
        hook.remove()
    for node, layer in zip(nodes, ran, strict=True):
        assert isinstance(layer, LAYERS[node.op_type]), (node.op_type, layer)
        if node.op_type == "Gemm":
            assert {a.name: a.i for a in node.attribute if a.name == "transB"} == {"transB": 1}
        parts = ["weight", "bias", "running_mean", "running_var"]
        for part, name in zip(parts, node.input[1:]):
            with torch.no_grad():
                getattr(layer, part).copy_(torch.from_numpy(np.array(arrays[name])))
    return network


def write(
    name,
    tensors,
    tool,
    tool_version,
    seed,
    model,
    composite,
    epsilon,
    stabilizer,
    start,
    notes,
    bounds=None,
    dialect=None,
    attributor=None,
):
    sorted_safetensors.write(
        FOLDER / f"{name}.safetensors",
        {key: np.ascontiguousarray(value) for key, value in tensors.items()},
        {
            "tool": tool,
            "tool_version": tool_version,
            "torch": TORCH,
            "script": SCRIPT,
            "seed": str(seed),
            "model": model,
            "composite": composite,
            "epsilon": epsilon,
            "stabilizer": stabilizer,
            "start": start,
            "notes": notes,
            **({} if bounds is None else {"low": str(bounds[0]), "high": str(bounds[1])}),
            **({"dialect": dialect} if dialect else {}),
            **(attributor or {}),
        },
    )
