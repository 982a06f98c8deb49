"""Worker processes of one contender, which may be killed at any moment."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from load_tests.race.site import Site

WORKERS = 3


class Crew:
    """Workers that are ready, and begin on a signal.

    Args:
        name: The contender.
        site: Where it works.
        lost: Share of DynamoDB's replies that get lost.
        feeds: Files with each worker's messages; without them, workers read the site's queue.
    """

    def __init__(self, name: str, site: Site, *, lost: float, feeds: Sequence[Path] = ()) -> None:
        self._command = [sys.executable, "-m", "load_tests.race.worker", name, json.dumps(site.fields()), str(lost)]
        self._running = [self._start(str(feeds[number]) if feeds else "") for number in range(WORKERS)]
        self.kills = 0

    def go(self) -> None:
        """Let all begin."""
        for process in self._running:
            _tell(process)

    def kill_one(self, number: int) -> None:
        """SIGKILL one worker, and start another in its place."""
        self._running[number].kill()
        self._running[number].communicate()
        self._running[number] = self._start("")
        _tell(self._running[number])
        self.kills += 1

    @property
    def working(self) -> bool:
        """Whether any worker still runs."""
        return any(process.poll() is None for process in self._running)

    def end(self) -> float:
        """Stop all; returns the CPU time of the remaining workers."""
        for process in self._running:
            if process.poll() is None:
                process.terminate()
        told = [process.communicate(timeout=120)[0] for process in self._running]
        # A worker that was killed before it started reports nothing.
        return float(sum(json.loads(text)["cpu_s"] for text in told if text))

    def _start(self, feed: str) -> subprocess.Popen[str]:
        process = subprocess.Popen([*self._command, feed], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if process.stdout is None or process.stdout.readline() != "ready\n":
            raise RuntimeError("a worker does not start")
        return process


def _tell(process: subprocess.Popen[str]) -> None:
    if process.stdin is None:
        raise RuntimeError("a worker cannot be told to begin")
    process.stdin.write("go\n")
    process.stdin.flush()
