"""Kill matrix and lost-reply matrix of rebuild, reconciler and period close, with the real adapters on MiniStack.

One run without faults records every call of a job. Then each call gets each fault in turn, in a new region whose usage
and marker are lost (rebuild), or which is compared or closed. Totals may never exceed the sent usage. At the end, the
totals equal the sent usage, each repeated batch is a duplicate, and the closed month has exact figures.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest

from metering.adapters.aws.items import DynamoDbItemStore
from metering.hours import parse_hour
from metering.ledger.markers import Marker, marker_key
from metering.ledger.notes.reconciliation import RECONCILIATION_KEY, Reconciliation
from metering.stores.writes import Delete, Item, Key, Table, Update
from tests.integration.bench import EACH_JOB_VARIANT, Bench, Matrix, lake_problems, problems
from tests.integration.region import HOUR, LATE_HOUR, LATE_START, Line, Region, Scenario, body, delivery, record
from tests.support.wire import Trouble

pytestmark = pytest.mark.emulator

MONTH = "2026-10"
OUT = "DataTransfer-Out-Bytes"
B1 = Line(HOUR, "000000000001", OUT)
B1_LATE = Line(LATE_HOUR, "000000000001", OUT)


def prepare(region: Region, *late: dict[str, object]) -> Scenario:
    """One commit of two batches."""
    records = {"b1": [record(1, 2**62), record(1, 2**62), *late], "b2": [record(2, 20)]}
    deliveries = [delivery(batch_id, body(batch_id, rows)) for batch_id, rows in records.items()]
    assert region.handle(deliveries).retry == ()
    region.roll_up()
    return Scenario(
        deliveries=deliveries,
        totals={B1: (2**63, 2), Line(HOUR, "000000000002", OUT): (20, 1), **({B1_LATE: (5, 1)} if late else {})},
        verdicts={(batch_id, "M", "accepted") for batch_id in records},
    )


def prepare_months(_bench: Bench, region: Region) -> Scenario:
    """Like `prepare`, but the first batch also has a record of last month."""
    return prepare(region, record(1, 5, start=LATE_START))


def prepare_losses(_bench: Bench, region: Region) -> Scenario:
    made = prepare(region)
    for item in list(region.items.scan(Table.USAGE)):
        if f"#{B1.account_id}#" in str(item["pk"]):
            lose(region, Table.USAGE, Key(str(item["pk"]), str(item["sk"])))
    lose(region, Table.LEDGER, marker_key("b1"))
    return made


def lose(region: Region, table: Table, key: Key) -> None:
    region.items.delete(Delete(table=table, key=key))


def rebuild(region: Region) -> None:
    jobs = region.jobs()
    assert jobs.rebuilder.usage().unstable == ()
    jobs.rebuilder.markers()


def reconcile(region: Region) -> None:
    """Run a full pass of the reconciler, and store the result."""
    tick = region.jobs().reconcile_tick.run(region.deadline())
    assert (tick.scanned, tick.different, tick.left) == (True, 0, 0)


def close(region: Region) -> None:
    """Compact the month's hour, then close the month."""
    region.jobs().closer.close(MONTH, region.deadline())


def wrong_after_rebuild(region: Region, made: Scenario) -> list[str]:
    """Check that the marker equals the sent batch, and that repeated batches are duplicates."""
    again = region.handle([replace(one, message_id=f"again {one.message_id}") for one in made.deliveries])
    wrong = [f"{name} was put back" for name in again.retry]
    item = region.items.get(Table.LEDGER, marker_key("b1"))
    hours = {} if item is None else Marker.from_item(item).hours
    return wrong if hours == {parse_hour(HOUR): made.totals[B1]} else [*wrong, f"marker: {hours}"]


def wrong_after_reconcile(region: Region, made: Scenario) -> list[str]:
    """Check that the alarms' figures report no difference."""
    del made
    item = region.items.get(Table.LEDGER, RECONCILIATION_KEY)
    known = None if item is None else Reconciliation.from_item(item)
    left = region.jobs().reconcile_tick.checker.work_list()
    is_right = known is not None and (known.hours, known.differences) == (2, 0) and not left.hours
    return [] if is_right else [f"told: {known}, left: {left}"]


