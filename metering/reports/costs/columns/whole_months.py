"""Costs of whole months by sums alone: no walk, no hours, and all payers in one reading.

A payer's bytes of a product at each price follow from its sum of the month. Where all of them count in one row, or have
one price, it does not matter which of them are free or in which tier. What is left is walked.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC
from itertools import chain, groupby
from typing import TYPE_CHECKING, NamedTuple, cast

import pyarrow as pa

from metering.billing.prices.book import Product
from metering.billing.rating.lines import RatedLine
from metering.billing.rating.whole_months import Piece, WholeMonths
from metering.billing.usage.columns import SCHEMA, columns_of
from metering.billing.usage.ports import Sold, UsageLine
from metering.hours import month_bounds_s
from metering.reports.costs.columns.positions import ColumnPositions
from metering.reports.costs.columns.tables import Fold, chunks, whole_of
from metering.reports.costs.labels import Labels
from metering.reports.costs.rows import Entry
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Service, UsageType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from decimal import Decimal

    from metering.billing.prices.book import PriceBook
    from metering.billing.rating.payer_prices import PayerPrices
    from metering.billing.usage.months import MonthUsage
    from metering.billing.usage.ports import RegionMonth
    from metering.reports.answer import Json
    from metering.reports.costs.payers import PayersTogether
    from metering.reports.costs.query import CostQuery

RAW = {"account_id": "account_id", "from": "from_location", "to": "to_location"}
"""Columns of usage that a report can be grouped by. The price knows usage type and service."""
PLACES = ("from_location", "to_location")
_TEXTS = UsageLine._fields[1:-1]


class _Sum(NamedTuple):
    """Bytes of a payer's month that the report does not tell apart. The line is at the month's first hour."""

    line: UsageLine
    region: str


@dataclass(frozen=True, kw_only=True)
class MonthSums:
    """Rates the sums of some payers' month.

    Attributes:
        together: Payers whose accounts may be summed.
        left: Is given, by payer, what the order of usage decides; complete once `entries` has been read.
    """

    query: CostQuery
    usage: MonthUsage
    book: PriceBook
    prices_of: Callable[[str], PayerPrices]
    together: PayersTogether
    left: dict[str, frozenset[Sold]] = field(default_factory=dict)

    def entries(self) -> Iterator[Entry]:
        """Sums at one price each, on their way into rows.

        Raises:
            UnavailableError: A region gives no answer.
        """
        rater, names = WholeMonths(self.book, self.usage.month), self._names()
        for number, rows in groupby(self._fold(names).in_order("payer"), key=lambda row: row[0]):
            payer_id = self.together.payers[whole_of(number)]
            yield from _Payer(self, payer_id, rater).entries(self._sums(names, rows))

    def _names(self) -> list[str]:
        """Columns that are told apart."""
        asked = [RAW[name] for name in self.query.usage.group_by if name in RAW]
        filtered = ["account_id"] if self.query.usage.accounts else []
        filtered += PLACES if self.query.by_place else []
        region = ["region"] if self.query.by_region else []
        return list(dict.fromkeys(["payer", "service", "usage_type", *asked, *filtered, *region]))

    def _fold(self, names: Sequence[str]) -> Fold:
        fold = Fold(names)
        account = set() if self.together.alone else {"account_id"}
        columns = [name for name in SCHEMA.names if name in account.union(names, {"bytes"})]
        finder = ColumnPositions(usage=self.usage, together=self.together, prices_of=self.prices_of)
        for region in self.usage.regions:
            for rows in chunks(columns_of(region).day_batches(self.together.wanted, columns)):
                name = pa.repeat(pa.scalar(region.region), rows.num_rows)
                fold.add(finder.with_payers(rows).append_column("region", name))
        return fold

    def _sums(self, names: Sequence[str], rows: Iterable[Sequence[Json]]) -> Iterator[_Sum]:
        first_s, _ = month_bounds_s(self.usage.month)
        # What is not told apart is the empty text at the end.
        places = [names.index(name) if name in names else -1 for name in (*_TEXTS, "region")]
        for row in rows:
            *texts, region = [str((*row, "")[place]) for place in places]
            account_id, service, usage_type, from_location, to_location = texts
            size = int(cast("Decimal", row[-1]))
            yield _Sum(
                UsageLine(
                    first_s, account_id, Service(service), UsageType(usage_type), from_location, to_location, size
                ),
                region,
            )


class _Payer:
    """Rates the sums of one payer."""

    def __init__(self, months: MonthSums, payer_id: str, rater: WholeMonths) -> None:
        self._months, self._payer_id, self._rater = months, payer_id, rater
        query = months.query
        self._query = query
        grouped = {RAW.get(name, name) for name in query.usage.group_by}
        self._columns = [place for place, name in enumerate(UsageLine._fields) if name in grouped]
        self._labels: dict[str, Labels] = {}

    def entries(self, sums: Iterable[_Sum]) -> Iterator[Entry]:
        by_sku: dict[str, list[_Sum]] = defaultdict(list)
        for each in sums:
            found = self._rater.found(Sold(each.line.service, each.line.usage_type))
            if isinstance(found, Product):
                by_sku[found.sku].append(each)
            elif self._takes(each):
                yield self._entry(each, Piece(each.line.bytes, found))
        totals = {sku: sum(each.line.bytes for each in same) for sku, same in by_sku.items()}
        rated = self._rater.rated(self._months.prices_of(self._payer_id), totals)
        left: set[Sold] = set()
        for sku, same in by_sku.items():
            if sku not in rated or not self._decided(same, rated[sku]):
                left.update(Sold(each.line.service, each.line.usage_type) for each in same)
                continue
            if self._takes(same[0]) or len(rated[sku]) == 1:
                yield from self._of_product(same, rated[sku])
        if left:
            self._months.left[self._payer_id] = frozenset(left)

    def _decided(self, sums: Sequence[_Sum], pieces: Sequence[Piece]) -> bool:
        """Whether it does not matter which bytes have which price."""
        if len(pieces) == 1 or len(sums) == 1:
            return True
        rows = {(self._takes(each), each.region, *[each.line[place] for place in self._columns]) for each in sums}
        return len(rows) == 1

    def _of_product(self, sums: Sequence[_Sum], pieces: Sequence[Piece]) -> Iterator[Entry]:
        if len(pieces) == 1:
            for each in sums:
                if self._takes(each):
                    yield self._entry(each, Piece(each.line.bytes, pieces[0].terms))
        else:
            for piece in pieces:
                yield self._entry(sums[0], piece)

    def _takes(self, each: _Sum) -> bool:
        query = self._query
        return each.line.bytes > 0 and query.takes(each.line) and query.takes_region(each.region)

    def _entry(self, each: _Sum, piece: Piece) -> Entry:
        labels = self._labels.get(each.region)
        if labels is None:
            labels = self._labels[each.region] = Labels(
                self._query, self._months.book, payer_id=self._payer_id, region=each.region
            )
        rated = RatedLine(each.line._replace(bytes=piece.bytes), *piece.terms)
        return Entry(labels.of(rated), rated)


def about_whole_month(query: CostQuery, usage: MonthUsage) -> bool:
    """Whether a report is about all usage of a month, and tells no times in it apart."""
    first_s, after_s = month_bounds_s(usage.month)
    timed = query.has_column("hour", "day") or (query.usage.zone is not UTC and query.has_column("month"))
    if timed or query.usage.from_s > first_s:
        return False
    # A report of the running month ends with this hour, and so does its usage.
    return after_s <= query.usage.to_s or not any(_used_from(region, query.usage.to_s) for region in usage.regions)


def _used_from(region: RegionMonth, from_s: int) -> bool:
    """Whether a month has usage in an hour or after it."""
    first_s, after_s = month_bounds_s(region.month)
    columns, day_after_s = columns_of(region), from_s - from_s % DAY_S + DAY_S
    hours = (
        columns.hour_batches(day_s=hour_s - hour_s % DAY_S, hour_s=hour_s, columns=("hour_s",))
        for hour_s in range(max(from_s, first_s), day_after_s, HOUR_S)
    )
    days = (
        columns.hour_batches(day_s=day_s, columns=("hour_s",))
        for day_s in range(max(day_after_s, first_s), after_s, DAY_S)
    )
    return any(batch.num_rows for batches in chain(days, hours) for batch in batches)
