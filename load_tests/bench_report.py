"""Benchmark of an account's report over a month: milliseconds and CPU time per report, and the ratio to plain boto3.

The service is deployed on MiniStack. The usage table holds 720 hours of 20 usage types for one account, and a day of
other accounts. Each report does the work of `metering report usage --account` after the command's start-up: it reads
the time of completeness, reads the items, sums them, and makes the answer. The baseline reads the same items with
boto3's paginator and sums them. The baseline alternates with our reports, so both figures include the emulator's time.

The same report is then measured on closed months with two different numbers of accounts.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from load_tests.booked_usage import dictionary_of, updates_of
from load_tests.deployed.sampler import local_stage
from load_tests.stage import judged
from metering.adapters.aws.session import Clients
from metering.billing.freezing import MonthFreezer
from metering.hours import month_bounds_s
from metering.lake.parquet.frozen_months import ParquetFrozenFiles
from metering.lake.ports import in_order, usage_digest
from metering.ledger.booked_hours import LakeFile
from metering.ledger.periods import FrozenMonth, Period
from metering.ledger.usage.items import usage_partition
from metering.ledger.usage.kinds import partition_of_kinds
from metering.reports.query import UsageParameters
from metering.reports.source import report_rows
from metering.reports.usage_answer import usage_answer
from metering.stores.clock import Retrier
from metering.stores.objects import closed_month_key, lake_file_key
from metering.stores.writes import Put, Table, Update
from metering.units import HOUR_S
from metering.usage.totals import Service, Total, UsageKey, UsageType, sum_totals
from metering.wiring.reports import build_freshness, report_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

    from metering.wiring.connection import RegionConnection


def hour_usage(accounts: Sequence[str], hour_s: int, number: int, usage_types: int) -> Iterator[tuple[UsageKey, Total]]:
    """Usage of some accounts in an hour. The result depends only on the arguments."""
    for account_id in accounts:
        for kind in range(usage_types):
            key = UsageKey(
                hour_s,
                account_id,
                UsageType(f"USW2-Type{kind:02d}-Out-Bytes"),
                Service(("AmazonEC2", "AmazonS3")[kind % 2]),
                "us-west-2/usw2-az1",
                ("internet", "us-east-1", "us-west-2/usw2-az2")[kind % 3],
            )
            yield key, Total(11_700_000_000 * (number + 1) + kind, 100 + number)


def freeze_month(
    region: RegionConnection, month: str, accounts: Sequence[str], *, hours: int, usage_types: int
) -> FrozenMonth:
    """Freeze a month as `close` does after its checks, and mark the month closed. Lake files are named, not written."""
    first_s, _ = month_bounds_s(month)
    freezer = MonthFreezer(
        objects=region.objects,
        files=ParquetFrozenFiles(region.objects),
        retrier=Retrier(clock=region.clock, entropy=region.entropy, attempts=4),
        alerts=region.alerts,
    )
    frozen = []
    for number in range(hours):
        hour_s = first_s + number * HOUR_S
        rows = in_order(dict(hour_usage(accounts, hour_s, number, usage_types)))
        total = sum_totals(usage for _, usage in rows)
        file = LakeFile(key=lake_file_key(hour_s, 0, 1, 0), rows=total.records, bytes=total.bytes)
        compared = usage_digest(rows)
        frozen.append(freezer.hour(month, hour_s, files=(file,), kept=rows, counted=rows.copy, compared=compared))
    closed = freezer.month(month, frozen)
    period = Period(month=month, state="closed", frozen_key=closed_month_key(month))
    region.items.put(Put(table=Table.LEDGER, item=period.to_item()))
    return closed


_MONTH = "2026-11"
_ACCOUNT = "123456789012"
_HOURS, _USAGE_TYPES = 720, 20
_OTHER_ACCOUNTS = 5
_TRANSACTION = 100
_REPORTS = 100
_WARM_UP = 3
_PLAIN_EVERY = 10
_MOST_P95_MS = 150
# Median CPU time of this process per report, without the emulator's CPU time.
_MOST_CPU_MS = 15
# Months that are closed for the benchmark, and the limit on their reports' time as a multiple of an open month's.
_CLOSED_MONTHS = ("2026-09", "2026-10")
_CLOSED_ACCOUNTS = 250
_CLOSED_REPORTS = 30
_MOST_CLOSED = 2
_GROUPS = ("usage_type", "usage_type,hour")


def usage_of(account_id: str, hours: int) -> Iterator[tuple[UsageKey, Total]]:
    """Yield the usage of an account for a month. The result depends only on the arguments."""
    first_s, _ = month_bounds_s(_MONTH)
    for hour in range(hours):
        yield from hour_usage([account_id], first_s + hour * HOUR_S, hour, _USAGE_TYPES)


def fill(region: RegionConnection) -> Counter[str]:
    """Write the month to the usage table. Returns the account's bytes by usage type."""
    expected: Counter[str] = Counter()
    actions: list[Put | Update] = []
    for account_id, hours in [(_ACCOUNT, _HOURS), *((f"{number:012d}", 24) for number in range(_OTHER_ACCOUNTS))]:
        usage = dict(usage_of(account_id, hours))
        actions += [*dictionary_of(usage), *updates_of(usage)]
        if account_id == _ACCOUNT:
            for key, total in usage.items():
                expected[key.usage_type] += total.bytes
    for start in range(0, len(actions), _TRANSACTION):
        region.items.transact(actions[start : start + _TRANSACTION])
    # In production, the watch stores this value every minute, and a report reads the stored value.
    build_freshness(region).keep()
    return expected


