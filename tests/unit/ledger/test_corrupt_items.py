"""Items that are not what may be there: named, never read as something legal, and nothing unrelated stops for them."""

from dataclasses import replace

import pytest

from metering.commit.deduplication import Verdict
from metering.errors import LedgerCorruptError
from metering.ledger.markers import marker_key, read_batches
from metering.ledger.notes.reconciliation import RECONCILIATION_KEY, Reconciliation
from metering.operations.alarms import Figure
from metering.stores.writes import Key, Put, Table, Update, Value
from metering.units import DAY_S, HOUR_S
from tests.support.lake_world import HOUR, NOW_S, World, record
from tests.support.small_world import SmallWorld, batch, deliveries, delivery
from tests.support.watched import WatchedRegion


def change(world: World | SmallWorld | WatchedRegion, key: Key, **changes: Value) -> None:
    """Somebody's hand, or code of another version."""
    world.items.update(Update(table=Table.LEDGER, key=key, set=changes))


def commits_of(world: World) -> list[Key]:
    return [
        Key(str(item["pk"]), str(item["sk"]))
        for item in world.items.everything(Table.LEDGER)
        if str(item["pk"]).startswith("C#")
    ]


def test_objects_of_a_commit_in_an_unknown_state_are_never_orphans() -> None:
    world = World()
    world.send([record(5)])
    [commit] = commits_of(world)
    change(world, commit, state="sealed")
    orphan = "e" * 32
    world.objects.put(f"staging/2026-11-24/{orphan}.parquet", b"left behind", if_absent=True)
    kept = {key for key in world.objects.keys("staging/") if orphan not in key}
    world.clock.advance_s(2 * HOUR_S)
    with pytest.raises(LedgerCorruptError, match=commit.pk):
        world.jobs.orphans.run(world.deadline())
    assert set(world.objects.keys("staging/")) == kept


def test_a_commit_that_is_not_applied_is_never_cleaned() -> None:
    world = World()
    world.send([record(5)])
    world.compact_all()
    [commit] = commits_of(world)
    for state in ("sealed", "aborted"):
        change(world, commit, state=state)
        world.clock.advance_s(2 * DAY_S)
        with pytest.raises(LedgerCorruptError, match=commit.pk[2:]):
            world.jobs.cleaner.run(world.deadline())
        assert world.objects.keys("staging/")


def test_a_marker_that_cannot_be_read_puts_back_its_batch_and_no_other() -> None:
    world = SmallWorld()
    world.handle(*deliveries(3))
    change(world, marker_key("b1"), verdict="acepted")
    result = world.handle(*deliveries(6))
    assert result.counts == {Verdict.DUPLICATE: 2, Verdict.PUT_BACK: 1, Verdict.ACCEPTED: 3}
    assert result.retry == ("b1",)
    assert result.contradictions == ("B#b1 / M: verdict is 'acepted', and should be one of accepted, rejected",)
    again = world.handle(*(replace(each, receive_count=2) for each in deliveries(6)))
    assert again.counts == {Verdict.DUPLICATE: 5, Verdict.PUT_BACK: 1}
    assert world.metrics.counts["LedgerCorrupt"] >= 2
    change(world, marker_key("b1"), verdict="accepted")
    assert world.handle(*deliveries(2)).counts == {Verdict.DUPLICATE: 2}
    world.assert_exact()


def test_a_refused_batch_whose_marker_cannot_be_read_goes_back() -> None:
    world = SmallWorld()
    refused = delivery({"batch_id": "b7", "rows": [], "refuse": "schema_unknown"})
    assert world.handle(refused).counts == {Verdict.REJECTED: 1}
    change(world, marker_key("b7"), records=True)
    result = world.handle(refused, delivery(batch(8)))
    assert result.counts == {Verdict.PUT_BACK: 1, Verdict.ACCEPTED: 1}
    assert result.contradictions == ("B#b7 / M: records is True, and should be a whole number from 0",)


def test_what_is_pending_and_cannot_be_read_is_left_out_of_the_plan_and_named() -> None:
    world = World()
    world.send([record(5)])
    [bad] = [item for item in world.items.everything(Table.LEDGER) if str(item["pk"]).startswith("P#")]
    world.send([record(7, start_s=NOW_S - DAY_S)])
    change(world, Key(str(bad["pk"]), str(bad["sk"])), created_at_ms="noon")
    with pytest.raises(LedgerCorruptError, match=str(bad["sk"])):
        world.compact_all()
    assert not world.files(HOUR)
    assert [file.bytes for file in world.files(HOUR - DAY_S)] == [7]
    change(world, Key(str(bad["pk"]), str(bad["sk"])), created_at_ms=NOW_S * 1000)
    world.compact_all()
    assert [file.bytes for file in world.files(HOUR)] == [5]


def test_a_chain_that_cannot_be_read_stops_its_own_shard_only() -> None:
    world = World(shards=2)
    for number in range(12):
        world.send([record(number + 1)])
    world.compact_all()
    for number in range(12):
        world.send([record(number + 1, start_s=NOW_S - DAY_S)])
    change(world, Key("R#L0", f"{1:012d}"), state="paused")
    with pytest.raises(LedgerCorruptError, match="R#L0"):
        world.compact_all()
    assert world.files(HOUR - DAY_S)


def test_a_marker_without_its_hours_is_named_by_the_reconciler_and_by_commands() -> None:
    world = World()
    world.send([record(5)], [record(7, start_s=NOW_S - DAY_S)])
    world.items.update(Update(table=Table.LEDGER, key=marker_key("batch-0"), remove=("hours",)))
    with pytest.raises(LedgerCorruptError, match="batch-0"):
        world.jobs.reconcile_tick.run(world.deadline())
    # The pass completed: the other hour was compared, and the difference is an alarm.
    item = world.items.peek(Table.LEDGER, RECONCILIATION_KEY)
    assert item is not None
    kept = Reconciliation.from_item(item)
    assert (kept.hours, kept.differences) == (2, 1)
    with pytest.raises(LedgerCorruptError, match="batch-0"):
        read_batches(world.items, ["batch-0"])


@pytest.mark.parametrize("chain", ["L0", "U0"])
def test_a_figure_that_cannot_be_read_leaves_out_the_heartbeat_and_no_other_figure(chain: str) -> None:
    region = WatchedRegion(now_s=NOW_S)
    region.items.put(Put(table=Table.LEDGER, item={"pk": f"R#{chain}", "sk": f"{1:012d}", "state": "paused"}))
    with pytest.raises(LedgerCorruptError, match=f"R#{chain}"):
        region.watch.run()
    assert Figure.HEARTBEAT.value not in region.published
    assert Figure.PLANNED_RUN_AGE.value not in region.published
    assert Figure.DEAD_LETTERS.value in region.published
    assert Figure.SOURCE_GAPS.value in region.published
