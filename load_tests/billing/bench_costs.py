"""Benchmark of rating a month of many accounts, and of an account's cost compared with its usage.

1. A separate process rates a closed month of 10,000 accounts x 20 usage types x 30 days on one core: 6,000,000 rows of
   days in Parquet, and hours of days that contain a cut. The baseline reads and sums the same daily rows. Times are CPU
   times, which exclude other load on the machine. The measurement is repeated with a sixth of the accounts, because
   time grows with rows, and with as many self-paying accounts.
2. `metering cost --account` alternates with `metering report usage --account`, against MiniStack.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from load_tests.bench_report import _ACCOUNT as ACCOUNT
from load_tests.bench_report import _MONTH as OPEN_MONTH
from load_tests.bench_report import fill, ours
from load_tests.billing.month import RatingMonth, rated
from load_tests.deployed.sampler import local_stage
from metering.billing.prices.store import PriceStore, sample_book
from metering.lake.parquet.frozen_months import ParquetFrozenFiles
from metering.reports.costs.rows import CostParameters
from metering.reports.costs.source import BookName, CostPlanner, CostSource, cost_answer
from metering.units import DAY_S
from metering.wiring.billing import StageUsage, build_planner, build_shelf, kept_positions
from metering.wiring.reports import build_freshness

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    import pyarrow as pa

    from metering.ledger.periods import FrozenMonth
    from metering.reports.query import GroupColumn
    from metering.stores.objects import ObjectStore
    from metering.wiring.connection import RegionConnection

_PAYER = "999999999999"
_ACCOUNTS, _WALKED_PAYERS = 10_000, 500
_MOST_S, _MOST_MB, _MOST_TIMES = 15, 400, 2
_GROUPS: tuple[tuple[GroupColumn, ...], ...] = (("usage_type",), ("account_id",))
_ROUNDS, _WARM_UP = 40, 3


class _Noting(ParquetFrozenFiles):
    """Records the days whose hourly rows are requested, without reading rows. Mutable."""

    def __init__(self, objects: ObjectStore) -> None:
        super().__init__(objects)
        self.noted: set[int] = set()

    def hour_tables(
        self,
        frozen: FrozenMonth,
        hour_s: int,
        accounts: Collection[str] | None = None,
        columns: Sequence[str] | None = None,
    ) -> Iterator[pa.Table]:
        """Nothing."""
        self.noted.add(hour_s - hour_s % DAY_S)
        return iter(())


def _measured(month: RatingMonth, what: str, *, alone: bool = False) -> dict[str, float]:
    command = [sys.executable, "-m", "load_tests.billing.month", what, str(month.folder), str(month.accounts)]
    command += ["--alone"] if alone else []
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return cast("dict[str, float]", json.loads(done.stdout))


def _made(folder: Path, accounts: int, *, group_by: tuple[GroupColumn, ...], alone: bool = False) -> RatingMonth:
    """The month with the hourly rows that rating reads."""
    month = RatingMonth(folder, accounts)
    month.write_days()
    noting = _Noting(cast("ObjectStore", month))
    rated(month, noting, group_by, alone=alone)
    rows = month.write_hours(noting.noted)
    print(f"{accounts:,} accounts: {month.rows:,} rows of days, {rows:,} rows of the hours of {len(noting.noted)} days")
    return month


def _is_fine(name: str, run: dict[str, float], more: str = "") -> bool:
    """Print a run, and return whether it is within the limits."""
    fine = run["cpu_s"] <= _MOST_S and run["mb"] <= _MOST_MB
    missed = "" if fine else f"   MISSED: more than {_MOST_S} s or {_MOST_MB} MB"
    figures = f"{run['cpu_s']:.1f} s of one core ({run['s']:.1f} s in all), {run['mb']:.0f} MB"
    print(f"  rated by {name}: {figures}{more}{missed}")
    return fine


def measure_columns(folder: Path, accounts: int) -> bool:
    """Measure rating by columns at two sizes. Returns whether it is within the limits."""
    took: dict[tuple[int, str], float] = {}
    fine = True
    for count in (accounts // 6, accounts):
        where = folder / str(count)
        where.mkdir()
        month = _made(where, count, group_by=("account_id",))
        plain = _measured(month, "sum")
        print(f"  read and summed: {plain['cpu_s']:.1f} s of one core, {plain['mb']:.0f} MB")
        for group_by in _GROUPS:
            name = ",".join(group_by)
            run = _measured(month, name)
            took[count, name] = run["cpu_s"]
            times = run["cpu_s"] / plain["cpu_s"]
            fine = _is_fine(name, run, f", {times:.1f} times as long as reading") and fine
    for group_by in _GROUPS:
        name = ",".join(group_by)
        print(f"six times the rows, by {name}: {took[accounts, name] / took[accounts // 6, name]:.1f} times as long")
    return fine


def measure_self_payers(folder: Path, accounts: int) -> bool:
    """Measure accounts that pay for themselves, each with an allowance that ends within the month.

    A report without daily columns rates their monthly sums, in bounded time. By day, only a few accounts are measured.
    """
    month = RatingMonth(folder, accounts)
    month.write_days()
    print(f"{accounts:,} accounts that pay for themselves: {month.rows:,} rows of days")
    fine = True
    for name in ("payer", "account_id,usage_type"):
        fine = _is_fine(name, _measured(month, name, alone=True)) and fine
    few = folder / "few"
    few.mkdir()
    run = _measured(
        _made(few, accounts * _WALKED_PAYERS // _ACCOUNTS, group_by=("day",), alone=True), "day", alone=True
    )
    print(f"  each a payer, rated by day: {run['cpu_s']:.1f} s of one core, {run['mb']:.0f} MB")
    return fine


def cost_of_account(region: RegionConnection) -> None:
    """Do the work of `metering cost --account … --month …` after its start-up."""
    now_s = int(time.time())
    query = CostParameters(filters={"account": [ACCOUNT]}, month=OPEN_MONTH).cost_query(now_s=now_s)
    complete, book, shelf = build_freshness(region).answer(), BookName(name="aws-list"), build_shelf(region)
    with StageUsage([region]) as unread:
        planner, kept = build_planner(region, unread, shelf), kept_positions(region.objects)
        finder = CostPlanner(query=query, book=book, planner=planner, now_s=now_s, kept=kept)
        plans = finder.plans(OPEN_MONTH)
    with StageUsage([region], accounts=finder.accounts(plans)) as usage:
        source = CostSource(query=query, book=book, planner=build_planner(region, usage, shelf), now_s=now_s)
        cost_answer(query, source.costs(plans), as_of_s=now_s, complete=complete, regions=["us-east-1"])


def measure_account(region: RegionConnection, rounds: int) -> bool:
    """Measure an account's cost and its usage in turns. Returns whether the ratio is within the limit."""
    fill(region)
    PriceStore(region.objects).put(replace(sample_book(), name="aws-list"))
    works: dict[str, Callable[[], object]] = {
        "report usage": partial(ours, region), "cost": partial(cost_of_account, region),
    }  # fmt: skip
    took: dict[str, list[float]] = {name: [] for name in works}
    for number in range(-_WARM_UP, rounds):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            if number >= 0:
                took[name].append((time.perf_counter() - began) * 1_000)
    p95 = {name: statistics.quantiles(times_ms, n=20)[-1] for name, times_ms in took.items()}
    for name, times_ms in took.items():
        print(f"{name} --account: p50 {statistics.median(times_ms):.0f} ms, p95 {p95[name]:.0f} ms")
    times = p95["cost"] / p95["report usage"]
    print(f"cost at p95: {times:.2f} times as long as usage")
    if times > _MOST_TIMES:
        print(f"MISSED: more than {_MOST_TIMES} times as long")
    return times <= _MOST_TIMES


def main(arguments: Sequence[str]) -> int:
    """Print the figures. Returns 1 if a limit is missed."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.billing.bench_costs", description=__doc__)
    parser.add_argument("--accounts", type=int, default=_ACCOUNTS)
    parser.add_argument("--rounds", type=int, default=_ROUNDS)
    parser.add_argument("--endpoint", help="endpoint where the stage `local` is deployed already")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        fine = measure_columns(Path(name), options.accounts)
    with tempfile.TemporaryDirectory() as name:
        fine = measure_self_payers(Path(name), options.accounts) and fine
    with local_stage("bench-rating", options.endpoint) as local:
        return 0 if measure_account(local.region, options.rounds) and fine else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
