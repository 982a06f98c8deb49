"""Rows of a report of costs: exact sums, which are rounded once, where they are printed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from metering.billing.rating.lines import PriceState
from metering.reports.parameters import check_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from metering.billing.rating.lines import RatedLine
    from metering.reports.usage_rows import Values
    from metering.usage.totals import Service, UsageType


class Entry(NamedTuple):
    """A rated line on its way into a row.

    Attributes:
        values: Values of the columns grouped by.
        late: It came late for a closed month.
    """

    values: Values
    rated: RatedLine
    late: bool = False


@dataclass(slots=True)
class Figures:
    """Exact sums of a row. Mutable.

    Attributes:
        bytes: All bytes, whatever they cost.
        exact: Exact cost (L0) of those that have a price.
        priced, unpriced, unrated: Bytes by what the price book says of them.
        late: Exact cost of what came late for closed months.
    """

    bytes: int = 0
    exact: int = 0
    priced: bool = False
    unpriced: int = 0
    unrated: int = 0
    late: int = 0

    def add(self, rated: RatedLine, *, late: bool = False) -> None:
        """Count a line."""
        size = rated.line.bytes
        self.bytes += size
        if rated.state is PriceState.PRICED:
            exact = size * rated.price
            self.priced = True
            self.exact += exact
            self.late += exact if late else 0
        elif rated.state is PriceState.UNPRICED:
            self.unpriced += size
        else:
            self.unrated += size

    def plus(self, other: Figures) -> None:
        """Add the sums of another row."""
        self.bytes += other.bytes
        self.exact += other.exact
        self.priced = self.priced or other.priced
        self.unpriced += other.unpriced
        self.unrated += other.unrated
        self.late += other.late

    @property
    def known(self) -> bool:
        """Whether the cost is known at all: something has a price, or nothing lacks one."""
        return self.priced or not self.unpriced


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRow:
    """One line of a report: values of the columns grouped by, and their sums."""

    values: Values
    figures: Figures


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRows:
    """All rows of a report.

    Attributes:
        rows: Sorted by their values.
        unpriced: Bytes by usage type and service that the book does not know.
    """

    rows: list[CostRow]
    unpriced: Mapping[tuple[UsageType, Service], int]

    @property
    def total(self) -> Figures:
        """The sum of all rows."""
        return total_of(self.rows)


def total_of(rows: Iterable[CostRow]) -> Figures:
    """The sum of some rows."""
    total = Figures()
    for row in rows:
        total.plus(row.figures)
    return total


def rows_of(entries: Iterable[Entry], *, most: int | None = None) -> CostRows:
    """Sum lines to rows: one for each different values.

    Raises:
        InvalidParametersError: There are more rows than `most`.
    """
    sums: dict[Values, Figures] = {}
    unpriced: dict[tuple[UsageType, Service], int] = {}
    for values, rated, late in entries:
        figures = sums.get(values)
        if figures is None:
            figures = sums[values] = Figures()
            check_rows(len(sums), most)
        figures.add(rated, late=late)
        if rated.state is PriceState.UNPRICED:
            named = (rated.line.usage_type, rated.line.service)
            unpriced[named] = unpriced.get(named, 0) + rated.line.bytes
    rows = [CostRow(values=values, figures=sums[values]) for values in sorted(sums)]
    return CostRows(rows=rows, unpriced=unpriced)
