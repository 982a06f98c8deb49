"""The usage of a staging object is the sum of its rows by booked hour, key and correction, for any bytes (P7)."""

from collections.abc import Mapping
from typing import Any

import pytest

from metering.errors import ObjectDamagedError, ObjectMissingError
from metering.lake.parquet.codec import ParquetRowCodec
from metering.lake.parquet.reader import ParquetStagedUsage
from metering.lake.ports import StagedBatch
from metering.usage.totals import Service, Total, UsageKey, UsageType
from tests.support.memory.clock import ManualClock
from tests.support.memory.objects import MemoryObjectStore
from tests.support.reading import Desk, message, record

_HOUR_S = 1_795_525_200
_KEY = "staging/2026-11-24/c1.parquet"
_MOST = 2**63 - 1


def _batch(batch_id: str, records: list[Any], rebooked: Mapping[int, int] | None = None) -> StagedBatch:
    rows = Desk().decoded(message(records, batch_id=batch_id)).rows
    return StagedBatch(batch_id=batch_id, rows=rows, rebooked=rebooked or {})


def _at(hours_ago: int, **changes: object) -> dict[str, Any]:
    start_s = _HOUR_S - 3_600 * hours_ago + 60
    return record(start=start_s, end=start_s + 60, **changes)


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
        _batch("b1", [_at(0, bytes=1, usage_type="X:Y"), _at(2, bytes=2, usage_type="X:Y")]),
        _batch("b2", [_at(0, bytes=4, usage_type="X:Y"), _at(0, bytes=8, usage_type="X:Y", account_id="9" * 12)]),
        _batch("b3", [_at(5, bytes=16, usage_type="X:Y")], {closed_s: _HOUR_S}),
    )
    assert ParquetStagedUsage(objects, rows_at_once=rows_at_once).usage(_KEY) == {
        _key(): Total(5, 2),
        _key(2): Total(2, 1),
        _key(account="9" * 12): Total(8, 1),
        _key(corrects_s=closed_s): Total(16, 1),
    }


def test_sums_beyond_64_bits_are_exact() -> None:
    objects = _store(_batch("b1", [_at(0, bytes=_MOST, usage_type="X:Y") for _ in range(5)]))
    assert ParquetStagedUsage(objects).usage(_KEY) == {_key(): Total(5 * _MOST, 5)}


def test_an_object_that_is_gone_or_damaged_is_told_by_its_key() -> None:
    objects = MemoryObjectStore(ManualClock(0))
    with pytest.raises(ObjectMissingError, match=_KEY):
        ParquetStagedUsage(objects).usage(_KEY)
    objects.put(_KEY, b"PAR1", if_absent=True)
    with pytest.raises(ObjectDamagedError, match=_KEY):
        ParquetStagedUsage(objects).usage(_KEY)
