"""Measure each job over computed regions of two sizes, and project it to the target.

python -m load_tests.scale                  the table; with --write it goes into docs/scale.md
python -m load_tests.scale --gate           every job once, at a ten-thousandth: that it runs, and comes out right
python -m load_tests.scale --only compactor one job
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from load_tests.scale.bench import Result, Step
from load_tests.scale.jobs import GATE, JOBS, Job, Size
from load_tests.scale.meter import name_pools
from load_tests.scale.projection import HEADER, line, project

if TYPE_CHECKING:
    from collections.abc import Sequence

_PAGE = Path(__file__).resolve().parents[2] / "docs" / "scale.md"
_BEGIN, _END = "<!-- table: make scale -->", "<!-- end of table -->"


def main(arguments: Sequence[str]) -> int:
    """Print the table. Returns 1 if a job does not hold at three times the target."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.scale", description=__doc__)
    parser.add_argument("--only", choices=sorted(JOBS), action="append")
    parser.add_argument("--gate", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--step", choices=("prepare", "run"), help="for processes of this program")
    parser.add_argument("--accounts", type=int, default=0)
    parser.add_argument("--days", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args(arguments)
    jobs = [JOBS[name] for name in options.only or JOBS]
    if options.step:
        return _in_this_process(jobs[0], options.step, Size(options.accounts, options.days), options.folder)
    if options.gate:
        for job in jobs:
            began = time.monotonic()
            result = _measured(job, GATE)
            _say(f"{job.name:<12} {time.monotonic() - began:5.1f} s, {result.memory_mib} MiB")
        return 0
    return _table(jobs, write=options.write)


def _table(jobs: Sequence[Job], *, write: bool) -> int:
    lines = list(HEADER)
    problems: list[str] = []
    for text in HEADER:
        _say(text)
    for job in jobs:
        found = project(job, *(_measured(job, size) for size in job.sizes))
        lines.append(line(found))
        problems += found.problems
        _say(lines[-1])
    for problem in problems:
        _say(f"MISSED: {problem}")
    if write:
        page = _PAGE.read_text()
        before, _, rest = page.partition(_BEGIN)
        _, _, after = rest.partition(_END)
        _PAGE.write_text(f"{before}{_BEGIN}\n" + "\n".join(lines) + f"\n{_END}{after}")
    return 1 if problems else 0


def _measured(job: Job, size: Size) -> Result:
    """Measure a job in a process of its own: memory is that of a process."""
    with tempfile.TemporaryDirectory(prefix="metering-scale-") as folder:
        for step in ("prepare", "run"):
            command = [sys.executable, "-m", "load_tests.scale", "--only", job.name, "--step", step]
            command += ["--accounts", str(size.accounts), "--days", str(size.days), "--folder", folder]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    answer = json.loads(done.stdout.splitlines()[-1])
    return Result(**{**answer, "steps": {name: Step(**step) for name, step in answer["steps"].items()}})


def _in_this_process(job: Job, step: str, size: Size, folder: Path) -> int:
    if step == "prepare":
        job.prepare(size, folder)
        return 0
    name_pools()
    result = job.run(size, folder)
    _say(json.dumps(asdict(result)))
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
