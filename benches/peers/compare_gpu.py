"""Times relprop's ε beside burn's gradient × input on the same GPU adapter, and prints a Markdown table for each network.

Both are processes of their own that take turns; gpu.sh builds them. Times run from host to host: input up, result back.
Fails where the adapters differ, a tool's numbers are wrong, or the adapter's own speed moves during the run.

The networks: a perceptron with random weights, held against float64 in NumPy, and the demo's trained CNN on noise, held against relprop's float64 reference
(which the project's tests hold against zennit and PyTorch).
"""

import argparse
import os
import pathlib
import sys
import tempfile
import time

import numpy as np

import work
from workers import Worker, best, measure, report_drift, void_if_moved, worst_difference

HERE = pathlib.Path(__file__).resolve().parent
EPSILON = 1e-6
# float32 beside float64: a pre-activation near zero may change its sign, or ε its weight, in single samples.
NUMBERS_TOLERANCE = 1e-2
SETTLED_WITHIN = 0.05
CNN = HERE.parents[1] / "demo" / "fashion-cnn.onnx"


def built(package, program):
    return pathlib.Path(os.environ.get("CARGO_TARGET_DIR", package / "target")).resolve() / "release" / program


def relevance(layers, x, epsilon):
    """ε-LRP of each sample's arg-max logit in float64; with ε = 0 it is gradient × input."""
    activations, sums = [x.astype(np.float64)], []
    for weight, bias in layers:
        sums.append(activations[-1] @ weight.astype(np.float64).T + bias)
        activations.append(np.maximum(sums[-1], 0))
    logits = sums[-1]
    flowing = np.where(logits == logits.max(1, keepdims=True), logits, 0)
    for (weight, _), a, z in zip(reversed(layers), reversed(activations[:-1]), reversed(sums)):
        flowing = a * ((flowing / (z + epsilon * np.sign(z))) @ weight)
    return flowing


def warm_up(worker):
    """Repeats until three times in a row bring nothing faster, for burn tunes its kernels on first use; the seconds that took."""
    begin = time.perf_counter()
    for line in ["forward", "explain"]:
        times = [worker.seconds(line)]
        while len(times) < 4 or min(times[-3:]) < (1 - SETTLED_WITHIN) * min(times[:-3]):
            times.append(worker.seconds(line))
    return time.perf_counter() - begin


class Perceptron:
    """Seeded random weights; NumPy is the judge."""

    def __init__(self, options):
        self.title = f"MLP {'-'.join(map(str, options.widths))}"
        self.widths = options.widths
        self.layers, self.x = work.draw(options.batch, options.widths)

    def write(self, folder):
        """The network's file."""
        model = folder / "mlp.onnx"
        if not model.exists():
            work.write(folder, len(self.x), self.widths)
        return model

    def exact(self, _model, _program, few, _folder):
        """ε-LRP and gradient × input of the first samples in float64."""
        return relevance(self.layers, self.x[:few], EPSILON), relevance(self.layers, self.x[:few], 0)


class Cnn:
    """The demo's network on seeded noise; relprop's float64 reference is the judge, of burn's numbers too."""

    def __init__(self, options):
        self.title = "the demo's CNN"
        self.x = np.random.default_rng(work.SEED).uniform(0, 1, (options.batch, 1, 28, 28)).astype(np.float32)

    def write(self, _folder):
        """The network's file."""
        return CNN

    def exact(self, model, program, few, folder):
        """ε-LRP and gradient × input of the first samples in float64."""
        given, saved = folder / "few.npy", folder / "exact.npy"
        np.save(given, self.x[:few])
        answers = []
        for composite in ["epsilon", "gradient-x-input"]:
            worker = Worker([program, model, given, composite, "1", "reference"])
            worker.ask("explain")
            worker.ask(f"save {saved} {few}")
            worker.quit()
            answers.append(np.load(saved).astype(np.float64))
        return answers


def start_burns(program, files, count, folder):
    """Processes of burn. It keeps what it tuned below its working directory, and which kernels it picks differs from one tuning to the next:
    each process gets a directory of its own, and the fastest one is what relprop is compared with."""
    workers = {}
    for number in range(count):
        own = folder / f"burn{number}"
        own.mkdir()
        workers[f"burn gradient × input, tuning {number + 1}"] = Worker([program, *files], own)
    return workers


