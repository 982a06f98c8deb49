"""Records of a file: the same ones in the same order whenever it is measured, within the limits of a batch."""

from __future__ import annotations

import io
from itertools import pairwise

import pyarrow.parquet as pq
import pytest

from metering.intake.work import MAX_RECORDS
from metering.onramps.ingest.planning import LogRecord, parquet_of, parts_of
from metering.onramps.ingest.totals import HourTotal
from metering.onramps.reasons import Traffic
from metering.units import HOUR_S, INT64_MAX

T = 1_796_083_200  # a full hour


def traffic(resource: str, usage_type: str = "") -> Traffic:
    return Traffic("111111111111", "AmazonEC2", resource, "out", "us-east-1/use1-az1", "internet", usage_type)


def records(*totals: tuple[str, HourTotal]) -> list[LogRecord]:
    found = {(traffic(name), total.start_s - total.start_s % HOUR_S): total for name, total in totals}
    return [record for part in parts_of("small:a", found) for record in part.records]


def test_a_record_ends_an_hour_after_it_began_at_most_and_keeps_its_hour() -> None:
    # Lines from 10:05 to 10:15, and from 10:59 to 11:09.
    (record,) = records(("i-1", HourTotal(7, 2, T + 300, T + 3600 + 540)))
    assert (record.start_s, record.end_s, record.bytes) == (T + 300, T + 300 + HOUR_S, 7)
    (short,) = records(("i-1", HourTotal(7, 2, T + 3540, T + 3600 + 540)))
    assert (short.start_s, short.end_s) == (T + 3540, T + 3600 + 540)


@pytest.mark.parametrize("size", [0, INT64_MAX, INT64_MAX + 1, 3 * INT64_MAX + 5])
def test_a_total_of_any_size_becomes_records_that_add_up(size: int) -> None:
    found = records(("i-1", HourTotal(size, 1, T, T + 1)))
    assert sum(record.bytes for record in found) == size
    assert all(0 <= record.bytes <= INT64_MAX for record in found)
    assert len(found) == max(1, -(-size // INT64_MAX))


def test_the_order_of_the_totals_does_not_matter() -> None:
    some = [(f"i-{n}", HourTotal(n, 1, T, T + 1)) for n in range(9)]
    assert records(*some) == records(*reversed(some)) == sorted(records(*some))


def test_more_records_than_a_batch_may_have_become_several_parts() -> None:
    totals = {(traffic(f"i-{n:06}"), T): HourTotal(n, 1, T, T + 1) for n in range(2 * MAX_RECORDS + 1)}
    found = list(parts_of("small:a", totals))
    assert [(part.batch_id, part.records) for part, _ in found] == [
        ("small:a/0", MAX_RECORDS),
        ("small:a/1", MAX_RECORDS),
        ("small:a/2", 1),
    ]
    assert sum(part.bytes for part, _ in found) == sum(total.bytes for total in totals.values())
    assert len({part.sha256 for part, _ in found}) == 3
    assert all(one < other for one, other in pairwise(record for part in found for record in part.records))


def test_an_explicit_usage_type_stands_in_the_file_and_no_other() -> None:
    totals = {
        (traffic("i-1", "NatGateway-Bytes"), T): HourTotal(1, 1, T, T),
        (traffic("i-2"), T): HourTotal(2, 1, T, T),
    }
    (part,) = parts_of("small:a", totals)
    rows = pq.read_table(io.BytesIO(parquet_of(part.records))).to_pylist()
    assert [row["usage_type"] for row in rows] == ["NatGateway-Bytes", None]
