"""An open month of a region from its day sums; hours of single days from the totals beside lake files."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.billing.day_sums.days import DayHead, DayReader, head_of
from metering.billing.usage.merged import merged
from metering.billing.usage.ports import Sold, UsageLine
from metering.ledger.notes.canary_batches import CANARY_ACCOUNT_ID
from metering.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from metering.billing.day_sums.index import DayIndex
    from metering.billing.usage.ports import Late
    from metering.lake.ports import TotalsReader
    from metering.ledger.booked_hours import LakeFile
    from metering.stores.objects import ObjectStore


@dataclass(frozen=True, slots=True, kw_only=True)
class SummedMonth:
    """A `RegionMonth` of what the compactor has published. What waits in staging is not in it: it is a little too low.

    Corrections of earlier months are not kept here, so there are none.

    Attributes:
        index: The version of the sums that every call sees.
        month: `2026-11`.
    """

    region: str
    month: str
    index: DayIndex
    objects: ObjectStore
    totals: TotalsReader
    digest: str = ""

    @property
    def days(self) -> Mapping[int, str]:
        """The month's days with their objects."""
        return self.index.of_month(self.month)

    def day(self, day_s: int) -> DayReader | None:
        """The sums of a day, of this month or another; None if there are none."""
        key = self.index.days.get(day_s)
        return None if key is None else DayReader(self.objects.get(key), key)

    def head(self, day_s: int) -> DayHead | None:
        """Head of a day, of this month or another; None if it has no sums. Only the beginning of its object is read."""
        key = self.index.days.get(day_s)
        if key is None:
            return None
        with self.objects.open(key) as body:
            return head_of(body, key)

    def accounts(self) -> Iterator[str]:
        found: set[str] = set()
        for day_s in self.days:
            found.update(account.account_id for account in self._read(day_s).accounts())
        return iter(sorted(found))

    def day_lines(self, accounts: frozenset[str] | None = None) -> Iterator[UsageLine]:
        for day_s in self.days:
            day = self._read(day_s)
            kinds = day.head.kinds
            for account_id, sums in day.accounts(accounts):
                for place, size in sums.items():
                    usage_type, service, from_location, to_location = kinds[place]
                    yield UsageLine(day_s, account_id, service, usage_type, from_location, to_location, size)

    def hour_lines(
        self,
        accounts: frozenset[str] | None = None,
        *,
        day_s: int | None = None,
        sold: frozenset[Sold] | None = None,
    ) -> Iterator[UsageLine]:
        for each in self.days if day_s is None else [day_s]:
            for hour_s in sorted(self._files(each)):
                yield from self.lines_of_hour(hour_s, accounts, sold)

    def lines_of_hour(
        self, hour_s: int, accounts: frozenset[str] | None = None, sold: frozenset[Sold] | None = None
    ) -> Iterator[UsageLine]:
        """Lines of one hour, in the order of rating. Only its files are read."""
        files = self._files(hour_s - hour_s % DAY_S).get(hour_s, ())
        return merged(heapq.merge(*(sorted(self._lines(hour_s, file, accounts, sold)) for file in files)))

    def parts_of_day(self, day_s: int, accounts: frozenset[str] | None = None) -> Iterator[UsageLine]:
        """Lines of a day by the hour, in no order, a key and hour as often as files have it: for adding them up."""
        for hour_s, files in self._files(day_s).items():
            for file in files:
                yield from self._lines(hour_s, file, accounts, None)

    def late(self, accounts: frozenset[str] | None = None) -> Iterator[Late]:
        del accounts
        return iter(())

    def _files(self, day_s: int) -> Mapping[int, tuple[LakeFile, ...]]:
        """Lake files of a day by their hour; none if it has no sums."""
        head = self.head(day_s)
        return {} if head is None else head.files

    def _read(self, day_s: int) -> DayReader:
        key = self.index.days[day_s]
        return DayReader(self.objects.get(key), key)

    def _lines(
        self, hour_s: int, file: LakeFile, accounts: frozenset[str] | None, sold: frozenset[Sold] | None
    ) -> Iterator[UsageLine]:
        for key, total in self.totals.of(file):
            if key.corrects_s is not None or key.account_id == CANARY_ACCOUNT_ID:
                continue
            if accounts is not None and key.account_id not in accounts:
                continue
            if sold is None or Sold(key.service, key.usage_type) in sold:
                yield UsageLine(
                    hour_s, key.account_id, key.service, key.usage_type, key.from_location, key.to_location, total.bytes
                )
