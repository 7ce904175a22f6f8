"""The work that is timed: an MLP with seeded random weights and biases, and a batch of pixel-like inputs."""

import numpy as np

WIDTHS = [784, 1024, 1024, 1024, 10]
SEED = 5
FEW = 64


def draw(batch, widths=WIDTHS):
    """Each layer's weight [outputs, inputs] and bias, and the inputs of `batch` samples."""
    rng = np.random.default_rng(SEED)
    layers = []
    for inputs, outputs in zip(widths, widths[1:]):
        bound = np.sqrt(6 / inputs)
        weight = rng.uniform(-bound, bound, (outputs, inputs)).astype(np.float32)
        bias = rng.uniform(-0.1, 0.1, outputs).astype(np.float32)
        layers.append((weight, bias))
    return layers, rng.uniform(0, 1, (batch, widths[0])).astype(np.float32)


def write(folder, batch, widths=WIDTHS):
    """mlp.onnx, input.npy with `batch` rows, and few.npy with its first 64."""
    # Here, so that who only draws needs numpy alone.
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    layers, x = draw(batch, widths)
    nodes, constants, value = [], [], "x"
    for layer, (weight, bias) in enumerate(layers):
        constants += [numpy_helper.from_array(weight, f"w{layer}"), numpy_helper.from_array(bias, f"b{layer}")]
        last = layer == len(layers) - 1
        z = "logits" if last else f"z{layer}"
        nodes.append(helper.make_node("Gemm", [value, f"w{layer}", f"b{layer}"], [z], name=f"dense{layer}", transB=1))
        if not last:
            value = f"a{layer}"
            nodes.append(helper.make_node("Relu", [z], [value], name=f"relu{layer}"))
    info = lambda name, width: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])
    graph = helper.make_graph(nodes, "mlp", [info("x", widths[0])], [info("logits", widths[-1])], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, folder / "mlp.onnx")
    np.save(folder / "input.npy", x)
    np.save(folder / "few.npy", x[:FEW])
