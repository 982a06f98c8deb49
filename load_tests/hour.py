"""`make hour`: the questions of a user's first hour about a whole region, with a week's traffic and nothing compacted.

Prints calls to the stores, own CPU and wall of each command, beside what they may be (docs/scale.md). Exit 1 if a count of
calls or a CPU is above 1.2 x its bar, or a wall above 4 x.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from load_tests.stage import judged

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# How far above its bar a figure may be: calls and CPU differ little between runs, and wall depends on the machine.
_CLOSE, _LOOSE = 1.2, 4.0
# Names, in a command's environment, the file for its counts.
_COUNTS_FILE = "METERING_HOUR_COUNTS"


@dataclass(frozen=True, slots=True)
class Question:
    """A command of the first hour, and its bars: calls to the stores, seconds of own CPU, seconds of wall."""

    command: str
    calls: int
    cpu_s: float
    wall_s: float


QUESTIONS = (
    Question("report usage --last 7d --group-by day", 60, 0.5, 1.0),
    Question("report usage --last 7d --group-by account_id --top 10", 600, 1.2, 2.0),
    Question("cost --last 7d --group-by day --prices sample", 700, 1.5, 2.5),
    Question("cost --last 7d --group-by payer --prices sample", 700, 1.5, 2.5),
    Question("prices check --prices sample", 60, 0.6, 1.0),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """What a command took: calls to the stores, seconds of its own CPU, seconds of wall."""

    calls: int
    cpu_s: float
    wall_s: float

    def missed(self, question: Question) -> Iterator[str]:
        """Sentences about bars that are missed."""
        bars = (
            ("calls", self.calls, question.calls, _CLOSE),
            ("s of CPU", self.cpu_s, question.cpu_s, _CLOSE),
            ("s of wall", self.wall_s, question.wall_s, _LOOSE),
        )
        for name, measured, bar, times in bars:
            if measured > times * bar:
                yield f"{question.command}: {measured:.2f} {name}, at most {times} x {bar}"


def measured(command: str, environ: dict[str, str]) -> Measured:
    """Run a command, and count.

    Raises:
        SystemExit: The command failed.
    """
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        run = [sys.executable, "-m", "load_tests.hour", "--run", *command.split()]
        began_s = time.monotonic()
        done = subprocess.run(run, env={**environ, _COUNTS_FILE: file.name}, capture_output=True, text=True, check=False)  # noqa: S603 - ours
        wall_s = time.monotonic() - began_s
        counts = json.loads(Path(file.name).read_text(encoding="utf-8") or "{}")
    # `prices check` exits with 1 if usage has no price.
    if not counts or done.returncode not in {0, 1}:
        raise SystemExit(f"metering {command} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return Measured(calls=counts["calls"], cpu_s=counts["cpu_s"], wall_s=wall_s)


def _run(arguments: Sequence[str]) -> int:
    """Run `metering` in this process, and write the counts when it ends."""
    import atexit

    from botocore.client import BaseClient
    from metering.cli.start import main as metering

    calls = 0
    send: Any = BaseClient._make_api_call  # type: ignore[attr-defined]  # the one place that every call passes
    def counted(self: Any, operation: str, given: Any) -> Any:
        nonlocal calls
        calls += 1
        return send(self, operation, given)

    def write() -> None:
        counts = {"calls": calls, "cpu_s": time.process_time()}
        Path(os.environ[_COUNTS_FILE]).write_text(json.dumps(counts), encoding="utf-8")

    BaseClient._make_api_call = counted  # type: ignore[attr-defined]
    atexit.register(write)
    sys.argv = ["metering", *arguments]
    metering()
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    parser.add_argument("--batches", type=int, help="messages of the week (default: the scenario's)")
    given = parser.parse_args()
    if given.run is not None:
        return _run(given.run)
    return judged([])


if __name__ == "__main__":
    sys.exit(main())
