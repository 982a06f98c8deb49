"""DuckDB returns correct results for any SQL, and a blocked read cannot delay a query forever."""

from __future__ import annotations

import ast
import inspect
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise, product
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import metering
from metering.errors import LedgerCorruptError, ObjectDamagedError, UnavailableError
from metering.lake.parquet.frozen_months import ParquetFrozenFiles
from metering.reports.sql import query
from metering.reports.sql.ahead import Stop
from metering.reports.sql.query import QUERY_SCHEMA, LakeQuery, LakeRows, Part, QueryError, QueryStoppedError, ScanState
from metering.stores.objects import summary_key
from metering.units import HOUR_S
from tests.support.examples import examples
from tests.support.lake_world import ACCOUNT, HOUR, World, ask_again_and_again, record, slow_lake
from tests.unit.billing.test_months import FIRST_S, MONTH, world_with_october

OTHER = "210987654321"
# In the lake are 1, 2 and 4 (two files); in staging are 8 and 16.
ROWS, BYTES = 5, 31


@pytest.fixture(scope="module")
def world() -> World:
    world = World()
    world.send([record(1), record(2, account=OTHER)])
    world.compact_all()
    world.send([record(4, start_s=HOUR - HOUR_S)])
    world.compact_all()
    world.send([record(8), record(16, account=OTHER, start_s=HOUR - 2 * HOUR_S)])
    return world


@pytest.mark.parametrize(("sql", "rows"), [
    ("SELECT count(*) FROM transfers", [(ROWS,)]),
    ("SELECT count(*), sum(bytes) FROM (SELECT * FROM transfers)", [(ROWS, BYTES)]),
    ("SELECT count(*), sum(a.bytes) FROM transfers a JOIN transfers b USING (batch_id, bytes)", [(ROWS, BYTES)]),
    ("SELECT count(*) FROM transfers a, transfers b, transfers c", [(ROWS**3,)]),
    ("SELECT sum(bytes) FROM transfers UNION ALL SELECT sum(bytes) FROM usage", [(BYTES,), (BYTES,)]),
    ("WITH t AS (FROM transfers) SELECT (SELECT sum(bytes) FROM t), (SELECT count(*) FROM t)", [(BYTES, ROWS)]),
    ("WITH t AS MATERIALIZED (FROM transfers) SELECT sum(x.bytes) FROM t x JOIN t USING (batch_id, bytes)", [(BYTES,)]),
    ("SELECT max(bytes) FROM transfers WHERE bytes < (SELECT max(bytes) FROM transfers)", [(8,)]),
    ("SELECT bytes FROM transfers t WHERE bytes = "
     "(SELECT max(bytes) FROM transfers u WHERE u.account_id = t.account_id) ORDER BY 1", [(8,), (16,)]),
    ("SELECT sum(bytes) FROM transfers WHERE account_id = '210987654321'", [(18,)]),
    ("SELECT sum(bytes) FROM transfers WHERE account_id IN ('210987654321', '1') OR bytes = 1", [(19,)]),
    ("SELECT sum(bytes) FROM transfers WHERE account_id LIKE '21%' AND hour < now() + INTERVAL 99 YEAR", [(18,)]),
    ("SELECT count(*) FROM transfers WHERE account_id IS NULL", [(0,)]),
    ("SELECT count(*) FROM (SELECT 1 FROM transfers LIMIT 2)", [(2,)]),
    ("SELECT count(DISTINCT hour), count(DISTINCT batch_id) FROM transfers", [(3, 3)]),
    ("SELECT sum(t.bytes) FROM transfers t SEMI JOIN usage u ON t.hour = u.hour AND u.bytes > 0", [(BYTES,)]),
    ("SELECT bytes FROM transfers ORDER BY bytes DESC LIMIT 1", [(16,)]),
    ("SELECT sum(s) FROM (SELECT sum(bytes) OVER (PARTITION BY account_id) s FROM transfers)", [(13 * 3 + 18 * 2,)]),
], ids=lambda value: "sql" if isinstance(value, str) else "rows")  # fmt: skip
def test_any_sql_may_scan_the_views_as_often_as_it_likes(world: World, sql: str, rows: object) -> None:
    assert world.ask(sql) == rows


def test_every_column_has_its_own_values(world: World) -> None:
    [row] = world.ask("SELECT * FROM transfers WHERE bytes = 4")
    names = (ACCOUNT, "AmazonEC2", "i-0abc", "out", "us-east-1/use1-az2", "internet", "DataTransfer-Out-Bytes")
    assert row[:8] == (*names, 4)
    assert len(row) == len(QUERY_SCHEMA.names)


