"""Measure each job over synthetic regions of several sizes, and extrapolate to the target load.

python -m load_tests.scale                  the table; with --write it goes into docs/scale.md
python -m load_tests.scale --gate           every job once, at a ten-thousandth: that it runs, and comes out right
python -m load_tests.scale --only compactor one job
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from pathlib import Path

from load_tests.scale import reports
from load_tests.scale.bench import Result, Step
from load_tests.scale.jobs import GATE, GATE_HOURS, JOBS, Job, Size
from load_tests.scale.meter import name_pools
from load_tests.scale.projection import (
    HEADER,
    MOST_TIMES,
    REPORTS_HEADER,
    WHOLE_HEADER,
    line,
    project,
    report_line,
    seconds,
    whole_line,
)
from load_tests.scale.region import TARGET_ACCOUNTS
from load_tests.scale.reports import Reports, Whole
from load_tests.scale.restoring import FromNothing

_PAGE = Path(__file__).resolve().parents[2] / "docs" / "scale.md"
_REPORTS, _WHOLE = "reports", "whole-region"
_AT_ONCE = min(2, os.cpu_count() or 1)
_BEGIN, _END = "<!-- table: make scale -->", "<!-- end of table -->"


def main(arguments: Sequence[str]) -> int:
    """Print the tables. Returns 1 if a job misses its limits at three times the target."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.scale", description=__doc__)
    parser.add_argument("--only", choices=sorted([*JOBS, _REPORTS, _WHOLE]), action="append")
    parser.add_argument("--gate", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--step", choices=("prepare", "run"), help="for processes of this program")
    parser.add_argument("--part", action="store_true", help="for those that measure a part of a job")
    parser.add_argument("--accounts", type=int, default=TARGET_ACCOUNTS)
    parser.add_argument("--hours", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args(arguments)
    names = options.only or [*JOBS, _REPORTS, _WHOLE]
    if options.step:
        size = Size(options.accounts, options.hours)
        return _in_this_process(names[0], options.step, size, options.folder, part=options.part)
    if options.gate:
        return _gate(names)
    jobs = [JOBS[name] for name in names if name in JOBS]
    tables = [_table(jobs)] if jobs else []
    if _REPORTS in names:
        tables.append(_reports(options.accounts))
    if _WHOLE in names:
        tables.append(_whole(options.accounts))
    for table in tables:
        for text in ("", *table.lines, *(f"MISSED: {problem}" for problem in table.problems)):
            _say(text)
    if options.write:
        _keep([text for table in tables for text in ("", *table.lines)])
    return 1 if any(table.problems for table in tables) else 0


@dataclass(frozen=True, slots=True)
class _Table:
    """Lines of a table, and the limits that the jobs in the table miss."""

    lines: list[str]
    problems: list[str]


def _gate(names: Sequence[str]) -> int:
    """Run every job and part once in a small region. A job fails if its result differs from the region's data."""

    def timed(name: str, *, part: bool = False) -> str:
        began = time.monotonic()
        if name in {_REPORTS, _WHOLE}:
            _of_processes(name, Size(GATE.accounts, 0))
            return f"{name:<18} {time.monotonic() - began:5.1f} s"
        memory = _measured(JOBS[name], GATE_HOURS if part else GATE, part=part).memory_mib
        return f"{name + ', its part' * part:<18} {time.monotonic() - began:5.1f} s, {memory} MiB"

    parts = [name for name in names if name in JOBS and JOBS[name].part is not None]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for line_ in chain(pool.map(timed, names), pool.map(partial(timed, part=True), parts)):
            _say(line_)
    return 0


def _table(jobs: Sequence[Job]) -> _Table:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        # The longest measurements come first: the larger region of each job.
        each = [
            (job, of_part, size)
            for job in reversed(jobs)
            for of_part, sizes in ((True, job.part.sizes if job.part else ()), (False, job.sizes))
            for size in reversed(sizes)
        ]
        results = pool.map(lambda one: _measured(one[0], one[2], part=one[1]), each)
        measured = {(job.name, *which): result for (job, *which), result in zip(each, results, strict=True)}
    found = [
        project(
            job,
            *(measured[job.name, False, size] for size in job.sizes),
            part=[measured[job.name, True, size] for size in job.part.sizes] if job.part else (),
        )
        for job in jobs
    ]
    lines, problems = [*HEADER, *map(line, found)], [problem for each in found for problem in each.problems]
    for job in jobs:
        if job.name == "restore":
            nothing = FromNothing.of(*(measured[job.name, False, size] for size in job.sizes[-2:]))
            lines += ["", *nothing.lines()]
            problems += nothing.problems()
    return _Table(lines, problems)


def _reports(accounts: int) -> _Table:
    lines, problems = list(REPORTS_HEADER), []
    for each in _report_steps(accounts):
        lines.append(report_line(each, accounts))
        if each.times > MOST_TIMES:
            problems.append(f"a closed month's report by {each.group_by} takes {each.times:.2f} times as long")
    return _Table(lines, problems)


def _whole(accounts: int) -> _Table:
    found = [Whole(**each) for each in json.loads(_of_processes(_WHOLE, Size(accounts, 0)))]
    problems = [
        f"a report on all accounts ({each.question}) takes {each.seconds:.1f} s, and {each.most_s:.0f} s are the most"
        for each in found
        if each.seconds > each.most_s
    ]
    return _Table([*WHOLE_HEADER, *(whole_line(each, accounts) for each in found)], problems)


def _report_steps(accounts: int) -> list[Reports]:
    return [Reports(**each) for each in json.loads(_of_processes(_REPORTS, Size(accounts, 0)))]


def _measured(job: Job, size: Size, *, part: bool = False) -> Result:
    """Measure a job, or its part, in a separate process, because memory is measured per process."""
    answer = json.loads(_of_processes(job.name, size, part=part))
    result = Result(**{**answer, "steps": {name: Step(**step) for name, step in answer["steps"].items()}})
    # A complete run takes a quarter of an hour, so results are printed as they arrive.
    took = sum(step.seconds for step in result.steps.values()) if part else seconds(job, result)
    what = f"{job.name} ({job.part.says})" if part and job.part else job.name
    where = f"{size.accounts:,} accounts, {size.hours:,} hours"
    sys.stderr.write(f"{what}, {where}: {took:.2f} s, {result.memory_mib} MiB\n")
    return result


def _of_processes(name: str, size: Size, *, part: bool = False) -> str:
    """Prepare in one process and measure in another; returns the output of the measurement."""
    with tempfile.TemporaryDirectory(prefix="metering-scale-") as folder:
        for step in ("prepare", "run"):
            command = [sys.executable, "-m", "load_tests.scale", "--only", name, "--step", step]
            command += ["--accounts", str(size.accounts), "--hours", str(size.hours), "--folder", folder]
            command += ["--part"] * part
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.splitlines()[-1] if done.stdout else ""


def _in_this_process(name: str, step: str, size: Size, folder: Path, *, part: bool) -> int:
    if name == _WHOLE:
        if step == "run":
            name_pools()
            _say(json.dumps([asdict(each) for each in reports.run_whole(size.accounts, folder)]))
        return 0
    if name == _REPORTS:
        if step == "prepare":
            reports.prepare(size.accounts, folder)
        else:
            _say(json.dumps([asdict(each) for each in reports.run(size.accounts, folder)]))
        return 0
    work = JOBS[name].part if part else JOBS[name]
    if work is None:
        raise ValueError(f"{name} has no part that is measured by itself")
    if step == "prepare":
        work.prepare(size, folder)
    else:
        name_pools()
        _say(json.dumps(asdict(work.run(size, folder))))
    return 0


def _keep(lines: Sequence[str]) -> None:
    """Write the tables into the page."""
    page = _PAGE.read_text()
    before, _, rest = page.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    _PAGE.write_text(f"{before}{_BEGIN}\n" + "\n".join(lines).strip() + f"\n{_END}{after}")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
