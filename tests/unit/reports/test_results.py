"""SQL results are exact and complete at any size, and answers have the same bytes in each encoding."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.cli.printing.output import Format, encoded
from metering.errors import OperationFailedError
from metering.reports.answer import (
    KEEP,
    Answer,
    Cell,
    Column,
    ListedRows,
    MappedRows,
    RowType,
    copied,
    encoded_bytes,
    short,
    timed,
)
from metering.reports.sql.query import PART_ROWS, QueryError, StoredRows, result_answer
from metering.units import DAY_S, HOUR_S
from tests.support.lake_world import ACCOUNT, NOW_S, World, record
from tests.unit.billing.test_months import FIRST_S, MONTH, world_with_october

if TYPE_CHECKING:
    from pathlib import Path


@given(st.lists(st.integers(1, 5), max_size=8), st.data())
def test_stored_rows_are_a_sequence(parts: list[int], data: st.DataObject) -> None:
    stored, expected = StoredRows(), []
    for number, size in enumerate(parts):
        rows: list[tuple[object, ...]] = [(number, place, 2**100) for place in range(size)]
        stored.add(rows)
        expected += rows
    assert (len(stored), list(stored), stored[: len(expected) // 2]) == (
        len(expected), expected, expected[: len(expected) // 2]
    )  # fmt: skip
    place = data.draw(st.integers(-len(expected) - 2, len(expected) + 2))
    if -len(expected) <= place < len(expected):
        assert stored[place] == expected[place]
    else:
        with pytest.raises(IndexError):
            stored[place]
    assert all(one == other for one, other in zip(stored, stored, strict=True)), "two readers disturb each other"
    doubled = MappedRows(stored, lambda row: (row, row))
    assert (len(doubled), list(doubled)) == (len(expected), [(row, row) for row in expected])


def test_a_large_result_leaves_no_file_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    world = World()
    size = 3 * PART_ROWS + 1
    result = world.lake.run(f"SELECT range AS n FROM range({size})")  # noqa: S608 - of ours
    assert [row[0] for row in result.rows] == list(range(size))
    assert list(tmp_path.iterdir()) == []


def test_every_encoding_of_a_large_result_is_what_a_whole_one_would_be() -> None:
    columns = (Column(name="n", kind="integer"), Column(name="t"))
    rows: list[dict[str, Cell]] = [{"n": n, "t": f"x\n{n}"} for n in range(25_000)]
    answer = Answer(columns=columns, rows=rows, meta={"as_of": "now"})
    assert encoded_bytes(answer, "json").decode() == json.dumps({"as_of": "now", "rows": rows}, indent=2) + "\n"
    assert encoded_bytes(answer, "ndjson").decode() == "".join(json.dumps(row) + "\n" for row in rows)
    assert len(encoded_bytes(answer, "csv").splitlines()) == 25_001
    assert pq.read_table(io.BytesIO(encoded_bytes(answer, "parquet"))).to_pylist() == rows
    empty = Answer(columns=columns, rows=[], meta={"as_of": "now"})
    assert encoded_bytes(empty, "json").decode() == json.dumps({"as_of": "now", "rows": []}, indent=2) + "\n"
    assert pq.read_table(io.BytesIO(encoded_bytes(empty, "parquet"))).num_rows == 0


def test_sums_are_numbers_in_every_encoding_whatever_they_are_called() -> None:
    sql = "SELECT sum(range::HUGEINT * 10000000000000000000) AS total, count(*) AS n FROM range(11)"
    answer = result_answer(World().lake.run(sql))
    total = 55 * 10**19
    assert json.loads(encoded(answer, Format.JSON))["rows"] == [{"total": str(total), "n": 11}]
    table = pq.read_table(io.BytesIO(encoded(answer, Format.PARQUET)))
    assert table.schema.field("total").type == pa.decimal128(38, 0)
    assert table["total"][0].as_py() == Decimal(total)
    text = encoded(answer, Format.TABLE).decode()
    assert f"{total:,}" in text
    assert "GB" not in text, "nobody said that it is bytes"


def test_a_number_that_parquet_cannot_hold_is_a_sentence() -> None:
    answer = Answer(columns=(Column(name="n", kind="whole"),), rows=[{"n": 2**127 - 1}])
    with pytest.raises(OperationFailedError, match="more digits than Parquet holds"):
        encoded_bytes(answer, "parquet")
    assert encoded_bytes(answer, "csv") == f"n\n{2**127 - 1}\n".encode()


def test_times_are_those_of_rfc_3339() -> None:
    sql = "SELECT TIMESTAMPTZ '2026-11-24 13:00:00+00' AS t, TIMESTAMPTZ '2026-11-24 13:00:00.25+00' AS u"
    answer = result_answer(World().lake.run(sql))
    assert encoded_bytes(answer, "csv") == b"t,u\n2026-11-24T13:00:00Z,2026-11-24T13:00:00.250000Z\n"


_LARGE = """
import resource, sys
from dataclasses import replace
from metering.reports.answer import PIECES
from metering.reports.sql.query import result_answer
from tests.support.lake_world import World
world = World()
lake = replace(world.lake, threads=1)
sql = "SELECT range AS n, 'a text of some length that differs ' || range AS t FROM range(%d)"
def largest(rows):
    answer = result_answer(lake.run(sql % rows))
    sizes = {name: sum(map(len, pieces(answer))) for name, pieces in PIECES.items()}
    assert len(answer.rows) == rows and min(sizes.values()) > rows
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = largest(60_000)
print(largest(600_000) - before)
"""


@pytest.mark.long
def test_memory_does_not_grow_with_the_rows_of_a_result() -> None:
    done = subprocess.run([sys.executable, "-c", _LARGE], capture_output=True, text=True, check=True, timeout=120)
    # As dicts, 540,000 rows of this kind would take over 200 MiB.
    assert int(done.stdout) < 60, done.stdout


class _Colour(StrEnum):
    RED = "red"


class _Thing(NamedTuple):
    name: str
    at_s: int
    colour: _Colour
    parts: tuple[str, ...]


def test_a_row_type_says_columns_and_values_in_one_place() -> None:
    things: RowType[_Thing] = RowType(
        copied("name", priority=KEEP), timed("at", of=lambda it: it.at_s, title="when"), short("colour", "parts")
    )
    thing = _Thing("a", 0, _Colour.RED, ("x", "y"))
    row = {"name": "a", "at": "1970-01-01T00:00:00Z", "colour": "red", "parts": "x, y"}
    assert things.columns[:2] == (
        Column(name="name", text="copied", priority=KEEP), Column(name="at", kind="time", title="when")
    )  # fmt: skip
    assert things.answer([thing], title="T") == Answer(columns=things.columns, rows=[row], title="T")
    assert things.one(thing) == Answer(columns=things.columns, rows=[row], document=row)


def test_listed_values_stand_in_the_order_of_columns_and_none_may_miss() -> None:
    listed = ListedRows(copied("name"), timed("at"))
    assert listed.row(("a", None)) == {"name": "a", "at": None}
    with pytest.raises(ValueError, match="shorter"):
        listed.row(("a",))


OTHER = "210987654321"


def world_with_traffic() -> World:
    world = World()
    world.send([record(2**62), record(2**62), record(2**62), record(7, account=OTHER)])
    world.compact_all()
    world.send([record(5, account=OTHER, start_s=NOW_S - 3 * DAY_S), record(3)])
    return world


def test_lake_and_staging_are_summed_exactly_beyond_63_bits() -> None:
    world = world_with_traffic()
    talkers = world.ask("SELECT account_id, sum(bytes), count(*) FROM transfers GROUP BY 1 ORDER BY 2 DESC")
    assert talkers == [(ACCOUNT, 3 * 2**62 + 3, 4), (OTHER, 12, 2)]
    usage = world.ask("SELECT account_id, sum(bytes), sum(records) FROM usage GROUP BY 1 ORDER BY 2 DESC")
    assert usage == talkers


def test_usage_names_the_hour_that_a_row_corrects_and_no_other() -> None:
    world = world_with_october()
    world.jobs.closer.close(MONTH, world.deadline())
    world.send([record(17, start_s=FIRST_S + HOUR_S - 1), record(19, start_s=FIRST_S + 100 * HOUR_S)])
    corrections = world.ask("SELECT epoch(corrects)::BIGINT, bytes FROM usage WHERE corrects IS NOT NULL ORDER BY 1")
    assert corrections == [(FIRST_S, 17), (FIRST_S + 100 * HOUR_S, 19)]
    assert world.ask("SELECT typeof(corrects), typeof(hour) FROM usage LIMIT 1") == [("TIMESTAMP WITH TIME ZONE",) * 2]


def test_columns_of_one_name_keep_their_own_values() -> None:
    answer = result_answer(World().lake.run("SELECT 5 AS bytes, 17 AS bytes, 1 AS b"))
    assert encoded(answer, Format.CSV) == b"bytes,bytes_2,b\n5,17,1\n"


def test_a_number_of_a_query_is_grouped_and_to_the_right_whatever_its_name_and_json_has_it_as_ever() -> None:
    sql = "SELECT 'USW2-A' AS usage_type, 12345678::HUGEINT AS total, 1234.5::DOUBLE AS mean, 7::BIGINT AS n"
    answer = result_answer(World().lake.run(f"{sql} UNION ALL {sql}"))
    lines = encoded(answer, Format.TABLE).decode().splitlines()
    assert lines == [
        "usage_type       total     mean  n",
        "──────────  ──────────  ───────  ─",
        "USW2-A      12,345,678  1,234.5  7",
        "USW2-A      12,345,678  1,234.5  7",
    ]
    row = {"usage_type": "USW2-A", "total": "12345678", "mean": "1234.5", "n": 7}
    assert json.loads(encoded(answer, Format.JSON))["rows"][0] == row


def test_a_time_of_a_query_is_printed_as_elsewhere_also_in_json() -> None:
    sql = "SELECT '2026-11-24 14:04:00+00'::TIMESTAMPTZ AS start_time, '2026-11-24'::DATE AS day"
    answer = result_answer(World().lake.run(sql))
    assert "2026-11-24T14:04:00Z  2026-11-24" in encoded(answer, Format.TABLE).decode()
    [row] = json.loads(encoded(answer, Format.JSON))["rows"]
    assert row == {"start_time": "2026-11-24T14:04:00Z", "day": "2026-11-24"}


def test_only_bytes_have_a_size_beside_them() -> None:
    result = World().lake.run("SELECT 2048::HUGEINT AS bytes, 4096::HUGEINT AS total")
    text = encoded(result_answer(result), Format.TABLE).decode()
    assert ("2.00 KB" in text, "4.00 KB" in text) == (True, False)


def test_the_hour_is_a_column_and_a_range() -> None:
    world = world_with_traffic()
    assert world.ask("SELECT count(DISTINCT hour) FROM transfers") == [(2,)]
    assert world.ask("SELECT sum(bytes) FROM transfers WHERE hour < '2026-11-23'") == [(5,)]
    assert world.ask("SELECT sum(bytes) FROM transfers", from_s=0, to_s=NOW_S - DAY_S) == [(5,)]


@pytest.mark.parametrize("sql", [
    "SELEC", "SELECT * FROM nothing", "SELECT * FROM read_csv('/etc/passwd')", "COPY (SELECT 1) TO '/tmp/x.csv'",
    "SET enable_external_access = true",
])  # fmt: skip
def test_a_wrong_query_is_refused_and_files_are_out_of_reach(sql: str) -> None:
    with pytest.raises(QueryError):
        world_with_traffic().ask(sql)


@pytest.mark.parametrize("sql", ["", "  ", ";", "-- nothing"])
def test_a_query_without_a_statement_is_a_wrong_one_and_an_empty_lake_has_views_too(sql: str) -> None:
    with pytest.raises(QueryError, match="no statement"):
        World().ask(sql)
    assert World().ask("SELECT count(*) FROM usage") == [(0,)]
