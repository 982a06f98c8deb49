"""An open month from the lake and staging, read once: what comes while it is rated counts in the next answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from metering.billing.usage.columns import SCHEMA, lines_of, only, summed, table_of
from metering.billing.usage.ports import Late
from metering.billing.usage.spool import Spool
from metering.billing.usage.table_month import line_of
from metering.hours import month_bounds_s
from metering.lake.rows import USAGE_COLUMNS, RowQuery, usage_of
from metering.ledger.booked_hours import LakeFile
from metering.ledger.notes.canary_batches import CANARY_ACCOUNT_ID
from metering.units import DAY_S
from metering.usage.totals import add_totals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from metering.billing.usage.ports import Sold, UsageLine
    from metering.lake.ports import TotalsReader
    from metering.lake.view import LakeView
    from metering.ledger.row_sources import HourState
    from metering.usage.totals import Total, UsageKey

# Rows of a day's hours that wait for their sum.
_DAY_ROWS = 500_000


class LakeMonth:
    """A `RegionMonth` of an open month. Its rows are in temporary files: close it.

    Attributes:
        region, month: As the port has them.
        digest: An open month has none.
    """

    digest = ""

    def __init__(self, *, region: str, month: str) -> None:
        self.region = region
        self.month = month
        self._hours, self._days, self._late = Spool(), Spool(), Spool()
        self._accounts: set[str] = set()

    @classmethod
    def read(
        cls,
        view: LakeView,
        *,
        region: str,
        month: str,
        accounts: frozenset[str] = frozenset(),
        totals: TotalsReader | None = None,
        on_hour: Callable[[int, int], None] = lambda _done, _of: None,
    ) -> LakeMonth:
        """Read the month hour by hour, as one consistent state each.

        Args:
            view: The region's rows.
            region: Its name.
            month: `2026-11`.
            accounts: Read only these; none: all.
            totals: Reads the totals of lake files, which are far fewer than their rows. None: rows are read.
            on_hour: Told how many hours are done, and how many there are.

        Raises:
            UnavailableError: An hour could not be read.
        """
        read = cls(region=region, month=month)
        source = _Hours(view, totals, accounts)
        first_s, after_s = month_bounds_s(month)
        try:
            hours = view.hours(from_s=first_s, to_s=after_s)
            day = _Day()
            for done, hour_s in enumerate(hours):
                on_hour(done, len(hours))
                if day.begins(hour_s):
                    read._keep_day(day)
                    day = _Day()
                day.add(hour_s, read._keep_hour(hour_s, source.usage(hour_s)))
            read._keep_day(day)
        except BaseException:
            read.close()
            raise
        return read

    def close(self) -> None:
        """Remove the temporary files."""
        for spool in (self._hours, self._days, self._late):
            spool.close()

    def accounts(self) -> Iterator[str]:
        return iter(sorted(self._accounts))

    def day_lines(self, accounts: frozenset[str] | None = None) -> Iterator[UsageLine]:
        for batch in self.day_batches(accounts):
            yield from lines_of(batch)

    def day_batches(
        self, accounts: frozenset[str] | None = None, columns: Sequence[str] = SCHEMA.names
    ) -> Iterator[pa.RecordBatch]:
        """The same in columns, day by day."""
        for day_s in self._days.parts():
            for batch in self._days.batches(day_s):
                yield only(batch, accounts, None).select(list(columns))

    def hour_lines(
        self,
        accounts: frozenset[str] | None = None,
        *,
        day_s: int | None = None,
        sold: frozenset[Sold] | None = None,
    ) -> Iterator[UsageLine]:
        for batch in self.hour_batches(accounts, day_s=day_s, sold=sold):
            yield from lines_of(batch)

    def hour_batches(
        self,
        accounts: frozenset[str] | None = None,
        *,
        day_s: int | None = None,
        sold: frozenset[Sold] | None = None,
        hour_s: int | None = None,
        columns: Sequence[str] = SCHEMA.names,
    ) -> Iterator[pa.RecordBatch]:
        """The same in columns."""
        for part_s in self._hours.parts():
            if hour_s in {None, part_s} and (day_s is None or day_s <= part_s < day_s + DAY_S):
                for batch in self._hours.batches(part_s):
                    yield only(batch, accounts, sold).select(list(columns))

    def late(self, accounts: frozenset[str] | None = None) -> Iterator[Late]:
        for hour_s in self._late.parts():
            for batch in self._late.batches(hour_s):
                yield from (Late(hour_s, line) for line in lines_of(only(batch, accounts, None)))

    def _keep_hour(self, hour_s: int, usage: Mapping[UsageKey, Total]) -> pa.Table:
        """Keep the rows of an hour in the order of rating; returns those that correct nothing."""
        own: list[UsageLine] = []
        late: list[UsageLine] = []
        for key, total in usage.items():
            if key.account_id != CANARY_ACCOUNT_ID:
                self._accounts.add(key.account_id)
                (own if key.corrects_s is None else late).append(line_of(key, total))
        table = table_of(sorted(own))
        self._hours.add(hour_s, table)
        if late:
            self._late.add(hour_s, table_of(sorted(late)))
        return table

    def _keep_day(self, day: _Day) -> None:
        if day.day_s is not None:
            self._days.add(day.day_s, day.table())


@dataclass(frozen=True)
class _Hours:
    """Usage of hours: of published files by their totals, of staging objects by their rows."""

    view: LakeView
    totals: TotalsReader | None
    accounts: frozenset[str]

    def usage(self, hour_s: int) -> Mapping[UsageKey, Total]:
        """Usage of an hour, as one consistent state."""
        return self.view.read(hour_s, self._of)

    def _of(self, state: HourState) -> dict[UsageKey, Total]:
        where = (("account_id", self.accounts),) if self.accounts else ()
        query = RowQuery(columns=USAGE_COLUMNS, where=where)
        if self.totals is None:
            return usage_of(state.hour_s, self.view.reader.totals(state.sources, query))
        staged = [source for source in state.sources if source.staged]
        found = usage_of(state.hour_s, self.view.reader.totals(staged, query)) if staged else {}
        for source in state.sources:
            if not source.staged:
                file = LakeFile(key=source.key, rows=source.rows, bytes=source.bytes)
                add_totals(found, {key: total for key, total in self.totals.of(file) if self._takes(key)})
        return found

    def _takes(self, key: UsageKey) -> bool:
        return not self.accounts or key.account_id in self.accounts


class _Day:
    """Sums the hours of a day, in parts. Mutable."""

    def __init__(self) -> None:
        self.day_s: int | None = None
        self._tables: list[pa.Table] = []
        self._rows = 0

    def begins(self, hour_s: int) -> bool:
        """Whether the hour belongs to a later day."""
        return self.day_s is not None and hour_s >= self.day_s + DAY_S

    def add(self, hour_s: int, table: pa.Table) -> None:
        self.day_s = hour_s - hour_s % DAY_S
        day = pa.repeat(pa.scalar(self.day_s, pa.int64()), table.num_rows)
        self._tables.append(table.set_column(0, "hour_s", day))
        self._rows += table.num_rows
        if self._rows > _DAY_ROWS and len(self._tables) > 1:
            self._tables = [self.table()]
            self._rows = self._tables[0].num_rows

    def table(self) -> pa.Table:
        return summed(pa.concat_tables(self._tables))