def ours(region: RegionConnection, month: str = _MONTH, group_by: str = "usage_type") -> Counter[str]:
    """Make the report of `metering report usage --account … --from MONTH --group-by …`."""
    now_s = int(time.time())
    query = UsageParameters(filters={"account": [_ACCOUNT]}, start=month, group_by=group_by).query(now_s=now_s)
    complete = build_freshness(region).answer()
    rows = report_rows([report_source(region)], query, now_s=now_s)
    answer = usage_answer(query, rows, as_of_s=now_s, complete=complete)
    sums: Counter[str] = Counter()
    for row in answer.rows:
        sums[str(row["usage_type"])] += int(str(row["bytes"]))
    return sums


def plain(client: DynamoDBClient, usage: str, ledger: str) -> Counter[str]:
    """Compute the same figures with boto3's paginator: the baseline. The baseline also reads each number's kind."""
    kinds = {
        int(item["sk"]["S"][2:]): item["usage_type"]["S"]
        for item in _pages(client, ledger, partition_of_kinds(_ACCOUNT))
        if "usage_type" in item
    }
    numbers: Counter[int] = Counter()
    for item in _pages(client, usage, usage_partition(_ACCOUNT, _MONTH)):
        for name, value in item.items():
            if name.startswith("b"):
                numbers[int(name[1:])] += int(value["N"])
    totals: Counter[str] = Counter()
    for number, size in numbers.items():
        totals[kinds[number]] += size
    return totals


def _pages(client: DynamoDBClient, table: str, pk: str) -> Iterator[dict[str, AttributeValueTypeDef]]:
    pages = client.get_paginator("query").paginate(
        TableName=table,
        ConsistentRead=True,
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": {"S": pk}},
    )
    for page in pages:
        yield from page["Items"]


class Took(NamedTuple):
    """Milliseconds of one report, by wall clock and by this process's CPU time."""

    wall_ms: float
    cpu_ms: float


def measure(region: RegionConnection, reports: int) -> tuple[list[Took], list[Took]]:
    """Measure our reports, and the baseline after every tenth report."""
    expected = fill(region)
    # A new client without this project's decoder, so that the SDK decodes its replies.
    client, names = Clients(region.clients.access).dynamodb, region.names
    own, plainly = [], []
    for number in range(-_WARM_UP, reports):
        took = timed(lambda: ours(region), expected)
        if number >= 0:
            own.append(took)
        if number % _PLAIN_EVERY == 0:
            plainly.append(timed(lambda: plain(client, names.usage_table, names.ledger_table), expected))
    return own, plainly


