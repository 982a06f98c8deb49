"""Rebuilds of usage and markers are exact, survive any interruption, and never touch a closed month."""

import io
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from metering.audit import rebuild
from metering.audit.census_state import HourStep
from metering.audit.rebuild import MarkerRebuild, Rebuilder
from metering.audit.repair import Repaired, UsageRepair, planned_later
from metering.audit.settling import AccountHour, settled_runs
from metering.billing.freezing import PeriodNotClosableError
from metering.cli.commands.analyst import periods
from metering.errors import UnavailableError
from metering.hours import hour_of
from metering.lake.ports import in_order
from metering.ledger.commits import UsedShards
from metering.ledger.markers import Marker, decode_lines, encode_lines, marker_key
from metering.ledger.runs import newest_first, rollup_chain
from metering.ledger.usage.kinds import kind_items
from metering.reports.query import UsageQuery
from metering.reports.source import report_rows
from metering.stores.objects import summary_key
from metering.stores.writes import Item, Key, Put, Table, Update
from metering.units import DAY_S, HOUR_S, MINUTE_S
from metering.usage.totals import REGION, Total, UsageKey
from tests.support.lake_world import ACCOUNT, HOUR, NOW_S, World, record
from tests.support.usage_items import change, elsewhere, lose, usage_of
from tests.support.written_down import forget_markers
from tests.unit.audit.test_reconcile import LATE_HOUR, world_with_traffic
from tests.unit.billing.test_months import AFTER_S, FIRST_S, MONTH, world_with_october


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
    # No bill is wrong, and a correction would count the same bytes a second time.
    query = UsageQuery(from_s=FIRST_S, to_s=AFTER_S + 30 * DAY_S, group_by=("month",))
    source = world.source()
    rows = report_rows([source], query, now_s=AFTER_S + 5 * DAY_S)
    assert rows[0].total.total == closed.total


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
    """With a window of 60 days, markers live for 75 days: a copy on day 55 finds the marker rebuilt on day 52."""
    world = World(window_s=60 * DAY_S, marker_life_s=75 * DAY_S)
    [batch_id] = world.send([record(5)])
    sent_again = world.clock.now_ms()
    world.compact_all()
    world.clock.advance_s(52 * DAY_S)
    world.items.remove(Table.LEDGER, marker_key(batch_id))
    assert world.jobs.rebuilder.markers().rebuilt == 1
    marker = world.marker(batch_id)
    assert marker.expires_at_s == world.clock.now_ms() // 1000 + 75 * DAY_S
    assert marker.expires_at_s > sent_again // 1000 + (60 + 14) * DAY_S


@pytest.mark.parametrize("window_days", [1, 35, 60])
def test_quarantine_of_a_commit_whose_item_may_have_expired_is_no_orphans(window_days: int) -> None:
    life_s = (window_days + 15) * DAY_S
    world = World(window_s=window_days * DAY_S, marker_life_s=life_s)
    assert DAY_S < world.jobs.orphans.quarantine_age_s < life_s


def test_usage_that_is_lost_while_a_run_books_is_repaired_once_wherever_the_run_stands() -> None:
    """After a repair that includes the rows that a run has placed, the run must not add them to the lost item again."""
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


def test_accounts_in_parts_are_put_right_with_one_query_an_account_and_day(monkeypatch: pytest.MonkeyPatch) -> None:
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


@pytest.mark.parametrize("threads", [1, 4])
def test_a_lost_usage_table_is_rebuilt_to_the_byte(threads: int) -> None:
    world = world_with_traffic()
    before = world.usage()
    lose_usage(world)
    reconciler = replace(world.jobs.reconciler, figures=replace(world.jobs.figures, threads=threads))
    rebuilder = replace(world.jobs.rebuilder, reconciler=reconciler)
    result = rebuilder.usage()
    assert (result.repaired, result.unstable) == (len(before), ())
    assert world.usage() == before
    assert rebuilder.usage().repaired == 0


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


LOCATIONS = ("internet", "us-east-1/use1-az1", "us-east-1/use1-az4", "us-east-1/use1-az6")


def world_beyond_the_cap() -> World:
    """An account with four usage kinds, of which two have a number."""
    world = World(kinds_per_account=2)
    world.send([record(5 + n, to=to) for n, to in enumerate(LOCATIONS)])
    assert sorted(entry.number is None for entry in usage_of(world.items)) == [False, False, True, True]
    return world


