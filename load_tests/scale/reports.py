"""An account's report of a closed month compared with that of an open month, in a region of the target's accounts."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import pyarrow as pa
import pyarrow.compute as pc

from load_tests.scale.bench import Bench, expect
from load_tests.scale.jobs import freshness_of
from load_tests.scale.region import KINDS, RECORDS_OF_A_KIND, ROUNDS, Region, account_id, kind
from metering.hours import month_bounds_s
from metering.intake.admission import SECOND_US
from metering.lake.parquet.frozen_months import DAY_GROUP_ROWS, GROUP_ROWS, account_groups
from metering.lake.parquet.hour_rows import INSTANT
from metering.lake.parquet.reader import ParquetStagedUsage
from metering.lake.parquet.usage_files import NAMES, NUMBER, USAGE_SCHEMA, add_account_index, usage_writer
from metering.ledger.booked_hours import LakeFile
from metering.ledger.periods import FrozenHour, FrozenMonth, FrozenRows, Period
from metering.ledger.usage.reading import UsageReading
from metering.reports.query import UsageParameters, UsageQuery
from metering.reports.source import ReportSource, report_rows
from metering.rollup.as_of_now import UsageNow
from metering.stores import objects
from metering.stores.clock import CALLS_AT_ONCE
from metering.stores.writes import Put, Table
from metering.units import DAY_S, HOUR_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from metering.reports.query import GroupColumn

CLOSED, OPEN = "2026-06", "2026-09"
_VARIANTS = 101
_REPORTS = 20
# A read unit is 4 KB, read consistently.
_UNIT = 4_096
_NOWHERE = "0" * 64
GROUPINGS = ("usage_type", "usage_type,hour")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reports:
    """p95 milliseconds of reports with one grouping, including the assumed waits for AWS."""

    group_by: str
    open_ms: float
    closed_ms: float

    @property
    def times(self) -> float:
        """Ratio of the closed month's time to the open month's."""
        return self.closed_ms / self.open_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """A report over all accounts of a region.

    Attributes:
        seconds: Its time, including the assumed waits for AWS.
        most_s: The most that it may take.
        units: Read units of the tables.
    """

    question: str
    seconds: float
    most_s: float
    calls: int
    units: int


def region_of(accounts: int) -> Region:
    """A region with this many accounts, in its open month."""
    return Region(accounts, *month_bounds_s(OPEN))


def prepare(accounts: int, folder: Path) -> None:
    """Write the objects of a closed month, as a close writes them."""
    region = region_of(accounts)
    first_s, end_s = month_bounds_s(CLOSED)
    hours = range(first_s, end_s, HOUR_S)
    written = folder / "written"
    (written / objects.closed_accounts_key(CLOSED)).parent.mkdir(parents=True, exist_ok=True)
    _write(region, written / objects.closed_accounts_key(CLOSED), hours, rounds=ROUNDS, group_rows=GROUP_ROWS)
    days = range(first_s, end_s, DAY_S)
    _write(region, written / objects.closed_days_key(CLOSED), days, rounds=ROUNDS * 24, group_rows=DAY_GROUP_ROWS)
    frozen = FrozenMonth(
        month=CLOSED,
        hours=tuple(_hour(region, hour_s) for hour_s in hours),
        accounts=FrozenRows(
            key=objects.closed_accounts_key(CLOSED), rows=accounts * KINDS * len(hours), digest=_NOWHERE
        ),
        days=FrozenRows(key=objects.closed_days_key(CLOSED), rows=accounts * KINDS * len(hours) // 24, digest=_NOWHERE),
    )
    (written / objects.closed_month_key(CLOSED)).write_bytes(frozen.to_json())


def run(accounts: int, folder: Path) -> list[Reports]:
    """Measure reports of some accounts."""
    bench = Bench(region_of(accounts), folder)
    period = Period(month=CLOSED, state="closed", frozen_key=objects.closed_month_key(CLOSED))
    bench.items.put(Put(table=Table.LEDGER, item=period.to_item()))
    jobs = bench.jobs
    source = ReportSource(
        region="us-east-1", items=bench.items, objects=bench.objects, view=jobs.view, frozen=jobs.frozen_files
    )
    now_s = bench.clock.now_ms() // 1_000
    freshness = freshness_of(bench)
    freshness.keep()
    found = []
    for group_by in GROUPINGS:
        took: dict[str, list[float]] = {OPEN: [], CLOSED: []}
        for number in range(-1, _REPORTS):
            account = account_id((number + 1) * accounts // (_REPORTS + 1))
            for month, times_ms in took.items():
                asked = UsageParameters(filters={"account": [account]}, start=month, group_by=group_by)
                query = asked.query(now_s=now_s)

                def report() -> None:
                    freshness.answer()
                    expect(rows=len(report_rows([source], query, now_s=now_s)) >= KINDS)  # noqa: B023 - called at once

                step = bench.step(report)
                if number >= 0:
                    times_ms.append(step.seconds * 1_000)
        open_ms, closed_ms = (statistics.quantiles(times_ms, n=20)[-1] for times_ms in took.values())
        found.append(Reports(group_by=group_by, open_ms=open_ms, closed_ms=closed_ms))
    return found


# Question over all accounts: days up to now, columns, rows, and seconds that the report may take.
_QUESTIONS = {
    "today, by usage type": (1, "usage_type", None, 1.0),
    "7 days, by day": (7, "day", None, 2.0),
    "a month, by day": (30, "day", None, 3.0),
    "7 whole days, the 100 largest accounts": (7, "account_id", 100, 8.0),
    "today, the 100 largest accounts": (1, "account_id", 100, 8.0),
}


def run_whole(accounts: int, folder: Path) -> list[Whole]:
    """Measure reports over all accounts. No row is read: the region's totals and the directory are complete."""
    bench = Bench(region_of(accounts), folder)
    bench.items.with_region()
    jobs = bench.jobs
    source = ReportSource(
        region="us-east-1",
        items=bench.items,
        objects=bench.objects,
        view=jobs.view,
        frozen=jobs.frozen_files,
        most_partitions=10 * accounts,
        as_of_now=UsageNow(
            reading=UsageReading(bench.items),
            objects=bench.objects,
            staged=ParquetStagedUsage(bench.objects),
            shards=1,
            threads=CALLS_AT_ONCE,
        ),
    )
    now_s = bench.region.end_s
    found = []
    for question, (days, group_by, top, most_s) in _QUESTIONS.items():
        query = UsageQuery(
            from_s=now_s - days * DAY_S, to_s=now_s, group_by=(cast("GroupColumn", group_by),), top=top
        )  # fmt: skip
        read = Counter(bench.meter.bytes)
        step = bench.step(lambda: expect(rows=bool(report_rows([source], query, now_s=now_s))))  # noqa: B023 - called at once
        size = sum((bench.meter.bytes - read).values())
        calls = sum(step.calls.values())
        units = max(calls, size // _UNIT)
        found.append(Whole(question=question, seconds=step.seconds, most_s=most_s, calls=calls, units=units))
    return found


def _hour(region: Region, hour_s: int) -> FrozenHour:
    total = region.file_total(0)
    file = LakeFile(key=objects.lake_file_key(hour_s, 0, 1, 0), rows=total.records, bytes=total.bytes)
    rows = FrozenRows(key=objects.closed_hour_key(CLOSED, hour_s), rows=region.accounts * KINDS, digest=_NOWHERE)
    return FrozenHour(hour_s=hour_s, files=(file,), frozen=rows)


def _write(region: Region, path: Path, hours: range, *, rounds: int, group_rows: int) -> None:
    """All rows of some hours (or days), sorted by account, kind and hour, in row groups like a frozen month's."""
    with usage_writer(path) as writer:
        for group in account_groups(_accounts(region, hours, rounds), group_rows):
            writer.write_table(group, row_group_size=group_rows)
    add_account_index(path)


def _accounts(region: Region, hours: range, rounds: int) -> Iterator[pa.Table]:
    """Rows account by account."""
    count = len(hours)
    numbers = [number for number in range(KINDS) for _ in hours]
    every_kind = [kind(number) for number in range(KINDS)]
    texts = [pa.array([each[place] for each in every_kind]).dictionary_encode() for place in range(4)]
    kinds = [column.take(pa.array(numbers, pa.int32())) for column in texts]
    moments = pa.array([hour_s * SECOND_US for hour_s in hours] * KINDS, pa.int64()).cast(INSTANT)
    corrects = pa.nulls(len(numbers), INSTANT)
    records = pa.repeat(pa.scalar(rounds * RECORDS_OF_A_KIND, pa.int64()), len(numbers)).cast(NUMBER)
    sizes = [
        pa.array(
            [
                size
                for number in range(KINDS)
                for size in [rounds * RECORDS_OF_A_KIND * region.record_bytes(account, number)] * count
            ],
            pa.int64(),
        ).cast(NUMBER)
        for account in range(min(_VARIANTS, region.accounts))
    ]
    nothing = pc.cast(pa.repeat(pa.scalar(0, pa.int32()), len(numbers)), pa.int32())
    for account in range(region.accounts):
        name = pa.DictionaryArray.from_arrays(nothing, pa.array([account_id(account)]))
        columns = [name, *kinds, moments, corrects, sizes[account % len(sizes)], records]
        yield pa.table(columns, schema=pa.schema(_fields(columns)))


def _fields(columns: list[pa.Array]) -> list[pa.Field]:
    return [
        pa.field(field.name, column.type, nullable=field.nullable)
        for field, column in zip(USAGE_SCHEMA, columns, strict=True)
    ]


if len(NAMES) != 1 + 4:
    raise TypeError("the columns of usage files have changed")
