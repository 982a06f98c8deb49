"""Compares usage with rows, an hour at a time, from the ledger alone: what was published, and what waits in staging."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.errors import OperationFailedError
from metering.hours import hour_label, month_of
from metering.ledger.booked_hours import Pending, Pointer, Published, pending_in, pointers_of, published_in
from metering.ledger.periods import Period, period_key
from metering.ledger.runs import run_name
from metering.ledger.shards import known_shards
from metering.stores.bucket import LAKE_PREFIX, hour_of_lake_key
from metering.stores.threads import side_by_side
from metering.stores.writes import Table
from metering.usage.totals import ZERO, Total, sum_totals

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectStore
    from metering.stores.retrying import Retrier


@dataclass(frozen=True, slots=True, kw_only=True)
class HourComparison:
    """Compares every booked hour. Nothing may be written meanwhile: workers and compactors of format 1 are out.

    Attributes:
        shards: The stage's number of shards.
        threads: Hours that are compared side by side.
    """

    items: ItemStore
    objects: ObjectStore
    retrier: Retrier
    shards: int
    threads: int = 1

    def compare(self, usage: Mapping[int, Total]) -> int:
        """Compare usage with rows; returns the number of hours. Hours of closed months are as they were frozen.

        Args:
            usage: Total of each booked hour by the usage table.

        Raises:
            OperationFailedError: An hour of an open month differs.
            LedgerCorruptError: An item cannot be read.
            UnavailableError: A store gives no answer; whoever comes next begins again.
        """
        hours = sorted(usage.keys() | self.retrier.call(lambda: set(self._hours())))
        closed = self._closed({month_of(hour_s) for hour_s in hours})
        asked = [hour_s for hour_s in hours if month_of(hour_s) not in closed]
        for hour_s, rows in zip(asked, side_by_side(self._measured, asked, threads=self.threads), strict=True):
            found = usage.get(hour_s, ZERO)
            if found != rows:
                raise OperationFailedError(
                    f"Usage of {hour_label(hour_s)} is {found.bytes} bytes of {found.records} records, and its rows "
                    f"are {rows.bytes} bytes in {rows.records}.",
                    "Nothing was switched over. Deploy the old version again, let its `metering rebuild usage` put "
                    "that right, and upgrade then (docs/operator-guide.md, Rollback).",
                )
        return len(hours)

    def _hours(self) -> Iterator[int]:
        """Hours that something was published in, or that wait for it."""
        for listed in self.objects.list(LAKE_PREFIX):
            hour_s = hour_of_lake_key(listed.key)
            if hour_s is not None:
                yield hour_s
        for shard in known_shards(self.items, self.shards):
            for item in pending_in(self.items, shard):
                yield from Pending.from_item(item).hours

    def _measured(self, hour_s: int) -> Total:
        return self.retrier.call(lambda: self._rows(hour_s))

    def _rows(self, hour_s: int) -> Total:
        published = [Published.from_item(item) for item in published_in(self.items, hour_s)]
        runs = {run_name(each.shard, each.run) for each in published}
        waiting = [Pointer.from_item(item) for item in pointers_of(self.items, hour_s)]
        return sum_totals(
            (
                *(Total(each.bytes, each.rows) for each in published),
                *(Total(each.bytes, each.rows) for each in waiting if each.run not in runs),
            )
        )

    def _closed(self, months: set[str]) -> set[str]:
        keys = {period_key(month): month for month in sorted(months)}
        found = self.retrier.call(lambda: self.items.get_many(Table.LEDGER, list(keys)))
        return {keys[key] for key, item in found.items() if Period.from_item(item).state == "closed"}
