"""relprop beside zennit's float64 on the networks that large.py wrote: every sample, on one backend after another.

    python tests/goldens/compare_large.py FOLDER PROGRAM [--backends cpu gpu] [--only WORD ...]

PROGRAM is relprop's. Prints a Markdown table of relative L2 distances a sample, relprop's and zennit's own float32's, and how many samples are beyond the
project's tolerance: a median of 1e-5 and a worst of 1e-4, or three times what zennit's float32 is off where that is more. Samples with a near tie in a max
pool's window lie beyond it in any float32: their relevance takes the other way there.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from safetensors import safe_open


def distances(found, exact):
    found, exact = (a.reshape(len(exact), -1).astype(np.float64) for a in (found, exact))
    return np.linalg.norm(found - exact, axis=1) / np.maximum(np.linalg.norm(exact, axis=1), 1e-300)


def explain(program, model, golden, metadata, backend, folder):
    given, target, out = folder / "x.npy", folder / "target.npy", folder / "relevance.npy"
    np.save(given, golden["input"])
    np.save(target, golden["target"])
    out.unlink(missing_ok=True)
    command = [program, "explain", model, given, "--target", target, "-o", out, "--backend", backend, "--quiet"]
    # The stabiliser that large.py's goldens have is relprop's own, which rules without a denominator refuse.
    assert metadata["stabilizer"] == "1e-6"
    command += ["--composite", metadata["composite"], "--start", metadata["start"]]
    if metadata["epsilon"] != "none":
        command += ["--epsilon", metadata["epsilon"]]
    if "low" in metadata:
        command += [f"--low={metadata['low']}", f"--high={metadata['high']}"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return np.load(out)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--backends", nargs="+", default=["cpu"])
    parser.add_argument("--only", nargs="+", default=[""], help="golden files with one of these words in their names")
    arguments = parser.parse_args()
    print("| network, composite | backend | median | worst | zennit's float32, median | worst | samples beyond |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    outside = 0
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted(arguments.folder.glob("*.safetensors")):
            with safe_open(path, "np") as file:
                metadata = file.metadata()
                if "composite" not in metadata or not any(word in path.stem for word in arguments.only):
                    continue
                golden = {key: file.get_tensor(key) for key in file.keys()}
            exact = golden["relevance64"]
            own = distances(golden["relevance"], exact)
            for backend in arguments.backends:
                model = arguments.folder / metadata["model"]
                found = distances(explain(arguments.program, model, golden, metadata, backend, pathlib.Path(folder)), exact)
                limits = max(1e-5, 3 * np.median(own)), max(1e-4, 3 * own.max())
                beyond = int((found > limits[1]).sum())
                outside += beyond > 0 or np.median(found) > limits[0]
                numbers = [np.median(found), found.max(), np.median(own), own.max()]
                row = " | ".join(f"{number:.1e}" for number in numbers)
                print(f"| {path.stem}, {len(exact)} samples | {backend} | {row} | {beyond} |", flush=True)
    sys.exit(f"{outside} rows beyond the tolerance" if outside else 0)


if __name__ == "__main__":
    main()
