"""Lake files have every row once, sorted by account; we and independent engines read them back exactly."""

import ast
import io
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lambdas
import metering
from metering.errors import ObjectDamagedError, ObjectMissingError
from metering.intake.formats.columns import exact_sum
from metering.lake.parquet import reader
from metering.lake.parquet.hour_rows import STAGED_END_BYTES, STAGING_SCHEMA, RowGroups
from metering.lake.parquet.reader import ParquetLakeReader, Sums, read_each
from metering.lake.parquet.writer import ParquetLakeWriter, scratch_folder
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
from metering.ledger.booked_hours import LakeFile, RowSource
from metering.units import HOUR_S
from metering.usage.totals import Total, add_totals, sum_totals
from tests.support.examples import examples
from tests.support.lake_world import HOUR, World, record
from tests.support.memory.clock import ManualClock
from tests.support.memory.objects import MemoryObjectStore

Row = tuple[int, str, str, int, int, str]  # Booked hour, account, resource, bytes, start and batch.


def content_of(merged: MergedFile) -> bytes:
    return merged.content if isinstance(merged.content, bytes) else merged.content.read_bytes()


def staging(rows: Sequence[Row]) -> bytes:
    """Write a staging object without the use of our codec."""
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
@examples(40)
def test_every_row_of_an_hour_is_in_its_file_once_however_it_spills(commits: list[list[Row]], group_rows: int) -> None:
    objects = MemoryObjectStore(ManualClock(0))
    for number, rows in enumerate(commits):
        objects.put(f"staging/{number}.parquet", staging(rows), if_absent=True)
    keys = [f"staging/{number}.parquet" for number in range(len(commits))]
    expected = sorted(row[1:] for rows in commits for row in rows if row[0] == HOUR)
    with ParquetLakeWriter(objects, readers=2, group_rows=group_rows).merge(
        HOUR, keys, plan_key="runs/L0/1-a.json"
    ) as merged:
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
    # As many batches as a manifest names, most of which are in other objects.
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
        # A batch is returned once for each source that has rows of it, and its parts add up.
        assert len(groups) == len(sources)
        summed = {batch: sum_totals(total for each, total in rows if each == batch) for batch, _ in rows}
        assert summed == batches_of(reader.totals(sources, BATCH_QUERY))
        assert list(reader.hour_usage(HOUR, sources)) == list(usage)
    assert len(reader.hour_usage(HOUR, [])) == 0


