"""Batches that their senders may not send: whether one was metered when its sender still might, and their alerts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering import metric_names
from metering.errors import UnavailableError
from metering.intake.senders.producers import role_of
from metering.ledger.notes.producers import refused_sender_item, refused_sender_key
from metering.stores.writes import Put, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.intake.batches import Claim
    from metering.ledger.markers import Marker
    from metering.quarantine.documents import QuarantinedBatch
    from metering.stores.clock import Clock
    from metering.stores.items import ItemStore
    from metering.stores.telemetry import Alerts, Metrics


def is_metered_claim(marker: Marker, claim: Claim, *, sender_id: str) -> bool:
    """Whether the batch of a claim is the one of a marker, from the same sender, and metered.

    Another sender's copy is none: it is refused, although nothing would be metered of it.

    Args:
        marker: Marker of the id that is claimed.
        claim: The claim.
        sender_id: Who sent it, or whom an operator states.
    """
    return (
        marker.verdict == "accepted"
        and role_of(marker.sender_id) == role_of(sender_id)
        and marker.hash_version == claim.hash_version
        and marker.content_hash == claim.content_hash
    )


def not_metered(batch: QuarantinedBatch) -> str:
    """What became of a batch of which nothing is metered, in words: with the id that a foreign sender claimed."""
    claimed = batch.claim.batch_id if batch.claim is not None else ""
    return f"not metered; it claimed {claimed}" if claimed else "not metered"


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderAlerts:
    """Tells people of refused senders. What cannot be told is counted: the batches are in quarantine all the same."""

    items: ItemStore
    clock: Clock
    metrics: Metrics
    alerts: Alerts

    def tell(self, refused: Sequence[QuarantinedBatch]) -> None:
        """Tell of the senders of an invocation's refused batches, unless people were told in this hour."""
        by_role: dict[str, list[QuarantinedBatch]] = {}
        for batch in refused:
            by_role.setdefault(role_of(batch.sender_id), []).append(batch)
        for batches in by_role.values():
            self.metrics.count(metric_names.SENDERS_NOT_ALLOWED, len(batches))
            try:
                self._tell(batches)
            except UnavailableError:
                self.metrics.count(metric_names.ALERTS_LOST)

    def _tell(self, batches: Sequence[QuarantinedBatch]) -> None:
        first = batches[0]
        now_s = self.clock.now_ms() // 1000
        if self.items.get(Table.LEDGER, refused_sender_key(first.sender_id, now_s)) is not None:
            return
        fields: dict[str, str | int] = {
            "sender": first.sender_id,
            "batches": len(batches),
            "claimed_batch_id": first.claim.batch_id if first.claim else "",
            "why": "; ".join(detail for _, detail in first.problems),
            "quarantine": first.key,
        }
        self.alerts.send("ticket", "A sender sent what it may not send", fields)
        # The note follows the alert: if the worker dies in between, people are told twice, and never not at all.
        self.items.put(Put(table=Table.LEDGER, item=refused_sender_item(first.sender_id, now_s)))