@contextmanager
def opened(world: World) -> Iterator[list[str]]:
    """Yield a list of the object store calls that the block makes."""
    calls: list[str] = []
    world.objects.on_call = calls.append
    try:
        yield calls
    finally:
        world.objects.on_call = lambda _call: None


def test_row_groups_that_cannot_match_are_not_read(world: World) -> None:
    with opened(world) as calls:
        world.ask("SELECT sum(bytes) FROM transfers")
        all_of_it = calls.count("objects.open")
        calls.clear()
        assert world.ask("SELECT sum(bytes) FROM transfers WHERE account_id = '9'") == [(None,)]
    assert calls.count("objects.open") < all_of_it


CANARY = "000000000000"


@pytest.mark.parametrize("compacted", [False, True])
def test_the_canarys_rows_are_only_there_for_who_asks(compacted: bool) -> None:
    world = World()
    others = [record(1), record(100, account=CANARY), record(2, account=CANARY[:-1] + "1")]
    world.send(others, [record(7, account=CANARY)])
    if compacted:
        world.compact_all()
    for sql, plain, with_canary in (
        ("SELECT sum(bytes) FROM transfers", 3, 110),
        ("SELECT sum(bytes) FROM usage", 3, 110),
        ("SELECT count(*) FROM transfers", 2, 4),
        ("SELECT sum(bytes) FROM transfers WHERE bytes > 1", 2, 109),
        (f"SELECT sum(bytes) FROM transfers WHERE account_id = '{CANARY}'", None, 107),  # noqa: S608 - of ours
        ("SELECT count(DISTINCT hour) FROM usage", 1, 1),
    ):
        assert world.ask(sql) == [(plain,)]
        assert world.ask(sql, with_canary=True) == [(with_canary,)]
    assert world.ask("SELECT sum(bytes) FROM transfers", from_s=HOUR, to_s=HOUR + 1_801) == [(3,)]


def test_accounts_are_looked_at_only_in_row_groups_that_may_have_the_canary() -> None:
    """The canary's account sorts first, so row groups without it cost nothing extra."""
    for account, may in ((ACCOUNT, False), (CANARY, True)):
        world = World()
        world.send([record(1, account=account)])
        world.compact_all()
        [key] = world.objects.keys("lake/")
        metadata = pq.ParquetFile(io.BytesIO(world.objects.get(key))).metadata
        part = Part(region="us-east-1", objects=world.objects, key=key, hour_s=HOUR)
        assert query._Group(part=part, metadata=metadata, number=0).may_have_canary is may


@examples(30)
@given(st.lists(st.integers(HOUR - 3 * HOUR_S, HOUR + HOUR_S), min_size=1, max_size=3))
def test_ranges_that_meet_at_any_second_hold_each_row_once(world: World, cuts: list[int]) -> None:
    ends = [0, *sorted(cuts), HOUR + 2 * HOUR_S]
    parts = [
        world.ask("SELECT coalesce(sum(bytes), 0)::BIGINT, count(*) FROM transfers", from_s=a, to_s=b)[0]
        for a, b in pairwise(ends)
        if a < b
    ]
    assert tuple(map(sum, zip(*parts, strict=True))) == (BYTES, ROWS)


def test_a_range_off_the_hour_takes_rows_by_their_start() -> None:
    world = World()
    world.send([record(1, start_s=HOUR), record(2, start_s=HOUR + 900), record(4, start_s=HOUR + 1_799)])
    world.compact_all()
    world.send([record(8, start_s=HOUR + 1_000)])
    total = "SELECT sum(bytes) FROM transfers"
    assert world.ask(total, from_s=HOUR + 900, to_s=HOUR + 1_799) == [(10,)]
    assert world.ask(total, from_s=HOUR + 1, to_s=HOUR + HOUR_S) == [(14,)]
    assert world.ask("SELECT sum(bytes) FROM usage", from_s=HOUR + 901, to_s=HOUR + 1_800) == [(12,)]


def test_corrections_count_at_the_beginning_of_the_hour_that_they_are_booked_in() -> None:
    world = world_with_october()
    world.jobs.closer.close(MONTH, world.deadline())
    world.send([record(17, start_s=FIRST_S + HOUR_S - 1)])
    total = "SELECT sum(bytes) FROM transfers WHERE bytes = 17"
    [(hour_s,)] = world.ask("SELECT epoch(hour)::BIGINT FROM transfers WHERE bytes = 17")
    assert isinstance(hour_s, int)
    assert hour_s > FIRST_S + HOUR_S
    assert world.ask(total, from_s=hour_s, to_s=hour_s + 60) == [(17,)]
    assert world.ask(total, from_s=hour_s + 60, to_s=hour_s + HOUR_S) == [(None,)]


