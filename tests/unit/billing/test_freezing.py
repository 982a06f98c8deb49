"""A month is frozen hour by hour: each object is put once, with the compared rows, and the manifest is put last."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest

from metering.billing.freezing import NotClosable, PeriodNotClosableError
from metering.hours import month_bounds_s
from metering.lake.ports import CountedTotals, Group, LakeReader, RowQuery, in_order
from metering.lake.view import LakeView
from metering.ledger.periods import FrozenMonth, period_key
from metering.reports.query import UsageQuery
from metering.reports.source import report_rows
from metering.stores.objects import closed_accounts_key, closed_days_key, closed_hour_key, closed_month_key
from metering.stores.writes import Table
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Total, UsageKey
from tests.support.lake_world import World, dying, record
from tests.support.memory.rows import TotalsAlone

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from metering.billing.closer import PeriodCloser
    from metering.ledger.booked_hours import RowSource

MONTH = "2026-10"
FIRST_S, AFTER_S = month_bounds_s(MONTH)
OTHER = "999999999999"
# One object of each kind, in addition to the manifest.
OBJECTS = (closed_hour_key(MONTH, FIRST_S), closed_accounts_key(MONTH), closed_days_key(MONTH))


def world_with_october() -> World:
    world = World(now_s=AFTER_S - HOUR_S)
    world.send([record(5, start_s=AFTER_S - HOUR_S), record(7, start_s=FIRST_S)])
    world.send([record(2**62, start_s=FIRST_S, account=OTHER), record(2**62, start_s=FIRST_S + 60, account=OTHER)])
    world.clock.advance_s(4 * DAY_S)
    return world


def october(world: World) -> dict[UsageKey, Total]:
    return {key: total for key, total in world.usage().items() if key.hour_s < AFTER_S}


def close(world: World) -> FrozenMonth:
    return world.jobs.closer.close(MONTH, world.deadline())


def closed_bodies(world: World) -> dict[str, bytes]:
    return {key: world.objects.get(key) for key in world.objects.keys("closed/")}


def with_a_byte_more(world: World) -> bytes | Path:
    """A file of the first hour whose totals differ from the totals of the region."""
    usage = {k: Total(t.bytes + 1, t.records) for k, t in october(world).items() if k.hour_s == FIRST_S}
    return world.jobs.frozen_files.hour_file(in_order(usage)).content


def stopped(world: World) -> PeriodNotClosableError:
    """Run a close that finds an object other than its own; return the error."""
    with pytest.raises(PeriodNotClosableError) as refused:
        close(world)
    assert refused.value.cause is NotClosable.OBJECT_DIFFERS
    assert world.alerts.sent[-1].severity == "page"
    assert (period := world.jobs.closer.show(MONTH)) is not None
    assert period.state == "closing"
    return refused.value


def test_a_closed_month_is_its_hours_itself_by_account_and_by_day_and_a_manifest() -> None:
    world = world_with_october()
    closed = close(world)
    assert set(world.objects.keys("closed/")) == {
        *OBJECTS,
        closed_hour_key(MONTH, AFTER_S - HOUR_S),
        closed_month_key(MONTH),
    }
    assert world.frozen_usage(MONTH) == october(world)
    # In one hour, one key has more bytes than an int64 can hold.
    assert Total(2**63, 2) in world.frozen_usage(MONTH).values()
    manifest = json.loads(world.objects.get(closed_month_key(MONTH)))
    assert "usage" not in manifest
    assert [hour["usage"]["rows"] for hour in manifest["hours"]] == [2, 1]
    assert closed == world.jobs.closer.frozen(MONTH)


def test_the_manifest_is_put_after_everything_that_it_names_and_before_the_month_is_closed() -> None:
    world = world_with_october()
    put: list[str] = []

    def look(_call: str) -> None:
        put.extend(key for key in world.objects.keys("closed/") if key not in put)
        item = world.items.peek(Table.LEDGER, period_key(MONTH))
        assert item is None or item["state"] == "closing" or closed_month_key(MONTH) in put

    world.objects.on_call = world.items.on_call = look
    close(world)
    look("the end")
    hours = [closed_hour_key(MONTH, FIRST_S), closed_hour_key(MONTH, AFTER_S - HOUR_S)]
    assert put == [*hours, closed_accounts_key(MONTH), closed_days_key(MONTH), closed_month_key(MONTH)]


def test_a_close_that_died_at_any_call_and_goes_on_gives_the_same_bytes() -> None:
    world = world_with_october()
    close(world)
    whole = closed_bodies(world)
    for world in dying(world_with_october, close, least=90, step=3):
        # Another process goes on. Files are named after their runs, which are the same in each of these worlds.
        world.make_jobs().closer.close(MONTH, world.deadline())
        assert closed_bodies(world) == whole
        assert world.jobs.closer.verify(MONTH) == []


def test_an_hour_that_is_there_with_other_rows_stops_the_close_and_pages() -> None:
    world = world_with_october()
    world.objects.put(closed_hour_key(MONTH, FIRST_S), with_a_byte_more(world), if_absent=True)
    assert "other rows than the lake has now" in str(stopped(world))
    assert not world.objects.keys(closed_month_key(MONTH))
    world.objects.remove(closed_hour_key(MONTH, FIRST_S))
    assert close(world).total == Total(5 + 7 + 2**63, 4)


class Shifted(TotalsAlone):
    """A reader that moves one byte to another key, so that hourly totals do not change."""

    def __init__(self, reader: LakeReader) -> None:
        self._reader = reader

    def totals(self, sources: Sequence[RowSource], query: RowQuery) -> dict[Group, Total]:
        found = self._reader.totals(sources, query)
        if len(found) > 1:
            first, second, *_ = found
            found[first] = Total(found[first].bytes + 1, found[first].records)
            found[second] = Total(found[second].bytes - 1, found[second].records)
        return found


def shifted_closer(world: World) -> tuple[PeriodCloser, PeriodCloser]:
    """Two closers that compare with a shifted reader; the second closer also freezes with a shifted reader."""
    closer, shifted = world.jobs.closer, Shifted(world.jobs.view.reader)
    figures = replace(closer.reconciler.figures, totals=CountedTotals(shifted))
    compared = replace(closer, reconciler=replace(closer.reconciler, figures=figures))
    return compared, replace(compared, reader=shifted)


def test_totals_beside_a_file_that_are_not_the_compared_ones_are_counted_from_its_rows() -> None:
    world = world_with_october()
    compared, _ = shifted_closer(world)
    frozen = compared.close(MONTH, world.deadline())
    other = world_with_october()
    assert frozen == close(other)
    assert world.objects.keys("closed/") == other.objects.keys("closed/")


class Forgetful(LakeView):
    """A view of the lake that omits one of the compared hours."""

    def hours(self, *, from_s: int = 0, to_s: int | None = None) -> list[int]:
        return super().hours(from_s=from_s, to_s=to_s)[1:]


def test_an_hour_that_was_compared_and_is_not_listed_stops_the_close() -> None:
    world = world_with_october()
    view = world.jobs.view
    forgetful = Forgetful(items=view.items, objects=view.objects, reader=view.reader, shards=view.shards)
    closer = replace(world.jobs.closer, view=forgetful)
    with pytest.raises(PeriodNotClosableError, match="would be frozen with other totals than usage and markers have"):
        closer.close(MONTH, world.deadline())
    assert world.objects.keys("closed/") == ()


def test_rows_that_change_between_the_comparison_and_the_freezing_are_not_frozen() -> None:
    world = world_with_october()
    _, closer = shifted_closer(world)
    with pytest.raises(PeriodNotClosableError, match="not those that usage and markers were compared with"):
        closer.close(MONTH, world.deadline())
    assert world.alerts.sent[-1].severity == "page"
    assert world.objects.keys("closed/") == ()
    assert close(world).total == Total(5 + 7 + 2**63, 4)


@pytest.mark.parametrize(("key", "body", "told"), [
    *((key, b"PAR1 and nothing else", key) for key in OBJECTS), (closed_month_key(MONTH), b"{}", "says something else"),
])  # fmt: skip
def test_an_object_that_is_there_and_cannot_be_read_stops_the_close(key: str, body: bytes, told: str) -> None:
    world = world_with_october()
    world.objects.put(key, body, if_absent=True)
    assert told in str(stopped(world))


@pytest.mark.long
def test_an_hour_of_a_died_close_that_was_changed_since_stops_the_next_one() -> None:
    world = world_with_october()
    key = closed_hour_key(MONTH, FIRST_S)
    calls = 0
    while not world.objects.keys(key):
        world = world_with_october()
        assert world.dies_after(calls, partial(world.jobs.closer.close, MONTH, world.deadline()))
        calls += 1
    world.objects.put(key, with_a_byte_more(world), if_absent=False)
    assert key in str(stopped(world))


@pytest.mark.parametrize("key", OBJECTS)
def test_verify_names_an_object_with_other_rows_a_damaged_one_and_one_that_is_gone(key: str) -> None:
    world = world_with_october()
    close(world)
    world.objects.put(key, with_a_byte_more(world), if_absent=False)
    [found] = world.jobs.closer.verify(MONTH)
    assert found.endswith(f"{key} has other rows than those that were frozen")
    world.objects.put(key, b"x" * 100, if_absent=False)
    [found] = world.jobs.closer.verify(MONTH)
    assert f"{key} is damaged" in found
    world.objects.remove(key)
    [found] = world.jobs.closer.verify(MONTH)
    assert found.endswith(f"there is no object {key}")


def test_the_digest_is_of_rows_and_not_of_bytes_of_a_file() -> None:
    world = world_with_october()
    closed = close(world)
    usage = {k: t for k, t in october(world).items() if k.hour_s == FIRST_S}
    other = type(world.jobs.frozen_files)(world.objects, group_rows=1)
    body = other.hour_file(in_order(usage)).content
    assert body != world.objects.get(closed_hour_key(MONTH, FIRST_S))
    world.objects.put(closed_hour_key(MONTH, FIRST_S), body, if_absent=False)
    assert world.jobs.closer.verify(MONTH) == []
    assert world.jobs.closer.frozen(MONTH) == closed


def test_verify_names_an_object_that_was_added_and_a_file_of_which_the_frozen_hour_is_gone_too() -> None:
    world = world_with_october()
    [hour, _] = close(world).hours
    [file] = hour.files
    added = f"closed/{MONTH}/2026-10-02T00.parquet"
    world.objects.put(added, b"", if_absent=True)
    assert world.jobs.closer.verify(MONTH) == [f"{added} is not an object of the closed month"]
    world.objects.remove(added)
    other = world_with_october()
    other.send([record(8, start_s=FIRST_S)])
    other.compact_all()
    world.objects.put(file.key, other.objects.get(other.files(FIRST_S)[0].key), if_absent=False)
    world.objects.remove(hour.key)
    gone, rows = world.jobs.closer.verify(MONTH)
    assert gone.endswith(f"there is no object {hour.key}")
    assert rows == "2026-10-01T00:00:00Z: the files have other rows than those that were frozen"


def test_a_close_tells_which_hours_it_compared_and_froze() -> None:
    world = world_with_october()
    told: list[tuple[str, int, int]] = []
    world.jobs.closer.close(MONTH, world.deadline(), lambda step: told.append((step.doing, step.done, step.hours)))
    assert told == [("compared", 1, 2), ("compared", 2, 2), ("frozen", 1, 2), ("frozen", 2, 2)]


def test_a_month_without_a_row_is_closed_and_verified_like_any_other() -> None:
    world = World(now_s=AFTER_S + 4 * DAY_S)
    closed = close(world)
    assert (closed.hours, closed.total) == ((), Total(0, 0))
    assert world.jobs.closer.verify(MONTH) == []
    assert close(world) == closed
    query = UsageQuery(from_s=FIRST_S, to_s=AFTER_S, group_by=("account_id",))
    assert report_rows([world.source()], query, now_s=AFTER_S + 5 * DAY_S) == []
