"""Staging objects contain exactly what was read."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from metering.errors import ObjectDamagedError, ObjectMissingError
from metering.lake.parquet.codec import ParquetRowCodec
from metering.lake.parquet.hour_rows import BOOKED_HOUR, LAKE_SCHEMA, STAGING_SCHEMA
from metering.lake.parquet.reader import ParquetStagedUsage
from metering.lake.ports import LAKE_COLUMNS, StagedBatch
from metering.usage.totals import Service, Total, UsageKey, UsageType
from tests.support.memory.clock import ManualClock
from tests.support.memory.objects import MemoryObjectStore
from tests.support.reading import SENT_AT_S, Desk, message, parquet, pointer, record

_HOUR_S = 1_795_525_200


def staged(batch_id: str, records: list[Any], rebooked: Mapping[int, int] | None = None) -> StagedBatch:
    rows = Desk().decoded(message(records, batch_id=batch_id)).rows
    return StagedBatch(batch_id=batch_id, rows=rows, rebooked=rebooked or {})


def encoded(*batches: StagedBatch) -> pq.ParquetFile:
    return pq.ParquetFile(pa.BufferReader(ParquetRowCodec().encode(batches)))


def at(hours_ago: int, **changes: object) -> dict[str, Any]:
    start_s = _HOUR_S - 3_600 * hours_ago + 60
    return record(start=start_s, end=start_s + 60, **changes)


def test_the_columns_are_the_lakes_and_the_booked_hour() -> None:
    file = encoded(staged("b-1", [record(bytes=7, usage_type="X:Y", resource_id="é")]))
    assert file.schema_arrow.names == STAGING_SCHEMA.names == [*LAKE_SCHEMA.names, BOOKED_HOUR]
    (row,) = file.read().to_pylist()
    assert row["start_time"].timestamp() == _HOUR_S
    assert row["end_time"].timestamp() == _HOUR_S + 300
    del row["start_time"], row["end_time"]
    assert row == {
        "account_id": "123456789012",
        "service": "AmazonEC2",
        "resource_id": "é",
        "direction": "out",
        "from_location": "us-east-1/use1-az2",
        "to_location": "internet",
        "usage_type": "X:Y",
        "bytes": 7,
        "batch_id": "b-1",
        "booked_hour": _HOUR_S,
    }


def test_types_are_plain_for_other_engines() -> None:
    schema = encoded(staged("b", [record()])).schema_arrow
    assert schema.field("bytes").type == pa.int64()
    assert schema.field("start_time").type == pa.timestamp("us", tz="UTC")
    assert schema.field("account_id").type == pa.string()
    assert not any(field.nullable for field in schema)


def test_rows_are_sorted_by_booked_hour_in_a_row_group_of_their_own() -> None:
    batches = [staged("b-1", [at(0), at(5), at(2)]), staged("b-2", [at(5), at(0, resource_id="last")])]
    file = encoded(*batches)
    hours = [
        set(file.read_row_group(group).column(BOOKED_HOUR).to_pylist()) for group in range(file.metadata.num_row_groups)
    ]
    assert hours == [{_HOUR_S - 5 * 3_600}, {_HOUR_S - 2 * 3_600}, {_HOUR_S}]
    assert file.read().column("batch_id").to_pylist() == ["b-1", "b-2", "b-1", "b-1", "b-2"]


def test_hours_of_closed_months_are_booked_where_the_batch_says() -> None:
    moved = {_HOUR_S - 5 * 3_600: _HOUR_S + 3_600}
    table = encoded(staged("b-1", [at(5), at(0)], moved), staged("b-2", [at(5)])).read()
    booked = list(zip(table.column("batch_id").to_pylist(), table.column(BOOKED_HOUR).to_pylist(), strict=True))
    assert booked == [("b-2", _HOUR_S - 5 * 3_600), ("b-1", _HOUR_S), ("b-1", _HOUR_S + 3_600)]
    assert pc.min(table.column("start_time")).as_py().timestamp() == _HOUR_S - 5 * 3_600 + 60


def test_refused_records_leave_no_trace() -> None:
    bad = record(account_id="999999999999", bytes=-1)
    worse = record(service="secret!")
    body = ParquetRowCodec().encode([staged("b", [bad, record(), worse])])
    assert pq.read_table(pa.BufferReader(body)).num_rows == 1
    assert b"secret!" not in body


def test_rows_from_parquet_and_from_json_stand_side_by_side() -> None:
    plain = [record(start=SENT_AT_S - 60, end=SENT_AT_S, resource_id=f"i-{n}") for n in range(3)]
    desk = Desk().put("ingest/x", parquet(pa.Table.from_pylist(plain)))
    columnar = desk.decoded(pointer("ingest/x", "parquet", count=3))
    batches = [staged("b-1", plain), StagedBatch(batch_id="b-2", rows=columnar.rows, rebooked={}), staged("b-3", plain)]
    table = encoded(*batches).read()
    assert table.column("resource_id").to_pylist() == ["i-0", "i-1", "i-2"] * 3
    assert table.column("batch_id").to_pylist() == ["b-1"] * 3 + ["b-2"] * 3 + ["b-3"] * 3


def test_the_same_rows_make_the_same_object() -> None:
    batches = [staged("b-1", [at(0), at(5)]), staged("b-2", [at(1)])]
    assert ParquetRowCodec().encode(batches) == ParquetRowCodec().encode(batches)


def test_rows_of_another_codec_are_a_mistake() -> None:
    with pytest.raises(TypeError):
        ParquetRowCodec().encode([StagedBatch(batch_id="b", rows=[1], rebooked={})])


def test_a_commit_of_ninety_batches_is_small() -> None:
    rows = Desk().decoded(message([record(resource_id=f"i-{n:017x}", bytes=n) for n in range(100)])).rows
    body = ParquetRowCodec().encode([StagedBatch(batch_id=f"b-{n}", rows=rows, rebooked={}) for n in range(90)])
    assert len(body) / 9_000 < 16


def test_the_lakes_columns_are_those_of_the_contract_in_their_order() -> None:
    contract = (Path(__file__).resolve().parents[3] / "docs" / "contract" / "producers.md").read_text()
    listed = re.search(r"Lake columns: (.*?)\.$", contract, re.DOTALL | re.MULTILINE)
    assert listed
    assert tuple(re.findall(r"`(\w+)`", listed[1])) == LAKE_COLUMNS == tuple(LAKE_SCHEMA.names)


# The usage of a staging object is the sum of its rows by booked hour, key and correction, for any bytes (P7).

_KEY = "staging/2026-11-24/c1.parquet"
_MOST = 2**63 - 1


def _store(*batches: StagedBatch) -> MemoryObjectStore:
    objects = MemoryObjectStore(ManualClock(0))
    objects.put(_KEY, ParquetRowCodec().encode(batches), if_absent=True)
    return objects


def _key(hours_ago: int = 0, *, account: str = "123456789012", corrects_s: int | None = None) -> UsageKey:
    hour_s = _HOUR_S - 3_600 * hours_ago
    return UsageKey(
        hour_s, account, UsageType("X:Y"), Service("AmazonEC2"), "us-east-1/use1-az2", "internet", corrects_s
    )


@pytest.mark.parametrize("rows_at_once", [1, 1_000_000])
def test_rows_are_summed_by_hour_key_and_correction(rows_at_once: int) -> None:
    closed_s = _HOUR_S - 5 * 3_600
    objects = _store(
        staged("b1", [at(0, bytes=1, usage_type="X:Y"), at(2, bytes=2, usage_type="X:Y")]),
        staged("b2", [at(0, bytes=4, usage_type="X:Y"), at(0, bytes=8, usage_type="X:Y", account_id="9" * 12)]),
        staged("b3", [at(5, bytes=16, usage_type="X:Y")], {closed_s: _HOUR_S}),
    )
    assert ParquetStagedUsage(objects, rows_at_once=rows_at_once).usage(_KEY) == {
        _key(): Total(5, 2),
        _key(2): Total(2, 1),
        _key(account="9" * 12): Total(8, 1),
        _key(corrects_s=closed_s): Total(16, 1),
    }


def test_sums_beyond_64_bits_are_exact() -> None:
    objects = _store(staged("b1", [at(0, bytes=_MOST, usage_type="X:Y") for _ in range(5)]))
    assert ParquetStagedUsage(objects).usage(_KEY) == {_key(): Total(5 * _MOST, 5)}


def test_an_object_that_is_gone_or_damaged_is_told_by_its_key() -> None:
    objects = MemoryObjectStore(ManualClock(0))
    with pytest.raises(ObjectMissingError, match=_KEY):
        ParquetStagedUsage(objects).usage(_KEY)
    objects.put(_KEY, b"PAR1", if_absent=True)
    with pytest.raises(ObjectDamagedError, match=_KEY):
        ParquetStagedUsage(objects).usage(_KEY)