def blocked(world: World, call: str) -> Callable[[], None]:
    """Block each call with the name `call` until the returned function is called."""
    gate = threading.Event()

    def wait(name: str) -> None:
        if name == call:
            gate.wait()

    world.objects.on_call = wait
    return gate.set


@pytest.mark.parametrize("call", ["objects.open.next", "objects.open", "objects.get", "objects.list"])
def test_a_read_that_blocks_is_left_after_the_time_limit(call: str) -> None:
    world = World()
    world.send([record(1)])
    world.compact_all()
    world.send([record(2)])
    free = blocked(world, call)
    began = time.monotonic()
    try:
        with pytest.raises(QueryStoppedError, match=r"longer than 0\.3 s") as error:
            world.ask("SELECT sum(bytes) FROM transfers", timeout_s=0.3)
    finally:
        free()
    assert time.monotonic() - began < 10
    assert "--timeout" in error.value.advice


def test_control_c_ends_a_query_whose_read_blocks() -> None:
    world = World()
    world.send([record(1)])
    world.compact_all()
    free = blocked(world, "objects.open.next")
    # If a script starts a process in the background, the process and its children ignore Ctrl-C's signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    began = time.monotonic()
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            world.ask("SELECT sum(bytes) FROM transfers", timeout_s=20)
    finally:
        free()
        timer.join()
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - began < 10


_BLOCKED_PROCESS = """
import threading
from metering.reports.sql.query import QueryStoppedError
from tests.support.lake_world import World, record
world = World()
world.send([record(1)])
world.compact_all()
world.objects.on_call = lambda call: threading.Event().wait() if call == "objects.open.next" else None
try:
    world.ask("SELECT sum(bytes) FROM transfers", timeout_s=0.3)
except QueryStoppedError as error:
    raise SystemExit(str(error))
"""


def test_a_process_whose_read_blocks_for_ever_ends_all_the_same() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _BLOCKED_PROCESS], capture_output=True, text=True, timeout=60, check=False,
        cwd=Path(__file__).resolve().parents[3],
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.strip() == "The query took longer than 0.3 s and was stopped."


def test_a_query_that_computes_too_long_is_stopped() -> None:
    began = time.monotonic()
    sql = "SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE a.range % 7 = b.range % 11"
    with pytest.raises(QueryStoppedError):
        World().ask(sql, timeout_s=0.3)
    assert time.monotonic() - began < 10


def test_a_time_limit_beyond_all_clocks_is_none(world: World) -> None:
    assert world.ask("SELECT sum(bytes) FROM transfers", timeout_s=1e18) == [(BYTES,)]


def test_a_fetched_file_that_is_gone_is_trouble_of_this_machine_and_no_damage(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    scannable = query.scannable

    def lose(rows: LakeRows) -> LakeRows:
        for part in rows._parts:
            if part.local is not None:
                part.local.unlink(missing_ok=True)
        return scannable(rows)

    monkeypatch.setattr(query, "scannable", lose)
    with pytest.raises(QueryStoppedError, match="No such file"):
        world.ask("SELECT sum(bytes) FROM transfers")


def test_errors_of_reading_stay_what_they_are(world: World) -> None:
    total = "SELECT sum(bytes) FROM transfers"

    def refuse(name: str) -> None:
        if name == "objects.open":
            raise UnavailableError("s3.GetObject", "SlowDown")

    world.objects.on_call = refuse
    try:
        with pytest.raises(UnavailableError):
            world.ask(total)
    finally:
        world.objects.on_call = lambda _call: None
    lake = slow_lake(hours=1, files=2)
    key = lake.objects.keys("lake/")[0]
    lake.objects.put(key, lake.objects.get(key)[:-3], if_absent=False)
    with pytest.raises(ObjectDamagedError, match="lake/"):
        lake.ask(total)
    lake.objects.remove(key)
    with pytest.raises(LedgerCorruptError, match="is gone"):
        lake.ask(total)


def test_a_query_over_many_files_and_slow_reads_ends() -> None:
    """Short version of the drill in tests/e2e, which runs 300 queries."""
    ask_again_and_again(slow_lake(hours=20, files=2), times=8, read_s=0.001)


def test_duckdb_gets_our_rows_and_arrow_no_file_system() -> None:
    """Arrow's scanner and DuckDB occasionally hang if they read through a Python file system."""
    banned = {"pyarrow.fs", "fsspec"}
    names = {"PyFileSystem", "FSSpecHandler", "FileSystemHandler", "FileSystemDataset", "SubTreeFileSystem"}
    for path in sorted(Path(metering.__file__).parent.rglob("*.py")):
        tree = ast.parse(path.read_text())
        imported = {
            *(each.name for node in ast.walk(tree) if isinstance(node, ast.Import) for each in node.names),
            *(str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)),
        }
        used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        used |= {each.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for each in node.names}
        assert not imported & banned, path
        assert not used & names, path
        assert "pyarrow.dataset" not in imported or path == Path(inspect.getfile(query)), path
        assert "register" not in used or "duckdb" not in imported or path == Path(inspect.getfile(query)), path
        assert not used & {"from_arrow", "arrow"} or "duckdb" not in imported, path


