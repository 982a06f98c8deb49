"""A small kind of log, for tests of behaviour that all kinds of logs share.

A file `small_…` has an AWS-style name; `….txt` has no such name. Files have a header line, and lines of `subject bytes
start end`. The first characters of a subject decide: `x…` is refused, `s…` is shadowed by the flow log `fl-broad`, `u…`
is not metered, `?…` is unclassified, `z:…` goes to a zone of the context, and all others go to the internet. An account
can follow: `i-1@222222222222`.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar
from urllib.parse import quote_plus

import pyarrow.parquet as pq

from metering.errors import ObjectMissingError, UnavailableError
from metering.hours import hour_of
from metering.ledger.markers import is_conflict
from metering.onramps.context.document import Context
from metering.onramps.context.inventory import context_of
from metering.onramps.context.store import Timeline, context_key
from metering.onramps.formats.pieces import Pieces
from metering.onramps.ingest.taking import LogIngest, Taken
from metering.onramps.kinds import LogKind
from metering.onramps.reading import Balance, Block, FileName, Observation, ReadSettings, RefusedLine, identity_of
from metering.onramps.reasons import Classified, Outcome, Refused, Shadowed, Traffic, Unmetered
from metering.stores.queues import Delivery, Queue
from metering.stores.writes import Table
from tests.support.lake_world import HOUR, NOW_S, World
from tests.support.memory.clock import ManualClock
from tests.support.memory.objects import MemoryObjectStore
from tests.support.memory.queues import MemoryQueue
from tests.support.networks.description import description
from tests.support.networks.traffic import Network, NetworkPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from metering.onramps.plans import Plan
    from metering.onramps.sources import LogStore
    from metering.stores.clock import Clock
    from metering.stores.objects import ObjectInfo, ObjectStore

ACCOUNT = "111111111111"
FLOW_LOG = "fl-small"
_BLOCK_LINES = 3


def _recognise(key: str) -> FileName | None:
    base = key.rpartition("/")[2]
    if base.endswith(".txt"):
        return FileName(kind="small", identity="")
    if not base.startswith("small_"):
        return None
    return FileName(
        kind="small", identity=identity_of("small", base), account_id=ACCOUNT, region="us-east-1", source=FLOW_LOG
    )


def _read(
    stream: BinaryIO, name: FileName, settings: ReadSettings, *, digest: Callable[[bytes], object] = bytes
) -> Iterator[Block[Any]]:
    del name
    lines: list[tuple[int, str]] = []
    for number, raw in enumerate(b"".join(Pieces(stream, settings, len)).splitlines(keepends=True), start=1):
        digest(raw)
        lines.append((number, raw.decode().rstrip("\n")))
        if len(lines) == _BLOCK_LINES:
            yield _block(lines)
            lines = []
    if lines:
        yield _block(lines)


def _block(lines: Sequence[tuple[int, str]]) -> Block[str]:
    observations: dict[tuple[str, int], Observation[str]] = {}
    refused: list[RefusedLine] = []
    balance = Balance()
    for number, text in lines:
        words = text.split(" ")
        if words[0] == "subject":
            balance += Balance(lines=1, header=1)
        elif words[0] == "nodata":
            balance += Balance(lines=1, nodata=1)
        elif len(words) != 4:
            refused.append(RefusedLine(number, "field_count", f"{len(words)} fields, not 4", text, 0))
            balance += Balance(lines=1, refused=1)
        else:
            size, start_s, end_s = map(int, words[1:])
            each = Observation(words[0], hour_of(start_s), size, 1, start_s, end_s)
            key = (each.subject, each.hour_s)
            known = observations.get(key)
            observations[key] = each if known is None else _plus(known, each)
            balance += Balance(lines=1, metered=1, stated_bytes=size, metered_bytes=size)
    return Block(observations=list(observations.values()), refused=refused, balance=balance)


def _plus(one: Observation[str], other: Observation[str]) -> Observation[str]:
    return Observation(
        one.subject,
        one.hour_s,
        one.bytes + other.bytes,
        one.lines + other.lines,
        min(one.start_s, other.start_s),
        max(one.end_s, other.end_s),
    )


@dataclass(frozen=True, slots=True)
class _Rules:
    timeline: Timeline

    def outcome(self, subject: str, hour_s: int) -> Outcome:
        resource, _, account = subject.partition("@")
        if subject.startswith("x"):
            return Refused("invalid_value", f"{subject} is refused")
        if subject.startswith("s"):
            return Shadowed("fl-broad")
        if subject.startswith("u"):
            return Unmetered("egress_side")
        context = self.timeline.at(hour_s)
        rule, reason, to, usage_type = "internet", "", "internet", ""
        if subject.startswith("?"):
            rule, reason, to, usage_type = "unknown_peer", "no_next_hop", "us-east-1", "Unclassified-Regional-Bytes"
        elif subject.startswith("z:") and context is not None:
            rule, to = "zone", f"us-east-1/{context.sha256[:4]}"
        traffic = Traffic(account or ACCOUNT, "AmazonEC2", resource, "out", "us-east-1/use1-az1", to, usage_type)
        return Classified(traffic, rule, reason)


SMALL = LogKind(
    name="small",
    recognise=_recognise,
    read=_read,
    classifier=lambda _name, timeline: _Rules(timeline),
    needs_context=False,
    rules="small/1",
)
NEEDS_CONTEXT = replace(SMALL, needs_context=True)


def small_file(*lines: tuple[str, int, int, int] | str) -> bytes:
    """Content of a file, from lines of subject, bytes, start and end."""
    texts = [each if isinstance(each, str) else " ".join(map(str, each)) for each in lines]
    return "".join(f"{text}\n" for text in ["subject bytes start end", *texts]).encode()


class LogBucket(MemoryObjectStore):
    def __init__(self, clock: Clock, name: str = "acme-logs") -> None:
        super().__init__(clock)
        self.place = f"s3://{name}/"


class Contexts:
    """Versions of a context: `timeline` returns the newest version; all others are kept too, except those in `lost`."""

    def __init__(self, *versions: tuple[int, Context]) -> None:
        self.versions = list(versions)
        self.newest = Timeline(tuple(versions))
        self.lost: set[str] = set()

    def put(self, context: Context) -> None:
        self.versions.append((context.effective_s, context))
        self.newest = Timeline(((context.effective_s, context),))

    def timeline(self) -> Timeline:
        return self.newest

    def pinned(self, pins: Mapping[int, str]) -> Timeline:
        found = []
        for from_s, sha256 in sorted(pins.items()):
            kept = [each for each in self.versions if (each[0], each[1].sha256) == (from_s, sha256)]
            if not kept or sha256 in self.lost:
                raise ObjectMissingError(f"context/{sha256}.json.gz")
            found.append(kept[0])
        return Timeline(tuple(found))


class LogStage:
    """An in-memory region and a log bucket, with an on-ramp from the bucket to the region."""

    def __init__(self, *kinds: LogKind, context: Context | None, now_s: int) -> None:
        self.kinds = kinds
        self.clock = ManualClock(now_ms=now_s * 1000)
        self.logs = LogBucket(self.clock)
        self.objects = MemoryObjectStore(self.clock)
        self.queue = MemoryQueue(self.clock)
        self.contexts = Contexts(*(() if context is None else ((context.effective_s, context),)))

    def ingest(self, *, window_s: int | None = None, **options: object) -> LogIngest:
        return LogIngest(
            objects=self.objects,
            bucket="data",
            queue=self.queue,
            contexts=self.contexts,
            clock=self.clock,
            kinds=self.kinds,
            window_s=window_s,
            **options,  # type: ignore[arg-type]  # of the test
        )

    def put(self, *lines: tuple[str, int, int, int] | str, key: str) -> None:
        self.logs.put(key, small_file(*lines), if_absent=False)

    def take(self, key: str, content: bytes | None = None, **options: object) -> Taken:
        """Put the file, if `content` is given, and ingest the file."""
        if content is not None:
            self.logs.put(key, content, if_absent=False)
        return self.ingest().take(self.logs, key, **options)  # type: ignore[arg-type]  # of the test

    def sent(self) -> list[dict[str, Any]]:
        """Receive and delete all queued messages."""
        found = []
        while received := self.queue.receive(10):
            found += [json.loads(each.delivery.body) for each in received]
            self.queue.delete_many([each.receipt for each in received])
        return found

    def rows(self, message: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Records of the object that a message refers to."""
        body = self.objects.get(message["location"]["key"])
        assert hashlib.sha256(body).hexdigest() == message["sha256"]
        rows: list[dict[str, Any]] = pq.read_table(io.BytesIO(body)).to_pylist()
        return rows


