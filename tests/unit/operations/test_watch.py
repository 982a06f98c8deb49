"""The watch: each figure comes from durable state; a heartbeat is published only if all figures were measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from metering.errors import LedgerCorruptError, UnavailableError
from metering.hours import hour_of
from metering.ledger.commits import Waiting
from metering.ledger.markers import conflict_seen_item
from metering.ledger.notes.checks import CanaryRun, CanaryVerdict
from metering.ledger.notes.lake import Cleaning, LakeFigures, OrphanPasses
from metering.ledger.notes.log_sources import LogFigures
from metering.ledger.notes.money import BillCheckState, BillerFigures, BillState, ComparedMonth
from metering.ledger.notes.reconciliation import Backlog, Reconciliation, SourceFigures, SourceState
from metering.ledger.notes.watch import COMPLETENESS_KEY, WATCH_KEY, Completeness
from metering.ledger.runs import Run
from metering.ledger.usage.kinds import KindsBeyondCap
from metering.operations.alarms import ALARMS, LOG_FIGURES, Figure
from metering.operations.watch import LISTED_LATE_S
from metering.stores.writes import Put, Table
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Total
from tests.support.watched import Note, WatchedRegion
from tests.support.with_each import with_each

NOW_S = 1_800_000_000
HOUR = hour_of(NOW_S)


def quiet(**changes: int) -> WatchedRegion:
    return WatchedRegion(now_s=NOW_S, **changes)  # type: ignore[arg-type]  # numbers only


@pytest.fixture
def region() -> WatchedRegion:
    return quiet()


def canary(verdict: CanaryVerdict, *, sent_s: int, settled_s: int) -> CanaryRun:
    return CanaryRun(slot_s=sent_s, sent_s=sent_s, verdict=verdict, settled_s=settled_s)


def waiting(commit_id: str, *, age_s: int, shard: int) -> Waiting:
    return Waiting(
        shard=shard, commit_id=commit_id, totals={HOUR: Total(1, 1)}, staging_key="staging/x",
        created_at_ms=(NOW_S - age_s) * 1000, sent_at_ms=(NOW_S - age_s - 5) * 1000,
    )  # fmt: skip


def test_a_quiet_region_publishes_every_figure_and_its_heartbeat(region: WatchedRegion) -> None:
    figures = region.watch.run()
    assert set(figures) == set(Figure) - LOG_FIGURES - {Figure.BILL_DIFFERENCES}
    assert figures[Figure.HEARTBEAT] == 1
    assert region.published == {figure.value: value for figure, value in figures.items()}
    compared = {spec.metric for spec in ALARMS if spec.origin == "watch" and spec.metric in set(Figure)}
    for name in compared - {Figure.HEARTBEAT}:
        assert figures[Figure(name)] == 0


# Notes that jobs write, and the figures that result from them.
PASSED_ON: dict[str, tuple[list[Note], dict[Figure, int]]] = {
    "log sources": (
        [
            LogFigures(
                looked_s=NOW_S, first_run_s=NOW_S - 9_000, context_s=NOW_S - 7_200, sources=3, log_sources=1,
                missing_slots=4, silent=1, refusing=2, unclassified=1, unclassified_permille=77,
            )
        ],
        {
            Figure.LOG_SLOTS_MISSING: 4,
            Figure.LOG_SOURCE_SILENT: 1,
            Figure.LOG_LINES_REFUSED: 2,
            Figure.LOG_BYTES_UNCLASSIFIED: 1,
            Figure.LOG_CONTEXT_AGE: 7_200,
            Figure.LOG_UNCLASSIFIED_PERMILLE: 77,
        },
    ),
    "a context that was never captured is as old as the coverage job": (
        [LogFigures(looked_s=NOW_S, first_run_s=NOW_S - 20_000, log_sources=1)],
        {Figure.LOG_CONTEXT_AGE: 20_000},
    ),
    "what waits for the roll-up has a number and an age": (
        [waiting("c1", age_s=1000, shard=0), waiting("c2", age_s=50, shard=1)],
        {Figure.WAITING_COMMITS: 2, Figure.WAITING_COMMIT_AGE: 1000},
    ),
    "what waits for compaction is what the compactor wrote down and is not listed": (
        [
            LakeFigures(shard=0, listed_s=NOW_S - 60, commits=3, hours=2, oldest_ms=(NOW_S - 5000) * 1000),
            LakeFigures(shard=1, listed_s=NOW_S - 60),
        ],
        {Figure.UNPUBLISHED_HOURS: 2, Figure.OLDEST_PENDING_AGE: 5000},
    ),
    "cleaners that left nothing": (
        [Cleaning(chain=chain, looked_s=NOW_S) for chain in ("L0", "L1", "U0", "U1")],
        {Figure.CLEANING_OVERDUE_AGE: 0},
    ),
    "what the cleaners left is overdue since the oldest of it was due": (
        [
            Cleaning(chain=chain, looked_s=NOW_S, due_ms=(NOW_S - age_s) * 1000)
            for chain, age_s in (("L0", 40), ("L1", 7_000), ("U0", 9_000), ("U1", 300))
        ],
        {Figure.CLEANING_OVERDUE_AGE: 9_000},
    ),
    "accounts that lately had kinds beyond the cap": (
        [
            KindsBeyondCap(account_id=account, kinds=2, example="T#S#a#b", seen_s=NOW_S - ago_s)
            for account, ago_s in (("1" * 12, 10), ("2" * 12, HOUR_S), ("3" * 12, 3 * HOUR_S))
        ],
        {Figure.ACCOUNTS_BEYOND_CAP: 2},
    ),
    "what the reconciler found": (
        [
            Reconciliation(
                finished_s=NOW_S, hours=5, differences=3, backlog=Backlog(waiting=7, since_s=NOW_S - 500)
            )
        ],
        {
            Figure.RECONCILIATION_DIFFERENCES: 3,
            Figure.RECONCILIATION_BACKLOG: 7,
            Figure.RECONCILIATION_BACKLOG_AGE: 500,
        },
    ),
    "what the reconciler summed up of the sources, and not the sources": (
        [
            SourceFigures(scanned_ms=1, sources=90_000, silent=1, gaps=3, incredible=2, unkept=4),
            *(SourceState(source_id=f"s{n}", last_sequence=9, last_seen_s=NOW_S, gaps=((1, 1),)) for n in range(50)),
        ],
        {Figure.SILENT_SOURCES: 1, Figure.SOURCE_GAPS: 3, Figure.INCREDIBLE_SOURCES: 2, Figure.UNKEPT_SOURCES: 4},
    ),
    "what the biller found; an alert counts for two hours": (
        [
            BillerFigures(
                first_s=0, finished_s=NOW_S, counted_s=NOW_S - 700, unpriced_bytes=10**20, unpriced_types=3,
                blocked_months=("2026-10",), crossed_s=(NOW_S - 3 * HOUR_S, NOW_S - 60, NOW_S),
            )
        ],
        {
            Figure.BILLER_AGE: 700,
            Figure.UNPRICED_BYTES: 10**20,
            Figure.INVOICES_BLOCKED: 1,
            Figure.BUDGETS_CROSSED: 2,
        },
    ),
}  # fmt: skip


@with_each(PASSED_ON)
def test_what_jobs_wrote_down_is_passed_on(name: str) -> None:
    notes, expected = PASSED_ON[name]
    region = quiet()
    region.put(*notes)
    figures = region.watch.run()
    assert {figure: figures[figure] for figure in expected} == expected


def test_sources_that_are_only_read_by_hand_have_no_figures(region: WatchedRegion) -> None:
    region.put(LogFigures(looked_s=NOW_S, sources=3))
    assert not LOG_FIGURES & set(region.watch.run())


@with_each([
    Figure.CANARY_AGE, Figure.OLDEST_PENDING_AGE, Figure.CLEANING_OVERDUE_AGE, Figure.ORPHANS_UNSEEN_AGE,
    Figure.RECONCILIATION_AGE, Figure.SCAN_OVERDUE_AGE, Figure.BILLER_AGE, Figure.DROPS_UNSEEN_AGE,
])  # fmt: skip
def test_the_age_of_a_job_that_never_ran_counts_from_the_first_watch(figure: Figure) -> None:
    region = quiet()
    assert region.watch.run()[figure] == 0
    region.clock.advance_s(27 * HOUR_S)
    assert region.watch.run()[figure] == 27 * HOUR_S


def test_dead_letters_are_counted_while_somebody_looks_at_them(region: WatchedRegion) -> None:
    region.dead.send_many(["a", "b"])
    region.dead.receive(1)
    assert region.watch.run()[Figure.DEAD_LETTERS] == 2


def test_the_age_of_the_oldest_batch_is_the_queues_own_figure_where_there_is_one(region: WatchedRegion) -> None:
    region.ingest.send_many(["a"])
    region.age_s = 77
    assert region.watch.run()[Figure.OLDEST_BATCH_AGE] == 77


def test_without_one_it_is_the_time_since_the_queue_was_empty_or_a_canary_came_through(region: WatchedRegion) -> None:
    region.watch.run()
    region.clock.advance_s(600)
    region.ingest.send_many(["a"])
    assert region.watch.run()[Figure.OLDEST_BATCH_AGE] == 600
    region.put(canary(CanaryVerdict.GOOD, sent_s=NOW_S + 480, settled_s=NOW_S + 490))
    assert region.watch.run()[Figure.OLDEST_BATCH_AGE] == 120


def test_the_age_of_the_canary_is_that_of_the_last_good_one(region: WatchedRegion) -> None:
    region.watch.run()
    region.clock.advance_s(1500)
    region.put(canary(CanaryVerdict.GOOD, sent_s=NOW_S, settled_s=NOW_S + 1400))
    region.put(canary(CanaryVerdict.LATE, sent_s=NOW_S + 60, settled_s=NOW_S + 1450))
    assert region.watch.run()[Figure.CANARY_AGE] == 100


def test_doubled_canaries_count_for_two_hours(region: WatchedRegion) -> None:
    region.put(canary(CanaryVerdict.DOUBLED, sent_s=NOW_S - 60, settled_s=NOW_S))
    assert region.watch.run()[Figure.CANARY_DOUBLED] == 1
    region.clock.advance_s(7200)
    assert region.watch.run()[Figure.CANARY_DOUBLED] == 0


def test_a_compactor_that_does_not_look_any_more_has_left_something_since_its_last_look(region: WatchedRegion) -> None:
    region.put(*(LakeFigures(shard=shard, listed_s=NOW_S) for shard in range(2)))
    assert region.watch.run()[Figure.OLDEST_PENDING_AGE] == 0
    region.clock.advance_s(27 * 3600)
    assert region.watch.run()[Figure.OLDEST_PENDING_AGE] == 27 * 3600


def test_a_planned_run_of_either_chain_has_an_age_until_it_is_done(region: WatchedRegion) -> None:
    for chain, figure in (("L1", Figure.PLANNED_RUN_AGE), ("U1", Figure.PLANNED_ROLLUP_AGE)):
        region.put(Run(chain=chain, number=1, state="done", plan_key="p", planned_at_ms=0, done_at_ms=1))
        assert region.watch.run()[figure] == 0
        region.put(Run(chain=chain, number=2, state="planned", plan_key="p", planned_at_ms=(NOW_S - 90) * 1000))
        assert region.watch.run()[figure] == 90


@with_each(["L0", "L1", "U0", "U1"])
def test_a_cleaner_that_does_not_look_any_more_has_left_something_since_its_last_look(chain: str) -> None:
    region = quiet()
    for each in {"L0", "L1", "U0", "U1"} - {chain}:
        region.put(Cleaning(chain=each, looked_s=NOW_S + 26 * HOUR_S))
    region.put(Cleaning(chain=chain, looked_s=NOW_S))
    region.clock.advance_s(LISTED_LATE_S - 1)
    assert region.watch.run()[Figure.CLEANING_OVERDUE_AGE] == 0
    region.clock.advance_s(25 * HOUR_S)
    assert region.watch.run()[Figure.CLEANING_OVERDUE_AGE] == 25 * HOUR_S + LISTED_LATE_S - 1


def test_a_cleaner_that_never_ran_has_left_something_since_the_compactor_last_looked(region: WatchedRegion) -> None:
    region.watch.run()
    region.clock.advance_s(27 * HOUR_S)
    # Until now, an older version was running, and that version writes no such notes.
    region.put(*(LakeFigures(shard=shard, listed_s=NOW_S + 27 * HOUR_S) for shard in range(2)))
    assert region.watch.run()[Figure.CLEANING_OVERDUE_AGE] == 0


def test_orphans_are_unseen_since_the_last_whole_pass_that_came_to_its_end_began(region: WatchedRegion) -> None:
    region.clock.advance_s(3 * DAY_S)
    region.put(OrphanPasses(seen_to_s=NOW_S + 3 * DAY_S, whole_s=NOW_S + DAY_S, began_s=NOW_S + 2 * DAY_S))
    assert region.watch.run()[Figure.ORPHANS_UNSEEN_AGE] == 2 * DAY_S


def test_a_conflict_counts_once_however_often_it_was_noted(region: WatchedRegion) -> None:
    for batch_id, moment_s in (("b1", NOW_S - 10), ("b1", NOW_S - 5), ("b2", NOW_S - DAY_S)):
        region.items.put(Put(table=Table.LEDGER, item=conflict_seen_item(batch_id, "ff", moment_s)))
    assert region.watch.run()[Figure.CONFLICTS] == 1


def test_markers_that_live_too_short_have_less_than_no_headroom() -> None:
    assert quiet(marker_life_s=45 * DAY_S).watch.run()[Figure.MARKER_LIFE_HEADROOM] == -5 * DAY_S


def test_the_reconciler_is_as_old_as_its_last_pass_and_its_scan_overdue_since_it_was_due(region: WatchedRegion) -> None:
    region.watch.run()
    region.clock.advance_s(500)
    region.put(Reconciliation(finished_s=NOW_S + 300, hours=5, differences=0, scan_due_s=NOW_S + DAY_S))
    figures = region.watch.run()
    assert (figures[Figure.RECONCILIATION_AGE], figures[Figure.SCAN_OVERDUE_AGE]) == (200, 0)
    region.clock.advance_s(3 * DAY_S)
    assert region.watch.run()[Figure.SCAN_OVERDUE_AGE] == 2 * DAY_S + 500


def test_who_sends_does_not_decide_how_long_the_watch_reads(region: WatchedRegion) -> None:
    for number in range(2_500):
        note = conflict_seen_item(f"b{number}", "ff", NOW_S - number // 100)
        region.items.put(Put(table=Table.LEDGER, item=note))
        region.put(canary(CanaryVerdict.LATE, sent_s=NOW_S - number, settled_s=NOW_S))
    calls: list[str] = []
    region.items.on_call = calls.append
    assert region.watch.run()[Figure.CONFLICTS] == 2_000
    assert len(calls) < 9_000


def test_a_figure_that_cannot_be_measured_takes_the_heartbeat_along_and_no_other_figure(region: WatchedRegion) -> None:

    def fail(name: str) -> None:
        if name == "queue.depth":
            raise UnavailableError("sqs", "throttled")

    region.dead.on_call = fail
    figures = region.watch.run()
    assert Figure.HEARTBEAT not in figures
    assert Figure.DEAD_LETTERS not in figures
    assert Figure.CANARY_AGE in figures


def test_a_first_look_says_nothing_of_what_was_sent_before_it_while_the_queue_is_not_empty() -> None:
    region = quiet()
    region.ingest.send_many(["a"])
    region.clock.advance_s(600)
    for _ in range(3):
        assert region.watch.run()[Figure.OLDEST_BATCH_AGE] < 600
        assert _complete_through_s(region) <= NOW_S
        region.clock.advance_s(60)
    region.age_s = 780
    region.watch.run()
    assert _complete_through_s(region) <= NOW_S
    [message] = region.ingest.receive(1)
    region.ingest.delete_many([message.receipt])
    region.watch.run()
    assert _complete_through_s(region) > NOW_S


def test_the_age_of_complete_totals_is_that_of_what_reports_say(region: WatchedRegion) -> None:
    region.watch.run()
    region.ingest.send_many(["waits"])
    region.clock.advance_s(600)
    figures = region.watch.run()
    assert figures[Figure.COMPLETE_THROUGH_AGE] == NOW_S + 600 - _complete_through_s(region)
    assert figures[Figure.COMPLETE_THROUGH_AGE] >= 600


def _complete_through_s(region: WatchedRegion) -> int:
    item = region.items.peek(Table.LEDGER, COMPLETENESS_KEY)
    assert item is not None
    return Completeness.from_item(item).through_s


def test_what_it_cannot_remember_leaves_every_other_figure(region: WatchedRegion) -> None:
    region.watch.run()
    region.dead.send_many(["a"])
    region.items.put(Put(table=Table.LEDGER, item={"pk": WATCH_KEY.pk, "sk": WATCH_KEY.sk, "first_s": "x"}))
    with pytest.raises(LedgerCorruptError, match="W#watch"):
        region.watch.run()
    assert region.published[Figure.DEAD_LETTERS] == 1
    assert region.published[Figure.CONFLICTS] == 0
    assert Figure.HEARTBEAT not in region.published


def test_differences_with_the_bill_are_a_figure_of_a_stage_that_compares_one() -> None:
    region = quiet()
    assert Figure.BILL_DIFFERENCES not in region.watch.run()
    month = ComparedMonth(content="e", state=BillState.COMPARED, at_s=NOW_S, beyond=3)
    state = BillCheckState(export="b/p", first_s=NOW_S, looked_s=NOW_S, compared_s=NOW_S, months={"2027-01": month})
    region.put(state)
    assert region.watch.run()[Figure.BILL_DIFFERENCES] == 3
    region.put(replace(state, months={}))
    assert region.watch.run()[Figure.BILL_DIFFERENCES] == 0
    region.put(replace(state, months={}, compared_s=NOW_S - 4 * DAY_S, first_s=0))
    assert region.watch.run()[Figure.BILL_DIFFERENCES] == 1
