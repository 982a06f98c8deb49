"""Are the accounts of months those of the lake? The reconciler's fourth figure, beside markers, usage and rows.

What is published never changes, and the index says how far the accounts have counted it. So one look is enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.audit.verify.verification import EVERY_ACCOUNT, Difference
from metering.billing.day_sums.accounts import AccountsReader, AccountSum
from metering.billing.day_sums.index import DayIndexes
from metering.errors import LedgerCorruptError, ObjectDamagedError, ObjectMissingError
from metering.hours import month_bounds_s
from metering.lake.rows import RowQuery
from metering.ledger.booked_hours import Published, published_in
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import ZERO, Total, sum_totals

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from metering.billing.day_sums.index import DayIndex, KeptAccounts
    from metering.lake.ports import LakeReader
    from metering.ledger.row_sources import RowSource
    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectStore

_BY_ACCOUNT = RowQuery(columns=("account_id",))


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountCheck:
    """Compares the accounts of months with what was published.

    Attributes:
        reader: Counts rows of lake files.
    """

    items: ItemStore
    objects: ObjectStore
    reader: LakeReader

    def differences(self, *, from_s: int, to_s: int, deep: bool = False) -> list[Difference]:
        """Differences of hours in `[from_s, to_s)`, and of the sum over the accounts of their months.

        Args:
            from_s: First second of the hours that are compared.
            to_s: The second after them.
            deep: Also count the rows of months that lie in the range whole, account by account.

        Raises:
            UnavailableError: A read failed.
            LedgerCorruptError: What was published in an hour cannot be read.
        """
        try:
            index = DayIndexes(objects=self.objects).newest()
        except (LedgerCorruptError, ObjectMissingError):
            # The biller fails by it, which has an alarm of its own; or it has put another one in this moment.
            return []
        found: list[Difference] = []
        for month, kept in sorted(index.accounts.items()):
            first_s, after_s = month_bounds_s(month)
            if first_s < to_s and from_s < after_s:
                whole = deep and from_s <= first_s and (after_s <= to_s or after_s > max(kept.days) + DAY_S)
                found += self._month(month, kept, index, (from_s, to_s), deep=whole)
        return found

    def _month(
        self, month: str, kept: KeptAccounts, index: DayIndex, times: tuple[int, int], *, deep: bool
    ) -> Iterator[Difference]:
        days = sorted(day_s for day_s in kept.days if _is_whole(day_s, index))
        hours = [h for day_s in days for h in range(day_s, day_s + DAY_S, HOUR_S) if times[0] <= h < times[1]]
        published = {hour_s: self._published(hour_s, index) for hour_s in hours}
        reader = self._reader(kept)
        shown: Mapping[int, Total] = {} if reader is None else reader.hours
        for hour_s, sources in published.items():
            rows = Total(sum(source.bytes for source in sources), sum(source.rows for source in sources))
            if shown.get(hour_s, ZERO) != rows:
                yield _difference(hour_s, shown.get(hour_s, ZERO), rows)
        if reader is None:
            return
        of_accounts = sum_totals(Total(each.bytes, each.records) for each in reader.accounts())
        of_hours = sum_totals(shown.values())
        if of_accounts != of_hours:
            yield _difference(month_bounds_s(month)[0], of_accounts, of_hours, account_id=EVERY_ACCOUNT)
        if deep and len(days) == len(kept.days):
            yield from self._by_account(month, reader, published)

    def _by_account(
        self, month: str, reader: AccountsReader, published: Mapping[int, list[RowSource]]
    ) -> Iterator[Difference]:
        counted: dict[str, AccountSum] = {}
        for hour_s, sources in published.items():
            for (account_id,), total in self.reader.totals(sources, _BY_ACCOUNT).items():
                added = AccountSum(str(account_id), total.bytes, total.records, hour_s, hour_s)
                known = counted.get(added.account_id)
                counted[added.account_id] = added if known is None else known.plus(added)
        kept = {each.account_id: each for each in reader.accounts()}
        for account_id in sorted(counted.keys() | kept.keys()):
            nothing = AccountSum(account_id, 0, 0, 0, 0)
            one, other = kept.get(account_id, nothing), counted.get(account_id, nothing)
            if one != other:
                expected, found = Total(one.bytes, one.records), Total(other.bytes, other.records)
                yield _difference(month_bounds_s(month)[0], expected, found, account_id=account_id)

    def _published(self, hour_s: int, index: DayIndex) -> list[RowSource]:
        """Lake files of an hour, of the runs that are counted."""
        items = map(Published.from_item, published_in(self.items, hour_s))
        return [source for each in items if each.run <= index.runs.get(each.shard, 0) for source in each.sources]

    def _reader(self, kept: KeptAccounts) -> AccountsReader | None:
        try:
            return AccountsReader(self.objects.get(kept.key), kept.key)
        except (ObjectMissingError, ObjectDamagedError):
            return None


def _is_whole(day_s: int, index: DayIndex) -> bool:
    # A run of the time before may have published rows of the first minutes of the first day: clocks differ.
    return not index.from_s or day_s > index.from_s


def _difference(hour_s: int, accounts: Total, rows: Total, *, account_id: str = "") -> Difference:
    return Difference(between="accounts/rows", hour_s=hour_s, account_id=account_id, expected=accounts, found=rows)
