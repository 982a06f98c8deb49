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
from metering.stores.threads import side_by_side
from metering.stores.writes import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

    from metering.stores.items import ItemStore
    from metering.stores.writes import Item

# Parts of a scan, and conflicts whose batches are looked up together.
_PARTS = 16
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


@dataclass(slots=True, kw_only=True)
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


def count_verdicts(
    items: ItemStore, *, from_s: int, to_s: int, threads: int = 1, tell: Callable[[int, int], None] = lambda *_: None
) -> VerdictCounts:
    """Scan the ledger, in parts side by side, and count the verdicts of `[from_s, to_s)`.

    Args:
        items: The ledger's store.
        from_s: Start of the range, epoch seconds.
        to_s: Exclusive end of the range.
        threads: Parts that are read at the same time.
        tell: Called with the number of parts that are read, and of all, after each.

    Raises:
        LedgerCorruptError: A marker cannot be read.
        UnavailableError: The ledger gives no answer.
    """

    def count(part: int) -> VerdictCounts:
        return _counted(items, items.scan(Table.LEDGER, part=part, parts=_PARTS), from_s, to_s)

    counts = VerdictCounts()
    for done, part in enumerate(side_by_side(count, range(_PARTS), threads=threads), start=1):
        counts.add(part)
        tell(done, _PARTS)
    return counts


def touches(marker: Marker | MarkerGlance, from_s: int, to_s: int) -> bool:
    """Whether a batch has records in `[from_s, to_s)`; of one without records, whether it was decided then."""
    if marker.hours:
        return any(from_s <= hour_s < to_s for hour_s in marker.hours)
    return from_s <= marker.decided_at_ms // 1_000 < to_s


def _counted(items: ItemStore, found: Iterable[Item], from_s: int, to_s: int) -> VerdictCounts:
    counts = VerdictCounts()
    late: list[str] = []
    for item in found:
        if is_marker(item):
            marker = MarkerGlance.of_item(item)
            if touches(marker, from_s, to_s):
                counts.accepted += marker.verdict == "accepted"
                counts.rejected += marker.verdict != "accepted"
        elif is_conflict(item):
            late.append(conflict_named(item)[0])
        if len(late) >= _LOOKED_UP:
            counts.conflicts += _touching(items, late, from_s, to_s)
            late.clear()
    counts.conflicts += _touching(items, late, from_s, to_s)
    return counts


def _touching(items: ItemStore, batch_ids: list[str], from_s: int, to_s: int) -> int:
    """How many of these conflicts are of a batch that has something in the range."""
    found = items.get_many(Table.LEDGER, [marker_key(batch_id) for batch_id in dict.fromkeys(batch_ids)])
    ours = {m.batch_id for m in map(Marker.from_item, found.values()) if touches(m, from_s, to_s)}
    return sum(batch_id in ours for batch_id in batch_ids)
