"""The watch: each figure from durable state, and a heartbeat only when all of them were measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from metering.audit.freshness import Freshness
from metering.errors import LedgerCorruptError, UnavailableError
from metering.hours import hour_of
from metering.ledger.commits import Waiting
from metering.ledger.markers import conflict_seen_item
from metering.ledger.notes.checks import CanaryRun, CanaryVerdict
from metering.ledger.notes.lake import Cleaning, LakeFigures, OrphanPasses
from metering.ledger.notes.log_sources import LogFigures
from metering.ledger.notes.money import BillerFigures
from metering.ledger.notes.reconciliation import Backlog, Reconciliation, SourceFigures, SourceState
from metering.ledger.notes.watch import COMPLETENESS_KEY, WATCH_KEY, Completeness
from metering.ledger.runs import Run
from metering.ledger.usage.kinds import KindsBeyondCap
from metering.operations.alarms import ALARMS, LOG_FIGURES, Figure
from metering.operations.watch import LISTED_LATE_S, Watch
from metering.stores.queues import Redelivery
from metering.stores.writes import Put, Table
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Total
from tests.support.memory.clock import ManualClock
from tests.support.memory.items import MemoryItemStore
from tests.support.memory.queues import MemoryQueue

if TYPE_CHECKING:
    from collections.abc import Mapping

NOW_S = 1_800_000_000
HOUR = hour_of(NOW_S)


class Facts:
    """`QueueFacts`, said by the test."""

    def __init__(self) -> None:
        self.age_s: int | None = None

    def oldest_age_s(self) -> int | None:
        return self.age_s

    def longest_retention_s(self) -> int:
        return 14 * DAY_S

    def redelivery(self) -> Redelivery:
        return Redelivery(visibility_s=420, max_receives=5)


class MemoryGauges:
    def __init__(self) -> None:
        self.published: dict[str, int] = {}

    def publish(self, values: Mapping[str, int]) -> None:
        self.published = dict(values)


class Setup:
    def __init__(self, *, marker_life_s: int = 50 * DAY_S) -> None:
        self.clock = ManualClock(NOW_S * 1000)
        self.items = MemoryItemStore()
        self.ingest = MemoryQueue(self.clock)
        self.dead = MemoryQueue(self.clock)
        self.facts = Facts()
        self.gauges = MemoryGauges()
        freshness = Freshness(
            items=self.items,
            ingest=self.ingest,
            dead=self.dead,
            queue_facts=self.facts,
            clock=self.clock,
            region="us-east-1",
            stage="local",
            shards=2,
            window_s=35 * DAY_S,
        )
        self.watch = Watch(
            items=self.items,
            ingest=self.ingest,
            dead=self.dead,
            queue_facts=self.facts,
            gauges=self.gauges,
            clock=self.clock,
            freshness=freshness,
            shards=2,
            window_s=35 * DAY_S,
            marker_life_s=marker_life_s,
        )

    def put(self, item: object) -> None:
        self.items.put(Put(table=Table.LEDGER, item=item.to_item()))  # type: ignore[attr-defined]  # all items have it


def test_a_quiet_region_publishes_every_figure_and_its_heartbeat() -> None:
    setup = Setup()
    figures = setup.watch.run()
    assert set(figures) == set(Figure) - LOG_FIGURES
    assert figures[Figure.HEARTBEAT] == 1
    assert setup.gauges.published == {figure.value: value for figure, value in figures.items()}
    quiet = {spec.metric for spec in ALARMS if spec.origin == "watch" and spec.metric in set(Figure)}
    for name in quiet - {Figure.HEARTBEAT}:
        assert figures[Figure(name)] == 0


def test_a_region_with_log_sources_publishes_their_figures_too() -> None:
    setup = Setup()
    setup.put(
        LogFigures(
            looked_s=NOW_S, first_run_s=NOW_S - 9_000, context_s=NOW_S - 7_200, sources=3, log_sources=1,
            missing_slots=4, silent=1, refusing=2, unclassified=1, unclassified_permille=77,
        )
    )  # fmt: skip
    figures = setup.watch.run()
    assert set(figures) == set(Figure)
    assert {figure: figures[figure] for figure in LOG_FIGURES} == {
        Figure.LOG_SLOTS_MISSING: 4,
        Figure.LOG_SOURCE_SILENT: 1,
        Figure.LOG_LINES_REFUSED: 2,
        Figure.LOG_BYTES_UNCLASSIFIED: 1,
        Figure.LOG_CONTEXT_AGE: 7_200,
        Figure.LOG_UNCLASSIFIED_PERMILLE: 77,
    }


def test_a_context_that_was_never_captured_is_as_old_as_the_coverage_job() -> None:
    setup = Setup()
    setup.put(LogFigures(looked_s=NOW_S, first_run_s=NOW_S - 20_000, log_sources=1))
    assert setup.watch.run()[Figure.LOG_CONTEXT_AGE] == 20_000


def test_sources_that_are_only_read_by_hand_have_no_figures() -> None:
    setup = Setup()
    setup.put(LogFigures(looked_s=NOW_S, sources=3))
    assert not LOG_FIGURES & set(setup.watch.run())


def test_dead_letters_are_counted_while_somebody_looks_at_them() -> None:
    setup = Setup()
    setup.dead.send_many(["a", "b"])
    setup.dead.receive(1)
    assert setup.watch.run()[Figure.DEAD_LETTERS] == 2


def test_the_age_of_the_oldest_batch_is_the_queues_own_figure_where_there_is_one() -> None:
    setup = Setup()
    setup.ingest.send_many(["a"])
    setup.facts.age_s = 77
    assert setup.watch.run()[Figure.OLDEST_BATCH_AGE] == 77


def test_without_one_it_is_the_time_since_the_queue_was_empty_or_a_canary_came_through() -> None:
    setup = Setup()
    setup.watch.run()
    setup.clock.advance_s(600)
    setup.ingest.send_many(["a"])
    assert setup.watch.run()[Figure.OLDEST_BATCH_AGE] == 600
    setup.put(CanaryRun(slot_s=NOW_S + 480, sent_s=NOW_S + 480, verdict=CanaryVerdict.GOOD, settled_s=NOW_S + 490))
    assert setup.watch.run()[Figure.OLDEST_BATCH_AGE] == 120


def test_the_age_of_the_last_good_canary_counts_from_the_first_watch_if_there_never_was_one() -> None:
    setup = Setup()
    setup.watch.run()
    setup.clock.advance_s(1500)
    assert setup.watch.run()[Figure.CANARY_AGE] == 1500
    setup.put(CanaryRun(slot_s=NOW_S, sent_s=NOW_S, verdict=CanaryVerdict.GOOD, settled_s=NOW_S + 1400))
    setup.put(CanaryRun(slot_s=NOW_S + 60, sent_s=NOW_S + 60, verdict=CanaryVerdict.LATE, settled_s=NOW_S + 1450))
    assert setup.watch.run()[Figure.CANARY_AGE] == 100


def test_doubled_canaries_count_for_two_hours() -> None:
    setup = Setup()
    setup.put(CanaryRun(slot_s=NOW_S - 60, sent_s=NOW_S - 60, verdict=CanaryVerdict.DOUBLED, settled_s=NOW_S))
    assert setup.watch.run()[Figure.CANARY_DOUBLED] == 1
    setup.clock.advance_s(7200)
    assert setup.watch.run()[Figure.CANARY_DOUBLED] == 0


def test_what_waits_for_the_roll_up_has_a_number_and_an_age() -> None:
    setup = Setup()
    for commit_id, age_s, shard in (("c1", 1000, 0), ("c2", 50, 1)):
        setup.put(
            Waiting(
                shard=shard,
                commit_id=commit_id,
                totals={HOUR: Total(1, 1)},
                staging_key="staging/x",
                created_at_ms=(NOW_S - age_s) * 1000,
                sent_at_ms=(NOW_S - age_s - 5) * 1000,
            )
        )
    figures = setup.watch.run()
    assert figures[Figure.WAITING_COMMITS] == 2
    assert figures[Figure.WAITING_COMMIT_AGE] == 1000


def test_what_waits_for_compaction_is_what_the_compactor_wrote_down_and_is_not_listed() -> None:
    setup = Setup()
    setup.put(LakeFigures(shard=0, listed_s=NOW_S - 60, commits=3, hours=2, oldest_ms=(NOW_S - 5000) * 1000))
    setup.put(LakeFigures(shard=1, listed_s=NOW_S - 60))
    figures = setup.watch.run()
    assert figures[Figure.UNPUBLISHED_HOURS] == 2
    assert figures[Figure.OLDEST_PENDING_AGE] == 5000


def test_a_compactor_that_does_not_look_any_more_has_left_something_since_its_last_look() -> None:
    setup = Setup()
    for shard in range(2):
        setup.put(LakeFigures(shard=shard, listed_s=NOW_S))
    assert setup.watch.run()[Figure.OLDEST_PENDING_AGE] == 0
    setup.clock.advance_s(27 * 3600)
    assert setup.watch.run()[Figure.OLDEST_PENDING_AGE] == 27 * 3600


def test_a_compactor_that_never_ran_has_left_something_since_the_first_watch() -> None:
    setup = Setup()
    setup.watch.run()
    setup.clock.advance_s(27 * 3600)
    assert setup.watch.run()[Figure.OLDEST_PENDING_AGE] == 27 * 3600


def test_a_planned_run_of_either_chain_has_an_age_until_it_is_done() -> None:
    setup = Setup()
    for chain, figure in (("L1", Figure.PLANNED_RUN_AGE), ("U1", Figure.PLANNED_ROLLUP_AGE)):
        setup.put(Run(chain=chain, number=1, state="done", plan_key="p", planned_at_ms=0, done_at_ms=1))
        assert setup.watch.run()[figure] == 0
        setup.put(Run(chain=chain, number=2, state="planned", plan_key="p", planned_at_ms=(NOW_S - 90) * 1000))
        assert setup.watch.run()[figure] == 90


def test_what_the_cleaners_left_is_overdue_since_the_oldest_of_it_was_due() -> None:
    setup = Setup()
    for chain in ("L0", "L1", "U0", "U1"):
        setup.put(Cleaning(chain=chain, looked_s=NOW_S))
    assert setup.watch.run()[Figure.CLEANING_OVERDUE_AGE] == 0
    for chain, age_s in (("L0", 40), ("L1", 7_000), ("U1", 300)):
        setup.put(Cleaning(chain=chain, looked_s=NOW_S, due_ms=(NOW_S - age_s) * 1000))
    assert setup.watch.run()[Figure.CLEANING_OVERDUE_AGE] == 7_000
    setup.put(Cleaning(chain="U0", looked_s=NOW_S, due_ms=(NOW_S - 9_000) * 1000))
    assert setup.watch.run()[Figure.CLEANING_OVERDUE_AGE] == 9_000


@pytest.mark.parametrize("chain", ["L0", "L1", "U0", "U1"])
def test_a_cleaner_that_does_not_look_any_more_has_left_something_since_its_last_look(chain: str) -> None:
    setup = Setup()
    for each in {"L0", "L1", "U0", "U1"} - {chain}:
        setup.put(Cleaning(chain=each, looked_s=NOW_S + 26 * HOUR_S))
    setup.put(Cleaning(chain=chain, looked_s=NOW_S))
    setup.clock.advance_s(LISTED_LATE_S - 1)
    assert setup.watch.run()[Figure.CLEANING_OVERDUE_AGE] == 0
    setup.clock.advance_s(25 * HOUR_S)
    assert setup.watch.run()[Figure.CLEANING_OVERDUE_AGE] == 25 * HOUR_S + LISTED_LATE_S - 1


def test_a_cleaner_that_never_ran_has_left_something_since_the_compactor_or_the_first_watch() -> None:
    setup = Setup()
    setup.watch.run()
    setup.clock.advance_s(27 * HOUR_S)
    assert setup.watch.run()[Figure.CLEANING_OVERDUE_AGE] == 27 * HOUR_S
    # Code that writes no notes yet was here until now.
    for shard in range(2):
        setup.put(LakeFigures(shard=shard, listed_s=NOW_S + 27 * HOUR_S))
    assert setup.watch.run()[Figure.CLEANING_OVERDUE_AGE] == 0


def test_orphans_are_unseen_since_the_last_whole_pass_that_came_to_its_end_began() -> None:
    setup = Setup()
    assert setup.watch.run()[Figure.ORPHANS_UNSEEN_AGE] == 0
    setup.clock.advance_s(3 * DAY_S)
    assert setup.watch.run()[Figure.ORPHANS_UNSEEN_AGE] == 3 * DAY_S
    setup.put(OrphanPasses(seen_to_s=NOW_S + 3 * DAY_S, whole_s=NOW_S + DAY_S, began_s=NOW_S + 2 * DAY_S))
    assert setup.watch.run()[Figure.ORPHANS_UNSEEN_AGE] == 2 * DAY_S


def test_a_conflict_counts_once_however_often_it_was_noted() -> None:
    setup = Setup()
    for moment in (NOW_S - 10, NOW_S - 5):
        setup.items.put(Put(table=Table.LEDGER, item=conflict_seen_item("b1", "ff", moment)))
    setup.items.put(Put(table=Table.LEDGER, item=conflict_seen_item("b2", "ff", NOW_S - DAY_S)))
    assert setup.watch.run()[Figure.CONFLICTS] == 1


def test_accounts_that_lately_had_kinds_beyond_the_cap_are_counted() -> None:
    setup = Setup()
    for account, ago_s in (("1" * 12, 10), ("2" * 12, HOUR_S), ("3" * 12, 3 * HOUR_S)):
        note = KindsBeyondCap(account_id=account, kinds=2, example="T#S#a#b", seen_s=NOW_S - ago_s)
        setup.items.put(Put(table=Table.LEDGER, item=note.to_item()))
    assert setup.watch.run()[Figure.ACCOUNTS_BEYOND_CAP] == 2


def test_markers_that_live_too_short_have_less_than_no_headroom() -> None:
    assert Setup(marker_life_s=45 * DAY_S).watch.run()[Figure.MARKER_LIFE_HEADROOM] == -5 * DAY_S


def test_what_the_reconciler_found_is_passed_on_with_its_age() -> None:
    setup = Setup()
    setup.watch.run()
    setup.clock.advance_s(500)
    setup.put(Reconciliation(finished_s=NOW_S + 300, hours=5, differences=3))
    figures = setup.watch.run()
    assert figures[Figure.RECONCILIATION_DIFFERENCES] == 3
    assert figures[Figure.RECONCILIATION_AGE] == 200


def test_a_scan_of_everything_that_does_not_come_to_its_end_has_an_age() -> None:
    setup = Setup()
    setup.watch.run()
    setup.clock.advance_s(500)
    assert setup.watch.run()[Figure.SCAN_OVERDUE_AGE] == 500
    setup.put(Reconciliation(finished_s=NOW_S, hours=5, differences=0, scan_due_s=NOW_S + DAY_S))
    assert setup.watch.run()[Figure.SCAN_OVERDUE_AGE] == 0
    setup.clock.advance_s(3 * DAY_S)
    assert setup.watch.run()[Figure.SCAN_OVERDUE_AGE] == 2 * DAY_S + 500


def test_what_the_reconciler_summed_up_of_the_sources_is_passed_on_with_one_read() -> None:
    setup = Setup()
    setup.put(SourceFigures(scanned_ms=1, sources=90_000, silent=1, gaps=3, incredible=2, unkept=4))
    for number in range(50):
        setup.put(SourceState(source_id=f"s{number}", last_sequence=9, last_seen_s=NOW_S, gaps=((1, 1),)))
    figures = setup.watch.run()
    assert figures[Figure.SILENT_SOURCES] == 1
    assert figures[Figure.SOURCE_GAPS] == 3
    assert figures[Figure.INCREDIBLE_SOURCES] == 2
    assert figures[Figure.UNKEPT_SOURCES] == 4


def test_what_the_biller_found_is_passed_on_and_an_alert_counts_for_two_hours() -> None:
    setup = Setup()
    known = BillerFigures(
        first_s=0,
        finished_s=NOW_S,
        counted_s=NOW_S - 700,
        unpriced_bytes=10**20,
        unpriced_types=3,
        blocked_months=("2026-10",),
        crossed_s=(NOW_S - 3 * HOUR_S, NOW_S - 60, NOW_S),
    )
    setup.put(known)
    figures = setup.watch.run()
    assert figures[Figure.BILLER_AGE] == 700
    assert figures[Figure.UNPRICED_BYTES] == 10**20
    assert figures[Figure.INVOICES_BLOCKED] == 1
    assert figures[Figure.BUDGETS_CROSSED] == 2


def test_the_age_of_a_biller_that_never_ran_counts_from_the_first_watch() -> None:
    setup = Setup()
    setup.watch.run()
    setup.clock.advance_s(5 * HOUR_S)
    assert setup.watch.run()[Figure.BILLER_AGE] == 5 * HOUR_S


def test_what_is_published_and_not_compared_has_a_number_and_an_age() -> None:
    setup = Setup()
    backlog = Backlog(waiting=7, since_s=NOW_S - 500)
    setup.put(Reconciliation(finished_s=NOW_S, hours=5, differences=0, backlog=backlog))
    figures = setup.watch.run()
    assert figures[Figure.RECONCILIATION_BACKLOG] == 7
    assert figures[Figure.RECONCILIATION_BACKLOG_AGE] == 500


def test_who_sends_does_not_decide_how_long_the_watch_reads() -> None:
    setup = Setup()
    for number in range(2_500):
        note = conflict_seen_item(f"b{number}", "ff", NOW_S - number // 100)
        setup.items.put(Put(table=Table.LEDGER, item=note))
        run = CanaryRun(slot_s=NOW_S - number, sent_s=NOW_S - number, verdict=CanaryVerdict.LATE, settled_s=NOW_S)
        setup.put(run)
    calls: list[str] = []
    setup.items.on_call = calls.append
    figures = setup.watch.run()
    assert figures[Figure.CONFLICTS] == 2_000
    assert len(calls) < 9_000


@pytest.mark.parametrize("call", ["queue.depth"])
def test_a_figure_that_cannot_be_measured_takes_the_heartbeat_along_and_no_other_figure(call: str) -> None:
    setup = Setup()

    def fail(name: str) -> None:
        if name == call:
            raise UnavailableError("sqs", "throttled")

    setup.dead.on_call = fail
    figures = setup.watch.run()
    assert Figure.HEARTBEAT not in figures
    assert Figure.DEAD_LETTERS not in figures
    assert Figure.CANARY_AGE in figures


def test_a_first_look_says_nothing_of_what_was_sent_before_it_while_the_queue_is_not_empty() -> None:
    setup = Setup()
    setup.ingest.send_many(["a"])
    setup.clock.advance_s(600)
    for _ in range(3):
        assert setup.watch.run()[Figure.OLDEST_BATCH_AGE] < 600
        assert _complete_through_s(setup) <= NOW_S
        setup.clock.advance_s(60)
    setup.facts.age_s = 780
    setup.watch.run()
    assert _complete_through_s(setup) <= NOW_S
    [message] = setup.ingest.receive(1)
    setup.ingest.delete_many([message.receipt])
    setup.watch.run()
    assert _complete_through_s(setup) > NOW_S


def test_the_age_of_complete_totals_is_that_of_what_reports_say() -> None:
    setup = Setup()
    setup.watch.run()
    setup.ingest.send_many(["waits"])
    setup.clock.advance_s(600)
    figures = setup.watch.run()
    assert figures[Figure.COMPLETE_THROUGH_AGE] == NOW_S + 600 - _complete_through_s(setup)
    assert figures[Figure.COMPLETE_THROUGH_AGE] >= 600


def _complete_through_s(setup: Setup) -> int:
    item = setup.items.peek(Table.LEDGER, COMPLETENESS_KEY)
    assert item is not None
    return Completeness.from_item(item).through_s


def test_what_it_cannot_remember_leaves_every_other_figure() -> None:
    setup = Setup()
    setup.watch.run()
    setup.dead.send_many(["a"])
    setup.items.put(Put(table=Table.LEDGER, item={"pk": WATCH_KEY.pk, "sk": WATCH_KEY.sk, "first_s": "x"}))
    with pytest.raises(LedgerCorruptError, match="W#watch"):
        setup.watch.run()
    assert setup.gauges.published[Figure.DEAD_LETTERS] == 1
    assert setup.gauges.published[Figure.CONFLICTS] == 0
    assert Figure.HEARTBEAT not in setup.gauges.published
