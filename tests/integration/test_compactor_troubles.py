"""Kill matrix and lost-reply matrix of roll-up, compactor and cleaners, with the real adapters on MiniStack.

One run without trouble records every call of the jobs. Then each call gets each trouble in turn, in a fresh region.
A reader must see what was sent at the moment of the trouble, after what came late, and after the jobs were run again.
"""

import io
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

import pyarrow.parquet as pq
import pytest

from metering.errors import UnavailableError
from metering.lake.compactor import Compactor
from metering.lake.parquet.writer import ParquetLakeWriter
from metering.stores.clock import Retrier
from metering.stores.writes import Table
from metering.units import DAY_S, HOUR_S
from tests.integration.bench import JOB_VARIANTS, Bench, lake_problems, problems, worth_trying
from tests.integration.region import HOUR, Line, Region, Scenario, body, delivery, record
from tests.support.stage import compaction
from tests.support.wire import Killed, Trouble

pytestmark = pytest.mark.emulator

EARLIER = "2026-11-24T11"
OUT = "DataTransfer-Out-Bytes"
# Everything is due at once, in two runs.
POLICY = compaction(run_pairs=2, wait_today_s=0, wait_older_s=0)


def prepare(bench: Bench, region: Region) -> Scenario:
    """A commit of two hours, one of more kinds than an item holds, and the object of one that never was."""
    kinds = [record(3, 1000 + key, usage_type=f"Type-{key}") for key in range(140)]
    two_hours = [record(1, 2**62), record(1, 2**62), record(1, 5, start=EARLIER + ":00:00Z")]
    region.handle([delivery("b1", body("b1", two_hours))])
    region.handle([delivery("w1", body("w1", kinds))])
    killed(bench, region, "b9", [record(9, 9)], call=1, trouble=Trouble.KILLED_BEFORE)
    return Scenario(
        deliveries=[],
        totals={
            Line(HOUR, "000000000001", OUT): (2**63, 2),
            Line(EARLIER, "000000000001", OUT): (5, 1),
            **{Line(HOUR, "000000000003", f"Type-{key}"): (1000 + key, 1) for key in range(140)},
        },
        verdicts={(batch_id, "M", "accepted") for batch_id in ("b1", "w1")},
    )


def killed(
    bench: Bench, region: Region, batch_id: str, records: Sequence[object], *, call: int, trouble: Trouble
) -> None:
    bench.wire.begin_again((call, trouble))
    with pytest.raises(Killed):
        region.handle([delivery(batch_id, body(batch_id, records))])
    bench.wire.begin_again()


def jobs(region: Region) -> None:
    """Roll up, compact, and when the readers' grace is over, clean."""
    retrier = Retrier(clock=region.clock, entropy=region.entropy, attempts=region.settings.attempts)
    region.roll_up()
    compactor = Compactor(
        items=region.items,
        objects=region.objects,
        writer=ParquetLakeWriter(region.objects, readers=1),
        clock=region.clock,
        entropy=region.entropy,
        retrier=retrier,
        metrics=region.metrics,
        alerts=region.alerts,
        policy=POLICY,
        shards=1,
    )
    assert compactor.run(region.deadline()).finished
    # S3's modification times come from the machine's clock.
    region.clock.advance_s(max(DAY_S, int(time.time()) + 2 * HOUR_S - region.clock.now_ms() // 1000))
    for cleaner in (region.jobs().cleaner, region.jobs().orphans, region.jobs().rollup_cleaner):
        cleaner.run(region.deadline())


def left_over(region: Region) -> list[str]:
    """What should be gone when all is compacted and cleaned."""
    items = [f"{item['pk']}/{item['sk']}" for item in region.items.scan(Table.LEDGER)]
    return [
        *(info.key for info in region.objects.list("staging/")),
        *(key for key in items if key.startswith(("P#", "U#")) or (key.startswith("H#") and "/2#" in key)),
        *(f"alert: {alert}" for alert in region.alerts.sent),
    ]


def files(region: Region) -> dict[Line, tuple[int, int]]:
    """What an engine sees that knows nothing of us: every file below `lake/`."""
    totals: Counter[tuple[Line, str]] = Counter()
    for info in region.objects.list("lake/"):
        day, hour = info.key.split("/")[1:3]
        label = f"{day.removeprefix('dt=')}T{hour.removeprefix('hour=')}"
        for row in pq.read_table(io.BytesIO(region.objects.get(info.key))).to_pylist():
            line = Line(label, row["account_id"], row["usage_type"])
            totals[line, "bytes"] += row["bytes"]
            totals[line, "records"] += 1
    lines = {line for line, _ in totals}
    return {line: (totals[line, "bytes"], totals[line, "records"]) for line in lines}


def suffer(bench: Bench, call: int, trouble: Trouble, *, very_late: bool) -> str:
    """One history; returns what is wrong in it."""
    region = Region(bench.clients)
    made = prepare(bench, region)
    bench.wire.begin_again((call, trouble))
    with suppress(Killed, UnavailableError):
        jobs(region)
    if not bench.wire.happened:
        return "it did not happen"
    bench.wire.begin_again()
    wrong = [f"at the trouble: {found}" for found in (lake_problems(region, made),) if found]
    if not very_late:
        bench.wire.deliver_late()
        wrong += [f"after what came late: {found}" for found in (lake_problems(region, made),) if found]
    # Two cleanings: the second one removes the objects that the first one found aborted.
    for _ in range(2):
        jobs(region)
    if bench.wire.late:
        bench.wire.deliver_late()
        region.clock.advance_s(DAY_S)
        jobs(region)
    wrong += [f"at the end: {found}" for found in (problems(region, made), *left_over(region)) if found]
    if files(region) != made.totals:
        wrong.append("an engine that lists the lake sees something else")
    return "; ".join(wrong)


@pytest.fixture(scope="module")
def calls(bench: Bench) -> list[str]:
    """Every call of the jobs when nothing goes wrong."""
    region = Region(bench.clients)
    made = prepare(bench, region)
    assert lake_problems(region, made) == ""
    bench.wire.begin_again()
    jobs(region)
    recorded = list(bench.wire.calls)
    assert (problems(region, made), left_over(region), files(region)) == ("", [], made.totals)
    return recorded


def test_the_matrix_covers_every_operation_that_the_jobs_need(calls: list[str]) -> None:
    assert set(calls) == {
        "dynamodb.BatchGetItem", "dynamodb.DeleteItem", "dynamodb.GetItem", "dynamodb.PutItem", "dynamodb.Query",
        "dynamodb.TransactWriteItems", "dynamodb.UpdateItem", "s3.DeleteObjects", "s3.GetObject", "s3.HeadObject",
        "s3.ListObjectsV2", "s3.PutObject",
    }  # fmt: skip


@pytest.mark.parametrize(("trouble", "very_late"), JOB_VARIANTS, ids=lambda value: getattr(value, "name", str(value)))
def test_no_reader_ever_sees_another_total_whatever_befalls_a_call(
    bench: Bench, calls: list[str], trouble: Trouble, very_late: bool
) -> None:
    wrong = {
        (number, calls[number]): problem
        for number in worth_trying(calls, trouble)
        if (problem := suffer(bench, number, trouble, very_late=very_late))
    }
    assert wrong == {}
