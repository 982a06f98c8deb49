"""Costs of many accounts in a month, in columns: daily sums determine the prices, and Arrow sums usage at each price.

Usage is read twice: first for sums by payer, product and day, which determine the positions; then for sums by price and
by the report's group columns. Only hours with a cut become lines. The whole month is never in memory, because only a
few hundred payers are processed at a time.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC
from functools import cached_property
from itertools import chain, groupby
from typing import TYPE_CHECKING, NamedTuple, cast

import pyarrow as pa
import pyarrow.compute as pc

from metering.billing.prices.book import PriceBook, Product
from metering.billing.rating.payer_prices import PayerPrices, RatedLine, Terms
from metering.billing.rating.rater import Piece, Rater, WholeMonths, positions, regions_rated
from metering.billing.usage.months import MergedUsage, MonthUsage, RegionMonth, Sold, UsageLine, merged
from metering.billing.usage.stored_months import SCHEMA, columns_of, lines_of, only
from metering.hours import month_bounds_s
from metering.reports.costs.late import PayersTogether, payers_of_month
from metering.reports.costs.rows import CostQuery, Entry, Labels, entries_of
from metering.reports.query import PLACES
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Service, UsageType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from decimal import Decimal

    from metering.reports.answer import Json

LINES = -1
"""In place of a price: a cut lies within the hour, so its lines are rated one by one."""
KEYS = ("payer", "service", "usage_type", "hour_s")
# Rows are joined and grouped in portions of this size, which take about 40 MB with all columns.
_CHUNK_ROWS = 300_000
# Partial sums are summed again as soon as there are this many.
_FOLD_ROWS = 600_000
# Number of sums that are converted to Python objects at once.
_ROWS = 50_000


def chunks(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Join many batches into tables of an efficient size; empty batches are skipped."""
    waiting: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        if not batch.num_rows:
            continue
        for first in range(0, batch.num_rows, _CHUNK_ROWS):
            piece = batch.slice(first, _CHUNK_ROWS)
            waiting.append(piece)
            rows += piece.num_rows
            if rows >= _CHUNK_ROWS:
                yield pa.Table.from_batches(waiting)
                waiting, rows = [], 0
    if waiting:
        yield pa.Table.from_batches(waiting)


def joined(table: pa.Table, small: pa.Table, keys: Sequence[str]) -> pa.Table:
    """Inner join of rows with a small table. Their order is lost."""
    return table.join(small, keys=list(keys), join_type="inner", use_threads=False)


def whole_of(value: Json) -> int:
    """Convert a row's value to an integer."""
    if not isinstance(value, int):
        raise TypeError(f"{value!r} is no whole number")
    return value


class Fold:
    """Exact sums of bytes, grouped by some columns. Mutable."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = list(keys)
        self._parts: list[pa.Table] = []
        self._rows = 0

    def add(self, table: pa.Table) -> None:
        """Count a table's rows."""
        part = self._summed(table)
        self._parts.append(part)
        self._rows += part.num_rows
        if self._rows > _FOLD_ROWS and len(self._parts) > 1:
            self._parts = [self._summed(pa.concat_tables(self._parts))]
            self._rows = self._parts[0].num_rows

    def rows(self) -> Iterator[tuple[Mapping[str, Json], int]]:
        """Each distinct combination of the keys, and its bytes."""
        if not self._parts:
            return
        for batch in self._summed(pa.concat_tables(self._parts)).to_batches(max_chunksize=_ROWS):
            *values, sizes = (batch.column(name).to_pylist() for name in (*self._keys, "bytes"))
            for row in zip(*values, sizes, strict=True):
                yield dict(zip(self._keys, row[:-1], strict=True)), int(row[-1])

    def in_order(self, key: str) -> Iterator[tuple[Json, ...]]:
        """Values of the keys, in the order of the keys, and then the bytes; rows are sorted by one key."""
        if self._parts:
            summed = self._summed(pa.concat_tables(self._parts)).sort_by(key)
            for batch in summed.to_batches(max_chunksize=_ROWS):
                yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)

    def _summed(self, table: pa.Table) -> pa.Table:
        sums = table.group_by(self._keys, use_threads=False).aggregate([("bytes", "sum")])
        named = sums.select([*self._keys, "bytes_sum"]).rename_columns([*self._keys, "bytes"])
        # With each step, Arrow widens the type of a decimal sum.
        place = len(self._keys)
        return named.set_column(place, "bytes", named.column(place).cast(pa.decimal128(38, 0)))


