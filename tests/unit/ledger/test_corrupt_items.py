"""Invalid items are reported, are never read as valid, and do not stop unrelated work."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.commit.deduplication import Verdict
from metering.errors import LedgerCorruptError
from metering.ledger.markers import LedgerFacts, Marker, MarkerGlance, marker_key, read_batches
from metering.ledger.notes.reconciliation import RECONCILIATION_KEY, Reconciliation
from metering.ledger.retries import RetryNote
from metering.operations.alarms import Figure
from metering.stores.writes import Item, Key, Put, Table, Update, Value
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Total
from tests.support.lake_world import HOUR, NOW_S, World, record
from tests.support.memory.items import MemoryItemStore
from tests.support.small_world import SmallWorld, batch, deliveries, delivery
from tests.support.verdicts import conflict_of, marker_of
from tests.support.watched import WatchedRegion


def change(world: World | SmallWorld | WatchedRegion, key: Key, **changes: Value) -> None:
    """Write attributes as a manual change or another version would write them."""
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


# A glance at a marker gives the same as reading the whole marker, or refuses it with the same message.


ITEM: dict[str, Any] = marker_of(
    "b1",
    source_id="edge",
    sequence=7,
    records=3,
    metered=3,
    hours={HOUR_S * 500_000: Total(2**70, 2), HOUR_S * 500_001: Total(5, 1)},
).to_item()


def of_whole(item: Item) -> MarkerGlance:
    marker = Marker.from_item(item)
    return MarkerGlance(
        marker.batch_id, marker.verdict, marker.hours, marker.decided_at_ms, marker.source_id, marker.sequence
    )


def said(read: Callable[[Item], MarkerGlance], item: Item) -> MarkerGlance | str:
    """The decoded value, or the error text."""
    try:
        return read(item)
    except LedgerCorruptError as error:
        return str(error)


@pytest.mark.parametrize("left_out", [(), ("source",), ("sequence",), ("source", "sequence")])
def test_a_glance_says_what_the_whole_marker_says(left_out: tuple[str, ...]) -> None:
    item = {name: value for name, value in ITEM.items() if name not in left_out}
    assert MarkerGlance.of_item(item) == of_whole(item)
    rejected = {**item, "verdict": "rejected", "reason": "schema_unknown", "quarantine": "q"}
    del rejected["hours"]
    assert MarkerGlance.of_item(rejected) == of_whole(rejected)
    nothing = {**item, "metered": 0}
    del nothing["hours"]
    assert MarkerGlance.of_item(nothing) == of_whole(nothing)


values = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.text(max_size=3), st.lists(st.integers(-1, 2), max_size=3)
)


@given(st.sampled_from(["verdict", "hours", "decided_at_ms", "source", "sequence"]), values)
def test_what_is_looked_at_and_cannot_be_read_is_refused_as_the_whole_marker_is(name: str, value: Any) -> None:
    item = {**ITEM, name: value}
    if value is None:
        del item[name]
    assert said(MarkerGlance.of_item, item) == said(of_whole, item)


@given(st.dictionaries(st.sampled_from(["2026-11-24T13", "2026-11-24", "x"]), values, min_size=1))
def test_hours_that_cannot_be_read_are_refused_too(hours: dict[str, Any]) -> None:
    item = {**ITEM, "hours": hours}
    assert said(MarkerGlance.of_item, item) == said(of_whole, item)


# What a verification reads of the ledger: markers and conflicts of its batches, but not the notes of retries.

CONFLICT = conflict_of("b2")


def test_the_note_of_a_retry_is_no_conflict() -> None:
    items = MemoryItemStore()
    note = RetryNote(batch_id="b1", retry_id="retry:ff", positions=(1,), expires_at_s=9)
    for item in (note.to_item(), CONFLICT.to_item()):
        items.put(Put(table=Table.LEDGER, item=item))
    facts = read_batches(items, (), in_conflict=["b1", "b2"])
    assert facts.conflicts == {"b2": {"ee"}}
    assert facts.markers == {}


class _Watched(MemoryItemStore):
    """A store that must not be scanned, and that records the queried partitions."""

    def __init__(self) -> None:
        super().__init__()
        self.queried: list[str] = []

    def query(
        self, table: Table, pk: str, *, sk_from: str = "", sk_to: str = "\U0010ffff", descending: bool = False
    ) -> Iterator[Item]:
        self.queried.append(pk)
        return super().query(table, pk, sk_from=sk_from, sk_to=sk_to, descending=descending)

    def scan(self, table: Table, *, part: int = 0, parts: int = 1, prefixes: Sequence[str] = ()) -> Iterator[Item]:
        raise AssertionError((table, part, parts, prefixes))


@pytest.mark.parametrize("threads", [1, 4])
def test_of_some_batches_only_their_own_items_are_read(threads: int) -> None:
    items = _Watched()
    for number in range(3_100):
        items.put(Put(table=Table.LEDGER, item=marker_of(f"b{number:05d}").to_item()))
    for batch_id in ("b00001", "b00002"):
        items.put(Put(table=Table.LEDGER, item=replace(CONFLICT, batch_id=batch_id).to_item()))
    names = [f"b{number:05d}" for number in range(2, 2_503)]
    facts = read_batches(items, [*names, "unknown"], in_conflict=["b00001", "unknown too"], threads=threads)
    assert list(facts.markers) == [*names, "b00001"]
    assert facts.conflicts == {"b00001": {"ee"}}, "nobody asked for those of b00002"
    assert items.queried == ["B#b00001", "B#unknown too"]


def test_what_a_later_look_finds_is_added() -> None:
    facts = LedgerFacts(conflicts={"b1": {"ee"}, "b2": {"ee"}})
    facts.merge(LedgerFacts(markers={"b1": marker_of("b1")}, conflicts={"b1": {"ff"}, "b3": {"aa"}}))
    assert facts.conflicts == {"b1": {"ee", "ff"}, "b2": {"ee"}, "b3": {"aa"}}
    assert list(facts.markers) == ["b1"]
