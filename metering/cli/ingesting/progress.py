"""Progress of a run over log files: bytes, lines a second, and the end that a person asks for."""

from __future__ import annotations

import time
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

from metering.cli.command import progress
from metering.cli.failures import CommandStoppedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from threading import Event

    from rich.progress import Progress, TaskID

    from metering.onramps.observations import Block

STOPPED = CommandStoppedError(
    "You stopped it.",
    "Nothing is lost, and nothing is counted twice: the same command goes on where this one ended. A dry run, which "
    "keeps nothing, begins again.",
)


class Reading:
    """Notes each block that any thread reads.

    Attributes:
        lines: Lines that were read.
        seconds: Time since the start.
    """

    def __init__(self, bar: Progress, task: TaskID, stopped: Event) -> None:
        self._bar = bar
        self._task = task
        self._stopped = stopped
        self._lock = Lock()
        self._began = time.monotonic()
        self.lines = 0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    @contextmanager
    def file(self, size_bytes: int) -> Iterator[Callable[[Block[object]], None]]:
        """What watches the blocks of one file of that size as stored.

        Raises:
            CommandStoppedError: The person asked for the end.
        """
        before = 0
        if self._stopped.is_set():
            raise STOPPED

        def watch(block: Block[object]) -> None:
            nonlocal before
            if self._stopped.is_set():
                raise STOPPED
            with self._lock:
                self.lines += block.balance.lines
                # A file may be read twice, and one that is cut to its beginning counts its unpacked bytes.
                upto = min(size_bytes, max(before, block.read_bytes))
                self._bar.update(self._task, advance=upto - before, speed=self.speed)
            before = upto

        yield watch
        with self._lock:
            # A file that is known already is not read again.
            self._bar.update(self._task, advance=size_bytes - before, speed=self.speed)

    @property
    def speed(self) -> str:
        return f"{self.lines / max(self.seconds, 0.001):,.0f} lines/s"


@contextmanager
def reading(total_bytes: int, stopped: Event) -> Iterator[Reading]:
    """Show a bar of the bytes that are read."""
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TextColumn("{task.fields[speed]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with progress(*columns) as bar:
        yield Reading(bar, bar.add_task("reading", total=total_bytes, speed=""), stopped)
