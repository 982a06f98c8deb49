"""Rows of a usage report: totals by the values of the columns that the query asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.hours import hour_label, month_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from metering.reports.query import GroupColumn, UsageQuery
    from metering.usage.totals import Total, UsageKey

Values = tuple[str, ...]

_VALUE_OF: dict[GroupColumn, Callable[[UsageKey], str]] = {
    "account_id": lambda key: key.account_id,
    "usage_type": lambda key: key.usage_type,
    "service": lambda key: key.service,
    "from": lambda key: key.from_location,
    "to": lambda key: key.to_location,
    "month": lambda key: month_of(key.hour_s),
    "day": lambda key: hour_label(key.hour_s)[:10],
    "hour": lambda key: f"{hour_label(key.hour_s)}:00:00Z",
    "corrects": lambda key: "" if key.corrects_s is None else f"{hour_label(key.corrects_s)}:00:00Z",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow:
    """One line of a report: values of the columns grouped by, and their total."""

    values: Values
    total: Total


def matching(usage: Iterable[tuple[UsageKey, Total]], query: UsageQuery) -> Iterator[tuple[Values, Total]]:
    """Totals that count in the report, each with its values of the columns grouped by; unsummed."""
    columns = [_VALUE_OF[name] for name in query.group_by]
    for key, total in usage:
        if query.matches(key):
            yield tuple([column(key) for column in columns]), total


def summed(entries: Iterable[tuple[Values, Total]]) -> list[UsageRow]:
    """One row for each different values, sorted by them. Sums that cancel out (repairs) stay, with 0 bytes."""
    sums: dict[Values, Total] = {}
    for values, total in entries:
        before = sums.get(values)
        sums[values] = total if before is None else before.plus(total)
    return [UsageRow(values=values, total=sums[values]) for values in sorted(sums)]


def grouped(usage: Iterable[tuple[UsageKey, Total]], query: UsageQuery) -> list[UsageRow]:
    """Rows of the report from totals by usage key."""
    return summed(matching(usage, query))
