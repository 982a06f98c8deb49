"""Reads dead letters in a child process that has a time limit and a memory limit.

A batch may be a dead letter precisely because reading the batch crashes a worker. A child process therefore reads each
letter; if the child crashes, the command reports this and continues with the next letter.
"""

from __future__ import annotations

import json
import os
import resource
import selectors
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Self

from metering.adapters.aws.runtime import SystemClock
from metering.cli import connecting
from metering.stores.queues import Delivery, Queue
from metering.units import GIB, KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.cli.command import Session
    from metering.operations.dead_letters import DeadLetter, DeadLetters, DeadLogFiles
    from metering.wiring.connection import OnrampQueues, RegionConnection

LOOK_S = 20
"""Seconds that a child may take for one letter."""

# Memory of a child process beyond its use before any read. The worker function has 1,769 MB for itself and one batch.
_MEMORY_BYTES = 3 * GIB // 2
ANSWER_S = LOOK_S + 10
"""Seconds to wait for a child: those for the letter, and time to start and to notice that they are over."""
# Seconds for a child process to exit after it closed its stdout.
_GRACE_S = 1
_LACKS_OF_MEMORY = ("MemoryError", "Cannot allocate memory")
# The reason is searched for in this many last bytes of the child's stderr.
_SAID_BYTES = 4 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class _EndsAt:
    """A `Deadline` at a given time of the monotonic clock."""

    at_s: float

    def remaining_ms(self) -> int:
        return int((self.at_s - time.monotonic()) * 1000)


def reader_command(session: Session, region: str) -> list[str]:
    """The command that starts a child process for a region of the session's stage."""
    place = {"endpoint": session.endpoint, "region": region, "stage": session.stage}
    return [sys.executable, "-m", "metering.cli.dead_letter_reader", json.dumps(place)]


def dead_letters(region: RegionConnection, *, queues: OnrampQueues | None = None) -> DeadLetters:
    """The dead-letter queue of a region or, with `queues`, of its log files."""
    # This import is slow, and a command that is only explained does not need it.
    from metering.intake.admission import Admission
    from metering.operations.dead_letters import DeadLetters
    from metering.wiring.aggregator import batch_reader

    settings = region.settings
    # Log files have no senders: their notifications arrive in another queue.
    services = region.services if queues is None else None
    return DeadLetters(
        dead=region.dead_letters if queues is None else queues.dead,
        ingest=region.ingest if queues is None else queues.events,
        reader=batch_reader(
            objects=region.objects, items=region.items, clock=SystemClock(), settings=settings, services=services
        ),
        items=region.items,
        clock=SystemClock(),
        admission=Admission.of(settings),
        drops=region.jobs.drop_ids,
        retention_s=region.queue_facts.dead_letter_retention_s(),
        services=services,
    )


def dead_log_files(region: RegionConnection, dead: Queue) -> DeadLogFiles:
    """The dead letters of a region's log files."""
    from metering.onramps.context.store import ContextStore
    from metering.onramps.kinds import recognised
    from metering.operations.dead_letters import DeadLogFiles

    return DeadLogFiles(
        dead=dead,
        sources=region.log_sources,
        recognise=recognised,
        objects=region.objects,
        contexts=ContextStore(region.objects),
        clock=SystemClock(),
        retention_s=region.queue_facts.dead_letter_retention_s(),
    )


class DeadLetterReader:
    """Examines letters in a child process, and starts a new child after a crash. Mutable, because it holds the child.

    Args:
        command: Command that starts a child process; see `reader_command`.
        letters: The dead-letter queue, which can describe a letter without reading its records.
        timeout_s: Seconds to wait for an answer of the child process.
    """

    def __init__(self, command: Sequence[str], letters: DeadLetters, *, timeout_s: float) -> None:
        self._command = command
        self._letters = letters
        self._timeout_s = timeout_s
        self._child: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._end()

    def look(self, delivery: Delivery) -> DeadLetter:
        """Predict the redrive of a letter; if the child does not answer, describe the letter without its records."""
        from metering.operations.dead_letters import DeadLetter, RedriveEffect

        answer = self._ask(json.dumps(asdict(delivery)).encode() + b"\n")
        if answer:
            said = json.loads(answer)
            return DeadLetter(**{**said, "effect": RedriveEffect(said["effect"])})
        why = self._why()
        self._end()
        return replace(self._letters.glance(delivery), why=why)

    def _ask(self, question: bytes) -> bytes:
        """Send a question to the child process, and return the line that it answers; empty on a timeout or crash."""
        if self._child is None:
            self._said = TemporaryFile()  # noqa: SIM115  # it lives as long as the child
            self._child = subprocess.Popen(  # noqa: S603  # this interpreter, and a module of ours
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, bufsize=0
            )
        stdin, stdout = self._child.stdin, self._child.stdout
        if stdin is None or stdout is None:
            return b""
        try:
            stdin.write(question)
        except BrokenPipeError:
            return b""
        return _line(stdout, self._timeout_s)

    def _why(self) -> str:
        """Why there is no answer: an error of the child or, if there was none, an exceeded limit."""
        error = self._error()
        if error and not any(lack in error for lack in _LACKS_OF_MEMORY):
            return f"Reading it here failed: {error}"
        return f"Reading it here took more than {LOOK_S} s or {_MEMORY_BYTES // MIB} MiB; a worker has its own limits."

    def _error(self) -> str:
        """The last stderr line of a child that exited with an error; empty if the child was killed or still runs."""
        if self._child is None or self._said is None:
            return ""
        try:
            code = self._child.wait(timeout=_GRACE_S)
        except subprocess.TimeoutExpired:
            return ""
        if code <= 0:
            return ""
        self._said.seek(max(self._said.seek(0, os.SEEK_END) - _SAID_BYTES, 0))
        lines = self._said.read().decode(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "")

    def _end(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None
        if self._said is not None:
            self._said.close()
            self._said = None


def _line(pipe: IO[bytes], timeout_s: float) -> bytes:
    """Read one line from the pipe; empty after a timeout or if the pipe is closed."""
    until = _EndsAt(at_s=time.monotonic() + timeout_s)
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            if not selector.select(max(until.remaining_ms(), 0) / 1000):
                return b""
            piece = pipe.read(64 * 1024)
            if not piece:
                return b""
            line += piece
    return line


def limit_memory(more_bytes: int) -> None:
    """Allow this process `more_bytes` more memory than it uses now, if the system can limit memory."""
    status = Path("/proc/self/status")
    if not status.exists():
        return
    taken_bytes = int(status.read_text().split("VmSize:")[1].split()[0]) * 1024
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = taken_bytes + more_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit if most == resource.RLIM_INFINITY else min(limit, most), most))


def main() -> None:
    """For each delivery, given as one line on stdin, print a line with the predicted outcome of its redrive."""
    from metering.intake.batches import Allowance

    letters = dead_letters(connecting.connect(**json.loads(sys.argv[1])))
    limit_memory(_MEMORY_BYTES)
    for line in sys.stdin.buffer:
        allowance = Allowance(until=_EndsAt(at_s=time.monotonic() + LOOK_S), final=False)
        letter = letters.examine(Delivery(**json.loads(line)), allowance)
        sys.stdout.buffer.write(json.dumps(asdict(letter)).encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