def test_a_file_system_handed_to_a_scan_is_refused_before_duckdb_sees_it() -> None:
    rows = LakeRows([Part(region="us-east-1", objects=World().objects, key="lake/x", hour_s=0)], ScanState(stop=Stop()))
    assert query.scannable(rows) is rows
    with pytest.raises(TypeError, match="LakeRows"):
        query.scannable(ds.dataset([]))


def test_usage_is_read_beside_lake_files_and_counted_from_rows_where_that_is_missing_or_wrong() -> None:
    world = World()
    world.send([record(5, start_s=HOUR), record(7, start_s=HOUR, account="999999999999")])
    world.compact_all()
    world.send([record(9, start_s=HOUR)])
    by_account = "SELECT account_id, bytes, records FROM usage ORDER BY account_id"
    expected = [("123456789012", 14, 2), ("999999999999", 7, 1)]
    with opened(world) as calls:
        assert world.ask(by_account) == expected
    # The staging object and the file's totals are read; the file itself is not opened.
    assert "objects.open" not in calls
    [file] = world.files(HOUR)
    body = world.objects.get(summary_key(file.key))
    world.objects.remove(summary_key(file.key))
    assert world.ask(by_account) == expected
    for wrong in (body[:40], ParquetFrozenFiles(world.objects).hour_file([]).content):
        world.objects.put(summary_key(file.key), wrong, if_absent=False)
        assert world.ask(by_account) == expected


def test_usage_of_a_part_of_an_hour_is_that_of_the_rows_in_it() -> None:
    world = World()
    world.send([record(5, start_s=HOUR), record(7, start_s=HOUR + 1_800)])
    world.compact_all()
    assert world.ask("SELECT bytes, records FROM usage", from_s=HOUR + 900) == [(7, 1)]
    assert world.ask("SELECT typeof(bytes), typeof(records), typeof(corrects) FROM usage") == [
        ("HUGEINT", "BIGINT", "TIMESTAMP WITH TIME ZONE")
    ]


_IDS = ("i-a", "i-b", "ü%_x", "it's", " ", "x\\y", "\N{GRINNING FACE}")
_SIZES = (0, 1, 3, 2**53 + 1, 2**62, 2**63 - 1)
_HOURS = (HOUR, HOUR - HOUR_S, HOUR - 3 * HOUR_S)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


