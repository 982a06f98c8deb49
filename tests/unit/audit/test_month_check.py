"""The check before a close agrees where the reconciler does, hour by hour, and doubts everything else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.audit.census_state import SEGMENTS, CensusState, census_bytes, census_of
from metering.audit.reconciler import MonthCheck, MonthChecked
from metering.audit.settling import Fingerprint, fingerprint
from metering.hours import month_bounds_s
from metering.ledger.markers import Marker, marker_key
from metering.stores.writes import Put, Table, Update
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Total
from tests.support.lake_world import ACCOUNT, World, record
from tests.support.usage_items import change, elsewhere, usage_of

MONTH = "2026-10"
FIRST_S, AFTER_S = month_bounds_s(MONTH)
OTHER = "999999999999"

entries = st.dictionaries(
    st.text(max_size=3), st.builds(Total, st.integers(-(2**70), 2**70), st.integers(-9, 2**40)), max_size=6
)


def world_with_october() -> World:
    world = World(now_s=AFTER_S - HOUR_S)
    world.send([record(5, start_s=AFTER_S - HOUR_S), record(7, start_s=FIRST_S)])
    world.send([record(9, start_s=FIRST_S), record(2**62, start_s=FIRST_S, account=OTHER)])
    world.clock.advance_s(4 * DAY_S)
    world.compact_all()
    return world


def checked(world: World) -> MonthChecked:
    return MonthCheck(reconciler=world.jobs.reconciler, from_s=FIRST_S, to_s=AFTER_S).run()


class StoppedError(Exception):
    """The process died."""


def test_a_check_that_died_after_any_part_goes_on_there_with_what_was_saved() -> None:
    world, parts = world_with_october(), 0
    whole = checked(world)
    while True:
        saved: list[bytes] = []

        def keep(state: CensusState, saved: list[bytes] = saved, last: int = parts) -> None:
            saved.append(census_bytes(state))
            if len(saved) > last:
                raise StoppedError

        check = MonthCheck(reconciler=world.jobs.reconciler, from_s=FIRST_S, to_s=AFTER_S)
        try:
            check.run(keep=keep)
        except StoppedError:
            counted = census_of(saved[-1], world.items)
        else:
            break
        assert counted is not None
        rest: list[CensusState] = []
        found = check.run(counted=counted, keep=rest.append)
        assert (found.agreeing, found.doubtful) == (whole.agreeing, whole.doubtful)
        # What was counted before is not counted again: the parts of two tables, and two hours.
        assert len(saved) + len(rest) == 2 * SEGMENTS + 2
        parts += 1
    assert parts == 2 * SEGMENTS + 2


def test_what_another_scan_counted_is_refused() -> None:
    world = world_with_october()
    check = MonthCheck(reconciler=world.jobs.reconciler, from_s=FIRST_S, to_s=AFTER_S)
    without_digests = world.jobs.reconciler.begin(from_s=FIRST_S, to_s=AFTER_S, deep=True, sources=False)
    other_month = world.jobs.reconciler.begin(from_s=FIRST_S - DAY_S, to_s=AFTER_S, deep=True, sources=False)
    other_month.digests = True
    for state in (without_digests, other_month):
        with pytest.raises(ValueError, match="another scan"):
            check.run(counted=state)


def test_hours_that_agree_are_checked_as_the_reconciler_checks_them() -> None:
    world = world_with_october()
    found = checked(world)
    expected = world.jobs.reconciler.check(from_s=FIRST_S, to_s=AFTER_S, deep=True)
    assert found.doubtful == ()
    agreeing = [found.agreeing[hour_s] for hour_s in sorted(found.agreeing)]
    assert tuple(replace(check, digest="") for check in agreeing) == expected.checks
    assert all(len(check.digest) == 64 for check in agreeing)


def test_a_byte_that_moved_from_one_key_to_another_is_doubted_although_the_hour_has_its_total() -> None:
    world = world_with_october()
    entries_of = {entry.key.account_id: entry for entry in usage_of(world.items, MONTH) if entry.key.hour_s == FIRST_S}
    change(world.items, entries_of[OTHER], 1)
    change(world.items, entries_of[ACCOUNT], -1)
    assert checked(world).doubtful == (FIRST_S,)
    assert set(checked(world).agreeing) == {AFTER_S - HOUR_S}


def test_a_byte_that_moved_from_one_batch_to_another_is_doubted() -> None:
    world = world_with_october()
    for batch_id, more in (("batch-0", 1), ("batch-1", -1)):
        item = world.items.peek(Table.LEDGER, marker_key(batch_id))
        assert item is not None
        marker = Marker.from_item(item)
        total = marker.hours[FIRST_S]
        hours = {**marker.hours, FIRST_S: Total(total.bytes + more, total.records)}
        fields = {name: getattr(marker, name) for name in Marker.__slots__}
        world.items.put(Put(table=Table.LEDGER, item=Marker(**{**fields, "hours": hours}).to_item()))
    assert checked(world).doubtful == (FIRST_S,)


def test_an_hour_that_only_usage_or_only_markers_know_is_doubted() -> None:
    world = world_with_october()
    entry = usage_of(world.items, MONTH)[0]
    change(world.items, elsewhere(entry, hour_s=FIRST_S + 5 * HOUR_S), 3, 1)
    assert checked(world).doubtful == (FIRST_S + 5 * HOUR_S,)
    for key in world.objects.keys("lake/dt=2026-10-31"):
        world.objects.remove(key)
    assert checked(world).doubtful == (FIRST_S + 5 * HOUR_S, AFTER_S - HOUR_S)


def test_items_that_cancel_out_are_no_hour_of_their_own() -> None:
    world = world_with_october()
    entry = usage_of(world.items, MONTH)[0]
    other = elsewhere(entry, hour_s=FIRST_S + 5 * HOUR_S)
    change(world.items, other, 3, 1)
    change(world.items, other, -3, -1)
    assert checked(world).doubtful == ()


def test_an_hour_in_which_a_run_books_while_it_is_read_is_doubted() -> None:
    """That run is not over: its rows are in no list yet (P37)."""
    world = world_with_october()
    entry = next(entry for entry in usage_of(world.items, MONTH) if entry.key.hour_s == FIRST_S)
    run = Update(table=Table.USAGE, key=entry.item_key, add={"v": 1}, set={"n0": max(entry.runs.values()) + 1})
    world.items.update(run)
    assert checked(world).doubtful == (FIRST_S,)
    assert set(checked(world).agreeing) == {AFTER_S - HOUR_S}


@given(entries, st.randoms(use_true_random=False))
def test_a_fingerprint_depends_on_neither_order_nor_parts(totals: dict[str, Total], chance: object) -> None:
    parts = [(key, Total(total.bytes, 0)) for key, total in totals.items()]
    parts += [(key, Total(0, total.records)) for key, total in totals.items()]
    chance.shuffle(parts)  # type: ignore[attr-defined]  # a Random
    assert fingerprint(parts) == fingerprint(totals.items())


@given(entries, entries)
def test_different_totals_have_different_fingerprints(one: dict[str, Total], other: dict[str, Total]) -> None:
    def counted(totals: dict[str, Total]) -> dict[str, Total]:
        return {key: total for key, total in totals.items() if total != Total(0, 0)}

    assert (fingerprint(one.items()) == fingerprint(other.items())) is (counted(one) == counted(other))
    assert (fingerprint(one.items()) == Fingerprint()) is not bool(counted(one))


def test_a_byte_that_moved_to_another_key_changes_a_fingerprint_although_the_sum_stays() -> None:
    one = fingerprint([("a", Total(2, 1)), ("b", Total(1, 1))])
    other = fingerprint([("a", Total(1, 1)), ("b", Total(2, 1))])
    assert one.total == other.total
    assert one != other
    assert fingerprint([("a", Total(2, 1))]) != fingerprint([("a", Total(1, 2))])
