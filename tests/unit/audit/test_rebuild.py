"""Rebuild of usage: hour by hour, harmless wherever it is cut off, and never in a closed month."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from metering.audit import rebuild
from metering.audit.census_state import HourStep
from metering.billing.freezing import PeriodNotClosableError
from metering.cli.commands.analyst import periods
from metering.hours import hour_of
from metering.lake.ports import in_order
from metering.ledger.markers import Marker, marker_key
from metering.reports.query import UsageQuery
from metering.reports.source import report_rows
from metering.stores.objects import summary_key
from metering.stores.writes import Item, Table
from metering.units import DAY_S, HOUR_S, MINUTE_S
from metering.usage.totals import Total, UsageKey
from tests.support.lake_world import NOW_S, World, record
from tests.support.usage_items import change, elsewhere, lose, usage_of
from tests.unit.audit.test_reconcile import LATE_HOUR, world_with_traffic
from tests.unit.billing.test_months import AFTER_S, FIRST_S, MONTH, world_with_october

if TYPE_CHECKING:
    from collections.abc import Iterator


def october(world: World) -> dict[UsageKey, Total]:
    return {key: total for key, total in world.usage().items() if key.hour_s < AFTER_S}


def lose_usage(world: World, month: str = "") -> None:
    for entry in usage_of(world.items, month):
        lose(world.items, entry)


def test_a_run_that_is_cut_off_at_any_call_did_no_harm_and_the_next_one_does_the_rest() -> None:
    cut, halves = 0, 0
    while True:
        world = world_with_traffic()
        before = world.usage()
        lose_usage(world)
        died = world.dies_after(cut, world.jobs.rebuilder.usage)
        done = {key: total for key, total in world.usage().items() if total != Total(0, 0)}
        assert all(before[key] == total for key, total in done.items())
        halves += 0 < len(done) < len(before)
        assert not world.jobs.rebuilder.usage().unstable
        assert world.usage() == before
        if not died:
            break
        cut += 7
    assert cut > 30
    assert halves, "it was never cut off between two repairs"


def test_progress_names_every_hour_as_it_is_measured_and_put_right() -> None:
    world = world_with_traffic()
    lose_usage(world)
    steps: list[HourStep] = []
    result = world.jobs.rebuilder.usage(tell=steps.append)
    assert result.hours == 2
    assert [(step.doing, step.done, step.hours) for step in steps] == [
        ("measured", 1, 2),
        ("measured", 2, 2),
        ("repaired", 1, 2),
        ("repaired", 2, 2),
    ]


def test_progress_goes_to_people_and_not_into_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    with periods._hours() as tell:
        tell(HourStep(doing="measured", hour_s=hour_of(NOW_S), done=1, hours=2))
    assert capsys.readouterr().out == ""


def test_a_repair_waits_for_nothing_where_nothing_is_booked_meanwhile() -> None:
    world = World()
    world.send([record(1, start_s=NOW_S - hour * HOUR_S) for hour in range(30)])
    lose_usage(world)
    began_ms = world.clock.now_ms()
    assert world.jobs.rebuilder.usage().repaired == 30
    assert world.clock.now_ms() - began_ms < MINUTE_S * 1_000


def test_a_repair_says_which_figure_it_changed_from_what_to_what() -> None:
    world = world_with_traffic()
    entry = usage_of(world.items)[0]
    after = world.usage()[entry.key]
    change(world.items, entry, -3, 2)
    [repair] = world.jobs.rebuilder.usage().repairs
    assert (repair.key, repair.before, repair.after) == (entry.key, Total(after.bytes - 3, after.records + 2), after)


def test_usage_of_an_account_that_has_no_rows_is_taken_back() -> None:
    world = world_with_traffic()
    before = world.usage()
    entry = usage_of(world.items)[0]
    change(world.items, elsewhere(entry, account_id="999999999999"), 9, 1)
    assert world.jobs.rebuilder.usage().repaired == 1
    assert {key: total for key, total in world.usage().items() if total != Total(0, 0)} == before


def test_usage_items_of_a_closed_month_become_what_was_frozen_and_reports_stay() -> None:
    world = world_with_october()
    closed = world.jobs.closer.close(MONTH, world.deadline())
    first, second, *_ = usage_of(world.items, MONTH)
    before = world.usage()
    lose(world.items, first)
    change(world.items, second, 5)
    result = world.jobs.rebuilder.usage()
    assert (result.repaired, result.unstable, result.damaged) == (2, (), ())
    assert set(result.closed) == {FIRST_S, AFTER_S - HOUR_S}
    assert world.usage() == before
    # No bill is wrong, so a correction would count the same bytes a second time.
    query = UsageQuery(from_s=FIRST_S, to_s=AFTER_S + 30 * DAY_S, group_by=("month",))
    source = world.source()
    rows = report_rows([source], query, now_s=AFTER_S + 5 * DAY_S)
    assert rows[0].total == closed.total


def test_what_differs_in_the_open_month_is_repaired_beside_a_closed_one() -> None:
    world = world_with_october()
    world.jobs.closer.close(MONTH, world.deadline())
    world.send([record(17, start_s=FIRST_S + 5)])
    before = world.usage()
    lose_usage(world, month="2026-11")
    assert world.usage() != before
    assert world.jobs.rebuilder.usage().closed == ()
    assert world.usage() == before


def test_rows_of_a_closed_month_that_are_not_what_was_frozen_are_told() -> None:
    world = world_with_october()
    closed = world.jobs.closer.close(MONTH, world.deadline())
    lose_usage(world, month=MONTH)
    first, second = closed.hours
    usage = dict(world.jobs.frozen_files.hour(closed, first.hour_s))
    other = {key: Total(total.bytes + 1, total.records) for key, total in usage.items()}
    world.objects.put(first.key, world.jobs.frozen_files.hour_file(in_order(other)).content, if_absent=False)
    assert world.jobs.rebuilder.usage().damaged == (first.hour_s,)
    assert not any(key.hour_s == first.hour_s for key in world.usage()), "nothing is booked of a changed object"
    lose_usage(world, month=MONTH)
    world.objects.remove(second.key)
    assert world.jobs.rebuilder.usage().damaged == (first.hour_s, second.hour_s)


def test_a_month_that_cannot_be_closed_for_a_difference_is_repaired_and_then_closed() -> None:
    world = world_with_october()
    before = october(world)
    change(world.items, usage_of(world.items, MONTH)[0], 1)
    with pytest.raises(PeriodNotClosableError, match="differ"):
        world.jobs.closer.close(MONTH, world.deadline())
    assert world.jobs.rebuilder.usage().repaired == 1
    world.jobs.closer.close(MONTH, world.deadline())
    assert world.frozen_usage(MONTH) == before


def test_rebuilt_markers_of_a_widened_window_outlive_every_copy() -> None:
    """A window of 60 days, so markers of 75: a copy on day 55 is a duplicate of what was rebuilt on day 52."""
    world = World(window_s=60 * DAY_S, marker_life_s=75 * DAY_S)
    [batch_id] = world.send([record(5)])
    sent_again = world.clock.now_ms()
    world.compact_all()
    world.clock.advance_s(52 * DAY_S)
    world.items.remove(Table.LEDGER, marker_key(batch_id))

    assert world.jobs.rebuilder.markers().rebuilt == 1
    marker = Marker.from_item(world.items.get(Table.LEDGER, marker_key(batch_id)) or {})
    assert marker.expires_at_s == world.clock.now_ms() // 1000 + 75 * DAY_S
    assert marker.expires_at_s > sent_again // 1000 + (60 + 14) * DAY_S


@pytest.mark.parametrize("window_days", [1, 35, 60])
def test_quarantine_of_a_commit_whose_item_may_have_expired_is_no_orphans(window_days: int) -> None:
    life_s = (window_days + 15) * DAY_S
    world = World(window_s=window_days * DAY_S, marker_life_s=life_s)
    assert DAY_S < world.jobs.orphans.quarantine_age_s < life_s


def test_usage_that_is_lost_while_a_run_books_is_repaired_once_wherever_the_run_stands() -> None:
    """A run that placed its rows, and adds again to an item that was lost, must not find a repair with them."""
    number, left = 0, 0
    while True:
        world = world_with_traffic()
        world.send([record(3), record(4, account="210987654321")], rolled_up=False)
        died = world.dies_after(number, world.roll_up)
        lose_usage(world)
        left += bool(world.jobs.rebuilder.usage().unstable)
        world.roll_up()
        assert not world.jobs.rebuilder.usage().unstable
        found = {key: total for key, total in world.usage().items() if total != Total(0, 0)}
        assert found == world.visible(), number
        if not died:
            break
        number += 1
    assert left, "it never stood where a repair must wait"


def test_accounts_in_several_parts_are_put_right_with_one_query_an_account_and_day(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rebuild, "ACCOUNTS_AT_ONCE", 3)
    world = World()
    for hour in range(4):
        world.send([record(5 + n, start_s=NOW_S - hour * HOUR_S, account=f"{n:012d}") for n in range(10)])
    before = world.usage()
    lose_usage(world)
    asked: list[str] = []
    query = world.items.query

    def noted(table: Table, pk: str, **bounds: Any) -> Iterator[Item]:
        asked.append(f"{table.value}/{pk}")
        return query(table, pk, **bounds)

    world.items.query = noted  # type: ignore[method-assign]  # a store that is watched
    assert world.jobs.rebuilder.usage().repaired == 40
    assert world.usage() == before
    assert sum(each.startswith("usage/") for each in asked) == 10


def test_items_are_written_side_by_side() -> None:
    world = world_with_traffic()
    before = world.usage()
    lose_usage(world)
    reconciler = replace(world.jobs.reconciler, figures=replace(world.jobs.figures, threads=4))
    rebuilder = replace(world.jobs.rebuilder, reconciler=reconciler)
    assert rebuilder.usage().repaired == len(before)
    assert world.usage() == before


def test_what_lake_and_usage_lost_of_a_closed_month_comes_back_from_what_was_frozen() -> None:
    world = world_with_october()
    world.jobs.closer.close(MONTH, world.deadline())
    before = october(world)
    lose_usage(world, month=MONTH)
    for prefix in ("lake/", "summaries/"):
        for key in world.objects.keys(prefix):
            world.objects.put(key, world.objects.get(world.objects.keys(prefix)[0]), if_absent=False)
    result = world.jobs.rebuilder.usage()
    assert october(world) == before
    assert result.damaged


def test_usage_stays_where_the_files_do_not_hold_what_was_accepted() -> None:
    world = world_with_traffic()
    world.compact_all()
    before = world.usage()
    [file, *_] = world.files(hour_of(NOW_S))
    [other, *_] = world.files(LATE_HOUR)
    for name in (file.key, summary_key(file.key)):
        world.objects.remove(name)
    world.objects.put(file.key, world.objects.get(other.key), if_absent=False)
    result = world.jobs.rebuilder.usage()
    assert result.damaged == (hour_of(NOW_S),)
    assert result.repaired == 0
    assert world.usage() == before
