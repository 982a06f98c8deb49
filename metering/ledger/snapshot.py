"""Snapshot of the verdicts of the whole ledger: markers and conflicts. For verification, never for the hot path."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from metering.ledger.conflicts import conflict_named, is_conflict
from metering.ledger.markers import Marker, is_marker, partition_of_batch
from metering.stores.writes import Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from metering.stores.items import ItemStore
    from metering.stores.writes import Item


@dataclass(slots=True, kw_only=True)
class LedgerFacts:
    """The ledger as one scan found it. It is exact if nothing is committed meanwhile.

    Attributes:
        markers: By batch id.
        conflicts: Batch id -> hashes of the contents that came too late under it.
    """

    markers: dict[str, Marker] = field(default_factory=dict)
    conflicts: dict[str, set[str]] = field(default_factory=dict)

    def add(self, item: Item) -> None:
        """Take in one item of the ledger."""
        if is_marker(item):
            marker = Marker.from_item(item)
            self.markers[marker.batch_id] = marker
        elif is_conflict(item):
            batch_id, content_hash = conflict_named(item)
            self.conflicts.setdefault(batch_id, set()).add(content_hash)

    def look_again(self, items: ItemStore, batch_ids: Iterable[str]) -> None:
        """Read the items of some batches once more, because a scan sees each item at a moment of its own."""
        for batch_id in batch_ids:
            for item in items.query(Table.LEDGER, partition_of_batch(batch_id)):
                self.add(item)


def read_ledger(items: ItemStore) -> LedgerFacts:
    """Scan the ledger."""
    facts = LedgerFacts()
    for item in items.scan(Table.LEDGER):
        facts.add(item)
    return facts
