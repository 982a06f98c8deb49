"""The reconciler's ticks: full reads while these are cheap; otherwise only new files, and differences of a scan."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from copy import deepcopy
from functools import partial
from typing import Any

import pytest

from metering.audit import incremental
from metering.audit.census_state import CensusState
from metering.audit.incremental import IncrementalCheck, IncrementalResult
from metering.audit.reconciler import ReconciliationResult
from metering.audit.reconciler_tick import TickResult
from metering.audit.settling import ScanTooLongError
from metering.hours import rfc3339
from metering.ledger.markers import marker_key
from metering.ledger.notes.checks import canary_body, slot_of
from metering.ledger.notes.reconciliation import RECONCILIATION_KEY, Backlog, Reconciliation, Suspects, WorkList
from metering.ledger.usage.items import newest_run_of
from metering.stores.queues import Delivery
from metering.stores.writes import Item, Put, Table, Update, Value
from metering.units import DAY_S, HOUR_S, MINUTE_S
from tests.support.lake_world import HOUR, NOW_S, World, dying, record
from tests.support.memory.items import MemoryItemStore
from tests.support.usage_items import change, elsewhere, usage_of

OLD_HOUR = HOUR - 20 * DAY_S


def published(*hours: int, batches: int = 2) -> World:
    """A region in which a run has published these `hours`."""
    world = World(scan_every_s=DAY_S)
    for hour_s in hours:
        world.send(*[[record(5, start_s=hour_s), record(7, start_s=hour_s)] for _ in range(batches)], source="edge")
    world.compact_all()
    return world


def quick(world: World, *, time_s: int = 900) -> IncrementalResult:
    return world.jobs.reconcile_tick.checker.run(world.deadline(time_s))


def work_list(world: World) -> WorkList:
    return world.jobs.reconcile_tick.checker.work_list()


def tick(world: World) -> TickResult:
    return world.jobs.reconcile_tick.run(world.deadline())


def calls_of(world: World, do: Callable[[], object]) -> list[str]:
    calls: list[str] = []
    world.items.on_call = world.objects.on_call = calls.append
    do()
    world.items.on_call = world.objects.on_call = lambda _call: None
    return calls


def spoil(world: World, hour_s: int, size: int = 1) -> None:
    entry = next(entry for entry in usage_of(world.items) if entry.key.hour_s == hour_s)
    change(world.items, entry, size)


def test_a_quick_pass_compares_what_was_published_and_reads_no_table_whole() -> None:
    world = published(HOUR, OLD_HOUR)
    results: list[IncrementalResult] = []
    calls = calls_of(world, lambda: results.append(quick(world)))
    [result] = results
    assert (result.hours, result.files, result.different, result.left) == (2, 2, (), 0)
    assert not any(call.startswith("items.scan") for call in calls)
    assert not world.alerts.sent


def test_batches_and_records_of_new_files_are_counted_by_day_without_the_canary() -> None:
    world = published(HOUR)
    assert tick(world).scanned

    def counted() -> tuple[int, int, int, int]:
        world.compact_all()
        world.jobs.reconcile_tick.state.keep_quick(quick(world))
        note = reconciliation(world)
        return note.batches, note.records, note.batches_before, note.records_before

    assert counted() == (0, 0, 0, 0)
    world.send([record(9)], *[[record(5), record(7)] for _ in range(2)])
    slot_s = slot_of(world.clock.now_ms() // 1_000)
    canary = Delivery(
        message_id="canary", body=canary_body(slot_s, "us-east-1"), sent_at_ms=world.clock.now_ms(), receive_count=1,
        sender_id="canary",
    )  # fmt: skip
    assert not world.aggregator.handle([canary], world.deadline()).retry
    world.roll_up()
    assert counted() == (3, 5, 0, 0)
    assert counted() == (3, 5, 0, 0), "a file is counted once"
    world.clock.advance_s(DAY_S)
    world.send([record(9, start_s=HOUR + DAY_S)])
    assert counted() == (1, 1, 3, 5)
    world.clock.advance_s(2 * DAY_S)
    assert counted() == (0, 0, 0, 0)


def test_what_was_found_equal_is_not_compared_again_until_something_is_published() -> None:
    world = published(*(HOUR - n * HOUR_S for n in range(30)))
    assert quick(world).hours == 30
    idle = calls_of(world, lambda: quick(world))
    assert len(idle) <= 4
    world.send([record(9, start_s=OLD_HOUR)])
    assert quick(world).hours == 0
    world.compact_all()
    result = quick(world)
    assert (result.hours, result.files) == (1, 1)


def test_a_quick_pass_does_not_read_what_waits_in_other_hours() -> None:
    calls = []
    for waiting in (0, 30):
        world = published(OLD_HOUR)
        for _ in range(waiting):
            world.send([record(1)])
        calls.append(len(calls_of(world, partial(quick, world))))
    assert calls[0] == calls[1]


def test_an_hour_is_never_said_to_differ_wherever_a_run_of_the_roll_up_stands() -> None:
    """Bookings of a run that are not placed yet wait for the next look; all else in the hour is compared (P37)."""

    def waiting_world() -> World:
        world = published(OLD_HOUR)
        world.send([record(1, start_s=OLD_HOUR, account=f"{n:012d}") for n in range(3)], rolled_up=False)
        return world

    settled = []
    for world in dying(waiting_world, World.roll_up):
        check = world.jobs.reconciler.look(OLD_HOUR, frozenset())
        assert check.differences == ()
        settled.append(check.stable)
        world.roll_up()
        assert world.jobs.reconciler.look(OLD_HOUR, frozenset()).agrees
    assert settled[0]
    assert settled[-1]
    assert not all(settled)


def test_usage_that_differs_is_told_until_it_is_repaired() -> None:
    world = published(HOUR, OLD_HOUR)
    spoil(world, OLD_HOUR)
    began_ms = world.clock.now_ms()
    result = quick(world)
    assert world.clock.now_ms() - began_ms >= MINUTE_S * 1_000
    [check] = result.different
    assert (check.hour_s, check.usage.bytes - check.rows.bytes) == (OLD_HOUR, 1)
    assert [alert.fields["hour"] for alert in world.alerts.sent] == [rfc3339(OLD_HOUR)]
    assert set(work_list(world).hours) == {OLD_HOUR}
    assert len(quick(world).different) == 1
    spoil(world, OLD_HOUR, -1)
    assert quick(world).different == ()
    assert not work_list(world).hours


# First looks read with eventual consistency (P37).


def looked(world: World, eventual: MemoryItemStore) -> IncrementalResult:
    check = IncrementalCheck(reconciler=world.jobs.reconciler, eventual=eventual)
    return check.run(world.deadline(900))


def test_figures_that_are_equal_need_no_consistent_read() -> None:
    world = published(HOUR, OLD_HOUR)
    results: list[IncrementalResult] = []
    eventual = deepcopy(world.items)
    calls = calls_of(world, lambda: results.append(looked(world, eventual)))
    assert (results[0].hours, results[0].files, results[0].left, results[0].batches) == (2, 2, 0, 4)
    again = published(HOUR, OLD_HOUR)
    whole = calls_of(again, lambda: quick(again))
    # The markers of two files; on two days the newest runs, twice, and an account's usage; on one, the region's.
    assert whole.count("items.get_many") - calls.count("items.get_many") == 2
    assert whole.count("items.query") - calls.count("items.query") == 7


def test_tables_that_lag_behind_make_nothing_differ_and_leave_nothing() -> None:
    world = published(HOUR)
    lagging = deepcopy(world.items)
    world.send([record(9, start_s=HOUR)], [record(4, account="210987654321", start_s=HOUR)], source="edge")
    world.compact_all()
    result = looked(world, lagging)
    assert (result.different, result.left, result.batches, set(result.survey.sources)) == ((), 0, 4, {"edge"})
    assert not world.alerts.sent


def test_what_differs_at_a_first_look_is_told_only_if_a_consistent_one_says_so() -> None:
    world = published(HOUR)
    wrong = deepcopy(world.items)
    change(wrong, next(iter(usage_of(wrong))), 3)
    wrong.remove(Table.LEDGER, marker_key("batch-1"))
    assert (looked(world, wrong).different, work_list(world).files, work_list(world).hours) == ((), {}, {})
    world = published(HOUR)
    spoil(world, HOUR)
    world.items.remove(Table.LEDGER, marker_key("batch-1"))
    found = looked(world, deepcopy(world.items)).different
    assert [each.between for check in found for each in check.differences] == ["markers/rows", "usage/rows"]


@pytest.fixture
def world() -> World:
    return published(HOUR)


@pytest.mark.parametrize("change", ["lost", "other totals"])
def test_a_batch_whose_marker_does_not_say_what_its_rows_do_is_named(world: World, change: str) -> None:
    key = marker_key("batch-1")
    if change == "lost":
        world.items.remove(Table.LEDGER, key)
    else:
        world.items.update(Update(table=Table.LEDGER, key=key, set={"hours": {"2026-11-24T13": [2, 11]}}))
    [check] = quick(world).different
    assert [difference.batch_id for difference in check.differences] == ["batch-1"]
    assert world.alerts.sent[-1].fields["key"] == "batch batch-1"
    assert len(work_list(world).files) == 1
    if change == "lost":
        world.jobs.rebuilder.markers()
    else:
        world.items.update(Update(table=Table.LEDGER, key=key, set={"hours": {"2026-11-24T13": [2, 12]}}))
    assert quick(world).left == 0


def test_markers_that_may_have_expired_are_not_missed(world: World) -> None:
    world.clock.advance_s(60 * DAY_S)
    for batch in range(2):
        world.items.remove(Table.LEDGER, marker_key(f"batch-{batch}"))
    assert quick(world).different == ()


def test_rows_that_are_not_what_the_ledger_says_are_told(world: World) -> None:
    [file] = world.files(HOUR)
    other = published(HOUR, batches=1)
    body = other.objects.get(other.files(HOUR)[0].key)
    world.objects.remove(file.key)
    world.objects.put(file.key, body, if_absent=True)
    assert {check.hour_s for check in quick(world).different} == {HOUR}


def test_what_there_was_no_time_for_stays_on_the_list_for_the_next_pass() -> None:
    world = published(HOUR, OLD_HOUR)
    assert quick(world, time_s=60).left == 4
    assert quick(world).left == 0


def test_a_pass_that_dies_at_any_call_leaves_the_work_to_the_next_one() -> None:
    def spoilt_world() -> World:
        world = published(HOUR, OLD_HOUR)
        spoil(world, HOUR)
        return world

    for world in dying(spoilt_world, quick, least=20, step=5):
        assert [check.hour_s for check in quick(world).different] == [HOUR]


def test_all_is_read_when_that_is_due_and_what_was_published_between(world: World) -> None:
    assert tick(world).scanned
    world.clock.advance_s(15 * MINUTE_S)
    world.send([record(9, start_s=OLD_HOUR)])
    world.compact_all()
    assert (result := tick(world)).hours == 1
    assert not result.scanned
    assert reconciliation(world) == Reconciliation(
        finished_s=NOW_S + 15 * MINUTE_S, hours=1, differences=0, scan_due_s=NOW_S + DAY_S,
        day_s=NOW_S - NOW_S % DAY_S, batches=1, records=1,
    )  # fmt: skip
    world.clock.advance_s(DAY_S)
    assert tick(world).scanned


def test_where_all_is_read_once_a_day_a_source_that_sends_each_hour_is_never_silent() -> None:
    """Run prod's settings for three days; the watch publishes the figure each minute."""
    world = World(scan_every_s=DAY_S)
    silent = set()
    scans = 0
    for minute in range(0, 3 * 24 * 60, 15):
        if minute % 60 == 0:
            world.send([record(1, start_s=NOW_S + minute * MINUTE_S)], source="edge")
        scans += tick(world).scanned
        for _ in range(15):
            world.clock.advance_s(MINUTE_S)
            silent.add(world.jobs.source_keeper.figures().silent)
    assert scans == 3
    assert silent == {0}
    for _ in range(2):
        world.clock.advance_s(DAY_S)
        assert tick(world).scanned
    assert world.jobs.source_keeper.figures().silent == 1


