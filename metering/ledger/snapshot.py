"""Snapshot of the verdicts of the whole ledger: markers and conflicts. For verification, never for the hot path."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from metering.ledger.conflicts import conflict_named, is_conflict
from metering.ledger.markers import (
    Marker,
    MarkerGlance,
    in_partition_of_batch,
    is_marker,
    marker_key,
    named_batch,
    partition_of_batch,
)
from metering.stores.writes import Table

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from metering.stores.items import ItemStore
    from metering.stores.writes import Item

# Conflicts whose batches are looked up together.
_LOOKED_UP = 10_000


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


def read_ledger(items: ItemStore, wanted: Container[str] | None = None) -> LedgerFacts:
    """Scan the ledger. Facts are held in memory: of the batches that are wanted, or of all."""
    facts = LedgerFacts()
    for item in items.scan(Table.LEDGER):
        if wanted is None or (in_partition_of_batch(item) and named_batch(item) in wanted):
            facts.add(item)
    return facts


@dataclass(slots=True)
class VerdictCounts:
    """Verdicts of a whole ledger, counted and not held.

    Attributes:
        accepted, rejected: Batches with records in the range, or decided in it.
        conflicts: Contents that came too late under the id of one of these.
    """

    accepted: int = 0
    rejected: int = 0
    conflicts: int = 0

    def add(self, other: VerdictCounts) -> None:
        """Add what another part of the ledger has."""
        self.accepted += other.accepted
        self.rejected += other.rejected
        self.conflicts += other.conflicts


def touches(marker: Marker | MarkerGlance, from_s: int, to_s: int) -> bool:
    """Whether a batch has records in `[from_s, to_s)`; of one without records, whether it was decided then."""
    if marker.hours:
        return any(from_s <= hour_s < to_s for hour_s in marker.hours)
    return from_s <= marker.decided_at_ms // 1_000 < to_s


class VerdictTally:
    """Counts verdicts of `[from_s, to_s)` while somebody scans the ledger. A plain class: it is added to."""

    def __init__(self, items: ItemStore, *, from_s: int, to_s: int) -> None:
        self._items = items
        self._from_s = from_s
        self._to_s = to_s
        self._late: list[str] = []
        self._counts = VerdictCounts()

    def marker(self, marker: Marker | MarkerGlance) -> None:
        """Count a marker."""
        if touches(marker, self._from_s, self._to_s):
            self._counts.accepted += marker.verdict == "accepted"
            self._counts.rejected += marker.verdict != "accepted"

    def other(self, item: Item) -> None:
        """Count an item that is no marker, if it is a conflict.

        Raises:
            LedgerCorruptError: A marker of a conflict's batch cannot be read.
            UnavailableError: The ledger gives no answer.
        """
        if is_conflict(item):
            self._late.append(conflict_named(item)[0])
            if len(self._late) >= _LOOKED_UP:
                self._look_up()

    def counts(self) -> VerdictCounts:
        """All that was counted. Errors are as those of `other`."""
        self._look_up()
        return self._counts

    def _look_up(self) -> None:
        """Count those conflicts that are of a batch which has something in the range."""
        keys = [marker_key(batch_id) for batch_id in dict.fromkeys(self._late)]
        found = self._items.get_many(Table.LEDGER, keys).values() if keys else ()
        ours = {m.batch_id for m in map(Marker.from_item, found) if touches(m, self._from_s, self._to_s)}
        self._counts.conflicts += sum(batch_id in ours for batch_id in self._late)
        self._late.clear()
