"""One hour by itself: markers, usage and rows, without a scan of any table.

The rows name their batches and accounts, so markers and usage are looked up by key. A marker or a usage item whose rows
are lost whole is not met on this way: `Reconciler.check` scans for those.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.audit.reconcile.hour_check import HourReading
from metering.audit.reconcile.table_scan import survey_hour
from metering.lake.rows import BATCH_QUERY, USAGE_QUERY, batches_of, usage_of
from metering.ledger.markers import Marker, marker_key
from metering.ledger.waiting_commits import waiting_commits
from metering.stores.writes import Table
from metering.units import HOUR_S
from metering.usage.totals import ZERO, Total, sum_totals

if TYPE_CHECKING:
    from collections.abc import Iterable

    from metering.audit.reconcile.hour_check import HourCheck
    from metering.lake.view import LakeView
    from metering.ledger.row_sources import HourState
    from metering.stores.items import ItemStore
    from metering.usage.totals import UsageKey


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
        before = self.view.hour_snapshot(hour_s)
        if before.total.records > self.most_rows:
            return HourFigures(state=before, check=None)
        # Asked before usage is read: a commit that is applied by then is booked whole.
        unfinished = hour_s in waiting_commits(self.items, self.view.shards).open_hours
        rows = usage_of(hour_s, self.view.hour_totals(hour_s, USAGE_QUERY, exact=True))
        batches = batches_of(self.view.hour_totals(hour_s, BATCH_QUERY, exact=True))
        accounts = {key.account_id for key in rows}
        if len(accounts) > self.most_accounts or len(batches) > self.most_batches:
            return HourFigures(state=before, check=None)
        usage = survey_hour(self.items, hour_s, accounts)
        # A marker was decided an hour before its hour at the earliest.
        expired = hour_s - HOUR_S + self.marker_life_s <= now_s
        markers = {} if expired else self._markers(hour_s, batches)
        after = self.view.hour_snapshot(hour_s)
        same = before.keys == after.keys and usage.revs == survey_hour(self.items, hour_s, accounts).revs
        reading = HourReading(
            state=after,
            stable=same and not unfinished and self._adds_up(rows, batches),
            usage=usage,
            markers_total=None if expired else sum_totals(markers.values()),
            rows_by_key=rows,
            markers_by_batch=markers,
            rows_by_batch={} if expired else batches,
        )
        return HourFigures(state=after, check=reading.check())

    def _markers(self, hour_s: int, batches: Iterable[str]) -> dict[str, Total]:
        found = self.items.get_many(Table.LEDGER, [marker_key(batch_id) for batch_id in batches])
        markers = map(Marker.from_item, found.values())
        return {marker.batch_id: marker.hours.get(hour_s, ZERO) for marker in markers}

    @staticmethod
    def _adds_up(rows: dict[UsageKey, Total], batches: dict[str, Total]) -> bool:
        """Whether both readings of the rows saw the same ones."""
        return sum_totals(rows.values()) == sum_totals(batches.values())