class Priced(NamedTuple):
    """Identity of a price: the payer's number, the product sold, and the terms."""

    payer: int
    sold: Sold
    terms: Terms


class PriceTable:
    """Rows of one table, each with the number of its price. Mutable."""

    def __init__(self, prices: list[Priced], numbers: dict[Priced, int]) -> None:
        self._prices = prices
        self._numbers = numbers
        self._rows: list[tuple[int, Service, UsageType, int, int]] = []

    @classmethod
    def empty(cls) -> PriceTable:
        """A first table."""
        return cls([], {})

    def another(self) -> PriceTable:
        """A new table that shares this table's numbering of prices."""
        return PriceTable(self._prices, self._numbers)

    def add(self, payer: int, sold: Sold, moment_s: int, terms: Terms | None) -> None:
        """Add the terms of a payer's usage in a day or an hour; None if the price depends on the lines."""
        number = LINES
        if terms is not None:
            priced = Priced(payer, sold, terms)
            number = self._numbers.get(priced, len(self._prices))
            if number == len(self._prices):
                self._numbers[priced] = number
                self._prices.append(priced)
        self._rows.append((payer, sold.service, sold.usage_type, moment_s, number))

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def sold(self) -> frozenset[Sold]:
        """All products that have a row in the table."""
        return frozenset(Sold(service, usage_type) for _, service, usage_type, *_ in self._rows)

    def table(self) -> pa.Table:
        """Its rows: `KEYS`, and the number of the price."""
        types = (pa.int32(), pa.string(), pa.string(), pa.int64(), pa.int32())
        columns = zip(*self._rows, strict=True) if self._rows else ((),) * len(types)
        arrays = [pa.array(values, type=kind) for values, kind in zip(columns, types, strict=True)]
        return pa.Table.from_arrays(arrays, names=[*KEYS, "price"])

    def rated(self, number: int, line: UsageLine) -> tuple[int, RatedLine]:
        """The payer of a price, and a usage sum rated at that price. The line's product comes from the price."""
        payer, sold, terms = self._prices[number]
        return payer, RatedLine(line._replace(service=sold.service, usage_type=sold.usage_type), *terms)


Days = dict[Sold, dict[int, int]]
Lines = dict[int, tuple[frozenset[Sold], list[UsageLine]]]
"""Lines of some things that are sold, by day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SummedUsage:
    """A `PayerUsage` over sums by day.

    Attributes:
        tiered: Products with more than one price; the first request for such a product sums the hours of all of them.
        alone: Whether the month has no other payer, so that hourly sums need no filter.
        read: Lines that were read in advance, by day, in the order of rating.
        by_hour: Bytes by product and hour, for each day requested so far.
    """

    whole: MergedUsage
    sums: Days
    tiered: frozenset[Sold]
    alone: bool = False
    read: Lines = field(default_factory=dict)
    by_hour: dict[int, Days] = field(default_factory=dict)

    @property
    def month(self) -> str:
        return self.whole.month

    def days(self) -> Days:
        return self.sums

    def hours(self, sold: frozenset[Sold], day_s: int) -> dict[int, int]:
        """Bytes of one day by hour. Each day is summed only once, for all tiered products."""
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


class Wanted:
    """A `PayerUsage` that only records which lines are requested, so many payers can be read at once. Mutable."""

    def __init__(self, month: str, sums: Days) -> None:
        self.month = month
        self.wanted: dict[int, set[Sold]] = {}
        self._sums = sums

    def days(self) -> Days:
        return self._sums

    def lines_of(self, sold: frozenset[Sold], day_s: int) -> Iterator[UsageLine]:
        """One line per product, with the day's sum. Which days are read next depends only on sums."""
        self.wanted.setdefault(day_s, set()).update(sold)
        for each in sorted(sold):
            total = self._sums.get(each, {}).get(day_s, 0)
            if total:
                yield UsageLine(day_s, "0", each.service, each.usage_type, "", "", total)


def hour_sums(usage: MergedUsage, day_s: int, sold: frozenset[Sold], *, alone: bool = False) -> Days:
    """A payer's bytes of one day by product and hour, summed in columns."""
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
    """Add daily lines to sums."""
    for line in lines:
        days = into.setdefault(line.sold, {})
        days[line.hour_s] = days.get(line.hour_s, 0) + line.bytes


@dataclass(frozen=True, kw_only=True)
class Positioned:
    """A payer's positions in the month."""

    rater: Rater
    sums: Days


