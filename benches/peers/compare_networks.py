"""Times relprop, PyTorch's gradient x input and zennit on torchvision's networks, one repetition of each in turn, and prints Markdown tables.

Every tool and composite is a process of its own, so that peak memory is its own; on a GPU it is the memory there
(relprop: of weights, buffers and what the host shares with them; PyTorch: of tensors at most). A work whose matrix product moved by more than 10 % is void.
"""

import argparse
import itertools
import pathlib
import sys
import tempfile

import numpy as np

import networks
import versions
from workers import PROBE_TOLERANCE, Worker, best, measure, worst_difference

HERE = pathlib.Path(__file__).resolve().parent
RELPROP = HERE.parents[1] / "target/release/examples/peer_worker"
COMPOSITES = ["epsilon", "epsilon-plus", "epsilon-alpha2-beta1", "epsilon-gamma-box"]
# What zennit has no composite for, and the networks that add or multiply where zennit sees no module.
NOT_ZENNITS = ["gradient", "gradient-x-input"]
NOT_SEEN_BY_ZENNIT = ["mobilenet_v2", "efficientnet_b0", "convnext_tiny"]


def peer(tool, name, folder, composite, options):
    files = [HERE / "network_worker.py", tool, name, folder / "input.npy"]
    command = [sys.executable, *files, composite, str(options.threads), options.device]
    return Worker(command)


def relprop(folder, composite, threads, backend):
    command = [RELPROP, folder / "model.onnx", folder / "input.npy", composite, str(threads), backend]
    return Worker(command)


def rows(name, folder, batch, options):
    """One composite after another: relprop and zennit in turn, with PyTorch's gradient beside them."""
    probe = peer("probe", name, folder, "none", options)
    for composite in options.composites:
        is_alone = name in NOT_SEEN_BY_ZENNIT or composite in NOT_ZENNITS
        tools = {} if is_alone else {"zennit": peer("zennit", name, folder, composite, options)}
        tools["relprop"] = relprop(folder, composite, options.threads, options.backend)
        tools["torch"] = peer("torch", name, folder, composite, options)
        measure(tools, 1)
        probe.seconds("probe")
        before = probe.seconds("probe")
        fastest = best(measure(tools, options.repeats))
        after = probe.seconds("probe")
        answers = {}
        for tool, worker in tools.items():
            few = folder / f"{tool}.npy"
            worker.ask(f"save {few} {min(batch, 4)}")
            answers[tool] = np.load(few).reshape(min(batch, 4), -1).astype(np.float64)
            fastest[tool]["peak"] = int(worker.ask("peak"))
            worker.quit()
        moved = abs(after - before) / before
        yield composite, fastest, answers, before, moved
    probe.quit()


def line(composite, fastest, answers, probe, moved):
    own, torch = fastest["relprop"], fastest["torch"]
    zennit = fastest.get("zennit")
    cells = [
        composite,
        f"{own['forward']:.3f}",
        f"{torch['forward'] / own['forward']:.2f}",
        f"{own['explain']:.3f}",
        f"{own['explain'] / own['forward']:.2f}",
        f"{zennit['explain'] / own['explain']:.2f}" if zennit else "–",
        f"{torch['explain'] / own['explain']:.2f}",
        f"{own['peak'] / 1e6:.0f}",
        f"{zennit['peak'] / 1e6:.0f}" if zennit else "–",
        f"{torch['peak'] / 1e6:.0f}",
        f"{worst_difference(answers['relprop'], answers['zennit']):.1e}" if zennit else "–",
        f"{probe:.0f}, {100 * moved:.0f} %" + (" void" if moved > PROBE_TOLERANCE else ""),
    ]
    return f"| {' | '.join(cells)} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--networks", nargs="+", default=networks.NAMES)
    parser.add_argument("--composites", nargs="+", default=COMPOSITES, help="relprop's names of them; network_worker.py has zennit's")
    parser.add_argument("--batch", type=int, nargs="+", default=[8])
    parser.add_argument("--size", type=int, default=224, help="pixels of a side, a multiple of 32")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--backend", default="cpu", help="relprop's: cpu, gpu, or gpu:NAME")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda", "cuda-tf32"], help="the peers': network_worker.py tells")
    options = parser.parse_args()
    if options.backend.startswith("gpu") != options.device.startswith("cuda"):
        print("note: not all tools compute on the same device, so that their memory does not compare", file=sys.stderr)
    if not RELPROP.exists():
        sys.exit("peer_worker is not built: cargo build --release --example peer_worker")
    for name, batch in itertools.product(options.networks, options.batch):
        with tempfile.TemporaryDirectory() as temporary:
            folder = pathlib.Path(temporary)
            networks.write(folder, name, batch, options.size)
            packages = ["torch"] if name in NOT_SEEN_BY_ZENNIT else ["torch", "zennit"]
            tools = ", ".join(f"{package} {versions.found(package)}" for package in packages)
            where = f"relprop on {options.backend}, {tools} on {options.device}, {options.threads} threads"
            print(f"\n{name}, {options.size} px, batch {batch}, {where}, best of {options.repeats}\n")
            print(
                "| composite | forward s | of PyTorch's forward speed | explain s | explain / own forward | of zennit's speed"
                " | of gradient x input's speed | peak MB | zennit's peak MB | PyTorch's peak MB | worst beside zennit's float32"
                " | product GFLOP/s, moved |"
            )
            print("|" + " --- |" * 12, flush=True)
            for row in rows(name, folder, batch, options):
                print(line(*row), flush=True)


if __name__ == "__main__":
    main()
