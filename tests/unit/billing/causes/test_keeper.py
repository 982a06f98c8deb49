"""Days of causes have the bytes of the lake, each once, wherever a process is killed."""

from __future__ import annotations

import copy
import io
from dataclasses import replace
from functools import cache, partial
from itertools import count, pairwise
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from metering.billing.causes.index import CauseIndex, CauseIndexes, CausePin
from metering.billing.causes.keeper import NO_DETAIL, part_of
from metering.errors import LedgerCorruptError, ObjectDamagedError, UnavailableError
from metering.hours import month_bounds_s
from metering.stores.objects import CAUSE_DAYS_PREFIX, CAUSE_NAMES_PREFIX, CAUSE_PARTS_PREFIX, cause_index_key
from metering.stores.writes import Table
from metering.units import DAY_S, HOUR_S
from tests.support.budget_world import restore_ledger
from tests.support.cause_world import CauseWorld, network_of
from tests.support.lake_world import HOUR

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.networks.files import LogFile
    from tests.support.networks.traffic import Network


@cache
def small() -> tuple[Network, tuple[LogFile, ...]]:
    network = network_of(lines=160, slots=2, variety=3, instances=2)
    return network, tuple(network.files())


def metered(count: int | None = None, *, causes: bool = True) -> CauseWorld:
    network, files = small()
    world = CauseWorld(network)
    world.meter(files[:count], causes=causes)
    return world


def changed(world: CauseWorld, change: Callable[[pa.Table], pa.Table]) -> None:
    """Change all cause parts."""
    for info in list(world.objects.list(CAUSE_PARTS_PREFIX)):
        body = io.BytesIO()
        pq.write_table(change(pq.read_table(io.BytesIO(world.objects.get(info.key)))), body)
        world.objects.put(info.key, body.getvalue(), if_absent=False)


def test_rows_have_the_bytes_of_the_lake_by_usage_and_hour_and_nothing_counts_twice() -> None:
    world = metered()
    kept = world.keep_causes()
    assert (kept.behind_s, kept.files > 0, kept.index.lost) == (0, True, ())
    assert world.cause_sums() == world.lake_sums()
    rows = world.cause_rows()
    assert {row["reason"] for row in rows} >= {"", "sides_differ"}
    assert {row["basis"] for row in rows} >= {"told", "seen", "split"}
    assert NO_DETAIL not in {row["reason"] for row in rows}

    assert world.keep_causes().files == 0
    assert world.cause_rows() == rows


def test_usage_of_other_producers_has_no_rows() -> None:
    world = metered()
    before = world.lake_sums()
    world.use(7)
    world.keep_causes()
    assert world.cause_sums() == before


def test_a_region_without_flow_logs_reads_no_lake_file() -> None:
    network, _ = small()
    world = CauseWorld(network)
    world.use(7)
    kept = world.keep()
    read: list[str] = []
    world.objects.on_call = read.append
    assert world.cause_keeper().keep(world.deadline(), kept).files == 0
    assert world.cause_index.runs == kept.index.runs
    assert not [call for call in read if "lake" in call]


def test_a_file_in_several_runs_counts_once_and_rows_of_a_day_are_put_together() -> None:
    network, files = small()
    world = CauseWorld(network)
    for file in files:
        world.meter([file])
        world.keep_causes(most_files=1)
    whole = metered()
    whole.keep_causes()
    assert world.cause_rows() == whole.cause_rows()
    assert world.cause_sums() == world.lake_sums()


@pytest.mark.parametrize("most_rows", [1, 20, 100])
def test_a_large_day_has_pieces_between_resources(most_rows: int) -> None:
    network, files = small()
    world, whole = CauseWorld(network), metered()
    whole.keep_causes()
    for file in files:
        world.meter([file])
        world.keep_causes(most_rows=most_rows)
    [pieces] = world.cause_index.days.values()
    assert len(pieces) > 1
    assert all(one.last < other.first for one, other in pairwise(pieces))
    assert all(piece.rows <= most_rows or piece.first == piece.last for piece in pieces)
    assert world.cause_rows() == whole.cause_rows()
    # Pieces that were replaced are deleted.
    stored = {info.key for info in world.objects.list(CAUSE_DAYS_PREFIX)}
    world.use(7)
    world.keep_causes()
    assert {piece.key for piece in pieces} == {info.key for info in world.objects.list(CAUSE_DAYS_PREFIX)} <= stored


def test_what_has_no_part_is_there_by_resource_without_detail() -> None:
    world = metered(causes=False)
    world.keep_causes()
    assert world.cause_sums() == world.lake_sums()
    assert {(row["cause"], row["basis"], row["reason"]) for row in world.cause_rows()} == {("", "", NO_DETAIL)}
    assert world.cause_index.lost == ()


