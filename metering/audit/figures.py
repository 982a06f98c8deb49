"""Reader of the three figures of an hour, which every comparison uses: markers, usage items and rows.

A pass that compares usage with rows reads `done_runs` first, then rows, then usage (docs/protocol.md, P37).
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from metering.audit.settling import HourUsage, differing, read_accounts, settled_runs
from metering.audit.verification import Difference
from metering.lake.ports import BATCH_QUERY, USAGE_QUERY, CountedTotals, RowQuery, usage_in
from metering.ledger.markers import Marker, marker_key, may_have_expired
from metering.ledger.usage.reading import UsageReading
from metering.stores.writes import Table
from metering.units import HOUR_S
from metering.usage.totals import ZERO, Total, UsageKey, sum_totals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from metering.lake.ports import TotalsReader, UsageRows
    from metering.lake.view import LakeView
    from metering.ledger.booked_hours import HourState
    from metering.ledger.runs import Contradictions
    from metering.stores.clock import Clock
    from metering.stores.items import ItemStore

_ACCOUNTS_QUERY = RowQuery(columns=("account_id",))


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedRows:
    """Rows of an hour that the roll-up has placed: they are compared with usage.

    Attributes:
        booked: Their total in the ledger; None if only the rows of some accounts were counted.
    """

    booked: Total | None
    by_key: Mapping[UsageKey, Total]

    @property
    def accounts(self) -> frozenset[str]:
        return frozenset(key.account_id for key in self.by_key)


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkedRows:
    """Markers of an hour, and rows of all its commits, also of waiting ones, by batch."""

    marked: Mapping[str, Total]
    rows: Mapping[str, Total]

    @property
    def total(self) -> Total:
        return sum_totals(self.marked.values())

    def differences(self, hour_s: int) -> Iterator[Difference]:
        """Batches that differ."""
        for batch_id, expected, found in differing(self.marked, self.rows):
            yield Difference(between="markers/rows", hour_s=hour_s, batch_id=batch_id, expected=expected, found=found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Reads markers, usage and rows of hours.

    Attributes:
        totals: Reads the totals beside lake files.
        marker_life_s: Older hours are compared without markers, which may have expired.
        threads: Parts of a table, or accounts, that are read at the same time.
    """

    items: ItemStore
    usage: UsageReading
    view: LakeView
    totals: TotalsReader
    clock: Clock
    marker_life_s: int
    threads: int = 1

    @classmethod
    def counted(
        cls, *, items: ItemStore, view: LakeView, clock: Clock, marker_life_s: int, threads: int = 1
    ) -> Figures:
        """Figures for a proof: totals of lake files are counted from their rows."""
        return cls(
            items=items,
            usage=UsageReading(items),
            view=view,
            totals=CountedTotals(view.reader),
            clock=clock,
            marker_life_s=marker_life_s,
            threads=threads,
        )

    def may_lack_markers(self, hour_s: int) -> bool:
        """Whether markers of the hour may have expired."""
        return may_have_expired(hour_s, self.marker_life_s, self.clock.now_ms() // 1000)

    def done_runs(self) -> dict[int, int]:
        """Newest done run of each shard's roll-up. Read it before the rows, never after them (P37)."""
        return settled_runs(self.items, self.view.shards)

    def accounts(self, hour_s: int) -> set[str]:
        """Accounts with placed rows in an hour."""
        return {str(name) for (name,) in self.view.placed.hour_totals(hour_s, _ACCOUNTS_QUERY)}

    def placed(self, hour_s: int, *, accounts: frozenset[str] | None = None) -> PlacedRows:
        """Count the rows of an hour that the roll-up has placed, of all accounts or of the named ones."""
        placed = self.view.placed
        query = USAGE_QUERY if accounts is None else replace(USAGE_QUERY, where=(("account_id", accounts),))

        def count(state: HourState) -> PlacedRows:
            rows = dict(usage_in(hour_s, placed.reader.groups(state.sources, query)))
            return PlacedRows(booked=state.total if accounts is None else None, by_key=rows)

        return placed.read(hour_s, count)

    def summed(self, state: HourState) -> Iterator[UsageRows]:
        """Totals of an hour in parts: counted from the rows in staging, read from beside the lake files."""
        staged = [source for source in state.sources if source.staged]
        files = [source.file for source in state.sources if not source.staged]
        if staged:
            yield self.view.reader.hour_usage(state.hour_s, staged)
        if files:
            yield self.totals.summed(files)

    def used(self, hour_s: int, accounts: Iterable[str]) -> HourUsage:
        """Usage items of some accounts in one hour, without a scan."""
        return read_accounts(self.usage, accounts, from_s=hour_s, to_s=hour_s + HOUR_S).get(hour_s, HourUsage())

    def batches(self, hour_s: int, *, only: Callable[[str], bool] = lambda _batch_id: True) -> dict[str, Total]:
        """Count the rows of an hour, also of waiting commits, by batch; only batches that `only` takes are held."""

        def count(state: HourState) -> dict[str, Total]:
            made: dict[str, Total] = {}
            for (name,), total in self.view.reader.parts(state.sources, BATCH_QUERY):
                if only(batch_id := str(name)):
                    made[batch_id] = made.get(batch_id, ZERO).plus(total)
            return made

        return self.view.read(hour_s, count)

    def marked(
        self, hour_s: int, batch_ids: Iterable[str], contradictions: Contradictions | None = None
    ) -> dict[str, Total]:
        """Totals that the markers of some batches have in an hour.

        Raises:
            LedgerCorruptError: A marker cannot be read. With `contradictions` it is noted there, and says nothing.
        """
        found = self.items.get_many(Table.LEDGER, [marker_key(batch_id) for batch_id in batch_ids])
        marked: dict[str, Total] = {}
        for item in found.values():
            with nullcontext() if contradictions is None else contradictions.noted():
                marker = Marker.from_item(item)
                if hour_s in marker.hours:
                    marked[marker.batch_id] = marker.hours[hour_s]
        return marked
