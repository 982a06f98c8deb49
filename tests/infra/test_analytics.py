"""The catalog for engines that know nothing of us, and what such an engine makes of the lake."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from infra.components.analytics import COLUMNS, TOTALS_COLUMNS, VIEW_SQL
from metering.lake.parquet.hour_rows import LAKE_SCHEMA
from metering.lake.parquet.usage_files import USAGE_SCHEMA
from metering.units import DAY_S
from tests.infra.support.synthesis import synthesised
from tests.support.lake_world import ACCOUNT, NOW_S, World, record

if TYPE_CHECKING:
    from pathlib import Path

_HIVE = {pa.string(): "string", pa.int64(): "bigint"}


def test_athena_reads_the_lake_with_the_engine_that_knows_microseconds() -> None:
    group = synthesised("prod").one("data", "AWS::Athena::WorkGroup")["Properties"]["WorkGroupConfiguration"]

    assert group["EngineVersion"] == {"SelectedEngineVersion": "Athena engine version 3"}
    assert group["EnforceWorkGroupConfiguration"] is True
    assert {field.type for field in LAKE_SCHEMA if field.name.endswith("_time")} == {pa.timestamp("us", tz="UTC")}


def table_of(name: str) -> dict[str, Any]:
    tables = synthesised("prod").resources("data", "AWS::Glue::Table").values()
    inputs: list[dict[str, Any]] = [table["Properties"]["TableInput"] for table in tables]
    return next(table for table in inputs if table["Name"] == name)


def test_the_table_has_the_lakes_columns() -> None:
    plain = {field.name: field.type for field in LAKE_SCHEMA}
    plain = {name: kind.value_type if pa.types.is_dictionary(kind) else kind for name, kind in plain.items()}
    assert {name: _HIVE.get(kind, "timestamp") for name, kind in plain.items()} == COLUMNS


def test_partitions_follow_from_the_clock() -> None:
    table = table_of("transfers")
    parameters = table["Parameters"]
    assert [column["Name"] for column in table["PartitionKeys"]] == ["dt", "hour"]
    assert parameters["projection.enabled"] == "true"
    assert (parameters["projection.dt.type"], parameters["projection.hour.digits"]) == ("date", "2")
    assert json.dumps(parameters["storage.location.template"]).endswith('/lake/dt=${dt}/hour=${hour}/"]]}')


def test_the_table_of_totals_has_the_columns_of_their_files_and_its_hour_is_the_partitions() -> None:
    plain = {field.name: field.type for field in USAGE_SCHEMA if field.name != "hour"}
    plain = {name: kind.value_type if pa.types.is_dictionary(kind) else kind for name, kind in plain.items()}
    kinds = {pa.string(): "string", pa.decimal128(38, 0): "decimal(38,0)"}
    table = table_of("totals")
    columns = {column["Name"]: column["Type"] for column in table["StorageDescriptor"]["Columns"]}
    assert columns == {name: kinds.get(kind, "timestamp") for name, kind in plain.items()}
    assert [column["Name"] for column in table["PartitionKeys"]] == ["dt", "hour"]
    assert json.dumps(table["Parameters"]["storage.location.template"]).endswith(
        '/summaries/dt=${dt}/hour=${hour}/"]]}'
    )


def test_whoever_may_query_may_read_both_tables_and_the_view() -> None:
    template = synthesised("prod")
    policies = [json.dumps(each) for each in template.resources("data", "AWS::IAM::Policy").values()]
    [allowed] = [text for text in policies if "glue:GetTable" in text and "Reader" in text]
    for name in ("transfers", "totals", "usage"):
        assert f":table/metering_prod/{name}" in allowed


def test_the_view_is_the_statement_that_is_tested_below_and_its_sums_are_decimals() -> None:
    table = table_of("usage")
    comment = re.fullmatch(r"/\* Presto View: (\S+) \*/", table["ViewOriginalText"])
    assert comment
    view = json.loads(base64.b64decode(comment[1]))
    assert view["originalSql"] == VIEW_SQL
    assert {column["name"]: column["type"] for column in view["columns"]}["bytes"] == "decimal(38,0)"


def test_an_engine_that_lists_the_prefix_and_asks_the_view_gets_the_same_totals(tmp_path: Path) -> None:
    world = World()
    world.send([record(2**62), record(2**62), record(2**62)], [record(7, account="210987654321")])
    world.send([record(5, start_s=NOW_S - 20 * DAY_S)])
    world.compact_all()
    world.send([record(11)])
    world.compact_all()
    for key in (*world.objects.keys("lake/"), *world.objects.keys("summaries/")):
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_bytes(world.objects.get(key))
    with duckdb.connect() as engine:
        lake = engine.read_parquet(f"{tmp_path}/lake/**/*.parquet", hive_partitioning=True)
        lake.create_view("transfers")
        rows = (
            engine.sql(VIEW_SQL)
            .project("dt::VARCHAR, hour::VARCHAR, account_id, bytes, records")
            .order("1, 3")
            .fetchall()
        )
        files = engine.read_parquet(f"{tmp_path}/summaries/**/*.parquet", hive_partitioning=True)
        totals = (
            engine.sql("SELECT dt::VARCHAR, account_id, sum(bytes), sum(records) FROM files GROUP BY ALL ORDER BY 1, 2")
            .project("#1, #2, #3::HUGEINT, #4::BIGINT")
            .fetchall()
        )
        assert len(files.columns) > len(TOTALS_COLUMNS)
    assert totals == [(dt, account_id, size, records) for dt, _, account_id, size, records in rows]
    assert rows == [
        ("2026-11-04", "13", ACCOUNT, 5, 1),
        ("2026-11-24", "13", ACCOUNT, 3 * 2**62 + 11, 4),
        ("2026-11-24", "13", "210987654321", 7, 1),
    ]
    assert sum(row[3] for row in rows) == sum(total.bytes for total in world.usage().values())
