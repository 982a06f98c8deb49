"""Totals of lake files as objects beside them: what the compactor counts while it merges, and who reads it.

The content follows from the rows alone, so whoever writes it writes the same. Nobody needs it: where it is missing or
does not add up, the rows are counted.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from metering.errors import ObjectDamagedError, ObjectMissingError
from metering.intake.formats.exact_sums import halves
from metering.intake.instants import SECOND_US
from metering.lake.parquet.hour_rows import decoding
from metering.lake.parquet.reading_order import read_each
from metering.lake.parquet.schema import INSTANT
from metering.lake.parquet.sums import Sums
from metering.lake.parquet.usage_files import (
    NAMES,
    NUMBER,
    USAGE_SCHEMA,
    TableRows,
    integers_of,
    rows_of,
    sorted_usage,
    total_of,
    usage_parquet,
    usage_table,
    usage_writer,
)
from metering.lake.rows import USAGE_COLUMNS, USAGE_QUERY
from metering.stores.bucket import hour_of_lake_key, summary_key
from metering.usage.totals import Total

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from metering.lake.ports import LakeReader, UsageRows
    from metering.ledger.booked_hours import LakeFile
    from metering.stores.objects import ObjectStore
    from metering.usage.totals import UsageKey

_GROUP_ROWS = 64 * 1024
# Objects of one hour that are fetched at the same time; all but one are small.
_READERS = 8
# Precision that holds every int64, and the product of one with 2^32.
_HALF = pa.decimal128(19, 0)
_HIGH_UNIT = pa.scalar(2**32, pa.int64()).cast(pa.decimal128(19, 0)).cast(pa.decimal128(11, 0))


def summary_of(sums: Sums, hour_s: int) -> bytes:
    """The object with the totals of a lake file of an hour. `sums` are by the columns of `USAGE_QUERY`."""
    body = BytesIO()
    with usage_writer(body) as writer:
        table = usage_of_sums(sums.table(), hour_s)
        if table.num_rows:
            writer.write_table(table, row_group_size=_GROUP_ROWS)
    return body.getvalue()


def usage_of_sums(sums: pa.Table, hour_s: int) -> pa.Table:
    """Sums by the columns of `USAGE_QUERY` as a sorted table of `USAGE_SCHEMA`."""
    if not sums.num_rows:
        return USAGE_SCHEMA.empty_table()
    *names, own_hour = (sums.column(f"c{place}") for place in range(len(USAGE_COLUMNS)))
    corrects = pc.if_else(pc.equal(own_hour, hour_s), pa.scalar(None, pa.int64()), pc.multiply(own_hour, SECOND_US))
    high = pc.multiply(sums.column("high").cast(_HALF), _HIGH_UNIT)
    columns = [
        *names,
        pa.repeat(pa.scalar(hour_s * SECOND_US, pa.int64()).cast(INSTANT), sums.num_rows),
        corrects.cast(INSTANT),
        pc.add(high, sums.column("low").cast(_HALF)).cast(NUMBER),
        sums.column("records").cast(_HALF).cast(NUMBER),
    ]
    return sorted_usage(pa.table(columns, schema=USAGE_SCHEMA))


def _sums_of(table: pa.Table, hour_s: int) -> pa.Table:
    """A table of `USAGE_SCHEMA` as `Sums` adds it up by the columns of `USAGE_QUERY`."""
    own_hour = pc.divide(table.column("corrects").cast(pa.int64()), SECOND_US).fill_null(hour_s)
    try:
        low, high = halves(table.column("bytes").cast(pa.int64()))
    except pa.ArrowInvalid:
        # More than 2^63 bytes in a line: no unit of Arrow's holds them.
        numbers = [number for chunk in table.column("bytes").chunks for number in integers_of(chunk)]
        low = pa.array([number & 0xFFFF_FFFF for number in numbers], pa.int64())
        high = pa.array([number >> 32 for number in numbers], pa.int64())
    names = {f"c{place}": table.column(name) for place, name in enumerate(NAMES)}
    columns = {
        f"c{len(NAMES)}": own_hour,
        "low": low,
        "high": high,
        "records": table.column("records").cast(pa.int64()),
    }
    return pa.table({**names, **columns})


class ParquetTotals:
    """`TotalsReader` over the objects beside lake files.

    Args:
        objects: Store of the lake files and of the totals beside them.
        lake: Reads the rows of files whose totals are missing.
    """

    def __init__(self, objects: ObjectStore, lake: LakeReader) -> None:
        self._objects = objects
        self._lake = lake

    def of(self, file: LakeFile) -> Iterator[tuple[UsageKey, Total]]:
        table = self._kept(file)
        if table is not None:
            yield from rows_of(table)
            return
        hour_s = hour_of_lake_key(file.key) or 0
        yield from self._lake.hour_usage(hour_s, [file.source(hour_s)])

    def summed(self, files: Sequence[LakeFile]) -> UsageRows:
        sums, hour_s = Sums(USAGE_QUERY), 0
        for file, table in read_each(self._kept, files, threads=_READERS):
            hour_s = hour_of_lake_key(file.key) or 0
            sums.add(_sums_of(usage_table(list(self.of(file))) if table is None else table, hour_s))
        return TableRows(usage_of_sums(sums.table(), hour_s))

    def _kept(self, file: LakeFile) -> pa.Table | None:
        """The totals beside a file, if they are there and add up to its rows and bytes."""
        key = summary_key(file.key)
        try:
            body = self._objects.get(key)
            with decoding(key):
                table = usage_parquet(body).read_all().cast(USAGE_SCHEMA)
        except (ObjectMissingError, ObjectDamagedError):
            return None
        return table if total_of(table) == Total(file.bytes, file.rows) else None
