"""Verdicts of the ledger, markers and conflicts: of some batches, or of all. For verification, never the hot path."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING

from metering.ledger.conflicts import conflict_named, is_conflict
from metering.ledger.markers import (
    Marker,
    MarkerGlance,
    is_marker,
    marker_key,
    partition_of_batch,
)
from metering.stores.threads import side_by_side
from metering.stores.writes import Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from metering.stores.items import ItemStore
    from metering.stores.writes import Item

# Conflicts whose batches are looked up together.
_LOOKED_UP = 10_000
# Markers that are read by one call to the store, which divides them as it must.
_READ_TOGETHER = 1_000


@dataclass(slots=True, kw_only=True)
class LedgerFacts:
    """What the ledger has of some batches. Each item was read at a moment of its own.

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

    def merge(self, later: LedgerFacts) -> None:
        """Add what a later look found."""
        self.markers.update(later.markers)
        for batch_id, hashes in later.conflicts.items():
            self.conflicts.setdefault(batch_id, set()).update(hashes)


def read_batches(
    items: ItemStore, batch_ids: Iterable[str], *, in_conflict: Iterable[str] = (), threads: int = 1
) -> LedgerFacts:
    """Read what the ledger has of some batches, and nothing else of it.

    Args:
        items: The ledger.
        batch_ids: Batches of which the marker is read.
        in_conflict: Batches of which marker and conflicts are read, by a query each.
        threads: Reads at the same time.

    Raises:
        LedgerCorruptError: One of their markers cannot be read.
        UnavailableError: The ledger gives no answer.
    """
    facts = LedgerFacts()

    def markers(names: list[str]) -> Iterable[Item]:
        return items.get_many(Table.LEDGER, [marker_key(name) for name in names]).values()

    def partition(name: str) -> Iterable[Item]:
        return list(items.query(Table.LEDGER, partition_of_batch(name)))

    left = iter(batch_ids)
    some = iter(lambda: list(islice(left, _READ_TOGETHER)), [])
    found = chain(side_by_side(markers, some, threads=threads), side_by_side(partition, in_conflict, threads=threads))
    for item in chain.from_iterable(found):
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
