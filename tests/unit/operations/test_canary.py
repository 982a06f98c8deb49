"""The canary is good if it is counted exactly once and in time, late if not in time, doubled if counted twice."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from metering.errors import UnavailableError
from metering.hours import hour_of
from metering.lake.view import LakeView
from metering.ledger.booked_hours import LakeFile, Pointer, Published, RowSource
from metering.ledger.commits import CommitRecord, Waiting, waiting_key
from metering.ledger.notes.checks import (
    CANARY_ACCOUNT_ID,
    CANARY_BYTES,
    CanaryRun,
    CanaryVerdict,
    canary_batch_id,
    canary_body,
    canary_key,
    canary_usage_type,
)
from metering.ledger.usage.items import usage_item_key
from metering.ledger.usage.reading import UsageReading
from metering.operations.canary import Canary
from metering.stores.writes import Put, Table
from metering.units import MINUTE_S
from metering.usage.totals import Service, Total, UsageKey, UsageType
from tests.support.memory.clock import DeadlineAt, ManualClock
from tests.support.memory.items import MemoryItemStore
from tests.support.memory.objects import MemoryObjectStore
from tests.support.memory.queues import MemoryQueue
from tests.support.memory.rows import TotalsAlone
from tests.support.usage_items import UsageEntry, change
from tests.support.verdicts import marker_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from metering.lake.ports import Group, RowQuery

NOW_S = 1_800_000_030
SLOT_S = NOW_S - 30
REGION = "eu-west-1"


class Rows(TotalsAlone):
    """A `LakeReader` that knows only the usage types of each object."""

    def __init__(self) -> None:
        self.objects: dict[str, list[str]] = {}

    def totals(self, sources: Sequence[RowSource], query: RowQuery) -> dict[Group, Total]:
        where = dict(query.where)
        assert where["account_id"] == {CANARY_ACCOUNT_ID}
        count = sum(name in where["usage_type"] for source in sources for name in self.objects[source.key])
        return {(): Total(count * CANARY_BYTES, count)} if count else {}


class Setup:
    def __init__(self) -> None:
        self.clock = ManualClock(NOW_S * 1000)
        self.items = MemoryItemStore()
        self.queue = MemoryQueue(self.clock)
        self.rows = Rows()
        view = LakeView(items=self.items, objects=MemoryObjectStore(self.clock), reader=self.rows, shards=1)
        self.canary = Canary(
            items=self.items, usage=UsageReading(self.items), queue=self.queue, view=view, clock=self.clock,
            region=REGION, rollup_every_s=15,
        )  # fmt: skip

    def run(self, *, within_s: int = 180) -> CanaryRun:
        return self.canary.run(DeadlineAt(clock=self.clock, at_ms=self.clock.now_ms() + within_s * 1000))

    def accept(self, slot_s: int = SLOT_S, *, commit_id: str = "c1") -> None:
        """Simulate the aggregator, which accepts the canary's batch."""
        marker = marker_of(canary_batch_id(slot_s), commit_id=commit_id)
        key, total = f"staging/{commit_id}.parquet", Total(CANARY_BYTES, 1)
        commit = CommitRecord(
            commit_id=commit_id, state="committed", hours=(hour_of(slot_s),), staging_key=key, rows=1, bytes=total.bytes
        )
        totals = {hour_of(slot_s): total}
        waiting = Waiting(shard=0, commit_id=commit_id, totals=totals, staging_key=key, created_at_ms=0, sent_at_ms=0)
        for item in (marker.to_item(), commit.to_item(), waiting.to_item()):
            self.items.put(Put(table=Table.LEDGER, item=item))
        self.rows.objects[key] = [canary_usage_type(slot_s)]

    def book(self, slot_s: int = SLOT_S) -> None:
        """Simulate the roll-up of the batch's usage."""
        key = UsageKey(
            hour_of(slot_s), CANARY_ACCOUNT_ID, UsageType(canary_usage_type(slot_s)), Service("MeteringCanary"), REGION,
            "internet",
        )  # fmt: skip
        total = Total(CANARY_BYTES, 1)
        entry = UsageEntry(
            key=key, total=total, number=None, item_key=usage_item_key(key, None), revision=None, runs={}
        )
        change(self.items, entry, total.bytes, total.records)

    def account(self) -> None:
        self.accept()
        self.book()

    def publish(self, run: int, *usage_types: str) -> None:
        """Simulate the compactor: publish a file of rows in the hour."""
        key = f"lake/{run}.parquet"
        file = LakeFile(key=key, rows=len(usage_types), bytes=len(usage_types) * CANARY_BYTES)
        published = Published(hour_s=hour_of(SLOT_S), shard=0, run=run, files=(file,))
        self.items.put(Put(table=Table.LEDGER, item=published.to_item()))
        self.rows.objects[key] = list(usage_types)

    def stored(self) -> CanaryRun:
        item = self.items.peek(Table.LEDGER, canary_key(SLOT_S))
        assert item is not None
        return CanaryRun.from_item(item)

    def account_when(self, call: str, at: int) -> None:
        calls = 0

        def hook(name: str) -> None:
            nonlocal calls
            calls += name == call
            if name == call and calls == at:
                self.items.on_call = lambda _: None
                self.account()

        self.items.on_call = hook