@dataclass(frozen=True, kw_only=True)
class ColumnPositions:
    """Computes payers' positions from a month's columns. Only `asked` is rated; None or empty for all products."""

    usage: MonthUsage
    together: PayersTogether
    prices_of: Callable[[str], PayerPrices]
    asked: Sequence[frozenset[Sold] | None] = ()

    def asked_of(self, number: int) -> frozenset[Sold] | None:
        """A payer's products to be rated; None for all products."""
        return self.asked[number] if self.asked else None

    def positioned(self) -> list[Positioned]:
        """Each payer, in order.

        Raises:
            UnavailableError: A region does not respond.
        """
        sums = self._sums()
        prices = [self.prices_of(payer_id) for payer_id in self.together.payers]
        read = self._read_at_once(sums, prices) if len(prices) > 1 else {}
        return [
            self._positioned(payer_id, prices[number], sums[number], read.get(number, {}))
            for number, payer_id in enumerate(self.together.payers)
        ]

    @cached_property
    def accounts(self) -> pa.Table:
        """Accounts, each with the number of its payer."""
        ids, numbers = list(self.together.accounts), list(self.together.accounts.values())
        return pa.table({"account_id": pa.array(ids, pa.string()), "payer": pa.array(numbers, pa.int32())})

    def with_payers(self, table: pa.Table) -> pa.Table:
        """Rows with their payers' numbers, without rows of other payers. A payer that is alone has number 0."""
        if self.together.alone:
            return table.append_column("payer", pa.repeat(pa.scalar(0, pa.int32()), table.num_rows))
        return joined(table, self.accounts, ("account_id",))

    def _sums(self) -> list[Days]:
        fold = Fold(("payer", "service", "usage_type", "hour_s"))
        wanted = self.together.wanted
        names = ["hour_s", *([] if self.together.alone else ["account_id"]), "service", "usage_type", "bytes"]
        for region in self.usage.regions:
            for table in chunks(columns_of(region).day_batches(wanted, names)):
                fold.add(self.with_payers(table))
        sums: list[Days] = [{} for _ in self.together.payers]
        for row, size in fold.rows():
            sold = Sold(Service(str(row["service"])), UsageType(str(row["usage_type"])))
            number = whole_of(row["payer"])
            if self._counts(number, sold):
                sums[number].setdefault(sold, {})[whole_of(row["hour_s"])] = size
        for number, accounts in self.together.apart.items():
            add_days(sums[number], self.usage.of(self.together.payers[number]).of_accounts(accounts).day_lines())
        return sums

    def _counts(self, number: int, sold: Sold) -> bool:
        """Whether a payer's positions need this product, because it is asked for or shares an allowance."""
        asked = self.asked_of(number)
        if asked is None or sold in asked:
            return True
        product = self._any_prices.found(sold)
        return isinstance(product, Product) and product.sku in self._shared

    @cached_property
    def _any_prices(self) -> PayerPrices:
        return self.prices_of(self.together.payers[0])

    @cached_property
    def _shared(self) -> frozenset[str]:
        """SKUs of the products that share an allowance."""
        return frozenset(sku for allowance in self._any_prices.book.allowances for sku in allowance.skus)

    def _positioned(self, payer_id: str, prices: PayerPrices, sums: Days, read: Lines) -> Positioned:
        found = {sold: prices.found(sold) for sold in sums}
        tiered = frozenset(
            sold
            for sold, product in found.items()
            if isinstance(product, Product)
            and (product.sku in self._shared or any(len(version.tiers) > 1 for version in product.versions))
        )
        alone = self.together.whole and len(self.together.payers) == 1
        usage = SummedUsage(whole=self.usage.of(payer_id), sums=sums, tiered=tiered, alone=alone, read=read)
        return Positioned(rater=Rater(prices, positions(prices, usage)), sums=sums)

    def _read_at_once(self, sums: list[Days], prices: list[PayerPrices]) -> dict[int, Lines]:
        """Lines needed for the positions of many payers, by payer and day. Each day is read once for all payers."""
        wanted: dict[int, dict[int, frozenset[Sold]]] = {}
        for number, of in enumerate(sums):
            noted = Wanted(self.usage.month, of)
            positions(prices[number], noted)
            for day_s, sold in noted.wanted.items():
                wanted.setdefault(day_s, {})[number] = frozenset(sold)
        read: dict[int, Lines] = {}
        for day_s, payers in sorted(wanted.items()):
            for number, lines in self._lines(day_s, payers).items():
                read.setdefault(number, {})[day_s] = (payers[number], lines)
        return read

    def _lines(self, day_s: int, payers: dict[int, frozenset[Sold]]) -> dict[int, list[UsageLine]]:
        names = self.together.payers
        accounts = frozenset(
            account_id
            for account_id in self.together.everything
            if self.together.accounts.get(account_id, -1) in payers or account_id not in self.together.accounts
        )
        sold = frozenset().union(*payers.values())
        found: dict[int, list[UsageLine]] = {number: [] for number in payers}
        numbers = {payer_id: number for number, payer_id in enumerate(names)}
        for region in self.usage.regions:
            for batch in columns_of(region).hour_batches(accounts, day_s=day_s, sold=sold):
                for line in lines_of(batch):
                    payer_id = self.usage.organization.payer_of(line.account_id, line.hour_s)
                    number = numbers.get(payer_id, -1)
                    if number in payers and (line.service, line.usage_type) in payers[number]:
                        found[number].append(line)
        return {number: list(merged(sorted(lines))) for number, lines in found.items()}


