"""The order of a report's rows, and its first rows with the exact sum of the others."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol, TypeVar

from metering.usage.totals import Total

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from metering.reports.query import UsageQuery
    from metering.reports.usage_rows import UsageRow, Values


class Named(Protocol):
    """A row: it has values of the columns grouped by."""

    @property
    def values(self) -> Values: ...


R = TypeVar("R", bound=Named)

_HOURS = frozenset({"hour", "corrects"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """The first rows of a report, and the rest as one sum, so that both together are the whole.

    Attributes:
        rows: The first rows, in order.
        others: Sum of all further rows; None if there are none.
        rows_total: Number of rows before the rest was summed.
    """

    rows: Sequence[UsageRow]
    others: Total | None
    rows_total: int


def in_order(rows: Sequence[UsageRow], query: UsageQuery) -> list[UsageRow]:
    """Rows in the order of the query. Rows that are equal in it, and rows without one, are sorted by their names."""
    return ordered(rows, query, {"bytes": lambda row: row.total.bytes, "records": lambda row: row.total.records})


def ordered(rows: Sequence[R], query: UsageQuery, figures: Mapping[str, Callable[[R], int]]) -> list[R]:
    """The same of any rows.

    Args:
        rows: In no order.
        query: Names the order.
        figures: Columns that are no names, with what rows are sorted by.
    """
    named = _named(query)
    names = sorted(rows, key=lambda row: named(row.values))
    if query.order is None:
        return names
    figure = figures.get(query.order.column)
    if figure is not None:
        return sorted(names, key=figure, reverse=query.order.descending)
    place = query.columns.index(query.order.column)
    return sorted(names, key=lambda row: named(row.values)[place], reverse=query.order.descending)


def ranked(rows: Sequence[UsageRow], query: UsageQuery) -> Ranked:
    """Cut rows that are in order after the first `top` of the query."""
    rest = [] if query.top is None else rows[query.top :]
    others = Total(sum(row.total.bytes for row in rest), sum(row.total.records for row in rest)) if rest else None
    return Ranked(rows=rows[: query.top], others=others, rows_total=len(rows))


def name_key(query: UsageQuery) -> Callable[[Values], Values]:
    """What rows without an order of their own are sorted by: their names, hours by time.

    It raises a `ValueError` for a name that no hour has.
    """
    return _named(query)


def _named(query: UsageQuery) -> Callable[[Values], Values]:
    if query.zone is UTC:
        return lambda values: values
    # Where a clock goes back, the text of an earlier hour sorts after that of a later one.
    hours = [name in _HOURS for name in query.columns]
    return lambda values: tuple(_utc(value) if is_hour else value for value, is_hour in zip(values, hours, strict=True))


def _utc(label: str) -> str:
    return datetime.fromisoformat(label).astimezone(UTC).isoformat() if label else ""
