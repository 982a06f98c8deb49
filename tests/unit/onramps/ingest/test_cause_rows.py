"""Cause rows of a file: parts of records, at most so many, with a digest that does not depend on the writer."""

from __future__ import annotations

import io

import pyarrow.parquet as pq
import pytest

from metering.onramps.ingest.causes import (
    MANY,
    Bytes,
    CauseRow,
    CauseSumsDifferError,
    Parts,
    RecordKey,
    causes_key,
    digest_of,
    parquet_of,
    rows_of,
)
from metering.onramps.ingest.totals import HourTotal
from metering.onramps.reasons import Traffic
from metering.onramps.rules.causes import Cause
from metering.units import INT64_MAX

NAT = Traffic("111111111111", "AmazonEC2", "eni-nat", "out", "us-west-2", "us-west-2", "USW2-NatGateway-Bytes")
OTHER = NAT._replace(resource_id="eni-other")


def cause(name: str, destination: str = "internet") -> Cause:
    return Cause(name, destination, "nat_gateway", "inventory", "")


def totals(parts: Parts) -> dict[tuple[Traffic, int], HourTotal]:
    return {
        (key.traffic, key.hour_s): HourTotal(sum(each.bytes for each in causes.values()), len(causes), 0, 1)
        for key, causes in parts.items()
    }


def rows(parts: Parts, **most: int) -> tuple[CauseRow, ...]:
    return rows_of("flow:a", parts, totals(parts), **most)


def parts() -> Parts:
    key = RecordKey(NAT, 0, NAT.usage_type)
    return {
        key: {cause("i-1"): Bytes(50, 5), cause("i-2"): Bytes(30, 3), cause("i-3", "S3.us-west-2"): Bytes(20, 2)},
        key._replace(traffic=OTHER): {cause("i-1"): Bytes(7, 1)},
    }


def test_rows_are_parts_of_the_records_of_batches() -> None:
    found = rows(parts())
    assert [(row.batch, row.resource_id, row.cause, row.bytes, row.lines) for row in found] == [
        ("flow:a/0", "eni-nat", "i-1", 50, 5),
        ("flow:a/0", "eni-nat", "i-2", 30, 3),
        ("flow:a/0", "eni-nat", "i-3", 20, 2),
        ("flow:a/0", "eni-other", "i-1", 7, 1),
    ]
    table = pq.read_table(io.BytesIO(parquet_of(found)))
    assert table.column_names[:8] == [
        "batch", "own_hour", "account_id", "service", "usage_type", "resource_id", "from", "to",
    ]  # fmt: skip
    assert [tuple(row.values()) for row in table.to_pylist()] == list(found)
    assert causes_key("flow:a").startswith("causes/parts/")


def test_the_smallest_causes_of_a_record_become_one_row_with_the_same_sum() -> None:
    found = rows(parts(), most=3)
    assert [(row.resource_id, row.cause, row.reason, row.bytes) for row in found] == [
        ("eni-nat", "", MANY, 50), ("eni-nat", "i-1", "", 50), ("eni-other", "", MANY, 7),
    ]  # fmt: skip
    assert rows(parts(), most=1) == ()


def test_a_record_that_its_causes_do_not_add_up_to_is_a_defect_and_nothing_is_kept() -> None:
    whole = totals(parts())
    with pytest.raises(CauseSumsDifferError, match="eni-nat"):
        rows_of("flow:a", parts(), {**whole, (NAT, 0): HourTotal(101, 1, 0, 1)})
    with pytest.raises(CauseSumsDifferError):
        rows_of("flow:a", parts(), {(NAT, 0): whole[NAT, 0]})


def test_a_record_beyond_the_largest_number_has_no_detail() -> None:
    key = RecordKey(NAT, 0, NAT.usage_type)
    assert rows({key: {cause("i-1"): Bytes(INT64_MAX, 1), cause("i-2"): Bytes(1, 1)}}) == ()


def test_the_digest_is_that_of_the_rows() -> None:
    found = rows(parts())
    assert digest_of(found) == digest_of(rows(dict(reversed(parts().items()))))
    assert digest_of(found) != digest_of(found[1:])
    assert digest_of(()) == ""
