"""An in-memory region with a log bucket: log files are put, and the production worker books the resulting messages.

Each on-ramp process has its own ports with numbered calls, so that each call can fail in every way that AWS can, or be
preceded by another process.
"""

from __future__ import annotations

from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from metering.errors import UnavailableError
from metering.ledger.markers import is_conflict
from metering.onramps.context.document import Context
from metering.onramps.ingest.taking import LogIngest, Taken
from metering.stores.queues import Delivery, Queue
from metering.stores.writes import Table
from tests.support.lake_world import HOUR, NOW_S, World
from tests.support.memory.queues import MemoryQueue
from tests.support.small_logs import SMALL, Contexts, LogBucket, small_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from metering.onramps.kinds import LogKind
    from metering.onramps.sources import LogStore
    from metering.stores.objects import ObjectInfo, ObjectStore

T = TypeVar("T")


class DiedError(BaseException):
    """The process is gone: SIGKILL."""


class Fault(StrEnum):
    """Fault of a call."""

    KILLED_BEFORE = "killed before"
    KILLED_AFTER = "killed after"
    LOST = "the call is lost"
    REPLY_LOST = "its reply is lost"
    SENT_TWICE = "the SDK sends it twice"
    APPLIED_LATER = "it is applied later"
    PARTLY = "half of it is applied, and all of it is reported as not taken"


READ_FAULTS = (Fault.KILLED_BEFORE, Fault.LOST)
WRITE_FAULTS = (
    Fault.KILLED_BEFORE,
    Fault.KILLED_AFTER,
    Fault.LOST,
    Fault.REPLY_LOST,
    Fault.SENT_TWICE,
    Fault.APPLIED_LATER,
)
SEND_FAULTS = (*WRITE_FAULTS, Fault.PARTLY)


class Calls:
    """The calls of one process, numbered from 0. The call at `at` has the fault, after `before` has run.

    `made` has the names of all calls with their possible faults.
    """

    def __init__(self, *, at: int = -1, fault: Fault | None = None, before: Callable[[], object] | None = None) -> None:
        self.made: list[tuple[str, tuple[Fault, ...]]] = []
        self.happened = False
        self.later: list[Callable[[], object]] = []
        self._at = at
        self._fault = fault
        self._before = before

    def call(self, name: str, faults: tuple[Fault, ...], apply: Callable[[], T]) -> T:
        number = len(self.made)
        self.made.append((name, faults))
        if number != self._at:
            return apply()
        self.happened = True
        if self._before is not None:
            self._before()
        return apply() if self._fault in {None, Fault.PARTLY} else self._faulty(name, self._fault, apply)

    def _faulty(self, name: str, fault: Fault | None, apply: Callable[[], T]) -> T:
        if fault is Fault.KILLED_BEFORE:
            raise DiedError
        if fault is Fault.APPLIED_LATER:
            self.later.append(apply)
        if fault in {Fault.KILLED_AFTER, Fault.REPLY_LOST, Fault.SENT_TWICE}:
            apply()
        if fault is Fault.KILLED_AFTER:
            raise DiedError
        if fault is Fault.SENT_TWICE:
            return apply()
        raise UnavailableError(name, str(fault))

    def apply_late(self) -> None:
        for apply in self.later:
            apply()

    @property
    def fault(self) -> Fault | None:
        return self._fault if len(self.made) == self._at else None


