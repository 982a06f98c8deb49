"""Rows of one hour as Arrow tables. All strings are dictionary-encoded, as Parquet stores them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from metering.errors import ObjectDamagedError
from metering.intake.instants import SECOND_US
from metering.lake.parquet.row_groups import RowGroups
from metering.lake.parquet.schema import BOOKED_HOUR, INSTANT, LAKE_SCHEMA
from metering.units import HOUR_S, KIB

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from metering.lake.rows import TimeSlice

# Of a staging object that is read in part, its end is read first. Most objects are no larger; a larger one has its
# footer there, and the hour's rows are the second call.
STAGED_END_BYTES = 256 * KIB

_TEXT = pa.dictionary(pa.int32(), pa.string())


def _encoded(field: pa.Field) -> pa.Field:
    return field.with_type(_TEXT) if pa.types.is_string(field.type) else field


# The lake's columns with every string dictionary-encoded.
HOUR_SCHEMA = pa.schema([_encoded(field) for field in LAKE_SCHEMA])
TEXT_COLUMNS = tuple(field.name for field in HOUR_SCHEMA if pa.types.is_dictionary(field.type))


@contextmanager
def decoding(key: str) -> Iterator[None]:
    """Turn Arrow's decoding errors into one that names the object.

    Raises:
        ObjectDamagedError: The object cannot be decoded.
    """
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise ObjectDamagedError(key, str(error)) from error


def row_groups_of(file: RowGroups, hour_s: int) -> list[int]:
    """Numbers of a staging object's row groups that are booked in an hour; each group has rows of one hour only."""
    metadata = file.metadata
    column = file.schema.get_field_index(BOOKED_HOUR)
    groups = []
    for number in range(metadata.num_row_groups):
        statistics = metadata.row_group(number).column(column).statistics
        if statistics.min == hour_s == statistics.max:
            groups.append(number)
    return groups


def staged_hour(source: BinaryIO | bytes, hour_s: int) -> pa.Table:
    """Rows of a staging object that are booked in an hour, in `HOUR_SCHEMA`. Of a stream, nothing else is read."""
    file = RowGroups(source, TEXT_COLUMNS)
    groups = row_groups_of(file, hour_s)
    if isinstance(source, bytes) or not groups:
        return file.read_some(groups, HOUR_SCHEMA.names)
    return pa.concat_tables([file.read(number, HOUR_SCHEMA.names) for number in groups])


def instant(epoch_s: int) -> pa.Scalar:
    """A time as a value of the lake's time columns."""
    return pa.scalar(epoch_s * SECOND_US, INSTANT)


def taken(times: TimeSlice, hour_s: int) -> pc.Expression:
    """`TimeSlice.takes` as an expression over a table of rows that are booked in one hour."""
    start = pc.field("start_time")
    own = (start >= instant(hour_s)) & (start < instant(hour_s + HOUR_S))
    inside = own & (start >= instant(times.from_s)) & (start < instant(times.to_s))
    return inside | ~own if times.takes_corrections(hour_s) else inside
