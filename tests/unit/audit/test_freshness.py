"""Completeness of a report: each known fact can hold completeness back, and nothing else can."""

import random
from dataclasses import replace
from typing import Any

import pytest

from metering.audit import freshness as freshness_module
from metering.audit.freshness import Complete, HeldBack, WaitingNow, complete_of, merged
from metering.hours import parse_hour
from metering.ledger.booked_hours import Pending
from metering.ledger.commits import Waiting, waiting_key
from metering.ledger.notes.log_sources import LogFigures
from metering.ledger.notes.reconciliation import Reconciliation
from metering.ledger.notes.watch import COMPLETENESS_KEY, Completeness, Hold, Holder, WatchState
from metering.stores.writes import Put, Table
from metering.units import DAY_S, HOUR_S, MINUTE_S
from metering.usage.totals import Total
from tests.support.watched import WatchedRegion
from tests.unit.house.command_lines import parsed

HOUR = parse_hour("2026-11-24T13")
NOW_S = HOUR + 1_800
LATE_HOUR = HOUR - 20 * DAY_S


class Setup(WatchedRegion):
    def __init__(self) -> None:
        super().__init__(now_s=NOW_S)

    def through_s(self) -> int:
        return self.freshness.measure().known.through_s

    def holders(self) -> list[str]:
        return [hold.holder for hold in self.freshness.measure().known.held_by]

    def waiting(self, sent_s: int, *, commit_id: str = "c") -> None:
        """Put a waiting commit whose oldest message was sent at `sent_s`."""
        self.put(
            Waiting(
                shard=0,
                commit_id=commit_id,
                totals={LATE_HOUR: Total(1, 1)},
                staging_key="staging/x",
                created_at_ms=sent_s * 1000 + 500,
                sent_at_ms=sent_s * 1000,
            )
        )

    def happen(self, rng: random.Random) -> None:
        deeds = (
            lambda: self.ingest.send_many(["x"]),
            lambda: self.dead.send_many(["x"]),
            lambda: self.waiting(rng.choice([HOUR, LATE_HOUR, HOUR + 2 * HOUR_S])),
            lambda: self.put(WatchState(first_s=0, queue_empty_s=NOW_S - rng.randrange(HOUR_S))),
            lambda: self.clock.advance_s(rng.randrange(HOUR_S)),
            self.freshness.keep,
        )
        rng.choice(deeds)()


def test_a_quiet_region_is_complete_up_to_what_the_queues_depth_can_say() -> None:
    assert Setup().through_s() == NOW_S - MINUTE_S


@pytest.fixture
def setup() -> Setup:
    return Setup()


def test_a_queue_that_holds_messages_of_unknown_age_holds_back_to_when_it_was_last_empty(setup: Setup) -> None:
    setup.ingest.send_many(["x"])
    assert setup.through_s() == 0
    setup.put(WatchState(first_s=0, queue_empty_s=NOW_S - 500))
    assert setup.through_s() == NOW_S - 500 - MINUTE_S
    setup.ingest.receive(1)
    assert setup.through_s() == NOW_S - 500 - MINUTE_S


def test_the_age_of_the_oldest_message_says_more_where_it_is_known(setup: Setup) -> None:
    setup.ingest.send_many(["x"])
    setup.put(WatchState(first_s=0, queue_empty_s=NOW_S - 5 * HOUR_S))
    setup.age_s = 90
    assert setup.through_s() == NOW_S - 90 - 10 * MINUTE_S


def test_a_commit_that_waits_for_the_roll_up_holds_back_to_the_time_its_oldest_message_was_sent(setup: Setup) -> None:
    """P27: no report contains the waiting commit yet."""
    setup.waiting(NOW_S - 500)
    setup.waiting(NOW_S - 300, commit_id="d")
    assert setup.through_s() == NOW_S - 500
    assert setup.freshness.measure().waiting == WaitingNow(
        count=2, oldest_ms=(NOW_S - 500) * 1000 + 500, sent_s=NOW_S - 500
    )
    for name in "cd":
        setup.items.remove(Table.LEDGER, waiting_key(0, name))
    assert setup.through_s() == NOW_S - MINUTE_S
    setup.waiting(NOW_S - 5)
    assert setup.holders() == []


def test_more_waiting_commits_than_are_read_keep_the_earlier_completeness(monkeypatch: pytest.MonkeyPatch) -> None:
    """The times of the commits that are not read are unknown."""
    monkeypatch.setattr(freshness_module, "WAITING_READ", 3)
    setup = Setup()
    setup.freshness.keep()
    kept_s = setup.through_s()
    setup.clock.advance_s(HOUR_S)
    for number in range(3):
        setup.waiting(NOW_S + HOUR_S - 90, commit_id=f"c{number}")
    assert setup.through_s() == NOW_S + HOUR_S - 90
    setup.waiting(NOW_S + HOUR_S - 90, commit_id="c3")
    assert setup.through_s() == kept_s