def test_what_there_is_no_time_for_has_an_age_and_keeps_the_pass_from_having_finished() -> None:
    world = published(HOUR, OLD_HOUR)
    assert tick(world).scanned
    finished_s = reconciliation(world).finished_s
    world.clock.advance_s(15 * MINUTE_S)
    world.send([record(9, start_s=OLD_HOUR)], [record(9, start_s=HOUR)])
    world.compact_all()
    listed_s = world.clock.now_ms() // 1000
    for _ in range(3):
        world.jobs.reconcile_tick.run(world.deadline(60))
        assert reconciliation(world).finished_s == finished_s
        assert reconciliation(world).backlog == Backlog(waiting=4, since_s=listed_s)
        world.clock.advance_s(15 * MINUTE_S)
    tick(world)
    assert reconciliation(world).finished_s == listed_s + 45 * MINUTE_S
    assert reconciliation(world).backlog == Backlog()


def test_the_newest_hour_is_compared_first_and_nothing_waits_for_ever() -> None:
    """Half of the time is reserved for the hours that wait longest, so that newer hours do not starve them."""
    hours = [HOUR - 2 * HOUR_S - n * DAY_S for n in range(9)]
    world = published(*hours)
    world.items.on_call = lambda _call: world.clock.advance_s(9)
    result = quick(world)
    left = work_list(world).hours
    compared = [hour_s for hour_s in hours if hour_s not in left]
    assert result.skipped >= len(left)
    assert compared[0] == hours[0]
    assert compared[-1] == hours[-1]
    assert 2 <= len(compared) < len(hours)


