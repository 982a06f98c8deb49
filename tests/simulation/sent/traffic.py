"""Traffic of one history: batches, copies, conflicts, late and refused batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from metering.errors import ObjectMissingError
from metering.hours import hour_of
from metering.intake.batches import Allowance, BatchReading, DecodedBatch, NoBatch, RefusedBatch, RefusedRecord
from metering.units import DAY_S, HOUR_S
from tests.simulation.region.faults import HOUR_MS, MINUTE_MS
from tests.support.memory.rows import PlainRow, plain_usage

if TYPE_CHECKING:
    import random
    from collections import Counter
    from collections.abc import Collection, Sequence

    from metering.intake.admission import Admission
    from metering.stores.objects import ObjectStore
    from metering.stores.queues import Delivery


@dataclass(frozen=True, slots=True, kw_only=True)
class SentContent:
    """One content of a batch id, as a producer made it.

    Attributes:
        rows: Rows, booked in their own hours. Resource ids contain batch, content and position: all rows differ.
        refused: Reason of refusal if the whole batch is refused, else empty.
        location: Object key in the message; empty if the message itself has the records.
        retries: For a retry: the original content, with the same records under another id; else None.
    """

    name: str
    batch_id: str
    content_hash: str
    sender_id: str
    rows: tuple[PlainRow, ...]
    refused: str = ""
    location: str = ""
    retries: SentContent | None = None

    @property
    def retry_of(self) -> str:
        return "" if self.retries is None else self.retries.batch_id


def retry_of(content: SentContent, way: str = "") -> SentContent:
    """A retry of a content, under a new id. A different `way` gives the retry a different id."""
    batch_id = f"retry:{content.name}{way}"
    return SentContent(
        name=batch_id,
        batch_id=batch_id,
        content_hash=content.content_hash,
        sender_id="operator",
        rows=tuple(row._replace(batch_id=batch_id) for row in content.rows),
        refused=content.refused,
        location=content.location,
        retries=content,
    )


class ContentReader:
    """A `BatchReader` of messages whose bodies are names of contents."""

    def __init__(self, objects: ObjectStore, contents: dict[str, SentContent]) -> None:
        self._objects = objects
        self._contents = contents

    def read(self, delivery: Delivery, *, admission: Admission, allowance: Allowance) -> BatchReading:
        content = self._contents.get(delivery.body)
        if content is None:
            return BatchReading(batches=(NoBatch(why="test event"),))
        if content.location:
            try:
                self._objects.get(content.location)
            except ObjectMissingError:
                return BatchReading(batches=(_refused(content, delivery, "object_missing", missing=True),))
        if content.refused:
            return BatchReading(batches=(_refused(content, delivery, content.refused),))
        reasons = [admission.refusal(row.start_s, delivery.sent_at_ms) for row in content.rows]
        if all(reasons):
            return BatchReading(batches=(_refused(content, delivery, str(reasons[0])),))
        return BatchReading(batches=(_decoded(content, delivery, reasons),))


def _refused(content: SentContent, delivery: Delivery, reason: str, *, missing: bool = False) -> RefusedBatch:
    return RefusedBatch(
        batch_id=content.batch_id,
        source_id="",
        sequence=None,
        sender_id=delivery.sender_id,
        # Unreadable records have no content hash, so the hash of the body is used instead.
        content_hash=f"body-{content.name}" if missing else content.content_hash,
        hash_version=0 if missing else 1,
        problems=((reason, ""),),
        records=len(content.rows),
        missing_object=missing,
        evidence=b"",
        retry_of=content.retry_of,
        object_key=content.location,
    )


def _decoded(content: SentContent, delivery: Delivery, reasons: Sequence[str | None]) -> DecodedBatch:
    rows = tuple(row for row, reason in zip(content.rows, reasons, strict=True) if reason is None)
    return DecodedBatch(
        batch_id=content.batch_id,
        source_id="",
        sequence=None,
        sender_id=delivery.sender_id,
        content_hash=content.content_hash,
        hash_version=1,
        records=len(content.rows),
        rows=rows,
        usage=plain_usage(rows),
        refused=tuple(
            RefusedRecord(position=position, reasons=((reason, ""),), raw=content.rows[position].resource_id)
            for position, reason in enumerate(reasons)
            if reason is not None
        ),
        decoded_bytes=100 * len(content.rows),
        retry_of=content.retry_of,
        object_key=content.location,
    )


ACCOUNTS = ("111111111111", "222222222222")
_TRAFFIC = (
    ("out", "us-west-2", "internet", "USW2-DataTransfer-Out-Bytes"),
    ("in", "internet", "us-west-2", "USW2-DataTransfer-In-Bytes"),
    ("out", "us-west-2", "us-east-1", "USW2-USE1-AWS-Out-Bytes"),
)
_SEND_MS = 15 * MINUTE_MS
DAY_MS = 24 * HOUR_MS


class Sending(NamedTuple):
    """One message: epoch, time since the epoch's start, content and sender."""

    epoch: int
    after_ms: int
    content: str
    sender_id: str


