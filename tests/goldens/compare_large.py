"""relprop beside zennit's float64 on the networks that large.py wrote: every sample, on one backend after another.

    python tests/goldens/compare_large.py FOLDER PROGRAM [--backends cpu gpu] [--only WORD ...]

PROGRAM is relprop's. Prints a Markdown table of relative L2 distances a sample, relprop's and zennit's own float32's, and how many samples are beyond the
project's tolerance: a median of 1e-5 and a worst of 1e-4, or three times what zennit's float32 is off where that is more.

Behind the table stands every sample beyond it, with two questions answered. Where: relevance is right down to one value and wrong from the next on. Why: how much
larger relevance becomes there in float64 itself, which is what a denominator near zero does, and how far the float64 reference's own answer moves for inputs that
are moved by a few roundings of float32, up to 2.4e-7 of each, eight times over. Where it moves as far, as by a near tie in a max pool's window, no float32 can tell.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from safetensors import safe_open

MOVED = 2.0**-22
MOVES = 8
SEED = 1701


def distances(found, exact):
    found, exact = (a.reshape(len(exact), -1).astype(np.float64) for a in (found, exact))
    return np.linalg.norm(found - exact, axis=1) / np.maximum(np.linalg.norm(exact, axis=1), 1e-300)


class Case:
    """One network under one composite, with what zennit said of it."""

    def __init__(self, path, program, folder):
        with safe_open(path, "np") as file:
            self.metadata = file.metadata()
            self.golden = {key: file.get_tensor(key) for key in file.keys()}
        self.name, self.program, self.folder = path.stem, program, folder
        self.model = path.parent / self.metadata.get("model", "")
        self.is_golden = "composite" in self.metadata

    def run(self, *words):
        done = subprocess.run([str(word) for word in [self.program, *words]], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(map(str, words))}\n{done.stderr}")
        return done.stdout

    def explain(self, given, target, backend, keep=()):
        """Relevance at the input, and at the layers that are kept, by name."""
        x, chosen, out = self.folder / "x.npy", self.folder / "target.npy", self.folder / "relevance.npz"
        np.save(x, given)
        np.save(chosen, target)
        out.unlink(missing_ok=True)
        # The stabiliser that large.py's goldens have is relprop's own, which rules without a denominator refuse.
        assert self.metadata["stabilizer"] == "1e-6"
        words = ["--composite", self.metadata["composite"], "--start", self.metadata["start"]]
        if self.metadata["epsilon"] != "none":
            words += ["--epsilon", self.metadata["epsilon"]]
        if "low" in self.metadata:
            words += [f"--low={self.metadata['low']}", f"--high={self.metadata['high']}"]
        words += [word for name in keep for word in ("--keep", name)]
        self.run("explain", self.model, x, "--target", chosen, "-o", out, "--backend", backend, "--quiet", *words)
        with np.load(out) as arrays:
            return {name: arrays[name] for name in arrays.files}

    def layers(self):
        """The layers whose relevance can be kept, from the output on."""
        words = ["--composite", self.metadata["composite"], "--json"]
        if "low" in self.metadata:
            words += [f"--low={self.metadata['low']}", f"--high={self.metadata['high']}"]
        told = json.loads(self.run("inspect", self.model, *words))
        return [layer["name"] for layer in reversed(told["layers"])][1:]

    def story(self, sample, backend, limit):
        """Where a sample's relevance goes wrong, and how far the reference's own moves."""
        given, target = self.golden["input"][sample : sample + 1], self.golden["target"][sample : sample + 1]
        layers = self.layers()
        found = self.explain(given, target, backend, layers)
        exact = self.explain(given, target, "reference", layers)
        right, where = "the output", "x"
        for name in layers:
            if name in found and name in exact:
                if distances(found[name], exact[name])[0] > limit:
                    where = name
                    break
                right = name
        size = np.abs(exact[where]).sum() / np.abs(exact[right]).sum() if right in exact else 1
        generator = np.random.default_rng(SEED)
        moved = given * (1 + MOVED * generator.uniform(-1, 1, (MOVES, *given.shape[1:])))
        answers = self.explain(moved.astype(np.float64), np.repeat(target, MOVES, 0), "reference")["x"]
        moves = distances(answers, np.repeat(exact["x"], MOVES, 0)).max()
        return f"right down to {right}, not at {where}, where it becomes {size:.3g} times as large; float64 itself moves by {moves:.1e}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--backends", nargs="+", default=["cpu"])
    parser.add_argument("--only", nargs="+", default=[""], help="golden files with one of these words in their names")
    arguments = parser.parse_args()
    print("| network, composite | backend | median | worst | zennit's float32, median | worst | samples beyond |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    outside, stories = 0, []
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted(arguments.folder.glob("*.safetensors")):
            case = Case(path, arguments.program, pathlib.Path(folder))
            if not case.is_golden or not any(word in path.stem for word in arguments.only):
                continue
            exact = case.golden["relevance64"]
            own = distances(case.golden["relevance"], exact)
            for backend in arguments.backends:
                found = distances(case.explain(case.golden["input"], case.golden["target"], backend)["x"], exact)
                limits = max(1e-5, 3 * np.median(own)), max(1e-4, 3 * own.max())
                beyond = np.flatnonzero(found > limits[1])
                outside += len(beyond) > 0 or np.median(found) > limits[0]
                numbers = [np.median(found), found.max(), np.median(own), own.max()]
                row = " | ".join(f"{number:.1e}" for number in numbers)
                print(f"| {path.stem}, {len(exact)} samples | {backend} | {row} | {len(beyond)} |", flush=True)
                for sample in beyond:
                    told = case.story(sample, backend, limits[1])
                    stories.append(f"- {path.stem}, {backend}, sample {sample}, off by {found[sample]:.1e}: {told}")
    if stories:
        print("", *stories, sep="\n", flush=True)
    sys.exit(f"{outside} rows beyond the tolerance" if outside else 0)


if __name__ == "__main__":
    main()