_TEXTS = st.sampled_from([_quoted(text) for text in (*_IDS, ACCOUNT, OTHER, "out", "internet", "")] + ["NULL"])
_NUMBERS = st.sampled_from([
    "0", "3", "9007199254740993", "9007199254740992.0", "9223372036854775807", "9223372036854775808", "-1", "2.5",
    "1e3", "3::DOUBLE", "3::DECIMAL(18,3)", "3::HUGEINT", "'3'", "NULL", "'nan'::DOUBLE", "'inf'::DOUBLE",
])  # fmt: skip
_TIMES = st.builds(
    lambda moment_s, form: str(form).format(f"to_timestamp({moment_s})"),
    st.sampled_from([hour_s + more_s for hour_s in _HOURS for more_s in (0, 7)]),
    st.sampled_from(["{}", "{}::TIMESTAMP", "{}::DATE", "{}::VARCHAR", "({} + INTERVAL 1 MICROSECOND)"]),
)
_OPERATORS = st.sampled_from(["=", "<>", "<", ">", "<=", ">=", "IS DISTINCT FROM", "IS NOT DISTINCT FROM"])
_TEXT_COLUMNS = st.sampled_from(["account_id", "service", "resource_id", "direction", "to_location", "usage_type"])
_TIME_COLUMNS = st.sampled_from(["start_time", "end_time", "hour"])
_NOT = st.sampled_from(["", "NOT "])
_LIKE = st.sampled_from(["'i-%'", "'_-_'", "'%'", "'210%'", "'ü\\%%' ESCAPE '\\'"])
_OTHERS = st.sampled_from([
    "start_time = hour", "hour::DATE = start_time::DATE", "bytes::DECIMAL(38,0) > 5", "length(resource_id) = 3",
    "date_trunc('hour', start_time) = hour", "bytes % 2 = 1", "upper(resource_id) = 'I-A'", "NULL", "false",
    "starts_with(resource_id, 'i')", "hour IN (SELECT max(hour) FROM transfers)", "hour IS NULL",
    "account_id IN (SELECT account_id FROM usage WHERE bytes > 3)", "bytes = (SELECT max(bytes) FROM transfers)",
])  # fmt: skip
_ATOMS = st.one_of(
    st.builds("{} {} {}".format, _TEXT_COLUMNS, _OPERATORS, _TEXTS),
    st.builds("{} {}IN ({}, {})".format, _TEXT_COLUMNS, _NOT, _TEXTS, _TEXTS),
    st.builds("{} {}LIKE {}".format, _TEXT_COLUMNS, _NOT, _LIKE),
    st.builds("bytes {} {}".format, _OPERATORS, _NUMBERS),
    st.builds("bytes {}IN ({}, {})".format, _NOT, _NUMBERS, _NUMBERS),
    st.builds("bytes {}BETWEEN {} AND {}".format, _NOT, _NUMBERS, _NUMBERS),
    st.builds("{} {} {}".format, _TIME_COLUMNS, _OPERATORS, _TIMES),
    st.builds("{} {}IN ({}, {})".format, _TIME_COLUMNS, _NOT, _TIMES, _TIMES),
    _OTHERS,
)
_CONDITIONS = st.recursive(
    _ATOMS,
    lambda inner: st.one_of(
        st.builds("({} AND {})".format, inner, inner),
        st.builds("({} OR {})".format, inner, inner),
        st.builds("NOT ({})".format, inner),
    ),
    max_leaves=5,
)
_STATEMENTS = st.sampled_from([
    "SELECT count(*) FROM transfers WHERE {}",
    "SELECT sum(bytes), count(*), min(hour), max(resource_id) FROM transfers WHERE {}",
    "SELECT * FROM transfers WHERE {} ORDER BY ALL",
    "SELECT hour, count(*) FROM transfers WHERE {} GROUP BY 1 ORDER BY 1",
    "SELECT bytes FROM transfers WHERE {} ORDER BY bytes DESC LIMIT 3",
    "SELECT resource_id FROM transfers WHERE {} ORDER BY 1 LIMIT 4 OFFSET 1",
])  # fmt: skip


@pytest.fixture(scope="module")
def lake() -> LakeQuery:
    world = World()
    for number, (account, resource, hour_s) in enumerate(product((ACCOUNT, OTHER), _IDS, _HOURS)):
        size, more_s = _SIZES[number % len(_SIZES)], number % 2 * 7
        world.send([record(size, account=account, resource=resource, start_s=hour_s + more_s)])
        if number % 12 == 11:
            world.compact_all()
    return world.lake


@pytest.fixture(scope="module")
def table(lake: LakeQuery) -> Iterator[duckdb.DuckDBPyConnection]:
    rows = [dict(zip(QUERY_SCHEMA.names, row, strict=True)) for row in lake.run("FROM transfers").rows]
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("rows", pa.Table.from_pylist(rows, schema=QUERY_SCHEMA))
        connection.execute("CREATE TABLE transfers AS FROM rows")
        connection.execute("CREATE VIEW usage AS SELECT account_id, sum(bytes) AS bytes FROM transfers GROUP BY 1")
        yield connection


@pytest.mark.long
@examples(150)
@given(_STATEMENTS, _CONDITIONS)
@example("SELECT count(*) FROM transfers WHERE {}", f"hour = to_timestamp({_HOURS[1]})")
def test_no_filter_changes_what_a_statement_answers(
    lake: LakeQuery, table: duckdb.DuckDBPyConnection, statement: str, condition: str
) -> None:
    sql = statement.format(condition)
    try:
        expected = table.execute(sql).fetchall()
    except duckdb.Error as error:
        # Errors such as a text that is not a number are faults of the statement, in both engines.
        kind = str(error).partition(":")[0]
        with pytest.raises(QueryError, match=kind):
            lake.run(sql)
    else:
        assert list(lake.run(sql).rows) == expected