def test_a_missing_staging_object_is_named() -> None:
    objects = MemoryObjectStore(ManualClock(0))
    with (
        pytest.raises(ObjectMissingError, match="staging/gone"),
        ParquetLakeWriter(objects).merge(HOUR, ["staging/gone.parquet"], plan_key="runs/L0/1-a.json"),
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
    with ParquetLakeWriter(objects).merge(HOUR, ["staging/a.parquet"], plan_key="runs/L0/1-a.json") as merged:
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
    with writer.merge(HOUR - HOUR_S, ["staging/a"], plan_key="runs/L0/1-a.json") as merged:
        expected = content_of(merged)
    calls.clear()
    with writer.merge(HOUR - HOUR_S, ["staging/a"], plan_key="runs/L0/1-a.json", in_part={"staging/a"}) as merged:
        assert content_of(merged) == expected
        assert (merged.rows, merged.bytes) == (10, 45)
    # The second call reads only the hour's rows.
    assert calls == (["objects.open"] if whole else ["objects.open", "objects.open.next"])
    calls.clear()
    source = RowSource(key="staging/a", hour_s=HOUR - HOUR_S, rows=10, bytes=45, staged=True)
    assert ParquetLakeReader(objects).totals([source], RowQuery()) == {(): Total(45, 10)}
    assert "objects.get" not in calls


# The calling thread reads row groups, in few reads, and the result equals Arrow's.

_ROOTS = (Path(metering.__path__[0]), Path(lambdas.__path__[0]))
# Modules that open our own Parquet files; third-party files are opened by their packages, also in the calling thread.
_READS = {"read", "read_row_group", "read_row_groups", "iter_batches"}


class _Watched(io.BytesIO):
    """Records the threads that read, and the ranges that they read."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.threads: set[int] = set()
        self.reads: list[tuple[int, int]] = []

    def read(self, size: int | None = -1, /) -> bytes:
        start = self.tell()
        data = super().read(size)
        self.threads.add(threading.get_ident())
        self.reads.append((start, start + len(data)))
        return data


def _content(rows: int = 5_000, group_rows: int = 1_000) -> bytes:
    picks = random.Random(4)
    table = pa.table(
        {
            "name": pa.array([f"n{picks.randrange(20)}" for _ in range(rows)]),
            "noise": pa.array([picks.randbytes(24).hex() for _ in range(rows)]),
            "bytes": pa.array([picks.randrange(1 << 60) for _ in range(rows)]),
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=group_rows)
    return sink.getvalue()


@pytest.mark.parametrize("columns", [["name"], ["bytes", "name"], ["name", "noise", "bytes"]])
def test_each_row_group_is_what_arrow_reads(columns: list[str]) -> None:
    content = _content()
    ours, arrows = RowGroups(io.BytesIO(content)), pq.ParquetFile(pa.BufferReader(content))
    assert ours.metadata.num_row_groups == 5
    for number in range(5):
        assert ours.read(number, columns).equals(arrows.read_row_group(number, columns=columns))
    assert ours.read_some([1, 3], columns).equals(arrows.read_row_groups([1, 3], columns=columns))
    assert ours.read_all().equals(arrows.read())


def test_only_the_calling_thread_reads_and_columns_side_by_side_are_one_read() -> None:
    stream = _Watched(_content())
    file = RowGroups(stream)
    stream.reads.clear()
    file.read(2, ["name", "noise", "bytes"])
    assert len(stream.reads) == 1
    file.read(2, ["name", "bytes"])
    # The column in between is longer than the gap up to which columns are read together.
    assert len(stream.reads) == 3
    file.read_all()
    assert stream.threads == {threading.get_ident()}


def test_arrows_own_read_ahead_would_be_seen() -> None:
    stream = _Watched(_content())
    pq.ParquetFile(stream, pre_buffer=True).read_row_group(2, use_threads=False)
    assert stream.threads != {threading.get_ident()}


def test_a_file_that_breaks_off_is_refused() -> None:
    content = _content()
    stream = io.BytesIO(content)
    file = RowGroups(stream)
    stream.truncate(len(content) // 2)
    with pytest.raises(OSError, match=r"."):
        file.read(4, ["noise"])


def _threaded(source: str) -> list[int]:
    """Lines that let threads of Arrow read a Python stream."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        words = {word.arg: ast.unparse(word.value) for word in node.keywords}
        opens = node.func.attr == "ParquetFile" and words.get("pre_buffer", "False") != "False"
        # A read with columns or groups is a call to Arrow; a read of a stream has only a size.
        arrows = node.func.attr in _READS - {"read"} or (node.func.attr == "read" and "columns" in words)
        if opens or (arrows and words.get("use_threads") != "False"):
            found.append(node.lineno)
    return found


def test_no_thread_of_arrow_reads_a_python_stream() -> None:
    found = [
        f"{path.relative_to(root.parent)}:{line}"
        for root in _ROOTS
        for path in sorted(root.rglob("*.py"))
        for line in _threaded(path.read_text())
    ]
    assert found == []


@pytest.mark.parametrize(
    "call",
    ["pq.ParquetFile(s, pre_buffer=True)", "file.read_row_group(0)", "file.read(columns=None)", "f.iter_batches(9)"],
)
def test_such_a_call_would_be_seen(call: str) -> None:
    assert _threaded(call) == [1]


# Large files are read one at a time, small files in parallel, and each file is returned with its own result.

LARGE = 12_000_000


def files(*rows: int) -> list[LakeFile]:
    return [LakeFile(key=f"lake/{number}", rows=count, bytes=0) for number, count in enumerate(rows)]


@pytest.mark.parametrize(("rows", "at_once"), [((LARGE, LARGE, LARGE), 1), ((5, 6, 7, 8), 4), ((5,), 1)])
def test_only_small_files_are_read_at_the_same_time(rows: tuple[int, ...], at_once: int) -> None:
    running, most, lock = 0, 0, threading.Lock()

    def read(file: LakeFile) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.2)
        with lock:
            running -= 1
        return file.rows

    found = list(read_each(read, files(*rows), threads=4))
    assert most == at_once
    assert [file.rows for file, _ in found] == [result for _, result in found] == list(rows)


def test_every_file_is_read_once_whatever_its_size() -> None:
    mixed = files(3, LARGE, 4, LARGE + 1)
    found = dict(read_each(lambda file: file.key, mixed, threads=2))
    assert found == {file: file.key for file in mixed}
    assert list(read_each(lambda file: file.key, [], threads=2)) == []


