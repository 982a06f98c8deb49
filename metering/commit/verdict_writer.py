"""Verdicts without metering: T-REJECT for an entirely refused batch, T-CONFLICT for other content under a used id.

Content that cannot be compared, because the marker of its id has no hash, is kept like a conflict (`unverified`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, cast

from metering import metric_names
from metering.commit.deduplication import Content, Copy, Match, Verdict, compare
from metering.errors import ConditionFailedError, LedgerCorruptError, ThrottledError, UnavailableError
from metering.intake.batches import Claim, DecodedBatch, NoBatch, RefusedBatch
from metering.ledger.markers import (
    Conflict,
    Marker,
    conflict_key,
    conflict_seen_item,
    conflicting,
    marker_key,
    rejected_marker,
)
from metering.quarantine.documents import UNVERIFIED, Kind, Problems, QuarantinedBatch
from metering.quarantine.retries import is_metered_claim
from metering.stores.writes import Absent, Item, ItemStore, Put, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.stores.clock import Alerts, Clock, Metrics, Retrier
    from metering.stores.objects import ObjectStore
    from metering.stores.queues import Delivery

_METRICS = {
    Verdict.ACCEPTED: metric_names.BATCHES_ACCEPTED,
    Verdict.DUPLICATE: metric_names.BATCHES_DUPLICATE,
    Verdict.CONFLICT: metric_names.BATCHES_CONFLICT,
    Verdict.UNVERIFIED: metric_names.BATCHES_UNVERIFIED,
    Verdict.REJECTED: metric_names.BATCHES_REJECTED,
    Verdict.NO_BATCH: metric_names.MESSAGES_WITHOUT_BATCH,
    Verdict.PUT_BACK: metric_names.MESSAGES_PUT_BACK,
}


class Tally:
    """Decides which messages return to the queue, and counts verdicts.

    It expects that each delivery is read, and that then each batch of the delivery gets a verdict. Batches without a
    verdict return to the queue, because a message may be deleted only after a durable verdict.

    Attributes:
        foreign_conflicts: New conflicts between contents of different senders.
        throttled: Whether a table lacked write or read capacity during this invocation.
    """

    def __init__(self, metrics: Metrics, deliveries: Sequence[Delivery]) -> None:
        self.counts: Counter[Verdict] = Counter()
        self.foreign_conflicts: list[Conflict] = []
        self.disallowed: list[QuarantinedBatch] = []
        self.throttled = False
        self._metrics = metrics
        self._corrupt: dict[str, None] = {}
        self._deliveries = tuple(deliveries)
        self._numbers = count()
        # Ticket -> message id, for tickets that have no verdict yet and for tickets that return to the queue.
        self._waiting: dict[int, str] = {}
        self._back: dict[int, str] = {}
        self._readings: dict[int, list[int]] = {}
        for delivery in self._deliveries:
            self._readings.setdefault(id(delivery), []).append(self._ticket(delivery))

    def read(self, delivery: Delivery, batches: Sequence[DecodedBatch | RefusedBatch | NoBatch]) -> list[Copy]:
        """Register the batches of a delivery; returns the copies that need a verdict. An empty delivery goes back."""
        copies = []
        for batch in batches:
            ticket = self._ticket(delivery)
            if isinstance(batch, NoBatch):
                self._note(ticket, Verdict.NO_BATCH)
            else:
                copies.append(Copy(delivery=delivery, batch=batch, ticket=ticket))
        if batches:
            del self._waiting[self._readings[id(delivery)].pop()]
        return copies

    def put_back(self, delivery: Delivery) -> None:
        """Record that a delivery was not read."""
        self._note(self._readings[id(delivery)].pop(), Verdict.PUT_BACK)

    @property
    def contradictions(self) -> tuple[str, ...]:
        """Contradictions in the ledger that an operator must examine, one sentence each."""
        return tuple(self._corrupt)

    def corrupt(self, error: LedgerCorruptError) -> None:
        """Record that the ledger contradicts the protocol."""
        self._corrupt[str(error)] = None
        self._metrics.count(metric_names.LEDGER_CORRUPT)

    def met(self, error: UnavailableError) -> None:
        """Record an error of a dependency, because the error determines when messages are redelivered."""
        self.throttled = self.throttled or isinstance(error, ThrottledError)

    def met_throttle(self) -> None:
        """Record that a table lacks write capacity."""
        self.throttled = True

    def settle(self, content: Content, verdict: Verdict) -> None:
        """Give a content its verdict. Further copies are duplicates, or return to the queue with the first copy."""
        content.verdict = verdict
        first, *others = content.copies
        self._note(first.ticket, verdict)
        for copy in others:
            self._note(copy.ticket, verdict if verdict is Verdict.PUT_BACK else Verdict.DUPLICATE)

    def close(self) -> tuple[str, ...]:
        """Ids, in order, of the messages that have a batch without a durable verdict."""
        for ticket in list(self._waiting):
            self._note(ticket, Verdict.PUT_BACK)
        back = set(self._back.values())
        return tuple(dict.fromkeys(each.message_id for each in self._deliveries if each.message_id in back))

    def _ticket(self, delivery: Delivery) -> int:
        ticket = next(self._numbers)
        self._waiting[ticket] = delivery.message_id
        return ticket

    def _note(self, ticket: int, verdict: Verdict) -> None:
        message_id = self._waiting.pop(ticket)
        if verdict is Verdict.PUT_BACK:
            self._back[ticket] = message_id
        self.counts[verdict] += 1
        self._metrics.count(_METRICS[verdict])


_CONFLICT_PROBLEMS = (("conflict", "other content was accepted under this batch id"),)
_UNVERIFIED_PROBLEMS = (
    (
        UNVERIFIED,
        "the content that was accepted under this batch id is no longer known, and its totals are not those of this "
        "one; if this one is not metered, send it under a new id: metering quarantine retry --as-new-id",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictWriter:
    """Writes the verdicts of batches that are not metered; only then are their messages acknowledged."""

    items: ItemStore
    objects: ObjectStore
    clock: Clock
    metrics: Metrics
    retrier: Retrier
    marker_life_s: int

    def reject(self, content: Content, batch: RefusedBatch, tally: Tally) -> Verdict:
        """Refuse a batch (T-REJECT). Returns the verdict, or PUT_BACK if the batch must wait."""
        try:
            if batch.claim is not None:
                return self._disallow(content, batch, batch.claim, tally)
            marker = self._marker(batch.batch_id) if batch.batch_id else None
            return self._decide(content, batch, marker, tally)
        except UnavailableError as error:
            tally.met(error)
            return Verdict.PUT_BACK

    def against(self, content: Content, marker: Marker, tally: Tally) -> Verdict:
        """Decide a content whose id already has a marker (the id is accepted, or the content is refused)."""
        match compare(marker, content.batch):
            case Match.SAME:
                return Verdict.DUPLICATE
            case Match.SAME_TOTALS:
                self.metrics.count(metric_names.DUPLICATES_UNVERIFIED)
                return Verdict.DUPLICATE
            case Match.INCOMPARABLE:
                return Verdict.PUT_BACK
            case Match.OTHER:
                verdict, problems = Verdict.CONFLICT, _CONFLICT_PROBLEMS
            case Match.UNVERIFIED:
                verdict, problems = Verdict.UNVERIFIED, _UNVERIFIED_PROBLEMS
        try:
            self._conflict(content, marker, problems, tally)
        except UnavailableError as error:
            tally.met(error)
            return Verdict.PUT_BACK
        return verdict

    def send_alert(self, alerts: Alerts, conflicts: Sequence[Conflict]) -> None:
        """Send one alert for all new conflicts between different senders in an invocation."""
        if not conflicts:
            return
        first = conflicts[0]
        fields: dict[str, str | int] = {
            "conflicts": len(conflicts),
            "batch_id": first.batch_id,
            "sender": first.sender_id,
            "first_sender": first.first_sender_id,
            "quarantine": first.quarantine_key,
        }
        try:
            alerts.send("ticket", "Batch ids are used by more than one sender", fields)
        except UnavailableError:
            self.metrics.count(metric_names.ALERTS_LOST)

    def _marker(self, batch_id: str) -> Marker | None:
        item = self.retrier.call(lambda: self.items.get(Table.LEDGER, marker_key(batch_id)))
        return None if item is None else Marker.from_item(item)

    def _disallow(self, content: Content, batch: RefusedBatch, claim: Claim, tally: Tally) -> Verdict:
        """Quarantine a batch that its sender may not send; nothing is written under the batch id that it claims.

        The batch is a duplicate only of a batch accepted from the same sender while that sender was allowed to send it.
        """
        marker = self._marker(claim.batch_id) if claim.batch_id else None
        if marker is not None and is_metered_claim(marker, claim, sender_id=batch.sender_id):
            return Verdict.DUPLICATE
        quarantined = _refused(content, batch)
        self._quarantine(quarantined)
        self.metrics.count(metric_names.REJECTED_BY_REASON, reason=batch.reason)
        tally.disallowed.append(quarantined)
        return Verdict.REJECTED

    def _decide(self, content: Content, batch: RefusedBatch, marker: Marker | None, tally: Tally) -> Verdict:
        # A batch with this verdict needs no second object in quarantine; the condition below decides for other batches.
        # If the content differs from the refused content, the batch is also a duplicate, but its content must be kept.
        if marker is not None and (marker.verdict == "accepted" or marker.content_hash == batch.content_hash):
            return self.against(content, marker, tally)
        quarantined = _refused(content, batch)
        self._quarantine(quarantined)
        if batch.batch_id:
            try:
                self._put_rejected(batch, quarantined.key)
            except ConditionFailedError as error:
                if error.existing is None:
                    raise LedgerCorruptError(f"marker of {batch.batch_id} exists, but was not returned") from error
                return self.against(content, Marker.from_item(cast("Item", error.existing)), tally)
        self.metrics.count(metric_names.REJECTED_BY_REASON, reason=batch.reason)
        return Verdict.REJECTED

    def _put_rejected(self, batch: RefusedBatch, quarantine_key: str) -> None:
        now_ms = self.clock.now_ms()
        expires_at_s = now_ms // 1000 + self.marker_life_s
        marker = rejected_marker(batch, quarantine_key, now_ms=now_ms, expires_at_s=expires_at_s)
        put = Put(table=Table.LEDGER, item=marker.to_item(), condition=Absent())
        self.retrier.call(lambda: self.items.put(put))

    def _conflict(self, content: Content, marker: Marker, problems: Problems, tally: Tally) -> None:
        batch = content.batch
        kept = _kept(content, batch, kind="conflict", problems=problems)
        quarantined = replace(kept, first_sender_id=marker.sender_id)
        self._quarantine(quarantined)
        conflict = conflicting(quarantined, quarantined.key, first_sender_id=marker.sender_id)
        # This read only prevents a second alert. The conflict is written unconditionally, with the same content.
        key = conflict_key(batch.batch_id, batch.content_hash)
        known = self.retrier.call(lambda: self.items.get(Table.LEDGER, key))
        if known is None:
            # The note is written before the conflict. If the worker dies in between, the next copy writes both.
            seen = conflict_seen_item(batch.batch_id, batch.content_hash, self.clock.now_ms() // 1000)
            self.retrier.call(lambda: self.items.put(Put(table=Table.LEDGER, item=seen)))
        put = Put(table=Table.LEDGER, item=conflict.to_item())
        self.retrier.call(lambda: self.items.put(put))
        # A rebuilt marker does not have its sender.
        if known is None and marker.content_hash is not None and batch.sender_id != marker.sender_id:
            self.metrics.count(metric_names.SENDER_CONFLICTS)
            tally.foreign_conflicts.append(conflict)

    def _quarantine(self, batch: QuarantinedBatch) -> None:
        body = batch.to_json()
        # Overwriting is safe: the key identifies batch and verdict, so every writer writes the same bytes.
        self.retrier.call(lambda: self.objects.put(batch.key, body, if_absent=False))


def _refused(content: Content, batch: RefusedBatch) -> QuarantinedBatch:
    evidence = batch.evidence.decode(errors="replace")
    kept = _kept(content, batch, kind="refused", problems=batch.problems)
    return replace(kept, evidence="" if evidence == kept.body else evidence, claim=batch.claim)


def _kept(content: Content, batch: DecodedBatch | RefusedBatch, *, kind: Kind, problems: Problems) -> QuarantinedBatch:
    return QuarantinedBatch(
        kind=kind,
        batch_id=batch.batch_id,
        content_hash=batch.content_hash,
        hash_version=batch.hash_version,
        problems=problems,
        source_id=batch.source_id,
        sequence=batch.sequence,
        sender_id=batch.sender_id,
        first_sender_id="",
        records=batch.records,
        body=content.delivery.body,
        evidence="",
    )
