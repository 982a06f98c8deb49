"""The accounts of a month of a region: what the biller keeps of them, and for closed months what was frozen.

| month                                     | read                                                              |
|-------------------------------------------|-------------------------------------------------------------------|
| open                                      | one object, as of the biller's last run                           |
| closed, and the biller has counted all    | the same object, whose sum must be that of the closed month       |
| closed, and the biller keeps nothing of it | the frozen month, hour by hour                                   |
| open, and the biller has not summed it    | nothing: it is refused, with what to do                           |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.billing.day_sums.accounts import AccountsReader, AccountSum
from metering.billing.day_sums.index import DayIndexes
from metering.errors import ObjectDamagedError, ObjectMissingError, OperationFailedError, UnavailableError
from metering.hours import date_of, month_bounds_s
from metering.ledger.frozen_months import read_frozen_month
from metering.ledger.periods import periods_of
from metering.usage.totals import sum_totals

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from metering.billing.day_sums.index import DayIndex
    from metering.lake.ports import FrozenReader
    from metering.ledger.frozen_months import FrozenMonth
    from metering.reports.accounts.query import AccountsQuery
    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectStore

# Each version of an index outlives the next one. A reader that is slower than two runs of the biller begins again.
_ATTEMPTS = 3
_UPDATE = "The biller does it within the hour. To do it now: metering budget update"


class AccountsNotKeptError(OperationFailedError):
    """The accounts of a month are not summed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthOfAccounts:
    """The accounts of a month of one region.

    Attributes:
        state: `open`, `closing` or `closed`.
        as_of_s: What was published by then is in the sums, epoch seconds; None if the month is final.
        through_s: What was accepted before it is in the sums, epoch seconds; 0 if nobody knows.
        sums: Accounts that the query asks for, in order; read while the caller iterates.
    """

    region: str
    state: str
    as_of_s: int | None
    through_s: int
    sums: Iterable[AccountSum]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountsSource:
    """Reads the accounts of a region's months.

    Attributes:
        region: The region's name.
        frozen: Reads closed months.
    """

    region: str
    items: ItemStore
    objects: ObjectStore
    frozen: FrozenReader

    def month(self, query: AccountsQuery) -> MonthOfAccounts:
        """The accounts that a query asks for.

        Raises:
            AccountsNotKeptError: The month is not closed, and the biller has not summed it.
            UnavailableError: A store gave no answer, or the sums were replaced again and again while they were read.
            LedgerCorruptError: What is kept cannot be read.
        """
        period = periods_of(self.items, [query.month]).get(query.month)
        state = "open" if period is None else period.state
        if state == "closed":
            return MonthOfAccounts(region=self.region, state=state, as_of_s=None, through_s=0, sums=self._closed(query))
        for _ in range(_ATTEMPTS):
            try:
                index = DayIndexes(objects=self.objects).newest()
                found = self._kept(index, query)
            except ObjectMissingError:
                continue
            return MonthOfAccounts(
                region=self.region,
                state=state,
                as_of_s=index.counted_s,
                through_s=index.reach.through_s,
                sums=found,
            )
        raise UnavailableError("s3.GetObject", "the accounts kept being replaced", may_have_applied=False)

    def _kept(self, index: DayIndex, query: AccountsQuery) -> Iterator[AccountSum]:
        self._refuse_unknown(index, query.month)
        if query.month not in index.accounts:
            return iter(())
        return self._of(query, self._reader(index, query.month))

    def _refuse_unknown(self, index: DayIndex, month: str) -> None:
        """Refuse a month that is not summed whole.

        Raises:
            AccountsNotKeptError: It says why.
        """
        if not index.number:
            raise AccountsNotKeptError(f"The accounts of {self.region} were not summed yet.", _UPDATE)
        if index.from_s > month_bounds_s(month)[0]:
            raise AccountsNotKeptError(
                f"The accounts of {month} are not kept in {self.region}: the biller sums usage from "
                f"{date_of(index.from_s)} on.",
                f"Read them from the lake, which takes longer: metering report usage --from {month} "
                "--group-by account_id",
            )
        days = index.of_month(month)
        if days and index.accounts_of(month) is None:
            summed = index.accounts[month].days & days.keys() if month in index.accounts else frozenset()
            reason = f"Of the {len(days)} days of {month} with usage, {len(summed)} are summed by account."
            raise AccountsNotKeptError(reason, _UPDATE)

    def _closed(self, query: AccountsQuery) -> Iterator[AccountSum]:
        closed = read_frozen_month(self.items, self.objects, query.month)
        if closed is None:
            # It was closed when we asked, and a closed month never opens again.
            raise UnavailableError("dynamodb.GetItem", f"no frozen month {query.month}", may_have_applied=False)
        try:
            index = DayIndexes(objects=self.objects).newest()
            reader = self._reader(index, query.month) if query.month in index.accounts else None
        except (ObjectMissingError, ObjectDamagedError):
            reader = None
        if reader is not None and sum_totals(reader.hours.values()) == closed.total:
            return self._of(query, reader)
        return self._frozen(query, closed)

    def _frozen(self, query: AccountsQuery, closed: FrozenMonth) -> Iterator[AccountSum]:
        sums: dict[str, AccountSum] = {}
        for hour in closed.hours:
            for key, total in self.frozen.hour(closed, hour.hour_s, query.accounts or None):
                if query.matches(key.account_id):
                    added = AccountSum(key.account_id, total.bytes, total.records, key.hour_s, key.hour_s)
                    known = sums.get(key.account_id)
                    sums[key.account_id] = added if known is None else known.plus(added)
        return iter(sorted(sums.values()))

    def _reader(self, index: DayIndex, month: str) -> AccountsReader:
        key = index.accounts[month].key
        return AccountsReader(self.objects.get(key), key)

    def _of(self, query: AccountsQuery, reader: AccountsReader) -> Iterator[AccountSum]:
        found = reader.accounts(query.accounts or None, prefix=query.prefix)
        return (each for each in found if query.matches(each.account_id))
