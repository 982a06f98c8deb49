"""Rows of a report of costs: exact sums, which are rounded once, where they are printed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from metering.billing.rating.lines import PriceState
from metering.reports.parameters import check_rows

if TYPE_CHECKING:
    from collections.abc import Iterable

    from metering.billing.rating.lines import RatedLine
    from metering.reports.usage_rows import Values


class Pool(NamedTuple):
    """What a blended price is the mean of: one payer's usage of one product in a month.

    Attributes:
        month: Month of use.
    """

    payer_id: str
    month: str
    sku: str


Pools = Mapping[Pool, tuple[int, int]]
"""Bytes and exact cost of whole pools."""


class Entry(NamedTuple):
    """A rated line on its way into a row.

    Attributes:
        values: Values of the columns grouped by.
        pool: What it is a part of, if blended costs are asked for. None for a correction: its blended cost is its own.
        late: It came late for a closed month.
    """

    values: Values
    pool: Pool | None
    rated: RatedLine
    late: bool = False


@dataclass(slots=True)
class Figures:
    """Exact sums of a row. Mutable.

    Attributes:
        bytes: All bytes, whatever they cost.
        exact: Exact cost (L0) of those that have a price.
        priced, unpriced, unrated: Bytes by what the price book says of them.
        pools: Bytes by pool, if blended costs are asked for.
        alone: Exact cost of what is in no pool.
        late: Exact cost of what came late for closed months.
    """

    bytes: int = 0
    exact: int = 0
    priced: bool = False
    unpriced: int = 0
    unrated: int = 0
    pools: dict[Pool, int] = field(default_factory=dict)
    alone: int = 0
    late: int = 0

    def add(self, rated: RatedLine, pool: Pool | None, *, late: bool = False) -> None:
        """Count a line."""
        size = rated.line.bytes
        self.bytes += size
        if rated.state is PriceState.PRICED:
            exact = size * rated.price
            self.priced = True
            self.exact += exact
            self.late += exact if late else 0
            if pool is None:
                self.alone += exact
            else:
                self.pools[pool] = self.pools.get(pool, 0) + size
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
        self.alone += other.alone
        self.late += other.late
        for pool, size in other.pools.items():
            self.pools[pool] = self.pools.get(pool, 0) + size

    @property
    def known(self) -> bool:
        """Whether the cost is known at all: something has a price, or nothing lacks one."""
        return self.priced or not self.unpriced

    def blended(self, pools: Pools) -> Fraction:
        """The exact cost (L0) at the mean prices of its pools."""
        parts = (Fraction(pools[pool][1] * size, pools[pool][0]) for pool, size in self.pools.items() if size)
        return self.alone + sum(parts, Fraction(0))


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
    unpriced: Mapping[tuple[str, str], int]

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
    unpriced: dict[tuple[str, str], int] = {}
    for values, pool, rated, late in entries:
        figures = sums.get(values)
        if figures is None:
            figures = sums[values] = Figures()
            check_rows(len(sums), most)
        figures.add(rated, pool, late=late)
        if rated.state is PriceState.UNPRICED:
            named = (rated.line.usage_type, rated.line.service)
            unpriced[named] = unpriced.get(named, 0) + rated.line.bytes
    rows = [CostRow(values=values, figures=sums[values]) for values in sorted(sums)]
    return CostRows(rows=rows, unpriced=unpriced)
