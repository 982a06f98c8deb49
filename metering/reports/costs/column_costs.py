"""Rows of costs of many accounts: usage joined with its prices, and summed by what the report is grouped by."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC
from itertools import chain, groupby
from typing import TYPE_CHECKING, NamedTuple, cast

import pyarrow as pa
import pyarrow.compute as pc

from metering.billing.prices.book import PriceBook, Product
from metering.billing.rating.lines import RatedLine
from metering.billing.rating.rater import Piece, WholeMonths, regions_rated
from metering.billing.usage.columns import SCHEMA, columns_of, lines_of, only
from metering.billing.usage.months import MonthUsage, RegionMonth, Sold, UsageLine
from metering.hours import month_bounds_s
from metering.reports.costs.column_positions import (
    KEYS,
    LINES,
    ColumnPositions,
    Fold,
    Positioned,
    PriceTable,
    chunks,
    joined,
    whole_of,
)
from metering.reports.costs.late import PayersTogether, payers_of_month
from metering.reports.costs.rows import CostQuery, Entry, Labels, entries_of
from metering.reports.query import PLACES
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Service, UsageType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from decimal import Decimal

    from metering.billing.rating.payer_prices import PayerPrices
    from metering.reports.answer import Json


# Costs of whole months by sums alone: no walk, no hours, and all payers in one reading.
#
# A payer's bytes of a product at each price follow from its sum of the month. Where all of them count in one row, or
# have one price, it does not matter which of them are free or in which tier. What is left is walked.


RAW = {"account_id": "account_id", "from": "from_location", "to": "to_location"}
"""Columns of usage that a report can be grouped by. The price knows usage type and service."""
_TEXTS = UsageLine._fields[1:-1]


class _Sum(NamedTuple):
    """Bytes of a payer's month that the report does not tell apart. The line is at the month's first hour."""

    line: UsageLine
    region: str


class _MonthSums:
    """Rates the sums of some payers' month, and leaves what the order of usage decides, by payer."""

    def __init__(self, costs: ColumnCosts, together: PayersTogether, left: dict[str, frozenset[Sold] | None]) -> None:
        self.query, self.usage, self.book, self.prices_of = costs.query, costs.usage, costs.book, costs.prices_of
        self.together, self.left = together, left

    def entries(self) -> Iterator[Entry]:
        rater, names = WholeMonths(self.book, self.usage.month), self._names()
        for number, rows in groupby(self._fold(names).in_order("payer"), key=lambda row: row[0]):
            payer_id = self.together.payers[whole_of(number)]
            yield from _Payer(self, payer_id, rater).entries(self._sums(names, rows))

    def _names(self) -> list[str]:
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
    def __init__(self, months: _MonthSums, payer_id: str, rater: WholeMonths) -> None:
        self._months, self._payer_id, self._rater = months, payer_id, rater
        query = months.query
        self._query = query
        grouped = {RAW.get(name, name) for name in query.usage.group_by}
        self._columns = [place for place, name in enumerate(UsageLine._fields) if name in grouped]
        self._labels = Labels(query, months.book, payer_id)

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
        rated = RatedLine(each.line._replace(bytes=piece.bytes), *piece.terms)
        return Entry(self._labels.of(rated, each.region), rated)


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


@dataclass(frozen=True, kw_only=True)
class ColumnCosts:
    """Costs of all accounts of some payers in one month; of all payers, if none is named."""

    query: CostQuery
    usage: MonthUsage
    book: PriceBook
    prices_of: Callable[[str], PayerPrices]
    payers: frozenset[str]
    own_prices: frozenset[str]

    def entries(self) -> Iterator[Entry]:
        """Sums at one price each, on their way into rows.

        Raises:
            UnavailableError: A region gives no answer.
        """
        payers = payers_of_month(self.usage, payers=self.payers, own_prices=self.own_prices)
        left: dict[str, frozenset[Sold] | None] = dict.fromkeys(payers.whole)
        of_sums = payers.of_sums
        if of_sums is not None and about_whole_month(self.query, self.usage):
            left = dict.fromkeys(payers.apart)
            yield from _MonthSums(self, of_sums, left).entries()
        for together in payers.together(left):
            asked = [left[payer_id] for payer_id in together.payers]
            finder = ColumnPositions(usage=self.usage, together=together, prices_of=self.prices_of, asked=asked)
            yield from _Together(self, finder).entries()