def prepared(world: World) -> UsageRepair:
    jobs = world.jobs
    runs = settled_runs(world.items, world.settings.shards)
    rows = jobs.figures.placed(HOUR).by_key
    jobs.rollup.numbers.claim(ACCOUNT, {key.kind for key in rows})
    usage = jobs.figures.used(HOUR, [ACCOUNT])
    return UsageRepair(
        items=world.items, objects=world.objects, numbers=jobs.rollup.numbers, runs=runs, usage=usage, rows=rows
    )


def repaired(world: World, repair: UsageRepair) -> Repaired:
    return repair.run({ACCOUNT: world.jobs.rollup.numbers.claim(ACCOUNT, {key.kind for key in repair.rows})})


def test_kinds_with_and_without_a_number_are_put_right() -> None:
    world = world_beyond_the_cap()
    before = world.usage()
    for entry in usage_of(world.items):
        lose(world.items, entry)
    result = repaired(world, prepared(world))
    assert (len(result.repairs), result.left) == (4, frozenset())
    assert world.usage() == before


def test_a_kind_that_got_a_number_meanwhile_is_left_to_the_next_look() -> None:
    """Another repair may already have corrected the kind under the kind's new number."""
    world = world_beyond_the_cap()
    [named, *_] = [entry for entry in usage_of(world.items) if entry.number is None]
    change(world.items, named, 7)
    repair = prepared(world)
    claimed = world.jobs.rollup.numbers.claim(ACCOUNT, {key.kind for key in repair.rows})
    for item in kind_items(ACCOUNT, 2, named.key.kind):
        world.items.put(Put(table=Table.LEDGER, item=item))
    result = repair.run({ACCOUNT: claimed})
    assert result.repairs == ()
    assert result.left == {ACCOUNT}


def test_an_item_that_was_written_since_is_left_to_the_next_look() -> None:
    world = world_beyond_the_cap()
    [entry, *_] = [entry for entry in usage_of(world.items) if entry.number is not None]
    change(world.items, entry, 7)
    repair = prepared(world)
    change(world.items, entry, -7)
    result = repaired(world, repair)
    assert (result.repairs, result.left) == ((), frozenset({ACCOUNT}))
    assert repaired(world, prepared(world)).left == frozenset()


@pytest.mark.parametrize("applied", [False, True])
def test_an_outcome_that_nobody_knows_is_measured_and_not_repeated(applied: bool) -> None:
    world = world_beyond_the_cap()
    before = world.usage()
    entry = next(entry for entry in usage_of(world.items) if entry.number == 0)
    change(world.items, entry, 7)
    repair, update, calls = prepared(world), world.items.update, 0

    def lost(action: object) -> object:
        nonlocal calls
        calls += 1
        if applied:
            update(action)  # type: ignore[arg-type]  # as it was called
        raise UnavailableError("items.update", "no reply")

    world.items.update = lost  # type: ignore[method-assign, assignment]  # a store whose reply is lost
    assert repaired(world, repair).left == {ACCOUNT}
    assert calls == 1
    world.items.update = update  # type: ignore[method-assign]  # it answers again
    assert len(repaired(world, prepared(world)).repairs) == (0 if applied else 1)
    assert world.usage() == before


def test_what_usage_has_and_no_row_is_taken_back_in_its_own_item() -> None:
    world = world_beyond_the_cap()
    rows = prepared(world).rows
    spare = next(key for key in rows if key.kind in {e.key.kind for e in usage_of(world.items) if e.number is None})
    repair = prepared(world)
    kept = {key: total for key, total in rows.items() if key != spare}
    repair = UsageRepair(
        items=repair.items,
        objects=repair.objects,
        numbers=repair.numbers,
        runs=repair.runs,
        usage=repair.usage,
        rows=kept,
    )
    [corrected] = repaired(world, repair).repairs
    assert (corrected.key, corrected.after) == (spare, Total(0, 0))
    assert world.usage().get(spare, Total(0, 0)) == Total(0, 0)


def test_what_a_run_of_a_shard_that_was_added_since_has_in_its_plan_is_left() -> None:
    world = world_beyond_the_cap()
    items, objects = world.items, world.objects
    assert planned_later(items, objects, settled_runs(items, 1)) == frozenset()
    items.put(Put(table=Table.LEDGER, item=UsedShards(number=2).to_item()))
    [repaired] = newest_first(items, rollup_chain(0))
    items.put(Put(table=Table.LEDGER, item=replace(repaired, chain=rollup_chain(1), number=1).to_item()))
    named = frozenset(AccountHour(HOUR, name) for name in (ACCOUNT, REGION))
    assert planned_later(items, objects, {0: repaired.number}) == named


