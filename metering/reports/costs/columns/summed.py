"""A payer's usage whose sums are known already: positions read only the lines of days in which one lies."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa

from metering.billing.usage.columns import columns_of, lines_of
from metering.billing.usage.merged import merged
from metering.billing.usage.ports import Sold, UsageLine
from metering.reports.costs.columns.tables import Fold, whole_of
from metering.units import DAY_S
from metering.usage.totals import Service, UsageType

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from metering.billing.usage.merged import MergedUsage

Days = dict[Sold, dict[int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SummedUsage:
    """A `PayerUsage` with its sums of days.

    Attributes:
        whole: Reads lines.
        sums: Bytes by what is sold and by day.
        tiered: What has more than one price: its hours are summed together when those of one of it are asked for.
        alone: The month has no other payer, so nothing has to be left out when its hours are summed.
        read: Lines that were read before they are asked for, by day; in the order of rating.
        by_hour: Bytes by what is sold and by hour, of the days that were asked for.
    """

    whole: MergedUsage
    sums: Days
    tiered: frozenset[Sold]
    alone: bool = False
    read: Mapping[int, tuple[frozenset[Sold], list[UsageLine]]] = field(default_factory=dict)
    by_hour: dict[int, Days] = field(default_factory=dict)

    @property
    def month(self) -> str:
        return self.whole.month

    def days(self) -> Days:
        return self.sums

    def hours(self, sold: frozenset[Sold], day_s: int) -> dict[int, int]:
        """Bytes by hour of one day. Those of a day are summed once, of everything that is sold."""
        known = self.read.get(day_s)
        if known is not None and sold <= known[0]:
            return _hours_of(line for line in known[1] if (line.service, line.usage_type) in sold)
        if not sold <= self.tiered:
            return _hours_of(self.whole.lines_of(sold, day_s))
        if day_s not in self.by_hour:
            self.by_hour[day_s] = hour_sums(self.whole, day_s, self.tiered, alone=self.alone)
        found: dict[int, int] = {}
        for each in sold:
            for hour_s, size in self.by_hour[day_s].get(each, {}).items():
                found[hour_s] = found.get(hour_s, 0) + size
        return found

    def lines_of_hour(self, sold: frozenset[Sold], hour_s: int) -> Iterator[UsageLine]:
        """Lines of one hour, in the order of rating."""
        known = self.read.get(day_s := hour_s - hour_s % DAY_S)
        if known is not None and sold <= known[0]:
            return (line for line in self.lines_of(sold, day_s) if line.hour_s == hour_s)
        return lines_of_hour(self.whole, sold, hour_s)

    def lines_of(self, sold: frozenset[Sold], day_s: int) -> Iterator[UsageLine]:
        known = self.read.get(day_s)
        if known is None or not sold <= known[0]:
            return self.whole.lines_of(sold, day_s)
        return (line for line in known[1] if (line.service, line.usage_type) in sold)

    def lines(self) -> Iterator[UsageLine]:
        return self.whole.lines()


class Wanted:
    """A `PayerUsage` that only notes which lines are asked for, so that those of many payers are read at once. Mutable.

    Attributes:
        wanted: What is sold, by day.
    """

    def __init__(self, month: str, sums: Days) -> None:
        self.month = month
        self.wanted: dict[int, set[Sold]] = {}
        self._sums = sums

    def days(self) -> Days:
        return self._sums

    def lines_of(self, sold: frozenset[Sold], day_s: int) -> Iterator[UsageLine]:
        """One line for each thing sold: the day's sum. Which days are asked for next depends on sums alone."""
        self.wanted.setdefault(day_s, set()).update(sold)
        for each in sorted(sold):
            total = self._sums.get(each, {}).get(day_s, 0)
            if total:
                yield UsageLine(day_s, "0", each.service, each.usage_type, "", "", total)

    def lines(self) -> Iterator[UsageLine]:
        """All days are asked for."""
        days = sorted({day_s for of in self._sums.values() for day_s in of})
        return (line for day_s in days for line in self.lines_of(frozenset(self._sums), day_s))


def hour_sums(usage: MergedUsage, day_s: int, sold: frozenset[Sold], *, alone: bool = False) -> Days:
    """Bytes of a payer's day by what is sold and by hour, summed in columns."""
    accounts = None if alone else usage.accounts
    moves, keys = not alone and usage.moves, ("service", "usage_type", "hour_s")
    fold = Fold(("account_id", *keys) if moves else keys)
    for region in usage.regions:
        names = (*keys, "account_id", "bytes") if moves else (*keys, "bytes")
        for batch in columns_of(region).hour_batches(accounts, day_s=day_s, sold=sold, columns=names):
            fold.add(pa.Table.from_batches([batch]))
    found: Days = {}
    for row, size in fold.rows():
        hour_s = whole_of(row["hour_s"])
        if moves and not usage.pays_for(str(row["account_id"]), hour_s):
            continue
        hours = found.setdefault(Sold(Service(str(row["service"])), UsageType(str(row["usage_type"]))), {})
        hours[hour_s] = hours.get(hour_s, 0) + size
    return found


def lines_of_hour(usage: MergedUsage, sold: frozenset[Sold], hour_s: int) -> Iterator[UsageLine]:
    """Lines of a payer's hour, in the order of rating."""
    lines = [
        line
        for region in usage.regions
        for batch in columns_of(region).hour_batches(
            usage.accounts, day_s=hour_s - hour_s % DAY_S, sold=sold, hour_s=hour_s
        )
        for line in lines_of(batch)
        if usage.pays_for(line.account_id, line.hour_s)
    ]
    return merged(sorted(lines))


def _hours_of(lines: Iterable[UsageLine]) -> dict[int, int]:
    found: dict[int, int] = {}
    for line in lines:
        found[line.hour_s] = found.get(line.hour_s, 0) + line.bytes
    return found


def add_days(into: Days, lines: Iterable[UsageLine]) -> None:
    """Add lines of days to sums."""
    for line in lines:
        days = into.setdefault(Sold(line.service, line.usage_type), {})
        days[line.hour_s] = days.get(line.hour_s, 0) + line.bytes