class _Together:
    def __init__(self, costs: ColumnCosts, finder: ColumnPositions) -> None:
        self.query, self.usage, self.book = costs.query, costs.usage, costs.book
        self.together = finder.together
        self.positioned = finder.positioned()
        self._finder = finder
        self._labels = [Labels(self.query, self.book, payer_id) for payer_id in self.together.payers]
        filtered = self.query.usage.accounts
        self._wanted = frozenset(self.together.accounts) & filtered if filtered else self.together.wanted

    def entries(self) -> Iterator[Entry]:
        days = PriceTable.empty()
        by_hour: dict[int, list[tuple[int, Sold]]] = {}
        for number, payer in enumerate(self.positioned):
            for sold, day_s in self._asked(payer, self._finder.asked_of(number)):
                if self.query.usage.splits_day(day_s) or payer.rater.needs_hours(sold, day_s):
                    by_hour.setdefault(day_s, []).append((number, sold))
                else:
                    days.add(number, sold, day_s, payer.rater.terms_of_day(sold, day_s, _ANYBODY))
        folds = {name: Fold(self._keys()) for name, _ in self._parts()}
        if len(days):
            self._add_days(folds, days)
        for day_s, wanted in sorted(by_hour.items()):
            yield from self._of_hours(folds, days.another(), day_s, wanted)
            if self._timed:
                # Each day has rows of its own, so its sums need not wait for those of the others.
                yield from self._folded(folds, days)
                folds = {name: Fold(self._keys()) for name in folds}
        yield from self._folded(folds, days)
        for number, accounts in self.together.apart.items():
            usage = self.usage.of(self.together.payers[number]).of_accounts(accounts)
            yield from entries_of(self.query, self.book, usage, self.positioned[number].rater)

    def _asked(self, payer: Positioned, asked: frozenset[Sold] | None) -> Iterator[tuple[Sold, int]]:
        """What is sold and the days that the report is about."""
        usage = self.query.usage
        for sold, days in payer.sums.items():
            if asked is not None and sold not in asked:
                continue
            if not usage.takes_only(Sold._fields, sold):
                continue
            for day_s in days:
                if day_s < usage.to_s and day_s + DAY_S > usage.from_s:
                    yield sold, day_s

    def _add_days(self, folds: Mapping[str, Fold], prices: PriceTable) -> None:
        table = prices.table()
        for name, regions in self._parts():
            if not self.query.takes_region(name):
                continue
            for region in regions:
                batches = columns_of(region).day_batches(self._wanted, self._columns())
                for rows in chunks(only(batch, None, prices.sold) for batch in batches):
                    folds[name].add(joined(self._finder.with_payers(rows), table, KEYS))

    def _of_hours(
        self, folds: Mapping[str, Fold], prices: PriceTable, day_s: int, wanted: Sequence[tuple[int, Sold]]
    ) -> Iterator[Entry]:
        for number, sold in wanted:
            self._price_hours(prices, day_s, number, sold)
        table, sold_here = prices.table(), frozenset(sold for _, sold in wanted)
        lines: dict[int, list[tuple[UsageLine, str]]] = {}
        for name, regions in self._parts():
            for region in regions:
                batches = columns_of(region).hour_batches(self._wanted, day_s=day_s, sold=sold_here)
                for rows in chunks(batches):
                    found = joined(self._finder.with_payers(rows), table, KEYS)
                    single = pc.equal(found.column("price"), LINES)
                    if self.query.takes_region(name):
                        folds[name].add(found.filter(pc.invert(single)))
                    _keep_lines(lines, found.filter(single), name)
        yield from self._of_lines(lines)

    def _price_hours(self, prices: PriceTable, day_s: int, number: int, sold: Sold) -> None:
        usage, payer = self.query.usage, self.positioned[number]
        for hour_s in range(max(day_s, usage.from_s), min(day_s + DAY_S, usage.to_s), HOUR_S):
            prices.add(number, sold, hour_s, payer.rater.terms_of_hour(sold, hour_s, _ANYBODY))

    def _of_lines(self, lines: Mapping[int, list[tuple[UsageLine, str]]]) -> Iterator[Entry]:
        for number, parts in sorted(lines.items()):
            for name, rated in regions_rated(sorted(parts), self.positioned[number].rater):
                if self.query.takes_region(name) and self._takes_places(rated.line):
                    yield Entry(self._labels[number].of(rated, name), rated)

    def _parts(self) -> list[tuple[str, Sequence[RegionMonth]]]:
        """Regions that are summed together."""
        if self.query.by_region:
            return [(region.region, (region,)) for region in self.usage.regions]
        return [("", tuple(self.usage.regions))]

    def _columns(self) -> list[str]:
        account = [] if self.together.alone else ["account_id"]
        return list(dict.fromkeys(["hour_s", *account, "service", "usage_type", *self._raw(), "bytes"]))

    def _keys(self) -> list[str]:
        return ["price", *self._raw(), *(["hour_s"] if self._timed else [])]

    @property
    def _timed(self) -> bool:
        # Within a month in UTC, all hours have the same month.
        return self.query.has_column("hour", "day") or self.query.usage.zone is not UTC

    def _raw(self) -> list[str]:
        asked = [RAW[name] for name in self.query.usage.group_by if name in RAW]
        return list(dict.fromkeys([*asked, *(PLACES if self.query.by_place else ())]))

    def _folded(self, folds: Mapping[str, Fold], prices: PriceTable) -> Iterator[Entry]:
        first_s, _ = month_bounds_s(self.usage.month)
        for region, fold in folds.items():
            for row, size in fold.rows():
                line = UsageLine(
                    _hour(row, first_s), _text(row, "account_id"), Service(""), UsageType(""),
                    _text(row, "from_location"),                    _text(row, "to_location"), size,
                )  # fmt: skip
                if self._takes_places(line):
                    number, rated = prices.rated(_hour(row, 0, "price"), line)
                    yield Entry(self._labels[number].of(rated, region), rated)

    def _takes_places(self, line: UsageLine) -> bool:
        return self.query.usage.takes_only(PLACES, line)


_ANYBODY = "0"
"""Sorts after the places at the beginning of an hour, which name no account, and is the id of none."""


def _keep_lines(into: dict[int, list[tuple[UsageLine, str]]], found: pa.Table, region: str) -> None:
    if not found.num_rows:
        return
    names = ["hour_s", "account_id", "service", "usage_type", "from_location", "to_location", "bytes"]
    for batch in found.to_batches():
        numbers = batch.column("payer").to_pylist()
        for number, line in zip(numbers, lines_of(batch.select(names)), strict=True):
            into.setdefault(number, []).append((line, region))


def _text(row: Mapping[str, Json], name: str) -> str:
    return str(row.get(name, ""))


def _hour(row: Mapping[str, Json], otherwise: int, name: str = "hour_s") -> int:
    value = row.get(name)
    return value if isinstance(value, int) else otherwise