def test_a_part_with_other_bytes_than_the_lake_lowers_the_share_and_never_the_total() -> None:
    world = metered()

    def one_more(table: pa.Table) -> pa.Table:
        return table.set_column(
            table.schema.get_field_index("bytes"), "bytes", pa.array([each.as_py() + 1 for each in table["bytes"]])
        )

    changed(world, one_more)
    world.keep_causes()
    assert world.cause_sums() == world.lake_sums()
    assert {row["reason"] for row in world.cause_rows()} == {NO_DETAIL}
    assert "bytes, and the lake has" in world.cause_index.lost[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.drop_columns(["direction"]),
        lambda table: pa.concat_tables([table.slice(1), table.slice(0, 1), table.slice(0, 0), table.slice(0, 1)]),
        lambda table: table.set_column(0, "batch", pa.array([None] * table.num_rows, pa.string())),
        lambda table: table.set_column(table.schema.get_field_index("bytes"), "bytes", pa.array([-1] * table.num_rows)),
        lambda table: pa.table({"a": [1]}),
    ],
)
def test_a_damaged_part_is_no_detail(change: Callable[[pa.Table], pa.Table]) -> None:
    world = metered(1)
    changed(world, change)
    world.keep_causes()
    assert world.cause_sums() == world.lake_sums()
    for info in world.objects.list(CAUSE_PARTS_PREFIX):
        world.objects.put(info.key, b"PAR1 and no more", if_absent=False)
        with pytest.raises(ObjectDamagedError):
            part_of(world.objects.get(info.key), info.key)


def test_a_lost_piece_is_noted_and_lowers_the_rows() -> None:
    network, files = small()
    world = CauseWorld(network)
    world.meter(files[:1])
    world.keep_causes()
    [piece] = world.cause_index.days[HOUR - HOUR % DAY_S]
    world.objects.delete([piece.key])
    world.meter(files[1:])
    world.keep_causes()
    assert piece.key in world.cause_index.lost[-1]
    rows, lake = world.cause_sums(), world.lake_sums()
    assert all(size <= lake[key] for key, size in rows.items())


def copied(world: CauseWorld) -> CauseWorld:
    """A copy with the same network."""
    return copy.deepcopy(world, {id(world.network): world.network})


