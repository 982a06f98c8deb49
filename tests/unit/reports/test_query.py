"""SQL over the exact view, and the storage report."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal

import pytest

from metering.cli.commands.analyst.lake import storage_answer
from metering.cli.printing.output import Format, encoded
from metering.lake.parquet.codec import JsonBatchSizer
from metering.operations.own_costs import StoragePrices, StorageReport, StorageReporter
from metering.reports.sql.query import LakeQuery, QueryError, RegionLake, result_answer
from metering.units import DAY_S, GIB, HOUR_S
from tests.support.lake_world import ACCOUNT, HOUR, NOW_S, World, load_batches, record
from tests.unit.billing.test_months import FIRST_S, MONTH, world_with_october

OTHER = "210987654321"


def world_with_traffic() -> World:
    world = World()
    world.send([record(2**62), record(2**62), record(2**62), record(7, account=OTHER)])
    world.compact_all()
    world.send([record(5, account=OTHER, start_s=NOW_S - 3 * DAY_S), record(3)])
    return world


def ask(world: World, sql: str, *, from_s: int = 0, to_s: int | None = None) -> list[tuple[object, ...]]:
    return list(
        LakeQuery(lakes=[RegionLake(region="us-east-1", view=world.jobs.view, objects=world.objects)])
        .run(sql, from_s=from_s, to_s=to_s)
        .rows
    )


def test_lake_and_staging_are_summed_exactly_beyond_63_bits() -> None:
    world = world_with_traffic()
    talkers = ask(world, "SELECT account_id, sum(bytes), count(*) FROM transfers GROUP BY 1 ORDER BY 2 DESC")
    assert talkers == [(ACCOUNT, 3 * 2**62 + 3, 4), (OTHER, 12, 2)]
    usage = ask(world, "SELECT account_id, sum(bytes), sum(records) FROM usage GROUP BY 1 ORDER BY 2 DESC")
    assert usage == talkers


def test_usage_names_the_hour_that_a_row_corrects_and_no_other() -> None:
    world = world_with_october()
    world.jobs.closer.close(MONTH, world.deadline())
    world.send([record(17, start_s=FIRST_S + HOUR_S - 1), record(19, start_s=FIRST_S + 100 * HOUR_S)])
    corrections = ask(world, "SELECT epoch(corrects)::BIGINT, bytes FROM usage WHERE corrects IS NOT NULL ORDER BY 1")
    assert corrections == [(FIRST_S, 17), (FIRST_S + 100 * HOUR_S, 19)]
    assert ask(world, "SELECT typeof(corrects), typeof(hour) FROM usage LIMIT 1") == [("TIMESTAMP WITH TIME ZONE",) * 2]


def test_columns_of_one_name_keep_their_own_values() -> None:
    result = LakeQuery(lakes=[RegionLake(region="us-east-1", view=World().jobs.view, objects=World().objects)]).run(
        "SELECT 5 AS bytes, 17 AS bytes, 1 AS b"
    )
    answer = result_answer(result)
    assert encoded(answer, Format.CSV) == b"bytes,bytes_2,b\n5,17,1\n"


def test_a_number_of_a_query_is_grouped_and_to_the_right_whatever_its_name_and_json_has_it_as_ever() -> None:
    sql = "SELECT 'USW2-A' AS usage_type, 12345678::HUGEINT AS total, 1234.5::DOUBLE AS mean, 7::BIGINT AS n"
    result = LakeQuery(lakes=[RegionLake(region="us-east-1", view=World().jobs.view, objects=World().objects)]).run(
        f"{sql} UNION ALL {sql}"
    )
    answer = result_answer(result)
    lines = encoded(answer, Format.TABLE).decode().splitlines()
    assert lines == [
        "usage_type       total     mean  n",
        "──────────  ──────────  ───────  ─",
        "USW2-A      12,345,678  1,234.5  7",
        "USW2-A      12,345,678  1,234.5  7",
    ]
    assert json.loads(encoded(answer, Format.JSON))["rows"][0] == {
        "usage_type": "USW2-A",
        "total": "12345678",
        "mean": "1234.5",
        "n": 7,
    }


def test_a_time_of_a_query_is_printed_as_elsewhere_also_in_json() -> None:
    sql = "SELECT '2026-11-24 14:04:00+00'::TIMESTAMPTZ AS start_time, '2026-11-24'::DATE AS day"
    result = LakeQuery(lakes=[RegionLake(region="us-east-1", view=World().jobs.view, objects=World().objects)]).run(sql)
    answer = result_answer(result)
    assert "2026-11-24T14:04:00Z  2026-11-24" in encoded(answer, Format.TABLE).decode()
    assert json.loads(encoded(answer, Format.JSON))["rows"] == [
        {"start_time": "2026-11-24T14:04:00Z", "day": "2026-11-24"}
    ]


def test_only_bytes_have_a_size_beside_them() -> None:
    sql = "SELECT 2048::HUGEINT AS bytes, 4096::HUGEINT AS total"
    result = LakeQuery(lakes=[RegionLake(region="us-east-1", view=World().jobs.view, objects=World().objects)]).run(sql)
    text = encoded(result_answer(result), Format.TABLE).decode()
    assert "2.00 KB" in text
    assert "4.00 KB" not in text


def test_the_hour_is_a_column_and_a_range() -> None:
    world = world_with_traffic()
    assert ask(world, "SELECT count(DISTINCT hour) FROM transfers") == [(2,)]
    assert ask(world, "SELECT sum(bytes) FROM transfers WHERE hour < '2026-11-23'") == [(5,)]
    assert ask(world, "SELECT sum(bytes) FROM transfers", from_s=0, to_s=NOW_S - DAY_S) == [(5,)]


def test_an_empty_lake_has_views_too() -> None:
    assert ask(World(), "SELECT count(*) FROM usage") == [(0,)]


@pytest.mark.parametrize(
    "sql",
    [
        "SELEC",
        "SELECT * FROM nothing",
        "SELECT * FROM read_csv('/etc/passwd')",
        "COPY (SELECT 1) TO '/tmp/x.csv'",
        "SET enable_external_access = true",
    ],
)
def test_a_wrong_query_is_refused_and_files_are_out_of_reach(sql: str) -> None:
    with pytest.raises(QueryError):
        ask(world_with_traffic(), sql)


@pytest.mark.parametrize("sql", ["", "  ", ";", "-- nothing"])
def test_a_query_without_a_statement_is_a_wrong_one(sql: str) -> None:
    with pytest.raises(QueryError, match="no statement"):
        ask(World(), sql)


def storage(world: World, *, part_rows: int = 1_000_000, from_s: int = 0) -> StorageReport:
    reporter = StorageReporter(
        items=world.items,
        objects=world.objects,
        view=world.jobs.view,
        sizer=JsonBatchSizer(world.objects, part_rows=part_rows),
        prices=StoragePrices(),
    )
    return reporter.report(from_s=from_s)


def test_the_rows_of_earlier_hours_are_left_out_of_a_storage_report_that_begins_later() -> None:
    world = World()
    world.send([record(1, start_s=HOUR)], [record(2, start_s=HOUR - HOUR_S), record(3, start_s=HOUR - HOUR_S)])
    world.compact_all()
    assert [(each.sizes.records, each.lake_records) for each in (storage(world), storage(world, from_s=HOUR))] == [
        (3, 3),
        (1, 1),
    ]


def test_the_alternatives_are_computed_from_the_rows() -> None:
    world = World()
    records = [record(n, resource=f"i-{n:02}") for n in range(50)]
    world.send(records, records[:1])
    world.compact_all()
    for part_rows in (1_000_000, 10):
        report = storage(world, part_rows=part_rows)
        bodies = [
            json.dumps(
                {"batch_id": f"batch-{n}", "record_count": len(some), "records": some, "schema": "metering.batch/1"},
                separators=(",", ":"),
            ).encode()
            for n, some in enumerate((records, records[:1]))
        ]
        assert (report.sizes.batches, report.sizes.records) == (2, 51)
        assert report.sizes.json_bytes == sum(map(len, bodies))
        assert report.sizes.gzip_bytes == sum(len(gzip.compress(body, 6)) for body in bodies)
    assert report.json.usd_month == Decimal(report.sizes.json_bytes) / GIB * Decimal("0.023")
    assert report.lake_records == 51
    lake = sum(len(world.objects.get(key)) for key in world.objects.keys("lake/"))
    assert report.lake_bytes == lake
    assert {prefix.prefix for prefix in report.prefixes} == {"lake/", "runs/", "staging/", "summaries/"}


def test_the_lake_costs_a_tenth_of_one_json_object_a_batch_or_less() -> None:
    """Larger files do better: 2 M records of this traffic are in docs/decisions/0010-lake-files.md."""
    world = World()
    for batch in load_batches(20_000):
        world.send(batch, rolled_up=False)
    world.roll_up()
    world.compact_all()
    world.clock.advance_s(DAY_S)
    world.jobs.cleaner.run(world.deadline())
    report = storage(world)
    assert report.sizes.records == report.lake_records == 20_000
    assert report.saving(report.json) >= Decimal("0.9")
    assert 0 < report.saving(report.gzip) < report.saving(report.json)
    assert report.lake_bytes <= 16 * report.lake_records


def test_an_empty_region_has_a_report_too() -> None:
    report = storage(World())
    assert (report.sizes.batches, report.ours.usd_month, report.saving(report.json)) == (0, Decimal(0), Decimal(0))
    assert b"0 records in 0 batches" in encoded(storage_answer(report), Format.TABLE)


def test_a_table_names_prices_and_both_savings() -> None:
    world = World()
    world.send([record(n, resource=f"i-{n:02}") for n in range(50)])
    world.objects.put("ingest/a.ndjson", b"x" * 1_000, if_absent=True)
    world.objects.put("quarantine/2026-11-24/a.ndjson", b"x" * 10, if_absent=True)
    world.compact_all()
    answer = storage_answer(storage(world))
    text = encoded(answer, Format.TABLE).decode()
    for said in (
        "ingest/",
        "quarantine/",
        "one JSON object a batch",
        "one gzip a batch",
        "against gzip",
        "STANDARD 0.023",
    ):
        assert said in text
    assert set(json.loads(encoded(answer, Format.JSON))["savings"]) == {
        "json", "gzip", "json_with_requests", "gzip_with_requests"
    }  # fmt: skip


def test_small_objects_of_cheap_classes_are_billed_as_128_kib() -> None:
    prices = StoragePrices()
    assert prices.billed_bytes("STANDARD", 1) == 1
    assert prices.billed_bytes("STANDARD_IA", 1) == 128 * 1024