def wrong_after_close(region: Region, made: Scenario) -> list[str]:
    """Check that the month is closed with exact figures and that its files match them."""
    closer = region.jobs().closer
    closed = closer.frozen(MONTH)
    if closed is None:
        return ["not closed"]
    hours = [hour.hour_s for hour in closed.hours]
    frozen = [(hour_s, *(total for _, total in closer.files.hour(closed, hour_s))) for hour_s in hours]
    if frozen != [(parse_hour(LATE_HOUR), made.totals[B1_LATE])]:
        return [f"frozen: {frozen}"]
    return closer.verify(MONTH)


def at_any_time(region: Region, made: Scenario) -> list[str]:
    more = {
        line: total
        for line, total in region.usage().items()
        if any(have > sent for have, sent in zip(total, made.totals.get(line, (0, 0)), strict=True))
    }
    wrong = [f"usage counts more than was sent: {more}"] if more else []
    return [*wrong, *lake_problems(region, made)]


def matrix(
    prepare: Callable[[Bench, Region], Scenario],
    run: Callable[[Region], None],
    wrong_after: Callable[[Region, Scenario], list[str]],
) -> Matrix:
    def at_the_end(region: Region, made: Scenario) -> list[str]:
        alerts = [f"alert: {alert}" for alert in region.alerts.sent]
        return [*alerts, *wrong_after(region, made), *problems(region, made)]

    return Matrix(prepare, run, at_the_end, at_any_time)


REBUILD = matrix(prepare_losses, rebuild, wrong_after_rebuild)
RECONCILE = matrix(prepare_months, reconcile, wrong_after_reconcile)
CLOSE = matrix(prepare_months, close, wrong_after_close)


@pytest.mark.parametrize(("jobs", "more"), [
    (REBUILD, {"dynamodb.BatchGetItem", "dynamodb.PutItem", "dynamodb.UpdateItem"}),
    (RECONCILE, {"dynamodb.PutItem"}),
    (CLOSE, {
        "dynamodb.BatchGetItem", "dynamodb.PutItem", "dynamodb.UpdateItem", "s3.HeadObject", "s3.PutObject",
    }),
], ids=["rebuild", "reconcile", "close"])  # fmt: skip
def test_the_matrix_covers_every_operation_that_a_job_needs(bench: Bench, jobs: Matrix, more: set[str]) -> None:
    reads = {"dynamodb.GetItem", "dynamodb.Query", "dynamodb.Scan", "s3.GetObject", "s3.ListObjectsV2"}
    assert set(jobs.calls(bench)) == reads | more


class _CarelessItems(DynamoDbItemStore):
    """A usage table whose repairs do not check whether an item changed after it was measured."""

    def update(self, action: Update) -> Item:
        return super().update(replace(action, condition=None) if action.table is Table.USAGE else action)


class _CarelessRegion(Region):
    def __init__(self, bench: Bench) -> None:
        super().__init__(bench.clients)
        self.items = _CarelessItems(bench.clients.dynamodb, self.resources.tables)


def test_the_matrix_finds_a_repair_that_lands_twice(bench: Bench) -> None:
    repair = REBUILD.calls(bench).index("dynamodb.UpdateItem")
    wrong = REBUILD.suffer(bench, _CarelessRegion(bench), repair, Trouble.APPLIED_LATE, very_late=True)
    assert f"usage {B1}: {(2**64, 4)}, sent {(2**63, 2)}" in wrong


@pytest.mark.parametrize("jobs", [REBUILD, RECONCILE, CLOSE], ids=["rebuild", "reconcile", "close"])
@EACH_JOB_VARIANT
def test_losses_are_put_right_once_whatever_befalls(
    bench: Bench, jobs: Matrix, trouble: Trouble, very_late: bool
) -> None:
    assert jobs.wrong(bench, trouble, very_late=very_late) == {}
