"""What the reconciler leaves in the ledger for people and alarms: the sources, and what its last pass came to.

It is the only writer of both, so they are written unconditionally.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from metering.domain.items import Put, Table
from metering.domain.sources import Gap, SeenSequences
from metering.domain.watch_items import SOURCE_PK, Reconciliation, SourceState
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
        self._keep_sources(result.markers.sources, now_ms)
        summary = Reconciliation(finished_s=now_ms // 1000, hours=len(result.checks), differences=len(result.different))
        self.items.put(Put(table=Table.LEDGER, item=summary.to_item()))

    def sources(self) -> list[SourceState]:
        """Every numbered producer ever heard, by name."""
        return [SourceState.from_item(item) for item in self.items.query(Table.LEDGER, SOURCE_PK)]

    def _keep_sources(self, sightings: Mapping[str, SourceSightings], now_ms: int) -> None:
        known = {str(item["sk"]): item for item in self.items.query(Table.LEDGER, SOURCE_PK)}
        # Also those that nothing new came from: their gaps get old enough to be told of.
        for source_id in sorted(known.keys() | sightings.keys()):
            before = known.get(source_id)
            after = self._source(source_id, before, sightings.get(source_id), now_ms)
            if after != before:
                self.items.put(Put(table=Table.LEDGER, item=after))

    def _source(
        self, source_id: str, before: Item | None, sightings: SourceSightings | None, now_ms: int
    ) -> dict[str, Value]:
        seen, last_seen_s = (SeenSequences(), 0) if before is None else _remembered(before)
        if sightings is not None:
            seen = seen.plus(sightings.sequences, now_ms=now_ms)
            last_seen_s = max(last_seen_s, sightings.newest_ms // 1000)
        state = SourceState(
            source_id=source_id,
            last_sequence=seen.last,
            last_seen_s=last_seen_s,
            gaps=seen.confirmed(before_ms=now_ms - self.gap_grace_s * 1000),
        )
        noticed: list[Value] = [list(gap) for gap in seen.gaps]
        return {**state.to_item(), "noticed": noticed}


def _remembered(item: Item) -> tuple[SeenSequences, int]:
    state = SourceState.from_item(item)
    noticed = cast("list[tuple[int, int, int]]", item["noticed"])
    return SeenSequences(last=state.last_sequence, gaps=tuple(Gap(*gap) for gap in noticed)), state.last_seen_s
