"""A closed month never changes; later usage becomes a correction in the open month (I6)."""

from __future__ import annotations

from functools import partial
from itertools import count

import pytest

from metering.audit.census_state import CensusState, HourStep, census_bytes, census_of
from metering.billing.freezing import PeriodNotClosableError
from metering.hours import month_bounds_s
from metering.ledger.commits import SHARDS_KEY, waiting_commits
from metering.ledger.usage.items import newest_run_of
from metering.stores.writes import Table, Update
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Total
from tests.support.lake_world import World, dying, record
from tests.support.usage_items import change, usage_of
from tests.unit.billing import test_freezing

MONTH = "2026-10"
FIRST_S, AFTER_S = month_bounds_s(MONTH)


def world_with_october() -> World:
    world = World(now_s=AFTER_S - HOUR_S)
    world.send([record(5, start_s=AFTER_S - HOUR_S), record(7, start_s=FIRST_S)], [record(2**62, start_s=FIRST_S)])
    world.clock.advance_s(4 * DAY_S)
    world.send([record(11, start_s=AFTER_S - 60), record(13, start_s=AFTER_S + 60)])
    return world


def state(world: World) -> str:
    period = world.jobs.closer.show(MONTH)
    return "" if period is None else period.state


def close(world: World) -> Total:
    return world.jobs.closer.close(MONTH, world.deadline()).total


def test_a_month_is_closed_with_its_exact_totals() -> None:
    world = world_with_october()
    closed = world.jobs.closer.close(MONTH, world.deadline())
    assert closed.total == Total(5 + 7 + 2**62 + 11, 4)
    assert world.frozen_usage(MONTH) == {key: total for key, total in world.usage().items() if key.hour_s < AFTER_S}
    assert world.jobs.closer.frozen(MONTH) == closed
    assert world.jobs.closer.close(MONTH, world.deadline()) == closed
    assert world.jobs.closer.verify(MONTH) == []


def test_a_late_batch_is_a_correction_and_the_closed_month_is_unchanged() -> None:
    world = world_with_october()
    world.jobs.closer.close(MONTH, world.deadline())
    files = world.objects.keys("lake/dt=2026-10")
    world.send([record(17, start_s=FIRST_S + 5), record(19, start_s=AFTER_S + 100)])
    world.compact_all()
    assert world.objects.keys("lake/dt=2026-10") == files
    assert world.jobs.closer.verify(MONTH) == []
    october = {key: total for key, total in world.usage().items() if key.hour_s < AFTER_S}
    assert october == world.frozen_usage(MONTH)
    [(key, total)] = [(key, total) for key, total in world.usage().items() if key.corrects_s is not None]
    assert (key.corrects_s, total) == (FIRST_S, Total(17, 1))
    assert key.hour_s >= AFTER_S
    assert world.visible() == world.usage()
    checks = world.jobs.reconciler.check(from_s=0, to_s=AFTER_S + 30 * DAY_S, deep=True).checks
    assert all(check.agrees for check in checks)


def test_a_month_is_closed_three_days_after_its_end_at_the_earliest() -> None:
    world = World(now_s=AFTER_S + 3 * DAY_S - 1)
    with pytest.raises(PeriodNotClosableError, match="2026-11-04T00:00:00Z"):
        world.jobs.closer.close(MONTH, world.deadline())
    assert world.jobs.closer.show(MONTH) is None


def test_a_month_whose_totals_differ_is_not_closed_and_pages() -> None:
    world = world_with_october()
    entry = usage_of(world.items, "2026-10")[0]
    change(world.items, entry, 1)
    with pytest.raises(PeriodNotClosableError, match="differ"):
        world.jobs.closer.close(MONTH, world.deadline())
    assert world.alerts.sent[-1].severity == "page"
    assert state(world) == "closing"
    change(world.items, entry, -1)
    assert world.jobs.closer.close(MONTH, world.deadline()).total.records == 4


def world_of_four_shards() -> World:
    """A stage with four shards, and eight hours of a past month; nothing is compacted."""
    world = World(now_s=AFTER_S - HOUR_S, shards=4)
    for number in range(8):
        world.send([record(1_000 + number, start_s=FIRST_S + number * HOUR_S)])
    world.clock.advance_s(4 * DAY_S)
    assert {str(item["pk"]) for item in world.items.scan(Table.LEDGER) if str(item["pk"])[:2] == "P#"} > {"P#0"}
    return world


