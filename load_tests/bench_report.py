"""Benchmark of an account's report over a whole month: milliseconds per report, and the ratio to plain boto3.

The service is deployed on MiniStack. The usage table holds 720 hours of 20 usage types for one account, and a day of
other accounts. Each report does the work of `metering report usage --account` after its start-up: it reads up to when
totals are complete, reads the items, sums them, and makes the answer. The baseline reads the same items with boto3's
paginator and sums them. It runs in turns with our reports, so the time of the emulator is in both figures.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

from metering.adapters.aws.session import Clients
from metering.cli.commands.local import start_local, stop_leftovers
from metering.cli.connecting import connect
from metering.commit.write_ahead import usage_deltas
from metering.hours import month_bounds_s
from metering.ledger.usage_items import usage_partition
from metering.reports.query import UsageParameters
from metering.reports.source import report_rows
from metering.reports.usage_answer import usage_answer
from metering.units import HOUR_S
from metering.usage.totals import Total, UsageKey
from metering.wiring.reports import build_freshness, report_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mypy_boto3_dynamodb import DynamoDBClient

    from metering.stores.writes import Update
    from metering.wiring.connection import RegionConnection

_STATE = "bench-report"
_REGION, _STAGE = "us-east-1", "local"
_MONTH = "2026-11"
_ACCOUNT = "123456789012"
_HOURS, _USAGE_TYPES = 720, 20
_OTHER_ACCOUNTS = 5
_TRANSACTION = 100
_REPORTS = 100
_WARM_UP = 3
_PLAIN_EVERY = 10
_MOST_P95_MS = 150


def usage_of(account_id: str, hours: int) -> Iterator[tuple[UsageKey, Total]]:
    """Yield the usage of an account for a month. It depends only on the arguments."""
    first_s, _ = month_bounds_s(_MONTH)
    for hour in range(hours):
        for kind in range(_USAGE_TYPES):
            key = UsageKey(
                first_s + hour * HOUR_S,
                account_id,
                f"USW2-Type{kind:02d}-Out-Bytes",
                ("AmazonEC2", "AmazonS3")[kind % 2],
                "us-west-2/usw2-az1",
                ("internet", "us-east-1", "us-west-2/usw2-az2")[kind % 3],
            )
            yield key, Total(11_700_000_000 * (hour + 1) + kind, 100 + hour)


def fill(region: RegionConnection) -> Counter[str]:
    """Write the month to the usage table. Returns the account's bytes by usage type."""
    expected: Counter[str] = Counter()
    updates: list[Update] = []
    accounts = [(_ACCOUNT, _HOURS), *((f"{number:012d}", 24) for number in range(_OTHER_ACCOUNTS))]
    for account_id, hours in accounts:
        usage = dict(usage_of(account_id, hours))
        updates += [delta.action() for delta in usage_deltas(usage, 0)]
        if account_id == _ACCOUNT:
            for key, total in usage.items():
                expected[key.usage_type] += total.bytes
    for start in range(0, len(updates), _TRANSACTION):
        region.items.transact(updates[start : start + _TRANSACTION])
    # The watch does this each minute, and a report reads the stored value.
    build_freshness(region).keep()
    return expected


def ours(region: RegionConnection) -> Counter[str]:
    """Make the report of `metering report usage --account … --from 2026-11`."""
    now_s = int(time.time())
    query = UsageParameters(accounts=[_ACCOUNT], start=_MONTH).query(now_s=now_s)
    complete_s = build_freshness(region).complete_through_s()
    rows = report_rows([report_source(region)], query, now_s=now_s)
    answer = usage_answer(query, rows, as_of_s=now_s, complete_s=complete_s)
    return Counter({str(row["usage_type"]): int(str(row["bytes"])) for row in answer.rows})


def plain(client: DynamoDBClient, table: str) -> Counter[str]:
    """Make the same figures with boto3's paginator: the baseline."""
    totals: Counter[str] = Counter()
    pages = client.get_paginator("query").paginate(
        TableName=table,
        ConsistentRead=True,
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": {"S": usage_partition(_ACCOUNT, _MONTH)}},
    )
    for page in pages:
        for item in page["Items"]:
            sizes = (int(value["N"]) for name, value in item.items() if name.startswith("b"))
            totals[item["sk"]["S"].split("#")[1]] += sum(sizes)
    return totals


def measure(region: RegionConnection, reports: int) -> tuple[list[float], list[float]]:
    """Measure the milliseconds of our reports and of the baseline, which runs after every tenth of ours.

    Raises:
        AssertionError: A report differs from the usage that was written.
    """
    expected = fill(region)
    # A new client without our adapter's decoder: the SDK decodes its replies.
    client = Clients(region.clients.access).dynamodb
    ours_ms, plain_ms = [], []
    for number in range(-_WARM_UP, reports):
        took_ms = timed_ms(lambda: ours(region), expected)
        if number >= 0:
            ours_ms.append(took_ms)
        if number % _PLAIN_EVERY == 0:
            plain_ms.append(timed_ms(lambda: plain(client, region.names.usage_table), expected))
    return ours_ms, plain_ms


def timed_ms(report: Callable[[], Counter[str]], expected: Counter[str]) -> float:
    """Measure one report in milliseconds."""
    began = time.perf_counter()
    answer = report()
    took_ms = (time.perf_counter() - began) * 1_000
    if answer != expected:
        raise AssertionError("the report differs from the usage that was written")
    return took_ms


def main(arguments: Sequence[str]) -> int:
    """Print the figures. Returns 1 if the target is missed."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.bench_report", description=__doc__)
    parser.add_argument("--reports", type=int, default=_REPORTS)
    parser.add_argument("--endpoint", help="endpoint where the stage `local` is deployed already")
    options = parser.parse_args(arguments)
    if options.endpoint:
        return _judge(*measure(connect(endpoint=options.endpoint, region=_REGION, stage=_STAGE), options.reports))
    stop_leftovers(_STATE)
    state = start_local(_REGION, _STAGE, name=_STATE)
    try:
        return _judge(*measure(connect(endpoint=state.endpoint, region=_REGION, stage=_STAGE), options.reports))
    finally:
        stop_leftovers(_STATE)


def _judge(ours_ms: list[float], plain_ms: list[float]) -> int:
    p95_ms = statistics.quantiles(ours_ms, n=20)[-1]
    print(f"an account's month, {_HOURS} hours x {_USAGE_TYPES} usage types = {_HOURS * _USAGE_TYPES:,} items:")
    print(f"{len(ours_ms)} reports: p50 {statistics.median(ours_ms):.0f} ms, p95 {p95_ms:.0f} ms")
    print(
        f"{len(plain_ms)} by boto3's paginator: p50 {statistics.median(plain_ms):.0f} ms, "
        f"{statistics.median(plain_ms) / statistics.median(ours_ms):.1f} times as long"
    )
    if p95_ms < _MOST_P95_MS:
        return 0
    print(f"MISSED: {p95_ms:.0f} ms at p95 is not under {_MOST_P95_MS} ms")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
