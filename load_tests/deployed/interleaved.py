"""Batches/s of this revision and another, measured alternately on this machine, so that other load affects both.

Each run deploys the stage, sends the load of `load_tests.load`, and verifies. The other revision has its own checkout
and its own environment.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from tests.support.revisions import checked_out, environment, python_of

ROOT = Path(__file__).parents[2]
_RATE = re.compile(r"^(\d+) batches/s, ", re.MULTILINE)
# The limit applies to 16 usage keys per batch.
_BAR = 1.6


def rate_of(folder: Path, batches: int) -> int:
    """Batches/s of one run of the revision in `folder`."""
    flags = ["--only-rate"] if "--only-rate" in (folder / "load_tests/load.py").read_text() else []
    done = subprocess.run(
        [python_of(folder), "-m", "load_tests.load", "--batches", str(batches), *flags],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    found = _RATE.search(done.stdout)
    if found is None or "verify failed" in done.stdout:
        raise RuntimeError(f"{folder.name}: {done.stdout[-2_000:]}{done.stderr[-2_000:]}")
    return int(found[1])


def main(arguments: Sequence[str]) -> int:
    """Compare two revisions. Returns 0 only if this revision is faster by the required factor."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.deployed.interleaved", description=__doc__)
    parser.add_argument("revision", help="revision to compare with, such as v0.1.0")
    parser.add_argument("--batches", type=int, default=12_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bar", type=float, default=_BAR, help="least ratio of batches/s to the other revision's")
    options = parser.parse_args(arguments)
    other = checked_out(options.revision)
    rates: dict[str, list[int]] = {"this": [], "other": []}
    for round_ in range(options.rounds):
        turns = [("other", other), ("this", ROOT)]
        for name, folder in turns if round_ % 2 == 0 else reversed(turns):
            rates[name].append(rate_of(folder, options.batches))
            print(f"{name}: {rates[name][-1]} batches/s", flush=True)
    ours, theirs = median(rates["this"]), median(rates["other"])
    times = ours / theirs
    print(f"this revision: {ours:.0f} batches/s, {options.revision}: {theirs:.0f} batches/s: {times:.2f} x")
    if times < options.bar:
        print(f"MISSED: {times:.2f} x the batches/s of {options.revision}, not {options.bar}")
    return 0 if times >= options.bar else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