def loses_reply(world: CauseWorld, writes: int, run: Callable[[], object]) -> bool:
    """Run, and lose the reply of the next write after this number of writes; False if there are fewer."""
    left = writes

    def lost(_call: str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise UnavailableError("s3.PutObject", "no reply", may_have_applied=True)

    world.objects.on_reply = lost
    try:
        run()
    except UnavailableError:
        return True
    finally:
        world.objects.on_reply = lambda _call: None
    return False


@pytest.mark.parametrize("fails", [CauseWorld.dies_after, loses_reply])
def test_wherever_it_fails_each_file_counts_once(
    fails: Callable[[CauseWorld, int, Callable[[], object]], bool],
) -> None:
    network, files = small()
    world = CauseWorld(network)
    world.meter(files[:1])
    world.keep_causes()
    world.meter(files[1:])
    world.capture(HOUR)
    kept = world.keep()
    whole = copied(world)
    whole.keep_causes()
    wanted, lake = whole.cause_rows(), whole.lake_sums()
    for calls in count():
        tried = copied(world)
        failed = fails(tried, calls, partial(tried.cause_keeper(most_files=1).keep, tried.deadline(), kept))
        tried.keep_causes()
        assert tried.cause_rows() == wanted
        assert tried.cause_sums() == lake
        named = {*(piece.key for pieces in tried.cause_index.days.values() for piece in pieces)}
        assert named <= {info.key for info in tried.objects.list(CAUSE_DAYS_PREFIX)}
        assert set(tried.cause_index.names.values()) <= {info.key for info in tried.objects.list(CAUSE_NAMES_PREFIX)}
        if not failed:
            break
    assert calls >= 4


def test_of_two_keepers_at_once_one_wins_and_each_file_counts_once() -> None:
    network, files = small()
    world = CauseWorld(network)
    world.meter(files[:1])
    kept = world.keep()
    put = world.objects.put
    others: list[int] = []

    def first(key: str, body: bytes, *, if_absent: bool) -> bool:
        if key == cause_index_key(1) and not others:
            others.append(1)
            world.cause_keeper().keep(world.deadline(), kept)
        return put(key, body, if_absent=if_absent)

    world.objects.put = first  # type: ignore[method-assign, assignment]  # another process comes between
    world.cause_keeper().keep(world.deadline(), kept)
    world.objects.put = put  # type: ignore[method-assign]  # as before
    assert others
    assert world.cause_sums() == world.lake_sums()


def test_runs_that_the_day_sums_have_not_counted_wait() -> None:
    network, files = small()
    world = CauseWorld(network)
    world.meter(files[:1])
    kept = world.keep()
    before = world.lake_sums()
    world.meter(files[1:])
    world.cause_keeper().keep(world.deadline(), kept)
    assert world.cause_sums() == before


def test_after_a_restore_of_the_ledger_rows_are_counted_anew() -> None:
    network, files = small()
    world = CauseWorld(network)
    world.meter(files[:1])
    world.keep_causes()
    before, since_ms = list(world.items.everything(Table.LEDGER)), world.clock.now_ms()
    world.meter(files[1:])
    world.keep_causes()
    rows = world.cause_rows()
    restore_ledger(world, before, since_ms=since_ms)
    world.compact_all()

    # The first round makes objects that the last index of before the restore had replaced.
    assert world.keep_causes(most_files=1).index.ledger_generation == 2
    assert world.cause_rows() == rows
    assert world.cause_index.lost == ()
    assert world.cause_sums() == world.lake_sums()


def test_an_upgrade_a_roll_back_and_an_upgrade_lose_nothing_and_bytes_of_the_release_before_have_no_detail() -> None:
    network, files = small()
    world = CauseWorld(network)
    first, second, third = (files[place::3] for place in range(3))
    # A release without causes: it keeps the day sums, and its on-ramp keeps no causes.
    world.meter(first, causes=False)
    world.keep()
    world.meter(second)
    world.keep_causes()
    detailed = sum(row["bytes"] for row in world.cause_rows() if row["reason"] != NO_DETAIL)  # type: ignore[misc]  # numbers
    world.meter(third, causes=False)
    world.keep()
    world.keep_causes()
    assert world.cause_sums() == world.lake_sums()
    by_detail = {True: 0, False: 0}
    for row in world.cause_rows():
        by_detail[row["reason"] == NO_DETAIL] += row["bytes"]  # type: ignore[operator]  # a number
    assert by_detail[False] == detailed > 0
    assert by_detail[True] > 0


def test_a_closed_month_is_pinned_once_and_its_objects_are_kept() -> None:
    world = metered()
    kept = world.keep()
    closed = replace(kept, index=replace(kept.index, closed={"2026-11": "closed/2026-11.json"}))
    # While the day sums are behind, the month may lack files.
    assert not world.cause_keeper().keep(world.deadline(), replace(closed, behind_s=1)).index.pinned
    made = world.cause_keeper().keep(world.deadline(), closed).index
    [key] = [info.key for info in world.objects.list("causes/closed/")]
    pin = CausePin.from_json(world.objects.get(key), key)
    assert (pin.days, pin.names, made.pinned) == (made.days, made.names, ("2026-11",))
    # The day changes later, and the pinned objects stay.
    [day_s] = made.days
    later = made.following({day_s: ()}, {day_s: "causes/names/other"})
    assert later.replaced == (cause_index_key(made.number),)
    free = replace(made, pinned=()).following({day_s: ()}, {day_s: "causes/names/other"})
    assert set(free.replaced) > {piece.key for piece in made.days[day_s]}
    world.cause_keeper().keep(world.deadline(), closed)
    assert CausePin.from_json(world.objects.get(key), key) == pin


def test_an_index_that_is_something_else_is_refused() -> None:
    world = metered()
    world.keep_causes()
    assert CauseIndex.from_json(world.cause_index.to_json()) == world.cause_index
    number = world.cause_index.number
    world.objects.put(cause_index_key(number + 1), b"{}", if_absent=True)
    with pytest.raises(LedgerCorruptError):
        CauseIndexes(objects=world.objects).newest()


def test_only_old_days_of_a_long_history_have_no_rows() -> None:
    world = metered()
    world.use(1)
    world.clock.advance_s(41 * DAY_S)
    world.use(3, start_s=HOUR + 41 * DAY_S)
    world.keep_causes()
    assert world.cause_index.from_s > HOUR
    assert not world.cause_index.days


def test_late_usage_of_a_closed_month_is_booked_now_and_keeps_its_own_hour() -> None:
    network = network_of(lines=60, slots=1, first_s=month_bounds_s("2026-10")[1] - HOUR_S)
    world = CauseWorld(network)
    world.capture(month_bounds_s("2026-10")[1] - HOUR_S)
    files = list(network.files())
    world.meter(files[:1])
    world.jobs.closer.close("2026-10", world.deadline())
    world.meter(files[1:])
    world.keep_causes()
    assert world.cause_sums() == world.lake_sums()
    late = [row for row in world.cause_rows() if row["hour"] != row["own_hour"]]
    assert {row["hour"] for row in late} == {HOUR}
    assert late
    assert not any(row["reason"] == NO_DETAIL for row in late)