class Traffic:
    """The contents of a history, and their messages."""

    def __init__(
        self,
        chance: random.Random,
        now_s: int,
        *,
        batches: int,
        epochs: int,
        histogram: Counter[str],
        retries: random.Random,
        dropped: Collection[int] = (),
    ) -> None:
        self.contents: dict[str, SentContent] = {}
        self.sendings: list[Sending] = []
        self._chance = chance
        self._now_s = now_s
        self._epochs = epochs
        self._hours = self._make_hours()
        # Producers send in bursts, so that several messages share an invocation and several workers are busy at once.
        self._bursts_ms = [int(chance.random() * _SEND_MS) for _ in range(4)]
        for number in range(batches):
            before = len(self.contents), len(self.sendings)
            self._batch(number)
            if number in dropped:
                self._undo(*before)
        for content in list(self.contents.values()):
            # Most of these batches are in conflict; a few only claim to be, because any message can make this claim.
            share = 0.7 if f"{content.batch_id}.1" in self.contents else 0.04
            if retries.random() < share:
                self._retry(content, retry_of(content), retries)
                if retries.random() < 0.3:
                    self._retry(content, retry_of(content, ":again"), retries)
        self._count(histogram)

    def _make_hours(self) -> list[int]:
        own = hour_of(self._now_s)
        hours = [own, own, own, own - HOUR_S, own - self._chance.randrange(1, 4) * DAY_S]
        hours.append(own - self._chance.randrange(10, 34) * DAY_S)
        return hours

    def _batch(self, number: int) -> None:
        chance = self._chance
        batch_id = f"b{number}"
        sender = chance.choice(("S1", "S2"))
        kind = chance.random()
        refused = "count_mismatch" if kind < 0.04 else ""
        location = f"ingest/{batch_id}" if 0.04 <= kind < 0.12 else ""
        contents = [self._content(batch_id, 0, sender, refused=refused, location=location, wide=0.12 <= kind < 0.17)]
        if chance.random() < 0.12:
            contents.append(self._content(batch_id, 1, sender if chance.random() < 0.5 else "S3"))
        for content in contents:
            self.contents[content.name] = content
            self._send(content)

    def _content(
        self, batch_id: str, version: int, sender: str, *, refused: str = "", location: str = "", wide: bool = False
    ) -> SentContent:
        chance = self._chance
        name = f"{batch_id}.{version}"
        own = hour_of(self._now_s)
        if wide:
            starts = [own - HOUR_S * n for n in range(chance.randrange(6, 12))]
        else:
            starts = [self._start() for _ in range(1 + int(chance.random() * 3))]
        rows = tuple(self._row(name, batch_id, position, start_s) for position, start_s in enumerate(starts))
        return SentContent(
            name=name,
            batch_id=batch_id,
            content_hash=f"h-{name}",
            sender_id=sender,
            rows=rows,
            refused=refused,
            location=location,
        )

    def _start(self) -> int:
        chance = self._chance.random()
        if chance < 0.03:
            return self._now_s - 36 * DAY_S
        if chance < 0.05:
            return self._now_s + 2 * HOUR_S
        return self._hours[int(self._chance.random() * len(self._hours))] + int(self._chance.random() * 1000)

    def _row(self, name: str, batch_id: str, position: int, start_s: int) -> PlainRow:
        chance = self._chance
        direction, from_location, to_location, usage_type = _TRAFFIC[int(chance.random() * 3)]
        return PlainRow(
            hour_of(start_s),
            batch_id,
            f"{name}/{position}",
            ACCOUNTS[int(chance.random() * 2)],
            "AmazonEC2",
            direction,
            from_location,
            to_location,
            usage_type,
            # A third of the sizes are so large that the sum of two of them exceeds 2^63 (I8).
            2**62 + int(chance.random() * 1000) if chance.random() < 0.33 else int(chance.random() * 10**9),
            start_s,
        )

    def _send(self, content: SentContent) -> None:
        chance = self._chance
        epoch = 0 if chance.random() < 0.8 else int(chance.random() * self._epochs)
        first_ms = self._moment_ms()
        self.sendings.append(Sending(epoch, first_ms, content.name, content.sender_id))
        while chance.random() < 0.25:
            # A copy arrives soon, in a burst, or in a later epoch: after hours, days or weeks.
            later = epoch if chance.random() < 0.6 else int(chance.random() * self._epochs)
            after_ms = first_ms + int(chance.random() * 1000) if chance.random() < 0.5 else self._moment_ms()
            self.sendings.append(Sending(later, after_ms, content.name, content.sender_id))

    def _retry(self, content: SentContent, retry: SentContent, chance: random.Random) -> None:
        """Mix messages of a retry with copies under the original id, because such copies may still be in flight."""
        self.contents[retry.name] = retry
        for _ in range(1 + int(chance.random() * 3)):
            epoch = int(chance.random() * self._epochs)
            self.sendings.append(Sending(epoch, int(chance.random() * 2 * _SEND_MS), retry.name, retry.sender_id))
            if chance.random() < 0.5:
                # The content that was retried also arrives late, under its own id.
                later = epoch + int(chance.random() * (self._epochs - epoch))
                self.sendings.append(
                    Sending(later, int(chance.random() * 2 * _SEND_MS), content.name, content.sender_id)
                )

    def _moment_ms(self) -> int:
        return self._bursts_ms[int(self._chance.random() * 4)] + int(self._chance.random() * 300)

    def _undo(self, contents: int, sendings: int) -> None:
        for name in list(self.contents)[contents:]:
            del self.contents[name]
        del self.sendings[sendings:]

    def _count(self, histogram: Counter[str]) -> None:
        copies = len(self.sendings) - len({sending.content for sending in self.sendings})
        histogram["copy sent by the producer"] += copies
        histogram["other content under the same id"] += sum(name.endswith(".1") for name in self.contents)
        histogram["retry under another id"] += sum(each.retries is not None for each in self.contents.values())
        histogram["late record"] += sum(
            row.start_s < self._now_s - DAY_S for content in self.contents.values() for row in content.rows
        )
