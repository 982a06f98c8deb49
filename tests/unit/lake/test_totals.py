"""Totals of lake files are made during the merge, put before the file, and never make a figure wrong."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.errors import ObjectMissingError
from metering.hours import month_bounds_s
from metering.lake.cleaner import OrphanCleaner
from metering.lake.parquet.reader import ParquetLakeReader, ParquetTotals
from metering.lake.parquet.writer import ParquetLakeWriter
from metering.lake.ports import USAGE_QUERY, Group, RowQuery, in_order, usage_of
from metering.ledger.booked_hours import LakeFile, RowSource
from metering.stores.objects import hour_of_lake_key, lake_file_key, summary_key
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Total, UsageKey
from tests.support.examples import examples
from tests.support.lake_world import HOUR, World, dying, record
from tests.support.memory.clock import ManualClock
from tests.support.memory.frozen import PlainTotals, encode_usage, merge
from tests.support.memory.objects import MemoryObjectStore
from tests.support.memory.rows import PlainLake, PlainRow, TotalsAlone, encode_rows
from tests.unit.lake.test_parquet_lake import Row, rows_of_a_commit, staging

AFTER_S = month_bounds_s("2026-10")[1]


def compacted() -> World:
    world = World()
    world.send([record(n, resource=f"i-{n}", account=f"{n % 3:012d}") for n in range(9)])
    world.compact_all()
    return world


def totals_of(world: World, file: LakeFile) -> dict[UsageKey, Total]:
    return dict(world.jobs.totals.of(file))


class NoRows(TotalsAlone):
    """A row reader that fails the test if it is used."""

    def totals(self, sources: Sequence[RowSource], query: RowQuery) -> dict[Group, Total]:
        raise AssertionError(f"the rows of {sources} were read for {query}")


def kept_totals_of(world: World, file: LakeFile) -> dict[UsageKey, Total]:
    """Content of a file's totals object; a read of rows would fail the test."""
    return dict(ParquetTotals(world.objects, NoRows()).of(file))


def test_every_published_file_has_its_totals_beside_it() -> None:
    world = compacted()
    [file] = world.files(HOUR)
    assert world.objects.keys("summaries/") == (summary_key(file.key),)
    assert summary_key(file.key).startswith("summaries/dt=2026-11-24/hour=13/")
    assert list(world.jobs.totals.of(file)) == in_order(world.usage())
    assert kept_totals_of(world, file) == world.usage()


def test_corrections_are_in_the_totals_of_the_file_that_they_are_booked_in() -> None:
    world = World(now_s=AFTER_S - HOUR_S)
    world.send([record(5, start_s=AFTER_S - HOUR_S)])
    world.clock.advance_s(4 * DAY_S)
    world.jobs.closer.close("2026-10", world.deadline())
    world.send([record(7, start_s=AFTER_S - HOUR_S), record(9, start_s=world.clock.now_ms() // 1000)])
    world.compact_all()
    found = merge(kept_totals_of(world, file) for key in world.jobs.view.hours() for file in world.files(key))
    assert found == world.usage()
    assert {key.corrects_s for key in found} == {None, AFTER_S - HOUR_S}


@given(st.lists(rows_of_a_commit, min_size=1, max_size=6), st.sampled_from([1, 7, 1000]))
@examples(40)
def test_totals_are_exact_however_often_the_merge_spills(commits: list[list[Row]], group_rows: int) -> None:
    objects = MemoryObjectStore(ManualClock(0))
    names = [f"staging/{number}.parquet" for number in range(len(commits))]
    for name, rows in zip(names, commits, strict=True):
        objects.put(name, staging(rows), if_absent=True)
    key = lake_file_key(HOUR, 0, 1, 0)
    with ParquetLakeWriter(objects, readers=2, group_rows=group_rows).merge(
        HOUR, names, plan_key="runs/L0/1-a.json"
    ) as merged:
        objects.put(key, merged.content, if_absent=True)
        objects.put(summary_key(key), merged.summary, if_absent=True)
        file = LakeFile(key=key, rows=merged.rows, bytes=merged.bytes)
    reader = ParquetLakeReader(objects)
    kept = list(ParquetTotals(objects, NoRows()).of(file))
    assert dict(kept) == usage_of(HOUR, reader.totals([file.source(HOUR)], USAGE_QUERY))
    objects.remove(summary_key(key))
    assert list(ParquetTotals(objects, reader).of(file)) == kept


@pytest.mark.parametrize("damage", ["gone", "no Parquet", "empty", "of another file"])
def test_totals_that_are_gone_or_wrong_are_counted_from_the_rows(damage: str) -> None:
    world = compacted()
    [file] = world.files(HOUR)
    expected, key = totals_of(world, file), summary_key(file.key)
    other = compacted()
    other.send([record(77)])
    other.compact_all()
    wrong = {
        "no Parquet": b"PAR1PAR1",
        "empty": b"",
        "of another file": other.objects.get(summary_key(other.files(HOUR)[1].key)),
    }
    world.objects.remove(key)
    if damage in wrong:
        world.objects.put(key, wrong[damage], if_absent=True)
    assert totals_of(world, file) == expected
    world.objects.remove(file.key)
    with pytest.raises(ObjectMissingError):
        totals_of(world, file)


def test_a_compactor_that_died_at_any_call_leaves_no_file_without_its_totals() -> None:
    def some_records() -> World:
        world = World()
        world.send([record(n, resource=f"i-{n}") for n in range(3)])
        return world

    for world in dying(some_records, lambda world: world.eager_compactor().run(world.deadline()), least=10):
        left = {summary_key(key) for key in world.objects.keys("lake/")} - {*world.objects.keys("summaries/")}
        assert not left
        world.compact_all()
        [file] = world.files(HOUR)
        assert world.objects.keys("summaries/") == (summary_key(file.key),)
        assert totals_of(world, file) == world.usage()


def test_cleaners_leave_totals_where_they_are() -> None:
    world = compacted()
    kept = world.objects.keys("summaries/")
    world.clock.advance_s(60 * DAY_S)
    world.jobs.cleaner.run(world.deadline())
    assert isinstance(world.jobs.orphans, OrphanCleaner)
    world.jobs.orphans.run(world.deadline())
    assert world.objects.keys("summaries/") == kept


def test_plain_totals_say_the_same_and_count_rows_where_they_are_missing() -> None:
    objects = MemoryObjectStore(ManualClock(0))
    row = PlainRow(HOUR, "b", "r", "1", "AmazonEC2", "out", "x", "y", "t", 5, HOUR - HOUR_S)
    key = lake_file_key(HOUR, 0, 1, 0)
    objects.put(key, encode_rows([row]), if_absent=True)
    file, expected = LakeFile(key=key, rows=1, bytes=5), [(row.usage_key, Total(5, 1))]
    totals = PlainTotals(objects, PlainLake(objects))
    assert list(totals.of(file)) == expected
    objects.put(summary_key(key), encode_usage(expected), if_absent=True)
    assert list(totals.of(file)) == expected
    objects.put(summary_key(key), b"?", if_absent=False)
    assert list(totals.of(file)) == expected


def test_the_hour_of_a_lake_file_is_in_its_key_and_other_objects_have_none() -> None:
    assert hour_of_lake_key(lake_file_key(HOUR, 3, 17, 2)) == HOUR
    assert [hour_of_lake_key(key) for key in ("lake/", "lake/dt=x/hour=13/a", "lake/dt=2026-11-24/_SUCCESS")] == [
        None,
        None,
        None,
    ]
