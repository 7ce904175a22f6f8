"""What drivers share: worker processes that answer one line a line, taking turns, and the machine's drift."""

import subprocess
import sys

import numpy as np

PROBE_TOLERANCE = 0.10


class Worker:
    def __init__(self, command, folder=None):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder)
        if self.process.stdout.readline().strip() != "ready":
            sys.exit(f"{' '.join(map(str, command))} did not get ready")

    def ask(self, line):
        print(line, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline().strip()
        if not answer:
            sys.exit(f"{self.process.args} ended at `{line}`")
        return answer

    def seconds(self, line):
        return float(self.ask(line))

    def quit(self):
        print("quit", file=self.process.stdin, flush=True)
        self.process.wait()


def measure(workers, repeats):
    """The seconds of every repetition; the workers take turns."""
    times = {tool: {"forward": [], "explain": []} for tool in workers}
    for _ in range(repeats):
        for tool, worker in workers.items():
            for line in ["forward", "explain"]:
                times[tool][line].append(worker.seconds(line))
    return times


def best(times):
    return {tool: {line: min(t) for line, t in lines.items()} for tool, lines in times.items()}


def worst_difference(a, b):
    return float((np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1)).max())


def report_drift(before, after):
    """Prints by how much the probe's speed moved, and returns the share."""
    moved = abs(after - before) / before
    print(f"\nProduct of 2048 x 2048 x 2048: {before:.1f} GFLOP/s before, {after:.1f} after ({100 * moved:.1f} % moved)")
    return moved


def void_if_moved(share):
    """Ends the program if the machine's own speed moved too far to compare anything."""
    if share > PROBE_TOLERANCE:
        sys.exit("void: the machine's own speed moved by more than 10 %; run again when it is quiet")