class ProcessObjects:
    """The on-ramp's calls to a bucket, its own or the log bucket."""

    def __init__(self, store: ObjectStore, calls: Calls, name: str) -> None:
        self._store = store
        self._calls = calls
        self._name = name

    @property
    def place(self) -> str:
        return "s3://acme-logs/"

    def put(self, key: str, body: bytes | Path, *, if_absent: bool) -> bool:
        return self._calls.call(
            f"{self._name}.put", WRITE_FAULTS, lambda: self._store.put(key, body, if_absent=if_absent)
        )

    def get(self, key: str) -> bytes:
        return self._calls.call(f"{self._name}.get", READ_FAULTS, lambda: self._store.get(key))

    def open(self, key: str, *, if_match: str | None = None, version_id: str | None = None) -> BinaryIO:
        return self._calls.call(
            f"{self._name}.open", READ_FAULTS, lambda: self._store.open(key, if_match=if_match, version_id=version_id)
        )

    def head(self, key: str) -> ObjectInfo | None:
        return self._calls.call(f"{self._name}.head", READ_FAULTS, lambda: self._store.head(key))

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        return self._calls.call(f"{self._name}.list", READ_FAULTS, lambda: self._store.list(prefix, after=after))


class ProcessQueue:
    """The on-ramp's call to the ingest queue."""

    def __init__(self, queue: Queue, calls: Calls) -> None:
        self._queue = queue
        self._calls = calls

    def send_many(self, bodies: Sequence[str]) -> list[int]:
        half = bodies[: (len(bodies) + 1) // 2]
        partly = self._calls.fault is Fault.PARTLY
        return self._calls.call(
            "queue.send",
            SEND_FAULTS,
            lambda: [*self._queue.send_many(half), *range(len(bodies))] if partly else self._queue.send_many(bodies),
        )


class LogRegion(World):
    """A region with a log bucket."""

    def __init__(self, *, kind: LogKind = SMALL, **settings: int) -> None:
        super().__init__(now_s=NOW_S, **settings)
        self.kind = kind
        self.queue = MemoryQueue(self.clock)
        self.logs = LogBucket(self.clock)
        self.contexts = Contexts((HOUR, Context(sha256="a" * 64, effective_s=HOUR)))
        self._delivered = 0

    def put(self, key: str, *lines: tuple[str, int, int, int] | str) -> None:
        self.logs.put(key, small_file(*lines), if_absent=False)

    def take(self, key: str, calls: Calls | None = None) -> Taken:
        """Take a file in a process of its own."""
        calls = calls or Calls()
        ingest = LogIngest(
            objects=ProcessObjects(self.objects, calls, "objects"),  # type: ignore[arg-type]  # what the on-ramp calls
            bucket=self.settings.data_bucket,
            queue=ProcessQueue(self.queue, calls),  # type: ignore[arg-type]  # as above
            contexts=self.contexts,
            clock=self.clock,
            kinds=(self.kind,),
            window_s=self.settings.window_s,
        )
        store: LogStore = ProcessObjects(self.logs, calls, "logs")
        return ingest.take(store, key)

    def take_until_done(self, key: str, calls: Calls) -> Taken:
        """Take a file in a process that may fail, and then again as the next delivery does."""
        self.fails(key, calls)
        taken = self.take(key)
        calls.apply_late()
        return taken

    def fails(self, key: str, calls: Calls) -> None:
        """Take a file in a process that may fail."""
        with suppress(DiedError, UnavailableError):
            self.take(key, calls)

    def book(self) -> None:
        """Let the worker process all messages of the queue; the first one arrives twice."""
        while received := self.queue.receive(10):
            deliveries = []
            for each in received:
                self._delivered += 1
                deliveries.append(
                    Delivery(
                        message_id=f"log-{self._delivered}",
                        body=each.delivery.body,
                        sent_at_ms=self.clock.now_ms(),
                        receive_count=1,
                        sender_id="onramp",
                    )
                )
            result = self.aggregator.handle([*deliveries, *deliveries[:1]], self.deadline())
            assert not result.retry
            self.queue.delete_many([each.receipt for each in received])
        self.roll_up()

    def booked_bytes(self) -> dict[str, int]:
        """Bytes of the usage table by destination."""
        sums: dict[str, int] = {}
        for key, total in self.usage().items():
            sums[key.to_location] = sums.get(key.to_location, 0) + total.bytes
        return sums

    def conflicts(self) -> int:
        return sum(is_conflict(item) for item in self.items.everything(Table.LEDGER))