def reason_of(taken: Taken) -> str:
    """Reason why a file was refused or is a conflict; empty if the file is neither."""
    return "" if taken.problem is None else taken.problem[0]


def plan_of(taken: Taken) -> Plan:
    assert taken.plan is not None
    return taken.plan


T = TypeVar("T")


class DiedError(BaseException):
    """The process is gone: SIGKILL."""


class Fault(StrEnum):
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
    """The calls of one process, numbered from 0. The call `at` gets the fault; right before that, `before` runs.

    `made` has the name and the possible faults of each call.
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
    """The on-ramp's calls to a bucket: the region's bucket or the log bucket."""

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
    """The on-ramp's calls to the ingest queue."""

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
        """Ingest a file, as in a new process."""
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
        """Ingest a file in a process that may fail, and once more, as for the redelivered event."""
        self.fails(key, calls)
        taken = self.take(key)
        calls.apply_late()
        return taken

    def fails(self, key: str, calls: Calls) -> None:
        with suppress(DiedError, UnavailableError):
            self.take(key, calls)

    def book(self) -> None:
        """Let the worker process all queued messages, the first of each receive twice, and roll up."""
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
            assert not self.aggregator.handle([*deliveries, *deliveries[:1]], self.deadline()).retry
            self.queue.delete_many([each.receipt for each in received])
        self.roll_up()

    def booked_bytes(self) -> dict[str, int]:
        sums: dict[str, int] = {}
        for key, total in self.usage().items():
            sums[key.to_location] = sums.get(key.to_location, 0) + total.bytes
        return sums

    def conflicts(self) -> int:
        return sum(is_conflict(item) for item in self.items.everything(Table.LEDGER))


