"""What the reconciler leaves in the ledger for others: the sources, and what its last pass found.

It is the only writer of both, so they are written unconditionally.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.domain.items import Key, Put, Table
from metering.domain.sources import SOURCES_PK, SourceState
from metering.units import HOUR_S, MINUTE_S

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.domain.items import Item
    from metering.domain.sources import SourceSightings
    from metering.ports import Clock, ItemStore
    from metering.usecases.reconcile import Reconciliation

STATE_KEY = Key("W#reconciler", "W")

# A number that is missing for less than this may belong to a batch on its way.
GAP_GRACE_S = 15 * MINUTE_S
# A source is silent when nothing came from it for four times its usual interval, and for an hour at least.
_SILENT_INTERVALS = 4
_SILENT_AT_LEAST_S = HOUR_S
_NEVER_MS = 1 << 62


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcilerState:
    """The reconciler's memory. It is `ReconcilerFacts` for the watch and the list for `metering sources`."""

    items: ItemStore
    clock: Clock

    def keep(self, result: Reconciliation) -> None:
        """Write down what a pass over all hours found."""
        now_ms = self.clock.now_ms()
        self._keep_sources(result.markers.sources, now_ms)
        item = {
            **STATE_KEY._asdict(),
            "differences": len(result.different),
            "unsettled": len(result.unsettled),
            "hours": len(result.checks),
            "passed_s": now_ms // 1000,
        }
        self.items.put(Put(table=Table.LEDGER, item=item))

    def sources(self) -> list[SourceState]:
        """Every numbered producer ever heard, by name."""
        return [SourceState.from_item(item) for item in self.items.query(Table.LEDGER, SOURCES_PK)]

    def is_silent(self, source: SourceState) -> bool:
        """Whether a source that sent regularly has stopped."""
        return self.clock.now_ms() > source.last_seen_ms + silent_after_ms(source)

    def differences(self) -> int:
        """Hours in which markers, usage and lake disagree."""
        return self._number("differences")

    def last_pass_s(self) -> int:
        """When the last pass was finished, epoch seconds; 0 if never."""
        return self._number("passed_s")

    def silent_sources(self) -> int:
        """Numbered sources that went silent."""
        return sum(self.is_silent(source) for source in self.sources())

    def source_gaps(self) -> int:
        """Numbers missing for longer than the grace, in the sequences of all sources."""
        noticed_before_ms = self.clock.now_ms() - GAP_GRACE_S * 1000
        return sum(
            gap.missing for source in self.sources() for gap in source.gaps if gap.noticed_ms <= noticed_before_ms
        )

    def _keep_sources(self, sightings: Mapping[str, SourceSightings], now_ms: int) -> None:
        known = {source.source_id: source for source in self.sources()}
        for source_id, seen in sorted(sightings.items()):
            before = known.get(source_id, SourceState(source_id=source_id))
            after = before.seen(seen.sequences, at_ms=seen.newest_ms, first_ms=seen.oldest_ms, now_ms=now_ms)
            if after != before:
                self.items.put(Put(table=Table.LEDGER, item=after.to_item()))

    def _number(self, name: str) -> int:
        item: Item | None = self.items.get(Table.LEDGER, STATE_KEY)
        value = 0 if item is None else item.get(name, 0)
        return value if isinstance(value, int) else 0


def silent_after_ms(source: SourceState) -> int:
    """How long a source may be quiet. One that sent a single batch has no rhythm to miss."""
    if source.last < 1:
        return _NEVER_MS
    interval_ms = (source.last_seen_ms - source.first_seen_ms) // source.last
    return max(_SILENT_INTERVALS * interval_ms, _SILENT_AT_LEAST_S * 1000)