def test_an_hour_that_is_not_over_comes_last() -> None:
    """Comparing the current hour is useless, because the hour changes continuously."""
    world = published(HOUR, OLD_HOUR)
    newest, _ = world.jobs.reconcile_tick.checker._days({HOUR: 1, HOUR - 2 * HOUR_S: 1, OLD_HOUR: 1})
    assert newest == [(HOUR - 2 * HOUR_S,), (OLD_HOUR,), (HOUR,)]


def test_the_hours_of_a_day_are_read_together_one_query_an_account_and_one_for_the_region() -> None:
    hours = [OLD_HOUR - OLD_HOUR % DAY_S + n * HOUR_S for n in range(10)]
    world = published(*hours)
    quick(world)
    for hour_s in hours:
        world.send([record(3, start_s=hour_s, account=f"{n:012d}") for n in range(7)])
    world.compact_all()
    asked: list[str] = []
    query = world.items.query

    def noted(table: Table, pk: str, **bounds: Any) -> Iterator[Item]:
        asked.append(f"{table.value}/{pk}")
        return query(table, pk, **bounds)

    world.items.query = noted  # type: ignore[method-assign]  # a store that is watched
    assert quick(world).hours == 10
    assert sum(each.startswith("usage/A#") for each in asked) == 8
    assert sum(each.startswith("usage/G#") for each in asked) == 1


