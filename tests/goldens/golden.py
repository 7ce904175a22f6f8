"""Loads a network's weights from its ONNX file and writes one golden with where it came from."""

import pathlib
import sys

import numpy as np
import onnx
import torch
from onnx import numpy_helper

FOLDER = pathlib.Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
SCRIPT = "tests/goldens/make.py"
TORCH = "2.15.0"

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
    state = {key: torch.from_numpy(np.array(arrays[key])) for key in network.state_dict()}
    network.load_state_dict(state)
    return network.eval()


def write(name, tensors, tool, tool_version, seed, model, composite, epsilon, stabilizer, start, notes, dialect=None):
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
            **({"dialect": dialect} if dialect else {}),
        },
    )
