"""Records of files: problems are reported by position, records sent unchanged, and refused as the manifest says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from metering.intake.batches import DecodedBatch
from metering.replay.given import InputError, given_traffic, read_records
from tests.support.lake_world import record
from tests.support.reading import Desk
from tests.support.stage import ADMISSION

if TYPE_CHECKING:
    from pathlib import Path

NOW_S = 1_800_000_000


def now(size: int) -> dict[str, str | int]:
    """A record from an hour ago."""
    return record(size, start_s=NOW_S - 3_600)


@pytest.mark.parametrize(("wrong", "told"), [
    ('{"account_id": "1"', "not JSON: "),
    ("[]", "not a JSON object"),
    ("7", "not a JSON object"),
    ("NaN", "not JSON: NaN is no number of JSON"),
    (json.dumps(now(1) | {"bytes": 12.5}), "bytes: 12.5 is no whole number"),
    (json.dumps(now(1) | {"bytes": "many"}), "bytes: many is no whole number"),
    (json.dumps(now(1) | {"bytes": -1}), "bytes: -1 is below 0"),
    (json.dumps(now(1) | {"bytes": None}), "bytes is missing"),
    (json.dumps(now(1) | {"start": "noon"}), "start: noon is no time"),
    (json.dumps(now(1) | {"start": "0127-07-08T00:00:00Z"}), ""),
    (json.dumps(now(1) | {"account_id": 5}), "account_id: 5 is no text"),
    (json.dumps(now(1) | {"direction": "up"}), "direction: neither in nor out: 'up'"),
    (json.dumps(now(1) | {"from": "moon"}), "from: "),
    (json.dumps({k: v for k, v in now(1).items() if k != "end"}), "end is missing"),
    (json.dumps(now(1) | {"end": "2090-01-01T00:00:00Z"}), "end: 2090-01-01T00:00:00Z is more than an hour after"),
    (json.dumps(now(1) | {"start": "2090-01-01T00:00:00Z", "end": "2090-01-01T00:00:00Z"}), "start: "),
    ("[" * 100_000, "not JSON: "),
])  # fmt: skip
def test_a_bad_record_is_told_by_its_line_and_the_service_refuses_what_the_manifest_says(
    tmp_path: Path, wrong: str, told: str
) -> None:
    path = tmp_path / "mine.ndjson"
    path.write_text("\n".join([json.dumps(now(1)), wrong, json.dumps(now(2)), "", wrong]) + "\n")
    traffic = given_traffic(read_records([path]), 3, NOW_S, admission=ADMISSION, shifted=False)
    complaints = [each for each in traffic.complaints if each.startswith(f"{path}:2: ")]
    assert complaints[0].startswith(f"{path}:2: {told}")
    assert any(each.startswith(f"{path}:5: {told}") for each in traffic.complaints)

    desk = Desk()
    desk.sent_at_ms = NOW_S * 1000
    first, second = traffic.shipments
    for shipment, verdict, metered in ((first, "partly", 2), (second, "rejected", 0)):
        batch = desk.read(shipment.body)
        assert (shipment.sent.expect, shipment.sent.metered) == (verdict, metered)
        if verdict == "partly":
            assert isinstance(batch, DecodedBatch)
            assert (len(batch.rows), len(batch.refused)) == (metered, shipment.sent.records - metered)
            assert batch.usage == shipment.sent.totals
        else:
            assert not isinstance(batch, DecodedBatch)


@pytest.mark.parametrize("text", ["account_id,bytes\n123456789012,5\n", '[{"a": 1},\n{"b": 2}]\n'])
def test_a_file_of_another_format_is_refused_with_the_formats_that_there_are(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=r"There are no records in .*mine.csv: not JSON: .* \(line 1\)") as error:
        read_records([path])
    assert "NDJSON" in error.value.advice
    assert "Convert CSV" in error.value.advice


def test_values_of_parquet_that_json_has_no_form_for_are_told_as_wrong(tmp_path: Path) -> None:
    path = tmp_path / "mine.parquet"
    rows = [now(1) | {"bytes": float("nan")}, now(2) | {"bytes": 2.0}]
    pq.write_table(pa.Table.from_pylist(rows), path)
    traffic = given_traffic(read_records([path]), 10, NOW_S, admission=ADMISSION, shifted=False)
    assert traffic.complaints == [f"{path}:1: bytes: nan is no whole number"]
    [shipment] = traffic.shipments
    assert [(total.bytes, total.records) for total in shipment.sent.totals.values()] == [(2, 1)]


def test_old_records_are_told_unless_they_are_moved(tmp_path: Path) -> None:
    path = tmp_path / "old.ndjson"
    path.write_text(json.dumps(record(1, start_s=NOW_S - 90 * 86_400)) + "\n")
    [told] = given_traffic(read_records([path]), 10, NOW_S, admission=ADMISSION, shifted=False).complaints
    assert told.endswith("Z is too old to be admitted")
    assert given_traffic(read_records([path]), 10, NOW_S, admission=ADMISSION).complaints == []


def test_the_same_file_gives_the_same_ids_with_bad_records_too(tmp_path: Path) -> None:
    path = tmp_path / "mine.ndjson"
    path.write_text(json.dumps(now(1)) + "\nno JSON\n")
    first, again = (
        list(given_traffic(read_records([path]), 10, NOW_S, admission=ADMISSION).shipments) for _ in range(2)
    )
    assert first == again
