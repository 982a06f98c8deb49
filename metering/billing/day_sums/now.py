"""A region's day sums as of now: the biller's sums, but days that lack usage are summed from usage items.

Nothing of it is stored. A day is either the biller's or made from the items as a whole, as of one moment (P28). The
totals of its hours stand in for lake files, because a day within which a price changes is rated by the hour.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from metering.billing.day_sums.days import DayAddition, day_body, digest_of, empty_day
from metering.billing.day_sums.index import DayIndex, Reach, Uncounted
from metering.hours import hour_label, month_of
from metering.ledger.booked_hours import LakeFile
from metering.stores.objects import rated_day_key
from metering.units import DAY_S
from metering.usage.totals import Total, UsageKey, add_totals, sum_totals

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from metering.lake.ports import TotalsReader, UsageRows
    from metering.rollup.as_of_now import UsageNow


@dataclass(frozen=True, slots=True, kw_only=True)
class TotalsNow:
    """A `TotalsReader` that also has totals of hours without a lake file.

    Attributes:
        hours: Totals by the key of the file for which they stand.
    """

    stored: TotalsReader
    hours: Mapping[str, Mapping[UsageKey, Total]]

    def of(self, file: LakeFile) -> Iterator[tuple[UsageKey, Total]]:
        found = self.hours.get(file.key)
        return self.stored.of(file) if found is None else iter(found.items())

    def summed(self, files: Sequence[LakeFile]) -> UsageRows:
        return self.stored.summed(files)


@dataclass(frozen=True, slots=True, kw_only=True)
class SumsNow:
    """Day sums as of now.

    Attributes:
        bodies: Day sums that no bucket has, by key.
    """

    index: DayIndex
    totals: TotalsReader
    bodies: Mapping[str, bytes]


def sums_now(
    index: DayIndex, lacking: Collection[int], totals: TotalsReader, items: UsageNow, *, now_s: int, through_s: int
) -> SumsNow:
    """Sum the days that lack usage from usage items, without corrections and the canary, as the biller does.

    Args:
        index: Index of the biller's sums.
        lacking: First seconds of the days, by `DaySumKeeper.days_lacking` of this index.
        totals: Reader of the totals beside lake files.
        items: Reader of the usage of all accounts.
        now_s: A time before all reads.
        through_s: Time up to which usage is complete now; 0 if unknown.

    Raises:
        LedgerCorruptError, RegionIncompleteError, TooMuchWaitsError, UnavailableError: As `items` raises them.
    """
    hours: dict[int, dict[UsageKey, Total]] = defaultdict(dict)
    if lacking:
        first_s, after_s = min(lacking), max(lacking) + DAY_S
        months = sorted(set(map(month_of, lacking)))
        found = items.entries(
            None,
            months,
            from_s=first_s,
            to_s=after_s,
            counts=lambda hour_s, corrects_s: corrects_s is None and hour_s - hour_s % DAY_S in lacking,
        )
        for key, total in found:
            add_totals(hours[key.hour_s], {key: total})
    files = {hour_s: _stand_in(hour_s, sums) for hour_s, sums in hours.items()}
    bodies = dict(_day(day_s, files, hours) for day_s in sorted(lacking))
    days = {**index.days, **dict(zip(sorted(lacking), bodies, strict=True))}
    return SumsNow(
        index=replace(
            index,
            days=days,
            counted_s=now_s,
            reach=Reach(through_s=now_s, left=Uncounted()),
            complete_through_s=max(through_s, index.complete_through_s),
        ),
        totals=TotalsNow(stored=totals, hours={files[hour_s].key: sums for hour_s, sums in hours.items()}),
        bodies=bodies,
    )


def _stand_in(hour_s: int, sums: Mapping[UsageKey, Total]) -> LakeFile:
    total = sum_totals(sums.values())
    return LakeFile(key=f"now/{hour_label(hour_s)}", rows=total.records, bytes=total.bytes)


def _day(day_s: int, files: Mapping[int, LakeFile], hours: Mapping[int, Mapping[UsageKey, Total]]) -> tuple[str, bytes]:
    """Key and content of the sums of a day."""
    addition = DayAddition(empty_day(day_s))
    for hour_s in sorted(each for each in files if day_s <= each < day_s + DAY_S):
        addition.add(hour_s, files[hour_s], hours[hour_s].items())
    body = day_body(addition.head(), addition.accounts(()))
    return rated_day_key(day_s, digest_of(body)), body
