"""Rows of a closed month by day: their sums while the month is written, and the batches that are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from metering.intake.instants import SECOND_US
from metering.lake.parquet.schema import INSTANT
from metering.lake.parquet.usage_files import (
    NAMES,
    NUMBER,
    USAGE_SCHEMA,
    integers_of,
    seconds_of,
    sorted_usage,
    texts_of,
)
from metering.lake.ports import DayBatch
from metering.units import DAY_S
from metering.usage.totals import UsageKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_DAY_US = DAY_S * SECOND_US
_GROUPS = [*NAMES, "hour", "corrects"]


def summed_days(pieces: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Sum pieces that are in order by day. The last day of a piece may go on in the next, so it is held back."""
    held: list[pa.Table] = []
    for piece in pieces:
        summed = _summed(pa.concat_tables([*held, piece]))
        yield summed.slice(0, summed.num_rows - 1)
        held = [summed.slice(summed.num_rows - 1)]
    yield from held


def _summed(table: pa.Table) -> pa.Table:
    table = table.unify_dictionaries().combine_chunks()
    hours = table.column("hour").cast(pa.int64())
    days = pc.multiply(pc.divide(hours, _DAY_US), _DAY_US).cast(INSTANT)
    table = table.set_column(table.column_names.index("hour"), "hour", days)
    # Grouping by numbers is several times as fast as by strings.
    names = {name: table.column(name).chunk(0).dictionary for name in NAMES}
    for place, name in enumerate(NAMES):
        table = table.set_column(place, name, table.column(name).chunk(0).indices)
    sums = table.group_by(_GROUPS, use_threads=False).aggregate([("bytes", "sum"), ("records", "sum")])
    columns = [pa.DictionaryArray.from_arrays(sums.column(name).combine_chunks(), names[name]) for name in NAMES]
    columns += [sums.column("hour"), sums.column("corrects")]
    columns += [sums.column("bytes_sum").cast(NUMBER), sums.column("records_sum").cast(NUMBER)]
    return sorted_usage(pa.table(columns, schema=USAGE_SCHEMA))


def day_batch(table: pa.Table) -> DayBatch:
    """A batch of rows of `USAGE_SCHEMA` whose hours are the first of their days."""
    one = table.unify_dictionaries().combine_chunks().to_batches()[0]
    kinds = {name: one.column(name) for name in UsageKind._fields}
    places: dict[tuple[int, ...], int] = {}
    indices = zip(*(column.indices.to_pylist() for column in kinds.values()), strict=True)
    key = [places.setdefault(kind, len(places)) for kind in indices]
    names = [column.dictionary.to_pylist() for column in kinds.values()]
    days = pc.divide(one.column("hour").cast(pa.int64()), SECOND_US).to_pylist()
    return DayBatch(
        keys=[UsageKind(names[0][a], names[1][b], names[2][c], names[3][d]) for a, b, c, d in places],
        account_id=texts_of(one.column("account_id")),
        key=key,
        corrects_s=seconds_of(one.column("corrects")),
        day_s=days,
        bytes=integers_of(one.column("bytes")),
        records=integers_of(one.column("records")),
    )
