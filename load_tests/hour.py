"""`make hour`: questions of a first hour about a whole region, with a week's traffic and nothing compacted.

Prints requests to the stores, own CPU and wall of each command, beside their bars (docs/scale.md). Exits with 1 if
requests or CPU are above 1.2 x their bar, or a wall above 4 x: walls depend on the machine.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_CLOSE, _LOOSE = 1.2, 4.0
# Names, in a command's environment, the file for its counts.
_COUNTS_FILE = "METERING_HOUR_COUNTS"
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Figures:
    """Requests of a command to the stores, seconds of its own CPU, and seconds of wall; or the most of each."""

    requests: int
    cpu_s: float
    wall_s: float

    def missed(self, bar: Figures) -> Iterator[str]:
        """Sentences about each figure that is too large."""
        for name, found, most in (
            ("requests", self.requests, _CLOSE * bar.requests),
            ("s of CPU", self.cpu_s, _CLOSE * bar.cpu_s),
            ("s of wall", self.wall_s, _LOOSE * bar.wall_s),
        ):
            if found > most:
                yield f"{found:.2f} {name}, and {most:.2f} are the most"


QUESTIONS = {
    "report usage --last 7d --group-by day": Figures(60, 0.5, 1.0),
    "report usage --last 7d --group-by account_id --top 10": Figures(600, 1.2, 2.0),
    "cost --last 7d --group-by day --prices sample": Figures(700, 1.5, 2.5),
    "cost --last 7d --group-by payer --prices sample": Figures(700, 1.5, 2.5),
    "prices check --prices sample": Figures(60, 0.6, 1.0),
}


def asked(command: str, environ: Mapping[str, str]) -> Figures:
    """Run a command, and count.

    Raises:
        SystemExit: It failed.
    """
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        run = [sys.executable, "-m", "load_tests.hour", "--run", *command.split()]
        began_s = time.monotonic()
        done = subprocess.run(
            run, env={**environ, _COUNTS_FILE: file.name}, capture_output=True, text=True, check=False
        )
        wall_s = time.monotonic() - began_s
        counts = Path(file.name).read_text(encoding="utf-8")
    # `prices check` exits with 1 if usage has no price.
    if not counts or done.returncode not in {0, 1}:
        raise SystemExit(f"metering {command} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return Figures(**json.loads(counts), wall_s=wall_s)


def _run(arguments: Sequence[str]) -> int:
    """Run `metering` in this process, and write the counts at its end."""
    from metering.cli.start import main as metering

    requests = 0
    begin = HTTPConnection.putrequest

    def counted(self: HTTPConnection, *given: Any, **options: Any) -> None:
        nonlocal requests
        requests += 1
        begin(self, *given, **options)

    def write() -> None:
        counts = {"requests": requests, "cpu_s": time.process_time()}
        Path(os.environ[_COUNTS_FILE]).write_text(json.dumps(counts), encoding="utf-8")

    HTTPConnection.putrequest = counted  # type: ignore[method-assign]  # every request of every library begins here
    atexit.register(write)
    sys.argv = ["metering", *arguments]
    metering()
    return 0


def _metering(folder: Path, *arguments: str, environ: Mapping[str, str]) -> str:
    done = subprocess.run(
        [Path(sys.executable).with_name("metering"), *arguments],
        cwd=folder, env=dict(environ), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"metering {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> int:
    """Make a stage in a folder of its own, send a week's traffic, and ask."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    parser.add_argument("--batches", default="", help="messages of the week (default: those of the scenario)")
    given = parser.parse_args()
    if given.run is not None:
        return _run(given.run)
    # A measured command must not pay for this import.
    from load_tests.stage import judged

    repository = str(Path(__file__).parent.parent)
    with tempfile.TemporaryDirectory(prefix="metering-hour-") as name:
        folder = Path(name)
        environ = {**os.environ, "PYTHONPATH": repository, "METERING_LOCAL_DIR": str(folder)}
        _metering(folder, "local", "up", environ=environ)
        try:
            return judged(_hour(folder, environ, given.batches))
        finally:
            _metering(folder, "local", "down", environ=environ)


def _hour(folder: Path, environ: dict[str, str], batches: str) -> list[str]:
    for line in _metering(folder, "local", "env", environ=environ).splitlines():
        variable, _, value = line.removeprefix("export ").partition("=")
        environ[variable] = value
    few = ("--batches", batches) if batches else ()
    _metering(folder, "replay", "--scenario", "week", *few, environ=environ)
    _metering(folder, "verify", "--manifest", "replay-manifest.ndjson", "--wait", "5m", environ=environ)
    problems: list[str] = []
    for command, bar in QUESTIONS.items():
        # Others work on the machine, too: the best of a few runs is the command's own.
        runs = [asked(command, environ) for _ in range(_ATTEMPTS)]
        best = Figures(*(min(getattr(each, name) for each in runs) for name in Figures.__slots__))
        print(
            f"{command:56} {best.requests:5} requests ({bar.requests}), {best.cpu_s:5.2f} s of CPU ({bar.cpu_s}), "
            f"{best.wall_s:5.2f} s ({bar.wall_s})",
            flush=True,
        )
        problems += [f"{command}: {each}" for each in best.missed(bar)]
    return problems


if __name__ == "__main__":
    sys.exit(main())