def as_one_shard(world: World) -> World:
    """A process that assumes one shard, as commands once assumed."""
    world.settings = world.settings.model_copy(update={"shards": 1})
    world.jobs = world.make_jobs()
    return world


def test_a_month_of_several_shards_is_frozen_whole_also_after_they_were_lowered() -> None:
    assert close(world_of_four_shards()) == Total(8_028, 8)
    world = as_one_shard(world_of_four_shards())
    assert close(world) == Total(8_028, 8)
    assert world.jobs.closer.verify(MONTH) == []


def test_hours_that_only_usage_and_markers_know_stop_the_close() -> None:
    world = as_one_shard(world_of_four_shards())
    # Nothing shows that there were more shards before.
    world.items.remove(Table.LEDGER, SHARDS_KEY)
    # Items with runs of an unknown shard never settle.
    with pytest.raises(PeriodNotClosableError, match="6 hours did not settle"):
        world.jobs.closer.close(MONTH, world.deadline())
    assert not world.objects.keys("closed/")
    assert state(world) == "closing"


def test_closing_goes_on_after_it_died_at_any_call() -> None:
    for world in dying(world_with_october, close, least=50, step=7):
        assert close(world) == Total(5 + 7 + 2**62 + 11, 4)
        assert world.jobs.closer.verify(MONTH) == []


def test_verify_names_a_changed_file_and_an_added_one() -> None:
    world = world_with_october()
    closed = world.jobs.closer.close(MONTH, world.deadline())
    first, second = (file.key for hour in closed.hours for file in hour.files)
    body = world.objects.get(second)
    world.objects.put(first.replace("/0-0", "/9-0"), body, if_absent=True)
    world.objects.remove(second)
    problems = world.jobs.closer.verify(MONTH)
    assert any("was added" in problem for problem in problems)
    assert f"2026-10-31T23:00:00Z: there is no object {second}" in problems
    with pytest.raises(PeriodNotClosableError):
        world.jobs.closer.verify("2026-09")