def test_an_hour_that_keeps_changing_waits_and_one_that_differs_does_not() -> None:
    world = published(HOUR, OLD_HOUR)
    assert tick(world).scanned
    world.clock.advance_s(15 * MINUTE_S)
    world.send([record(9, start_s=OLD_HOUR)])
    world.compact_all()
    spoil(world, OLD_HOUR)
    result = quick(world)
    assert (result.left, len(result.different), result.backlog) == (1, 1, Backlog())


def test_a_work_list_of_before_its_entries_had_a_moment_is_made_anew_by_reading_everything(world: World) -> None:
    world.jobs.reconcile_tick.checker.run(world.deadline(60))
    new = work_list(world)
    assert WorkList.from_item(new.to_item()) == new
    old: dict[str, Value] = {**new.to_item(), "hours": ["2026-11-24T13"]}
    del old["waiting"]
    world.items.put(Put(table=Table.LEDGER, item=old))
    assert tick(world).scanned
    assert work_list(world).runs == new.runs


def test_what_sources_miss_is_remembered_through_quick_passes(world: World) -> None:
    world._sent = 7
    world.send([record(1)], source="edge")
    for _ in range(2):
        assert tick(world).scanned
        world.clock.advance_s(DAY_S)
    since_s = reconciliation(world).gaps_since_s
    assert since_s == NOW_S
    world.clock.advance_s(15 * MINUTE_S - DAY_S)
    assert not tick(world).scanned
    assert reconciliation(world).gaps_since_s == since_s