BATCHES = 40


def world_of_batches() -> World:
    """Batches with rows in one to three hours; the rows are in lake files, in staging, or waiting for the roll-up."""
    world = World()
    starts = (NOW_S, NOW_S - HOUR_S, NOW_S - 30 * HOUR_S)
    batches = [
        [record(100 + number, start_s=start_s) for start_s in starts[: 1 + number % 3]] for number in range(BATCHES)
    ]
    world.send(*batches[:20])
    world.compact_all()
    world.send(*batches[20:30])
    world.send(*batches[30:], rolled_up=False)
    return world


def marker_of(world: World, number: int) -> Marker | None:
    item = world.items.peek(Table.LEDGER, marker_key(f"batch-{number}"))
    return None if item is None else Marker.from_item(item)


def figures(marker: Marker | None) -> object:
    return None if marker is None else (marker.verdict, dict(marker.hours), marker.records, marker.metered)


def rebuilt(world: World, *, at_once: int = 1_000, threads: int = 1) -> MarkerRebuild:
    made = world.jobs.rebuilder
    figures = replace(made.figures, threads=threads)
    return replace(made, batches_at_once=at_once, reconciler=replace(made.reconciler, figures=figures)).markers()


@pytest.mark.parametrize(("at_once", "threads"), [(1_000, 1), (1, 1), (1, 4), (3, 2)])
@pytest.mark.parametrize("each", [1, 3, 7])
def test_lost_markers_come_back_as_their_commits_wrote_them(at_once: int, threads: int, each: int) -> None:
    world = world_of_batches()
    assert world.objects.keys("markers/")
    assert world.objects.keys("staging/")
    before = [marker_of(world, number) for number in range(BATCHES)]
    lost = range(0, BATCHES, each)
    for number in lost:
        world.items.remove(Table.LEDGER, marker_key(f"batch-{number}"))
    world.clock.advance_s(60)
    result = rebuilt(world, at_once=at_once, threads=threads)
    assert (result.batches, result.rebuilt, result.whole) == (BATCHES, len(lost), len(lost))
    # The life of a marker that came back begins anew.
    assert [marker_of(world, number) for number in range(BATCHES)] == [
        marker and replace(marker, expires_at_s=marker.expires_at_s + 60 * (number in lost))
        for number, marker in enumerate(before)
    ]


def test_a_copy_that_differs_from_the_rows_is_not_put() -> None:
    world = world_of_batches()
    key = world.objects.keys("markers/")[0]
    lines = list(decode_lines(io.BytesIO(world.objects.get(key)), key))
    changed = [
        replace(line, marker=replace(line.marker, hours={h: t.plus(Total(1, 0)) for h, t in line.marker.hours.items()}))
        for line in lines
    ]
    world.objects.upload(key, encode_lines(changed))
    for line in lines:
        world.items.remove(Table.LEDGER, line.marker.key)
    result = rebuilt(world)
    assert (result.rebuilt, result.whole) == (len(lines), 0)
    world.objects.upload(key, b"damaged")
    for line in lines:
        world.items.remove(Table.LEDGER, line.marker.key)
    result = rebuilt(world)
    assert (result.rebuilt, result.whole) == (len(lines), 0)


def test_other_content_under_the_id_of_a_marker_that_came_back_is_a_conflict() -> None:
    world = World()
    world.send([record(5)])
    world.items.remove(Table.LEDGER, marker_key("batch-0"))
    assert rebuilt(world).whole == 1
    world._sent = 0  # the next batch gets the same id
    world.send([record(6)])
    assert world.metrics.counts["BatchesConflict"] == 1


@pytest.mark.parametrize(("at_once", "threads"), [(1_000, 1), (1, 4)])
@pytest.mark.parametrize("each", [1, 7])
def test_lost_markers_come_back_with_all_hours_of_their_batches(at_once: int, threads: int, each: int) -> None:
    world = world_of_batches()
    forget_markers(world.objects)
    before = [figures(marker_of(world, number)) for number in range(BATCHES)]
    lost = range(0, BATCHES, each)
    for number in lost:
        world.items.remove(Table.LEDGER, marker_key(f"batch-{number}"))
    result = rebuilt(world, at_once=at_once, threads=threads)
    assert (result.batches, result.rebuilt, result.whole) == (BATCHES, len(lost), 0)
    assert [figures(marker_of(world, number)) for number in range(BATCHES)] == before
    # Only rebuilt markers lack a content hash.
    items = {number: world.items.peek(Table.LEDGER, marker_key(f"batch-{number}")) or {} for number in range(BATCHES)}
    assert [number for number, item in items.items() if "hash" not in item] == [*lost]
    assert world.metrics.counts["MarkersRebuilt"] == len(lost)


