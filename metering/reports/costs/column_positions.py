"""Costs of a month of many accounts by columns: sums by day decide the prices, and Arrow adds up what has one price.

Usage is read twice: once for the sums by payer, product and day, which give the positions; once for the sums by price
and by the columns that the report is grouped by. Only hours that hold a cut become lines. Nothing holds the month:
payers are taken some hundred at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from metering.billing.prices.book import Product
from metering.billing.rating.lines import RatedLine, Terms
from metering.billing.rating.positions import positions
from metering.billing.rating.rater import Rater
from metering.billing.usage.columns import columns_of, lines_of
from metering.billing.usage.months import MergedUsage, MonthUsage, Sold, UsageLine, merged
from metering.units import DAY_S
from metering.usage.totals import Service, UsageType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from metering.billing.rating.payer_prices import PayerPrices
    from metering.reports.answer import Json
    from metering.reports.costs.late import PayersTogether


LINES = -1
"""In place of a price: a cut lies within the hour, so its lines are rated one by one."""
KEYS = ("payer", "service", "usage_type", "hour_s")
# Rows that are joined and grouped at once: with all their columns about 40 MB.
_CHUNK_ROWS = 300_000
# Partial sums that wait until they are summed again.
_FOLD_ROWS = 600_000
# Sums that become objects of Python at once.
_ROWS = 50_000


def chunks(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Many batches as tables of a useful size; empty ones are left out."""
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
    """The rows that have a partner in a small table, with its other columns. Their order is lost."""
    return table.join(small, keys=list(keys), join_type="inner", use_threads=False)


def whole_of(value: Json) -> int:
    """A whole number of a row."""
    if not isinstance(value, int):
        raise TypeError(f"{value!r} is no whole number")
    return value


class Fold:
    """Exact sums of bytes by some columns. Mutable."""

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
        """Each different values of the keys, and their bytes."""
        if not self._parts:
            return
        for batch in self._summed(pa.concat_tables(self._parts)).to_batches(max_chunksize=_ROWS):
            *values, sizes = (batch.column(name).to_pylist() for name in (*self._keys, "bytes"))
            for row in zip(*values, sizes, strict=True):
                yield dict(zip(self._keys, row[:-1], strict=True)), int(row[-1])

    def in_order(self, key: str) -> Iterator[tuple[Json, ...]]:
        """The values of the keys in their order, and the bytes; sorted by one of the keys."""
        if self._parts:
            summed = self._summed(pa.concat_tables(self._parts)).sort_by(key)
            for batch in summed.to_batches(max_chunksize=_ROWS):
                yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)

    def _summed(self, table: pa.Table) -> pa.Table:
        sums = table.group_by(self._keys, use_threads=False).aggregate([("bytes", "sum")])
        named = sums.select([*self._keys, "bytes_sum"]).rename_columns([*self._keys, "bytes"])
        # Arrow widens a sum of decimals with each step.
        place = len(self._keys)
        return named.set_column(place, "bytes", named.column(place).cast(pa.decimal128(38, 0)))


class Priced(NamedTuple):
    """What a price is for: a payer, by its number, and what is sold."""

    payer: int
    sold: Sold
    terms: Terms


class PriceTable:
    """Rows of one table, with numbers for its prices. Mutable."""

    def __init__(self, prices: list[Priced], numbers: dict[Priced, int]) -> None:
        self._prices = prices
        self._numbers = numbers
        self._rows: list[tuple[int, Service, UsageType, int, int]] = []

    @classmethod
    def empty(cls) -> PriceTable:
        """A first table."""
        return cls([], {})

    def another(self) -> PriceTable:
        """A further table, with the same numbers for the same prices."""
        return PriceTable(self._prices, self._numbers)

    def add(self, payer: int, sold: Sold, moment_s: int, terms: Terms | None) -> None:
        """The price of a payer's usage in a day or an hour; None: lines decide."""
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
        """Everything that has a row."""
        return frozenset(Sold(service, usage_type) for _, service, usage_type, *_ in self._rows)

    def table(self) -> pa.Table:
        """Its rows: `KEYS`, and the number of the price."""
        types = (pa.int32(), pa.string(), pa.string(), pa.int64(), pa.int32())
        columns = zip(*self._rows, strict=True) if self._rows else ((),) * len(types)
        arrays = [pa.array(values, type=kind) for values, kind in zip(columns, types, strict=True)]
        return pa.Table.from_arrays(arrays, names=[*KEYS, "price"])

    def rated(self, number: int, line: UsageLine) -> tuple[int, RatedLine]:
        """The payer of a price, and a sum of usage at it. Service and usage type of the line are those of the price."""
        payer, sold, terms = self._prices[number]
        return payer, RatedLine(line._replace(service=sold.service, usage_type=sold.usage_type), *terms)


