"""Dead letters of log files: which file each is about, and what is known of it without reading the file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.intake.batches import NoBatch
from metering.intake.envelopes import read_announcements
from metering.intake.notifications import CreatedObject
from metering.onramps.plans import plan_key
from metering.onramps.sources import source_of
from metering.operations.dead_letters import peek

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from metering.intake.notifications import Announced
    from metering.onramps.arrivals import NewestContext
    from metering.onramps.kinds import LogKind
    from metering.onramps.names import FileName
    from metering.onramps.sources import LogSource
    from metering.stores.clock import Clock
    from metering.stores.deliveries import Delivery
    from metering.stores.objects import ObjectStore
    from metering.stores.queues import Queue


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLogFile:
    """A log file whose event failed each time it was received.

    Attributes:
        file: Where it lies, `s3://bucket/key`; empty if the event names no file.
        log_source: The log source that it lies in; empty if in none.
        why: Best known reason that its event is there, in one sentence.
        age_s: Seconds since S3 announced the file.
        kept_until_s: Epoch second at which the queue drops the event. The file itself stays in its bucket.
    """

    file: str
    log_source: str
    why: str
    sent_at_s: int
    age_s: int
    receives: int
    kept_until_s: int
    message_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLogFiles:
    """Lists the dead letters of log files of a region.

    Attributes:
        dead: Dead-letter queue of log files.
        sources: Log sources of the region.
        recognise: Kind of log that a key is named like, and what its name says; None if it is like none.
        objects: The region's data bucket.
        contexts: What logs are judged by.
        retention_s: Time that the queue keeps an event, counted from when it was first sent.
    """

    dead: Queue
    sources: Sequence[LogSource]
    recognise: Callable[[str], tuple[LogKind, FileName] | None]
    objects: ObjectStore
    contexts: NewestContext
    clock: Clock
    retention_s: int

    def files(self, *, limit: int) -> list[DeadLogFile]:
        """Look at up to `limit` events, oldest first. They stay in the queue, and are hidden only meanwhile.

        An event that announces several files has a row for each.
        """
        now_s = self.clock.now_ms() // 1000

        def rows_of(delivery: Delivery) -> list[DeadLogFile]:
            return [self._row(delivery, found, now_s) for found in read_announcements(delivery.body)]

        rows = [row for each in peek(self.dead, rows_of, limit=limit) for row in each]
        return sorted(rows, key=lambda row: row.sent_at_s)

    def _row(self, delivery: Delivery, found: Announced, now_s: int) -> DeadLogFile:
        file = source = ""
        if isinstance(found, CreatedObject):
            file, named = f"s3://{found.bucket}/{found.key}", source_of(self.sources, found.bucket, found.key)
            source, why = ("" if named is None else named.name), self._why(found, named)
        elif isinstance(found, NoBatch):
            why = f"It is about no log file: {found.why}."
        else:
            why = f"Its event cannot be read: {': '.join(found)}."
        sent_at_s = delivery.sent_at_ms // 1000
        return DeadLogFile(
            file=file,
            log_source=source,
            why=why,
            sent_at_s=sent_at_s,
            age_s=now_s - sent_at_s,
            receives=delivery.receive_count,
            kept_until_s=sent_at_s + self.retention_s,
            message_id=delivery.message_id,
        )

    def _why(self, found: CreatedObject, source: LogSource | None) -> str:
        if source is None:
            return "It lies in no log source of this region any more, so a redrive would refuse it."
        recognised = self.recognise(found.key)
        if recognised is None:
            return "Its name is that of no log; its function failed, or its bucket gave no answer."
        kind, name = recognised
        if kind.name not in source.kinds:
            return f"Its kind is {kind.name}, and {source.name} does not take such logs; a redrive would refuse it."
        if name.identity and self.objects.head(plan_key(kind.name, name.source, name.slot_s, name.identity)):
            return "It has a plan: a redrive finishes what it began, and counts nothing twice."
        context = self.contexts.newest()
        if lacking := kind.lacks(context):
            return f"No context that {lacking} is captured yet; metering context capture makes one."
        if context is None and source.bills_organization:
            return "No context that names the accounts is captured yet; metering context capture makes one."
        return "Its function failed, or its bucket or key gave no answer; metering errors onramp names the error."