def slow_scans(world: World, *, seconds: int) -> None:
    """Let the scan of each table part take `seconds`."""
    scan = world.items.scan

    def slow(table: Table, *, part: int = 0, parts: int = 1, prefixes: Sequence[str] = ()) -> Iterator[Item]:
        world.clock.advance_s(seconds)
        yield from scan(table, part=part, parts=parts)

    world.items.scan = slow  # type: ignore[method-assign]  # a store that grew


def test_a_scan_that_takes_many_ticks_comes_to_its_end_and_quick_passes_go_on_meanwhile() -> None:
    world = published(HOUR, OLD_HOUR)
    spoil(world, OLD_HOUR)
    lost = next(entry for entry in usage_of(world.items) if entry.key.hour_s == HOUR)
    change(world.items, elsewhere(lost, hour_s=HOUR - 9 * DAY_S), 4, 1)
    slow_scans(world, seconds=100)
    ticks = [tick(world)]
    assert world.objects.keys("audit/")
    while not ticks[-1].scanned:
        assert reconciliation(world).scan_due_s is None
        # Another process goes on.
        world.jobs = world.make_jobs()
        ticks.append(tick(world))
    assert 3 < len(ticks) < 12
    assert ticks[0].hours == 2, "a quick pass compared what was published"
    assert ticks[-1].hours == 3
    assert ticks[-1].different == 2
    assert reconciliation(world).scan_due_s == world.clock.now_ms() // 1_000 + DAY_S
    assert work_list(world).scan_tries == 0
    assert not tick(world).scanned


def test_a_scan_in_parts_finds_what_one_in_one_go_finds() -> None:
    results = []
    for seconds in (0, 130):
        world = published(HOUR, OLD_HOUR)
        spoil(world, OLD_HOUR)
        world.items.remove(Table.LEDGER, marker_key("batch-0"))
        slow_scans(world, seconds=seconds)
        while not (result := tick(world)).scanned:
            pass
        results.append((result.hours, result.different, result.left, sorted(work_list(world).hours)))
    assert results[0] == results[1]