Days = dict[Sold, dict[int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SummedUsage:
    """A `PayerUsage` with its sums of days.

    Attributes:
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


class Wanted:
    """A `PayerUsage` that only notes which lines are asked for: those of many payers are read at once. Mutable."""

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
        days = into.setdefault(line.sold, {})
        days[line.hour_s] = days.get(line.hour_s, 0) + line.bytes


@dataclass(frozen=True, kw_only=True)
class Positioned:
    """A payer with the positions of its month."""

    rater: Rater
    sums: Days


@dataclass(frozen=True, kw_only=True)
class ColumnPositions:
    """Finds positions of payers by a month's columns. Of each, `asked` is rated; all if that is None or empty."""

    usage: MonthUsage
    together: PayersTogether
    prices_of: Callable[[str], PayerPrices]
    asked: Sequence[frozenset[Sold] | None] = ()

    def asked_of(self, number: int) -> frozenset[Sold] | None:
        """What of a payer is to be rated; None for everything."""
        return self.asked[number] if self.asked else None

    def positioned(self) -> list[Positioned]:
        """Each payer, in order.

        Raises:
            UnavailableError: A region gives no answer.
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
        """Accounts with the numbers of their payers."""
        ids, numbers = list(self.together.accounts), list(self.together.accounts.values())
        return pa.table({"account_id": pa.array(ids, pa.string()), "payer": pa.array(numbers, pa.int32())})

    def with_payers(self, table: pa.Table) -> pa.Table:
        """Rows with the numbers of their payers, without those of other payers. One payer has the number 0."""
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
        """Whether a payer's positions need what is sold: products of allowances depend on one another."""
        asked = self.asked_of(number)
        return asked is None or sold in asked or self._shares(sold)

    @cached_property
    def _shares(self) -> Callable[[Sold], bool]:
        prices = self.prices_of(self.together.payers[0])
        skus = {sku for allowance in prices.book.allowances for sku in allowance.skus}

        def shares(sold: Sold) -> bool:
            product = prices.found(sold)
            return isinstance(product, Product) and product.sku in skus

        return shares

    def _positioned(
        self,
        payer_id: str,
        prices: PayerPrices,
        sums: Days,
        read: dict[int, tuple[frozenset[Sold], list[UsageLine]]],
    ) -> Positioned:
        with_allowance = {sku for allowance in prices.book.allowances for sku in allowance.skus}
        found = {sold: prices.found(sold) for sold in sums}
        tiered = frozenset(
            sold
            for sold, product in found.items()
            if isinstance(product, Product)
            and (product.sku in with_allowance or any(len(version.tiers) > 1 for version in product.versions))
        )
        alone = self.together.whole and len(self.together.payers) == 1
        usage = SummedUsage(whole=self.usage.of(payer_id), sums=sums, tiered=tiered, alone=alone, read=read)
        return Positioned(rater=Rater(prices, positions(prices, usage)), sums=sums)

    def _read_at_once(
        self, sums: list[Days], prices: list[PayerPrices]
    ) -> dict[int, dict[int, tuple[frozenset[Sold], list[UsageLine]]]]:
        """Lines that the positions of many payers need, by payer and day: each day is read once for all of them."""
        wanted: dict[int, dict[int, frozenset[Sold]]] = {}
        for number, of in enumerate(sums):
            noted = Wanted(self.usage.month, of)
            positions(prices[number], noted)
            for day_s, sold in noted.wanted.items():
                wanted.setdefault(day_s, {})[number] = frozenset(sold)
        read: dict[int, dict[int, tuple[frozenset[Sold], list[UsageLine]]]] = {}
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
