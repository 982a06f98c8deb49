"""Up to when a report is complete: each thing that is known can hold it back, and nothing else does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.adapters.memory.clock import ManualClock
from metering.adapters.memory.items import MemoryItemStore
from metering.adapters.memory.queues import MemoryQueue
from metering.audit.freshness import Freshness
from metering.hours import parse_hour
from metering.ledger.booked_hours import LakeFile, Pending, Published, pending_key
from metering.ledger.commits import CommitRecord
from metering.ledger.notes.completeness import COMPLETENESS_KEY, Completeness
from metering.ledger.notes.reconciliation import Reconciliation
from metering.ledger.notes.watch_state import WatchState
from metering.stores.queues import Redelivery
from metering.stores.writes import Put, Table
from metering.units import DAY_S, HOUR_S, MINUTE_S
from metering.usage.totals import Total

if TYPE_CHECKING:
    from metering.ledger.commits import CommitState

HOUR = parse_hour("2026-11-24T13")
NOW_S = HOUR + 1_800
LATE_HOUR = HOUR - 20 * DAY_S


class Setup:
    """A region's ledger and queue; `age_s` is what the queue service says of its oldest message."""

    def __init__(self) -> None:
        self.clock = ManualClock(NOW_S * 1_000)
        self.dead = MemoryQueue(self.clock)
        self.queue = MemoryQueue(self.clock)
        self.items = MemoryItemStore()
        self.age_s: int | None = None
        self.freshness = Freshness(
            items=self.items,
            ingest=self.queue,
            dead=self.dead,
            queue_facts=self,
            clock=self.clock,
            shards=2,
            window_s=35 * DAY_S,
        )

    def oldest_age_s(self) -> int | None:
        return self.age_s

    def longest_retention_s(self) -> int:
        return 14 * DAY_S

    def redelivery(self) -> Redelivery:
        return Redelivery(visibility_s=420, max_receives=5)

    def through_s(self) -> int:
        return self.freshness.measure().known.through_s

    def put(self, *values: CommitRecord | Pending | Published | Reconciliation | WatchState) -> None:
        for value in values:
            self.items.put(Put(table=Table.LEDGER, item=value.to_item()))

    def pending(self, *hours: int, shard: int = 1, wide: bool = False) -> None:
        totals = {hour_s: Total(1, 1) for hour_s in hours}
        self.put(Pending(shard=shard, commit_id="c", hours=frozenset(hours), totals=totals, created_at_ms=0, wide=wide))

    def publish(self, hour_s: int) -> None:
        self.put(Published(hour_s=hour_s, shard=0, run=1, files=(LakeFile(key="lake/x", rows=1, bytes=1),)))


def test_a_quiet_region_is_complete_up_to_what_the_queues_depth_can_say() -> None:
    assert Setup().through_s() == NOW_S - MINUTE_S


def test_a_queue_that_holds_messages_of_unknown_age_holds_back_to_when_it_was_last_empty() -> None:
    setup = Setup()
    setup.queue.send_many(["x"])
    assert setup.through_s() == 0
    setup.put(WatchState(first_s=0, queue_empty_s=NOW_S - 500))
    assert setup.through_s() == NOW_S - 500 - MINUTE_S
    setup.queue.receive(1)
    assert setup.through_s() == NOW_S - 500 - MINUTE_S


def test_the_age_of_the_oldest_message_says_more_where_it_is_known() -> None:
    setup = Setup()
    setup.queue.send_many(["x"])
    setup.put(WatchState(first_s=0, queue_empty_s=NOW_S - 5 * HOUR_S))
    setup.age_s = 90
    assert setup.through_s() == NOW_S - 90 - 10 * MINUTE_S


def test_an_open_commit_holds_back_to_its_first_hour_and_a_finished_one_does_not() -> None:
    setup = Setup()
    for hour_s in (LATE_HOUR, HOUR):
        setup.publish(hour_s)
    setup.pending(LATE_HOUR, HOUR, wide=True)
    commit = CommitRecord(commit_id="c", state="open", chunks=1, hours=(LATE_HOUR, HOUR))
    setup.put(commit)
    assert setup.through_s() == LATE_HOUR
    setup.put(CommitRecord(commit_id="c", state="applied", chunks=1, hours=commit.hours))
    assert setup.through_s() == NOW_S - MINUTE_S


