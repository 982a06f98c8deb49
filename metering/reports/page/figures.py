"""Figures of a usage page: every total that it shows, summed in one reading of the rows, so that they agree."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from metering.units import DAY_S, HOUR_S
from metering.usage.totals import ZERO, Total

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from metering.reports.query import GroupColumn, UsageQuery
    from metering.reports.usage_rows import Values

# The longest ranges that are drawn by hour and by day; more bars would be too thin.
_HOURLY_S = 4 * DAY_S
_DAILY_S = 100 * DAY_S
_BUCKETS: Mapping[str, int] = {"hour": 16, "day": 10, "month": 7}


def bucket_of(query: UsageQuery, *, now_s: int) -> GroupColumn:
    """The unit of time of the page's trend."""
    span_s = min(query.to_s, now_s + HOUR_S) - query.from_s
    if span_s <= _HOURLY_S:
        return "hour"
    return "day" if span_s <= _DAILY_S else "month"


def page_query(query: UsageQuery, *, now_s: int) -> UsageQuery:
    """The question whose rows have all that the page shows."""
    columns: tuple[GroupColumn, ...] = (bucket_of(query, now_s=now_s), "account_id", "usage_type", "from", "to")
    return replace(query, group_by=(*columns, "region"), details=(), order=None, top=None)


@dataclass(slots=True, kw_only=True)
class Figures:
    """Totals by one column each. Mutable while it is summed.

    Attributes:
        bucket: Unit of time of the trend.
        trend: Totals by hour, day or month, in order; also those without usage.
        accounts, usage_types, regions: Totals by name.
        pairs: Totals by the regions, or other places, that bytes went from and to.
    """

    bucket: str
    total: Total = ZERO
    trend: dict[str, Total] = field(default_factory=dict)
    accounts: dict[str, Total] = field(default_factory=dict)
    usage_types: dict[str, Total] = field(default_factory=dict)
    regions: dict[str, Total] = field(default_factory=dict)
    pairs: dict[tuple[str, str], Total] = field(default_factory=dict)

    def add(self, values: Values, total: Total) -> None:
        """Count one total, with the values of `page_query`'s columns."""
        moment, account_id, usage_type, from_location, to_location, region = values
        self.total = self.total.plus(total)
        _add(self.trend, moment[: _BUCKETS[self.bucket]], total)
        _add(self.accounts, account_id, total)
        _add(self.usage_types, usage_type, total)
        _add(self.regions, region, total)
        pair = (from_location.partition("/")[0], to_location.partition("/")[0])
        self.pairs[pair] = self.pairs.get(pair, ZERO).plus(total)


def figures_of(entries: Iterable[tuple[Values, Total]], query: UsageQuery, *, now_s: int) -> Figures:
    """Sum the rows of a page's query.

    Args:
        entries: Totals of all regions by the columns of `page_query`, unsummed.
        query: That query.
        now_s: The time now: what is to come has no bar.
    """
    found = Figures(bucket=query.group_by[0])
    if found.bucket != "month":
        found.trend = dict.fromkeys(_moments(query, found.bucket, now_s), ZERO)
    for values, total in entries:
        found.add(values, total)
    found.trend = dict(sorted(found.trend.items()))
    return found


def _moments(query: UsageQuery, bucket: str, now_s: int) -> Iterator[str]:
    for hour_s in range(query.from_s, min(query.to_s, now_s + HOUR_S), HOUR_S):
        yield datetime.fromtimestamp(hour_s, query.zone).isoformat()[: _BUCKETS[bucket]]


def _add(sums: dict[str, Total], name: str, total: Total) -> None:
    sums[name] = sums.get(name, ZERO).plus(total)


def largest(sums: Mapping[str, Total], most: int) -> tuple[list[tuple[str, Total]], Total | None, int]:
    """The largest first, the exact sum of the others if there are some, and how many those are."""
    ordered = sorted(sums.items(), key=lambda item: (-item[1].bytes, item[0]))
    rest = ordered[most:]
    others = Total(sum(each.bytes for _, each in rest), sum(each.records for _, each in rest)) if rest else None
    return ordered[:most], others, len(rest)
