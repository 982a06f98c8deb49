"""Dead letters: the reason of each, the effect that a redrive would have, and the redrive itself.

A redrive can be killed at any moment and repeated safely. A message is sent before it is deleted, and a batch that
arrives twice is counted once, because its id is the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

from metering.commit.deduplication import Match, compare
from metering.errors import OperationFailedError, OutOfTimeError, UnavailableError
from metering.intake import senders
from metering.intake.batches import Allowance, BatchReader, DecodedBatch, NoBatch, RefusedBatch
from metering.intake.envelopes import Announced, CreatedObject, glance, read_announcements
from metering.ledger.markers import Marker, marker_key
from metering.onramps import plans
from metering.onramps.sources import LogSource, source_of
from metering.stores import writes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from metering.intake.admission import Admission
    from metering.intake.dropped import DropIds
    from metering.intake.messages import BatchMessage
    from metering.onramps import arrivals, kinds, reading
    from metering.stores.clock import Clock
    from metering.stores.objects import ObjectStore
    from metering.stores.queues import Delivery, Queue, ReceivedMessage

_Seen = TypeVar("_Seen")

_BATCH = 10
# Long enough to look at a page of messages, and short enough that a killed run does not hide these messages for long.
_HIDDEN_S = 60
_HIDDEN_MOST_S = 3_600
# A queue counts as empty after this many consecutive receives without a message.
_EMPTY_RECEIVES = 3


class RedriveEffect(StrEnum):
    """The effect if one dead letter were redriven now."""

    METER = "meter"
    METER_IN_PART = "meter in part"
    REFUSE = "refuse"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    METER_NOTHING = "meter nothing"
    """The id is metered. The records were not read, so it is a duplicate or a conflict."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """Message in the dead-letter queue.

    Attributes:
        batch_id: Empty if no batch id can be read.
        why: Most likely reason why the message became a dead letter, in one sentence.
        effect: Effect of a redrive at this time.
        records: 0 if unknown.
        admitted_until_s: Epoch second until which a redrive meters every record that could be metered now; None if no
            record can be metered, or if unknown.
        kept_until_s: Epoch second at which the queue's retention of the message ends. Redrive the message before then.
    """

    message_id: str
    batch_id: str
    source_id: str = ""
    sent_at_s: int
    receives: int
    why: str
    effect: RedriveEffect
    records: int = 0
    admitted_until_s: int | None = None
    kept_until_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Redriven:
    """Outcome of a redrive.

    Attributes:
        task: Handle of SQS's message move task; None if this process moved the messages.
        moved: Messages that this process redrove. Messages moved by a task are counted only in `waiting`.
        waiting: Approximate number of dead letters when the redrive began.
        kept: Messages that the ingest queue did not accept. They stay dead letters.
    """

    task: str | None
    moved: int
    waiting: int
    kept: int = 0


def peek(dead: Queue, look: Callable[[Delivery], _Seen], *, limit: int, look_s: int = 0) -> list[_Seen]:
    """Inspect up to `limit` messages of a dead-letter queue. Messages stay in the queue, hidden only during the call.

    `look` may take `look_s` seconds for each message.
    """
    seen: dict[str, ReceivedMessage] = {}
    waiting = dead.depth().total
    hidden_s = min(_HIDDEN_S + limit * look_s, _HIDDEN_MOST_S)
    empty = 0
    try:
        # SQS's message count is approximate.
        while len(seen) < limit and empty < (_EMPTY_RECEIVES if len(seen) < waiting else 1):
            received = dead.receive(min(_BATCH, limit - len(seen)), wait_s=1, visibility_s=hidden_s)
            fresh = {m.delivery.message_id: m for m in received if m.delivery.message_id not in seen}
            seen.update({m.delivery.message_id: m for m in received})
            empty = 0 if fresh else empty + 1
        return [look(message.delivery) for message in seen.values()]
    finally:
        if seen:
            dead.release([message.receipt for message in seen.values()])


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetters:
    """Lists and redrives the dead letters of a region.

    Attributes:
        drops: Batch ids of the objects that letters announce.
        retention_s: Retention of the dead-letter queue, counted from when a message was first sent.
        services: The service's own senders, in a stage with registered producers: a redrive then states each message's
            original sender, unlike a move by SQS. None if senders are not checked.
    """

    dead: Queue
    ingest: Queue
    reader: BatchReader
    items: writes.ItemStore
    clock: Clock
    admission: Admission
    drops: DropIds
    retention_s: int
    services: senders.ServiceSenders | None = None

    def letters(
        self, *, limit: int, look: Callable[[Delivery], DeadLetter] | None = None, look_s: int = 0
    ) -> list[DeadLetter]:
        """Inspect up to `limit` dead letters by `peek`, oldest first. If `look` is None, use `glance`."""
        letters = peek(self.dead, look or self.glance, limit=limit, look_s=look_s)
        return sorted(letters, key=lambda letter: letter.sent_at_s)

    def waiting(self) -> int:
        """Approximate number of dead letters."""
        return self.dead.depth().total

    def redrive(
        self, *, maximum: int | None = None, per_s: int | None = None, dry_run: bool = False, by_hand: bool = False
    ) -> Redriven:
        """Redrive dead letters to the ingest queue.

        Args:
            maximum: Maximum number of messages to redrive; None for all that were dead letters at the start.
            per_s: Maximum number of messages to redrive each second.
            dry_run: Count only.
            by_hand: Receive, send and delete in this process, even if SQS could move the messages.

        Raises:
            OperationFailedError: `maximum` or `per_s` is not positive.
        """
        if (maximum is not None and maximum < 1) or (per_s is not None and per_s < 1):
            raise OperationFailedError("A redrive needs a maximum and a rate of at least 1.")
        waiting = self.waiting()
        if dry_run or waiting == 0:
            return Redriven(task=None, moved=0, waiting=waiting)
        # SQS's own redrive task has no maximum, moves all messages, and sends them in SQS's name.
        if maximum is None and not by_hand and self.services is None:
            task = self.dead.start_redrive(max_per_s=min(per_s or 500, 500))
            if task is not None:
                return Redriven(task=task, moved=0, waiting=waiting)
        moved = kept = 0
        for page in self._pages(maximum):
            unsent = self._move(page)
            kept += unsent
            moved += len(page) - unsent
            if per_s is not None:
                self.clock.sleep_ms(len(page) * 1000 // per_s)
        return Redriven(task=None, moved=moved, waiting=waiting, kept=kept)

    def _pages(self, maximum: int | None) -> Iterator[list[ReceivedMessage]]:
        """Pages of dead letters that precede the redrive. A message that fails again is not redriven again."""
        began_ms = self.clock.now_ms()
        left = maximum
        empty = 0
        while empty < _EMPTY_RECEIVES and left != 0:
            size = _BATCH if left is None else min(_BATCH, left)
            received = self.dead.receive(size, wait_s=1, visibility_s=_HIDDEN_S)
            page = [message for message in received if message.delivery.sent_at_ms < began_ms]
            self._release([message for message in received if message not in page])
            empty = 0 if page else empty + 1
            if page:
                left = None if left is None else left - len(page)
                yield page

    def _move(self, page: list[ReceivedMessage]) -> int:
        unsent = set(
            self.ingest.send_many(
                [message.delivery.body for message in page],
                original_senders=[self._first_sender(message.delivery) for message in page],
            )
        )
        # A message is deleted only after its resend: a kill in between leaves it in both queues, but it counts once.
        self.dead.delete_many([message.receipt for at, message in enumerate(page) if at not in unsent])
        self._release([message for at, message in enumerate(page) if at in unsent])
        return len(unsent)

    def _first_sender(self, delivery: Delivery) -> str:
        return "" if self.services is None else senders.statement(senders.judged_sender(delivery, self.services))

    def _release(self, messages: list[ReceivedMessage]) -> None:
        if messages:
            self.dead.release([message.receipt for message in messages])

    def glance(self, delivery: Delivery) -> DeadLetter:
        """Describe a dead letter without reading its records, because reading may have crashed earlier workers."""
        message = glance(delivery.body, bucket=self.drops.bucket)
        batch_id = "" if isinstance(message, NoBatch | None) else self.drops.of_message(message)
        effect, why = _at_a_glance(message, self._marker(batch_id))
        letter = self._letter(delivery, batch_id=batch_id, effect=effect, why=why)
        if isinstance(message, NoBatch | None):
            return letter
        return replace(letter, source_id=message.source_id, records=message.record_count or 0)

    def examine(self, delivery: Delivery, allowance: Allowance) -> DeadLetter:
        """Find a redrive's effect by reading the message as a worker would. The process may crash, like a worker."""
        batch, why = self._read(delivery, allowance)
        batch_id = "" if isinstance(batch, NoBatch | None) else batch.batch_id
        marker = self._marker(batch_id)
        until_s: int | None = None
        if marker is not None and marker.verdict == "accepted":
            effect, why = _of_metered(marker, batch)
        elif isinstance(batch, DecodedBatch):
            effect = RedriveEffect.METER_IN_PART if batch.refused else RedriveEffect.METER
            until_s = self._admitted_until(batch)
        else:
            effect = RedriveEffect.UNKNOWN if batch is None else RedriveEffect.REFUSE
        letter = self._letter(delivery, batch_id=batch_id, effect=effect, why=why)
        if isinstance(batch, NoBatch | None):
            return letter
        return replace(letter, source_id=batch.source_id, records=batch.records, admitted_until_s=until_s)

    def _letter(self, delivery: Delivery, *, batch_id: str, effect: RedriveEffect, why: str) -> DeadLetter:
        """Make a `DeadLetter` from the facts that every delivery has."""
        sent_at_s = delivery.sent_at_ms // 1000
        return DeadLetter(
            message_id=delivery.message_id,
            batch_id=batch_id,
            sent_at_s=sent_at_s,
            receives=delivery.receive_count,
            why=why,
            effect=effect,
            kept_until_s=sent_at_s + self.retention_s,
        )

    def _read(
        self, delivery: Delivery, allowance: Allowance
    ) -> tuple[DecodedBatch | RefusedBatch | NoBatch | None, str]:
        # A redrive would now send the message.
        resent = replace(delivery, sent_at_ms=self.clock.now_ms(), receive_count=1)
        try:
            batches = self.reader.read(resent, admission=self.admission, allowance=allowance).batches
        except OutOfTimeError:
            return None, "It takes too long to read here; a worker refuses it if it takes too long there."
        except UnavailableError as error:
            return None, f"Its object cannot be read: {error}."
        batch = batches[0] if batches else NoBatch(why="it announces no object")
        if isinstance(batch, RefusedBatch):
            return batch, f"Not settled in time; it would now be refused: {batch.reason} ({batch.problems[0][1]})."
        if isinstance(batch, NoBatch):
            return batch, f"It is no batch: {batch.why}."
        return batch, "It can be read and metered: its workers failed, were throttled or ran out of time."

    def _marker(self, batch_id: str) -> Marker | None:
        return writes.read_note(self.items, marker_key(batch_id), Marker.from_item) if batch_id else None

    def _admitted_until(self, batch: DecodedBatch) -> int | None:
        # No record starts before its own hour, so this time is never too late.
        hours = [key.hour_s for key in batch.usage]
        return min(hours) + self.admission.window_s if hours else None


