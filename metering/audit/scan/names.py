"""Names in the parts of a census that are looked at: cells say in which part of an hour something differs, not what.

Each table is read once more, in as many parts as the census was. What was found is a part of the census: another
process goes on with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.audit.reconcile.table_scan import limited
from metering.ledger.contradictions import Contradictions
from metering.ledger.markers import MarkerGlance, is_marker
from metering.stores.threads import side_by_side
from metering.stores.writes import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from metering.audit.scan.findings import Doubt
    from metering.audit.scan.state import CensusState, Names
    from metering.ledger.usage.reading import UsageReading
    from metering.stores.items import ItemStore
    from metering.stores.writes import Item
    from metering.usage.totals import Total


@dataclass(frozen=True, slots=True, kw_only=True)
class NameSearch:
    """Reads names for a census that was counted to its end.

    Attributes:
        most: Most batches that are held.
        threads: Parts of a table that are read at the same time.
        limit: Called while something is read; it may raise ScanTooLongError.
    """

    items: ItemStore
    usage: UsageReading
    most: int
    threads: int
    limit: Callable[[], None]

    def run(self, state: CensusState, doubts: Mapping[int, Doubt]) -> Names:
        """Read to the end what the doubts ask for.

        Raises:
            ScanTooLongError: As `limit` says. `state` has what was found.
        """
        if any(doubt.accounts or doubt.unsettled for doubt in doubts.values()):
            self._accounts(state, doubts)
        if any(doubt.marked for doubt in doubts.values()) and not state.names.too_many:
            self._batches(state, doubts)
        return state.names

    def _accounts(self, state: CensusState, doubts: Mapping[int, Doubt]) -> None:
        names = state.names

        def read(part: int) -> set[tuple[int, str]]:
            found = self.usage.scan(
                Contradictions(), part=part, parts=state.segments, from_s=state.from_s, to_s=state.to_s
            )
            places = ((item.hour_s, item.account_id) for item in limited(found, self.limit))
            return {
                (hour_s, name)
                for hour_s, name in places
                if hour_s in doubts and doubts[hour_s].has_account(name, state.parts)
            }

        for found in side_by_side(read, range(names.usage_done, state.segments), threads=self.threads):
            for hour_s, name in found:
                names.accounts.setdefault(hour_s, set()).add(name)
            names.usage_done += 1

    def _batches(self, state: CensusState, doubts: Mapping[int, Doubt]) -> None:
        names = state.names
        held = sum(map(len, names.batches.values()))

        def read(part: int) -> list[tuple[int, str, Total]]:
            found: list[tuple[int, str, Total]] = []
            for item in limited(self.items.scan(Table.LEDGER, part=part, parts=state.segments), self.limit):
                if is_marker(item) and len(found) <= self.most:
                    found += _marked(item, state, doubts)
            return found

        for found in side_by_side(read, range(names.markers_done, state.segments), threads=self.threads):
            held += len(found)
            if held > self.most:
                names.batches, names.too_many = {}, True
                return
            for hour_s, batch_id, total in found:
                names.batches.setdefault(hour_s, {})[batch_id] = total
            names.markers_done += 1


def _marked(item: Item, state: CensusState, doubts: Mapping[int, Doubt]) -> list[tuple[int, str, Total]]:
    """What a marker says of the hours in doubt; nothing if it cannot be read, which the census has told."""
    with Contradictions().noted():
        marker = MarkerGlance.of_item(item)
        hours = [(hour_s, total) for hour_s, total in marker.hours.items() if hour_s in doubts]
        parts, batch_id = state.parts, marker.batch_id
        return [(hour_s, batch_id, total) for hour_s, total in hours if doubts[hour_s].has_batch(batch_id, parts)]
    return []