# Costs of whole months, computed only from sums: without reading lines or hours, and for all payers in one pass.
#
# A payer's monthly sum for a product determines the bytes at each price. If all these bytes count in one row, or have
# one price, it does not matter which are free or in which tier. All other products are processed one line at a time.


RAW = {"account_id": "account_id", "from": "from_location", "to": "to_location"}
"""Columns of usage that a report can be grouped by. The price knows usage type and service."""
_TEXTS = UsageLine._fields[1:-1]


class _Sum(NamedTuple):
    """Bytes of a payer's month that belong to one row of the report. The line has the month's first hour."""

    line: UsageLine
    region: str


class _MonthSums:
    """Rates some payers' sums of the month, payer by payer, except usage whose price depends on the order of lines."""

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
        # For columns that the report does not group by, index -1 reads the empty string.
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
            found = self._rater.found(each.line.sold)
            if isinstance(found, Product):
                by_sku[found.sku].append(each)
            elif self._takes(each):
                yield self._entry(each, Piece(each.line.bytes, found))
        totals = {sku: sum(each.line.bytes for each in same) for sku, same in by_sku.items()}
        rated = self._rater.rated(self._months.prices_of(self._payer_id), totals)
        left: set[Sold] = set()
        for sku, same in by_sku.items():
            if sku not in rated or not self._decided(same, rated[sku]):
                left.update(each.line.sold for each in same)
                continue
            if self._takes(same[0]) or len(rated[sku]) == 1:
                yield from self._of_product(same, rated[sku])
        if left:
            self._months.left[self._payer_id] = frozenset(left)

    def _decided(self, sums: Sequence[_Sum], pieces: Sequence[Piece]) -> bool:
        """Whether it is irrelevant which bytes get which price."""
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
    """Whether a report covers all usage of a month and does not group it by time."""
    first_s, after_s = month_bounds_s(usage.month)
    timed = query.has_column("hour", "day") or (query.usage.zone is not UTC and query.has_column("month"))
    if timed or query.usage.from_s > first_s:
        return False
    # A report on the current month ends with the current hour, as does the usage in it.
    return after_s <= query.usage.to_s or not any(_used_from(region, query.usage.to_s) for region in usage.regions)


def _used_from(region: RegionMonth, from_s: int) -> bool:
    """Whether a month has usage in an hour or later."""
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
    """Costs of all accounts of some payers in one month; an empty `payers` means all payers."""

    query: CostQuery
    usage: MonthUsage
    book: PriceBook
    prices_of: Callable[[str], PayerPrices]
    payers: frozenset[str]
    own_prices: frozenset[str]

    def entries(self) -> Iterator[Entry]:
        """Entries to be added to rows, each a sum at one price.

        Raises:
            UnavailableError: A region does not respond.
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
                # Each day has its own rows, so its sums need not wait for those of other days.
                yield from self._folded(folds, days)
                folds = {name: Fold(self._keys()) for name in folds}
        yield from self._folded(folds, days)
        for number, accounts in self.together.apart.items():
            usage = self.usage.of(self.together.payers[number]).of_accounts(accounts)
            yield from entries_of(self.query, self.book, usage, self.positioned[number].rater)

    def _asked(self, payer: Positioned, asked: frozenset[Sold] | None) -> Iterator[tuple[Sold, int]]:
        """The products and days that the report covers."""
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
        """Groups of regions that are summed together."""
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
        # Within a month in UTC, every hour belongs to the same month.
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
