"""Arrow schemas of staging objects and lake files.

A lake file has CONTRACT's eleven columns; a staging object has the booked hour too, because a late record of a closed
month is booked in another hour than its own (PROTOCOL, period close).
"""

from __future__ import annotations

import pyarrow as pa

from metering.lake.rows import LAKE_COLUMNS

_NAME = pa.dictionary(pa.int32(), pa.string())
INSTANT = pa.timestamp("us", tz="UTC")
"""Type of the lake's times."""

# Types of the columns that are no names: names repeat, so they are dictionary-encoded.
_TYPES: dict[str, pa.DataType] = {
    "resource_id": pa.string(),
    "bytes": pa.int64(),
    "start_time": INSTANT,
    "end_time": INSTANT,
}

BOOKED_HOUR = "booked_hour"
"""Epoch seconds of the hour that a row counts in, int64."""

LAKE_SCHEMA = pa.schema([pa.field(name, _TYPES.get(name, _NAME), nullable=False) for name in LAKE_COLUMNS])
"""CONTRACT's lake columns, as they are read and written here: what repeats is dictionary-encoded."""

STAGING_SCHEMA = LAKE_SCHEMA.append(pa.field(BOOKED_HOUR, pa.int64(), nullable=False))
"""`LAKE_SCHEMA` and the booked hour. Rows are sorted by it; a row group has rows of one hour only."""
