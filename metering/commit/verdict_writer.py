"""Verdicts without metering: T-REJECT for a batch that is refused whole, T-CONFLICT for other content under an id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from metering import metric_names
from metering.commit.verdicts import Match, Verdict, compare
from metering.errors import ConditionFailedError, LedgerCorruptError, UnavailableError
from metering.ledger.conflicts import Conflict, conflict_key, conflict_seen_item
from metering.ledger.markers import Marker, marker_key
from metering.quarantine.disallowed import is_metered_claim
from metering.quarantine.documents import QuarantinedBatch
from metering.stores.writes import Absent, Put, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.commit.deduplication import Content
    from metering.commit.tally import Tally
    from metering.intake.batches import Claim, RefusedBatch
    from metering.stores.clock import Clock
    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectStore
    from metering.stores.retrying import Retrier
    from metering.stores.telemetry import Alerts, Metrics
    from metering.stores.writes import Item

_CONFLICT_PROBLEMS = (("conflict", "other content was accepted under this batch id"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictWriter:
    """Writes the verdicts of batches that are not metered, before their delivery may be acknowledged."""

    items: ItemStore
    objects: ObjectStore
    clock: Clock
    metrics: Metrics
    retrier: Retrier
    marker_life_s: int

    def reject(self, content: Content, batch: RefusedBatch, tally: Tally) -> Verdict:
        """Refuse a batch (T-REJECT). Returns its verdict, or PUT_BACK if it has none now."""
        try:
            if batch.claim is not None:
                return self._disallow(content, batch, batch.claim, tally)
            marker = self._marker(batch.batch_id) if batch.batch_id else None
            return self._decide(content, batch, marker, tally)
        except UnavailableError as error:
            tally.met(error)
            return Verdict.PUT_BACK

    def against(self, content: Content, marker: Marker, tally: Tally) -> Verdict:
        """Decide a content whose id has a marker already (accepted, or the content is a refused one)."""
        match compare(marker, content.batch):
            case Match.SAME:
                return Verdict.DUPLICATE
            case Match.UNVERIFIED:
                self.metrics.count(metric_names.DUPLICATES_UNVERIFIED)
                return Verdict.DUPLICATE
            case Match.INCOMPARABLE:
                return Verdict.PUT_BACK
        try:
            self._conflict(content, marker, tally)
        except UnavailableError as error:
            tally.met(error)
            return Verdict.PUT_BACK
        return Verdict.CONFLICT

    def send_alert(self, alerts: Alerts, conflicts: Sequence[Conflict]) -> None:
        """Tell people of an invocation's new conflicts between different senders, in one alert for all of them."""
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
        """Keep a batch that its sender may not send, and write nothing under the id that it claims.

        Only a copy of what was accepted of this very sender, when it was allowed, is a duplicate.
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
        # A batch that has its verdict needs no second object in quarantine; the condition below decides for the others.
        # Content that differs from the content refused before is a duplicate, too, but it has to be kept.
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
            expires_at_s=now_ms // 1000 + self.marker_life_s,
            reason=batch.reason,
            quarantine_key=quarantine_key,
        )
        put = Put(table=Table.LEDGER, item=marker.to_item(), condition=Absent())
        self.retrier.call(lambda: self.items.put(put))

    def _conflict(self, content: Content, marker: Marker, tally: Tally) -> None:
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
        # This read only keeps the alert from coming twice. The conflict is written unconditionally, with the same
        # content.
        key = conflict_key(batch.batch_id, batch.content_hash)
        known = self.retrier.call(lambda: self.items.get(Table.LEDGER, key))
        if known is None:
            # The note goes before the conflict. If the worker dies in between, the next copy writes both.
            seen = conflict_seen_item(batch.batch_id, batch.content_hash, self.clock.now_ms() // 1000)
            self.retrier.call(lambda: self.items.put(Put(table=Table.LEDGER, item=seen)))
        put = Put(table=Table.LEDGER, item=conflict.to_item())
        self.retrier.call(lambda: self.items.put(put))
        if known is None and batch.sender_id != marker.sender_id:
            self.metrics.count(metric_names.SENDER_CONFLICTS)
            tally.foreign_conflicts.append(conflict)

    def _quarantine(self, batch: QuarantinedBatch) -> None:
        body = batch.encode()
        # Overwriting is safe: the key is the batch's identity, so every writer writes the same batch.
        self.retrier.call(lambda: self.objects.put(batch.key, body, if_absent=False))


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
        claim=batch.claim,
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
