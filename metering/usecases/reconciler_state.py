"""What the reconciler leaves in the ledger for people and alarms: the sources, and what its last pass came to.

It is the only writer of both, so they are written unconditionally.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.domain.fields import Fields
from metering.domain.items import Put, Table
from metering.domain.sources import Gap, SeenSequences
from metering.domain.watch_items import RECONCILIATION_KEY, SOURCE_PK, Reconciliation, SourceState
from metering.units import MINUTE_S

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.domain.items import Item, Value
    from metering.domain.sources import SourceSightings
    from metering.ports import Clock, ItemStore
    from metering.usecases.reconcile import Reconciliation as Result

# A number that is missing for less than this may belong to a batch on its way.
GAP_GRACE_S = 15 * MINUTE_S


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcilerState:
    """The reconciler's memory.

    Attributes:
        gap_grace_s: A gap is told of when it has been there for so long.
    """

    items: ItemStore
    clock: Clock
    gap_grace_s: int = GAP_GRACE_S

    def keep(self, result: Result) -> None:
        """Write down what a pass over all hours found."""
        now_ms = self.clock.now_ms()
        gaps_since_ms = self._keep_sources(result.markers.sources, now_ms)
        summary = Reconciliation(
            finished_s=now_ms // 1000,
            hours=len(result.checks),
            differences=len(result.different),
            gaps_since_s=None if gaps_since_ms is None else gaps_since_ms // 1000,
        )
        self.items.put(Put(table=Table.LEDGER, item=summary.to_item()))

    def keep_quick(self, *, hours: int, differences: int) -> None:
        """Write down what a quick pass found. Only a pass over everything can say what sources miss."""
        item = self.items.get(Table.LEDGER, RECONCILIATION_KEY)
        summary = Reconciliation(
            finished_s=self.clock.now_ms() // 1000,
            hours=hours,
            differences=differences,
            gaps_since_s=None if item is None else Reconciliation.from_item(item).gaps_since_s,
        )
        self.items.put(Put(table=Table.LEDGER, item=summary.to_item()))

    def sources(self) -> list[SourceState]:
        """Every numbered producer ever heard, by name."""
        return [SourceState.from_item(item) for item in self.items.query(Table.LEDGER, SOURCE_PK)]

    def _keep_sources(self, sightings: Mapping[str, SourceSightings], now_ms: int) -> int | None:
        """Write down what changed; returns since when anything is missing."""
        gaps: list[Gap] = []
        known = {str(item["sk"]): item for item in self.items.query(Table.LEDGER, SOURCE_PK)}
        # Also those that nothing new came from: their gaps get old enough to be told of.
        for source_id in sorted(known.keys() | sightings.keys()):
            before = known.get(source_id)
            seen, last_seen_s = (SeenSequences(), 0) if before is None else _remembered(before)
            if found := sightings.get(source_id):
                seen = seen.plus(found.sequences, now_ms=now_ms)
                last_seen_s = max(last_seen_s, found.newest_ms // 1000)
            confirmed = seen.confirmed(before_ms=now_ms - self.gap_grace_s * 1000)
            gaps += confirmed
            after = _source_item(source_id, seen, last_seen_s, confirmed)
            if after != before:
                self.items.put(Put(table=Table.LEDGER, item=after))
        return min((gap.since_ms for gap in gaps), default=None)


def _source_item(source_id: str, seen: SeenSequences, last_seen_s: int, confirmed: tuple[Gap, ...]) -> dict[str, Value]:
    state = SourceState(
        source_id=source_id,
        last_sequence=seen.last,
        last_seen_s=last_seen_s,
        gaps=tuple((gap.first, gap.last) for gap in confirmed),
    )
    noticed: list[Value] = [list(gap) for gap in seen.gaps]
    return {**state.to_item(), "last_ms": seen.last_ms, "noticed": noticed}


def _remembered(item: Item) -> tuple[SeenSequences, int]:
    state = SourceState.from_item(item)
    fields = Fields.of_item(item)
    noticed = fields.rows("noticed", Gap._fields)
    seen = SeenSequences(
        last=state.last_sequence,
        last_ms=fields.whole("last_ms"),
        gaps=tuple(
            Gap(gap.whole("first"), gap.whole("last"), gap.whole("noticed_ms"), gap.whole("since_ms"))
            for gap in noticed
        ),
    )
    return seen, state.last_seen_s
