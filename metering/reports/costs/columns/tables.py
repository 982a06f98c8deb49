"""What reports of costs do with Arrow's tables: join small ones, such as prices, and sum large ones part by part."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from metering.billing.rating.lines import RatedLine
from metering.billing.usage.ports import Sold, UsageLine

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from metering.billing.rating.scales import Terms
    from metering.reports.answer import Json
    from metering.usage.totals import Service, UsageType

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
    """Exact sums of bytes by some columns. Mutable.

    Args:
        keys: The columns.
    """

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
