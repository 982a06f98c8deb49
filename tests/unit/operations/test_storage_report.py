"""The storage report: the lake's cost, and the cost of other forms of the same rows."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal

from metering.cli.commands.analyst.lake import storage_answer
from metering.cli.printing.output import Format, encoded
from metering.lake.parquet.codec import JsonBatchSizer
from metering.operations.own_costs import StorageReport, StorageReporter, billed_bytes
from metering.units import DAY_S, GIB, HOUR_S
from tests.support.lake_world import HOUR, World, load_batches, record


def storage(world: World, *, part_rows: int = 1_000_000, from_s: int = 0) -> StorageReport:
    reporter = StorageReporter(
        items=world.items,
        objects=world.objects,
        view=world.jobs.view,
        sizer=JsonBatchSizer(world.objects, part_rows=part_rows),
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
    assert billed_bytes("STANDARD", 1) == 1
    assert billed_bytes("STANDARD_IA", 1) == 128 * 1024
