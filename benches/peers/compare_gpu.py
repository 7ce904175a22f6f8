"""Times relprop's ε beside burn's gradient × input on the same GPU adapter, and prints a Markdown table.

Both are processes of their own that take turns; gpu.sh builds them. Times run from host to host: input up, result back.
Fails where the adapters differ, a tool's numbers are wrong, or the adapter's own speed moves during the run.
"""

import argparse
import os
import pathlib
import sys
import tempfile
import time

import numpy as np

import work
from workers import Worker, best, measure, report_drift, worst_difference

HERE = pathlib.Path(__file__).resolve().parent
EPSILON = 1e-6
# float32 beside float64: a pre-activation near zero may change its sign, or ε its weight, in single samples.
NUMBERS_TOLERANCE = 1e-2
SETTLED_WITHIN = 0.05


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


def main():
    widths = lambda text: [int(width) for width in text.split(",")]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--widths", type=widths, default=work.WIDTHS, help="of the perceptron's layers (784,1024,1024,1024,10)")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--tunings", type=int, default=3, help="processes of burn, each tuned for itself (3)")
    parser.add_argument("--backend", default="gpu", help="relprop's backend (gpu)")
    parser.add_argument("--any-adapter", action="store_true", help="print the table even though the adapters differ")
    parser.add_argument("--work", type=pathlib.Path, help="keep the model in this folder; a later run needs no onnx package")
    options = parser.parse_args()
    programs = {"relprop": built(HERE.parents[1], "examples/peer_worker"), "burn": built(HERE / "burn", "burn-peer")}
    for program in programs.values():
        if not program.exists():
            sys.exit(f"{program.name} is not built: gpu.sh builds it")

    layers, x = work.draw(options.batch, options.widths)
    few = min(work.FEW, options.batch)
    lrp, gradient_x_input = relevance(layers, x[:few], EPSILON), relevance(layers, x[:few], 0)

    with tempfile.TemporaryDirectory() as temporary:
        temporary = pathlib.Path(temporary)
        folder = options.work.resolve() if options.work else temporary
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "mlp.onnx").exists():
            np.save(folder / "input.npy", x)
        else:
            work.write(folder, options.batch, options.widths)

        files = [folder / "mlp.onnx", folder / "input.npy"]
        relprop = f"relprop epsilon, {options.backend}"
        burns = [f"burn gradient × input, tuning {number + 1}" for number in range(options.tunings)]
        workers = {}
        for number, tool in enumerate(burns):
            # burn keeps what it tuned below its working directory. Which kernels it picks differs from one tuning to the
            # next, so each process gets a directory of its own, and the fastest one is what relprop is compared with.
            own = temporary / f"burn{number}"
            own.mkdir()
            workers[tool] = Worker([programs["burn"], *files], own)
        backend = options.backend
        if backend == "gpu":
            # By its name, because relprop takes a software adapter only so.
            backend = f"gpu:{workers[burns[0]].ask('adapter').rsplit(', ', 2)[0]}"
        command = [programs["relprop"], *files, "epsilon", str(os.cpu_count()), backend]
        workers = {relprop: Worker(command), **workers}
        adapters = {tool: worker.ask("adapter") for tool, worker in workers.items()}
        if len(set(adapters.values())) > 1 and not options.any_adapter:
            sys.exit(f"void: the adapters differ: {adapters}")

        warm = {tool: warm_up(worker) for tool, worker in workers.items()}
        differences = {}
        for tool, worker in workers.items():
            saved, exact = temporary / "saved.npy", lrp if tool == relprop else gradient_x_input
            worker.ask(f"save {saved} {few}")
            differences[tool] = worst_difference(np.load(saved).astype(np.float64), exact)
        if max(differences.values()) > NUMBERS_TOLERANCE:
            sys.exit(f"void: the numbers are wrong: {differences}")

        # burn's product is the probe: what must not move is the adapter. The first one only tunes and warms.
        probe = lambda: float(workers[burns[0]].ask("probe"))
        probe()
        before = probe()
        fastest = best(measure(workers, options.repeats))
        after = probe()
        for worker in workers.values():
            worker.quit()

    burn_explain = min(fastest[tool]["explain"] for tool in burns)
    print(f"MLP {'-'.join(map(str, options.widths))}, batch {options.batch}, best of {options.repeats}\n")
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
    report_drift(before, after)


if __name__ == "__main__":
    main()