def test_an_hour_that_was_never_published_holds_back_and_what_comes_late_for_a_published_one_does_not() -> None:
    setup = Setup()
    setup.pending(LATE_HOUR, HOUR)
    assert setup.through_s() == LATE_HOUR
    setup.publish(LATE_HOUR)
    assert setup.through_s() == HOUR
    setup.publish(HOUR)
    assert setup.through_s() == NOW_S - MINUTE_S


def test_a_gap_of_a_known_source_holds_back_to_what_was_before_it_but_not_beyond_the_window() -> None:
    setup = Setup()
    setup.put(Reconciliation(finished_s=NOW_S, hours=1, differences=0, gaps_since_s=NOW_S - DAY_S))
    assert setup.through_s() == NOW_S - DAY_S
    setup.put(Reconciliation(finished_s=NOW_S, hours=1, differences=0, gaps_since_s=0))
    assert setup.through_s() == NOW_S - 35 * DAY_S
    setup.put(Reconciliation(finished_s=NOW_S, hours=1, differences=0))
    assert setup.through_s() == NOW_S - MINUTE_S


def test_a_report_reads_what_the_watch_measured_last_with_one_read() -> None:
    setup = Setup()
    setup.pending(HOUR)
    setup.freshness.keep()
    setup.clock.advance_s(MINUTE_S)
    calls: list[str] = []
    setup.items.on_call = setup.queue.on_call = calls.append
    assert setup.freshness.complete_through_s() == HOUR
    assert len(calls) == 1


def test_a_report_measures_for_itself_where_no_watch_ever_ran() -> None:
    assert Setup().freshness.complete_through_s() == NOW_S - MINUTE_S


def test_the_watch_asks_once_whether_an_hour_is_published() -> None:
    setup = Setup()
    setup.pending(LATE_HOUR, HOUR)
    setup.publish(LATE_HOUR)
    reads = []
    for _ in range(2):
        calls: list[str] = []
        setup.items.on_call = calls.append
        setup.freshness.keep()
        reads.append(calls.count("items.query"))
    assert reads[1] == reads[0] - 1


def test_the_watch_reads_a_wide_commit_until_it_is_applied_and_never_again() -> None:
    """A mixed region has some hundred thousand of them waiting for late hours, and looks each minute."""
    setup = Setup()
    states: dict[str, CommitState] = {"c": "open", "d": "applied", "e": "applied"}
    for name, state in states.items():
        totals = {HOUR: Total(1, 1)}
        setup.put(Pending(shard=0, commit_id=name, hours=frozenset([HOUR]), totals=totals, created_at_ms=0, wide=True))
        setup.put(CommitRecord(commit_id=name, state=state, hours=(HOUR,)))

    def read_together() -> int:
        calls: list[str] = []
        setup.items.on_call = calls.append
        assert len(setup.freshness.measure().waiting.open) == 1
        return calls.count("items.get_many.next")

    assert [read_together(), read_together()] == [2, 0]
    setup.put(CommitRecord(commit_id="c", state="applied", hours=(HOUR,)))
    assert setup.freshness.measure().waiting.open == ()
    assert setup.freshness.applied == {"c", "d", "e"}
    setup.items.remove(Table.LEDGER, pending_key(0, "d"))
    setup.freshness.measure()
    assert setup.freshness.applied == {"c", "e"}


def test_the_watch_names_open_commits_for_the_sweep_the_oldest_first_and_not_more_than_it_takes() -> None:
    setup = Setup()
    for number in range(1_005):
        name = f"c{number:04d}"
        totals = {HOUR: Total(1, 1)}
        setup.put(Pending(shard=0, commit_id=name, hours=frozenset([HOUR]), totals=totals, created_at_ms=0, wide=True))
        setup.put(CommitRecord(commit_id=name, state="open", chunks=1, hours=(HOUR,), created_at_ms=2_000 - number))
    setup.freshness.keep()
    item = setup.items.peek(Table.LEDGER, COMPLETENESS_KEY)
    assert item is not None
    known = Completeness.from_item(item)
    assert len(known.open) == 1_000
    assert known.open[0] == "c1004"
    assert Completeness.from_item({k: v for k, v in item.items() if k != "open"}).open == ()