def test_an_hour_that_no_run_has_published_holds_nothing_back_because_reports_see_its_rows(setup: Setup) -> None:
    totals = {hour_s: Total(1, 1) for hour_s in (LATE_HOUR, HOUR)}
    setup.put(Pending(shard=1, commit_id="c", hours=frozenset(totals), totals=totals, created_at_ms=0))
    assert setup.through_s() == NOW_S - MINUTE_S
    assert setup.holders() == []


def test_a_gap_of_a_known_source_holds_back_to_what_was_before_it_but_not_beyond_the_window(setup: Setup) -> None:
    setup.put(Reconciliation(finished_s=NOW_S, hours=1, differences=0, gaps_since_s=NOW_S - DAY_S))
    assert setup.through_s() == NOW_S - DAY_S
    setup.put(Reconciliation(finished_s=NOW_S, hours=1, differences=0, gaps_since_s=0))
    assert setup.through_s() == NOW_S - 35 * DAY_S
    setup.put(Reconciliation(finished_s=NOW_S, hours=1, differences=0))
    assert setup.through_s() == NOW_S - MINUTE_S


def test_a_report_reads_what_the_watch_measured_last_with_one_read(setup: Setup) -> None:
    setup.waiting(HOUR)
    setup.freshness.keep()
    setup.clock.advance_s(MINUTE_S)
    calls: list[str] = []
    setup.items.on_call = setup.ingest.on_call = calls.append
    assert setup.freshness.answer() == Complete(
        through_s=HOUR,
        held_back_by=(
            HeldBack(
                what="1 commit that waits for the roll-up",
                since_s=HOUR,
                cure="metering compact --due --region us-east-1 --stage local",
            ),
        ),
    )
    assert len(calls) == 1


def test_a_report_measures_for_itself_where_no_watch_ever_ran(setup: Setup) -> None:
    assert setup.freshness.answer() == Complete(through_s=NOW_S - MINUTE_S)
    setup.ingest.send_many(["x"])
    [held] = setup.freshness.answer().held_back_by
    assert (held.what, held.since_s) == ("1 message in the ingest queue", None)


def test_a_dead_letter_holds_back_and_is_named_with_its_cure(setup: Setup) -> None:
    setup.freshness.keep()
    setup.clock.advance_s(HOUR_S)
    setup.dead.send_many(["x", "y"])
    setup.freshness.keep()
    answer = setup.freshness.answer()
    assert answer.through_s == NOW_S - MINUTE_S
    [held] = answer.held_back_by
    assert held == HeldBack(
        what="2 dead letters", since_s=NOW_S - MINUTE_S, cure="metering dlq redrive --region us-east-1 --stage local"
    )


def test_a_redriven_letter_is_named_until_it_has_its_verdict(setup: Setup) -> None:
    setup.freshness.keep()
    setup.clock.advance_s(HOUR_S)
    setup.dead.send_many(["x"])
    setup.freshness.keep()
    [letter] = setup.dead.receive(1)
    setup.dead.delete_many([letter.receipt])
    setup.ingest.send_many(["x"])
    setup.clock.advance_s(MINUTE_S)
    setup.freshness.keep()
    assert setup.holders() == [Holder.QUEUE, Holder.PUT_BACK]
    [message] = setup.ingest.receive(1)
    setup.ingest.delete_many([message.receipt])
    for _ in range(3):
        setup.clock.advance_s(MINUTE_S)
        setup.freshness.keep()
    assert setup.holders() == []


def test_everything_that_holds_it_back_is_named_the_earliest_first(setup: Setup) -> None:
    setup.put(Reconciliation(finished_s=NOW_S, hours=1, differences=0, gaps_since_s=NOW_S - DAY_S))
    setup.waiting(LATE_HOUR)
    setup.dead.send_many(["x"])
    setup.ingest.send_many(["x"])
    setup.put(WatchState(first_s=0, queue_empty_s=NOW_S - 500))
    assert setup.holders() == [Holder.WAITING_COMMITS, Holder.DEAD_LETTERS, Holder.SOURCE_GAPS, Holder.QUEUE]
    assert setup.through_s() == setup.freshness.measure().known.held_by[0].since_s


def test_what_holds_nothing_back_is_not_named_and_what_holds_back_is_never_left_out() -> None:
    """In any state of a region, completeness reaches its upper bound if and only if no fact holds it back."""
    rng = random.Random(7)
    for _ in range(300):
        setup = Setup()
        for _ in range(rng.randrange(4)):
            setup.happen(rng)
        known = setup.freshness.measure().known
        bound_s = setup.clock.now_ms() // 1000 - MINUTE_S
        assert (known.through_s == bound_s) == (known.held_by == ())
        assert known.through_s == min((hold.since_s for hold in known.held_by), default=bound_s)


def test_an_old_measurement_is_told_as_old_and_a_fresh_one_is_not(setup: Setup) -> None:
    setup.freshness.keep()
    setup.clock.advance_s(5 * MINUTE_S)
    assert setup.freshness.answer().held_back_by == ()
    setup.clock.advance_s(4 * HOUR_S)
    answer = setup.freshness.answer()
    assert answer.through_s == NOW_S - MINUTE_S
    assert answer.held_back_by == (
        HeldBack(
            what="the watch, which has not measured for 4 hours",
            since_s=NOW_S,
            cure="metering region add us-east-1 --stage local --redeploy",
        ),
    )


