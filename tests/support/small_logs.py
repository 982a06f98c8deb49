"""A small kind of log, for tests of behaviour that all kinds share.

A file `small_…` has an AWS-style name, and `….txt` has none. Files have a header line, and lines of `subject bytes
start end`. Subjects are judged by their first characters: `x…` is refused by the rules, `s…` is shadowed by the flow
log `fl-broad`, `u…` is not metered, `?…` is unclassified, `z:…` goes to a zone that the context names, and all others
go out to the internet. An account can follow: `i-1@222222222222`.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow.parquet as pq

from metering.errors import ObjectMissingError
from metering.hours import hour_of
from metering.onramps.context.store import Timeline
from metering.onramps.formats.pieces import Pieces
from metering.onramps.ingest.taking import LogIngest, Taken
from metering.onramps.kinds import LogKind
from metering.onramps.reading import Balance, Block, FileName, Observation, ReadSettings, RefusedLine, identity_of
from metering.onramps.reasons import Classified, Outcome, Refused, Shadowed, Traffic, Unmetered
from tests.support.memory.clock import ManualClock
from tests.support.memory.objects import MemoryObjectStore
from tests.support.memory.queues import MemoryQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from metering.onramps.context.document import Context
    from metering.onramps.plans import Plan
    from metering.stores.clock import Clock

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
    """Anybody's bucket with log files."""

    def __init__(self, clock: Clock, name: str = "acme-logs") -> None:
        super().__init__(clock)
        self.place = f"s3://{name}/"


class Contexts:
    """Versions of a context: `timeline` returns the newest; all are kept except those in `lost`."""

    def __init__(self, *versions: tuple[int, Context]) -> None:
        self.versions = list(versions)
        self.newest = Timeline(tuple(versions))
        self.lost: set[str] = set()

    def put(self, context: Context) -> None:
        """Put a new version, the only one that `timeline` returns."""
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
    """An in-memory region and log bucket, with an on-ramp between them.

    Args:
        kinds: The kinds of logs that it knows; empty for all of this release.
        context: The context for judging; None for none.
        now_s: The time now, in epoch seconds.
    """

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
        """Put a file of the small kind."""
        self.logs.put(key, small_file(*lines), if_absent=False)

    def take(self, key: str, content: bytes | None = None, **options: object) -> Taken:
        """Take a file, with this content if given."""
        if content is not None:
            self.logs.put(key, content, if_absent=False)
        return self.ingest().take(self.logs, key, **options)  # type: ignore[arg-type]  # of the test

    def sent(self) -> list[dict[str, Any]]:
        """Take the messages that wait in the queue."""
        found = []
        while received := self.queue.receive(10):
            found += [json.loads(each.delivery.body) for each in received]
            self.queue.delete_many([each.receipt for each in received])
        return found

    def rows(self, message: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Records that a message points to."""
        body = self.objects.get(message["location"]["key"])
        assert hashlib.sha256(body).hexdigest() == message["sha256"]
        rows: list[dict[str, Any]] = pq.read_table(io.BytesIO(body)).to_pylist()
        return rows


def reason_of(taken: Taken) -> str:
    """Reason why a file was refused, or is a conflict; empty if neither."""
    return "" if taken.problem is None else taken.problem[0]


def plan_of(taken: Taken) -> Plan:
    """The plan of a file, which must exist."""
    assert taken.plan is not None
    return taken.plan