def measure_closed(region: RegionConnection, accounts: int, reports: int) -> bool:
    """Measure reports on closed months of two sizes and on open ones. Returns whether they are within the limit."""
    names = [_ACCOUNT, *(f"{number:012d}" for number in range(1, accounts))]
    took: dict[tuple[str, str], float] = {}
    missed = False
    for month, some in zip(_CLOSED_MONTHS, (names[: max(1, accounts // 10)], names), strict=True):
        began = time.perf_counter()
        freeze_month(region, month, some, hours=_HOURS, usage_types=_USAGE_TYPES)
        rows = len(some) * _HOURS * _USAGE_TYPES
        print(f"closed with {len(some):,} accounts: {rows:,} rows frozen in {time.perf_counter() - began:.0f} s")
        for group_by in _GROUPS:
            open_ms, closed_ms = beside_open(region, month, group_by, reports)
            took[month, group_by] = closed_ms
            times = closed_ms / open_ms
            print(f"  by {group_by}: p95 {closed_ms:.0f} ms, open {open_ms:.0f} ms: {times:.2f} times as long")
            if times > _MOST_CLOSED:
                print(f"MISSED: more than {_MOST_CLOSED} times as long")
                missed = True
    for group_by in _GROUPS:
        small, large = (took[month, group_by] for month in _CLOSED_MONTHS)
        print(f"ten times the accounts, by {group_by}: {large / small:.2f} times as long")
    return not missed


def beside_open(region: RegionConnection, month: str, group_by: str, reports: int) -> tuple[float, float]:
    """Milliseconds at p95 of the report on the open month and on a closed month. Both take turns."""
    expected: Counter[str] = Counter()
    for key, total in usage_of(_ACCOUNT, _HOURS):
        expected[key.usage_type] += total.bytes
    walls_ms: dict[str, list[float]] = {_MONTH: [], month: []}
    for number in range(-_WARM_UP, reports):
        for each, times_ms in walls_ms.items():
            took = timed(partial(ours, region, each, group_by), expected)
            if number >= 0:
                times_ms.append(took.wall_ms)
    open_ms, closed_ms = (statistics.quantiles(times_ms, n=20)[-1] for times_ms in walls_ms.values())
    return open_ms, closed_ms


def timed(report: Callable[[], Counter[str]], expected: Counter[str]) -> Took:
    """Measure one report."""
    began, cpu_began = time.perf_counter(), time.process_time()
    answer = report()
    took = Took((time.perf_counter() - began) * 1_000, (time.process_time() - cpu_began) * 1_000)
    if answer != expected:
        raise AssertionError("the report differs from the usage that was written")
    return took


def main(arguments: Sequence[str]) -> int:
    """Print the figures. Returns 1 if the target is missed."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.bench_report", description=__doc__)
    parser.add_argument("--reports", type=int, default=_REPORTS)
    parser.add_argument("--accounts", type=int, default=_CLOSED_ACCOUNTS, help="accounts of a closed month")
    parser.add_argument("--endpoint", help="endpoint where the stage `local` is deployed already")
    options = parser.parse_args(arguments)
    with local_stage("bench-report", options.endpoint) as local:
        missed = _judge(*measure(local.region, options.reports))
        return missed if measure_closed(local.region, options.accounts, _CLOSED_REPORTS) else 1


def _judge(own: list[Took], plainly: list[Took]) -> int:
    p95_ms = statistics.quantiles([took.wall_ms for took in own], n=20)[-1]
    p50_ms, cpu_ms = (statistics.median(each) for each in zip(*own, strict=True))
    plain_ms, plain_cpu_ms = (statistics.median(each) for each in zip(*plainly, strict=True))
    print(f"an account's month, {_HOURS} hours x {_USAGE_TYPES} usage types in {_HOURS} items:")
    print(f"{len(own)} reports: p50 {p50_ms:.0f} ms, p95 {p95_ms:.0f} ms, of that {cpu_ms:.1f} ms are our CPU")
    print(
        f"{len(plainly)} by boto3's paginator: p50 {plain_ms:.0f} ms, {plain_ms / p50_ms:.1f} times as long; "
        f"{plain_cpu_ms:.0f} ms of CPU"
    )
    missed = []
    if p95_ms >= _MOST_P95_MS:
        missed.append(f"{p95_ms:.0f} ms at p95 is not under {_MOST_P95_MS} ms")
    if cpu_ms > _MOST_CPU_MS:
        missed.append(f"{cpu_ms:.1f} ms of our CPU a report is more than {_MOST_CPU_MS} ms")
    return judged(missed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
