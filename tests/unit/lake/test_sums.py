"""Sums of many parts: exact, and no dearer the more groups there are."""

import pyarrow as pa
import pytest

from metering.lake.parquet import reader
from metering.lake.parquet.reader import Sums
from metering.lake.ports import BATCH_QUERY
from metering.usage.totals import Total


def part(first: int, count: int) -> pa.Table:
    names = pa.array([f"b{number}" for number in range(first, first + count)]).dictionary_encode()
    ones = pa.array([1] * count, pa.int64())
    return pa.table({"c0": names, "low": ones, "high": ones, "records": ones})


def test_parts_of_ever_new_groups_are_summed_again_only_when_they_have_grown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_PARTIAL_ROWS", 100)
    made, summed = Sums(BATCH_QUERY), []
    whole = Sums.table

    def counted(self: Sums) -> pa.Table:
        table = whole(self)
        summed.append(table.num_rows)
        return table

    monkeypatch.setattr(Sums, "table", counted)
    for number in range(400):
        # Half of each part's groups are those of the part before.
        made.add(part(number * 5, 10))
    found = made.totals()
    assert len(found) == 2_005
    assert found["b0",] == Total(2**32 + 1, 1)
    assert found["b700",] == Total(2 * (2**32 + 1), 2)
    # 400 parts. Each sum happens after 1.5-fold growth: some ten times, and in total a few times all groups.
    assert len(summed) < 20
    assert sum(summed) < 6 * 2_005
    assert made.totals() == found


def test_a_part_without_rows_adds_nothing() -> None:
    made = Sums(BATCH_QUERY)
    made.add(part(0, 0))
    made.add(pa.table({"low": pa.array([], pa.int64())}))
    assert made.totals() == {}
    made.add(part(3, 1))
    assert made.totals() == {("b3",): Total(2**32 + 1, 1)}