def adapters_of(workers, may_differ):
    adapters = {tool: worker.ask("adapter") for tool, worker in workers.items()}
    if len(set(adapters.values())) > 1 and not may_differ:
        sys.exit(f"void: the adapters differ: {adapters}")
    return adapters


def check_numbers(workers, exact, few, folder):
    """Each tool's worst distance from its own truth."""
    saved, differences = folder / "saved.npy", {}
    for (tool, worker), truth in zip(workers.items(), exact):
        worker.ask(f"save {saved} {few}")
        flat = [a.reshape(few, -1) for a in (np.load(saved).astype(np.float64), truth)]
        differences[tool] = worst_difference(*flat)
    if max(differences.values()) > NUMBERS_TOLERANCE:
        sys.exit(f"void: the numbers are wrong: {differences}")
    return differences


def compare(network, options, programs, folder):
    """Lets the tools take turns on one network, and prints its table."""
    few = min(work.FEW, options.batch)
    files = [network.write(options.work or folder), folder / "input.npy"]
    np.save(files[1], network.x)
    lrp, gradient_x_input = network.exact(files[0], programs["relprop"], few, folder)

    relprop = f"relprop epsilon, {options.backend}"
    burns = start_burns(programs["burn"], files, options.tunings, folder)
    judge = next(iter(burns.values()))
    backend = options.backend
    if backend == "gpu":
        # By its name, because relprop takes a software adapter only so.
        backend = f"gpu:{judge.ask('adapter').rsplit(', ', 2)[0]}"
    workers = {relprop: Worker([programs["relprop"], *files, "epsilon", str(os.cpu_count()), backend]), **burns}
    adapters = adapters_of(workers, options.any_adapter)
    warm = {tool: warm_up(worker) for tool, worker in workers.items()}
    differences = check_numbers(workers, [lrp] + [gradient_x_input] * len(burns), few, folder)

    # burn's product is the probe: what must not move is the adapter. The first one only tunes and warms.
    probe = lambda: float(judge.ask("probe"))
    probe()
    before = probe()
    fastest = best(measure(workers, options.repeats))
    after = probe()
    for worker in workers.values():
        worker.quit()

    burn_explain = min(fastest[tool]["explain"] for tool in burns)
    print(f"\n{network.title}, batch {options.batch}, best of {options.repeats}\n")
    print("| tool | adapter | forward samples/s | explain samples/s | times burn's explain speed | explain / own forward | warm-up s | worst against float64 |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for tool, times in fastest.items():
        forward, explain = times["forward"], times["explain"]
        cells = [
            tool,
            adapters[tool],
            f"{options.batch / forward:.0f}",
            f"{options.batch / explain:.0f}",
            f"{burn_explain / explain:.2f}",
            f"{explain / forward:.2f}",
            f"{warm[tool]:.1f}",
            f"{differences[tool]:.1e}",
        ]
        print(f"| {' | '.join(cells)} |")
    return report_drift(before, after)


def main():
    widths = lambda text: [int(width) for width in text.split(",")]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="mlp, cnn (both)")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--widths", type=widths, default=work.WIDTHS, help="of the perceptron's layers (784,1024,1024,1024,10)")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--tunings", type=int, default=3, help="processes of burn, each tuned for itself (3)")
    parser.add_argument("--backend", default="gpu", help="relprop's backend (gpu)")
    parser.add_argument("--any-adapter", action="store_true", help="print the table even though the adapters differ")
    parser.add_argument("--work", type=pathlib.Path, help="keep the perceptron in this folder; a later run needs no onnx package")
    options = parser.parse_args()
    programs = {"relprop": built(HERE.parents[1], "examples/peer_worker"), "burn": built(HERE / "burn", "burn-peer")}
    for program in programs.values():
        if not program.exists():
            sys.exit(f"{program.name} is not built: gpu.sh builds it")
    if options.work:
        options.work = options.work.resolve()
        options.work.mkdir(parents=True, exist_ok=True)

    moved = []
    for name in options.networks:
        with tempfile.TemporaryDirectory() as folder:
            moved.append(compare(NETWORKS[name](options), options, programs, pathlib.Path(folder)))
    void_if_moved(max(moved))


NETWORKS = {"mlp": Perceptron, "cnn": Cnn}

if __name__ == "__main__":
    main()
