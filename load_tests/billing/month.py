"""A closed month of many accounts, generated day by day to save memory: daily rows, and hourly rows of some days.

10,000 accounts x 20 usage types x 30 days are 6,000,000 daily rows, and 144,000,000 hourly rows. Hourly rows are
written only for requested days.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from metering.billing.payers import Membership, Organization, Payer
from metering.billing.rating.payer_prices import PayerPrices
from metering.billing.usage.months import MonthUsage
from metering.billing.usage.stored_months import ClosedMonth
from metering.hours import month_bounds_s
from metering.lake.parquet.frozen_months import ParquetFrozenFiles
from metering.lake.parquet.usage_files import NUMBER, USAGE_SCHEMA, usage_writer
from metering.ledger.periods import FrozenHour, FrozenMonth, FrozenRows
from metering.reports.costs.column_costs import ColumnCosts
from metering.reports.costs.rows import CostQuery, rows_of
from metering.reports.query import GroupColumn, UsageQuery
from metering.units import DAY_S, GIB, HOUR_S
from tests.support.priced import US_TIERS, allowance, book, product

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from metering.billing.prices.book import PriceBook
    from metering.stores.objects import ObjectStore

MONTH = "2026-10"
BEGIN_S, END_S = month_bounds_s(MONTH)
DAYS, USAGE_TYPES = 30, 20
# Internet egress of four regions has tiers; all other usage has one price.
TIERED = 4
_ACCOUNTS_AT_ONCE = 250
# A payer of 10,000 accounts has about 500 TB of each tiered type per month, and therefore reaches all tiers.
_MOST_BYTES = 3_600_000_000
_MICROSECONDS = 1_000_000
# The service writes row groups of this size.
_GROUP_ROWS = 64 * 1024


def usage_types() -> list[str]:
    """Names of the usage types, the types with tiered prices first."""
    tiered = [f"R{number}-DataTransfer-Out-Bytes" for number in range(TIERED)]
    return [*tiered, *(f"R{number}-USE1-AWS-Out-Bytes" for number in range(TIERED, USAGE_TYPES))]


def price_book(allowance_bytes: int = 100 * GIB) -> PriceBook:
    """Prices of the usage types, like AWS's."""
    products = []
    for number, name in enumerate(usage_types()):
        # No two products have the same price.
        tiers = [(end, f"{price:0<9}{number}") for end, price in US_TIERS]
        products.append(product(f"S{number}", name, tiers if number < TIERED else [(None, "0.02")]))
    skus = (f"S{number}" for number in range(TIERED))
    return book(products, replace(allowance("100", *skus), bytes=allowance_bytes))


