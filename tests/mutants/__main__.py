"""`python -m tests.mutants`: every seeded bug must be found by a test; exit 1 if one is not."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.conftest import ALL_CASES
from tests.mutants.catalogue import MUTANTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.mutants.mutant import Mutant

_ROOT = Path(__file__).resolve().parents[2]
_TREES = ("metering", "lambdas", "load_tests", "tests", "infra")
_LIMIT_S = 300
# Matches a line of pytest's summary. A parameter id and the message after it may contain spaces.
_KILLER = re.compile(r"^(?:FAILED|ERROR) (\S+?\.py(?:::[^\s\[]+(?:\[.*?\])?)?)(?: - .*)?$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Outcome of one mutant; `killer` is the test that found it, empty if no test did."""

    mutant: Mutant
    killer: str
    seconds: float


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--jobs", type=int, default=2, help="mutants at once")
    parser.add_argument("--only", default="", help="part of a mutant's name")
    parser.add_argument("--limit", type=float, default=_LIMIT_S, help="seconds that a suite may take")
    options = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if options.only in mutant.name]
    stale = [mutant.name for mutant in chosen if occurrences(mutant) != 1]
    if stale:
        sys.stdout.write(f"no longer match their code: {stale}\n")
        return 1
    began = time.monotonic()
    with ThreadPoolExecutor(options.jobs) as pool:
        suites = sorted({suite for mutant in chosen for suite in mutant.suites})
        broken = [
            suite
            for suite, passes in zip(suites, pool.map(partial(_passes, limit_s=options.limit), suites), strict=True)
            if not passes
        ]
        if broken:
            sys.stdout.write(f"fail or are too slow without any seeded bug, so they prove nothing: {broken}\n")
            return 1
        verdicts = list(pool.map(partial(_try_and_tell, limit_s=options.limit), chosen))
    killed = sum(bool(verdict.killer) for verdict in verdicts)
    sys.stdout.write(f"{killed} of {len(verdicts)} killed in {time.monotonic() - began:.0f} s\n")
    return 0 if killed == len(verdicts) else 1


def occurrences(mutant: Mutant) -> int:
    """Number of times that a mutant's old text occurs in its file; must be 1."""
    return (_ROOT / mutant.path).read_text().count(mutant.old)


def _try_and_tell(mutant: Mutant, *, limit_s: float) -> Verdict:
    verdict = try_mutant(mutant, limit_s=limit_s)
    told = f"killed by {verdict.killer}" if verdict.killer else "SURVIVED"
    sys.stdout.write(f"{mutant.name} ({mutant.path}): {told} ({verdict.seconds:.0f} s)\n")
    sys.stdout.flush()
    return verdict


def try_mutant(mutant: Mutant, *, limit_s: float = _LIMIT_S) -> Verdict:
    """Apply a mutant to a copy of the tree and run its suites until one fails."""
    began = time.monotonic()
    with _copy() as copy:
        changed = copy / mutant.path
        changed.write_text(changed.read_text().replace(mutant.old, mutant.new))
        killer = next(filter(None, (_run(copy, suite, limit_s) for suite in mutant.suites)), "")
    return Verdict(mutant=mutant, killer=killer, seconds=time.monotonic() - began)


@contextmanager
def _copy() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = Path(folder)
        for tree in _TREES:
            shutil.copytree(_ROOT / tree, copy / tree, ignore=shutil.ignore_patterns("__pycache__", "cdk.out"))
        shutil.copy(_ROOT / "pyproject.toml", copy)
        yield copy


def _passes(suite: str, *, limit_s: float) -> bool:
    """Whether a suite passes without a seeded bug."""
    with _copy() as copy:
        done = _pytest(copy, suite, limit_s)
        return done is not None and done.returncode == 0


def _pytest(copy: Path, suite: str, limit_s: float) -> subprocess.CompletedProcess[str] | None:
    """Run a suite until its first failure; None if the suite exceeds the time limit."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not emulator", "-p", "no:cacheprovider", suite]
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(copy)}
    environment[ALL_CASES] = "1"
    try:
        return subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, text=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired:
        return None


def _run(copy: Path, suite: str, limit_s: float) -> str:
    """The first failed test of the suite, or an empty text."""
    done = _pytest(copy, suite, limit_s)
    if done is None:
        # Slow is not wrong: a mutant that only makes a suite endless does not count as found.
        sys.stdout.write(f"{suite} did not end in {limit_s:.0f} s\n")
        return ""
    if done.returncode == 0:
        return ""
    killer = killer_in(done.stdout)
    if not killer:
        # No test failed: the suite itself could not run, which proves nothing.
        sys.stdout.write(done.stdout[-2000:] + done.stderr[-2000:])
    return killer


def killer_in(told: str) -> str:
    """The first failed test in pytest's summary, or an empty text."""
    found = _KILLER.search(told)
    return "" if found is None else found.group(1)


if __name__ == "__main__":
    sys.exit(main())