# Sums of many parts are exact, and a larger number of groups does not make them more expensive.


def part(first: int, count: int) -> pa.Table:
    names = pa.array([f"b{number}" for number in range(first, first + count)]).dictionary_encode()
    ones = pa.array([1] * count, pa.int64())
    return pa.table({"c0": names, "low": ones, "high": ones, "records": ones})


def test_parts_of_ever_new_groups_are_summed_again_only_when_they_have_grown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_PARTIAL_ROWS", 100)
    made, summed = Sums(BATCH_QUERY), []
    whole = Sums.table

    def counted(self: Sums) -> pa.Table:
        table = whole(self)
        summed.append(table.num_rows)
        return table

    monkeypatch.setattr(Sums, "table", counted)
    for number in range(400):
        # Half of the groups of each part are also in the previous part.
        made.add(part(number * 5, 10))
    found = made.totals()
    assert len(found) == 2_005
    assert found["b0",] == Total(2**32 + 1, 1)
    assert found["b700",] == Total(2 * (2**32 + 1), 2)
    # 400 parts. The parts are summed after each 1.5-fold growth: about ten times, over a few times all groups in total.
    assert len(summed) < 20
    assert sum(summed) < 6 * 2_005
    assert made.totals() == found


def test_a_part_without_rows_adds_nothing() -> None:
    made = Sums(BATCH_QUERY)
    made.add(part(0, 0))
    made.add(pa.table({"low": pa.array([], pa.int64())}))
    assert made.totals() == {}
    made.add(part(3, 1))
    assert made.totals() == {("b3",): Total(2**32 + 1, 1)}


# Scratch folders of dead processes are removed, and those of running processes remain.

_HOLD = """
import sys, time
from pathlib import Path
from metering.lake.parquet.writer import scratch_folder

with scratch_folder(Path(sys.argv[1])) as folder:
    (folder / "0.arrows").write_bytes(b"x" * 1000)
    print(folder, flush=True)
    time.sleep(600)
"""


def holder(place: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process that still uses its scratch folder, and this folder."""
    process = subprocess.Popen([sys.executable, "-c", _HOLD, str(place)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_a_killed_owners_folder_goes_with_the_next_one_and_a_living_ones_stays(tmp_path: Path) -> None:
    killed, left = holder(tmp_path)
    alive, used = holder(tmp_path)
    try:
        end(killed)
        assert (left / "0.arrows").exists()
        with scratch_folder(tmp_path) as own, scratch_folder(tmp_path) as another:
            assert not left.exists()
            assert (used / "0.arrows").exists()
            assert own.exists()
            assert another.exists()
        assert [path for path in tmp_path.iterdir() if path.is_dir()] == [used]
    finally:
        end(alive)


def test_a_folder_without_a_lock_is_left_for_an_hour(tmp_path: Path) -> None:
    young, old = tmp_path / "metering-lake-young", tmp_path / "metering-lake-old"
    young.mkdir()
    old.mkdir()
    os.utime(old, (0, 0))
    (tmp_path / "metering-lake-link").symlink_to(young)
    with scratch_folder(tmp_path):
        assert young.exists()
        assert not old.exists()


# A command meets a staging object in each of its hours.


def hours_read(kept_bytes: int) -> tuple[World, ParquetLakeReader, list[str]]:
    world = World()
    for number in range(2):
        world.send([record(number + 1, start_s=HOUR - hour * HOUR_S) for hour in range(3)], rolled_up=False)
    calls: list[str] = []
    world.objects.on_call = calls.append
    return world, ParquetLakeReader(world.objects, kept_bytes=kept_bytes), calls


def totals_by_hour(world: World, reader: ParquetLakeReader) -> list[dict[Group, Total]]:
    view = replace(world.jobs.view, reader=reader)
    query = RowQuery(columns=("account_id",))
    return [view.read(HOUR - hour * HOUR_S, lambda state: reader.totals(state.sources, query)) for hour in range(3)]


@pytest.mark.parametrize(("kept_bytes", "reads"), [(0, 6), (1, 6), (1_000_000, 2)])
def test_a_staging_object_that_is_kept_is_read_once_for_all_its_hours(kept_bytes: int, reads: int) -> None:
    world, reader, calls = hours_read(kept_bytes)
    assert [sum(total.bytes for total in hour.values()) for hour in totals_by_hour(world, reader)] == [3, 3, 3]
    assert len([call for call in calls if call.startswith(("objects.get", "objects.open"))]) == reads
