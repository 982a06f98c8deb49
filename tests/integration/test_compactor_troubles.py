"""Kill matrix and lost-reply matrix of roll-up, compactor and cleaners, with the real adapters on MiniStack.

One run without faults records every call of the jobs. Then each call gets each fault in turn, in a new region. A reader
must see exactly the sent usage at the fault, after delayed calls, and after the jobs were rerun.
"""

import io
import time
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from metering.lake.parquet.writer import ParquetLakeWriter
from metering.stores.writes import Table
from metering.units import DAY_S, HOUR_S
from tests.integration.bench import EACH_JOB_VARIANT, Bench, Matrix, lake_problems, problems
from tests.integration.region import HOUR, Line, Region, Scenario, Totals, added, body, delivery, record
from tests.support.stage import compaction
from tests.support.wire import Trouble

pytestmark = pytest.mark.emulator

EARLIER = "2026-11-24T11"
OUT = "DataTransfer-Out-Bytes"
# All rows are due immediately, and are compacted in two runs.
POLICY = compaction(run_pairs=2, wait_today_s=0, wait_older_s=0)


def prepare(bench: Bench, region: Region) -> Scenario:
    """A commit over two hours, a commit with too many kinds for one usage item, and an orphaned object."""
    kinds = [record(3, 1000 + key, usage_type=f"Type-{key}") for key in range(140)]
    two_hours = [record(1, 2**62), record(1, 2**62), record(1, 5, start=EARLIER + ":00:00Z")]
    region.handle([delivery("b1", body("b1", two_hours))])
    region.handle([delivery("w1", body("w1", kinds))])
    never = [delivery("b9", body("b9", [record(9, 9)]))]
    assert bench.befall(1, Trouble.KILLED_BEFORE, lambda: region.handle(never))
    return Scenario(
        deliveries=[],
        totals={
            Line(HOUR, "000000000001", OUT): (2**63, 2),
            Line(EARLIER, "000000000001", OUT): (5, 1),
            **{Line(HOUR, "000000000003", f"Type-{key}"): (1000 + key, 1) for key in range(140)},
        },
        verdicts={(batch_id, "M", "accepted") for batch_id in ("b1", "w1")},
    )


def jobs(region: Region) -> None:
    """Roll up, compact, and clean after the readers' grace period."""
    region.roll_up()
    compactor = region.jobs().compactor_of(POLICY)
    compactor = replace(compactor, writer=ParquetLakeWriter(region.objects, readers=1))
    assert compactor.run(region.deadline()).finished
    # S3's modification times come from the machine's clock.
    region.clock.advance_s(max(DAY_S, int(time.time()) + 2 * HOUR_S - region.clock.now_ms() // 1000))
    for cleaner in (region.jobs().cleaner, region.jobs().orphans, region.jobs().rollup_cleaner):
        cleaner.run(region.deadline())


def left_over(region: Region) -> list[str]:
    """Leftovers that should no longer exist after everything is compacted and cleaned."""
    items = [f"{item['pk']}/{item['sk']}" for item in region.items.scan(Table.LEDGER)]
    return [
        *(info.key for info in region.objects.list("staging/")),
        *(key for key in items if key.startswith(("P#", "U#")) or (key.startswith("H#") and "/2#" in key)),
        *(f"alert: {alert}" for alert in region.alerts.sent),
    ]


def files(region: Region) -> Totals:
    """Totals of all files below `lake/`, as an independent engine reads them."""
    figures: list[tuple[Line, int, int]] = []
    for info in region.objects.list("lake/"):
        day, hour = info.key.split("/")[1:3]
        label = f"{day.removeprefix('dt=')}T{hour.removeprefix('hour=')}"
        for row in pq.read_table(io.BytesIO(region.objects.get(info.key))).to_pylist():
            figures.append((Line(label, row["account_id"], row["usage_type"]), row["bytes"], 1))
    return added(figures)


def again(bench: Bench, region: Region) -> None:
    # The first cleaning marks commits as aborted, and the second removes their objects.
    for _ in range(2):
        jobs(region)
    if bench.wire.late:
        bench.wire.deliver_late()
        region.clock.advance_s(DAY_S)
        jobs(region)


def at_the_end(region: Region, made: Scenario) -> list[str]:
    wrong = [*problems(region, made), *left_over(region)]
    return wrong if files(region) == made.totals else [*wrong, "an engine that lists the lake sees something else"]


MATRIX = Matrix(prepare, jobs, at_the_end, lake_problems, again)


def test_the_matrix_covers_every_operation_that_the_jobs_need(bench: Bench) -> None:
    assert set(MATRIX.calls(bench)) == {
        "dynamodb.BatchGetItem", "dynamodb.DeleteItem", "dynamodb.GetItem", "dynamodb.PutItem", "dynamodb.Query",
        "dynamodb.TransactWriteItems", "dynamodb.UpdateItem", "s3.DeleteObjects", "s3.GetObject", "s3.HeadObject",
        "s3.ListObjectsV2", "s3.PutObject",
    }  # fmt: skip


@EACH_JOB_VARIANT
def test_no_reader_sees_another_total_whatever_befalls_a_call(bench: Bench, trouble: Trouble, very_late: bool) -> None:
    assert MATRIX.wrong(bench, trouble, very_late=very_late) == {}
