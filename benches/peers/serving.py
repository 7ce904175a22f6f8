"""One line in, one line out: what every PyTorch process answers."""

import sys
import time

import numpy as np
import torch


def timed(call):
    begin = time.perf_counter()
    result = call()
    return time.perf_counter() - begin, result


def high_water_mark(device):
    """Bytes: of the process, or of a GPU what its tensors took."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated()
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def product_rate(device):
    """GFLOP/s of a product of square matrices that busies the device."""
    size = 2048 if device == "cpu" else 8192
    a, b = (torch.rand(size, size, device=device) for _ in range(2))

    def product():
        c = a @ b
        if device != "cpu":
            torch.cuda.synchronize()
        return c

    return 2 * size**3 / min(timed(product)[0] for _ in range(30)) / 1e9


def serve(forward, explain, device="cpu"):
    """Answers lines until `quit`: `forward` and `explain` run a batch and give seconds."""
    relevance = None
    print("ready", flush=True)
    for line in sys.stdin:
        match line.split():
            case ["forward"]:
                answer = timed(forward)[0]
            case ["explain"]:
                # The last result is let go first, or two would be alive at the peak.
                relevance = None
                answer, relevance = timed(explain)
            case ["save", path, rows]:
                np.save(path, relevance[: int(rows)].numpy())
                answer = "saved"
            case ["peak"]:
                answer = high_water_mark(device)
            case ["probe"]:
                answer = product_rate(device)
            case ["quit"]:
                return
            case _:
                sys.exit(f"unknown line: {line!r}")
        print(answer, flush=True)
