"""Times relprop, PyTorch's gradient x input, zennit and captum, one repetition of each in turn, and prints a Markdown table.

Every tool is a process of its own, so that peak memory is its own and no allocator is shared.
relprop's is target/release/examples/peer_worker, which takes MODEL.onnx INPUT.npy COMPOSITE THREADS
and speaks the lines of torch_worker.py.
"""

import argparse
import pathlib
import sys
import tempfile

import numpy as np

import work
from workers import Worker, best, measure, report_drift, void_if_moved, worst_difference

HERE = pathlib.Path(__file__).resolve().parent
RELPROP = HERE.parents[1] / "target/release/examples/peer_worker"


def peer(tool, folder, source, threads):
    command = [sys.executable, HERE / "torch_worker.py", tool, folder / "mlp.onnx", folder / source, "epsilon", str(threads)]
    return Worker(command)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--without-relprop", action="store_true", help="time the other tools only")
    options = parser.parse_args()
    if not options.without_relprop and not RELPROP.exists():
        sys.exit("peer_worker is not built: cargo build --release --example peer_worker, or --without-relprop")

    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        work.write(folder, options.batch)
        inputs = sum((folder / name).stat().st_size for name in ["mlp.onnx", "input.npy"])

        exact = peer("zennit-float64", folder, "few.npy", options.threads)
        exact.ask("explain")
        exact.ask(f"save {folder / 'exact.npy'} 64")
        exact.quit()
        exact = np.load(folder / "exact.npy")

        workers = {tool: peer(tool, folder, "input.npy", options.threads) for tool in ["torch", "zennit", "captum"]}
        if not options.without_relprop:
            command = [RELPROP, folder / "mlp.onnx", folder / "input.npy", "epsilon", str(options.threads)]
            workers = {"relprop": Worker(command), **workers}
        probe = peer("torch", folder, "few.npy", options.threads)

        # Thrown away: an idle machine's clock takes a while to rise, which the first probe must not see.
        measure(workers, 1)
        probe.seconds("probe")
        before = probe.seconds("probe")
        times = measure(workers, options.repeats)
        after = probe.seconds("probe")

        names = {"torch": "PyTorch gradient x input", "zennit": "zennit 1.0.0 epsilon", "captum": "captum 0.9.0 epsilon"}
        fastest = best(times)
        print(f"MLP {'-'.join(map(str, work.WIDTHS))}, batch {options.batch}, {options.threads} threads, best of {options.repeats}\n")
        print("| tool | forward s | explain s | times zennit's speed | explain / own forward | peak MB | beyond model and input MB | worst against float64 |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
        for tool, worker in workers.items():
            few = folder / f"{tool}.npy"
            worker.ask(f"save {few} 64")
            peak = int(worker.ask("peak"))
            forward, explain = fastest[tool]["forward"], fastest[tool]["explain"]
            cells = [
                names.get(tool, tool),
                f"{forward:.3f}",
                f"{explain:.3f}",
                f"{fastest['zennit']['explain'] / explain:.2f}",
                f"{explain / forward:.2f}",
                f"{peak / 1e6:.0f}",
                f"{(peak - inputs) / 1e6:.0f}",
                f"{worst_difference(np.load(few).astype(np.float64), exact):.1e}",
            ]
            print(f"| {' | '.join(cells)} |")
            worker.quit()
        probe.quit()

    void_if_moved(report_drift(before, after))


if __name__ == "__main__":
    main()