def test_a_note_of_version_0_1_0_is_read_and_its_silence_is_told() -> None:
    item = {**COMPLETENESS_KEY._asdict(), "through_s": HOUR, "published": ["2026-11-24T13"], "open": ["c"]}
    setup = Setup()
    setup.items.put(Put(table=Table.LEDGER, item=item))
    answer = setup.freshness.answer()
    assert answer.through_s == HOUR
    [held] = answer.held_back_by
    assert "an earlier version" in held.what
    assert Completeness.from_item(item) == Completeness(through_s=HOUR)


def test_a_holder_that_a_later_version_names_is_told_as_it_is() -> None:
    known = Completeness(through_s=HOUR, held_by=(Hold(holder="log_source", since_s=HOUR, count=2),), measured_s=NOW_S)
    [held] = complete_of(known, now_s=NOW_S, region="us-east-1", stage="prod").held_back_by
    assert held == HeldBack(what="2 log source", since_s=HOUR, cure="metering status --region us-east-1 --stage prod")


@pytest.mark.parametrize("holder", Holder)
@pytest.mark.parametrize("count", [0, 1, 2])
def test_every_cure_is_a_command_that_can_be_pasted(holder: Holder, count: int) -> None:
    known = Completeness(
        through_s=HOUR, held_by=(Hold(holder=holder, since_s=HOUR, count=count),), measured_s=NOW_S - DAY_S
    )
    for held in complete_of(known, now_s=NOW_S, region="eu-west-1", stage="prod").held_back_by:
        assert parsed(held.cure)
        assert "eu-west-1" in held.cure
        assert "--stage prod" in held.cure
        assert "_" not in held.what


def test_of_several_regions_each_thing_names_its_region_and_the_earliest_time_counts() -> None:
    dead = HeldBack(what="1 dead letter", since_s=HOUR, cure="metering dlq redrive")
    both = merged({"eu-west-1": Complete(through_s=HOUR, held_back_by=(dead,)), "us-east-1": Complete(through_s=NOW_S)})
    assert both.through_s == HOUR
    assert [held.what for held in both.held_back_by] == ["eu-west-1: 1 dead letter"]


def _figures(**changes: Any) -> LogFigures:
    return replace(LogFigures(looked_s=NOW_S - 60, sources=1, log_sources=1), **changes)


def test_a_missing_log_file_holds_back_to_the_slot_before_it_and_names_flow_log_and_cure(setup: Setup) -> None:
    place = "s3://acme-logs/AWSLogs/"
    setup.put(_figures(held_s=NOW_S - 4 * HOUR_S, holding=2, first="fl-0abc", place=place))
    setup.freshness.keep()
    answer = setup.freshness.answer()
    assert answer.through_s == NOW_S - 4 * HOUR_S
    assert answer.held_back_by == (
        HeldBack(
            what="2 flow logs whose files are missing, first fl-0abc",
            since_s=NOW_S - 4 * HOUR_S,
            cure=f"metering ingest {place} --since 5h --region us-east-1 --stage local",
        ),
    )


@pytest.mark.parametrize(("figures", "age_s"), [
    ({"held_s": NOW_S - 15 * MINUTE_S}, 15 * MINUTE_S),
    ({"settles_s": DAY_S}, 60 + DAY_S),
    ({"looked_s": NOW_S - 3 * HOUR_S, "held_s": NOW_S - 2 * HOUR_S}, 3 * HOUR_S),
], ids=["newest file of a flow log", "logs that come a day late", "a coverage job that does not run"])  # fmt: skip
def test_log_sources_hold_back_although_nothing_is_missing(setup: Setup, figures: dict[str, int], age_s: int) -> None:
    setup.put(_figures(**figures))
    setup.freshness.keep()
    answer = setup.freshness.answer()
    assert answer.through_s == NOW_S - age_s
    assert [each.usual for each in answer.held_back_by] == [True]


def test_a_region_whose_logs_are_read_by_hand_alone_is_held_back_by_none(setup: Setup) -> None:
    setup.put(_figures(log_sources=0, missing_slots=7))
    assert setup.through_s() == NOW_S - MINUTE_S


def test_what_a_version_without_log_sources_stored_is_read_and_what_this_one_stores_is_read_by_it() -> None:
    held = Hold(holder=Holder.LOG_GAPS, since_s=HOUR, count=1, name="fl-0abc", place="s3://acme-logs/")
    known = Completeness(through_s=HOUR, held_by=(held, Hold(holder=Holder.QUEUE, since_s=HOUR + 1)), measured_s=NOW_S)
    item = known.to_item()
    assert Completeness.from_item(item) == known
    # Earlier versions expect three values per row.
    assert all(len(row) == 3 for row in item["held_by"])  # type: ignore[union-attr, arg-type]  # a list of lists
    del item["held_names"]
    assert Completeness.from_item(item).held_by[0] == replace(held, name="", place="")