@pytest.fixture
def setup() -> Setup:
    return Setup()


def test_the_batch_is_sent_twice_with_the_same_content(setup: Setup) -> None:
    setup.run(within_s=1)
    one, two = setup.queue.bodies()
    assert one == two
    assert json.loads(one)["batch_id"] == canary_batch_id(SLOT_S)
    assert json.loads(one)["records"][0]["account_id"] == CANARY_ACCOUNT_ID


def test_a_batch_seen_once_in_usage_and_lake_is_good(setup: Setup) -> None:
    setup.account_when("items.query", 4)
    run = setup.run()
    assert run.verdict is CanaryVerdict.GOOD
    assert setup.stored() == run


def test_a_batch_that_is_not_there_in_time_is_late(setup: Setup) -> None:
    assert setup.run().verdict is CanaryVerdict.LATE


def test_a_run_that_is_cut_short_is_settled_by_the_next_one(setup: Setup) -> None:
    assert setup.run(within_s=4).verdict is CanaryVerdict.SENT
    setup.account()
    setup.clock.advance_s(60)
    setup.run(within_s=4)
    assert setup.stored().verdict is CanaryVerdict.GOOD


def test_a_batch_counted_twice_in_usage_is_doubled(setup: Setup) -> None:
    setup.account()
    setup.account()
    assert setup.run().verdict is CanaryVerdict.DOUBLED


@pytest.mark.parametrize(("waits", "files", "verdict"), [
    (True, [(SLOT_S,)], CanaryVerdict.DOUBLED),
    (False, [(SLOT_S, SLOT_S - MINUTE_S), (SLOT_S,)], CanaryVerdict.DOUBLED),
    (False, [(SLOT_S, SLOT_S - MINUTE_S)], CanaryVerdict.GOOD),
], ids=["in a file and in its commit", "in two files", "in a file, and its commit is cleaned"])  # fmt: skip
def test_rows_of_a_batch_are_in_one_place(waits: bool, files: list[tuple[int, ...]], verdict: CanaryVerdict) -> None:
    setup = Setup()
    setup.account()
    if not waits:
        setup.items.remove(Table.LEDGER, waiting_key(0, "c1"))
    for run, slots in enumerate(files, 1):
        setup.publish(run, *map(canary_usage_type, slots))
    assert setup.run().verdict is verdict


@pytest.mark.parametrize(("there", "longest_s"), [(Setup.accept, 120 + 15 + 60), (Setup.book, 120)])
def test_usage_has_a_roll_up_longer_than_rows_have(there: Callable[[Setup], None], longest_s: int) -> None:
    setup = Setup()
    there(setup)
    began_s = setup.clock.now_ms() // 1000
    assert setup.run(within_s=600).verdict is CanaryVerdict.LATE
    assert longest_s < setup.clock.now_ms() // 1000 - began_s <= longest_s + 2


def test_a_look_costs_the_same_however_many_commits_the_hour_has() -> None:
    calls = []
    for others in (0, 50):
        setup = Setup()
        for number in range(others):
            name = f"x{number}"
            pointer = Pointer(
                hour_s=hour_of(SLOT_S), commit_id=name, shard=0, rows=1, bytes=1, staging_key=f"staging/{name}"
            )
            setup.items.put(Put(table=Table.LEDGER, item=pointer.to_item()))
        setup.account()
        made: list[str] = []
        setup.items.on_call = made.append
        assert setup.run().verdict is CanaryVerdict.GOOD
        calls.append(len(made))
    assert calls[0] == calls[1]


def test_each_minute_of_an_hour_has_a_usage_type_of_its_own_and_a_day_has_no_more() -> None:
    hour_s = hour_of(SLOT_S)
    names = {canary_usage_type(hour_s + minute * MINUTE_S) for minute in range(60)}
    assert len(names) == 60
    assert {canary_usage_type(hour_s + minute * MINUTE_S) for minute in range(24 * 60)} == names


def test_a_good_batch_that_is_counted_again_later_is_found_by_a_later_run(setup: Setup) -> None:
    setup.account()
    assert setup.run().verdict is CanaryVerdict.GOOD
    setup.account()
    setup.clock.advance_s(300)
    setup.run(within_s=1)
    assert setup.stored().verdict is CanaryVerdict.DOUBLED


def test_a_repeated_run_in_the_same_minute_sends_the_same_batch(setup: Setup) -> None:
    setup.run(within_s=1)
    setup.run(within_s=1)
    assert len(set(setup.queue.bodies())) == 1


def test_a_queue_that_takes_nothing_is_said(setup: Setup) -> None:
    setup.queue.refused_bodies.add(canary_body(SLOT_S, REGION))
    with pytest.raises(UnavailableError):
        setup.run()