def test_a_table_whose_first_part_takes_too_long_is_divided_into_more(world: World) -> None:
    size = {"parts": 0}
    scan = world.items.scan

    def slow(table: Table, *, part: int = 0, parts: int = 1, prefixes: Sequence[str] = ()) -> Iterator[Item]:
        size["parts"] = parts
        world.clock.advance_s(8_000 // parts)
        yield from scan(table, part=part, parts=parts)

    world.items.scan = slow  # type: ignore[method-assign]  # a store that grew
    assert not tick(world).scanned
    tick(world)
    assert size["parts"] == 128


def test_a_scan_that_dies_before_it_is_saved_is_not_begun_in_every_tick(world: World) -> None:
    scan, deaths = world.items.scan, 0

    def dying(table: Table, *, part: int = 0, parts: int = 1, prefixes: Sequence[str] = ()) -> Iterator[Item]:
        nonlocal deaths
        deaths += 1
        raise KeyboardInterrupt
        yield from scan(table, part=part, parts=parts)

    world.items.scan = dying  # type: ignore[method-assign]  # a process without memory
    for _ in range(6):
        with suppress(KeyboardInterrupt):
            tick(world)
    assert deaths == 3
    assert reconciliation(world).hours == 0
    assert reconciliation(world).finished_s


def test_what_is_published_while_a_scan_goes_on_stays_on_the_list(world: World) -> None:
    slow_scans(world, seconds=100)
    assert not tick(world).scanned
    world.clock.advance_s(60)
    world.send([record(9, start_s=OLD_HOUR)])
    world.compact_all()
    spoil(world, OLD_HOUR)
    while not (result := tick(world)).scanned:
        pass
    assert work_list(world).hours.keys() == {OLD_HOUR}
    assert result.left == 0


def reconciliation(world: World) -> Reconciliation:
    item = world.items.peek(Table.LEDGER, RECONCILIATION_KEY)
    assert item is not None
    return Reconciliation.from_item(item)


STRANGER = "999999999999"


def scanned_before() -> World:
    """A region with a published hour of today and an old published hour, after a scan without differences."""
    world = published(HOUR, OLD_HOUR)
    assert tick(world).different == 0
    return world


def scan(world: World) -> TickResult:
    world.clock.advance_s(DAY_S)
    while not (result := tick(world)).scanned:
        pass
    return result


def quick_tick(world: World) -> TickResult:
    world.clock.advance_s(15 * MINUTE_S)
    result = tick(world)
    assert not result.scanned
    return result


def marker_of(world: World) -> Item:
    item = world.items.peek(Table.LEDGER, marker_key("batch-3"))
    assert item is not None
    return dict(item)


def lost_marker(world: World) -> Callable[[], object]:
    item = marker_of(world)
    world.items.remove(Table.LEDGER, marker_key("batch-3"))
    return lambda: world.items.put(Put(table=Table.LEDGER, item=item))


def marker_without_rows(world: World) -> Callable[[], object]:
    key = marker_key("batch-without-rows")
    world.items.put(Put(table=Table.LEDGER, item={**marker_of(world), **key._asdict()}))
    return lambda: world.items.remove(Table.LEDGER, key)


def usage_without_rows(world: World) -> Callable[[], object]:
    entry = next(entry for entry in usage_of(world.items) if entry.key.hour_s == OLD_HOUR)
    stranger = elsewhere(entry, account_id=STRANGER)
    change(world.items, stranger, 4, 1)
    return lambda: change(world.items, stranger, -4, -1)


def wrong_usage(world: World) -> Callable[[], object]:
    spoil(world, OLD_HOUR)
    return lambda: spoil(world, OLD_HOUR, -1)


@pytest.mark.parametrize("damage", [wrong_usage, lost_marker, marker_without_rows, usage_without_rows])
def test_what_a_scan_finds_is_told_by_each_quick_pass_until_it_is_mended(
    damage: Callable[[World], Callable[[], object]],
) -> None:
    world = scanned_before()
    mend = damage(world)
    assert quick_tick(world).different == 0, "only a scan meets it"
    assert scan(world).different == 1
    for _ in range(3):
        world.alerts.sent.clear()
        assert quick_tick(world).different == 1
        assert [alert.fields["hour"] for alert in world.alerts.sent] == [rfc3339(OLD_HOUR)]
        assert reconciliation(world).differences == 1
        assert work_list(world).hours.keys() == work_list(world).suspects.keys() == {OLD_HOUR}
    mend()
    assert quick_tick(world).different == 0
    assert not work_list(world).hours
    assert not work_list(world).suspects
    assert reconciliation(world).differences == 0


def test_the_list_names_what_differs_and_nothing_else_of_the_hour() -> None:
    world = scanned_before()
    lost_marker(world)
    usage_without_rows(world)
    assert scan(world).different == 1
    assert work_list(world).suspects == {
        OLD_HOUR: Suspects(accounts=frozenset([STRANGER]), batches=frozenset(["batch-3"]))
    }


@pytest.mark.parametrize("damage", [lost_marker, marker_without_rows, usage_without_rows])
def test_what_nobody_had_time_to_look_at_is_told_and_waits_until_the_next_scan(
    damage: Callable[[World], Callable[[], object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = scanned_before()
    mend = damage(world)
    reconciler = type(world.jobs.reconciler)
    looks = reconciler._first_looks

    def none(*_args: object) -> None:
        raise ScanTooLongError

    monkeypatch.setattr(reconciler, "_first_looks", none)
    world.alerts.sent.clear()
    result = scan(world)
    since_s = world.clock.now_ms() // 1_000
    assert (result.different, result.left) == (0, 1)
    assert [(alert.severity, alert.fields["hours"]) for alert in world.alerts.sent] == [("ticket", 1)]
    for _ in range(3):
        quick_tick(world)
        assert work_list(world).unjudged == {OLD_HOUR: since_s}
        assert reconciliation(world).backlog == Backlog(waiting=1, since_s=since_s), "the age of which is an alarm"
    scan(world)
    assert work_list(world).unjudged == {OLD_HOUR: since_s}, "it waits since it was found first"
    monkeypatch.setattr(reconciler, "_first_looks", looks)
    mend()
    assert scan(world).different == 0
    assert not work_list(world).unjudged
    assert reconciliation(world).backlog == Backlog()


def test_names_beyond_the_room_of_the_list_wait_for_the_next_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metering.audit.reconciler_tick._NAMES", 1)
    world = scanned_before()
    usage_without_rows(world)
    entry = next(entry for entry in usage_of(world.items) if entry.key.hour_s == HOUR)
    change(world.items, elsewhere(entry, account_id=STRANGER), 4, 1)
    assert scan(world).different == 2
    assert len(work_list(world).suspects) == len(work_list(world).unjudged) == 1
    assert work_list(world).hours.keys() == {HOUR, OLD_HOUR}


def test_runs_that_the_list_has_no_room_for_wait_since_they_were_published(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incremental, "_MOST_FILES", 3)
    world = scanned_before()
    for day in range(1, 7):
        world.send([record(9, start_s=OLD_HOUR + day * DAY_S)])
        world.compact_all()
        world.clock.advance_s(MINUTE_S)
    listed_s = world.clock.now_ms() // 1_000
    world.jobs.reconcile_tick.run(world.deadline(60))
    backlog = reconciliation(world).backlog
    assert len(work_list(world).files) == 3
    assert backlog.waiting == 3 + len(work_list(world).hours) + 3
    assert backlog.since_s == NOW_S + 3 * MINUTE_S
    assert backlog.since_s < listed_s


def judged(world: World) -> ReconciliationResult:
    """Run a scan during which a batch of an old hour arrives; check the calls that decide about the difference."""
    reconciler = world.jobs.reconciler
    state = reconciler.begin(from_s=OLD_HOUR - HOUR_S, to_s=NOW_S + DAY_S)

    def beside(now: CensusState) -> None:
        """Send a batch after the rows of the old hour were counted, and before the usage of the old hour is read."""
        if (now.phase, now.done) == ("rows", 1):
            world.send([record(9, start_s=OLD_HOUR)])

    reconciler.census.go_on(state, tell=beside)
    assert state.unsettled.keys() == {OLD_HOUR}
    calls: list[str] = []
    world.items.on_call = world.objects.on_call = calls.append
    result = reconciler.judge(state, settle=False)
    assert set(calls) <= {"items.query"}, "no row and no table is read"
    assert len(calls) <= 1
    return result


def test_usage_that_was_not_settled_is_left_to_the_quick_passes_and_nothing_is_read_for_it() -> None:
    result = judged(scanned_before())
    assert (result.different, result.unstable, result.unjudged) == ((), (), frozenset())


def test_usage_that_no_run_can_have_booked_stays_on_the_list() -> None:
    world = scanned_before()
    entry = next(entry for entry in usage_of(world.items) if entry.key.hour_s == OLD_HOUR)
    world.items.update(Update(table=Table.USAGE, key=entry.item_key, set={newest_run_of(0): 10**9}))
    assert (scan(world).left, quick_tick(world).left) == (1, 1)
    assert work_list(world).hours.keys() == {OLD_HOUR}