def test_verify_goes_on_after_a_damaged_file_and_names_it() -> None:
    world = world_with_october()
    closed = world.jobs.closer.close(MONTH, world.deadline())
    first, second = (file.key for hour in closed.hours for file in hour.files)
    body = world.objects.get(first)
    world.objects.put(first, body[: len(body) // 2], if_absent=False)
    world.objects.put(second, body, if_absent=False)
    damaged, *others = world.jobs.closer.verify(MONTH)
    assert damaged.startswith(f"2026-10-01T00:00:00Z: {first} is damaged: ")
    assert others
    assert all(problem.startswith("2026-10-31T23:00:00Z: ") and "the frozen month" in problem for problem in others)


# A close concurrent with everything else: waiting commits, races and resumption (docs/protocol.md, P33 to P36).
MORE = Total(5 + 7 + 2**62 + 11 + 103, 6)


def with_waiting(world: World) -> World:
    """Send usage before the close, without a roll-up, so that the commit waits."""
    world.send([record(100, start_s=FIRST_S + 60), record(3, start_s=AFTER_S - 60)], rolled_up=False)
    return world


def test_a_close_rolls_up_and_compacts_what_waits() -> None:
    world = world_with_october()
    world.compact_all()
    with_waiting(world)
    assert list(waiting_commits(world.items, 1))
    assert close(world) == MORE
    assert not list(waiting_commits(world.items, 1))


def test_a_close_is_exact_while_another_process_rolls_up_and_compacts_at_any_of_its_calls() -> None:
    for number in count(0, 23):
        world = with_waiting(world_with_october())
        other, calls = world.make_jobs(), 0

        def at(_call: str) -> None:
            nonlocal calls
            calls += 1
            if calls == number + 1:  # noqa: B023 - called at once
                world.items.on_call = lambda _call: None  # noqa: B023
                other.rollup.run(world.deadline())  # noqa: B023
                other.compactor_of(other.policy.everything()).run(world.deadline())  # noqa: B023

        world.items.on_call = at
        assert close(world) == MORE, number
        assert world.jobs.closer.verify(MONTH) == []
        if calls <= number:
            break


def test_a_close_beside_a_run_of_the_roll_up_that_died_at_any_call_freezes_everything_once() -> None:
    for world in dying(lambda: with_waiting(world_with_october()), World.roll_up, step=3):
        assert close(world) == MORE


def test_two_closes_that_race_freeze_the_same() -> None:
    for number in count(0, 13):
        world = with_waiting(world_with_october())
        other = world.make_jobs().closer
        first = partial(world.jobs.closer.close, MONTH, world.deadline())
        died = world.dies_after(number, first)
        theirs = other.close(MONTH, world.deadline())
        ours = first()
        assert theirs == ours
        assert ours.total == MORE
        if not died:
            break


def test_a_close_ends_although_commits_of_other_months_never_stop() -> None:
    """No new commit books into the month (P33), so the close waits only for commits that exist already."""
    world = with_waiting(world_with_october())
    came = busy = 0

    def come(call: str) -> None:
        nonlocal came, busy
        # Before each transaction that places a commit, another commit arrives. The limit ends the test if it fails.
        if call == "items.transact" and not busy and came < 50:
            came, busy = came + 1, 1
            world.send([record(1, start_s=AFTER_S + 60)], rolled_up=False)
            busy = 0

    world.items.on_call = come
    assert close(world) == MORE
    assert 0 < came < 10
    assert list(waiting_commits(world.items, 1))


def counted_in(world: World) -> CensusState:
    """The finished count of a close that was killed during its check."""
    kept: list[bytes] = []

    def keep(state: CensusState) -> None:
        kept.append(census_bytes(state))

    def stop(step: HourStep) -> None:
        if step.doing == "frozen":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        world.jobs.closer.close(MONTH, world.deadline(), stop, keep=keep)
    counted = census_of(kept[-1], world.items)
    assert counted is not None
    return counted


def test_a_close_goes_on_with_what_the_check_of_another_process_counted() -> None:
    world = with_waiting(world_with_october())
    counted = counted_in(world)
    scans: list[str] = []
    world.items.on_call = scans.append
    assert world.jobs.closer.close(MONTH, world.deadline(), counted=counted).total == MORE
    assert "items.scan" not in scans
    assert world.jobs.closer.verify(MONTH) == []


def test_an_hour_that_does_not_settle_is_not_frozen() -> None:
    world = test_freezing.world_with_october()
    [entry, *_] = usage_of(world.items, MONTH)
    world.items.update(Update(table=Table.USAGE, key=entry.item_key, set={newest_run_of(0): 10**9}))
    with pytest.raises(PeriodNotClosableError, match="1 hours did not settle"):
        world.jobs.closer.close(MONTH, world.deadline())
    assert world.jobs.closer.frozen(MONTH) is None


def test_what_another_scan_counted_is_refused() -> None:
    world = world_with_october()
    begin = partial(world.jobs.reconciler.begin, deep=True, sources=False)
    without_digests = begin(from_s=FIRST_S, to_s=AFTER_S)
    other_month = begin(from_s=FIRST_S - DAY_S, to_s=AFTER_S)
    other_month.digests = True
    for counted in (without_digests, other_month):
        with pytest.raises(ValueError, match="another scan"):
            world.jobs.closer.close(MONTH, world.deadline(), counted=counted)


def test_rows_that_changed_after_another_process_counted_them_are_not_frozen() -> None:
    world = test_freezing.world_with_october()
    counted = counted_in(world)
    world.objects.delete(world.objects.keys("closed/"))
    _, closer = test_freezing.shifted_closer(world)
    with pytest.raises(PeriodNotClosableError, match="not those that usage and markers were compared with"):
        closer.close(MONTH, world.deadline(), counted=counted)
    assert world.alerts.sent[-1].severity == "page"
    assert world.jobs.closer.frozen(MONTH) is None


def test_a_close_that_may_not_roll_up_in_time_freezes_nothing() -> None:
    world = with_waiting(world_with_october())
    with pytest.raises(PeriodNotClosableError, match="needs more time"):
        world.jobs.closer.close(MONTH, world.deadline(5))
    assert not world.objects.keys("closed/")
    assert list(waiting_commits(world.items, 1))
    assert close(world) == MORE
