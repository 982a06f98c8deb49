"""Verdicts without metering: T-REJECT for a batch that is refused whole, T-CONFLICT for other content under an id."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from metering import metric_names
from metering.commit.verdicts import Match, Verdict, compare
from metering.errors import ConditionFailedError, LedgerCorruptError, UnavailableError
from metering.ledger.conflicts import Conflict, conflict_key, conflict_seen_item
from metering.ledger.markers import Marker, marker_key
from metering.quarantine.documents import QuarantinedBatch
from metering.stores.writes import Absent, Put, Table

if TYPE_CHECKING:
    from metering.commit.deduplication import Content
    from metering.intake.batches import RefusedBatch
    from metering.stores.clock import Clock
    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectStore
    from metering.stores.retrying import Retrier
    from metering.stores.telemetry import Alerts, Metrics
    from metering.stores.writes import Item

_CONFLICT_PROBLEMS = (("conflict", "other content was accepted under this batch id"),)


class VerdictWriter:
    """Keeps what is not metered, durably, before its delivery may be acknowledged."""

    def __init__(
        self,
        *,
        items: ItemStore,
        objects: ObjectStore,
        clock: Clock,
        metrics: Metrics,
        retrier: Retrier,
        marker_life_s: int,
    ) -> None:
        self._items = items
        self._objects = objects
        self._clock = clock
        self._metrics = metrics
        self._retrier = retrier
        self._marker_life_s = marker_life_s
        self._foreign: list[Conflict] = []

    def reject(self, content: Content, batch: RefusedBatch) -> Verdict:
        """T-REJECT: the batch's verdict, or PUT_BACK if it has none now."""
        try:
            marker = self._marker(batch) if batch.batch_id else None
            return self._decide(content, batch, marker)
        except UnavailableError:
            return Verdict.PUT_BACK

    def against(self, content: Content, marker: Marker) -> Verdict:
        """The verdict of a content whose id has its marker already (accepted, or it is a refused one)."""
        match compare(marker, content.batch):
            case Match.SAME:
                return Verdict.DUPLICATE
            case Match.UNVERIFIED:
                self._metrics.count(metric_names.DUPLICATES_UNVERIFIED)
                return Verdict.DUPLICATE
            case Match.INCOMPARABLE:
                return Verdict.PUT_BACK
        try:
            self._conflict(content, marker)
        except UnavailableError:
            return Verdict.PUT_BACK
        return Verdict.CONFLICT

    def send_alert(self, alerts: Alerts) -> None:
        """Tell people of new conflicts between different senders: one alert an invocation, however many there are."""
        if not self._foreign:
            return
        first = self._foreign[0]
        fields: dict[str, str | int] = {
            "conflicts": len(self._foreign),
            "batch_id": first.batch_id,
            "sender": first.sender_id,
            "first_sender": first.first_sender_id,
            "quarantine": first.quarantine_key,
        }
        self._foreign.clear()
        try:
            alerts.send("ticket", "Batch ids are used by more than one sender", fields)
        except UnavailableError:
            self._metrics.count(metric_names.ALERTS_LOST)

    def _marker(self, batch: RefusedBatch) -> Marker | None:
        item = self._retrier.call(lambda: self._items.get(Table.LEDGER, marker_key(batch.batch_id)))
        return None if item is None else Marker.from_item(item)

    def _decide(self, content: Content, batch: RefusedBatch, marker: Marker | None) -> Verdict:
        # What has its verdict needs no second object in quarantine; the condition below decides for the rest. Other
        # content than what was refused before is a duplicate too, but it has to be kept.
        if marker is not None and (marker.verdict == "accepted" or marker.content_hash == batch.content_hash):
            return self.against(content, marker)
        quarantined = _refused(content, batch)
        self._quarantine(quarantined)
        if batch.batch_id:
            try:
                self._put_rejected(batch, quarantined.key)
            except ConditionFailedError as error:
                if error.existing is None:
                    raise LedgerCorruptError(f"marker of {batch.batch_id} exists, but was not returned") from error
                return self.against(content, Marker.from_item(cast("Item", error.existing)))
        self._metrics.count(metric_names.REJECTED_BY_REASON, reason=batch.reason)
        return Verdict.REJECTED

    def _put_rejected(self, batch: RefusedBatch, quarantine_key: str) -> None:
        now_ms = self._clock.now_ms()
        marker = Marker(
            batch_id=batch.batch_id,
            verdict="rejected",
            content_hash=batch.content_hash,
            hash_version=batch.hash_version,
            commit_id="",
            source_id=batch.source_id,
            sequence=batch.sequence,
            sender_id=batch.sender_id,
            records=batch.records,
            metered=0,
            refused=batch.records,
            hours={},
            decided_at_ms=now_ms,
            expires_at_s=now_ms // 1000 + self._marker_life_s,
            reason=batch.reason,
            quarantine_key=quarantine_key,
        )
        put = Put(table=Table.LEDGER, item=marker.to_item(), condition=Absent())
        self._retrier.call(lambda: self._items.put(put))

    def _conflict(self, content: Content, marker: Marker) -> None:
        batch = content.batch
        quarantined = _conflicting(content, marker)
        self._quarantine(quarantined)
        conflict = Conflict(
            batch_id=batch.batch_id,
            content_hash=batch.content_hash,
            hash_version=batch.hash_version,
            quarantine_key=quarantined.key,
            sender_id=batch.sender_id,
            first_sender_id=marker.sender_id,
            records=batch.records,
        )
        # Only to tell people once: the write of the conflict is unconditional, its content is always the same.
        key = conflict_key(batch.batch_id, batch.content_hash)
        known = self._retrier.call(lambda: self._items.get(Table.LEDGER, key))
        if known is None:
            # Before the conflict itself: killed in between, the next copy writes both.
            seen = conflict_seen_item(batch.batch_id, batch.content_hash, self._clock.now_ms() // 1000)
            self._retrier.call(lambda: self._items.put(Put(table=Table.LEDGER, item=seen)))
        put = Put(table=Table.LEDGER, item=conflict.to_item())
        self._retrier.call(lambda: self._items.put(put))
        if known is None and batch.sender_id != marker.sender_id:
            self._metrics.count(metric_names.SENDER_CONFLICTS)
            self._foreign.append(conflict)

    def _quarantine(self, batch: QuarantinedBatch) -> None:
        body = batch.encode()
        # Overwritten: named by identity, it is the same batch whoever writes it, and however often.
        self._retrier.call(lambda: self._objects.put(batch.key, body, if_absent=False))


def _refused(content: Content, batch: RefusedBatch) -> QuarantinedBatch:
    evidence = batch.evidence.decode(errors="replace")
    body = content.delivery.body
    return QuarantinedBatch(
        kind="refused",
        batch_id=batch.batch_id,
        content_hash=batch.content_hash,
        hash_version=batch.hash_version,
        problems=batch.problems,
        source_id=batch.source_id,
        sequence=batch.sequence,
        sender_id=batch.sender_id,
        first_sender_id="",
        records=batch.records,
        body=body,
        evidence="" if evidence == body else evidence,
    )


def _conflicting(content: Content, marker: Marker) -> QuarantinedBatch:
    batch = content.batch
    return QuarantinedBatch(
        kind="conflict",
        batch_id=batch.batch_id,
        content_hash=batch.content_hash,
        hash_version=batch.hash_version,
        problems=_CONFLICT_PROBLEMS,
        source_id=batch.source_id,
        sequence=batch.sequence,
        sender_id=batch.sender_id,
        first_sender_id=marker.sender_id,
        records=batch.records,
        body=content.delivery.body,
        evidence="",
    )
