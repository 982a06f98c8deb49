"""One hour by itself: markers, usage and rows, without a scan of any table.

The rows name their batches and accounts, so markers and usage are looked up by key. A marker or a usage item whose rows
are lost whole is not met on this way: `Reconciler.check` scans for those.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.audit.reconcile.hour_check import HourReading, MarkedRows, PlacedRows
from metering.audit.reconcile.settling import settled_runs
from metering.audit.reconcile.table_scan import survey_hour
from metering.lake.rows import BATCH_QUERY, USAGE_QUERY, batches_of, usage_of
from metering.ledger.markers import Marker, marker_key
from metering.ledger.usage.reading import UsageReading
from metering.stores.writes import Table
from metering.units import HOUR_S
from metering.usage.totals import ZERO

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.audit.reconcile.hour_check import HourCheck
    from metering.lake.view import LakeView
    from metering.ledger.row_sources import HourState
    from metering.stores.items import ItemStore
    from metering.usage.totals import Total


@dataclass(frozen=True, slots=True, kw_only=True)
class HourFigures:
    """What is known of one hour.

    Attributes:
        state: Where its rows are, and their total as the ledger says.
        check: The comparison; None if the hour has more rows, accounts or batches than are compared at once.
    """

    state: HourState
    check: HourCheck | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OneHour:
    """Compares one hour.

    Attributes:
        marker_life_s: Hours whose markers may have expired are compared without them.
        attempts: Most looks at an hour that changes meanwhile.
        most_rows: Rows of an hour that are still counted; known before any file is opened.
        most_accounts: Accounts whose usage is read, by one query each.
        most_batches: Batches whose markers are read, a hundred at a time.
    """

    items: ItemStore
    view: LakeView
    marker_life_s: int
    attempts: int = 5
    most_rows: int = 5_000_000
    most_accounts: int = 500
    most_batches: int = 20_000

    def look(self, hour_s: int, *, now_s: int) -> HourFigures:
        """Compare the hour; if it changes meanwhile, again.

        Raises:
            UnavailableError: The hour could not be read.
            LedgerCorruptError: A marker cannot be read, or a file that the hour needs is gone.
        """
        figures = self._look(hour_s, now_s)
        for _ in range(self.attempts - 1):
            if figures.check is None or figures.check.stable:
                break
            figures = self._look(hour_s, now_s)
        return figures

    def _look(self, hour_s: int, now_s: int) -> HourFigures:
        state = self.view.hour_between(hour_s)
        if state.total.records > self.most_rows:
            return HourFigures(state=state, check=None)
        done = settled_runs(self.items, self.view.shards)
        placed = self._placed(hour_s)
        batches = batches_of(self.view.hour_totals(hour_s, BATCH_QUERY))
        accounts = {key.account_id for key in placed.by_key or ()}
        if len(accounts) > self.most_accounts or len(batches) > self.most_batches:
            return HourFigures(state=state, check=None)
        usage = survey_hour(UsageReading(self.items), hour_s, accounts)
        reading = HourReading(
            hour_s=hour_s, done=done, placed=placed, usage=usage, markers=self._marked(hour_s, batches, now_s)
        )
        return HourFigures(state=state, check=reading.check())

    def _placed(self, hour_s: int) -> PlacedRows:
        placed = self.view.placed

        def count(state: HourState) -> PlacedRows:
            rows = usage_of(hour_s, placed.reader.totals(state.sources, USAGE_QUERY))
            return PlacedRows(booked=state.total, by_key=rows)

        return placed.read(hour_s, count)

    def _marked(self, hour_s: int, batches: Mapping[str, Total], now_s: int) -> MarkedRows | None:
        """Markers of the batches that have rows: they were there before the rows."""
        # A marker was decided an hour before its hour at the earliest.
        if hour_s - HOUR_S + self.marker_life_s <= now_s:
            return None
        found = self.items.get_many(Table.LEDGER, [marker_key(batch_id) for batch_id in batches])
        markers = map(Marker.from_item, found.values())
        marked = {marker.batch_id: marker.hours.get(hour_s, ZERO) for marker in markers}
        return MarkedRows(marked=marked, rows=batches)
