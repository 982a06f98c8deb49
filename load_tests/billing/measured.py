"""One measured run of the rating benchmark, in a process that imports no more than a report of costs."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from load_tests.billing.month import BEGIN_S, END_S, MONTH, RatingMonth, price_book
from metering.billing.organization import Membership, Organization, Payer
from metering.billing.rating.payer_prices import PayerPrices
from metering.billing.usage.months import MonthUsage
from metering.billing.usage.stored_months import ClosedMonth
from metering.lake.parquet.frozen_months import ParquetFrozenFiles
from metering.reports.costs.column_costs import ColumnCosts
from metering.reports.costs.rows import CostQuery, rows_of
from metering.reports.query import GroupColumn, UsageQuery

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from metering.stores.objects import ObjectStore

_REGION, _PAYER = "us-east-1", "999999999999"


def rated(month: RatingMonth, reader: ParquetFrozenFiles, group_by: tuple[GroupColumn, ...], *, alone: bool) -> int:
    """Rate the month; returns the exact total.

    Args:
        month: The month.
        reader: Reads it.
        group_by: Columns of the grouping.
        alone: Each account is its own payer.
    """
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
    """Read the rows of days and sum their bytes: the baseline."""
    total = 0
    with pq.ParquetFile(month.days_path) as file:
        for number in range(file.metadata.num_row_groups):
            total += int(pc.sum(file.read_row_group(number, use_threads=False).column("bytes")).as_py())
    return total


def _peak_kib() -> int:
    # `ru_maxrss` would include the parent's peak, which a process inherits.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0])


def main(arguments: Sequence[str]) -> int:
    """Print the exact total and the figures of a run as JSON."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.billing.measured", description=__doc__)
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
        reader = ParquetFrozenFiles(cast("ObjectStore", month))
        work = partial(rated, month, reader, group_by, alone=options.alone)
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
