"""What DuckDB pushes down into a scan changes no answer: the same statements over a table of DuckDB's own."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from metering.reports.sql.query import LakeQuery, QueryError, RegionLake
from metering.reports.sql.scan import QUERY_SCHEMA
from metering.units import HOUR_S
from tests.support.lake_world import ACCOUNT, HOUR, World, record

if TYPE_CHECKING:
    from collections.abc import Iterator

OTHER = "210987654321"
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
    return LakeQuery(lakes=[RegionLake(region="us-east-1", view=world.jobs.view, objects=world.objects)])


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
@settings(max_examples=150, deadline=None)
@given(_STATEMENTS, _CONDITIONS)
@example("SELECT count(*) FROM transfers WHERE {}", f"hour = to_timestamp({_HOURS[1]})")
def test_no_filter_changes_what_a_statement_answers(
    lake: LakeQuery, table: duckdb.DuckDBPyConnection, statement: str, condition: str
) -> None:
    sql = statement.format(condition)
    try:
        expected = table.execute(sql).fetchall()
    except duckdb.Error as error:
        # A text that is no number, or the like: a fault of the statement, here and there.
        kind = str(error).partition(":")[0]
        with pytest.raises(QueryError, match=kind):
            lake.run(sql)
    else:
        assert list(lake.run(sql).rows) == expected
