"""A caller and its producer, killed at any line of the producer's code. Run as a program that forks and has no threads.

`python -m tests.unit.producer.killed FOLDER KILLS` makes worlds, each in a separate folder. A caller sends the records
of all its keys. The caller is killed (SIGKILL) at a line, restarts with all its keys, is killed again in every second
world, and finally completes. The lines are spread over the whole run, so that 200 kills hit 200 different places. The
queue is a file, to which messages are appended; the bucket is a folder.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import metering.producer
from metering.adapters.aws.runtime import SystemClock, SystemEntropy
from metering.adapters.folders import FolderLogStore
from metering.producer.producer import Outlet, Producer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

BUCKET = "data-bucket"
SOURCE = "edge-{world}"
# Records of each key. The first key's records are too large for one message, and the next key has no records.
KEYS = {"flows.log:0": 3, "flows.log:4096": 0, "flows.log:8192": 2, "flows.log:12288": 1}
# Keys that share batches; two of their records are too large for one batch.
SHARED = {"events:0": 1, "events:1": 3, "events:2": 0, "events:3": 1}
_LARGE_CHARS = 600_000
_HALF_CHARS = 120_000
_CODE = str(Path(metering.producer.__file__).parent)


class FileQueue:
    """A queue in a file, with one message per line; the file survives a kill of its process."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def send_many(self, bodies: Sequence[str]) -> list[int]:
        with self._path.open("ab", buffering=0) as file:
            for body in bodies:
                file.write(body.encode() + b"\n")
        return []


def records_of(world: int, key: str, first: dict[str, str | int]) -> list[dict[str, str | int]]:
    """Records of a key in a world: copies of `first` with distinct accounts."""
    place = [*KEYS, *SHARED].index(key)
    note = "x" * (_LARGE_CHARS if place == 0 else _HALF_CHARS if key in SHARED else 0)
    return [
        {
            **first,
            "account_id": f"{world:06d}{place:03d}{each:03d}",
            "bytes": 10_000 * world + 10 * place + each + 1,
            "note": note,
        }
        for each in range({**KEYS, **SHARED}[key])
    ]


def call(folder: Path, world: int, first: dict[str, str | int]) -> None:
    """The caller: add and send the records of all keys, even of those already sent."""
    outlet = Outlet(
        queue=FileQueue(folder / "queue"), objects=FolderLogStore(folder / "bucket"), bucket=BUCKET,
        clock=SystemClock(), entropy=SystemEntropy(),
    )  # fmt: skip
    with Producer(SOURCE.format(world=world), state=folder / "state", outlet=outlet) as producer:
        for key, shared in zip(KEYS, SHARED, strict=True):
            producer.add(records_of(world, shared, first), key=shared)
            if key != next(iter(KEYS)):
                producer.send(records_of(world, key, first), key=key)
        producer.flush()
        producer.send(records_of(world, next(iter(KEYS)), first), key=next(iter(KEYS)))


class Steps:
    """Count executed lines of the producer, and kill the process at line number `kill_at`."""

    def __init__(self, kill_at: int | None) -> None:
        self.count = 0
        self._kill_at = kill_at

    def __call__(self, frame: FrameType, event: str, _argument: object) -> Steps | None:
        if event == "call" and not frame.f_code.co_filename.startswith((_CODE, __file__)):
            return None
        if event == "line":
            if self.count == self._kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            self.count += 1
        return self


def run(folder: Path, world: int, first: dict[str, str | int], *, kill_at: int | None) -> int:
    """Run the caller in a separate process; returns the number of executed lines, or -1 if the process was killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            steps = Steps(kill_at)
            sys.settrace(steps)
            call(folder, world, first)
            sys.settrace(None)
            os.write(writing, str(steps.count).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    told = os.read(reading, 100)
    os.close(reading)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in (0, -signal.SIGKILL):
        raise SystemExit(f"world {world} ended with {status}")
    return int(told) if status == 0 else -1


def main(folder: Path, kills: int) -> None:
    """Run worlds until `kills` processes were killed; prints `{"worlds", "kills", "lines"}`."""
    first: dict[str, str | int] = json.loads((folder / "record.json").read_text())
    (folder / "0").mkdir()
    lines = run(folder / "0", 0, first, kill_at=None)
    killed, world = 0, 0
    while killed < kills:
        world += 1
        home = folder / str(world)
        home.mkdir()
        # A second kill is at another position: 997 is prime, so pairs of positions do not repeat.
        places = [killed * lines // kills] + ([(997 * world) % lines] if world % 2 else [])
        # If a run has less to do than the first run, it may end before its position is reached.
        killed += sum(run(home, world, first, kill_at=place) == -1 for place in places)
        run(home, world, first, kill_at=None)
    print(json.dumps({"worlds": world, "kills": killed, "lines": lines}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
