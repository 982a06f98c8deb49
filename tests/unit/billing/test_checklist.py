"""Checks before a final close: usage in flight, missing, refused or different; which of it blocks the close."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from metering.audit.freshness import Freshness
from metering.billing.checklist import ACCEPTABLE, CheckedClose, Checklist, CheckState, CloseCheck
from metering.billing.freezing import NotClosable, PeriodNotClosableError
from metering.hours import month_bounds_s
from metering.ledger.notes.checks import CanaryRun, CanaryVerdict
from metering.ledger.notes.reconciliation import Backlog, Reconciliation, SourceFigures
from metering.ledger.notes.watch import WatchState
from metering.operations.alarms import ALARMS
from metering.stores.writes import Put, Table
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Total
from tests.support.lake_world import World, record
from tests.support.memory.queues import MemoryQueue
from tests.support.region import quarantine_of
from tests.support.watched import QueueFacts
from tests.unit.house.command_lines import parsed

MONTH = "2026-10"
FIRST_S, AFTER_S = month_bounds_s(MONTH)


class October:
    """A region without problems, four days after the end of October."""

    def __init__(self) -> None:
        self.world = World(now_s=AFTER_S - HOUR_S)
        self.ingest, self.dead = MemoryQueue(self.world.clock), MemoryQueue(self.world.clock)
        self.freshness = Freshness(
            items=self.world.items, ingest=self.ingest, dead=self.dead, queue_facts=QueueFacts(),
            clock=self.world.clock, region="eu-west-1", stage="prod", shards=self.world.settings.shards,
            window_s=35 * DAY_S,
        )  # fmt: skip
        self.world.send([record(5, start_s=FIRST_S), record(7, start_s=AFTER_S - 2 * HOUR_S)])
        self.world.clock.advance_s(4 * DAY_S)
        now_s = self.now_s
        self.put(CanaryRun(slot_s=now_s, sent_s=now_s, verdict=CanaryVerdict.GOOD, settled_s=now_s))
        self.put(Reconciliation(finished_s=now_s, hours=1, differences=0))

    @property
    def now_s(self) -> int:
        return self.world.clock.now_ms() // 1000

    @property
    def close(self) -> CheckedClose:
        return CheckedClose(
            closer=self.world.jobs.closer, items=self.world.items, ingest=self.ingest, dead=self.dead,
            quarantine=quarantine_of(self.world, self.ingest), freshness=self.freshness, clock=self.world.clock,
            region="eu-west-1", stage="prod",
        )  # fmt: skip

    def put(self, *values: CanaryRun | Reconciliation | SourceFigures | WatchState) -> None:
        for value in values:
            self.world.items.put(Put(table=Table.LEDGER, item=value.to_item()))

    def look(self) -> Checklist:
        return self.close.look(MONTH)

    def check(self, name: str) -> CloseCheck:
        return next(check for check in self.look().checks if check.name == name)

    # What can be wrong.

    def message_of_october_waits(self) -> None:
        self.put(WatchState(first_s=0, queue_empty_s=AFTER_S - HOUR_S))
        self.ingest.send_many(["x"])

    def dead_letter(self) -> None:
        self.freshness.keep()
        self.world.clock.advance_s(60)
        self.dead.send_many(["x"])
        self.freshness.keep()

    def gap_in_october(self) -> None:
        self.put(Reconciliation(finished_s=self.now_s, hours=1, differences=0, gaps_since_s=AFTER_S - DAY_S))

    def difference(self) -> None:
        self.put(Reconciliation(finished_s=self.now_s, hours=1, differences=2))


def states(checklist: Checklist) -> dict[str, CheckState]:
    return {check.name: check.state for check in checklist.checks if check.state is not CheckState.OK}


def test_a_month_of_a_region_that_is_well_is_closed_without_a_word() -> None:
    october = October()
    before = list(october.world.items.everything(Table.LEDGER))
    checklist = october.look()
    assert states(checklist) == {}
    assert not any(check.todo for check in checklist.checks)
    # A look changes nothing.
    assert list(october.world.items.everything(Table.LEDGER)) == before
    assert october.close.closer.show(MONTH) is None
    assert october.close.close(checklist, october.world.deadline()).total == Total(12, 2)


@pytest.mark.parametrize(("happens", "blocks", "cure"), [
    (October.message_of_october_waits, {"freshness", "queue"}, "metering verify --wait 5m"),
    (October.dead_letter, {"dead-letters"}, "metering dlq redrive"),
    (October.gap_in_october, {"freshness", "gaps"}, "metering sources --gaps"),
    (October.difference, {"differences"}, "metering reconcile"),
], ids=["message", "dead-letter", "gap", "difference"])  # fmt: skip
def test_what_may_be_missing_from_the_month_blocks_its_close_until_it_is_accepted_by_name(
    happens: Callable[[October], None], blocks: set[str], cure: str
) -> None:
    october = October()
    happens(october)
    checklist = october.look()
    assert {check.name for check in checklist.blocking()} == blocks
    assert f"{cure} --region eu-west-1 --stage prod" in checklist.blocking()[-1].todo
    with pytest.raises(PeriodNotClosableError, match="--accept") as refused:
        october.close.close(checklist, october.world.deadline())
    assert refused.value.cause is NotClosable.CHECKLIST
    assert october.close.closer.show(MONTH) is None
    with pytest.raises(PeriodNotClosableError):
        october.close.close(checklist, october.world.deadline(), accepted=blocks - {min(blocks)})
    assert october.close.close(checklist, october.world.deadline(), accepted=blocks).total == Total(12, 2)
    assert blocks <= set(ACCEPTABLE)


def test_what_comes_while_the_person_reads_the_checklist_blocks_the_close_too() -> None:
    october = October()
    checklist = october.look()
    assert checklist.blocking() == ()
    october.dead_letter()
    with pytest.raises(PeriodNotClosableError, match="dead-letters: 1") as refused:
        october.close.close(checklist, october.world.deadline())
    assert refused.value.cause is NotClosable.CHECKLIST
    assert october.close.closer.show(MONTH) is None


def test_72_hours_cannot_be_accepted_away() -> None:
    october = October()
    october.world.clock.advance_s(-2 * DAY_S)
    checklist = october.look()
    [blocking] = checklist.blocking(("ended", *ACCEPTABLE))
    assert (blocking.name, blocking.todo) == ("ended", "it can be closed from 2026-11-04T00:00:00Z on")
    with pytest.raises(PeriodNotClosableError, match="72 hours") as refused:
        october.close.close(checklist, october.world.deadline(), accepted=ACCEPTABLE)
    assert "--accept" not in str(refused.value)


def test_gaps_that_were_looked_for_too_early_block() -> None:
    october = October()
    for scanned_s, state in ((AFTER_S - DAY_S, "blocks"), (AFTER_S + DAY_S - 1, "blocks"), (AFTER_S + DAY_S, "ok")):
        october.put(SourceFigures(sources=1, scanned_ms=scanned_s * 1_000))
        assert october.check("gaps").state == state
    # Without a source, there is nothing to look for.
    october.put(SourceFigures(sources=0, scanned_ms=0))
    assert october.check("gaps").state == "ok"


def test_messages_and_gaps_of_a_later_month_ask_for_attention_only() -> None:
    october = October()
    october.put(WatchState(first_s=0, queue_empty_s=october.now_s - HOUR_S))
    october.ingest.send_many(["x"])
    assert states(october.look()) == {"queue": CheckState.ATTENTION}
    october = October()
    october.put(Reconciliation(finished_s=october.now_s, hours=1, differences=0, gaps_since_s=AFTER_S + HOUR_S))
    assert states(october.look()) == {"gaps": CheckState.ATTENTION}


def test_a_month_that_is_closing_takes_no_bookings_so_nothing_is_worth_waiting_for() -> None:
    october = October()
    october.world.dies_after(3, lambda: october.close.closer.close(MONTH, october.world.deadline()))
    october.dead_letter()
    checklist = october.look()
    assert checklist.blocking() == ()
    assert states(checklist)["dead-letters"] is CheckState.ATTENTION
    assert october.close.close(checklist, october.world.deadline()).total == Total(12, 2)


def test_refused_batches_that_nobody_retried_are_counted() -> None:
    october = October()
    bad = record(3, start_s=october.now_s)
    bad["bytes"] = -1
    october.world.send([bad, record(1, start_s=october.now_s)])
    check = october.check("quarantine")
    assert check.state is CheckState.ATTENTION
    assert check.value == "refused since the month began: 1, not retried: 1"
    assert check.todo == "metering quarantine list --from 2026-10 --region eu-west-1 --stage prod"


def test_an_earlier_month_that_is_still_open_is_named() -> None:
    october = October()
    assert october.check("earlier-month").value == "2026-09 has no rows"
    october.world.send([record(1, start_s=FIRST_S - HOUR_S)])
    check = october.check("earlier-month")
    assert (check.state, check.value) == (CheckState.ATTENTION, "2026-09 is open")


def test_a_reconciler_that_is_late_or_behind_and_a_canary_that_is_late_ask_for_attention() -> None:
    october = October()
    backlog = Backlog(waiting=2, since_s=october.now_s)
    october.put(Reconciliation(finished_s=october.now_s, hours=1, differences=0, backlog=backlog))
    assert states(october.look()) == {"reconciler": CheckState.ATTENTION}
    october.world.clock.advance_s(4 * HOUR_S)
    assert states(october.look()) == {"reconciler": CheckState.ATTENTION, "canary": CheckState.ATTENTION}
    now_s = october.now_s
    october.put(CanaryRun(slot_s=now_s, sent_s=now_s, verdict=CanaryVerdict.DOUBLED, settled_s=now_s))
    assert october.check("canary").todo == "metering runbook canary-doubled --region eu-west-1 --stage prod"


def test_every_todo_begins_with_a_command_or_a_runbook_that_exists() -> None:
    october = October()
    for happens in (October.message_of_october_waits, October.dead_letter, October.gap_in_october):
        happens(october)
    october.world.clock.advance_s(5 * HOUR_S)
    todos = [check.todo for check in october.look().checks if check.todo]
    assert len(todos) >= 6
    for todo in todos:
        first = todo.partition(", and ")[0].partition(" waits ")[0]
        if first.startswith("runbook "):
            assert first.removeprefix("runbook ") in {spec.runbook for spec in ALARMS}
        else:
            assert parsed(first)


def test_the_list_of_months_has_frozen_totals_and_the_time_of_each_close() -> None:
    october = October()
    closer = october.close.closer
    months = [(month.month, month.state, month.total) for month in closer.months()]
    assert months == [("2026-11", "open", None), ("2026-10", "open", None)]
    closer.close(MONTH, october.world.deadline())
    [_, closed] = closer.months()
    assert (closed.state, closed.total, closed.closed_s) == ("closed", Total(12, 2), october.now_s)