@dataclass(frozen=True)
class RatingMonth:
    """The month in a folder, as an object store that only opens objects."""

    folder: Path
    accounts: int

    @cached_property
    def names(self) -> list[str]:
        """Account ids, in order."""
        return [f"{10**11 + number}" for number in range(self.accounts)]

    @property
    def rows(self) -> int:
        """Rows of days."""
        return self.accounts * USAGE_TYPES * DAYS

    @property
    def days_path(self) -> Path:
        return self.folder / "days.parquet"

    def open(self, key: str) -> BinaryIO:
        """An object of the month."""
        return (self.folder / key).open("rb")

    def open_end(self, key: str, *, last_bytes: int) -> BinaryIO:
        """The same."""
        del last_bytes
        return self.open(key)

    def frozen(self) -> FrozenMonth:
        """Its manifest."""
        hours = (
            FrozenHour(hour_s=hour_s, files=(), frozen=FrozenRows(key=f"{hour_s}.parquet", rows=0, digest=""))
            for hour_s in range(BEGIN_S, BEGIN_S + DAYS * DAY_S, HOUR_S)
        )
        days = FrozenRows(key=self.days_path.name, rows=self.rows, digest="")
        return FrozenMonth(month=MONTH, hours=tuple(hours), accounts=days, days=days, digest="d")

    def write_days(self) -> None:
        """Write the object of daily rows, sorted by account."""
        with usage_writer(self.days_path) as writer:
            for first in range(0, self.accounts, _ACCOUNTS_AT_ONCE):
                accounts = self.names[first : first + _ACCOUNTS_AT_ONCE]
                days = {day: BEGIN_S + day * DAY_S for day in range(DAYS)}
                writer.write_table(_table(accounts, days, 1), _GROUP_ROWS)

    def write_hours(self, days: Iterable[int]) -> int:
        """Write the objects of hourly rows for `days` (epoch seconds). Returns the number of rows."""
        rows = 0
        place = USAGE_SCHEMA.get_field_index("hour")
        for day_s in sorted(days):
            day = _table(self.names, {(day_s - BEGIN_S) // DAY_S: day_s}, 24)
            for hour_s in range(day_s, day_s + DAY_S, HOUR_S):
                hours = pa.repeat(pa.scalar(hour_s * _MICROSECONDS, USAGE_SCHEMA.field("hour").type), day.num_rows)
                with usage_writer(self.folder / f"{hour_s}.parquet") as writer:
                    writer.write_table(day.set_column(place, USAGE_SCHEMA.field("hour"), hours), _GROUP_ROWS)
                rows += day.num_rows
        return rows


def _table(accounts: Sequence[str], days: Mapping[int, int], parts: int) -> pa.Table:
    """Rows of some accounts: each usage type and day with its hour, with a fraction of the day's bytes."""
    kinds, numbers = usage_types(), range(USAGE_TYPES)
    count = len(accounts) * USAGE_TYPES * len(days)
    ids = pa.DictionaryArray.from_arrays(
        pa.array([place for place in range(len(accounts)) for _ in range(USAGE_TYPES * len(days))], pa.int32()),
        pa.array(accounts),
    )
    types = pa.DictionaryArray.from_arrays(
        pa.array([number for number in numbers for _ in days] * len(accounts), pa.int32()), pa.array(kinds)
    )
    hours = [hour_s * _MICROSECONDS for hour_s in days.values()]
    sizes = [size for account_id in accounts for size in _sizes(account_id, list(days))]
    bytes_ = pc.divide(pa.array(sizes, pa.int64()), parts)
    single = [pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array([name])) for name in
              ("AmazonEC2", "us-east-1", "internet")]  # fmt: skip
    columns = [
        ids, types, *single, pa.array(hours * (count // len(days)), USAGE_SCHEMA.field("hour").type),
        pa.nulls(count, USAGE_SCHEMA.field("corrects").type), bytes_.cast(NUMBER),
        pa.array([1] * count, pa.int64()).cast(NUMBER),
    ]  # fmt: skip
    return pa.Table.from_arrays(columns, schema=USAGE_SCHEMA)


def _sizes(account_id: str, days: Sequence[int]) -> Iterator[int]:
    """Bytes of each usage type and day: multiples of 24, the same in each call, and well mixed."""
    seed = int(account_id) * 2_654_435_761
    for number in range(USAGE_TYPES):
        for day in days:
            mixed = (seed ^ (number * 40_503 + day * 69_069) * 2_246_822_519) & 0xFFFFFFFF
            yield (mixed * 3_266_489_917 >> 16) % (_MOST_BYTES // 24) * 24


_REGION, _PAYER = "us-east-1", "999999999999"


def rated(month: RatingMonth, reader: ParquetFrozenFiles, group_by: tuple[GroupColumn, ...], *, alone: bool) -> int:
    """Rate the month; returns the exact total."""
    members = () if alone else tuple(Membership(name, 0, None) for name in month.names)
    payer = Payer(payer_id=_PAYER, name="Bench", issuer="Bench", members=members)
    closed = ClosedMonth(region=_REGION, frozen=month.frozen(), reader=reader)
    usage = MonthUsage(regions=(closed,), month=MONTH, organization=Organization(payers=(payer,)))
    book = price_book()
    costs = ColumnCosts(
        query=CostQuery(usage=UsageQuery(from_s=BEGIN_S, to_s=END_S, group_by=group_by)), usage=usage, book=book,
        prices_of=lambda payer_id: PayerPrices(book, payer_id), payers=frozenset(), own_prices=frozenset(),
    )  # fmt: skip
    return rows_of(costs.entries()).total.exact


def summed(month: RatingMonth) -> int:
    """Read the daily rows and sum their bytes: the baseline."""
    total = 0
    with pq.ParquetFile(month.days_path) as file:
        for number in range(file.metadata.num_row_groups):
            total += int(pc.sum(file.read_row_group(number, use_threads=False).column("bytes")).as_py())
    return total


def _peak_kib() -> int:
    # `ru_maxrss` would include the peak of the parent, which a process inherits.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0])


def main(arguments: Sequence[str]) -> int:
    """Print the exact total and the measurements of a run as JSON."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.billing.month", description=__doc__)
    parser.add_argument("what", help="`sum`, or columns to group by")
    parser.add_argument("folder")
    parser.add_argument("accounts", type=int)
    parser.add_argument("--alone", action="store_true", help="each account is its own payer")
    options = parser.parse_args(arguments)
    month = RatingMonth(Path(options.folder), options.accounts)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    work: Callable[[], int] = partial(summed, month)
    if options.what != "sum":
        group_by = cast("tuple[GroupColumn, ...]", tuple(options.what.split(",")))
        work = partial(rated, month, ParquetFrozenFiles(cast("ObjectStore", month)), group_by, alone=options.alone)
    began, cpu = time.perf_counter(), time.process_time()
    total = work()
    print(
        json.dumps({
            "total": str(total), "s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu,
            "mb": _peak_kib() // 1024,
        })
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