def _at_a_glance(message: BatchMessage | NoBatch | None, marker: Marker | None) -> tuple[RedriveEffect, str]:
    """Effect of a redrive and reason of the failure, as far as message and marker show."""
    if message is None:
        return RedriveEffect.UNKNOWN, "Its message takes a closer look; --deep reads it."
    if isinstance(message, NoBatch):
        return RedriveEffect.REFUSE, f"It is no batch: {message.why}."
    if marker is not None and marker.verdict == "accepted":
        return RedriveEffect.METER_NOTHING, "Its id is metered; --deep tells whether this is a copy or other content."
    if message.problems:
        reason, detail = message.problems[0]
        return RedriveEffect.REFUSE, f"Not settled in time; it would now be refused: {reason} ({detail})."
    if marker is not None:
        return (
            RedriveEffect.UNKNOWN,
            f"It was refused before ({marker.reason}); --deep tells whether it would be again.",
        )
    return RedriveEffect.UNKNOWN, "Its workers failed, were throttled or ran out of time; --deep reads it."


_KEPT = (Match.OTHER, Match.UNVERIFIED)


def _of_metered(marker: Marker, batch: DecodedBatch | RefusedBatch | NoBatch | None) -> tuple[RedriveEffect, str]:
    """Effect of redriving a message whose batch id is metered, and the reason of its failure."""
    if isinstance(batch, DecodedBatch | RefusedBatch) and compare(marker, batch) in _KEPT:
        return RedriveEffect.CONFLICT, "Other content is metered under its id; a redrive keeps this one in quarantine."
    return RedriveEffect.DUPLICATE, "Its batch is metered already; this is another copy of it."


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLogFile:
    """A log file whose event failed each time it was received.

    Attributes:
        file: Location, `s3://bucket/key`; empty if the event names no file.
        log_source: The file's log source; empty if no log source contains the file.
        why: Most likely reason why the event became a dead letter, in one sentence.
        age_s: Seconds since S3 announced the file.
        kept_until_s: Epoch second at which the queue's retention of the event ends. The log file stays in its bucket.
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
    """Lists a region's dead letters of log files.

    Attributes:
        dead: Dead-letter queue of log files.
        sources: Log sources of the region.
        recognise: Returns the log kind whose form a key matches, and facts from the key; None if no kind matches.
        objects: The region's data bucket.
        contexts: Contexts by which a log's traffic is classified.
        retention_s: Retention of the queue, counted from when an event was first sent.
    """

    dead: Queue
    sources: Sequence[LogSource]
    recognise: Callable[[str], tuple[kinds.LogKind, reading.FileName] | None]
    objects: ObjectStore
    contexts: arrivals.NewestContext
    clock: Clock
    retention_s: int

    def files(self, *, limit: int) -> list[DeadLogFile]:
        """Inspect up to `limit` events, oldest first. Events stay in the queue, and are invisible only during the call.

        An event about several files yields one `DeadLogFile` for each file.
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
        if name.identity and self.objects.head(plans.plan_key(kind.name, name.source, name.slot_s, name.identity)):
            return "It has a plan: a redrive finishes what it began, and counts nothing twice."
        context = self.contexts.newest()
        if lacking := kind.lacks(context):
            return f"No context that {lacking} is captured yet; metering context capture makes one."
        if context is None and source.bills_organization:
            return "No context that names the accounts is captured yet; metering context capture makes one."
        return "Its function failed, or its bucket or key gave no answer; metering errors onramp names the error."