ETAG = "9dd4e461268c8034f5c8564e155c67a6"


def bus_event(bucket: str, key: str, *, etag: str = ETAG, version_id: str = "") -> str:
    """An event of EventBridge (S3 user guide, EventBridge event message structure)."""
    made: dict[str, Any] = {"key": key, "size": 1, "etag": etag, "sequencer": "0000066120B9B6E373"}
    if version_id:
        made["version-id"] = version_id
    return json.dumps(
        {
            "version": "0",
            "id": "39a98e81-5366-4661-aeba-e4ed2a94694b",
            "source": "aws.s3",
            "account": "111122223333",
            "time": "2026-11-24T13:00:00Z",
            "region": "us-west-2",
            "resources": [f"arn:aws:s3:::{bucket}"],
            "detail-type": "Object Created",
            "detail": {"version": "0", "bucket": {"name": bucket}, "object": made, "reason": "PutObject"},
        }
    )


def notification(bucket: str, *keys: str) -> str:
    """A notification that S3 sends directly to a queue (S3 user guide, event message structure)."""
    records = [
        {
            "eventSource": "aws:s3",
            "eventName": "ObjectCreated:Put",
            "s3": {"bucket": {"name": bucket}, "object": {"key": quote_plus(key, safe="/"), "eTag": ETAG}},
        }
        for key in keys
    ]
    return json.dumps({"Records": records})


def through_sns(body: str) -> str:
    """An S3 notification in an SNS envelope."""
    return json.dumps({"Type": "Notification", "MessageId": "m", "TopicArn": "arn:aws:sns:x", "Message": body})


def network_logs(folder: Path, *, lines: int = 600) -> None:
    """Put the log files of a time slot below `logs`, and the context of their hour below `ctx`."""
    made = Network(NetworkPlan(first_s=HOUR, lines=lines, slots=1))
    for file in made.files():
        path = folder / "logs" / file.key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.body)
    context = context_of(description(made.inventory, made.flow_logs, HOUR), HOUR)
    path = folder / "ctx" / context_key(context.effective_s, context.sha256)
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress(context.encode(), mtime=0))
