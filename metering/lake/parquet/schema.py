"""Arrow schemas of staging objects and lake files.

A lake file has CONTRACT's eleven columns; a staging object has the booked hour too, because a late record of a closed
month is booked in another hour than its own (PROTOCOL, period close).
"""

from __future__ import annotations

import pyarrow as pa

_NAME = pa.dictionary(pa.int32(), pa.string())
_INSTANT = pa.timestamp("us", tz="UTC")

BOOKED_HOUR = "booked_hour"
"""Epoch seconds of the hour that a row counts in, int64."""

LAKE_SCHEMA = pa.schema(
    [
        pa.field("account_id", _NAME, nullable=False),
        pa.field("service", _NAME, nullable=False),
        pa.field("resource_id", pa.string(), nullable=False),
        pa.field("direction", _NAME, nullable=False),
        pa.field("from_location", _NAME, nullable=False),
        pa.field("to_location", _NAME, nullable=False),
        pa.field("usage_type", _NAME, nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("start_time", _INSTANT, nullable=False),
        pa.field("end_time", _INSTANT, nullable=False),
        pa.field("batch_id", _NAME, nullable=False),
    ]
)
"""CONTRACT's lake columns, as they are read and written here: what repeats is dictionary-encoded."""

STAGING_SCHEMA = LAKE_SCHEMA.append(pa.field(BOOKED_HOUR, pa.int64(), nullable=False))
"""`LAKE_SCHEMA` and the booked hour. Rows are sorted by it; a row group has rows of one hour only."""
