"""The usage table as a source of reports.

A report on named accounts reads one partition for each account and month, and of it exactly the hours asked for. A
report over all accounts would scan the table; `ReportSource` reads the lake and staging instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.hours import month_of
from metering.ledger.usage.folding import Fold
from metering.ledger.usage.reading import UsageReading
from metering.reports.read_budget import UNCOUNTED

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence

    from metering.ledger.usage.kinds import KindNames
    from metering.reports.query import UsageQuery
    from metering.reports.read_budget import Meter
    from metering.reports.usage_rows import NotRolledUp
    from metering.rollup.as_of_now import UsageNow
    from metering.stores.items import ItemStore
    from metering.usage.totals import Total, UsageKey


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageTable:
    """Reads the usage table for reports. It holds what was rolled up (P27).

    Attributes:
        names: What the numbers of its items stand for, if somebody remembers it from one report to the next.
        as_of_now: Also reads what is not rolled up yet, for queries that ask for it. None: no query may.
        meter: Told of each partition that is read.
    """

    items: ItemStore
    names: KindNames | None = None
    as_of_now: UsageNow | None = None
    meter: Meter = UNCOUNTED

    def usage(
        self,
        query: UsageQuery,
        *,
        now_s: int,
        without: Container[str] = (),
        months: Sequence[str] | None = None,
        lacks: NotRolledUp | None = None,
    ) -> Iterator[tuple[UsageKey, Total]]:
        """Totals among which are all that the query matches. Hours that the query does not tell apart may be summed.

        Args:
            query: The query; without accounts, the whole table is scanned.
            now_s: The time now: corrections can be booked until then.
            without: Months to leave out.
            months: Months to read, in order; by default, all in which the query can match something.
            lacks: Learns what waits, and is in none of these totals.

        Raises:
            LedgerCorruptError: An item cannot be read, or the account's dictionary lacks a number of it.
            TooMuchWaitsError: The query asks for what is not rolled up, and that is too much.
            UnavailableError: A table gives no answer.
        """
        reading = UsageReading(self.items, self.names)
        if not query.accounts:
            fold = Fold(
                query.grain,
                lambda hour_s, corrects_s: month_of(hour_s) not in without and query.takes_hour(hour_s, corrects_s),
            )
            fold.add(reading.scanned())
            yield from _named(reading, fold)
            return
        end_s = query.booked_before_s(now_s=now_s)
        read = [month for month in (query.months(now_s=now_s) if months is None else months) if month not in without]
        if query.now:
            yield from self._now(query, read, end_s)
            return
        if lacks is not None and self.as_of_now is not None and read:
            apart = self.as_of_now.apart(
                query.accounts, read, from_s=query.from_s, to_s=end_s, grain=query.grain, counts=query.takes_hour
            )
            lacks.add(apart)
            if apart.booked is not None:
                self.meter.partitions(len(query.accounts) * len(read))
                yield from apart.booked
                return
        for account_id in sorted(query.accounts):
            for month in read:
                self.meter.partitions()
                fold = Fold(query.grain, query.takes_hour)
                fold.add(reading.stored(account_id, month, from_s=query.from_s, to_s=end_s))
                yield from _named(reading, fold)

    def _now(self, query: UsageQuery, months: Sequence[str], end_s: int) -> Iterator[tuple[UsageKey, Total]]:
        if self.as_of_now is None:
            raise TypeError("usage as of now is asked of a table that does not know what waits")
        self.meter.partitions(len(query.accounts) * len(months))
        return self.as_of_now.entries(
            query.accounts, months, from_s=query.from_s, to_s=end_s, grain=query.grain, counts=query.takes_hour
        )


def _named(reading: UsageReading, fold: Fold) -> Iterator[tuple[UsageKey, Total]]:
    for item in fold.items():
        yield from reading.totals(item)
