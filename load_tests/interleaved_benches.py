"""CPU time of the benchmarks of this revision and another, measured alternately on this machine.

    python -m load_tests.interleaved_benches REVISION

Each benchmark does the same work in both checkouts, and each checkout has its own environment. Output goes to a log. A
benchmark's CPU time covers its process and the child processes that it waits for, but no emulator.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from statistics import median
from typing import TYPE_CHECKING

from tests import ROOT
from tests.support.revisions import checked_out, environment, python_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# Name of the benchmark -> its module, and its options for a short run.
BENCHES = {
    "decode": ("load_tests.bench_decode",),
    "report": ("load_tests.bench_report", "--reports", "40"),
    "costs": ("load_tests.billing.bench_costs", "--accounts", "2000", "--rounds", "5"),
    "exports": ("load_tests.bench_exports", "--lines", "40000", "--most", "100000"),
    "API": ("load_tests.bench_api", "--requests", "60"),
}
BAR = 1.05
_ROUNDS = 3


def cpu_s_of(folder: Path, command: Sequence[str], log: Path) -> float:
    """CPU seconds of a benchmark in a checkout, even if the benchmark misses its own limits."""
    before = os.times()
    with log.open("a") as told:
        done = subprocess.run(
            [python_of(folder), "-m", *command],
            cwd=folder,
            env=environment(folder),
            stdout=told,
            stderr=told,
            check=False,
        )
    after = os.times()
    if done.returncode not in {0, 1} or "Traceback (most recent call last)" in log.read_text():
        raise RuntimeError(f"{command[0]} in {folder} ended with {done.returncode}: read {log}")
    return after.children_user + after.children_system - before.children_user - before.children_system


def main(arguments: Sequence[str]) -> int:
    """Compare two revisions. Returns 0 only if this revision takes at most the allowed share of the other's time."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.interleaved_benches", description=__doc__)
    parser.add_argument("revision", help="revision to compare with, such as a commit of docs/releasing.md")
    parser.add_argument("--rounds", type=int, default=_ROUNDS)
    parser.add_argument("--bar", type=float, default=BAR, help="largest ratio of CPU time to the other revision's")
    parser.add_argument("--only", choices=BENCHES, action="append", help="only this one")
    options = parser.parse_args(arguments)
    other = checked_out(options.revision)
    missed = 0
    for name in options.only or BENCHES:
        taken: dict[str, list[float]] = {"this": [], "other": []}
        for round_ in range(options.rounds):
            turns = [("other", other), ("this", ROOT)]
            for whose, folder in turns if round_ % 2 == 0 else reversed(turns):
                log = ROOT / ".local" / f"bench-{name}-{whose}.log"
                log.unlink(missing_ok=True)
                taken[whose].append(cpu_s_of(folder, BENCHES[name], log))
        ours, theirs = median(taken["this"]), median(taken["other"])
        times = ours / theirs
        missed += times > options.bar
        verdict = f"MISSED: more than {options.bar}" if times > options.bar else "holds"
        print(f"{name:<8} {ours:7.2f} s, {options.revision}: {theirs:7.2f} s: {times:.3f} x, {verdict}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