def test_where_nothing_is_missing_rows_are_read_once_and_nothing_is_written() -> None:
    world = world_of_batches()
    calls: list[str] = []
    world.items.on_call = world.objects.on_call = calls.append
    view = world.jobs.view
    hours = view.hours()
    for hour_s in hours:
        view.hour_usage(hour_s)
    once = sorted(call for call in calls if call.startswith("objects."))
    assert len(once) > len(hours)
    calls.clear()
    result = rebuilt(world)
    assert (result.batches, result.rebuilt) == (BATCHES, 0)
    assert sorted(call for call in calls if call.startswith("objects.")) == once
    assert not [call for call in calls if call in {"items.put", "items.update", "items.transact", "objects.put"}]
    # All batches of an hour are looked up together.
    assert calls.count("items.get_many") == len(hours)


def test_a_marker_that_is_lost_after_an_hour_of_it_was_looked_up_comes_back_whole_or_not_yet() -> None:
    """A look finds the marker at one hour of the batch, but not at the batch's next hour."""
    number = 2
    whole = figures(marker_of(world_of_batches(), number))
    came_back = set()
    for seen in count(1):
        world, looks = world_of_batches(), count(1)

        def lose(call: str, world: World = world, looks: Iterator[int] = looks, seen: int = seen) -> None:
            if call == "items.get_many" and next(looks) == seen:
                world.items.remove(Table.LEDGER, marker_key(f"batch-{number}"))

        world.items.on_call = lose
        came_back.add(rebuilt(world).rebuilt)
        world.items.on_call = lambda _call: None
        assert figures(marker_of(world, number)) in (whole, None)
        rebuilt(world)
        assert figures(marker_of(world, number)) == whole
        if next(looks) <= seen:
            break
    assert came_back == {0, 1}


def test_a_rejected_marker_of_a_batch_that_has_rows_is_replaced_and_an_accepted_one_stays() -> None:
    world = world_of_batches()
    before = figures(marker_of(world, 1))
    verdict = Update(table=Table.LEDGER, key=marker_key("batch-1"), set={"verdict": "rejected"})
    world.items.update(verdict)
    hours = Update(table=Table.LEDGER, key=marker_key("batch-4"), set={"records": 17})
    world.items.update(hours)
    changed = world.items.peek(Table.LEDGER, marker_key("batch-4"))
    assert rebuilt(world).rebuilt == 1
    assert figures(marker_of(world, 1)) == before
    assert world.items.peek(Table.LEDGER, marker_key("batch-4")) == changed


def test_a_marker_that_comes_meanwhile_stays() -> None:
    """Another process rebuilds the markers between two calls of a rebuild."""
    lost = [marker_key("batch-3"), marker_key("batch-5")]
    for number in count(1, 13):
        world, calls = world_of_batches(), count(1)
        theirs: dict[Key, Item] = {}
        for key in lost:
            world.items.remove(Table.LEDGER, key)
        other = world.make_jobs().rebuilder

        def meanwhile(
            _call: str,
            world: World = world,
            other: Rebuilder = other,
            calls: Iterator[int] = calls,
            theirs: dict[Key, Item] = theirs,
            number: int = number,
        ) -> None:
            if next(calls) == number:
                world.items.on_call = lambda _call: None
                other.markers()
                theirs |= {key: world.items.peek(Table.LEDGER, key) or {} for key in lost}
                world.clock.advance_s(60)

        world.items.on_call = meanwhile
        result = rebuilt(world)
        world.items.on_call = lambda _call: None
        if not theirs:
            assert result.rebuilt == 2
            break
        assert {key: world.items.peek(Table.LEDGER, key) for key in lost} == theirs
    assert number > 10


def test_hours_before_the_life_of_a_marker_are_not_read() -> None:
    world = World(window_s=DAY_S, marker_life_s=3 * DAY_S)
    world.send([record(5)])
    world.compact_all()
    world.items.remove(Table.LEDGER, marker_key("batch-0"))
    world.clock.advance_s(hour_of(NOW_S) + 3 * DAY_S - NOW_S)
    assert rebuilt(world).rebuilt == 1
    world.items.remove(Table.LEDGER, marker_key("batch-0"))
    world.clock.advance_s(1)
    result = rebuilt(world)
    assert (result.batches, result.rebuilt) == (0, 0)
