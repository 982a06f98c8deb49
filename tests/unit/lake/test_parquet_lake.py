"""Lake files: every row once, sorted by account, read back exactly, by us and by engines that know nothing of us."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.errors import ObjectDamagedError, ObjectMissingError
from metering.intake.formats.columns import exact_sum
from metering.lake.parquet.hour_rows import STAGED_END_BYTES, STAGING_SCHEMA
from metering.lake.parquet.reader import ParquetLakeReader
from metering.lake.parquet.writer import ParquetLakeWriter
from metering.lake.ports import (
    BATCH_QUERY,
    OWN_HOUR,
    USAGE_QUERY,
    Group,
    MergedFile,
    RowQuery,
    batches_of,
    in_order,
    usage_of,
)
from metering.ledger.booked_hours import RowSource
from metering.units import HOUR_S
from metering.usage.totals import Total, add_totals, sum_totals
from tests.support.lake_world import HOUR
from tests.support.memory.clock import ManualClock
from tests.support.memory.objects import MemoryObjectStore

Row = tuple[int, str, str, int, int, str]  # Booked hour, account, resource, bytes, start and batch.


def content_of(merged: MergedFile) -> bytes:
    return merged.content if isinstance(merged.content, bytes) else merged.content.read_bytes()


def staging(rows: Sequence[Row]) -> bytes:
    """A staging object, written without our codec."""
    rows = sorted(rows)
    columns: dict[str, list[object]] = {name: [] for name in STAGING_SCHEMA.names}
    for booked, account, resource, size, start, batch in rows:
        values = (account, "AmazonEC2", resource, "out", "us-east-1", "internet", "DataTransfer-Out-Bytes", size)
        for name, value in zip(
            STAGING_SCHEMA.names, (*values, start * 10**6, start * 10**6, batch, booked), strict=True
        ):
            columns[name].append(value)
    arrays = []
    for field in STAGING_SCHEMA:
        plain = pa.int64() if pa.types.is_timestamp(field.type) else field.type
        array = pa.array(columns[field.name], pa.string() if pa.types.is_dictionary(plain) else plain)
        arrays.append(array.cast(field.type))
    table = pa.table(arrays, schema=STAGING_SCHEMA)
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, STAGING_SCHEMA, store_schema=False) as writer:
        for hour in sorted({row[0] for row in rows}):
            first = next(i for i, row in enumerate(rows) if row[0] == hour)
            writer.write_table(table.slice(first, sum(row[0] == hour for row in rows)))
    body: bytes = sink.getvalue().to_pybytes()
    return body


rows_of_a_commit = st.lists(
    st.tuples(
        st.sampled_from([HOUR, HOUR - HOUR_S]),
        st.sampled_from(["000000000001", "000000000002", "999999999999"]),
        st.sampled_from(["i-1", "i-2", "ü", "arn:aws:x/y"]),
        st.integers(0, 2**63 - 1),
        st.integers(HOUR - 40 * 24 * HOUR_S, HOUR + HOUR_S - 1),
        st.sampled_from(["b1", "b2", "b3"]),
    ),
    min_size=1,
    max_size=30,
)


@given(st.lists(rows_of_a_commit, min_size=1, max_size=6), st.sampled_from([1, 7, 1000]))
@settings(max_examples=40, deadline=None)
def test_every_row_of_the_hour_is_in_the_file_once_however_often_it_spills(
    commits: list[list[Row]], group_rows: int
) -> None:
    objects = MemoryObjectStore(ManualClock(0))
    for number, rows in enumerate(commits):
        objects.put(f"staging/{number}.parquet", staging(rows), if_absent=True)
    keys = [f"staging/{number}.parquet" for number in range(len(commits))]
    expected = sorted(row[1:] for rows in commits for row in rows if row[0] == HOUR)
    with ParquetLakeWriter(objects, readers=2, group_rows=group_rows).merge(HOUR, keys) as merged:
        assert isinstance(merged.content, Path)
        table = pq.read_table(merged.content)
        objects.put("lake/x.parquet", merged.content, if_absent=True)
    names = ("account_id", "resource_id", "bytes", "start_time", "batch_id")
    starts = [int(value.timestamp()) for value in table.column("start_time").to_pylist()]
    columns = [starts if name == "start_time" else table.column(name).to_pylist() for name in names]
    assert sorted(zip(*columns, strict=True)) == expected
    assert table.column("account_id").to_pylist() == sorted(table.column("account_id").to_pylist())
    assert (merged.rows, merged.bytes) == (len(expected), sum(row[2] for row in expected))
    _reads_the_same(objects, keys, expected)


def _reads_the_same(
    objects: MemoryObjectStore, keys: list[str], expected: list[tuple[str, str, int, int, str]]
) -> None:
    reader = ParquetLakeReader(objects, readers=2)
    lake = [RowSource(key="lake/x.parquet", hour_s=HOUR, rows=0, bytes=0, staged=False)]
    staged = [RowSource(key=key, hour_s=HOUR, rows=0, bytes=0, staged=True) for key in keys]
    for query in (RowQuery(), USAGE_QUERY, RowQuery(columns=("batch_id", "resource_id", OWN_HOUR))):
        totals = reader.totals(lake, query)
        assert totals == reader.totals(staged, query)
        assert sum_totals(totals.values()) == Total(sum(row[2] for row in expected), len(expected))
        for sources in (lake, staged):
            parts: dict[Group, Total] = {}
            for group, total in reader.parts(sources, query):
                add_totals(parts, {group: total})
            assert parts == totals
    only = RowQuery(columns=("batch_id",), where=(("account_id", frozenset(["000000000002"])),))
    by_batch: dict[tuple[str | int, ...], Total] = {}
    for account, _, size, _, batch in expected:
        if account == "000000000002":
            by_batch[batch,] = by_batch.get((batch,), Total(0, 0)).plus(Total(size, 1))
    assert reader.totals(lake, only) == by_batch == reader.totals(staged, only)
    # As many as a manifest names, most of which are in other objects.
    many = RowQuery(columns=("batch_id",), where=(("batch_id", frozenset(["b1", *(f"x{n}" for n in range(1_000))])),))
    of_one = [(row[2], 1) for row in expected if row[4] == "b1"]
    found = {("b1",): sum_totals(Total(*each) for each in of_one)} if of_one else {}
    assert reader.totals(lake, many) == found == reader.totals(staged, many)
    for sources in (lake, staged):
        groups: list[Iterator[tuple[Group, Total]]] = []
        usage = reader.hour_usage(HOUR, sources, batches=groups.append)
        rows = sorted((str(batch_id), total) for each in groups for (batch_id,), total in each)
        assert list(usage) == list(usage) == in_order(usage_of(HOUR, reader.totals(sources, USAGE_QUERY)))
        assert len(usage) == len(list(usage))
        # A batch appears once per source that has rows of it, and its parts add up.
        assert len(groups) == len(sources)
        summed = {batch: sum_totals(total for each, total in rows if each == batch) for batch, _ in rows}
        assert summed == batches_of(reader.totals(sources, BATCH_QUERY))
        assert list(reader.hour_usage(HOUR, sources)) == list(usage)
    assert len(reader.hour_usage(HOUR, [])) == 0


def test_a_missing_staging_object_is_named() -> None:
    objects = MemoryObjectStore(ManualClock(0))
    with (
        pytest.raises(ObjectMissingError, match="staging/gone"),
        ParquetLakeWriter(objects).merge(HOUR, ["staging/gone.parquet"]),
    ):
        pass


@pytest.mark.parametrize("staged", [True, False])
@pytest.mark.parametrize("damage", ["cut off", "pages changed", "empty"])
def test_a_damaged_object_is_named(staged: bool, damage: str) -> None:
    objects = MemoryObjectStore(ManualClock(0))
    body = staging([(HOUR, "000000000001", f"i-{n}", n, HOUR, "b1") for n in range(100)])
    half = len(body) // 2
    spoilt = {"cut off": body[:-100], "pages changed": body[:4] + bytes(half - 4) + body[half:], "empty": b""}
    objects.put("x.parquet", spoilt[damage], if_absent=True)
    source = RowSource(key="x.parquet", hour_s=HOUR, rows=100, bytes=0, staged=staged)
    with pytest.raises(ObjectDamagedError, match=r"x\.parquet is damaged"):
        ParquetLakeReader(objects).totals([source], RowQuery(columns=("resource_id",)))


def test_sums_beyond_63_bits_are_exact() -> None:
    assert exact_sum(pa.array([2**63 - 1] * 1_000, pa.int64())) == 1_000 * (2**63 - 1)
    assert exact_sum(pa.array([], pa.int64())) == 0


def test_plain_duckdb_that_knows_nothing_of_us_gets_the_same_total(tmp_path: Path) -> None:
    objects = MemoryObjectStore(ManualClock(0))
    rows = [(HOUR, "000000000001", f"i-{n}", 2**62, HOUR + n, f"b{n % 3}") for n in range(100)]
    objects.put("staging/a.parquet", staging(rows), if_absent=True)
    target = tmp_path / "lake" / "dt=2026-11-24" / "hour=13"
    target.mkdir(parents=True)
    with ParquetLakeWriter(objects).merge(HOUR, ["staging/a.parquet"]) as merged:
        assert isinstance(merged.content, Path)
        (target / "0-1-0.parquet").write_bytes(merged.content.read_bytes())
    with duckdb.connect() as connection:
        lake = connection.read_parquet(f"{tmp_path}/lake/**/*.parquet")
        found = lake.aggregate("sum(bytes), count(*), count(DISTINCT resource_id)").fetchall()
    assert found == [(100 * 2**62, 100, 100)]


@pytest.mark.parametrize("rows", [100, 40_000])
def test_a_late_pair_costs_the_end_of_its_object_and_its_own_rows(rows: int) -> None:
    calls: list[str] = []
    objects = MemoryObjectStore(ManualClock(0), on_call=calls.append)
    late = [(HOUR - HOUR_S, "000000000001", f"r{number}", number, HOUR - HOUR_S, "late") for number in range(10)]
    others = [(HOUR, f"{number:012d}", f"{number * 7919}", number, HOUR, "b") for number in range(rows)]
    body = staging([*late, *others])
    objects.put("staging/a", body, if_absent=True)
    whole = len(body) <= STAGED_END_BYTES
    assert whole == (rows == 100)
    writer = ParquetLakeWriter(objects)
    with writer.merge(HOUR - HOUR_S, ["staging/a"]) as merged:
        expected = content_of(merged)
    calls.clear()
    with writer.merge(HOUR - HOUR_S, ["staging/a"], in_part={"staging/a"}) as merged:
        assert content_of(merged) == expected
        assert (merged.rows, merged.bytes) == (10, 45)
    # The second call reads only the hour's rows.
    assert calls == (["objects.open"] if whole else ["objects.open", "objects.open.next"])
    calls.clear()
    source = RowSource(key="staging/a", hour_s=HOUR - HOUR_S, rows=10, bytes=45, staged=True)
    assert ParquetLakeReader(objects).totals([source], RowQuery()) == {(): Total(45, 10)}
    assert "objects.get" not in calls
