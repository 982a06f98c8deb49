"""What only a scan finds stays an alarm: each quick pass looks at its names, until they agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from metering.audit import incremental
from metering.audit.settling import ScanTooLongError
from metering.hours import rfc3339
from metering.ledger.markers import marker_key
from metering.ledger.notes.reconciliation import RECONCILIATION_KEY, Backlog, Reconciliation, Suspects, WorkList
from metering.ledger.usage.items import newest_run_of
from metering.stores.writes import Item, Put, Table, Update
from metering.units import DAY_S, HOUR_S, MINUTE_S
from tests.support.lake_world import HOUR, NOW_S, World, record
from tests.support.usage_items import change, elsewhere, usage_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from metering.audit.census_state import CensusState
    from metering.audit.reconciler import ReconciliationResult
    from metering.audit.reconciler_tick import TickResult

OLD_HOUR = HOUR - 20 * DAY_S
STRANGER = "999999999999"


def published() -> World:
    """A region where a run has published an hour of today and an old one, and a scan found all equal."""
    world = World(scan_every_s=DAY_S)
    for hour_s in (HOUR, OLD_HOUR):
        world.send(*[[record(5, start_s=hour_s), record(7, start_s=hour_s)] for _ in range(2)], source="edge")
    world.compact_all()
    assert tick(world).different == 0
    return world


def tick(world: World) -> TickResult:
    return world.jobs.reconcile_tick.run(world.deadline())


def scan(world: World) -> TickResult:
    world.clock.advance_s(DAY_S)
    while not (result := tick(world)).scanned:
        pass
    return result


def quick(world: World) -> TickResult:
    world.clock.advance_s(15 * MINUTE_S)
    result = tick(world)
    assert not result.scanned
    return result


def work_list(world: World) -> WorkList:
    return world.jobs.reconcile_tick.checker.work_list()


def reconciliation(world: World) -> Reconciliation:
    item = world.items.peek(Table.LEDGER, RECONCILIATION_KEY)
    assert item is not None
    return Reconciliation.from_item(item)


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


@pytest.mark.parametrize("damage", [lost_marker, marker_without_rows, usage_without_rows])
def test_what_a_scan_finds_is_told_by_each_quick_pass_until_it_is_mended(
    damage: Callable[[World], Callable[[], object]],
) -> None:
    world = published()
    mend = damage(world)
    assert quick(world).different == 0, "only a scan meets it"
    assert scan(world).different == 1
    for _ in range(3):
        world.alerts.sent.clear()
        assert quick(world).different == 1
        assert [alert.fields["hour"] for alert in world.alerts.sent] == [rfc3339(OLD_HOUR)]
        assert reconciliation(world).differences == 1
        assert work_list(world).hours.keys() == work_list(world).suspects.keys() == {OLD_HOUR}
    mend()
    assert quick(world).different == 0
    assert not work_list(world).hours
    assert not work_list(world).suspects
    assert reconciliation(world).differences == 0


def test_the_list_names_what_differs_and_nothing_else_of_the_hour() -> None:
    world = published()
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
    world = published()
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
        quick(world)
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
    world = published()
    usage_without_rows(world)
    entry = next(entry for entry in usage_of(world.items) if entry.key.hour_s == HOUR)
    change(world.items, elsewhere(entry, account_id=STRANGER), 4, 1)
    assert scan(world).different == 2
    assert len(work_list(world).suspects) == len(work_list(world).unjudged) == 1
    assert work_list(world).hours.keys() == {HOUR, OLD_HOUR}


def test_runs_that_the_list_has_no_room_for_wait_since_they_were_published(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incremental, "_MOST_FILES", 3)
    world = published()
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
    """A scan beside which a batch of an old hour comes, with the calls that a look at what differs takes."""
    reconciler = world.jobs.reconciler
    state = reconciler.begin(from_s=OLD_HOUR - HOUR_S, to_s=NOW_S + DAY_S)

    def beside(now: CensusState) -> None:
        """The rows of the old hour are counted: what comes now is in the usage that is read later."""
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
    result = judged(published())
    assert (result.different, result.unstable, result.unjudged) == ((), (), frozenset())


def test_usage_that_no_run_can_have_booked_stays_on_the_list() -> None:
    world = published()
    entry = next(entry for entry in usage_of(world.items) if entry.key.hour_s == OLD_HOUR)
    world.items.update(Update(table=Table.USAGE, key=entry.item_key, set={newest_run_of(0): 10**9}))
    assert (scan(world).left, quick(world).left) == (1, 1)
    assert work_list(world).hours.keys() == {OLD_HOUR}
